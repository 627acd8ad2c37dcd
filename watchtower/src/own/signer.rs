//! A signer with one secret.

use leyden_channels::keys::{ClaimKey, ClaimSigner, KeyError, Signer, derive_revocation_secret_key, secp};
use secp256k1::{Message, ecdsa::Signature};

use super::OwnChannel;

/// Signs penalties; every other key is [`KeyError::NotHeld`].
pub struct RevocationSigner<'a>(pub &'a OwnChannel);

impl ClaimSigner for RevocationSigner<'_> {
    fn sign_claim(&self, key: &ClaimKey, sighash: &Message) -> Result<Signature, KeyError> {
        match key {
            ClaimKey::Revocation { per_commitment_secret } => {
                let (point, secret) = (&self.0.local.revocation, &self.0.revocation.0);
                let mut key = derive_revocation_secret_key(per_commitment_secret, point, secret)?;
                // Low R keeps a claim's size within a byte of its predicted weight.
                let signature = secp().sign_ecdsa_low_r(sighash, &key);
                key.non_secure_erase();
                Ok(signature)
            }
            ClaimKey::Payment | ClaimKey::Delayed { .. } | ClaimKey::Htlc { .. } | ClaimKey::Funding => {
                Err(KeyError::NotHeld)
            }
        }
    }

    fn owner(&self) -> Option<&dyn Signer> {
        None
    }
}
