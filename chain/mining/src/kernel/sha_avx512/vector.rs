//! What rounds and schedule both do with vectors.

use std::arch::x86_64::*;

/// Four words, the first in the lowest lane.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
pub(super) fn four([w0, w1, w2, w3]: [u32; 4]) -> __m128i {
    _mm_setr_epi32(w0.cast_signed(), w1.cast_signed(), w2.cast_signed(), w3.cast_signed())
}

/// `word` in every lane.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
pub(super) fn splat(word: u32) -> __m256i {
    _mm256_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
pub(super) fn add(one: __m256i, two: __m256i) -> __m256i {
    _mm256_add_epi32(one, two)
}

#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
pub(super) fn swap_bytes(x: __m256i) -> __m256i {
    let order = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(order))
}
