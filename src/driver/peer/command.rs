//! What the rest of the node asks of a peer's task, and what it hears of it.

use std::{net::SocketAddr, time::Duration};

use bitcoin::{FeeRate, OutPoint, Transaction, TxOut, Txid};
use leyden_channels::{
    channel::{AddHtlc, CloseRequest, Event, OpenRequest, Publisher, Settlement, Summary},
    onchain,
    routing::LocalChannel,
    switch::ForwardPolicy,
    types::{ChannelId, FeeratePerKw, Height, HtlcId, ShortChannelId, Side},
    wire::Features,
};
use secp256k1::PublicKey;
use tokio::sync::{mpsc, oneshot};

use super::RefusedTransaction;
use crate::{
    driver::{
        acceptors::ChannelVerdict, backup::Restore, committer::ConnectionId, connection::Established,
        gossip::GossipBatch, onchain::ResolutionState, psbt_funding::PsbtFunding, uncommitted::Custom,
    },
    wallet::onchain::Coins,
};

/// What the rest of the node asks of a peer's task.
pub(crate) enum Command {
    /// A new connection, which replaces the old one.
    Connected(Box<Established>),
    /// Hang up; answers once the channels know.
    HangUp(oneshot::Sender<()>),
    Open {
        plan: Box<OpenPlan>,
        progress: mpsc::UnboundedSender<OpenProgress>,
    },
    /// The transaction of the user that funds an opening, named by its first id.
    Fund {
        channel: ChannelId,
        transaction: Box<Transaction>,
        output: u32,
        publisher: Publisher,
    },
    /// End an opening, named by its first id; a channel that is durable stays.
    CancelOpening {
        channel: ChannelId,
        reason: String,
    },
    /// What programs say of a channel that the peer wanted to open over this connection.
    Decided {
        channel: ChannelId,
        connection: ConnectionId,
        verdict: ChannelVerdict,
    },
    Close {
        channel: ChannelId,
        request: CloseRequest,
        progress: mpsc::UnboundedSender<CloseProgress>,
    },
    ForceClose {
        channel: ChannelId,
        progress: mpsc::UnboundedSender<CloseProgress>,
    },
    /// Forget a channel with all that is in it.
    Abandon {
        channel: ChannelId,
        answer: oneshot::Sender<Result<(), String>>,
    },
    /// Hang up: another node needs the place more.
    GiveWay,
    /// Forget a channel that the peer has not funded: another one needs the place.
    GiveUpUnfunded {
        channel: ChannelId,
    },
    /// Take back a channel of which only a backup is left.
    Restore(Box<Restore>),
    /// Offer an HTLC on the named channel alone, or if none is named on the one with the most to spend.
    Offer {
        htlc: Box<AddHtlc>,
        channel: Option<ShortChannelId>,
    },
    /// Offer an HTLC on this channel and no other.
    Add {
        channel: ChannelId,
        htlc: Box<AddHtlc>,
    },
    Settle {
        channel: ChannelId,
        id: HtlcId,
        settlement: Settlement,
    },
    /// News of a channel's funding transaction.
    Event {
        channel: ChannelId,
        event: Box<Event>,
    },
    /// What the node's towers hold of a channel, or know of it.
    Towers {
        channel: ChannelId,
        event: Box<Event>,
    },
    /// Tell the towers' task what the peer has revoked.
    NameToTowers {
        channel: ChannelId,
    },
    /// News of the chain for the outputs of a channel, in order: all up to this tip.
    Chain {
        channel: ChannelId,
        events: Vec<onchain::Event>,
        tip: Height,
    },
    NewTip(Height),
    /// No block up to this tip has closed the channel; what a block did has been told before.
    StillOpen {
        channel: ChannelId,
        tip: Height,
    },
    /// Encoded messages for the peer, which depend on nothing durable.
    Gossip(GossipBatch),
    /// A message that other programs understand; answers whether the peer reads what it is sent, or nothing if it is gone.
    Custom {
        message: Box<Custom>,
        answer: oneshot::Sender<Option<bool>>,
    },
    /// What can be sent over each channel now.
    Balances(oneshot::Sender<Vec<LocalChannel>>),
    /// Make the claim of an output, or the child of our commitment, pay at least this.
    Bump {
        channel: ChannelId,
        outpoint: OutPoint,
        feerate: FeeratePerKw,
        answer: oneshot::Sender<Result<(), String>>,
    },
    /// What a channel can become on the chain, for people.
    Tree {
        channel: ChannelId,
        answer: oneshot::Sender<Option<onchain::Tree>>,
    },
    /// A copy of what there is, for people.
    Describe(oneshot::Sender<PeerState>),
    /// The channels' figures alone, which costs much less.
    Summaries(oneshot::Sender<Vec<Summary>>),
    /// A copy of one channel, for people.
    DescribeChannel {
        channel: ChannelId,
        answer: oneshot::Sender<Option<ChannelState>>,
    },
    /// The closed channel whose claims, commitment or funding this output belongs to.
    Claimant {
        outpoint: OutPoint,
        answer: oneshot::Sender<Option<ChannelId>>,
    },
}

/// A channel that we open, and what it is to be to us.
pub(crate) struct OpenPlan {
    pub request: OpenRequest,
    pub choices: OpenChoices,
}

/// What the user chose for it, beside what the peer hears.
pub(crate) struct OpenChoices {
    pub source: FundingSource,
    /// It has anchors: the wallet keeps coins back for it.
    pub anchors: bool,
    /// The terms under which it forwards.
    pub forwarding: ForwardPolicy,
    /// The user's own words; may be empty.
    pub memo: String,
}

/// What pays for a channel.
pub(crate) enum FundingSource {
    /// These coins of the wallet.
    Wallet { feerate: FeeRate, coins: Coins },
    /// A transaction that the user makes.
    Psbt(PsbtFunding),
}

/// Progress of an opening, for the call that asked for it.
#[derive(Clone, Debug)]
pub(crate) enum OpenProgress {
    /// What the user's transaction must pay.
    Awaited {
        output: TxOut,
    },
    Pending {
        funding: OutPoint,
    },
    Open {
        funding: OutPoint,
    },
    Failed {
        reason: String,
    },
}

/// Progress of a closing, for the call that asked for it.
#[derive(Clone, Debug)]
pub(crate) enum CloseProgress {
    Refused { reason: String },
    Pending { txid: Txid, by: Side },
    Closed { txid: Txid },
}

/// A peer at one moment.
#[derive(Clone, Debug)]
pub(crate) struct PeerState {
    pub node_id: PublicKey,
    pub connection: Option<ConnectionStats>,
    pub presence: Presence,
    pub channels: Vec<Summary>,
    /// Of those among them that one side has closed alone.
    pub resolutions: Vec<ResolutionState>,
    /// What the mempool has refused.
    pub refused: Vec<RefusedTransaction>,
}

/// A channel at one moment.
#[derive(Debug)]
pub(crate) struct ChannelState {
    pub node_id: PublicKey,
    pub summary: Summary,
}

/// How much a peer was there since this process has waited for it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Presence {
    pub watched: Duration,
    pub online: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct ConnectionStats {
    pub address: SocketAddr,
    pub inbound: bool,
    pub features: Features,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub ping: Option<Duration>,
}
