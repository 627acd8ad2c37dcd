//! `leyden lookupinvoice`: one invoice of ours.

use clap::Args;
use leyden_proto::lnrpc::{Invoice, PaymentHash, invoice::InvoiceState};

use super::{CliError, Context, amount, format, table};

/// Show one invoice of this node.
#[derive(Debug, Args)]
pub struct LookupInvoice {
    /// Its payment hash
    #[arg(value_name = "HASH")]
    rhash: String,
}

impl LookupInvoice {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let r_hash = payment_hash(&self.rhash)?;
        let request = PaymentHash { r_hash, ..Default::default() };
        let invoice = context.client().await?.lightning().lookup_invoice(request).await?.into_inner();
        context.show(&invoice, || for_people(&invoice))
    }
}

pub(super) fn payment_hash(text: &str) -> Result<Vec<u8>, CliError> {
    bytes32("payment hash", text)
}

/// 32 bytes as hex; `what` they are, for the error.
pub(super) fn bytes32(what: &str, text: &str) -> Result<Vec<u8>, CliError> {
    hex::decode(text)
        .ok()
        .filter(|bytes| bytes.len() == 32)
        .ok_or_else(|| CliError::Usage(format!("\"{text}\" is no {what}: it has 64 hex digits")))
}

pub(super) fn state(invoice: &Invoice) -> &'static str {
    match invoice.state() {
        InvoiceState::Open => "open",
        InvoiceState::Accepted => "held",
        InvoiceState::Settled => "paid",
        InvoiceState::Canceled if invoice.htlcs.is_empty() => "canceled",
        InvoiceState::Canceled => "taken back on the chain",
    }
}

/// What it asks for; a payer may choose if it does not say.
pub(super) fn asked(invoice: &Invoice) -> String {
    if invoice.value_msat == 0 { "any".to_owned() } else { amount::msat(invoice.value_msat) }
}

fn for_people(invoice: &Invoice) -> String {
    table::facts([
        ("payment hash", hex::encode(&invoice.r_hash)),
        ("state", state(invoice).to_owned()),
        ("amount", asked(invoice)),
        ("paid", amount::msat(invoice.amt_paid_msat)),
        ("memo", invoice.memo.clone()),
        ("made", format::time(invoice.creation_date)),
        ("expires", format::time(invoice.creation_date.saturating_add(invoice.expiry))),
        ("settled", format::time(invoice.settle_date)),
        ("invoice", invoice.payment_request.clone()),
    ])
}
