//! Announcements on their way into the graph.
//!
//! ```text
//!   channel_announcement ─► cheap checks ─► Verify ─► CheckFunding ─► graph, store, relay
//!                                            (any thread)  (our chain)        │
//!   channel_update    ─► channel known? ─────────────► Verify ─► allowance ─► graph, store, relay
//!                          └ on its way: kept until the channel is there ─────┘
//!   node_announcement ─► node known? ────────────────► Verify ─► allowance ─► graph, store, relay
//! ```
//!
//! Promises: nothing reaches the graph without its signatures checked and, for channels, its funding output found
//! unspent on our chain with six confirmations; nothing older replaces anything newer; a channel takes no more than
//! a few updates an hour from its owner, and a node no more announcements, and only what they signed counts for that;
//! what waits is bounded for each sender ([`waiting`](super::waiting)), and who forges is not heard any more. Channels
//! leave 72 blocks after their funding output was spent (a splice may re-announce them) or reorganised out, at once when
//! it is found at another place, or when either end has been silent for two weeks of the chain's time.

use bitcoin::constants::ChainHash;
use bitcoin::{Amount, ScriptBuf};

use super::bans::ForgeryCounts;
use super::bucket::Allowances;
use super::graph::{Direction, Graph, RoutingPolicy};
use super::limits::{
    ANNOUNCEMENT_BYTES, NODES, REPEAT_SECONDS, Refusal, Refusals, SETTLED_BLOCKS, STALE_BLOCKS, UPDATES,
};
use super::store::{GossipKey, channel_record, direction_of, keys_of_channel, new_channel, node_info_of, policy_of};
use super::time::Clocks;
use super::validate::{Announcement, Forged, SignatureCheck, Verified, funding_script};
use super::waiting::{AcceptedAnnouncement, PendingAnnouncements, Raw, Stage};
use crate::types::{Height, NodeId, ShortChannelId};
use crate::wire::{ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};

/// What the driver is to do.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum GossipEffect {
    /// Run this on any thread and hand the outcome to [`Intake::verified`].
    Verify(SignatureCheck),
    /// Look the funding output up and answer with [`Intake::funding_checked`].
    CheckFunding {
        short_channel_id: ShortChannelId,
        /// Who announced it.
        from: Option<NodeId>,
        script_pubkey: ScriptBuf,
    },
    /// Store the message under its key, in place of an older one.
    Put { key: GossipKey, value: Vec<u8> },
    /// Remove the stored message.
    Delete { key: GossipKey },
    /// New for the network: to be queued for the other peers.
    Relay { key: GossipKey, timestamp: u32, from: Option<NodeId> },
    /// The peer sent something that no honest node sends; a `warning` is due.
    Warn { peer: NodeId, text: String },
    /// A stranger forges: hang up, and refuse it for a while.
    HangUp { peer: NodeId },
    /// A peer with a channel forges: the channel goes on, and its gossip is not heard for a while.
    Mute { peer: NodeId },
}

/// Why a message was not taken. Most are no one's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum Ignored {
    #[error("it is about another chain")]
    OtherChain,
    #[error("it is known already, or something newer is")]
    Known,
    #[error("its channel is not known")]
    UnknownChannel,
    #[error("its node has no known channel")]
    UnknownNode,
    #[error("its node ids are not in order")]
    NodeOrder,
    #[error("its time lies too far in the future")]
    FromTheFuture,
    #[error("it is older than two weeks")]
    Stale,
    #[error("its owner updates too often")]
    TooOften,
    #[error("its limits contradict each other or the channel's capacity")]
    Limits,
    #[error("too much of its sender, or of all strangers, is waiting already")]
    Busy,
    #[error("its channel's funding output is spent")]
    Spent,
    #[error("it is longer than anything that is defined")]
    TooLong,
}

/// What the chain says about a funding output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FundingAnswer {
    /// Unspent, with the script that was asked for.
    Unspent(Amount),
    /// There, but not with the script that was asked for; or there is no such output.
    Mismatch,
    /// A block holds a spend of it.
    Spent,
}

