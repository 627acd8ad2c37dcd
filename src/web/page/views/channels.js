// Channels as bars, opened and closed; a closing one as a tree with deadlines that count down.

import { call, fromHex, get, may, post, stream, toBase64 } from "../api.js";
import { amountField, ask, choice, differs, field, fill, form, h, pressed, satoshi, searchField, tick, toast } from "../dom.js";
import { amount, bar, duration, id, legend, number, sat, words } from "../format.js";
import { steady } from "./overview.js";

// On one page.
const PAGE = 20;
// Of those that were.
const ENDED = 50;
const WHICH = [["ALL", "All"], ["USABLE", "Usable"], ["WAITING", "Waiting"], ["UNCOVERED", "Not watched"]];
// Fewer need neither a search nor a choice.
const FEW = 6;

export const FEES = [["2", "Soon: the next two blocks"], ["6", "Normal: within six blocks"], ["144", "Cheap: within a day"]];

// Seconds between blocks, for a countdown that people understand; the lock itself counts blocks.
let spacing = 600;

export function channels(page) {
  const asked = { offset: 0, limit: PAGE, search: "", which: "ALL" };
  const [progress, opening, open, closing, ended] = [h("div", { "aria-live": "polite" }), h("div", null), h("div", null), h("div", null), h("div", null)];
  const look = () => showOpen(page, asked, open, tools);
  const change = (what) => { Object.assign(asked, { offset: 0 }, what); look().catch(() => {}); };
  const tools = h("div.tools", { hidden: true },
    searchField("Search: name, key, funding output", (search) => change({ search })),
    choice("Which channels", WHICH, "ALL", (which) => change({ which })));
  page.show(
    h("h1", null, "Channels"),
    may("onchain:write") && may("offchain:write") && h("details.card", null, h("summary", null, "Open a channel"), openForm(progress)),
    progress, opening, h("section.card", null, tools, open), closing);
  page.every(3, look);
  page.every(3, () => showOpening(page, opening, progress));
  page.every(3, () => showClosing(page, closing));
  // Long lists that nobody looks at are not asked for.
  const closed = h("details.card", { id: "ended", ontoggle: () => { if (closed.open) showEnded(page, ended).catch(() => {}); } }, h("summary", null, "Closed channels"), ended);
  page.main.append(closed);
  page.every(10, async () => { if (closed.open) await showEnded(page, ended); });
}

async function showOpen(page, asked, place, tools) {
  const question = { ...asked };
  const answer = await call("Browse/ListChannels", question, page.signal);
  // Something else was asked for meanwhile.
  if (JSON.stringify(question) !== JSON.stringify(asked)) return;
  if (!answer.channels.length && asked.offset) { asked.offset = 0; return showOpen(page, asked, place, tools); }
  tools.hidden = answer.total < FEW && !asked.search && asked.which === "ALL";
  if (!differs(place, { ...answer, channels: answer.channels.map(steady) }, asked)) return;
  const turn = (by) => { asked.offset += by; return showOpen(page, asked, place, tools); };
  const last = asked.offset + answer.channels.length;
  fill(place,
    answer.total === 0 && h("div", null, h("p", null, "No channel is open."),
      h("p.quiet", null, "A channel to another node holds coins of yours and of its; within it both pay each other at once, and over it everybody whom the network reaches. Ask the other person for the node's address: it looks like 02ab…@host:9735.")),
    answer.total > 0 && answer.matching === 0 && h("p.quiet", null, "None of them fits."),
    answer.channels.map((one) => channelCard(page, one)),
    answer.matching > PAGE && h("div.pager", null,
      h("button", { type: "button", disabled: asked.offset === 0, onclick: pressed(() => turn(-PAGE)) }, "Earlier"),
      h("span", { role: "status" }, `${number(asked.offset + 1)}–${number(last)} of ${number(answer.matching)}`),
      h("button", { type: "button", disabled: last >= answer.matching, onclick: pressed(() => turn(PAGE)) }, "Later")));
}

