//! `leyden trackpayment`: how a payment of ours ends.

use clap::Args;
use leyden_proto::routerrpc::TrackPaymentRequest;

use super::{CliError, Context, lookupinvoice::payment_hash, payinvoice::follow};

/// Wait until a payment that was started before succeeds or fails, and show it.
#[derive(Debug, Args)]
pub struct TrackPayment {
    /// Its payment hash
    #[arg(value_name = "HASH")]
    payment_hash: String,
}

impl TrackPayment {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let payment_hash = payment_hash(&self.payment_hash)?;
        let client = context.client().await?;
        let request = TrackPaymentRequest { payment_hash, no_inflight_updates: false };
        let updates = client.router().track_payment_v2(request).await?.into_inner();
        follow(context, &client, updates).await
    }
}