/// Blocks on top of a funding transaction, itself included, before its channel may be announced.
const CONFIRMATIONS: u32 = 6;
/// Blocks from a spent funding output to forgetting the channel.
const FORGET_BLOCKS: u32 = 72;

/// The height at which a channel has its confirmations.
fn deep_enough(id: ShortChannelId) -> Height {
    Height(id.block().0.saturating_add(CONFIRMATIONS - 1))
}

/// See the module.
pub struct Intake {
    chain: ChainHash,
    /// This node: its own channels are never pruned.
    local: NodeId,
    graph: Graph,
    height: Height,
    pending: PendingAnnouncements,
    /// What owners may still say.
    updates: Allowances<(ShortChannelId, Direction)>,
    nodes: Allowances<NodeId>,
    forgeries: ForgeryCounts,
    refusals: Refusals,
}

impl Intake {
    /// The intake of the node `local` over a graph that was loaded, with the chain at `height`.
    pub fn new(chain: ChainHash, local: NodeId, graph: Graph, height: Height) -> Self {
        Self {
            chain,
            local,
            graph,
            height,
            pending: PendingAnnouncements::default(),
            updates: Allowances::new(UPDATES),
            nodes: Allowances::new(NODES),
            forgeries: ForgeryCounts::default(),
            refusals: Refusals::default(),
        }
    }

    /// The network as it is known.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The height of our tip.
    pub fn height(&self) -> Height {
        self.height
    }

    /// The chain whose channels are taken in; those of others are ignored.
    pub fn chain(&self) -> ChainHash {
        self.chain
    }

    /// What was refused here since the start.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Bytes that wait to be believed.
    pub fn waiting_bytes(&self) -> usize {
        self.pending.bytes()
    }

    /// Bytes of all strangers' announcements that wait.
    pub fn strangers_bytes(&self) -> usize {
        self.pending.strangers_bytes()
    }

    /// Whether a channel is known, or lacks nothing but confirmations.
    pub fn has_channel(&self, id: ShortChannelId) -> bool {
        self.graph.find_channel(id).is_some() || self.pending.is_coming(id)
    }

    /// A peer has a channel with us whose funding output is on the chain, or none any more.
    pub fn set_channel_peer(&mut self, peer: NodeId, has_channel: bool) {
        self.pending.set_channel_peer(peer, has_channel);
    }

    /// Whether we have a channel with this peer.
    pub fn is_channel_peer(&self, peer: &NodeId) -> bool {
        self.pending.is_channel_peer(peer)
    }

    /// What a peer said and nothing confirms goes with it.
    pub fn disconnected(&mut self, peer: NodeId) {
        self.pending.disconnected(peer);
    }

    /// How many public channels of others are known.
    pub fn others_channels(&self) -> usize {
        let local = self.graph.find_node(&self.local);
        let others = self.graph.channels().filter(|channel| {
            channel.spent_at.is_none() && local.is_none_or(|local| channel.node_1 != local && channel.node_2 != local)
        });
        others.count()
    }

    fn refuse(&mut self, reason: Ignored) -> Ignored {
        match reason {
            Ignored::TooOften => self.refusals.count(Refusal::TooOften),
            Ignored::Busy => self.refusals.count(Refusal::RoomFull),
            Ignored::TooLong => self.refusals.count(Refusal::TooLong),
            Ignored::OtherChain
            | Ignored::Known
            | Ignored::UnknownChannel
            | Ignored::UnknownNode
            | Ignored::NodeOrder
            | Ignored::FromTheFuture
            | Ignored::Stale
            | Ignored::Limits
            | Ignored::Spent => {}
        }
        reason
    }

