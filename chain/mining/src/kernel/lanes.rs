//! The search over vectors of 32-bit words: every lane hashes its own nonce, and nothing ever moves between lanes.
//!
//! The state rotates by renaming: in round `T` the words `a`…`h` are at `(i - T) mod 8` of one array. Rounds and
//! schedule are unrolled, so these are registers. (Two vectors in step hide each other's latency, but their registers
//! spill: on every processor tried, with 16 or 32 registers, they are slower than one.)

use super::NonceRange;
use super::sha256::{DIGEST_BITS, HEADER_BITS, PADDING, Prepared, SECOND_ROUND_0, small_sigma0, small_sigma1};
use crate::job::{Found, INITIAL_STATE, Job};

/// A vector of 32-bit words. A value can only be made where the processor has its instructions, which `Proof` proves;
/// so whoever holds a value may use them.
pub(super) trait Lanes: Copy {
    /// Proves that the processor has the instructions.
    type Proof: Copy;
    /// How many words there are.
    const COUNT: u32;

    /// `word` in every lane.
    fn splat(proof: Self::Proof, word: u32) -> Self;
    /// 0, 1, 2 and so on.
    fn count_up(proof: Self::Proof) -> Self;
    fn add(self, other: Self) -> Self;
    fn swap_bytes(self) -> Self;
    fn big_sigma0(self) -> Self;
    fn big_sigma1(self) -> Self;
    fn small_sigma0(self) -> Self;
    fn small_sigma1(self) -> Self;
    /// Each bit of `yes` where this has a one, of `no` where it has a zero.
    fn choose(self, yes: Self, no: Self) -> Self;
    fn majority(self, two: Self, three: Self) -> Self;
    /// A bit for each lane whose unsigned word is not above the other's, the first lane lowest.
    fn at_most(self, other: Self) -> u32;
}

/// Where the word of this rank (`a` = 0) is in round `T`.
const fn place(rank: usize, t: usize) -> usize {
    (rank + 64 - t) & 7
}

#[inline(always)]
fn round<V: Lanes, const T: usize>(state: &mut [V; 8], constant_and_word: V) {
    let e = state[place(4, T)];
    let choice = e.choose(state[place(5, T)], state[place(6, T)]);
    // Big sigma 1 last: it is what the next round waits for.
    let one = state[place(7, T)].add(constant_and_word).add(choice).add(e.big_sigma1());
    let a = state[place(0, T)];
    let two = a.big_sigma0().add(a.majority(state[place(1, T)], state[place(2, T)]));
    state[place(3, T)] = state[place(3, T)].add(one);
    state[place(7, T)] = one.add(two);
}

/// Schedule word `T` in place of word `T - 16`.
#[inline(always)]
fn schedule<V: Lanes, const T: usize>(words: &mut [V; 16]) {
    let new = words[(T - 16) & 15].add(words[(T - 15) & 15].small_sigma0());
    words[T & 15] = new.add(words[(T - 7) & 15]).add(words[(T - 2) & 15].small_sigma1());
}

/// The rounds `$t`, each with its constant and its schedule word.
macro_rules! rounds {
    ($splat:ident, $k:ident, $state:ident, $words:ident: $($t:literal)*) => {
        $(round::<V, $t>(&mut $state, $words[$t & 15].add($splat($k[$t])));)*
    };
}

/// The rounds `$t` with a schedule word that is computed in passing.
macro_rules! scheduled_rounds {
    ($splat:ident, $k:ident, $state:ident, $words:ident: $($t:literal)*) => {
        $(
            schedule::<V, $t>(&mut $words);
            round::<V, $t>(&mut $state, $words[$t & 15].add($splat($k[$t])));
        )*
    };
}

/// The rounds `$t` whose schedule word is zero.
macro_rules! empty_rounds {
    ($splat:ident, $k:ident, $state:ident: $($t:literal)*) => {
        $(round::<V, $t>(&mut $state, $splat($k[$t]));)*
    };
}

