//! `leyden chain peers`: the nodes of the chain that are connected.

use clap::Args;
use leyden_proto::leyden::{ChainPeer, ListChainPeersRequest};

use super::{
    super::{CliError, Context, table},
    count,
};

/// List the nodes of the chain that are connected now.
#[derive(Debug, Args)]
pub(super) struct Peers {}

impl Peers {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let answer = context.client().await?.chain().list_peers(ListChainPeersRequest {}).await?.into_inner();
        context.show(&answer, || {
            let headings = ["address", "direction", "software", ">version", ">height", ">sent, B", ">received, B"];
            let none = "No node of the chain is connected: `leyden chain connect HOST:PORT` meets one.";
            table::list(headings, answer.peers.iter().map(row).collect(), none)
        })
    }
}

fn row(peer: &ChainPeer) -> [String; 7] {
    [
        peer.address.clone(),
        if peer.inbound { "in" } else { "out" }.to_owned(),
        peer.user_agent.clone(),
        peer.version.to_string(),
        peer.height.to_string(),
        count(peer.bytes_sent),
        count(peer.bytes_received),
    ]
}
