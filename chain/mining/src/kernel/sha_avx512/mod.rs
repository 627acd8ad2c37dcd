//! Rounds by the SHA instructions and schedules by 256-bit vectors, side by side.
//!
//! The SHA instructions do a header's rounds in few steps, but those for its schedule cost as much again. Vectors do
//! the schedule of eight headers at once, with nothing but additions, shifts and exclusive ors. The two need different
//! units of the processor, so they run in the same cycles, for different batches of eight headers:
//!
//! ```text
//!               rounds                                 schedule
//!   half turn   first hash of batch n - 1     ───┐ ┌── second hash of batch n - 2
//!   half turn   second hash of batch n - 2   ◀───│─┘   first hash of batch n
//!                                                └───▶ (its digests are scheduled in the next turn)
//! ```
//!
//! A turn is unrolled into parts: an instruction of rounds, five to seven of the schedule, another one of rounds. What
//! one half leaves to another goes through memory. Rounds reach two slots into the other half, where their rows are
//! overwritten: but always rows that they have read before, in the order of the program.
//!
//! Measured on a Zen 4, which issues `sha256rnds2` once a cycle: 68 cycles a hash, of which 60 are those; AVX-512 alone
//! takes 105, the SHA instructions alone 94. The vectors are 256 bits wide and do without three-way logic, since both
//! take the SHA instruction's turn there: ten of it, independent, take ten cycles; with six exclusive ors of 512 bits
//! still ten, with six three-way ones 13.7; with twelve rotations of 256 bits 11, with six of 512 bits 13.
//!
//! Where the other eight cycles are lost, measured with the same instructions alone, dependent as here: rotations share
//! the unit of `sha256rnds2` and have one other, shifts have two others. Whether they get in its way is a matter of order:
//! in this one it is issued every 1.18 cycles, with the early half of a word and the late half of the word before mixed
//! instruction by instruction, two or three between every two, every 1.00. That order was tried here and takes 68 to 70
//! cycles: the compiler needs 280 to 470 copies a turn for it, a hundred with the registers of the states given, and only
//! six instructions enter a cycle. It wants all registers chosen by hand.

mod rounds;
mod schedule;
mod vector;

use std::arch::x86_64::*;
use std::hint::black_box;

use super::lanes::check_hits;
use super::sha256::Prepared;
use super::{Kernel, NonceRange, streams};
use crate::job::{Found, INITIAL_STATE, Job};
use rounds::{Beginnings, Outcomes, PARTS, States, instruction_of, rounds};
use schedule::{BATCH, FirstRows, SecondRows, Words, first_schedule, second_schedule};
use vector::{add, splat, swap_bytes};

/// Proves that the processor has the SHA instructions and AVX-512 F and VL; only [`ShaAvx512::detect`] makes one.
#[derive(Clone, Copy, Debug)]
struct HasShaAvx512(());

/// The kernel of SHA instructions and vectors.
#[derive(Clone, Copy, Debug)]
pub struct ShaAvx512(HasShaAvx512);

impl ShaAvx512 {
    /// The kernel, if this processor can run it.
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl");
        has.then_some(Self(HasShaAvx512(())))
    }
}

impl Kernel for ShaAvx512 {
    fn name(&self) -> &'static str {
        "sha-ni+avx512"
    }

    fn scan(&self, job: &Job, range: NonceRange) -> Option<Found> {
        let HasShaAvx512(()) = self.0;
        // SAFETY: the value just taken apart proves that the processor has the instructions.
        unsafe { scan(job, range) }
    }

    fn run_stream(&self, hashes: u32) -> bool {
        let HasShaAvx512(()) = self.0;
        // SAFETY: the value just taken apart proves that the processor has the instructions.
        unsafe { streams::sha_avx512(hashes) };
        true
    }
}

/// Turns from the one that schedules a batch's nonces to the one that has its hashes, after its first half.
const TURNS_TO_HASH: u32 = 3;

/// What goes from one half of a turn to another.
#[repr(align(64))]
struct Batches {
    first: FirstRows,
    second: SecondRows,
    outcomes: Outcomes,
}

