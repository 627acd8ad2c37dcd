//! The two ends of a request: which channels a payment can start over, and which lead to the payee.
//!
//! The search runs between the peers of the payer and the peers of the payee, so that balances of our own, hints of an
//! invoice and a payment to oneself are all the same to it.

use super::route::{RouteRequest, Source, Step};
use crate::gossip::{EdgeId, Graph, NodeIndex, Slot};
use crate::types::{Msat, NodeId};

/// A first channel, and the node that it leads to.
#[derive(Clone, Copy)]
pub(super) struct FirstHop {
    pub channel: FirstHopChannel,
    pub peer: NodeIndex,
}

#[derive(Clone, Copy)]
pub(super) enum FirstHopChannel {
    /// By its place in [`Source::Local`].
    Local(usize),
    Edge(Slot),
}

impl FirstHopChannel {
    pub(super) fn step(&self) -> Step {
        match self {
            Self::Local(index) => Step::Local(*index),
            Self::Edge(slot) => Step::Edge(slot.edge),
        }
    }
}

/// A last stretch, and the node where it starts.
#[derive(Clone, Copy)]
pub(super) struct LastHop {
    pub channel: LastHopChannel,
    pub node: NodeIndex,
}

#[derive(Clone, Copy)]
pub(super) enum LastHopChannel {
    Edge(Slot),
    /// All channels of a hint, by its place in the request.
    Hint(usize),
}

/// What all searches for one request share.
pub(super) struct Ends {
    pub first: Vec<FirstHop>,
    pub last: Vec<LastHop>,
    /// First channels that lead to the payee itself.
    pub direct: Vec<FirstHop>,
    pub blocked: Vec<NodeIndex>,
    pub banned: Vec<EdgeId>,
    pub nodes: usize,
}

impl Ends {
    pub(super) fn new(graph: &Graph, request: &RouteRequest<'_>) -> Self {
        let mut names = Names { graph, unknown: Vec::new() };
        let source = names.index(request.source.node());
        let target = names.index(request.target);
        let to_itself = source == target;
        let mut first = Vec::new();
        match request.source {
            Source::Local { channels, .. } => first.extend(channels.iter().enumerate().map(|(index, channel)| {
                FirstHop { channel: FirstHopChannel::Local(index), peer: names.index(channel.peer) }
            })),
            Source::Graph(_) => first.extend(
                graph
                    .outgoing(source)
                    .iter()
                    .map(|slot| FirstHop { channel: FirstHopChannel::Edge(*slot), peer: slot.peer }),
            ),
        }
        let (mut direct, first): (Vec<_>, Vec<_>) =
            first.into_iter().partition(|hop: &FirstHop| hop.peer == target && !to_itself);
        let mut last: Vec<LastHop> = graph
            .incoming(target)
            .iter()
            .filter(|slot| slot.peer != source)
            .map(|slot| LastHop { channel: LastHopChannel::Edge(*slot), node: slot.peer })
            .collect();
        for (hint, hops) in request.hints.iter().enumerate() {
            let Some(start) = hops.first() else { continue };
            let node = names.index(start.node_id.into());
            if node != source && node != target {
                last.push(LastHop { channel: LastHopChannel::Hint(hint), node });
            }
        }
        if let Some(wanted) = request.last_hop {
            let wanted = names.index(wanted);
            if wanted != source {
                direct.clear();
            }
            // A hint's last hop is the node that its last channel starts from.
            last.retain(|hop| match hop.channel {
                LastHopChannel::Edge(_) => hop.node == wanted,
                LastHopChannel::Hint(hint) => {
                    request.hints.get(hint).is_some_and(|hops| hops.len() == 1) && hop.node == wanted
                }
            });
        }
        let mut blocked = vec![source, target];
        blocked.extend(request.excluded_nodes.iter().filter_map(|node| graph.find_node(node)));
        blocked.dedup();
        let banned = request
            .excluded_edges
            .iter()
            .filter_map(|(id, direction)| Some(EdgeId::new(graph.find_channel(*id)?, *direction)))
            .collect();
        Self { first, last, direct, blocked, banned, nodes: graph.node_bound() + names.unknown.len() }
    }
}

impl Ends {
    /// What the channels at either end carry at most: more than that need not be looked for.
    pub(super) fn most(&self, graph: &Graph, request: &RouteRequest<'_>) -> Msat {
        let edge = |slot: &Slot| {
            let known = graph.edge(slot.edge).filter(|(_, policy)| !policy.disabled);
            known.map_or(0, |(channel, _)| channel.capacity_msat().0)
        };
        let sum = |amounts: &mut dyn Iterator<Item = u64>| amounts.fold(0, u64::saturating_add);
        let first = sum(&mut self.first.iter().chain(&self.direct).map(|hop| match &hop.channel {
            FirstHopChannel::Edge(slot) => edge(slot),
            FirstHopChannel::Local(index) => match request.source {
                Source::Local { channels, .. } => channels.get(*index).map_or(0, |channel| channel.available.0),
                Source::Graph(_) => 0,
            },
        }));
        let last = sum(&mut self.last.iter().map(|hop| match &hop.channel {
            LastHopChannel::Edge(slot) => edge(slot),
            LastHopChannel::Hint(_) => u64::MAX,
        }));
        // A direct channel of our own is not among the last hops, but may be the same channel in the graph.
        let direct = sum(&mut self.direct.iter().map(|hop| match &hop.channel {
            FirstHopChannel::Edge(slot) => edge(slot),
            FirstHopChannel::Local(_) => u64::MAX,
        }));
        Msat(first.min(last.saturating_add(direct)))
    }
}

/// Indices for all nodes of a request: those that the graph does not know get indices above the graph's.
struct Names<'a> {
    graph: &'a Graph,
    unknown: Vec<NodeId>,
}

impl Names<'_> {
    fn index(&mut self, id: NodeId) -> NodeIndex {
        if let Some(index) = self.graph.find_node(&id) {
            return index;
        }
        let at = self.unknown.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.unknown.push(id);
            self.unknown.len() - 1
        });
        NodeIndex((self.graph.node_bound() + at) as u32)
    }
}
