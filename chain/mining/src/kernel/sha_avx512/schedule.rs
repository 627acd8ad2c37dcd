//! The schedules of both hashes by 256-bit vectors, eight headers at once, in parts of a few instructions.
//!
//! ```text
//!   word t = word t - 16 + small sigma 0 of word t - 15        early: known long before it is needed
//!          + word t - 7 + small sigma 1 of word t - 2          late
//!   row    = words t and t + 1 with their round constants, unpacked so that a header's two words are neighbours
//! ```

use std::arch::asm;
use std::arch::x86_64::*;

use super::vector::{add, splat};
use crate::kernel::sha256::{DIGEST_BITS, HEADER_BITS, PADDING, Prepared, small_sigma0, small_sigma1};

/// The last sixteen schedule words of each header; word `t` is at `t mod 16`.
pub(super) type Words = [__m256i; 16];

/// Two neighbouring schedule words with their round constants for each header of a batch, at [`PLACE`].
pub(super) type Row = [u64; BATCH];

/// Headers of a batch: the words of a vector.
pub(super) const BATCH: usize = 8;

/// Where unpacking two vectors leaves each header.
pub(super) const PLACE: [usize; BATCH] = [0, 1, 4, 5, 2, 3, 6, 7];

/// The nonces with a zero before each, then words 18 to 63.
pub(super) type FirstRows = [Row; 24];

/// The digests' first words with a zero before each, then words 1 to 8 and 15 to 60.
pub(super) type SecondRows = [Row; 28];

/// Part `PART` of the first hash's schedule. Before part 0 word 3 is the nonce.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
pub(super) fn first_schedule<const PART: usize>(prepared: &Prepared, words: &mut Words, rows: &mut FirstRows) {
    if PART == 0 {
        store(&mut rows[0], _mm256_setzero_si256(), words[3]);
        return;
    }
    let (row, step) = ((PART - 1) / 5, (PART - 1) % 5);
    let t = 18 + 2 * row;
    match step {
        _ if t >= 64 => {}
        0 | 2 => first_early(prepared, words, t + step / 2),
        1 | 3 => first_late(words, t + step / 2),
        _ => store_words(prepared, words, t, &mut rows[1 + row]),
    }
}

/// Part `PART` of the second hash's schedule. Before part 0 words 0 to 7 are the digest.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
pub(super) fn second_schedule<const PART: usize>(prepared: &Prepared, words: &mut Words, rows: &mut SecondRows) {
    let k = prepared.k;
    match PART {
        0 => store(&mut rows[0], _mm256_setzero_si256(), words[0]),
        1..4 => store_words(prepared, words, 2 * PART - 1, &mut rows[PART]),
        4 => store(&mut rows[4], add(words[7], splat(k[7])), splat(k[8].wrapping_add(PADDING))),
        5 => second_early(words, 16),
        6 => second_late(words, 16),
        7 => store(&mut rows[5], splat(k[15].wrapping_add(DIGEST_BITS)), add(words[0], splat(k[16]))),
        _ => {
            let (row, step) = ((PART - 8) / 5, (PART - 8) % 5);
            let t = 17 + 2 * row;
            match step {
                _ if t >= 61 => {}
                0 | 2 => second_early(words, t + step / 2),
                1 | 3 => second_late(words, t + step / 2),
                _ => store_words(prepared, words, t, &mut rows[6 + row]),
            }
        }
    }
}

/// [`early`] while some of the words are padding or the same for all nonces.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn first_early(prepared: &Prepared, words: &mut Words, t: usize) {
    match t {
        // Word 3 is the nonce.
        18 => words[2] = add(sigma0(words[3]), splat(prepared.word_18)),
        19 => words[3] = add(words[3], splat(prepared.word_19)),
        20 => words[4] = splat(PADDING),
        22 => words[6] = splat(HEADER_BITS),
        23 => words[7] = splat(prepared.word_16),
        24 => words[8] = splat(prepared.word_17),
        21 | 25..=29 => {}
        30 => words[14] = splat(small_sigma0(HEADER_BITS)),
        31 => words[15] = splat(small_sigma0(prepared.word_16).wrapping_add(HEADER_BITS)),
        32 => words[0] = splat(small_sigma0(prepared.word_17).wrapping_add(prepared.word_16)),
        33 => words[1] = add(splat(prepared.word_17), sigma0(words[2])),
        _ => early(words, t),
    }
}

