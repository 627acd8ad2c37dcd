// Pays an invoice, with the state of each part as it goes.

import { call, fromHex, get, stream, toBase64 } from "../api.js";
import { now } from "../clock.js";
import { amountField, ask, differs, field, fill, form, h, satoshi } from "../dom.js";
import { amount, duration, id, msat, sat, short, words } from "../format.js";
import { scanner } from "../camera.js";

// Payments of the last view that may still be under way.
const RECENT = 10;
// Millisatoshi that a small payment may always cost.
const SMALL_FEE = 10_000n;

export function pay(page) {
  const details = h("div", { id: "details" });
  const progress = h("div", { "aria-live": "polite", id: "progress" });
  const rest = h("p.quiet", { id: "spendable" });
  const box = field("Invoice", "invoice", { rows: 4, required: true, placeholder: "lnbc…", autocapitalize: "none" });
  const text = box.querySelector("textarea");
  text.addEventListener("input", () => look(invoiceIn(text.value)));
  let decoded = null;
  // Ends the showing of a payment that was begun before this view.
  const earlier = new AbortController();
  page.signal.addEventListener("abort", () => earlier.abort());

  async function look(invoice) {
    decoded = null;
    if (!invoice) return fill(details, text.value.trim() !== "" && h("p.quiet", null, strange(text.value)));
    let said;
    try {
      said = { invoice, ...await get(`/v1/payreq/${invoice}`, page.signal) };
    } catch (error) {
      if (error.name !== "AbortError" && invoiceIn(text.value) === invoice) fill(details, h("p.problem", { role: "alert" }, error.message));
      return;
    }
    // Something else was pasted meanwhile.
    if (invoiceIn(text.value) !== invoice) return;
    decoded = said;
    const isOpen = Number(decoded.num_msat) === 0;
    fill(details, h("dl.facts", null,
      h("dt", null, "Amount"), h("dd", null, isOpen ? "you say how much" : h("strong", null, msat(decoded.num_msat))),
      decoded.description && [h("dt", null, "For"), h("dd", null, words(decoded.description))],
      h("dt", null, "To"), h("dd", null, id(decoded.destination, 20)),
      h("dt", null, "Good for"), h("dd", { id: "left" }, left(decoded))),
      isOpen && amountField("Amount to pay", "amount", { required: true }));
  }

  const payForm = form([
    box,
    scanner(page, (found) => { text.value = found.trim(); look(invoiceIn(text.value)); }),
    details,
    field("Fee at most", "fee", { type: "number", min: 0, max: 100, value: 1, step: "any", inputmode: "decimal" }, "Per cent of the amount; a payment of a few satoshi may always cost 10."),
  ], "Pay", async (values, element) => {
    const invoice = invoiceIn(values.invoice);
    if (!invoice) throw new Error(strange(values.invoice));
    if (decoded?.invoice !== invoice) await look(invoice);
    if (!decoded) throw new Error("This is no invoice that the node can read.");
    if (secondsLeft(decoded) <= 0) throw new Error("This invoice has expired. Ask for a new one.");
    const sum = Number(decoded.num_msat) ? BigInt(decoded.num_msat) : BigInt(satoshi(values.amount || "") || 0) * 1000n;
    if (sum === 0n) throw new Error("Say how much to pay.");
    const share = (sum * BigInt(Math.round(Number(values.fee) * 1000))) / 100000n;
    const limit = share > SMALL_FEE ? share : SMALL_FEE;
    const sure = await ask("Pay this?", [`${msat(sum)} to ${short(decoded.destination, 20)}`, words(decoded.description), `and at most ${msat(limit)} in fees`], "Pay");
    if (!sure || page.signal.aborted) return;
    earlier.abort();
    const isOver = await send(progress, {
      payment_request: invoice, timeout_seconds: 60, fee_limit_msat: String(limit), max_parts: 16,
      ...(Number(decoded.num_msat) ? {} : { amt_msat: String(sum) }),
    });
    if (!isOver) return;
    element.reset();
    decoded = null;
    fill(details);
  });
  page.show(h("div.grid", null,
    h("section.card", null, h("h1", null, "Pay"), rest, payForm),
    h("section.card", null, h("h2", null, "What happens"), progress, h("p.quiet", null, "Each part of a payment is shown here as it goes."))));
  page.every(1, async () => { const place = document.getElementById("left"); if (place && decoded) place.textContent = left(decoded); });
  page.every(3, async () => {
    const balance = await get("/v1/balance/channels", page.signal);
    const sum = Number(balance.local_balance.sat);
    if (differs(rest, sum)) fill(rest, sum ? `Your channels hold ${sat(sum)}.` : ["Your channels hold nothing that could be paid with. ", h("a", { href: "#/channels" }, "Open one first.")]);
  });
  goOn(progress, earlier.signal);
}

