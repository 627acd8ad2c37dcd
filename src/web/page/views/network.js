// The network as this node knows it, drawn: nodes pull at their channels and push each other away.

import { call } from "../api.js";
import { fill, h, svg } from "../dom.js";
import { number, sat, words } from "../format.js";

// More would be a grey cloud: the best connected are drawn, and the first of them named.
const DRAWN = 120;
const NAMED = 25;
const SIZE = 600;

export function network(page) {
  const facts = h("div", null);
  const drawing = h("div", null, h("p.quiet", null, "Asking the node…"));
  page.show(h("h1", null, "The network"), h("section.card", null, facts, drawing));
  page.every(60, async () => {
    const map = await call("Browse/GetMap", { nodes: DRAWN }, page.signal);
    if (!page.isNew(map)) return;
    fill(facts, h("p", null, `${plural(map.total_nodes, "node")}, ${plural(map.total_channels, "channel")}, ${sat(map.total_capacity)}.`));
    fill(drawing, ...draw(map, page.info().identity_pubkey));
  });
}

const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;

function draw({ nodes, edges: pairs, total_nodes: total }, self) {
  if (!nodes.length) {
    return [h("p", null, "No public channel is known yet."),
      h("p.quiet", null, "Once a public channel is six blocks deep, nodes tell each other of it, and the network grows here.")];
  }
  const edges = pairs.map((one) => [one.a, one.b]);
  const places = layout(nodes.length, edges);
  const isSelf = (at) => nodes[at].pubkey === self;
  const name = (node) => words(node.alias) || node.pubkey.slice(0, 12);
  const picture = svg("svg", { class: "graph", viewBox: `0 0 ${SIZE} ${SIZE * 0.66}`, role: "img", "aria-label": `Drawing of ${plural(nodes.length, "node")} and ${plural(edges.length, "channel")}` },
    edges.map(([a, b]) => svg("line", { x1: places[a].x, y1: places[a].y, x2: places[b].x, y2: places[b].y, class: isSelf(a) || isSelf(b) ? "own" : "other" })),
    nodes.map((node, at) => svg("circle", { cx: places[at].x, cy: places[at].y, r: isSelf(at) ? 8 : Math.min(3 + node.channels, 9), class: isSelf(at) ? "self" : "one" },
      svg("title", {}, `${name(node)} · ${plural(node.channels, "channel")}`))),
    nodes.slice(0, NAMED).map((node, at) => svg("text", { x: places[at].x + 10, y: places[at].y + 4 }, isSelf(at) ? "this node" : name(node).slice(0, 16))));
  return [picture, total > nodes.length && h("p.quiet", null, `The ${number(nodes.length)} best connected of ${number(total)} are drawn.`)];
}

// Fruchterman and Reingold's springs, from a circle, always the same.
function layout(count, edges) {
  const height = SIZE * 0.66;
  const places = Array.from({ length: count }, (_, at) => ({ x: SIZE / 2 + Math.cos(at * 2.4) * (20 + at), y: height / 2 + Math.sin(at * 2.4) * (20 + at) * 0.6 }));
  const ideal = Math.sqrt((SIZE * height) / Math.max(count, 1)) * 0.7;
  for (let heat = SIZE / 10; heat > 1; heat *= 0.93) {
    const pull = places.map(() => ({ x: 0, y: 0 }));
    for (let a = 0; a < count; a++) {
      for (let b = a + 1; b < count; b++) {
        const dx = places[a].x - places[b].x || 0.1;
        const dy = places[a].y - places[b].y || 0.1;
        const force = (ideal * ideal) / (dx * dx + dy * dy);
        pull[a].x += dx * force; pull[a].y += dy * force;
        pull[b].x -= dx * force; pull[b].y -= dy * force;
      }
    }
    for (const [a, b] of edges) {
      const dx = places[a].x - places[b].x;
      const dy = places[a].y - places[b].y;
      const force = Math.sqrt(dx * dx + dy * dy) / ideal;
      pull[a].x -= dx * force; pull[a].y -= dy * force;
      pull[b].x += dx * force; pull[b].y += dy * force;
    }
    places.forEach((place, at) => {
      const length = Math.hypot(pull[at].x, pull[at].y) || 1;
      place.x = Math.min(SIZE - 90, Math.max(15, place.x + (pull[at].x / length) * Math.min(length, heat)));
      place.y = Math.min(height - 15, Math.max(15, place.y + (pull[at].y / length) * Math.min(length, heat)));
    });
  }
  return places;
}
