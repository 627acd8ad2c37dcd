//! Whole nodes, on disk, that find each other over sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use std::time::{Duration, Instant};

use bitcoin::{Amount, Transaction};
use common::*;
use leyden_consensus::Params;
use leyden_node::{Clock, Node, NodeConfig};

async fn start(path: &std::path::Path) -> Node {
    let mut config = NodeConfig::new(Params::regtest(), path);
    config.clock = Clock::manual(NOW);
    config.sync_writes = false;
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    Node::start(config).await.expect("the node starts")
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came to this: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_downloads_the_chain_and_both_relay_what_comes_after() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two) = (start(folders[0].path()).await, start(folders[1].path()).await);
    one.generate(300, open_script()).await.unwrap();
    two.connect_peer(one.local_address().unwrap()).await.unwrap();
    until("300 blocks arrive", || two.tip() == one.tip()).await;

    let hash = one.block_hash(1).unwrap();
    let block = one.block(hash).await.unwrap().unwrap();
    let outpoint = coinbase_of(&block);
    let value = block.txdata[0].output[0].value - Amount::from_sat(10_000);
    let transaction = spend(&[outpoint], vec![open_output(value.to_sat())]);
    let txid = one.submit_transaction(transaction).await.unwrap();
    until("the transaction arrives", || two.mempool_entry(&txid).is_some()).await;

    two.generate(1, open_script()).await.unwrap();
    until("its block arrives", || one.tip() == two.tip()).await;
    assert!(one.mempool_entry(&txid).is_none());
    assert_eq!(one.utxo_set_hash().await.unwrap(), two.utxo_set_hash().await.unwrap());
    assert!(one.peers()[0].inbound && !two.peers()[0].inbound);
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_mined_apart_end_with_the_same_coins() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two) = (start(folders[0].path()).await, start(folders[1].path()).await);
    let address = one.local_address().unwrap();
    two.connect_peer(address).await.unwrap();
    one.generate(20, open_script()).await.unwrap();
    until("the common blocks arrive", || two.tip() == one.tip()).await;
    two.disconnect_peer(address).unwrap();
    until("they are apart", || one.peers().is_empty() && two.peers().is_empty()).await;
    one.generate(150, open_script()).await.unwrap();
    two.generate(160, true_script()).await.unwrap();
    two.connect_peer(address).await.unwrap();
    until("they agree", || one.tip() == two.tip()).await;
    assert_eq!(one.tip().height, 180);
    assert_eq!(one.utxo_set_hash().await.unwrap(), two.utxo_set_hash().await.unwrap());
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_2_parent_without_a_fee_travels_with_its_child_and_replaces_a_pinned_rival_everywhere() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two) = (start(folders[0].path()).await, start(folders[1].path()).await);
    one.generate(110, open_script()).await.unwrap();
    two.connect_peer(one.local_address().unwrap()).await.unwrap();
    until("the blocks arrive", || two.tip() == one.tip()).await;
    let block = one.block(one.block_hash(1).unwrap()).await.unwrap().unwrap();
    let value = block.txdata[0].output[0].value.to_sat();
    // Two commitments of one channel. On the peer's hang all the descendants that are allowed.
    let commitment = |first: u64| spend(&[coinbase_of(&block)], vec![open_output(first), open_output(value - first)]);
    let (theirs, ours) = (commitment(value / 2), commitment(value / 3));
    let child = |parent: &Transaction, vout: u32, fee: u64| {
        let value = parent.output[vout as usize].value.to_sat();
        spend(&[output_of(parent, vout)], vec![open_output(value - fee)])
    };
    let mut last = child(&theirs, 0, 500);
    two.submit_package(vec![theirs.clone(), last.clone()]).await.unwrap();
    for _ in 0..23 {
        last = child(&last, 0, 20);
        two.submit_transaction(last.clone()).await.unwrap();
    }
    // The parent is too cheap to be announced: whoever hears of the child asks for it.
    let is_there = |node: &Node, transaction: &Transaction| node.mempool_entry(&transaction.compute_txid()).is_some();
    until("the peer's commitment arrives with all that hangs on it", || {
        is_there(&one, &theirs) && is_there(&one, &last)
    })
    .await;
    let our_child = child(&ours, 1, 50_000);
    one.submit_package(vec![ours.clone(), our_child.clone()]).await.unwrap();
    until("ours takes its place", || is_there(&two, &ours) && is_there(&two, &our_child)).await;
    assert!(!is_there(&two, &theirs) && !is_there(&two, &last));
    one.shutdown().await;
    two.shutdown().await;
}