/// The most significant word of the double hash for every lane's nonce.
#[inline(always)]
fn top_words<V: Lanes>(proof: V::Proof, prepared: &Prepared, nonces: V) -> V {
    let splat = |word: u32| V::splat(proof, word);
    let k = prepared.k;
    let nonce = nonces.swap_bytes();

    // First hash. Rounds 0 to 2 are prepared; after round 3 the state is at the places of round 4.
    let after = &prepared.after_round_2;
    let mut state = [splat(0); 8];
    for (rank, word) in [(1, after[0]), (2, after[1]), (3, after[2]), (5, after[4]), (6, after[5]), (7, after[6])] {
        state[place(rank, 4)] = splat(word);
    }
    state[place(0, 4)] = nonce.add(splat(prepared.round_3.0));
    state[place(4, 4)] = nonce.add(splat(prepared.round_3.1));
    round::<V, 4>(&mut state, splat(k[4].wrapping_add(PADDING)));
    empty_rounds!(splat, k, state: 5 6 7 8 9 10 11 12 13 14);
    round::<V, 15>(&mut state, splat(k[15].wrapping_add(HEADER_BITS)));
    round::<V, 16>(&mut state, splat(k[16].wrapping_add(prepared.word_16)));
    round::<V, 17>(&mut state, splat(k[17].wrapping_add(prepared.word_17)));
    // The schedule while most of its sources are zero or fixed. The two fixed words stay in for word 23 and 24.
    let mut words = [splat(0); 16];
    words[0] = splat(prepared.word_16);
    words[1] = splat(prepared.word_17);
    words[2] = nonce.small_sigma0().add(splat(prepared.word_18));
    words[3] = nonce.add(splat(prepared.word_19));
    words[4] = words[2].small_sigma1().add(splat(PADDING));
    words[5] = words[3].small_sigma1();
    words[6] = words[4].small_sigma1().add(splat(HEADER_BITS));
    rounds!(splat, k, state, words: 18 19 20 21 22);
    words[7] = words[5].small_sigma1().add(words[0]);
    words[8] = words[6].small_sigma1().add(words[1]);
    words[9] = words[7].small_sigma1().add(words[2]);
    words[10] = words[8].small_sigma1().add(words[3]);
    rounds!(splat, k, state, words: 23 24 25 26);
    words[11] = words[9].small_sigma1().add(words[4]);
    words[12] = words[10].small_sigma1().add(words[5]);
    words[13] = words[11].small_sigma1().add(words[6]);
    words[14] = words[12].small_sigma1().add(words[7]).add(splat(small_sigma0(HEADER_BITS)));
    let fixed = small_sigma0(prepared.word_16).wrapping_add(HEADER_BITS);
    words[15] = words[13].small_sigma1().add(words[8]).add(splat(fixed));
    rounds!(splat, k, state, words: 27 28 29 30 31);
    let fixed = small_sigma0(prepared.word_17).wrapping_add(prepared.word_16);
    words[0] = words[14].small_sigma1().add(words[9]).add(splat(fixed));
    rounds!(splat, k, state, words: 32);
    scheduled_rounds!(splat, k, state, words: 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48);
    scheduled_rounds!(splat, k, state, words: 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63);

    // Second hash: its words are the first one's digest. After 64 rounds ranks and places agree.
    let mut words = [splat(0); 16];
    for ((word, state), middle) in words.iter_mut().zip(state).zip(prepared.midstate) {
        *word = state.add(splat(middle));
    }
    let [a, b, c, _, e, f, g, _] = INITIAL_STATE;
    let mut state = [splat(0); 8];
    state[place(0, 1)] = words[0].add(splat(SECOND_ROUND_0.0));
    state[place(1, 1)] = splat(a);
    state[place(2, 1)] = splat(b);
    state[place(3, 1)] = splat(c);
    state[place(4, 1)] = words[0].add(splat(SECOND_ROUND_0.1));
    state[place(5, 1)] = splat(e);
    state[place(6, 1)] = splat(f);
    state[place(7, 1)] = splat(g);
    rounds!(splat, k, state, words: 1 2 3 4 5 6 7);
    round::<V, 8>(&mut state, splat(k[8].wrapping_add(PADDING)));
    empty_rounds!(splat, k, state: 9 10 11 12 13 14);
    round::<V, 15>(&mut state, splat(k[15].wrapping_add(DIGEST_BITS)));
    words[0] = words[1].small_sigma0().add(words[0]);
    words[1] = words[2].small_sigma0().add(words[1]).add(splat(small_sigma1(DIGEST_BITS)));
    rounds!(splat, k, state, words: 16 17);
    words[2] = words[3].small_sigma0().add(words[2]).add(words[0].small_sigma1());
    words[3] = words[4].small_sigma0().add(words[3]).add(words[1].small_sigma1());
    rounds!(splat, k, state, words: 18 19);
    words[4] = words[5].small_sigma0().add(words[4]).add(words[2].small_sigma1());
    words[5] = words[6].small_sigma0().add(words[5]).add(words[3].small_sigma1());
    rounds!(splat, k, state, words: 20 21);
    words[6] = words[7].small_sigma0().add(words[6]).add(words[4].small_sigma1()).add(splat(DIGEST_BITS));
    words[7] = words[7].add(words[0]).add(words[5].small_sigma1()).add(splat(small_sigma0(PADDING)));
    rounds!(splat, k, state, words: 22 23);
    words[8] = words[6].small_sigma1().add(words[1]).add(splat(PADDING));
    words[9] = words[7].small_sigma1().add(words[2]);
    words[10] = words[8].small_sigma1().add(words[3]);
    words[11] = words[9].small_sigma1().add(words[4]);
    rounds!(splat, k, state, words: 24 25 26 27);
    words[12] = words[10].small_sigma1().add(words[5]);
    words[13] = words[11].small_sigma1().add(words[6]);
    words[14] = words[12].small_sigma1().add(words[7]).add(splat(small_sigma0(DIGEST_BITS)));
    words[15] = words[13].small_sigma1().add(words[8]).add(words[0].small_sigma0()).add(splat(DIGEST_BITS));
    rounds!(splat, k, state, words: 28 29 30 31);
    scheduled_rounds!(splat, k, state, words: 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48);
    scheduled_rounds!(splat, k, state, words: 49 50 51 52 53 54 55 56 57 58 59 60);
    // The `e` of round 60 would be the `h` of round 63. The hash is little-endian: its last word, byte-swapped, is
    // the most significant.
    state[place(4, 61)].add(splat(INITIAL_STATE[7])).swap_bytes()
}

