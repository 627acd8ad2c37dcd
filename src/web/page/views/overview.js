// Everything at a glance: what there is, what wants attention, the newest blocks.

import { call, get, may } from "../api.js";
import { now } from "../clock.js";
import { h } from "../dom.js";
import { amount, bar, legend, number, words } from "../format.js";
import { activity } from "./history.js";
import { blockRow } from "./chain.js";
import { channelLine } from "./channels.js";

// More stand behind the link.
const CHANNELS = 5;
const EVENTS = 8;

// What a macaroon does not allow is left out, not shown as nothing.
export const unlessRefused = (promise) => promise.catch((error) => {
  if (error.status === 403 || error.status === 401) return null;
  throw error;
});

// What was paid lately costs the node a search: it is asked for when balances differ, and now and then.
const LATELY = 30;

export function overview(page) {
  let lately = { at: -LATELY, balance: "", events: null };
  const events = async (offchain) => {
    const balance = JSON.stringify(offchain);
    if (balance !== lately.balance || now() - lately.at >= LATELY) lately = { at: now(), balance, events: await activity(EVENTS, page.signal) };
    return lately.events;
  };
  page.every(4, async () => {
    const balance = unlessRefused(get("/v1/balance/channels", page.signal));
    const [onchain, offchain, channels, warnings, paid, blocks] = await Promise.all([
      unlessRefused(get("/v1/balance/blockchain", page.signal)),
      balance,
      unlessRefused(call("Browse/ListChannels", { limit: CHANNELS }, page.signal)),
      unlessRefused(call("Channels/ListWarnings", {}, page.signal)),
      may("offchain:read") ? balance.then(events) : null,
      blockRow(),
    ]);
    // Times go on by themselves, a little late.
    if (!page.isNew(onchain, offchain, channels && { ...channels, channels: channels.channels.map(steady) }, warnings, paid?.textContent, blocks.textContent, Math.floor(now() / 30))) return;
    const parts = balanceParts(onchain, offchain);
    const total = parts.filter(([, , kind]) => kind !== "theirs").reduce((sum, [, value]) => sum + Number(value), 0);
    page.show(
      warnings?.warnings.length > 0 && h("section.card.warnings", null, h("h2", null, "You should know"),
        h("ul", null, warnings.warnings.map((one) => h("li", null, words(one))))),
      h("section.card", null,
        h("div.head", null, h("h1", null, "Yours"),
          h("div.links", null,
            may("offchain:write") && h("a.button.primary", { href: "#/pay" }, "Pay"),
            may("invoices:write") && h("a.button", { href: "#/receive" }, "Get paid"))),
        h("div.figure", { id: "total" }, amount(total)),
        bar(parts, "Balances"),
        legend(parts),
        firstSteps(onchain, channels)),
      h("div.grid", null,
        channels && h("section.card", null,
          h("div.head", null, h("h2", null, `Channels${channels.total ? ` (${number(channels.total)})` : ""}`), h("a.button.quiet", { href: "#/channels" }, "All")),
          channels.total === 0 && h("p.quiet", null, "None is open. A channel lets you pay and be paid within a second: open one to a node that you know."),
          channels.channels.map(channelLine)),
        paid && h("section.card", null,
          h("div.head", null, h("h2", null, "Lately"), h("a.button.quiet", { href: "#/history" }, "All")),
          paid)),
      h("section.card", null, h("div.head", null, h("h2", null, "The chain"), h("a.button.quiet", { href: "#/chain" }, "More")), blocks));
  });
}

// What runs on by itself is no news.
export const steady = (channel) => ({ ...channel, lifetime: 0, uptime: 0 });

// Whoever has nothing yet is told where coins come from.
function firstSteps(onchain, channels) {
  if (!onchain || channels?.total || Number(onchain.total_balance)) return null;
  const ripening = Number(onchain.account_balance?.immature?.confirmed_balance || 0);
  return ripening
    ? h("p.quiet", null, "What this node has mined can be spent after 100 more blocks.")
    : h("p", null, "No coins yet. Have some sent to ", h("a", { href: "#/receive" }, "an address of yours"), ", or ", h("a", { href: "#/chain" }, "mine"), " some.");
}

function balanceParts(onchain, offchain) {
  const parts = [];
  if (onchain) {
    parts.push(["On the chain", onchain.confirmed_balance, "chain"]);
    if (Number(onchain.unconfirmed_balance)) parts.push(["Waits for a block", onchain.unconfirmed_balance, "waits"]);
    const ripening = Number(onchain.account_balance?.immature?.confirmed_balance || 0);
    if (ripening) parts.push(["Mined, not spendable yet", ripening, "waits"]);
  }
  if (offchain) {
    parts.push(["In channels", offchain.local_balance.sat, "ours"]);
    if (Number(offchain.unsettled_local_balance.sat)) parts.push(["Under way to you", offchain.unsettled_local_balance.sat, "waits"]);
    if (Number(offchain.pending_open_local_balance.sat)) parts.push(["In channels being opened", offchain.pending_open_local_balance.sat, "waits"]);
    parts.push(["You can be paid (others' part of your channels)", offchain.remote_balance.sat, "theirs"]);
  }
  return parts;
}
