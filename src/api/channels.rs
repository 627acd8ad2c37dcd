//! Channels from their opening to their end.
//!
//! ```text
//!   open_channel ─► opening ─► open ─► waiting close ─► closed            (cooperative)
//!                                └───► waiting close ─► force closing ─► closed
//! ```

use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{Address, Amount, FeeRate, OutPoint, Psbt, ScriptBuf, Transaction, TxOut, Txid, secp256k1::PublicKey};
use leyden_channels::types::{
    ChannelId, CltvExpiry, CommitmentNumber, CommitmentType, FeeratePerKw, Height, HtlcDirection, HtlcId, Msat, NodeId,
    PaymentHash, ShortChannelId, Side,
};

use super::{ApiError, CoinChoice, FeeChoice, PsbtShim, ResolvedOutput, Updates};

/// The channels of this node.
#[async_trait]
pub(crate) trait Channels: Send + Sync {
    /// The opening goes on if the stream is dropped. A refusal by the peer is `FailedPrecondition` with its words.
    async fn open_channel(&self, request: OpenChannel) -> Result<Updates<OpenUpdate>, ApiError>;
    /// The closing goes on if the stream is dropped. `NotFound` if there is no such channel.
    async fn close_channel(&self, request: CloseChannel) -> Result<Updates<CloseUpdate>, ApiError>;
    /// Forgets a channel with all that is in it; says what became of it. `NotFound` if there is no such channel.
    async fn abandon_channel(&self, funding: OutPoint) -> Result<String, ApiError>;
    async fn channel_balance(&self) -> Result<ChannelBalance, ApiError>;
    async fn channels(&self) -> Result<Vec<ChannelInfo>, ApiError>;
    async fn pending_channels(&self) -> Result<PendingChannels, ApiError>;
    /// In the order of their ends.
    async fn closed_channels(&self) -> Result<Vec<ClosedChannel>, ApiError>;
    async fn channel_events(&self) -> Result<Updates<ChannelEvent>, ApiError>;
}

/// The sums over all channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChannelBalance {
    pub local: Msat,
    pub remote: Msat,
    /// In HTLCs that the remote sides offer.
    pub unsettled_local: Msat,
    /// In HTLCs that we offer.
    pub unsettled_remote: Msat,
    /// In channels that are being opened.
    pub pending_local: Msat,
    pub pending_remote: Msat,
}

/// How much we put into a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelFunding {
    /// Not zero; fees come on top.
    Exactly(Amount),
    /// Everything that the wallet can spend and that fits into one channel.
    Everything,
}

/// A channel to be opened. `None` leaves the choice to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenChannel {
    pub node_id: PublicKey,
    pub funding: ChannelFunding,
    /// Not the wallet funds it: an exact amount, and without a fee or coins.
    pub shim: Option<PsbtShim>,
    /// Given to the remote side at the start; less than an exact funding.
    pub push: Msat,
    /// Of the funding transaction.
    pub fee: FeeChoice,
    pub coins: CoinChoice,
    /// Tell the network of it.
    pub announce: bool,
    /// Open it only if the remote side uses it before it is confirmed.
    pub zero_conf: bool,
    /// Payments name it by an alias alone.
    pub scid_alias: bool,
    pub commitment_type: Option<CommitmentType>,
    /// Where our part goes at a cooperative close (BOLT 2, upfront shutdown).
    pub shutdown_address: Option<Address>,
    /// The smallest HTLC that we accept.
    pub htlc_minimum: Option<Msat>,
    /// `to_self_delay` for the remote side, in blocks.
    pub remote_delay: Option<u16>,
    /// The longest `to_self_delay` that we accept for ourselves, in blocks.
    pub max_local_delay: Option<u16>,
    /// The most that the remote side may have in flight.
    pub remote_max_in_flight: Option<Msat>,
    pub remote_max_htlcs: Option<u16>,
    /// What the remote side must always keep.
    pub remote_reserve: Option<Amount>,
    /// What we take for forwarding a payment.
    pub base_fee: Option<Msat>,
    /// And in millionths of the amount.
    pub fee_ppm: Option<u32>,
    /// The user's own words; may be empty.
    pub memo: String,
}

