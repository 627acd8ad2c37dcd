//! One hash for a whole set of coins, whatever the order in which they came and went.
//!
//! This is MuHash3072, as Bitcoin Core's `gettxoutsetinfo muhash` computes it, so the two can be compared:
//!
//! ```text
//! coin     txid (32 bytes) · output number (u32) · 2·height + coinbase (u32) · value (i64)
//!          · length of the script (CompactSize) · script                      all little-endian
//! number   the first 384 bytes of the ChaCha20 key stream under key SHA256(coin), nonce 0, as a little-endian number
//! set      the product of the numbers of all coins, modulo p = 2^3072 − 1103717
//! hash     SHA256 of the product's 384 bytes, little-endian
//! ```
//!
//! Adding multiplies, removing divides; so the hash follows a chain block by block at two multiplications a payment,
//! and a set that was put together in another order, or taken apart again, has the same hash. Divisions are gathered in
//! a denominator and done once, when the hash is asked for.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::{Amount, OutPoint, VarInt, consensus::Encodable};
use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};

use crate::coins::{Coin, CoinChanges};

/// The hash of a set of coins, while the set changes.
#[derive(Clone, Debug)]
pub struct UtxoSetHash {
    numerator: Number,
    denominator: Number,
}

impl Default for UtxoSetHash {
    fn default() -> Self {
        Self { numerator: Number::ONE, denominator: Number::ONE }
    }
}

impl UtxoSetHash {
    /// Bytes that [`to_bytes`](Self::to_bytes) writes.
    pub const SIZE: usize = 2 * NUMBER_BYTES;

    /// Of the empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// A coin joins the set. Adding one that is there already gives the hash of another set.
    pub fn add(&mut self, outpoint: &OutPoint, coin: &Coin) {
        self.insert(&coin_bytes(outpoint, coin));
    }

    /// A coin leaves the set. It must be there, with exactly this content.
    pub fn remove(&mut self, outpoint: &OutPoint, coin: &Coin) {
        self.take_out(&coin_bytes(outpoint, coin));
    }

    /// Follows a block put on or taken off.
    pub fn apply(&mut self, changes: &CoinChanges) {
        for (outpoint, change) in changes {
            if let Some(coin) = change.before() {
                self.remove(outpoint, coin);
            }
            if let Some(coin) = change.after() {
                self.add(outpoint, coin);
            }
        }
    }

    /// The union with a set that has no coin in common with this one: parts can be hashed on different threads.
    pub fn union(&mut self, other: &Self) {
        self.numerator = self.numerator.times(&other.numerator);
        self.denominator = self.denominator.times(&other.denominator);
    }

    /// The hash of the set as of now; takes some milliseconds.
    pub fn finish(&self) -> sha256::Hash {
        sha256::Hash::hash(&self.numerator.times(&self.denominator.inverse()).to_bytes())
    }

    /// The running state, to be stored and resumed.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.numerator.to_bytes(), self.denominator.to_bytes()].concat()
    }

    /// Resumes from what [`to_bytes`](Self::to_bytes) wrote; `None` for any other length or a zero.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numerator, denominator) = bytes.split_first_chunk::<NUMBER_BYTES>()?;
        let denominator: &[u8; NUMBER_BYTES] = denominator.try_into().ok()?;
        let (numerator, denominator) = (Number::from_bytes(numerator), Number::from_bytes(denominator));
        let usable = !numerator.is_zero() && !denominator.is_zero();
        usable.then_some(Self { numerator, denominator })
    }

    fn insert(&mut self, data: &[u8]) {
        self.numerator = self.numerator.times(&Number::of(data));
    }

    fn take_out(&mut self, data: &[u8]) {
        self.denominator = self.denominator.times(&Number::of(data));
    }
}

/// What a set of coins amounts to, kept up to date block by block.
#[derive(Clone, Debug, Default)]
pub struct CoinStats {
    /// How many unspent outputs there are.
    pub count: u64,
    /// What they are worth together.
    pub total: Amount,
    /// Their hash, whatever the order in which they came.
    pub hash: UtxoSetHash,
}

/// The changes do not belong to the counted set: more is removed than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the changes do not fit the set of coins that was counted")]
pub struct ForeignChanges;

