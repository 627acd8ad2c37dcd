//! A few headers in step by the SHA instructions, which do two rounds at a time.
//!
//! One header waits for the latency of every pair of rounds; with several in step the instruction is always busy.
//! The state is in two vectors, from the highest lane on `a b e f` and `c d g h`.
//!
//! Four headers have eight vectors of state and sixteen of words, and the instructions can name sixteen registers. So the
//! words lie in memory, but for the newest of each header, and every use of them is an operand of an instruction that is
//! there anyway. The words of a group are made while the rounds of the group before run. Measured on a Zen 4: 110 cycles a
//! hash; left to the compiler, which spills states as well, 133. Processors with AVX have a faster one, [`super::ShaNiAvx`].

use std::arch::asm;
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
        if !is_x86_feature_detected!("avx") {
            return false;
        }
        // SAFETY: the value just taken apart proves that the processor has the SHA instructions, the line above AVX.
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

/// Groups of four rounds in a hash.
const GROUPS: usize = 16;
/// Bytes of a group's words.
const GROUP_BYTES: usize = 16;

/// The words of a header's hash, a vector for each group of four rounds.
type Rows = [__m128i; GROUPS];

/// Words of all groups that are the same for every header and job, in lines of the cache.
#[repr(align(64))]
struct Known([[u32; 4]; GROUPS]);

/// The round constants, each plus its round's word. Words after the first sixteen are no part of it.
const fn constants_and(words: [u32; 16]) -> Known {
    let mut groups = [[0; 4]; GROUPS];
    let mut round = 0;
    while round < K.len() {
        let word = if round < words.len() { words[round] } else { 0 };
        groups[round / 4][round % 4] = K[round].wrapping_add(word);
        round += 1;
    }
    Known(groups)
}

static CONSTANTS: Known = constants_and([0; 16]);
/// With the padding of a header's second block.
static AND_HEADER_END: Known = constants_and([0, 0, 0, 0, PADDING, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, HEADER_BITS]);
/// With the padding of a digest.
static AND_DIGEST_END: Known = constants_and([0, 0, 0, 0, 0, 0, 0, 0, PADDING, 0, 0, 0, 0, 0, 0, DIGEST_BITS]);

/// Two rounds with the lower two words of each header.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn two_rounds<const HEADERS: usize>(states: &mut [State; HEADERS], words: [__m128i; HEADERS]) {
    for (state, words) in states.iter_mut().zip(words) {
        *state = State { abef: _mm_sha256rnds2_epu32(state.cdgh, state.abef, words), cdgh: state.abef };
    }
}

/// The four rounds of a group whose words are known.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn known_group<const HEADERS: usize, const GROUP: usize>(states: &mut [State; HEADERS], known: &Known) {
    for state in states {
        // SAFETY: the instructions are enabled, and read within `known`, whose vectors are aligned.
        unsafe {
            asm!(
                "movdqa xmm0, [{known} + {group}]",
                "sha256rnds2 {cdgh}, {abef}",
                "pshufd xmm0, xmm0, 14",
                "sha256rnds2 {abef}, {cdgh}",
                known = in(reg) known.0.as_ptr(),
                abef = inout(xmm_reg) state.abef,
                cdgh = inout(xmm_reg) state.cdgh,
                group = const GROUP * GROUP_BYTES,
                out("xmm0") _,
                options(readonly, nostack, preserves_flags),
            );
        }
    }
}

/// The four rounds of a group with each header's own words.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn group<const HEADERS: usize, const GROUP: usize>(states: &mut [State; HEADERS], rows: &[Rows; HEADERS]) {
    for (state, rows) in states.iter_mut().zip(rows) {
        // SAFETY: the instructions are enabled, and read within the rows and the constants, whose vectors are aligned.
        unsafe {
            asm!(
                "movdqa xmm0, [{constants} + {group}]",
                "paddd xmm0, [{rows} + {group}]",
                "sha256rnds2 {cdgh}, {abef}",
                "pshufd xmm0, xmm0, 14",
                "sha256rnds2 {abef}, {cdgh}",
                constants = in(reg) CONSTANTS.0.as_ptr(),
                rows = in(reg) rows.as_ptr(),
                abef = inout(xmm_reg) state.abef,
                cdgh = inout(xmm_reg) state.cdgh,
                group = const GROUP * GROUP_BYTES,
                out("xmm0") _,
                options(readonly, nostack, preserves_flags),
            );
        }
    }
}