/// Progress of an opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenUpdate {
    pub temporary_id: ChannelId,
    pub stage: OpenStage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OpenStage {
    /// What the caller's transaction must pay; only with a shim. The PSBT has that output.
    Awaited { output: TxOut, address: Address, psbt: Box<Psbt> },
    /// The funding transaction is broadcast, or may be if that is the caller's part.
    Pending { funding: OutPoint, fee_rate: Option<FeeRate> },
    /// `channel_ready` went both ways; the stream ends.
    Open { funding: OutPoint },
}

/// A channel to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CloseChannel {
    pub funding: OutPoint,
    pub kind: CloseKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CloseKind {
    Cooperative {
        fee: FeeChoice,
        /// The most to agree to.
        max_fee_rate: Option<FeeRate>,
        /// Where our part goes; `None`: to the wallet.
        to: Option<Address>,
        /// Accept to wait for HTLCs; otherwise they are a `FailedPrecondition`.
        wait_for_htlcs: bool,
    },
    /// Broadcast our latest commitment transaction.
    Force,
}

/// Progress of a closing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CloseUpdate {
    /// The closing transaction is broadcast.
    Pending { txid: Txid, fee_rate: Option<FeeRate>, by: Side },
    /// The closing transaction is confirmed; the stream ends.
    Closed { txid: Txid, local: Option<CloseOutput>, remote: Option<CloseOutput> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CloseOutput {
    pub amount: Amount,
    pub script: ScriptBuf,
}

/// An open channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelInfo {
    pub summary: ChannelSummary,
    pub channel_id: ChannelId,
    /// The peer is connected and both sides agree on the state.
    pub active: bool,
    /// The peer is connected.
    pub connected: bool,
    /// For how long this process has waited for the peer, and for how much of that it was connected.
    pub lifetime: Duration,
    pub uptime: Duration,
    /// Set once the funding transaction is confirmed.
    pub short_channel_id: Option<ShortChannelId>,
    pub alias: Option<ShortChannelId>,
    /// The alias that the remote side told us.
    pub remote_alias: Option<ShortChannelId>,
    /// It was, or is, used before its funding transaction is confirmed.
    pub zero_conf: bool,
    /// The fee of our present commitment transaction.
    pub commit_fee: Amount,
    /// Its weight with all signatures.
    pub commit_weight: u64,
    pub feerate: FeeratePerKw,
    pub total_sent: Msat,
    pub total_received: Msat,
    /// Of our present commitment transaction.
    pub commitment_number: CommitmentNumber,
    pub htlcs: Vec<ChannelHtlc>,
    /// What the opener gave to the other side at the opening; not known of channels that earlier versions opened.
    pub push: Option<Msat>,
    /// Where our balance has to go on a cooperative close, if we said so at the opening.
    pub shutdown_address: Option<Address>,
    /// What holds for us: chosen by the remote side, but for the dust limit.
    pub local: ChannelConstraints,
    /// What holds for the remote side: chosen by us, but for the dust limit.
    pub remote: ChannelConstraints,
}

/// What all channels have in every stage of their life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelSummary {
    pub node_id: PublicKey,
    pub funding: OutPoint,
    pub capacity: Amount,
    /// Without what is in HTLCs; the opener's is after the commitment fee and the anchors.
    pub local_balance: Msat,
    pub remote_balance: Msat,
    pub opener: Side,
    pub commitment_type: CommitmentType,
    pub announce: bool,
    pub memo: String,
    /// What is wrong with its funding transaction, in words.
    pub trouble: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChannelConstraints {
    /// `to_self_delay`, blocks.
    pub delay: u16,
    pub reserve: Amount,
    pub dust_limit: Amount,
    pub max_in_flight: Msat,
    pub htlc_minimum: Msat,
    pub max_htlcs: u16,
}

