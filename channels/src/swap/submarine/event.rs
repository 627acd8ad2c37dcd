//! What can happen to a submarine swap, and what it asks for.

use bitcoin::{Amount, ScriptBuf, Transaction};

use super::{
    state::{Payment, Receipt},
    terms::Acceptance,
    time::PaymentChain,
};
use crate::{
    channel::Outbox,
    onchain::EnforcementPolicy,
    payment::InvoiceNetwork,
    swap::{BlockSeen, ChainCtx, Key, SwapKeys, Tip},
    types::{Msat, PaymentPreimage, UnixTime},
};

/// Writes and effects of a submarine swap.
pub type SubmarineOutbox = Outbox<Effect, Key>;

/// What has happened.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Event<'a> {
    /// The initiator has the participant's answer: locks in a swap in, pays in a swap out.
    Initiate(Acceptance),
    /// Nothing is locked or paid yet, and nothing shall be.
    Cancel,
    /// The wallet has made and signed the lock that was asked for. It is not broadcast yet.
    Funded { transaction: Transaction, fee: Amount },
    /// The wallet could not make the lock. It is asked again at the next block.
    NotFunded,
    /// The next block of the chain.
    Block(BlockSeen<'a>),
    /// The blocks above this one are not in the chain any more.
    Reorganized(Tip),
    /// A transaction is in the mempool.
    Mempool(&'a Transaction),
    /// The wallet has a transaction with this person's lock that waits for a block. A data directory that is older than the
    /// lock learns of it in this way.
    OwnLock(&'a Transaction),
    /// How the payment of the hash stands, at the one who pays.
    Payment(Payment),
    /// How the invoice of the hash stands, at the one who is paid.
    Receipt(Receipt),
    /// Time has passed, or the program was started: whatever waits is done again.
    Tick,
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
    /// The contract's chain.
    pub chain: ChainCtx<'a>,
    /// The payment's chain: the same, unless the swap is across two.
    pub payment: PaymentChain,
    /// What invoices of the payment's chain begin with.
    pub network: InvoiceNetwork,
}

/// What the driver has to do after the commit. All of it is harmless to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Effect {
    /// Have the wallet make and sign a transaction with this output, reserve its coins and broadcast nothing; answer with
    /// [`Event::Funded`] or [`Event::NotFunded`].
    Fund { script: ScriptBuf, amount: Amount, max_fee: Amount },
    /// The coins of this transaction may be spent again: it is not broadcast.
    Release { transaction: Transaction },
    /// Have the wallet spend the coins of a lock that no block has taken to this script in its place, with this fee, and
    /// broadcast that.
    Recall { lock: Transaction, to: ScriptBuf, fee: Amount },
    /// Hand a transaction to the mempool.
    Broadcast { transaction: Transaction },
    /// Pay this invoice for at most this fee, with no HTLC that expires more blocks from now, unless it is being paid or was.
    Pay { invoice: String, max_fee: Msat, max_cltv: u32 },
    /// Take the payment that is held for the hash of this.
    Settle { preimage: PaymentPreimage },
    /// Give the invoice of the hash up, and what is held for it back.
    CancelInvoice,
}
