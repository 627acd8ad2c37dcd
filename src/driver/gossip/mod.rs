//! Gossip among the running tasks (BOLT 7).
//!
//! ```text
//!   peers' tasks ──► Inbox, a queue for each ──► gossip task: Intake, GossipSync, Serving ──► peers' tasks
//!   our channels, new blocks ──► mailbox ──────►      │ graph (readers: routing)
//!                                                     └► store: the messages that passed
//! ```
//!
//! What is dropped where a queue is full can be asked for again. All bounds are in
//! [`limits`](leyden_channels::gossip::limits).
//!
//! - [`task`]: checks, keeps and passes on what others say.   - [`own`]: what we say about our channels and ourselves.
//!
//! What is lost in a crash is asked for again, so nothing here waits for the disk.

mod outgoing;
mod own;
mod task;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use bitcoin::{OutPoint, constants::ChainHash};
use leyden_channels::{
    channel::Channel,
    gossip::{
        BanList, Direction, GossipKey, Graph, Inbox, Intake, Received,
        limits::{self, Refusal, Refusals},
    },
    payment::HintHop,
    types::{ChannelId, Height, Msat, NodeId, ShortChannelId, Side, Uptime},
    wire::{Features, Message},
};
use secp256k1::PublicKey;
use tokio::sync::{Notify, broadcast, mpsc};
use tracing::warn;

use crate::{
    limits::LimitUse,
    store::{Store, StoreError, Table},
};

pub(crate) use outgoing::GossipBatch;
pub(crate) use task::run;

/// What the gossip task is told.
pub(crate) enum GossipEvent {
    Connected {
        peer: PublicKey,
        features: Features,
        address: IpAddr,
        /// Bytes for the peer that have not left yet.
        unsent: Arc<AtomicU64>,
    },
    Disconnected(PublicKey),
    /// One of our channels is new, or has changed.
    Channel(Box<OwnChannelState>),
    ChannelGone(ChannelId),
    /// A channel forwards under new terms.
    Terms(ChannelId),
    /// The user wants nobody to use a channel, or does so no more.
    TurnedOff {
        channel: ChannelId,
        off: bool,
    },
    NewTip(Height),
}

/// Something has changed of what the network has told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GraphNews {
    Node(NodeId),
    /// The terms of one end of a channel.
    Terms(ShortChannelId, Direction),
    Gone(ShortChannelId),
}

impl GraphNews {
    fn kept(key: &GossipKey) -> Option<Self> {
        match key {
            // Nobody can use a channel before its ends have said their terms.
            GossipKey::Channel(_) => None,
            GossipKey::Update(id, direction) => Some(Self::Terms(*id, *direction)),
            GossipKey::Node(id) => Some(Self::Node(*id)),
        }
    }

    fn forgotten(key: &GossipKey) -> Option<Self> {
        match key {
            GossipKey::Channel(id) => Some(Self::Gone(*id)),
            GossipKey::Update(..) | GossipKey::Node(_) => None,
        }
    }
}

/// News of the graph that a listener may be behind.
const BACKLOG: usize = 16_384;

/// One of our channels, as far as others may know about it.
#[derive(Clone, Debug)]
pub(crate) struct OwnChannelState {
    pub channel: ChannelId,
    pub peer: PublicKey,
    pub keys_id: [u8; 32],
    pub announce: bool,
    /// It is open and not being closed.
    pub is_normal: bool,
    pub is_usable: bool,
    /// The best chain has its funding output.
    pub is_on_chain: bool,
    /// Nothing about its funding keeps it from taking HTLCs.
    pub is_funded: bool,
    /// Where its funding output is, or was last.
    pub short_channel_id: Option<ShortChannelId>,
    /// What the peer may call it, and what we may.
    pub local_alias: Option<ShortChannelId>,
    pub remote_alias: Option<ShortChannelId>,
    /// Nobody is to learn its place in the chain (`option_scid_alias`).
    pub alias_only: bool,
    pub local_funding: PublicKey,
    pub remote_funding: PublicKey,
    pub capacity: Msat,
    /// What an HTLC that we offer carries.
    pub htlc_minimum: Msat,
    pub htlc_maximum: Msat,
}

