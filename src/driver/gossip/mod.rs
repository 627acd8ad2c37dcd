//! Gossip among the running tasks (BOLT 7).
//!
//! ```text
//!   peers' tasks ──► mailbox ──► gossip task: Intake, GossipSync, our own channels ──► peers' tasks
//!   new blocks ────►    │                 │ graph (readers: routing)
//!                       │                 └► store: the messages that passed
//!                       └ announcements above a bound are dropped: they can be asked for again
//! ```
//!
//! - [`task`]: checks, keeps and passes on what others say.   - [`own`]: what we say about our channels and ourselves.
//!
//! What is lost in a crash is asked for again, so nothing here waits for the disk.

mod own;
mod task;

use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bitcoin::{OutPoint, constants::ChainHash};
use leyden_channels::{
    channel::Channel,
    gossip::{Graph, Intake},
    payment::HintHop,
    types::{ChannelId, Height, Msat, ShortChannelId, Side},
    wire::{Features, Message},
};
use secp256k1::PublicKey;
use tokio::sync::mpsc;
use tracing::warn;

use crate::store::{Store, StoreError, Table};

pub use task::run;

/// Messages of peers that may wait. The answer to our largest question has some ten thousand.
const MAX_WAITING: usize = 16_384;

/// What the gossip task is told.
pub enum GossipEvent {
    Connected {
        peer: PublicKey,
        features: Features,
    },
    Disconnected(PublicKey),
    Message {
        from: PublicKey,
        message: Message,
    },
    /// One of our channels is new, or has changed.
    Channel(Box<OwnChannelState>),
    ChannelGone(ChannelId),
    /// A channel forwards under new terms.
    Terms(ChannelId),
    NewTip(Height),
}

/// One of our channels, as far as others may know about it.
#[derive(Clone, Debug)]
pub struct OwnChannelState {
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
    pub fn of(channel: &Channel) -> Option<Self> {
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

/// The way to the gossip task, and what it has learnt.
pub struct Gossip {
    events: mpsc::UnboundedSender<GossipEvent>,
    waiting: Arc<AtomicUsize>,
    intake: RwLock<Intake>,
    /// How payers reach us over our channels that are not announced.
    hints: Mutex<HashMap<ChannelId, HintHop>>,
    fundings: RwLock<Fundings>,
    /// Some peer has told all that it knows of the network.
    caught_up: AtomicBool,
}

/// The funding outputs of the graph's channels, as far as they have been looked up.
#[derive(Default)]
struct Fundings {
    outputs: HashMap<ShortChannelId, OutPoint>,
    ids: HashMap<OutPoint, ShortChannelId>,
}

impl Gossip {
    /// With what is stored, and the mailbox for [`run`].
    pub fn open(
        store: &Store,
        chain: ChainHash,
        local: PublicKey,
        tip: Height,
    ) -> Result<(Self, mpsc::UnboundedReceiver<GossipEvent>), StoreError> {
        let graph = load_graph(store)?;
        let (events, receiver) = mpsc::unbounded_channel();
        let intake = RwLock::new(Intake::new(chain, local.into(), graph, tip));
        Ok((
            Self {
                events,
                waiting: Arc::default(),
                intake,
                hints: Mutex::default(),
                fundings: RwLock::default(),
                caught_up: AtomicBool::default(),
            },
            receiver,
        ))
    }

    pub fn tell(&self, event: GossipEvent) {
        // The task ends with the daemon.
        let _ = self.events.send(event);
    }

    /// A message of a peer. It is dropped if too many wait: nobody depends on it.
    pub fn message(&self, from: PublicKey, message: Message) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING {
            self.tell(GossipEvent::Message { from, message });
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether some peer has told all that it knows of the network, since the start.
    pub fn has_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Relaxed)
    }

    fn note_caught_up(&self, caught_up: bool) {
        self.caught_up.store(caught_up, Ordering::Relaxed);
    }

    fn taken(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// What is known of the network. Not to be held over an await.
    pub fn intake(&self) -> RwLockReadGuard<'_, Intake> {
        self.intake.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn intake_mut(&self) -> RwLockWriteGuard<'_, Intake> {
        self.intake.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn hints_mut(&self) -> MutexGuard<'_, HashMap<ChannelId, HintHop>> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What payers of invoices are told of one such channel.
    pub fn hint(&self, channel: &ChannelId) -> Option<HintHop> {
        self.hints_mut().get(channel).copied()
    }

    /// The funding output of a channel of the graph, if it has been looked up.
    pub fn output_of(&self, id: ShortChannelId) -> Option<OutPoint> {
        self.fundings().outputs.get(&id).copied()
    }

    pub fn id_of_output(&self, output: &OutPoint) -> Option<ShortChannelId> {
        self.fundings().ids.get(output).copied()
    }

    /// Gives the other id under which this output was known: a reorganisation has moved it.
    pub fn note_output(&self, output: OutPoint, id: ShortChannelId) -> Option<ShortChannelId> {
        let mut fundings = self.fundings.write().unwrap_or_else(PoisonError::into_inner);
        fundings.outputs.insert(id, output);
        let moved = fundings.ids.insert(output, id).filter(|known| *known != id);
        if let Some(moved) = moved {
            fundings.outputs.remove(&moved);
        }
        moved
    }

    fn fundings(&self) -> RwLockReadGuard<'_, Fundings> {
        self.fundings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ways to us over open channels that the network does not know, for invoices.
    pub fn hints(&self) -> HashMap<ChannelId, HintHop> {
        self.hints_mut().clone()
    }
}

/// The graph from what is stored.
pub fn load_graph(store: &Store) -> Result<Graph, StoreError> {
    let mut graph = Graph::new();
    let looked = store.look_through(Table::Gossip, |key, value| match graph.load_record(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    })?;
    if let ControlFlow::Break(error) = looked {
        warn!(%error, "the stored gossip is given up; peers will tell it again");
        let records = store.table(Table::Gossip)?;
        store.put_table(Table::Gossip, records.into_iter().map(|(key, _)| (key, None)))?;
        return Ok(Graph::new());
    }
    Ok(graph)
}

/// Whether a message is for the gossip task.
pub fn is_gossip(message: &Message) -> bool {
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
