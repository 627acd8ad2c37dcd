//! Four headers in step by the SHA instructions, around them the three-operand forms of AVX.
//!
//! Four headers have eight vectors of state and sixteen of words, and the SHA instructions can name sixteen registers. So
//! the words lie in memory, but for the newest four of each header.
//!
//! What bounds it, measured on a Zen 4 with instructions that do not wait: four vector units, of which `sha256rnds2` and
//! every simple instruction take one for a cycle, `sha256msg1` two and `sha256msg2` four. And six operations enter a cycle,
//! but `sha256msg2` enters alone, and what is before it is not filled up. So this kernel saves both:
//!
//! - `sha256msg1` and `sha256msg2` with an operand in memory take three cycles instead of one and two: they have none.
//! - AVX needs no copy before `palignr`, and takes the round constants from memory in the addition itself.
//! - The schedule's first words are mostly padding: `sha256msg1` is left out five times, `sha256msg2` once.
//! - Rounds whose words are known read both halves from a table, without a shuffle.
//! - Only the last four rows of words are kept: their offsets, and those of the round constants, fit into one byte.
//!
//! 94 cycles a hash; without all that 112. Tried without gain: headers in different parts of their hashes, `sha256msg2` of
//! two headers side by side, the upper half of a group's words by way of memory instead of `pshufd` (worse), three headers
//! with two rows of words in registers (they wait for the rounds).

use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

use super::lanes::check_hits;
use super::sha256::{DIGEST_BITS, HEADER_BITS, K, PADDING, Prepared, small_sigma0};
use super::{Kernel, NonceRange, streams};
use crate::job::{Found, INITIAL_STATE, Job};

/// Proves that the processor has the SHA instructions and AVX; only [`ShaNiAvx::detect`] makes one.
#[derive(Clone, Copy, Debug)]
struct HasShaAndAvx(());

/// The SHA kernel with four headers in step.
#[derive(Clone, Copy, Debug)]
pub struct ShaNiAvx(HasShaAndAvx);

impl ShaNiAvx {
    /// The kernel, if this processor can run it.
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("sha") && is_x86_feature_detected!("avx");
        has.then_some(Self(HasShaAndAvx(())))
    }
}

impl Kernel for ShaNiAvx {
    fn name(&self) -> &'static str {
        "sha-ni+avx x4"
    }

    fn scan(&self, job: &Job, range: NonceRange) -> Option<Found> {
        let HasShaAndAvx(()) = self.0;
        // SAFETY: the value just taken apart proves that the processor has the instructions.
        unsafe { scan(job, range) }
    }

    fn run_stream(&self, hashes: u32) -> bool {
        let HasShaAndAvx(()) = self.0;
        // SAFETY: the value just taken apart proves that the processor has the instructions.
        unsafe { streams::sha(hashes) };
        true
    }
}

/// Headers in step.
const HEADERS: usize = 4;

/// The words of a group of four rounds.
type Row = [u32; 4];
const ROW_BYTES: usize = size_of::<Row>();

/// The last rows of a header's words: those of group `g` are at `g mod 4`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Rows([Row; 4]);

const fn row(group: usize) -> usize {
    group % 4 * ROW_BYTES
}

/// What is the same for all headers of a search.
#[repr(C, align(64))]
struct Constants {
    k: [Row; 16],
    /// Round constants with their words: rounds 4 to 15 of the first hash, whose words are padding.
    header_end: [Row; 3],
    /// Rounds 8 to 15 of the second hash.
    digest_end: [Row; 2],
    /// What the first hash's words 20 to 23 and 28 to 31 have of words that are padding or the same for all nonces.
    words_20: Row,
    words_28: Row,
    /// And the second hash's words 24 to 27.
    second_words_24: Row,
}

// The places of the constants, in rows.
const HEADER_END: usize = 16;
const DIGEST_END: usize = 19;
const WORDS_20: usize = 21;
const WORDS_28: usize = 22;
const SECOND_WORDS_24: usize = 23;

