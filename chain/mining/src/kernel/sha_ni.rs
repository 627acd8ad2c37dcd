//! A few headers in step by the SHA instructions, which do two rounds at a time.
//!
//! One header waits for the latency of every pair of rounds; with several in step the instruction is always busy.
//! The state is in two vectors, from the highest lane on `a b e f` and `c d g h`.

use std::arch::x86_64::*;

use super::lanes::check_hits;
use super::sha256::{DIGEST_BITS, HEADER_BITS, K, PADDING, Prepared};
use super::{Kernel, NonceRange, streams};
use crate::job::{Found, INITIAL_STATE, Job};

/// Proves that the processor has the SHA instructions and SSE 4.1; only [`ShaNi::detect`] makes one.
#[derive(Clone, Copy, Debug)]
struct HasShaNi(());

/// The SHA kernel with `HEADERS` headers in step.
#[derive(Clone, Copy, Debug)]
pub struct ShaNi<const HEADERS: usize>(HasShaNi);

impl<const HEADERS: usize> ShaNi<HEADERS> {
    /// The kernel, if this processor can run it.
    pub fn detect() -> Option<Self> {
        let has =
            is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3");
        has.then_some(Self(HasShaNi(())))
    }
}

impl<const HEADERS: usize> Kernel for ShaNi<HEADERS> {
    fn name(&self) -> &'static str {
        match HEADERS {
            1 => "sha-ni",
            2 => "sha-ni x2",
            _ => "sha-ni x4",
        }
    }

    fn scan(&self, job: &Job, range: NonceRange) -> Option<Found> {
        let HasShaNi(()) = self.0;
        // SAFETY: the value just taken apart proves that the processor has the instructions.
        unsafe { scan::<HEADERS>(job, range) }
    }

    fn run_stream(&self, hashes: u32) -> bool {
        let HasShaNi(()) = self.0;
        // SAFETY: the value just taken apart proves that the processor has the instructions.
        unsafe { streams::sha(hashes) };
        true
    }
}

/// The state of one hash.
#[derive(Clone, Copy)]
struct State {
    abef: __m128i,
    cdgh: __m128i,
}

/// One vector for each header; all may be equal.
type Each<const HEADERS: usize> = [__m128i; HEADERS];

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn vector(words: [u32; 4]) -> __m128i {
    let [w0, w1, w2, w3] = words.map(u32::cast_signed);
    _mm_setr_epi32(w0, w1, w2, w3)
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn pack([a, b, c, d, e, f, g, h]: [u32; 8]) -> State {
    State { abef: vector([f, e, b, a]), cdgh: vector([h, g, d, c]) }
}

/// The constants of the four rounds of a group.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn constants<const GROUP: usize>() -> __m128i {
    vector([K[4 * GROUP], K[4 * GROUP + 1], K[4 * GROUP + 2], K[4 * GROUP + 3]])
}

/// Two rounds with the lower two words.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn two_rounds<const HEADERS: usize>(states: &mut [State; HEADERS], words: Each<HEADERS>) {
    for (state, words) in states.iter_mut().zip(words) {
        *state = State { abef: _mm_sha256rnds2_epu32(state.cdgh, state.abef, words), cdgh: state.abef };
    }
}

/// The upper two words in the place of the lower.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn upper<const HEADERS: usize>(words: Each<HEADERS>) -> Each<HEADERS> {
    let mut upper = words;
    for words in &mut upper {
        *words = _mm_shuffle_epi32::<0x0e>(*words);
    }
    upper
}

/// Four rounds with words that have their constants in them.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn four_rounds<const HEADERS: usize>(states: &mut [State; HEADERS], words: Each<HEADERS>) {
    two_rounds(states, words);
    two_rounds(states, upper(words));
}

/// Four rounds of a group with its schedule words.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn group<const HEADERS: usize, const GROUP: usize>(states: &mut [State; HEADERS], words: Each<HEADERS>) {
    four_rounds(states, with_constants::<HEADERS, GROUP>(words));
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn with_constants<const HEADERS: usize, const GROUP: usize>(mut words: Each<HEADERS>) -> Each<HEADERS> {
    for words in &mut words {
        *words = _mm_add_epi32(*words, constants::<GROUP>());
    }
    words
}

/// The next four schedule words after four groups, oldest first. `started` is the first step of the schedule: the
/// oldest group plus small sigma 0 of what follows each of its words.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn next_words<const HEADERS: usize>(
    started: Each<HEADERS>,
    third: Each<HEADERS>,
    last: Each<HEADERS>,
) -> Each<HEADERS> {
    let mut new = started;
    for ((new, third), last) in new.iter_mut().zip(third).zip(last) {
        *new = _mm_sha256msg2_epu32(_mm_add_epi32(*new, _mm_alignr_epi8::<4>(last, third)), last);
    }
    new
}

/// The first step of the schedule for two neighbouring groups.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn start<const HEADERS: usize>(oldest: Each<HEADERS>, next: Each<HEADERS>) -> Each<HEADERS> {
    let mut started = oldest;
    for (started, next) in started.iter_mut().zip(next) {
        *started = _mm_sha256msg1_epu32(*started, next);
    }
    started
}

/// The groups `$group` of rounds; the words of each replace those of the fourth group before it.
macro_rules! scheduled_groups {
    ($states:ident, $words:ident: $($group:literal)*) => {
        $(
            $words[$group & 3] = scheduled::<HEADERS, $group>(&$words);
            group::<HEADERS, $group>(&mut $states, $words[$group & 3]);
        )*
    };
}