    /// A `channel_announcement`; `raw` is its encoded form, `from` the peer, `None` if it is our own.
    pub fn channel_announcement(
        &mut self,
        announcement: Box<ChannelAnnouncement>,
        raw: Vec<u8>,
        from: Option<NodeId>,
    ) -> Result<Vec<GossipEffect>, Ignored> {
        let id = announcement.short_channel_id;
        if announcement.chain_hash != self.chain {
            return Err(Ignored::OtherChain);
        }
        if announcement.node_id_1 >= announcement.node_id_2 {
            return Err(Ignored::NodeOrder);
        }
        check_length(&raw, from).map_err(|reason| self.refuse(reason))?;
        if self.graph.find_channel(id).is_some() || self.pending.has_candidate(id, from) {
            return Err(Ignored::Known);
        }
        if from.is_some() && self.pending.is_coming(id) {
            return Err(Ignored::Known);
        }
        // A block or two may separate us from the sender; anything more is not honest.
        if deep_enough(id).0.saturating_sub(self.height.0) > CONFIRMATIONS {
            return Err(Ignored::FromTheFuture);
        }
        let check = SignatureCheck::named(Announcement::Channel(announcement.clone()), raw.clone(), from);
        let waiting = self.pending.insert(Raw { message: announcement, raw, from });
        waiting.map_err(|_| self.refuse(Ignored::Busy))?;
        Ok(vec![GossipEffect::Verify(check)])
    }

    /// A `channel_update`. Updates of channels that are not announced are for the channel itself, not for this.
    pub fn channel_update(
        &mut self,
        update: ChannelUpdate,
        raw: Vec<u8>,
        from: Option<NodeId>,
        clocks: &Clocks,
    ) -> Result<Vec<GossipEffect>, Ignored> {
        let (id, direction) = (update.short_channel_id, direction_of(&update));
        self.check_update(&update, clocks)?;
        check_length(&raw, from).map_err(|reason| self.refuse(reason))?;
        if self.graph.find_channel(id).is_none() && self.pending.awaits(id) {
            let waits = self.pending.insert_update(direction, Raw { message: update, raw, from });
            let is_new = waits.map_err(|_| self.refuse(Ignored::Busy))?;
            return if is_new { Ok(Vec::new()) } else { Err(Ignored::Known) };
        }
        let node = self.fresh(&update, &raw, clocks)?;
        if from.is_some() && !self.updates.has_left(&(id, direction), clocks.uptime) {
            return Err(self.refuse(Ignored::TooOften));
        }
        Ok(vec![GossipEffect::Verify(SignatureCheck::by(Announcement::Update(update), raw, from, node))])
    }

    fn check_update(&self, update: &ChannelUpdate, clocks: &Clocks) -> Result<(), Ignored> {
        if update.chain_hash != self.chain {
            return Err(Ignored::OtherChain);
        }
        if !clocks.tolerates(update.timestamp) {
            return Err(Ignored::FromTheFuture);
        }
        if clocks.is_stale(update.timestamp) {
            return Err(Ignored::Stale);
        }
        if update.htlc_maximum_msat < update.htlc_minimum_msat {
            return Err(Ignored::Limits);
        }
        Ok(())
    }

    /// Whether an update says something new about a channel of the graph; the node that has to have signed it.
    fn fresh(&self, update: &ChannelUpdate, raw: &[u8], clocks: &Clocks) -> Result<NodeId, Ignored> {
        let channel = self.graph.channel_by_id(update.short_channel_id).ok_or(Ignored::UnknownChannel)?;
        if channel.spent_at.is_some() && !update.is_disabled() {
            return Err(Ignored::Spent);
        }
        if update.htlc_maximum_msat > channel.capacity_msat() {
            return Err(Ignored::Limits);
        }
        let direction = direction_of(update);
        let known = channel.policies.get(direction).as_ref();
        if let Some(known) = known.filter(|known| clocks.tolerates(known.timestamp)) {
            let repeats = super::checksum::update_checksum(raw) == known.checksum;
            let newer_by = update.timestamp.saturating_sub(known.timestamp);
            if newer_by == 0 || (repeats && newer_by < REPEAT_SECONDS) {
                return Err(Ignored::Known);
            }
        }
        let node = self.graph.node(channel.ends(direction).0).ok_or(Ignored::UnknownNode)?;
        Ok(node.id)
    }

