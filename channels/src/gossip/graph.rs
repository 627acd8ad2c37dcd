//! The network as this node knows it: nodes, channels, and what each direction of a channel charges.
//!
//! ```text
//!   NodeId ──► NodeIndex ──► edges side by side (adjacency.rs)
//!   ShortChannelId ──► ChannelIndex ──► Channel { nodes, capacity, policy of each direction }
//! ```
//!
//! Nodes and channels have small indices, so that a search works on arrays. An index is valid until its node or
//! channel is removed; the index may then be used again. Everything here has been validated before it is put in
//! (`validate.rs`); the signed messages themselves are not kept in memory but in the store, from which the graph is
//! filled at start ([`Graph::load`](super::store)).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bitcoin::Amount;

use super::adjacency::{Adjacency, EdgeId, Position, Slot, tag};
use crate::types::{Height, Msat, NodeId, ShortChannelId};

/// The index of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub u32);

/// The index of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelIndex(pub u32);

/// One of a channel's two directions, as in `channel_flags` (BOLT 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the node with the lesser key: bit 0 is clear.
    FromNode1,
    /// From the node with the greater key: bit 0 is set.
    FromNode2,
}

impl Direction {
    /// The other direction.
    pub fn opposite(self) -> Self {
        match self {
            Self::FromNode1 => Self::FromNode2,
            Self::FromNode2 => Self::FromNode1,
        }
    }
}

/// What a node charges and takes in one direction of a channel: its latest `channel_update`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoutingPolicy {
    /// Of the update, in seconds since 1970.
    pub timestamp: u32,
    /// CRC32C of the update without signature and timestamp (BOLT 7, extended queries).
    pub checksum: u32,
    /// Nothing can be sent this way now.
    pub disabled: bool,
    /// Blocks.
    pub cltv_expiry_delta: u16,
    /// The smallest HTLC.
    pub htlc_minimum_msat: Msat,
    /// The largest HTLC.
    pub htlc_maximum_msat: Msat,
    /// What each HTLC pays, in millisatoshi.
    pub fee_base_msat: u32,
    /// What each HTLC pays beside that, in millionths of its amount.
    pub fee_proportional_millionths: u32,
}

impl RoutingPolicy {
    /// What the node wants for forwarding `amount` (BOLT 7, HTLC Fees). `None` beyond 2^64 - 1 msat.
    pub fn fee(&self, amount: Msat) -> Option<Msat> {
        let proportional = u128::from(amount.0) * u128::from(self.fee_proportional_millionths) / 1_000_000;
        u64::try_from(proportional).ok()?.checked_add(u64::from(self.fee_base_msat)).map(Msat)
    }
}

/// A pair of values, one a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerDirection<T> {
    /// Of [`Direction::FromNode1`].
    pub from_node_1: T,
    /// Of [`Direction::FromNode2`].
    pub from_node_2: T,
}

impl<T> PerDirection<T> {
    /// The value of one direction.
    pub fn get(&self, direction: Direction) -> &T {
        match direction {
            Direction::FromNode1 => &self.from_node_1,
            Direction::FromNode2 => &self.from_node_2,
        }
    }

    /// The value of one direction, to be changed.
    pub fn get_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::FromNode1 => &mut self.from_node_1,
            Direction::FromNode2 => &mut self.from_node_2,
        }
    }
}

/// A channel to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewChannel {
    /// Where its funding output is in the chain.
    pub short_channel_id: ShortChannelId,
    /// The lesser key of the two.
    pub node_id_1: NodeId,
    /// The greater key of the two.
    pub node_id_2: NodeId,
    /// What the funding output is worth.
    pub capacity: Amount,
    /// Whether its features are all understood; others are relayed and not used.
    pub routable: bool,
}

impl NewChannel {
    /// The capacity in the unit of HTLCs.
    pub fn capacity_msat(&self) -> Msat {
        Msat::from_sat(self.capacity).unwrap_or(Msat(u64::MAX))
    }
}

/// A channel of the graph.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Where its funding output is in the chain.
    pub short_channel_id: ShortChannelId,
    /// The node with the lesser key.
    pub node_1: NodeIndex,
    /// The node with the greater key.
    pub node_2: NodeIndex,
    /// What the funding output is worth.
    pub capacity: Amount,
    /// Whether payments may be routed over it.
    pub routable: bool,
    /// The latest updates; `None` until one came.
    pub policies: PerDirection<Option<RoutingPolicy>>,
    /// The height at which the funding output was seen spent.
    pub spent_at: Option<Height>,
    /// Where the channel lies at node 1 and node 2.
    position_1: Position,
    position_2: Position,
}

