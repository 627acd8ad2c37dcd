//! `leyden channel tree`: the transactions that a channel can become, drawn.

use clap::Args;
use leyden_proto::{
    leyden::{ChannelTree, GetTreeRequest, TreeCommitment, TreeOutput, TreeSpend},
    lnrpc::{ListChannelsRequest, PendingChannelsRequest, PendingChannelsResponse},
};

use super::super::{CliError, Context, amount, closechannel, format};
use crate::client::Client;

/// Draw the transactions that can close a channel now: who can spend each output, and after how many blocks.
///
/// The short names are those of the Lightning paper: C commitment, RD and D its delayed and plain delivery, HE and HT
/// the HTLC's execution and timeout, HERD and HTRD what follows them, HED and HTD the direct claims, BR, HBR and HTBR
/// the penalties. `a` is on our commitment, `b` on the peer's.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden channel tree 4a5e1e4b:0       the beginning of the channel point will do\n  \
    leyden channel tree 4a5e1e4b --json")]
pub(crate) struct Tree {
    /// The channel point TXID:INDEX, or the beginning of it
    channel_point: String,
}

impl Tree {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let channel_point = find(&client, &self.channel_point).await?;
        let tree = client.channels().get_tree(GetTreeRequest { channel_point }).await?.into_inner();
        context.show(&tree, || draw(&tree))
    }
}

/// Among the channels that are open, being opened or closing.
pub(crate) async fn find(client: &Client, wanted: &str) -> Result<String, CliError> {
    let open = client.lightning().list_channels(ListChannelsRequest::default()).await?.into_inner().channels;
    let pending = client.lightning().pending_channels(PendingChannelsRequest::default()).await?.into_inner();
    let open = open.iter().map(|channel| channel.channel_point.clone());
    let points: Vec<String> = open.chain(pending_points(&pending)).collect();
    let (txid, index) = closechannel::one_of(points.iter().map(String::as_str), wanted)?;
    Ok(format!("{txid}:{index}"))
}

fn pending_points(pending: &PendingChannelsResponse) -> impl Iterator<Item = String> {
    let opening = pending.pending_open_channels.iter().map(|one| &one.channel);
    let waiting = pending.waiting_close_channels.iter().map(|one| &one.channel);
    let closing = pending.pending_force_closing_channels.iter().map(|one| &one.channel);
    opening.chain(waiting).chain(closing).flatten().map(|channel| channel.channel_point.clone())
}

fn draw(tree: &ChannelTree) -> String {
    let mut text = format!(
        "channel {} with {}, {} channel of {}, at height {}\n",
        format::short_point(&tree.channel_point),
        format::short(&tree.remote_pubkey),
        tree.commitment_type,
        amount::sat(tree.capacity),
        tree.block_height,
    );
    if tree.commitments.is_empty() {
        text += "Only a backup is left of this channel: the peer closes it with a state that we do not know.\n";
        return text;
    }
    text += &format!("funding output {}\n", format::short_point(&tree.channel_point));
    let nodes = tree.commitments.iter().map(|commitment| of_commitment(commitment, tree.block_height)).collect();
    draw_all(nodes, "", &mut text);
    text
}

/// A line and what hangs below it.
struct Node {
    line: String,
    below: Vec<Node>,
}

fn draw_all(nodes: Vec<Node>, indent: &str, text: &mut String) {
    let last = nodes.len().saturating_sub(1);
    for (at, Node { line, below }) in nodes.into_iter().enumerate() {
        let (branch, rest) = if at == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        *text += &format!("{indent}{branch}{line}\n");
        draw_all(below, &format!("{indent}{rest}"), text);
    }
}

fn of_commitment(commitment: &TreeCommitment, height: u32) -> Node {
    let whose = if commitment.ours { "our" } else { "the peer's" };
    let line = format!(
        "{}  {whose} commitment {}, {}, fee {}",
        commitment.name,
        commitment.number,
        format::short(&commitment.txid),
        amount::sat(commitment.fee),
    );
    let mut below: Vec<Node> = commitment.outputs.iter().map(|output| of_output(output, height)).collect();
    if !commitment.trimmed_htlcs.is_empty() {
        let lost: i64 = commitment.trimmed_htlcs.iter().map(|htlc| htlc.amount).sum();
        let count = commitment.trimmed_htlcs.len();
        let htlcs = format::counted(u64::try_from(count).unwrap_or(u64::MAX), "HTLC");
        let line = format!("{htlcs} too small for an output, {} in the fee", amount::sat(lost));
        below.push(Node { line, below: Vec::new() });
    }
    Node { line, below }
}

