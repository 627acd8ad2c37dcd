//! One crossing: what was agreed, and where it is.

use std::fmt;

use bitcoin::constants::ChainHash;

use super::node::{HoldOrder, Order, PayOrder};
use crate::{
    payment::Invoice,
    types::{CltvExpiry, Msat, PaymentHash, PaymentPreimage, UnixTime},
};

use super::node::{Outgoing, PaymentRecords};

/// From which network to which, by their genesis blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The payer's.
    pub incoming: ChainHash,
    /// The payee's.
    pub outgoing: ChainHash,
}

/// What somebody wants to have paid.
#[derive(Clone, Debug)]
pub struct Ask {
    /// From which network to which.
    pub pair: Pair,
    /// The invoice as it was given.
    pub text: String,
    /// What it says.
    pub invoice: Invoice,
    /// What the payee is to get, if the invoice leaves that open.
    pub amount: Option<Msat>,
    /// What the outgoing node knows of a payment with its hash.
    pub known: Outgoing,
}

/// A crossing, behind which stands one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing {
    /// Of both payments.
    pub hash: PaymentHash,
    /// From which network to which.
    pub pair: Pair,
    /// What is paid on the outgoing network (BOLT 11).
    pub invoice: String,
    /// When that expires.
    pub invoice_expires: UnixTime,
    /// Blocks that its payee wants to have left.
    pub final_blocks: u32,
    /// What the payee gets.
    pub amount: Msat,
    /// What the payer brings.
    pub price: Msat,
    /// What the routes to the payee may cost.
    pub most_fee: Msat,
    /// Parts of the outgoing payment.
    pub most_parts: u16,
    /// Blocks that the payer's HTLCs must have left when they arrive.
    pub hold_blocks: u32,
    /// When it was asked for.
    pub created: UnixTime,
    /// The quote binds until then.
    pub expires: UnixTime,
    /// What is paid on the incoming network (BOLT 11), once it is made.
    pub request: Option<String>,
    /// What was held when the outgoing payment was decided.
    pub held: Option<Held>,
    /// Where it is.
    pub state: State,
}

/// HTLCs that wait on the incoming network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// What they bring.
    pub amount: Msat,
    /// The height at which the first of them runs out.
    pub expiry: CltvExpiry,
}

/// Where a crossing is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum State {
    /// The held invoice is being made.
    Opening,
    /// Nobody has paid it.
    Waiting,
    /// The price is held. The outgoing payment may have been begun, to end by these; 0 if it is under way, and this data directory
    /// is older than its begin.
    Paying { last_expiry: CltvExpiry, deadline: UnixTime, begun: Begun },
    /// The outgoing node does not know a payment that it was told to make, and its records are not those that would: the payee
    /// may be paid. What is held is neither taken nor given back, unless those records come back.
    InDoubt,
    /// The payee is paid: what is held has to be taken.
    Settling { preimage: PaymentPreimage, fee: Msat },
    /// The payee is not paid, and will not be: what is held has to go back, once the outgoing node has confirmed it.
    GivingUp { reason: Reason },
    /// Nothing follows.
    Ended(Outcome),
}

/// What is known of the begin of the outgoing payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing. These were the outgoing node's records when it was decided.
    Unknown(PaymentRecords),
    /// It has been seen.
    Seen,
}

/// Why what was held goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Reason {
    /// Nobody has paid in time.
    NotPaid,
    /// The owner has taken the rate away.
    RateOff,
    /// One of the networks could not be asked, or its tip not be relied on.
    Away,
    /// Others were under way.
    Full,
    /// The outgoing invoice had expired.
    InvoiceExpired,
    /// What was left until the expiry of the incoming HTLCs was too little.
    TooLate,
    /// The outgoing payment was not begun in time.
    NotBegun,
    /// The outgoing payment failed.
    PaymentFailed { reason: String },
}

