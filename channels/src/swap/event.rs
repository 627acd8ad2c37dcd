//! What can happen to a swap, and what it asks for.

use bitcoin::{Amount, ScriptBuf, Transaction};
use secp256k1::SecretKey;

use super::{
    contract::ContractError,
    span,
    terms::{Acceptance, Leg, TermsError},
};
use crate::{
    channel::Outbox,
    onchain::{EnforcementPolicy, FeeEstimates},
    types::{Height, PaymentHash, PaymentPreimage, UnixTime},
};

/// How a swap names what it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// All of a swap, by the hash of its secret.
    Swap(PaymentHash),
    /// All of a submarine swap, by the hash of its secret.
    Submarine(PaymentHash),
}

/// Writes and effects of a swap.
pub type SwapOutbox = Outbox<Effect, Key>;

/// The secrets of one person's swaps. They follow from the seed, a nonce that is kept with the swap, and the hash that is made
/// with it.
pub trait SwapKeys {
    /// What an initiator shows in the end.
    fn secret(&self, nonce: &[u8; 32]) -> PaymentPreimage;
    /// This person's key on a leg's contract. It follows from what the contract's script shows, so that the script and the
    /// seed are enough to get coins back.
    fn key(&self, hash: &PaymentHash, leg: Leg) -> SecretKey;
}

/// What has happened.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Event<'a> {
    /// The initiator has the participant's answer, and locks.
    Initiate(Acceptance),
    /// By hand: the participant locks as soon as the other's lock is good.
    Participate,
    /// By hand: take the other's coins. A participant may say a secret that was found elsewhere.
    Redeem { secret: Option<PaymentPreimage> },
    /// By hand: take one's own coins back.
    Refund,
    /// Nothing is locked yet, and nothing shall be.
    Cancel,
    /// The wallet has made and signed the lock that was asked for. It is not broadcast yet.
    Funded { transaction: Transaction, fee: Amount },
    /// The wallet could not make the lock. It is asked again at the next block.
    NotFunded,
    /// The next block of a chain.
    Block { leg: Leg, block: BlockSeen<'a> },
    /// The blocks above this one are not in the chain any more.
    Reorganized { leg: Leg, to: super::leg::Tip },
    /// A transaction is in the mempool of a leg's chain.
    Mempool { leg: Leg, transaction: &'a Transaction },
    /// The wallet has a transaction with this person's lock that waits for a block. A data directory that is older than the
    /// lock learns of it in this way.
    OwnLock(&'a Transaction),
    /// Time has passed, or the program was started: whatever waits is broadcast again.
    Tick,
}

/// A block of one of the two chains.
#[derive(Clone, Copy, Debug)]
pub struct BlockSeen<'a> {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: [u8; 32],
    /// The hash of the block below it.
    pub previous: [u8; 32],
    /// The median time of the eleven blocks that end with it (BIP 113).
    pub median_time: UnixTime,
    /// What is in it.
    pub transactions: &'a [Transaction],
}

/// One chain at the moment of an event.
#[derive(Clone, Copy, Debug)]
pub struct ChainCtx<'a> {
    /// What it costs to be in a block soon.
    pub estimates: &'a FeeEstimates,
    /// Seconds between its last blocks, as measured; 0 if not known.
    pub spacing: u32,
    /// Whether the swap has been fed to the node's own tip.
    pub is_fed: bool,
    /// Whether that tip is beyond doubt, too. If not, nothing new is begun: no lock, no first showing of the secret. A
    /// stranger can make a node doubt its tip, so nothing that brings coins home may depend on this.
    pub is_current: bool,
}

/// What an event is handled with.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    /// The time of day.
    pub now: UnixTime,
    /// This person's secrets.
    pub keys: &'a dyn SwapKeys,
    /// What claims may cost.
    pub policy: &'a EnforcementPolicy,
    /// The initiator's lock is on this chain.
    pub outer: ChainCtx<'a>,
    /// The participant's lock is on this chain.
    pub inner: ChainCtx<'a>,
}

impl Ctx<'_> {
    pub(super) fn chain(&self, leg: Leg) -> &ChainCtx<'_> {
        match leg {
            Leg::Outer => &self.outer,
            Leg::Inner => &self.inner,
        }
    }
}

/// What the driver has to do after the commit. All of it is harmless to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Effect {
    /// Have the wallet make and sign a transaction with this output, reserve its coins and broadcast nothing; answer with
    /// [`Event::Funded`] or [`Event::NotFunded`].
    Fund { leg: Leg, script: ScriptBuf, amount: Amount, max_fee: Amount },
    /// The coins of this transaction may be spent again: it is not broadcast.
    Release { leg: Leg, transaction: Transaction },
    /// Have the wallet spend the coins of a lock that no block has taken to this script in its place, with this fee, and
    /// broadcast that.
    Recall { leg: Leg, lock: Transaction, to: ScriptBuf, fee: Amount },
    /// Hand a transaction to the mempool.
    Broadcast { leg: Leg, transaction: Transaction },
}

/// Why an event was not taken. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum Refusal {
    #[error(transparent)]
    Terms(#[from] TermsError),
    #[error("a bug in Leyden stopped this swap, please report it: {0}")]
    Contract(#[from] ContractError),
    #[error("block {got} was fed where {expected} was expected")]
    Gap { expected: u32, got: u32 },
    #[error("the block fed at height {0} does not follow on the last one: the chain was reorganised in between")]
    NoChild(u32),
    #[error("only the initiator of a swap initiates it, with the participant's acceptance")]
    NotInitiator,
    #[error("only the participant of a swap participates in it")]
    NotParticipant,
    #[error("the swap was initiated already, with another acceptance")]
    Initiated,
    #[error(
        "your coins were locked already, so nothing can be cancelled: if the other does not take them with the secret, they come back \
         after the expiry. `leyden swap list` says where the swap is"
    )]
    Locked,
    #[error(
        "the payment is on its way or has arrived, so nothing can be cancelled: what has not arrived comes back if the other does not lock"
    )]
    Paying,
    #[error("the swap has ended")]
    Ended,
    #[error(
        "the secret is not known yet: it stands in the chain once the initiator has redeemed. If you have it from elsewhere, say \
         it with --secret"
    )]
    NoSecret,
    #[error("that secret does not have this swap's hash: it belongs to another one, or a part of it is missing")]
    WrongSecret,
    #[error(
        "the other's coins cannot be taken now: they are not locked as agreed, not deep enough, or taken already. See `leyden swap \
         list`"
    )]
    NotRedeemable,
    #[error(
        "too little time is left to show the secret: {left} until the coins go back, and {needed} are needed. Wait for your \
         refund instead",
        left = span::at_least(*left),
        needed = span::at_most(*needed)
    )]
    TooLateToReveal { left: u64, needed: u64 },
    #[error("nothing of yours is locked in a block, or it is spent")]
    NothingToRefund,
    #[error("your coins cannot be taken back before the chain's median time is past {expiry}; it is {median_time} now", expiry = expiry.0, median_time = median_time.0)]
    NotExpired { expiry: UnixTime, median_time: UnixTime },
    #[error("you have the other's coins, or may take them: then your own are theirs")]
    SecretShown,
    #[error("the lock pays {fee} in fees, and at most {limit} was agreed")]
    FeeTooHigh { fee: Amount, limit: Amount },
    #[error("the lock does not pay the amount of the contract, exactly, to its script")]
    WrongLock,
    #[error(
        "not both chains have been followed to their tips, or a tip is in doubt: see `leyden getinfo`, and try again"
    )]
    NotCurrent,
}