/// From [`Constants::near`]: what is not further away has an offset of one byte.
const fn constant(place: usize) -> isize {
    (place * ROW_BYTES) as isize - Constants::NEAR
}

impl Constants {
    const NEAR: isize = 128;

    fn new(prepared: &Prepared) -> Self {
        let k: [Row; 16] = std::array::from_fn(|group| std::array::from_fn(|i| K[4 * group + i]));
        let with = |group: usize, words: Row| std::array::from_fn(|i| k[group][i].wrapping_add(words[i]));
        let word_16 = prepared.word_16;
        Self {
            k,
            header_end: [with(1, [PADDING, 0, 0, 0]), k[2], with(3, [0, 0, 0, HEADER_BITS])],
            digest_end: [with(2, [PADDING, 0, 0, 0]), with(3, [0, 0, 0, DIGEST_BITS])],
            words_20: [PADDING, 0, HEADER_BITS, word_16],
            words_28: [0, 0, small_sigma0(HEADER_BITS), small_sigma0(word_16).wrapping_add(HEADER_BITS)],
            second_words_24: [PADDING, 0, 0, 0],
        }
    }

    /// Where offsets count from.
    fn near(&self) -> *const u8 {
        std::ptr::from_ref(self).cast::<u8>().wrapping_offset(Self::NEAR)
    }
}

/// The state of one hash, from the highest lane on `a b e f` and `c d g h`.
#[derive(Clone, Copy)]
struct State {
    abef: __m128i,
    cdgh: __m128i,
}

/// A header in work: its state, and the words of the newest group.
#[derive(Clone, Copy)]
struct Header {
    state: State,
    newest: __m128i,
}

#[inline]
#[target_feature(enable = "sha,avx")]
fn vector(words: [u32; 4]) -> __m128i {
    let [w0, w1, w2, w3] = words.map(u32::cast_signed);
    _mm_setr_epi32(w0, w1, w2, w3)
}

#[inline]
#[target_feature(enable = "sha,avx")]
fn pack([a, b, c, d, e, f, g, h]: [u32; 8]) -> State {
    State { abef: vector([f, e, b, a]), cdgh: vector([h, g, d, c]) }
}

/// Four rounds whose words are known: those at this place of the constants.
#[inline]
#[target_feature(enable = "sha,avx")]
fn known_rounds<const PLACE: usize>(headers: &mut [Header; HEADERS], constants: &Constants) {
    for Header { state, .. } in headers {
        // SAFETY: the instructions are enabled, and read within the constants, whose rows are aligned.
        unsafe {
            asm!(
                "vmovdqa xmm0, [{constants} + {words}]",
                "sha256rnds2 {cdgh}, {abef}",
                "vmovq xmm0, qword ptr [{constants} + {words} + 8]",
                "sha256rnds2 {abef}, {cdgh}",
                constants = in(reg) constants.near(),
                abef = inout(xmm_reg) state.abef,
                cdgh = inout(xmm_reg) state.cdgh,
                words = const constant(PLACE),
                out("xmm0") _,
                options(readonly, nostack, preserves_flags),
            );
        }
    }
}

/// The four rounds of a group.
#[inline]
#[target_feature(enable = "sha,avx")]
fn rounds<const GROUP: usize>(state: &mut State, words: __m128i, constants: &Constants) {
    // SAFETY: as in `known_rounds`.
    unsafe {
        asm!(
            "vpaddd xmm0, {words}, [{constants} + {k}]",
            "sha256rnds2 {cdgh}, {abef}",
            "vpshufd xmm0, xmm0, 14",
            "sha256rnds2 {abef}, {cdgh}",
            constants = in(reg) constants.near(),
            words = in(xmm_reg) words,
            abef = inout(xmm_reg) state.abef,
            cdgh = inout(xmm_reg) state.cdgh,
            k = const constant(GROUP),
            out("xmm0") _,
            options(readonly, nostack, preserves_flags),
        );
    }
}

