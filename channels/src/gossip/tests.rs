//! Gossip between nodes that sign for real, over a chain that the test makes up.

#![allow(unreachable_pub, reason = "helpers are shared between tests")]

use std::collections::{BTreeMap, HashMap, VecDeque};

use bitcoin::constants::ChainHash;
use bitcoin::{Amount, ScriptBuf};
use secp256k1::{Message as Digest, SecretKey};

mod asking;
mod clocks;
mod forging;
mod records;
mod serving;

use super::announce::{AnnounceError, OwnChannel, OwnNode, OwnUpdate, is_refresh_due};
use super::serving::FLUSH_SECONDS;
use super::store::{channel_record, funding_script_of, stored_message};
use super::sync::SyncEffect;
use super::synthetic::{Size, SyntheticNetwork};
use super::{Clocks, Direction, FundingAnswer, GossipEffect, GossipKey, GossipSync, Graph, Ignored, Intake, Serving};
use crate::keys::secp;
use crate::tx::funding_script_pubkey;
use crate::types::{ChannelId, Height, Msat, NodeId, ShortChannelId, UnixTime, Uptime};
use crate::wire::{
    ChannelAnnouncement, ChannelUpdate, Feature, Features, Message, NodeAnnouncement, QueryChannelRange, ShortIds,
    alias_text,
};

const CHAIN: ChainHash = ChainHash::REGTEST;
const NOW: UnixTime = UnixTime(1_700_000_000);
const TIP: Height = Height(1_000);

/// All clocks so many seconds after [`NOW`], and right.
fn after(seconds: u64) -> Clocks {
    let now = UnixTime(NOW.0 + seconds);
    Clocks { wall: now, chain: UnixTime(now.0 - 3_600), uptime: Uptime(1_000_000 + seconds * 1_000) }
}