#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn first_late(words: &mut Words, t: usize) {
    match t {
        18 | 19 => {}
        20 | 22..=24 => words[t & 15] = add(words[t & 15], sigma1(words[(t + 14) & 15])),
        21 => words[5] = sigma1(words[3]),
        25..=29 => words[t & 15] = add(words[(t + 9) & 15], sigma1(words[(t + 14) & 15])),
        _ => late(words, t),
    }
}

/// [`early`] while some of the words are padding.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn second_early(words: &mut Words, t: usize) {
    match t {
        16..=22 => early(words, t),
        23 => words[7] = add(words[7], splat(small_sigma0(PADDING))),
        24 => words[8] = splat(PADDING),
        25..=29 => {}
        30 => words[14] = splat(small_sigma0(DIGEST_BITS)),
        31 => words[15] = add(splat(DIGEST_BITS), sigma0(words[0])),
        _ => early(words, t),
    }
}

#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn second_late(words: &mut Words, t: usize) {
    match t {
        16 => {}
        17 => words[1] = add(words[1], splat(small_sigma1(DIGEST_BITS))),
        18..=21 => words[t & 15] = add(words[t & 15], sigma1(words[(t + 14) & 15])),
        22 => words[6] = add(add(words[6], splat(DIGEST_BITS)), sigma1(words[4])),
        25..=29 => words[t & 15] = add(words[(t + 9) & 15], sigma1(words[(t + 14) & 15])),
        _ => late(words, t),
    }
}

/// The first half of the step from word `t - 16` to word `t`: what has been known for long.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn early(words: &mut Words, t: usize) {
    words[t & 15] = add(words[t & 15], sigma0(words[(t + 1) & 15]));
}

/// The second half, whose last word is two steps old.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn late(words: &mut Words, t: usize) {
    let sum = add(words[t & 15], words[(t + 9) & 15]);
    words[t & 15] = add(sum, sigma1(words[(t + 14) & 15]));
}

#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn store_words(prepared: &Prepared, words: &Words, t: usize, row: &mut Row) {
    let k = prepared.k;
    store(row, add(words[t & 15], splat(k[t])), add(words[(t + 1) & 15], splat(k[t + 1])));
}

#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn store(row: &mut Row, low: __m256i, high: __m256i) {
    // SAFETY: the row has room for four words of 64 bits at either place.
    unsafe {
        _mm256_storeu_si256(row.as_mut_ptr().cast(), _mm256_unpacklo_epi32(low, high));
        _mm256_storeu_si256(row.as_mut_ptr().add(4).cast(), _mm256_unpackhi_epi32(low, high));
    }
}

/// Small sigma by two rotations and a shift. In assembly because the compiler would make one three-way instruction of
/// the two exclusive ors: that keeps the SHA instruction waiting, which has three operands itself.
macro_rules! sigma {
    ($x:expr, $one:literal, $two:literal, $shift:literal) => {{
        let (sigma, _two, _shifted): (__m256i, __m256i, __m256i);
        // SAFETY: the instructions are AVX-512 VL, which the calling function has enabled; they touch registers only.
        unsafe {
            asm!(
                concat!("vprord {out:y}, {x:y}, ", $one),
                concat!("vprord {two:y}, {x:y}, ", $two),
                concat!("vpsrld {shifted:y}, {x:y}, ", $shift),
                "vpxord {out:y}, {out:y}, {two:y}",
                "vpxord {out:y}, {out:y}, {shifted:y}",
                x = in(zmm_reg) $x,
                out = out(zmm_reg) sigma,
                two = out(zmm_reg) _two,
                shifted = out(zmm_reg) _shifted,
                options(nomem, nostack, preserves_flags),
            );
        }
        sigma
    }};
}

#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn sigma0(x: __m256i) -> __m256i {
    sigma!(x, "7", "18", "3")
}

#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn sigma1(x: __m256i) -> __m256i {
    sigma!(x, "17", "19", "10")
}
