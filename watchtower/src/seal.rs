//! What a tower keeps for a client, readable only to whoever sees the breach.
//!
//! ```text
//!   breaching txid (32 bytes) ──► key ──► ChaCha20-Poly1305 ──► sealed answer
//!          └── first 16 bytes: the hint, which is also authenticated
//! ```
//!
//! The whole txid is the key: the tower has half of it, and the other 128 bits come with the breach alone. Each txid
//! seals one answer, so a constant nonce is safe.

use bitcoin::{Txid, hashes::Hash as _};
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit as _,
    aead::{Aead as _, Payload},
};

use crate::hint::Hint;

/// Why a sealed answer was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the answer does not belong to this transaction, or was changed")]
    NotAuthentic,
    #[error("the answer is too long to be sealed")]
    TooLong,
}

/// Seals `answer` so that only who knows `breach` can open it.
pub fn seal(breach: &Txid, answer: &[u8]) -> Result<Vec<u8>, SealError> {
    let payload = Payload { msg: answer, aad: &Hint::from(breach).0 };
    cipher(breach).encrypt(&[0; 12].into(), payload).map_err(|_| SealError::TooLong)
}

/// The answer to `breach`, if it was sealed for it.
pub fn open(breach: &Txid, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let payload = Payload { msg: sealed, aad: &Hint::from(breach).0 };
    cipher(breach).decrypt(&[0; 12].into(), payload).map_err(|_| SealError::NotAuthentic)
}

fn cipher(breach: &Txid) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(breach.as_byte_array().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn only_the_breach_opens_the_answer(
            txid in any::<[u8; 32]>(),
            other in any::<[u8; 32]>(),
            answer in prop::collection::vec(any::<u8>(), 0..600),
            flip in any::<prop::sample::Index>(),
        ) {
            prop_assume!(txid != other);
            let (breach, other) = (Txid::from_byte_array(txid), Txid::from_byte_array(other));
            let mut sealed = seal(&breach, &answer).unwrap();
            prop_assert_eq!(open(&breach, &sealed).unwrap(), answer);
            prop_assert_eq!(open(&other, &sealed), Err(SealError::NotAuthentic));
            let index = flip.index(sealed.len());
            sealed[index] ^= 1;
            prop_assert_eq!(open(&breach, &sealed), Err(SealError::NotAuthentic));
        }
    }
}
