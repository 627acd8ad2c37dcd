//! `leyden graph node`: one node.

use clap::Args;
use leyden_proto::lnrpc::NodeInfoRequest;

use super::{CliError, Context, amount, channels, format, table};

/// Show what a node says about itself, and its channels.
#[derive(Debug, Args)]
pub(super) struct Node {
    /// The node's public key
    pub_key: String,
}

impl Node {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = NodeInfoRequest { pub_key: self.pub_key, include_channels: true };
        let answer = context.client().await?.lightning().get_node_info(request).await?.into_inner();
        context.show(&answer, || {
            let node = answer.node.clone().unwrap_or_default();
            let addresses: Vec<&str> = node.addresses.iter().map(|address| address.addr.as_str()).collect();
            let facts = table::facts([
                ("public key", node.pub_key.clone()),
                ("alias", if node.alias.is_empty() { "-".to_owned() } else { node.alias.clone() }),
                ("addresses", if addresses.is_empty() { "-".to_owned() } else { addresses.join(", ") }),
                ("announced", format::time(i64::from(node.last_update))),
                ("channels", answer.num_channels.to_string()),
                ("capacity", amount::sat(answer.total_capacity)),
            ]);
            format!("{facts}\n\n{}", channels(&answer.channels, format::short))
        })
    }
}
