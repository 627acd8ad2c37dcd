//! What the daemon can do, in the domain's own types: the seam between the gRPC services and the node.
//!
//! ```text
//!   rpc ──(protobuf ⇄ domain)──► Daemon ──┬── lightning() ──► Lightning   only while the wallet is open
//!                                         └── chain() ──────► Chain       from the start
//! ```
//!
//! The services know nothing but these traits, so they can be tested over a stand-in, and the node knows no
//! protobuf. Requests arrive here already checked for what can be judged without the node's state: a hash has 32
//! bytes, an amount is not negative, an address is one of this network. What only the node can judge it answers
//! with an [`ApiError`], whose text tells the caller what to do next.

mod backups;
mod bumping;
mod chain;
mod channels;
mod closings;
mod error;
mod forwarding;
mod graph;
mod holding;
mod invoices;
mod lifecycle;
mod payments;
mod recovery;
mod routes;
mod tokens;
mod wallet;

use std::{pin::Pin, sync::Arc};

use async_trait::async_trait;
use bitcoin::{Address, secp256k1::PublicKey};
use leyden_channels::types::{Height, PaymentHash};
use tokio_stream::Stream;

use crate::limits::LimitUse;

pub use self::{
    backups::{BackupSnapshot, ChannelBackup},
    bumping::{BumpFee, Bumping},
    chain::{BlockSelector, Chain, ChainStatus, FoundBlock, LocatedBlock, MempoolView, MiningInfo, UtxoSetHash},
    channels::{
        ChannelConstraints, ChannelEvent, ChannelFunding, ChannelHtlc, ChannelInfo, ChannelSummary, CloseChannel,
        CloseKind, CloseOutput, CloseUpdate, ClosedChannel, ClosureType, ForceClosingChannel, OpenChannel, OpenStage,
        OpenUpdate, OpeningChannel, PendingChannels, PendingHtlc, WaitingCloseChannel,
    },
    closings::{ChannelTree, ClosingChannel, Closings, ResolvedKind, ResolvedOutput},
    error::ApiError,
    forwarding::{
        ChannelFee, FeeReport, Forward, ForwardSide, Forwarding, ForwardsPage, ForwardsRequest, HtlcAmounts, HtlcEvent,
        HtlcName, HtlcNews, HtlcRole, PolicyChange, PolicyRefusal, PolicyRefused,
    },
    graph::{
        ChannelName, Graph, GraphChannel, GraphNode, GraphNodeInfo, GraphNodeView, GraphPolicy, NetworkGraph,
        NetworkSummary,
    },
    holding::HoldInvoices,
    invoices::{
        AddInvoice, DecodedInvoice, Description, Invoice, InvoiceHtlc, InvoiceHtlcState, InvoiceState, RouteHintHop,
    },
    lifecycle::{InitWallet, NetworkInfo, NodeInfo, UnlockWallet, WalletState},
    payments::{
        Attempt, AttemptFailure, AttemptState, FailureReason, Payment, PaymentState, PaymentTarget, RouteHop,
        SendPayment,
    },
    recovery::{LostChannel, Recovering, Recovery},
    routes::{BuildRoute, FeeEstimate, FeeQuery, FoundRoute, PlannedRoute, RouteQuery, Routes},
    tokens::Tokens,
    wallet::{
        AddressKind, ChannelBalance, CoinChoice, FeeChoice, PeerAddress, PeerError, PeerInfo, SendAmount, SendCoins,
        WalletBalance, WalletCoin, WalletTx,
    },
};

/// What happens over time. The stream ends when nothing more can follow; dropping it ends the interest in it.
pub type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, ApiError>> + Send>>;

/// The daemon, whether or not its wallet is open.
#[async_trait]
pub trait Daemon: Tokens + Send + Sync + 'static {
    /// How far the daemon has come. Cheap: it is asked on every call.
    fn state(&self) -> WalletState;

    /// The present state at once, then every change.
    fn subscribe_state(&self) -> Updates<WalletState>;

    /// The network that addresses must be of.
    fn network(&self) -> NetworkInfo;

    /// New seed words, kept nowhere. `entropy` replaces the system's randomness.
    async fn gen_seed(&self, entropy: Option<[u8; 32]>) -> Result<Vec<String>, ApiError>;

    /// Makes the wallet and opens it; answers with the admin macaroon once the state is at least
    /// [`WalletState::Unlocked`]. `AlreadyExists` if there is one, `InvalidArgument` if the words are none.
    async fn init_wallet(&self, request: InitWallet) -> Result<Vec<u8>, ApiError>;

    /// Opens the wallet. `InvalidArgument` if the password is wrong, which changes nothing; `FailedPrecondition`
    /// if there is no wallet; `AlreadyExists` if it is open.
    async fn unlock_wallet(&self, request: UnlockWallet) -> Result<(), ApiError>;

    /// The Lightning node and the wallet; `None` until the wallet is open.
    fn lightning(&self) -> Option<Arc<dyn Lightning>>;

    /// The chain; `None` only while the daemon is starting.
    fn chain(&self) -> Option<Arc<dyn Chain>>;

    /// What others may make the daemon hold and do, and how much of that is used.
    fn limits(&self) -> Vec<LimitUse>;

    /// Begins the orderly end of the daemon and returns at once.
    fn stop(&self);
}

