//! Answering peers' questions, and passing on to them what is new (BOLT 7, Query Messages and Rebroadcasting).
//!
//! ```text
//!   query_channel_range, query_short_channel_ids ──► questions ─┐
//!   gossip_timestamp_filter ───────────────────────► backlog   ─┼─► a piece, as the peer reads and its rate allows
//!   new for the network, gathered for a minute ────► due       ─┘
//! ```
//!
//! Nothing is made before there is room for it: what waits for a peer are names of messages, and they go with it. A
//! question is a few bytes and its answer a thousand times as many, so a peer has two questions at a time, a channel
//! that is named twice is told once, and answers have a rate, one for each peer and one for all strangers.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::constants::ChainHash;

use super::bucket::Bucket;
use super::graph::{Channel, Direction, Graph};
use super::limits::{
    DUE_MESSAGES, IDS_PER_REPLY, LOOK_BYTES, LOOKS, PIECE_BYTES, QUESTIONS, Refusal, Refusals, SERVED, STRANGERS_SERVED,
};
use super::store::GossipKey;
use super::sync::{SyncEffect, send, warn};
use crate::types::{NodeId, ShortChannelId, Uptime};
use crate::wire::queries::{Checksums, QueryFlags, QueryOption, Timestamps, UpdateChecksums, UpdateTimestamps};
use crate::wire::{
    GossipTimestampFilter, Message, QueryChannelRange, QueryShortChannelIds, ReplyChannelRange,
    ReplyShortChannelIdsEnd, ShortIds,
};

/// Gossip is sent on once in this time (BOLT 7, Rebroadcasting).
pub const FLUSH_SECONDS: u64 = 60;

/// What a message takes on the wire, more or less: what is allowed is reckoned before it is read.
fn size_of(key: &GossipKey) -> usize {
    match key {
        GossipKey::Channel(_) => 450,
        GossipKey::Update(..) => 160,
        GossipKey::Node(_) => 300,
    }
}

/// A question that is being answered.
#[derive(Debug)]
enum Question {
    Range {
        query: QueryChannelRange,
        /// Channels before this one have been told.
        next: ShortChannelId,
        /// The block at which the next reply begins.
        first: u32,
    },
    Ids {
        chain_hash: ChainHash,
        /// In the order of their ids, each once, with what of it is asked for.
        left: VecDeque<(ShortChannelId, u8)>,
        /// Told in this answer already.
        nodes: BTreeSet<NodeId>,
    },
}

#[derive(Debug)]
struct Peer {
    /// What it wants to hear; nothing until it says so.
    filter: Option<GossipTimestampFilter>,
    /// How far the backlog that its filter asks for has been sent.
    backlog: Option<ShortChannelId>,
    questions: VecDeque<Question>,
    /// New messages for it. Keys are in order: channels before their updates and nodes.
    due: BTreeSet<GossipKey>,
    allowance: Bucket,
}

/// New gossip that waits to be sent on.
#[derive(Clone, Debug)]
struct Queued {
    timestamp: u32,
    /// Who told us, and need not be told.
    from: BTreeSet<NodeId>,
    /// Our own: filters do not hold it back.
    own: bool,
}

/// See the module.
pub struct Serving {
    chain: ChainHash,
    peers: BTreeMap<NodeId, Peer>,
    queue: BTreeMap<GossipKey, Queued>,
    strangers: Bucket,
    flushed_at: Uptime,
    flush_seconds: u64,
    refusals: Refusals,
}

impl Serving {
    /// Nobody is connected.
    pub fn new(chain: ChainHash, now: Uptime) -> Self {
        Self {
            chain,
            peers: BTreeMap::new(),
            queue: BTreeMap::new(),
            strangers: Bucket::full(STRANGERS_SERVED, now),
            flushed_at: now,
            flush_seconds: FLUSH_SECONDS,
            refusals: Refusals::default(),
        }
    }

    /// Sends on what has gathered this often, where waiting a minute serves nobody.
    pub fn flushing_every(self, flush_seconds: u64) -> Self {
        Self { flush_seconds, ..self }
    }

    /// What was refused here since the start.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// A peer is connected: it may ask from now on.
    pub fn connected(&mut self, peer: NodeId, now: Uptime) {
        let (filter, backlog, questions, due) = (None, None, VecDeque::new(), BTreeSet::new());
        self.peers.insert(peer, Peer { filter, backlog, questions, due, allowance: Bucket::full(SERVED, now) });
    }

    /// Whatever was to be told to a peer is not any more.
    pub fn disconnected(&mut self, peer: &NodeId) {
        self.peers.remove(peer);
    }

