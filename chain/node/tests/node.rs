//! The facade: notices over restarts and reorganisations, look-ups, mining.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bitcoin::BlockHash;
use common::*;
use leyden_consensus::Params;
use leyden_node::{Clock, Node, NodeConfig, NodeError, Notice, NoticeStream};

const COIN: u64 = 50_0000_0000;

async fn start(path: &Path) -> Node {
    let mut config = NodeConfig::new(Params::regtest(), path);
    config.clock = Clock::manual(NOW);
    config.sync_writes = false;
    Node::start(config).await.expect("the node starts")
}

#[tokio::test]
async fn a_node_says_when_its_store_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let is_full = Arc::new(AtomicBool::new(false));
    let mut config = NodeConfig::new(Params::regtest(), folder.path());
    config.clock = Clock::manual(NOW);
    config.write_hook = Some({
        let is_full = Arc::clone(&is_full);
        Arc::new(move |_| if is_full.load(Ordering::Relaxed) { Err("no room".into()) } else { Ok(()) })
    });
    let node = Node::start(config).await.expect("the node starts");
    node.generate(2, open_script()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), node.halted()).await.is_err());
    is_full.store(true, Ordering::Relaxed);
    let failed = node.generate(1, open_script()).await.unwrap_err();
    let told = tokio::time::timeout(PATIENCE, node.halted()).await.expect("whoever waits is told");
    assert_eq!(told, failed);
    assert!(told.to_string().contains("no room"), "{told}");
}

async fn next(stream: &mut NoticeStream) -> Notice {
    tokio::time::timeout(PATIENCE, stream.next()).await.expect("a notice comes").expect("it is readable")
}

/// Replays block notices on a list of hashes, checking that each makes sense.
#[derive(Default)]
struct Follower {
    chain: Vec<BlockHash>,
}

impl Follower {
    fn at(node: &Node) -> Self {
        let tip = node.tip().height;
        Self { chain: (0..=tip).map(|height| node.block_hash(height).unwrap()).collect() }
    }

    fn take(&mut self, notice: &Notice) {
        match notice {
            Notice::BlockConnected { hash, height, block } => {
                assert_eq!(*height as usize, self.chain.len());
                assert_eq!(Some(&block.header.prev_blockhash), self.chain.last());
                self.chain.push(*hash);
            }
            Notice::BlockDisconnected { hash, height, .. } => {
                assert_eq!(*height as usize, self.chain.len() - 1);
                assert_eq!(self.chain.pop(), Some(*hash));
            }
            Notice::TransactionAccepted { .. } | Notice::TransactionRemoved { .. } => {}
        }
    }

