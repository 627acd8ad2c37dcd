//! Messages of peers on their way to the gossip task: a queue for each, emptied in turn.
//!
//! ```text
//!   peer A ──► ▮▮▮▮▮▮▮▮ full: what comes more is dropped ─┐
//!   peer B ──► ▮▮                                          ├─► one of each in turn ─► a batch of messages
//!   peer C ──► ▮▮▮ has had its checks of this second: waits┘
//! ```
//!
//! So whoever says much waits behind itself alone. What is dropped can be asked for again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::bans::Remembered;
use super::bucket::Bucket;
use super::limits::{
    BYTES_PER_CHECK, CHECKS, MESSAGE_OVERHEAD, QUEUE_BYTES, Refusal, Refusals, STRANGER_QUEUE_BYTES, STRANGERS_CHECKS,
    STRANGERS_QUEUE_BYTES, TURN_MESSAGES,
};
use crate::types::{NodeId, Uptime};
use crate::wire::{Message, ShortIds, queries::LONGEST_LIST};

/// A message and its encoded form.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The message, decoded.
    pub message: Message,
    /// The bytes as they came: what signatures cover and what is passed on.
    pub raw: Vec<u8>,
}

impl Received {
    fn weight(&self) -> usize {
        self.raw.len() + MESSAGE_OVERHEAD
    }

    /// What it may cost, in curve operations.
    fn checks(&self) -> f64 {
        match &self.message {
            Message::ChannelAnnouncement(_) => 4.0,
            Message::AnnouncementSignatures(_) => 2.0,
            Message::ChannelUpdate(_) | Message::NodeAnnouncement(_) => 1.0,
            // Questions and answers cost a look at each channel that they name; how many a compressed list names shows later.
            Message::QueryShortChannelIds(query) if matches!(query.encoded_short_ids, ShortIds::Zlib(_)) => {
                1.0 + LONGEST_LIST as f64 / BYTES_PER_CHECK
            }
            _ => 1.0 + self.raw.len() as f64 / BYTES_PER_CHECK,
        }
    }
}

struct Queue {
    messages: VecDeque<Received>,
    bytes: usize,
    checks: Bucket,
}

/// See the module.
pub struct Inbox {
    queues: BTreeMap<NodeId, Queue>,
    channel_peers: BTreeSet<NodeId>,
    /// Whom we have asked for something.
    asked: BTreeSet<NodeId>,
    muted: Remembered<NodeId, ()>,
    strangers_bytes: usize,
    strangers_checks: Bucket,
    /// Whose turn it was last.
    last: Option<NodeId>,
    refusals: Refusals,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            queues: BTreeMap::new(),
            channel_peers: BTreeSet::new(),
            asked: BTreeSet::new(),
            muted: Remembered::default(),
            strangers_bytes: 0,
            strangers_checks: Bucket::full(STRANGERS_CHECKS, Uptime(0)),
            last: None,
            refusals: Refusals::default(),
        }
    }
}

impl Inbox {
    /// A message of a peer; `false` if it was dropped.
    pub fn push(&mut self, peer: NodeId, received: Received, now: Uptime) -> bool {
        if self.muted.get(&peer, now).is_some() {
            self.refusals.count(Refusal::Muted);
            return false;
        }
        let weight = received.weight();
        let is_stranger = !self.channel_peers.contains(&peer);
        let most = if is_stranger && !self.asked.contains(&peer) { STRANGER_QUEUE_BYTES } else { QUEUE_BYTES };
        let waiting = self.queues.get(&peer).map_or(0, |queue| queue.bytes);
        // One message of any size may wait: it need not fit.
        let has_room = waiting == 0 || waiting + weight <= most;
        if !has_room || (is_stranger && self.strangers_bytes + weight > STRANGERS_QUEUE_BYTES) {
            self.refusals.count(Refusal::QueueFull);
            return false;
        }
        let queue = self.queues.entry(peer).or_insert_with(|| Queue {
            messages: VecDeque::new(),
            bytes: 0,
            checks: Bucket::full(CHECKS, now),
        });
        queue.messages.push_back(received);
        queue.bytes += weight;
        self.strangers_bytes += if is_stranger { weight } else { 0 };
        true
    }