    /// A `node_announcement`.
    pub fn node_announcement(
        &mut self,
        announcement: Box<NodeAnnouncement>,
        raw: Vec<u8>,
        from: Option<NodeId>,
        clocks: &Clocks,
    ) -> Result<Vec<GossipEffect>, Ignored> {
        let id = announcement.node_id;
        if !clocks.tolerates(announcement.timestamp) {
            return Err(Ignored::FromTheFuture);
        }
        check_length(&raw, from).map_err(|reason| self.refuse(reason))?;
        if self.graph.find_node(&id).is_none() {
            // Its first channel may be on its way.
            if !self.pending.awaits_node(&id) {
                return Err(Ignored::UnknownNode);
            }
            let waits = self.pending.insert_node(Raw { message: announcement, raw, from });
            let is_new = waits.map_err(|_| self.refuse(Ignored::Busy))?;
            return if is_new { Ok(Vec::new()) } else { Err(Ignored::Known) };
        }
        if !self.is_new_of_node(&announcement, clocks) {
            return Err(Ignored::Known);
        }
        if from.is_some() && !self.nodes.has_left(&id, clocks.uptime) {
            return Err(self.refuse(Ignored::TooOften));
        }
        Ok(vec![GossipEffect::Verify(SignatureCheck::named(Announcement::Node(announcement), raw, from))])
    }

    fn is_new_of_node(&self, announcement: &NodeAnnouncement, clocks: &Clocks) -> bool {
        let Some(node) = self.graph.find_node(&announcement.node_id).and_then(|index| self.graph.node(index)) else {
            return false;
        };
        let known = node.info.as_ref().filter(|known| clocks.tolerates(known.timestamp));
        known.is_none_or(|known| {
            let mut info = node_info_of(announcement);
            let newer_by = info.timestamp.saturating_sub(known.timestamp);
            info.timestamp = known.timestamp;
            newer_by > 0 && (newer_by >= REPEAT_SECONDS || info != **known)
        })
    }

    /// The outcome of a [`GossipEffect::Verify`].
    pub fn verified(&mut self, outcome: Result<Verified, Box<Forged>>, clocks: &Clocks) -> Vec<GossipEffect> {
        match outcome {
            Ok(verified) => self.accept(verified, clocks),
            Err(forged) => {
                let text = match &forged.announcement {
                    Announcement::Channel(channel) => {
                        self.pending.refute(channel.short_channel_id, forged.from);
                        format!("invalid signature in the announcement of channel {}", channel.short_channel_id)
                    }
                    Announcement::Update(update) => {
                        format!("invalid signature in the update of channel {}", update.short_channel_id)
                    }
                    Announcement::Node(node) => {
                        format!("invalid signature in the announcement of node {}", node.node_id)
                    }
                };
                self.forged(forged.from, text, clocks)
            }
        }
    }

    /// No honest node sends this.
    fn forged(&mut self, from: Option<NodeId>, text: String, clocks: &Clocks) -> Vec<GossipEffect> {
        let Some(peer) = from else { return Vec::new() };
        self.refusals.count(Refusal::Forged);
        let mut effects = vec![GossipEffect::Warn { peer, text }];
        if self.forgeries.forged(peer, clocks.uptime) {
            effects.push(match self.pending.is_channel_peer(&peer) {
                true => GossipEffect::Mute { peer },
                false => GossipEffect::HangUp { peer },
            });
        }
        effects
    }

    fn accept(&mut self, verified: Verified, clocks: &Clocks) -> Vec<GossipEffect> {
        let Verified { announcement, raw, from } = verified;
        match announcement {
            Announcement::Channel(channel) => {
                let id = channel.short_channel_id;
                if self.pending.stage(id, from) != Some(Stage::Checking) {
                    return Vec::new();
                }
                if id.block() > self.height {
                    self.pending.set_stage(id, from, Stage::Ahead(id.block()));
                    return Vec::new();
                }
                self.check_funding(id, from).into_iter().collect()
            }
            Announcement::Update(update) => self.accept_update(&update, raw, from, clocks),
            Announcement::Node(node) => self.accept_node(&node, raw, from, clocks),
        }
    }

