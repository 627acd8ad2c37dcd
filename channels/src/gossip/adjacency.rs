//! The edges of the graph as pathfinding walks them: all edges of a node side by side, 32 bytes each.
//!
//! ```text
//!   ranges    [node 0: start, len, capacity] [node 1: …] …
//!   outgoing  | edges from node 0 ‥ spare | edges from node 1 ‥ | …     what node charges to forward to peer
//!   incoming  | edges to node 0   ‥ spare | edges to node 1   ‥ | …     what peer charges to forward to node
//! ```
//!
//! A position names one channel in both arrays. A search that runs towards the payee reads `outgoing`
//! alone, one that runs from the payee reads `incoming` alone, and each relaxation touches one half cache line that
//! the processor has already fetched. Ranges have room to grow and move to the end when they are full.
//!
//! Numbers are `f32` here: good enough to find a route, which is then computed exactly from the [`RoutingPolicy`] of each
//! edge.

use super::graph::{ChannelIndex, Direction, NodeIndex, RoutingPolicy};
use crate::types::ShortChannelId;

/// A channel in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId(pub u32);

impl EdgeId {
    /// The edge of a channel in one direction.
    pub fn new(channel: ChannelIndex, direction: Direction) -> Self {
        Self((channel.0 << 1) | u32::from(direction == Direction::FromNode2))
    }

    /// Its channel.
    pub fn channel(self) -> ChannelIndex {
        ChannelIndex(self.0 >> 1)
    }

    /// The direction in which payments take it.
    pub fn direction(self) -> Direction {
        if self.0 & 1 == 0 { Direction::FromNode1 } else { Direction::FromNode2 }
    }
}

/// An edge as a search sees it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Slot {
    /// The node at the other end.
    pub peer: NodeIndex,
    /// The channel and its direction.
    pub edge: EdgeId,
    /// Base fee in millisatoshi.
    pub fee_base_msat: f32,
    /// Fee per millisatoshi forwarded.
    pub fee_rate: f32,
    /// 0 if the edge cannot be used: no policy is known, or it is disabled.
    pub htlc_maximum_msat: f32,
    /// The smallest HTLC in millisatoshi.
    pub htlc_minimum_msat: f32,
    /// The channel's capacity in millisatoshi.
    pub capacity_msat: f32,
    /// Blocks.
    pub cltv_expiry_delta: u16,
    /// [`tag`] of the channel.
    pub tag: u16,
}

impl Slot {
    fn unusable(peer: NodeIndex, edge: EdgeId, capacity_msat: f32, tag: u16) -> Self {
        Self {
            peer,
            edge,
            fee_base_msat: 0.0,
            fee_rate: 0.0,
            htlc_maximum_msat: 0.0,
            htlc_minimum_msat: 0.0,
            capacity_msat,
            cltv_expiry_delta: 0,
            tag,
        }
    }

    fn set_policy(&mut self, policy: Option<&RoutingPolicy>) {
        let usable = policy.filter(|policy| !policy.disabled && policy.htlc_minimum_msat <= policy.htlc_maximum_msat);
        self.htlc_maximum_msat = 0.0;
        if let Some(policy) = usable {
            self.fee_base_msat = policy.fee_base_msat as f32;
            self.fee_rate = policy.fee_proportional_millionths as f32 * 1e-6;
            self.htlc_maximum_msat = policy.htlc_maximum_msat.0 as f32;
            self.htlc_minimum_msat = policy.htlc_minimum_msat.0 as f32;
            self.cltv_expiry_delta = policy.cltv_expiry_delta;
        }
    }
}

