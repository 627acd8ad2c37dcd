//! Payments that we make.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bitcoin::{Amount, secp256k1::PublicKey};
use leyden_channels::{
    types::{CltvExpiry, Msat, PaymentHash, PaymentPreimage, PaymentSecret, ShortChannelId},
    wire::tlv::RawRecord,
};

use super::{ApiError, Page, PageRequest, RouteHintHop, Updates};

/// Payments of this node.
#[async_trait]
pub(crate) trait Payments: Send + Sync {
    /// Each change of the payment, the last one with a final state. The payment goes on if the stream is dropped,
    /// unless `cancel_on_hangup`. A failure to pay is a state, not an error; `AlreadyExists` if the hash is being
    /// paid or has been paid.
    async fn send_payment(&self, request: SendPayment) -> Result<Updates<Payment>, ApiError>;
    /// The payment as it is now, then as with `send_payment`.
    async fn track_payment(&self, hash: PaymentHash) -> Result<Updates<Payment>, ApiError>;
    /// In the order of `index`; `only_open` is never set.
    async fn payments(&self, page: PageRequest, include_incomplete: bool) -> Result<Page<Payment>, ApiError>;
    /// Payments that are under way, as they are now, then every change of any.
    async fn track_payments(&self) -> Result<Updates<Payment>, ApiError>;
    /// Forgets payments that are over, or those of their attempts that failed; how many it were. `NotFound` if one is named
    /// that is not there, `FailedPrecondition` if it is not over.
    async fn forget_payments(&self, which: ForgetPayments) -> Result<u64, ApiError>;
}

/// Which payments, and what of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ForgetPayments {
    /// `None`: all.
    pub hash: Option<PaymentHash>,
    /// Only payments that failed.
    pub only_failed: bool,
    /// The payments stay; their attempts that failed go.
    pub only_failed_attempts: bool,
}

/// A payment to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SendPayment {
    pub target: PaymentTarget,
    /// No attempt begins later than this.
    pub timeout: Duration,
    pub max_fee: Msat,
    /// The longest time lock, blocks from now; `None`: the daemon's default.
    pub max_cltv: Option<u32>,
    /// The most parts; `None`: the daemon's default.
    pub max_parts: Option<u32>,
    /// The largest part; `None`: any size.
    pub max_part: Option<Msat>,
    /// Leave by one of these; empty: by any.
    pub outgoing: Vec<ShortChannelId>,
    /// The node before the recipient.
    pub last_hop: Option<PublicKey>,
    /// From -100 (the lowest fees) to 100 (the surest route).
    pub time_pref: i8,
    /// Pay an invoice of our own through the network.
    pub allow_self_payment: bool,
    /// For the recipient's applications, in increasing order of their types.
    pub custom_records: Vec<RawRecord>,
    /// Make no further attempt once the caller has dropped the stream.
    pub cancel_on_hangup: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PaymentTarget {
    Invoice {
        request: String,
        /// What to pay if the invoice leaves it open; given otherwise, it must be the invoice's own amount.
        amount: Option<Msat>,
    },
    /// What an invoice would have said.
    Details {
        node_id: PublicKey,
        payment_hash: PaymentHash,
        secret: Option<PaymentSecret>,
        /// Not zero.
        amount: Msat,
        /// `None`: the daemon's default.
        final_cltv: Option<u16>,
        route_hints: Vec<Vec<RouteHintHop>>,
        /// The preimage of the hash, for the recipient to find in the payment itself.
        keysend: Option<PaymentPreimage>,
    },
}

/// A payment of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payment {
    /// Counts payments as they are made, from 1.
    pub index: u64,
    pub payment_hash: PaymentHash,
    pub amount: Msat,
    /// Paid, or at stake in the attempts that are in flight.
    pub fee: Msat,
    /// The BOLT 11 text, if it was paid by one.
    pub request: Option<String>,
    pub created: SystemTime,
    pub state: PaymentState,
    pub attempts: Vec<Attempt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PaymentState {
    /// Known, nothing sent.
    Initiated,
    InFlight,
    Succeeded {
        preimage: PaymentPreimage,
    },
    Failed {
        reason: FailureReason,
    },
}

impl PaymentState {
    /// Nothing will change it.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Initiated | Self::InFlight => false,
            Self::Succeeded { .. } | Self::Failed { .. } => true,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureReason {
    Timeout,
    NoRoute,
    /// Something that cannot be mended by another attempt.
    Error,
    /// The recipient knows no such invoice, or the amount or expiry does not suit it.
    IncorrectDetails,
    InsufficientBalance,
}

/// One HTLC that was sent for a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub id: u64,
    pub started: SystemTime,
    pub state: AttemptState,
    /// In the direction of the payment; never empty.
    pub route: Vec<RouteHop>,
    /// Of the HTLC that we offer.
    pub expiry: CltvExpiry,
    /// The payment secret and the payment's total, as the last hop is told.
    pub secret: Option<PaymentSecret>,
    pub total: Msat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AttemptState {
    InFlight,
    Succeeded { at: SystemTime, preimage: PaymentPreimage },
    Failed { at: SystemTime, failure: AttemptFailure },
}

/// Why an HTLC was failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttemptFailure {
    /// BOLT 4's failure code with its flags; `None` if the failure could not be read or arose here.
    pub code: Option<u16>,
    /// Who failed it: 0 is this node, 1 the first hop, and so on; `None` if unknown.
    pub source: Option<u32>,
    /// Given by some failures.
    pub amount: Option<Msat>,
    pub height: Option<u32>,
}

/// One channel of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteHop {
    pub short_channel_id: ShortChannelId,
    pub capacity: Amount,
    /// The node at its far end.
    pub node_id: PublicKey,
    /// What that node forwards, or keeps if it is the last.
    pub amount: Msat,
    /// What that node takes.
    pub fee: Msat,
    /// Of the HTLC that that node sends on; at the last node, of the one that it receives.
    pub expiry: CltvExpiry,
}