    async fn follow(&mut self, stream: &mut NoticeStream, to: BlockHash) -> usize {
        let mut steps = 0;
        while self.chain.last() != Some(&to) {
            let notice = next(stream).await;
            self.take(&notice);
            steps += usize::from(matches!(notice, Notice::BlockConnected { .. } | Notice::BlockDisconnected { .. }));
        }
        steps
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_are_replayed_after_a_restart_and_a_reorganisation() {
    let params = Params::regtest();
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    node.generate(5, open_script()).await.unwrap();
    let fork = node.tip();
    let mut stream = node.subscribe(Some(params.genesis_hash)).unwrap();
    let mut follower = Follower { chain: vec![params.genesis_hash] };
    assert_eq!(follower.follow(&mut stream, fork.hash).await, 5);
    node.generate(3, open_script()).await.unwrap();
    let stale = node.tip().hash;
    assert_eq!(follower.follow(&mut stream, stale).await, 3);
    node.shutdown().await;
    assert!(matches!(stream.next().await, Err(NodeError::ShuttingDown)));
    drop((stream, node));

    // The chain goes another way while the follower is not there.
    let node = start(folder.path()).await;
    let place = Place { hash: fork.hash, height: fork.height, time: fork.time };
    for block in forge_chain(&params, place, 4) {
        node.submit_block(block).await.unwrap();
    }
    node.shutdown().await;
    drop(node);

    let node = start(folder.path()).await;
    let mut stream = node.subscribe(Some(stale)).unwrap();
    assert_eq!(follower.follow(&mut stream, node.tip().hash).await, 3 + 4);
    assert_eq!(follower.chain, Follower::at(&node).chain);
    let unknown =
        node.subscribe(Some("00000000000000000000000000000000000000000000000000000000000000aa".parse().unwrap()));
    assert!(matches!(unknown, Err(NodeError::UnknownBlock(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_misses_no_block_and_no_waiting_transaction() {
    let params = Params::regtest();
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    node.generate(101, open_script()).await.unwrap();
    let coin = coinbase_of(&node.block(node.block_hash(1).unwrap()).await.unwrap().unwrap());
    let mut follower = Follower::at(&node);
    let mut stream = node.subscribe(None).unwrap();
    // More events than are kept: each replacement is two.
    for round in 0..2_500u64 {
        node.submit_transaction(spend(&[coin], vec![open_output(COIN - 1_000 - 100 * round)])).await.unwrap();
    }
    let last = node.mempool_entries()[0].txid;
    for block in forge_chain(&params, Place { hash: node.tip().hash, height: 101, time: node.tip().time }, 3) {
        node.submit_block(block).await.unwrap();
    }
    assert_eq!(follower.follow(&mut stream, node.tip().hash).await, 3);
    loop {
        if let Notice::TransactionAccepted { transaction } = next(&mut stream).await
            && transaction.compute_txid() == last
        {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_outputs_and_spends_are_found_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    node.generate(102, open_script()).await.unwrap();
    let coin = coinbase_of(&node.block(node.block_hash(1).unwrap()).await.unwrap().unwrap());
    assert!(node.output_at(1, 0, 0).await.unwrap().unwrap().unspent);
    assert_eq!(node.output_at(1, 0, 9).await.unwrap(), None);
    assert_eq!(node.output_at(1, 1, 0).await.unwrap(), None);
    assert_eq!(node.output_at(999, 0, 0).await.unwrap(), None);

    let transaction = spend(&[coin], vec![open_output(COIN - 1_000)]);
    let txid = node.submit_transaction(transaction.clone()).await.unwrap();
    assert_eq!(node.transaction(txid).await.unwrap().unwrap().confirmed, None);
    let spend_of_coin = node.spender(coin).await.unwrap().unwrap();
    assert_eq!((spend_of_coin.txid, spend_of_coin.input, spend_of_coin.confirmed), (txid, 0, None));
    assert_eq!(node.mempool_info().transactions, 1);

    node.generate(1, open_script()).await.unwrap();
    let tip = node.tip().block_ref();
    let found = node.transaction(txid).await.unwrap().unwrap();
    assert_eq!((found.transaction.as_ref(), found.confirmed), (&transaction, Some((tip, 1))));
    assert_eq!(node.spender(coin).await.unwrap().unwrap().confirmed, Some(tip));
    let output = node.output_at(1, 0, 0).await.unwrap().unwrap();
    assert!(!output.unspent && output.output.value.to_sat() == COIN);
    assert_eq!(node.output_at(tip.height, 1, 0).await.unwrap().unwrap().outpoint, output_of(&transaction, 0));
    let (at, proof) = node.inclusion_proof(txid).await.unwrap().unwrap();
    assert_eq!((at, proof.verify().unwrap()), (tip, txid));
    assert_eq!(proof.header, node.header(&at.hash).unwrap().0);
    let set = node.utxo_set_hash().await.unwrap();
    assert_eq!((set.block, set.coins), (tip, 103));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mining_goes_on_until_it_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let mut stream = node.subscribe(None).unwrap();
    node.start_mining(open_script(), Some(1)).await.unwrap();
    for _ in 0..3 {
        assert!(matches!(next(&mut stream).await, Notice::BlockConnected { .. }));
    }
    assert!(node.hash_rate().is_some());
    let status = node.mining_status().unwrap();
    assert_eq!((status.script, status.threads), (Some(open_script()), 1));
    assert!(status.blocks_found >= 2 && status.work == bitcoin::Target::from_be_bytes([0x7f; 32]).to_work());
    assert!(node.stop_mining().await);
    assert!(!node.stop_mining().await);
    let height = node.tip().height;
    assert!(height >= 3);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(node.tip().height, height);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_ends_when_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut params = Params::leyden();
    // Far too hard for a test.
    params.name = "leyden".into();
    let mut config = NodeConfig::new(params, folder.path());
    config.sync_writes = false;
    let node = Node::start(config).await.unwrap();
    let search = tokio::time::timeout(Duration::from_millis(200), node.generate(1, open_script())).await;
    assert!(search.is_err(), "2^30 hashes take longer");
    node.shutdown().await;
    assert!(matches!(node.generate(1, open_script()).await, Err(NodeError::ShuttingDown | NodeError::SearchStopped)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_behind_the_chain_ends_the_search_for_blocks_with_the_hours() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    node.generate(12, open_script()).await.unwrap();
    assert_eq!(node.check_tip(), Ok(()));
    node.clock().set(NOW - 72 * 3_600);
    let refused = tokio::time::timeout(PATIENCE, node.generate(1, open_script())).await;
    let error = refused.expect("it does not hang").unwrap_err();
    assert!(matches!(error, NodeError::ClockBehindChain { .. }) && error.to_string().contains("72 hours"), "{error}");
    assert!(node.check_tip().unwrap_err().to_string().contains("72 hours behind"));
    // The miner waits, and goes on once the clock is right.
    node.start_mining(open_script(), Some(1)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(node.tip().height, 12);
    node.clock().set(NOW + 60);
    tokio::time::timeout(PATIENCE, async {
        while node.tip().height == 12 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it mines");
    node.stop_mining().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_s_clock_shows_that_ours_is_wrong_until_it_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, connect: Vec<std::net::SocketAddr>, now| {
        let mut config = NodeConfig::new(Params::regtest(), folder.path().join(name));
        config.listen = Some("127.0.0.1:0".parse().unwrap());
        (config.clock, config.connect, config.sync_writes) = (Clock::manual(now), connect, false);
        Node::start(config)
    };
    let alice = at("alice", Vec::new(), NOW).await.unwrap();
    alice.generate(12, open_script()).await.unwrap();
    let bob = at("bob", vec![alice.local_address().unwrap()], NOW - 72 * 3_600).await.unwrap();
    let until = async |doubts: &str| {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let doubt = bob.check_tip().err().map(|doubt| doubt.to_string()).unwrap_or_default();
                if doubt.contains(doubts) && doubt.is_empty() == doubts.is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    };
    until("72 hours behind those of its chain peers (1)").await.expect("a doubt");
    bob.clock().set(NOW);
    until("").await.expect("no doubt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mempool_is_kept_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    node.generate(103, open_script()).await.unwrap();
    let coin = async |height| {
        let block = node.block(node.block_hash(height).unwrap()).await.unwrap().unwrap();
        coinbase_of(&block)
    };
    let coins = [coin(1).await, coin(2).await];
    let mut chain = vec![spend(&coins[..1], vec![open_output(COIN - 1_000)])];
    for number in 2..40 {
        chain.push(spend(&[output_of(chain.last().unwrap(), 0)], vec![open_output(COIN - 1_000 * number)]));
    }
    for transaction in &chain {
        node.submit_transaction(transaction.clone()).await.unwrap();
    }
    // A parent without a fee and the child that pays for it.
    let parent = spend(&coins[1..], vec![open_output(COIN)]);
    let child = spend(&[output_of(&parent, 0)], vec![open_output(COIN - 10_000)]);
    node.submit_package(vec![parent.clone(), child.clone()]).await.unwrap();
    let held = node.mempool_entries().len();
    assert_eq!(held, 41);
    node.shutdown().await;
    drop(node);

    let node = start(folder.path()).await;
    wait(|| node.mempool_entries().len() == held).await;
    assert_eq!(node.mempool_entry(&child.compute_txid()).unwrap().time, NOW);
    node.generate(1, open_script()).await.unwrap();
    assert!(node.mempool_entries().is_empty());
    node.submit_transaction(spend(&[output_of(&child, 0)], vec![open_output(COIN - 20_000)])).await.unwrap();
    node.shutdown().await;
    drop(node);

    const NO_TRANSACTIONS: [u8; 18] = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // Half a file, and no file: the node starts all the same, and takes what comes.
    let file = folder.path().join("mempool.dat");
    let bytes = std::fs::read(&file).unwrap();
    for damaged in [&bytes[..bytes.len() / 2], &bytes[..7], &[7; 100], &[]] {
        std::fs::write(&file, damaged).unwrap();
        let node = start(folder.path()).await;
        // It saves itself again once the file was looked at.
        let begun = std::time::Instant::now();
        while std::fs::read(&file).unwrap() != NO_TRANSACTIONS {
            assert!(begun.elapsed() < PATIENCE, "the file is never written anew");
            node.shutdown().await;
        }
        assert!(node.mempool_entries().is_empty());
    }
    std::fs::remove_file(&file).unwrap();
    let node = start(folder.path()).await;
    assert!(node.mempool_entries().is_empty());
    node.shutdown().await;
}

async fn wait(condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "it never came to this");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