    /// Those for whom something waits.
    pub fn waiting(&self) -> Vec<NodeId> {
        let waits = |peer: &Peer| !peer.questions.is_empty() || peer.backlog.is_some() || !peer.due.is_empty();
        self.peers.iter().filter(|(_, peer)| waits(peer)).map(|(id, _)| *id).collect()
    }

    /// A peer asks for the channels of a range of blocks.
    pub fn query_channel_range(&mut self, peer: NodeId, query: &QueryChannelRange) -> Vec<SyncEffect> {
        if query.chain_hash != self.chain {
            return vec![send(peer, range_reply(query, query.first_blocknum, query.end(), &[], true))];
        }
        let first = query.first_blocknum;
        let next = if first > 0xff_ffff { ShortChannelId(u64::MAX) } else { ShortChannelId(u64::from(first) << 40) };
        self.ask(peer, || Question::Range { query: query.clone(), next, first })
    }

    /// A peer asks for announcements.
    pub fn query_short_channel_ids(&mut self, peer: NodeId, query: &QueryShortChannelIds) -> Vec<SyncEffect> {
        let Some(ids) = query.encoded_short_ids.read() else {
            return warn(peer, "short channel ids in an encoding that is not in use");
        };
        let ids = if query.chain_hash == self.chain { ids } else { Cow::Borrowed(&[][..]) };
        let flags = match &query.query_flags {
            None => None,
            Some(QueryFlags::Plain(flags)) if flags.len() == ids.len() => Some(flags.as_slice()),
            Some(_) => return warn(peer, "query flags that do not fit the short channel ids"),
        };
        self.ask(peer, || {
            let mut wanted: BTreeMap<ShortChannelId, u8> = BTreeMap::new();
            for (index, id) in ids.iter().enumerate() {
                let flags = flags.and_then(|flags| flags.get(index)).copied().unwrap_or(QueryFlags::ALL);
                *wanted.entry(*id).or_default() |= (flags & QueryFlags::ALL) as u8;
            }
            let left = wanted.into_iter().collect();
            Question::Ids { chain_hash: query.chain_hash, left, nodes: BTreeSet::new() }
        })
    }

    fn ask(&mut self, peer: NodeId, question: impl FnOnce() -> Question) -> Vec<SyncEffect> {
        let Some(known) = self.peers.get_mut(&peer) else { return Vec::new() };
        if known.questions.len() >= QUESTIONS {
            self.refusals.count(Refusal::Question);
            return warn(peer, "a question while the ones before it are being answered");
        }
        known.questions.push_back(question());
        Vec::new()
    }

    /// A peer says what it wants to hear; what is known already follows piece by piece.
    pub fn gossip_timestamp_filter(&mut self, peer: NodeId, filter: GossipTimestampFilter) {
        if let Some(known) = self.peers.get_mut(&peer).filter(|_| filter.chain_hash == self.chain) {
            let wants_any = filter.timestamp_range > 0 && filter.first_timestamp < u32::MAX;
            known.backlog = wants_any.then_some(ShortChannelId(0));
            known.filter = Some(filter);
        }
    }

    /// The next of what a peer is to be told, for which it has room; nothing if it has had enough for now.
    pub fn serve(&mut self, peer: NodeId, is_stranger: bool, graph: &Graph, now: Uptime) -> Vec<SyncEffect> {
        let Some(known) = self.peers.get_mut(&peer) else { return Vec::new() };
        let may = known.allowance.left(SERVED, now) > 0.0;
        if !may || (is_stranger && self.strangers.left(STRANGERS_SERVED, now) <= 0.0) {
            return Vec::new();
        }
        let mut effects = Vec::new();
        let mut bytes = 0;
        while bytes < PIECE_BYTES {
            let Some(question) = known.questions.front_mut() else { break };
            let (more, is_over) = match question {
                Question::Range { query, next, first } => next_reply(peer, query, next, first, graph),
                Question::Ids { chain_hash, left, nodes } => {
                    let is_known = *chain_hash == self.chain;
                    next_messages(peer, (*chain_hash, is_known), left, nodes, graph, PIECE_BYTES - bytes)
                }
            };
            bytes += more.iter().map(weight).sum::<usize>();
            effects.extend(more);
            if is_over {
                known.questions.pop_front();
            }
        }
        let mut keys = Vec::new();
        while bytes < PIECE_BYTES
            && let Some(key) = known.due.pop_first()
        {
            bytes += size_of(&key);
            keys.push(key);
        }
        if bytes < PIECE_BYTES {
            let (backlog, looked_at) = known.next_backlog(graph, PIECE_BYTES - bytes);
            bytes += backlog.iter().map(size_of).sum::<usize>() + looked_at * LOOK_BYTES;
            keys.extend(backlog);
        }
        if !keys.is_empty() {
            effects.push(SyncEffect::SendStored { peer, keys });
        }
        known.allowance.take(bytes as f64);
        if is_stranger {
            self.strangers.take(bytes as f64);
        }
        effects
    }

