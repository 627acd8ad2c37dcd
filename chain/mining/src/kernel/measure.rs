//! How fast the kernels are here, how fast they could be at best, and whether all cores are as fast as one.
//!
//! Other programs, the clock and the neighbours of a virtual machine only ever slow a measurement down. So everything
//! is measured in many short slices, in turn with what it is compared with, and the fastest slice of each counts.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use bitcoin::Target;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};

use super::{Kernel, NonceRange};
use crate::job::Job;

/// Hashes of a slice: about a millisecond, less than a scheduler's turn, and long enough to be warm for most of it.
const SLICE: u32 = 1 << 14;
/// How long one and then all threads search before they change again.
const SPELL: Duration = Duration::from_millis(40);

/// What one thread reaches with a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// The kernel's name.
    pub name: &'static str,
    /// Hashes per second of one thread.
    pub hashes_per_second: f64,
    /// Hashes per second if no instruction had to wait for another; see [`Kernel::run_stream`].
    pub limit: Option<f64>,
}

/// Measures `kernels` for about `time` altogether, on the calling thread.
pub fn measure(kernels: &[Box<dyn Kernel>], time: Duration) -> Vec<Measurement> {
    let job = hopeless_job();
    let mut measurements: Vec<_> =
        kernels.iter().map(|kernel| Measurement { name: kernel.name(), hashes_per_second: 0.0, limit: None }).collect();
    let started = Instant::now();
    while started.elapsed() < time {
        for (kernel, measurement) in kernels.iter().zip(&mut measurements) {
            let rate = scan_rate(kernel.as_ref(), &job, SLICE);
            measurement.hashes_per_second = measurement.hashes_per_second.max(rate);
            if let Some(rate) = stream_rate(kernel.as_ref()) {
                measurement.limit = Some(measurement.limit.map_or(rate, |limit| limit.max(rate)));
            }
        }
    }
    measurements
}

/// What a thread reaches alone, and what it reaches while others search too.
#[derive(Clone, Copy, Debug)]
pub struct Together {
    /// Hashes per second of one thread while the others rest.
    pub alone: f64,
    /// Hashes per second of a thread, on average, while all search.
    pub together: f64,
}

/// Lets one thread search and then `threads` at once (none counts as one), in turn, for about `time` altogether.
pub fn together(kernel: &dyn Kernel, threads: usize, time: Duration) -> Together {
    let threads = threads.max(1);
    let job = hopeless_job();
    let spells = (time.as_millis() / (2 * SPELL.as_millis())).max(1);
    let barrier = Barrier::new(threads);
    let search = |first: bool| {
        let mut fastest = Together { alone: 0.0, together: 0.0 };
        for _ in 0..spells {
            barrier.wait();
            if first {
                fastest.alone = fastest.alone.max(fastest_of_spell(kernel, &job));
            }
            barrier.wait();
            fastest.together = fastest.together.max(fastest_of_spell(kernel, &job));
        }
        fastest
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| search(false).together)).collect();
        let first = search(true);
        // A thread that panicked has printed why; it counts as one that did nothing.
        let others: f64 = others.into_iter().filter_map(|thread| thread.join().ok()).sum();
        Together { alone: first.alone, together: (first.together + others) / threads as f64 }
    })
}

fn fastest_of_spell(kernel: &dyn Kernel, job: &Job) -> f64 {
    let started = Instant::now();
    let mut fastest = 0f64;
    while started.elapsed() < SPELL {
        fastest = fastest.max(scan_rate(kernel, job, SLICE));
    }
    fastest
}

/// Cycles of the processor per second now, while it does nothing else: additions that wait for one another take one
/// each. `None` where that is not known.
pub fn cycles_per_second(time: Duration) -> Option<f64> {
    let started = Instant::now();
    let mut fastest = None;
    while started.elapsed() < time {
        let rate = addition_rate()?;
        fastest = Some(fastest.map_or(rate, |fastest: f64| fastest.max(rate)));
    }
    fastest
}

#[cfg(target_arch = "x86_64")]
fn addition_rate() -> Option<f64> {
    const ADDITIONS_OF_A_TURN: u32 = 100;
    const TURNS: u32 = 2_000;
    let started = Instant::now();
    // SAFETY: additions touch nothing but the registers named.
    unsafe {
        std::arch::asm!(
            "2:",
            ".rept 100",
            "add {sum}, {one}",
            ".endr",
            "dec {turns}",
            "jnz 2b",
            sum = inout(reg) 0u64 => _,
            one = in(reg) 1u64,
            turns = inout(reg) u64::from(TURNS) => _,
            options(nomem, nostack),
        );
    }
    Some(rate(ADDITIONS_OF_A_TURN * TURNS, started))
}

#[cfg(not(target_arch = "x86_64"))]
fn addition_rate() -> Option<f64> {
    None
}

/// The hashes per second of a search of this many nonces.
pub(super) fn scan_rate(kernel: &dyn Kernel, job: &Job, count: u32) -> f64 {
    let started = Instant::now();
    kernel.scan(job, NonceRange { start: 0, count });
    rate(count, started)
}

fn stream_rate(kernel: &dyn Kernel) -> Option<f64> {
    let started = Instant::now();
    kernel.run_stream(SLICE).then(|| rate(SLICE, started))
}

fn rate(count: u32, started: Instant) -> f64 {
    f64::from(count) / started.elapsed().as_secs_f64().max(f64::MIN_POSITIVE)
}

/// A header that no nonce solves.
pub(super) fn hopeless_job() -> Job {
    let header = Header {
        version: Version::TWO,
        prev_blockhash: BlockHash::from_byte_array([0x5a; 32]),
        merkle_root: TxMerkleNode::from_byte_array([0xa5; 32]),
        time: 1_231_006_505,
        bits: CompactTarget::from_consensus(0x1d00_ffff),
        nonce: 0,
    };
    Job::with_target(&header, Target::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{available, best};

    #[test]
    fn every_kernel_is_measured_and_all_but_the_reference_against_their_limit() {
        let measurements = measure(available(), Duration::from_millis(1));
        assert_eq!(measurements.len(), available().len());
        for measurement in measurements {
            assert!(measurement.hashes_per_second > 0.0, "{measurement:?}");
            assert_eq!(measurement.limit.is_some(), measurement.name != "scalar", "{measurement:?}");
        }
    }

    #[test]
    fn one_thread_and_several_are_measured() {
        for threads in [0, 1, 3] {
            let measured = together(best(), threads, Duration::from_millis(1));
            assert!(measured.alone > 0.0 && measured.together > 0.0, "{measured:?}");
        }
    }
}
