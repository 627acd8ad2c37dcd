//! Where announcements wait until they can be believed.
//!
//! ```text
//!   channel_announcement ─► Checking ─► (signatures) ─► Funding ─► (our chain) ─► the graph
//!                                           │              └─► Young, until it has its confirmations ─► Funding again
//!                                           └─► Ahead: its block is not ours yet ─► Funding
//!   channel_update, node_announcement ─► wait beside the channel that they need
//! ```
//!
//! Each sender waits in its own place: what one says keeps nobody else's from being heard, and two may wait for the same
//! channel with different words until the chain says who is right. A stranger has a small share, all strangers together
//! have one in bytes, and when that is full whoever holds most gives way. A peer with a channel has its own, and this node
//! itself waits as long as it likes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::graph::Direction;
use super::limits::{CHANNEL_PEER_SHARE_BYTES, MESSAGE_OVERHEAD, SHARE_BYTES, STRANGERS_SHARE_BYTES};
use crate::types::{Height, NodeId, ShortChannelId};
use crate::wire::{ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};

/// Who said it; `None`: this node itself.
pub(super) type Sender = Option<NodeId>;

/// A message with its encoded form and the peer that it came from.
#[derive(Clone, Debug)]
pub(super) struct Raw<T> {
    pub message: T,
    pub raw: Vec<u8>,
    pub from: Sender,
}

impl<T> Raw<T> {
    /// What it takes: its encoded and its decoded form, and its place.
    fn weight(&self) -> usize {
        2 * self.raw.len() + MESSAGE_OVERHEAD
    }
}

/// How far the checks of an announcement are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its signatures are being checked.
    Checking,
    /// Its funding output is being looked up.
    Funding,
    /// It goes on at this height: its block has not come yet.
    Ahead(Height),
    /// It goes on at this height, with its confirmations. Its funding output is there.
    Young(Height),
}

struct Candidate {
    announcement: Raw<Box<ChannelAnnouncement>>,
    stage: Stage,
}

/// There is no room for more of this sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Local,
    ChannelPeer,
    Stranger,
}

/// See the module.
#[derive(Default)]
pub(super) struct PendingAnnouncements {
    channel_peers: BTreeSet<NodeId>,
    candidates: BTreeMap<(ShortChannelId, Sender), Candidate>,
    updates: BTreeMap<(ShortChannelId, Direction, Sender), Raw<ChannelUpdate>>,
    nodes: BTreeMap<(NodeId, Sender), Raw<Box<NodeAnnouncement>>>,
    /// How many candidates name a node.
    named: HashMap<NodeId, usize>,
    /// Bytes of each sender.
    shares: BTreeMap<Sender, usize>,
}

impl PendingAnnouncements {
    /// A peer has a channel with us now, or none any more.
    pub(super) fn set_channel_peer(&mut self, peer: NodeId, has_channel: bool) {
        if has_channel {
            self.channel_peers.insert(peer);
        } else {
            self.channel_peers.remove(&peer);
        }
    }

    pub(super) fn is_channel_peer(&self, peer: &NodeId) -> bool {
        self.channel_peers.contains(peer)
    }

