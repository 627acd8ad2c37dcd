//! `leyden listinvoices`: what we asked to be paid.

use clap::Args;
use leyden_proto::lnrpc::{Invoice, ListInvoiceRequest};

use super::{
    CliError, Context, amount, format,
    lookupinvoice::{asked, state},
    table,
};

/// List this node's invoices, the latest page first.
#[derive(Debug, Args)]
pub struct ListInvoices {
    /// Only those that are not paid or canceled
    #[arg(long, alias = "pending_only")]
    pending_only: bool,
    /// Only those before this index; with --paginate-forwards those after it
    #[arg(long, alias = "index_offset", default_value_t = 0)]
    index_offset: u64,
    /// Show at most this many
    #[arg(long, alias = "max_invoices", default_value_t = 100)]
    max_invoices: u64,
    /// Start with the oldest
    #[arg(long, alias = "paginate_forwards")]
    paginate_forwards: bool,
    /// Only those made from this time on: seconds since 1970, or -1w, -2d, -3h
    #[arg(long, allow_hyphen_values = true, value_parser = format::moment, default_value_t = 0, hide_default_value = true)]
    creation_date_start: u64,
    /// Only those made until this time
    #[arg(long, allow_hyphen_values = true, value_parser = format::moment, default_value_t = 0, hide_default_value = true)]
    creation_date_end: u64,
}

impl ListInvoices {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = ListInvoiceRequest {
            pending_only: self.pending_only,
            index_offset: self.index_offset,
            num_max_invoices: self.max_invoices,
            reversed: !self.paginate_forwards,
            creation_date_start: self.creation_date_start,
            creation_date_end: self.creation_date_end,
        };
        let answer = context.client().await?.lightning().list_invoices(request).await?.into_inner();
        context.show(&answer, || {
            let headings = [">index", "payment hash", "state", ">amount", ">paid", "made (UTC)", "memo"];
            table::list(headings, answer.invoices.iter().map(row).collect(), "There are no invoices.")
        })
    }
}

fn row(invoice: &Invoice) -> [String; 7] {
    [
        invoice.add_index.to_string(),
        hex::encode(&invoice.r_hash),
        state(invoice).to_owned(),
        asked(invoice),
        amount::msat(invoice.amt_paid_msat),
        format::time(invoice.creation_date),
        invoice.memo.clone(),
    ]
}