fn of_output(output: &TreeOutput, height: u32) -> Node {
    let mut line = format!("{}  {}", output.kind, amount::sat(output.amount));
    if let Some(htlc) = &output.htlc {
        let by = if htlc.incoming { "offered to us" } else { "offered by us" };
        line += &format!(", {by}, expires at {}, hash {}", htlc.expiry, format::short(&htlc.payment_hash));
        if htlc.preimage_known {
            line += ", preimage known";
        }
    }
    Node { line, below: output.spends.iter().map(|spend| of_spend(spend, height)).collect() }
}

fn of_spend(spend: &TreeSpend, height: u32) -> Node {
    let whose = if spend.ours { "ours" } else { "the peer's" };
    let mut line = format!("{}  {}: {whose}, {}", spend.name, spend.kind, when(spend, height));
    if !spend.spends.is_empty() {
        line += &format!(", gives {}", amount::sat(spend.amount));
    }
    Node { line, below: spend.spends.iter().map(|next| of_spend(next, height)).collect() }
}

fn when(spend: &TreeSpend, height: u32) -> String {
    let mut parts = Vec::new();
    if spend.needs_revocation {
        parts.push("only if this state had been revoked".to_owned());
    }
    if spend.needs_preimage {
        parts.push("with the preimage".to_owned());
    }
    match spend.expiry {
        0 => {}
        expiry if expiry > height => {
            parts.push(format!("from height {} on ({})", expiry + 1, format::counted(expiry - height, "more block")));
        }
        expiry => parts.push(format!("since height {expiry}")),
    }
    match spend.confirmations {
        0 => {}
        1 => parts.push("a block later".to_owned()),
        blocks => parts.push(format!("{blocks} blocks later")),
    }
    if parts.is_empty() { "at once".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use leyden_proto::leyden::TreeHtlc;

    use super::*;

    fn spend(name: &str, ours: bool) -> TreeSpend {
        TreeSpend { name: name.to_owned(), kind: "claim".to_owned(), ours, ..TreeSpend::default() }
    }

    #[test]
    fn a_tree_is_drawn_with_its_branches() {
        let delayed = TreeSpend { confirmations: 1000, ..spend("RD7a", true) };
        let penalty = TreeSpend { needs_revocation: true, ..spend("BR7a", false) };
        let stage = TreeSpend {
            expiry: 120,
            amount: 900,
            spends: vec![TreeSpend { confirmations: 1000, ..spend("HTRD7a", true) }],
            ..spend("HT7a", true)
        };
        let htlc = TreeHtlc { expiry: 120, payment_hash: "ab".repeat(32), ..TreeHtlc::default() };
        let output = |kind: &str, htlc, spends| TreeOutput {
            amount: 1_000,
            kind: kind.to_owned(),
            htlc,
            spends,
            ..TreeOutput::default()
        };
        let tree = ChannelTree {
            channel_point: format!("{}:0", "cd".repeat(32)),
            capacity: 5_000,
            block_height: 100,
            commitments: vec![TreeCommitment {
                name: "C7a".to_owned(),
                ours: true,
                number: 7,
                outputs: vec![
                    output("to_local", None, vec![delayed, penalty]),
                    output("HTLC", Some(htlc), vec![stage]),
                ],
                ..TreeCommitment::default()
            }],
            ..ChannelTree::default()
        };
        let text = draw(&tree);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert!(lines[0].starts_with("└─ C7a  our commitment 7"), "{text}");
        assert!(lines[1].starts_with("   ├─ to_local  1,000 sat"), "{text}");
        assert_eq!(lines[2], "   │  ├─ RD7a  claim: ours, 1000 blocks later");
        assert_eq!(lines[3], "   │  └─ BR7a  claim: the peer's, only if this state had been revoked");
        assert!(lines[4].starts_with("   └─ HTLC  1,000 sat, offered by us, expires at 120"), "{text}");
        assert_eq!(lines[5], "      └─ HT7a  claim: ours, from height 121 on (20 more blocks), gives 900 sat");
        assert_eq!(lines[6], "         └─ HTRD7a  claim: ours, 1000 blocks later");
    }
}
