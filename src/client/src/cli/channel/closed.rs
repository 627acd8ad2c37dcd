//! `leyden channel closed`: why channels have ended, and what became of their outputs.

use clap::Args;
use leyden_proto::leyden::{EndedChannel, ListClosedRequest};

use super::super::{CliError, Context, amount, format};
use leyden_common::words::on_one_line;

/// Show why channels were closed, and what happened to each output.
#[derive(Debug, Args)]
pub(super) struct Closed {}

impl Closed {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let answer = context.client().await?.channels().list_closed(ListClosedRequest::default()).await?.into_inner();
        context.show(&answer, || match answer.channels.is_empty() {
            true => "No channel has been closed.".to_owned(),
            false => answer.channels.iter().map(one).collect::<Vec<_>>().join("\n"),
        })
    }
}

fn one(channel: &EndedChannel) -> String {
    let reason = on_one_line(&channel.reason);
    let mut text = format!("{}: {reason}\n", format::short_point(&channel.channel_point));
    let closing = format::short(&channel.closing_txid);
    let got = channel.settled.map_or_else(|| "an amount that is not known".to_owned(), amount::sat);
    text += &format!("  closed by {closing} at height {}; we got {got}", channel.close_height);
    match channel.fees {
        0 => text += "\n",
        fees => text += &format!(" after {} for claims\n", amount::sat(fees)),
    }
    for output in &channel.outputs {
        let amount = amount::sat(output.amount);
        let fate = match (output.spending_txid.as_str(), output.ours) {
            ("", _) => "left on the chain".to_owned(),
            (txid, true) => format!("ours, by {}", format::short(txid)),
            (txid, false) => format!("the peer's, by {}", format::short(txid)),
        };
        text += &format!("  {amount:>18}  {}: {fate}\n", output.what);
    }
    text
}
