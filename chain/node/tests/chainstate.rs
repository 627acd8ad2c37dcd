//! The active chain: blocks on and off, reorganisations, invalid and damaged blocks, real chains.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use std::process::Command;

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, Block, ScriptBuf, TxMerkleNode, TxOut, Witness};
use common::*;
use leyden_consensus::{BlockError, Params};
use leyden_net::{BlockState, ChainView};
use leyden_node::backend::{Backend, BlockAccepted};
use leyden_node::core::Core;
use leyden_node::store::FORMAT;
use leyden_node::{BlockRejected, MempoolPolicy, NodeError, StoreError};

fn feed(core: &Core, blocks: &[Block]) {
    for block in blocks {
        core.submit_block(block.clone()).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Everything but the stores of headers and blocks, which may know more than the active chain.
fn state(core: &Core) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let rows = core.store.dump().expect("the store can be read");
    rows.into_iter().filter(|(family, _, _)| !["headers", "blocks"].contains(family)).collect()
}

fn assert_is_ledger(core: &Core, ledger: &Ledger) {
    let (tip, utxo) = core.store.utxo_set().expect("the coins can be read");
    assert_eq!((tip, core.tip().hash), (ledger.tip(), ledger.tip()));
    assert_eq!(utxo.hash, ledger.hash());
}

/// What is kept of every block that was ever connected.
const PER_BLOCK: [&str; 3] = ["undo", "filters", "filter_headers"];

#[test]
fn a_deep_reorganisation_ends_in_the_state_of_the_winning_chain_alone() {
    BOTH_WAYS.into_iter().for_each(assert_deep_reorganisation);
}

fn assert_deep_reorganisation(step_bytes: usize) {
    let params = Params::regtest();
    let mut common = Spender::new(&params);
    common.extend(110);
    let (mut losing, mut winning) = (common.branch(1), common.branch(5));
    losing.extend(150);
    winning.extend(151);

    let folder = tempfile::tempdir().unwrap();
    let core = open_core_of(open_store_with(folder.path(), None, step_bytes), MempoolPolicy::default());
    feed(&core, &common.blocks);
    feed(&core, &losing.blocks);
    assert_eq!(core.tip().hash, losing.place.hash);
    let before = core.store.utxo_set().unwrap();
    feed(&core, &winning.blocks[..150]);
    assert_eq!(core.store.utxo_set().unwrap(), before, "equal work changes nothing");
    feed(&core, &winning.blocks[150..]);

    let fresh_folder = tempfile::tempdir().unwrap();
    let fresh = open_core(fresh_folder.path());
    feed(&fresh, &common.blocks);
    feed(&fresh, &winning.blocks);
    let rows = |core: &Core| -> Vec<_> {
        state(core).into_iter().filter(|(family, _, _)| !PER_BLOCK.contains(family)).collect()
    };
    assert!(rows(&core) == rows(&fresh), "all coins and indexes are those of the winning chain");
    let mut ledger = Ledger::new(&params);
    common.blocks.iter().chain(&winning.blocks).for_each(|block| ledger.connect(block));
    assert_is_ledger(&core, &ledger);

    // And back again.
    losing.extend(2);
    feed(&core, &losing.blocks[150..]);
    assert_eq!(core.tip().hash, losing.place.hash);
    let mut ledger = Ledger::new(&params);
    common.blocks.iter().chain(&losing.blocks).for_each(|block| ledger.connect(block));
    assert_is_ledger(&core, &ledger);
    let restarted_from = core.tip();
    drop(core);
    let core = open_core(folder.path());
    assert_eq!(core.tip(), restarted_from);
    assert_is_ledger(&core, &ledger);
}

/// Blocks of nearly 1 MB on `common`, each of which spends what the one before has created.
fn large_blocks(common: &Spender, count: u32, salt: u8) -> Vec<Block> {
    let (mut place, mut coin) = (common.place, coinbase_of(&common.blocks[0]));
    let mut blocks = Vec::new();
    for number in 0..count {
        let mut data = vec![salt; 980_000];
        data[..5].copy_from_slice(&[&[0x6a][..], &number.to_le_bytes()].concat());
        let data = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(data) };
        let transaction = spend(&[coin], vec![open_output(1_000_000), data]);
        coin = output_of(&transaction, 0);
        let fee = if number == 0 { 5_000_000_000 - 1_000_000 } else { 0 };
        let block = forge_paying(&common.params, place, vec![transaction], fee);
        place = Place::of(&block, place.height + 1);
        blocks.push(block);
    }
    blocks
}