    /// What is to be looked at now: one message of each peer in turn, as long as they have checks left, and no more than
    /// one turn's.
    pub fn turn(&mut self, now: Uptime) -> Vec<(NodeId, Received)> {
        let mut taken = Vec::new();
        let first = self.last;
        let after = |peer: &&NodeId| first.is_some_and(|first| **peer > first);
        let mut ring: VecDeque<NodeId> = self.queues.keys().filter(after).copied().collect();
        ring.extend(self.queues.keys().filter(|peer| !after(peer)).copied());
        while let Some(peer) = ring.pop_front() {
            if taken.len() >= TURN_MESSAGES {
                break;
            }
            let is_stranger = !self.channel_peers.contains(&peer);
            let Some(queue) = self.queues.get_mut(&peer) else { continue };
            let may = queue.checks.left(CHECKS, now) > 0.0;
            if !may || (is_stranger && self.strangers_checks.left(STRANGERS_CHECKS, now) <= 0.0) {
                continue;
            }
            let Some(received) = queue.messages.pop_front() else { continue };
            let (weight, checks) = (received.weight(), received.checks());
            queue.bytes = queue.bytes.saturating_sub(weight);
            queue.checks.take(checks);
            if is_stranger {
                self.strangers_bytes = self.strangers_bytes.saturating_sub(weight);
                self.strangers_checks.take(checks);
            }
            self.last = Some(peer);
            taken.push((peer, received));
            ring.push_back(peer);
        }
        // An empty queue is kept until what its messages have cost is made up for.
        self.queues.retain(|_, queue| !queue.messages.is_empty() || !queue.checks.is_full(CHECKS, now));
        taken
    }

    /// Whether anything waits.
    pub fn is_empty(&self) -> bool {
        self.queues.values().all(|queue| queue.messages.is_empty())
    }

    /// A peer has a channel with us now, or none any more.
    pub fn set_channel_peer(&mut self, peer: NodeId, has_channel: bool) {
        let waiting = self.queues.get(&peer).map_or(0, |queue| queue.bytes);
        if has_channel && self.channel_peers.insert(peer) {
            self.strangers_bytes = self.strangers_bytes.saturating_sub(waiting);
        } else if !has_channel && self.channel_peers.remove(&peer) {
            self.strangers_bytes += waiting;
        }
    }

    /// Those whom we have asked for something: their answers may be long.
    pub fn set_asked(&mut self, asked: BTreeSet<NodeId>) {
        self.asked = asked;
    }

    /// Whether this peer is one of them.
    pub fn has_asked(&self, peer: &NodeId) -> bool {
        self.asked.contains(peer)
    }

    /// Nothing of this peer is heard for a while.
    pub fn mute(&mut self, peer: NodeId, now: Uptime) {
        self.drop_messages(&peer);
        self.muted.set(peer, (), now);
    }

    /// What a peer that has gone said last is not looked at any more.
    pub fn disconnected(&mut self, peer: &NodeId) {
        self.drop_messages(peer);
        self.asked.remove(peer);
        // Its checks go along: a new connection costs more than it would win.
        self.queues.remove(peer);
    }

    /// What waits of this peer is not looked at any more. What its messages have cost stays on its account.
    pub fn drop_messages(&mut self, peer: &NodeId) {
        let is_stranger = !self.channel_peers.contains(peer);
        let Some(queue) = self.queues.get_mut(peer) else { return };
        if is_stranger {
            self.strangers_bytes = self.strangers_bytes.saturating_sub(queue.bytes);
        }
        queue.messages.clear();
        queue.bytes = 0;
    }

    /// What was refused here since the start.
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Bytes that wait, of all strangers.
    pub fn strangers_bytes(&self) -> usize {
        self.strangers_bytes
    }

