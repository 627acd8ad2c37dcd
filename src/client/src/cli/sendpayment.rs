//! `leyden sendpayment`: lncli's command for all ways to pay.

use clap::Args;
use leyden_proto::routerrpc::SendPaymentRequest;

use super::{
    CliError, Context,
    amount::Sat,
    keysend,
    lookupinvoice::{bytes32, payment_hash},
    payinvoice::{self, PaymentArgs, follow},
};

/// Pay an invoice, or a node without one; `leyden payinvoice` and `leyden keysend` do the same.
#[derive(Debug, Args)]
pub struct SendPayment {
    /// The invoice
    #[arg(long, value_name = "INVOICE", conflicts_with = "dest")]
    pay_req: Option<String>,
    /// The node to pay without an invoice, by its key
    #[arg(long, value_name = "KEY", required_unless_present = "pay_req", requires = "amt")]
    dest: Option<String>,
    /// Amount, if the invoice names none
    #[arg(long)]
    amt: Option<Sat>,
    /// The payment hash that the node has named
    #[arg(long, value_name = "HASH", conflicts_with = "keysend")]
    payment_hash: Option<String>,
    /// Blocks that must remain when the payment arrives
    #[arg(long)]
    final_cltv_delta: Option<i32>,
    /// The payment secret that the node has named
    #[arg(long, value_name = "HEX")]
    pay_addr: Option<String>,
    /// Pay with a preimage of ours
    #[arg(long)]
    keysend: bool,
    #[command(flatten)]
    payment: PaymentArgs,
}

impl SendPayment {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let (Some(dest), Some(amt)) = (&self.dest, self.amt) else {
            return payinvoice::pay(context, self.pay_req.unwrap_or_default(), self.amt, self.payment).await;
        };
        let Some(hash) = &self.payment_hash else {
            if self.keysend {
                return keysend::pay(context, dest, amt, self.final_cltv_delta, self.payment).await;
            }
            let text = "name what is paid for: --pay_req INVOICE, --payment_hash HASH, or --keysend";
            return Err(CliError::Usage(text.to_owned()));
        };
        let secret = self.pay_addr.as_deref().map(|secret| bytes32("payment secret", secret)).transpose()?;
        let request = SendPaymentRequest {
            dest: hex::decode(dest)
                .map_err(|_| CliError::Usage(format!("\"{dest}\" is no public key; it has 66 hex digits")))?,
            amt: amt.0,
            payment_hash: payment_hash(hash)?,
            payment_addr: secret.unwrap_or_default(),
            final_cltv_delta: self.final_cltv_delta.unwrap_or(0),
            ..self.payment.into_request(amt.0.saturating_mul(1000))?
        };
        let client = context.client().await?;
        let updates = client.router().send_payment_v2(request).await?.into_inner();
        follow(context, &client, updates).await
    }
}
