//! Payments that cross from one network to another, and what this daemon does for another one that lets them.

use async_trait::async_trait;
use leyden_channels::{
    crossing::{Crossing, HoldOrder, Incoming, NodeNow, Outgoing, PayOrder, Rate},
    payment::InvoiceNetwork,
    types::{DirectoryId, Msat, PaymentHash, PaymentPreimage},
};

use super::ApiError;

#[async_trait]
pub(crate) trait Crossings: Send + Sync {
    /// `None` takes the rate between the two networks away. Answers with all rates. `InvalidArgument` if it cannot be meant;
    /// `NotFound` if a network is none of the two.
    async fn set_crossing_rate(&self, networks: Networks, rate: Option<Rate>) -> Result<Vec<CrossingRate>, ApiError>;
    async fn crossing_rates(&self) -> Result<Vec<CrossingRate>, ApiError>;
    /// `FailedPrecondition` with the reason if it cannot cross.
    async fn cross(&self, request: Cross) -> Result<CrossingInfo, ApiError>;
    /// `NotFound` if there is none, or nobody had paid it.
    async fn crossing(&self, hash: PaymentHash) -> Result<CrossingInfo, ApiError>;
    /// The oldest first.
    async fn crossings(&self) -> Result<Vec<CrossingInfo>, ApiError>;

    // For another daemon of the same person, whose data directory `book` is.

    async fn crossing_status(&self) -> Result<CrossingStatus, ApiError>;
    /// The invoice. Making it twice is making it once; `AlreadyExists` if there is another one with the hash.
    async fn hold_crossing(&self, book: DirectoryId, order: HoldOrder) -> Result<String, ApiError>;
    async fn held_crossing(&self, book: DirectoryId, hash: PaymentHash) -> Result<Incoming, ApiError>;
    /// Harmless to repeat, whatever has become of it: look at it then.
    async fn settle_crossing(&self, book: DirectoryId, preimage: PaymentPreimage) -> Result<(), ApiError>;
    /// Harmless to repeat, likewise.
    async fn give_up_crossing(&self, book: DirectoryId, hash: PaymentHash) -> Result<(), ApiError>;
    /// Harmless to repeat, likewise. `FailedPrecondition` if it is not begun.
    async fn pay_crossing(&self, order: PayOrder) -> Result<(), ApiError>;
    async fn crossing_payment(&self, hash: PaymentHash) -> Result<Outgoing, ApiError>;
}

/// Two networks by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Networks {
    pub incoming: String,
    pub outgoing: String,
}

/// A rate that is set, and how much of it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CrossingRate {
    pub networks: Networks,
    pub rate: Rate,
    /// Under way now.
    pub held: Msat,
}

/// What somebody wants to have paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cross {
    pub invoice: String,
    /// If the invoice leaves it open.
    pub amount: Option<Msat>,
    /// The invoice is of this daemon's network.
    pub to_own: bool,
}

/// A crossing, and what its networks are called.
#[derive(Clone, Debug)]
pub(crate) struct CrossingInfo {
    pub crossing: Crossing,
    pub networks: Networks,
}

/// This daemon, as far as another one has to know.
#[derive(Clone, Debug)]
pub(crate) struct CrossingStatus {
    pub network: String,
    pub invoices: InvoiceNetwork,
    pub now: NodeNow,
}