/// A group's rounds, and the words of the group after it.
#[inline]
#[target_feature(enable = "sha,avx")]
fn group<const GROUP: usize>(headers: &mut [Header; HEADERS], rows: &mut [Rows; HEADERS], constants: &Constants) {
    for (Header { state, newest }, rows) in headers.iter_mut().zip(rows) {
        let made: __m128i;
        // SAFETY: the instructions are enabled. They read and write within the rows, which are aligned.
        unsafe {
            asm!(
                "vmovdqa {made}, [{rows} + {oldest}]",
                "vmovdqa {other}, [{rows} + {second}]",
                "sha256msg1 {made}, {other}",
                "vpalignr {other}, {newest}, [{rows} + {third}], 4",
                "vpaddd {made}, {made}, {other}",
                "sha256msg2 {made}, {newest}",
                "vmovdqa [{rows} + {oldest}], {made}",
                rows = in(reg) rows.0.as_mut_ptr(),
                newest = in(xmm_reg) *newest,
                made = out(xmm_reg) made,
                other = out(xmm_reg) _,
                oldest = const row(GROUP + 1),
                second = const row(GROUP + 2),
                third = const row(GROUP + 3),
                options(nostack, preserves_flags),
            );
        }
        rounds::<GROUP>(state, *newest, constants);
        *newest = made;
    }
}

/// [`group`] where the old words' part of the new ones is known.
#[inline]
#[target_feature(enable = "sha,avx")]
fn group_with<const GROUP: usize, const PLACE: usize>(
    headers: &mut [Header; HEADERS],
    rows: &mut [Rows; HEADERS],
    constants: &Constants,
) {
    for (Header { state, newest }, rows) in headers.iter_mut().zip(rows) {
        let made: __m128i;
        // SAFETY: as in `group`, and within the constants.
        unsafe {
            asm!(
                "vpalignr {made}, {newest}, [{rows} + {third}], 4",
                "vpaddd {made}, {made}, [{constants} + {known}]",
                "sha256msg2 {made}, {newest}",
                "vmovdqa [{rows} + {oldest}], {made}",
                rows = in(reg) rows.0.as_mut_ptr(),
                constants = in(reg) constants.near(),
                newest = in(xmm_reg) *newest,
                made = out(xmm_reg) made,
                oldest = const row(GROUP + 1),
                third = const row(GROUP + 3),
                known = const constant(PLACE),
                options(nostack, preserves_flags),
            );
        }
        rounds::<GROUP>(state, *newest, constants);
        *newest = made;
    }
}

/// [`group_with`] where that part is zero.
#[inline]
#[target_feature(enable = "sha,avx")]
fn group_with_zero<const GROUP: usize>(
    headers: &mut [Header; HEADERS],
    rows: &mut [Rows; HEADERS],
    constants: &Constants,
) {
    for (Header { state, newest }, rows) in headers.iter_mut().zip(rows) {
        let made: __m128i;
        // SAFETY: as in `group`.
        unsafe {
            asm!(
                "vpalignr {made}, {newest}, [{rows} + {third}], 4",
                "sha256msg2 {made}, {newest}",
                "vmovdqa [{rows} + {oldest}], {made}",
                rows = in(reg) rows.0.as_mut_ptr(),
                newest = in(xmm_reg) *newest,
                made = out(xmm_reg) made,
                oldest = const row(GROUP + 1),
                third = const row(GROUP + 3),
                options(nostack, preserves_flags),
            );
        }
        rounds::<GROUP>(state, *newest, constants);
        *newest = made;
    }
}

/// [`group`] for each of the groups.
macro_rules! groups {
    ($headers:ident, $rows:ident, $constants:ident: $($group:literal)*) => {
        $(group::<$group>(&mut $headers, $rows, $constants);)*
    };
}

#[inline]
#[target_feature(enable = "sha,avx")]
fn set(rows: &mut Rows, group: usize, words: __m128i) {
    // SAFETY: a row is as long as a vector, and aligned like one.
    unsafe { _mm_store_si128(rows.0[group % 4].as_mut_ptr().cast(), words) };
}

#[inline]
#[target_feature(enable = "sha,avx")]
fn get(rows: &Rows, group: usize) -> __m128i {
    // SAFETY: as in `set`.
    unsafe { _mm_load_si128(rows.0[group % 4].as_ptr().cast()) }
}

