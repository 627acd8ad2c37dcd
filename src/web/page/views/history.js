// Payments, invoices, forwards and transactions, the newest first, a page at a time.

import { get, may, post } from "../api.js";
import { fill, h } from "../dom.js";
import { amount, id, msat, number, time, words } from "../format.js";

const PAGE = 50;

export const TABS = [
  ["payments", "Sent", payments, "offchain:read"],
  ["invoices", "Received", invoices, "invoices:read"],
  ["forwards", "Forwarded", forwards, "offchain:read"],
  ["transactions", "On the chain", transactions, "onchain:read"],
];

export function history(page) {
  const body = h("div", null);
  const tabs = h("div.actions", { role: "tablist" });
  const choose = (chosen) => {
    fill(tabs, TABS.filter(([, , , permission]) => may(permission)).map(([key, name, load]) => h(`button${key === chosen ? ".primary" : ""}`, {
      type: "button", role: "tab", "aria-selected": key === chosen ? "true" : "false", onclick: () => choose(key),
    }, name)));
    const [, , load] = TABS.find(([key]) => key === chosen);
    list(body, load);
  };
  page.show(h("h1", null, "History"), tabs, h("section.card", null, body));
  choose("payments");
}

// `load(before)` gives rows and where the page before them ends, or null.
async function list(body, load) {
  const rows = h("tbody", null);
  const more = h("button", { type: "button" }, "Older ones");
  const table = h("table", null, rows);
  fill(body, h("p.quiet", null, "Asking the node…"));
  let before = null;
  const next = async () => {
    more.disabled = true;
    try {
      const answer = await load(before);
      answer.rows.forEach((row) => rows.append(row));
      before = answer.before;
      fill(body, rows.childElementCount ? h("div.scroll", null, table) : h("p.quiet", null, "Nothing yet."), before && h("div.actions", null, more));
    } catch (error) {
      fill(body, h("p.problem", { role: "alert" }, error.message));
    }
    more.disabled = false;
  };
  more.addEventListener("click", next);
  await next();
}

const row = (what, detail, value, when, state) => h("tr", null,
  h("td", null, what, detail && h("div.memo", null, h("small", null, detail))), h("td.right", null, value, h("div", null, h("small", null, state))),
  h("td.right", null, when));

async function payments(before) {
  const answer = await get(`/v1/payments?include_incomplete=true&reversed=true&max_payments=${PAGE}${before ? `&index_offset=${before}` : ""}`);
  const states = { SUCCEEDED: "paid", FAILED: "not paid", IN_FLIGHT: "under way", INITIATED: "under way" };
  return page(answer.payments.reverse().map((one) => row(["Payment ", id(one.payment_hash)], null, msat(one.value_msat), time(Number(one.creation_time_ns) / 1e9),
    one.status === "SUCCEEDED" ? `fee ${msat(one.fee_msat)}` : states[one.status])), answer.first_index_offset);
}

async function invoices(before) {
  const answer = await get(`/v1/invoices?reversed=true&num_max_invoices=${PAGE}${before ? `&index_offset=${before}` : ""}`);
  const states = { OPEN: "waiting", SETTLED: "paid", CANCELED: "not paid", ACCEPTED: "held" };
  return page(answer.invoices.reverse().map((one) => row("Invoice", words(one.memo), msat(one.state === "SETTLED" ? one.amt_paid_msat : one.value_msat),
    time(one.state === "SETTLED" ? one.settle_date : one.creation_date), states[one.state])), answer.first_index_offset);
}

// Counted from the first: the last page is found by the number that there are.
async function forwards(before) {
  const start = before === null ? 0 : Number(before);
  const answer = await post("/v1/switch", { start_time: "1", index_offset: start, num_max_events: PAGE });
  const rows = answer.forwarding_events.map((one) => row("Forwarded", `${one.chan_id_in} → ${one.chan_id_out}`, msat(one.amt_out_msat),
    time(Number(one.timestamp_ns) / 1e9), `earned ${msat(one.fee_msat)}`));
  return { rows, before: answer.forwarding_events.length === PAGE ? answer.last_offset_index : null };
}

async function transactions(before) {
  const answer = await get(`/v1/transactions?max_transactions=${PAGE}&index_offset=${before || 0}`);
  const rows = answer.transactions.map((one) => row(["Transaction ", id(one.tx_hash)], words(one.label), amount(one.amount), time(one.time_stamp),
    one.num_confirmations ? `${number(one.num_confirmations)} conf.` : "waits for a block"));
  return { rows, before: answer.transactions.length === PAGE ? Number(before || 0) + PAGE : null };
}

const page = (rows, first) => ({ rows, before: rows.length === PAGE && Number(first) > 1 ? first : null });

// The newest of payments and invoices together.
export async function activity(count) {
  const [sent, received] = await Promise.all([
    get(`/v1/payments?reversed=true&max_payments=${count}`),
    may("invoices:read") ? get(`/v1/invoices?reversed=true&num_max_invoices=${count}`) : { invoices: [] },
  ]);
  const events = [
    ...sent.payments.filter((one) => one.status === "SUCCEEDED").map((one) => [Number(one.creation_time_ns) / 1e9, "Paid", null, `−${msat(one.value_msat)}`]),
    ...received.invoices.filter((one) => one.state === "SETTLED").map((one) => [Number(one.settle_date), "Received", one.memo, `+${msat(one.amt_paid_msat)}`]),
  ].sort(([a], [b]) => b - a).slice(0, count);
  if (!events.length) return h("p.quiet", null, "Nothing has been paid yet.");
  return h("table", null, h("tbody", null, events.map(([when, what, memo, value]) => h("tr", null,
    h("td", null, what, memo && h("div.memo", null, h("small", null, words(memo)))), h("td.right", null, value), h("td.right", null, time(when))))));
}