/// A number of kilobytes of `/proc/self/status`.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const ALONE: &str = "LEYDEN_TEST_ALONE";

/// Memory is measured of a whole process: the test starts itself again in one that does nothing else.
#[test]
fn a_deep_reorganisation_does_not_hold_its_blocks_in_memory() {
    if let Some(folder) = std::env::var_os(ALONE) {
        let folder = std::path::Path::new(&folder);
        let last = blocks_from_hex(&folder.join("last"));
        let core = open_core(folder);
        let before = memory("VmRSS");
        feed(&core, &last);
        assert_eq!(core.tip().hash, last[0].block_hash());
        let grown = memory("VmHWM").saturating_sub(before) / 1_000;
        println!("a reorganisation of 80 blocks of 1 MB took {grown} MB of memory");
        assert!(grown < 100, "{grown} MB");
        return;
    }
    let params = Params::regtest();
    let mut common = Spender::new(&params);
    common.extend(100);
    let folder = tempfile::tempdir().unwrap();
    {
        let core = open_core(folder.path());
        feed(&core, &common.blocks);
        feed(&core, &large_blocks(&common, 80, 1));
        let winning = large_blocks(&common, 81, 2);
        feed(&core, &winning[..80]);
        std::fs::write(folder.path().join("last"), bitcoin::consensus::encode::serialize_hex(&winning[80])).unwrap();
    }
    let mut alone = Command::new(std::env::current_exe().unwrap());
    alone.args(["--exact", "a_deep_reorganisation_does_not_hold_its_blocks_in_memory", "--nocapture"]);
    assert!(alone.env(ALONE, folder.path()).status().unwrap().success());
}

#[test]
fn an_invalid_block_inside_a_longer_fork_changes_nothing() {
    BOTH_WAYS.into_iter().for_each(assert_invalid_block_changes_nothing);
}

fn assert_invalid_block_changes_nothing(step_bytes: usize) {
    let params = Params::regtest();
    let mut common = Spender::new(&params);
    common.extend(105);
    let (mut honest, mut fork) = (common.branch(1), common.branch(2));
    honest.extend(6);
    fork.extend(3);
    // It takes more than subsidy and fees, which shows only when it is connected.
    let greedy = forge_paying(&params, fork.place, Vec::new(), 1);
    let after_greedy = forge_chain(&params, Place::of(&greedy, fork.place.height + 1), 5);

    let folder = tempfile::tempdir().unwrap();
    let core = open_core_of(open_store_with(folder.path(), None, step_bytes), MempoolPolicy::default());
    feed(&core, &common.blocks);
    feed(&core, &honest.blocks);
    let before = state(&core);
    feed(&core, &fork.blocks);
    core.submit_block(greedy.clone()).expect("it is stored: its chain has too little work to be looked at");
    feed(&core, &after_greedy[..2]);
    // With this one the fork has more work, and its invalid block is found.
    assert!(core.submit_block(after_greedy[2].clone()).is_ok());
    assert!(state(&core) == before, "the state is as it was, byte for byte");
    assert_eq!(core.tip().hash, honest.place.hash);
    assert_eq!(core.entry(&greedy.block_hash()).unwrap().state, BlockState::Invalid);
    assert_eq!(core.most_work_header().hash, honest.place.hash);
    let refused = core.submit_block(after_greedy[3].clone()).unwrap_err();
    assert!(matches!(refused, BlockRejected::Header { .. }), "{refused}");

    honest.extend(4);
    feed(&core, &honest.blocks[6..]);
    assert_eq!(core.tip().hash, honest.place.hash);
    drop(core);
    let core = open_core(folder.path());
    assert_eq!(core.entry(&greedy.block_hash()).unwrap().state, BlockState::Invalid, "remembered over a restart");
    assert_eq!(core.tip().hash, honest.place.hash);
}

