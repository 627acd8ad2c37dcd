//! The five basepoints that each node contributes to a channel, and the secrets behind our own.

use hkdf::Hkdf;
use secp256k1::{PublicKey, SecretKey};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use super::{KeyError, curve};

/// One node's public basepoints (`open_channel` and `accept_channel`, BOLT 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basepoints {
    /// `funding_pubkey`: one of the two keys of the funding output.
    pub funding: PublicKey,
    /// `revocation_basepoint`.
    pub revocation: PublicKey,
    /// `payment_basepoint`: of `to_remote`, never changed.
    pub payment: PublicKey,
    /// `delayed_payment_basepoint`.
    pub delayed_payment: PublicKey,
    /// `htlc_basepoint`.
    pub htlc: PublicKey,
}

impl Basepoints {
    /// All five.
    pub fn all(&self) -> [PublicKey; 5] {
        let Self { funding, revocation, payment, delayed_payment, htlc } = *self;
        [funding, revocation, payment, delayed_payment, htlc]
    }
}

/// The secrets behind our basepoints and the seed of our per-commitment secrets; overwritten when dropped.
#[derive(Clone)]
pub struct BasepointSecrets {
    pub(crate) funding: SecretKey,
    pub(crate) revocation: SecretKey,
    pub(crate) payment: SecretKey,
    pub(crate) delayed_payment: SecretKey,
    pub(crate) htlc: SecretKey,
    pub(crate) commitment_seed: [u8; 32],
}

impl BasepointSecrets {
    /// Derives everything from the channel's 32-byte seed by HKDF-SHA256, one label a secret. The labels are part of
    /// the format: with the seed alone, `to_remote` can be swept years later.
    pub fn from_channel_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        let hkdf = Hkdf::<Sha256>::new(Some(b"leyden channel keys"), seed);
        let expand = |label: &[u8]| -> Result<Zeroizing<[u8; 32]>, KeyError> {
            let mut okm = Zeroizing::new([0; 32]);
            hkdf.expand(label, okm.as_mut()).map_err(|_| KeyError::InvalidSecret)?;
            Ok(okm)
        };
        let secret = |label: &[u8]| -> Result<SecretKey, KeyError> {
            SecretKey::from_slice(expand(label)?.as_ref()).map_err(|_| KeyError::InvalidSecret)
        };
        Ok(Self {
            funding: secret(b"funding")?,
            revocation: secret(b"revocation")?,
            payment: secret(b"payment")?,
            delayed_payment: secret(b"delayed payment")?,
            htlc: secret(b"htlc")?,
            commitment_seed: *expand(b"commitment seed")?,
        })
    }

    /// What the peer is told.
    pub fn public(&self) -> Basepoints {
        Basepoints {
            funding: curve::public_key(&self.funding),
            revocation: curve::public_key(&self.revocation),
            payment: curve::public_key(&self.payment),
            delayed_payment: curve::public_key(&self.delayed_payment),
            htlc: curve::public_key(&self.htlc),
        }
    }
}

impl Drop for BasepointSecrets {
    fn drop(&mut self) {
        for key in
            [&mut self.funding, &mut self.revocation, &mut self.payment, &mut self.delayed_payment, &mut self.htlc]
        {
            key.non_secure_erase();
        }
        self.commitment_seed.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_gives_another_key_and_the_same_seed_the_same_keys() {
        let points = |seed| BasepointSecrets::from_channel_seed(&[seed; 32]).unwrap().public();
        let Basepoints { funding, revocation, payment, delayed_payment, htlc } = points(7);
        let mut all = vec![funding, revocation, payment, delayed_payment, htlc];
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 5);
        assert_eq!(points(7), points(7));
        assert_ne!(points(7), points(8));
    }
}