impl Channel {
    /// The nodes at the start and the end of a direction.
    pub fn ends(&self, direction: Direction) -> (NodeIndex, NodeIndex) {
        match direction {
            Direction::FromNode1 => (self.node_1, self.node_2),
            Direction::FromNode2 => (self.node_2, self.node_1),
        }
    }

    /// The capacity in the unit of HTLCs.
    pub fn capacity_msat(&self) -> Msat {
        Msat::from_sat(self.capacity).unwrap_or(Msat(u64::MAX))
    }
}

/// What a node said about itself: its latest `node_announcement`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Of the announcement, in seconds since 1970.
    pub timestamp: u32,
    /// What it calls itself: UTF-8, filled up with zeros; may be nonsense.
    pub alias: [u8; 32],
    /// How maps of the network may paint it.
    pub rgb_color: [u8; 3],
    /// What it offers.
    pub features: crate::wire::Features,
    /// Address descriptors.
    pub addresses: Vec<u8>,
}

/// A node of the graph: one with at least one channel.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its key.
    pub id: NodeId,
    /// Its latest announcement; `None` until one came.
    pub info: Option<Arc<NodeInfo>>,
    /// Whether payments may pass through it: its features are all understood.
    pub routable: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Option<Node>>,
    free_nodes: Vec<NodeIndex>,
    node_index: HashMap<NodeId, NodeIndex>,
    channels: Vec<Option<Channel>>,
    free_channels: Vec<ChannelIndex>,
    channel_index: BTreeMap<ShortChannelId, ChannelIndex>,
    adjacency: Adjacency,
}

impl Graph {
    /// No channel and no node.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many nodes have channels.
    pub fn node_count(&self) -> usize {
        self.node_index.len()
    }

    /// How many channels are known.
    pub fn channel_count(&self) -> usize {
        self.channel_index.len()
    }

    /// One more than the largest node index in use: the length of an array over all nodes.
    pub fn node_bound(&self) -> usize {
        self.nodes.len()
    }

    /// The index of a node with channels, by its key.
    pub fn find_node(&self, id: &NodeId) -> Option<NodeIndex> {
        self.node_index.get(id).copied()
    }

    /// A node by its index; `None` if it has gone.
    pub fn node(&self, index: NodeIndex) -> Option<&Node> {
        self.nodes.get(index.0 as usize)?.as_ref()
    }

    /// What a node says of itself.
    pub fn info_of(&self, id: &NodeId) -> Option<&NodeInfo> {
        self.node(self.find_node(id)?)?.info.as_deref()
    }

    /// The index of a channel, by its place in the chain.
    pub fn find_channel(&self, id: ShortChannelId) -> Option<ChannelIndex> {
        self.channel_index.get(&id).copied()
    }

    /// A channel by its index; `None` if it was removed.
    pub fn channel(&self, index: ChannelIndex) -> Option<&Channel> {
        self.channels.get(index.0 as usize)?.as_ref()
    }

    /// A channel by its place in the chain.
    pub fn channel_by_id(&self, id: ShortChannelId) -> Option<&Channel> {
        self.channel(self.find_channel(id)?)
    }

    /// The policy of an edge, its channel along with it.
    pub fn edge(&self, edge: EdgeId) -> Option<(&Channel, &RoutingPolicy)> {
        let channel = self.channel(edge.channel())?;
        Some((channel, channel.policies.get(edge.direction()).as_ref()?))
    }

