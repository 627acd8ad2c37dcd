//! Prints the hash rate of every kernel that this processor runs, and of a search on some threads:
//! `cargo run --release -p leyden-mining --example hashrate [threads]`.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "a measurement may panic")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bitcoin::constants::genesis_block;
use bitcoin::{Network, Target};
use leyden_mining::kernel::{available, best, hash_rate};
use leyden_mining::{Job, search};

fn main() {
    for kernel in available() {
        println!("{:>10}  {:7.2} MH/s", kernel.name(), hash_rate(kernel.as_ref(), Duration::from_millis(300)) / 1e6);
    }
    println!("the choice here: {}", best().name());

    let threads = std::env::args().nth(1).and_then(|threads| threads.parse().ok()).unwrap_or(1);
    let job = Job::with_target(&genesis_block(Network::Bitcoin).header, Target::ZERO);
    let (stop, hashes) = (AtomicBool::new(false), AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| search(&job, threads, &stop, &hashes));
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
    });
    let rate = hashes.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    println!("a search on {threads} threads: {:.2} MH/s", rate / 1e6);
}