fn secret(number: u64) -> SecretKey {
    let mut bytes = [1; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    SecretKey::from_slice(&bytes).unwrap()
}

fn node(number: u64) -> NodeId {
    secret(number).public_key(secp()).into()
}

fn sign(digest: &Digest, number: u64) -> secp256k1::ecdsa::Signature {
    secp().sign_ecdsa(digest, &secret(number))
}

fn own_channel(id: ShortChannelId, local: u64, remote: u64) -> OwnChannel {
    OwnChannel {
        chain_hash: CHAIN,
        channel_id: ChannelId([3; 32]),
        short_channel_id: id,
        local_node: secret(local).public_key(secp()),
        remote_node: secret(remote).public_key(secp()),
        local_funding: secret(local + 1_000_000).public_key(secp()),
        remote_funding: secret(remote + 1_000_000).public_key(secp()),
        features: Features::empty(),
    }
}

/// A channel announcement that both ends signed.
fn announcement(id: ShortChannelId, local: u64, remote: u64) -> ChannelAnnouncement {
    let (here, there) = (own_channel(id, local, remote), own_channel(id, remote, local));
    let digest = here.digest();
    assert_eq!(digest, there.digest());
    let halves = [(&here, local), (&there, remote)]
        .map(|(channel, number)| channel.signatures(sign(&digest, number), sign(&digest, number + 1_000_000)));
    let made = here.announcement(&halves[0], &halves[1]).unwrap();
    assert_eq!(made, there.announcement(&halves[1], &halves[0]).unwrap());
    made
}

fn update(id: ShortChannelId, from: u64, to: u64, base: u32, timestamp: u32) -> ChannelUpdate {
    let own = OwnUpdate {
        chain_hash: CHAIN,
        short_channel_id: id,
        direction: own_channel(id, from, to).direction(),
        announced: true,
        disabled: false,
        cltv_expiry_delta: 40,
        htlc_minimum_msat: Msat(1),
        htlc_maximum_msat: Msat(900_000_000),
        fee_base_msat: base,
        fee_proportional_millionths: 10,
    };
    own.sign(UnixTime(u64::from(timestamp)), None, |digest| sign(digest, from))
}

fn node_announcement(number: u64, timestamp: u32) -> NodeAnnouncement {
    let own = OwnNode {
        node_id: node(number),
        features: Features::init(),
        alias: format!("node {number}"),
        rgb_color: [1, 2, 3],
        addresses: Vec::new(),
    };
    own.sign(UnixTime(u64::from(timestamp)), None, |digest| sign(digest, number))
}

/// A node's gossip, with the driver that the test plays.
struct Peer {
    id: NodeId,
    intake: Intake,
    sync: GossipSync,
    serving: Serving,
    store: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The unspent funding outputs of the made-up chain.
    chain: HashMap<ShortChannelId, (ScriptBuf, Amount)>,
    warnings: Vec<String>,
    hung_up: Vec<NodeId>,
    muted: Vec<NodeId>,
    received: usize,
    clocks: Clocks,
}

impl Peer {
    fn new(number: u64) -> Self {
        let id = node(number);
        Self {
            id,
            intake: Intake::new(CHAIN, id, Graph::new(), TIP),
            sync: GossipSync::new(CHAIN),
            serving: Serving::new(CHAIN, after(0).uptime),
            store: BTreeMap::new(),
            chain: HashMap::new(),
            warnings: Vec::new(),
            hung_up: Vec::new(),
            muted: Vec::new(),
            received: 0,
            clocks: after(0),
        }
    }

    /// A node that sees these channels' funding outputs, each of a million satoshis.
    fn fund(&mut self, id: ShortChannelId, local: u64, remote: u64) {
        let channel = own_channel(id, local, remote);
        let script = funding_script_pubkey(&channel.local_funding, &channel.remote_funding);
        self.chain.insert(id, (script, Amount::from_sat(1_000_000)));
    }

    fn run(&mut self, effects: Vec<GossipEffect>) {
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            match effect {
                GossipEffect::Verify(check) => queue.extend(self.intake.verified(check.run(), &self.clocks)),
                GossipEffect::CheckFunding { short_channel_id, from, script_pubkey } => {
                    let answer = match self.chain.get(&short_channel_id) {
                        Some((script, amount)) if *script == script_pubkey => FundingAnswer::Unspent(*amount),
                        Some(_) => FundingAnswer::Mismatch,
                        None => FundingAnswer::Spent,
                    };
                    queue.extend(self.intake.funding_checked(short_channel_id, from, answer, &self.clocks));
                }
                GossipEffect::Put { key, value } => {
                    self.store.insert(key.encode(), value);
                }
                GossipEffect::Delete { key } => {
                    self.store.remove(&key.encode());
                }
                GossipEffect::Relay { key, timestamp, from } => self.serving.relay(key, timestamp, from),
                GossipEffect::Warn { text, .. } => self.warnings.push(text),
                GossipEffect::HangUp { peer } => self.hung_up.push(peer),
                GossipEffect::Mute { peer } => self.muted.push(peer),
            }
        }
    }

    fn take(&mut self, message: impl Into<Message>, from: Option<NodeId>) -> Result<(), Ignored> {
        let effects = self.first_look(message, from)?;
        self.run(effects);
        Ok(())
    }

    /// Without what follows from it.
    fn first_look(&mut self, message: impl Into<Message>, from: Option<NodeId>) -> Result<Vec<GossipEffect>, Ignored> {
        let message = message.into();
        let raw = message.encode().unwrap();
        match message {
            Message::ChannelAnnouncement(channel) => self.intake.channel_announcement(channel, raw, from),
            Message::ChannelUpdate(update) => self.intake.channel_update(update, raw, from, &self.clocks),
            Message::NodeAnnouncement(node) => self.intake.node_announcement(node, raw, from, &self.clocks),
            other => panic!("no gossip: {other:?}"),
        }
    }

    /// All that a peer is to be told, as if it read at once.
    fn serve_all(&mut self, peer: NodeId) -> Vec<SyncEffect> {
        let mut effects = Vec::new();
        loop {
            let piece = self.serving.serve(peer, false, self.intake.graph(), self.clocks.uptime);
            if piece.is_empty() {
                return effects;
            }
            effects.extend(piece);
        }
    }

    fn connect(&mut self, peer: NodeId, features: &Features) -> Vec<SyncEffect> {
        self.serving.connected(peer, self.clocks.uptime);
        self.sync.connected(peer, features, &self.intake, &self.clocks)
    }

    fn disconnect(&mut self, peer: &NodeId) {
        self.serving.disconnected(peer);
        self.sync.disconnected(peer);
        self.intake.disconnected(*peer);
    }

    fn block(&mut self, height: u32) {
        let effects = self.intake.block_connected(Height(height));
        self.run(effects);
    }

    fn stored(&self, key: &GossipKey) -> Message {
        Message::decode(stored_message(key, &self.store[&key.encode()]).unwrap()).unwrap()
    }
}

