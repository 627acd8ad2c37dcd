//! `leyden subscribeinvoices`: watch payments arrive.

use clap::Args;
use leyden_proto::lnrpc::{Invoice, InvoiceSubscription, invoice::InvoiceState};

use super::{CliError, Context, amount, format, lookupinvoice::asked};
use leyden_common::words::on_one_line;

/// Watch invoices as they are added and paid, until interrupted.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden subscribeinvoices\n  \
    leyden subscribeinvoices --settle-index 41 --json     first repeat what was paid after number 41")]
pub struct SubscribeInvoices {
    /// First repeat what was added after this index
    #[arg(long, alias = "add_index", default_value_t = 0, hide_default_value = true)]
    add_index: u64,
    /// First repeat what was paid after this index
    #[arg(long, alias = "settle_index", default_value_t = 0, hide_default_value = true)]
    settle_index: u64,
}

impl SubscribeInvoices {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = InvoiceSubscription { add_index: self.add_index, settle_index: self.settle_index };
        let mut invoices = context.client().await?.lightning().subscribe_invoices(request).await?.into_inner();
        context.note("Watching invoices; Ctrl-C ends it.");
        while let Some(invoice) = invoices.message().await? {
            context.show(&invoice, || for_people(&invoice))?;
        }
        Ok(())
    }
}

fn for_people(invoice: &Invoice) -> String {
    let (hash, memo) = (hex::encode(&invoice.r_hash), on_one_line(&invoice.memo));
    match invoice.state() {
        InvoiceState::Settled => {
            let at = format::time(invoice.settle_date);
            format!("{at}  paid   {}  {hash}  {memo}", amount::msat(invoice.amt_paid_msat))
        }
        InvoiceState::Canceled if !invoice.htlcs.is_empty() => {
            let at = format::time(invoice.creation_date);
            let left = amount::msat(invoice.amt_paid_msat);
            format!("{at}  taken back on the chain, {left} left  {hash}  {memo}")
        }
        InvoiceState::Open | InvoiceState::Accepted | InvoiceState::Canceled => {
            let at = format::time(invoice.creation_date);
            format!("{at}  added  {}  {hash}  {memo}", asked(invoice))
        }
    }
}