    /// Bytes that wait, of all peers.
    pub fn bytes(&self) -> usize {
        self.queues.values().map(|queue| queue.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::limits::{REFUSED_SECONDS, REMEMBERED_FORGERS};
    use super::*;
    use crate::wire::GossipTimestampFilter;

    fn node(number: u8) -> NodeId {
        NodeId([number; 33])
    }

    fn message(length: usize) -> Received {
        let filter = GossipTimestampFilter {
            chain_hash: bitcoin::constants::ChainHash::REGTEST,
            first_timestamp: 0,
            timestamp_range: 0,
        };
        Received { message: filter.into(), raw: vec![0; length] }
    }

    #[test]
    fn a_peer_that_says_much_waits_behind_itself_alone() {
        let mut inbox = Inbox::default();
        let now = Uptime(0);
        inbox.set_asked(BTreeSet::from([node(1)]));
        let mut kept = 0;
        while inbox.push(node(1), message(100), now) {
            kept += 1;
        }
        assert!((5_000..6_000).contains(&kept), "{kept}");
        assert!(inbox.bytes() <= QUEUE_BYTES);
        assert_eq!(inbox.refusals().get(Refusal::QueueFull), 1);
        assert!(inbox.push(node(2), message(100), now) && inbox.push(node(3), message(100), now));
        let turn = inbox.turn(now);
        assert_eq!(turn.len(), TURN_MESSAGES);
        assert_eq!(turn[..4].iter().map(|(peer, _)| *peer).collect::<Vec<_>>(), [node(1), node(2), node(3), node(1)]);
    }

    #[test]
    fn strangers_fill_their_queues_and_no_other() {
        let mut inbox = Inbox::default();
        inbox.set_channel_peer(node(200), true);
        for number in 1..=200 {
            inbox.set_asked((1..=200).map(node).collect());
            while inbox.push(node(number), message(40_000), Uptime(0)) && number < 200 {}
        }
        assert!(inbox.strangers_bytes <= STRANGERS_QUEUE_BYTES);
        assert!(inbox.push(node(200), message(40_000), Uptime(0)), "a peer with a channel");
        assert!(inbox.bytes() <= STRANGERS_QUEUE_BYTES + QUEUE_BYTES);
        (1..=200).for_each(|number| inbox.disconnected(&node(number)));
        assert_eq!((inbox.bytes(), inbox.strangers_bytes), (0, 0));
    }

    #[test]
    fn a_peer_has_a_second_s_checks_in_a_second() {
        let mut inbox = Inbox::default();
        inbox.set_channel_peer(node(1), true);
        let mut looked_at = 0;
        for millisecond in 0..5_000 {
            while inbox.push(node(1), message(100), Uptime(millisecond)) {}
            looked_at += inbox.turn(Uptime(millisecond)).len();
        }
        let most = ((CHECKS.burst + 5.0 * CHECKS.per_second) / (1.0 + 100.0 / BYTES_PER_CHECK)) as usize;
        assert!((most - 10..=most + 1).contains(&looked_at), "{looked_at} of {most}");
    }

    #[test]
    fn a_muted_peer_is_heard_again_after_a_while() {
        let mut inbox = Inbox::default();
        assert!(inbox.push(node(1), message(9), Uptime(0)));
        inbox.mute(node(1), Uptime(0));
        assert!(inbox.is_empty());
        assert!(!inbox.push(node(1), message(9), Uptime(1)));
        assert_eq!(inbox.refusals().get(Refusal::Muted), 1);
        assert!(inbox.push(node(1), message(9), Uptime(REFUSED_SECONDS * 1_000)));
    }
    #[test]
    fn no_more_muted_peers_are_remembered_than_forgers() {
        let mut inbox = Inbox::default();
        let numbered = |number: usize| {
            let mut id = [2; 33];
            id[..8].copy_from_slice(&number.to_be_bytes());
            NodeId(id)
        };
        for number in 0..=REMEMBERED_FORGERS {
            inbox.mute(numbered(number), Uptime(number as u64));
        }
        let now = Uptime(REMEMBERED_FORGERS as u64);
        assert_eq!(inbox.muted.len(), REMEMBERED_FORGERS);
        assert!(inbox.push(numbered(0), message(9), now), "the first is forgotten first");
        assert!(
            !inbox.push(numbered(1), message(9), now) && !inbox.push(numbered(REMEMBERED_FORGERS), message(9), now)
        );
    }
}
