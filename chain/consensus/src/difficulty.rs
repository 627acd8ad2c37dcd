//! Which target the next block must meet.
//!
//! # The moving average
//!
//! The white paper (section 4) wants "a moving average targeting an average number of blocks per hour". Bitcoin took
//! windows of 2016 blocks that do not overlap. On a small chain that is too slow: when most miners leave, the rest is
//! stuck for months. And the gap of one interval between two windows is what the time-warp attack lives on. So `leyden`
//! retargets with every block, by an exponentially weighted moving average over the past blocks:
//!
//! ```text
//! target' = target · (window·spacing + solve_time − spacing) / (window·spacing)
//!         = (1 − 1/window) · target  +  1/window · target · solve_time / spacing
//! ```
//!
//! The second line is the average itself: `target · solve_time / spacing` is the target with which the last block would
//! have taken just `spacing`, and it enters with weight 1/window; the one before has 1/window · (1 − 1/window), and so on
//! to the genesis block. This form is known as WTEMA; it behaves like ASERT, in exact integers and without an
//! exponential. `window` is 144, one day: after a jump of the hash rate two thirds of the error are gone after a day's
//! worth of blocks, while luck alone moves the difficulty by some 6 %.
//!
//! What that means when the hash rate jumps, in means over many chains (`tests/rules/hash_rate_jumps.rs` prints the table):
//!
//! | | moving average of 144 | Bitcoin's 2016 blocks |
//! |---|---|---|
//! | ten times the hash rate: within 20 % of the spacing after | 510 blocks, 1.5 days | three windows, ten days and more |
//! | a tenth of it: the same after | 265 blocks, 4 days | 3,000 blocks, 104 days |
//! | how far luck then carries it beyond | 1.2 times | 1.0 times |
//!
//! So what the longer window gains is calm: under a steady hash rate it does not move with luck. A network file may choose
//! either, or none: on a chain of thousands of miners 2016 blocks do, and where one mines for a test no rule is the plainest.
//!
//! Why it cannot be cheated by times:
//! - Every interval between two blocks counts once; there is no gap between windows. A lie about one block's time is
//!   paid back by the next block: +a and then −a multiply to 1 − (a/window·spacing)², which is *harder* than the truth.
//! - A block may lie at most one spacing before its parent (`max_step_back`), so the factor is always positive and
//!   times cannot swing back and forth over a long stretch after the median has been held down. That is BIP 94's guard,
//!   here at every block.
//! - A solve time counts as at most `window` spacings. A chain that nobody mined for months comes back with half of its
//!   difficulty after the first block, not with a thousandth of it; withholding blocks only loses lateness.
//!
//! The result is rounded to the nearest value that header bits can express, not down, so that rounding does not drift.
//!
//! # Bitcoin's rule
//!
//! [`Retarget::Periodic`] reproduces Bitcoin with all its history: the interval of 2016 blocks measures 2015 gaps, the
//! change is bounded by 4, and testnet has its exception.

use std::num::{NonZeroU32, NonZeroU64};

use bitcoin::{CompactTarget, Target, Work};

use crate::header_chain::HeaderChain;
use crate::params::{Params, Retarget};
use crate::uint::Uint256;

/// Header bits that stand for no usable target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum BitsError {
    #[error("the target is negative")]
    Negative,
    #[error("the target does not fit into 256 bits")]
    Overflow,
    #[error("the target is zero")]
    Zero,
}

/// Decodes header bits: an exponent byte and a signed 23-bit mantissa.
pub fn target_from_bits(bits: CompactTarget) -> Result<Target, BitsError> {
    let raw = bits.to_consensus();
    let size = raw >> 24;
    let mantissa = raw & 0x007f_ffff;
    let mantissa = if size <= 3 { mantissa >> (8 * (3 - size)) } else { mantissa };
    if mantissa == 0 {
        return Err(BitsError::Zero);
    }
    if raw & 0x0080_0000 != 0 {
        return Err(BitsError::Negative);
    }
    if size > 34 || (mantissa > 0xff && size > 33) || (mantissa > 0xffff && size > 32) {
        return Err(BitsError::Overflow);
    }
    Ok(Target::from_compact(bits))
}

