//! Keys of one commitment transaction out of basepoints and a per-commitment point (BOLT 3, Key Derivation).

use std::sync::OnceLock;

use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use secp256k1::{PublicKey, Scalar, SecretKey};

use super::{Basepoints, KeyError, PerCommitmentSecret, curve};

/// The keys of one commitment transaction. `owner` is the node that may broadcast it (BOLT 3's "local"), `other` its
/// peer. The key of `to_remote` is not here: it is the other node's payment basepoint and never changes.
#[derive(Clone, Debug)]
pub struct CommitmentKeys {
    /// The point that the other keys are derived with.
    pub per_commitment_point: PublicKey,
    /// `revocationpubkey`: spends everything of the owner's once this commitment is revoked.
    pub revocation: PublicKey,
    /// `local_delayedpubkey`
    pub owner_delayed: PublicKey,
    owner_htlc_basepoint: PublicKey,
    other_htlc_basepoint: PublicKey,
    htlc: OnceLock<HtlcKeys>,
}

/// The keys of both nodes in the HTLC outputs of one commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HtlcKeys {
    /// `local_htlcpubkey`
    pub owner: PublicKey,
    /// `remote_htlcpubkey`
    pub other: PublicKey,
}

impl CommitmentKeys {
    /// The keys of one commitment of `owner` (BOLT 3, Key Derivation). An error for a point with which a key would be
    /// none, which only a hostile peer can find.
    pub fn derive(per_commitment_point: PublicKey, owner: &Basepoints, other: &Basepoints) -> Result<Self, KeyError> {
        Self::from_basepoints(per_commitment_point, &other.revocation, &owner.delayed_payment, [owner.htlc, other.htlc])
    }

    /// The same from those basepoints that are in the keys: the other node's for revocations, the owner's for delayed
    /// payments, and the owner's and the other's for HTLCs.
    pub fn from_basepoints(
        per_commitment_point: PublicKey,
        other_revocation: &PublicKey,
        owner_delayed: &PublicKey,
        [owner_htlc_basepoint, other_htlc_basepoint]: [PublicKey; 2],
    ) -> Result<Self, KeyError> {
        Ok(Self {
            per_commitment_point,
            revocation: derive_revocation_public_key(&per_commitment_point, other_revocation)?,
            owner_delayed: derive_public_key(&per_commitment_point, owner_delayed)?,
            owner_htlc_basepoint,
            other_htlc_basepoint,
            htlc: OnceLock::new(),
        })
    }

    /// The keys of its HTLCs, worked out when they are asked for first: every second commitment has no HTLC.
    pub fn htlc(&self) -> Result<HtlcKeys, KeyError> {
        if let Some(keys) = self.htlc.get() {
            return Ok(*keys);
        }
        let keys = HtlcKeys {
            owner: derive_public_key(&self.per_commitment_point, &self.owner_htlc_basepoint)?,
            other: derive_public_key(&self.per_commitment_point, &self.other_htlc_basepoint)?,
        };
        Ok(*self.htlc.get_or_init(|| keys))
    }
}

/// Whether they were worked out already does not count.
impl PartialEq for CommitmentKeys {
    fn eq(&self, other: &Self) -> bool {
        let all = |keys: &Self| {
            let htlc = [keys.owner_htlc_basepoint, keys.other_htlc_basepoint];
            (keys.per_commitment_point, keys.revocation, keys.owner_delayed, htlc)
        };
        all(self) == all(other)
    }
}

impl Eq for CommitmentKeys {}

/// `basepoint + SHA256(per_commitment_point || basepoint) * G`
pub fn derive_public_key(per_commitment_point: &PublicKey, basepoint: &PublicKey) -> Result<PublicKey, KeyError> {
    let tweak = scalar(&[per_commitment_point, basepoint])?;
    curve::add_generator(basepoint, &tweak).map_err(|_| KeyError::PointAtInfinity)
}

/// `basepoint_secret + SHA256(per_commitment_point || basepoint)`
pub fn derive_secret_key(
    per_commitment_point: &PublicKey,
    basepoint: &PublicKey,
    basepoint_secret: &SecretKey,
) -> Result<SecretKey, KeyError> {
    let tweak = scalar(&[per_commitment_point, basepoint])?;
    basepoint_secret.add_tweak(&tweak).map_err(|_| KeyError::InvalidSecret)
}

/// `revocation_basepoint * SHA256(revocation_basepoint || per_commitment_point)
///  + per_commitment_point * SHA256(per_commitment_point || revocation_basepoint)`: neither node alone knows the secret.
pub fn derive_revocation_public_key(
    per_commitment_point: &PublicKey,
    revocation_basepoint: &PublicKey,
) -> Result<PublicKey, KeyError> {
    let base_tweak = scalar(&[revocation_basepoint, per_commitment_point])?;
    let point_tweak = scalar(&[per_commitment_point, revocation_basepoint])?;
    let base_part = curve::multiply(revocation_basepoint, &base_tweak).map_err(|_| KeyError::PointAtInfinity)?;
    let point_part = curve::multiply(per_commitment_point, &point_tweak).map_err(|_| KeyError::PointAtInfinity)?;
    base_part.combine(&point_part).map_err(|_| KeyError::PointAtInfinity)
}

/// The secret behind [`derive_revocation_public_key`], known once the owner has revealed its per-commitment secret.
pub fn derive_revocation_secret_key(
    per_commitment_secret: &PerCommitmentSecret,
    revocation_basepoint: &PublicKey,
    revocation_basepoint_secret: &SecretKey,
) -> Result<SecretKey, KeyError> {
    let secret = per_commitment_secret.to_secret_key()?;
    let point = curve::public_key(&secret);
    let base_tweak = scalar(&[revocation_basepoint, &point])?;
    let point_tweak = scalar(&[&point, revocation_basepoint])?;
    let base_part = revocation_basepoint_secret.mul_tweak(&base_tweak).map_err(|_| KeyError::InvalidSecret)?;
    let point_part = secret.mul_tweak(&point_tweak).map_err(|_| KeyError::InvalidSecret)?;
    base_part.add_tweak(&Scalar::from(point_part)).map_err(|_| KeyError::InvalidSecret)
}

fn scalar(points: &[&PublicKey; 2]) -> Result<Scalar, KeyError> {
    let mut engine = sha256::Hash::engine();
    for point in points {
        engine.input(&point.serialize());
    }
    Scalar::from_be_bytes(sha256::Hash::from_engine(engine).to_byte_array()).map_err(|_| KeyError::InvalidSecret)
}
