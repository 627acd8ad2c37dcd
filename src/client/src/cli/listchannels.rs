//! `leyden listchannels`: the open channels.

use clap::Args;
use leyden_proto::{
    leyden::{ChannelCoverage, ListCoverageRequest},
    lnrpc::{Channel, ListChannelsRequest},
};
use serde_json::Value;

use super::{
    CliError, Context, amount,
    context::if_allowed,
    format, json, lncli, table,
    tower::{coverage, waits},
};

const HEADINGS: [&str; 8] = ["channel", "id", "~node", "active", ">capacity", ">local", ">remote", ">~in flight"];

/// List the open channels, with what watchtowers cover of each.
#[derive(Debug, Args)]
pub struct ListChannels {
    /// Only those whose peer is online
    #[arg(long, alias = "active_only")]
    active_only: bool,
    /// Only those whose peer is offline
    #[arg(long, alias = "inactive_only", conflicts_with = "active_only")]
    inactive_only: bool,
    /// Only those that are announced
    #[arg(long, conflicts_with = "private_only")]
    public_only: bool,
    /// Only those that are not announced
    #[arg(long)]
    private_only: bool,
    /// Only those with this peer
    #[arg(long, value_name = "KEY")]
    peer: Option<String>,
    /// Do not look up the peers' aliases
    #[arg(long, alias = "skip_peer_alias_lookup")]
    skip_peer_alias_lookup: bool,
}

impl ListChannels {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let peer = self.peer.map(hex::decode).transpose();
        let peer = peer.map_err(|_| CliError::Usage("--peer: a node key has 66 hex digits".to_owned()))?;
        let request = ListChannelsRequest {
            active_only: self.active_only,
            inactive_only: self.inactive_only,
            peer: peer.unwrap_or_default(),
            public_only: self.public_only,
            private_only: self.private_only,
            peer_alias_lookup: !self.skip_peer_alias_lookup,
        };
        let client = context.client().await?;
        let answer = client.lightning().list_channels(request).await?.into_inner();
        let coverage = if_allowed(client.towers().list_coverage(ListCoverageRequest::default()).await)?;
        let covered: Option<Vec<ChannelCoverage>> = coverage.map(|coverage| {
            let channels = coverage.channels.into_iter();
            channels.filter(|one| shown(&answer.channels, &one.channel_point)).collect()
        });
        let coverage = match &covered {
            Some(covered) if context.is_json() => covered.iter().map(json::value).collect::<Result<_, _>>()?,
            Some(_) | None => Value::Null,
        };
        if context.is_json() {
            let mut value = json::value(&answer)?;
            lncli::scids(&mut value["channels"]);
            value["coverage"] = coverage;
            return context.show_value(&value, String::new);
        }
        context.show(&answer, || {
            let rows = answer.channels.iter().map(row).collect();
            let mut text = table::list(HEADINGS, rows, "No channel is open: `leyden openchannel` opens one.");
            for (point, flags) in
                answer.channels.iter().map(|channel| (&channel.channel_point, &channel.chan_status_flags))
            {
                text += &format::trouble(point, flags);
            }
            for channel in covered.iter().flatten() {
                if let Some(words) = coverage::in_short(channel) {
                    text += &format!("\n{}: watchtowers: {words}", format::short_point(&channel.channel_point));
                }
                text += &waits::sentence(channel).map(|waits| format!("\n{waits}")).unwrap_or_default();
            }
            if covered.is_none() {
                text += &format!("\n{}", format::not_allowed("watchtowers", "offchain:read"));
            }
            text
        })
    }
}

fn shown(channels: &[Channel], point: &str) -> bool {
    channels.iter().any(|channel| channel.channel_point == point)
}

fn row(channel: &Channel) -> [String; 8] {
    [
        format::short_point(&channel.channel_point),
        format::scid(channel.chan_id),
        format::short(&channel.remote_pubkey),
        format::yes_no(channel.active).to_owned(),
        amount::grouped(channel.capacity),
        amount::grouped(channel.local_balance),
        amount::grouped(channel.remote_balance),
        amount::grouped(channel.unsettled_balance),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eighty_columns_cut_no_number_and_no_id() {
        let channel = Channel {
            channel_point: format!("{}:0", "ab".repeat(32)),
            chan_id: (539_268 << 40) | (845 << 16) | 1,
            remote_pubkey: "02".repeat(33),
            capacity: 16_777_215,
            local_balance: 10_000_000,
            remote_balance: 6_777_215,
            unsettled_balance: 1_250,
            ..Channel::default()
        };
        let text = table::within(Some(80), HEADINGS, vec![row(&channel); 2], "");
        let cells: Vec<&str> = text.lines().find(|line| line.starts_with("abab")).unwrap().split_whitespace().collect();
        for whole in ["abababababab…:0", "539268x845x1", "16,777,215", "10,000,000", "6,777,215", "1,250"] {
            assert!(cells.contains(&whole), "{whole} in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("capacity") && text.ends_with("also shows: node)"), "{text}");
    }
}
