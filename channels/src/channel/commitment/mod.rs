//! Both sides' commitments and the updates on their way into them (BOLT 2, Normal Operation).
//!
//! ```text
//!   offer_add, settle, offer_fee ──► local_changes      receive_add, receive_removal, receive_fee ──► remote_changes
//!                                        │                                                              │
//!                      sign ◄────────────┴──► remote: Settled → AwaitingRevocation                      │
//!                      receive_revocation ──► remote: AwaitingRevocation → Settled                      │
//!                      receive_signed (verifies, revokes) ──► local: n → n + 1 ◄────────────────────────┘
//! ```
//!
//! Promises: every method either does its whole step or, on an error, changes nothing; what is signed or accepted
//! always adds up to the capacity.

mod build;
pub(super) mod changes;
pub(super) mod limits;
pub(super) mod local;
pub(super) mod remote;
pub(super) mod spec;
mod step;
mod update;
mod view;

use std::collections::BTreeMap;

use crate::keys::PerCommitmentSecrets;
use crate::types::{CommitmentNumber, HtlcId, Msat, Side};
use crate::wire::OnionRoutingPacket;
use secp256k1::PublicKey;

use self::changes::{LocalChanges, RemoteChanges, Update};
use self::limits::{CannotAdd, HtlcRoom};
use self::local::LocalCommitment;
use self::remote::{Remote, RemoteStage};
use self::spec::{CommitmentSpec, Htlc, HtlcKey};
use self::view::View;
use super::error::Invariant;
use super::event::Origin;
use super::terms::Terms;
use super::{Sides, event::Settlement};

pub(crate) use build::{Built, Factory, PointCache, PreparedKeys};
pub(crate) use step::RemovedHtlc;
pub(crate) use update::HtlcRemoval;
pub(crate) use view::Views;

/// What is known of an HTLC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HtlcDetails {
    pub htlc: Htlc,
    /// Whose it is; only of an HTLC that we offered.
    pub origin: Option<Origin>,
    /// For as long as it may have to be sent again, or peeled: then it is only in the store.
    pub onion: Option<OnionRoutingPacket>,
    pub path_key: Option<PublicKey>,
    /// The first commitment of the peer that has this HTLC.
    pub first_remote: Option<CommitmentNumber>,
    /// The peer has told the preimage, committed or not: from then on this HTLC counts as paid. Not stored; after a
    /// restart the stored outcome says it.
    pub preimage_told: bool,
    /// It is offered to us, and was told to be failed when it came. Not stored; after a restart it counts until it is failed.
    pub must_fail: bool,
}

/// Both commitments of a channel and what is on its way into them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Commitments {
    pub local: LocalCommitment,
    pub remote: Remote,
    pub local_changes: LocalChanges,
    pub remote_changes: RemoteChanges,
    /// The id of the next HTLC that each side offers.
    pub next_id: Sides<HtlcId>,
    /// What each side has paid the other through HTLCs, over the channel's life.
    pub paid: Sides<Msat>,
    /// HTLCs of ours that would not have been enforced and were fulfilled after their expiry: whoever is behind them may
    /// have got its coins back. Over the channel's life; see [`super::exposure`].
    pub written_off: Msat,
    /// One entry for each HTLC in a commitment or in the changes.
    pub details: BTreeMap<HtlcKey, HtlcDetails>,
    /// What the peer has revealed.
    pub secrets: PerCommitmentSecrets,
    /// Our points for the commitments after `local`, once they are known: a cache.
    pub(crate) points: build::PointCache,
    /// Keys of the commitments after these: a cache.
    pub(crate) prepared: build::PreparedKeys,
    /// Where offers are measured, while they gather: a cache.
    pub(crate) views: Views,
}

impl Commitments {
    /// The peer's next commitment as it would be if we signed now: where our offers are measured.
    pub(super) fn remote_view(&self, extra: Option<&Update>) -> Result<CommitmentSpec, Invariant> {
        let local = self.local_changes.proposed.iter().chain(extra);
        self.remote.latest().spec.reduce(local, self.remote_changes.acked.iter())
    }

    /// Our next commitment as it would be if the peer signed now: where the peer's offers are measured.
    pub(super) fn local_view(&self, extra: Option<&Update>) -> Result<CommitmentSpec, Invariant> {
        let remote = self.remote_changes.proposed.iter().chain(extra);
        self.local.spec.reduce(self.local_changes.acked.iter(), remote)
    }

    /// [`Self::remote_view`] or [`Self::local_view`], without building it anew for each update. It is to be kept with
    /// [`Self::keep_view`] once what it was asked for is in the lists.
    fn take_view(&mut self, owner: Side) -> Result<View, Invariant> {
        let (kept, base, acked, proposed) = match owner {
            Side::Local => {
                (self.views.local.take(), self.local.number, &self.local_changes.acked, &self.remote_changes.proposed)
            }
            Side::Remote => {
                let base = self.remote.latest().number;
                (self.views.remote.take(), base, &self.remote_changes.acked, &self.local_changes.proposed)
            }
        };
        let anew = || match owner {
            Side::Local => self.local_view(None),
            Side::Remote => self.remote_view(None),
        };
        let mut view = match kept.filter(|view| view.leads_to(base, acked.len(), proposed.len())) {
            Some(view) => view,
            None => View::new(base, acked.len(), proposed.len(), anew()?),
        };
        let spec = view.follow(owner.other(), proposed)?;
        debug_assert_eq!(spec, &anew()?);
        Ok(view)
    }

