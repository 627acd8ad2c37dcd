//! Finding blocks: some on demand, or one after another until told to stop.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bitcoin::{BlockHash, ScriptBuf};
use leyden_mining::{Job, search};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, BlockAccepted, ChainEvent};
use crate::core::Core;
use crate::error::{BlockRejected, NodeError};
use crate::sync::{lock, read};

/// How often a block in work takes in what has come into the mempool.
const REFRESH: Duration = Duration::from_secs(10);
/// A block in work takes a fresh time after so long in any case: the next targets depend on it.
const STALE: Duration = Duration::from_secs(60);
/// How often a clock that is behind the chain is looked at, and how often that is said.
const CLOCK_INTERVAL: Duration = Duration::from_millis(500);
const WARN_INTERVAL: Duration = Duration::from_secs(60);
/// The hash rate is an average over so many seconds.
const RATE_WINDOW: usize = 10;

/// Mines one block on top of the tip, on `threads` threads. Blocks its thread until it is found or `stop` is set.
pub fn mine_one(core: &Core, script: &ScriptBuf, threads: usize, stop: &AtomicBool) -> Result<BlockHash, NodeError> {
    'template: loop {
        let mut template = core.template(script.clone(), rand::random())?;
        let found = loop {
            match search(&Job::new(&template.block.header), threads, stop, &core.counters.hashes) {
                Some(found) => break found,
                None if stop.load(Ordering::Relaxed) => return Err(NodeError::SearchStopped),
                None if !core.roll_template(&mut template)? => continue 'template,
                None => {}
            }
        };
        template.block.header.nonce = found.nonce;
        match core.submit_block(template.block) {
            Ok(BlockAccepted::Stored { .. } | BlockAccepted::Known) => {
                core.counters.note_found();
                *lock(&core.found_tip) = Some((found.hash, Instant::now()));
                return Ok(found.hash);
            }
            Err(BlockRejected::Node(error)) => return Err(error),
            // A clock that went back while it was mined makes its time invalid; anything else would be a bug.
            Err(BlockRejected::Header { cause, .. }) if cause.may_pass_later() => {
                tracing::warn!(%cause, "a block that was found here was refused; another one is looked for");
            }
            Err(error) => return Err(NodeError::InvalidTemplate(Box::new(error))),
        }
    }
}

/// Sets a flag when it is dropped: so a search ends when nobody waits for it any longer.
pub struct StopOnDrop(pub Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The mining that goes on in the background.
pub struct Miner {
    script: ScriptBuf,
    threads: usize,
    cancel: CancellationToken,
    meter: Arc<Meter>,
    watcher: tokio::task::JoinHandle<()>,
    worker: tokio::task::JoinHandle<()>,
}

/// The node's rate while it mines in the background.
#[derive(Default)]
struct Meter {
    samples: Mutex<VecDeque<(Instant, u64)>>,
}

impl Meter {
    fn sample(&self, hashes: u64) {
        let mut samples = lock(&self.samples);
        samples.push_back((Instant::now(), hashes));
        if samples.len() > RATE_WINDOW {
            samples.pop_front();
        }
    }

    fn rate(&self) -> f64 {
        let samples = lock(&self.samples);
        let (Some((start, first)), Some((end, last))) = (samples.front(), samples.back()) else { return 0.0 };
        let seconds = end.duration_since(*start).as_secs_f64();
        if seconds <= 0.0 { 0.0 } else { last.saturating_sub(*first) as f64 / seconds }
    }
}

impl Miner {
    /// Starts to mine to `script` on `threads` threads. Inside a tokio runtime.
    pub fn start(core: Arc<Core>, script: ScriptBuf, threads: usize) -> Self {
        let cancel = core.shutdown.child_token();
        let meter = Arc::new(Meter::default());
        // Ends the search for the block in work; the worker then starts on a new one.
        let restart = Arc::new(AtomicBool::new(false));
        let watcher = tokio::spawn(watch(Arc::clone(&core), cancel.clone(), Arc::clone(&restart), Arc::clone(&meter)));
        let worker = {
            let (cancel, script) = (cancel.clone(), script.clone());
            tokio::task::spawn_blocking(move || work(&core, &script, threads, &cancel, &restart))
        };
        Self { script, threads, cancel, meter, watcher, worker }
    }

    /// The script that gets the rewards.
    pub fn script(&self) -> &ScriptBuf {
        &self.script
    }

    /// How many threads search.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Headers tried per second, lately.
    pub fn hash_rate(&self) -> f64 {
        self.meter.rate()
    }

    /// Ends the search and waits for its threads.
    pub async fn stop(self) {
        self.cancel.cancel();
        // Neither task is ever aborted, and a panic of theirs has been printed.
        let _ = self.watcher.await;
        let _ = self.worker.await;
    }
}

fn work(core: &Core, script: &ScriptBuf, threads: usize, cancel: &CancellationToken, restart: &AtomicBool) {
    let mut warned: Option<Instant> = None;
    while !cancel.is_cancelled() {
        restart.store(false, Ordering::Relaxed);
        match mine_one(core, script, threads, restart) {
            Ok(hash) => tracing::info!(%hash, height = core.tip().height, "mined a block"),
            Err(NodeError::SearchStopped) => {}
            // The clock may be set, or reach the chain.
            Err(error @ NodeError::ClockBehindChain { .. }) => {
                if warned.is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
                    tracing::warn!(%error, "nothing is mined");
                    warned = Some(Instant::now());
                }
                std::thread::sleep(CLOCK_INTERVAL);
            }
            Err(error) => {
                tracing::error!(%error, "mining stopped");
                return;
            }
        }
    }
}

async fn watch(core: Arc<Core>, cancel: CancellationToken, restart: Arc<AtomicBool>, meter: Arc<Meter>) {
    let mut events = core.events();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut refreshed = (Instant::now(), 0);
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            event = events.recv() => match event {
                Ok(ChainEvent::Tip(_)) | Err(RecvError::Lagged(_)) => restart.store(true, Ordering::Relaxed),
                Ok(ChainEvent::Transaction { .. } | ChainEvent::TransactionRemoved { .. }) => {}
                Err(RecvError::Closed) => break,
            },
            _ = second.tick() => {
                meter.sample(core.counters.hashes.load(Ordering::Relaxed));
                let transactions = read(&core.mempool).len();
                let age = refreshed.0.elapsed();
                if age >= STALE || (age >= REFRESH && transactions != refreshed.1) {
                    refreshed = (Instant::now(), transactions);
                    restart.store(true, Ordering::Relaxed);
                }
            }
        }
    }
    restart.store(true, Ordering::Relaxed);
}