const ID: ShortChannelId = ShortChannelId(500 << 40 | 7 << 16);
const TIME: u32 = NOW.0 as u32 - 1000;

/// A node that has taken one channel, between nodes 1 and 2.
fn with_channel() -> Peer {
    let mut peer = Peer::new(99);
    peer.fund(ID, 1, 2);
    peer.take(announcement(ID, 1, 2), Some(node(7))).unwrap();
    peer
}

#[test]
fn a_channel_with_its_updates_and_nodes_is_taken_and_kept() {
    let mut peer = with_channel();
    peer.take(update(ID, 1, 2, 100, TIME), None).unwrap();
    peer.take(update(ID, 2, 1, 200, TIME), None).unwrap();
    peer.take(node_announcement(1, TIME), None).unwrap();
    let graph = peer.intake.graph();
    assert_eq!((graph.node_count(), graph.channel_count()), (2, 1));
    let channel = graph.channel_by_id(ID).unwrap();
    assert_eq!(channel.capacity, Amount::from_sat(1_000_000));
    let from_1 = own_channel(ID, 1, 2).direction();
    assert_eq!(channel.policies.get(from_1).unwrap().fee_base_msat, 100);
    assert_eq!(channel.policies.get(from_1.opposite()).unwrap().fee_base_msat, 200);
    assert_eq!(&graph.node(graph.find_node(&node(1)).unwrap()).unwrap().info.as_ref().unwrap().alias[..6], b"node 1");
    assert_eq!(peer.store.len(), 4);
    let loaded = Graph::load(peer.store.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))).unwrap();
    assert_same(&loaded, graph);
    assert!(peer.warnings.is_empty());
}

/// Two graphs know the same, whatever their indices are.
fn assert_same(one: &Graph, other: &Graph) {
    let channels = |graph: &Graph| -> Vec<_> {
        let id = |index| graph.node(index).map(|node| (node.id, node.info.clone()));
        graph
            .channels()
            .map(|c| (c.short_channel_id, id(c.node_1), id(c.node_2), c.capacity, c.policies, c.spent_at))
            .collect()
    };
    assert_eq!(channels(one), channels(other));
}

#[test]
fn forgeries_are_refused_and_reported() {
    let mut peer = Peer::new(99);
    peer.fund(ID, 1, 2);
    let mut forged = announcement(ID, 1, 2);
    forged.bitcoin_signature_2 = forged.bitcoin_signature_1;
    peer.take(forged, Some(node(7))).unwrap();
    assert_eq!(peer.warnings.len(), 1);
    assert!(!peer.intake.has_channel(ID));
    // The honest announcement is taken afterwards.
    peer.take(announcement(ID, 1, 2), Some(node(7))).unwrap();
    let mut stolen = update(ID, 1, 2, 5, TIME);
    stolen.channel_flags ^= ChannelUpdate::DIRECTION;
    peer.take(stolen, Some(node(7))).unwrap();
    assert_eq!(peer.warnings.len(), 2);
    let mut altered = node_announcement(1, TIME);
    altered.alias[0] = b'N';
    peer.take(altered, Some(node(7))).unwrap();
    assert_eq!(peer.warnings.len(), 3);
    let graph = peer.intake.graph();
    assert!(graph.channel_by_id(ID).unwrap().policies.from_node_1.is_none());
    assert!(graph.nodes().all(|(_, node)| node.info.is_none()));
}

