//! Catching up with the network, and keeping others up to date (BOLT 7, Query Messages and Rebroadcasting).
//!
//! ```text
//!   Idle ── query_channel_range (all blocks) ──► AwaitingRange ◄─ reply_channel_range …
//!                                                     │ what is unknown, or newer there
//!                                                     ▼
//!        ── query_short_channel_ids (a batch) ──► AwaitingIds ◄─ announcements …, reply_short_channel_ids_end
//!                                                     │ no batch left
//!                                                     ▼
//!        ── gossip_timestamp_filter (from now) ─► Live
//! ```
//!
//! One pass over the ranges, one over the missing channels: with a peer that tells times and checksums along with the
//! ids (`gossip_queries_ex`) nothing is sent that is already here. Only a few peers are asked to pass on what they
//! hear; all are answered. Gossip for peers is gathered and sent once a minute, and each peer gets a backlog as fast
//! as it reads: the driver asks for the next keys when there is room ([`GossipSync::backlog`]).

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::constants::ChainHash;

use super::graph::{Channel, Direction, Graph};
use super::intake::Intake;
use super::store::GossipKey;
use crate::types::{Height, NodeId, ShortChannelId, UnixTime};
use crate::wire::queries::{Checksums, QueryFlags, QueryOption, Timestamps, UpdateChecksums, UpdateTimestamps};
use crate::wire::{
    Feature, Features, GossipTimestampFilter, Message, QueryChannelRange, QueryShortChannelIds, ReplyChannelRange,
    ReplyShortChannelIdsEnd, ShortIds,
};

/// Channels in one question. 9 bytes each, and a busy peer's answer is some megabytes.
const IDS_PER_QUERY: usize = 2000;
/// Channels in one answer: 24 bytes each with times and checksums, in 65,535.
const IDS_PER_REPLY: usize = 2600;
/// More channels than the chain could hold for a decade: a peer that names more is making them up.
const MAX_RANGE_IDS: usize = 1_000_000;
/// Peers that pass on to us what they hear.
const LIVE_PEERS: usize = 5;
/// An answer that has not come by then will not come.
const TIMEOUT_SECONDS: u64 = 120;
/// Gossip is sent on once in this time (BOLT 7, Rebroadcasting).
pub const FLUSH_SECONDS: u64 = 60;

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum SyncEffect {
    Send {
        peer: NodeId,
        message: Message,
    },
    /// Send the stored messages, in this order, before anything that follows.
    SendStored {
        peer: NodeId,
        keys: Vec<GossipKey>,
    },
    /// The peer broke the rules of queries; a `warning` is due.
    Warn {
        peer: NodeId,
        text: &'static str,
    },
}

#[derive(Debug)]
enum State {
    /// Nothing has been asked yet, or the peer has nothing to ask for.
    Idle,
    AwaitingRange {
        wanted: Vec<Wanted>,
        seen: usize,
        since: UnixTime,
    },
    AwaitingIds {
        left: Vec<Wanted>,
        since: UnixTime,
    },
    Live,
}

/// A channel to ask for, and what of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    id: ShortChannelId,
    flags: u64,
}

#[derive(Debug)]
struct Peer {
    state: State,
    /// Whether it tells times and checksums.
    extended: bool,
    /// What it wants to hear; nothing until it says so.
    filter: Option<GossipTimestampFilter>,
    /// How far the backlog that its filter asks for has been sent.
    backlog: Option<ShortChannelId>,
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
pub struct GossipSync {
    chain: ChainHash,
    peers: BTreeMap<NodeId, Peer>,
    queue: BTreeMap<GossipKey, Queued>,
    flushed_at: UnixTime,
    flush_seconds: u64,
    caught_up: bool,
}

impl GossipSync {
    pub fn new(chain: ChainHash, now: UnixTime) -> Self {
        Self {
            chain,
            peers: BTreeMap::new(),
            queue: BTreeMap::new(),
            flushed_at: now,
            flush_seconds: FLUSH_SECONDS,
            caught_up: false,
        }
    }

    /// Sends on what has gathered this often, where waiting a minute serves nobody.
    pub fn flushing_every(self, flush_seconds: u64) -> Self {
        Self { flush_seconds, ..self }
    }

