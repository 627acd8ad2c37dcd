//! Kill -9 of a real node, at random moments while it synchronises and while its chain is reorganised: it always starts
//! again, at once, to the state of exactly one tip, and goes on from there.
//!
//! ```text
//!   this process: a node with the chain ──P2P──► a process of its own: the node that is killed
//!        │ next branch wins                         │ "started HEIGHT"      ▲
//!        └── waits a random part of the time that it takes, kills, looks at the database, starts it again
//! ```
//!
//! `LEYDEN_KILLS` asks for more kills (30 are made), `LEYDEN_SEED` for the same choices again.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bitcoin::hashes::sha256d;
use bitcoin::{Block, BlockHash};
use common::*;
use leyden_consensus::Params;
use leyden_node::store::UnflushedLimits;
use leyden_node::{Clock, Node, NodeConfig};

const FOLDER: &str = "LEYDEN_TEST_KILLED_FOLDER";
const PEER: &str = "LEYDEN_TEST_KILLED_PEER";
/// Half of them during the first synchronisation, half during reorganisations.
const KILLS: u64 = 30;
/// Blocks that both branches share.
const SHARED: u32 = 320;
/// Blocks that the first reorganisation takes off; each further one a block more.
const DEPTH: u32 = 60;
/// The first rounds make the branches and show how long a reorganisation takes.
const UNDISTURBED: u64 = 3;
/// What a restart takes on a machine that does nothing else is some tens of milliseconds, and must be under five seconds. It
/// is printed; what is asserted holds under any load, and would not hold if anything were indexed again in a large chain.
const RESTART_UNDER_LOAD: Duration = Duration::from_secs(60);

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

fn config(folder: &Path) -> NodeConfig {
    let config = NodeConfig::new(Params::regtest(), folder);
    // Kills come before, in and after the writing of coins.
    let unflushed = UnflushedLimits { blocks: 40, ..UnflushedLimits::default() };
    NodeConfig { clock: Clock::manual(NOW), max_outbound: 0, unflushed, ..config }
}

/// The process that is killed. It does nothing unless the test below starts it with a folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follow_until_killed() {
    let (Some(folder), Ok(peer)) = (std::env::var_os(FOLDER), std::env::var(PEER)) else { return };
    let config = NodeConfig { connect: vec![peer.parse().unwrap()], ..config(Path::new(&folder)) };
    let node = Node::start(config).await.unwrap();
    let mut notices = node.subscribe(None).unwrap();
    println!("started {}", node.tip().hash);
    loop {
        println!("tip {}", node.tip().hash);
        notices.next().await.unwrap();
    }
}

/// A process that follows, and what it says.
struct Follower {
    process: Child,
    lines: std::sync::mpsc::Receiver<String>,
    /// From its start to its first answer.
    took: Duration,
}

