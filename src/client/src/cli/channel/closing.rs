//! `leyden channel closing`: every output of the channels that close, and what becomes of it.

use clap::Args;
use leyden_proto::leyden::{
    ClosingChannel, ClosingOutput, ListClosingRequest, ListClosingResponse, closing_output::State,
};

use super::super::{CliError, Context, amount, format};
use leyden_common::words::on_one_line;

/// Show why channels are closing, and for each output: who owns it, how it is claimed, how far that is and what it costs.
#[derive(Debug, Args)]
pub(crate) struct Closing {}

impl Closing {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let answer = context.client().await?.channels().list_closing(ListClosingRequest {}).await?.into_inner();
        context.show(&answer, || match answer.channels.is_empty() {
            true => "No channel is closing.".to_owned(),
            false => for_people(&answer),
        })
    }
}

pub(crate) fn for_people(answer: &ListClosingResponse) -> String {
    answer.channels.iter().map(|channel| one(channel, answer.block_height)).collect::<Vec<_>>().join("\n")
}

fn one(channel: &ClosingChannel, height: u32) -> String {
    let reason = on_one_line(&channel.reason);
    let mut text = format!("{}: {reason}\n", format::short_point(&channel.channel_point));
    text += &match (channel.closing_txid.as_str(), channel.confirmations) {
        ("", _) => "  no closing transaction yet\n".to_owned(),
        (txid, 0) => format!("  {} waits for a block\n", format::short(txid)),
        (txid, depth) => format!("  closed by {}, {}\n", format::short(txid), format::counted(depth, "confirmation")),
    };
    for output in &channel.outputs {
        let amount = amount::sat(output.amount);
        text += &format!("  {amount:>18}  {}\n{:22}{}\n", output.what, "", status(output, height));
    }
    if !channel.outputs.is_empty() {
        let (recovered, fees) = (amount::sat(channel.recovered), amount::sat(channel.fees));
        text += &format!("  {recovered} are in the wallet; the claims have paid {fees} so far\n");
    }
    text
}

fn status(output: &ClosingOutput, height: u32) -> String {
    let by = format::short(&output.spending_txid);
    let mut text = match output.state() {
        State::Locked => {
            // Counted as `leyden pendingchannels` counts: the block after these can hold the claim.
            let blocks = output.until.saturating_sub(height);
            format!("locked until block {}: {}", output.until, format::counted(blocks, "more block"))
        }
        State::NoPreimage => "we do not have the preimage".to_owned(),
        State::Undecided => "its claim is being decided".to_owned(),
        State::Uneconomic => "claiming it costs more than it is worth now".to_owned(),
        State::NeedsCoins => "its claim waits for coins of the wallet to pay the fee".to_owned(),
        State::Claimed => {
            let fee = amount::sat(output.fee);
            format!("claimed by {by}, not confirmed, fee {fee} ({:.1} sat/vB)", output.sat_per_vbyte)
        }
        State::Ours => format!("ours, in {by}, {}", format::counted(output.confirmations, "confirmation")),
        State::Theirs => {
            format!("spent by the peer, in {by}, {}", format::counted(output.confirmations, "confirmation"))
        }
    };
    let waits = matches!(
        output.state(),
        State::Locked | State::NoPreimage | State::Undecided | State::NeedsCoins | State::Claimed
    );
    if output.deadline != 0 && waits {
        text += &format!(", deadline block {}", output.deadline);
    }
    if output.r#final {
        text += ", final";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_words() {
        let output = |state: State| ClosingOutput {
            state: state.into(),
            until: 109,
            deadline: 150,
            confirmations: 3,
            ..ClosingOutput::default()
        };
        assert_eq!(status(&output(State::Locked), 100), "locked until block 109: 9 more blocks, deadline block 150");
        assert!(status(&output(State::Claimed), 100).contains("deadline block 150"));
        assert!(status(&output(State::Ours), 100).ends_with("3 confirmations"));
        let channel = ClosingChannel {
            channel_point: format!("{}:0", "ab".repeat(32)),
            reason: "the peer closed it alone".to_owned(),
            closing_txid: "cd".repeat(32),
            confirmations: 2,
            outputs: vec![output(State::Theirs)],
            ..ClosingChannel::default()
        };
        let text = for_people(&ListClosingResponse { channels: vec![channel], block_height: 100 });
        assert!(text.contains("the peer closed it alone") && text.contains("2 confirmations"), "{text}");
    }
}