impl OwnChannelState {
    /// `None` while the channel is being opened.
    pub(crate) fn of(channel: &Channel) -> Option<Self> {
        let terms = channel.terms()?;
        let summary = channel.summary()?;
        let established = summary.established?;
        Some(Self {
            channel: terms.channel_id,
            peer: terms.remote_node.public_key().ok()?,
            keys_id: terms.keys_id,
            announce: terms.announce,
            is_normal: summary.state == leyden_channels::channel::StateName::Normal,
            is_usable: summary.usable,
            is_on_chain: established.funding_state.is_on_chain(),
            is_funded: established.is_funded,
            short_channel_id: established.short_channel_id,
            local_alias: established.local_alias,
            remote_alias: established.remote_alias,
            alias_only: terms.channel_type.scid_alias,
            local_funding: terms.sides.local.basepoints.funding,
            remote_funding: terms.sides.remote.basepoints.funding,
            capacity: terms.capacity_msat(),
            htlc_minimum: terms.htlc_minimum_of(Side::Local),
            htlc_maximum: terms.max_in_flight_of(Side::Local).min(terms.capacity_msat()),
        })
    }
}

impl OwnChannelState {
    /// Whether everybody knows the channel by this name, or is about to. A peer that has our signatures tells its terms while
    /// the announcement is still being checked here, and it says them once: who kept them back would leave everybody else
    /// without.
    pub(crate) fn is_public_name(&self, id: ShortChannelId) -> bool {
        self.announce && self.short_channel_id == Some(id)
    }
}

/// The way to the gossip task, and what it has learnt.
pub(crate) struct Gossip {
    events: mpsc::UnboundedSender<GossipEvent>,
    inbox: Mutex<Inbox>,
    /// Something has come into the inbox.
    news: Notify,
    /// Who is not let in.
    refused: Mutex<BanList>,
    /// What peers were refused outside the intake and the inbox.
    serving_refusals: Mutex<Refusals>,
    begun: Instant,
    intake: RwLock<Intake>,
    /// How payers reach us over our channels that are not announced.
    hints: Mutex<HashMap<ChannelId, HintHop>>,
    fundings: RwLock<Fundings>,
    changes: broadcast::Sender<GraphNews>,
    /// See [`Self::has_caught_up`].
    caught_up: AtomicBool,
}

/// The funding outputs of the graph's channels, as far as they have been looked up.
#[derive(Default)]
struct Fundings {
    outputs: HashMap<ShortChannelId, OutPoint>,
    ids: HashMap<OutPoint, ShortChannelId>,
    /// What the disk does not know yet.
    unsaved: HashSet<ShortChannelId>,
}

/// A row of [`Table::Fundings`].
type FundingRow = (Vec<u8>, Option<Vec<u8>>);

/// As it is kept: it is looked at again after each start, so what a reorganisation has moved meanwhile is found out.
pub(crate) fn funding_row(id: ShortChannelId, output: Option<OutPoint>) -> FundingRow {
    let value = output.map(|output| bitcoin::consensus::serialize(&output));
    (id.0.to_be_bytes().to_vec(), value)
}

impl Fundings {
    fn load(store: &Store, graph: &Graph) -> Result<Self, StoreError> {
        let mut fundings = Self::default();
        for (key, value) in store.table(Table::Fundings)? {
            let id = key.as_slice().try_into().map(|key| ShortChannelId(u64::from_be_bytes(key)));
            // Nothing hangs on a row that cannot be read: the output is looked up again.
            let (Ok(id), Ok(output)) = (id, bitcoin::consensus::deserialize(&value)) else { continue };
            if graph.channel_by_id(id).is_some() {
                if fundings.outputs.insert(id, output) != Some(output) {
                    fundings.unsaved.insert(id);
                }
                fundings.ids.insert(output, id);
            }
        }
        Ok(fundings)
    }
}

impl Gossip {
    /// With what is stored, and the mailbox for [`run`].
    pub(crate) fn open(
        store: &Store,
        chain: ChainHash,
        local: PublicKey,
        tip: Height,
    ) -> Result<(Self, mpsc::UnboundedReceiver<GossipEvent>), StoreError> {
        let graph = load_graph(store)?;
        let fundings = RwLock::new(Fundings::load(store, &graph)?);
        let (events, receiver) = mpsc::unbounded_channel();
        let intake = RwLock::new(Intake::new(chain, local.into(), graph, tip));
        Ok((
            Self {
                events,
                inbox: Mutex::default(),
                news: Notify::new(),
                refused: Mutex::default(),
                serving_refusals: Mutex::default(),
                begun: Instant::now(),
                intake,
                hints: Mutex::default(),
                fundings,
                changes: broadcast::channel(BACKLOG).0,
                caught_up: AtomicBool::default(),
            },
            receiver,
        ))
    }

