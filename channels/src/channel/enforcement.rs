//! Handing a channel over to its enforcement on the chain ([`crate::onchain`]).

use std::collections::BTreeMap;

use bitcoin::ScriptBuf;

use super::Channel;
use super::commitment::changes::Update;
use super::commitment::limits::in_commitment_of;
use super::commitment::remote::RemoteCommitment;
use super::commitment::spec::{HtlcKey, Spec};
use super::error::{Error, Invariant};
use super::event::Origin;
use super::record::RetiredHtlc;
use super::state::{Established, Knowledge, Phase};
use crate::onchain::{ClosingChannel, LocalState, RemoteState};
use crate::tx::CommitmentHtlc;
use crate::types::{CommitmentNumber, HtlcId, PaymentHash, PaymentPreimage, Side};

impl Channel {
    /// All that closing this channel on the chain needs; `None` while it is being opened. Whatever is ours will go to
    /// `destination`. Preimages that are known elsewhere, and the expiries of the incoming HTLCs behind our outgoing
    /// ones, are for the driver to add.
    pub fn closing_channel(&self, destination: ScriptBuf) -> Result<Option<ClosingChannel>, Error> {
        Ok(self.established().map(|channel| channel.closing_channel(destination)).transpose()?)
    }

    /// Whether this channel ends by a commitment transaction, or may: its outputs have to be claimed.
    pub fn needs_enforcement(&self) -> bool {
        match self.established().map(|channel| &channel.phase) {
            Some(Phase::Closing(closing)) => closing.broadcast || !closing.is_mutual(),
            Some(
                Phase::Funding
                | Phase::Ready
                | Phase::Normal
                | Phase::Shutdown(_)
                | Phase::Negotiating(_)
                | Phase::Lost
                | Phase::Restored
                | Phase::Closed,
            )
            | None => false,
        }
    }

    /// Whose an HTLC is that we offered.
    pub fn origin_of(&self, id: HtlcId) -> Option<Origin> {
        let key = HtlcKey { offered_by: Side::Local, id };
        self.established()?.commitments.details.get(&key)?.origin
    }
}

impl Established {
    fn closing_channel(&self, destination: ScriptBuf) -> Result<ClosingChannel, Invariant> {
        let (terms, commitments) = (&self.terms, &self.commitments);
        let local = &commitments.local;
        let knowledge = self.knowledge();
        let local_state = match knowledge {
            Knowledge::Old | Knowledge::Nothing => None,
            Knowledge::Current => Some(LocalState {
                number: local.number,
                per_commitment_point: self.factory.signer.per_commitment_point(local.number)?,
                feerate: local.spec.feerate,
                to_local: local.spec.balance.local,
                to_remote: local.spec.balance.remote,
                htlcs: htlcs_of(&local.spec, Side::Local),
                signatures: local.signatures.clone(),
            }),
        };
        let remote_state = |remote: &RemoteCommitment| RemoteState {
            number: remote.number,
            per_commitment_point: remote.per_commitment_point,
            feerate: remote.spec.feerate,
            to_local: remote.spec.balance.remote,
            to_remote: remote.spec.balance.local,
            htlcs: htlcs_of(&remote.spec, Side::Remote),
        };
        Ok(ClosingChannel {
            channel_id: terms.channel_id,
            kind: terms.commitment_type(),
            opener: terms.opener,
            funding: terms.funding,
            capacity: terms.capacity,
            local: terms.sides.local.basepoints.clone(),
            remote: terms.sides.remote.basepoints.clone(),
            local_dust_limit: terms.sides.local.dust_limit,
            remote_dust_limit: terms.sides.remote.dust_limit,
            local_delay: terms.delay_of(Side::Local),
            remote_delay: terms.delay_of(Side::Remote),
            local_state,
            remote_state: (knowledge != Knowledge::Nothing).then(|| remote_state(&commitments.remote.current)),
            remote_next: commitments.remote.next().map(remote_state),
            secrets: commitments.secrets.clone(),
            mutual_scripts: self.mutual_scripts(),
            preimages: self.told_preimages(),
            upstream_expiries: BTreeMap::new(),
            destination,
        })
    }

    /// Empty if they are not known (any more): then no close can be told from a mutual one by its scripts.
    fn mutual_scripts(&self) -> Vec<ScriptBuf> {
        match &self.phase {
            Phase::Shutdown(shutdown) => match &shutdown.remote {
                Some(remote) => vec![shutdown.local.script().clone(), remote.clone()],
                None => Vec::new(),
            },
            Phase::Negotiating(negotiating) => {
                vec![negotiating.local_script.clone(), negotiating.remote_script.clone()]
            }
            Phase::Closing(closing) => match &closing.negotiated {
                Some(negotiated) => vec![negotiated.local_script.clone(), negotiated.remote_script.clone()],
                None => Vec::new(),
            },
            Phase::Funding | Phase::Ready | Phase::Normal | Phase::Lost | Phase::Restored | Phase::Closed => Vec::new(),
        }
    }

    /// Preimages of HTLCs offered to us that we have told the peer already.
    fn told_preimages(&self) -> BTreeMap<PaymentHash, PaymentPreimage> {
        let told = self.commitments.local_changes.all().filter_map(|update| match update {
            Update::Fulfill { preimage, .. } => Some((preimage.hash(), *preimage)),
            Update::Add(_) | Update::Fail { .. } | Update::FailMalformed { .. } | Update::Fee(_) => None,
        });
        told.collect()
    }
}

fn htlcs_of(spec: &Spec, owner: Side) -> Vec<CommitmentHtlc> {
    spec.htlcs().iter().map(|htlc| in_commitment_of(htlc, owner)).collect()
}

/// The HTLCs of the peer's revoked commitment `number` out of all that the channel has retired, as the peer saw them.
pub fn revoked_htlcs(number: CommitmentNumber, retired: impl IntoIterator<Item = RetiredHtlc>) -> Vec<CommitmentHtlc> {
    let was_in = |retired: &RetiredHtlc| (retired.first_remote..=retired.last_remote).contains(&number);
    retired.into_iter().filter(was_in).map(|RetiredHtlc { htlc, .. }| in_commitment_of(&htlc, Side::Remote)).collect()
}
