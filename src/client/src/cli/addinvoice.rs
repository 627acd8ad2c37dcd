//! `leyden addinvoice`: ask to be paid.

use clap::Args;
use leyden_proto::lnrpc::Invoice;

use super::{CliError, Context, amount::Sat, lookupinvoice};

/// Create an invoice.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden addinvoice 10,000 --memo coffee\n  \
    leyden addinvoice                          whoever pays chooses the amount\n  \
    leyden addinvoice --amt-msat 1500 --expiry 600")]
pub struct AddInvoice {
    /// How much: satoshi, or coins such as 0.01btc
    amt: Option<Sat>,
    /// How much, in millisatoshi
    #[arg(long, alias = "amt_msat", conflicts_with = "amt")]
    amt_msat: Option<i64>,
    /// What it is for
    #[arg(long, default_value = "", hide_default_value = true)]
    memo: String,
    /// Seconds until it can no longer be paid [default: the node's]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    expiry: i64,
    /// The preimage, 64 hex digits [default: a random one]
    #[arg(long)]
    preimage: Option<String>,
    /// SHA-256 of a longer description, 64 hex digits
    #[arg(long)]
    description_hash: Option<String>,
    /// Blocks that must remain when the payment arrives [default: the node's]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    cltv_expiry_delta: u64,
    /// An on-chain address for payers that find no route
    #[arg(long, alias = "fallback_addr", default_value = "", hide_default_value = true)]
    fallback_addr: String,
    /// Add route hints for channels that are not announced
    #[arg(long)]
    private: bool,
}

impl AddInvoice {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let preimage = self.preimage.map(hex::decode).transpose();
        let request = Invoice {
            memo: self.memo,
            value: self.amt.map_or(0, |amount| amount.0),
            value_msat: self.amt_msat.unwrap_or(0),
            expiry: self.expiry,
            r_preimage: preimage
                .map_err(|_| CliError::Usage("--preimage: it has 64 hex digits".to_owned()))?
                .unwrap_or_default(),
            description_hash: description_hash(self.description_hash.as_deref())?,
            cltv_expiry: self.cltv_expiry_delta,
            fallback_addr: self.fallback_addr,
            private: self.private,
            ..Default::default()
        };
        let answer = context.client().await?.lightning().add_invoice(request).await?.into_inner();
        context.show(&answer, || answer.payment_request.clone())
    }
}

/// Of a description that the invoice does not hold; none if it is not given.
pub(super) fn description_hash(text: Option<&str>) -> Result<Vec<u8>, CliError> {
    text.map_or(Ok(Vec::new()), |text| lookupinvoice::bytes32("description hash", text))
}