    /// All nodes, in no order that means anything.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        self.nodes_from(NodeIndex(0))
    }

    /// The nodes from an index on.
    pub fn nodes_from(&self, first: NodeIndex) -> impl Iterator<Item = (NodeIndex, &Node)> {
        let numbered = (0..).zip(&self.nodes).skip(first.0 as usize);
        numbered.filter_map(|(index, node)| Some((NodeIndex(index), node.as_ref()?)))
    }

    /// All channels, in the order of their ids.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channel_index.values().filter_map(|index| self.channel(*index))
    }

    /// The channels whose funding transactions are in the blocks from `first` to before `end`, in the order of
    /// their ids.
    pub fn channels_in_blocks(&self, first: Height, end: Height) -> impl Iterator<Item = &Channel> {
        let limit = |height: Height| ShortChannelId(u64::from(height.0.min(0x100_0000)) << 40);
        // Heights above 24 bits have no ids; the upper limit saturates at the last id there is.
        let (first, end) = (limit(first), if end.0 > 0xff_ffff { ShortChannelId(u64::MAX) } else { limit(end) });
        let range = if first < end { Some(self.channel_index.range(first..end)) } else { None };
        range.into_iter().flatten().filter_map(|(_, index)| self.channel(*index))
    }

    /// The channels from an id on, in the order of their ids.
    pub fn channels_from(&self, first: ShortChannelId) -> impl Iterator<Item = &Channel> {
        self.channel_index.range(first..).filter_map(|(_, index)| self.channel(*index))
    }

    /// The channels from one node to another, in that direction.
    pub fn channels_between(&self, from: &NodeId, to: &NodeId) -> impl Iterator<Item = (&Channel, Direction)> {
        let ends = self.find_node(from).zip(self.find_node(to));
        ends.into_iter().flat_map(|(from, to)| {
            self.channels_of(from).filter(move |(channel, direction)| channel.ends(*direction).1 == to)
        })
    }

    /// The channels of a node, with the direction that leads away from it.
    pub fn channels_of(&self, node: NodeIndex) -> impl Iterator<Item = (&Channel, Direction)> {
        self.outgoing(node).iter().filter_map(|slot| Some((self.channel(slot.edge.channel())?, slot.edge.direction())))
    }

    /// The edges that lead away from a node.
    pub fn outgoing(&self, node: NodeIndex) -> &[Slot] {
        self.adjacency.outgoing(node)
    }

    /// The edges that lead to a node.
    pub fn incoming(&self, node: NodeIndex) -> &[Slot] {
        self.adjacency.incoming(node)
    }

    /// An edge as a search sees it.
    pub fn slot(&self, edge: EdgeId) -> Option<Slot> {
        let channel = self.channel(edge.channel())?;
        let (node, position) = match edge.direction() {
            Direction::FromNode1 => (channel.node_1, channel.position_1),
            Direction::FromNode2 => (channel.node_2, channel.position_2),
        };
        self.outgoing(node).get(position as usize).copied()
    }

    fn node_or_new(&mut self, id: NodeId) -> NodeIndex {
        if let Some(index) = self.node_index.get(&id) {
            return *index;
        }
        let node = Some(Node { id, info: None, routable: true });
        let index = match self.free_nodes.pop() {
            Some(index) => {
                if let Some(place) = self.nodes.get_mut(index.0 as usize) {
                    *place = node;
                }
                index
            }
            None => {
                self.nodes.push(node);
                self.adjacency.add_node();
                NodeIndex((self.nodes.len() - 1) as u32)
            }
        };
        self.node_index.insert(id, index);
        index
    }

    /// Adds a channel and the nodes that it brings along. `None` if the channel is known, or one of its nodes is
    /// the other.
    pub fn add_channel(&mut self, new: NewChannel) -> Option<ChannelIndex> {
        if new.node_id_1 == new.node_id_2 || self.channel_index.contains_key(&new.short_channel_id) {
            return None;
        }
        let (node_1, node_2) = (self.node_or_new(new.node_id_1), self.node_or_new(new.node_id_2));
        let index = self.free_channels.pop().unwrap_or_else(|| {
            self.channels.push(None);
            ChannelIndex((self.channels.len() - 1) as u32)
        });
        let capacity_msat = new.capacity.to_sat() as f32 * 1000.0;
        let tag = tag(new.short_channel_id);
        let mut at =
            |node, peer, direction| self.adjacency.push(node, peer, EdgeId::new(index, direction), capacity_msat, tag);
        let position_1 = at(node_1, node_2, Direction::FromNode1);
        let position_2 = at(node_2, node_1, Direction::FromNode2);
        let channel = Channel {
            short_channel_id: new.short_channel_id,
            node_1,
            node_2,
            capacity: new.capacity,
            routable: new.routable,
            policies: PerDirection::default(),
            spent_at: None,
            position_1,
            position_2,
        };
        if let Some(place) = self.channels.get_mut(index.0 as usize) {
            *place = Some(channel);
        }
        self.channel_index.insert(new.short_channel_id, index);
        Some(index)
    }

    /// Sets or forgets the policy of one direction. `None` if the channel is unknown.
    pub fn set_policy(
        &mut self,
        id: ShortChannelId,
        direction: Direction,
        policy: Option<RoutingPolicy>,
    ) -> Option<()> {
        let index = self.find_channel(id)?;
        let channel = self.channels.get_mut(index.0 as usize)?.as_mut()?;
        *channel.policies.get_mut(direction) = policy;
        self.refresh(index, direction);
        Some(())
    }

    /// Tells the search what it may use in one direction.
    fn refresh(&mut self, index: ChannelIndex, direction: Direction) {
        let Some(Some(channel)) = self.channels.get(index.0 as usize) else { return };
        let usable = channel.routable && channel.spent_at.is_none();
        let policy = channel.policies.get(direction).as_ref().filter(|_| usable);
        let ((from, at_from), (to, at_to)) = match direction {
            Direction::FromNode1 => ((channel.node_1, channel.position_1), (channel.node_2, channel.position_2)),
            Direction::FromNode2 => ((channel.node_2, channel.position_2), (channel.node_1, channel.position_1)),
        };
        self.adjacency.set_outgoing(from, at_from, policy);
        self.adjacency.set_incoming(to, at_to, policy);
    }

    /// Marks a channel's funding output as spent at a height, or unspent again by a reorganisation. A spent channel
    /// is not used any more, but stays known until it is removed.
    pub fn set_spent(&mut self, id: ShortChannelId, spent_at: Option<Height>) -> Option<()> {
        let index = self.find_channel(id)?;
        self.channels.get_mut(index.0 as usize)?.as_mut()?.spent_at = spent_at;
        self.refresh(index, Direction::FromNode1);
        self.refresh(index, Direction::FromNode2);
        Some(())
    }

    /// Sets what a node says about itself. `None` if the node has no channel.
    pub fn set_node_info(&mut self, id: &NodeId, info: NodeInfo) -> Option<()> {
        let index = self.find_node(id)?;
        let node = self.nodes.get_mut(index.0 as usize)?.as_mut()?;
        node.routable = info.features.check_required().is_ok();
        node.info = Some(Arc::new(info));
        Some(())
    }

    /// Forgets a channel, and its nodes if this was their last one; the nodes that went.
    pub fn remove_channel(&mut self, id: ShortChannelId) -> Option<Removed> {
        let index = self.channel_index.remove(&id)?;
        let channel = self.channels.get_mut(index.0 as usize)?.take()?;
        self.free_channels.push(index);
        let mut nodes = Vec::new();
        for (node, position) in [(channel.node_1, channel.position_1), (channel.node_2, channel.position_2)] {
            if let Some(moved) = self.adjacency.remove(node, position)
                && let Some(Some(other)) = self.channels.get_mut(moved.channel().0 as usize)
            {
                match moved.direction() {
                    Direction::FromNode1 => other.position_1 = position,
                    Direction::FromNode2 => other.position_2 = position,
                }
            }
            if self.adjacency.outgoing(node).is_empty()
                && let Some(gone) = self.nodes.get_mut(node.0 as usize).and_then(Option::take)
            {
                self.node_index.remove(&gone.id);
                self.free_nodes.push(node);
                nodes.push(gone.id);
            }
        }
        Some(Removed { channel, nodes })
    }
}