    fn check_funding(&mut self, id: ShortChannelId, from: Option<NodeId>) -> Option<GossipEffect> {
        let announcement = self.pending.set_stage(id, from, Stage::Funding)?;
        let Some(script_pubkey) = funding_script(announcement) else {
            self.pending.refute(id, from);
            return None;
        };
        Some(GossipEffect::CheckFunding { short_channel_id: id, from, script_pubkey })
    }

    fn accept_update(
        &mut self,
        update: &ChannelUpdate,
        raw: Vec<u8>,
        from: Option<NodeId>,
        clocks: &Clocks,
    ) -> Vec<GossipEffect> {
        // Something newer may have come while the signature was checked.
        if self.fresh(update, &raw, clocks).is_err() {
            return Vec::new();
        }
        let (id, direction) = (update.short_channel_id, direction_of(update));
        if from.is_some() && !self.updates.spend((id, direction), clocks.uptime) {
            self.refuse(Ignored::TooOften);
            return Vec::new();
        }
        // A channel is not announced before the first of its ends says what it charges (BOLT 7).
        let first = self
            .graph
            .channel_by_id(id)
            .is_some_and(|channel| channel.policies.from_node_1.is_none() && channel.policies.from_node_2.is_none());
        self.graph.set_policy(id, direction, Some(policy_of(update, &raw)));
        let timestamp = update.timestamp;
        let mut effects = Vec::with_capacity(3);
        if first {
            effects.push(GossipEffect::Relay { key: GossipKey::Channel(id), timestamp, from });
        }
        let key = GossipKey::Update(id, direction);
        effects.push(GossipEffect::Put { key, value: raw });
        if update.message_flags & ChannelUpdate::DONT_FORWARD == 0 {
            effects.push(GossipEffect::Relay { key, timestamp, from });
        }
        effects
    }

    fn accept_node(
        &mut self,
        node: &NodeAnnouncement,
        raw: Vec<u8>,
        from: Option<NodeId>,
        clocks: &Clocks,
    ) -> Vec<GossipEffect> {
        if !self.is_new_of_node(node, clocks) {
            return Vec::new();
        }
        if from.is_some() && !self.nodes.spend(node.node_id, clocks.uptime) {
            self.refuse(Ignored::TooOften);
            return Vec::new();
        }
        if self.graph.set_node_info(&node.node_id, node_info_of(node)).is_none() {
            return Vec::new();
        }
        let key = GossipKey::Node(node.node_id);
        vec![GossipEffect::Put { key, value: raw }, GossipEffect::Relay { key, timestamp: node.timestamp, from }]
    }

    /// The answer to a [`GossipEffect::CheckFunding`].
    pub fn funding_checked(
        &mut self,
        id: ShortChannelId,
        from: Option<NodeId>,
        answer: FundingAnswer,
        clocks: &Clocks,
    ) -> Vec<GossipEffect> {
        if self.pending.stage(id, from) != Some(Stage::Funding) {
            return Vec::new();
        }
        let capacity = match answer {
            FundingAnswer::Unspent(capacity) => capacity,
            FundingAnswer::Spent => {
                self.pending.refute(id, from);
                return Vec::new();
            }
            FundingAnswer::Mismatch => {
                self.pending.refute(id, from);
                let text = format!("the funding output of channel {id} is not what was announced");
                if id.block().0.saturating_add(SETTLED_BLOCKS) <= self.height.0 {
                    return self.forged(from, text, clocks);
                }
                return from.map(|peer| GossipEffect::Warn { peer, text }).into_iter().collect();
            }
        };
        let deep_enough = deep_enough(id);
        if deep_enough > self.height {
            self.pending.set_stage(id, from, Stage::Young(deep_enough));
            return Vec::new();
        }
        let Some(AcceptedAnnouncement { announcement, updates, nodes }) = self.pending.take(id, from) else {
            return Vec::new();
        };
        if self.graph.add_channel(new_channel(&announcement.message, capacity)).is_none() {
            return Vec::new();
        }
        let value = channel_record(capacity, None, &announcement.raw);
        let mut effects = vec![GossipEffect::Put { key: GossipKey::Channel(id), value }];
        for update in updates {
            effects.extend(self.channel_update(update.message, update.raw, update.from, clocks).unwrap_or_default());
        }
        for node in nodes {
            effects.extend(self.node_announcement(node.message, node.raw, node.from, clocks).unwrap_or_default());
        }
        effects
    }

