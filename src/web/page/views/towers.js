// What guards the channels: watchtowers, their coverage, backups; and swaps, where there are any.

import { call, may } from "../api.js";
import { field, fill, form, h, toast } from "../dom.js";
import { amount, id, number, time, words } from "../format.js";
import { unlessRefused } from "./overview.js";

export function towers(page) {
  const body = h("div", null, h("p.quiet", null, "Asking the node…"));
  page.show(h("h1", null, "Safety"), body);
  const add = may("offchain:write") && h("section.card", null, h("h2", null, "Add a watchtower"), addForm());
  page.every(5, async () => {
    const [list, coverage, recovery, swaps] = await Promise.all([
      call("Towers/ListTowers"), call("Towers/ListCoverage"), unlessRefused(call("Wallet/GetRecovery")), call("Swap/List").catch(() => null),
    ]);
    if (!page.isNew(list, coverage, recovery, swaps)) return;
    fill(body, h("div", null,
      h("div.grid", null,
        h("section.card", null, h("h2", null, "Watchtowers"),
          list.towers.length ? list.towers.map(tower) : h("p.quiet", null, "None. While this node is off, a peer could close a channel with an old state; a watchtower would punish that.")),
        add),
      h("section.card", null, h("h2", null, "Coverage"), coverage.channels.length ? h("table", null, h("tbody", null, coverage.channels.map((one) => h("tr", null,
        h("td", null, id(one.channel_point, 16)),
        h("td", null, one.covered ? h("span.tag.good", null, "✓ covered") : h("span.tag.bad", null, "! not covered"),
          !one.covered && h("div", null, h("small", null, words(one.towers.map((tower) => tower.why_not).filter(Boolean).join(" ")))))))))
        : h("p.quiet", null, "No channels.")),
      recovery?.backup_file && h("section.card", null, h("h2", null, "Backup"),
        h("p", null, "The 24 words bring back the coins on the chain. For channels copy this file elsewhere whenever one is opened:"), h("p.mono", null, words(recovery.backup_file))),
      swaps?.swaps.length > 0 && h("section.card", null, h("h2", null, "Swaps"), h("div.scroll", null, h("table", null, h("tbody", null,
        swaps.swaps.map((one) => h("tr", null, h("td", null, id(one.id)), h("td", null, one.phase.replaceAll("_", " ")),
          h("td.right", null, amount(one.give.amount), ` ${words(one.give.network)}`), h("td.right", null, amount(one.get.amount), ` ${words(one.get.network)}`),
          h("td.right", null, time(one.created))))))))));
  });
}

function tower(one) {
  return h("div", null,
    h("div.head", null, h("span", null, words(one.address)), one.connected ? h("span.tag.good", null, "✓ connected") : h("span.tag.bad", null, "! not connected")),
    h("p.quiet", null, `${one.own ? "Your own" : "A stranger's"} · holds ${number(one.states_held)} states`, Number(one.states_waiting) > 0 && `, ${number(one.states_waiting)} wait`,
      one.trouble && ` · ${words(one.trouble)}`));
}

function addForm() {
  return form([
    field("Public key", "pubkey", { required: true, autocapitalize: "none", spellcheck: "false" }),
    field("Address", "address", { required: true, placeholder: "host:port", autocapitalize: "none" }),
    h("div.field", null, h("label", null, h("input", { type: "checkbox", name: "own" }), " It is my own: it may know the channels' secrets, and needs little room")),
  ], "Add", async (values, element) => {
    await call("Towers/AddTower", { pubkey: values.pubkey.trim(), address: values.address.trim(), own: values.own === "on" });
    toast("Added");
    element.reset();
  });
}
