//! `leyden cancelinvoice`: give an invoice up.

use clap::Args;
use leyden_proto::invoicesrpc::CancelInvoiceMsg;

use super::{CliError, Context, lookupinvoice};

/// Cancel an invoice that is not settled; a held payment goes back to its payer.
#[derive(Debug, Args)]
pub struct CancelInvoice {
    /// The payment hash
    #[arg(value_name = "HASH")]
    payment_hash: String,
}

impl CancelInvoice {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let payment_hash = lookupinvoice::payment_hash(&self.payment_hash)?;
        let answer =
            context.client().await?.invoices().cancel_invoice(CancelInvoiceMsg { payment_hash }).await?.into_inner();
        context.show(&answer, || "the invoice is given up".to_owned())
    }
}
