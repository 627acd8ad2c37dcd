//! `leyden graph describe`: all of it.

use std::collections::HashMap;

use clap::Args;
use leyden_proto::lnrpc::ChannelGraphRequest;

use super::{CliError, Context, channels, format};

/// List every channel that is known.
#[derive(Debug, Args)]
pub(super) struct Describe {
    /// Also this node's own channels that are not announced
    #[arg(long, alias = "include_unannounced")]
    include_unannounced: bool,
}

impl Describe {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = ChannelGraphRequest { include_unannounced: self.include_unannounced };
        let answer = context.client().await?.lightning().describe_graph(request).await?.into_inner();
        context.show(&answer, || {
            let aliases: HashMap<&str, &str> = answer
                .nodes
                .iter()
                .filter(|node| !node.alias.is_empty())
                .map(|node| (node.pub_key.as_str(), node.alias.as_str()))
                .collect();
            let list = channels(&answer.edges, |node| match aliases.get(node) {
                Some(alias) => (*alias).to_owned(),
                None => format::short(node),
            });
            format!("{list}\n\n{} nodes, {} channels", answer.nodes.len(), answer.edges.len())
        })
    }
}