/// The four rounds of a group, whose words are `newest`, and the words of the group after it, which are `newest` then.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn group_and_words<const HEADERS: usize, const GROUP: usize>(
    states: &mut [State; HEADERS],
    newest: &mut [__m128i; HEADERS],
    rows: &mut [Rows; HEADERS],
) {
    for ((state, newest), rows) in states.iter_mut().zip(newest).zip(rows) {
        let made: __m128i;
        // SAFETY: the instructions are enabled. They read and write within the rows and read within the constants, whose
        // vectors are aligned: a group has three before it and one after.
        unsafe {
            asm!(
                "movdqa xmm0, [{constants} + {group}]",
                "paddd xmm0, {newest}",
                "sha256rnds2 {cdgh}, {abef}",
                "movdqa {made}, [{rows} + {oldest}]",
                "sha256msg1 {made}, [{rows} + {second}]",
                "movdqa {between}, {newest}",
                "palignr {between}, [{rows} + {third}], 4",
                "pshufd xmm0, xmm0, 14",
                "paddd {made}, {between}",
                "sha256msg2 {made}, {newest}",
                "sha256rnds2 {abef}, {cdgh}",
                "movdqa [{rows} + {next}], {made}",
                constants = in(reg) CONSTANTS.0.as_ptr(),
                rows = in(reg) rows.as_mut_ptr(),
                newest = in(xmm_reg) *newest,
                made = out(xmm_reg) made,
                between = out(xmm_reg) _,
                abef = inout(xmm_reg) state.abef,
                cdgh = inout(xmm_reg) state.cdgh,
                oldest = const (GROUP - 3) * GROUP_BYTES,
                second = const (GROUP - 2) * GROUP_BYTES,
                third = const (GROUP - 1) * GROUP_BYTES,
                group = const GROUP * GROUP_BYTES,
                next = const (GROUP + 1) * GROUP_BYTES,
                out("xmm0") _,
                options(nostack, preserves_flags),
            );
        }
        *newest = made;
    }
}

/// [`group_and_words`] for each of the groups.
macro_rules! groups_and_words {
    ($states:ident, $newest:ident, $rows:expr, $($group:literal)*) => {
        $(group_and_words::<HEADERS, $group>(&mut $states, &mut $newest, $rows);)*
    };
}

/// The rows of both hashes of every header. What is padding in them never changes.
struct BothRows<const HEADERS: usize> {
    first: [Rows; HEADERS],
    second: [Rows; HEADERS],
}

impl<const HEADERS: usize> BothRows<HEADERS> {
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn new() -> Self {
        let mut first = [_mm_setzero_si128(); GROUPS];
        let mut second = first;
        first[1] = vector([PADDING, 0, 0, 0]);
        first[3] = vector([0, 0, 0, HEADER_BITS]);
        second[2] = vector([PADDING, 0, 0, 0]);
        second[3] = vector([0, 0, 0, DIGEST_BITS]);
        Self { first: [first; HEADERS], second: [second; HEADERS] }
    }
}

#[target_feature(enable = "sha,sse4.1,ssse3")]
fn scan<const HEADERS: usize>(job: &Job, range: NonceRange) -> Option<Found> {
    let prepared = Prepared::new(job);
    let lanes = HEADERS as u32;
    let mut rows = BothRows::new();
    let mut offset = 0u32;
    while offset < range.count {
        let tops = top_words::<HEADERS>(&prepared, &mut rows, range.start.wrapping_add(offset));
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
fn top_words<const HEADERS: usize>(
    prepared: &Prepared,
    rows: &mut BothRows<HEADERS>,
    first_nonce: u32,
) -> [u32; HEADERS] {
    let BothRows { first, second } = rows;
    let middle = pack(prepared.midstate);

    // First hash, from round 2 on.
    let mut states = [pack(prepared.after_round_1); HEADERS];
    let [version_end, time, bits] = prepared.tail;
    let before_nonce = vector([version_end, time, bits, 0]);
    let mut words = [before_nonce; HEADERS];
    for ((header, words), rows) in (0u32..).zip(&mut words).zip(&mut *first) {
        let nonce = first_nonce.wrapping_add(header).swap_bytes();
        rows[0] = _mm_insert_epi32::<3>(before_nonce, nonce.cast_signed());
        *words = vector([bits.wrapping_add(K[2]), nonce.wrapping_add(K[3]), 0, 0]);
    }
    two_rounds(&mut states, words);
    known_group::<HEADERS, 1>(&mut states, &AND_HEADER_END);
    known_group::<HEADERS, 2>(&mut states, &AND_HEADER_END);
    let mut newest = first.map(|rows| rows[3]);
    groups_and_words!(states, newest, first, 3 4 5 6 7 8 9 10 11 12 13 14);
    group::<HEADERS, 15>(&mut states, first);

    // Second hash: the digest's words in order.
    for (rows, state) in second.iter_mut().zip(states) {
        let abef = _mm_shuffle_epi32::<0x1b>(_mm_add_epi32(state.abef, middle.abef));
        let cdgh = _mm_shuffle_epi32::<0x1b>(_mm_add_epi32(state.cdgh, middle.cdgh));
        rows[0] = _mm_unpacklo_epi64(abef, cdgh);
        rows[1] = _mm_unpackhi_epi64(abef, cdgh);
    }
    let mut states = [pack(INITIAL_STATE); HEADERS];
    group::<HEADERS, 0>(&mut states, second);
    group::<HEADERS, 1>(&mut states, second);
    known_group::<HEADERS, 2>(&mut states, &AND_DIGEST_END);
    let mut newest = second.map(|rows| rows[3]);
    groups_and_words!(states, newest, second, 3 4 5 6 7 8 9 10 11 12 13 14);
    // Rounds 60 and 61. The `f` after them is the `e` of round 60, which would be the `h` of round 63.
    let constants = vector([K[60], K[61], 0, 0]);
    two_rounds(&mut states, newest.map(|words| _mm_add_epi32(words, constants)));
    states.map(|state| _mm_cvtsi128_si32(state.abef).cast_unsigned().wrapping_add(INITIAL_STATE[7]).swap_bytes())
}
