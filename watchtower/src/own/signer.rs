//! A signer with one secret.

use leyden_channels::keys::{ClaimKey, ClaimSecret, ClaimSigner, KeyError, Signer, derive_revocation_secret_key};

use super::OwnChannel;

/// Signs penalties; every other key is [`KeyError::NotHeld`].
pub struct RevocationSigner<'a>(pub &'a OwnChannel);

impl ClaimSigner for RevocationSigner<'_> {
    fn claim_secret(&self, key: &ClaimKey) -> Result<ClaimSecret, KeyError> {
        match key {
            ClaimKey::Revocation { per_commitment_secret } => {
                let (point, secret) = (&self.0.local.revocation, &self.0.revocation.0);
                derive_revocation_secret_key(per_commitment_secret, point, secret).map(ClaimSecret::new)
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
