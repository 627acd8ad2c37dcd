//! `leyden listchannels`: the open channels.

use clap::Args;
use leyden_proto::{
    leyden::ListCoverageRequest,
    lnrpc::{Channel, ListChannelsRequest},
};

use super::{CliError, Context, amount, format, table, tower::coverage};

/// List the open channels.
#[derive(Debug, Args)]
pub struct ListChannels {
    /// Only those whose peer is online
    #[arg(long, alias = "active_only")]
    active_only: bool,
    /// Only those whose peer is offline
    #[arg(long, alias = "inactive_only", conflicts_with = "active_only")]
    inactive_only: bool,
    /// Only those with this peer
    #[arg(long, value_name = "KEY")]
    peer: Option<String>,
}

impl ListChannels {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let peer = self.peer.map(hex::decode).transpose();
        let peer = peer.map_err(|_| CliError::Usage("--peer: a node key has 66 hex digits".to_owned()))?;
        let request = ListChannelsRequest {
            active_only: self.active_only,
            inactive_only: self.inactive_only,
            peer: peer.unwrap_or_default(),
            ..Default::default()
        };
        let client = context.client().await?;
        let answer = client.lightning().list_channels(request).await?.into_inner();
        let covered = match context.is_json() {
            true => Vec::new(),
            false => client.towers().list_coverage(ListCoverageRequest::default()).await?.into_inner().channels,
        };
        context.show(&answer, || {
            let headings = ["channel", "id", "node", "active", ">capacity", ">local", ">remote", ">in flight"];
            let rows = answer.channels.iter().map(row).collect();
            let mut text = table::list(headings, rows, "No channel is open: `leyden openchannel` opens one.");
            for (point, flags) in
                answer.channels.iter().map(|channel| (&channel.channel_point, &channel.chan_status_flags))
            {
                text += &format::trouble(point, flags);
            }
            for channel in covered.iter().filter(|one| shown(&answer.channels, &one.channel_point)) {
                if let Some(words) = coverage::in_short(channel) {
                    text += &format!("\n{}: watchtowers: {words}", format::short_point(&channel.channel_point));
                }
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