async function showOpening(page, place, progress) {
  const { pending_open_channels: list } = await get("/v1/channels/pending", page.signal);
  if (!differs(place, list)) return;
  if (!list.length) fill(progress);
  fill(place, list.length > 0 && h("section.card", null, h("h2", null, `Being opened${list.length > 1 ? ` (${number(list.length)})` : ""}`), list.slice(0, PAGE).map(openingCard)));
}

async function showClosing(page, place) {
  const { channels: list, block_height: height } = await call("Channels/ListClosing", {}, page.signal);
  spacing = list.length ? await blockSpacing(height) : spacing;
  if (!differs(place, list, height, spacing)) return;
  fill(place, list.length > 0 && h("section.card", { id: "closing" }, h("h2", null, "Closing"), list.map((one) => closingTree(one, height))));
}

async function showEnded(page, place) {
  const ended = await call("Channels/ListClosed", { newest: ENDED }, page.signal);
  if (!differs(place, ended)) return;
  fill(place, ended.total === 0 ? h("p.quiet", null, "None yet.") : h("div.scroll", null, h("table", null,
    h("thead", null, h("tr", null, ["Node", "Why", "In block"].map((one) => h("th", null, one)), h("th.right", null, "Came back"))),
    h("tbody", null, ended.channels.map((one) => h("tr", null,
      h("td", null, id(one.remote_pubkey)), h("td", null, words(one.reason)), h("td", null, one.close_height ? number(one.close_height) : ""),
      h("td.right", null, one.settled === undefined ? "not known" : amount(one.settled))))))),
  ended.total > ENDED && h("p.quiet", null, `The last ${ENDED} of ${number(ended.total)}; \`leyden closedchannels\` lists all.`));
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

const nameOf = (channel) => words(channel.alias) || `${channel.remote_pubkey.slice(0, 16)}…`;

const partsOf = (channel) => [
  ["Yours", channel.local_balance, "ours"],
  ["Under way", channel.unsettled_balance, "waits"],
  ["Theirs", channel.remote_balance, "theirs"],
];

// In short, for the overview.
export function channelLine(channel) {
  return h("div.thin", null, h("div.head", null, h("span", null, nameOf(channel)), state(channel)), bar(partsOf(channel), `Channel with ${nameOf(channel)}`));
}

function channelCard(page, channel) {
  const name = nameOf(channel);
  const lived = Number(channel.lifetime);
  return h("article.channel", { "data-point": channel.channel_point },
    h("div.head", null, h("h3", null, name, " ", h("small", null, id(channel.remote_pubkey))), h("span", null, state(channel), " ", cover(channel))),
    channel.trouble && h("p.problem", null, words(channel.trouble)),
    bar(partsOf(channel), `Channel with ${name}`),
    legend(partsOf(channel).filter(([label, value]) => label !== "Under way" || Number(value))),
    h("p.quiet", null,
      `${sat(channel.capacity)} in all · ${channel.private ? "private" : "public"} · `,
      h("span", { "data-uptime": channel.uptime }, lived > 60 ? `peer online ${Math.round((100 * Number(channel.uptime)) / lived)} % of the last ${duration(lived)}` : channel.connected ? "peer online" : "peer not online"),
      " · ", id(channel.channel_point, 14), channel.memo && [" · ", words(channel.memo)]),
    !channel.covered && channel.why_not && h("p.quiet", null, `Not watched: ${words(channel.why_not)}`),
    may("offchain:write") && may("onchain:write") && h("div.actions", null,
      h("button", { type: "button", onclick: pressed(() => close(channel, name, false)), disabled: !channel.active }, "Close together"),
      h("button.danger", { type: "button", onclick: pressed(() => close(channel, name, true)) }, "Force-close")));
}

const state = (channel) => (channel.active ? h("span.tag.good", null, "✓ usable") : h("span.tag", null, channel.connected ? "⏸ agrees with its peer" : "⏸ waits for its peer"));

function cover(channel) {
  if (!channel.towers) return h("span.tag", null, "no watchtower");
  return channel.covered ? h("span.tag.good", null, "✓ watched") : h("span.tag.bad", null, "! not watched");
}

function openingCard({ channel, confirmations_until_active: left, funding_expiry_blocks: expiry }) {
  return h("div.thin", null,
    h("div.head", null, h("span.mono", null, `${channel.remote_node_pub.slice(0, 16)}…`),
      h("span.tag", null, left ? `${number(left)} more block${left === 1 ? "" : "s"}` : "waits for its funding transaction")),
    bar([["Yours", channel.local_balance, "waits"], ["Theirs", channel.remote_balance, "waits-theirs"]], "Channel being opened"),
    expiry > 0 && expiry < 500 && h("small", null, `Forgotten in ${number(expiry)} blocks if its transaction does not confirm`));
}

function openForm(progress) {
  const own = h("input", { name: "feerate", inputmode: "decimal", autocomplete: "off" });
  const rate = h("div.field", { hidden: true }, h("label", null, "Satoshi per virtual byte ", own));
  const fee = field("Fee of the funding transaction", "fee", { options: [...FEES, ["own", "A feerate of my own"]], onchange: (event) => { rate.hidden = event.target.value !== "own"; } });
  return form([
    field("Node", "node", { required: true, placeholder: "public key, or public key@host:port", spellcheck: "false", autocapitalize: "none" }, "Whose node it is tells you this address; `leyden getinfo` prints it."),
    amountField("Your coins in it", "amount", { required: true }, "Satoshi, from the wallet on the chain."),
    fee, rate,
    tick("private", "Private: the network is not told of it"),
  ], "Open the channel", async (values, element) => {
    const [key, host] = values.node.trim().split("@");
    if (!/^0[23][0-9a-fA-F]{64}$/.test(key)) throw new Error("A node's public key is 66 hex digits and begins with 02 or 03.");
    const own = values.fee === "own";
    if (own && !(Number(values.feerate) >= 1)) throw new Error("The feerate is a number, at least 1.");
    const sum = satoshi(values.amount);
    if (host) {
      try {
        await post("/v1/peers", { addr: { pubkey: key, host }, timeout: "10" });
      } catch (error) {
        if (!/already connected/i.test(error.message)) throw error;
      }
    }
    const request = {
      node_pubkey: toBase64(fromHex(key.toLowerCase())), local_funding_amount: sum, private: values.private === "on",
      ...(own ? { sat_per_vbyte: String(Math.round(Number(values.feerate))) } : { target_conf: Number(values.fee) }),
    };
    for await (const update of stream("POST", "/v1/channels/stream", request)) {
      if (update.chan_pending) {
        toast("The funding transaction is on its way");
        fill(progress, h("p", null, "The channel is being opened: its funding transaction waits for a block."));
        element.reset();
        rate.hidden = true;
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
  for await (const update of stream("DELETE", `/v1/channels/${txid}/${index}?force=${force}&no_wait=true`)) {
    if (update.close_pending || update.close_instant || update.chan_close) break;
  }
  toast("The channel is closing");
}

const STATES = {
  LOCKED: "locked", NO_PREIMAGE: "waits for its preimage, or its expiry", UNECONOMIC: "costs more than it is worth",
  NEEDS_COINS: "needs coins in the wallet for its fee", CLAIMED: "claimed; waits for a block", OURS: "yours", THEIRS: "the peer's",
  UNDECIDED: "being decided",
};

function closingTree(channel, height) {
  return h("div.closing", { "data-point": channel.channel_point },
    h("p", null, sentence(words(channel.reason))),
    h("ul.tree", null, h("li", null,
      h("div.node", null, h("div.head", null, h("strong", null, "Closing transaction"),
        h("span", null, channel.closing_txid ? id(channel.closing_txid) : "not broadcast yet")),
      h("small", null, channel.closing_txid ? confirmations(channel.confirmations) : "")),
      h("ul.tree", null, channel.outputs.map((one) => outputNode(one, height))))),
    h("p.quiet", null, `${sat(channel.recovered)} are back in the wallet; claims have paid ${sat(channel.fees)} in fees.`));
}

const sentence = (text) => (text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "");

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
