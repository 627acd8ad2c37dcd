// The network as this node knows it, drawn: nodes pull at their channels and push each other away.

import { get } from "../api.js";
import { fill, h, svg } from "../dom.js";
import { number, sat, words } from "../format.js";

// More would be a grey cloud, and slow: the best connected are drawn.
const DRAWN = 120;
const SIZE = 600;

export function network(page) {
  const facts = h("div", null);
  const drawing = h("div", null, h("p.quiet", null, "Asking the node…"));
  page.show(h("h1", null, "The network"), h("section.card", null, facts, drawing));
  page.every(60, async () => {
    const [info, own, graph] = await Promise.all([get("/v1/graph/info"), get("/v1/getinfo"), get("/v1/graph")]);
    fill(facts, h("p", null, `${number(info.num_nodes)} nodes, ${number(info.num_channels)} channel${info.num_channels === 1 ? "" : "s"}, ${sat(info.total_network_capacity)}.`));
    fill(drawing, ...draw(graph, own.identity_pubkey));
  });
}

function draw(graph, self) {
  const degree = new Map();
  for (const edge of graph.edges) {
    for (const key of [edge.node1_pub, edge.node2_pub]) degree.set(key, (degree.get(key) || 0) + 1);
  }
  if (!degree.size) return [h("p.quiet", null, "No public channel is known yet.")];
  const chosen = [...degree.keys()].sort((a, b) => (b === self) - (a === self) || degree.get(b) - degree.get(a)).slice(0, DRAWN);
  const index = new Map(chosen.map((key, at) => [key, at]));
  const aliases = new Map(graph.nodes.map((node) => [node.pub_key, words(node.alias)]));
  const edges = graph.edges.map((edge) => [index.get(edge.node1_pub), index.get(edge.node2_pub)]).filter(([a, b]) => a !== undefined && b !== undefined);
  const places = layout(chosen.length, edges);
  const picture = svg("svg", { class: "graph", viewBox: `0 0 ${SIZE} ${SIZE * 0.66}`, role: "img", "aria-label": `Drawing of ${chosen.length} nodes and ${edges.length} channels` },
    edges.map(([a, b]) => svg("line", { x1: places[a].x, y1: places[a].y, x2: places[b].x, y2: places[b].y, class: chosen[a] === self || chosen[b] === self ? "own" : "other" })),
    chosen.map((key, at) => svg("circle", { cx: places[at].x, cy: places[at].y, r: key === self ? 8 : Math.min(3 + degree.get(key), 9), class: key === self ? "self" : "one" },
      svg("title", {}, `${aliases.get(key) || key} · ${degree.get(key)} channels`))),
    chosen.slice(0, 25).map((key, at) => svg("text", { x: places[at].x + 10, y: places[at].y + 4 }, key === self ? "this node" : (aliases.get(key) || key).slice(0, 16))));
  return [picture, degree.size > DRAWN && h("p.quiet", null, `The ${DRAWN} best connected of ${number(degree.size)} are drawn.`)];
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
