//! The calls about held invoices.

use std::sync::Arc;

use async_trait::async_trait;
use leyden_channels::{
    payment::incoming::{Holder, InvoiceError, InvoiceState as Stored},
    types::{PaymentHash, PaymentPreimage},
};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    LightningNode,
    invoices::{no_invoice, to_api},
    tip_error,
};
use crate::{
    api::{AddInvoice, ApiError, HoldInvoices, Invoice, InvoiceState, Invoices as _, Updates},
    driver::committer::PendingEffects,
};

#[async_trait]
impl HoldInvoices for LightningNode {
    async fn add_hold_invoice(&self, hash: PaymentHash, request: AddInvoice) -> Result<Invoice, ApiError> {
        self.make_invoice(request, Some(hash), Holder::Person).await
    }

    async fn settle_invoice(&self, preimage: PaymentPreimage) -> Result<(), ApiError> {
        let services = self.services();
        // A preimage that is given for an HTLC that has expired is given for nothing.
        services.wait_for_tip().await.map_err(|doubt| tip_error("no preimage is given", &doubt))?;
        let ctx = services.invoice_ctx();
        let settled = services.try_change(&services.invoices, |invoices| invoices.settle_held(preimage, &ctx));
        self.end(preimage.hash(), settled, |state| match state {
            Stored::Settled(_) => Ok(()),
            Stored::Open => Err("invoice still open: nothing has been paid for it yet, so there is nothing to take"),
            Stored::Canceled => {
                Err("invoice already canceled: it was given up, and what was held went back to its payer")
            }
            Stored::Accepted(_) => Err("the invoice has just changed: try again"),
        })
        .await
    }

    async fn cancel_invoice(&self, hash: PaymentHash) -> Result<(), ApiError> {
        let services = self.services();
        let known = services.invoice_record(&hash)?;
        let held = known.filter(|invoice| matches!(invoice.state, Stored::Accepted(_)));
        match held.map(|invoice| invoice.holder) {
            Some(Holder::Crossing(_)) => {
                let text = "this payment crosses to another network, and its payee may be paid already: it is given back by itself if \
                            that fails (`leyden swap crossings`)";
                return Err(ApiError::precondition(text));
            }
            Some(Holder::SwapIn | Holder::SwapOut) => {
                let text = "this payment is half of a submarine swap: it is given back by itself once that is safe (`leyden swap list`)";
                return Err(ApiError::precondition(text));
            }
            Some(Holder::Person) | None => {}
        }
        let canceled = services.try_change(&services.invoices, |invoices| invoices.cancel(&hash, services.tip()));
        self.end(hash, canceled, |state| match state {
            Stored::Canceled => Ok(()),
            Stored::Settled(_) => Err("invoice already settled: what was paid can only be paid back"),
            Stored::Open | Stored::Accepted(_) => Err("the invoice has just changed: try again"),
        })
        .await
    }

    async fn subscribe_invoice(&self, hash: PaymentHash) -> Result<Updates<Invoice>, ApiError> {
        let services = Arc::clone(self.services());
        // The listener first, then the look: what happens in between comes twice rather than never.
        let mut news = services.events.invoices();
        // One that is not there yet may come: LND's clients subscribe before they add it.
        let first = match self.invoice(hash).await {
            Ok(invoice) => Some(invoice),
            Err(ApiError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            let mut over = first.as_ref().is_some_and(is_over);
            let mut item: Option<Result<Invoice, ApiError>> = first.map(Ok);
            loop {
                if let Some(item) = item.take() {
                    let failed = item.is_err();
                    if sender.send(item).await.is_err() || over || failed {
                        return;
                    }
                }
                let next = loop {
                    tokio::select! {
                        () = sender.closed() => return,
                        update = news.recv() => match update {
                            Ok(invoice) if invoice.payment_hash == hash => break Ok(to_api(&services, &invoice)),
                            Ok(_) => {}
                            // Whatever was missed, the store has the present state.
                            Err(RecvError::Lagged(_)) => match services.invoice_record(&hash) {
                                Ok(Some(invoice)) => break Ok(to_api(&services, &invoice)),
                                Ok(None) => {}
                                Err(error) => break Err(error.into()),
                            },
                            Err(RecvError::Closed) => return,
                        },
                    }
                };
                over = next.as_ref().is_ok_and(is_over);
                item = Some(next);
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

fn is_over(invoice: &Invoice) -> bool {
    match invoice.state {
        InvoiceState::Open | InvoiceState::Accepted { .. } => false,
        InvoiceState::Settled { .. } | InvoiceState::TakenBack { .. } | InvoiceState::Canceled => true,
    }
}

impl LightningNode {
    /// Waits for a change of an invoice; if there was none to make, its state decides whether that is what was wanted.
    async fn end(
        &self,
        hash: PaymentHash,
        changed: Result<PendingEffects, InvoiceError>,
        wanted: impl FnOnce(&Stored) -> Result<(), &'static str>,
    ) -> Result<(), ApiError> {
        let services = self.services();
        match changed {
            Ok(underway) => self.carry_out(underway).await,
            Err(error @ (InvoiceError::TipInDoubt | InvoiceError::TooLate)) => {
                Err(ApiError::precondition(error.to_string()))
            }
            Err(InvoiceError::Exists | InvoiceError::NotOpen | InvoiceError::NotAccepted) => {
                let record = services.invoice_record(&hash)?;
                let record = record.ok_or_else(|| no_invoice(&hash))?;
                wanted(&record.state).map_err(ApiError::precondition)
            }
        }
    }
}
