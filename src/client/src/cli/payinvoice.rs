//! `leyden payinvoice`: pay.

use std::{iter, time::Duration};

use clap::Args;
use leyden_proto::{
    lnrpc::{
        PayReqString, Payment, PaymentFailureReason, failure::FailureCode, htlc_attempt::HtlcStatus,
        payment::PaymentStatus,
    },
    routerrpc::SendPaymentRequest,
};
use tokio::time::timeout;
use tonic::Streaming;

use super::{
    CliError, Context,
    amount::{self, Sat},
    table,
    tower::waits,
};
use crate::client::Client;

/// Pay an invoice.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden payinvoice lnbcrt…\n  \
    leyden payinvoice lnbcrt… --amt 5000              an invoice that leaves the amount open\n  \
    leyden payinvoice lnbcrt… --fee-limit 10 --timeout 20")]
pub struct PayInvoice {
    /// The invoice
    #[arg(value_name = "INVOICE")]
    pay_req: String,
    /// Amount, if the invoice names none
    #[arg(long)]
    amt: Option<Sat>,
    /// The most to pay in fees, satoshi [default: 5 % of the amount; 100 % of a small amount]
    #[arg(long, alias = "fee_limit")]
    fee_limit: Option<Sat>,
    /// Seconds after which to give up
    #[arg(long, default_value_t = 60)]
    timeout: i32,
    /// The most parts to split the payment into [default: the node's]
    #[arg(long, alias = "max_parts", default_value_t = 0, hide_default_value = true)]
    max_parts: u32,
    /// The most blocks that the payment may lock money for [default and maximum: 2016]
    #[arg(long, alias = "cltv_limit", default_value_t = 0, hide_default_value = true)]
    cltv_limit: i32,
    /// Use only this channel as the first hop (its id, as `leyden listchannels` shows it); may be given more than once
    #[arg(long, alias = "outgoing_chan_id", value_name = "ID", value_parser = channel_id)]
    outgoing_chan_id: Vec<u64>,
}

/// A short channel id: block x transaction x output, such as `122x1x0`, or that as one number.
fn channel_id(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no channel id: `leyden listchannels` shows them, such as 122x1x0");
    let parts: Vec<u64> = text.split('x').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    match parts[..] {
        [id] => Ok(id),
        [block, index, output] if block < 1 << 24 && index < 1 << 24 && output < 1 << 16 => {
            Ok((block << 40) | (index << 16) | output)
        }
        _ => Err(wrong()),
    }
}

/// Up to this amount the whole of it may be spent on fees, as with lncli.
const SMALL_MSAT: i64 = 1_000_000;

impl PayInvoice {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let amt = self.amt.map_or(0, |amount| amount.0);
        let fee_limit_msat = match self.fee_limit {
            Some(limit) => limit.0.saturating_mul(1000),
            None => {
                let request = PayReqString { pay_req: self.pay_req.clone() };
                let decoded = client.lightning().decode_pay_req(request).await?.into_inner();
                default_fee_limit(decoded.num_msat.max(amt.saturating_mul(1000)))
            }
        };
        let request = SendPaymentRequest {
            payment_request: self.pay_req,
            amt,
            fee_limit_msat,
            timeout_seconds: self.timeout,
            max_parts: self.max_parts,
            cltv_limit: self.cltv_limit,
            outgoing_chan_ids: self.outgoing_chan_id,
            ..Default::default()
        };
        let updates = client.router().send_payment_v2(request).await?.into_inner();
        follow(context, &client, updates).await
    }
}

pub(super) fn default_fee_limit(amount_msat: i64) -> i64 {
    if amount_msat <= SMALL_MSAT { amount_msat } else { amount_msat / 20 }
}

/// A payment of which nothing is heard for so long may wait for a watchtower.
const WAITS_INTERVAL: Duration = Duration::from_secs(2);

/// Waits for a payment's end and shows it; a failure is this command's failure too.
pub(super) async fn follow(
    context: &Context,
    client: &Client,
    mut updates: Streaming<Payment>,
) -> Result<(), CliError> {
    let waiting = context.waiting("paying");
    let mut paying = "paying".to_owned();
    let mut told = Vec::new();
    loop {
        let payment = match timeout(WAITS_INTERVAL, updates.message()).await {
            Ok(Ok(Some(payment))) => payment,
            Ok(Ok(None)) => break,
            Ok(Err(status)) => return Err(status.into()),
            // It takes long: perhaps a channel that it goes through waits for something that a person can mend.
            Err(_) => {
                let waits = waits::of(client).await;
                let message = iter::once(paying.clone()).chain(waits.iter().cloned());
                waiting.set_message(message.collect::<Vec<_>>().join("; "));
                if waiting.is_hidden() && !waits.is_empty() && waits != told {
                    context.note(&waits.join("\n"));
                    told = waits;
                }
                continue;
            }
        };
        match payment.status() {
            PaymentStatus::Succeeded => {
                waiting.finish_and_clear();
                return context.show(&payment, || for_people(&payment));
            }
            PaymentStatus::Failed => {
                waiting.finish_and_clear();
                let reason = explained_by_attempts(&payment);
                if context.is_json() {
                    context.show(&payment, String::new)?;
                }
                return Err(CliError::Failed(format!("the payment failed: {reason}")));
            }
            #[allow(deprecated)] // LND's own first value.
            PaymentStatus::Initiated | PaymentStatus::InFlight | PaymentStatus::Unknown => {
                paying = format!("paying {}", amount::msat(payment.value_msat));
                waiting.set_message(paying.clone());
            }
        }
    }
    let text = "the node stopped telling of the payment: `leyden trackpayment` shows how it ended";
    Err(CliError::Failed(text.to_owned()))
}