    /// Something new for the network; `from` is who told us, `None` if it is our own.
    pub fn relay(&mut self, key: GossipKey, timestamp: u32, from: Option<NodeId>) {
        let queued = self.queue.entry(key).or_insert(Queued { timestamp, from: BTreeSet::new(), own: false });
        if timestamp > queued.timestamp {
            // A newer message in the place of one that was not sent yet: who told the old one may not know it.
            queued.from.clear();
        }
        queued.timestamp = queued.timestamp.max(timestamp);
        queued.own |= from.is_none();
        queued.from.extend(from);
    }

    /// Once a minute, what has gathered becomes due for those who want it.
    pub fn tick(&mut self, now: Uptime) {
        if !now.is_after(self.flushed_at, self.flush_seconds) {
            return;
        }
        self.flushed_at = now;
        let queue = std::mem::take(&mut self.queue);
        for (peer, known) in &mut self.peers {
            for (key, queued) in &queue {
                let passes = known.filter.as_ref().is_some_and(|filter| filter.contains(queued.timestamp));
                if queued.from.contains(peer) || !(queued.own || passes) {
                    continue;
                }
                // Our own channels are few, and nobody else tells them.
                if known.due.len() >= DUE_MESSAGES && !queued.own {
                    self.refusals.count(Refusal::NotTaken);
                    continue;
                }
                known.due.insert(*key);
            }
        }
    }
}

impl Peer {
    /// The next of what its filter asks for, and how many channels were looked at for that. Each node comes with its
    /// channels, so it may come more than once.
    fn next_backlog(&mut self, graph: &Graph, most: usize) -> (Vec<GossipKey>, usize) {
        let (Some(from), Some(filter)) = (self.backlog, &self.filter) else { return (Vec::new(), 0) };
        let mut keys = Vec::new();
        let mut nodes = BTreeSet::new();
        let (mut bytes, mut looked_at) = (0, 0);
        for channel in graph.channels_from(from).filter(is_public) {
            if bytes >= most || looked_at >= LOOKS {
                self.backlog = Some(channel.short_channel_id);
                return (keys, looked_at);
            }
            looked_at += 1;
            let before = keys.len();
            let timely = |time: Option<u32>| time.is_some_and(|time| filter.contains(time));
            let time = |direction| channel.policies.get(direction).as_ref().map(|policy| policy.timestamp);
            let updates = [Direction::FromNode1, Direction::FromNode2].map(|direction| timely(time(direction)));
            if updates.contains(&true) {
                keys.push(GossipKey::Channel(channel.short_channel_id));
            }
            for (direction, timely) in [Direction::FromNode1, Direction::FromNode2].into_iter().zip(updates) {
                if timely {
                    keys.push(GossipKey::Update(channel.short_channel_id, direction));
                }
            }
            for index in [channel.node_1, channel.node_2] {
                let Some(node) = graph.node(index) else { continue };
                let time = node.info.as_ref().map(|info| info.timestamp);
                if timely(time) && nodes.insert(index) {
                    keys.push(GossipKey::Node(node.id));
                }
            }
            bytes += keys.get(before..).unwrap_or_default().iter().map(size_of).sum::<usize>();
        }
        self.backlog = None;
        (keys, looked_at)
    }
}

fn weight(effect: &SyncEffect) -> usize {
    match effect {
        SyncEffect::Send { message: Message::ReplyChannelRange(reply), .. } => {
            64 + 24 * reply.encoded_short_ids.plain().map_or(0, <[_]>::len)
        }
        SyncEffect::Send { .. } | SyncEffect::Warn { .. } => 64,
        SyncEffect::SendStored { keys, .. } => keys.iter().map(size_of).sum(),
    }
}

/// The next reply to a question for a range of blocks, and whether it is the last one.
fn next_reply(
    peer: NodeId,
    query: &QueryChannelRange,
    next: &mut ShortChannelId,
    first: &mut u32,
    graph: &Graph,
) -> (Vec<SyncEffect>, bool) {
    let in_range = |channel: &&Channel| {
        let block = channel.short_channel_id.block().0;
        query.end() > 0xff_ffff || block < query.end()
    };
    let mut channels = graph.channels_from(*next).take_while(in_range).filter(is_public);
    let some: Vec<&Channel> = channels.by_ref().take(IDS_PER_REPLY).collect();
    let block = |channel: &Channel| channel.short_channel_id.block().0;
    match (some.last().copied(), channels.next()) {
        (Some(last), Some(following)) => {
            // A block may be split over two replies; the second one starts at the same block again.
            let end = block(last).saturating_add(1);
            let reply = range_reply(query, *first, end, &some, false);
            *next = following.short_channel_id;
            *first = block(following).min(end);
            (vec![send(peer, reply)], false)
        }
        (Some(_) | None, _) => (vec![send(peer, range_reply(query, *first, query.end(), &some, true))], true),
    }
}