#[test]
fn a_channel_needs_its_output_on_our_chain() {
    let mut peer = Peer::new(99);
    peer.take(announcement(ID, 1, 2), Some(node(7))).unwrap();
    assert!(!peer.intake.has_channel(ID) && peer.warnings.is_empty(), "spent outputs are no one's fault");
    peer.fund(ID, 1, 3);
    peer.take(announcement(ID, 1, 2), Some(node(7))).unwrap();
    assert!(!peer.intake.has_channel(ID));
    assert_eq!(peer.warnings.len(), 1);
    let mut other = announcement(ID, 1, 2);
    other.chain_hash = ChainHash::BITCOIN;
    assert_eq!(peer.take(other, None), Err(Ignored::OtherChain));
    let mut reversed = announcement(ID, 1, 2);
    std::mem::swap(&mut reversed.node_id_1, &mut reversed.node_id_2);
    assert_eq!(peer.take(reversed, None), Err(Ignored::NodeOrder));
}

#[test]
fn what_comes_before_its_channel_waits_for_it() {
    let mut peer = Peer::new(99);
    peer.fund(ID, 1, 2);
    let channel = announcement(ID, 1, 2);
    let effects = peer.first_look(channel.clone(), None).unwrap();
    assert_eq!(peer.take(channel, None), Err(Ignored::Known));
    peer.take(update(ID, 1, 2, 100, TIME), None).unwrap();
    peer.take(update(ID, 1, 2, 101, TIME + 1), None).unwrap();
    assert_eq!(peer.take(update(ID, 1, 2, 100, TIME), None), Err(Ignored::Known));
    peer.take(node_announcement(2, TIME), None).unwrap();
    assert_eq!(peer.take(node_announcement(3, TIME), None), Err(Ignored::UnknownNode));
    peer.run(effects);
    let graph = peer.intake.graph();
    let policy = graph.channel_by_id(ID).unwrap().policies.get(own_channel(ID, 1, 2).direction()).unwrap();
    assert_eq!(policy.fee_base_msat, 101);
    assert!(graph.node(graph.find_node(&node(2)).unwrap()).unwrap().info.is_some());
}

#[test]
fn a_young_channel_waits_for_its_confirmations() {
    let mut peer = Peer::new(99);
    let young = ShortChannelId::new(Height(TIP.0 - 3), 0, 0);
    peer.fund(young, 1, 2);
    peer.take(announcement(young, 1, 2), None).unwrap();
    assert!(peer.intake.block_connected(Height(TIP.0 + 1)).is_empty());
    assert!(peer.intake.has_channel(young) && peer.intake.graph().channel_by_id(young).is_none());
    peer.block(TIP.0 + 2);
    assert!(peer.intake.graph().channel_by_id(young).is_some());
    let far = ShortChannelId::new(Height(TIP.0 + 4), 0, 0);
    assert_eq!(peer.take(announcement(far, 1, 2), None), Err(Ignored::FromTheFuture));
}

#[test]
fn what_comes_for_a_young_channel_waits_with_it() {
    let mut peer = Peer::new(99);
    let young = ShortChannelId::new(Height(TIP.0 - 3), 0, 0);
    peer.fund(young, 1, 2);
    peer.take(announcement(young, 1, 2), None).unwrap();
    // Senders that are a block ahead say each of these once.
    for (from, to) in [(1, 2), (2, 1)] {
        peer.take(update(young, from, to, 1, TIME), None).unwrap();
    }
    assert_eq!(peer.take(announcement(young, 1, 2), None), Err(Ignored::Known), "said again");
    peer.block(TIP.0 + 2);
    let policies = peer.intake.graph().channel_by_id(young).unwrap().policies;
    assert!(policies.from_node_1.is_some() && policies.from_node_2.is_some());
}