#[target_feature(enable = "sha,avx512f,avx512vl")]
fn scan(job: &Job, range: NonceRange) -> Option<Found> {
    const LANES: u32 = BATCH as u32;
    let prepared = Prepared::new(job);
    let beginnings = Beginnings::new(&prepared);
    let mut states = beginnings.states();
    let nothing = [[_mm_setzero_si128(); 2]; BATCH / 2];
    let mut batches = Batches {
        first: [[0; BATCH]; _],
        second: [[0; BATCH]; _],
        outcomes: Outcomes { abef: nothing, cdgh: nothing, last: [0; BATCH] },
    };
    let first_nonces = add(splat(range.start), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    let target_top = splat(prepared.target_top);
    for turn in 0..range.count.div_ceil(LANES) + TURNS_TO_HASH {
        // The compiler must not know what is in memory: it would carry it from half to half in registers, and take
        // vectors apart instead of loading words.
        first_half(&prepared, &beginnings, &mut states, black_box(&mut batches));
        if let Some(batch) = turn.checked_sub(TURNS_TO_HASH) {
            let hits = u32::from(_mm256_cmple_epu32_mask(top_words(&batches.outcomes), target_top));
            if hits != 0
                && let Some(found) = check_hits(job, range, batch * LANES, hits)
            {
                return Some(found);
            }
        }
        let nonces = add(first_nonces, splat(turn.wrapping_mul(LANES)));
        second_half(&prepared, &beginnings, &mut states, black_box(&mut batches), nonces);
    }
    None
}

/// One call with each of the parts of half a turn.
macro_rules! parts {
    ($part:ident) => {
        parts!($part: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29);
        parts!($part: 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59);
        parts!($part: 60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79 80 81 82 83 84 85 86 87 88 89);
        parts!($part: 90 91 92 93 94 95 96 97 98 99 100 101 102 103 104 105 106 107 108 109 110 111 112 113 114);
        parts!($part: 115 116 117 118 119);
    };
    ($part:ident: $($number:literal)*) => { $($part!($number);)* };
}

/// One of the two instructions of rounds of a part.
macro_rules! rounds {
    ($prepared:ident, $beginnings:ident, $states:ident, $batches:ident, $part:expr, $in_pair:literal) => {
        rounds::<{ $part }, { instruction_of($part) }, $in_pair>(
            $prepared,
            $beginnings,
            (&$batches.first, &$batches.second),
            $states,
            &mut $batches.outcomes,
        )
    };
}

/// The rounds of the first hash, and the schedule of the second hash of the batch before.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn first_half(prepared: &Prepared, beginnings: &Beginnings, states: &mut States, batches: &mut Batches) {
    let mut words = digest_words(prepared, &batches.outcomes);
    macro_rules! part {
        ($part:literal) => {
            rounds!(prepared, beginnings, states, batches, $part, 0);
            second_schedule::<$part>(prepared, &mut words, &mut batches.second);
            rounds!(prepared, beginnings, states, batches, $part, 1);
        };
    }
    parts!(part);
}

/// The rounds of the second hash, and the schedule of the first hash of two batches later.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn second_half(
    prepared: &Prepared,
    beginnings: &Beginnings,
    states: &mut States,
    batches: &mut Batches,
    nonces: __m256i,
) {
    let mut words = [_mm256_setzero_si256(); 16];
    words[3] = swap_bytes(nonces);
    macro_rules! part {
        ($part:literal) => {
            rounds!(prepared, beginnings, states, batches, PARTS / 2 + $part, 0);
            first_schedule::<$part>(prepared, &mut words, &mut batches.first);
            rounds!(prepared, beginnings, states, batches, PARTS / 2 + $part, 1);
        };
    }
    parts!(part);
}

/// The digests of the batch whose first hash is done, as the first words of the second hash.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn digest_words(prepared: &Prepared, outcomes: &Outcomes) -> Words {
    let ([f, e, b, a], [h, g, d, c]) = (transposed(&outcomes.abef), transposed(&outcomes.cdgh));
    let mut words = [_mm256_setzero_si256(); 16];
    for ((word, state), middle) in words.iter_mut().zip([a, b, c, d, e, f, g, h]).zip(&prepared.midstate) {
        *word = add(state, splat(*middle));
    }
    words
}

/// The words of four lanes of eight headers, lane by lane.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn transposed(rows: &[[__m128i; 2]; BATCH / 2]) -> [__m256i; 4] {
    let [r0, r1, r2, r3] = rows;
    let (r0, r1, r2, r3) = (joined(r0), joined(r1), joined(r2), joined(r3));
    let (low_01, high_01) = (_mm256_unpacklo_epi32(r0, r1), _mm256_unpackhi_epi32(r0, r1));
    let (low_23, high_23) = (_mm256_unpacklo_epi32(r2, r3), _mm256_unpackhi_epi32(r2, r3));
    [
        _mm256_unpacklo_epi64(low_01, low_23),
        _mm256_unpackhi_epi64(low_01, low_23),
        _mm256_unpacklo_epi64(high_01, high_23),
        _mm256_unpackhi_epi64(high_01, high_23),
    ]
}

#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn joined(halves: &[__m128i; 2]) -> __m256i {
    // SAFETY: the load is within the two halves, and needs no alignment.
    unsafe { _mm256_loadu_si256(halves.as_ptr().cast()) }
}

/// The most significant words of the batch whose second hash is done. The `e` of round 60 would be the `h` of round 63.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn top_words(outcomes: &Outcomes) -> __m256i {
    let (low, high) = outcomes.last.split_at(BATCH / 2);
    // SAFETY: each load is within its half of the row, and needs no alignment.
    let (low, high) = unsafe { (_mm256_loadu_ps(low.as_ptr().cast()), _mm256_loadu_ps(high.as_ptr().cast())) };
    // The upper word of each of the eight, back in the order of the headers.
    let e = _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(low, high));
    swap_bytes(add(e, splat(INITIAL_STATE[7])))
}
