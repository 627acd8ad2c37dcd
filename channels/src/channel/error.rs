//! What can go wrong, by whose fault.
//!
//! - [`ProtocolViolation`]: the peer broke a rule. The channel answers by itself (a warning, or an error and a close); the driver
//!   only hears of it.
//! - [`Invariant`]: we did. The driver stops that channel and changes nothing.
//! - [`CloseRefused`], [`super::CannotAdd`]: a wish of this node cannot be granted.

use bitcoin::{Amount, Txid};
use thiserror::Error;

use super::commitment::spec::HtlcKey;
use super::funding::FundingState;
use super::params::ParameterError;
use super::state::StateName;
use crate::keys::{KeyError, ShachainError, SignatureError};
use crate::onchain::{RebuildError, ResolutionError};
use crate::tx::{ClaimError, CommitmentTxError};
use crate::types::{CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcId, Msat, Side};

/// Why [`Channel::handle`](super::Channel::handle) gave nothing: this channel must not be touched any more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// A bug of ours.
    #[error("a bug in Leyden stopped this channel, please report it: {0}")]
    Invariant(#[from] Invariant),
}

/// What our own logic must never reach.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum Invariant {
    #[error("HTLC {0:?} was added twice")]
    HtlcTwice(HtlcKey),
    #[error("HTLC {0:?} was removed but is not there")]
    HtlcMissing(HtlcKey),
    #[error("{side:?} offered {htlc} out of {balance}")]
    Overdraft { side: Side, balance: Msat, htlc: Msat },
    #[error("amounts add up to more than can be counted")]
    Overflow,
    #[error("balances and HTLCs add up to {total}, not to the capacity of {capacity}")]
    NotConserved { total: Msat, capacity: Msat },
    #[error("HTLC {0:?} has no details")]
    DetailsMissing(HtlcKey),
    #[error("the commitment number cannot grow any further")]
    NumberExhausted,
    #[error("{0} was asked for in a state that does not have it")]
    WrongState(&'static str),
    #[error("our own keys: {0}")]
    Key(#[from] KeyError),
    #[error("our own commitment transaction: {0}")]
    Transaction(#[from] CommitmentTxError),
    #[error("a claim of an output: {0}")]
    Claim(ClaimError),
}

impl From<ResolutionError> for Invariant {
    fn from(error: ResolutionError) -> Self {
        match error {
            ResolutionError::Rebuild(error) => error.into(),
            ResolutionError::Claim(error) => Self::Claim(error),
        }
    }
}

impl From<RebuildError> for Invariant {
    fn from(error: RebuildError) -> Self {
        match error {
            RebuildError::Commitment(error) => Self::Transaction(error),
            RebuildError::Key(error) => Self::Key(error),
        }
    }
}

/// What is done about a [`ProtocolViolation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// `warning`: both stay connected, and other channels flow on.
    Tell,
    /// `warning`, then hang up: after a new connection both may agree again.
    Warn,
    /// `error`, then close alone.
    Fail,
}

/// A rule that the peer broke.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ProtocolViolation {
    #[error("{message} is not expected in state {state}")]
    Unexpected { message: &'static str, state: StateName },
    #[error("update_add_htlc has id {got}, but the next id is {expected}", got = got.0, expected = expected.0)]
    HtlcIdOutOfOrder { expected: HtlcId, got: HtlcId },
    #[error("an HTLC of {got} is below the minimum of {minimum}")]
    HtlcBelowMinimum { minimum: Msat, got: Msat },
    #[error("cltv_expiry {} is a time, not a block height", .0.0)]
    ExpiryIsATime(CltvExpiry),
    #[error("more than {maximum} HTLCs are offered")]
    TooManyHtlcs { maximum: u16 },
    #[error("HTLCs of {total} are in flight, more than {maximum}")]
    TooMuchInFlight { maximum: Msat, total: Msat },
    #[error("a balance of {balance} does not leave {needed} for the reserve, fees and anchors")]
    CannotAfford { balance: Msat, needed: Msat },
    #[error("HTLC {} is not in the commitment, or is being removed already", .0.0)]
    UnknownHtlc(HtlcId),
    #[error("the preimage of HTLC {} does not hash to its payment_hash", .0.0)]
    WrongPreimage(HtlcId),
    #[error("failure code {0:#06x} of update_fail_malformed_htlc lacks the BADONION bit")]
    MissingBadOnion(u16),
    #[error("only the funder may send update_fee")]
    FeeFromFundee,
    #[error("a fee rate of {} per kw is not between {} and {}", got.0, minimum.0, maximum.0)]
    FeerateOutOfBounds { minimum: FeeratePerKw, maximum: FeeratePerKw, got: FeeratePerKw },
    #[error(
        "a fee rate of {} per kw would leave {exposure} in HTLCs that could not be enforced; the limit is {limit}", feerate.0
    )]
    FeeOverexposes { feerate: FeeratePerKw, exposure: Msat, limit: Msat },
    #[error("a fee rate of {} per kw costs {needed}, but the opener has only {balance}", feerate.0)]
    FeeNotAffordable { feerate: FeeratePerKw, balance: Msat, needed: Msat },
    #[error(
        "the fee rate of {} per kw has been below {} for too long: a block would not take it in time for the HTLCs that are pending",
        feerate.0, least.0
    )]
    FeerateTooLow { feerate: FeeratePerKw, least: FeeratePerKw },
    #[error("{total} is in expired HTLCs too small to close for one by one; the limit is {limit}")]
    SmallHtlcsExpired { total: Msat, limit: Msat },
    #[error("update_add_htlc after shutdown")]
    AddAfterShutdown,
    #[error("shutdown names another script than before")]
    ShutdownScriptChanged,
    #[error("the shutdown script is not one of the forms that BOLT 2 allows")]
    ShutdownScriptForm,
    #[error("{0}")]
    Signature(#[from] SignatureError),
    #[error("revoke_and_ack, but no commitment_signed is unanswered")]
    RevocationNotExpected,
    #[error("the revealed per_commitment_secret does not belong to commitment {}", .0.0)]
    WrongSecret(CommitmentNumber),
    #[error("the revealed per_commitment_secret does not fit the earlier ones: {0}")]
    Shachain(#[from] ShachainError),
    #[error("{0}")]
    Key(KeyError),
    #[error("the commitment that the peer asks for cannot be built: {0}")]
    Transaction(CommitmentTxError),
    #[error("channel_reestablish expects commitment {} and revocation {}, which never were", commitment.0, revocation.0)]
    ReestablishFuture { commitment: CommitmentNumber, revocation: CommitmentNumber },
    #[error("the peer has lost all data of this channel and asks us to close it")]
    PeerHasNothing,
    #[error("channel_reestablish repeats a per_commitment_secret that is not ours")]
    ReestablishSecret,
    #[error("{0}")]
    Parameter(#[from] ParameterError),
    #[error("the funding output pays {got}, not {expected}")]
    FundingAmount { expected: Amount, got: Amount },
    #[error("the funding output does not pay to the 2-of-2 of this channel")]
    FundingScript,
    #[error("the funding output is number {0}, but an index has two bytes")]
    FundingIndex(u32),
    #[error("the funding transaction {0} was not confirmed in time")]
    FundingTooLate(Txid),
    #[error("no closing fee suits both: theirs is between {theirs_min} and {theirs_max}, ours between {min} and {max}")]
    NoCommonClosingFee { theirs_min: Amount, theirs_max: Amount, min: Amount, max: Amount },
    #[error("a closing fee of {0} is outside what has been agreed on")]
    ClosingFee(Amount),
    #[error("no closing fee was agreed on for many blocks")]
    ClosingStuck,
    #[error("again, for the {times}th time in a row: {last}")]
    RepeatedViolations { times: u8, last: Box<ProtocolViolation> },
    #[error("HTLC {} expires at block {} and is not resolved", id.0, expiry.0)]
    HtlcDeadline { id: HtlcId, expiry: CltvExpiry },
    #[error("the peer failed the channel: {0}")]
    PeerFailed(String),
}

impl ProtocolViolation {
    /// What the channel does about it.
    pub const fn severity(&self) -> Severity {
        match self {
            // BOLT 2, Legacy Closing Negotiation: a warning, and then both have some time.
            Self::NoCommonClosingFee { .. } => Severity::Tell,
            Self::Unexpected { .. }
            | Self::HtlcIdOutOfOrder { .. }
            | Self::HtlcBelowMinimum { .. }
            | Self::ExpiryIsATime(_)
            | Self::TooManyHtlcs { .. }
            | Self::TooMuchInFlight { .. }
            | Self::CannotAfford { .. }
            | Self::UnknownHtlc(_)
            | Self::WrongPreimage(_)
            | Self::MissingBadOnion(_)
            | Self::FeeFromFundee
            | Self::AddAfterShutdown
            | Self::ShutdownScriptChanged
            | Self::ShutdownScriptForm
            | Self::RevocationNotExpected
            | Self::ClosingFee(_)
            | Self::Parameter(_) => Severity::Warn,
            // An opener whose estimate is another one would say the same after each reconnection.
            Self::FeerateOutOfBounds { .. }
            | Self::FeeOverexposes { .. }
            | Self::FeeNotAffordable { .. }
            | Self::FeerateTooLow { .. }
            | Self::SmallHtlcsExpired { .. }
            | Self::Signature(_)
            | Self::WrongSecret(_)
            | Self::Shachain(_)
            | Self::Key(_)
            | Self::Transaction(_)
            | Self::ReestablishFuture { .. }
            | Self::PeerHasNothing
            | Self::ReestablishSecret
            | Self::FundingAmount { .. }
            | Self::FundingScript
            | Self::FundingIndex(_)
            | Self::FundingTooLate(_)
            | Self::HtlcDeadline { .. }
            | Self::ClosingStuck
            | Self::RepeatedViolations { .. }
            | Self::PeerFailed(_) => Severity::Fail,
        }
    }
}

/// Why an event could not be handled: the peer's fault is answered inside the channel, ours leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Violation(ProtocolViolation),
    Invariant(Invariant),
}

impl<T: Into<ProtocolViolation>> From<T> for Fault {
    fn from(violation: T) -> Self {
        Self::Violation(violation.into())
    }
}

impl From<Invariant> for Fault {
    fn from(invariant: Invariant) -> Self {
        Self::Invariant(invariant)
    }
}

/// Why a wish to close cannot be granted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum CloseRefused {
    #[error("the channel is {0}: it cannot be closed together with the peer; force-close it, or wait")]
    State(StateName),
    #[error(
        "there is nothing to close: {0}. The channel ends by itself once that is buried, or with `leyden abandonchannel`"
    )]
    NotFunded(FundingState),
    #[error("this channel committed to the script {committed} when it was opened and cannot pay to another")]
    UpfrontScript { committed: String },
    #[error("this script is not one that a peer must accept: use a segwit address")]
    Script,
}

/// A stored channel that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum RestoreError {
    #[error("the channel's {0} are missing from the database")]
    Missing(&'static str),
    #[error("the channel was written by a newer Leyden (format {found}, this one reads up to {known}); use that one")]
    Newer { found: u8, known: u8 },
    #[error("the channel's {what} are damaged: {why}")]
    Damaged { what: &'static str, why: String },
    #[error("the seed of this node does not belong to this channel")]
    ForeignKeys,
}
