//! Coins whose rows are behind the tip: readers see none of it, and a restart makes up for it from the blocks.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bitcoin::hashes::sha256d;
use bitcoin::{Block, BlockHash, OutPoint};
use common::*;
use leyden_consensus::{CoinSource, Params};
use leyden_node::backend::Backend;
use leyden_node::coins_cache::ChainCoins;
use leyden_node::core::Core;
use leyden_node::pruner::PruneConfig;
use leyden_node::store::{
    Batch, BatchKind, Durability, HeaderStatus, Store, StoreOptions, UnflushedLimits, WriteHook, WritePoint,
};
use leyden_node::{Clock, MempoolPolicy};

/// No limit that these tests would reach.
const NEVER: UnflushedLimits = UnflushedLimits { blocks: 100_000, block_bytes: usize::MAX, coin_bytes: usize::MAX };

fn every(blocks: u32) -> UnflushedLimits {
    UnflushedLimits { blocks, ..NEVER }
}

fn options(path: &Path, unflushed: UnflushedLimits) -> StoreOptions {
    StoreOptions { sync: false, unflushed, ..StoreOptions::new(path) }
}

fn open(path: &Path, unflushed: UnflushedLimits) -> Core {
    open_core_of(open_store_as(options(path, unflushed)), MempoolPolicy::default())
}

/// Counts how often coins are written apart from their step.
fn counting(path: &Path, unflushed: UnflushedLimits) -> (Core, Arc<AtomicUsize>) {
    let flushes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&flushes);
    let hook: WriteHook = Arc::new(move |point| {
        counted.fetch_add(usize::from(point == WritePoint::After(BatchKind::Coins)), Ordering::Relaxed);
        Ok(())
    });
    let options = StoreOptions { hook: Some(hook), ..options(path, unflushed) };
    (open_core_of(open_store_as(options), MempoolPolicy::default()), flushes)
}

fn feed(core: &Core, blocks: &[Block]) {
    blocks.iter().for_each(|block| assert!(core.submit_block(block.clone()).is_ok()));
}

fn chain(count: u32) -> (Spender, Ledger) {
    let params = Params::regtest();
    let mut spender = Spender::new(&params);
    spender.extend(count);
    let mut ledger = Ledger::new(&params);
    spender.blocks.iter().for_each(|block| ledger.connect(block));
    (spender, ledger)
}

fn coins(core: &Core) -> (BlockHash, sha256d::Hash) {
    let (tip, utxo) = core.store.utxo_set().unwrap();
    (tip, utxo.hash)
}

fn assert_is_ledger(core: &Core, ledger: &Ledger) {
    assert_eq!(core.tip().hash, ledger.tip());
    assert_eq!(coins(core), (ledger.tip(), ledger.hash()));
}

#[test]
fn coins_that_were_not_written_are_made_up_for_at_the_next_start() {
    let (spender, ledger) = chain(140);
    let folder = tempfile::tempdir().unwrap();
    let (core, flushes) = counting(folder.path(), NEVER);
    feed(&core, &spender.blocks);
    assert_eq!(flushes.load(Ordering::Relaxed), 0);
    drop(core);
    {
        let behind = open_store_as(options(folder.path(), NEVER)).utxo_set().unwrap();
        assert_eq!(behind.0, ledger.tip());
        assert_ne!(behind.1.hash, ledger.hash(), "the rows are behind the tip, or this test shows nothing");
    }
    assert_is_ledger(&open(folder.path(), NEVER), &ledger);
    // And they were written then.
    let behind = open_store_as(options(folder.path(), NEVER)).utxo_set().unwrap();
    assert_eq!(behind.1.hash, ledger.hash());
}

#[test]
fn a_coin_is_found_and_gone_at_once_whether_or_not_it_is_written() {
    let (spender, _) = chain(130);
    let folder = tempfile::tempdir().unwrap();
    let core = open(folder.path(), every(11));
    let cached = ChainCoins::new(Arc::clone(&core.store));
    let mut created: Vec<OutPoint> = Vec::new();
    for block in &spender.blocks {
        feed(&core, std::slice::from_ref(block));
        for transaction in &block.txdata {
            let spent = transaction.input.iter().map(|input| input.previous_output);
            for outpoint in spent.filter(|_| !transaction.is_coinbase()) {
                assert_eq!(core.store.coin(&outpoint).unwrap(), None);
                created.retain(|other| *other != outpoint);
            }
            created.extend((0..transaction.output.len() as u32).map(|vout| output_of(transaction, vout)));
        }
        created.retain(|outpoint| {
            // The witness commitment's output never is a coin.
            let transaction = block.txdata.iter().find(|one| one.compute_txid() == outpoint.txid);
            transaction.is_none_or(|one| !one.output[outpoint.vout as usize].script_pubkey.is_op_return())
        });
        let found = cached.coins(&created).unwrap();
        for (outpoint, found) in created.iter().zip(found) {
            assert!(found.is_some(), "{outpoint}");
            assert_eq!(core.store.coin(outpoint).unwrap(), found);
        }
    }
}

#[test]
fn coins_are_written_when_a_limit_is_reached() {
    let (spender, _) = chain(120);
    for (limits, least, most) in [
        (every(30), 4, 4),
        (UnflushedLimits { block_bytes: 10_000, ..NEVER }, 3, 6),
        (UnflushedLimits { coin_bytes: 5_000, ..NEVER }, 3, 8),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (core, flushes) = counting(folder.path(), limits);
        feed(&core, &spender.blocks);
        let flushes = flushes.load(Ordering::Relaxed);
        assert!((least..=most).contains(&flushes), "{limits:?}: {flushes}");
    }
}

