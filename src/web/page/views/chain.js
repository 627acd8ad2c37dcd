// The chain as a row of blocks, the mempool by feerate, and mining.

import { call, may, stream } from "../api.js";
import { field, fill, form, h, svg, toast } from "../dom.js";
import { bytes, duration, id, now, number, rate, sat } from "../format.js";

const SHOWN = 8;
// Satoshi a virtual byte, from which on.
const LEVELS = [100, 50, 20, 10, 5, 2, 1, 0];
const remembered = new Map();

async function block(height) {
  const known = remembered.get(height);
  if (known) return known;
  const found = await call("Chain/GetBlock", { height });
  remembered.set(height, found);
  if (remembered.size > 100) remembered.delete(remembered.keys().next().value);
  return found;
}

export async function blockRow() {
  const tip = await call("Chain/GetTip");
  // After a reorganisation what is remembered is wrong.
  if (remembered.get(tip.height) && remembered.get(tip.height).block_hash !== tip.block_hash) remembered.clear();
  const heights = Array.from({ length: Math.min(SHOWN, tip.height + 1) }, (_, index) => tip.height - index);
  const [pool, blocks] = await Promise.all([
    call("Chain/GetMempool").catch(() => null),
    Promise.all(heights.map((height) => block(height).catch(() => null))),
  ]);
  return h("div.blocks", { role: "list", tabindex: "0", "aria-label": "The newest blocks" },
    pool && h("div.block.next", { role: "listitem" }, h("b", null, "next"), h("span", null, `${number(pool.transaction_count)} wait`), h("span", null, bytes(pool.virtual_size))),
    blocks.filter((one) => one).map((one) => h("div.block", { role: "listitem", title: one.block_hash },
      h("b", null, number(one.height)), h("span", null, `${number(one.txids.length)} tx · ${bytes(one.size)}`),
      h("span", null, now() - Number(one.time) < 3 ? "now" : `${duration(now() - Number(one.time))} ago`))));
}

export function chain(page) {
  const rates = [];
  const plot = svg("path", { d: "" });
  const blocks = h("div", null);
  const facts = h("div", null);
  const mempool = h("div", null);
  const mining = h("div", null);
  page.show(h("h1", null, "The chain"), h("section.card", null, blocks, facts),
    h("div.grid", null,
      h("section.card", null, h("h2", null, "Waiting transactions, by feerate"), mempool),
      h("section.card", null, h("h2", null, "Mining"), mining,
        svg("svg", { class: "plot", viewBox: "0 0 100 50", preserveAspectRatio: "none", role: "img", "aria-label": "Hash rate of this node over the last minutes" }, plot),
        may("onchain:write") && miningForm())));
  page.every(2, async () => {
    const [tip, pool, work, row] = await Promise.all([
      call("Chain/GetTip"), call("Chain/GetMempool", { include_transactions: true }).catch(() => null), call("Chain/GetMiningInfo"), blockRow(),
    ]);
    fill(blocks, row);
    fill(facts, h("dl.facts", null,
      h("dt", null, "Tip"), h("dd", null, id(tip.block_hash, 24)),
      h("dt", null, "State"), h("dd", null, tip.current ? "up to date" : tip.doubt || `catching up: ${number(tip.height)} of ${number(tip.header_height)}`),
      h("dt", null, "Difficulty"), h("dd", null, tip.difficulty < 10 ? tip.difficulty.toPrecision(3) : number(Math.round(tip.difficulty))),
      h("dt", null, "On the disk"), h("dd", null, `${bytes(tip.disk_bytes)}${tip.light ? ", headers alone" : ""}`)));
    fill(mempool, pool ? levels(pool) : h("p.quiet", null, "A light node has no mempool."));
    rates.push(work.hashes_per_second);
    if (rates.length > 100) rates.shift();
    const most = Math.max(...rates, 1);
    plot.setAttribute("d", rates.map((one, at) => `${at ? "L" : "M"}${(at * 100) / Math.max(rates.length - 1, 1)} ${48 - (46 * one) / most}`).join(""));
    fill(mining, h("p", { "data-mining": String(work.mining) }, h("strong", null, work.mining ? rate(work.hashes_per_second) : "This node does not mine."),
      work.mining && ` with ${work.threads} thread${work.threads === 1 ? "" : "s"} (${work.kernel})`),
      h("p.quiet", null, `All miners together: ${rate(work.network_hashes_per_second)}. Found here since the start: ${number(work.blocks_found)}.`));
  });
}

function levels(pool) {
  const sizes = LEVELS.map(() => 0);
  for (const one of pool.transactions) {
    const feerate = Number(one.fee_sat) / Number(one.virtual_size);
    sizes[LEVELS.findIndex((level) => feerate >= level)] += Number(one.virtual_size);
  }
  const most = Math.max(...sizes, 1);
  if (!pool.transactions.length) return h("p.quiet", null, "None: the next block takes whatever comes.");
  return [
    h("div.levels", null, LEVELS.map((level, at) => sizes[at] > 0 && [
      h("span", null, `${level}+ sat/vB`),
      h("div.track", null, h("span.ours", { style: { width: `${(100 * sizes[at]) / most}%` } })),
      h("span", null, bytes(sizes[at]))])),
    h("p.quiet", null, `${number(pool.transaction_count)} transactions, ${sat(pool.total_fees_sat)} in fees`),
  ];
}

function miningForm() {
  return [
    h("div.actions", null,
      h("button", { type: "button", onclick: tell(() => call("Chain/StartMining"), "Mining") }, "Mine"),
      h("button", { type: "button", onclick: tell(() => call("Chain/StopMining"), "Stopped") }, "Stop")),
    h("details", null, h("summary", null, "A number of blocks now"),
      form([field("Blocks", "blocks", { type: "number", min: 1, max: 1000, value: 1, required: true }, "For chains of one's own, where a block takes a moment.")], "Generate",
        async ({ blocks }) => {
          let found = 0;
          for await (const update of stream("POST", "/leyden.Chain/Generate", { blocks: Number(blocks) })) found = update.found;
          toast(`${found} block${found === 1 ? "" : "s"} found`);
        })),
  ];
}

const tell = (task, text) => async () => {
  try {
    await task();
    toast(text);
  } catch (error) {
    toast(error.message);
  }
};