/// The next messages that a question for channels asks for, some `most` bytes, and whether they are the last ones.
fn next_messages(
    peer: NodeId,
    (chain_hash, is_known): (ChainHash, bool),
    left: &mut VecDeque<(ShortChannelId, u8)>,
    nodes: &mut BTreeSet<NodeId>,
    graph: &Graph,
    most: usize,
) -> (Vec<SyncEffect>, bool) {
    let mut keys = Vec::new();
    let mut bytes = 0;
    while bytes < most
        && let Some((id, flags)) = left.pop_front()
    {
        let Some(channel) = graph.channel_by_id(id) else { continue };
        let before = keys.len();
        keys.extend(keys_for(graph, channel, u64::from(flags), nodes));
        bytes += keys.get(before..).unwrap_or_default().iter().map(size_of).sum::<usize>();
    }
    let mut effects = Vec::with_capacity(2);
    if !keys.is_empty() {
        effects.push(SyncEffect::SendStored { peer, keys });
    }
    let is_over = left.is_empty();
    if is_over {
        effects.push(send(peer, ReplyShortChannelIdsEnd { chain_hash, full_information: u8::from(is_known) }.into()));
    }
    (effects, is_over)
}

/// A channel is not told before one of its ends says what it charges, nor after it has ended (BOLT 7).
fn is_public(channel: &&Channel) -> bool {
    let has_policy = channel.policies.from_node_1.is_some() || channel.policies.from_node_2.is_some();
    has_policy && channel.spent_at.is_none()
}

/// The messages that `flags` ask for, nodes only once.
fn keys_for(
    graph: &Graph,
    channel: &Channel,
    flags: u64,
    nodes: &mut BTreeSet<NodeId>,
) -> impl Iterator<Item = GossipKey> {
    let id = channel.short_channel_id;
    let has = |flag| flags & flag != 0;
    let update = |direction, flag| {
        (has(flag) && channel.policies.get(direction).is_some()).then_some(GossipKey::Update(id, direction))
    };
    let mut node = |index, flag| {
        let node = graph.node(index).filter(|node| has(flag) && node.info.is_some())?;
        nodes.insert(node.id).then_some(GossipKey::Node(node.id))
    };
    let keys = [
        has(QueryFlags::CHANNEL_ANNOUNCEMENT).then_some(GossipKey::Channel(id)),
        update(Direction::FromNode1, QueryFlags::CHANNEL_UPDATE_1),
        update(Direction::FromNode2, QueryFlags::CHANNEL_UPDATE_2),
        node(channel.node_1, QueryFlags::NODE_ANNOUNCEMENT_1),
        node(channel.node_2, QueryFlags::NODE_ANNOUNCEMENT_2),
    ];
    keys.into_iter().flatten()
}

fn range_reply(query: &QueryChannelRange, first: u32, end: u32, channels: &[&Channel], last: bool) -> Message {
    let option = query.query_option.unwrap_or(QueryOption(0));
    let time =
        |channel: &Channel, direction| channel.policies.get(direction).as_ref().map_or(0, |policy| policy.timestamp);
    let sum =
        |channel: &Channel, direction| channel.policies.get(direction).as_ref().map_or(0, |policy| policy.checksum);
    let times = |channel: &&Channel| UpdateTimestamps {
        timestamp_node_id_1: time(channel, Direction::FromNode1),
        timestamp_node_id_2: time(channel, Direction::FromNode2),
    };
    let sums = |channel: &&Channel| UpdateChecksums {
        checksum_node_id_1: sum(channel, Direction::FromNode1),
        checksum_node_id_2: sum(channel, Direction::FromNode2),
    };
    let reply = ReplyChannelRange {
        chain_hash: query.chain_hash,
        first_blocknum: first,
        number_of_blocks: end.saturating_sub(first),
        sync_complete: u8::from(last),
        encoded_short_ids: ShortIds::Plain(channels.iter().map(|channel| channel.short_channel_id).collect()),
        timestamps: option.wants_timestamps().then(|| Timestamps::Plain(channels.iter().map(times).collect())),
        checksums: option.wants_checksums().then(|| Checksums(channels.iter().map(sums).collect())),
    };
    reply.into()
}