/// Where both hashes begin.
struct Beginnings {
    /// After round 3 of the first hash, without the nonce.
    first: State,
    middle: State,
    second: State,
    words_16: __m128i,
    word_18: __m128i,
    word_19: __m128i,
}

impl Beginnings {
    #[inline]
    #[target_feature(enable = "sha,avx")]
    fn new(prepared: &Prepared) -> Self {
        let [a, b, c, _, e, f, g, _] = prepared.after_round_2;
        let (new_a, new_e) = prepared.round_3;
        Self {
            first: pack([new_a, a, b, c, new_e, e, f, g]),
            middle: pack(prepared.midstate),
            second: pack(INITIAL_STATE),
            words_16: vector([prepared.word_16, prepared.word_17, 0, 0]),
            word_18: vector([prepared.word_18; 4]),
            word_19: vector([prepared.word_19; 4]),
        }
    }

    /// The headers with these nonces after round 3, with words 16 to 19.
    #[inline]
    #[target_feature(enable = "sha,avx")]
    fn headers(&self, nonces: __m128i) -> [Header; HEADERS] {
        let nonces = _mm_shuffle_epi8(nonces, _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12));
        let rotated_7 = _mm_xor_si128(_mm_srli_epi32::<7>(nonces), _mm_slli_epi32::<25>(nonces));
        let rotated_18 = _mm_xor_si128(_mm_srli_epi32::<18>(nonces), _mm_slli_epi32::<14>(nonces));
        let sigma = _mm_xor_si128(_mm_xor_si128(rotated_7, rotated_18), _mm_srli_epi32::<3>(nonces));
        let (words_18, words_19) = (_mm_add_epi32(sigma, self.word_18), _mm_add_epi32(nonces, self.word_19));
        let (low, high) = (_mm_unpacklo_epi32(words_18, words_19), _mm_unpackhi_epi32(words_18, words_19));
        let zero = _mm_setzero_si128();
        let (nonces_low, nonces_high) = (_mm_unpacklo_epi32(zero, nonces), _mm_unpackhi_epi32(zero, nonces));
        let header = |nonce: __m128i, newest: __m128i| Header {
            state: State { abef: _mm_add_epi32(self.first.abef, nonce), cdgh: self.first.cdgh },
            newest,
        };
        [
            header(_mm_unpacklo_epi64(nonces_low, nonces_low), _mm_unpacklo_epi64(self.words_16, low)),
            header(_mm_unpackhi_epi64(nonces_low, nonces_low), _mm_blend_epi16::<0xf0>(self.words_16, low)),
            header(_mm_unpacklo_epi64(nonces_high, nonces_high), _mm_unpacklo_epi64(self.words_16, high)),
            header(_mm_unpackhi_epi64(nonces_high, nonces_high), _mm_blend_epi16::<0xf0>(self.words_16, high)),
        ]
    }
}

#[target_feature(enable = "sha,avx")]
fn scan(job: &Job, range: NonceRange) -> Option<Found> {
    const LANES: u32 = HEADERS as u32;
    let prepared = Prepared::new(job);
    let beginnings = Beginnings::new(&prepared);
    let constants = Constants::new(&prepared);
    let mut rows = [Rows([[0; 4]; 4]); HEADERS];
    let mut offset = 0u32;
    while offset < range.count {
        let nonces = _mm_add_epi32(vector([range.start.wrapping_add(offset); 4]), _mm_setr_epi32(0, 1, 2, 3));
        // The compiler must not know what is in memory: it would take it apart and keep it in registers.
        let tops = top_words(&beginnings, black_box(&constants), black_box(&mut rows), nonces);
        let mut hits = 0u32;
        for (lane, top) in tops.into_iter().enumerate() {
            hits |= u32::from(top <= prepared.target_top) << lane;
        }
        if hits != 0
            && let Some(found) = check_hits(job, range, offset, hits)
        {
            return Some(found);
        }
        let Some(next) = offset.checked_add(LANES) else { break };
        offset = next;
    }
    None
}

