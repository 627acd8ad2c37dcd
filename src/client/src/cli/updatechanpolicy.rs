//! `leyden updatechanpolicy`: what others pay for a way through this node.

use clap::Args;
use leyden_proto::lnrpc::{PolicyUpdateRequest, policy_update_request::Scope};

use super::{CliError, Context, closechannel, format};

/// Set the fees and limits for forwarding through one channel, or through all.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden updatechanpolicy 1000 250 80                        all channels: 1 sat and 0.025 %, 80 blocks\n  \
    leyden updatechanpolicy 0 100 40 --chan-point 4a5e1e4b:0   one channel")]
pub struct UpdateChanPolicy {
    /// Base fee of each payment, millisatoshi
    #[arg(value_name = "BASE_FEE_MSAT")]
    base_fee_msat: i64,
    /// Fee rate, in parts per million (ppm) of the amount
    #[arg(value_name = "FEE_RATE_PPM")]
    fee_rate_ppm: u32,
    /// Blocks between the expiries of the incoming and the outgoing HTLC; at least 18
    #[arg(value_name = "TIME_LOCK_DELTA")]
    time_lock_delta: u32,
    /// Only this channel, as txid:index; a unique beginning of the transaction id is enough
    #[arg(long, alias = "chan_point", value_name = "CHANNEL")]
    chan_point: Option<String>,
    /// The largest payment, millisatoshi [default: unchanged]
    #[arg(long, alias = "max_htlc_msat", default_value_t = 0, hide_default_value = true)]
    max_htlc_msat: u64,
    /// The smallest payment, millisatoshi [default: unchanged]
    #[arg(long, alias = "min_htlc_msat")]
    min_htlc_msat: Option<u64>,
}

impl UpdateChanPolicy {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let scope = match &self.chan_point {
            None => Scope::Global(true),
            Some(point) => Scope::ChanPoint(closechannel::find_point(&client, point).await?),
        };
        let request = PolicyUpdateRequest {
            scope: Some(scope),
            base_fee_msat: self.base_fee_msat,
            fee_rate_ppm: self.fee_rate_ppm,
            time_lock_delta: self.time_lock_delta,
            max_htlc_msat: self.max_htlc_msat,
            min_htlc_msat: self.min_htlc_msat.unwrap_or_default(),
            min_htlc_msat_specified: self.min_htlc_msat.is_some(),
            ..Default::default()
        };
        let answer = client.lightning().update_channel_policy(request).await?.into_inner();
        if answer.failed_updates.is_empty() {
            return context.show(&answer, || "the new terms hold, and the network is being told".to_owned());
        }
        let why = answer.failed_updates.iter().map(|failed| {
            let point = failed.outpoint.as_ref().map(|at| format!("{}:{}", at.txid_str, at.output_index));
            format!("{}: {}", format::short_point(&point.unwrap_or_default()), failed.update_error)
        });
        Err(CliError::Failed(format!("not all channels have the new terms. {}", why.collect::<Vec<_>>().join("; "))))
    }
}