#[test]
fn a_block_that_is_invalid_when_connected_is_refused_with_its_reason() {
    let params = Params::regtest();
    let folder = tempfile::tempdir().unwrap();
    let core = open_core(folder.path());
    let block = forge_paying(&params, Place::genesis(&params), Vec::new(), 7);
    let refused = core.submit_block(block).unwrap_err();
    let BlockRejected::Invalid { cause: BlockError::CoinbaseOverpays { paid, allowed }, .. } = refused else {
        panic!("{refused}")
    };
    assert_eq!(paid - allowed, Amount::from_sat(7));
    feed(&core, &forge_chain(&params, Place::genesis(&params), 1));
    assert_eq!(core.tip().height, 1);
}

#[test]
fn a_damaged_copy_does_not_poison_the_block() {
    let params = Params::regtest();
    let mut spender = Spender::new(&params);
    spender.extend(102);
    let folder = tempfile::tempdir().unwrap();
    let core = open_core(folder.path());
    let (last, rest) = spender.blocks.split_last().unwrap();
    feed(&core, rest);

    let mut repeated = last.clone();
    repeated.txdata.push(last.txdata.last().unwrap().clone());
    let mut stripped = last.clone();
    stripped.txdata[1].input[0].witness = Witness::new();
    let mut stuffed = last.clone();
    stuffed.txdata[0].input[0].witness.push([1; 32]);
    let mut truncated = last.clone();
    truncated.txdata.pop();
    for (name, damaged) in
        [("repeated", repeated), ("stripped", stripped), ("stuffed", stuffed), ("truncated", truncated)]
    {
        let refused = core.submit_block(damaged).unwrap_err();
        assert!(matches!(refused, BlockRejected::Mutated { .. }), "{name}: {refused}");
    }
    assert!(matches!(core.submit_block(last.clone()), Ok(BlockAccepted::Stored { tip }) if tip.height == 102));
    assert_eq!(core.submit_block(last.clone()), Ok(BlockAccepted::Known));
}

#[test]
fn a_doctored_copy_of_a_block_that_is_here_is_refused() {
    let params = Params::regtest();
    let mut spender = Spender::new(&params);
    spender.extend(102);
    let folder = tempfile::tempdir().unwrap();
    let core = open_core(folder.path());
    feed(&core, &spender.blocks);
    let last = spender.blocks.last().unwrap();
    let mut repeated = last.clone();
    repeated.txdata.push(last.txdata.last().unwrap().clone());
    assert_eq!(repeated.block_hash(), last.block_hash());
    let refused = core.submit_block(repeated).unwrap_err();
    assert!(matches!(refused, BlockRejected::Mutated { cause: BlockError::RepeatedTransactions, .. }), "{refused}");
    assert_eq!(core.submit_block(last.clone()), Ok(BlockAccepted::Known));
    assert_eq!(core.tip().hash, last.block_hash());
}

#[test]
fn a_block_that_is_wrong_by_itself_says_nothing_of_its_header() {
    let params = Params::regtest();
    let folder = tempfile::tempdir().unwrap();
    let core = open_core(folder.path());
    let good = forge_chain(&params, Place::genesis(&params), 3);
    feed(&core, &good[..1]);
    let mut empty = good[1].clone();
    empty.txdata.clear();
    empty.header.merkle_root = TxMerkleNode::all_zeros();
    let mut two = good[1].clone();
    two.txdata.push(good[2].txdata[0].clone());
    two.header.merkle_root = two.compute_merkle_root().unwrap();
    for (wrong, expected) in [(empty, BlockError::Length), (two, BlockError::SecondCoinbase { index: 1 })] {
        let wrong = solve(wrong);
        let hash = wrong.block_hash();
        for known in [None, Some(BlockState::HeaderOnly)] {
            assert_eq!(core.entry(&hash).map(|entry| entry.state), known);
            let refused = core.submit_block(wrong.clone()).unwrap_err();
            assert_eq!(refused, BlockRejected::Invalid { hash, cause: expected.clone() });
            assert_eq!(core.entry(&hash).map(|entry| entry.state), known, "{refused}");
            core.accept_headers(&[wrong.header]).unwrap();
        }
    }
    feed(&core, &good[1..]);
    assert_eq!(core.tip().hash, good[2].block_hash());
}