/// An HTLC that is not resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChannelHtlc {
    /// `Offered`: by us.
    pub direction: HtlcDirection,
    pub id: HtlcId,
    pub amount: Msat,
    pub payment_hash: PaymentHash,
    pub expiry: CltvExpiry,
    /// Irrevocably committed.
    pub locked_in: bool,
    /// The other half, if we forward it.
    pub forwarded: Option<(ShortChannelId, HtlcId)>,
}

/// Everything between nothing and open, and between open and closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PendingChannels {
    pub opening: Vec<OpeningChannel>,
    pub waiting_close: Vec<WaitingCloseChannel>,
    pub force_closing: Vec<ForceClosingChannel>,
}

/// The funding transaction is broadcast but not deep enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpeningChannel {
    pub summary: ChannelSummary,
    pub commit_fee: Amount,
    pub commit_weight: u64,
    pub feerate: FeeratePerKw,
    /// `None` while the funding transaction is unconfirmed.
    pub confirmed_at: Option<Height>,
    /// Confirmations that are still missing.
    pub confirmations_missing: u32,
    /// Blocks after which a fundee forgets a channel that was never funded.
    pub blocks_until_forgotten: Option<u32>,
}

/// Both sides agree, or one decided, to close; no closing transaction is confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WaitingCloseChannel {
    pub summary: ChannelSummary,
    /// What comes to us by the closing.
    pub limbo: Amount,
    pub closing: Option<Transaction>,
    pub local_commitment: Option<Txid>,
    pub remote_commitment: Option<Txid>,
    pub local_commit_fee: Amount,
    pub remote_commit_fee: Amount,
}

/// A commitment transaction is confirmed and outputs of it are not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForceClosingChannel {
    pub summary: ChannelSummary,
    pub closing_txid: Txid,
    /// Ours, but not yet in the wallet.
    pub limbo: Amount,
    /// In the wallet already.
    pub recovered: Amount,
    /// When our delayed output can be spent; `None` if we have none.
    pub matures_at: Option<Height>,
    /// Blocks until then; 0 once it can be spent.
    pub blocks_until_mature: u32,
    pub htlcs: Vec<PendingHtlc>,
}

/// An HTLC output on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingHtlc {
    pub direction: HtlcDirection,
    pub amount: Amount,
    pub outpoint: OutPoint,
    pub matures_at: Height,
    pub blocks_until_mature: u32,
    /// Its second-stage transaction is confirmed.
    pub second_stage: bool,
}

/// A channel whose end is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClosedChannel {
    pub node_id: NodeId,
    pub funding: OutPoint,
    pub short_channel_id: Option<ShortChannelId>,
    pub capacity: Amount,
    /// `None` if the channel was never funded.
    pub closing_txid: Option<Txid>,
    /// Where the closing transaction is confirmed.
    pub height: Height,
    /// What we got, if that is known: of a channel of which a backup was all that we had, it may not be.
    pub settled: Option<Amount>,
    /// The part of it that had to wait for `to_self_delay`.
    pub time_locked: Amount,
    pub closure: ClosureType,
    pub opener: Side,
    /// Who closed alone, or asked the other to close together.
    pub closer: Option<Side>,
    /// Why, in words.
    pub reason: String,
    /// What our claims paid to miners.
    pub fees: Amount,
    /// Of a channel that one side closed alone.
    pub outputs: Vec<ResolvedOutput>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClosureType {
    Cooperative,
    LocalForce,
    RemoteForce,
    /// A revoked commitment was broadcast and punished.
    Breach,
    /// The funding transaction never came.
    FundingCanceled,
    Abandoned,
}

/// Something happened to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChannelEvent {
    PendingOpen(OutPoint),
    Open(Box<ChannelInfo>),
    Active(OutPoint),
    Inactive(OutPoint),
    Closed(Box<ClosedChannel>),
    /// All its outputs are resolved.
    FullyResolved(OutPoint),
}
