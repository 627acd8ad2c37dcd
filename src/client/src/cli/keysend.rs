//! `leyden keysend`: pay without having been asked.

use clap::Args;
use leyden_channels::{onion::payload::KEYSEND_PREIMAGE, types::PaymentPreimage};
use leyden_proto::routerrpc::SendPaymentRequest;

use super::{
    CliError, Context,
    amount::Sat,
    payinvoice::{default_fee_limit, follow},
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
    /// The most to pay in fees, satoshi [default: 5 % of the amount; 100 % of a small amount]
    #[arg(long, alias = "fee_limit")]
    fee_limit: Option<Sat>,
    /// Seconds after which to give up
    #[arg(long, default_value_t = 60)]
    timeout: i32,
}

impl Keysend {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let dest = hex::decode(&self.dest)
            .map_err(|_| CliError::Usage(format!("\"{}\" is no public key; it has 66 hex digits", self.dest)))?;
        let preimage = PaymentPreimage(rand::random());
        let request = SendPaymentRequest {
            dest,
            amt: self.amt.0,
            payment_hash: preimage.hash().0.to_vec(),
            final_cltv_delta: FINAL_CLTV,
            dest_custom_records: [(KEYSEND_PREIMAGE, preimage.0.to_vec())].into(),
            fee_limit_msat: match self.fee_limit {
                Some(limit) => limit.0.saturating_mul(1000),
                None => default_fee_limit(self.amt.0.saturating_mul(1000)),
            },
            timeout_seconds: self.timeout,
            ..Default::default()
        };
        let client = context.client().await?;
        let updates = client.router().send_payment_v2(request).await?.into_inner();
        follow(context, &client, updates).await
    }
}
