//! `leyden keysend`: pay without having been asked.

use clap::Args;
use leyden_channels::{onion::payload::KEYSEND_PREIMAGE, types::PaymentPreimage};
use leyden_proto::routerrpc::SendPaymentRequest;

use super::{
    CliError, Context,
    amount::Sat,
    payinvoice::{PaymentArgs, follow},
};

/// Blocks that the recipient gets: LND asks for so many.
const FINAL_CLTV: i32 = 80;

/// Pay a node without an invoice; it must accept such payments (`leydend --accept-keysend`).
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  leyden keysend 02ab… 5000")]
pub struct Keysend {
    /// The node's public key
    #[arg(value_name = "NODE")]
    dest: String,
    /// Amount
    #[arg(value_name = "AMOUNT")]
    amt: Sat,
    #[command(flatten)]
    payment: PaymentArgs,
}

impl Keysend {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        pay(context, &self.dest, self.amt, None, self.payment).await
    }
}

/// Pays a node with a preimage of ours.
pub(super) async fn pay(
    context: &Context,
    dest: &str,
    amt: Sat,
    final_cltv: Option<i32>,
    payment: PaymentArgs,
) -> Result<(), CliError> {
    let dest =
        hex::decode(dest).map_err(|_| CliError::Usage(format!("\"{dest}\" is no public key; it has 66 hex digits")))?;
    let preimage = PaymentPreimage(rand::random());
    let mut request = SendPaymentRequest {
        dest,
        amt: amt.0,
        payment_hash: preimage.hash().0.to_vec(),
        final_cltv_delta: final_cltv.unwrap_or(FINAL_CLTV),
        ..payment.into_request(amt.0.saturating_mul(1000))?
    };
    request.dest_custom_records.insert(KEYSEND_PREIMAGE, preimage.0.to_vec());
    let client = context.client().await?;
    let updates = client.router().send_payment_v2(request).await?.into_inner();
    follow(context, &client, updates).await
}
