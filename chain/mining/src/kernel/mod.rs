//! Kernels: loops that hash one header with many nonces.
//!
//! Every kernel answers the same question and must give the same answer as [`Scalar`], which is the reference.
//! [`best`] names the one to use on this processor.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod choice;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod measure;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod sha256;
#[cfg(target_arch = "x86_64")]
mod sha_avx512;
#[cfg(target_arch = "x86_64")]
mod sha_ni;
#[cfg(target_arch = "x86_64")]
mod sha_ni_avx;
#[cfg(target_arch = "x86_64")]
mod streams;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use choice::{available, best};
pub use measure::{Measurement, Together, cycles_per_second, measure, together};
pub use scalar::Scalar;
#[cfg(target_arch = "x86_64")]
pub use sha_avx512::ShaAvx512;
#[cfg(target_arch = "x86_64")]
pub use sha_ni::ShaNi;
#[cfg(target_arch = "x86_64")]
pub use sha_ni_avx::ShaNiAvx;

use crate::job::{Found, Job};

/// Consecutive nonces: `count` of them from `start`. `start + count` never passes 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonceRange {
    /// The first nonce.
    pub start: u32,
    /// How many nonces, `start` included.
    pub count: u32,
}

impl NonceRange {
    /// The nonces in order.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..self.count).map(move |offset| self.start.wrapping_add(offset))
    }
}

/// A way to hash headers.
pub trait Kernel: Send + Sync {
    /// A short name for logs and benchmarks, such as `scalar`.
    fn name(&self) -> &'static str;

    /// The lowest nonce of `range` with which the job's header meets its target, checked in full; `None` if there is
    /// none.
    fn scan(&self, job: &Job, range: NonceRange) -> Option<Found>;

    /// Executes the kernel's instructions for about `hashes` headers without any that waits for another's outcome: how
    /// long that takes is the processor's own limit for this kernel. `false` if that is not known.
    fn run_stream(&self, hashes: u32) -> bool {
        let _ = hashes;
        false
    }
}