impl CoinStats {
    /// Follows a block put on or taken off. On an error nothing is counted.
    pub fn apply(&mut self, changes: &CoinChanges) -> Result<(), ForeignChanges> {
        let mut count = self.count;
        let mut total = self.total;
        // Additions first, so that no partial sum falls below zero.
        for coin in changes.iter().filter_map(|(_, change)| change.after()) {
            count = count.checked_add(1).ok_or(ForeignChanges)?;
            total = total.checked_add(coin.output.value).ok_or(ForeignChanges)?;
        }
        for coin in changes.iter().filter_map(|(_, change)| change.before()) {
            count = count.checked_sub(1).ok_or(ForeignChanges)?;
            total = total.checked_sub(coin.output.value).ok_or(ForeignChanges)?;
        }
        self.hash.apply(changes);
        (self.count, self.total) = (count, total);
        Ok(())
    }

    /// Counts one more coin.
    pub fn add(&mut self, outpoint: &OutPoint, coin: &Coin) -> Result<(), ForeignChanges> {
        let count = self.count.checked_add(1).ok_or(ForeignChanges)?;
        let total = self.total.checked_add(coin.output.value).ok_or(ForeignChanges)?;
        self.hash.add(outpoint, coin);
        (self.count, self.total) = (count, total);
        Ok(())
    }
}

fn coin_bytes(outpoint: &OutPoint, coin: &Coin) -> Vec<u8> {
    let script = coin.output.script_pubkey.as_bytes();
    let code = coin.height.wrapping_mul(2) | u32::from(coin.is_coinbase);
    let mut bytes = Vec::with_capacity(60 + script.len());
    bytes.extend_from_slice(outpoint.txid.as_byte_array());
    bytes.extend_from_slice(&outpoint.vout.to_le_bytes());
    bytes.extend_from_slice(&code.to_le_bytes());
    bytes.extend_from_slice(&coin.output.value.to_sat().to_le_bytes());
    // Writing into memory cannot fail.
    let _ = VarInt::from(script.len()).consensus_encode(&mut bytes);
    bytes.extend_from_slice(script);
    bytes
}

const NUMBER_BYTES: usize = 384;
const LIMBS: usize = NUMBER_BYTES / 8;
/// p = 2^3072 − this.
const MODULUS_GAP: u64 = 1_103_717;

/// A number modulo p, below 2^3072, least significant limb first. It may be above p until it is written out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Number([u64; LIMBS]);

impl Number {
    const ONE: Self = {
        let mut limbs = [0; LIMBS];
        limbs[0] = 1;
        Self(limbs)
    };

    /// The number that stands for some bytes.
    fn of(data: &[u8]) -> Self {
        let mut engine = sha256::Hash::engine();
        engine.input(data);
        let key = sha256::Hash::from_engine(engine).to_byte_array();
        let mut stream = [0u8; NUMBER_BYTES];
        ChaCha20::new(&key.into(), &[0u8; 12].into()).apply_keystream(&mut stream);
        Self::from_bytes(&stream)
    }

