// Payments, invoices, forwards and transactions, the newest first, a page at a time; payments and invoices can be searched.

import { call, get, may, post } from "../api.js";
import { choice, fill, h, searchField } from "../dom.js";
import { amount, id, msat, number, time, words } from "../format.js";

const PAGE = 50;

const FAILURES = {
  FAILURE_REASON_TIMEOUT: "took too long", FAILURE_REASON_NO_ROUTE: "no route", FAILURE_REASON_INSUFFICIENT_BALANCE: "channels held too little",
  FAILURE_REASON_INCORRECT_PAYMENT_DETAILS: "receiver did not know it", FAILURE_REASON_ERROR: "failed on the way",
};
const INVOICES = { open: "waits to be paid", held: "held", settled: "paid", canceled: "taken back", expired: "expired", taken_back: "did not come home" };

// Key, name, what loads a page of it, what a macaroon must allow, and what can be chosen of it.
const TABS = [
  ["payments", "Sent", payments, "offchain:read", [["ALL", "All"], ["DONE", "Paid"], ["FAILED", "Not paid"], ["UNDER_WAY", "Under way"]]],
  ["invoices", "Received", invoices, "invoices:read", [["ALL", "All"], ["DONE", "Paid"], ["UNDER_WAY", "Open"], ["FAILED", "Expired"]]],
  ["forwards", "Forwarded", forwards, "offchain:read", null],
  ["transactions", "On the chain", transactions, "onchain:read", null],
];

export function history(page) {
  const tabs = TABS.filter(([, , , permission]) => may(permission));
  const place = h("section.card", null);
  const open = (key) => {
    const [, , load, , which] = tabs.find(([one]) => one === key);
    const asked = { search: "", which: "ALL" };
    const body = h("div", null);
    const look = (change) => { Object.assign(asked, change); return list(page, body, (before) => load(before, asked, page.signal)); };
    fill(place, which && h("div.tools", null, searchField("Search: what for, hash, node", (search) => look({ search })), choice("Which", which, "ALL", (one) => look({ which: one }))), body);
    look({});
  };
  page.show(h("h1", null, "History"), choice("Kind", tabs.map(([key, name]) => [key, name]), tabs[0][0], open), place);
  open(tabs[0][0]);
}

// `load(before)` gives rows, where the page before them begins, or null, and how many were looked at in vain.
const latest = new WeakMap();
async function list(page, body, load) {
  const turn = {};
  latest.set(body, turn);
  const isOver = () => page.signal.aborted || latest.get(body) !== turn;
  const rows = h("tbody", null);
  const status = h("p.quiet", { role: "status" });
  const more = h("button", { type: "button" }, "Older ones");
  const table = h("div.scroll", null, h("table.records", null, rows));
  let before = null;
  const next = async () => {
    more.disabled = true;
    let looked = 0;
    const had = rows.childElementCount;
    try {
      // A call looks at a part only: what is looked for may lie further back.
      do {
        const answer = await load(before);
        if (isOver()) return;
        answer.rows.forEach((row) => rows.append(row));
        before = answer.before;
        looked += answer.looked || 0;
        status.textContent = rows.childElementCount === had && before ? `Searching: ${number(looked)} looked at…` : "";
        if (!status.isConnected) fill(body, table, status);
      } while (rows.childElementCount - had < PAGE / 2 && before && looked);
      fill(body, rows.childElementCount ? table : h("p.quiet", null, "Nothing here."), before && h("div.actions", null, more));
    } catch (error) {
      if (!isOver()) fill(body, table, h("p.problem", { role: "alert" }, error.message), h("div.actions", null, more));
    }
    more.disabled = false;
  };
  more.addEventListener("click", next);
  await next();
}

const row = (what, detail, value, state, when) => h("tr", null,
  h("td", null, what, h("div.memo", null, h("small", null, when, when && detail && " · ", detail))),
  h("td.right", null, value, h("div", null, h("small", null, state))));

async function payments(before, asked, signal) {
  const answer = await call("Browse/ListPayments", { ...asked, limit: PAGE, before: before || 0 }, signal);
  const state = (one) => ({ succeeded: `paid, fee ${msat(one.fee_msat)}`, failed: `not paid: ${FAILURES[one.failure] || "failed"}`, under_way: "under way" }[one.state]);
  return page(answer, answer.payments.map((one) => row(
    words(one.description) || "Payment", [one.destination && ["to ", id(one.destination), " · "], "hash ", id(one.payment_hash)], msat(one.value_msat), state(one), time(one.created))));
}

async function invoices(before, asked, signal) {
  const answer = await call("Browse/ListInvoices", { ...asked, limit: PAGE, before: before || 0 }, signal);
  return page(answer, answer.invoices.map((one) => row(
    words(one.memo) || "Invoice", ["hash ", id(one.payment_hash), one.state === "open" && [" · invoice ", id(one.payment_request, 10)]],
    one.state === "settled" ? msat(one.paid_msat) : Number(one.value_msat) ? msat(one.value_msat) : "any amount", INVOICES[one.state], time(Number(one.settled) || one.created))));
}

const page = (answer, rows) => ({ rows, before: Number(answer.before) || null, looked: Number(answer.looked_at) });

// Counted from the first: what is left out stands at the end.
async function forwards(before, _, signal) {
  const start = before === null ? 0 : Number(before);
  const answer = await post("/v1/switch", { start_time: "1", index_offset: start, num_max_events: PAGE }, signal);
  const rows = answer.forwarding_events.map((one) => row("Forwarded", `${one.chan_id_in} → ${one.chan_id_out}`, msat(one.amt_out_msat), `earned ${msat(one.fee_msat)}`, time(Number(one.timestamp_ns) / 1e9)));
  return { rows, before: answer.forwarding_events.length === PAGE ? answer.last_offset_index : null };
}

async function transactions(before, _, signal) {
  const answer = await get(`/v1/transactions?max_transactions=${PAGE}&index_offset=${before || 0}`, signal);
  const rows = answer.transactions.map((one) => row(words(one.label) || "Transaction", id(one.tx_hash), amount(one.amount),
    one.num_confirmations ? `${number(one.num_confirmations)} confirmation${one.num_confirmations === 1 ? "" : "s"}` : "waits for a block", time(one.time_stamp)));
  return { rows, before: answer.transactions.length === PAGE ? Number(before || 0) + PAGE : null };
}

// The newest of payments and invoices together: what was paid, and what is under way.
export async function activity(count, signal) {
  const asked = (which) => ({ which, limit: count });
  const [sent, received] = await Promise.all([
    call("Browse/ListPayments", asked("ALL"), signal),
    may("invoices:read") ? call("Browse/ListInvoices", asked("DONE"), signal) : { invoices: [] },
  ]);
  const events = [
    ...sent.payments.map((one) => [Number(one.created), { succeeded: "Paid", failed: "Not paid", under_way: "Under way" }[one.state], one.description, `−${msat(one.value_msat)}`]),
    ...received.invoices.map((one) => [Number(one.settled), "Received", one.memo, `+${msat(one.paid_msat)}`]),
  ].sort(([a], [b]) => b - a).slice(0, count);
  if (!events.length) return h("p.quiet", null, "Nothing has been paid yet.");
  return h("table.records", null, h("tbody", null, events.map(([when, what, memo, value]) => h("tr", null,
    h("td", null, what, memo && h("div.memo", null, h("small", null, words(memo)))), h("td.right", null, value, h("div", null, h("small", null, time(when))))))));
}
