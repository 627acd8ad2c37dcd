//! Announcements on their way into the graph.
//!
//! ```text
//!   channel_announcement ─► cheap checks ─► Verify ─► CheckFunding ─► graph, store, relay
//!                                            (any thread)  (our chain)        │
//!   channel_update    ─► channel known? ─────────────► Verify ─► graph, store, relay
//!                          └ on its way: kept until the channel is there ─────┘
//!   node_announcement ─► node known? ────────────────► Verify ─► graph, store, relay
//! ```
//!
//! Promises: nothing reaches the graph without its signatures checked and, for channels, its funding output found
//! unspent on our chain with six confirmations; nothing older replaces anything newer; a channel takes no more than
//! a few updates an hour from its owner; what waits is bounded. Channels leave 72 blocks after their funding output
//! was spent (a splice may re-announce them) or reorganised out, at once when it is found at another place, or when either end has been silent for two weeks.

use std::collections::{BTreeMap, HashMap};

use bitcoin::constants::ChainHash;
use bitcoin::{Amount, ScriptBuf};

use super::graph::{BothWays, Direction, Graph};
use super::store::{GossipKey, channel_record, direction_of, keys_of_channel, new_channel, node_info_of, policy_of};
use super::validate::{Announcement, Forged, SignatureCheck, Verified, funding_script};
use crate::types::{Height, NodeId, ShortChannelId, UnixTime};
use crate::wire::{ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};

/// What the driver is to do.
#[derive(Clone, Debug)]
pub enum GossipEffect {
    /// Run this on any thread and hand the outcome to [`Intake::verified`].
    Verify(SignatureCheck),
    /// Look the funding output up and answer with [`Intake::funding_checked`].
    CheckFunding {
        short_channel_id: ShortChannelId,
        script_pubkey: ScriptBuf,
    },
    Put {
        key: GossipKey,
        value: Vec<u8>,
    },
    Delete {
        key: GossipKey,
    },
    /// New for the network: to be queued for the other peers.
    Relay {
        key: GossipKey,
        timestamp: u32,
        from: Option<NodeId>,
    },
    /// The peer sent something that no honest node sends; a `warning` is due.
    Warn {
        peer: NodeId,
        text: String,
    },
}

/// Why a message was not taken. Most are no one's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
    #[error("too much is waiting already")]
    Busy,
    #[error("its channel's funding output is spent")]
    Spent,
}

/// What the chain says about a funding output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FundingAnswer {
    /// Unspent, with the script that was asked for.
    Unspent(Amount),
    /// There, but not with the script that was asked for; or there is no such output.
    Mismatch,
    Spent,
}

/// Two weeks: an end that has said nothing for so long is taken to be gone (BOLT 7, Pruning).
const STALE_SECONDS: u64 = 14 * 24 * 3600;
const STALE_BLOCKS: u32 = 2016;
/// Clocks may differ by a day.
const FUTURE_SECONDS: u64 = 24 * 3600;
/// A message that only repeats what is known is taken once a day: it says that its owner is alive.
const REPEAT_SECONDS: u32 = 24 * 3600;
/// A channel may take this many updates at once, and another one each minute.
const BURST: f32 = 10.0;
const SECONDS_PER_UPDATE: f32 = 60.0;
/// Blocks on top of a funding transaction, itself included, before its channel may be announced.
const CONFIRMATIONS: u32 = 6;
/// Blocks from a spent funding output to forgetting the channel.
const FORGET_BLOCKS: u32 = 72;
/// Channels that wait for their signatures or funding to be checked, or for their confirmations.
const MAX_PENDING: usize = 20_000;

/// A channel whose announcement is being checked or lacks confirmations, and what came for it meanwhile.
struct Pending {
    announcement: Box<ChannelAnnouncement>,
    raw: Vec<u8>,
    from: Option<NodeId>,
    updates: BothWays<Option<Raw<ChannelUpdate>>>,
    nodes: BothWays<Option<Raw<Box<NodeAnnouncement>>>>,
}

impl Pending {
    fn new(announcement: Box<ChannelAnnouncement>, raw: Vec<u8>, from: Option<NodeId>) -> Self {
        Self { announcement, raw, from, updates: BothWays::default(), nodes: BothWays::default() }
    }
}