/// What [`Graph::remove_channel`] took away.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The channel that was removed.
    pub channel: Channel,
    /// Nodes that have no channel any more.
    pub nodes: Vec<NodeId>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId([byte; 33])
    }

    fn channel(id: u64, a: u8, b: u8) -> NewChannel {
        NewChannel {
            short_channel_id: ShortChannelId(id),
            node_id_1: node(a),
            node_id_2: node(b),
            capacity: Amount::from_sat(1000 + id),
            routable: true,
        }
    }

    fn policy(base: u32) -> RoutingPolicy {
        RoutingPolicy {
            timestamp: 1,
            checksum: 0,
            disabled: false,
            cltv_expiry_delta: 40,
            htlc_minimum_msat: Msat(1),
            htlc_maximum_msat: Msat(900),
            fee_base_msat: base,
            fee_proportional_millionths: 0,
        }
    }

    /// The graph as sets, read through the edge arrays and through the channels.
    fn check(graph: &Graph) {
        let mut from_edges = BTreeSet::new();
        for (index, _) in graph.nodes() {
            let (outgoing, incoming) = (graph.outgoing(index), graph.incoming(index));
            assert_eq!(outgoing.len(), incoming.len());
            assert!(!outgoing.is_empty());
            for (out, inc) in outgoing.iter().zip(incoming) {
                assert_eq!(out.edge.0 ^ 1, inc.edge.0);
                for (slot, leaves) in [(out, true), (inc, false)] {
                    let channel = graph.channel(slot.edge.channel()).unwrap();
                    let ends = channel.ends(slot.edge.direction());
                    assert_eq!(ends, if leaves { (index, slot.peer) } else { (slot.peer, index) });
                    let policy = channel.policies.get(slot.edge.direction());
                    let usable = policy.filter(|_| channel.spent_at.is_none());
                    assert_eq!(slot.htlc_maximum_msat, usable.map_or(0.0, |policy| policy.htlc_maximum_msat.0 as f32));
                    if let Some(policy) = usable {
                        assert_eq!(slot.fee_base_msat, policy.fee_base_msat as f32);
                    }
                    from_edges.insert((channel.short_channel_id, leaves, index));
                }
            }
        }
        assert_eq!(from_edges.len(), graph.channel_count() * 4);
    }

    proptest! {
        #[test]
        fn edges_follow_the_channels_through_any_changes(
            steps in proptest::collection::vec((0u8..4, 0u64..30, 0u8..8, 0u8..8), 1..200),
        ) {
            let mut graph = Graph::new();
            for (kind, id, a, b) in steps {
                match kind {
                    0 => {
                        graph.add_channel(channel(id, a, b));
                    }
                    1 => {
                        graph.remove_channel(ShortChannelId(id));
                    }
                    2 => {
                        let direction = if a % 2 == 0 { Direction::FromNode1 } else { Direction::FromNode2 };
                        graph.set_policy(ShortChannelId(id), direction, Some(policy(u32::from(b))));
                    }
                    _ => {
                        graph.set_spent(ShortChannelId(id), (a % 2 == 0).then_some(Height(5)));
                    }
                }
                check(&graph);
            }
        }
    }

    #[test]
    fn a_node_goes_with_its_last_channel() {
        let mut graph = Graph::new();
        graph.add_channel(channel(1, 1, 2)).unwrap();
        graph.add_channel(channel(2, 2, 3)).unwrap();
        assert_eq!(graph.add_channel(channel(2, 1, 3)), None);
        assert_eq!(graph.add_channel(channel(9, 3, 3)), None);
        assert_eq!(graph.remove_channel(ShortChannelId(1)).unwrap().nodes, [node(1)]);
        assert_eq!((graph.node_count(), graph.channel_count()), (2, 1));
        assert_eq!(graph.find_node(&node(1)), None);
    }

    #[test]
    fn channels_are_found_by_their_blocks() {
        let mut graph = Graph::new();
        let ids =
            [ShortChannelId::new(Height(5), 1, 0), ShortChannelId::new(Height(6), 0, 0), ShortChannelId(u64::MAX - 1)];
        for (index, id) in ids.iter().enumerate() {
            graph.add_channel(NewChannel { short_channel_id: *id, ..channel(0, 1, 2 + index as u8) }).unwrap();
        }
        let found = |first, end| {
            graph.channels_in_blocks(Height(first), Height(end)).map(|c| c.short_channel_id).collect::<Vec<_>>()
        };
        assert_eq!(found(0, 6), ids[..1]);
        assert_eq!(found(5, 7), ids[..2]);
        assert_eq!(found(6, 6), []);
        assert_eq!(found(7, 6), []);
        assert_eq!(found(0, u32::MAX), ids);
    }

    #[test]
    fn a_fee_is_rounded_down_and_never_overflows() {
        let policy = RoutingPolicy { fee_base_msat: 10, fee_proportional_millionths: 1, ..policy(0) };
        assert_eq!(policy.fee(Msat(1_999_999)), Some(Msat(11)));
        let dear = RoutingPolicy { fee_proportional_millionths: u32::MAX, ..policy };
        assert_eq!(dear.fee(Msat(u64::MAX)), None);
    }
}
