//! `leyden settleinvoice`: take what is held.

use clap::Args;
use leyden_proto::invoicesrpc::SettleInvoiceMsg;

use super::{CliError, Context, lookupinvoice};

/// Accept the payment that is held for an invoice.
#[derive(Debug, Args)]
pub struct SettleInvoice {
    /// The preimage of the invoice's hash
    #[arg(value_name = "PREIMAGE")]
    preimage: String,
}

impl SettleInvoice {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let preimage = lookupinvoice::bytes32("preimage", &self.preimage)?;
        let answer =
            context.client().await?.invoices().settle_invoice(SettleInvoiceMsg { preimage }).await?.into_inner();
        context.show(&answer, || "the payment is taken".to_owned())
    }
}
