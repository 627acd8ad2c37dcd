//! The three steps that move updates forward: sign, accept a signature (and revoke), accept a revocation.

use super::build::{BuildError, Factory};
use super::changes::Update;
use super::remote::{RemoteCommitment, RemoteStage};
use super::spec::{Htlc, HtlcKey};
use super::{Commitments, HtlcDetails, check_total};
use crate::channel::effect::HtlcFailure;
use crate::channel::error::{Fault, Invariant, ProtocolViolation};
use crate::channel::event::Origin;
use crate::channel::terms::Terms;
use crate::keys::{CommitmentSignatures, PerCommitmentSecret};
use crate::types::{CommitmentNumber, HtlcId, Side};
use crate::wire::{CommitmentSigned, RevokeAndAck};
use crate::workers::Workers;

/// We have signed the peer's next commitment.
pub(crate) struct Signed {
    pub message: CommitmentSigned,
    /// HTLCs of ours that must be stored now.
    pub added: Vec<HtlcKey>,
    /// HTLCs of the peer whose removal is signed: nobody owes them a settlement any more.
    pub settled: Vec<HtlcId>,
}

/// We have accepted the peer's signature and revoked our previous commitment.
pub(crate) struct Accepted {
    pub message: RevokeAndAck,
    /// HTLCs of the peer that must be stored now.
    pub added: Vec<HtlcKey>,
    pub removed: Vec<RemovedHtlc>,
}

/// The peer has revoked its previous commitment.
pub(crate) struct Revoked {
    /// HTLCs of the peer that are irrevocably committed now.
    pub incoming: Vec<(Htlc, HtlcDetails)>,
    /// HTLCs of ours that have failed for good.
    pub failed: Vec<(Htlc, Origin, HtlcFailure)>,
    pub removed: Vec<RemovedHtlc>,
}

/// An HTLC that is in no commitment any more, except in revoked ones.
pub(crate) struct RemovedHtlc {
    pub htlc: Htlc,
    /// It was fulfilled, not failed.
    pub settled: bool,
    /// The peer's revoked commitments that may have it: from the first to the last, both included.
    pub in_remote: Option<(CommitmentNumber, CommitmentNumber)>,
}

impl Commitments {
    /// Signs the peer's next commitment. [`Self::can_sign`] must hold.
    pub(crate) fn sign(
        &mut self,
        terms: &Terms,
        factory: &Factory,
        workers: &dyn Workers,
    ) -> Result<Signed, Invariant> {
        let RemoteStage::Settled { next_point } = self.remote.stage else {
            return Err(Invariant::WrongState("a signature"));
        };
        let spec = self.remote_view(None)?;
        check_total(&spec, terms)?;
        let number = successor(self.remote.current.number)?;
        let keys = self.prepared.take(Side::Remote, &next_point);
        let keys = keys.map_or_else(|| factory.keys(terms, Side::Remote, next_point), Ok)?;
        let built = factory.build_with(keys, Side::Remote, number, &spec).map_err(|e| e.invariant())?;
        let CommitmentSignatures { commitment, htlcs } = factory.sign(&built, workers)?;

        let next = RemoteCommitment { number, spec, per_commitment_point: next_point };
        self.remote.stage = RemoteStage::AwaitingRevocation { next, signed_at: self.local.number };
        self.local_changes.signed = std::mem::take(&mut self.local_changes.proposed);
        self.remote_changes.signed = std::mem::take(&mut self.remote_changes.acked);
        for htlc in self.local_changes.signed.iter().chain(&self.remote_changes.signed).filter_map(Update::adds) {
            if let Some(details) = self.details.get_mut(&htlc.key()) {
                details.first_remote = Some(number);
            }
        }
        Ok(Signed {
            message: CommitmentSigned { channel_id: terms.channel_id, signature: commitment, htlc_signature: htlcs },
            added: self.local_changes.signed.iter().filter_map(Update::adds).map(Htlc::key).collect(),
            settled: self.local_changes.signed.iter().filter_map(Update::removes).collect(),
        })
    }

