// Gets paid: an invoice as a QR code, watched until it is.

import { fromBase64, get, may, post, stream, toBase64 } from "../api.js";
import { copy, field, fill, form, h } from "../dom.js";
import { duration, msat, now, short } from "../format.js";
import { qr } from "../qr.js";

export function receive(page) {
  const result = h("div", null, h("p.quiet", null, "The invoice appears here."));
  page.show(h("div.grid", null,
    h("section.card", null, h("h1", null, "Get paid"),
      form([
        field("Amount", "amount", { type: "number", min: 0, inputmode: "numeric" }, "Satoshi; empty: the payer says how much."),
        field("What it is for", "memo", { maxlength: 300 }, "Whoever gets the invoice reads it."),
        field("Good for", "expiry", { options: [["3600", "an hour"], ["86400", "a day"], ["604800", "a week"]] }),
      ], "Make an invoice", async (values) => {
        const made = await post("/v1/invoices", { value: values.amount || "0", memo: values.memo, expiry: values.expiry, private: true });
        show(page, result, made, values);
      }),
      may("address:write") && h("div", null, h("h2", null, "Or on the chain"),
        h("button", { type: "button", onclick: () => address(result) }, "New address"))),
    h("section.card", { "aria-live": "polite", id: "result" }, result)));
}

async function address(result) {
  const { address: made } = await get("/v1/newaddress?type=WITNESS_PUBKEY_HASH");
  fill(result, h("h2", null, "Address"), qr(`bitcoin:${made}`, "QR code of the address"),
    h("p.mono", null, made), h("button", { type: "button", onclick: () => copy(made) }, "Copy"));
}

async function show(page, result, made, values) {
  const state = h("p.figure", { role: "status", "data-state": "OPEN" }, "Waiting");
  const left = h("p.quiet", null);
  const until = now() + Number(values.expiry);
  fill(result, state,
    h("p", null, values.amount ? msat(BigInt(values.amount) * 1000n) : "any amount"),
    qr(`LIGHTNING:${made.payment_request.toUpperCase()}`, "QR code of the invoice"), left,
    h("textarea", { rows: 4, readonly: true, "aria-label": "Invoice", id: "invoice", value: made.payment_request }),
    h("div.actions", null, h("button.primary", { type: "button", onclick: () => copy(made.payment_request) }, "Copy")));
  page.every(1, async () => { left.textContent = until > now() ? `Good for ${duration(until - now())}` : "Expired"; });
  // In a path bytes are base64 of the alphabet for addresses.
  const hash = toBase64(fromBase64(made.r_hash)).replaceAll("+", "-").replaceAll("/", "_");
  for (;;) {
    try {
      for await (const invoice of stream("GET", `/v2/invoices/subscribe/${hash}`, undefined, page.signal)) {
        state.dataset.state = invoice.state;
        state.textContent = { OPEN: "Waiting", ACCEPTED: "On its way", SETTLED: `Paid: ${short(msat(invoice.amt_paid_msat), 40)}`, CANCELED: "Not paid in time" }[invoice.state];
        if (invoice.state === "SETTLED" || invoice.state === "CANCELED") return;
      }
    } catch (error) {
      if (page.signal.aborted) return;
    }
    await new Promise((done) => setTimeout(done, 2000));
    if (page.signal.aborted) return;
  }
}
