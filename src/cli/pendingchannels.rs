//! `leyden pendingchannels`: channels that are being opened or closed.

use clap::Args;
use leyden_proto::lnrpc::{
    PendingChannelsRequest, PendingChannelsResponse, PendingHtlc, pending_channels_response::PendingChannel,
};

use super::{CliError, Context, amount, format, table};

/// List the channels that are being opened or closed.
#[derive(Debug, Args)]
pub struct PendingChannels {}

impl PendingChannels {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = PendingChannelsRequest { include_raw_tx: context.is_json() };
        let answer = context.client().await?.lightning().pending_channels(request).await?.into_inner();
        context.show(&answer, || for_people(&answer))
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
        let waits = format!("{} more confirmations", channel.confirmations_until_active);
        row(&channel.channel, "opening", waits, 0)
    });
    let waiting = pending.waiting_close_channels.iter().map(|channel| {
        let waits = match channel.closing_txid.as_str() {
            "" => "the closing transaction".to_owned(),
            txid => format!("confirmation of {}", format::short(txid)),
        };
        row(&channel.channel, "closing", waits, channel.limbo_balance)
    });
    let forced = pending.pending_force_closing_channels.iter().flat_map(|channel| {
        let waits = match channel.blocks_til_maturity {
            blocks if blocks > 0 => format!("{blocks} more blocks"),
            _ => "the transactions that claim its outputs".to_owned(),
        };
        let whole = row(&channel.channel, "force closing", waits, channel.limbo_balance);
        std::iter::once(whole).chain(channel.pending_htlcs.iter().map(htlc))
    });
    let headings = ["channel", "node", "stage", "waits for", ">capacity", ">local", ">in limbo"];
    table::list(headings, opening.chain(waiting).chain(forced).collect(), "No channel is being opened or closed.")
}

/// An HTLC output on the chain, under its channel.
fn htlc(htlc: &PendingHtlc) -> [String; 7] {
    let kind = match (htlc.incoming, htlc.stage) {
        (true, 1) => "HTLC to us",
        (true, _) => "HTLC to us, claimed",
        (false, 1) => "HTLC of ours",
        (false, _) => "HTLC of ours, back",
    };
    let waits = match htlc.blocks_til_maturity {
        blocks if blocks > 0 => format!("{blocks} more blocks"),
        _ => "its claim".to_owned(),
    };
    let point = format!("  {}", format::short_point(&htlc.outpoint));
    [point, String::new(), kind.to_owned(), waits, String::new(), String::new(), amount::grouped(htlc.amount)]
}
