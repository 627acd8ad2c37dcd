//! `leyden disconnect`: part from a node.

use clap::Args;
use leyden_proto::lnrpc::DisconnectPeerRequest;

use super::{CliError, Context};

/// Disconnect from a node that has no channel with this one.
#[derive(Debug, Args)]
pub struct Disconnect {
    /// The node's key
    #[arg(value_name = "KEY")]
    node: String,
}

impl Disconnect {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = DisconnectPeerRequest { pub_key: self.node };
        let answer = context.client().await?.lightning().disconnect_peer(request).await?.into_inner();
        context.show(&answer, || answer.status.clone())
    }
}