    /// All connected peers.
    pub fn peers(&self) -> Vec<NodeId> {
        self.peers.keys().copied().collect()
    }

    /// Whether some peer has told all that it knows.
    pub fn has_caught_up(&self) -> bool {
        self.caught_up
    }

    /// A peer has sent its `init`.
    pub fn connected(&mut self, peer: NodeId, features: &Features, now: UnixTime) -> Vec<SyncEffect> {
        let useful = features.supports(Feature::GossipQueries);
        let extended = features.supports(Feature::GossipQueriesEx);
        let asking = self.peers.values().filter(|peer| !matches!(peer.state, State::Idle)).count();
        let mut effects = Vec::new();
        let state = if useful && asking < LIVE_PEERS {
            effects.push(send(peer, self.range_query(extended)));
            State::AwaitingRange { wanted: Vec::new(), seen: 0, since: now }
        } else {
            // BOLT 7: a filter in the far future, so that it does not send what others send already.
            effects.push(send(peer, self.filter(u32::MAX, 0)));
            State::Idle
        };
        self.peers.insert(peer, Peer { state, extended, filter: None, backlog: None });
        effects
    }

    pub fn disconnected(&mut self, peer: &NodeId) {
        self.peers.remove(peer);
    }

    fn range_query(&self, extended: bool) -> Message {
        let both = QueryOption(QueryOption::WANT_TIMESTAMPS | QueryOption::WANT_CHECKSUMS);
        let query = QueryChannelRange {
            chain_hash: self.chain,
            first_blocknum: 0,
            number_of_blocks: u32::MAX,
            query_option: extended.then_some(both),
        };
        query.into()
    }

    fn filter(&self, first_timestamp: u32, timestamp_range: u32) -> Message {
        GossipTimestampFilter { chain_hash: self.chain, first_timestamp, timestamp_range }.into()
    }

    /// Part of the answer to our question for all channels.
    pub fn reply_channel_range(
        &mut self,
        peer: NodeId,
        reply: &ReplyChannelRange,
        intake: &Intake,
        now: UnixTime,
    ) -> Vec<SyncEffect> {
        let chain = self.chain;
        let Some(known) = self.peers.get_mut(&peer) else { return Vec::new() };
        let State::AwaitingRange { wanted, seen, since } = &mut known.state else {
            return warn(peer, "reply_channel_range without a question");
        };
        let Some(ids) = reply.encoded_short_ids.plain().filter(|_| reply.chain_hash == chain) else {
            return warn(peer, "reply_channel_range for another chain or in an encoding that is not in use");
        };
        *since = now;
        *seen += ids.len();
        if *seen > MAX_RANGE_IDS {
            known.state = State::Idle;
            return warn(peer, "reply_channel_range names more channels than there can be");
        }
        let times = match &reply.timestamps {
            Some(Timestamps::Plain(times)) => times.as_slice(),
            Some(Timestamps::Unsupported { .. }) | None => &[],
        };
        let sums = reply.checksums.as_ref().map_or(&[][..], |sums| &sums.0);
        for (index, id) in ids.iter().enumerate() {
            let flags = missing(intake, *id, times.get(index), sums.get(index));
            if flags != 0 {
                wanted.push(Wanted { id: *id, flags });
            }
        }
        // Older peers set `sync_complete` in each reply: the chain has to be covered, too.
        if reply.sync_complete == 0 || reply.end() <= intake.height().0 {
            return Vec::new();
        }
        let mut left = std::mem::take(wanted);
        // The newest first from the end of the list: new channels matter more, and all are asked for anyway.
        left.sort_by_key(|wanted| wanted.id);
        left.dedup_by_key(|wanted| wanted.id);
        known.state = State::AwaitingIds { left, since: now };
        self.next_batch(peer, now)
    }

    /// The answer to a batch is complete.
    pub fn reply_short_channel_ids_end(&mut self, peer: NodeId, now: UnixTime) -> Vec<SyncEffect> {
        match self.peers.get(&peer).map(|known| &known.state) {
            Some(State::AwaitingIds { .. }) => self.next_batch(peer, now),
            Some(State::Idle | State::AwaitingRange { .. } | State::Live) => {
                warn(peer, "reply_short_channel_ids_end without a question")
            }
            None => Vec::new(),
        }
    }

