//! Held invoices.

use async_trait::async_trait;
use leyden_channels::types::{Msat, PaymentHash, PaymentPreimage, UnixTime};

use super::{Fake, invoice};
use crate::api::*;

#[async_trait]
impl HoldInvoices for Fake {
    async fn add_hold_invoice(&self, hash: PaymentHash, request: AddInvoice) -> Result<Invoice, ApiError> {
        self.asked((hash, request), invoice(1, InvoiceState::Open))
    }

    async fn settle_invoice(&self, preimage: PaymentPreimage) -> Result<(), ApiError> {
        self.asked(preimage, ())
    }

    async fn cancel_invoice(&self, hash: PaymentHash) -> Result<(), ApiError> {
        self.asked(hash, ())
    }

    async fn subscribe_invoice(&self, hash: PaymentHash) -> Result<Updates<Invoice>, ApiError> {
        let amount = Msat(1_500);
        let held = Invoice { preimage: None, ..invoice(1, InvoiceState::Accepted { amount }) };
        let settled = InvoiceState::Settled { at: UnixTime(1_700_000_001), settle_index: 1, amount };
        let updates = self.updates(vec![held, invoice(1, settled)]);
        self.asked(hash, updates)
    }
}