/// The schedule words of a group.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn scheduled<const HEADERS: usize, const GROUP: usize>(words: &[Each<HEADERS>; 4]) -> Each<HEADERS> {
    let back = |groups: usize| words[(GROUP - groups) & 3];
    next_words(start(back(4), back(3)), back(2), back(1))
}

#[target_feature(enable = "sha,sse4.1,ssse3")]
fn scan<const HEADERS: usize>(job: &Job, range: NonceRange) -> Option<Found> {
    let prepared = Prepared::new(job);
    let lanes = HEADERS as u32;
    let mut offset = 0u32;
    while offset < range.count {
        let tops = top_words::<HEADERS>(&prepared, range.start.wrapping_add(offset));
        let mut hits = 0u32;
        for (lane, top) in tops.into_iter().enumerate() {
            hits |= u32::from(top <= prepared.target_top) << lane;
        }
        if hits != 0
            && let Some(found) = check_hits(job, range, offset, hits)
        {
            return Some(found);
        }
        let Some(next) = offset.checked_add(lanes) else { break };
        offset = next;
    }
    None
}

/// The most significant words of the double hashes with this nonce and those after it.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn top_words<const HEADERS: usize>(prepared: &Prepared, first_nonce: u32) -> [u32; HEADERS] {
    let all = |words: [u32; 4]| [vector(words); HEADERS];
    let middle = pack(prepared.midstate);

    // First hash, from round 2 on.
    let mut states = [pack(prepared.after_round_1); HEADERS];
    let [time_and_so_on @ .., before_nonce] = prepared.tail;
    let fixed = vector([time_and_so_on[0], time_and_so_on[1], before_nonce, 0]);
    let mut w0 = [fixed; HEADERS];
    for (header, words) in (0u32..).zip(&mut w0) {
        let nonce = first_nonce.wrapping_add(header).swap_bytes();
        *words = _mm_insert_epi32::<3>(fixed, nonce.cast_signed());
    }
    two_rounds(&mut states, upper(with_constants::<HEADERS, 0>(w0)));
    let padding = all([PADDING, 0, 0, 0]);
    let length = all([0, 0, 0, HEADER_BITS]);
    let nothing = all([0; 4]);
    four_rounds(&mut states, all([K[4].wrapping_add(PADDING), K[5], K[6], K[7]]));
    four_rounds(&mut states, all([K[8], K[9], K[10], K[11]]));
    four_rounds(&mut states, all([K[12], K[13], K[14], K[15].wrapping_add(HEADER_BITS)]));
    let w4 = next_words(start(w0, padding), nothing, length);
    group::<HEADERS, 4>(&mut states, w4);
    // What the schedule starts with from padding alone is known beforehand.
    let w5 = next_words(padding, length, w4);
    group::<HEADERS, 5>(&mut states, w5);
    let w6 = next_words(nothing, w4, w5);
    group::<HEADERS, 6>(&mut states, w6);
    let w7 = next_words(start(length, w4), w5, w6);
    group::<HEADERS, 7>(&mut states, w7);
    let mut words = [w4, w5, w6, w7];
    scheduled_groups!(states, words: 8 9 10 11 12 13 14 15);

    // Second hash: the digest's words in order.
    let (mut low, mut high) = (nothing, nothing);
    for ((low, high), state) in low.iter_mut().zip(&mut high).zip(states) {
        let abef = _mm_shuffle_epi32::<0x1b>(_mm_add_epi32(state.abef, middle.abef));
        let cdgh = _mm_shuffle_epi32::<0x1b>(_mm_add_epi32(state.cdgh, middle.cdgh));
        *low = _mm_unpacklo_epi64(abef, cdgh);
        *high = _mm_unpackhi_epi64(abef, cdgh);
    }
    let mut states = [pack(INITIAL_STATE); HEADERS];
    let length = all([0, 0, 0, DIGEST_BITS]);
    group::<HEADERS, 0>(&mut states, low);
    group::<HEADERS, 1>(&mut states, high);
    four_rounds(&mut states, all([K[8].wrapping_add(PADDING), K[9], K[10], K[11]]));
    four_rounds(&mut states, all([K[12], K[13], K[14], K[15].wrapping_add(DIGEST_BITS)]));
    let w4 = next_words(start(low, high), nothing, length);
    group::<HEADERS, 4>(&mut states, w4);
    let w5 = next_words(start(high, padding), length, w4);
    group::<HEADERS, 5>(&mut states, w5);
    let w6 = next_words(padding, w4, w5);
    group::<HEADERS, 6>(&mut states, w6);
    let w7 = next_words(start(length, w4), w5, w6);
    group::<HEADERS, 7>(&mut states, w7);
    let mut words = [w4, w5, w6, w7];
    scheduled_groups!(states, words: 8 9 10 11 12 13 14);
    // Rounds 60 and 61. The `f` after them is the `e` of round 60, which would be the `h` of round 63.
    let last = scheduled::<HEADERS, 15>(&words);
    two_rounds(&mut states, with_constants::<HEADERS, 15>(last));
    states.map(|state| _mm_cvtsi128_si32(state.abef).cast_unsigned().wrapping_add(INITIAL_STATE[7]).swap_bytes())
}
