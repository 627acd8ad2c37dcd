//! The process may die at any moment: what is found afterwards is the state of exactly one tip.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bitcoin::hashes::sha256d;
use bitcoin::{Block, BlockHash};
use common::*;
use leyden_consensus::Params;
use leyden_node::backend::Backend;
use leyden_node::core::Core;
use leyden_node::store::{StoreOptions, UnflushedLimits, WriteHook, WritePoint};
use leyden_node::{BlockRejected, MempoolPolicy, NodeError};

/// Blocks in the order in which they arrive: a chain, then a longer fork, then the first chain overtakes again.
fn story() -> (Vec<Block>, HashMap<BlockHash, sha256d::Hash>) {
    let params = Params::regtest();
    let mut common = Spender::new(&params);
    common.extend(103);
    let (mut one, mut other) = (common.branch(1), common.branch(2));
    one.extend(4);
    other.extend(6);
    let first = one.blocks.clone();
    one.extend(4);

    let mut hashes = HashMap::new();
    for branch in [&one.blocks, &other.blocks] {
        let mut ledger = Ledger::new(&params);
        hashes.insert(ledger.tip(), ledger.hash());
        for block in common.blocks.iter().chain(branch) {
            ledger.connect(block);
            hashes.insert(ledger.tip(), ledger.hash());
        }
    }
    let blocks = common.blocks.iter().chain(&first).chain(&other.blocks).chain(&one.blocks[4..]).cloned().collect();
    (blocks, hashes)
}

fn assert_one_tip(core: &Core, hashes: &HashMap<BlockHash, sha256d::Hash>) {
    let (tip, utxo) = core.store.utxo_set().unwrap();
    assert_eq!(tip, core.tip().hash);
    assert_eq!(hashes.get(&tip), Some(&utxo.hash), "the coins are those of the tip");
}

#[test]
fn a_write_that_fails_at_any_point_leaves_one_of_two_tips() {
    let [small, large] = BOTH_WAYS;
    let default = UnflushedLimits::default();
    assert_writes_may_fail(small, default, 1);
    // Some blocks' coins are written, those of the last ones are not.
    assert_writes_may_fail(small, UnflushedLimits { blocks: 3, ..default }, 6);
    // A large step writes five times as often.
    assert_writes_may_fail(large, default, 7);
}

/// Every so many writes one fails.
fn assert_writes_may_fail(step_bytes: usize, unflushed: UnflushedLimits, every: usize) {
    let (blocks, hashes) = story();
    let prefix = 100;
    let start = tempfile::tempdir().unwrap();
    {
        let core = open_core(start.path());
        blocks[..prefix].iter().for_each(|block| assert!(core.submit_block(block.clone()).is_ok()));
    }
    let mut died = 0;
    for fatal in (0..).step_by(every) {
        let folder = tempfile::tempdir().unwrap();
        copy(start.path(), folder.path());
        let writes = Arc::new(AtomicUsize::new(0));
        let hook: WriteHook = {
            let writes = Arc::clone(&writes);
            Arc::new(move |point: WritePoint| match writes.fetch_add(1, Ordering::Relaxed) == fatal {
                true => Err(format!("died at {point:?}")),
                false => Ok(()),
            })
        };
        let options =
            StoreOptions { sync: false, hook: Some(hook), step_bytes, unflushed, ..StoreOptions::new(folder.path()) };
        let failed = match try_open_core_of(open_store_as(options), MempoolPolicy::default()) {
            Ok(core) => {
                let failed = blocks[prefix..].iter().find_map(|block| match core.submit_block(block.clone()) {
                    Ok(_) => None,
                    Err(BlockRejected::Node(error)) => Some(error),
                    Err(error) => panic!("{error}"),
                });
                let is_halted = core.template(open_script(), 0).is_err();
                assert_eq!(is_halted, failed.is_some(), "nothing is done after a failed write");
                failed
            }
            Err(error) => Some(error),
        };
        let Some(error) = failed else { break };
        assert!(matches!(error, NodeError::Halted(_)), "{error}");
        died += 1;

        let core = open_core(folder.path());
        assert_one_tip(&core, &hashes);
        for block in &blocks {
            core.submit_block(block.clone()).unwrap();
        }
        assert_eq!(core.tip().hash, blocks.last().unwrap().block_hash());
        assert_one_tip(&core, &hashes);
    }
    assert!(died * every > 40, "{died} points of failure");
    println!("{died} points of failure");
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

const FOLDER: &str = "LEYDEN_TEST_CRASH_FOLDER";

/// The body of the process that is killed: feeds the story, from a file, to one fresh node after another. It does nothing
/// unless the test below starts it with a folder.
#[test]
fn feed_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let blocks = blocks_from_hex(&folder.join("story"));
    for number in 0.. {
        let core = open_core(&folder.join(format!("chain{number}")));
        for block in &blocks {
            core.submit_block(block.clone()).unwrap();
            // Else most of the time goes into making the database.
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

#[test]
fn a_killed_process_leaves_the_state_of_one_tip() {
    let (blocks, hashes) = story();
    let text: Vec<String> = blocks.iter().map(bitcoin::consensus::encode::serialize_hex).collect();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("story"), text.join("\n")).unwrap();
    let mut heights = Vec::new();
    for round in 0..20u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "feed_until_killed"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(50 + 9 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        // The last one is the one that it was at.
        for number in 0.. {
            let path = folder.path().join(format!("chain{number}"));
            if !path.exists() {
                break;
            }
            let core = open_core(&path);
            assert_one_tip(&core, &hashes);
            heights.push(core.tip().height);
            blocks.iter().for_each(|block| assert!(core.submit_block(block.clone()).is_ok()));
            assert_eq!(core.tip().hash, blocks.last().unwrap().block_hash());
            assert_one_tip(&core, &hashes);
            drop(core);
            std::fs::remove_dir_all(path).unwrap();
        }
    }
    println!("heights after the kills: {heights:?}");
}
