//! Who holds the secrets: the [`Signer`] trait, and [`KeysSigner`], which holds them in memory. Who only brings outputs
//! home, and may hold fewer of them, is a [`ClaimSigner`].

use secp256k1::{Message, PublicKey, SecretKey, ecdsa::Signature};

use super::{
    BasepointSecrets, Basepoints, CommitmentKeys, KeyError, PerCommitmentSecret, curve, derive_revocation_secret_key,
    derive_secret_key, per_commitment_secret,
};
use crate::types::{CommitmentNumber, Side};

/// What the end of a channel on the chain asks of our secrets.
pub trait ClaimSigner {
    /// The secret behind `key`, for inputs that bring outputs of a closed channel home. An error if it is not here.
    fn claim_secret(&self, key: &ClaimKey) -> Result<ClaimSecret, KeyError>;

    /// All the secrets, where they are here: only with them our own commitment can be signed. A watchtower has none of
    /// them.
    fn owner(&self) -> Option<&dyn Signer>;
}

/// Everything that a channel asks of our secrets. Signatures follow RFC 6979, so the same question gets the same
/// answer after a restart.
pub trait Signer: ClaimSigner {
    /// Our public basepoints.
    fn basepoints(&self) -> &Basepoints;

    /// The per-commitment point of our commitment `number`.
    fn per_commitment_point(&self, number: CommitmentNumber) -> Result<PublicKey, KeyError>;

    /// The secret of our commitment `number`, to be put into `revoke_and_ack`. The caller must hold, durably, a newer
    /// signed commitment: from here on, broadcasting `number` loses the channel's whole balance.
    fn release_commitment_secret(&self, number: CommitmentNumber) -> PerCommitmentSecret;

    /// The secret behind our revocation basepoint, for a watchtower of our own and nobody else's: with the peer's secret of
    /// any revoked state it takes what that state gave the peer.
    fn release_revocation_secret(&self) -> SecretKey;

    /// The keys of one commitment transaction: some five point multiplications, the dearest part of a commitment
    /// without HTLCs.
    fn commitment_keys(
        &self,
        owner: Side,
        per_commitment_point: PublicKey,
        remote: &Basepoints,
    ) -> Result<CommitmentKeys, KeyError> {
        match owner {
            Side::Local => CommitmentKeys::derive(per_commitment_point, self.basepoints(), remote),
            Side::Remote => CommitmentKeys::derive(per_commitment_point, remote, self.basepoints()),
        }
    }

    /// Signs with the funding key: either side's commitment transaction or a closing transaction.
    fn sign_funding_input(&self, sighash: &Message) -> Signature;

    /// Our HTLC key under a per-commitment point (ours or the peer's). It can be shared between threads, so that the
    /// HTLCs of one commitment are signed in parallel.
    fn htlc_key(&self, per_commitment_point: &PublicKey) -> Result<HtlcKey, KeyError>;
}

/// The content of `commitment_signed` (BOLT 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentSignatures {
    /// On the input that spends the funding output.
    pub commitment: Signature,
    /// One for each untrimmed HTLC, in the order of the commitment's outputs.
    pub htlcs: Vec<Signature>,
}

/// Which of our keys an output on the chain asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum ClaimKey {
    /// `to_remote` on the peer's commitment: the payment basepoint itself.
    Payment,
    /// Our delayed key: `to_local` and second-stage outputs of our own commitment.
    Delayed { per_commitment_point: PublicKey },
    /// Our HTLC key under this point: direct claims on the peer's commitment, second stages of our own.
    Htlc { per_commitment_point: PublicKey },
    /// The key of a penalty: the peer has revealed this secret and then broadcast that state.
    Revocation { per_commitment_secret: PerCommitmentSecret },
    /// Our anchor.
    Funding,
}

/// Our HTLC key of one commitment, overwritten when dropped.
pub struct HtlcKey(SecretKey);

