// Channels as bars, opened and closed; a closing one as a tree with deadlines that count down.

import { aliasOf, call, fromHex, get, may, post, stream, toBase64 } from "../api.js";
import { ask, field, fill, form, h, toast } from "../dom.js";
import { amount, bar, duration, id, legend, number, sat, words } from "../format.js";
import { unlessRefused } from "./overview.js";

// Seconds between blocks, for a countdown that people understand; the lock itself counts blocks.
let spacing = 600;

export function channels(page) {
  let opening = null;
  const progress = h("div", { "aria-live": "polite" });
  const body = h("div", null, h("p.quiet", null, "Asking the node…"));
  page.show(
    h("div.head", null, h("h1", null, "Channels")),
    may("onchain:write") && may("offchain:write") && h("details.card", null, h("summary", null, "Open a channel"),
      openForm((text) => { opening = text; progress.textContent = text; })),
    progress, body);
  page.every(3, async () => {
    const [open, pending, closing, coverage, peers] = await Promise.all([
      get("/v1/channels"),
      get("/v1/channels/pending"),
      call("Channels/ListClosing"),
      unlessRefused(call("Towers/ListCoverage")),
      unlessRefused(get("/v1/peers")),
    ]);
    spacing = await blockSpacing(closing.block_height);
    const ended = await call("Channels/ListClosed");
    await Promise.all(open.channels.map(async (one) => { one.peer_alias ||= await aliasOf(one.remote_pubkey); }));
    if (!page.isNew(open, pending, closing, coverage, peers?.peers.map((one) => one.pub_key), ended, spacing)) return;
    const covered = new Map((coverage?.channels || []).map((one) => [one.channel_point, one]));
    const online = new Set((peers?.peers || []).map((one) => one.pub_key));
    const wasOpen = body.querySelector("details")?.open;
    fill(body,
      pending.pending_open_channels.length > 0 && h("section.card", null, h("h2", null, "Being opened"),
        pending.pending_open_channels.map(openingCard)),
      h("section.card", null,
        open.channels.length === 0 && h("p.quiet", null, "No channel is open."),
        open.channels.map((one) => channelCard(one, { covered: covered.get(one.channel_point), online: online.has(one.remote_pubkey), full: true }))),
      closing.channels.length > 0 && h("section.card", { id: "closing" }, h("h2", null, "Closing"),
        closing.channels.map((one) => closingTree(one, closing.block_height))),
      endedCard(ended.channels, wasOpen));
    if (opening === null) progress.textContent = "";
  });
}

function endedCard(ended, isOpen) {
  if (!ended.length) return null;
  return h("details.card", { open: isOpen }, h("summary", null, `Closed channels (${ended.length})`),
    h("div.scroll", null, h("table", null,
      h("thead", null, h("tr", null, ["Node", "Why", "In block", "Came back"].map((one) => h("th", null, one)))),
      h("tbody", null, ended.slice(-200).reverse().map((one) => h("tr", null,
        h("td", null, id(one.remote_pubkey)), h("td", null, words(one.reason)), h("td", null, one.close_height || ""),
        h("td.right", null, one.settled === undefined ? "not known" : amount(one.settled))))))));
}

// From the last blocks: on regtest and on a chain of one's own a block is not ten minutes.
const measured = { height: 0, spacing: 600 };
async function blockSpacing(height) {
  if (height === measured.height || height < 12) return measured.spacing;
  const [last, before] = await Promise.all([call("Chain/GetBlock", { height }), call("Chain/GetBlock", { height: height - 10 })]);
  measured.height = height;
  measured.spacing = Math.max(1, (Number(last.time) - Number(before.time)) / 10);
  return measured.spacing;
}

export function channelCard(channel, { covered, online, full } = {}) {
  const parts = [
    ["Yours", channel.local_balance, "ours"],
    ["Under way", channel.unsettled_balance, "waits"],
    ["Theirs", channel.remote_balance, "theirs"],
  ];
  const name = words(channel.peer_alias) || `${channel.remote_pubkey.slice(0, 16)}…`;
  if (!full) {
    return h("div.thin", null, h("div.head", null, h("span", null, name), state(channel)), bar(parts, `Channel with ${name}`));
  }
  return h("article.channel", { "data-point": channel.channel_point },
    h("div.head", null, h("h3", null, name, " ", h("small", null, id(channel.remote_pubkey))), h("span", null, state(channel), " ", cover(covered))),
    bar(parts, `Channel with ${name}`),
    legend(parts.filter(([label, value]) => label !== "Under way" || Number(value))),
    h("p.quiet", null,
      `${sat(channel.capacity)} in all · ${online ? "connected" : "not connected"}`,
      Number(channel.lifetime) > 0 && ` · online ${Math.round((100 * Number(channel.uptime)) / Number(channel.lifetime))} % of ${duration(Number(channel.lifetime))}`,
      ` · ${channel.private ? "private" : "public"} · `, id(channel.channel_point, 14)),
    may("offchain:write") && may("onchain:write") && h("div.actions", null,
      h("button", { type: "button", onclick: () => close(channel, name, false), disabled: !channel.active }, "Close together"),
      h("button.danger", { type: "button", onclick: () => close(channel, name, true) }, "Force-close")));
}

const state = (channel) => (channel.active ? h("span.tag.good", null, "✓ usable") : h("span.tag", null, "⏸ waits for its peer"));

function cover(coverage) {
  if (!coverage || !coverage.towers.length) return h("span.tag", null, "no watchtower");
  return coverage.covered ? h("span.tag.good", null, "✓ watched") : h("span.tag.bad", { title: coverage.towers.map((one) => one.why_not).join(" ") }, "! not watched");
}

