//! What a tower keeps for a client, readable only to whoever sees the breach.
//!
//! ```text
//!   breaching txid (32 bytes) ──► key ───┐
//!          └── first 8 bytes: the hint ──┤ authenticated too, like the channel's name
//!   channel's tag ──► nonce ─────────────┴─► ChaCha20-Poly1305 ──► sealed answer
//! ```
//!
//! The whole txid is the key: the tower has 64 bits of it, and the other 192 come with the breach alone. Two towers, or two
//! channels of one, that seal for the same txid have different tags, so no nonce is used twice with one key; what one
//! channel seals for one txid is the same each time.

use bitcoin::{Txid, hashes::Hash as _};
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit as _,
    aead::{Aead as _, Payload},
};

use crate::{appointment::ChannelName, codec::encode, hint::Hint};

/// How many bytes sealing adds.
pub const SEAL_LEN: usize = 16;

/// Why a sealed answer was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum SealError {
    #[error("the answer does not belong to this transaction and channel, or was changed")]
    NotAuthentic,
    #[error("the answer is too long to be sealed")]
    TooLong,
}

/// Seals `answer` so that only who knows `breach` can open it.
pub fn seal(breach: &Txid, channel: &ChannelName, answer: &[u8]) -> Result<Vec<u8>, SealError> {
    let payload = Payload { msg: answer, aad: &context(breach, channel) };
    cipher(breach).encrypt(&nonce(channel).into(), payload).map_err(|_| SealError::TooLong)
}

/// The answer to `breach`, if it was sealed for it and this channel.
pub fn open(breach: &Txid, channel: &ChannelName, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let payload = Payload { msg: sealed, aad: &context(breach, channel) };
    cipher(breach).decrypt(&nonce(channel).into(), payload).map_err(|_| SealError::NotAuthentic)
}

fn cipher(breach: &Txid) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(breach.as_byte_array().into())
}

fn nonce(channel: &ChannelName) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = channel.tag.0;
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

fn context(breach: &Txid, channel: &ChannelName) -> Vec<u8> {
    encode(&(Hint::from(breach), *channel))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::appointment::{ChannelTag, FundingIndex};

    proptest! {
        #[test]
        fn only_the_breach_opens_the_answer(
            txid in any::<[u8; 32]>(),
            other in any::<[u8; 32]>(),
            tag in any::<[u8; 16]>(),
            answer in prop::collection::vec(any::<u8>(), 0..600),
            flip in any::<prop::sample::Index>(),
        ) {
            prop_assume!(txid != other);
            let (breach, other) = (Txid::from_byte_array(txid), Txid::from_byte_array(other));
            let channel = ChannelName { tag: ChannelTag(tag), funding: FundingIndex(0) };
            let mut sealed = seal(&breach, &channel, &answer).unwrap();
            prop_assert_eq!(sealed.len(), answer.len() + SEAL_LEN);
            prop_assert_eq!(open(&breach, &channel, &sealed).unwrap(), answer);
            prop_assert_eq!(open(&other, &channel, &sealed), Err(SealError::NotAuthentic));
            let another = ChannelName { funding: FundingIndex(1), ..channel };
            prop_assert_eq!(open(&breach, &another, &sealed), Err(SealError::NotAuthentic));
            let index = flip.index(sealed.len());
            sealed[index] ^= 1;
            prop_assert_eq!(open(&breach, &channel, &sealed), Err(SealError::NotAuthentic));
        }
    }
}