    fn from_bytes(bytes: &[u8; NUMBER_BYTES]) -> Self {
        let mut limbs = [0; LIMBS];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
            *limb = chunk.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte));
        }
        Self(limbs)
    }

    fn to_bytes(&self) -> [u8; NUMBER_BYTES] {
        let reduced = self.reduced();
        let mut bytes = [0; NUMBER_BYTES];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(reduced.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    fn is_zero(&self) -> bool {
        self.reduced().0.iter().all(|limb| *limb == 0)
    }

    /// Below p: adding the gap overflows exactly when the number is p or more.
    fn reduced(&self) -> Self {
        let mut moved = self.0;
        if add_small(&mut moved, MODULUS_GAP) { Self(moved) } else { self.clone() }
    }

    fn times(&self, other: &Self) -> Self {
        let mut product = [0u64; 2 * LIMBS];
        for (shift, a) in self.0.iter().enumerate() {
            let mut carry = 0u128;
            // One limb more than the other number has, for the carry.
            for (out, b) in product.iter_mut().skip(shift).zip(other.0.iter().chain([&0])) {
                // At most (2^64−1)² + 2·(2^64−1) = 2^128 − 1.
                let wide = u128::from(*a) * u128::from(*b) + u128::from(*out) + carry;
                *out = wide as u64;
                carry = wide >> 64;
            }
        }
        // 2^3072 is the gap modulo p, so the high half comes down times the gap.
        let (low, high) = product.split_at(LIMBS);
        let mut folded = [0u64; LIMBS];
        let mut carry = 0u128;
        for (out, (low, high)) in folded.iter_mut().zip(low.iter().zip(high)) {
            let wide = u128::from(*high) * u128::from(MODULUS_GAP) + u128::from(*low) + carry;
            *out = wide as u64;
            carry = wide >> 64;
        }
        // What runs over is below 2^22 and comes down the same way, at most twice.
        while carry != 0 {
            let again = carry as u64 * MODULUS_GAP;
            carry = u128::from(add_small(&mut folded, again));
        }
        Self(folded)
    }

    /// By Fermat: the number to the power of p − 2, four bits of the exponent at a time.
    fn inverse(&self) -> Self {
        let mut powers = vec![Self::ONE];
        for index in 0..15usize {
            let next = powers.get(index).map_or(Self::ONE, |power| power.times(self));
            powers.push(next);
        }
        let mut exponent = [u64::MAX; LIMBS];
        if let Some(lowest) = exponent.first_mut() {
            *lowest = 0u64.wrapping_sub(MODULUS_GAP + 2);
        }
        let mut result = Self::ONE;
        for limb in exponent.iter().rev() {
            for shift in (0..64).step_by(4).rev() {
                for _ in 0..4 {
                    result = result.times(&result);
                }
                let digit = (limb >> shift & 0xf) as usize;
                result = powers.get(digit).map_or(result.clone(), |power| result.times(power));
            }
        }
        result
    }
}

/// Adds to the lowest limb and carries; returns whether the number ran over.
fn add_small(limbs: &mut [u64; LIMBS], addend: u64) -> bool {
    let mut carry = addend;
    for limb in limbs.iter_mut() {
        let (sum, overflow) = limb.overflowing_add(carry);
        *limb = sum;
        carry = u64::from(overflow);
        if carry == 0 {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(number: u8) -> [u8; 32] {
        let mut data = [0; 32];
        data[0] = number;
        data
    }

    #[test]
    fn the_hash_is_that_of_bitcoin_cores_muhash() {
        let mut set = UtxoSetHash::new();
        set.insert(&bytes(0));
        set.insert(&bytes(1));
        set.take_out(&bytes(2));
        let displayed: Vec<u8> = set.finish().to_byte_array().into_iter().rev().collect();
        assert_eq!(hex::encode(displayed), "10d312b100cbd32ada024a6646e40d3482fcff103668d2625f10002a607d5863");
    }

    #[test]
    fn order_does_not_matter_and_removing_undoes_adding() {
        let mut one = UtxoSetHash::new();
        let mut other = UtxoSetHash::new();
        for number in [1, 2, 3] {
            one.insert(&bytes(number));
        }
        for number in [9, 3, 1, 2] {
            other.insert(&bytes(number));
        }
        assert_ne!(one.finish(), other.finish());
        other.take_out(&bytes(9));
        assert_eq!(one.finish(), other.finish());
        assert_ne!(one.finish(), UtxoSetHash::new().finish());
    }

    #[test]
    fn the_running_state_can_be_stored_and_parts_joined() {
        let mut whole = UtxoSetHash::new();
        let mut parts = [UtxoSetHash::new(), UtxoSetHash::new()];
        for number in 0..6 {
            whole.insert(&bytes(number));
            parts[usize::from(number % 2)].insert(&bytes(number));
        }
        whole.take_out(&bytes(0));
        parts[1].take_out(&bytes(0));
        let mut joined = UtxoSetHash::from_bytes(&parts[0].to_bytes()).unwrap();
        joined.union(&UtxoSetHash::from_bytes(&parts[1].to_bytes()).unwrap());
        assert_eq!(joined.finish(), whole.finish());
        assert!(UtxoSetHash::from_bytes(&[1; 767]).is_none());
        assert!(UtxoSetHash::from_bytes(&[0; 768]).is_none());
    }

    #[test]
    fn numbers_above_the_modulus_are_written_reduced() {
        let mut limbs = [u64::MAX; LIMBS];
        assert_eq!(Number(limbs).to_bytes()[..4], (MODULUS_GAP as u32 - 1).to_le_bytes());
        limbs[0] = 0u64.wrapping_sub(MODULUS_GAP);
        assert!(Number(limbs).is_zero(), "p is zero");
        let number = Number::of(b"a coin");
        assert_eq!(number.times(&number.inverse()).reduced(), Number::ONE);
    }
}
