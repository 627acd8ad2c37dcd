//! `leyden decodepayreq`: read an invoice.

use clap::Args;
use leyden_proto::lnrpc::{PayReq, PayReqString};

use super::{CliError, Context, amount, format, table};

/// Decode an invoice without paying it.
#[derive(Debug, Args)]
pub struct DecodePayReq {
    /// The invoice
    #[arg(value_name = "INVOICE")]
    pay_req: String,
}

impl DecodePayReq {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = PayReqString { pay_req: self.pay_req };
        let decoded = context.client().await?.lightning().decode_pay_req(request).await?.into_inner();
        context.show(&decoded, || for_people(&decoded))
    }
}

fn for_people(decoded: &PayReq) -> String {
    let description = match (&decoded.description, &decoded.description_hash) {
        (text, hash) if text.is_empty() && !hash.is_empty() => format!("a text with SHA-256 {hash}"),
        (text, _) => text.clone(),
    };
    table::facts([
        ("pays", decoded.destination.clone()),
        ("amount", if decoded.num_msat == 0 { "any".to_owned() } else { amount::msat(decoded.num_msat) }),
        ("for", description),
        ("payment hash", decoded.payment_hash.clone()),
        ("made", format::time(decoded.timestamp)),
        ("expires", format::time(decoded.timestamp.saturating_add(decoded.expiry))),
        ("last delay", format!("{} blocks", decoded.cltv_expiry)),
        ("fallback", if decoded.fallback_addr.is_empty() { "-".to_owned() } else { decoded.fallback_addr.clone() }),
    ])
}
