//! A fast hash for tables whose keys strangers choose: outpoints and transaction ids.
//!
//! Whoever makes transactions chooses their ids by trying, and could fill one bucket of a table whose hash it can compute. The
//! default hasher of the standard library prevents it at a cost that shows where every coin of a block is looked up several
//! times. This one is made for short keys of a fixed size: words of 64 bits, each times a secret number of 128 bits, the sum
//! modulo 2^128, of which the upper half is the hash. For any two different keys of at most [`WORDS`] words, over the choice
//! of the secret numbers, all pairs of hashes are equally likely (multilinear hashing: Lemire and Kaser, "Strongly universal
//! string hashing is fast", theorem 3.1), so nobody who does not know them can aim at a bucket.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use bitcoin::OutPoint;

/// A table by outpoint.
pub type OutPointMap<V> = HashMap<OutPoint, V, KeyedState>;
/// A table by the id of a transaction, or a number as short.
pub type IdMap<K, V> = HashMap<K, V, KeyedState>;
/// A set of ids.
pub type IdSet<K> = HashSet<K, KeyedState>;

/// Words of a key: the length and the 32 bytes of an id, an output's number, and some to spare. Longer keys are hashed piece
/// by piece.
const WORDS: usize = 8;

/// The numbers of this process, made of what the standard library keeps secret for its own tables.
static SECRET: LazyLock<[u128; WORDS + 1]> = LazyLock::new(|| {
    let random = || RandomState::new().hash_one(());
    std::array::from_fn(|_| u128::from(random()) << 64 | u128::from(random()))
});

/// Makes the hasher of a table.
#[derive(Clone, Copy)]
pub struct KeyedState(&'static [u128; WORDS + 1]);

impl Default for KeyedState {
    fn default() -> Self {
        Self(&SECRET)
    }
}

impl std::fmt::Debug for KeyedState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedState")
    }
}

impl BuildHasher for KeyedState {
    type Hasher = KeyedHasher;

    #[inline]
    fn build_hasher(&self) -> KeyedHasher {
        let [first, secret @ ..] = self.0;
        KeyedHasher { first: *first, secret, place: 0, sum: *first }
    }
}

/// A hash that is being computed.
pub struct KeyedHasher {
    first: u128,
    secret: &'static [u128; WORDS],
    place: usize,
    sum: u128,
}

impl KeyedHasher {
    #[inline]
    fn word(&mut self, word: u64) {
        let secret = match self.secret.get(self.place) {
            Some(secret) => *secret,
            None => self.begin_again(),
        };
        self.place = self.place.wrapping_add(1);
        self.sum = self.sum.wrapping_add(secret.wrapping_mul(u128::from(word)));
    }

    /// What is there so far is the first word of what follows. The secret for the next one is returned.
    #[cold]
    fn begin_again(&mut self) -> u128 {
        let [first, next, ..] = self.secret;
        self.sum = self.first.wrapping_add(first.wrapping_mul(u128::from(self.finish())));
        self.place = 1;
        *next
    }
}

impl Hasher for KeyedHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.word(u64::from_le_bytes(last));
        }
    }

    #[inline]
    fn write_u8(&mut self, number: u8) {
        self.word(u64::from(number));
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        self.word(u64::from(number));
    }

    #[inline]
    fn write_u64(&mut self, number: u64) {
        self.word(number);
    }

    #[inline]
    fn write_usize(&mut self, number: usize) {
        self.word(number as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        (self.sum >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::Txid;
    use bitcoin::hashes::Hash;

    use super::*;

    fn outpoint(first: u8, last: u8, vout: u32) -> OutPoint {
        let mut bytes = [0; 32];
        (bytes[0], bytes[31]) = (first, last);
        OutPoint { txid: Txid::from_byte_array(bytes), vout }
    }

    #[test]
    fn keys_that_differ_in_any_part_have_different_hashes() {
        let state = KeyedState::default();
        let keys = (0..=255).flat_map(|byte| [outpoint(byte, 0, 0), outpoint(0, byte, 0), outpoint(0, 0, byte.into())]);
        let keys: HashSet<OutPoint> = keys.collect();
        let hashes: HashSet<u64> = keys.iter().map(|key| state.hash_one(key)).collect();
        assert_eq!(hashes.len(), keys.len());
        assert_eq!(state.hash_one(outpoint(1, 2, 3)), KeyedState::default().hash_one(outpoint(1, 2, 3)));
    }

    #[test]
    fn the_secret_decides_which_keys_share_a_bucket() {
        // Keys that all share a bucket under one secret are spread under another.
        let buckets = 64;
        let secrets: [&'static [u128; WORDS + 1]; 2] = std::array::from_fn(|_| {
            let random = || RandomState::new().hash_one(());
            let secret: [u128; WORDS + 1] = std::array::from_fn(|_| u128::from(random()) << 64 | u128::from(random()));
            &*Box::leak(Box::new(secret))
        });
        let [known, other] = secrets.map(KeyedState);
        let chosen: Vec<OutPoint> = (0..u32::MAX)
            .map(|vout| outpoint(7, 7, vout))
            .filter(|key| known.hash_one(key) % buckets == 0)
            .take(500)
            .collect();
        let met: HashSet<u64> = chosen.iter().map(|key| other.hash_one(key) % buckets).collect();
        assert!(met.len() > 40, "{} of {buckets} buckets", met.len());
    }

    #[test]
    fn all_of_a_long_key_counts() {
        let state = KeyedState::default();
        let long = [7u8; 200];
        for place in [0, 63, 64, 71, 72, 150, 199] {
            let mut other = long;
            other[place] = 8;
            assert_ne!(state.hash_one(long), state.hash_one(other), "byte {place}");
        }
    }
}
