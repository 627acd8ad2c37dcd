//! `leyden chain peers`: the nodes of the chain that are connected.

use clap::Args;
use leyden_proto::leyden::{ChainPeer, ListChainPeersRequest};

use super::{
    super::{CliError, Context, table},
    count,
};

/// List the nodes of the chain that are connected now.
///
/// What is said to a node with transport v2 is encrypted (BIP 324). Beside it stands how the session id begins, which the other
/// side sees too: if theirs is another, somebody sits between you. `--json` shows all of it.
#[derive(Debug, Args)]
pub(super) struct Peers {}

impl Peers {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let answer = context.client().await?.chain().list_peers(ListChainPeersRequest {}).await?.into_inner();
        context.show(&answer, || {
            let headings =
                ["address", "direction", "software", ">version", ">height", ">sent, B", ">received, B", "transport"];
            let none = "No node of the chain is connected: `leyden chain connect HOST:PORT` meets one.";
            table::list(headings, answer.peers.iter().map(row).collect(), none)
        })
    }
}

/// Digits of a session id that are shown: more than anybody can make equal.
const SESSION_DIGITS: usize = 16;

fn row(peer: &ChainPeer) -> [String; 8] {
    let session: String = peer.session_id.chars().take(SESSION_DIGITS).collect();
    [
        peer.address.clone(),
        if peer.inbound { "in" } else { "out" }.to_owned(),
        peer.user_agent.clone(),
        peer.version.to_string(),
        peer.height.to_string(),
        count(peer.bytes_sent),
        count(peer.bytes_received),
        format!("{} {session}", peer.transport).trim_end().to_owned(),
    ]
}