/// The expected number of hashes behind header bits, `2^256 / (target + 1)` rounded down; none for bits that stand for
/// no target.
pub fn work_from_bits(bits: CompactTarget) -> Work {
    match target_from_bits(bits) {
        // The library defines the work of target 1 as the largest number there is.
        Ok(target) if target.to_be_bytes() == Uint256::power_of_two(0).to_be_bytes() => {
            Work::from_be_bytes(Uint256::power_of_two(255).to_be_bytes())
        }
        Ok(target) => target.to_work(),
        Err(_) => Work::from_be_bytes([0; 32]),
    }
}

/// Adds work; saturates, so that no header can overflow it.
pub fn add_work(a: Work, b: Work) -> Work {
    let sum = Uint256::from_be_bytes(a.to_be_bytes()).saturating_add(Uint256::from_be_bytes(b.to_be_bytes()));
    Work::from_be_bytes(sum.to_be_bytes())
}

/// The bits that a block on top of `chain` must carry if its time is `time`.
///
/// `None` only if the chain lacks headers that it claims to have.
pub fn next_bits<C: HeaderChain + ?Sized>(chain: &C, time: u32, params: &Params) -> Option<CompactTarget> {
    let height = chain.tip_height();
    let parent = chain.header_at(height)?;
    match params.retarget {
        Retarget::Never => Some(parent.bits),
        Retarget::Periodic { interval, easiest_after_gap } => {
            let interval = interval.get();
            if (u64::from(height) + 1) % u64::from(interval) != 0 {
                if !easiest_after_gap {
                    return Some(parent.bits);
                }
                let gap = u64::from(params.spacing.get()) * 2;
                if u64::from(time) > u64::from(parent.time) + gap {
                    return Some(params.easiest_bits());
                }
                return last_ordinary_bits(chain, interval, params);
            }
            let first = chain.header_at(height.checked_sub(interval - 1)?)?;
            let took = i64::from(parent.time) - i64::from(first.time);
            Some(periodic(parent.bits, took, interval, params))
        }
        Retarget::MovingAverage { window } => {
            let Some(grandparent_height) = height.checked_sub(1) else {
                // Nothing has been measured yet: nobody mined the genesis block just now.
                return Some(parent.bits);
            };
            let solve_time = i64::from(parent.time) - i64::from(chain.header_at(grandparent_height)?.time);
            // The genesis block is as old as the software, so the first gap says nothing about hash rate.
            let solve_time = if grandparent_height == 0 { i64::from(params.spacing.get()) } else { solve_time };
            Some(moving_average(parent.bits, solve_time, window, params))
        }
    }
}

/// Testnet: the bits of the last block that did not use the exception for late blocks.
fn last_ordinary_bits<C: HeaderChain + ?Sized>(chain: &C, interval: u32, params: &Params) -> Option<CompactTarget> {
    let easiest = params.easiest_bits();
    let mut height = chain.tip_height();
    loop {
        let header = chain.header_at(height)?;
        if height == 0 || height.is_multiple_of(interval) || header.bits != easiest {
            return Some(header.bits);
        }
        height -= 1;
    }
}

/// Bitcoin's retarget: the old target, scaled by how long the interval took, at most by 4 in either direction.
fn periodic(old: CompactTarget, took: i64, interval: u32, params: &Params) -> CompactTarget {
    let wanted = u64::from(interval) * u64::from(params.spacing.get());
    let took = u64::try_from(took).unwrap_or(0).clamp(wanted / 4, wanted.saturating_mul(4));
    scale(old, took, wanted, params).to_compact_lossy()
}

/// One step of the exponential moving average; see the module's documentation.
fn moving_average(old: CompactTarget, solve_time: i64, window: NonZeroU32, params: &Params) -> CompactTarget {
    let spacing = i64::from(params.spacing.get());
    let span = i64::from(window.get()).saturating_mul(spacing);
    let solve_time = solve_time.clamp(-spacing, span);
    // With a window of one or two blocks the numerator could reach zero; half of the span is harsh enough.
    let numerator = span.saturating_add(solve_time).saturating_sub(spacing).max(span / 2).max(1);
    round_to_bits(scale(old, numerator.unsigned_abs(), span.unsigned_abs(), params), params)
}