function openingCard({ channel, confirmations_until_active: left, funding_expiry_blocks: expiry }) {
  return h("div.thin", null,
    h("div.head", null, h("span.mono", null, `${channel.remote_node_pub.slice(0, 16)}…`),
      h("span.tag", null, left ? `${left} more blocks` : "waits for its funding transaction")),
    bar([["Yours", channel.local_balance, "waits"], ["Theirs", channel.remote_balance, "waits-theirs"]], "Channel being opened"),
    expiry > 0 && expiry < 500 && h("small", null, `Forgotten in ${expiry} blocks if its transaction does not confirm`));
}

function openForm(progress) {
  return form([
    field("Node", "node", { required: true, placeholder: "public key, or public key@host:port", spellcheck: "false", autocapitalize: "none" }),
    field("Your coins in it", "amount", { type: "number", min: 1, step: 1, required: true, inputmode: "numeric" }, "Satoshi, from the wallet on the chain."),
    field("Fee", "fee", { options: [["2", "Soon: the next two blocks"], ["6", "Normal: within six blocks"], ["144", "Cheap: within a day"]] }),
    h("div.field", null, h("label", null, h("input", { type: "checkbox", name: "private" }), " Private: the network is not told of it")),
  ], "Open the channel", async (values, element) => {
    const [key, host] = values.node.trim().split("@");
    if (!/^0[23][0-9a-fA-F]{64}$/.test(key)) throw new Error("A node's public key is 66 hex digits and begins with 02 or 03.");
    if (host) {
      try {
        await post("/v1/peers", { addr: { pubkey: key, host }, timeout: "10" });
      } catch (error) {
        if (!/already connected/i.test(error.message)) throw error;
      }
    }
    const request = {
      node_pubkey: toBase64(fromHex(key.toLowerCase())), local_funding_amount: values.amount, target_conf: Number(values.fee),
      private: values.private === "on",
    };
    for await (const update of stream("POST", "/v1/channels/stream", request)) {
      if (update.chan_pending) {
        toast("The funding transaction is on its way");
        progress("The channel is being opened: its funding transaction waits for a block.");
        element.reset();
        return;
      }
    }
  });
}

async function close(channel, name, force) {
  const sure = await ask(`Close the channel with ${name}?`,
    force
      ? ["Without the peer: your latest commitment goes to the chain, and your coins come back only after a delay of blocks.",
        "Close together instead if the peer answers: it is cheaper and quicker."]
      : [`${sat(channel.local_balance)} go to your wallet on the chain, less the fee of the closing transaction.`],
    force ? "Force-close" : "Close");
  if (!sure) return;
  const [txid, index] = channel.channel_point.split(":");
  try {
    for await (const update of stream("DELETE", `/v1/channels/${txid}/${index}?force=${force}&no_wait=true`)) {
      if (update.close_pending || update.close_instant || update.chan_close) break;
    }
    toast("The channel is closing");
  } catch (error) {
    toast(error.message);
  }
}

const STATES = {
  LOCKED: "locked", NO_PREIMAGE: "waits for its preimage, or its expiry", UNECONOMIC: "costs more than it is worth",
  NEEDS_COINS: "needs coins in the wallet for its fee", CLAIMED: "claimed; waits for a block", OURS: "yours", THEIRS: "the peer's",
  UNDECIDED: "being decided",
};

function closingTree(channel, height) {
  return h("div.closing", { "data-point": channel.channel_point },
    h("p", null, words(channel.reason)),
    h("ul.tree", null, h("li", null,
      h("div.node", null, h("div.head", null, h("strong", null, "Closing transaction"),
        h("span", null, channel.closing_txid ? id(channel.closing_txid) : "not broadcast yet")),
      h("small", null, channel.closing_txid ? confirmations(channel.confirmations) : "")),
      h("ul.tree", null, channel.outputs.map((one) => outputNode(one, height))))),
    h("p.quiet", null, `${sat(channel.recovered)} are back in the wallet; claims have paid ${sat(channel.fees)} in fees.`));
}

function outputNode(output, height) {
  const side = output.state === "THEIRS" ? "is-theirs" : ["OURS", "CLAIMED", "LOCKED"].includes(output.state) ? "is-ours" : "plain";
  return h("li", null,
    h(`div.node.${side}`, null,
      h("div.head", null, h("span", null, words(output.what)), amount(output.amount)),
      h("small", { "data-state": output.state }, STATES[output.state] || output.state, countdown(output, height))),
    output.spending_txid && h("ul.tree", null, h("li", null, h("div.node", null,
      h("div.head", null, h("span", null, output.state === "THEIRS" ? "Spent by the peer" : "Your claim"), id(output.spending_txid)),
      h("small", null, confirmations(output.confirmations), Number(output.fee) > 0 && ` · pays ${sat(output.fee)}, ${output.sat_per_vbyte.toFixed(1)} sat/vB`,
        output.final && " · nothing can take it back")))));
}

const confirmations = (count) => (count ? `${number(count)} confirmation${count === 1 ? "" : "s"}` : "waits for a block");

function countdown(output, height) {
  const left = (at) => {
    const blocks = at - height;
    return blocks > 0 ? `${number(blocks)} block${blocks === 1 ? "" : "s"}, some ${duration(blocks * spacing)}` : "now";
  };
  if (output.state === "LOCKED" && output.until) return `: free in ${left(output.until)}`;
  if (output.deadline && !output.confirmations && output.state !== "THEIRS") return ` · should be confirmed within ${left(output.deadline)}`;
  return "";
}