    /// What changes from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<GraphNews> {
        self.changes.subscribe()
    }

    fn tell_change(&self, news: Option<GraphNews>) {
        if let Some(news) = news {
            // An error says that nobody listens.
            let _ = self.changes.send(news);
        }
    }

    pub(crate) fn tell(&self, event: GossipEvent) {
        if let GossipEvent::Disconnected(peer) = &event {
            self.inbox_mut().disconnected(&NodeId::from(*peer));
        }
        // The task ends with the daemon.
        let _ = self.events.send(event);
    }

    /// A message of a peer. It is dropped if too many of its messages wait: nobody depends on it.
    pub(crate) fn message(&self, from: PublicKey, message: Message) {
        let Ok(raw) = message.encode() else { return };
        if self.inbox_mut().push(from.into(), Received { message, raw }, self.uptime()) {
            self.news.notify_one();
        }
    }

    /// Time since the start, which nobody sets.
    pub(crate) fn uptime(&self) -> Uptime {
        Uptime(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Whether a stranger with this key, or at this address, has forged lately and is not let in.
    pub(crate) fn refuses(&self, peer: &PublicKey, address: IpAddr) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.contains(&NodeId::from(*peer), address, self.uptime())
    }

    fn refuse(&self, peer: NodeId, address: Option<IpAddr>) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).add(peer, address, self.uptime());
    }

    /// What has been refused since the start, by reason.
    pub(crate) fn refusals(&self) -> Refusals {
        let serving = *self.serving_refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let inbox = *self.inbox_mut().refusals();
        serving.with(&inbox).with(self.intake().refusals())
    }

    /// What the bounds of gossip allow, and what of it is used.
    pub(crate) fn limits(&self) -> Vec<LimitUse> {
        let refusals = self.refusals();
        let waiting = self.inbox_mut().strangers_bytes();
        let forgers = self.refused.lock().unwrap_or_else(PoisonError::into_inner).len();
        let one = |name, used: usize, limit: usize, refusals_of: &[Refusal], what| LimitUse {
            name,
            used: used as u64,
            limit: limit as u64,
            refused: refusals_of.iter().map(|refusal| refusals.get(*refusal)).sum(),
            what,
        };
        vec![
            one(
                "gossip.strangers_queue",
                waiting,
                limits::STRANGERS_QUEUE_BYTES,
                &[Refusal::QueueFull],
                "bytes of strangers' gossip that wait to be looked at; more is dropped",
            ),
            one(
                "gossip.forgers",
                forgers,
                2 * limits::REMEMBERED_FORGERS,
                &[Refusal::Forged, Refusal::Muted],
                "keys and addresses that are not let in for forged gossip; refused: what was forged or came from muted peers",
            ),
            one(
                "gossip.strangers_share",
                self.intake().strangers_bytes(),
                limits::STRANGERS_SHARE_BYTES,
                &[Refusal::RoomFull],
                "bytes of strangers' announcements that wait for their funding or its depth; who holds most gives way",
            ),
            one(
                "gossip.changes",
                0,
                limits::UPDATES.burst as usize,
                &[Refusal::TooOften, Refusal::TooLong],
                "changes of one direction of a channel at once, then one a minute; refused: too many, or too long ones",
            ),
            one(
                "gossip.questions",
                0,
                limits::QUESTIONS,
                &[Refusal::Question, Refusal::NotTaken],
                "questions of one peer at a time; refused: more of them, and news that a peer did not take",
            ),
        ]
    }

    /// A peer has a channel with us whose funding output is on the chain, or none any more.
    fn note_channel_peer(&self, peer: &PublicKey, has_channel: bool) {
        let peer = NodeId::from(*peer);
        self.inbox_mut().set_channel_peer(peer, has_channel);
        self.intake_mut().set_channel_peer(peer, has_channel);
    }

    fn inbox_mut(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether we have asked this peer to tell what it hears of the network.
    pub(crate) fn listens_to(&self, peer: &NodeId) -> bool {
        self.inbox_mut().has_asked(peer)
    }

    /// Whether we know the network as well as others do, as far as can be told.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Relaxed)
    }

    fn note_serving_refusals(&self, refusals: Refusals) {
        *self.serving_refusals.lock().unwrap_or_else(PoisonError::into_inner) = refusals;
    }

    fn note_caught_up(&self, caught_up: bool) {
        self.caught_up.store(caught_up, Ordering::Relaxed);
    }

    /// What is known of the network. Not to be held over an await.
    pub(crate) fn intake(&self) -> RwLockReadGuard<'_, Intake> {
        self.intake.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn intake_mut(&self) -> RwLockWriteGuard<'_, Intake> {
        self.intake.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn hints_mut(&self) -> MutexGuard<'_, HashMap<ChannelId, HintHop>> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What payers of invoices are told of one such channel.
    pub(crate) fn hint(&self, channel: &ChannelId) -> Option<HintHop> {
        self.hints_mut().get(channel).copied()
    }

    /// The funding outputs of channels of the graph, in their order, as far as they have been looked up. Whoever names a whole
    /// graph asks for some at a time.
    pub(crate) fn outputs_of(&self, ids: impl Iterator<Item = ShortChannelId>) -> Vec<Option<OutPoint>> {
        let fundings = self.fundings();
        ids.map(|id| fundings.outputs.get(&id).copied()).collect()
    }

    pub(crate) fn id_of_output(&self, output: &OutPoint) -> Option<ShortChannelId> {
        self.fundings().ids.get(output).copied()
    }

    /// Gives the other id under which this output was known: a reorganisation has moved it.
    pub(crate) fn note_output(&self, output: OutPoint, id: ShortChannelId) -> Option<ShortChannelId> {
        let mut fundings = self.fundings.write().unwrap_or_else(PoisonError::into_inner);
        fundings.outputs.insert(id, output);
        let moved = fundings.ids.insert(output, id).filter(|known| *known != id);
        if let Some(moved) = moved {
            fundings.outputs.remove(&moved);
            fundings.unsaved.insert(moved);
        }
        moved
    }

    /// A channel is known no longer.
    fn forget_output(&self, id: ShortChannelId) {
        let mut fundings = self.fundings.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(output) = fundings.outputs.remove(&id) {
            fundings.ids.remove(&output);
            fundings.unsaved.insert(id);
        }
    }

    /// What the disk is to know.
    fn unsaved_outputs(&self) -> Vec<FundingRow> {
        let mut fundings = self.fundings.write().unwrap_or_else(PoisonError::into_inner);
        let ids = std::mem::take(&mut fundings.unsaved);
        ids.into_iter().map(|id| funding_row(id, fundings.outputs.get(&id).copied())).collect()
    }

    fn fundings(&self) -> RwLockReadGuard<'_, Fundings> {
        self.fundings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ways to us over open channels that the network does not know, for invoices.
    pub(crate) fn hints(&self) -> HashMap<ChannelId, HintHop> {
        self.hints_mut().clone()
    }
}

