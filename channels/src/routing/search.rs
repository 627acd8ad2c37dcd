//! The cheapest path between two sets of nodes, searched from both ends at once.
//!
//! ```text
//!   payer ─┬─► first hops ═══════►  meeting  ◄═══════ last hops ◄─┬─ payee
//!          └─► (forward seeds)       node     (backward seeds)  ◄─┘
//! ```
//!
//! Dijkstra's algorithm from one end of a network with hubs visits nearly all of it, since everything is three
//! hops away. From both ends, each side has settled a few dozen nodes when they meet. The search stops when the two
//! cheapest open labels together cost as much as the best path found. Edges are priced for one amount
//! ([`EdgeCosts`]), which is what lets the two sides go without each other; the exact amounts come afterwards.
//!
//! Labels and heaps belong to the [`Search`] and are used again: a stamp tells this search's labels from older
//! ones, so that nothing needs clearing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::cost::EdgeCosts;
use crate::gossip::{EdgeId, Graph, NodeIndex, Slot};

/// A node where the search starts, on either side. `tag` says to the caller which route leads there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seed {
    /// The node.
    pub node: NodeIndex,
    /// What the end of the route that leads there costs.
    pub cost: f32,
    /// The caller's name for that end.
    pub tag: u32,
}

/// A path through the graph, without the routes to its ends that the seeds stand for.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// The seed at the payer's end.
    pub forward_tag: u32,
    /// In the direction of the payment.
    pub edges: Vec<EdgeId>,
    /// The seed at the payee's end.
    pub backward_tag: u32,
    /// Of the whole route, its ends included.
    pub cost: f32,
}

/// How a label was reached: over an edge, or from a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Via(u32);

const SEED_BIT: u32 = 1 << 31;

impl Via {
    fn edge(edge: EdgeId) -> Self {
        Self(edge.0)
    }

    fn seed(tag: u32) -> Self {
        Self(tag | SEED_BIT)
    }

    fn decode(self) -> Result<EdgeId, u32> {
        if self.0 & SEED_BIT == 0 { Ok(EdgeId(self.0)) } else { Err(self.0 & !SEED_BIT) }
    }
}

#[derive(Clone, Copy, Debug)]
struct Label {
    stamp: u32,
    cost: f32,
    via: Via,
}

const UNLABELLED: Label = Label { stamp: 0, cost: f32::INFINITY, via: Via(0) };

/// One side of the search.
#[derive(Default)]
struct Side {
    labels: Vec<Label>,
    /// Cost and node in one number. The bits of a non-negative float are ordered as the float is.
    heap: BinaryHeap<Reverse<u64>>,
}

impl Side {
    fn reset(&mut self, nodes: usize) {
        self.heap.clear();
        if self.labels.len() < nodes {
            self.labels.resize(nodes, UNLABELLED);
        }
    }

    #[inline]
    fn cost(&self, node: NodeIndex, stamp: u32) -> f32 {
        match self.labels.get(node.0 as usize) {
            Some(label) if label.stamp == stamp => label.cost,
            _ => f32::INFINITY,
        }
    }

    fn push(&mut self, node: NodeIndex, cost: f32, via: Via, stamp: u32) {
        if let Some(label) = self.labels.get_mut(node.0 as usize) {
            *label = Label { stamp, cost, via };
            self.heap.push(Reverse(u64::from(cost.to_bits()) << 32 | u64::from(node.0)));
        }
    }

    /// The cheapest open label.
    fn top(&mut self, stamp: u32) -> Option<(NodeIndex, f32)> {
        while let Some(Reverse(key)) = self.heap.peek() {
            let (node, cost) = (NodeIndex(*key as u32), f32::from_bits((key >> 32) as u32));
            // An entry whose label has become cheaper since is out of date.
            if cost <= self.cost(node, stamp) {
                return Some((node, cost));
            }
            self.heap.pop();
        }
        None
    }
}

/// The memory of a search, to be used again for the next one.
#[derive(Default)]
pub struct Search {
    forward: Side,
    backward: Side,
    stamp: u32,
}

/// What one search is about.
pub struct SearchRequest<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// What each edge costs.
    pub costs: &'a EdgeCosts<'a>,
    /// Where it starts at the payer's end.
    pub forward: &'a [Seed],
    /// Where it starts at the payee's end.
    pub backward: &'a [Seed],
    /// Nodes that must not be passed through: the two ends themselves, and what the caller excludes.
    pub blocked: &'a [NodeIndex],
    /// One more than the largest node index in use; nodes that only hints know have indices above the graph's.
    pub nodes: usize,
    /// No path that costs as much or more is of interest.
    pub limit: f32,
}

impl SearchRequest<'_> {
    /// Whether a payment may pass through a node. One that demands unknown features is left alone (BOLT 7).
    fn may_pass(&self, node: NodeIndex) -> bool {
        !self.blocked.contains(&node) && self.graph.node(node).is_none_or(|node| node.routable)
    }
}

