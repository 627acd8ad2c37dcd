//! Eight headers at a time by AVX2, which has neither rotations nor three-way logic.

use std::arch::x86_64::*;

use super::lanes::{self, Lanes};
use super::{Kernel, NonceRange, streams};
use crate::job::{Found, Job};

/// Proves that the processor has AVX2; only [`Avx2::detect`] makes one.
#[derive(Clone, Copy, Debug)]
struct HasAvx2(());

/// The AVX2 kernel.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(HasAvx2);

impl Avx2 {
    /// The kernel, if this processor can run it.
    pub fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(HasAvx2(())))
    }
}

impl Kernel for Avx2 {
    fn name(&self) -> &'static str {
        "avx2"
    }

    fn scan(&self, job: &Job, range: NonceRange) -> Option<Found> {
        #[target_feature(enable = "avx2")]
        fn scan(proof: HasAvx2, job: &Job, range: NonceRange) -> Option<Found> {
            lanes::scan::<Words>(proof, job, range)
        }
        // SAFETY: `self.0` proves that the processor has the instructions.
        unsafe { scan(self.0, job, range) }
    }

    fn run_stream(&self, hashes: u32) -> bool {
        let HasAvx2(()) = self.0;
        // SAFETY: the value just taken apart proves that the processor has AVX2.
        unsafe { streams::avx2(hashes) };
        true
    }
}

#[derive(Clone, Copy)]
struct Words(__m256i);

/// Calls intrinsics of AVX2.
macro_rules! avx2 {
    ($($body:tt)*) => {{
        // SAFETY: a `HasAvx2`, or a value that was made with one, is at hand: the processor has the instructions.
        // They touch no memory.
        unsafe { $($body)* }
    }};
}

/// Rotates every word right; `LEFT` is 32 less `RIGHT`.
#[inline(always)]
fn rotate<const RIGHT: i32, const LEFT: i32>(x: __m256i) -> __m256i {
    // SAFETY: as in `avx2!`: only called with a vector that was made with a `HasAvx2`.
    unsafe { _mm256_or_si256(_mm256_srli_epi32::<RIGHT>(x), _mm256_slli_epi32::<LEFT>(x)) }
}

#[inline(always)]
fn xor3(one: __m256i, two: __m256i, three: __m256i) -> Words {
    Words(avx2!(_mm256_xor_si256(_mm256_xor_si256(one, two), three)))
}

impl Lanes for Words {
    type Proof = HasAvx2;
    const COUNT: u32 = 8;

    #[inline(always)]
    fn splat(_: HasAvx2, word: u32) -> Self {
        Self(avx2!(_mm256_set1_epi32(word.cast_signed())))
    }

    #[inline(always)]
    fn count_up(_: HasAvx2) -> Self {
        Self(avx2!(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(avx2!(_mm256_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn swap_bytes(self) -> Self {
        Self(avx2!(_mm256_shuffle_epi8(
            self.0,
            _mm256_broadcastsi128_si256(_mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12))
        )))
    }

    #[inline(always)]
    fn big_sigma0(self) -> Self {
        xor3(rotate::<2, 30>(self.0), rotate::<13, 19>(self.0), rotate::<22, 10>(self.0))
    }

    #[inline(always)]
    fn big_sigma1(self) -> Self {
        xor3(rotate::<6, 26>(self.0), rotate::<11, 21>(self.0), rotate::<25, 7>(self.0))
    }

    #[inline(always)]
    fn small_sigma0(self) -> Self {
        xor3(rotate::<7, 25>(self.0), rotate::<18, 14>(self.0), avx2!(_mm256_srli_epi32::<3>(self.0)))
    }

    #[inline(always)]
    fn small_sigma1(self) -> Self {
        xor3(rotate::<17, 15>(self.0), rotate::<19, 13>(self.0), avx2!(_mm256_srli_epi32::<10>(self.0)))
    }

    #[inline(always)]
    fn choose(self, yes: Self, no: Self) -> Self {
        Self(avx2!(_mm256_xor_si256(no.0, _mm256_and_si256(self.0, _mm256_xor_si256(yes.0, no.0)))))
    }

    #[inline(always)]
    fn majority(self, two: Self, three: Self) -> Self {
        // The second exclusive or is the first one of the round before: the compiler computes it once.
        Self(avx2!(_mm256_xor_si256(
            two.0,
            _mm256_and_si256(_mm256_xor_si256(self.0, two.0), _mm256_xor_si256(two.0, three.0))
        )))
    }

    #[inline(always)]
    fn at_most(self, other: Self) -> u32 {
        let lanes = avx2!(_mm256_cmpeq_epi32(_mm256_min_epu32(self.0, other.0), self.0));
        avx2!(_mm256_movemask_ps(_mm256_castsi256_ps(lanes))).cast_unsigned()
    }
}