    /// Signs the commitment that was signed already and whose signature got lost.
    pub(crate) fn sign_again(
        &self,
        terms: &Terms,
        factory: &Factory,
        workers: &dyn Workers,
    ) -> Result<CommitmentSigned, Invariant> {
        let next = self.remote.next().ok_or(Invariant::WrongState("a second signature"))?;
        let built = factory
            .build(terms, Side::Remote, next.number, &next.spec, next.per_commitment_point)
            .map_err(|e| e.invariant())?;
        let CommitmentSignatures { commitment, htlcs } = factory.sign(&built, workers)?;
        Ok(CommitmentSigned { channel_id: terms.channel_id, signature: commitment, htlc_signature: htlcs })
    }

    /// The peer signs our next commitment. Once it is verified we revoke the one before (BOLT 2).
    pub(crate) fn receive_signed(
        &mut self,
        message: CommitmentSigned,
        terms: &Terms,
        factory: &Factory,
        workers: &dyn Workers,
    ) -> Result<Accepted, Fault> {
        let spec = self.local_view(None)?;
        check_total(&spec, terms)?;
        let number = successor(self.local.number)?;
        let point = self.points.point(number, factory.signer.as_ref())?;
        let keys = self.prepared.take(Side::Local, &point);
        let keys = keys.map_or_else(|| factory.keys(terms, Side::Local, point), Ok);
        let keys = keys.map_err(|error| BuildError::Key(error).fault())?;
        let built = factory.build_with(keys, Side::Local, number, &spec).map_err(|e| e.fault())?;
        let signatures = CommitmentSignatures { commitment: message.signature, htlcs: message.htlc_signature };
        factory.verify(&built, &signatures, workers)?;
        let next_point = self.points.point(successor(number)?, factory.signer.as_ref())?;

        let revoked = self.local.number;
        self.local.number = number;
        self.local.spec = spec;
        self.local.signatures = signatures;
        let removed = std::mem::take(&mut self.local_changes.acked)
            .iter()
            .filter_map(|update| self.retire(update, Side::Remote))
            .collect();
        let added = self.remote_changes.proposed.iter().filter_map(Update::adds).map(Htlc::key).collect();
        self.remote_changes.acked.append(&mut self.remote_changes.proposed);
        Ok(Accepted { message: revocation(terms, factory, revoked, next_point), added, removed })
    }

    /// Works out now what the next step needs, and would be waited for then: our next points, and the keys of both next
    /// commitments. What cannot be made is left to that step, which says why.
    pub(crate) fn prepare(&mut self, terms: &Terms, factory: &Factory) {
        let Ok(number) = successor(self.local.number) else { return };
        if let Ok(point) = self.points.point(number, factory.signer.as_ref())
            && !self.prepared.has(Side::Local, &point)
            && let Ok(keys) = factory.keys(terms, Side::Local, point)
        {
            // The peer has signed nothing yet with an HTLC that it has from us.
            if self.local_changes.signed.iter().any(|update| update.adds().is_some()) {
                let _ = keys.htlc();
            }
            self.prepared.keep(Side::Local, keys);
        }
        if let RemoteStage::Settled { next_point } = self.remote.stage
            && !self.prepared.has(Side::Remote, &next_point)
            && let Ok(keys) = factory.keys(terms, Side::Remote, next_point)
        {
            self.prepared.keep(Side::Remote, keys);
        }
        // It leaves with the revocation of our present commitment.
        if let Ok(next) = successor(number) {
            let _ = self.points.point(next, factory.signer.as_ref());
        }
    }

    /// The `revoke_and_ack` that was sent last, again.
    pub(crate) fn revoke_again(&mut self, terms: &Terms, factory: &Factory) -> Result<RevokeAndAck, Invariant> {
        let revoked =
            self.local.number.0.checked_sub(1).map(CommitmentNumber).ok_or(Invariant::WrongState("a revocation"))?;
        let next_point = self.points.point(successor(self.local.number)?, factory.signer.as_ref())?;
        Ok(revocation(terms, factory, revoked, next_point))
    }