/// [`super::Kernel::scan`] by vectors of words.
#[inline(always)]
pub(super) fn scan<V: Lanes>(proof: V::Proof, job: &Job, range: NonceRange) -> Option<Found> {
    let prepared = Prepared::new(job);
    let target_top = V::splat(proof, prepared.target_top);
    let first = V::count_up(proof).add(V::splat(proof, range.start));
    let mut offset = 0u32;
    while offset < range.count {
        let nonces = first.add(V::splat(proof, offset));
        let hits = top_words(proof, &prepared, nonces).at_most(target_top);
        if hits != 0
            && let Some(found) = check_hits(job, range, offset, hits)
        {
            return Some(found);
        }
        let Some(next) = offset.checked_add(V::COUNT) else { break };
        offset = next;
    }
    None
}

/// Checks the nonces whose top word is low enough, in order; those past the range's end do not count.
#[cold]
pub(super) fn check_hits(job: &Job, range: NonceRange, offset: u32, mut hits: u32) -> Option<Found> {
    while hits != 0 {
        let tried = offset.checked_add(hits.trailing_zeros()).filter(|tried| *tried < range.count)?;
        if let Some(found) = job.check(range.start.wrapping_add(tried)) {
            return Some(found);
        }
        hits &= hits - 1;
    }
    None
}