/// The graph from what is stored.
pub(crate) fn load_graph(store: &Store) -> Result<Graph, StoreError> {
    let mut graph = Graph::new();
    let looked = store.look_through(Table::Gossip, |key, value| match graph.load_record(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    })?;
    if let ControlFlow::Break(error) = looked {
        warn!(%error, "the stored gossip cannot be read and is discarded; peers will send it again");
        let records = store.table(Table::Gossip)?;
        store.put_table(Table::Gossip, records.into_iter().map(|(key, _)| (key, None)))?;
        return Ok(Graph::new());
    }
    Ok(graph)
}

/// Whether a message is for the gossip task.
pub(crate) fn is_gossip(message: &Message) -> bool {
    matches!(
        message,
        Message::ChannelAnnouncement(_)
            | Message::NodeAnnouncement(_)
            | Message::ChannelUpdate(_)
            | Message::AnnouncementSignatures(_)
            | Message::QueryShortChannelIds(_)
            | Message::ReplyShortChannelIdsEnd(_)
            | Message::QueryChannelRange(_)
            | Message::ReplyChannelRange(_)
            | Message::GossipTimestampFilter(_)
    )
}

#[cfg(test)]
mod tests {
    use leyden_channels::keys::secp;

    use super::*;

    #[test]
    fn terms_of_a_channel_that_is_about_to_be_announced_are_for_everybody() {
        let key = secp256k1::SecretKey::from_slice(&[7; 32]).unwrap().public_key(secp());
        let (id, alias) = (ShortChannelId(113 << 40 | 1 << 16), ShortChannelId(16_000_000 << 40));
        let state = OwnChannelState {
            channel: ChannelId([1; 32]),
            peer: key,
            keys_id: [2; 32],
            announce: true,
            is_normal: true,
            is_usable: true,
            is_on_chain: true,
            is_funded: true,
            short_channel_id: Some(id),
            local_alias: Some(alias),
            remote_alias: None,
            alias_only: false,
            local_funding: key,
            remote_funding: key,
            capacity: Msat(1_000_000_000),
            htlc_minimum: Msat(1),
            htlc_maximum: Msat(1_000_000_000),
        };
        assert!(state.is_public_name(id));
        assert!(!state.is_public_name(alias), "the peer alone calls it so");
        assert!(!OwnChannelState { announce: false, ..state }.is_public_name(id));
    }
}
