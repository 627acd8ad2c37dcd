//! A node that gives up old blocks keeps everything that follows from them.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Block, OutPoint, Transaction, Txid};
use common::*;
use leyden_consensus::Params;
use leyden_node::backend::Backend;
use leyden_node::core::Core;
use leyden_node::prune::REORG_HORIZON;
use leyden_node::pruner::{Needed, PruneConfig};
use leyden_node::store::{Batch, BatchKind, Durability, HeaderStatus, STEP_BYTES, Store, StoreOptions};
use leyden_node::{Clock, MempoolPolicy, Node, NodeConfig, NodeError};

/// Far less than a hundred blocks of the tests take.
const TARGET: u64 = 200_000;

fn open(path: &Path, prune: Option<PruneConfig>) -> Core {
    let options =
        StoreOptions { sync: false, step_bytes: STEP_BYTES, prunes: prune.is_some(), ..StoreOptions::new(path) };
    let params = Arc::new(Params::regtest());
    let store = Arc::new(Store::open(options, &params.genesis).unwrap());
    Core::open(params, MempoolPolicy::default(), Clock::manual(NOW), store, 1_000, prune).unwrap()
}

fn config(target_bytes: u64, wait_for: &[&'static str]) -> Option<PruneConfig> {
    Some(PruneConfig { target_bytes, wait_for: wait_for.iter().copied().collect() })
}

fn submit(core: &Core, blocks: &[Block]) {
    blocks.iter().for_each(|block| assert!(core.submit_block(block.clone()).is_ok()));
}

fn has(core: &Core, block: &Block) -> bool {
    core.store.block(&block.block_hash()).unwrap().is_some()
}

const FEE: u64 = 20_000;

/// A chain in which each block holds some 30 kB, and nearly all that a block creates is spent soon after.
fn full_blocks(count: u32) -> Vec<Block> {
    let params = Params::regtest();
    let mut blocks = forge_chain(&params, Place::genesis(&params), 101);
    let mut coin = coinbase_of(&blocks[0]);
    let mut value = 5_000_000_000u64;
    while blocks.len() < count as usize {
        let mut transactions: Vec<Transaction> = Vec::new();
        for _ in 0..3 {
            value -= FEE;
            let mut transaction = spend(&[coin], vec![open_output(value)]);
            let data = bitcoin::ScriptBuf::new_op_return([7; 75]);
            let output = bitcoin::TxOut { value: bitcoin::Amount::ZERO, script_pubkey: data };
            transaction.output.extend((0..120).map(|_| output.clone()));
            coin = output_of(&transaction, 0);
            transactions.push(transaction);
        }
        let height = u32::try_from(blocks.len()).unwrap();
        let parent = Place::of(blocks.last().unwrap(), height);
        blocks.push(forge_paying(&params, parent, transactions, 3 * FEE));
    }
    blocks
}

fn folder_bytes(path: &Path) -> u64 {
    std::fs::read_dir(path).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn old_blocks_go_and_the_chain_goes_on() {
    let blocks = full_blocks(700);
    let (archive, pruned) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let full = open(archive.path(), None);
    submit(&full, &blocks);
    let core = open(pruned.path(), config(TARGET, &[]));
    for part in blocks.chunks(50) {
        submit(&core, part);
        core.prune().unwrap();
    }
    assert_eq!(core.store.utxo_set().unwrap(), full.store.utxo_set().unwrap());
    let below = core.store.pruned_below();
    assert_eq!(below, 700 - REORG_HORIZON, "the target is less than what is kept in any case");
    let stored: Vec<bool> = blocks.iter().map(|block| has(&core, block)).collect();
    let expected: Vec<bool> = (1..=700).map(|height| height >= below).collect();
    assert!(stored == expected);
    assert!(core.store.undo(&blocks[200].block_hash()).unwrap().is_none());
    assert!(core.store.undo(&blocks[600].block_hash()).unwrap().is_some());
    let chain: usize = blocks.iter().map(|block| serialize(block).len()).sum();
    full.store.collect_removed().unwrap();
    let bodies = |core: &Core| core.store.bodies_bytes().unwrap();
    println!(
        "700 blocks of {chain} bytes: an archival node's bodies and undo data take {}, a pruned one's {} (288 blocks)",
        bodies(&full),
        bodies(&core)
    );
    assert!(bodies(&core) * 10 < bodies(&full) * 6, "{} of {}", bodies(&core), bodies(&full));
    drop((core, full));
    let (archive, disk) = (folder_bytes(archive.path()), folder_bytes(pruned.path()));
    println!("their folders with write-ahead logs, indexes and coins: {archive} and {disk} bytes");

    // A restart finds it as it was, with the rule or without it.
    for prune in [config(TARGET, &[]), None] {
        let core = open(pruned.path(), prune);
        assert_eq!((core.store.pruned_below(), core.tip().height), (below, 700));
        assert!(!has(&core, &blocks[below as usize - 2]) && has(&core, &blocks[below as usize - 1]));
    }
}

#[test]
fn a_reorganisation_within_the_horizon_works_and_a_deeper_one_is_not_taken() {
    let params = Params::regtest();
    let blocks = full_blocks(500);
    let folder = tempfile::tempdir().unwrap();
    let core = open(folder.path(), config(TARGET, &[]));
    submit(&core, &blocks);
    core.prune().unwrap();
    assert_eq!(core.store.pruned_below(), 500 - REORG_HORIZON);
    let drop_to = 500 - REORG_HORIZON;
    // The last block that was pruned would have to come off.
    let parent = Place::of(&blocks[drop_to as usize - 3], drop_to - 2);
    let deep = forge_chain(&params, parent, REORG_HORIZON + 4);
    for block in &deep {
        let refused = core.submit_block(block.clone()).unwrap_err().to_string();
        assert!(refused.contains("parts from this node's after height 210"), "{refused}");
        assert!(!has(&core, block), "its blocks take no room");
    }
    assert_eq!(core.tip().hash, blocks.last().unwrap().block_hash());
    drop(core);
    // One that was stored before its place was pruned, and that is longer now.
    let core = open(folder.path(), config(TARGET, &[]));
    for (block, height) in deep.iter().zip(drop_to - 1..) {
        let mut batch = Batch::new(BatchKind::Block);
        batch.put_header(height, &block.header, HeaderStatus::HEADER.with_block());
        batch.put_block(&block.block_hash(), block);
        core.store.commit(&batch, Durability::Buffered).unwrap();
    }
    drop(core);
    let core = open(folder.path(), config(TARGET, &[]));
    assert_eq!(core.tip().hash, blocks.last().unwrap().block_hash(), "it starts, with the tip as it is");
    submit(&core, &forge_chain(&params, Place::of(blocks.last().unwrap(), 500), 2));
    assert_eq!(core.tip().height, 502, "its own chain goes on beside the other one, which has more work");
    drop(core);

    let folder = tempfile::tempdir().unwrap();
    let core = open(folder.path(), config(TARGET, &[]));
    submit(&core, &blocks);
    core.prune().unwrap();
    let parent = Place::of(&blocks[drop_to as usize - 1], drop_to);
    let branch = forge_chain(&params, parent, REORG_HORIZON + 1);
    submit(&core, &branch);
    assert_eq!(core.tip().hash, branch.last().unwrap().block_hash());
    let mut ledger = Ledger::new(&params);
    blocks[..drop_to as usize].iter().chain(&branch).for_each(|block| ledger.connect(block));
    assert_eq!(core.store.utxo_set().unwrap().1.hash, ledger.hash());
    // The branch that was left goes with the rest, in time; its headers are then as if its blocks had never come.
    let more = forge_chain(&params, Place::of(branch.last().unwrap(), core.tip().height), REORG_HORIZON);
    submit(&core, &more);
    core.prune().unwrap();
    assert!(!has(&core, &blocks[drop_to as usize + 1]) && !has(&core, &blocks[499]));
    drop(core);
    let core = open(folder.path(), config(TARGET, &[]));
    assert_eq!(core.tip().hash, more.last().unwrap().block_hash());
}

#[test]
fn what_a_consumer_needs_stays_and_goes_once_it_does_not() {
    let blocks = full_blocks(600);
    let folder = tempfile::tempdir().unwrap();
    let core = Arc::new(open(folder.path(), config(TARGET, &["wallet"])));
    submit(&core, &blocks);
    core.prune().unwrap();
    assert_eq!(core.store.pruned_below(), 0, "the wallet has not said what it needs");

    let needed = Arc::new(std::sync::Mutex::new(Needed { from: 150, blocks: BTreeSet::new() }));
    let told = Arc::clone(&needed);
    core.pruner.add_keeper("wallet", Arc::new(move || Ok(told.lock().unwrap().clone())));
    core.prune().unwrap();
    assert_eq!(core.store.pruned_below(), 150);

    *needed.lock().unwrap() = Needed { from: 400, blocks: BTreeSet::from([200, 203]) };
    core.prune().unwrap();
    assert_eq!(core.store.pruned_below(), 600 - REORG_HORIZON);
    let kept = |height: u32| has(&core, &blocks[height as usize - 1]);
    assert!(kept(200) && kept(203) && !kept(199) && !kept(201));
    assert_eq!(core.store.kept_blocks().unwrap(), [200, 203]);

    // A channel that closes needs the block of its funding transaction and all after it that are there.
    *needed.lock().unwrap() = Needed { from: 203, blocks: BTreeSet::new() };
    let last = Place::of(blocks.last().unwrap(), 600);
    submit(&core, &forge_chain(&Params::regtest(), last, 20));
    core.prune().unwrap();
    assert!(!kept(200) && kept(203));
    *needed.lock().unwrap() = Needed { from: 620, blocks: BTreeSet::from([203]) };
    core.prune().unwrap();
    assert!(kept(203));
    assert_eq!(core.store.kept_blocks().unwrap(), [203]);
}

#[tokio::test]
async fn a_pruned_node_prunes_by_itself_and_names_what_it_has_given_up() {
    let blocks = full_blocks(450);
    let folder = tempfile::tempdir().unwrap();
    let config = NodeConfig {
        prune: config(TARGET, &[]),
        network: false,
        sync_writes: false,
        clock: Clock::manual(NOW),
        ..NodeConfig::new(Params::regtest(), folder.path())
    };
    let node = Node::start(config).await.unwrap();
    for block in &blocks {
        node.submit_block(block.clone()).await.unwrap();
    }
    let begun = std::time::Instant::now();
    while node.pruned_below() <= 112 {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let below = node.pruned_below();
    let old = blocks[110].block_hash();
    let pruned = |error| matches!(error, NodeError::Pruned { height: 111, below: told } if told >= below);
    assert!(pruned(node.block(old).await.map(drop).unwrap_err()));
    let txid: Txid = blocks[110].txdata[1].compute_txid();
    assert!(pruned(node.transaction(txid).await.map(drop).unwrap_err()));
    assert!(pruned(node.inclusion_proof(txid).await.map(drop).unwrap_err()));
    assert!(node.subscribe(Some(blocks[105].block_hash())).unwrap().next().await.is_err());
    // What is known of it without its body is still answered.
    let spend = node.spender(OutPoint { txid, vout: 0 }).await.unwrap().unwrap();
    assert_eq!(spend.txid, blocks[110].txdata[2].compute_txid());
    assert!(node.block(blocks[449].block_hash()).await.unwrap().is_some());
    assert!(node.block(bitcoin::BlockHash::all_zeros()).await.unwrap().is_none());
    node.shutdown().await;
}

async fn pruning_node(folder: &Path, connect: Vec<std::net::SocketAddr>) -> Node {
    let config = NodeConfig {
        prune: config(TARGET, &[]),
        connect,
        max_outbound: 0,
        sync_writes: false,
        clock: Clock::manual(NOW),
        ..NodeConfig::new(Params::regtest(), folder)
    };
    Node::start(config).await.unwrap()
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn stop(node: Node) {
    node.shutdown().await;
    drop(node);
    // The database is closed with the last handle, which a task that has just ended may hold.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pruned_node_outlives_a_chain_that_it_cannot_follow_and_says_what_to_do() {
    let (params, blocks) = (Params::regtest(), full_blocks(450));
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let listening = NodeConfig {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        max_outbound: 0,
        sync_writes: false,
        clock: Clock::manual(NOW),
        ..NodeConfig::new(Params::regtest(), theirs.path())
    };
    let source = Node::start(listening).await.unwrap();
    for block in &blocks {
        source.submit_block(block.clone()).await.unwrap();
    }
    let node = pruning_node(ours.path(), vec![source.local_address().unwrap()]).await;
    until("pruned", || node.tip().height == 450 && node.pruned_below() > 112).await;
    until("no doubt", || node.check_tip().is_ok()).await;

    let branch = forge_chain(&params, Place::of(&blocks[99], 100), 360);
    for block in &branch {
        source.submit_block(block.clone()).await.unwrap();
    }
    assert_eq!(source.tip().height, 460);
    until("a doubt", || doubt_of(&node).contains("height 460, parts from this node's after height 100")).await;
    let first = branch[0].block_hash();
    assert!(doubt_of(&node).contains(&format!("invalidateblock {first}")), "{}", doubt_of(&node));
    assert_eq!(node.tip().height, 450);
    assert!(node.block(first).await.unwrap().is_none(), "blocks that are of no use are not fetched");

    // What its user takes back below that is refused before anything is noted.
    let refused = node.invalidate_block(blocks[99].block_hash()).await.unwrap_err();
    assert!(matches!(refused, NodeError::Pruned { height: 100, .. }), "{refused}");
    stop(node).await;
    let node = pruning_node(ours.path(), vec![source.local_address().unwrap()]).await;
    assert_eq!(node.tip().hash, blocks[449].block_hash(), "it starts again");
    // Its user says that the other chain is not the one.
    node.invalidate_block(first).await.unwrap();
    until("no doubt", || !doubt_of(&node).contains("parts from")).await;
    stop(node).await;
    source.shutdown().await;
}

fn doubt_of(node: &Node) -> String {
    node.check_tip().err().map(|doubt| doubt.to_string()).unwrap_or_default()
}