#[test]
fn blocks_may_come_in_any_order_once_their_headers_are_known() {
    let params = Params::regtest();
    let blocks = forge_chain(&params, Place::genesis(&params), 20);
    let folder = tempfile::tempdir().unwrap();
    let core = open_core(folder.path());
    let headers: Vec<_> = blocks.iter().map(|block| block.header).collect();
    assert!(core.submit_block(blocks[5].clone()).is_err(), "its parent is unknown");
    assert_eq!(core.accept_headers(&headers).unwrap().new, 20);
    assert_eq!((core.tip().height, core.most_work_header().height), (0, 20));
    for block in blocks.iter().rev() {
        core.submit_block(block.clone()).unwrap();
    }
    assert_eq!(core.tip().height, 20);
}

#[test]
fn real_chains_are_accepted_and_survive_a_restart() {
    let Some(vectors) = vectors() else { return };
    for (file, skip, count) in [("kernel_206_blocks.hex", 0, 206), ("floresta_0_150.hex", 1, 150)] {
        let blocks: Vec<Block> = blocks_from_hex(&vectors.join("regtest").join(file)).into_iter().skip(skip).collect();
        assert_eq!(blocks.len(), count, "{file}");
        let folder = tempfile::tempdir().unwrap();
        let core = open_core(folder.path());
        feed(&core, &blocks);
        let mut ledger = Ledger::new(&Params::regtest());
        blocks.iter().for_each(|block| ledger.connect(block));
        assert_is_ledger(&core, &ledger);
        drop(core);
        assert_is_ledger(&open_core(folder.path()), &ledger);
        println!("{file}: {count} blocks");
    }
}

#[test]
fn a_second_process_on_the_same_folder_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open_store(folder.path(), None);
    let options = leyden_node::store::StoreOptions::new(folder.path());
    let second = leyden_node::store::Store::open(options, &Params::regtest().genesis);
    assert!(matches!(second.unwrap_err(), NodeError::Store(StoreError::Locked { .. })));
}

#[test]
fn a_database_of_another_network_or_a_newer_program_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_store(folder.path(), None));
    let open = |params: Params| {
        leyden_node::store::Store::open(leyden_node::store::StoreOptions::new(folder.path()), &params.genesis)
    };
    assert!(matches!(open(Params::mainnet()).unwrap_err(), NodeError::Store(StoreError::OtherNetwork { .. })));
    {
        let mut options = rocksdb::Options::default();
        options.create_missing_column_families(true);
        let names = rocksdb::DB::list_cf(&options, folder.path()).unwrap();
        let names = names.iter().map(String::as_str).chain(["what_comes_later"]);
        let db = rocksdb::DB::open_cf(&options, folder.path(), names).unwrap();
        db.put_cf(db.cf_handle("meta").unwrap(), "format", (FORMAT + 1).to_le_bytes()).unwrap();
    }
    let error = open(Params::regtest()).unwrap_err();
    let newer = |error: &NodeError| matches!(error, NodeError::Store(StoreError::Newer { found, supported, .. }) if (*found, *supported) == (FORMAT + 1, FORMAT));
    assert!(newer(&error), "{error}");
}

#[test]
fn a_corrupt_database_is_named_as_such() {
    let params = Params::regtest();
    let folder = tempfile::tempdir().unwrap();
    let core = open_core(folder.path());
    feed(&core, &forge_chain(&params, Place::genesis(&params), 5));
    drop(core);
    let current = std::fs::read_to_string(folder.path().join("CURRENT")).unwrap();
    let manifest = folder.path().join(current.trim());
    let mut bytes = std::fs::read(&manifest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&manifest, bytes).unwrap();
    let opened = leyden_node::store::Store::open(leyden_node::store::StoreOptions::new(folder.path()), &params.genesis);
    let error = opened.unwrap_err();
    assert!(matches!(error, NodeError::Store(StoreError::Corrupt { .. })), "{error}");
}