impl Follower {
    fn start(folder: &Path, peer: SocketAddr) -> Self {
        let begun = Instant::now();
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "follow_until_killed", "--nocapture"])
            .env(FOLDER, folder)
            .env(PEER, peer.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (told, lines) = std::sync::mpsc::channel();
        let output = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
        let mut follower = Self { process, lines, took: Duration::ZERO };
        follower.wait_for("started ");
        follower.took = begun.elapsed();
        follower
    }

    fn wait_for(&mut self, words: &str) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let line = self.lines.recv_timeout(PATIENCE).expect("the process says something, or has ended");
            if line.contains(words) {
                return;
            }
        }
        panic!("it never said \"{words}\"");
    }

    fn wait_for_tip(&mut self, hash: BlockHash) {
        self.wait_for(&format!("tip {hash}"));
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The hash of all coins at every block.
struct Coins(HashMap<BlockHash, sha256d::Hash>);

impl Coins {
    fn add(&mut self, ledger: &mut Ledger, blocks: &[Block]) {
        for block in blocks {
            ledger.connect(block);
            self.0.insert(ledger.tip(), ledger.hash());
        }
    }

    /// What a killed process left is the state of one tip. Returns its height.
    fn assert_one_tip(&self, folder: &Path) -> u32 {
        let core = open_core(&folder.join("chain"));
        let (tip, utxo) = core.store.utxo_set().unwrap();
        assert_eq!(self.0.get(&tip), Some(&utxo.hash), "the coins are those of the tip");
        core.tip().height
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_starts_again_at_once_and_goes_on() {
    let kills = setting("LEYDEN_KILLS").unwrap_or(KILLS);
    let seed = setting("LEYDEN_SEED").unwrap_or_else(rand::random);
    println!("LEYDEN_SEED={seed} LEYDEN_KILLS={kills}");
    let mut random = seed;
    let mut part = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 11) as f64 / (1u64 << 53) as f64
    };

    let params = Params::regtest();
    let mut shared = Spender::new(&params);
    shared.extend(SHARED);
    let mut ledger = Ledger::new(&params);
    let mut coins = Coins(HashMap::from([(ledger.tip(), ledger.hash())]));
    coins.add(&mut ledger, &shared.blocks);

    let ours = tempfile::tempdir().unwrap();
    let source = Node::start(NodeConfig {
        listen: Some("127.0.0.1:0".parse().unwrap()),
        sync_writes: false,
        ..config(ours.path())
    })
    .await
    .unwrap();
    for block in &shared.blocks {
        source.submit_block(block.clone()).await.unwrap();
    }
    let peer = source.local_address().unwrap();
    let mut restarts: Vec<Duration> = Vec::new();

    // How long it takes, undisturbed.
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::start(folder.path(), peer);
    let begun = Instant::now();
    follower.wait_for_tip(source.tip().hash);
    let whole = begun.elapsed();
    follower.kill();

    let mut folder = tempfile::tempdir().unwrap();
    let mut heights = Vec::new();
    for _ in 0..kills / 2 {
        let follower = Follower::start(folder.path(), peer);
        restarts.push(follower.took);
        // Some come as far as the end; most are killed more than once on the way.
        tokio::time::sleep(whole.mul_f64(part() * 0.5)).await;
        follower.kill();
        let height = coins.assert_one_tip(folder.path());
        heights.push(height);
        if height == SHARED {
            folder = tempfile::tempdir().unwrap();
        }
    }
    println!("killed while it synchronised {SHARED} blocks in {whole:?}: heights {heights:?}");
    assert!(heights.iter().any(|height| (1..SHARED).contains(height)), "no kill came on the way");
    let mut follower = Follower::start(folder.path(), peer);
    restarts.push(follower.took);
    follower.wait_for_tip(source.tip().hash);

    let mut branches = [(shared.branch(1), ledger.clone()), (shared.branch(2), ledger)];
    let mut took = Duration::ZERO;
    let mut tips = (0u32, 0u32);
    for round in 0..kills - kills / 2 + UNDISTURBED {
        let (branch, ledger) = &mut branches[usize::try_from(round % 2).unwrap()];
        // One block more than the other branch has: its last one decides.
        let (from, length) = (branch.blocks.len(), DEPTH + u32::try_from(round).unwrap());
        branch.extend(length - u32::try_from(from).unwrap());
        coins.add(ledger, &branch.blocks[from..]);
        let before = source.tip().hash;
        for block in &branch.blocks[from..] {
            source.submit_block(block.clone()).await.unwrap();
        }
        let begun = Instant::now();
        if round < UNDISTURBED {
            follower.wait_for_tip(source.tip().hash);
            took = begun.elapsed();
            continue;
        }
        tokio::time::sleep(took.mul_f64(part() * 1.2)).await;
        follower.kill();
        coins.assert_one_tip(folder.path());
        let core = open_core(&folder.path().join("chain"));
        let found = core.tip().hash;
        assert!(found == before || found == source.tip().hash, "a reorganisation is one step");
        if found == before {
            tips.0 += 1;
        } else {
            tips.1 += 1;
        }
        drop(core);
        follower = Follower::start(folder.path(), peer);
        restarts.push(follower.took);
        follower.wait_for_tip(source.tip().hash);
    }
    follower.kill();
    coins.assert_one_tip(folder.path());
    println!(
        "killed during reorganisations ({took:?} undisturbed): {} found the old tip, {} a new one",
        tips.0, tips.1
    );
    restarts.sort_unstable();
    let (median, worst) = (restarts[restarts.len() / 2], restarts[restarts.len() - 1]);
    println!("{} restarts: median {median:?}, worst {worst:?}, without an index built again", restarts.len());
    assert!(worst < RESTART_UNDER_LOAD, "{worst:?}");
    source.shutdown().await;
}
