// The chain as a row of blocks, the mempool by feerate, and mining.

import { call, may, stream } from "../api.js";
import { now } from "../clock.js";
import { differs, field, fill, form, h, pressed, svg, toast } from "../dom.js";
import { bytes, duration, id, number, rate, sat } from "../format.js";

const SHOWN = 8;
const remembered = new Map();

async function block(height) {
  const known = remembered.get(height);
  if (known) return known;
  const found = await call("Chain/GetBlock", { height });
  remembered.set(height, found);
  if (remembered.size > 100) remembered.delete(remembered.keys().next().value);
  return found;
}

// `tip` and `pool` are asked for if the caller has not.
export async function blockRow(known = null, pool = null) {
  const tip = known || await call("Chain/GetTip");
  // After a reorganisation what is remembered is wrong.
  if (remembered.get(tip.height) && remembered.get(tip.height).block_hash !== tip.block_hash) remembered.clear();
  const heights = Array.from({ length: Math.min(SHOWN, tip.height + 1) }, (_, index) => tip.height - index);
  const [waiting, blocks] = await Promise.all([
    pool || call("Chain/GetMempool").catch(() => null),
    Promise.all(heights.map((height) => block(height).catch(() => null))),
  ]);
  return h("div.blocks", { role: "list", tabindex: "0", "aria-label": "The newest blocks" },
    waiting && h("div.block.next", { role: "listitem" }, h("b", null, "next"), h("span", null, `${number(waiting.transaction_count)} wait`), h("span", null, bytes(waiting.virtual_size))),
    blocks.filter((one) => one).map((one) => h("div.block", { role: "listitem", title: one.block_hash },
      h("b", null, number(one.height)), h("span", null, `${number(one.txids.length)} tx · ${bytes(one.size)}`),
      h("span", null, now() - Number(one.time) < 3 ? "now" : `${duration(now() - Number(one.time))} ago`))));
}

export function chain(page) {
  const rates = [];
  const plot = svg("path", { d: "" });
  const [blocks, facts, mempool, mining, most] = [h("div", null), h("div", null), h("div", null), h("div", null), h("small", null)];
  const buttons = h("div.actions", null);
  page.show(h("h1", null, "The chain"), h("section.card", null, blocks, facts),
    h("div.grid", null,
      h("section.card", null, h("h2", null, "Waiting transactions, by feerate"), mempool),
      h("section.card", null, h("h2", null, "Mining"), mining,
        h("figure", { hidden: true, id: "rates" }, h("figcaption", null, most),
          svg("svg", { class: "plot", viewBox: "0 0 100 50", preserveAspectRatio: "none", role: "img", "aria-label": "Hash rate of this node over the last minutes" }, plot)),
        may("onchain:write") && [buttons, generateForm()])));
  page.every(2, async () => {
    const [tip, pool, work] = await Promise.all([
      call("Chain/GetTip", {}, page.signal), call("Chain/GetMempool", { include_levels: true }, page.signal).catch(() => null), call("Chain/GetMiningInfo", {}, page.signal),
    ]);
    const row = await blockRow(tip, pool);
    if (differs(blocks, row.textContent, tip.block_hash)) fill(blocks, row);
    if (differs(facts, tip)) {
      fill(facts, h("dl.facts", null,
        h("dt", null, "Tip"), h("dd", null, id(tip.block_hash, 24)),
        h("dt", null, "State"), h("dd", null, tip.current ? "up to date" : tip.doubt || `catching up: ${number(tip.height)} of ${number(tip.header_height)}`),
        h("dt", null, "Difficulty"), h("dd", null, tip.difficulty < 10 ? tip.difficulty.toPrecision(3) : number(Math.round(tip.difficulty))),
        h("dt", null, "On the disk"), h("dd", null, `${bytes(tip.disk_bytes)}${tip.light ? ", headers alone" : ""}`)));
    }
    if (differs(mempool, pool)) fill(mempool, pool ? levels(pool) : h("p.quiet", null, "A light node has no mempool."));
    rates.push(work.hashes_per_second);
    if (rates.length > 100) rates.shift();
    const highest = Math.max(...rates);
    document.getElementById("rates").hidden = highest === 0;
    most.textContent = `at most ${rate(highest)} in the last minutes`;
    plot.setAttribute("d", rates.map((one, at) => `${at ? "L" : "M"}${(at * 100) / Math.max(rates.length - 1, 1)} ${48 - (46 * one) / Math.max(highest, 1)}`).join(""));
    if (!differs(mining, work)) return;
    fill(mining, h("p", { "data-mining": String(work.mining) }, h("strong", null, work.mining ? rate(work.hashes_per_second) : "This node does not mine."),
      work.mining && ` with ${work.threads} thread${work.threads === 1 ? "" : "s"} (${work.kernel})`),
      h("p.quiet", null, `All miners together: ${rate(work.network_hashes_per_second)}. Found here since the start: ${number(work.blocks_found)}.`));
    fill(buttons, work.mining
      ? h("button", { type: "button", onclick: pressed(() => tell("Chain/StopMining", "Stopped")) }, "Stop")
      : h("button.primary", { type: "button", onclick: pressed(() => tell("Chain/StartMining", "Mining; each block found pays this wallet")) }, "Mine"));
  });
}

function levels(pool) {
  if (!Number(pool.transaction_count)) return h("p.quiet", null, "None: the next block takes whatever comes.");
  const most = Math.max(...pool.levels.map((one) => Number(one.virtual_size)), 1);
  return [
    h("div.levels", null, pool.levels.map((one) => [
      h("span", null, `${one.sat_per_vbyte}+ sat/vB`),
      h("div.track", null, h("span.ours", { style: { width: `${(100 * Number(one.virtual_size)) / most}%` } })),
      h("span", null, bytes(one.virtual_size))])),
    h("p.quiet", null, `${number(pool.transaction_count)} transaction${Number(pool.transaction_count) === 1 ? "" : "s"}, ${sat(pool.total_fees_sat)} in fees`),
  ];
}

function generateForm() {
  return h("details", null, h("summary", null, "A number of blocks now"),
    form([field("Blocks", "blocks", { type: "number", min: 1, max: 1000, value: 1, required: true }, "For chains of one's own, where a block takes a moment.")], "Generate",
      async ({ blocks }) => {
        let found = 0;
        for await (const update of stream("POST", "/leyden.Chain/Generate", { blocks: Number(blocks) })) found = update.found;
        toast(`${number(found)} block${found === 1 ? "" : "s"} found`);
      }));
}

async function tell(method, text) {
  await call(method);
  toast(text);
}
