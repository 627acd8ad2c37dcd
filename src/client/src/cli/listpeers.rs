//! `leyden listpeers`: the nodes that are connected, and what strangers may cost.

use clap::Args;
use leyden_proto::{
    leyden::{Limit, ListLimitsRequest},
    lnrpc::{ListPeersRequest, Peer},
};

use super::{CliError, Context, amount, table};

/// List the Lightning nodes that are connected now.
#[derive(Debug, Args)]
pub struct ListPeers {
    /// Show the limits for peers instead: how much of each is used, and how often a peer was refused
    #[arg(long)]
    limits: bool,
}

impl ListPeers {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        if self.limits {
            return show_limits(context).await;
        }
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

async fn show_limits(context: &Context) -> Result<(), CliError> {
    let answer = context.client().await?.limits().list_limits(ListLimitsRequest {}).await?.into_inner();
    context.show(&answer, || {
        let row = |limit: &Limit| {
            let Limit { name, used, limit, refused, what } = limit.clone();
            [name, used.to_string(), limit.to_string(), refused.to_string(), what]
        };
        let rows = answer.limits.iter().map(row).collect();
        table::list(["limit", ">used", ">of", ">refused", "what"], rows, "This node has no limits.")
    })
}
