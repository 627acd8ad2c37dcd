//! What the daemon can do, in the domain's own types: the seam between the gRPC services and the node.
//!
//! ```text
//!   rpc ──(protobuf ⇄ domain)──► Daemon ──┬── lightning() ──► Lightning   only while the wallet is open
//!                                         ├── chain() ──────► Chain       from the start
//!                                         └── watchtower() ─► Watchtower  from the start, if one runs
//! ```
//!
//! The services know nothing but these traits, so they can be tested over a stand-in, and the node knows no
//! protobuf. Requests arrive here already checked for what can be judged without the node's state: a hash has 32
//! bytes, an amount is not negative, an address is one of this network. What only the node can judge it answers
//! with an [`ApiError`], whose text tells the caller what to do next.

mod announcing;
mod backups;
mod bumping;
mod chain;
mod chain_watch;
mod channels;
mod closings;
mod crossings;
mod custom;
mod deciding;
mod diagnosis;
mod error;
mod experience;
mod figures;
mod forgetting;
mod forwarding;
mod funding;
mod graph;
mod holding;
mod invoices;
mod lifecycle;
mod messages;
mod payments;
mod peers;
mod psbts;
mod recovery;
mod routes;
mod signing;
mod swaps;
mod tokens;
mod towers;
mod wallet;
mod wallet_kit;
mod watchtower;

use std::{net::IpAddr, pin::Pin, sync::Arc};

use async_trait::async_trait;
use leyden_channels::types::Height;
use tokio_stream::Stream;

use crate::limits::LimitUse;

pub(crate) use self::{
    announcing::{AnnouncementChange, AnnouncementOp, Announcing},
    backups::{BackupContents, BackupSnapshot, Backups, ChannelBackup},
    bumping::{BumpFee, Bumping},
    chain::{
        BlockSelector, Chain, ChainStatus, DiskUse, FoundBlock, LocatedBlock, MempoolView, MiningInfo, UtxoSetHash,
    },
    chain_watch::{ChainSight, ChainWatch, FoundSpend, FoundTx, WantedSpend, WantedTx},
    channels::{
        ChannelBalance, ChannelConstraints, ChannelEvent, ChannelFunding, ChannelHtlc, ChannelInfo, ChannelSummary,
        Channels, CloseChannel, CloseKind, CloseOutput, CloseUpdate, ClosedChannel, ClosureType, ForceClosingChannel,
        OpenChannel, OpenStage, OpenUpdate, OpeningChannel, PendingChannels, PendingHtlc, WaitingCloseChannel,
    },
    closings::{ChannelTree, ClosingChannel, Closings, ResolvedKind, ResolvedOutput},
    crossings::{Cross, CrossingInfo, CrossingRate, CrossingStatus, Crossings, Networks},
    custom::{CustomMessage, CustomMessages, FIRST_CUSTOM_TYPE, MAX_CUSTOM_DATA},
    deciding::{ChannelAnswer, ChannelQuestion, ChannelTerms, ChannelVerdict, Deciding, InterceptionAnswer},
    diagnosis::Diagnosis,
    error::ApiError,
    experience::{Experience, PairHistory, PairResult},
    figures::{ChannelFigures, Figures, NetworkFigures, PaymentFigures, TowerFigures},
    forgetting::{ForgetUntil, Forgetting, ForgottenForwards},
    forwarding::{
        ChannelFee, ChannelStatus, FeeReport, Forward, ForwardSide, Forwarding, ForwardsPage, ForwardsRequest,
        HtlcAmounts, HtlcEvent, HtlcName, HtlcNews, HtlcRole, PolicyChange, PolicyRefusal, PolicyRefused,
    },
    funding::{AfterVerify, Funding, FundingStep, OpenChannels, PsbtPublisher, PsbtShim},
    graph::{
        ChannelName, Graph, GraphChannel, GraphNode, GraphNodeInfo, GraphNodeView, GraphPolicy, GraphUpdate, MapNode,
        NetworkGraph, NetworkMap, NetworkSummary,
    },
    holding::HoldInvoices,
    invoices::{
        AddInvoice, DecodedInvoice, Description, Invoice, InvoiceHtlc, InvoiceHtlcState, InvoiceState, Invoices,
        RouteHintHop,
    },
    lifecycle::{ChangePassword, InitWallet, NetworkInfo, NodeInfo, UnlockWallet, WalletState},
    messages::{Messages, Signatory},
    payments::{
        Attempt, AttemptFailure, AttemptState, FailureReason, ForgetPayments, Payment, PaymentState, PaymentTarget,
        Payments, RouteHop, SendPayment,
    },
    peers::{PeerAddress, PeerError, PeerEvent, PeerInfo, Peers},
    psbts::{FundPsbt, PsbtFunded, Psbts, Selection},
    recovery::{LostChannel, Recovering, Recovery},
    routes::{BuildRoute, FeeEstimate, FeeQuery, FoundRoute, PlannedRoute, RouteQuery, Routes},
    signing::{
        CoinToSign, CombinedKey, Digest, Form, KeyChoice, KeyLocator, KeyTweak, OpenSigningSession, OutputToSign,
        PUBLIC_NONCE, SessionId, SignWithKey, Signing, SigningSession, Spend, Tweaks,
    },
    swaps::{
        AcceptSubmarine, AcceptSwap, Amounts, CoinsPlace, FundSwap, QuoteSubmarine, QuoteSwap, RecallSwap, ReclaimSwap,
        SubmarineFacts, SubmarineTerms, SwapBlock, SwapChainStatus, SwapInfo, SwapOrder, SwapTerms, Swaps,
    },
    tokens::{LogIn, Tokens},
    towers::{AddTower, AuditOutcome, ChannelAudit, ChannelCoverage, Tower, TowerCoverage, TowerList, Towers},
    wallet::{
        AddressKind, CoinChoice, FeeChoice, SendAmount, SendCoins, TransactionPage, Wallet, WalletBalance, WalletCoin,
        WalletTx,
    },
    wallet_kit::{
        Account, ChainFeerates, Lease, PackageResult, SendEstimate, SendMany, SendOutputs, WalletAddress, WalletKit,
    },
    watchtower::{Watchtower, WatchtowerInfo, WatchtowerStats},
};