impl HtlcKey {
    /// ECDSA with this HTLC's key, deterministic (RFC 6979).
    pub fn sign(&self, sighash: &Message) -> Signature {
        curve::sign(sighash, &self.0)
    }
}

impl Drop for HtlcKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

/// The secret behind a [`ClaimKey`], overwritten when dropped. One state's penalties are all signed with the same one.
pub struct ClaimSecret(SecretKey);

impl ClaimSecret {
    /// With a secret that a [`ClaimSigner`] has derived.
    pub fn new(secret: SecretKey) -> Self {
        Self(secret)
    }

    /// ECDSA, deterministic (RFC 6979), with a low R: it keeps a claim's size within a byte of its predicted weight.
    pub fn sign(&self, sighash: &Message) -> Signature {
        curve::sign_low_r(sighash, &self.0)
    }

    /// The same with any R: half of the work, and half of the signatures are a byte longer.
    pub fn sign_any_r(&self, sighash: &Message) -> Signature {
        curve::sign(sighash, &self.0)
    }
}

impl Drop for ClaimSecret {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum SignatureError {
    #[error("the signature of the commitment transaction does not verify")]
    Commitment,
    #[error("the signature of HTLC transaction {index} does not verify")]
    Htlc { index: usize },
    #[error("the commitment has {expected} HTLC outputs but {got} HTLC signatures came with it")]
    HtlcCount { expected: usize, got: usize },
    #[error("the signature of the closing transaction does not verify")]
    Closing,
}

/// A signer with its secrets in memory.
#[derive(Clone)]
pub struct KeysSigner {
    secrets: BasepointSecrets,
    basepoints: Basepoints,
}

impl KeysSigner {
    /// All secrets of a channel from one seed of its own.
    pub fn from_channel_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        Ok(Self::new(BasepointSecrets::from_channel_seed(seed)?))
    }

    /// A signer with these secrets.
    pub fn new(secrets: BasepointSecrets) -> Self {
        let basepoints = secrets.public();
        Self { secrets, basepoints }
    }
}

impl Signer for KeysSigner {
    fn basepoints(&self) -> &Basepoints {
        &self.basepoints
    }

    fn per_commitment_point(&self, number: CommitmentNumber) -> Result<PublicKey, KeyError> {
        per_commitment_secret(&self.secrets.commitment_seed, number).point()
    }

    fn release_commitment_secret(&self, number: CommitmentNumber) -> PerCommitmentSecret {
        per_commitment_secret(&self.secrets.commitment_seed, number)
    }

    fn release_revocation_secret(&self) -> SecretKey {
        self.secrets.revocation
    }

    fn sign_funding_input(&self, sighash: &Message) -> Signature {
        curve::sign(sighash, &self.secrets.funding)
    }

    fn htlc_key(&self, per_commitment_point: &PublicKey) -> Result<HtlcKey, KeyError> {
        derive_secret_key(per_commitment_point, &self.basepoints.htlc, &self.secrets.htlc).map(HtlcKey)
    }
}

impl ClaimSigner for KeysSigner {
    fn claim_secret(&self, key: &ClaimKey) -> Result<ClaimSecret, KeyError> {
        Ok(ClaimSecret(match key {
            ClaimKey::Payment => self.secrets.payment,
            ClaimKey::Funding => self.secrets.funding,
            ClaimKey::Delayed { per_commitment_point } => derive_secret_key(
                per_commitment_point,
                &self.basepoints.delayed_payment,
                &self.secrets.delayed_payment,
            )?,
            ClaimKey::Htlc { per_commitment_point } => {
                derive_secret_key(per_commitment_point, &self.basepoints.htlc, &self.secrets.htlc)?
            }
            ClaimKey::Revocation { per_commitment_secret } => derive_revocation_secret_key(
                per_commitment_secret,
                &self.basepoints.revocation,
                &self.secrets.revocation,
            )?,
        }))
    }

    fn owner(&self) -> Option<&dyn Signer> {
        Some(self)
    }
}
