//! Per-commitment secrets: made from one seed, and the peer's kept in at most 49 entries (BOLT 3, Per-commitment
//! Secret Requirements and Efficient Per-commitment Secret Storage).
//!
//! ```text
//!  commitment number   0            1            2            3     ...
//!  index         ffffffffffff fffffffffffe fffffffffffd fffffffffffc     (counts down)
//!  bucket              0            1            0            2          (trailing zero bits of the index)
//! ```
//!
//! The newest secret of bucket `b` gives all secrets of the 2^b indexes that begin with its prefix, so the newest of
//! each bucket gives every secret received so far. A secret that does not lead to the older ones is refused.

use std::fmt;

use bitcoin::hashes::{Hash as _, sha256};
use secp256k1::{PublicKey, SecretKey};

use super::{KeyError, curve};
use crate::types::CommitmentNumber;

const INDEX_BITS: u32 = 48;
const FIRST_INDEX: u64 = (1 << INDEX_BITS) - 1;

/// The secret of one commitment transaction. Who knows it can punish its owner for broadcasting, so our own leaves
/// the signer only when that state is revoked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PerCommitmentSecret(pub [u8; 32]);

impl PerCommitmentSecret {
    /// The secret as a key. An error if it is 0 or no scalar of the curve.
    pub fn to_secret_key(&self) -> Result<SecretKey, KeyError> {
        SecretKey::from_slice(&self.0).map_err(|_| KeyError::InvalidSecret)
    }

    /// The `per_commitment_point` that this secret revokes.
    pub fn point(&self) -> Result<PublicKey, KeyError> {
        Ok(curve::public_key(&self.to_secret_key()?))
    }
}

impl fmt::Debug for PerCommitmentSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PerCommitmentSecret(..)")
    }
}

/// The secret of commitment `number` under `seed` (`generate_from_seed`).
pub fn per_commitment_secret(seed: &[u8; 32], number: CommitmentNumber) -> PerCommitmentSecret {
    PerCommitmentSecret(derive(*seed, INDEX_BITS, index_of(number)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ShachainError {
    #[error("the secret of commitment {} must come next, not that of {}", expected.0, got.0)]
    OutOfOrder { expected: CommitmentNumber, got: CommitmentNumber },
    #[error("the secret of commitment {} does not lead to the older secrets: the peer breaks the protocol", number.0)]
    Inconsistent { number: CommitmentNumber },
    #[error("a stored list of secrets has {got} bytes where {expected} are needed: the record is damaged")]
    Encoding { expected: usize, got: usize },
}

/// All secrets that the peer has revealed, in 32 bytes for each doubling of their number.
#[derive(Clone, PartialEq, Eq)]
pub struct PerCommitmentSecrets {
    /// The index received last; `FIRST_INDEX + 1` when there is none.
    lowest: u64,
    /// Bucket `b` holds the newest secret whose index has `b` trailing zeros. Buckets fill in order.
    buckets: Vec<[u8; 32]>,
}

impl Default for PerCommitmentSecrets {
    fn default() -> Self {
        Self { lowest: FIRST_INDEX + 1, buckets: Vec::new() }
    }
}

impl PerCommitmentSecrets {
    /// The commitment whose secret comes next: also how many are known.
    pub fn next(&self) -> CommitmentNumber {
        CommitmentNumber(FIRST_INDEX + 1 - self.lowest)
    }

    /// Adds the secret of commitment `number`, which must be [`Self::next`], after checking that it leads to all
    /// older ones that it should. On an error nothing has changed.
    pub fn insert(&mut self, number: CommitmentNumber, secret: PerCommitmentSecret) -> Result<(), ShachainError> {
        if number != self.next() || number > CommitmentNumber::MAX {
            return Err(ShachainError::OutOfOrder { expected: self.next(), got: number });
        }
        let index = index_of(number);
        let bucket = bucket_of(index);
        for (older, known) in (0..bucket).zip(&self.buckets) {
            if derive(secret.0, bucket, newest_index(self.lowest, older)) != *known {
                return Err(ShachainError::Inconsistent { number });
            }
        }
        match self.buckets.get_mut(bucket as usize) {
            Some(known) => *known = secret.0,
            None => self.buckets.push(secret.0),
        }
        self.lowest = index;
        Ok(())
    }

    /// The secret of commitment `number`, `None` if it has not been revealed yet.
    pub fn get(&self, number: CommitmentNumber) -> Option<PerCommitmentSecret> {
        if number >= self.next() {
            return None;
        }
        let index = index_of(number);
        self.buckets.iter().zip(0..).find_map(|(known, bucket)| {
            let prefix = index & !((1 << bucket) - 1);
            (prefix == newest_index(self.lowest, bucket)).then(|| PerCommitmentSecret(derive(*known, bucket, index)))
        })
    }

    /// Six bytes for the lowest index (big-endian; in an empty list nothing at all), then the buckets' secrets.
    pub fn encode(&self) -> Vec<u8> {
        if self.buckets.is_empty() {
            return Vec::new();
        }
        let [_, _, index @ ..] = self.lowest.to_be_bytes();
        index.into_iter().chain(self.buckets.iter().flatten().copied()).collect()
    }

    /// Reads what `encode` has written.
    pub fn decode(bytes: &[u8]) -> Result<Self, ShachainError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let Some((&[a, b, c, d, e, f], secrets)) = bytes.split_first_chunk::<6>() else {
            return Err(ShachainError::Encoding { expected: 6, got: bytes.len() });
        };
        let lowest = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let count = (0..=INDEX_BITS).take_while(|&bucket| newest_index(lowest, bucket) <= FIRST_INDEX).count();
        if secrets.len() != count * 32 {
            return Err(ShachainError::Encoding { expected: 6 + count * 32, got: bytes.len() });
        }
        let (buckets, _) = secrets.as_chunks::<32>();
        Ok(Self { lowest, buckets: buckets.to_vec() })
    }
}

impl fmt::Debug for PerCommitmentSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PerCommitmentSecrets({} known)", self.next().0)
    }
}