    fn keep_view(&mut self, owner: Side, view: View) {
        match owner {
            Side::Local => self.views.local = Some(view),
            Side::Remote => self.views.remote = Some(view),
        }
    }

    /// Whether one more HTLC of ours has a place in the peer's next commitment.
    pub(super) fn room(&self, terms: &Terms) -> HtlcRoom {
        let there = self.remote.latest().spec.offered_by(Side::Local).count();
        let added = self.local_changes.proposed.iter().filter(|update| update.adds().is_some()).count();
        let removed = self.remote_changes.acked.iter().filter(|update| update.removes().is_some()).count();
        if there.saturating_add(added).saturating_sub(removed) < usize::from(terms.max_htlcs_of(Side::Local)) {
            HtlcRoom::Free
        } else if self.remote_changes.proposed.iter().any(|update| update.removes().is_some()) {
            HtlcRoom::Soon
        } else {
            HtlcRoom::Full
        }
    }

    /// Whether there is anything that a `commitment_signed` of ours would commit to.
    pub(super) const fn has_something_to_sign(&self) -> bool {
        !self.local_changes.proposed.is_empty() || !self.remote_changes.acked.is_empty()
    }

    /// Whether we may sign now.
    pub(super) const fn can_sign(&self) -> bool {
        matches!(self.remote.stage, RemoteStage::Settled { .. }) && self.has_something_to_sign()
    }

    /// No HTLC in any commitment, no update on its way, no revocation owed: closing may be negotiated.
    pub(super) fn is_drained(&self) -> bool {
        self.local.spec.htlcs().is_empty()
            && self.remote.current.spec.htlcs().is_empty()
            && self.remote.next().is_none()
            && self.local_changes.is_empty()
            && self.remote_changes.is_empty()
    }

    /// No HTLC in any commitment and none on its way. What may be on its way is a fee rate, which moves no balance.
    pub(super) fn is_without_htlcs(&self) -> bool {
        let specs =
            [Some(&self.local.spec), Some(&self.remote.current.spec), self.remote.next().map(|next| &next.spec)];
        let mut updates = self.local_changes.all().chain(self.remote_changes.all());
        specs.into_iter().flatten().all(|spec| spec.htlcs().is_empty())
            && updates.all(|update| matches!(update, Update::Fee(_)))
    }

    /// Whether an HTLC that we offered is irrevocably committed and nobody is removing it.
    pub(crate) fn is_removable(&self, key: HtlcKey) -> bool {
        let (in_local, in_remote) = (self.local.spec.htlc(key).is_some(), self.remote.current.spec.htlc(key).is_some());
        let mut removals: Box<dyn Iterator<Item = &Update>> = match key.offered_by {
            Side::Local => Box::new(self.remote_changes.all()),
            Side::Remote => Box::new(self.local_changes.all()),
        };
        in_local && in_remote && !removals.any(|update| update.removes() == Some(key.id))
    }

    /// Forgets what was not committed when the connection ended (BOLT 2, Message Retransmission): the peer's
    /// unsigned updates, and our unsigned HTLCs and fee, but not our unsigned removals, which are sent again.
    /// Returns the origins of the HTLCs that are given up.
    pub(crate) fn forget_uncommitted(&mut self) -> Vec<(Origin, CannotAdd)> {
        self.views = Views::default();
        let mut refused = Vec::new();
        for update in std::mem::take(&mut self.remote_changes.proposed) {
            if let Update::Add(htlc) = update {
                self.details.remove(&htlc.key());
                self.next_id.remote = self.next_id.remote.min(htlc.id);
            }
        }
        for update in std::mem::take(&mut self.local_changes.proposed) {
            match update {
                Update::Add(htlc) => {
                    let origin = self.details.remove(&htlc.key()).and_then(|details| details.origin);
                    refused.extend(origin.map(|origin| (origin, CannotAdd::Disconnected)));
                    self.next_id.local = self.next_id.local.min(htlc.id);
                }
                Update::Fee(_) => {}
                Update::Fulfill { .. } | Update::Fail { .. } | Update::FailMalformed { .. } => {
                    self.local_changes.proposed.push(update);
                }
            }
        }
        refused
    }

    /// Both balances and all HTLCs must be the capacity, in every commitment.
    pub(super) fn check_conserved(&self, terms: &Terms) -> Result<(), Invariant> {
        let remote = [Some(&self.remote.current), self.remote.next()].into_iter().flatten().map(|one| &one.spec);
        for spec in std::iter::once(&self.local.spec).chain(remote) {
            check_total(spec, terms)?;
        }
        Ok(())
    }
}

fn check_total(spec: &CommitmentSpec, terms: &Terms) -> Result<(), Invariant> {
    let (total, capacity) = (spec.total().ok_or(Invariant::Overflow)?, terms.capacity_msat());
    if total != capacity {
        return Err(Invariant::NotConserved { total, capacity });
    }
    Ok(())
}

impl From<Settlement> for HtlcRemoval {
    fn from(settlement: Settlement) -> Self {
        match settlement {
            Settlement::Fulfill(preimage) => Self::Fulfill(preimage),
            Settlement::Fail { reason } => Self::Fail { reason },
            Settlement::FailMalformed { sha256_of_onion, failure_code } => {
                Self::FailMalformed { sha256_of_onion, failure_code }
            }
        }
    }
}