/// `old · numerator / denominator`, at least 1 and at most the network's easiest target.
fn scale(old: CompactTarget, numerator: u64, denominator: u64, params: &Params) -> Target {
    let denominator = NonZeroU64::new(denominator).unwrap_or(NonZeroU64::MIN);
    let old = Uint256::from_be_bytes(Target::from_compact(old).to_be_bytes());
    let scaled = Target::from_be_bytes(old.saturating_mul_div(numerator, denominator).to_be_bytes());
    scaled.clamp(Target::from_be_bytes(Uint256::power_of_two(0).to_be_bytes()), params.pow_limit)
}

/// The bits nearest to a target, not easier than the network allows.
fn round_to_bits(target: Target, params: &Params) -> CompactTarget {
    let number = Uint256::from_be_bytes(target.to_be_bytes());
    // The mantissa keeps 23 bits at a byte boundary below the sign bit.
    let size = number.bit_length() / 8 + 1;
    let rounded = match (8 * size).checked_sub(24 + 1) {
        Some(half) if size > 3 => number.saturating_add(Uint256::power_of_two(half)),
        _ => number,
    };
    Target::from_be_bytes(rounded.to_be_bytes()).min(params.pow_limit).to_compact_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a · b`, numbers of 32 bits a limb, least significant first.
    fn product(a: &[u32], b: &[u32]) -> Vec<u32> {
        let mut result = vec![0u32; a.len() + b.len()];
        for (i, a) in a.iter().enumerate() {
            let mut carry = 0u64;
            for (j, b) in b.iter().enumerate() {
                let wide = u64::from(*a) * u64::from(*b) + u64::from(result[i + j]) + carry;
                result[i + j] = wide as u32;
                carry = wide >> 32;
            }
            result[i + b.len()] = carry as u32;
        }
        result
    }

    fn limbs(bytes: [u8; 32]) -> Vec<u32> {
        bytes.rchunks(4).map(|chunk| u32::from_be_bytes(chunk.try_into().unwrap())).collect()
    }

    fn plus_one(mut limbs: Vec<u32>) -> Vec<u32> {
        limbs.push(0);
        for limb in &mut limbs {
            *limb = limb.wrapping_add(1);
            if *limb != 0 {
                break;
            }
        }
        limbs
    }

    /// Is `limbs` at most 2^256?
    fn at_most_all(limbs: &[u32]) -> bool {
        let (low, high) = limbs.split_at(8);
        match high.split_first() {
            Some((1, rest)) => low.iter().chain(rest).all(|limb| *limb == 0),
            _ => high.iter().all(|limb| *limb == 0),
        }
    }

    #[test]
    fn work_is_how_often_the_targets_range_fits_into_all_hashes() {
        let mut checked = 0;
        for size in 1..=32u32 {
            for mantissa in [1, 2, 3, 0x7f, 0xff, 0x100, 0xffff, 0x01_0000, 0x12_3456, 0x7f_ffff] {
                let bits = CompactTarget::from_consensus((size << 24) | mantissa);
                let Ok(target) = target_from_bits(bits) else { continue };
                let range = plus_one(limbs(target.to_be_bytes()));
                let work = limbs(work_from_bits(bits).to_be_bytes());
                assert!(at_most_all(&product(&work, &range)), "{bits:?}: too much");
                assert!(!at_most_all(&product(&plus_one(work), &range)), "{bits:?}: too little");
                checked += 1;
            }
        }
        assert!(checked > 250);
        // Two hashes of 2^256 meet the hardest target.
        let hardest = CompactTarget::from_consensus(0x0101_0000);
        assert_eq!(work_from_bits(hardest).to_be_bytes(), Uint256::power_of_two(255).to_be_bytes());
        assert_eq!(work_from_bits(CompactTarget::from_consensus(0)).to_be_bytes(), [0; 32]);
    }
}
