//! `leyden graph …`: the network as this node knows it.

mod channel;
mod describe;
mod info;
mod node;

use clap::{Args, Subcommand};
use leyden_proto::lnrpc::{ChannelEdge, RoutingPolicy};

use super::{CliError, Context, amount, format, table};

/// The network as this node knows it: its nodes, its channels and what they charge.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden graph info                  the network in numbers\n  \
    leyden graph describe              every channel\n  \
    leyden graph node 02ab…            one node\n  \
    leyden graph channel 103x1x0       one channel")]
pub struct Graph {
    #[command(subcommand)]
    command: GraphCommand,
}

#[derive(Debug, Subcommand)]
enum GraphCommand {
    Describe(describe::Describe),
    Node(node::Node),
    Channel(channel::Channel),
    Info(info::Info),
}

impl Graph {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.command {
            GraphCommand::Describe(command) => command.run(context).await,
            GraphCommand::Node(command) => command.run(context).await,
            GraphCommand::Channel(command) => command.run(context).await,
            GraphCommand::Info(command) => command.run(context).await,
        }
    }
}

/// Channels as a table, each end under what `named` calls it.
fn channels(edges: &[ChannelEdge], named: impl Fn(&str) -> String) -> String {
    let row = |edge: &ChannelEdge| {
        [
            format::scid(edge.channel_id),
            named(&edge.node1_pub),
            terms(edge.node1_policy.as_ref()),
            named(&edge.node2_pub),
            terms(edge.node2_policy.as_ref()),
            amount::grouped(edge.capacity),
        ]
    };
    let headings = ["channel", "node 1", "asks", "node 2", "asks", ">capacity"];
    table::list(headings, edges.iter().map(row).collect(), "No channels are known.")
}

/// What a node asks for: `1.000 sat + 250 ppm, 80 blocks`.
fn terms(policy: Option<&RoutingPolicy>) -> String {
    let Some(policy) = policy else { return "-".to_owned() };
    let off = if policy.disabled { ", disabled" } else { "" };
    let base = amount::msat(policy.fee_base_msat);
    format!("{base} + {} ppm, {} blocks{off}", policy.fee_rate_milli_msat, policy.time_lock_delta)
}
