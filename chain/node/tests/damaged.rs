//! Bytes that change on the disk: a block that cannot be read any more is fetched again, and the node goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use bitcoin::{Amount, Block, ScriptBuf, TxOut};
use common::*;
use leyden_consensus::Params;
use leyden_node::store::{Batch, BatchKind, Durability};
use leyden_node::{Clock, Node, NodeConfig, Notice};

/// Blocks large enough to lie in a file of their own kind, apart from their keys.
fn chain(count: u32) -> Vec<Block> {
    let params = Params::regtest();
    let mut blocks = forge_chain(&params, Place::genesis(&params), 101);
    let mut coin = coinbase_of(&blocks[0]);
    let mut value = 5_000_000_000;
    for height in 101..count {
        value -= 5_000;
        let mut transaction = spend(&[coin], vec![open_output(value)]);
        let data = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_op_return([9; 75]) };
        transaction.output.extend((0..30).map(|_| data.clone()));
        coin = output_of(&transaction, 0);
        let parent = Place::of(blocks.last().unwrap(), height);
        blocks.push(forge_paying(&params, parent, vec![transaction], 5_000));
    }
    blocks
}

/// Changes bytes in all files that hold blocks, here and there. Returns how many.
fn damage(folder: &Path, every: usize) -> usize {
    let mut changed = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "blob") {
            let mut bytes = std::fs::read(&path).unwrap();
            let (first, last) = (200, bytes.len() - 200);
            for place in (first..last).step_by(every) {
                bytes[place] ^= 0x55;
                changed += 1;
            }
            std::fs::write(&path, bytes).unwrap();
        }
    }
    changed
}

async fn start(folder: &Path, listen: bool) -> Node {
    let config = NodeConfig::new(Params::regtest(), folder);
    let listen = listen.then(|| "127.0.0.1:0".parse().unwrap());
    Node::start(NodeConfig { clock: Clock::manual(NOW), max_outbound: 0, listen, sync_writes: false, ..config })
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_blocks_are_fetched_again_and_whoever_wants_them_gets_them() {
    let params = Params::regtest();
    let blocks = chain(200);
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = start(theirs.path(), true).await;
    for block in &blocks {
        source.submit_block(block.clone()).await.unwrap();
    }
    {
        let core = open_core(&ours.path().join("chain"));
        use leyden_node::backend::Backend as _;
        blocks.iter().for_each(|block| assert!(core.submit_block(block.clone()).is_ok()));
        core.store.flush_coins().unwrap();
        core.store.collect_removed().unwrap();
    }
    let changed = damage(&ours.path().join("chain"), 9_000);
    assert!(changed > 10, "{changed} places");

    let node = start(ours.path(), false).await;
    assert_eq!(node.tip().hash, blocks[199].block_hash(), "damage that nobody reads stops nobody");
    // Whoever reads the whole chain, as a wallet does, waits for what is fetched.
    let mut notices = node.subscribe(Some(params.genesis_hash)).unwrap();
    let reading = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 200 {
            if let Notice::BlockConnected { block, .. } = notices.next().await.unwrap() {
                seen.push(block.block_hash());
            }
        }
        seen
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!reading.is_finished(), "there is nobody to fetch from yet");
    node.connect_peer(source.local_address().unwrap()).await.unwrap();
    let seen = tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert!(seen.iter().eq(blocks.iter().map(Block::block_hash).collect::<Vec<_>>().iter()));

    // A reorganisation takes them off as if nothing had been.
    let branch = forge_chain(&params, Place::of(&blocks[119], 120), 90);
    for block in &branch {
        node.submit_block(block.clone()).await.unwrap();
    }
    assert_eq!(node.tip().hash, branch[89].block_hash());
    let mut ledger = Ledger::new(&params);
    blocks[..120].iter().chain(&branch).for_each(|block| ledger.connect(block));
    assert_eq!(node.utxo_set_hash().await.unwrap().hash, ledger.hash());
    node.shutdown().await;
    source.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_branch_with_a_damaged_block_waits_for_it() {
    let params = Params::regtest();
    let blocks = chain(150);
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = start(theirs.path(), true).await;
    for block in &blocks {
        source.submit_block(block.clone()).await.unwrap();
    }
    {
        // All blocks are stored but one, so none above it is connected.
        let core = open_core(&ours.path().join("chain"));
        use leyden_node::backend::Backend as _;
        let headers: Vec<_> = blocks.iter().map(|block| block.header).collect();
        core.accept_headers(&headers).unwrap();
        for block in blocks[..110].iter().chain(&blocks[111..]) {
            core.submit_block(block.clone()).unwrap();
        }
        assert_eq!(core.tip().height, 110);
        core.store.flush_coins().unwrap();
        core.store.collect_removed().unwrap();
    }
    assert!(damage(&ours.path().join("chain"), 9_000) > 5);
    let node = start(ours.path(), false).await;
    node.submit_block(blocks[110].clone()).await.unwrap();
    assert!(node.tip().height >= 111 && node.tip().height < 150, "{}", node.tip().height);
    node.connect_peer(source.local_address().unwrap()).await.unwrap();
    let begun = Instant::now();
    while node.tip() != source.tip() {
        assert!(begun.elapsed() < PATIENCE, "at {}", node.tip().height);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut ledger = Ledger::new(&params);
    blocks.iter().for_each(|block| ledger.connect(block));
    assert_eq!(node.utxo_set_hash().await.unwrap().hash, ledger.hash());
    node.shutdown().await;
    source.shutdown().await;
}

#[test]
fn a_node_starts_although_a_block_that_has_to_come_off_is_gone() {
    use leyden_node::backend::Backend as _;
    let params = Params::regtest();
    let blocks = chain(130);
    let folder = tempfile::tempdir().unwrap();
    let branch = forge_chain(&params, Place::of(&blocks[119], 120), 11);
    let core = open_core(folder.path());
    blocks.iter().chain(&branch[..10]).for_each(|block| assert!(core.submit_block(block.clone()).is_ok()));
    core.store.flush_coins().unwrap();
    let mut batch = Batch::new(BatchKind::Block);
    batch.remove_block(&blocks[125].block_hash());
    core.store.commit(&batch, Durability::Buffered).unwrap();
    drop(core);
    let core = open_core(folder.path());
    assert!(core.submit_block(branch[10].clone()).is_err(), "the better chain cannot be followed yet");
    drop(core);
    let core = open_core(folder.path());
    assert_eq!(core.tip().hash, blocks[129].block_hash());
    assert_eq!(core.store.lost_blocks(), [blocks[125].block_hash()], "peers are asked for it");
}