/// The open wallet, its peers, channels, invoices and payments.
#[async_trait]
pub trait Lightning:
    Graph + Forwarding + Routes + HoldInvoices + Closings + Bumping + Recovering + Send + Sync
{
    async fn info(&self) -> Result<NodeInfo, ApiError>;

    // The wallet.

    /// A fresh address; with `reuse_unpaid` the latest one that nobody has paid, if there is one.
    async fn new_address(&self, kind: AddressKind, reuse_unpaid: bool) -> Result<Address, ApiError>;
    /// Coins with at least `min_confirmations` (1 or more) count as confirmed.
    async fn wallet_balance(&self, min_confirmations: u32) -> Result<WalletBalance, ApiError>;
    async fn channel_balance(&self) -> Result<ChannelBalance, ApiError>;
    /// `FailedPrecondition` if the coins do not suffice.
    async fn send_coins(&self, request: SendCoins) -> Result<bitcoin::Txid, ApiError>;
    /// Newest first, unconfirmed ones before all others; the labels are those of `send_coins`.
    async fn wallet_transactions(&self) -> Result<Vec<WalletTx>, ApiError>;
    /// Everything spendable, unconfirmed coins included.
    async fn unspent(&self) -> Result<Vec<WalletCoin>, ApiError>;

    // Peers.

    /// Returns once BOLT 1's `init` has been exchanged; with `keep_trying` at once. `AlreadyExists` if connected,
    /// `Unavailable` if nobody answers.
    async fn connect_peer(&self, peer: PeerAddress, keep_trying: bool) -> Result<(), ApiError>;
    /// `NotFound` if not connected, `FailedPrecondition` if channels with it are open.
    async fn disconnect_peer(&self, node_id: PublicKey) -> Result<(), ApiError>;
    async fn peers(&self) -> Result<Vec<PeerInfo>, ApiError>;

    // Channels.

    /// The opening goes on if the stream is dropped. A refusal by the peer is `FailedPrecondition` with its words.
    async fn open_channel(&self, request: OpenChannel) -> Result<Updates<OpenUpdate>, ApiError>;
    /// The closing goes on if the stream is dropped. `NotFound` if there is no such channel.
    async fn close_channel(&self, request: CloseChannel) -> Result<Updates<CloseUpdate>, ApiError>;
    /// Forgets a channel with all that is in it; says what became of it. `NotFound` if there is no such channel.
    async fn abandon_channel(&self, funding: bitcoin::OutPoint) -> Result<String, ApiError>;
    async fn channels(&self) -> Result<Vec<ChannelInfo>, ApiError>;
    async fn pending_channels(&self) -> Result<PendingChannels, ApiError>;
    async fn closed_channels(&self) -> Result<Vec<ClosedChannel>, ApiError>;
    async fn channel_events(&self) -> Result<Updates<ChannelEvent>, ApiError>;

    // Backups.

    /// `NotFound` if there is no such channel.
    async fn channel_backup(&self, funding: bitcoin::OutPoint) -> Result<ChannelBackup, ApiError>;
    async fn channel_backups(&self) -> Result<BackupSnapshot, ApiError>;
    /// The present ones at once, then all of them after each change.
    async fn backup_updates(&self) -> Result<Updates<BackupSnapshot>, ApiError>;
    /// The channels that these backups hold; `InvalidArgument` if one cannot be opened.
    async fn verify_backups(&self, sealed: Vec<Vec<u8>>) -> Result<Vec<bitcoin::OutPoint>, ApiError>;
    /// Takes channels back, so that their peers close them; gives how many there were that are not here.
    async fn restore_backups(&self, sealed: Vec<Vec<u8>>) -> Result<u32, ApiError>;

    // Invoices.

    /// `AlreadyExists` if the preimage belongs to another invoice.
    async fn add_invoice(&self, request: AddInvoice) -> Result<Invoice, ApiError>;
    async fn invoice(&self, hash: PaymentHash) -> Result<Invoice, ApiError>;
    /// In the order of `add_index`, from `after` (exclusive).
    async fn invoices(&self, page: PageRequest) -> Result<Page<Invoice>, ApiError>;
    /// Repeats what was added after `add_index` and settled after `settle_index` (`None` repeats nothing), then
    /// tells of every invoice that is added, accepted, settled or canceled.
    async fn subscribe_invoices(
        &self,
        add_index: Option<u64>,
        settle_index: Option<u64>,
    ) -> Result<Updates<Invoice>, ApiError>;
    /// Reads a BOLT 11 invoice of this network; whether it has expired does not matter.
    async fn decode_invoice(&self, request: &str) -> Result<DecodedInvoice, ApiError>;

    // Payments.

    /// Each change of the payment, the last one with a final state. The payment goes on if the stream is dropped,
    /// unless `cancel_on_hangup`. A failure to pay is a state, not an error; `AlreadyExists` if the hash is being
    /// paid or has been paid.
    async fn send_payment(&self, request: SendPayment) -> Result<Updates<Payment>, ApiError>;
    /// The payment as it is now, then as with `send_payment`.
    async fn track_payment(&self, hash: PaymentHash) -> Result<Updates<Payment>, ApiError>;
    /// In the order of `index`; `only_open` is never set.
    async fn payments(&self, page: PageRequest, include_incomplete: bool) -> Result<Page<Payment>, ApiError>;
}

/// Which part of a numbered list is wanted; the default is all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Only items after this index, or before it if `reversed` (0: from the end).
    pub offset: u64,
    /// At most so many; `None`: all.
    pub limit: Option<u64>,
    /// The items nearest below `offset`; the answer is in ascending order all the same.
    pub reversed: bool,
    /// Only items that are not settled, canceled or failed yet.
    pub only_open: bool,
    /// Created at or after, seconds since 1970.
    pub created_from: Option<u64>,
    /// Created at or before, seconds since 1970.
    pub created_until: Option<u64>,
}

/// Part of a numbered list, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// How many there are in all, whatever the page.
    pub total: u64,
}

/// How deep something lies below the tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmation {
    pub block: bitcoin::BlockHash,
    pub height: Height,
    /// 1 in the tip itself.
    pub confirmations: u32,
}
