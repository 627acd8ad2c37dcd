//! `leyden feereport`: what forwarding costs others and earned us.

use clap::Args;
use leyden_proto::lnrpc::FeeReportRequest;

use super::{CliError, Context, amount, format, table};

/// Show what each channel charges for forwarding, and what forwarding has earned.
#[derive(Debug, Args)]
pub struct FeeReport {}

impl FeeReport {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let answer = context.client().await?.lightning().fee_report(FeeReportRequest {}).await?.into_inner();
        context.show(&answer, || {
            let rows = answer.channel_fees.iter().map(|fee| {
                [
                    format::scid(fee.chan_id),
                    fee.channel_point.clone(),
                    amount::msat(fee.base_fee_msat),
                    fee.fee_per_mil.to_string(),
                ]
            });
            let headings = ["id", "channel", ">base fee", ">ppm"];
            let channels = table::list(headings, rows.collect(), "There are no open channels.");
            let earned = |sum: u64| amount::sat(i64::try_from(sum).unwrap_or(i64::MAX));
            let sums = table::facts([
                ("earned in a day", earned(answer.day_fee_sum)),
                ("in a week", earned(answer.week_fee_sum)),
                ("in 30 days", earned(answer.month_fee_sum)),
            ]);
            format!("{channels}\n\n{sums}")
        })
    }
}
