// Everything at a glance: what there is, what wants attention, the newest blocks.

import { aliasOf, call, get, may } from "../api.js";
import { h } from "../dom.js";
import { amount, bar, legend, now, words } from "../format.js";
import { activity } from "./history.js";
import { blockRow } from "./chain.js";
import { channelCard } from "./channels.js";

// What a macaroon does not allow is left out, not shown as nothing.
export const unlessRefused = (promise) => promise.catch((error) => {
  if (error.status === 403 || error.status === 401) return null;
  throw error;
});

export function overview(page) {
  page.every(4, async () => {
    const [onchain, offchain, channels, warnings, events, blocks] = await Promise.all([
      unlessRefused(get("/v1/balance/blockchain")),
      unlessRefused(get("/v1/balance/channels")),
      unlessRefused(get("/v1/channels")),
      unlessRefused(call("Channels/ListWarnings")),
      may("offchain:read") ? activity(8) : null,
      blockRow(),
    ]);
    const shown = channels?.channels.slice(0, 5) || [];
    await Promise.all(shown.map(async (one) => { one.peer_alias ||= await aliasOf(one.remote_pubkey); }));
    // Times go on by themselves, a little late.
    if (!page.isNew(onchain, offchain, channels, warnings, events?.textContent, blocks.textContent, Math.floor(now() / 30))) return;
    const parts = balanceParts(onchain, offchain);
    const total = parts.filter(([, , kind]) => kind === "ours" || kind === "chain" || kind === "waits")
      .reduce((sum, [, value]) => sum + Number(value), 0);
    page.show(
      warnings?.warnings.length > 0 && h("section.card.warnings", null, h("h2", null, "You should know"),
        h("ul", null, warnings.warnings.map((one) => h("li", null, words(one))))),
      h("section.card", null,
        h("div.head", null, h("h1", null, "Yours"),
          h("div.actions", null,
            may("offchain:write") && h("a", { href: "#/pay" }, "Pay"),
            may("invoices:write") && h("a", { href: "#/receive" }, "Get paid"))),
        h("div.figure", { id: "total" }, amount(total)),
        bar(parts, "Balances"),
        legend(parts)),
      h("div.grid", null,
        channels && h("section.card", null,
          h("div.head", null, h("h2", null, "Channels"), h("a", { href: "#/channels" }, "All")),
          channels.channels.length === 0 && h("p.quiet", null, "No channel is open. Connect to a node and open one to pay over Lightning."),
          shown.map((one) => channelCard(one))),
        events && h("section.card", null,
          h("div.head", null, h("h2", null, "Lately"), h("a", { href: "#/history" }, "All")),
          events)),
      h("section.card", null, h("div.head", null, h("h2", null, "The chain"), h("a", { href: "#/chain" }, "More")), blocks));
  });
}

function balanceParts(onchain, offchain) {
  const parts = [];
  if (onchain) {
    parts.push(["On the chain", onchain.confirmed_balance, "chain"]);
    if (Number(onchain.unconfirmed_balance)) parts.push(["Waiting for a block", onchain.unconfirmed_balance, "waits"]);
  }
  if (offchain) {
    parts.push(["In channels", offchain.local_balance.sat, "ours"]);
    if (Number(offchain.unsettled_local_balance.sat)) parts.push(["Under way", offchain.unsettled_local_balance.sat, "waits"]);
    if (Number(offchain.pending_open_local_balance.sat)) parts.push(["Channels being opened", offchain.pending_open_local_balance.sat, "waits"]);
    parts.push(["Others' in your channels: you can be paid so much", offchain.remote_balance.sat, "theirs"]);
  }
  return parts;
}
