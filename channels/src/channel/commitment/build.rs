//! From a [`CommitmentSpec`] to the transaction of BOLT 3, and back to a check of the peer's signatures.

use std::sync::Arc;

use secp256k1::PublicKey;

use super::limits::in_commitment_of;
use super::spec::CommitmentSpec;
use crate::channel::Sides;
use crate::channel::error::{Fault, Invariant};
use crate::channel::terms::Terms;
use crate::keys::{CommitmentKeys, CommitmentSignatures, KeyError, Signer};
use crate::tx::{
    CommitmentHtlc, CommitmentInput, CommitmentParams, CommitmentTx, CommitmentTxError, Funding, build_commitment,
    verify_commitment,
};
use crate::types::{CommitmentNumber, Side};
use crate::workers::Workers;

/// What all commitment transactions of a channel are built with: scripts and our signer. Made once, from the terms.
pub(crate) struct Factory {
    pub signer: Arc<dyn Signer + Send + Sync>,
    pub funding: Funding,
    local: CommitmentParams,
    remote: CommitmentParams,
}

/// A commitment transaction and the keys in it.
pub(crate) struct Built {
    pub tx: CommitmentTx,
    pub keys: CommitmentKeys,
}

/// Why a commitment could not be built.
pub(crate) enum BuildError {
    Key(KeyError),
    Transaction(CommitmentTxError),
}

impl BuildError {
    /// Our own doing: everything was checked before.
    pub(crate) fn invariant(self) -> Invariant {
        match self {
            Self::Key(error) => Invariant::Key(error),
            Self::Transaction(error) => Invariant::Transaction(error),
        }
    }

    /// The peer's doing: its point or its updates led here.
    pub(crate) fn fault(self) -> Fault {
        use crate::channel::error::ProtocolViolation;
        Fault::Violation(match self {
            Self::Key(error) => ProtocolViolation::Key(error),
            Self::Transaction(error) => ProtocolViolation::Transaction(error),
        })
    }
}

impl Factory {
    pub(crate) fn new(terms: &Terms, signer: Arc<dyn Signer + Send + Sync>) -> Self {
        Self {
            funding: terms.funding(),
            local: terms.commitment_params(Side::Local),
            remote: terms.commitment_params(Side::Remote),
            signer,
        }
    }

    pub(crate) const fn params(&self, owner: Side) -> &CommitmentParams {
        match owner {
            Side::Local => &self.local,
            Side::Remote => &self.remote,
        }
    }

    /// The keys of `owner`'s commitment with this point.
    pub(crate) fn keys(&self, terms: &Terms, owner: Side, point: PublicKey) -> Result<CommitmentKeys, KeyError> {
        self.signer.commitment_keys(owner, point, &terms.sides.remote.basepoints)
    }

    /// `owner`'s commitment `number` with its per-commitment point.
    pub(crate) fn build(
        &self,
        terms: &Terms,
        owner: Side,
        number: CommitmentNumber,
        spec: &CommitmentSpec,
        point: PublicKey,
    ) -> Result<Built, BuildError> {
        self.build_with(self.keys(terms, owner, point).map_err(BuildError::Key)?, owner, number, spec)
    }

    /// The same with keys that are known.
    pub(crate) fn build_with(
        &self,
        keys: CommitmentKeys,
        owner: Side,
        number: CommitmentNumber,
        spec: &CommitmentSpec,
    ) -> Result<Built, BuildError> {
        let htlcs: Vec<CommitmentHtlc> = spec.htlcs().iter().map(|htlc| in_commitment_of(htlc, owner)).collect();
        let tx = build_commitment(&CommitmentInput {
            params: self.params(owner),
            keys: &keys,
            number,
            feerate: spec.feerate,
            to_local: *spec.balance.of(owner),
            to_remote: *spec.balance.of(owner.other()),
            htlcs: &htlcs,
        })
        .map_err(BuildError::Transaction)?;
        Ok(Built { tx, keys })
    }

    /// What `commitment_signed` (or `funding_created`, `funding_signed`) carries for the peer's commitment.
    pub(crate) fn sign(&self, built: &Built, workers: &dyn Workers) -> Result<CommitmentSignatures, Invariant> {
        Ok(built.tx.sign(&*self.signer, &self.funding, &built.keys.per_commitment_point, workers)?)
    }

    /// Checks the peer's signatures on our commitment.
    pub(crate) fn verify(
        &self,
        built: &Built,
        signatures: &CommitmentSignatures,
        workers: &dyn Workers,
    ) -> Result<(), Fault> {
        Ok(verify_commitment(&built.tx, &self.funding, &built.keys, signatures, workers)?)
    }
}

/// The keys of the next commitments, worked out while the peer was waited for: at most one set for each side.
#[derive(Clone, Debug, Default)]
pub(crate) struct PreparedKeys(Sides<Option<CommitmentKeys>>);

/// A cache is no part of a channel's state.
impl PartialEq for PreparedKeys {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl PreparedKeys {
    /// The keys of `owner`'s commitment with this point, if they are here. They are needed once.
    pub(crate) fn take(&mut self, owner: Side, point: &PublicKey) -> Option<CommitmentKeys> {
        self.0.of_mut(owner).take_if(|keys| keys.per_commitment_point == *point)
    }

    /// Whether there is nothing to prepare for `owner`'s commitment with this point.
    pub(crate) fn has(&self, owner: Side, point: &PublicKey) -> bool {
        self.0.of(owner).as_ref().is_some_and(|keys| keys.per_commitment_point == *point)
    }

    pub(crate) fn keep(&mut self, owner: Side, keys: CommitmentKeys) {
        *self.0.of_mut(owner) = Some(keys);
    }
}

/// Our points of the next two commitments: each is needed twice, and costs up to 48 hashes and a multiplication.
#[derive(Clone, Debug, Default)]
pub(crate) struct PointCache(Vec<(CommitmentNumber, PublicKey)>);

/// A cache is no part of a channel's state.
impl PartialEq for PointCache {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl PointCache {
    pub(crate) fn point(&mut self, number: CommitmentNumber, signer: &dyn Signer) -> Result<PublicKey, Invariant> {
        if let Some((_, point)) = self.0.iter().find(|(cached, _)| *cached == number) {
            return Ok(*point);
        }
        let point = signer.per_commitment_point(number)?;
        self.0.retain(|(cached, _)| cached.0 + 2 >= number.0);
        self.0.push((number, point));
        Ok(point)
    }
}
