//! News for whoever listens: the streams of the API.
//!
//! A listener that falls behind is told so by its receiver and reads the present state again; nobody waits for it.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use bitcoin::OutPoint;
use leyden_channels::{
    channel::{FinalHtlc, Summary},
    payment::{
        incoming::Invoice,
        outgoing::{Payment, PaymentState},
    },
    switch::HtlcEvent,
    types::{ChannelId, CltvExpiry, HtlcId, Msat, PaymentHash, PaymentPreimage, ShortChannelId, UnixTime},
};
use secp256k1::PublicKey;
use tokio::sync::{broadcast, mpsc};

use crate::limits::CUSTOM_BACKLOG;

/// News that a listener may be behind.
const BACKLOG: usize = 16_384;

/// Something happened to a channel.
#[derive(Clone, Debug)]
pub(crate) enum ChannelNews {
    Pending(OutPoint),
    Open(Arc<Summary>),
    Usable {
        funding: OutPoint,
        usable: bool,
    },
    Closed(OutPoint),
    /// Nothing that came of its close is open any more.
    Resolved(OutPoint),
}

/// A node has come, or gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerNews {
    pub node_id: PublicKey,
    pub is_online: bool,
}

/// News of an HTLC.
#[derive(Clone, Debug)]
pub(crate) enum HtlcActivity {
    Forward(HtlcEvent),
    Own(OwnHtlc),
}

/// News of an HTLC that begins or ends here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnHtlc {
    pub at: UnixTime,
    pub channel: ChannelId,
    /// `None` until the channel has taken it.
    pub id: Option<HtlcId>,
    pub news: OwnHtlcNews,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum OwnHtlcNews {
    /// Ours: handed to the channel, and what came of it.
    Offered {
        amount: Msat,
        expiry: CltvExpiry,
    },
    Paid {
        preimage: PaymentPreimage,
    },
    Failed,
    /// For us: taken, or not.
    Taken {
        preimage: PaymentPreimage,
    },
    Rejected,
    /// Of the peer's: nothing can change it any more. The channel's name is told here, which may be over when others hear of it.
    Ended {
        name: ShortChannelId,
        end: FinalHtlc,
    },
}

/// A message of a type that is for anybody's own use, which the node only carries: from a peer, or to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CustomMessage {
    pub peer: PublicKey,
    pub message_type: u16,
    pub data: Vec<u8>,
}

/// Complaints that are kept for each peer.
const COMPLAINTS: usize = 20;
/// Of how many peers complaints are kept (a stranger costs nothing to be), and how much of each.
const COMPLAINING_PEERS: usize = 1000;
const COMPLAINT_LENGTH: usize = 500;

/// What peers have said was wrong: when (seconds since 1970) and in their words.
type Complaints = HashMap<PublicKey, VecDeque<(u64, String)>>;

/// Who waits for the end of one payment.
pub(crate) type Follower = mpsc::UnboundedSender<Arc<Payment>>;

/// Where news comes from.
#[derive(Clone)]
pub(crate) struct Events {
    complaints: Arc<Mutex<Complaints>>,
    followers: Arc<Mutex<HashMap<PaymentHash, Vec<Follower>>>>,
    invoices: broadcast::Sender<Arc<Invoice>>,
    channels: broadcast::Sender<ChannelNews>,
    htlcs: broadcast::Sender<HtlcActivity>,
    peers: broadcast::Sender<PeerNews>,
    payments: broadcast::Sender<Arc<Payment>>,
    custom: broadcast::Sender<Arc<CustomMessage>>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            complaints: Arc::default(),
            followers: Arc::default(),
            invoices: broadcast::channel(BACKLOG).0,
            channels: broadcast::channel(BACKLOG).0,
            htlcs: broadcast::channel(BACKLOG).0,
            peers: broadcast::channel(BACKLOG).0,
            payments: broadcast::channel(BACKLOG).0,
            custom: broadcast::channel(CUSTOM_BACKLOG).0,
        }
    }
}

impl Events {
    pub(crate) fn invoice(&self, invoice: Box<Invoice>) {
        // An error says that nobody listens.
        let _ = self.invoices.send(invoice.into());
    }

    pub(crate) fn payment(&self, payment: Box<Payment>) {
        let payment: Arc<Payment> = payment.into();
        let _ = self.payments.send(Arc::clone(&payment));
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = followers.entry(payment.request.payment_hash) {
            entry.get_mut().retain(|follower| follower.send(Arc::clone(&payment)).is_ok());
            if payment.state != PaymentState::Pending || entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    /// Every change of every payment.
    pub(crate) fn payments(&self) -> broadcast::Receiver<Arc<Payment>> {
        self.payments.subscribe()
    }

    /// Whether anybody listens to messages that the node does not read itself.
    pub(crate) fn hears_custom_messages(&self) -> bool {
        self.custom.receiver_count() > 0
    }

    pub(crate) fn custom_message(&self, message: CustomMessage) {
        let _ = self.custom.send(Arc::new(message));
    }

    pub(crate) fn custom_messages(&self) -> broadcast::Receiver<Arc<CustomMessage>> {
        self.custom.subscribe()
    }

    pub(crate) fn peer(&self, news: PeerNews) {
        let _ = self.peers.send(news);
    }

    pub(crate) fn peers(&self) -> broadcast::Receiver<PeerNews> {
        self.peers.subscribe()
    }

    /// Tells every change of one payment until its end.
    pub(crate) fn follow_payment(&self, hash: PaymentHash, follower: Follower) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.entry(hash).or_default().push(follower);
    }

    /// What happens to an HTLC that passes through this node.
    pub(crate) fn forward(&self, event: HtlcEvent) {
        let _ = self.htlcs.send(HtlcActivity::Forward(event));
    }

    /// Whether anybody listens to what happens to HTLCs.
    pub(crate) fn hears_htlcs(&self) -> bool {
        self.htlcs.receiver_count() > 0
    }

    /// What happens to an HTLC that begins or ends here.
    pub(crate) fn own_htlc(&self, event: OwnHtlc) {
        let _ = self.htlcs.send(HtlcActivity::Own(event));
    }

    pub(crate) fn htlcs(&self) -> broadcast::Receiver<HtlcActivity> {
        self.htlcs.subscribe()
    }

    /// Drops the followers of a payment whose listeners are gone.
    pub(crate) fn forget_listeners(&self, hash: &PaymentHash) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = followers.entry(*hash) {
            entry.get_mut().retain(|follower| !follower.is_closed());
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }

    pub(crate) fn channel(&self, news: ChannelNews) {
        let _ = self.channels.send(news);
    }

    /// Keeps the latest complaints of a peer.
    pub(crate) fn complaint(&self, peer: PublicKey, text: String, now: u64) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.len() >= COMPLAINING_PEERS && !complaints.contains_key(&peer) {
            complaints.clear();
        }
        let list = complaints.entry(peer).or_default();
        list.push_back((now, text.chars().take(COMPLAINT_LENGTH).collect()));
        while list.len() > COMPLAINTS {
            list.pop_front();
        }
    }

    pub(crate) fn complaints(&self, peer: &PublicKey) -> Vec<(u64, String)> {
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.get(peer).map(|list| list.iter().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn invoices(&self) -> broadcast::Receiver<Arc<Invoice>> {
        self.invoices.subscribe()
    }

    pub(crate) fn channels(&self) -> broadcast::Receiver<ChannelNews> {
        self.channels.subscribe()
    }
}
