// Pays an invoice, with the state of each part as it goes.

import { get, stream } from "../api.js";
import { ask, field, fill, form, h } from "../dom.js";
import { amount, duration, id, msat, now, short, words } from "../format.js";

export function pay(page) {
  const details = h("div", null);
  const progress = h("div", { "aria-live": "polite", id: "progress" });
  const box = field("Invoice", "invoice", { rows: 4, required: true, placeholder: "lnbc…", autocapitalize: "none" });
  const text = box.querySelector("textarea");
  text.addEventListener("input", () => look(clean(text.value)));
  let decoded = null;

  async function look(invoice) {
    decoded = null;
    fill(details);
    if (!/^ln[a-z0-9]{20,}$/.test(invoice)) return;
    try {
      decoded = { invoice, ...await get(`/v1/payreq/${invoice}`, page.signal) };
    } catch (error) {
      return fill(details, h("p.problem", { role: "alert" }, error.message));
    }
    const left = Number(decoded.timestamp) + Number(decoded.expiry) - now();
    const isOpen = Number(decoded.num_msat) === 0;
    fill(details, h("dl.facts", null,
      h("dt", null, "Amount"), h("dd", null, isOpen ? "you say how much" : msat(decoded.num_msat)),
      decoded.description && [h("dt", null, "For"), h("dd", null, words(decoded.description))],
      h("dt", null, "To"), h("dd", null, id(decoded.destination, 20)),
      h("dt", null, "Good for"), h("dd", null, left > 0 ? duration(left) : "no longer: it has expired")),
      isOpen && field("Amount to pay", "amount", { type: "number", min: 1, required: true, inputmode: "numeric" }, "Satoshi."));
  }

  page.show(h("div.grid", null,
    h("section.card", null, h("h1", null, "Pay"),
      form([
        box,
        scanner(page, (found) => { text.value = clean(found); look(text.value); }),
        details,
        field("Fee at most", "fee", { type: "number", min: 0, value: 1, step: "any", inputmode: "decimal" }, "Per cent of the amount; a payment of a few satoshi may always cost 10."),
      ], "Pay", async (values, element) => {
        const invoice = clean(values.invoice);
        if (decoded?.invoice !== invoice) await look(invoice);
        if (!decoded) throw new Error("This is no invoice that the node can read.");
        const sum = Number(decoded.num_msat) ? BigInt(decoded.num_msat) : BigInt(values.amount || 0) * 1000n;
        const fee = (sum * BigInt(Math.round(Number(values.fee) * 1000))) / 100000n;
        const limit = fee > 10000n ? fee : 10000n;
        const sure = await ask("Pay this?", [`${msat(sum)} to ${short(decoded.destination, 20)}`, words(decoded.description), `and at most ${msat(limit)} in fees`], "Pay");
        if (!sure) return;
        await send(progress, {
          payment_request: invoice, timeout_seconds: 60, fee_limit_msat: String(limit), max_parts: 16,
          ...(Number(decoded.num_msat) ? {} : { amt_msat: String(sum) }),
        });
        element.reset();
        fill(details);
      })),
    h("section.card", null, h("h2", null, "What happens"), progress, h("p.quiet", null, "Each part of a payment is shown here as it goes."))));
}

// From a QR code: "lightning:LNBC…", in capitals.
const clean = (text) => text.trim().toLowerCase().replace(/^lightning:(\/\/)?/, "").replace(/\s+/g, "").split("?")[0];

async function send(progress, request) {
  const begun = performance.now();
  fill(progress, h("p", { role: "status" }, "Looking for a route…"));
  for await (const payment of stream("POST", "/v2/router/send", request)) {
    const time = `${((performance.now() - begun) / 1000).toFixed(1)} s`;
    const words = { IN_FLIGHT: "Under way", SUCCEEDED: "Paid", FAILED: "Not paid", INITIATED: "Looking for a route" }[payment.status] || payment.status;
    fill(progress,
      h("p.figure", { "data-status": payment.status, role: "status" }, words),
      h("p", null, payment.status === "SUCCEEDED" ? ["in ", time, " for ", msat(payment.fee_msat), " in fees"] : payment.status === "FAILED" ? reason(payment.failure_reason) : time),
      payment.status === "SUCCEEDED" && h("p.quiet", null, "Proof: ", id(payment.payment_preimage, 24)),
      h("ul.steps", null, payment.htlcs.map(part)));
  }
}

function part(htlc) {
  const hops = htlc.route?.hops || [];
  const way = hops.map((hop) => hop.pub_key.slice(0, 8)).join(" → ");
  const kind = { SUCCEEDED: "li.done", FAILED: "li.bad" }[htlc.status] || "li";
  return h(kind, null, amount(Math.floor(Number(htlc.route?.total_amt_msat || 0) / 1000)), h("small.mono", null, ` ${way}`),
    htlc.failure && h("small", null, ` · ${htlc.failure.code.replaceAll("_", " ").toLowerCase()}`));
}

function reason(code) {
  return {
    FAILURE_REASON_TIMEOUT: "It took too long. Nothing was paid; try again.",
    FAILURE_REASON_NO_ROUTE: "No route has enough room at this fee. Allow a higher fee, or open a channel closer to the receiver.",
    FAILURE_REASON_INCORRECT_PAYMENT_DETAILS: "The receiver does not know this invoice any more, or it was paid already.",
    FAILURE_REASON_INSUFFICIENT_BALANCE: "Your channels do not hold so much.",
    FAILURE_REASON_CANCELED: "It was cancelled.",
  }[code] || "It did not work. Nothing was paid.";
}

// With the camera, where the browser reads codes itself.
function scanner(page, found) {
  if (!("BarcodeDetector" in window) || !navigator.mediaDevices) return null;
  const place = h("div", null);
  const button = h("button", { type: "button", onclick: open }, "Scan with the camera");
  async function open() {
    let camera;
    try {
      camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
      return fill(place, h("p.problem", null, "The camera cannot be used; the browser asks for it once, and only over HTTPS."));
    }
    const video = h("video", { muted: true, playsinline: true });
    video.srcObject = camera;
    await video.play();
    fill(place, video);
    const stop = () => { camera.getTracks().forEach((track) => track.stop()); fill(place); };
    page.signal.addEventListener("abort", stop);
    const detector = new BarcodeDetector({ formats: ["qr_code"] });
    while (camera.active && !page.signal.aborted) {
      const [code] = await detector.detect(video).catch(() => []);
      if (code) { stop(); return found(code.rawValue); }
      await new Promise((done) => setTimeout(done, 200));
    }
  }
  return h("div.field", null, button, place);
}