    fn next_batch(&mut self, peer: NodeId, now: UnixTime) -> Vec<SyncEffect> {
        let chain_hash = self.chain;
        let Some(known) = self.peers.get_mut(&peer) else { return Vec::new() };
        let State::AwaitingIds { left, since } = &mut known.state else { return Vec::new() };
        if left.is_empty() {
            known.state = State::Live;
            self.caught_up = true;
            // An hour back: what was said while we were asking.
            let first = u32::try_from(now.0.saturating_sub(3600)).unwrap_or(u32::MAX);
            return vec![send(peer, self.filter(first, u32::MAX))];
        }
        *since = now;
        // Lists of ids have to be in order, and so does each batch from the end of an ordered list.
        let batch = left.split_off(left.len().saturating_sub(IDS_PER_QUERY));
        let ids = batch.iter().map(|wanted| wanted.id).collect();
        let flags = batch.iter().map(|wanted| wanted.flags).collect();
        let query = QueryShortChannelIds {
            chain_hash,
            encoded_short_ids: ShortIds::Plain(ids),
            query_flags: known.extended.then_some(QueryFlags::Plain(flags)),
        };
        vec![send(peer, query.into())]
    }

    /// A peer asks for the channels of a range of blocks.
    pub fn query_channel_range(&self, peer: NodeId, query: &QueryChannelRange, graph: &Graph) -> Vec<SyncEffect> {
        if query.chain_hash != self.chain {
            return vec![send(peer, range_reply(query, query.first_blocknum, query.end(), &[], true))];
        }
        let channels: Vec<&Channel> =
            graph.channels_in_blocks(Height(query.first_blocknum), Height(query.end())).filter(is_public).collect();
        let mut effects = Vec::new();
        let mut first = query.first_blocknum;
        let mut chunks = channels.chunks(IDS_PER_REPLY).peekable();
        if chunks.peek().is_none() {
            return vec![send(peer, range_reply(query, first, query.end(), &[], true))];
        }
        while let Some(chunk) = chunks.next() {
            // A block may be split over two replies; the second one starts at the same block again.
            let end = match (chunks.peek(), chunk.last()) {
                (Some(_), Some(last)) => last.short_channel_id.block().0.saturating_add(1),
                _ => query.end(),
            };
            effects.push(send(peer, range_reply(query, first, end, chunk, chunks.peek().is_none())));
            let next = chunks.peek().and_then(|chunk| chunk.first());
            first = next.map_or(end, |channel| channel.short_channel_id.block().0).min(end);
        }
        effects
    }

    /// A peer asks for announcements.
    pub fn query_short_channel_ids(
        &self,
        peer: NodeId,
        query: &QueryShortChannelIds,
        graph: &Graph,
    ) -> Vec<SyncEffect> {
        let ids = match &query.encoded_short_ids {
            ShortIds::Plain(ids) if query.chain_hash == self.chain => ids.as_slice(),
            ShortIds::Plain(_) => &[],
            ShortIds::Unsupported { .. } => return warn(peer, "short channel ids in an encoding that is not in use"),
        };
        let flags = match &query.query_flags {
            None => None,
            Some(QueryFlags::Plain(flags)) if flags.len() == ids.len() => Some(flags.as_slice()),
            Some(_) => return warn(peer, "query flags that do not fit the short channel ids"),
        };
        let mut keys = Vec::new();
        let mut nodes = BTreeSet::new();
        for (index, id) in ids.iter().enumerate() {
            let Some(channel) = graph.channel_by_id(*id) else { continue };
            let flags = flags.and_then(|flags| flags.get(index)).copied().unwrap_or(QueryFlags::ALL);
            keys.extend(keys_for(graph, channel, flags, &mut nodes));
        }
        let end = ReplyShortChannelIdsEnd {
            chain_hash: query.chain_hash,
            full_information: u8::from(query.chain_hash == self.chain),
        };
        let mut effects = Vec::with_capacity(2);
        if !keys.is_empty() {
            effects.push(SyncEffect::SendStored { peer, keys });
        }
        effects.push(send(peer, end.into()));
        effects
    }