#[test]
fn old_contradictory_and_too_frequent_updates_are_ignored() {
    let mut peer = with_channel();
    let from = Some(node(7));
    assert_eq!(peer.take(update(ShortChannelId(1), 1, 2, 1, TIME), from), Err(Ignored::UnknownChannel));
    let late = u32::try_from(NOW.0).unwrap() + 100_000;
    assert_eq!(peer.take(update(ID, 1, 2, 1, late), from), Err(Ignored::FromTheFuture));
    assert_eq!(peer.take(update(ID, 1, 2, 1, TIME - 15 * 86_400), from), Err(Ignored::Stale));
    let mut limits = update(ID, 1, 2, 1, TIME);
    limits.htlc_maximum_msat = Msat(0);
    assert_eq!(peer.take(limits.clone(), from), Err(Ignored::Limits));
    limits.htlc_maximum_msat = Msat(1_000_000_001);
    assert_eq!(peer.take(limits, from), Err(Ignored::Limits));
    peer.take(update(ID, 1, 2, 1, TIME), from).unwrap();
    assert_eq!(peer.take(update(ID, 1, 2, 2, TIME), from), Err(Ignored::Known));
    assert_eq!(peer.take(update(ID, 1, 2, 1, TIME + 600), from), Err(Ignored::Known), "nothing new in it");
    for turn in 1..10 {
        peer.take(update(ID, 1, 2, 10 + turn, TIME + turn), from).unwrap();
    }
    assert_eq!(peer.take(update(ID, 1, 2, 50, TIME + 50), from), Err(Ignored::TooOften));
    assert_eq!(peer.take(update(ID, 2, 1, 50, TIME + 50), from), Ok(()), "the other end has its own allowance");
    peer.clocks = after(61);
    assert_eq!(peer.take(update(ID, 1, 2, 50, TIME + 50), from), Ok(()));
}

#[test]
fn a_channel_whose_output_has_moved_is_forgotten_at_once_wherever_it_was_on_its_way() {
    let new_id = ShortChannelId(501 << 40 | 3 << 16);
    let mut peer = with_channel();
    peer.take(update(ID, 1, 2, 1, TIME), None).unwrap();
    let record = &peer.store[&GossipKey::Channel(ID).encode()];
    let channel = own_channel(ID, 1, 2);
    let script = funding_script_pubkey(&channel.local_funding, &channel.remote_funding);
    assert_eq!(funding_script_of(record), Some(script), "what the output at its place has to be");
    peer.fund(new_id, 1, 2);
    peer.take(announcement(new_id, 1, 2), Some(node(7))).unwrap();
    let effects = peer.intake.moved_away(ID);
    peer.run(effects);
    assert!(!peer.intake.has_channel(ID) && peer.intake.has_channel(new_id));
    assert!(!peer.store.contains_key(&GossipKey::Channel(ID).encode()));
    assert_eq!(peer.take(update(ID, 1, 2, 2, TIME + 1), None), Err(Ignored::UnknownChannel));
    assert!(peer.intake.moved_away(ID).is_empty());
    // One that waits for its confirmations is not checked any more.
    let young = ShortChannelId(999 << 40 | 1 << 16);
    peer.fund(young, 3, 4);
    peer.take(announcement(young, 3, 4), Some(node(7))).unwrap();
    let effects = peer.intake.moved_away(young);
    peer.run(effects);
    assert!(peer.intake.block_connected(Height(1_010)).is_empty());
}

