//! Catching up with the network (BOLT 7, Query Messages).
//!
//! ```text
//!   Idle ── query_channel_range (all blocks) ──► AwaitingRange ◄─ reply_channel_range …
//!    ▲                                                │ what is unknown, or newer there
//!    │ its turn is over                               ▼
//!    │   ── query_short_channel_ids (a batch) ──► AwaitingIds ◄─ announcements …, reply_short_channel_ids_end
//!    │                                                │ no batch left
//!    │                                                ▼
//!    └── ── gossip_timestamp_filter (from now) ─► Live
//! ```
//!
//! One pass over the ranges, one over the missing channels: with a peer that tells times and checksums along with the
//! ids (`gossip_queries_ex`) nothing is sent that is already here. A few peers at a time are asked, and then pass on
//! what they hear. Whoever does not answer, has nothing to tell, or has been listened to for long gives its place to
//! the peer that has waited the longest; so nobody holds all places, and each is asked again now and then.
//!
//! Caught up we are once a peer has told a good part of the public channels that we know, the ones that it named and that
//! the chain has confirmed; or, where nobody knows any, once all that are there have said so.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::constants::ChainHash;

use super::graph::Direction;
use super::intake::Intake;
use super::limits::{
    ANSWER_SECONDS, ASK_AGAIN_SECONDS, BARREN_ANSWERS, CATCH_UP_SECONDS, IDS_PER_QUERY, LIVE_PEERS, RANGE_IDS,
    REPEAT_QUESTION_SECONDS, TURN_SECONDS, USEFUL_PART,
};
use super::store::GossipKey;
use super::time::Clocks;
use crate::types::{NodeId, ShortChannelId, Uptime};
use crate::wire::queries::{QueryFlags, QueryOption, Timestamps, UpdateChecksums, UpdateTimestamps};
use crate::wire::{
    Feature, Features, GossipTimestampFilter, Message, QueryChannelRange, QueryShortChannelIds, ReplyChannelRange,
    ShortIds,
};

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum SyncEffect {
    /// Send the message to the peer.
    Send { peer: NodeId, message: Message },
    /// Send the stored messages, in this order, before anything that follows.
    SendStored { peer: NodeId, keys: Vec<GossipKey> },
    /// The peer broke the rules of queries; a `warning` is due.
    Warn { peer: NodeId, text: &'static str },
}

/// What a peer has told so far.
#[derive(Debug, Default)]
struct Tally {
    /// Ids that it has named.
    named: usize,
    /// Those among them that the graph has.
    known: usize,
    /// Answers in a row without one of the channels that were asked for.
    barren: u32,
}

#[derive(Debug)]
enum State {
    /// Nothing is asked of it at present.
    Idle,
    AwaitingRange {
        wanted: Vec<Wanted>,
        tally: Tally,
        since: Uptime,
    },
    AwaitingIds {
        left: Vec<Wanted>,
        /// The batch that is being answered.
        asked: Vec<ShortChannelId>,
        tally: Tally,
        since: Uptime,
    },
    Live {
        since: Uptime,
        useful: bool,
    },
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
    /// Whether it answers questions at all.
    answers: bool,
    /// Whether it tells times and checksums.
    extended: bool,
    /// Since when it has waited for being asked (again): the order of turns.
    waits_since: Uptime,
    asked_at: Option<Uptime>,
}

/// See the module.
pub struct GossipSync {
    chain: ChainHash,
    peers: BTreeMap<NodeId, Peer>,
    /// Somebody told what we needed to hear.
    informed: bool,
    /// Nobody who was asked knows of any channel, and neither do we.
    nothing_to_know: bool,
    /// Somebody has answered to the end.
    answered: bool,
}

impl GossipSync {
    /// Nobody is connected, and nothing was asked.
    pub fn new(chain: ChainHash) -> Self {
        Self { chain, peers: BTreeMap::new(), informed: false, nothing_to_know: false, answered: false }
    }

    /// Whether what we know is as good as what others do, as far as can be told.
    pub fn has_caught_up(&self) -> bool {
        self.informed || self.nothing_to_know
    }

    /// Whom we listen to, and who may have much to say.
    pub fn asked(&self) -> BTreeSet<NodeId> {
        let asked = self.peers.iter().filter(|(_, peer)| !matches!(peer.state, State::Idle));
        asked.map(|(id, _)| *id).collect()
    }

    /// A peer has sent its `init`.
    pub fn connected(
        &mut self,
        peer: NodeId,
        features: &Features,
        intake: &Intake,
        clocks: &Clocks,
    ) -> Vec<SyncEffect> {
        let (answers, extended) =
            (features.supports(Feature::GossipQueries), features.supports(Feature::GossipQueriesEx));
        let waits_since = clocks.uptime;
        self.peers.insert(peer, Peer { state: State::Idle, answers, extended, waits_since, asked_at: None });
        let mut effects = self.give_turns(intake, clocks);
        if self.peers.get(&peer).is_some_and(|known| matches!(known.state, State::Idle)) {
            effects.push(send(peer, self.silence()));
        }
        effects
    }

    /// What was asked of this peer is asked of another.
    pub fn disconnected(&mut self, peer: &NodeId) {
        self.peers.remove(peer);
    }

    /// Asks those whose turn it is.
    fn give_turns(&mut self, intake: &Intake, clocks: &Clocks) -> Vec<SyncEffect> {
        let now = clocks.uptime;
        let mut effects = Vec::new();
        while let Some(next) = self.next_to_ask(intake, now) {
            if self.asked().len() >= LIVE_PEERS {
                let Some(over) = self.to_replace(now) else { break };
                effects.extend(self.end_turn(over, now));
            }
            let Some(known) = self.peers.get_mut(&next) else { break };
            known.state = State::AwaitingRange { wanted: Vec::new(), tally: Tally::default(), since: now };
            known.asked_at = Some(now);
            let query = range_query(self.chain, known.extended);
            effects.push(send(next, query));
        }
        self.look_at_nothing(intake);
        effects
    }

    /// Peers with a channel come first, then whoever has waited for the longest.
    fn next_to_ask(&self, intake: &Intake, now: Uptime) -> Option<NodeId> {
        let may = |peer: &Peer| {
            let rested = peer.asked_at.is_none_or(|at| now.is_after(at, ASK_AGAIN_SECONDS));
            peer.answers && matches!(peer.state, State::Idle) && rested
        };
        let waiting = self.peers.iter().filter(|(_, peer)| may(peer));
        let next =
            waiting.min_by_key(|(id, peer)| (peer.asked_at.is_some(), !intake.is_channel_peer(id), peer.waits_since));
        next.map(|(id, _)| *id)
    }

    /// Who gives its place to one that waits: a peer that had nothing to tell, or that has passed on for long.
    fn to_replace(&self, now: Uptime) -> Option<NodeId> {
        let replaceable = self.peers.iter().filter_map(|(id, peer)| match peer.state {
            State::Live { since, useful } if !useful || now.is_after(since, TURN_SECONDS) => Some((useful, since, *id)),
            State::Live { .. } | State::Idle | State::AwaitingRange { .. } | State::AwaitingIds { .. } => None,
        });
        replaceable.min().map(|(_, _, id)| id)
    }

    fn end_turn(&mut self, peer: NodeId, now: Uptime) -> Vec<SyncEffect> {
        let silence = self.silence();
        let Some(known) = self.peers.get_mut(&peer) else { return Vec::new() };
        known.state = State::Idle;
        known.waits_since = now;
        vec![send(peer, silence)]
    }

    /// LDK 0.2 answers for ranges of channels and not for single ones, and passes nothing on before the first filter. Such a
    /// peer is asked for all that it has by a filter from the beginning of time. It gives way to others until it is useful.
    fn ask_for_everything(&mut self, peer: NodeId, now: Uptime) -> Vec<SyncEffect> {
        let everything = self.filter(0, u32::MAX);
        let Some(known) = self.peers.get_mut(&peer) else { return Vec::new() };
        known.state = State::Live { since: now, useful: false };
        vec![send(peer, everything)]
    }

    /// BOLT 7: a filter in the far future, so that a peer does not send what others send already.
    fn silence(&self) -> Message {
        self.filter(u32::MAX, 0)
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
        clocks: &Clocks,
    ) -> Vec<SyncEffect> {
        let chain = self.chain;
        let Some(known) = self.peers.get_mut(&peer) else { return Vec::new() };
        let State::AwaitingRange { wanted, tally, since } = &mut known.state else {
            return warn(peer, "reply_channel_range without a question");
        };
        let Some(ids) = reply.encoded_short_ids.plain().filter(|_| reply.chain_hash == chain) else {
            return warn(peer, "reply_channel_range for another chain or in an encoding that is not in use");
        };
        *since = clocks.uptime;
        tally.named += ids.len();
        if tally.named > RANGE_IDS {
            let mut effects = self.end_turn(peer, clocks.uptime);
            effects.extend(self.give_turns(intake, clocks));
            effects.extend(warn(peer, "reply_channel_range names more channels than there can be"));
            return effects;
        }
        let times = match &reply.timestamps {
            Some(Timestamps::Plain(times)) => times.as_slice(),
            Some(Timestamps::Unsupported { .. }) | None => &[],
        };
        let sums = reply.checksums.as_ref().map_or(&[][..], |sums| &sums.0);
        for (index, id) in ids.iter().enumerate() {
            tally.known += usize::from(intake.graph().find_channel(*id).is_some());
            // Nothing can be known of a block that has not come yet.
            let flags =
                if id.block() > intake.height() { 0 } else { missing(intake, *id, times.get(index), sums.get(index)) };
            if flags != 0 {
                wanted.push(Wanted { id: *id, flags });
            }
        }
        // Older peers set `sync_complete` in each reply: the chain has to be covered, too.
        if reply.sync_complete == 0 || reply.end() <= intake.height().0 {
            return Vec::new();
        }
        let (mut left, tally) = (std::mem::take(wanted), std::mem::take(tally));
        // The newest first from the end of the list: new channels matter more, and all are asked for anyway.
        left.sort_by_key(|wanted| wanted.id);
        left.dedup_by_key(|wanted| wanted.id);
        known.state = State::AwaitingIds { left, asked: Vec::new(), tally, since: clocks.uptime };
        self.next_batch(peer, intake, clocks)
    }

    /// The answer to a batch is complete, and all that came with it has been looked at.
    pub fn reply_short_channel_ids_end(&mut self, peer: NodeId, intake: &Intake, clocks: &Clocks) -> Vec<SyncEffect> {
        let state = self.peers.get_mut(&peer).map(|known| &mut known.state);
        let Some(State::AwaitingIds { asked, tally, .. }) = state else {
            return if state.is_some() {
                warn(peer, "reply_short_channel_ids_end without a question")
            } else {
                Vec::new()
            };
        };
        let brought = asked.iter().filter(|id| intake.has_channel(**id)).count();
        tally.known += brought;
        tally.barren = if brought == 0 && !asked.is_empty() { tally.barren + 1 } else { 0 };
        if tally.barren >= BARREN_ANSWERS {
            let mut effects = self.end_turn(peer, clocks.uptime);
            effects.extend(self.give_turns(intake, clocks));
            return effects;
        }
        self.next_batch(peer, intake, clocks)
    }

    fn next_batch(&mut self, peer: NodeId, intake: &Intake, clocks: &Clocks) -> Vec<SyncEffect> {
        let chain_hash = self.chain;
        let Some(known) = self.peers.get_mut(&peer) else { return Vec::new() };
        let State::AwaitingIds { left, asked, tally, since } = &mut known.state else { return Vec::new() };
        if left.is_empty() {
            let known = tally.known;
            return self.caught_up_with(peer, known, intake, clocks);
        }
        *since = clocks.uptime;
        // Lists of ids have to be in order, and so does each batch from the end of an ordered list.
        let batch = left.split_off(left.len().saturating_sub(IDS_PER_QUERY));
        let flags = batch.iter().map(|wanted| wanted.flags).collect();
        // One that the graph has already counts as known before it is asked for.
        let is_new = |wanted: &&Wanted| wanted.flags & QueryFlags::CHANNEL_ANNOUNCEMENT != 0;
        *asked = batch.iter().filter(is_new).map(|wanted| wanted.id).collect();
        let query = QueryShortChannelIds {
            chain_hash,
            encoded_short_ids: ShortIds::Plain(batch.iter().map(|wanted| wanted.id).collect()),
            query_flags: known.extended.then_some(QueryFlags::Plain(flags)),
        };
        vec![send(peer, query.into())]
    }

    /// A peer has sent all, `known` channels among it that we know now.
    fn caught_up_with(&mut self, peer: NodeId, known: usize, intake: &Intake, clocks: &Clocks) -> Vec<SyncEffect> {
        let others = intake.others_channels();
        let useful = others > 0 && known.saturating_mul(USEFUL_PART) >= others;
        self.informed |= useful;
        self.answered = true;
        if let Some(known) = self.peers.get_mut(&peer) {
            known.state = State::Live { since: clocks.uptime, useful };
        }
        // An hour back: what was said while we were asking.
        let first = u32::try_from(clocks.present().0.saturating_sub(3_600)).unwrap_or(u32::MAX);
        let mut effects = vec![send(peer, self.filter(first, u32::MAX))];
        effects.extend(self.give_turns(intake, clocks));
        effects
    }

    /// Where nobody waits for a turn, those that have theirs are asked again now and then: what has been lost comes back.
    fn ask_again(&mut self, now: Uptime) -> Vec<SyncEffect> {
        let chain = self.chain;
        let due = |peer: &Peer| {
            let is_live = matches!(peer.state, State::Live { .. });
            is_live && peer.asked_at.is_some_and(|at| now.is_after(at, REPEAT_QUESTION_SECONDS))
        };
        let next = self.peers.iter_mut().filter(|(_, peer)| due(peer)).min_by_key(|(_, peer)| peer.asked_at);
        let Some((id, peer)) = next else { return Vec::new() };
        peer.state = State::AwaitingRange { wanted: Vec::new(), tally: Tally::default(), since: now };
        peer.asked_at = Some(now);
        vec![send(*id, range_query(chain, peer.extended))]
    }

    /// Where there is no public channel but our own, there is nothing to know once all have said so.
    fn look_at_nothing(&mut self, intake: &Intake) {
        let all_asked = self.peers.values().all(|peer| match peer.state {
            State::Idle => !peer.answers || peer.asked_at.is_some(),
            State::AwaitingRange { .. } | State::AwaitingIds { .. } => false,
            State::Live { .. } => true,
        });
        if !self.has_caught_up() && self.answered && all_asked {
            self.nothing_to_know = intake.others_channels() == 0;
        }
    }

    /// Ends the turns of those that do not answer, and gives them to others.
    pub fn tick(&mut self, intake: &Intake, clocks: &Clocks) -> Vec<SyncEffect> {
        let now = clocks.uptime;
        let silent = self.peers.iter().filter(|(_, peer)| match peer.state {
            State::AwaitingRange { since, .. } | State::AwaitingIds { since, .. } => {
                let too_long = peer.asked_at.is_some_and(|at| now.is_after(at, CATCH_UP_SECONDS));
                now.is_after(since, ANSWER_SECONDS) || too_long
            }
            State::Idle | State::Live { .. } => false,
        });
        let silent: Vec<(NodeId, bool)> =
            silent.map(|(id, peer)| (*id, matches!(peer.state, State::AwaitingIds { .. }))).collect();
        let mut effects = Vec::new();
        for (peer, told_range) in silent {
            effects.extend(if told_range { self.ask_for_everything(peer, now) } else { self.end_turn(peer, now) });
        }
        effects.extend(self.give_turns(intake, clocks));
        effects.extend(self.ask_again(now));
        effects
    }
}

fn range_query(chain_hash: ChainHash, extended: bool) -> Message {
    let both = QueryOption(QueryOption::WANT_TIMESTAMPS | QueryOption::WANT_CHECKSUMS);
    let query = QueryChannelRange {
        chain_hash,
        first_blocknum: 0,
        number_of_blocks: u32::MAX,
        query_option: extended.then_some(both),
    };
    query.into()
}

pub(super) fn send(peer: NodeId, message: Message) -> SyncEffect {
    SyncEffect::Send { peer, message }
}

pub(super) fn warn(peer: NodeId, text: &'static str) -> Vec<SyncEffect> {
    vec![SyncEffect::Warn { peer, text }]
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
