//! Which kernel to use: the one that is fastest here and now, by a short measurement.
//!
//! What a processor can do does not tell what it does fastest: a 512-bit unit may be split in two, lower the clock or
//! lose to the SHA instructions. So every kernel that runs searches for a few milliseconds, once a process.

use std::sync::OnceLock;

use super::measure::{hopeless_job, scan_rate};
use super::{Kernel, Scalar};

/// Nonces of a slice: far less than a millisecond, so that most slices run undisturbed.
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
            use super::{Avx2, Avx512, ShaAvx512, ShaNi, ShaNiAvx};
            let mut add = |kernel: Option<Box<dyn Kernel>>| kernels.extend(kernel);
            add(ShaNi::<2>::detect().map(|kernel| Box::new(kernel) as _));
            add(ShaNi::<4>::detect().map(|kernel| Box::new(kernel) as _));
            add(ShaNiAvx::detect().map(|kernel| Box::new(kernel) as _));
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
        for _ in 0..SLICES {
            for kernel in available() {
                let rate = scan_rate(kernel.as_ref(), &job, SLICE);
                if rate > best.1 {
                    best = (kernel.as_ref(), rate);
                }
            }
        }
        best.0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_kernel_is_one_that_runs_here() {
        assert!(available().iter().any(|kernel| kernel.name() == best().name()));
    }
}
