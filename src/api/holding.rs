//! Invoices whose payments wait until the caller takes or refuses them.

use async_trait::async_trait;
use leyden_channels::types::{PaymentHash, PaymentPreimage};

use super::{AddInvoice, ApiError, Invoice, Updates};

#[async_trait]
pub(crate) trait HoldInvoices: Send + Sync {
    /// `request` names no preimage. `AlreadyExists` if there is an invoice with this hash.
    async fn add_hold_invoice(&self, hash: PaymentHash, request: AddInvoice) -> Result<Invoice, ApiError>;
    /// Takes what is held, durably. `NotFound` if there is no such invoice, `FailedPrecondition` if it is not paid or
    /// given up; settling twice is settling once.
    async fn settle_invoice(&self, preimage: PaymentPreimage) -> Result<(), ApiError>;
    /// Gives the invoice up, and what is held back. `FailedPrecondition` if it is settled; twice is once.
    async fn cancel_invoice(&self, hash: PaymentHash) -> Result<(), ApiError>;
    /// As it is now, then each change; the stream ends with the invoice.
    async fn subscribe_invoice(&self, hash: PaymentHash) -> Result<Updates<Invoice>, ApiError>;
}