/// How a crossing has ended for the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Outcome {
    /// The payee is paid, and so is the owner.
    Crossed { preimage: PaymentPreimage, fee: Msat },
    /// Nobody is paid.
    GivenBack(Reason),
    /// The owner, or somebody with the preimage, took what was held; the payee was not paid from here.
    TakenElsewhere,
    /// The payee is paid, and what was held went back: the margins were not enough.
    Lost { preimage: PaymentPreimage, fee: Msat },
    /// Whether the payee is paid was never learnt, and what was held went back when it ran out.
    Unknown,
}

impl Reason {
    /// Whether the outgoing node has not been asked: this data directory may be older than a payment that it knows of, so it is
    /// asked before anything is given back.
    pub(super) fn follows_from_here_alone(&self) -> bool {
        match self {
            Self::NotPaid | Self::RateOff | Self::Full | Self::InvoiceExpired | Self::TooLate => true,
            // It does not answer, or has answered.
            Self::Away | Self::NotBegun | Self::PaymentFailed { .. } => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPaid => f.write_str("nobody paid it in time"),
            Self::RateOff => f.write_str("this node's owner does not let payments cross any more"),
            Self::Away => f.write_str("one of the two networks could not be asked"),
            Self::Full => f.write_str("too much was under way at once"),
            Self::InvoiceExpired => f.write_str("the payee's invoice had expired"),
            Self::TooLate => f.write_str("the payment left too little time"),
            Self::NotBegun => f.write_str("the payment to the payee could not be begun in time"),
            Self::PaymentFailed { reason } => write!(f, "the payee could not be paid: {reason}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crossed { .. } => f.write_str("the payee is paid"),
            Self::GivenBack(reason) => write!(f, "{reason}"),
            Self::TakenElsewhere => f.write_str("what was held was taken with the preimage of somebody else"),
            Self::Lost { .. } => f.write_str("the payee is paid, and what was held went back"),
            Self::Unknown => f.write_str(
                "the payee's network has lost its records of this payment, so the payee may be paid; what was held has run out",
            ),
        }
    }
}

impl Crossing {
    /// Whether nothing follows.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    /// Whether the payee may be, or has been, paid while the price is held.
    pub fn is_under_way(&self) -> bool {
        match self.state {
            State::Paying { .. } | State::InDoubt | State::Settling { .. } => true,
            State::Opening | State::Waiting | State::GivingUp { .. } | State::Ended(_) => false,
        }
    }

    /// Whether it waits to be paid.
    pub fn is_waiting(&self) -> bool {
        match self.state {
            State::Opening | State::Waiting => true,
            State::Paying { .. }
            | State::InDoubt
            | State::Settling { .. }
            | State::GivingUp { .. }
            | State::Ended(_) => false,
        }
    }

    /// What has to be done, again and again until something changes. The outgoing payment's fate comes before all else.
    pub(super) fn orders(&self) -> Vec<Order> {
        match &self.state {
            State::Opening => vec![Order::Hold(self.hold_order())],
            State::Waiting => vec![Order::LookAtIncoming],
            State::Paying { .. } | State::InDoubt => vec![Order::LookAtOutgoing],
            State::Settling { preimage, .. } => vec![Order::Settle(*preimage), Order::LookAtIncoming],
            // What is still there to be given back is given back once the outgoing node has been asked.
            State::GivingUp { reason } if reason.follows_from_here_alone() => vec![Order::LookAtIncoming],
            State::GivingUp { .. } => vec![Order::GiveUp, Order::LookAtIncoming],
            State::Ended(_) => Vec::new(),
        }
    }

    fn hold_order(&self) -> HoldOrder {
        HoldOrder { hash: self.hash, amount: self.price, expires: self.expires, blocks: self.hold_blocks }
    }

    pub(super) fn pay_order(&self, last_expiry: CltvExpiry, deadline: UnixTime) -> PayOrder {
        PayOrder {
            invoice: self.invoice.clone(),
            amount: self.amount,
            most_fee: self.most_fee,
            most_parts: self.most_parts,
            last_expiry,
            deadline,
        }
    }
}