    /// All bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.shares.values().sum()
    }

    /// Bytes of all strangers.
    pub(super) fn strangers_bytes(&self) -> usize {
        let strangers = self.shares.iter().filter(|(sender, _)| self.standing(**sender) == Standing::Stranger);
        strangers.map(|(_, bytes)| bytes).sum()
    }

    fn standing(&self, sender: Sender) -> Standing {
        match sender {
            None => Standing::Local,
            Some(peer) if self.channel_peers.contains(&peer) => Standing::ChannelPeer,
            Some(_) => Standing::Stranger,
        }
    }

    fn share(&self, sender: Sender) -> usize {
        self.shares.get(&sender).copied().unwrap_or_default()
    }

    /// Makes room for `more` bytes of a sender, at the expense of whoever holds most if need be.
    fn make_room(&mut self, sender: Sender, more: usize) -> Result<(), Full> {
        let wanted = self.share(sender) + more;
        match self.standing(sender) {
            Standing::Local => {}
            Standing::ChannelPeer if wanted > CHANNEL_PEER_SHARE_BYTES => return Err(Full),
            Standing::ChannelPeer => {}
            Standing::Stranger if wanted > SHARE_BYTES => return Err(Full),
            Standing::Stranger => {
                while self.strangers_bytes() + more > STRANGERS_SHARE_BYTES {
                    let strangers = self.shares.iter().filter(|(at, _)| self.standing(**at) == Standing::Stranger);
                    let most = strangers.max_by_key(|(_, bytes)| **bytes).map(|(at, bytes)| (*at, *bytes));
                    match most {
                        Some((holder, bytes)) if bytes > wanted => self.take_last_of(holder),
                        Some(_) | None => return Err(Full),
                    }
                }
            }
        }
        *self.shares.entry(sender).or_default() += more;
        Ok(())
    }

    fn release(&mut self, sender: Sender, less: usize) {
        if let Some(bytes) = self.shares.get_mut(&sender) {
            *bytes = bytes.saturating_sub(less);
            if *bytes == 0 {
                self.shares.remove(&sender);
            }
        }
    }

    /// Gives up what costs its sender least to say again.
    fn take_last_of(&mut self, sender: Sender) {
        let node = self.nodes.keys().rfind(|(_, from)| *from == sender).copied();
        let update = self.updates.keys().rfind(|(_, _, from)| *from == sender).copied();
        let candidate = self.candidates.keys().rfind(|(_, from)| *from == sender).copied();
        if let Some(key) = node {
            self.remove_node(&key);
        } else if let Some(key) = update {
            self.remove_update(&key);
        } else if let Some((id, _)) = candidate {
            self.refute(id, sender);
        } else {
            self.shares.remove(&sender);
        }
    }

    // Channels.

    /// Whether anybody's announcement of this channel waits.
    pub(super) fn awaits(&self, id: ShortChannelId) -> bool {
        self.candidates_of(id).next().is_some()
    }

    fn candidates_of(&self, id: ShortChannelId) -> impl Iterator<Item = (&(ShortChannelId, Sender), &Candidate)> {
        self.candidates.range((id, None)..).take_while(move |((at, _), _)| *at == id)
    }

    /// Whether the channel's funding output has been found, and it lacks nothing but confirmations.
    pub(super) fn is_coming(&self, id: ShortChannelId) -> bool {
        self.candidates_of(id).any(|(_, candidate)| matches!(candidate.stage, Stage::Young(_)))
    }

    /// Whether this very message of this sender waits, or any of it for the same channel.
    pub(super) fn has_candidate(&self, id: ShortChannelId, sender: Sender) -> bool {
        self.candidates.contains_key(&(id, sender))
    }

    /// Takes an announcement in, to be checked.
    pub(super) fn insert(&mut self, announcement: Raw<Box<ChannelAnnouncement>>) -> Result<(), Full> {
        let (id, from) = (announcement.message.short_channel_id, announcement.from);
        self.make_room(from, announcement.weight())?;
        for node in [announcement.message.node_id_1, announcement.message.node_id_2] {
            *self.named.entry(node).or_default() += 1;
        }
        self.candidates.insert((id, from), Candidate { announcement, stage: Stage::Checking });
        Ok(())
    }

    pub(super) fn stage(&self, id: ShortChannelId, sender: Sender) -> Option<Stage> {
        self.candidates.get(&(id, sender)).map(|candidate| candidate.stage)
    }

    /// `None` if it has been given up meanwhile.
    pub(super) fn set_stage(
        &mut self,
        id: ShortChannelId,
        sender: Sender,
        stage: Stage,
    ) -> Option<&ChannelAnnouncement> {
        let candidate = self.candidates.get_mut(&(id, sender))?;
        candidate.stage = stage;
        Some(&candidate.announcement.message)
    }

    /// Those that go on at this height.
    pub(super) fn due(&self, height: Height) -> Vec<(ShortChannelId, Sender)> {
        let is_due = |stage| matches!(stage, Stage::Ahead(at) | Stage::Young(at) if at <= height);
        let due = self.candidates.iter().filter(|(_, candidate)| is_due(candidate.stage));
        due.map(|(key, _)| *key).collect()
    }

    /// An announcement was wrong, or is given up.
    pub(super) fn refute(&mut self, id: ShortChannelId, sender: Sender) {
        self.remove_candidate(id, sender);
        if !self.awaits(id) {
            self.take_updates(id);
        }
    }

    fn remove_candidate(&mut self, id: ShortChannelId, sender: Sender) -> Option<Raw<Box<ChannelAnnouncement>>> {
        let candidate = self.candidates.remove(&(id, sender))?;
        let announcement = candidate.announcement;
        self.release(sender, announcement.weight());
        for node in [announcement.message.node_id_1, announcement.message.node_id_2] {
            if let Some(count) = self.named.get_mut(&node) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.named.remove(&node);
                    self.take_nodes(&node);
                }
            }
        }
        Some(announcement)
    }

    /// This announcement was right: it comes out with all that waited for its channel. What others said instead of it
    /// goes.
    pub(super) fn take(&mut self, id: ShortChannelId, sender: Sender) -> Option<AcceptedAnnouncement> {
        let announcement = &self.candidates.get(&(id, sender))?.announcement;
        let nodes = [announcement.message.node_id_1, announcement.message.node_id_2];
        let nodes = nodes.iter().flat_map(|node| self.take_nodes(node)).collect();
        let updates = self.take_updates(id);
        let announcement = self.remove_candidate(id, sender)?;
        self.remove_all(id);
        Some(AcceptedAnnouncement { announcement, updates, nodes })
    }

    /// Nothing of this channel waits any more.
    pub(super) fn remove_all(&mut self, id: ShortChannelId) {
        let senders: Vec<Sender> = self.candidates_of(id).map(|((_, sender), _)| *sender).collect();
        senders.into_iter().for_each(|sender| {
            self.remove_candidate(id, sender);
        });
        self.take_updates(id);
    }

    /// A peer has gone: what it said and nothing confirms goes along.
    pub(super) fn disconnected(&mut self, peer: NodeId) {
        let sender = Some(peer);
        let confirmed = |stage| matches!(stage, Stage::Young(_));
        let gone = self.candidates.iter().filter(|((_, from), at)| *from == sender && !confirmed(at.stage));
        let gone: Vec<ShortChannelId> = gone.map(|((id, _), _)| *id).collect();
        gone.into_iter().for_each(|id| self.refute(id, sender));
        let updates: Vec<_> =
            self.updates.keys().filter(|(id, _, from)| *from == sender && !self.is_coming(*id)).copied().collect();
        updates.iter().for_each(|key| {
            self.remove_update(key);
        });
    }

    // What waits beside them.

    /// An update of a channel that waits. A sender's later one replaces its earlier one; `false` if it is not later.
    pub(super) fn insert_update(&mut self, direction: Direction, update: Raw<ChannelUpdate>) -> Result<bool, Full> {
        let key = (update.message.short_channel_id, direction, update.from);
        if self.updates.get(&key).is_some_and(|known| known.message.timestamp >= update.message.timestamp) {
            return Ok(false);
        }
        self.remove_update(&key);
        self.make_room(update.from, update.weight())?;
        self.updates.insert(key, update);
        Ok(true)
    }

    fn remove_update(&mut self, key: &(ShortChannelId, Direction, Sender)) -> Option<Raw<ChannelUpdate>> {
        let update = self.updates.remove(key)?;
        self.release(update.from, update.weight());
        Some(update)
    }

    fn take_updates(&mut self, id: ShortChannelId) -> Vec<Raw<ChannelUpdate>> {
        let first = (id, Direction::FromNode1, None);
        let keys: Vec<_> = self.updates.range(first..).map(|(key, _)| *key).take_while(|(at, ..)| *at == id).collect();
        distinct(keys.iter().filter_map(|key| self.remove_update(key)).collect())
    }

    /// Whether the first channel of a node may be on its way.
    pub(super) fn awaits_node(&self, node: &NodeId) -> bool {
        self.named.contains_key(node)
    }

    /// What a node says whose first channel waits. A sender's later one replaces its earlier one.
    pub(super) fn insert_node(&mut self, announcement: Raw<Box<NodeAnnouncement>>) -> Result<bool, Full> {
        let key = (announcement.message.node_id, announcement.from);
        if self.nodes.get(&key).is_some_and(|known| known.message.timestamp >= announcement.message.timestamp) {
            return Ok(false);
        }
        self.remove_node(&key);
        self.make_room(announcement.from, announcement.weight())?;
        self.nodes.insert(key, announcement);
        Ok(true)
    }

    fn remove_node(&mut self, key: &(NodeId, Sender)) -> Option<Raw<Box<NodeAnnouncement>>> {
        let node = self.nodes.remove(key)?;
        self.release(node.from, node.weight());
        Some(node)
    }

    fn take_nodes(&mut self, node: &NodeId) -> Vec<Raw<Box<NodeAnnouncement>>> {
        let keys: Vec<_> =
            self.nodes.range((*node, None)..).map(|(key, _)| *key).take_while(|(at, _)| at == node).collect();
        distinct(keys.iter().filter_map(|key| self.remove_node(key)).collect())
    }
}

/// An announcement that is believed, and what has waited for it.
pub(super) struct AcceptedAnnouncement {
    pub announcement: Raw<Box<ChannelAnnouncement>>,
    pub updates: Vec<Raw<ChannelUpdate>>,
    pub nodes: Vec<Raw<Box<NodeAnnouncement>>>,
}

/// Each message once, whoever else sent it.
fn distinct<T>(messages: Vec<Raw<T>>) -> Vec<Raw<T>> {
    let mut seen = HashSet::new();
    messages.into_iter().filter(|message| seen.insert(message.raw.clone())).collect()
}
