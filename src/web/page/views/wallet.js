// The wallet on the chain: coins, and sending them; the nodes that are connected.

import { get, may, post, remove } from "../api.js";
import { ask, field, fill, form, h, toast } from "../dom.js";
import { amount, bytes, id, number, sat, words } from "../format.js";
import { unlessRefused } from "./overview.js";

// More coins would only push the rest of the page away.
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
    const [balance, list, connected] = await Promise.all([
      get("/v1/balance/blockchain"), get("/v1/utxos?min_confs=0&max_confs=999999999"), unlessRefused(get("/v1/peers")),
    ]);
    if (!page.isNew(balance, list, connected)) return;
    fill(coins, h("h2", null, "Coins"), h("div.figure", null, amount(balance.total_balance)),
      Number(balance.reserved_balance_anchor_chan) > 0 && h("p.quiet", null, `${sat(balance.reserved_balance_anchor_chan)} of it are kept back for claims of channels.`),
      list.utxos.length ? h("div.scroll", null, h("table", null, h("tbody", null, list.utxos.slice(0, SHOWN).map((one) => h("tr", null,
        h("td", null, id(one.address, 20)), h("td.right", null, amount(one.amount_sat)), h("td.right", null, Number(one.confirmations) ? `${number(one.confirmations)} conf.` : "waits")))))) : h("p.quiet", null, "No coins."),
      list.utxos.length > SHOWN && h("p.quiet", null, `and ${number(list.utxos.length - SHOWN)} more`));
    if (connected) {
      fill(peers, h("h2", null, `Connected nodes (${connected.peers.length})`), connected.peers.length ? h("div.scroll", null, h("table", null, h("tbody", null,
        connected.peers.map((one) => h("tr", null, h("td", null, id(one.pub_key, 16), h("div", null, h("small", null, words(one.address)))),
          h("td.right", null, h("small", null, `${bytes(one.bytes_recv)} in, ${bytes(one.bytes_sent)} out`)),
          h("td.right", null, may("peers:write") && h("button", { type: "button", onclick: () => disconnect(one.pub_key) }, "Disconnect"))))))) : h("p.quiet", null, "None."));
    }
  });
}

async function disconnect(key) {
  try {
    await remove(`/v1/peers/${key}`);
    toast("Disconnected");
  } catch (error) {
    toast(error.message);
  }
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
  return form([
    field("To", "addr", { required: true, placeholder: "bc1…", autocapitalize: "none", spellcheck: "false" }),
    field("Amount", "amount", { type: "number", min: 1, inputmode: "numeric" }, "Satoshi."),
    h("div.field", null, h("label", null, h("input", { type: "checkbox", name: "all" }), " All coins")),
    field("Fee", "fee", { options: [["2", "Soon: the next two blocks"], ["6", "Normal: within six blocks"], ["144", "Cheap: within a day"]] }),
  ], "Send", async (values, element) => {
    const all = values.all === "on";
    if (!all && !values.amount) throw new Error("Say how much.");
    const addr = values.addr.trim();
    if (!await ask("Send?", [all ? "All coins of the wallet" : sat(values.amount), `to ${addr}`, "A transaction on the chain cannot be taken back."], "Send")) return;
    const { txid } = await post("/v1/transactions", { addr, target_conf: Number(values.fee), ...(all ? { send_all: true } : { amount: values.amount }) });
    toast(`Sent: ${txid.slice(0, 16)}…`);
    element.reset();
  });
}