fn for_people(payment: &Payment) -> String {
    table::facts([
        ("paid", amount::msat(payment.value_msat)),
        ("fee", amount::msat(payment.fee_msat)),
        ("payment hash", payment.payment_hash.clone()),
        ("preimage", payment.payment_preimage.clone()),
    ])
}

/// A recipient that cannot take it now says so with the attempt's failure alone: LND has no such reason.
fn explained_by_attempts(payment: &Payment) -> &'static str {
    let last = payment.htlcs.iter().rfind(|attempt| attempt.status() == HtlcStatus::Failed);
    let is_busy = last.is_some_and(|attempt| {
        let hops = attempt.route.as_ref().map_or(0, |route| route.hops.len());
        attempt.failure.as_ref().is_some_and(|failure| {
            failure.code() == FailureCode::TemporaryNodeFailure
                && usize::try_from(failure.failure_source_index) == Ok(hops)
        })
    });
    match payment.failure_reason() {
        PaymentFailureReason::FailureReasonError if is_busy => {
            "the recipient cannot take payments at the moment (it may not know how far the chain is); try again later"
        }
        reason => explained(reason),
    }
}

pub(super) fn explained(reason: PaymentFailureReason) -> &'static str {
    match reason {
        PaymentFailureReason::FailureReasonNone => "no reason is known",
        PaymentFailureReason::FailureReasonTimeout => {
            "no route was found in time; try again, or with a longer --timeout"
        }
        PaymentFailureReason::FailureReasonNoRoute => {
            "there is no route to the recipient with enough money in it, within the limits of fee, delay and channel; other \
             nodes' channels are known once they are 6 blocks deep"
        }
        PaymentFailureReason::FailureReasonError => "something failed that another attempt would not mend",
        PaymentFailureReason::FailureReasonIncorrectPaymentDetails => {
            "the recipient does not take it: the invoice is unknown, paid or expired, or the amount is wrong"
        }
        PaymentFailureReason::FailureReasonInsufficientBalance => {
            "our channels do not hold enough: `leyden channelbalance` shows what they hold"
        }
        PaymentFailureReason::FailureReasonCanceled => "it was canceled",
    }
}

#[cfg(test)]
mod tests {
    use leyden_proto::lnrpc::{Failure, Hop, HtlcAttempt, Route};

    use super::*;

    #[test]
    fn a_channel_id_is_taken_as_listchannels_shows_it_and_as_a_number() {
        assert_eq!(channel_id("539268x845x1"), Ok((539_268 << 40) | (845 << 16) | 1));
        assert_eq!(channel_id("592936573276913665"), Ok(592_936_573_276_913_665));
        for wrong in ["", "x", "1x2", "1x2x65536", "1x2x3x4", "16777216x0x0", "abc"] {
            assert!(channel_id(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_recipient_that_is_busy_is_not_blamed_on_the_invoice() {
        let failed_by = |source| Payment {
            failure_reason: PaymentFailureReason::FailureReasonError.into(),
            htlcs: vec![HtlcAttempt {
                status: HtlcStatus::Failed.into(),
                route: Some(Route { hops: vec![Hop::default(); 2], ..Route::default() }),
                failure: Some(Failure {
                    code: FailureCode::TemporaryNodeFailure.into(),
                    failure_source_index: source,
                    ..Failure::default()
                }),
                ..HtlcAttempt::default()
            }],
            ..Payment::default()
        };
        assert!(explained_by_attempts(&failed_by(2)).contains("try again later"));
        let on_the_way = explained_by_attempts(&failed_by(1));
        assert_eq!(on_the_way, explained(PaymentFailureReason::FailureReasonError));
    }

    #[test]
    fn small_payments_may_double_and_large_ones_cost_a_twentieth() {
        assert_eq!([1_000, 1_000_000, 2_000_000].map(default_fee_limit), [1_000, 1_000_000, 100_000]);
    }
}
