//! One of the two Lightning nodes between which payments cross: this daemon's own, or a second one's.

use std::time::Duration;

use async_trait::async_trait;
use leyden_channels::{
    crossing::{HoldOrder, Incoming, NodeNow, Outgoing, PayOrder},
    payment::InvoiceNetwork,
    types::{DirectoryId, PaymentHash, PaymentPreimage},
};

/// How long a node may take to answer, in this process or another: a part of [`margins::FENCE_SECONDS`], after which an order that
/// is on its way is taken for lost.
///
/// [`margins::FENCE_SECONDS`]: leyden_channels::crossing::margins::FENCE_SECONDS
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Why a node does not do what it is asked for, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NodeError {
    /// It cannot be asked: whether it has done it is not known.
    #[error("{0}")]
    Away(String),
    /// It has not done it.
    #[error("{0}")]
    Refused(String),
}

/// A node as it is now.
#[derive(Clone, Debug)]
pub(crate) struct NodeStatus {
    /// What people call its network.
    pub network: String,
    /// What that network's invoices begin with.
    pub invoices: InvoiceNetwork,
    pub now: NodeNow,
}

/// All of it is harmless to repeat. `book` is the data directory of the daemon whose crossing it is: no other's held invoice is
/// shown or touched.
#[async_trait]
pub(crate) trait CrossingNode: Send + Sync {
    async fn status(&self) -> Result<NodeStatus, NodeError>;
    /// The invoice; refused if there is another one with the hash.
    async fn hold(&self, book: DirectoryId, order: HoldOrder) -> Result<String, NodeError>;
    async fn held(&self, book: DirectoryId, hash: PaymentHash) -> Result<Incoming, NodeError>;
    async fn settle(&self, book: DirectoryId, preimage: PaymentPreimage) -> Result<(), NodeError>;
    async fn give_up(&self, book: DirectoryId, hash: PaymentHash) -> Result<(), NodeError>;
    async fn pay(&self, order: PayOrder) -> Result<(), NodeError>;
    async fn payment(&self, hash: PaymentHash) -> Result<Outgoing, NodeError>;
}
