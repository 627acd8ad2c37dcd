//! The search over all nonces of one header, on as many threads as asked for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::job::{Found, Job};
use crate::kernel::{self, Kernel, NonceRange, Scalar};

/// Nonces that the calling thread tries before it starts others: on regtest a solution is found among the first few.
const PRELUDE: u32 = 1 << 10;
/// Nonces that a thread takes at a time; also how long a stop may take to be noticed (some milliseconds).
const RANGE: u32 = 1 << 16;
const ALL_NONCES: u64 = 1 << 32;

/// Searches all 2^32 nonces of `job` on `threads` threads (none counts as one) with the best kernel, and returns when
/// a solution is found, `stop` becomes true, or nothing is left. Blocks the calling thread, which takes part.
///
/// `hashes` grows by the number of headers tried, while the search runs: a hash rate is its difference over time.
pub fn search(job: &Job, threads: usize, stop: &AtomicBool, hashes: &AtomicU64) -> Option<Found> {
    // Regtest is solved by now and never waits for the choice of a kernel.
    match prelude(&Scalar, job, stop, hashes) {
        Prelude::Over(result) => result,
        Prelude::GoOn => search_rest(kernel::best(), job, threads, stop, hashes),
    }
}

/// [`search`] with a kernel of the caller's choice.
pub fn search_with(
    kernel: &dyn Kernel,
    job: &Job,
    threads: usize,
    stop: &AtomicBool,
    hashes: &AtomicU64,
) -> Option<Found> {
    match prelude(kernel, job, stop, hashes) {
        Prelude::Over(result) => result,
        Prelude::GoOn => search_rest(kernel, job, threads, stop, hashes),
    }
}

/// What the first nonces gave.
enum Prelude {
    Over(Option<Found>),
    GoOn,
}

fn prelude(kernel: &dyn Kernel, job: &Job, stop: &AtomicBool, hashes: &AtomicU64) -> Prelude {
    if stop.load(Ordering::Relaxed) {
        return Prelude::Over(None);
    }
    match scan(kernel, job, NonceRange { start: 0, count: PRELUDE }, hashes) {
        Some(found) => Prelude::Over(Some(found)),
        None => Prelude::GoOn,
    }
}

fn search_rest(kernel: &dyn Kernel, job: &Job, threads: usize, stop: &AtomicBool, hashes: &AtomicU64) -> Option<Found> {
    let cursor = AtomicU64::new(u64::from(PRELUDE));
    let done = AtomicBool::new(false);
    let result = Mutex::new(None);
    let work = || {
        while !stop.load(Ordering::Relaxed) && !done.load(Ordering::Relaxed) {
            let Some(range) = next_range(&cursor) else { return };
            if let Some(found) = scan(kernel, job, range, hashes) {
                done.store(true, Ordering::Relaxed);
                // A poisoned lock holds a complete value all the same: nothing is computed under it.
                let mut result = result.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                result.get_or_insert(found);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    result.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn next_range(cursor: &AtomicU64) -> Option<NonceRange> {
    let start = cursor.fetch_add(u64::from(RANGE), Ordering::Relaxed);
    let left = ALL_NONCES.checked_sub(start).filter(|left| *left > 0)?;
    let count = left.min(u64::from(RANGE));
    Some(NonceRange { start: u32::try_from(start).ok()?, count: u32::try_from(count).ok()? })
}

fn scan(kernel: &dyn Kernel, job: &Job, range: NonceRange, hashes: &AtomicU64) -> Option<Found> {
    let found = kernel.scan(job, range);
    let tried = found.map_or(range.count, |found| found.nonce.wrapping_sub(range.start).saturating_add(1));
    hashes.fetch_add(u64::from(tried), Ordering::Relaxed);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Network;
    use bitcoin::Target;
    use bitcoin::constants::genesis_block;
    use std::time::Duration;

    fn target_with_leading_zero_bits(bits: u32) -> Target {
        let mut bytes = [0xff; 32];
        for bit in 0..bits as usize {
            bytes[bit / 8] &= !(0x80 >> (bit % 8));
        }
        Target::from_be_bytes(bytes)
    }

    #[test]
    fn a_regtest_header_is_solved_at_once() {
        let header = genesis_block(Network::Regtest).header;
        let (stop, hashes) = (AtomicBool::new(false), AtomicU64::new(0));
        let found = search(&Job::new(&header), 8, &stop, &hashes).expect("one of two hashes will do");
        assert!(bitcoin::block::Header { nonce: found.nonce, ..header }.validate_pow(header.target()).is_ok());
        assert!(hashes.load(Ordering::Relaxed) <= u64::from(PRELUDE));
    }

    #[test]
    fn several_threads_find_a_harder_solution() {
        let header = genesis_block(Network::Regtest).header;
        let target = target_with_leading_zero_bits(17);
        let (stop, hashes) = (AtomicBool::new(false), AtomicU64::new(0));
        let found = search(&Job::with_target(&header, target), 4, &stop, &hashes).expect("2^32 nonces hold some");
        assert!(target.is_met_by(found.hash));
        assert!(hashes.load(Ordering::Relaxed) > 0);
    }

    #[test]
    fn a_stop_ends_a_hopeless_search() {
        let job = Job::with_target(&genesis_block(Network::Regtest).header, Target::ZERO);
        let (stop, hashes) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let search = scope.spawn(|| search(&job, 2, &stop, &hashes));
            while hashes.load(Ordering::Relaxed) <= u64::from(PRELUDE) {
                std::thread::sleep(Duration::from_millis(1));
            }
            stop.store(true, Ordering::Relaxed);
            let by_then = hashes.load(Ordering::Relaxed);
            assert_eq!(search.join().expect("the search does not panic"), None);
            // Each of the two threads ends the range that it is at, a few milliseconds' work, and takes no other.
            assert!(hashes.load(Ordering::Relaxed) <= by_then + 2 * u64::from(RANGE));
        });
    }

    #[test]
    fn the_ranges_cover_every_nonce_once() {
        let cursor = AtomicU64::new(ALL_NONCES - u64::from(RANGE) - 5);
        assert_eq!(next_range(&cursor), Some(NonceRange { start: u32::MAX - RANGE - 4, count: RANGE }));
        assert_eq!(next_range(&cursor), Some(NonceRange { start: u32::MAX - 4, count: 5 }));
        assert_eq!(next_range(&cursor), None);
    }
}
