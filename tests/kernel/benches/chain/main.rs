//! `make bench-peers WHAT=chain`: one chain of full blocks, validated from an empty database by Leyden's node and by
//! Bitcoin Core's engine, each in a process of its own and with its own settings.
//!
//! Both read the blocks from the same file, one after the other as they would come from a peer, run all scripts, and have
//! written coins, undo data and blocks when they are done; Leyden also has its indexes then, and has synced every block.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "a measurement may panic")]

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use bitcoinkernel::prelude::*;
use bitcoinkernel::{ChainType, ChainstateManager, ContextBuilder};
use leyden_node::synthetic::{SyntheticChain, ValidatedChain, peak_memory, read_chain, validate_chain, write_chain};

/// How many full blocks, unless `LEYDEN_BENCH_BLOCKS` says.
const FULL_BLOCKS: u32 = 200;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, who @ ("ours" | "theirs"), file, folder] => {
            let ValidatedChain { tip, seconds } = match who {
                "ours" => validate_chain(Path::new(file), Path::new(folder)).expect("a valid chain"),
                _ => theirs(Path::new(file), folder),
            };
            println!("{tip} {seconds} {} {}", peak_memory(), processor_seconds());
        }
        _ => compare(),
    }
}

/// What one of them needed.
struct Measured {
    seconds: f64,
    peak: u64,
    processor: f64,
}

fn compare() {
    let full_blocks =
        env::var("LEYDEN_BENCH_BLOCKS").map_or(FULL_BLOCKS, |text| text.parse().expect("a number of blocks"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("blocks");
    println!("making a chain with {full_blocks} full blocks");
    let chain = write_chain(&file, full_blocks).expect("a chain");
    println!("{} blocks, {} inputs, {:.0} MB", chain.blocks, chain.inputs, chain.bytes as f64 / 1e6);
    let ours = measure("ours", &chain, &file, folder.path());
    let theirs = measure("theirs", &chain, &file, folder.path());
    println!("|  | seconds | blocks/s | inputs/s | processor seconds | peak memory |\n|---|---|---|---|---|---|");
    for (name, measured) in [("Leyden", &ours), ("Bitcoin Core's engine", &theirs)] {
        let Measured { seconds, peak, processor } = measured;
        println!(
            "| {name} | {seconds:.1} | {:.1} | {:.0} | {processor:.1} | {:.0} MB |",
            f64::from(chain.blocks) / seconds,
            chain.inputs as f64 / seconds,
            *peak as f64 / 1e6,
        );
    }
    println!("ratio: {:.2}", theirs.seconds / ours.seconds);
}

fn measure(who: &str, chain: &SyntheticChain, file: &Path, folder: &Path) -> Measured {
    let database = folder.join(who);
    std::fs::create_dir(&database).expect("a folder");
    let output = Command::new(env::current_exe().expect("this program"))
        .arg(who)
        .args([file, &database])
        .output()
        .expect("this program runs again");
    assert!(output.status.success(), "{who}: {}", String::from_utf8_lossy(&output.stderr));
    let line = String::from_utf8(output.stdout).expect("text");
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some(chain.tip.to_string().as_str()), "{who} have another tip");
    let mut number = || words.next().and_then(|word| word.parse::<f64>().ok()).expect("a number");
    Measured { seconds: number(), peak: number() as u64, processor: number() }
}

/// Bitcoin Core's engine with its default settings: its own cache of coins, a check thread for every core but this one.
fn theirs(file: &Path, folder: &str) -> ValidatedChain {
    bitcoinkernel::disable_logging();
    let context = ContextBuilder::new().chain_type(ChainType::Regtest).build().expect("a context");
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as i32 - 1;
    let manager = ChainstateManager::builder(&context, folder, &format!("{folder}/blocks"))
        .expect("settings")
        .worker_threads(threads)
        .build()
        .expect("the chain opens");
    manager.import_blocks().expect("nothing to import");
    let begun = Instant::now();
    for bytes in read_chain(file).expect("the file") {
        let block = bitcoinkernel::Block::new(&bytes.expect("a block's bytes")).expect("a block");
        assert!(manager.process_block(&block).is_new_block());
    }
    let tip = bitcoin::BlockHash::from_raw_hash(bitcoin::hashes::Hash::from_byte_array(
        manager.active_chain().tip().block_hash().to_bytes(),
    ));
    // Its coins go to the disk when it is closed.
    drop(manager);
    ValidatedChain { tip, seconds: begun.elapsed().as_secs_f64() }
}

/// Processor time of all threads; 0 where the system does not tell.
fn processor_seconds() -> f64 {
    /// What Linux counts in, whatever the machine.
    const TICKS_PER_SECOND: f64 = 100.0;
    let status = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name is in parentheses; user and system time are the 12th and 13th word behind it.
    let words: Vec<f64> =
        status.rsplit(')').next().unwrap_or("").split_whitespace().map(|word| word.parse().unwrap_or(0.0)).collect();
    words.get(11..13).map_or(0.0, |times| times.iter().sum::<f64>() / TICKS_PER_SECOND)
}
