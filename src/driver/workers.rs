//! The cores that help with a large commitment: its HTLCs are signed and checked at the same time.
//!
//! ```text
//!   a peer's task ──► pieces ──┬── itself
//!                              └── threads of the pool, one for each other core
//! ```
//!
//! The task takes pieces too, so nothing is left undone while the pool is busy with another channel's. It returns when each
//! helper that it called has come, which may stand behind those of other channels: at most the time of their pieces.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use leyden_channels::workers::{OneThread, Workers};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tracing::warn;

/// Cores that help one channel at most: more would only wait for the rest of its turn.
const MOST_HELPERS: usize = 7;

/// A pool of threads, and whoever calls. Without other cores, or without threads, the caller does it all.
pub(crate) struct Cores(Option<ThreadPool>);

impl Cores {
    /// For all cores of this machine.
    pub(crate) fn start() -> Self {
        let helpers = thread::available_parallelism().map_or(1, NonZeroUsize::get).saturating_sub(1).min(MOST_HELPERS);
        if helpers == 0 {
            return Self(None);
        }
        let pool = ThreadPoolBuilder::new().num_threads(helpers).thread_name(|_| "signatures".to_owned()).build();
        Self(pool.inspect_err(|error| warn!(%error, "commitments are signed on one core alone")).ok())
    }
}

impl Workers for Cores {
    fn share(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        let Some(pool) = &self.0 else { return OneThread.share(pieces, piece) };
        let next = AtomicUsize::new(0);
        let take_all = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= pieces {
                    return;
                }
                piece(index);
            }
        };
        pool.in_place_scope(|scope| {
            for _ in 0..pool.current_num_threads().min(pieces.saturating_sub(1)) {
                scope.spawn(|_| take_all());
            }
            take_all();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once_before_the_call_returns() {
        let cores = Cores(Some(ThreadPoolBuilder::new().num_threads(3).build().unwrap()));
        for pieces in [0, 1, 2, 3, 100] {
            let done: Vec<AtomicUsize> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
            cores.share(pieces, &|index| {
                done[index].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|times| times.load(Ordering::Relaxed) == 1));
        }
    }
}