#[test]
fn a_spent_channel_is_not_used_and_forgotten_after_72_blocks() {
    let mut peer = with_channel();
    peer.take(update(ID, 1, 2, 1, TIME), None).unwrap();
    let key = GossipKey::Channel(ID);
    let stored = |peer: &Peer| peer.store[&key.encode()].clone();
    let record = stored(&peer);
    let effects = peer.intake.funding_spent(ID, Some(Height(1_001)), &record);
    peer.run(effects);
    assert_eq!(peer.take(update(ID, 1, 2, 2, TIME + 1), None), Err(Ignored::Spent));
    let edges = |peer: &Peer| {
        let graph = peer.intake.graph();
        graph.outgoing(graph.find_node(&node(1)).unwrap())[0].htlc_maximum_msat
    };
    assert_eq!(edges(&peer), 0.0);
    // It is remembered over a restart, and a reorganisation takes it back.
    let loaded = Graph::load(peer.store.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))).unwrap();
    assert_same(&loaded, peer.intake.graph());
    let record = stored(&peer);
    let effects = peer.intake.funding_spent(ID, None, &record);
    peer.run(effects);
    assert!(edges(&peer) > 0.0);
    let record = stored(&peer);
    let effects = peer.intake.funding_spent(ID, Some(Height(1_001)), &record);
    peer.run(effects);
    let effects = peer.intake.block_connected(Height(1_072));
    assert!(effects.is_empty());
    let effects = peer.intake.block_connected(Height(1_073));
    peer.run(effects);
    assert_eq!(peer.intake.graph().channel_count(), 0);
    assert!(peer.store.is_empty());
}

#[test]
fn silent_channels_are_pruned_but_not_our_own() {
    let mut peer = with_channel();
    let own = ShortChannelId::new(Height(600), 0, 0);
    peer.fund(own, 99, 1);
    peer.take(announcement(own, 99, 1), None).unwrap();
    peer.take(update(ID, 1, 2, 1, TIME), None).unwrap();
    peer.take(update(own, 99, 1, 1, TIME), None).unwrap();
    let two_weeks = u64::from(TIME) + 14 * 86_400 - NOW.0;
    assert!(peer.intake.prune(&after(two_weeks)).is_empty());
    let effects = peer.intake.prune(&after(two_weeks + 1));
    peer.run(effects);
    assert_eq!(peer.intake.graph().channels().map(|c| c.short_channel_id).collect::<Vec<_>>(), [own]);
}

#[test]
fn our_announcements_keep_their_own_rules() {
    let channel = own_channel(ID, 1, 2);
    let digest = channel.digest();
    let local = channel.signatures(sign(&digest, 1), sign(&digest, 1_000_001));
    let mut remote = channel.signatures(sign(&digest, 2), sign(&digest, 1_000_002));
    remote.bitcoin_signature = remote.node_signature;
    assert_eq!(channel.announcement(&local, &remote), Err(AnnounceError::BitcoinSignature));
    remote.node_signature = local.node_signature;
    assert_eq!(channel.announcement(&local, &remote), Err(AnnounceError::NodeSignature));
    remote.short_channel_id = ShortChannelId(1);
    let other = AnnounceError::OtherChannel { expected: ID, got: ShortChannelId(1) };
    assert_eq!(channel.announcement(&local, &remote), Err(other));
    // Times go forward even if the clock does not, and an alias is cut between characters.
    let own = OwnNode {
        node_id: node(1),
        features: Features::empty(),
        alias: "ä".repeat(20) + "x",
        rgb_color: [0; 3],
        addresses: Vec::new(),
    };
    let made = own.sign(UnixTime(50), Some(70), |digest| sign(digest, 1));
    assert_eq!((made.timestamp, alias_text(&made.alias)), (71, "ä".repeat(16)));
    assert!(is_refresh_due(TIME, &after(13 * 86_400 - 1_000)) && !is_refresh_due(TIME, &after(13 * 86_400 - 1_001)));
}

