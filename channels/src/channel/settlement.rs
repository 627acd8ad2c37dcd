//! The outcome of an outgoing HTLC, written down for whoever waits for it.
//!
//! For a forwarded HTLC it is stored under the incoming (channel, HTLC id), in the same commit that learns it, and
//! deleted once the incoming channel has signed the removal. For a payment of this node it is stored under the attempt
//! until the keeper of the payments deletes it. After a crash a driver reads what is left and settles again.

use super::effect::HtlcFailure;
use super::event::Origin;
use super::key::Key;
use crate::types::PaymentPreimage;

/// What an incoming HTLC, or a payment attempt, is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum OwedSettlement {
    Fulfilled {
        preimage: PaymentPreimage,
    },
    /// Not yet wrapped for the previous hop.
    Failed {
        failure: HtlcFailure,
    },
}

const FULFILLED: u8 = 1;
const FAILED: u8 = 2;
const MALFORMED: u8 = 3;
const NOT_ON_CHAIN: u8 = 4;

impl Origin {
    /// Where the settlement that this origin is owed is stored.
    pub const fn settlement_key(&self) -> Key {
        match *self {
            Self::Payment(attempt) => Key::Outcome(attempt),
            Self::Forward { channel, htlc } => Key::Settlement { channel, id: htlc },
        }
    }
}

impl OwedSettlement {
    /// The bytes that are stored under [`Origin::settlement_key`].
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Fulfilled { preimage } => {
                out.push(FULFILLED);
                out.extend_from_slice(&preimage.0);
            }
            Self::Failed { failure: HtlcFailure::Remote { reason } } => {
                out.push(FAILED);
                out.extend_from_slice(reason);
            }
            Self::Failed { failure: HtlcFailure::Malformed { sha256_of_onion, failure_code } } => {
                out.push(MALFORMED);
                out.extend_from_slice(sha256_of_onion);
                out.extend_from_slice(&failure_code.to_be_bytes());
            }
            Self::Failed { failure: HtlcFailure::NotOnChain } => out.push(NOT_ON_CHAIN),
        }
        out
    }

    /// `None` for bytes that [`Self::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        match kind {
            FULFILLED => Some(Self::Fulfilled { preimage: PaymentPreimage(rest.try_into().ok()?) }),
            FAILED => Some(Self::Failed { failure: HtlcFailure::Remote { reason: rest.to_vec() } }),
            MALFORMED => {
                let (sha256_of_onion, code) = rest.split_first_chunk::<32>()?;
                let failure_code = u16::from_be_bytes(code.try_into().ok()?);
                let failure = HtlcFailure::Malformed { sha256_of_onion: *sha256_of_onion, failure_code };
                Some(Self::Failed { failure })
            }
            NOT_ON_CHAIN if rest.is_empty() => Some(Self::Failed { failure: HtlcFailure::NotOnChain }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_round_trips() {
        for owed in [
            OwedSettlement::Fulfilled { preimage: PaymentPreimage([3; 32]) },
            OwedSettlement::Failed { failure: HtlcFailure::Remote { reason: vec![1, 2, 3] } },
            OwedSettlement::Failed {
                failure: HtlcFailure::Malformed { sha256_of_onion: [9; 32], failure_code: 0x8004 },
            },
            OwedSettlement::Failed { failure: HtlcFailure::NotOnChain },
        ] {
            assert_eq!(OwedSettlement::decode(&owed.encode()), Some(owed));
        }
        assert_eq!(OwedSettlement::decode(&[]), None);
        assert_eq!(OwedSettlement::decode(&[FULFILLED, 1]), None);
    }
}
