//! `leyden addholdinvoice`: ask to be paid, and decide later.

use clap::Args;
use leyden_proto::invoicesrpc::AddHoldInvoiceRequest;

use super::{CliError, Context, addinvoice, amount::Sat, lookupinvoice, table};

/// Create an invoice whose payment is held until `settleinvoice` or `cancelinvoice`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden addholdinvoice 9a3f… 5000 --memo deposit\n  \
    leyden settleinvoice 77b2…                 take what is held\n  \
    leyden cancelinvoice 9a3f…                 give it back")]
pub struct AddHoldInvoice {
    /// SHA-256 of the preimage, which this node need not know
    #[arg(value_name = "HASH")]
    hash: String,
    /// How much [default: the payer chooses]
    #[arg(value_name = "AMOUNT")]
    amt: Option<Sat>,
    /// What it is for
    #[arg(long, default_value = "", hide_default_value = true)]
    memo: String,
    /// Seconds until it expires [default: a day]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    expiry: i64,
    /// Blocks that must remain when the payment arrives [default: 80]
    #[arg(long, alias = "cltv_expiry_delta", default_value_t = 0, hide_default_value = true)]
    cltv_expiry_delta: u64,
    /// How much, in millisatoshi
    #[arg(long, conflicts_with = "amt")]
    amt_msat: Option<i64>,
    /// SHA-256 of a longer description, 64 hex digits
    #[arg(long)]
    description_hash: Option<String>,
    /// An on-chain address for payers that find no route
    #[arg(long, default_value = "", hide_default_value = true)]
    fallback_addr: String,
    /// Add route hints for channels that are not announced
    #[arg(long)]
    private: bool,
}

impl AddHoldInvoice {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = AddHoldInvoiceRequest {
            memo: self.memo,
            hash: lookupinvoice::payment_hash(&self.hash)?,
            value: self.amt.map_or(0, |amount| amount.0),
            expiry: self.expiry,
            cltv_expiry: self.cltv_expiry_delta,
            private: self.private,
            value_msat: self.amt_msat.unwrap_or(0),
            description_hash: addinvoice::description_hash(self.description_hash.as_deref())?,
            fallback_addr: self.fallback_addr,
            ..Default::default()
        };
        let answer = context.client().await?.invoices().add_hold_invoice(request).await?.into_inner();
        context.show(&answer, || {
            table::facts([("invoice", answer.payment_request.clone()), ("number", answer.add_index.to_string())])
        })
    }
}
