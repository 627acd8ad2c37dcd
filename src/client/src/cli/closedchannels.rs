//! `leyden closedchannels`: channels that were.

use clap::Args;
use leyden_proto::lnrpc::{ChannelCloseSummary, ClosedChannelsRequest, channel_close_summary::ClosureType};

use super::{CliError, Context, amount, format, json, lncli, table};

const HEADINGS: [&str; 7] = ["channel", "~node", "closed", ">height", ">capacity", ">got", "closing transaction"];

/// List the closed channels.
#[derive(Debug, Args)]
pub struct ClosedChannels {
    /// Only those closed cooperatively
    #[arg(long)]
    cooperative: bool,
    /// Only those that this node force-closed
    #[arg(long, alias = "local_force")]
    local_force: bool,
    /// Only those that the other node force-closed
    #[arg(long, alias = "remote_force")]
    remote_force: bool,
    /// Only those in which the other node broadcast a revoked commitment and lost its money
    #[arg(long)]
    breach: bool,
    /// Only those that never got their funding
    #[arg(long)]
    funding_canceled: bool,
    /// Only those that were abandoned
    #[arg(long)]
    abandoned: bool,
}

impl ClosedChannels {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = ClosedChannelsRequest {
            cooperative: self.cooperative,
            local_force: self.local_force,
            remote_force: self.remote_force,
            breach: self.breach,
            funding_canceled: self.funding_canceled,
            abandoned: self.abandoned,
        };
        let answer = context.client().await?.lightning().closed_channels(request).await?.into_inner();
        if context.is_json() {
            let mut value = json::value(&answer)?;
            lncli::scids(&mut value["channels"]);
            return context.show_value(&value, String::new);
        }
        context.show(&answer, || {
            table::list(HEADINGS, answer.channels.iter().map(row).collect(), "No channel has been closed.")
        })
    }
}

fn row(channel: &ChannelCloseSummary) -> [String; 7] {
    let how = match channel.close_type() {
        ClosureType::CooperativeClose => "together",
        ClosureType::LocalForceClose => "by us",
        ClosureType::RemoteForceClose => "by them",
        ClosureType::BreachClose => "breach, punished",
        ClosureType::FundingCanceled => "never funded",
        ClosureType::Abandoned => "abandoned",
    };
    [
        format::short_point(&channel.channel_point),
        format::short(&channel.remote_pubkey),
        how.to_owned(),
        channel.close_height.to_string(),
        amount::grouped(channel.capacity),
        match channel.settled_balance {
            ..0 => "unknown".to_owned(),
            settled => amount::grouped(settled),
        },
        channel.closing_tx_hash.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closing_transaction_can_be_copied_from_eighty_columns() {
        let txid = "cd".repeat(32);
        let channel = ChannelCloseSummary {
            channel_point: format!("{}:0", "ab".repeat(32)),
            closing_tx_hash: txid.clone(),
            ..ChannelCloseSummary::default()
        };
        let text = table::within(Some(80), HEADINGS, vec![row(&channel); 2], "");
        assert_eq!(text.lines().filter(|line| line.ends_with(&txid)).count(), 2, "{text}");
    }
}
