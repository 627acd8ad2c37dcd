//! The strangers, all on threads that are less urgent than the node's: their machines would be others than the node's, so
//! here they get little more than what it and its callers leave. What they did with that is counted.

use std::{
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use tokio::sync::oneshot;

use super::conduct::{Conduct, Stranger, Target};

/// How much less urgent: a tenth of the time that the node's threads get where these want all processors.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;
/// The threads' names begin with it.
const THREAD: &str = "stranger";

/// What the strangers have done so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    connections: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// What they have done in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deeds {
    pub connections: u64,
    pub messages: u64,
    pub bytes: u64,
    /// Processor time of their threads, in seconds; 0 where the system does not tell.
    pub cpu_seconds: f64,
}

/// Running strangers.
pub(super) struct Crowd {
    tally: Arc<Tally>,
    end: oneshot::Sender<()>,
    thread: thread::JoinHandle<io::Result<()>>,
}

impl Crowd {
    pub(super) fn start(count: usize, target: Target) -> io::Result<Self> {
        let (end, ended) = oneshot::channel();
        let tally = Arc::new(Tally::default());
        let shared = Arc::clone(&tally);
        let thread = thread::Builder::new().name(THREAD.into()).spawn(move || {
            #[cfg(target_os = "linux")]
            rustix::process::nice(NICE)?;
            let runtime = tokio::runtime::Builder::new_multi_thread().thread_name(THREAD).enable_all().build()?;
            runtime.block_on(async {
                for conduct in Conduct::ALL.into_iter().cycle().take(count) {
                    tokio::spawn(Stranger::new(target, Arc::clone(&shared)).go_on(conduct));
                }
                let _ = ended.await;
            });
            runtime.shutdown_background();
            Ok(())
        })?;
        Ok(Self { tally, end, thread })
    }

    /// Ends them.
    pub(super) fn stop(self) -> io::Result<Deeds> {
        let cpu_seconds = cpu_seconds();
        let _ = self.end.send(());
        self.thread.join().map_err(|_| io::Error::other("the strangers' thread ended early"))??;
        Ok(Deeds {
            connections: self.tally.connections.load(Ordering::Relaxed),
            messages: self.tally.messages.load(Ordering::Relaxed),
            bytes: self.tally.bytes.load(Ordering::Relaxed),
            cpu_seconds,
        })
    }
}

/// Of this process's threads that are the strangers'.
fn cpu_seconds() -> f64 {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return 0.0 };
    let stats = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats.filter(|stat| stat.contains(THREAD)).filter_map(|stat| super::super::payments::cpu_seconds_of(&stat)).sum()
}
