//! What all kernels know about SHA-256 (FIPS 180-4) beforehand.
//!
//! ```text
//!   first hash   block 2 of the header: words 0..2 fixed for a job, word 3 the nonce, then constant padding
//!                  rounds 0..2 and schedule words 16, 17 need no nonce: once a job
//!   second hash  words 0..7 the first digest, then constant padding
//!                  the hash's top word is known after round 60: three rounds and seven words are left out
//! ```

use std::hint::black_box;

use crate::job::{INITIAL_STATE, Job};

/// The round constants.
pub(super) const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2,
];

/// The one bit after the message.
pub(super) const PADDING: u32 = 0x8000_0000;
/// The length of a header in bits: the last word of its second block.
pub(super) const HEADER_BITS: u32 = 640;
/// The length of a digest in bits: the last word of the second hash's block.
pub(super) const DIGEST_BITS: u32 = 256;

pub(super) const fn big_sigma0(x: u32) -> u32 {
    x.rotate_right(2) ^ x.rotate_right(13) ^ x.rotate_right(22)
}

pub(super) const fn big_sigma1(x: u32) -> u32 {
    x.rotate_right(6) ^ x.rotate_right(11) ^ x.rotate_right(25)
}

pub(super) const fn small_sigma0(x: u32) -> u32 {
    x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3)
}

pub(super) const fn small_sigma1(x: u32) -> u32 {
    x.rotate_right(17) ^ x.rotate_right(19) ^ (x >> 10)
}

/// A round's two sums, up to the word that it adds: the new `a` and the new `e`.
pub(super) const fn round_base(state: [u32; 8], k: u32) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = state;
    let choice = (e & f) ^ (!e & g);
    let majority = (a & b) ^ (a & c) ^ (b & c);
    let one = h.wrapping_add(big_sigma1(e)).wrapping_add(choice).wrapping_add(k);
    let two = big_sigma0(a).wrapping_add(majority);
    (one.wrapping_add(two), d.wrapping_add(one))
}

/// One whole round.
pub(super) const fn round(state: [u32; 8], k: u32, word: u32) -> [u32; 8] {
    let [a, b, c, _, e, f, g, _] = state;
    let (new_a, new_e) = round_base(state, k);
    [new_a.wrapping_add(word), a, b, c, new_e.wrapping_add(word), e, f, g]
}

/// The second hash's round 0, up to its word.
pub(super) const SECOND_ROUND_0: (u32, u32) = round_base(INITIAL_STATE, K[0]);

/// What of the first hash is the same for every nonce of a job.
pub(super) struct Prepared {
    pub(super) midstate: [u32; 8],
    pub(super) tail: [u32; 3],
    /// The state after rounds 0 and 1.
    pub(super) after_round_1: [u32; 8],
    /// The state after round 2.
    pub(super) after_round_2: [u32; 8],
    /// Round 3's new `a` and `e`, up to the nonce.
    pub(super) round_3: (u32, u32),
    /// Schedule words 16 and 17.
    pub(super) word_16: u32,
    pub(super) word_17: u32,
    /// Schedule word 18 without the nonce's small sigma 0, and 19 without the nonce.
    pub(super) word_18: u32,
    pub(super) word_19: u32,
    pub(super) target_top: u32,
    /// [`K`], but not known to the compiler: it would add known constants last in a round, just where the next round
    /// waits for the sum. That costs the 16 lanes of AVX-512 a third of their speed.
    pub(super) k: &'static [u32; 64],
}

impl Prepared {
    pub(super) fn new(job: &Job) -> Self {
        let midstate = *job.midstate();
        let tail = *job.tail();
        let [w0, w1, w2] = tail;
        let after_round_1 = round(round(midstate, K[0], w0), K[1], w1);
        let after_round_2 = round(after_round_1, K[2], w2);
        let word_16 = small_sigma0(w1).wrapping_add(w0);
        let word_17 = small_sigma1(HEADER_BITS).wrapping_add(small_sigma0(w2)).wrapping_add(w1);
        Self {
            midstate,
            tail,
            after_round_1,
            after_round_2,
            round_3: round_base(after_round_2, K[3]),
            word_16,
            word_17,
            word_18: small_sigma1(word_16).wrapping_add(w2),
            word_19: small_sigma1(word_17).wrapping_add(small_sigma0(PADDING)),
            target_top: job.target_top(),
            k: black_box(&K),
        }
    }
}