fn index_of(number: CommitmentNumber) -> u64 {
    FIRST_INDEX.saturating_sub(number.0)
}

/// `where_to_put_secret`: how many trailing bits of the index are zero, 48 for index 0.
fn bucket_of(index: u64) -> u32 {
    index.trailing_zeros().min(INDEX_BITS)
}

/// The lowest index that is not below `lowest` and has exactly `bucket` trailing zeros: what that bucket holds.
fn newest_index(lowest: u64, bucket: u32) -> u64 {
    if bucket == INDEX_BITS {
        return if lowest == 0 { 0 } else { u64::MAX };
    }
    let rounded = (lowest + (1 << bucket) - 1) >> bucket;
    (rounded | 1) << bucket
}

/// `derive_secret`: from a secret whose index agrees with `index` above the lowest `bits` bits.
fn derive(mut secret: [u8; 32], bits: u32, index: u64) -> [u8; 32] {
    for bit in (0..bits).rev() {
        if index >> bit & 1 == 1 {
            if let Some(byte) = secret.get_mut(bit as usize / 8) {
                *byte ^= 1 << (bit % 8);
            }
            secret = sha256::Hash::hash(&secret).to_byte_array();
        }
    }
    secret
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hundred_thousand_secrets_fit_into_seventeen_entries() {
        let mut secrets = PerCommitmentSecrets::default();
        for number in (0..100_000).map(CommitmentNumber) {
            secrets.insert(number, per_commitment_secret(&[3; 32], number)).unwrap();
        }
        println!("{} bytes after 100,000 revocations", secrets.encode().len());
        assert_eq!(secrets.encode().len(), 6 + 17 * 32);
        assert_eq!(secrets.get(CommitmentNumber(77)), Some(per_commitment_secret(&[3; 32], CommitmentNumber(77))));
    }

    #[test]
    fn a_secret_out_of_order_is_refused() {
        let mut secrets = PerCommitmentSecrets::default();
        let one = CommitmentNumber(1);
        assert_eq!(
            secrets.insert(one, per_commitment_secret(&[3; 32], one)),
            Err(ShachainError::OutOfOrder { expected: CommitmentNumber(0), got: one })
        );
    }

    proptest! {
        #[test]
        fn every_revealed_secret_can_be_looked_up_and_no_other(seed: [u8; 32], count in 0u64..600) {
            let mut secrets = PerCommitmentSecrets::default();
            for number in (0..count).map(CommitmentNumber) {
                secrets.insert(number, per_commitment_secret(&seed, number)).unwrap();
            }
            let secrets = PerCommitmentSecrets::decode(&secrets.encode()).unwrap();
            for number in (0..count).map(CommitmentNumber) {
                prop_assert_eq!(secrets.get(number), Some(per_commitment_secret(&seed, number)));
            }
            prop_assert_eq!(secrets.next(), CommitmentNumber(count));
            prop_assert_eq!(secrets.get(CommitmentNumber(count)), None);
        }

        #[test]
        fn a_foreign_secret_is_found_out_at_the_next_even_index(seed: [u8; 32], other: [u8; 32], at in 0u64..100) {
            prop_assume!(seed != other);
            let mut secrets = PerCommitmentSecrets::default();
            let mut refused = None;
            for number in (0..at + 2).map(CommitmentNumber) {
                let from = if number.0 == at { &other } else { &seed };
                if secrets.insert(number, per_commitment_secret(from, number)).is_err() {
                    refused = Some(number.0);
                    break;
                }
            }
            prop_assert!(refused == Some(at) || refused == Some(at + 1));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            if let Ok(secrets) = PerCommitmentSecrets::decode(&bytes) {
                prop_assert_eq!(secrets.encode(), bytes);
            }
        }
    }
}
