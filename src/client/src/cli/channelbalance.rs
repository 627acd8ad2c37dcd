//! `leyden channelbalance`: the money in channels.

use clap::Args;
use leyden_proto::lnrpc::{Amount, ChannelBalanceRequest};

use super::{CliError, Context, amount, table};

/// Show the total balance of all channels, ours and the peers'.
#[derive(Debug, Args)]
pub struct ChannelBalance {}

impl ChannelBalance {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let balance = client.lightning().channel_balance(ChannelBalanceRequest {}).await?.into_inner();
        let row = |name: &str, local: &Option<Amount>, remote: &Option<Amount>| {
            let text =
                |side: &Option<Amount>| amount::msat(side.map_or(0, |side| i64::try_from(side.msat).unwrap_or(0)));
            [name.to_owned(), text(local), text(remote)]
        };
        context.show(&balance, || {
            let rows = vec![
                row("open channels", &balance.local_balance, &balance.remote_balance),
                row("payments in flight", &balance.unsettled_local_balance, &balance.unsettled_remote_balance),
                row("channels being opened", &balance.pending_open_local_balance, &balance.pending_open_remote_balance),
            ];
            table::list(["", ">local", ">remote"], rows, "")
        })
    }
}
