//! Any number of daemons on one chain, with channels that all of them hear of.

use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::NOBODY,
};
use leyden_proto::lnrpc::{ChannelGraph, ChannelGraphRequest};

use super::{DEEP, Folder, MATURE, chain, height, mempool, open_request};

/// A channel to open: from and to, by their places, and what of it is given.
pub struct Opening {
    pub from: usize,
    pub to: usize,
    pub push: i64,
}

/// Daemons with a spendable block reward each, these public channels between them, and gossip about all of them with all.
pub async fn network(folder: &Folder, names: &[&str], capacity: i64, openings: &[Opening]) -> Vec<DaemonProcess> {
    network_with(folder, names, &[], capacity, openings).await
}

/// With these flags for each of them.
pub async fn network_with(
    folder: &Folder,
    names: &[&str],
    flags: &[&str],
    capacity: i64,
    openings: &[Opening],
) -> Vec<DaemonProcess> {
    let mut nodes: Vec<DaemonProcess> = Vec::new();
    for name in names {
        let chain = nodes.first().map(chain);
        let connect = chain.iter().flat_map(|chain| ["--chain-connect", chain]);
        let flags: Vec<&str> = connect.chain(flags.iter().copied()).collect();
        let mut node = DaemonProcess::new(folder.path(), name, &flags).unwrap();
        node.start().await.unwrap();
        nodes.push(node);
    }
    for node in &nodes {
        nodes[0].mine(1, Some(&node.new_address().await.unwrap())).await.unwrap();
    }
    mine(&nodes, MATURE).await;
    for Opening { from, to, push } in openings {
        let (from, to) = (&nodes[*from], &nodes[*to]);
        from.connect(to).await.unwrap();
        let request = open_request(to, capacity, *push).await;
        let mut updates = from.client().unwrap().lightning().open_channel(request).await.unwrap().into_inner();
        updates.message().await.unwrap().expect("the funding transaction");
        // Coins of a change that waits for its block are not spent again.
        mine(&nodes, 1).await;
    }
    mine(&nodes, DEEP).await;
    for node in &nodes {
        wait_until(&format!("{} to hear of everything", node.name()), || async {
            let graph = graph(node).await;
            let policies = graph.edges.iter().flat_map(|edge| [edge.node1_policy, edge.node2_policy]);
            let named = graph.nodes.iter().filter(|node| !node.alias.is_empty()).count();
            let active = node.channels().await?.iter().all(|channel| channel.active);
            Ok(active && policies.flatten().count() == 2 * openings.len() && named == names.len())
        })
        .await
        .unwrap();
    }
    nodes
}

/// Once all have the same transactions, mines for nobody, and waits until all have seen it.
pub async fn mine(nodes: &[DaemonProcess], blocks: u32) {
    wait_until("all mempools to be the same", || async {
        let first = mempool(&nodes[0]).await;
        for node in nodes {
            if mempool(node).await != first {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
    .unwrap();
    nodes[0].mine(blocks, Some(NOBODY)).await.unwrap();
    let height = height(&nodes[0]).await;
    for node in nodes {
        node.wait_for_height(height).await.unwrap();
    }
}

/// What a node knows of the network, in order.
pub async fn graph(node: &DaemonProcess) -> ChannelGraph {
    let request = ChannelGraphRequest::default();
    let mut graph = node.client().unwrap().lightning().describe_graph(request).await.unwrap().into_inner();
    graph.nodes.sort_by(|a, b| a.pub_key.cmp(&b.pub_key));
    graph.edges.sort_by_key(|edge| edge.channel_id);
    graph
}
