//! What a channel does for the node's watchtowers.
//!
//! ```text
//!   revoke_and_ack received ──► row TowerBackup{number}, in the same commit ──► Effect::TowerBackup{number}
//!                                                                                      │ kits, towers: not here
//!   commitment_signed ◄── only then, if towers are required ◄── Event::TowersHold{up_to}
//! ```
//!
//! The row has the state that the peer has just revoked; with the terms and the peer's secret, which is in the shachain, it
//! gives the very transaction that a tower must know ([`RevokedState::commitment`]). Nothing is signed or sealed in the
//! channel's turn. Whoever keeps the queue of the towers deletes the rows, or the channel's erasure does.
//!
//! Where towers are required, the channel does not sign the peer's next commitment while a queued state is not held by enough
//! of them: so at most one revoked state is ever without its towers. Everything else goes on: the peer's signatures are
//! accepted and answered, preimages are passed on, and every close is as it would be; but a cooperative close that has
//! something to sign first waits like a payment. The channel is free again when the towers answer, when a missing one is
//! removed, or when fewer are required: each of these is told by [`Event::TowersHold`](super::Event::TowersHold).

use std::collections::BTreeMap;

use secp256k1::PublicKey;

use super::Channel;
use super::commitment::HtlcDetails;
use super::commitment::limits::in_commitment_of;
use super::commitment::remote::RemoteCommitment;
use super::commitment::spec::HtlcKey;
use super::record::RetiredHtlc;
use super::terms::Terms;
use crate::keys::{CommitmentKeys, KeyError, PerCommitmentSecret, PerCommitmentSecrets};
use crate::tx::{CommitmentHtlc, CommitmentInput, CommitmentTx, CommitmentTxError, build_commitment};
use crate::types::{CommitmentNumber, FeeratePerKw, Msat, Side};

/// What this node wants of its towers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TowerPolicy {
    /// It has none.
    #[default]
    None,
    /// Revoked states are queued for them; no payment waits.
    BackUp,
    /// Revoked states are queued, and no commitment is signed before enough towers hold them.
    Require,
}

/// What a channel knows of its queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TowerQueue {
    /// The newest state that was queued. Stored with the state.
    pub queued: Option<CommitmentNumber>,
    /// Enough towers hold everything that was queued, up to here. Not stored: it is told again after a restart.
    pub held: Option<CommitmentNumber>,
    /// As of the last event.
    pub required: bool,
}

impl TowerQueue {
    /// The newest state for which the next signature waits.
    pub(in crate::channel) fn awaited(&self) -> Option<CommitmentNumber> {
        self.queued.filter(|_| self.required && self.queued > self.held)
    }
}

/// A commitment of the peer that it has revoked: what a tower's backup is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedState {
    /// Which of the peer's commitments.
    pub number: CommitmentNumber,
    /// The rate that it pays.
    pub feerate: FeeratePerKw,
    /// The peer's own.
    pub to_local: Msat,
    /// Ours.
    pub to_remote: Msat,
    /// The HTLCs that it holds, trimmed ones included.
    pub htlcs: Vec<RevokedHtlc>,
}

/// An HTLC of such a commitment, trimmed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedHtlc {
    /// As the peer saw it.
    pub htlc: CommitmentHtlc,
    /// Whether this commitment was the first one of the peer's to have it.
    pub is_new: bool,
}

/// What an own tower needs of everything that the peer has revoked, beside the retired HTLCs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedPast {
    /// The newest state that is revoked.
    pub number: CommitmentNumber,
    /// Of all states up to that one.
    pub secrets: PerCommitmentSecrets,
    /// Every HTLC that is not retired, as the peer sees it, and the first commitment that has it.
    pub htlcs: Vec<(CommitmentHtlc, CommitmentNumber)>,
}

impl Channel {
    /// The newest commitment that the peer has revoked.
    pub fn newest_revoked(&self) -> Option<CommitmentNumber> {
        let current = self.established()?.commitments.remote.current.number;
        current.0.checked_sub(1).map(CommitmentNumber)
    }

    /// For a tower that is younger than the channel.
    pub fn revoked_past(&self) -> Option<RevokedPast> {
        let (number, channel) = (self.newest_revoked()?, self.established()?);
        let details = channel.commitments.details.values();
        let htlcs = details.filter_map(|one| Some((in_commitment_of(&one.htlc, Side::Remote), one.first_remote?)));
        Some(RevokedPast { number, secrets: channel.commitments.secrets.clone(), htlcs: htlcs.collect() })
    }
}

impl RetiredHtlc {
    /// As the peer saw it.
    pub fn in_remote(&self) -> CommitmentHtlc {
        in_commitment_of(&self.htlc, Side::Remote)
    }
}

/// Why a revoked commitment cannot be built again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RebuildRevokedError {
    #[error(transparent)]
    /// A key cannot be derived.
    Key(#[from] KeyError),
    #[error(transparent)]
    /// The commitment cannot be built again.
    Transaction(#[from] CommitmentTxError),
}

impl RevokedState {
    /// The transaction, as both signed it. `secret` is what the peer revoked it with.
    pub fn commitment(&self, terms: &Terms, secret: &PerCommitmentSecret) -> Result<CommitmentTx, RebuildRevokedError> {
        let htlcs: Vec<CommitmentHtlc> = self.htlcs.iter().map(|one| one.htlc).collect();
        Ok(build_commitment(&CommitmentInput {
            params: &terms.commitment_params(Side::Remote),
            keys: &remote_keys(terms, secret.point()?)?,
            number: self.number,
            feerate: self.feerate,
            to_local: self.to_local,
            to_remote: self.to_remote,
            htlcs: &htlcs,
        })?)
    }

    pub(in crate::channel) fn of(remote: &RemoteCommitment, details: &BTreeMap<HtlcKey, HtlcDetails>) -> Self {
        let RemoteCommitment { number, spec, .. } = remote;
        let is_new = |key| details.get(&key).is_none_or(|details| details.first_remote == Some(*number));
        let htlcs = spec.htlcs().iter();
        Self {
            number: *number,
            feerate: spec.feerate,
            to_local: spec.balance.remote,
            to_remote: spec.balance.local,
            htlcs: htlcs
                .map(|htlc| RevokedHtlc { htlc: in_commitment_of(htlc, Side::Remote), is_new: is_new(htlc.key()) })
                .collect(),
        }
    }
}

fn remote_keys(terms: &Terms, point: PublicKey) -> Result<CommitmentKeys, KeyError> {
    CommitmentKeys::derive(point, &terms.sides.remote.basepoints, &terms.sides.local.basepoints)
}