/// The most significant words of the double hashes with these nonces.
#[inline]
#[target_feature(enable = "sha,avx")]
fn top_words(
    beginnings: &Beginnings,
    constants: &Constants,
    rows: &mut [Rows; HEADERS],
    nonces: __m128i,
) -> [u32; HEADERS] {
    // First hash, from round 4 on.
    let mut headers = beginnings.headers(nonces);
    known_rounds::<HEADER_END>(&mut headers, constants);
    known_rounds::<{ HEADER_END + 1 }>(&mut headers, constants);
    known_rounds::<{ HEADER_END + 2 }>(&mut headers, constants);
    for (Header { state, newest }, rows) in headers.iter_mut().zip(&mut *rows) {
        set(rows, 4, *newest);
        let words_20 = message_2(place::<WORDS_20>(constants), *newest);
        set(rows, 5, words_20);
        rounds::<4>(state, *newest, constants);
        *newest = words_20;
    }
    group_with_zero::<5>(&mut headers, rows, constants);
    group_with::<6, WORDS_28>(&mut headers, rows, constants);
    groups!(headers, rows, constants: 7 8 9 10 11 12 13 14);
    // Then the digest is the second hash's words.
    for (Header { state, newest }, rows) in headers.iter_mut().zip(&mut *rows) {
        rounds::<15>(state, *newest, constants);
        let abef = _mm_castsi128_ps(_mm_add_epi32(state.abef, beginnings.middle.abef));
        let cdgh = _mm_castsi128_ps(_mm_add_epi32(state.cdgh, beginnings.middle.cdgh));
        *newest = _mm_castps_si128(_mm_shuffle_ps::<0b10_11_10_11>(abef, cdgh));
        set(rows, 0, *newest);
        set(rows, 1, _mm_castps_si128(_mm_shuffle_ps::<0b00_01_00_01>(abef, cdgh)));
        *state = beginnings.second;
    }
    for (Header { state, newest }, rows) in headers.iter_mut().zip(&mut *rows) {
        rounds::<0>(state, *newest, constants);
        set(rows, 2, vector([PADDING, 0, 0, 0]));
        set(rows, 3, vector([0, 0, 0, DIGEST_BITS]));
    }
    for (Header { state, newest }, rows) in headers.iter_mut().zip(&mut *rows) {
        let (words_0, words_4) = (get(rows, 0), get(rows, 1));
        rounds::<1>(state, words_4, constants);
        *newest = message_2(_mm_sha256msg1_epu32(words_0, words_4), vector([0, 0, 0, DIGEST_BITS]));
        set(rows, 4, *newest);
    }
    known_rounds::<DIGEST_END>(&mut headers, constants);
    known_rounds::<{ DIGEST_END + 1 }>(&mut headers, constants);
    group::<4>(&mut headers, rows, constants);
    group_with::<5, SECOND_WORDS_24>(&mut headers, rows, constants);
    groups!(headers, rows, constants: 6 7 8 9 10 11 12 13 14);
    // Rounds 60 and 61. The `f` after them is the `e` of round 60, which would be the `h` of round 63.
    headers.map(|Header { state, newest }| {
        let words = _mm_add_epi32(newest, place::<15>(constants));
        let abef = _mm_sha256rnds2_epu32(state.cdgh, state.abef, words);
        _mm_cvtsi128_si32(abef).cast_unsigned().wrapping_add(INITIAL_STATE[7]).swap_bytes()
    })
}

#[inline]
#[target_feature(enable = "sha,avx")]
fn message_2(made: __m128i, newest: __m128i) -> __m128i {
    _mm_sha256msg2_epu32(made, newest)
}

/// The constants at this place.
#[inline]
#[target_feature(enable = "sha,avx")]
fn place<const PLACE: usize>(constants: &Constants) -> __m128i {
    // SAFETY: within the constants, whose rows are aligned.
    unsafe { _mm_load_si128(constants.near().wrapping_offset(constant(PLACE)).cast()) }
}
