//! What a user decides about the chain: invalidate, reconsider, prefer.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use std::path::Path;

use bitcoin::{Block, BlockHash};
use common::*;
use leyden_consensus::Params;
use leyden_node::{
    BlockAccepted, ChainTipStatus, Clock, Node, NodeConfig, NodeError, Notice, UtxoSetDigest, UtxoSetHashKind,
};

async fn start(path: &Path) -> Node {
    let mut config = NodeConfig::new(Params::regtest(), path);
    config.clock = Clock::manual(NOW);
    config.sync_writes = false;
    Node::start(config).await.expect("the node starts")
}

async fn stop(node: Node) {
    node.shutdown().await;
    // The database is closed with the last handle, which a task that has just ended may hold.
    drop(node);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
}

async fn submit(node: &Node, blocks: &[Block]) {
    for block in blocks {
        assert!(matches!(node.submit_block(block.clone()).await.unwrap(), BlockAccepted::Stored { .. }));
    }
}

fn hash(blocks: &[Block], at: usize) -> BlockHash {
    blocks[at].block_hash()
}

/// A node with two branches of equal length on the genesis block; the first is active.
async fn forked(path: &Path) -> (Node, Vec<Block>, Vec<Block>) {
    let (node, params) = (start(path).await, Params::regtest());
    let (one, other) =
        (forge_chain(&params, Place::genesis(&params), 5), forge_chain(&params, Place::genesis(&params), 5));
    submit(&node, &one).await;
    submit(&node, &other).await;
    assert_eq!(node.tip().hash, hash(&one, 4));
    (node, one, other)
}

async fn status_of(node: &Node, hash: BlockHash) -> (ChainTipStatus, u32) {
    let tips = node.chain_tips().await.unwrap();
    let tip = tips.iter().find(|tip| tip.block.hash == hash).unwrap_or_else(|| panic!("{hash} in {tips:?}"));
    (tip.status, tip.branch_length)
}

#[tokio::test]
async fn an_invalidated_block_gives_way_to_what_is_left_and_stays_so_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (node, one, other) = forked(folder.path()).await;
    let before = node.utxo_set(UtxoSetHashKind::Serialized).await.unwrap();
    node.invalidate_block(hash(&one, 2)).await.unwrap();
    assert_eq!(node.tip().hash, hash(&other, 4), "the other branch has most work now");
    assert_eq!(status_of(&node, hash(&one, 4)).await, (ChainTipStatus::Invalid, 5));
    // Without that one the longest valid branch has less work than what was active.
    node.invalidate_block(hash(&other, 0)).await.unwrap();
    assert_eq!(node.tip().hash, hash(&one, 1));
    assert_eq!(status_of(&node, hash(&one, 1)).await, (ChainTipStatus::Active, 0));
    let left = node.utxo_set(UtxoSetHashKind::Serialized).await.unwrap();
    assert_eq!((left.block.height, left.coins, left.transactions), (2, 2, 2));
    stop(node).await;

    let node = start(folder.path()).await;
    assert_eq!(node.tip().hash, hash(&one, 1));
    let header = one[2].header;
    assert!(node.accept_headers(vec![header]).await.is_err(), "a peer that offers it again is refused");
    node.reconsider_block(hash(&one, 4)).await.unwrap();
    assert_eq!(node.tip().hash, hash(&one, 4), "a descendant takes its ancestors' marks with it");
    assert_eq!(node.utxo_set(UtxoSetHashKind::Serialized).await.unwrap().digest, before.digest);
    assert_eq!(status_of(&node, hash(&other, 4)).await.0, ChainTipStatus::Invalid);
    stop(node).await;
    let node = start(folder.path()).await;
    assert_eq!(node.tip().hash, hash(&one, 4), "that the mark is gone is kept too");
}

#[tokio::test]
async fn with_its_first_block_invalid_the_chain_is_the_genesis_block() {
    let folder = tempfile::tempdir().unwrap();
    let (node, one, other) = forked(folder.path()).await;
    let mut notices = node.subscribe(None).unwrap();
    node.invalidate_block(hash(&other, 0)).await.unwrap();
    node.invalidate_block(hash(&one, 0)).await.unwrap();
    assert_eq!(node.tip().hash, node.params().genesis_hash);
    for block in one.iter().rev() {
        match notices.next().await.unwrap() {
            Notice::BlockDisconnected { hash, .. } => assert_eq!(hash, block.block_hash()),
            other => panic!("{other:?}"),
        }
    }
    // It is a chain like any other.
    node.generate(1, open_script()).await.unwrap();
    assert_eq!(node.tip().height, 1);
    node.invalidate_block(node.params().genesis_hash).await.unwrap();
    assert_eq!(node.tip().height, 1, "nothing happens to the genesis block");
    let unknown = bitcoin::hashes::Hash::from_byte_array([7; 32]);
    assert_eq!(node.invalidate_block(unknown).await, Err(NodeError::UnknownBlock(unknown)));
    assert_eq!(node.reconsider_block(unknown).await, Err(NodeError::UnknownBlock(unknown)));
}

#[tokio::test]
async fn the_preferred_of_two_equal_branches_is_active() {
    let folder = tempfile::tempdir().unwrap();
    let (node, one, other) = forked(folder.path()).await;
    assert_eq!(status_of(&node, hash(&other, 4)).await, (ChainTipStatus::ValidHeaders, 5));
    node.prefer_block(hash(&other, 4)).await.unwrap();
    assert_eq!(node.tip().hash, hash(&other, 4));
    assert_eq!(status_of(&node, hash(&one, 4)).await, (ChainTipStatus::ValidFork, 5));
    node.prefer_block(hash(&one, 3)).await.unwrap();
    assert_eq!(node.tip().hash, hash(&other, 4), "less work is not preferred");
    node.prefer_block(hash(&one, 4)).await.unwrap();
    assert_eq!(node.tip().hash, hash(&one, 4));
    // Headers that go on where the active chain ends are a tip of their own.
    let next = forge(node.params(), Place::of(&one[4], 5), Vec::new());
    node.accept_headers(vec![next.header]).await.unwrap();
    assert_eq!(status_of(&node, next.block_hash()).await, (ChainTipStatus::HeadersOnly, 1));
    assert_eq!(status_of(&node, hash(&one, 4)).await, (ChainTipStatus::Active, 0));
}

#[tokio::test]
async fn the_hash_of_all_coins_follows_them() {
    let folder = tempfile::tempdir().unwrap();
    let (node, one, _) = forked(folder.path()).await;
    let of = async |kind| node.utxo_set(kind).await.unwrap().digest;
    let (serialized, muhash) = (of(UtxoSetHashKind::Serialized).await, of(UtxoSetHashKind::MuHash).await);
    assert_eq!(of(UtxoSetHashKind::None).await, UtxoSetDigest::None);
    let UtxoSetDigest::Serialized(hash_of_all) = serialized else { panic!("{serialized:?}") };
    assert_eq!(hash_of_all, node.utxo_set_hash().await.unwrap().hash);
    node.prefer_block(node.chain_tips().await.unwrap().iter().find(|tip| tip.branch_length > 0).unwrap().block.hash)
        .await
        .unwrap();
    assert_ne!((of(UtxoSetHashKind::Serialized).await, of(UtxoSetHashKind::MuHash).await), (serialized, muhash));
    node.prefer_block(one[4].block_hash()).await.unwrap();
    assert_eq!((of(UtxoSetHashKind::Serialized).await, of(UtxoSetHashKind::MuHash).await), (serialized, muhash));
}