/// Passes messages between two nodes until both are quiet.
fn converse(a: &mut Peer, b: &mut Peer, effects: Vec<SyncEffect>) {
    let mut queue: VecDeque<(bool, SyncEffect)> = effects.into_iter().map(|effect| (true, effect)).collect();
    while let Some((from_a, effect)) = queue.pop_front() {
        let (sender, receiver) = if from_a { (&mut *a, &mut *b) } else { (&mut *b, &mut *a) };
        let messages = match effect {
            SyncEffect::Send { message, .. } => vec![message],
            SyncEffect::SendStored { keys, .. } => keys.iter().map(|key| sender.stored(key)).collect(),
            SyncEffect::Warn { text, .. } => panic!("{text}"),
        };
        let from = sender.id;
        for message in messages {
            assert!(message.encode().is_ok());
            receiver.received += 1;
            let (intake, clocks) = (&receiver.intake, &receiver.clocks);
            let mut answers = match message {
                Message::QueryChannelRange(query) => receiver.serving.query_channel_range(from, &query),
                Message::ReplyChannelRange(reply) => receiver.sync.reply_channel_range(from, &reply, intake, clocks),
                Message::QueryShortChannelIds(query) => receiver.serving.query_short_channel_ids(from, &query),
                Message::ReplyShortChannelIdsEnd(_) => receiver.sync.reply_short_channel_ids_end(from, intake, clocks),
                Message::GossipTimestampFilter(filter) => {
                    receiver.serving.gossip_timestamp_filter(from, filter);
                    continue;
                }
                gossip => {
                    let _ = receiver.take(gossip, Some(from));
                    Vec::new()
                }
            };
            answers.extend(receiver.serve_all(from));
            queue.extend(answers.into_iter().map(|answer| (!from_a, answer)));
        }
    }
}

/// A node that knows `count` channels, all with updates, and some of their nodes.
fn informed(count: u64) -> Peer {
    let mut peer = Peer::new(500);
    for number in 0..count {
        let id = ShortChannelId::new(Height(100 + number as u32 / 3), number as u32 % 3, 0);
        let (a, b) = (number % 17 + 1, number % 13 + 20);
        peer.fund(id, a, b);
        peer.take(announcement(id, a, b), None).unwrap();
        peer.take(update(id, a, b, number as u32, TIME), None).unwrap();
        peer.take(update(id, b, a, 7, TIME), None).unwrap();
    }
    for number in 1..10 {
        peer.take(node_announcement(number, TIME), None).unwrap();
    }
    peer
}

#[test]
fn a_new_node_catches_up_in_one_pass() {
    for extended in [true, false] {
        let mut features = Features::empty().offer(Feature::GossipQueries);
        if extended {
            features = features.offer(Feature::GossipQueriesEx);
        }
        let mut old = informed(60);
        let mut new = Peer::new(600);
        new.chain = old.chain.clone();
        let (old_id, new_id) = (old.id, new.id);
        old.connect(new_id, &Features::empty());
        let start = new.connect(old_id, &features);
        converse(&mut new, &mut old, start);
        assert_same(new.intake.graph(), old.intake.graph());
        assert!(new.sync.has_caught_up());
        // What was said within the last hour.
        old.serve_all(new_id);
        assert!(new.warnings.is_empty());
        // 60 channels, 120 updates, 9 nodes, a reply and an end: nothing came twice.
        assert_eq!(new.received, 60 + 120 + 9 + 2);

        // The second time nothing is sent again but what changed.
        let changed = old.intake.graph().channels().next().unwrap().short_channel_id;
        old.take(update(changed, 1, 20, 77, TIME + 1), None).unwrap();
        new.disconnect(&old_id);
        new.received = 0;
        let start = new.connect(old_id, &features);
        converse(&mut new, &mut old, start);
        assert_eq!(new.received, if extended { 3 } else { 1 });
        if extended {
            assert_same(new.intake.graph(), old.intake.graph());
        }
        old.serve_all(new_id);
        // And once a minute the filter lets through what is new.
        let id = old.intake.graph().channels().last().unwrap().short_channel_id;
        let (a, b) = (59 % 17 + 1, 59 % 13 + 20);
        old.take(update(id, a, b, 88, TIME + 2), None).unwrap();
        old.serving.tick(old.clocks.uptime);
        assert!(old.serve_all(new_id).is_empty());
        old.serving.tick(after(FLUSH_SECONDS).uptime);
        let flushed = old.serve_all(new_id);
        converse(&mut old, &mut new, flushed);
        assert_same(new.intake.graph(), old.intake.graph());
        // What came from the peer does not go back to it.
        new.serving.tick(after(FLUSH_SECONDS).uptime);
        assert!(new.serve_all(old_id).is_empty());
    }
}
