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
    format, table,
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
    #[command(flatten)]
    payment: PaymentArgs,
}

/// How a payment is made.
#[derive(Debug, Default, Args)]
pub(super) struct PaymentArgs {
    /// The most to pay in fees, satoshi [default: 5 % of the amount; 100 % of a small amount]
    #[arg(long)]
    fee_limit: Option<Sat>,
    /// The most to pay in fees, in percent of the amount
    #[arg(long, conflicts_with = "fee_limit")]
    fee_limit_percent: Option<u32>,
    /// Seconds after which to give up
    #[arg(long, default_value_t = 60, value_parser = amount::seconds_i32)]
    timeout: i32,
    /// The most parts to split the payment into [default: the node's]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    max_parts: u32,
    /// The largest part, satoshi
    #[arg(long)]
    max_shard_size_sat: Option<u64>,
    /// The largest part, millisatoshi
    #[arg(long, conflicts_with = "max_shard_size_sat")]
    max_shard_size_msat: Option<u64>,
    /// The most blocks that the payment may lock money for [default and maximum: 2016]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    cltv_limit: i32,
    /// Use only this channel as the first hop (its id, as `leyden listchannels` shows it); may be given more than once
    #[arg(long, value_name = "ID", value_parser = format::channel_id, value_delimiter = ',')]
    outgoing_chan_id: Vec<u64>,
    /// The node before the recipient, by its key
    #[arg(long, value_name = "KEY")]
    last_hop: Option<String>,
    /// From -1 (a cheap route) to 1 (a route that is likely to succeed)
    #[arg(long, default_value_t = 0.0, hide_default_value = true, allow_negative_numbers = true)]
    time_pref: f64,
    /// Pay this node itself, around a circle
    #[arg(long)]
    allow_self_payment: bool,
    /// Records for the recipient: TYPE=HEX, more with commas
    #[arg(long, value_name = "TYPE=HEX", value_delimiter = ',', value_parser = record)]
    data: Vec<(u64, Vec<u8>)>,
    /// Give the payment up when this command is interrupted
    #[arg(long)]
    cancelable: bool,
    /// lncli asks before it pays; leyden does not
    #[arg(long, short, hide = true)]
    force: bool,
    #[arg(long, hide = true)]
    inflight_updates: bool,
    #[arg(long, hide = true)]
    amp: bool,
}

/// A record of TLV.
fn record(text: &str) -> Result<(u64, Vec<u8>), String> {
    let wrong = || format!("\"{text}\" is no record: write TYPE=HEX, such as 65537=c0ffee");
    let (kind, value) = text.split_once('=').ok_or_else(wrong)?;
    Ok((kind.parse().map_err(|_| wrong())?, hex::decode(value).map_err(|_| wrong())?))
}

impl PaymentArgs {
    /// Says whether the fees are limited as given; else they are by the amount.
    pub(super) fn limits_fees(&self) -> bool {
        self.fee_limit.is_some()
    }

    /// The request with all that was asked for, for a payment of so much, in millisatoshi.
    pub(super) fn into_request(self, amount_msat: i64) -> Result<SendPaymentRequest, CliError> {
        let fee_limit_msat = match (self.fee_limit, self.fee_limit_percent) {
            (Some(limit), _) => limit.0.saturating_mul(1000),
            (None, Some(percent)) => amount_msat.saturating_mul(percent.into()) / 100,
            (None, None) => default_fee_limit(amount_msat),
        };
        let last_hop = self.last_hop.map(hex::decode).transpose();
        let last_hop = last_hop.map_err(|_| CliError::Usage("--last-hop: a node key has 66 hex digits".to_owned()))?;
        let max_part = self.max_shard_size_sat.map(|part| part.saturating_mul(1000)).or(self.max_shard_size_msat);
        Ok(SendPaymentRequest {
            fee_limit_msat,
            timeout_seconds: self.timeout,
            max_parts: self.max_parts,
            max_shard_size_msat: max_part.unwrap_or(0),
            cltv_limit: self.cltv_limit,
            outgoing_chan_ids: self.outgoing_chan_id,
            last_hop_pubkey: last_hop.unwrap_or_default(),
            time_pref: self.time_pref,
            allow_self_payment: self.allow_self_payment,
            dest_custom_records: self.data.into_iter().collect(),
            cancelable: self.cancelable,
            amp: self.amp,
            ..Default::default()
        })
    }
}

/// Up to this amount the whole of it may be spent on fees, as with lncli.
const SMALL_MSAT: i64 = 1_000_000;

impl PayInvoice {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        pay(context, self.pay_req, self.amt, self.payment).await
    }
}

/// Pays an invoice, of so much if it leaves that open.
pub(super) async fn pay(
    context: &Context,
    pay_req: String,
    amt: Option<Sat>,
    payment: PaymentArgs,
) -> Result<(), CliError> {
    let client = context.client().await?;
    let amt = amt.map_or(0, |amount| amount.0);
    let amount_msat = match payment.limits_fees() {
        true => 0,
        false => {
            let request = PayReqString { pay_req: pay_req.clone() };
            let decoded = client.lightning().decode_pay_req(request).await?.into_inner();
            decoded.num_msat.max(amt.saturating_mul(1000))
        }
    };
    let request = SendPaymentRequest { payment_request: pay_req, amt, ..payment.into_request(amount_msat)? };
    let updates = client.router().send_payment_v2(request).await?.into_inner();
    follow(context, &client, updates).await
}

fn default_fee_limit(amount_msat: i64) -> i64 {
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
