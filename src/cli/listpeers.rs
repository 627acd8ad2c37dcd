//! `leyden listpeers`: the nodes that are connected.

use clap::Args;
use leyden_proto::lnrpc::{ListPeersRequest, Peer};

use super::{CliError, Context, amount, table};

/// List the Lightning nodes that are connected now.
#[derive(Debug, Args)]
pub struct ListPeers {}

impl ListPeers {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = ListPeersRequest { latest_error: true };
        let answer = context.client().await?.lightning().list_peers(request).await?.into_inner();
        context.show(&answer, || {
            let rows = answer.peers.iter().map(row).collect();
            let headings = ["node", "address", "direction", ">ping", ">sent", ">received", "latest error"];
            table::list(headings, rows, "No node is connected: `leyden connect KEY@HOST:PORT` meets one.")
        })
    }
}

fn row(peer: &Peer) -> [String; 7] {
    [
        peer.pub_key.clone(),
        peer.address.clone(),
        if peer.inbound { "in" } else { "out" }.to_owned(),
        if peer.ping_time == 0 { "-".to_owned() } else { format!("{:.1} ms", peer.ping_time as f64 / 1000.0) },
        amount::sat(peer.sat_sent),
        amount::sat(peer.sat_recv),
        peer.errors.last().map(|error| error.error.clone()).unwrap_or_default(),
    ]
}