#[test]
fn a_reorganisation_across_what_was_written_and_what_was_not_ends_in_the_winning_chain() {
    let (common, ledger) = chain(105);
    let (mut one, mut other) = (common.branch(1), common.branch(3));
    one.extend(20);
    other.extend(31);
    one.extend(25);
    for blocks in [1, 7, 16, 1_000] {
        let folder = tempfile::tempdir().unwrap();
        let core = open(folder.path(), every(blocks));
        feed(&core, &common.blocks);
        for (branch, upto) in [(&one, 20), (&other, 31), (&one, 45)] {
            feed(&core, &branch.blocks[..upto]);
            let mut ledger = ledger.clone();
            branch.blocks[..upto].iter().for_each(|block| ledger.connect(block));
            // As it is found by whoever dies here, and by whoever does not.
            let copied = tempfile::tempdir().unwrap();
            copy(folder.path(), copied.path());
            assert_is_ledger(&open(copied.path(), every(blocks)), &ledger);
            assert_eq!(core.tip().hash, ledger.tip());
        }
        drop(core);
        let core = open(folder.path(), every(blocks));
        let mut ledger = ledger.clone();
        one.blocks.iter().for_each(|block| ledger.connect(block));
        assert_is_ledger(&core, &ledger);
    }
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn whoever_dies_at_any_write_of_a_flush_finds_the_tip_again() {
    let (spender, _) = chain(125);
    let folder = tempfile::tempdir().unwrap();
    let mut died = 0;
    for fatal in 0.. {
        let folder = folder.path().join(fatal.to_string());
        let seen = Arc::new(Mutex::new(0));
        let hook: WriteHook = Arc::new(move |point| {
            let is_flush = matches!(point, WritePoint::Before(BatchKind::Coins) | WritePoint::After(BatchKind::Coins));
            let mut seen = seen.lock().unwrap();
            *seen += usize::from(is_flush);
            if is_flush && *seen == fatal + 1 { Err(format!("died at {point:?}")) } else { Ok(()) }
        });
        let options = StoreOptions { hook: Some(hook), ..options(&folder, every(20)) };
        let core = open_core_of(open_store_as(options), MempoolPolicy::default());
        let failed = spender.blocks.iter().find(|block| core.submit_block((*block).clone()).is_err());
        let Some(failed) = failed else { break };
        died += 1;
        drop(core);
        let core = open(&folder, every(20));
        assert_eq!(core.tip().hash, failed.block_hash(), "its step was written before its coins were to be");
        let mut ledger = Ledger::new(&Params::regtest());
        let end = spender.blocks.iter().position(|block| block == failed).unwrap();
        spender.blocks[..=end].iter().for_each(|block| ledger.connect(block));
        assert_is_ledger(&core, &ledger);
    }
    assert_eq!(died, 12, "six flushes");
}

#[test]
fn a_damaged_block_whose_coins_are_not_written_is_taken_back_and_comes_again() {
    let (spender, ledger) = chain(130);
    let folder = tempfile::tempdir().unwrap();
    {
        let core = open(folder.path(), NEVER);
        feed(&core, &spender.blocks[..110]);
        core.store.flush_coins().unwrap();
        feed(&core, &spender.blocks[110..]);
        let mut batch = Batch::new(BatchKind::Block);
        batch.remove_block(&spender.blocks[119].block_hash());
        batch.put_header(120, &spender.blocks[119].header, HeaderStatus::HEADER.with_block());
        core.store.commit(&batch, Durability::Buffered).unwrap();
    }
    let core = open(folder.path(), NEVER);
    let mut before = Ledger::new(&Params::regtest());
    spender.blocks[..119].iter().for_each(|block| before.connect(block));
    assert_is_ledger(&core, &before);
    let gone = &spender.blocks[125].txdata[1];
    assert_eq!(core.store.position(&gone.compute_txid()).unwrap(), None);
    assert_eq!(core.store.spend(&gone.input[0].previous_output).unwrap(), None);
    assert_eq!(core.store.active_hash(120).unwrap(), None);
    feed(&core, &spender.blocks[119..120]);
    assert_is_ledger(&core, &ledger);
    let (fresh, other) = (tempfile::tempdir().unwrap(), folder);
    let (fresh, repaired) = (open(fresh.path(), NEVER), {
        drop(core);
        open(other.path(), NEVER)
    });
    feed(&fresh, &spender.blocks);
    let rows = |core: &Core| core.store.dump().unwrap();
    assert!(rows(&fresh) == rows(&repaired), "no row is left over or missing");
}

#[test]
fn blocks_that_a_restart_needs_are_not_pruned() {
    let (spender, ledger) = chain(420);
    let folder = tempfile::tempdir().unwrap();
    let prune = PruneConfig { target_bytes: 1, ..PruneConfig::default() };
    let open = || {
        let params = Arc::new(Params::regtest());
        let store = Arc::new(Store::open(options(folder.path(), NEVER), &params.genesis).unwrap());
        let clock = Clock::manual(NOW);
        Core::open(params, MempoolPolicy::default(), clock, store, 1_000, Some(prune.clone())).unwrap()
    };
    let core = open();
    feed(&core, &spender.blocks[..40]);
    core.store.flush_coins().unwrap();
    feed(&core, &spender.blocks[40..]);
    core.prune().unwrap();
    assert_eq!(core.store.pruned_below(), 41, "there is more to prune, but for that");
    drop(core);
    let core = open();
    assert_is_ledger(&core, &ledger);
    core.prune().unwrap();
    assert!(core.store.pruned_below() > 41);
}
