//! `leyden pendingchannels`: channels that are being opened or closed.

use clap::Args;
use leyden_proto::{
    leyden::{ListClosingRequest, ListClosingResponse, ListWarningsRequest},
    lnrpc::{PendingChannelsRequest, PendingChannelsResponse, pending_channels_response::PendingChannel},
};

use super::{CliError, Context, amount, channel, format, table};

/// List the channels that are being opened or closed.
#[derive(Debug, Args)]
pub struct PendingChannels {
    #[arg(long, hide = true)]
    include_raw_tx: bool,
}

impl PendingChannels {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = PendingChannelsRequest { include_raw_tx: self.include_raw_tx || context.is_json() };
        let client = context.client().await?;
        let answer = client.lightning().pending_channels(request).await?.into_inner();
        let (closing, warnings) = match context.is_json() {
            true => (ListClosingResponse::default(), Vec::new()),
            false => (
                client.channels().list_closing(ListClosingRequest {}).await?.into_inner(),
                client.channels().list_warnings(ListWarningsRequest {}).await?.into_inner().warnings,
            ),
        };
        context.show(&answer, || {
            let closing = channel::closing::for_people(&closing);
            for_people(&answer) + "\n\n" + &closing + &format::warnings(&warnings)
        })
    }
}

fn for_people(pending: &PendingChannelsResponse) -> String {
    let row = |channel: &Option<PendingChannel>, stage: &str, waits: String, limbo: i64| {
        let channel = channel.clone().unwrap_or_default();
        [
            format::short_point(&channel.channel_point),
            format::short(&channel.remote_node_pub),
            stage.to_owned(),
            waits,
            amount::grouped(channel.capacity),
            amount::grouped(channel.local_balance),
            amount::grouped(limbo),
        ]
    };
    let opening = pending.pending_open_channels.iter().map(|channel| {
        let waits = format::counted(channel.confirmations_until_active, "more confirmation");
        row(&channel.channel, "opening", waits, 0)
    });
    let waiting = pending.waiting_close_channels.iter().map(|channel| {
        let flags = channel.channel.as_ref().map_or("", |channel| channel.chan_status_flags.as_str());
        let waits = match channel.closing_txid.as_str() {
            "" if channel.limbo_balance == 0 && format::has_trouble(flags) => "its end, 100 blocks deep".to_owned(),
            "" => "the closing transaction".to_owned(),
            txid => format!("confirmation of {}", format::short(txid)),
        };
        row(&channel.channel, "closing", waits, channel.limbo_balance)
    });
    let forced = pending.pending_force_closing_channels.iter().map(|channel| {
        let waits = match channel.blocks_til_maturity {
            blocks if blocks > 0 => format!("{blocks} more block{}", if blocks == 1 { "" } else { "s" }),
            // Nothing is left, or was never known, that could still come to us.
            _ if channel.limbo_balance == 0 => "its end, 100 blocks deep".to_owned(),
            _ => "the transactions that claim its outputs".to_owned(),
        };
        row(&channel.channel, "force closing", waits, channel.limbo_balance)
    });
    let headings = ["channel", "node", "stage", "waits for", ">capacity", ">local", ">in limbo"];
    let mut text =
        table::list(headings, opening.chain(waiting).chain(forced).collect(), "No channel is being opened or closed.");
    let opening = pending.pending_open_channels.iter().filter_map(|channel| channel.channel.as_ref());
    let waiting = pending.waiting_close_channels.iter().filter_map(|channel| channel.channel.as_ref());
    for channel in opening.chain(waiting) {
        text += &format::trouble(&channel.channel_point, &channel.chan_status_flags);
    }
    text
}