    /// The peer revokes its current commitment.
    pub(crate) fn receive_revocation(&mut self, message: &RevokeAndAck) -> Result<Revoked, Fault> {
        if self.remote.next().is_none() {
            return Err(ProtocolViolation::RevocationNotExpected.into());
        }
        let secret = PerCommitmentSecret(message.per_commitment_secret);
        let number = self.remote.current.number;
        match secret.point() {
            Ok(point) if point == self.remote.current.per_commitment_point => {}
            Ok(_) | Err(_) => return Err(ProtocolViolation::WrongSecret(number).into()),
        }
        self.secrets.insert(number, secret)?;

        let settled = RemoteStage::Settled { next_point: message.next_per_commitment_point };
        if let RemoteStage::AwaitingRevocation { next, .. } = std::mem::replace(&mut self.remote.stage, settled) {
            self.remote.current = next;
        }
        // The peer has our HTLCs for good: their onions need not be sent again.
        for htlc in self.local_changes.signed.iter().filter_map(Update::adds) {
            if let Some(details) = self.details.get_mut(&htlc.key()) {
                details.onion = None;
            }
        }
        self.local_changes.acked.append(&mut self.local_changes.signed);

        let mut revoked = Revoked { incoming: Vec::new(), failed: Vec::new(), removed: Vec::new() };
        for update in std::mem::take(&mut self.remote_changes.signed) {
            match &update {
                Update::Add(htlc) => {
                    if let Some(details) = self.details.get_mut(&htlc.key()) {
                        // Whoever settles it peels the onion; after a restart it is read from the store again.
                        let onion = details.onion.take();
                        revoked.incoming.push((*htlc, HtlcDetails { onion, ..details.clone() }));
                    }
                }
                Update::Fee(_) => {}
                Update::Fulfill { id, .. } | Update::Fail { id, .. } | Update::FailMalformed { id, .. } => {
                    let key = HtlcKey { offered_by: Side::Local, id: *id };
                    // A peer that tells the preimage and fails the HTLC after a reconnection has paid all the same.
                    let details = self.details.get(&key).filter(|details| !details.preimage_told);
                    let origin = details.and_then(|details| details.origin);
                    let Some(removed) = self.retire(&update, Side::Local) else { continue };
                    if let (Some(origin), Some(failure)) = (origin, failure_of(update)) {
                        revoked.failed.push((removed.htlc, origin, failure));
                    }
                    revoked.removed.push(removed);
                }
            }
        }
        Ok(revoked)
    }

    /// Forgets the HTLC that `update`, by now in both commitments, has removed. `None` if it removes none.
    fn retire(&mut self, update: &Update, offered_by: Side) -> Option<RemovedHtlc> {
        let key = HtlcKey { offered_by, id: update.removes()? };
        let details = self.details.remove(&key)?;
        let settled = matches!(update, Update::Fulfill { .. });
        if settled {
            let paid = self.paid.of_mut(offered_by);
            paid.0 = paid.0.saturating_add(details.htlc.amount.0);
        }
        let last = self.remote.current.number;
        let in_remote = details.first_remote.map(|first| (first, last));
        Some(RemovedHtlc { htlc: details.htlc, settled, in_remote })
    }
}

fn failure_of(update: Update) -> Option<HtlcFailure> {
    match update {
        Update::Fail { reason, .. } => Some(HtlcFailure::Remote { reason }),
        Update::FailMalformed { sha256_of_onion, failure_code, .. } => {
            Some(HtlcFailure::Malformed { sha256_of_onion, failure_code })
        }
        Update::Fulfill { .. } | Update::Add(_) | Update::Fee(_) => None,
    }
}

fn revocation(
    terms: &Terms,
    factory: &Factory,
    number: CommitmentNumber,
    next_per_commitment_point: secp256k1::PublicKey,
) -> RevokeAndAck {
    RevokeAndAck {
        channel_id: terms.channel_id,
        per_commitment_secret: factory.signer.release_commitment_secret(number).0,
        next_per_commitment_point,
    }
}

fn successor(number: CommitmentNumber) -> Result<CommitmentNumber, Invariant> {
    if number >= CommitmentNumber::MAX { Err(Invariant::NumberExhausted) } else { Ok(number.next()) }
}
