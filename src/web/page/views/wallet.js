// The wallet on the chain: coins, and sending them; the nodes that are connected.

import { call, get, may, post, remove } from "../api.js";
import { amountField, ask, differs, field, fill, form, h, pressed, satoshi, tick, toast } from "../dom.js";
import { amount, bytes, id, number, sat, words } from "../format.js";
import { FEES } from "./channels.js";
import { unlessRefused } from "./overview.js";

// More would only push the rest of the page away.
const SHOWN = 12;

export function wallet(page) {
  const coins = h("section.card", null);
  const peers = h("section.card", null);
  page.show(h("h1", null, "Wallet"), h("div.grid", null,
    may("onchain:write") && h("section.card", null, h("h2", null, "Send coins"), sendForm()),
    coins,
    may("peers:write") && h("section.card", null, h("h2", null, "Connect to a node"), connectForm()),
    peers));
  page.every(4, async () => {
    const [balance, list] = await Promise.all([get("/v1/balance/blockchain", page.signal), call("Browse/ListCoins", { limit: SHOWN }, page.signal)]);
    if (!differs(coins, balance, list)) return;
    const ripening = Number(balance.account_balance?.immature?.confirmed_balance || 0);
    fill(coins, h("h2", null, "Coins"), h("div.figure", null, amount(balance.total_balance)),
      Number(balance.unconfirmed_balance) > 0 && h("p.quiet", null, `${sat(balance.unconfirmed_balance)} of it wait for a block.`),
      Number(balance.reserved_balance_anchor_chan) > 0 && h("p.quiet", null, `${sat(balance.reserved_balance_anchor_chan)} of it are kept back for claims of channels.`),
      ripening > 0 && h("p.quiet", null, `${sat(ripening)} beside it were mined less than 100 blocks ago and cannot be spent yet.`),
      list.coins.length
        ? h("div.scroll", null, h("table", null, h("tbody", null, list.coins.map((one) => h("tr", null,
          h("td", null, id(one.address, 16)), h("td.right", null, amount(one.amount)), h("td.right", null, h("small", null, one.confirmations ? `${number(one.confirmations)} conf.` : "waits")))))))
        : h("p.quiet", null, "None that can be spent. ", h("a", { href: "#/receive" }, "Get an address"), " to have some sent to you."),
      list.total > SHOWN && h("p.quiet", null, `The largest ${SHOWN} of ${number(list.total)}.`));
  });
  page.every(4, async () => {
    const connected = await unlessRefused(get("/v1/peers", page.signal));
    if (!connected || !differs(peers, connected)) return;
    fill(peers, h("h2", null, `Connected nodes (${number(connected.peers.length)})`),
      connected.peers.length === 0 && h("p.quiet", null, "None. Connect to one whose address you know; opening a channel does that by itself."),
      connected.peers.slice(0, SHOWN).map((one) => h("div.line", { "data-point": one.pub_key },
        h("div", null, id(one.pub_key, 16), h("div", null, h("small", null, `${words(one.address)} · ${bytes(one.bytes_recv)} in, ${bytes(one.bytes_sent)} out`))),
        may("peers:write") && h("button", { type: "button", onclick: pressed(() => disconnect(one.pub_key)) }, "Disconnect"))),
      connected.peers.length > SHOWN && h("p.quiet", null, `and ${number(connected.peers.length - SHOWN)} more`));
  });
}

async function disconnect(key) {
  await remove(`/v1/peers/${key}`);
  toast("Disconnected");
}

function connectForm() {
  return form([field("Node", "node", { required: true, placeholder: "public key@host:port", autocapitalize: "none", spellcheck: "false" })], "Connect", async ({ node }, element) => {
    const [pubkey, host] = node.trim().split("@");
    if (!host) throw new Error("The address is missing: public key@host:port.");
    await post("/v1/peers", { addr: { pubkey, host }, timeout: "10" });
    toast("Connected");
    element.reset();
  });
}

function sendForm() {
  const sum = amountField("Amount", "amount");
  return form([
    field("To", "addr", { required: true, placeholder: "An address", autocapitalize: "none", spellcheck: "false" }),
    sum,
    tick("all", "All coins", { onchange: (event) => { sum.hidden = event.target.checked; } }),
    field("Fee", "fee", { options: FEES }),
  ], "Send", async (values, element) => {
    const all = values.all === "on";
    const value = all ? "" : satoshi(values.amount);
    if (!all && !value) throw new Error("Say how much.");
    // As a QR code of an address says it.
    const addr = values.addr.trim().replace(/^bitcoin:/i, "").split("?")[0];
    if (/^ln/i.test(addr) && addr.length > 60) throw new Error("This is an invoice: it is paid under Pay.");
    if (!await ask("Send?", [all ? "All coins of the wallet" : sat(value), `to ${addr}`, "A transaction on the chain cannot be taken back."], "Send")) return;
    const { txid } = await post("/v1/transactions", { addr, target_conf: Number(values.fee), ...(all ? { send_all: true } : { amount: value }) });
    toast(`Sent: ${txid.slice(0, 16)}…`);
    element.reset();
    sum.hidden = false;
  });
}
