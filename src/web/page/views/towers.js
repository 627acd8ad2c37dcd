// What guards the channels: watchtowers, their coverage, backups; and swaps, where there are any.

import { call, hexOf, may } from "../api.js";
import { now } from "../clock.js";
import { differs, field, fill, form, h, tick, toast } from "../dom.js";
import { amount, duration, id, number, time, words } from "../format.js";
import { unlessRefused } from "./overview.js";

// Of channels that nobody watches, and of swaps: what is wrong with the first of them is usually wrong with all.
const SHOWN = 20;

export function towers(page) {
  const [list, coverage, more] = [h("section.card", null), h("section.card", null), h("div", null)];
  page.show(h("h1", null, "Safety"),
    h("div.grid", null, list, may("offchain:write") && h("section.card", null, h("h2", null, "Add a watchtower"), addForm())),
    coverage, more);
  page.every(5, async () => {
    const [known, uncovered] = await Promise.all([call("Towers/ListTowers", {}, page.signal), call("Browse/ListChannels", { which: "UNCOVERED", limit: SHOWN }, page.signal)]);
    if (differs(list, known)) {
      fill(list, h("h2", null, "Watchtowers"),
        known.towers.length ? known.towers.map(tower) : h("p", null, "None. While this node is off, a peer could close a channel with an old state and take coins of yours; a watchtower would punish that at once."));
    }
    const { channels, total, matching } = uncovered;
    if (differs(coverage, known.towers.length, channels.map((one) => [one.channel_point, one.why_not]), total, matching)) {
      fill(coverage, h("h2", null, "Coverage"), covered(known.towers.length, uncovered));
    }
  });
  page.every(5, async () => {
    const [recovery, swaps] = await Promise.all([unlessRefused(call("Wallet/GetRecovery", {}, page.signal)), call("Swap/List", {}, page.signal).catch(() => null)]);
    const open = (swaps?.swaps || []).slice(-SHOWN).reverse();
    if (!differs(more, recovery, open, Math.floor(now() / 30))) return;
    fill(more, recovery && h("section.card", null, h("h2", null, "Backup"), backup(recovery)), open.length > 0 && h("section.card", { id: "swaps" }, h("h2", null, "Swaps"), open.map(swap)));
  });
}

function covered(towers, { channels, total, matching }) {
  if (!total) return h("p.quiet", null, "No channels.");
  if (!towers) return h("p", null, `${plural(total)}, watched by this node alone, while it is on.`);
  if (!matching) return h("p", null, h("span.tag.good", null, "✓ watched"), ` Watchtowers hold every old state of ${total === 1 ? "the channel" : `all ${number(total)} channels`}.`);
  return [h("p", null, h("span.tag.bad", null, "! not watched"), ` ${number(matching)} of ${plural(total)}:`),
    channels.map((one) => h("div.line", null, h("div", null, words(one.alias) || id(one.remote_pubkey, 16), h("div", null, h("small", null, words(one.why_not)))), id(one.channel_point, 16))),
    matching > SHOWN && h("p.quiet", null, "Under Channels all of them are listed.")];
}

const plural = (count) => `${number(count)} channel${count === 1 ? "" : "s"}`;

function backup(recovery) {
  return [
    recovery.lost_channels?.length > 0 && h("p.problem", null, `${plural(recovery.lost_channels.length)} known from a backup alone: stay online until the peers have closed them.`),
    h("p", null, "The 24 words bring back the coins on the chain. For channels copy this file elsewhere whenever one is opened:"),
    h("p.mono", null, recovery.backup_file ? words(recovery.backup_file) : "channel.backup, in the node's data directory"),
  ];
}

const KINDS = { atomic: "Coins for coins of another chain", in: "Coins into a channel", out: "From a channel to coins" };

function swap(one) {
  const ends = [one.give, one.get].map((leg) => Number(leg.expiry)).filter((expiry) => expiry > now());
  return h("div.swap", { "data-phase": one.phase },
    h("div.head", null, h("strong", null, KINDS[one.kind] || one.kind), h("span.tag", null, one.phase.replaceAll("_", " "))),
    h("p", null, "gives ", amount(one.give.amount), ` ${words(one.give.network)}, gets `, amount(one.get.amount), ` ${words(one.get.network)} `),
    h("p.quiet", null, "Swap ", id(hexOf(one.id)), " · ", time(one.created), ends.length > 0 && ` · the first lock ends in ${duration(Math.min(...ends) - now())}`),
    (one.warnings || []).map((text) => h("p.problem", null, words(text))));
}

function tower(one) {
  return h("div.line", null,
    h("div", null, words(one.address), h("div", null, h("small", null,
      `${one.own ? "Your own" : "A stranger's"} · holds ${number(one.states_held)} state${Number(one.states_held) === 1 ? "" : "s"}`,
      Number(one.states_waiting) > 0 && `, ${number(one.states_waiting)} wait`, one.trouble && ` · ${words(one.trouble)}`))),
    one.connected ? h("span.tag.good", null, "✓ connected") : h("span.tag.bad", null, "! not connected"));
}

function addForm() {
  return form([
    field("Public key", "pubkey", { required: true, autocapitalize: "none", spellcheck: "false" }),
    field("Address", "address", { placeholder: "host:port", autocapitalize: "none" }),
    tick("own", "It is my own: it may know the channels' secrets, and needs little room"),
  ], "Add", async (values, element) => {
    const [pubkey, host] = values.pubkey.trim().split("@");
    const address = values.address.trim() || host;
    if (!address) throw new Error("The address is missing: host:port.");
    await call("Towers/AddTower", { pubkey, address, own: values.own === "on" });
    toast("Added");
    element.reset();
  });
}
