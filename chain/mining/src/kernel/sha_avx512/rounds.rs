//! The rounds of both hashes by the SHA instructions, six headers in step.
//!
//! An instruction does two rounds in four cycles, and the next of the same header waits for it; so three pairs of
//! headers take turns, and every [`SLOT`] parts one pair ends and another begins:
//!
//! ```text
//!   slot      0          1          2          3          4          5          6          7          0
//!   begins    first hash of headers 0 1, 2 3, 4 5 and 6 7            second hash of headers 0 1, 2 3, 4 5 and 6 7
//!   goes on   two pairs that began in the two slots before; a pair ends after three slots
//! ```

use std::arch::asm;
use std::arch::x86_64::*;

use super::schedule::{BATCH, FirstRows, PLACE, Row, SecondRows};
use super::vector::four;
use crate::job::INITIAL_STATE;
use crate::kernel::sha256::{HEADER_BITS, PADDING, Prepared, SECOND_ROUND_0};

/// Parts of a turn.
pub(super) const PARTS: usize = 240;
/// Pairs of headers that begin in a turn, the first half with the first hash of a batch, the others with the second
/// of another.
const PAIRS: usize = 8;
/// Parts from the beginning of a pair of headers to that of the next.
const SLOT: usize = PARTS / PAIRS;
/// Pairs of headers in step. Their states and the implicit operand fit into the sixteen registers that the SHA
/// instructions can address.
const IN_STEP: usize = 3;
/// Instructions for a header's hash: rounds 4 to 63 of the first, rounds 1 to 60 of the second.
const INSTRUCTIONS: usize = 30;

/// The state of one hash, from the highest lane on `a b e f` and `c d g h`.
#[derive(Clone, Copy)]
pub(super) struct State {
    abef: __m128i,
    cdgh: __m128i,
}

/// The states of the two headers of each pair.
pub(super) type States = [[State; 2]; PAIRS];

/// Where every header begins.
pub(super) struct Beginnings {
    /// The state after round 3 of the first hash, without the nonce.
    first: State,
    /// The state after round 0 of the second hash, without its word.
    second: State,
}

impl Beginnings {
    #[inline]
    #[target_feature(enable = "sha,avx512f,avx512vl")]
    pub(super) fn new(prepared: &Prepared) -> Self {
        let after = &prepared.after_round_2;
        let [a, b, c, _, e, f, g, _] = INITIAL_STATE;
        Self {
            first: State {
                abef: four([after[4], prepared.round_3.1, after[0], prepared.round_3.0]),
                cdgh: four([after[6], after[5], after[2], after[1]]),
            },
            second: State { abef: four([e, SECOND_ROUND_0.1, a, SECOND_ROUND_0.0]), cdgh: four([g, f, c, b]) },
        }
    }

    /// States for pairs that have not begun.
    pub(super) fn states(&self) -> States {
        [[self.first; 2]; PAIRS]
    }
}

/// What the rounds leave to the schedule of the second hash, and in the end.
pub(super) struct Outcomes {
    /// The first hash's last states: headers `i` and `i + 4` in row `i`.
    pub(super) abef: [[__m128i; 2]; BATCH / 2],
    pub(super) cdgh: [[__m128i; 2]; BATCH / 2],
    /// `f` and `e` after round 60 of the second hash, at [`PLACE`].
    pub(super) last: Row,
}

/// Which pair of headers part `part` of a turn is for.
const fn pair_of(part: usize) -> usize {
    (part / SLOT + PAIRS - part % IN_STEP) % PAIRS
}

/// Which of its instructions.
pub(super) const fn instruction_of(part: usize) -> usize {
    part % IN_STEP * (INSTRUCTIONS / IN_STEP) + part % SLOT / IN_STEP
}

/// One instruction for header `IN_PAIR` of the pair whose part this is.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
pub(super) fn rounds<const PART: usize, const INSTRUCTION: usize, const IN_PAIR: usize>(
    prepared: &Prepared,
    beginnings: &Beginnings,
    (first, second): (&FirstRows, &SecondRows),
    states: &mut States,
    outcomes: &mut Outcomes,
) {
    let pair = pair_of(PART);
    let state = &mut states[pair][IN_PAIR];
    let header = 2 * (pair % (PAIRS / 2)) + IN_PAIR;
    if pair < PAIRS / 2 {
        if INSTRUCTION == 0 {
            *state = begin(beginnings.first, &first[0], header);
        }
        first_rounds::<INSTRUCTION>(prepared, first, header, state);
        if INSTRUCTION == INSTRUCTIONS - 1 {
            outcomes.abef[header % 4][header / 4] = state.abef;
            outcomes.cdgh[header % 4][header / 4] = state.cdgh;
        }
    } else {
        if INSTRUCTION == 0 {
            *state = begin(beginnings.second, &second[0], header);
        }
        second_rounds::<INSTRUCTION>(prepared, second, header, state);
        if INSTRUCTION == INSTRUCTIONS - 1 {
            outcomes.last[PLACE[header]] = _mm_cvtsi128_si64(state.abef).cast_unsigned();
        }
    }
}

/// Rounds `4 + 2 * INSTRUCTION` and the next one of the first hash.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn first_rounds<const INSTRUCTION: usize>(prepared: &Prepared, rows: &FirstRows, header: usize, state: &mut State) {
    let round = 4 + 2 * INSTRUCTION;
    let words = if INSTRUCTION < 7 {
        let (one, two) = match INSTRUCTION {
            0 => (PADDING, 0),
            5 => (0, HEADER_BITS),
            6 => (prepared.word_16, prepared.word_17),
            _ => (0, 0),
        };
        four([prepared.k[round].wrapping_add(one), prepared.k[round + 1].wrapping_add(two), 0, 0])
    } else {
        of_header(&rows[INSTRUCTION - 6], header)
    };
    two_rounds(state, words);
}

/// Rounds `1 + 2 * INSTRUCTION` and the next one of the second hash.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn second_rounds<const INSTRUCTION: usize>(prepared: &Prepared, rows: &SecondRows, header: usize, state: &mut State) {
    let k = prepared.k;
    let round = 1 + 2 * INSTRUCTION;
    let words = match INSTRUCTION {
        0..4 => of_header(&rows[INSTRUCTION + 1], header),
        4..7 => four([k[round], k[round + 1], 0, 0]),
        _ => of_header(&rows[INSTRUCTION - 2], header),
    };
    two_rounds(state, words);
}

/// The state with the row's word added to `a` and `e`.
#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn begin(state: State, row: &Row, header: usize) -> State {
    let word = _mm_set1_epi64x(row[PLACE[header]].cast_signed());
    State { abef: _mm_add_epi32(state.abef, word), cdgh: state.cdgh }
}

#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn of_header(row: &Row, header: usize) -> __m128i {
    _mm_cvtsi64_si128(row[PLACE[header]].cast_signed())
}

#[inline]
#[target_feature(enable = "sha,avx512f,avx512vl")]
fn two_rounds(state: &mut State, words: __m128i) {
    let mut new = state.cdgh;
    // SAFETY: the instruction is of the SHA extension, which this function has enabled; it touches registers only.
    unsafe {
        asm!(
            "sha256rnds2 {new}, {abef}",
            new = inout(xmm_reg) new,
            abef = in(xmm_reg) state.abef,
            in("xmm0") words,
            options(nomem, nostack, preserves_flags),
        );
    }
    *state = State { abef: new, cdgh: state.abef };
}
