//! Which kernel to use: the one that is fastest here and now, by a short measurement.
//!
//! What a processor can do does not tell what it does fastest: a 512-bit unit may be split in two, lower the clock or
//! lose to the SHA instructions. So every kernel that runs searches for a few milliseconds, once a process.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bitcoin::Target;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};

use super::{Kernel, NonceRange, Scalar};
use crate::job::Job;

/// Nonces of one slice of a measurement: far less than a millisecond, so that most slices run undisturbed.
const SLICE: u32 = 1 << 12;
/// Slices that each kernel is measured by when one is chosen.
const SLICES: u32 = 8;

/// Every kernel that this processor runs, the reference first.
pub fn available() -> &'static [Box<dyn Kernel>] {
    static AVAILABLE: OnceLock<Vec<Box<dyn Kernel>>> = OnceLock::new();
    AVAILABLE.get_or_init(|| {
        #[allow(unused_mut)]
        let mut kernels: Vec<Box<dyn Kernel>> = vec![Box::new(Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            use super::{Avx2, Avx512, ShaAvx512, ShaNi};
            let mut add = |kernel: Option<Box<dyn Kernel>>| kernels.extend(kernel);
            add(ShaNi::<1>::detect().map(|kernel| Box::new(kernel) as _));
            add(ShaNi::<2>::detect().map(|kernel| Box::new(kernel) as _));
            add(ShaNi::<4>::detect().map(|kernel| Box::new(kernel) as _));
            add(Avx2::detect().map(|kernel| Box::new(kernel) as _));
            add(Avx512::detect().map(|kernel| Box::new(kernel) as _));
            add(ShaAvx512::detect().map(|kernel| Box::new(kernel) as _));
        }
        kernels
    })
}

/// The fastest kernel on this processor, measured at the first call (some ten milliseconds).
pub fn best() -> &'static dyn Kernel {
    static BEST: OnceLock<&'static dyn Kernel> = OnceLock::new();
    *BEST.get_or_init(|| {
        let job = hopeless_job();
        let mut best: (&'static dyn Kernel, f64) = (&Scalar, 0.0);
        // In turn, so that a busy moment does not meet one kernel alone. The fastest slice counts: whatever else the
        // machine does only ever slows a kernel down.
        for turn in 0..SLICES {
            for kernel in available() {
                let rate = slice(kernel.as_ref(), &job, turn.wrapping_mul(SLICE));
                if rate > best.1 {
                    best = (kernel.as_ref(), rate);
                }
            }
        }
        best.0
    })
}

/// The hashes a second of one undisturbed thread with this kernel: the fastest slice of about `time`.
pub fn hash_rate(kernel: &dyn Kernel, time: Duration) -> f64 {
    let job = hopeless_job();
    let started = Instant::now();
    let (mut start, mut fastest) = (0u32, 0f64);
    loop {
        fastest = fastest.max(slice(kernel, &job, start));
        start = start.wrapping_add(SLICE);
        if started.elapsed() >= time {
            return fastest;
        }
    }
}

/// The hash rate of one slice. `start` is a multiple of the slice, so the range does not pass 2^32.
fn slice(kernel: &dyn Kernel, job: &Job, start: u32) -> f64 {
    let started = Instant::now();
    kernel.scan(job, NonceRange { start, count: SLICE });
    f64::from(SLICE) / started.elapsed().as_secs_f64().max(f64::MIN_POSITIVE)
}

/// A header that no nonce solves.
fn hopeless_job() -> Job {
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

    #[test]
    fn the_best_kernel_is_one_that_runs_here_and_not_the_slowest() {
        let rate = hash_rate(best(), Duration::from_millis(2));
        assert!(rate > 0.0);
        assert!(available().iter().any(|kernel| kernel.name() == best().name()));
    }
}