/// What happens over time. The stream ends when nothing more can follow; dropping it ends the interest in it.
pub(crate) type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, ApiError>> + Send>>;

/// The daemon, whether or not its wallet is open.
#[async_trait]
pub(crate) trait Daemon: Tokens + Diagnosis + Send + Sync + 'static {
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

    /// Opens the wallet, for somebody at this address. `InvalidArgument` if the password is wrong, which changes nothing;
    /// `Unavailable` after wrong ones from the same address; `FailedPrecondition` if there is no wallet; `AlreadyExists` if it is
    /// open.
    async fn unlock_wallet(&self, request: UnlockWallet, from: Option<IpAddr>) -> Result<(), ApiError>;

    /// Puts the wallet under another password and opens it, for somebody at this address; answers with the admin macaroon. Errors as
    /// of `unlock_wallet`, and `InvalidArgument` if the new password is too short.
    async fn change_password(&self, request: ChangePassword, from: Option<IpAddr>) -> Result<Vec<u8>, ApiError>;

    /// The Lightning node and the wallet; `None` until the wallet is open.
    fn lightning(&self) -> Option<Arc<dyn Lightning>>;

    /// The chain; `None` only while the daemon is starting.
    fn chain(&self) -> Option<Arc<dyn Chain>>;

    /// The watchtower; `None` if none runs.
    fn watchtower(&self) -> Option<Arc<dyn Watchtower>>;

    /// Whether it is a watchtower alone: its wallet is never opened.
    fn is_tower_only(&self) -> bool;

    /// What others may make the daemon hold and do, and how much of that is used.
    fn limits(&self) -> Vec<LimitUse>;

    /// Begins the orderly end of the daemon and returns at once.
    fn stop(&self);
}

/// The open wallet, its peers, channels, invoices and payments: each part in a trait of its own, beside its types.
#[async_trait]
pub(crate) trait Lightning:
    Wallet
    + WalletKit
    + Psbts
    + Signing
    + Messages
    + CustomMessages
    + Peers
    + Channels
    + Funding
    + Deciding
    + Announcing
    + Backups
    + Invoices
    + HoldInvoices
    + Payments
    + Graph
    + Forwarding
    + Forgetting
    + Routes
    + Experience
    + Closings
    + Bumping
    + Recovering
    + Towers
    + Swaps
    + Crossings
    + Figures
    + Send
    + Sync
{
    async fn info(&self) -> Result<NodeInfo, ApiError>;
}

/// Which part of a numbered list is wanted; the default is all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageRequest {
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
pub(crate) struct Page<T> {
    pub items: Vec<T>,
    /// How many there are in all, whatever the page.
    pub total: u64,
}

/// How deep something lies below the tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confirmation {
    pub block: bitcoin::BlockHash,
    pub height: Height,
    /// 1 in the tip itself.
    pub confirmations: u32,
}
