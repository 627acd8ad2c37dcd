// Gets paid: an invoice as a QR code, watched until it is; or an address of the chain.

import { fromBase64, get, may, post, stream, toBase64 } from "../api.js";
import { now } from "../clock.js";
import { amountField, copy, field, fill, form, h, pressed, satoshi } from "../dom.js";
import { duration, msat, sat } from "../format.js";
import { qr } from "../qr.js";
import { unlessRefused } from "./overview.js";

export function receive(page) {
  const result = h("div", null, h("p.quiet", null, "The invoice appears here, as a picture for a phone's camera and as text."));
  const room = h("p.quiet", { id: "room" });
  page.show(h("div.grid", null,
    h("section.card", null, h("h1", null, "Get paid"), room,
      form([
        amountField("Amount", "amount", {}, "Satoshi; empty: the payer says how much."),
        field("What it is for", "memo", { maxlength: 300 }, "Whoever gets the invoice reads it."),
        field("Good for", "expiry", { options: [["3600", "an hour"], ["86400", "a day"], ["604800", "a week"]] }),
      ], "Make an invoice", async (values) => {
        const value = satoshi(values.amount);
        const made = await post("/v1/invoices", { value: value || "0", memo: values.memo, expiry: values.expiry, private: true });
        show(page, result, made, value, Number(values.expiry));
      }),
      may("address:write") && h("div", null, h("h2", null, "Or on the chain"),
        h("p.quiet", null, "Coins that are sent to an address are there once a block has them."),
        h("button", { type: "button", onclick: pressed(() => address(result)) }, "New address"))),
    h("section.card", { "aria-live": "polite", id: "result" }, result)));
  page.every(10, async () => {
    const balance = await unlessRefused(get("/v1/balance/channels", page.signal));
    if (!balance) return;
    const sum = Number(balance.remote_balance.sat);
    fill(room, sum ? `You can be paid up to ${sat(sum)} over your channels.` : "Nobody can pay you over Lightning yet: the other side of your channels holds nothing. On the chain you can be paid at once.");
  });
}

async function address(result) {
  const { address: made } = await get("/v1/newaddress?type=WITNESS_PUBKEY_HASH");
  fill(result, h("h2", null, "Address"), qr(`bitcoin:${made}`, "QR code of the address"),
    h("p.mono", { id: "address" }, made), h("div.actions", null, h("button.primary", { type: "button", onclick: () => copy(made) }, "Copy")));
  result.scrollIntoView({ block: "nearest" });
}

const STATES = { OPEN: "Waiting", ACCEPTED: "On its way", CANCELED: "Not paid in time" };

async function show(page, result, made, value, expiry) {
  const state = h("p.figure", { role: "status", "data-state": "OPEN" }, "Waiting");
  const left = h("p.quiet", { id: "left" });
  const until = now() + expiry;
  fill(result, state,
    h("p", null, value ? sat(value) : "any amount"),
    qr(`LIGHTNING:${made.payment_request.toUpperCase()}`, "QR code of the invoice"), left,
    h("textarea", { rows: 4, readonly: true, "aria-label": "Invoice", id: "invoice", value: made.payment_request }),
    h("div.actions", null, h("button.primary", { type: "button", onclick: () => copy(made.payment_request) }, "Copy")));
  result.scrollIntoView({ block: "nearest" });
  page.every(1, async () => {
    if (!left.isConnected) return;
    left.textContent = state.dataset.state === "SETTLED" ? "" : until > now() ? `Good for ${duration(until - now())}` : "Expired: make a new one.";
  });
  // In a path bytes are base64 of the alphabet for addresses.
  const hash = toBase64(fromBase64(made.r_hash)).replaceAll("+", "-").replaceAll("/", "_");
  for (;;) {
    try {
      for await (const invoice of stream("GET", `/v2/invoices/subscribe/${hash}`, undefined, page.signal)) {
        state.dataset.state = invoice.state;
        state.textContent = invoice.state === "SETTLED" ? `Paid: ${msat(invoice.amt_paid_msat)}` : STATES[invoice.state];
        if (invoice.state === "SETTLED" || invoice.state === "CANCELED") return;
      }
    } catch { /* the node is away, or the view was left */ }
    if (page.signal.aborted || !left.isConnected) return;
    await new Promise((done) => setTimeout(done, 2000));
  }
}