/// A message with its encoded form and the peer that it came from.
#[derive(Clone)]
struct Raw<T> {
    message: T,
    raw: Vec<u8>,
    from: Option<NodeId>,
}

/// How many updates a direction may still send.
#[derive(Clone, Copy)]
struct Allowance {
    left: f32,
    at: UnixTime,
}

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
    pending: HashMap<ShortChannelId, Pending>,
    /// A pending channel of each node that has one; entries outlive their channels until nothing is pending.
    pending_nodes: HashMap<NodeId, (ShortChannelId, Direction)>,
    /// Announcements that lack confirmations, by the height at which they will have them.
    premature: BTreeMap<(Height, ShortChannelId), Pending>,
    allowances: HashMap<(ShortChannelId, Direction), Allowance>,
}

impl Intake {
    pub fn new(chain: ChainHash, local: NodeId, graph: Graph, height: Height) -> Self {
        Self {
            chain,
            local,
            graph,
            height,
            pending: HashMap::new(),
            pending_nodes: HashMap::new(),
            premature: BTreeMap::new(),
            allowances: HashMap::new(),
        }
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The height of our tip.
    pub fn height(&self) -> Height {
        self.height
    }

    pub fn chain(&self) -> ChainHash {
        self.chain
    }

    /// Whether something is known, or on its way to be, about a channel.
    pub fn has_channel(&self, id: ShortChannelId) -> bool {
        self.graph.find_channel(id).is_some() || self.pending.contains_key(&id)
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
        if self.has_channel(id) {
            return Err(Ignored::Known);
        }
        if self.pending.len() + self.premature.len() >= MAX_PENDING {
            return Err(Ignored::Busy);
        }
        let deep_enough = deep_enough(id);
        // A block or two may separate us from the sender; anything more is not honest.
        if deep_enough.0.saturating_sub(self.height.0) > CONFIRMATIONS {
            return Err(Ignored::FromTheFuture);
        }
        if self.pending.is_empty() && self.premature.is_empty() {
            self.pending_nodes.clear();
        }
        self.pending_nodes.insert(announcement.node_id_1, (id, Direction::FromNode1));
        self.pending_nodes.insert(announcement.node_id_2, (id, Direction::FromNode2));
        let pending = Pending::new(announcement, raw, from);
        if deep_enough > self.height {
            self.premature.entry((deep_enough, id)).or_insert(pending);
            return Err(Ignored::FromTheFuture);
        }
        Ok(vec![self.check(pending)])
    }

    /// A channel is deep enough: are its signatures good?
    fn check(&mut self, pending: Pending) -> GossipEffect {
        let announcement = Announcement::Channel(pending.announcement.clone());
        let check = SignatureCheck::named(announcement, pending.raw.clone(), pending.from);
        self.pending.insert(pending.announcement.short_channel_id, pending);
        GossipEffect::Verify(check)
    }

    /// A channel that is not in the graph yet.
    fn awaited(&mut self, id: ShortChannelId) -> Option<&mut Pending> {
        let premature = self.premature.get_mut(&(deep_enough(id), id));
        self.pending.get_mut(&id).or(premature)
    }

    /// A `channel_update`. Updates of channels that are not announced are for the channel itself, not for this.
    pub fn channel_update(
        &mut self,
        update: ChannelUpdate,
        raw: Vec<u8>,
        from: Option<NodeId>,
        now: UnixTime,
    ) -> Result<Vec<GossipEffect>, Ignored> {
        let (id, direction) = (update.short_channel_id, direction_of(&update));
        self.check_update(&update, now)?;
        if let Some(pending) = self.awaited(id) {
            let slot = pending.updates.get_mut(direction);
            if slot.as_ref().is_some_and(|known| known.message.timestamp >= update.timestamp) {
                return Err(Ignored::Known);
            }
            *slot = Some(Raw { message: update, raw, from });
            return Ok(Vec::new());
        }
        let node = self.fresh(&update, &raw)?;
        self.spend_allowance(id, direction, from, now)?;
        Ok(vec![GossipEffect::Verify(SignatureCheck::by(Announcement::Update(update), raw, from, node))])
    }

    fn check_update(&self, update: &ChannelUpdate, now: UnixTime) -> Result<(), Ignored> {
        let time = u64::from(update.timestamp);
        if update.chain_hash != self.chain {
            return Err(Ignored::OtherChain);
        }
        if time > now.0.saturating_add(FUTURE_SECONDS) {
            return Err(Ignored::FromTheFuture);
        }
        if time.saturating_add(STALE_SECONDS) < now.0 {
            return Err(Ignored::Stale);
        }
        if update.htlc_maximum_msat < update.htlc_minimum_msat {
            return Err(Ignored::Limits);
        }
        Ok(())
    }

    /// Whether an update says something new about a channel of the graph; the node that has to have signed it.
    fn fresh(&self, update: &ChannelUpdate, raw: &[u8]) -> Result<NodeId, Ignored> {
        let channel = self.graph.channel_by_id(update.short_channel_id).ok_or(Ignored::UnknownChannel)?;
        if channel.spent_at.is_some() && !update.is_disabled() {
            return Err(Ignored::Spent);
        }
        if update.htlc_maximum_msat > channel.capacity_msat() {
            return Err(Ignored::Limits);
        }
        let direction = direction_of(update);
        if let Some(known) = channel.policies.get(direction) {
            let repeats = super::checksum::update_checksum(raw) == known.checksum;
            let newer_by = update.timestamp.saturating_sub(known.timestamp);
            if newer_by == 0 || (repeats && newer_by < REPEAT_SECONDS) {
                return Err(Ignored::Known);
            }
        }
        let node = self.graph.node(channel.ends(direction).0).ok_or(Ignored::UnknownNode)?;
        Ok(node.id)
    }

    fn spend_allowance(
        &mut self,
        id: ShortChannelId,
        direction: Direction,
        from: Option<NodeId>,
        now: UnixTime,
    ) -> Result<(), Ignored> {
        if from.is_none() {
            return Ok(());
        }
        let allowance = self.allowances.entry((id, direction)).or_insert(Allowance { left: BURST, at: now });
        let earned = now.0.saturating_sub(allowance.at.0) as f32 / SECONDS_PER_UPDATE;
        *allowance = Allowance { left: (allowance.left + earned).min(BURST), at: now };
        if allowance.left < 1.0 {
            return Err(Ignored::TooOften);
        }
        allowance.left -= 1.0;
        Ok(())
    }

    /// A `node_announcement`.
    pub fn node_announcement(
        &mut self,
        announcement: Box<NodeAnnouncement>,
        raw: Vec<u8>,
        from: Option<NodeId>,
    ) -> Result<Vec<GossipEffect>, Ignored> {
        let id = announcement.node_id;
        let Some(node) = self.graph.find_node(&id).and_then(|index| self.graph.node(index)) else {
            // Its first channel may be on its way.
            let (channel, side) = self.pending_nodes.get(&id).copied().ok_or(Ignored::UnknownNode)?;
            let pending = self.awaited(channel).ok_or(Ignored::UnknownNode)?;
            *pending.nodes.get_mut(side) = Some(Raw { message: announcement, raw, from });
            return Ok(Vec::new());
        };
        if node.info.as_ref().is_some_and(|info| info.timestamp >= announcement.timestamp) {
            return Err(Ignored::Known);
        }
        Ok(vec![GossipEffect::Verify(SignatureCheck::named(Announcement::Node(announcement), raw, from))])
    }

    /// The outcome of a [`GossipEffect::Verify`].
    pub fn verified(&mut self, outcome: Result<Verified, Box<Forged>>) -> Vec<GossipEffect> {
        match outcome {
            Ok(verified) => self.accept(verified),
            Err(forged) => {
                if let Announcement::Channel(channel) = &forged.announcement {
                    self.pending.remove(&channel.short_channel_id);
                }
                let text = match &forged.announcement {
                    Announcement::Channel(channel) => {
                        format!("invalid signature in the announcement of channel {}", channel.short_channel_id)
                    }
                    Announcement::Update(update) => {
                        format!("invalid signature in the update of channel {}", update.short_channel_id)
                    }
                    Announcement::Node(node) => {
                        format!("invalid signature in the announcement of node {}", node.node_id)
                    }
                };
                forged.from.map(|peer| GossipEffect::Warn { peer, text }).into_iter().collect()
            }
        }
    }

    fn accept(&mut self, verified: Verified) -> Vec<GossipEffect> {
        let Verified { announcement, raw, from } = verified;
        match announcement {
            Announcement::Channel(channel) => match funding_script(&channel) {
                Some(script_pubkey) => {
                    vec![GossipEffect::CheckFunding { short_channel_id: channel.short_channel_id, script_pubkey }]
                }
                None => {
                    self.pending.remove(&channel.short_channel_id);
                    Vec::new()
                }
            },
            Announcement::Update(update) => self.accept_update(&update, raw, from),
            Announcement::Node(node) => self.accept_node(&node, raw, from),
        }
    }

    fn accept_update(&mut self, update: &ChannelUpdate, raw: Vec<u8>, from: Option<NodeId>) -> Vec<GossipEffect> {
        // Something newer may have come while the signature was checked.
        if self.fresh(update, &raw).is_err() {
            return Vec::new();
        }
        let (id, direction) = (update.short_channel_id, direction_of(update));
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

    fn accept_node(&mut self, node: &NodeAnnouncement, raw: Vec<u8>, from: Option<NodeId>) -> Vec<GossipEffect> {
        let known = self.graph.find_node(&node.node_id).and_then(|index| self.graph.node(index));
        let newer = known.is_some_and(|known| known.info.as_ref().is_none_or(|info| info.timestamp < node.timestamp));
        if !newer || self.graph.set_node_info(&node.node_id, node_info_of(node)).is_none() {
            return Vec::new();
        }
        let key = GossipKey::Node(node.node_id);
        vec![GossipEffect::Put { key, value: raw }, GossipEffect::Relay { key, timestamp: node.timestamp, from }]
    }

    /// The answer to a [`GossipEffect::CheckFunding`].
    pub fn funding_checked(&mut self, id: ShortChannelId, answer: FundingAnswer, now: UnixTime) -> Vec<GossipEffect> {
        let Some(pending) = self.pending.remove(&id) else { return Vec::new() };
        let capacity = match answer {
            FundingAnswer::Unspent(capacity) => capacity,
            FundingAnswer::Spent => return Vec::new(),
            FundingAnswer::Mismatch => {
                let text = format!("the funding output of channel {id} is not what was announced");
                return pending.from.map(|peer| GossipEffect::Warn { peer, text }).into_iter().collect();
            }
        };
        if self.graph.add_channel(new_channel(&pending.announcement, capacity)).is_none() {
            return Vec::new();
        }
        let value = channel_record(capacity, None, &pending.raw);
        let mut effects = vec![GossipEffect::Put { key: GossipKey::Channel(id), value }];
        let BothWays { from_node_1, from_node_2 } = pending.updates;
        for update in [from_node_1, from_node_2].into_iter().flatten() {
            effects.extend(self.channel_update(update.message, update.raw, update.from, now).unwrap_or_default());
        }
        let BothWays { from_node_1, from_node_2 } = pending.nodes;
        for node in [from_node_1, from_node_2].into_iter().flatten() {
            effects.extend(self.node_announcement(node.message, node.raw, node.from).unwrap_or_default());
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
        self.pending.remove(&id);
        self.premature.remove(&(deep_enough(id), id));
        self.forget(id)
    }

    /// The tip is at `height`: announcements that waited for it go on, channels spent long ago go.
    pub fn block_connected(&mut self, height: Height) -> Vec<GossipEffect> {
        self.height = height;
        let mut effects = Vec::new();
        while let Some(entry) = self.premature.first_entry().filter(|entry| entry.key().0 <= height) {
            let pending = entry.remove();
            if !self.has_channel(pending.announcement.short_channel_id) {
                effects.push(self.check(pending));
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
    pub fn prune(&mut self, now: UnixTime) -> Vec<GossipEffect> {
        let stale = |policy: &super::graph::Policy| u64::from(policy.timestamp).saturating_add(STALE_SECONDS) < now.0;
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
        self.allowances.retain(|_, allowance| allowance.at.0.saturating_add(3600) > now.0);
        gone.into_iter().flat_map(|id| self.forget(id)).collect()
    }

    fn forget(&mut self, id: ShortChannelId) -> Vec<GossipEffect> {
        let Some(removed) = self.graph.remove_channel(id) else { return Vec::new() };
        let nodes = removed.nodes.iter().map(|node| GossipKey::Node(*node));
        keys_of_channel(&removed.channel).into_iter().chain(nodes).map(|key| GossipEffect::Delete { key }).collect()
    }
}