    /// A channel's funding output was spent, or is unspent again after a reorganisation (`None`).
    pub fn funding_spent(&mut self, id: ShortChannelId, spent_at: Option<Height>, stored: &[u8]) -> Vec<GossipEffect> {
        let Some(channel) = self.graph.channel_by_id(id) else { return Vec::new() };
        let capacity = channel.capacity;
        let key = GossipKey::Channel(id);
        let Ok(raw) = super::store::stored_message(&key, stored) else { return Vec::new() };
        self.graph.set_spent(id, spent_at);
        vec![GossipEffect::Put { key, value: channel_record(capacity, spent_at, raw) }]
    }

    /// A channel of this id is no more, on the word of the chain: a reorganisation has given its funding output another
    /// place. Whatever is known of it, or on its way to be, goes.
    pub fn moved_away(&mut self, id: ShortChannelId) -> Vec<GossipEffect> {
        self.pending.remove_all(id);
        self.forget(id)
    }

    /// The tip is at `height`: announcements that waited for it go on, channels spent long ago go.
    pub fn block_connected(&mut self, height: Height) -> Vec<GossipEffect> {
        self.height = height;
        let mut effects = Vec::new();
        for (id, from) in self.pending.due(height) {
            if self.graph.find_channel(id).is_some() {
                self.pending.remove_all(id);
            } else {
                effects.extend(self.check_funding(id, from));
            }
        }
        let forgotten: Vec<_> = self
            .graph
            .channels()
            .filter(|channel| channel.spent_at.is_some_and(|spent| spent.0.saturating_add(FORGET_BLOCKS) <= height.0))
            .map(|channel| channel.short_channel_id)
            .collect();
        forgotten.into_iter().for_each(|id| effects.extend(self.forget(id)));
        effects
    }

    /// The tip went back to `height`.
    pub fn block_disconnected(&mut self, height: Height) {
        self.height = height;
    }

    /// Forgets channels whose ends are silent; to be called every hour or so.
    pub fn prune(&mut self, clocks: &Clocks) -> Vec<GossipEffect> {
        let stale = |policy: &RoutingPolicy| clocks.is_stale(policy.timestamp);
        let local = self.graph.find_node(&self.local);
        let gone: Vec<_> = self
            .graph
            .channels()
            .filter(|channel| local.is_none_or(|local| channel.node_1 != local && channel.node_2 != local))
            .filter(|channel| {
                let policies = [&channel.policies.from_node_1, &channel.policies.from_node_2];
                let silent = policies.iter().all(|policy| policy.is_none());
                let old = channel.short_channel_id.block().0.saturating_add(STALE_BLOCKS) < self.height.0;
                policies.into_iter().flatten().any(stale) || (silent && old)
            })
            .map(|channel| channel.short_channel_id)
            .collect();
        self.updates.prune(clocks.uptime);
        self.nodes.prune(clocks.uptime);
        gone.into_iter().flat_map(|id| self.forget(id)).collect()
    }

    fn forget(&mut self, id: ShortChannelId) -> Vec<GossipEffect> {
        let Some(removed) = self.graph.remove_channel(id) else { return Vec::new() };
        [Direction::FromNode1, Direction::FromNode2].iter().for_each(|direction| {
            self.updates.forget(&(id, *direction));
        });
        removed.nodes.iter().for_each(|node| {
            self.nodes.forget(node);
        });
        let nodes = removed.nodes.iter().map(|node| GossipKey::Node(*node));
        keys_of_channel(&removed.channel).into_iter().chain(nodes).map(|key| GossipEffect::Delete { key }).collect()
    }
}

fn check_length(raw: &[u8], from: Option<NodeId>) -> Result<(), Ignored> {
    if from.is_some() && raw.len() > ANNOUNCEMENT_BYTES { Err(Ignored::TooLong) } else { Ok(()) }
}