#[test]
fn headers_that_lead_nowhere_are_forgotten_with_the_next_start() {
    let params = Params::regtest();
    let genesis = Place::genesis(&params);
    let headers = |blocks: &[Block]| blocks.iter().map(|block| block.header).collect::<Vec<_>>();
    let folder = tempfile::tempdir().unwrap();
    let core = open_core(folder.path());
    let active = forge_chain(&params, genesis, 20);
    feed(&core, &active);
    // Behind ours; ahead of ours, with its blocks still to come; a branch of which a block is stored.
    let (behind, ahead, aside) =
        (forge_chain(&params, genesis, 19), forge_chain(&params, genesis, 25), forge_chain(&params, genesis, 6));
    for branch in [&behind, &ahead, &aside] {
        core.accept_headers(&headers(branch)).unwrap();
    }
    feed(&core, &aside[3..4]);
    let is_known = |core: &Core, block: &Block| core.entry(&block.block_hash()).is_some();
    drop(core);
    let core = open_core(folder.path());
    assert!(behind.iter().all(|block| !is_known(&core, block)));
    assert!(active.iter().chain(&ahead).chain(&aside[..4]).all(|block| is_known(&core, block)));
    assert!(!is_known(&core, &aside[4]));
    let rows = core.store.headers(leyden_node::store::Order::LowestFirst).count();
    assert_eq!(rows, 1 + active.len() + ahead.len() + 4);
    // Whoever goes on with one of them sends it again.
    core.accept_headers(&headers(&behind)).unwrap();
    feed(&core, &ahead);
    assert_eq!(core.tip().height, 25);
}

#[test]
fn scripts_below_an_assumed_block_are_not_checked_and_everything_else_is() {
    let params = Params::regtest();
    let mut blocks = forge_chain(&params, Place::genesis(&params), 101);
    // Its witness does not open the output.
    let mut forged = spend(&[coinbase_of(&blocks[0])], vec![open_output(4_999_000_000)]);
    forged.input[0].witness = bitcoin::Witness::from_slice(&[&[0x00u8][..]]);
    blocks.push(forge(&params, Place::of(&blocks[100], 101), vec![forged]));
    // Two weeks of ten-minute blocks are 2016.
    let after = forge_chain(&params, Place::of(&blocks[101], 102), 2_020);
    let headers: Vec<_> = blocks.iter().chain(&after).map(|block| block.header).collect();

    let try_with = |assumed: Option<bitcoin::BlockHash>, headers: &[bitcoin::block::Header]| {
        let folder = tempfile::tempdir().unwrap();
        let core = open_core(folder.path());
        if let Some(hash) = assumed {
            core.assume_valid(hash);
        }
        for part in headers.chunks(2_000) {
            core.accept_headers(part).unwrap();
        }
        for block in &blocks[..101] {
            core.submit_block(block.clone()).unwrap();
        }
        core.submit_block(blocks[101].clone()).is_ok()
    };
    let named = Some(after[0].block_hash());
    assert!(!try_with(None, &headers), "nobody vouches for it");
    assert!(try_with(named, &headers));
    assert!(!try_with(named, &headers[..1_000]), "too little lies on top");
    assert!(!try_with(Some(blocks[100].block_hash()), &headers), "the named block is below");
    assert!(!try_with(named, &headers[..102]), "the named block is not known");

    // A coin that does not exist is no script.
    let absent = spend(&[coinbase_of(&after[0])], vec![open_output(1)]);
    let worse = forge(&params, Place::of(&blocks[100], 101), vec![absent]);
    let on_top = forge_chain(&params, Place::of(&worse, 102), 2_020);
    let folder = tempfile::tempdir().unwrap();
    let core = open_core(folder.path());
    core.assume_valid(on_top[0].block_hash());
    let headers: Vec<_> = blocks[..101].iter().chain([&worse]).chain(&on_top).map(|block| block.header).collect();
    for part in headers.chunks(2_000) {
        core.accept_headers(part).unwrap();
    }
    blocks[..101].iter().for_each(|block| assert!(core.submit_block(block.clone()).is_ok()));
    assert!(core.submit_block(worse).is_err());
}