    /// A peer says what it wants to hear; what is known already follows through [`GossipSync::backlog`].
    pub fn gossip_timestamp_filter(&mut self, peer: NodeId, filter: GossipTimestampFilter) {
        if let Some(known) = self.peers.get_mut(&peer).filter(|_| filter.chain_hash == self.chain) {
            let wants_any = filter.timestamp_range > 0 && filter.first_timestamp < u32::MAX;
            known.backlog = wants_any.then_some(ShortChannelId(0));
            known.filter = Some(filter);
        }
    }

    /// The next of what a peer's filter asks for, some `most` messages; empty when it has all. Each node comes with
    /// its channels, so it may come more than once.
    pub fn backlog(&mut self, peer: NodeId, graph: &Graph, most: usize) -> Vec<GossipKey> {
        let Some(known) = self.peers.get_mut(&peer) else { return Vec::new() };
        let (Some(from), Some(filter)) = (known.backlog, &known.filter) else { return Vec::new() };
        let mut keys = Vec::new();
        let mut nodes = BTreeSet::new();
        for channel in graph.channels_from(from).filter(is_public) {
            if keys.len() >= most {
                known.backlog = Some(channel.short_channel_id);
                return keys;
            }
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
        }
        known.backlog = None;
        keys
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

    /// Sends on what has gathered, once a minute, and gives up questions that were not answered.
    pub fn tick(&mut self, now: UnixTime) -> Vec<SyncEffect> {
        let mut effects = Vec::new();
        for known in self.peers.values_mut() {
            let (State::AwaitingRange { since, .. } | State::AwaitingIds { since, .. }) = known.state else { continue };
            if since.0.saturating_add(TIMEOUT_SECONDS) <= now.0 {
                known.state = State::Idle;
            }
        }
        if self.flushed_at.0.saturating_add(self.flush_seconds) > now.0 {
            return effects;
        }
        self.flushed_at = now;
        let queue = std::mem::take(&mut self.queue);
        for (peer, known) in &self.peers {
            let wants = |queued: &Queued| {
                let passes = known.filter.as_ref().is_some_and(|filter| filter.contains(queued.timestamp));
                !queued.from.contains(peer) && (queued.own || passes)
            };
            // Keys are in order: channels before their updates and nodes.
            let keys: Vec<_> = queue.iter().filter(|(_, queued)| wants(queued)).map(|(key, _)| *key).collect();
            if !keys.is_empty() {
                effects.push(SyncEffect::SendStored { peer: *peer, keys });
            }
        }
        effects
    }
}

fn send(peer: NodeId, message: Message) -> SyncEffect {
    SyncEffect::Send { peer, message }
}

fn warn(peer: NodeId, text: &'static str) -> Vec<SyncEffect> {
    vec![SyncEffect::Warn { peer, text }]
}

/// A channel is not told before one of its ends says what it charges, nor after it has ended (BOLT 7).
fn is_public(channel: &&Channel) -> bool {
    let told = channel.policies.from_node_1.is_some() || channel.policies.from_node_2.is_some();
    told && channel.spent_at.is_none()
}

/// What to ask about a channel, given what the peer says about its updates.
fn missing(
    intake: &Intake,
    id: ShortChannelId,
    times: Option<&UpdateTimestamps>,
    sums: Option<&UpdateChecksums>,
) -> u64 {
    let Some(channel) = intake.graph().channel_by_id(id) else {
        return if intake.has_channel(id) { 0 } else { QueryFlags::ALL };
    };
    let Some(times) = times else { return 0 };
    let newer = |direction, time: u32, sum: Option<u32>| match channel.policies.get(direction) {
        None => time != 0,
        Some(known) => time > known.timestamp && sum != Some(known.checksum),
    };
    let mut flags = 0;
    if newer(Direction::FromNode1, times.timestamp_node_id_1, sums.map(|sums| sums.checksum_node_id_1)) {
        flags |= QueryFlags::CHANNEL_UPDATE_1;
    }
    if newer(Direction::FromNode2, times.timestamp_node_id_2, sums.map(|sums| sums.checksum_node_id_2)) {
        flags |= QueryFlags::CHANNEL_UPDATE_2;
    }
    flags
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
