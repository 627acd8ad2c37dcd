//! Whole nodes, on disk, that find each other over sockets.

mod common;

use std::time::Duration;

use bitcoin::Amount;
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
    for _ in 0..3_000 {
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