impl Search {
    /// Without memory yet: it grows with the first search.
    pub fn new() -> Self {
        Self::default()
    }

    /// The cheapest path from a forward seed to a backward seed.
    pub fn find(&mut self, question: &SearchRequest<'_>) -> Option<Path> {
        self.stamp = self.stamp.checked_add(1).unwrap_or_else(|| {
            // After four billion searches, old stamps could be taken for new ones.
            self.forward.labels.clear();
            self.backward.labels.clear();
            1
        });
        let stamp = self.stamp;
        self.forward.reset(question.nodes);
        self.backward.reset(question.nodes);
        let mut best = Best { cost: question.limit, node: None };
        for (side, seeds) in [(&mut self.forward, question.forward), (&mut self.backward, question.backward)] {
            for seed in seeds.iter().filter(|seed| question.may_pass(seed.node)) {
                if seed.cost < side.cost(seed.node, stamp) {
                    side.push(seed.node, seed.cost, Via::seed(seed.tag), stamp);
                }
            }
        }
        for seed in question.backward {
            best.offer(seed.node, self.forward.cost(seed.node, stamp) + self.backward.cost(seed.node, stamp));
        }
        while let (Some(forward), Some(backward)) = (self.forward.top(stamp), self.backward.top(stamp)) {
            if forward.1 + backward.1 >= best.cost {
                break;
            }
            // The side with fewer open labels has less work ahead of it.
            if self.forward.heap.len() <= self.backward.heap.len() {
                expand(
                    question,
                    stamp,
                    forward,
                    backward.1,
                    &mut self.forward,
                    &self.backward,
                    &mut best,
                    Graph::outgoing,
                );
            } else {
                expand(
                    question,
                    stamp,
                    backward,
                    forward.1,
                    &mut self.backward,
                    &self.forward,
                    &mut best,
                    Graph::incoming,
                );
            }
        }
        self.path(question.graph, best)
    }

    fn path(&self, graph: &Graph, best: Best) -> Option<Path> {
        let meeting = best.node?;
        let (mut edges, forward_tag) = self.forward.trace(graph, meeting, self.stamp, true)?;
        edges.reverse();
        let (rest, backward_tag) = self.backward.trace(graph, meeting, self.stamp, false)?;
        edges.extend(rest);
        Some(Path { forward_tag, edges, backward_tag, cost: best.cost })
    }
}

impl Side {
    /// The edges from `node` back to a seed, and the seed's tag.
    fn trace(&self, graph: &Graph, mut node: NodeIndex, stamp: u32, forward: bool) -> Option<(Vec<EdgeId>, u32)> {
        let mut edges = Vec::new();
        loop {
            let label = self.labels.get(node.0 as usize).filter(|label| label.stamp == stamp)?;
            match label.via.decode() {
                Err(tag) => return Some((edges, tag)),
                Ok(edge) => {
                    let (from, to) = graph.channel(edge.channel())?.ends(edge.direction());
                    edges.push(edge);
                    node = if forward { from } else { to };
                    // A path that passes a node twice is none.
                    if edges.len() > 64 {
                        return None;
                    }
                }
            }
        }
    }
}

/// The best meeting so far.
struct Best {
    cost: f32,
    node: Option<NodeIndex>,
}

impl Best {
    #[inline]
    fn offer(&mut self, node: NodeIndex, cost: f32) {
        if cost < self.cost {
            *self = Self { cost, node: Some(node) };
        }
    }
}

/// Settles the cheapest open label of `side` and relaxes the edges of its node.
#[expect(clippy::too_many_arguments, reason = "the two sides differ in these alone, and this is the innermost loop")]
#[inline]
fn expand<'g>(
    question: &SearchRequest<'g>,
    stamp: u32,
    (node, cost): (NodeIndex, f32),
    other_top: f32,
    side: &mut Side,
    other: &Side,
    best: &mut Best,
    edges: impl Fn(&'g Graph, NodeIndex) -> &'g [Slot],
) {
    side.heap.pop();
    for slot in edges(question.graph, node) {
        if !question.costs.admits(slot) {
            continue;
        }
        // Whoever is not labelled from the other side yet is at least `other_top` away from its end.
        let known = side.cost(slot.peer, stamp);
        let fixed = cost + question.costs.fixed(slot);
        if fixed >= known || fixed >= best.cost {
            continue;
        }
        let reached = fixed + question.costs.liquidity(slot);
        if reached >= known || reached >= best.cost {
            continue;
        }
        let beyond = other.cost(slot.peer, stamp);
        if reached + beyond.min(other_top) >= best.cost || !question.may_pass(slot.peer) {
            continue;
        }
        side.push(slot.peer, reached, Via::edge(slot.edge), stamp);
        best.offer(slot.peer, reached + beyond);
    }
}
