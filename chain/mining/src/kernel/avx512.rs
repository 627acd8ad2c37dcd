//! Sixteen headers at a time by AVX-512: rotations, three-way logic and unsigned comparisons are single instructions.

use std::arch::x86_64::*;

use super::lanes::{self, Lanes};
use super::{Kernel, NonceRange, streams};
use crate::job::{Found, Job};

/// Proves that the processor has AVX-512 F and BW; only [`Avx512::detect`] makes one.
#[derive(Clone, Copy, Debug)]
struct HasAvx512(());

/// The AVX-512 kernel.
#[derive(Clone, Copy, Debug)]
pub struct Avx512(HasAvx512);

impl Avx512 {
    /// The kernel, if this processor can run it.
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
        has.then_some(Self(HasAvx512(())))
    }
}

impl Kernel for Avx512 {
    fn name(&self) -> &'static str {
        "avx512"
    }

    fn scan(&self, job: &Job, range: NonceRange) -> Option<Found> {
        #[target_feature(enable = "avx512f,avx512bw")]
        fn scan(proof: HasAvx512, job: &Job, range: NonceRange) -> Option<Found> {
            lanes::scan::<Words>(proof, job, range)
        }
        // SAFETY: `self.0` proves that the processor has the instructions.
        unsafe { scan(self.0, job, range) }
    }

    fn run_stream(&self, hashes: u32) -> bool {
        let HasAvx512(()) = self.0;
        // SAFETY: the value just taken apart proves that the processor has AVX-512 F.
        unsafe { streams::avx512(hashes) };
        true
    }
}

#[derive(Clone, Copy)]
struct Words(__m512i);

/// Calls intrinsics of AVX-512 F and BW.
macro_rules! avx512 {
    ($($body:tt)*) => {{
        // SAFETY: a `HasAvx512`, or a value that was made with one, is at hand: the processor has the instructions.
        // They touch no memory.
        unsafe { $($body)* }
    }};
}

/// The truth table of `a ^ b ^ c`.
const XOR: i32 = 0x96;
/// The truth table of `a ? b : c`.
const CHOOSE: i32 = 0xca;
/// The truth table of the majority of three.
const MAJORITY: i32 = 0xe8;

impl Lanes for Words {
    type Proof = HasAvx512;
    const COUNT: u32 = 16;

    #[inline(always)]
    fn splat(_: HasAvx512, word: u32) -> Self {
        Self(avx512!(_mm512_set1_epi32(word.cast_signed())))
    }

    #[inline(always)]
    fn count_up(_: HasAvx512) -> Self {
        Self(avx512!(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(avx512!(_mm512_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn swap_bytes(self) -> Self {
        Self(avx512!(_mm512_shuffle_epi8(
            self.0,
            _mm512_broadcast_i32x4(_mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12))
        )))
    }

    #[inline(always)]
    fn big_sigma0(self) -> Self {
        let x = self.0;
        Self(avx512!(_mm512_ternarylogic_epi32::<XOR>(
            _mm512_ror_epi32::<2>(x),
            _mm512_ror_epi32::<13>(x),
            _mm512_ror_epi32::<22>(x)
        )))
    }

    #[inline(always)]
    fn big_sigma1(self) -> Self {
        let x = self.0;
        Self(avx512!(_mm512_ternarylogic_epi32::<XOR>(
            _mm512_ror_epi32::<6>(x),
            _mm512_ror_epi32::<11>(x),
            _mm512_ror_epi32::<25>(x)
        )))
    }

    #[inline(always)]
    fn small_sigma0(self) -> Self {
        let x = self.0;
        Self(avx512!(_mm512_ternarylogic_epi32::<XOR>(
            _mm512_ror_epi32::<7>(x),
            _mm512_ror_epi32::<18>(x),
            _mm512_srli_epi32::<3>(x)
        )))
    }

    #[inline(always)]
    fn small_sigma1(self) -> Self {
        let x = self.0;
        Self(avx512!(_mm512_ternarylogic_epi32::<XOR>(
            _mm512_ror_epi32::<17>(x),
            _mm512_ror_epi32::<19>(x),
            _mm512_srli_epi32::<10>(x)
        )))
    }

    #[inline(always)]
    fn choose(self, yes: Self, no: Self) -> Self {
        Self(avx512!(_mm512_ternarylogic_epi32::<CHOOSE>(self.0, yes.0, no.0)))
    }

    #[inline(always)]
    fn majority(self, two: Self, three: Self) -> Self {
        Self(avx512!(_mm512_ternarylogic_epi32::<MAJORITY>(self.0, two.0, three.0)))
    }

    #[inline(always)]
    fn at_most(self, other: Self) -> u32 {
        u32::from(avx512!(_mm512_cmple_epu32_mask(self.0, other.0)))
    }
}
