//! `leyden listpayments`: what we paid.

use std::iter;

use clap::Args;
use leyden_proto::lnrpc::{ListPaymentsRequest, Payment, payment::PaymentStatus};

use super::{CliError, Context, amount, format, table, tower::waits};

/// List this node's payments, the latest page first.
#[derive(Debug, Args)]
pub struct ListPayments {
    /// Also those that failed or are in flight
    #[arg(long, alias = "include_incomplete")]
    include_incomplete: bool,
    /// Only those before this index; with --paginate-forwards those after it
    #[arg(long, alias = "index_offset", default_value_t = 0)]
    index_offset: u64,
    /// Show at most this many; 0: all
    #[arg(long, alias = "max_payments", default_value_t = 100)]
    max_payments: u64,
    /// Start with the oldest
    #[arg(long, alias = "paginate_forwards")]
    paginate_forwards: bool,
    /// Only those made from this time on: seconds since 1970, or -1w, -2d, -3h
    #[arg(long, allow_hyphen_values = true, value_parser = format::moment, default_value_t = 0, hide_default_value = true)]
    creation_date_start: u64,
    /// Only those made until this time
    #[arg(long, allow_hyphen_values = true, value_parser = format::moment, default_value_t = 0, hide_default_value = true)]
    creation_date_end: u64,
    /// Also count all payments that there are
    #[arg(long)]
    count_total_payments: bool,
    #[arg(long, hide = true)]
    omit_hops: bool,
}

impl ListPayments {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = ListPaymentsRequest {
            include_incomplete: self.include_incomplete,
            index_offset: self.index_offset,
            max_payments: self.max_payments,
            reversed: !self.paginate_forwards,
            creation_date_start: self.creation_date_start,
            creation_date_end: self.creation_date_end,
            count_total_payments: self.count_total_payments,
        };
        let client = context.client().await?;
        let mut answer = client.lightning().list_payments(request).await?.into_inner();
        if self.omit_hops {
            let routes = answer.payments.iter_mut().flat_map(|payment| &mut payment.htlcs);
            routes.filter_map(|attempt| attempt.route.as_mut()).for_each(|route| route.hops.clear());
        }
        let waits = match answer.payments.iter().any(is_in_flight) && !context.is_json() {
            true => waits::of(&client).await,
            false => Vec::new(),
        };
        context.show(&answer, || {
            let headings = [">index", "payment hash", "state", ">amount", ">fee", "made (UTC)"];
            let list = table::list(headings, answer.payments.iter().map(row).collect(), "There are no payments.");
            iter::once(list).chain(waits).collect::<Vec<_>>().join("\n")
        })
    }
}

fn is_in_flight(payment: &Payment) -> bool {
    payment.status() == PaymentStatus::InFlight
}

fn row(payment: &Payment) -> [String; 6] {
    let state = match payment.status() {
        PaymentStatus::Succeeded => "paid",
        PaymentStatus::Failed => "failed",
        #[allow(deprecated)] // LND's own first value.
        PaymentStatus::Initiated | PaymentStatus::InFlight | PaymentStatus::Unknown => "in flight",
    };
    [
        payment.payment_index.to_string(),
        payment.payment_hash.clone(),
        state.to_owned(),
        amount::msat(payment.value_msat),
        amount::msat(payment.fee_msat),
        format::time(payment.creation_time_ns / 1_000_000_000),
    ]
}