/// Sixteen bits of a channel's id, well mixed. A scorer keeps one bit for each tag, and a search looks a channel up
/// only if its tag's bit is set: so most edges cost no lookup, and graph and scorer need not know of each other.
pub fn tag(id: ShortChannelId) -> u16 {
    (id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16
}

#[derive(Clone, Copy, Debug, Default)]
struct SlotRange {
    start: u32,
    len: u32,
    capacity: u32,
}

impl SlotRange {
    fn used(self) -> std::ops::Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// Where a channel lies at one of its nodes: a position within the node's range.
pub(super) type Position = u32;

#[derive(Clone, Debug, Default)]
pub(super) struct Adjacency {
    ranges: Vec<SlotRange>,
    outgoing: Vec<Slot>,
    incoming: Vec<Slot>,
}

impl Adjacency {
    pub(super) fn add_node(&mut self) {
        self.ranges.push(SlotRange::default());
    }

    fn range(&self, node: NodeIndex) -> SlotRange {
        self.ranges.get(node.0 as usize).copied().unwrap_or_default()
    }

    pub(super) fn outgoing(&self, node: NodeIndex) -> &[Slot] {
        self.outgoing.get(self.range(node).used()).unwrap_or_default()
    }

    pub(super) fn incoming(&self, node: NodeIndex) -> &[Slot] {
        self.incoming.get(self.range(node).used()).unwrap_or_default()
    }

    /// Adds a channel at `node`. `outgoing` is the edge from `node` to `peer`.
    pub(super) fn push(
        &mut self,
        node: NodeIndex,
        peer: NodeIndex,
        outgoing: EdgeId,
        capacity_msat: f32,
        tag: u16,
    ) -> Position {
        let mut range = self.range(node);
        if range.len == range.capacity {
            range = self.relocate(range);
        }
        let incoming = EdgeId(outgoing.0 ^ 1);
        let at = (range.start + range.len) as usize;
        if let (Some(out), Some(inc)) = (self.outgoing.get_mut(at), self.incoming.get_mut(at)) {
            *out = Slot::unusable(peer, outgoing, capacity_msat, tag);
            *inc = Slot::unusable(peer, incoming, capacity_msat, tag);
        }
        let position = range.len;
        range.len += 1;
        if let Some(stored) = self.ranges.get_mut(node.0 as usize) {
            *stored = range;
        }
        position
    }

    /// Moves a full range to the end, with twice the room.
    fn relocate(&mut self, range: SlotRange) -> SlotRange {
        let moved =
            SlotRange { start: self.outgoing.len() as u32, len: range.len, capacity: (range.capacity * 2).max(2) };
        for slots in [&mut self.outgoing, &mut self.incoming] {
            slots.extend_from_within(range.used());
            let filler = Slot::unusable(NodeIndex(0), EdgeId(0), 0.0, 0);
            slots.resize((moved.start + moved.capacity) as usize, filler);
        }
        moved
    }

    /// Takes a channel away from `node`. The last one takes its place: its outgoing edge, whose position changes.
    pub(super) fn remove(&mut self, node: NodeIndex, position: Position) -> Option<EdgeId> {
        let range = self.ranges.get_mut(node.0 as usize)?;
        let last = range.len.checked_sub(1)?;
        range.len = last;
        let (start, last) = (range.start as usize, last as usize);
        let at = position as usize;
        for slots in [&mut self.outgoing, &mut self.incoming] {
            if let Some(used) = slots.get_mut(start..=start + last)
                && at <= last
            {
                used.swap(at, last);
            }
        }
        (at < last).then(|| self.outgoing.get(start + at).map(|slot| slot.edge)).flatten()
    }

    /// The policy of the edge from `node` at `position`, to be told to both of its ends.
    pub(super) fn set_outgoing(&mut self, node: NodeIndex, position: Position, policy: Option<&RoutingPolicy>) {
        let at = (self.range(node).start + position) as usize;
        if let Some(slot) = self.outgoing.get_mut(at) {
            slot.set_policy(policy);
        }
    }

    pub(super) fn set_incoming(&mut self, node: NodeIndex, position: Position, policy: Option<&RoutingPolicy>) {
        let at = (self.range(node).start + position) as usize;
        if let Some(slot) = self.incoming.get_mut(at) {
            slot.set_policy(policy);
        }
    }
}