// A payment goes on when the page is left or loaded again: it is found again.
async function goOn(progress, signal) {
  try {
    const { payments } = await call("Browse/ListPayments", { limit: RECENT }, signal);
    const one = payments.find((payment) => payment.state === "under_way");
    if (!one || signal.aborted) return;
    const hash = toBase64(fromHex(one.payment_hash)).replaceAll("+", "-").replaceAll("/", "_");
    await follow(progress, stream("GET", `/v2/router/track/${hash}`, undefined, signal));
  } catch { /* it can be seen in the history */ }
}

// Of what was pasted or scanned: "lightning:LNBC…" in capitals, or a bitcoin: address with an invoice beside it. Empty if there is none.
function invoiceIn(text) {
  const plain = text.replace(/\s+/g, "").toLowerCase();
  const beside = plain.match(/[?&]lightning=([^&]+)/);
  const invoice = (beside ? beside[1] : plain.replace(/^lightning:(\/\/)?/, "").split("?")[0]);
  return /^ln(bc|tb|sb)[a-z0-9]{20,}$/.test(invoice) ? invoice : "";
}

function strange(text) {
  const plain = text.replace(/\s+/g, "").toLowerCase().replace(/^(bitcoin|lightning):(\/\/)?/, "");
  if (/^(bc|tb|bcrt)1[a-z0-9]{20,}/.test(plain)) return "This is an address on the chain: coins are sent to it under Wallet.";
  if (/^0[23][0-9a-f]{64}/.test(plain)) return "This is a node's key. To be paid, it has to make an invoice.";
  if (/^lnurl1/.test(plain) || /^[^@]+@[^@]+\.[^@]+$/.test(plain)) return "This page asks no other server: have an invoice made there, it begins with ln.";
  return "This is no invoice: one begins with lnbc, lntb or lnbcrt. Is all of it there?";
}

const secondsLeft = (invoice) => Number(invoice.timestamp) + Number(invoice.expiry) - now();
const left = (invoice) => (secondsLeft(invoice) > 0 ? duration(secondsLeft(invoice)) : "no longer: it has expired");

async function send(progress, request) {
  fill(progress, h("p", { role: "status" }, "Looking for a route…"));
  try {
    return await follow(progress, stream("POST", "/v2/router/send", request));
  } catch (error) {
    fill(progress);
    throw error;
  }
}

// Shows a payment until it is over; whether it has succeeded.
async function follow(progress, updates) {
  const begun = performance.now();
  let last = null;
  for await (const payment of updates) {
    last = payment.status;
    const took = `${((performance.now() - begun) / 1000).toFixed(1)} s`;
    const title = { IN_FLIGHT: "Under way", SUCCEEDED: "Paid", FAILED: "Not paid", INITIATED: "Looking for a route" }[payment.status] || payment.status;
    fill(progress,
      h("p.figure", { "data-status": payment.status, role: "status" }, title),
      h("p", null, payment.status === "SUCCEEDED" ? [msat(payment.value_msat), " in ", took, ", for ", msat(payment.fee_msat), " in fees"] : payment.status === "FAILED" ? reason(payment.failure_reason) : took),
      payment.status === "SUCCEEDED" && h("p.quiet", null, "Proof: ", id(payment.payment_preimage, 24)),
      h("ul.steps", null, payment.htlcs.map(part)));
  }
  return last === "SUCCEEDED";
}

function part(htlc) {
  const hops = htlc.route?.hops || [];
  const way = hops.map((hop) => hop.pub_key.slice(0, 8)).join(" → ");
  const kind = { SUCCEEDED: "li.done", FAILED: "li.bad" }[htlc.status] || "li";
  const state = { SUCCEEDED: "arrived", FAILED: "came back" }[htlc.status] || "under way";
  return h(kind, null, amount(Math.floor(Number(htlc.route?.total_amt_msat || 0) / 1000)), ` ${state}`, h("small.mono", null, ` ${way}`),
    htlc.failure && h("small", null, ` · ${htlc.failure.code.replaceAll("_", " ").toLowerCase()}`));
}

function reason(code) {
  return {
    FAILURE_REASON_TIMEOUT: "It took too long. Nothing was paid; try again.",
    FAILURE_REASON_NO_ROUTE: "No route has enough room at this fee. Allow a higher fee, or open a channel closer to the receiver. Nothing was paid.",
    FAILURE_REASON_INCORRECT_PAYMENT_DETAILS: "The receiver does not know this invoice any more, or it was paid already. Nothing was paid.",
    FAILURE_REASON_INSUFFICIENT_BALANCE: "Your channels do not hold so much. Nothing was paid.",
    FAILURE_REASON_CANCELED: "It was cancelled. Nothing was paid.",
  }[code] || "It did not work. Nothing was paid.";
}
