//! What of a channel its end on the chain needs to know ([`crate::onchain`]).

use std::collections::BTreeMap;

use bitcoin::{OutPoint, ScriptBuf, Transaction};

use super::Channel;
use super::commitment::changes::Update;
use super::commitment::limits::in_commitment_of;
use super::commitment::remote::RemoteCommitment;
use super::commitment::spec::{CommitmentSpec, HtlcKey};
use super::commitment::{Commitments, Factory};
use super::error::{Error, Invariant};
use super::record::RetiredHtlc;
use super::state::{Closing, Established, Knowledge, Negotiating, Phase};
use super::terms::Terms;
use super::turn::Turn;
use crate::onchain::{ClosingChannel, KnownSpend, LocalState, MutualScripts, RemoteState, Resolution};
use crate::tx::CommitmentHtlc;
use crate::types::{CltvExpiry, CommitmentNumber, HtlcId, PaymentHash, PaymentPreimage, Side};

impl Channel {
    /// What this channel would be at its close; `None` while it is being opened. Whatever is ours would go to
    /// `destination`.
    pub fn closing_channel(&self, destination: ScriptBuf) -> Result<Option<ClosingChannel>, Error> {
        Ok(self.established().map(|channel| channel.closing_channel(destination)).transpose()?)
    }

    /// Whether this channel ends by a commitment transaction, or may, or by what nobody knows: its outputs have to be
    /// claimed.
    pub fn needs_enforcement(&self) -> bool {
        self.established().is_some_and(Established::needs_enforcement)
    }

    /// What becomes of the outputs; `None` unless the channel is closing.
    pub fn resolution(&self) -> Option<&Resolution> {
        Some(&self.established()?.closing()?.resolution)
    }

    /// The spend of an output that this channel knows of, in a block.
    pub fn known_spend(&self, outpoint: &OutPoint) -> Option<KnownSpend> {
        let spends = |tx: &Transaction| tx.input.iter().any(|input| input.previous_output == *outpoint);
        let (tx, height) = self.resolution()?.spends().find(|(tx, _)| spends(tx))?;
        Some(KnownSpend { txid: tx.compute_txid(), height: Some(height) })
    }

    /// The outputs that this channel wants to have watched, the funding output first of all; none before both first
    /// commitments are signed.
    pub fn watched(&self) -> impl Iterator<Item = OutPoint> {
        let funding = self.established().map(|channel| channel.terms.funding);
        let outputs = self.resolution().into_iter().flat_map(Resolution::outputs);
        funding.into_iter().chain(outputs.map(|output| output.outpoint))
    }
}

impl Established {
    pub(super) fn needs_enforcement(&self) -> bool {
        self.closing().is_some_and(Closing::needs_enforcement)
    }

    pub(super) fn closing_channel(&self, destination: ScriptBuf) -> Result<ClosingChannel, Invariant> {
        let knowledge = self.knowledge();
        let (terms, factory, commitments) = (&self.terms, &self.factory, &self.commitments);
        let mutual_scripts = self.mutual_scripts(knowledge);
        let channel = ClosingChannel::of(terms, factory, commitments, knowledge, mutual_scripts)?;
        Ok(ClosingChannel { destination, ..channel })
    }

    /// When the incoming HTLCs end that are forwarded through this channel.
    pub(super) fn upstream_expiries(&self, channel: &ClosingChannel, turn: &Turn<'_>) -> BTreeMap<HtlcId, CltvExpiry> {
        let expiry = |id: HtlcId| {
            let details = self.commitments.details.get(&HtlcKey { offered_by: Side::Local, id })?;
            turn.ctx.environment.upstream_expiry(details.origin?)
        };
        channel.outgoing().into_keys().filter_map(|id| Some((id, expiry(id)?))).collect()
    }

    /// What was agreed on. With lost data, or in a record of a version that did not keep it, that is not known.
    fn mutual_scripts(&self, knowledge: Knowledge) -> MutualScripts {
        match &self.phase {
            Phase::Closing(closing) => closing.mutual_scripts(),
            Phase::Negotiating(negotiating) => mutual_scripts(knowledge, Some(negotiating), false),
            Phase::Funding
            | Phase::Ready
            | Phase::Normal
            | Phase::Shutdown(_)
            | Phase::Lost
            | Phase::Restored
            | Phase::Closed => mutual_scripts(knowledge, None, false),
        }
    }
}

impl Closing {
    fn mutual_scripts(&self) -> MutualScripts {
        mutual_scripts(self.knowledge, self.negotiated.as_deref(), self.is_mutual())
    }
}

/// To which scripts both may have signed a closing transaction: only who negotiates its fee signs one. With lost data that
/// is not known; nor in a record of a version that did not keep it, of a channel that is closed together (`is_mutual`).
pub(super) fn mutual_scripts(knowledge: Knowledge, negotiated: Option<&Negotiating>, is_mutual: bool) -> MutualScripts {
    match (knowledge, negotiated) {
        (Knowledge::Old | Knowledge::Nothing, _) => MutualScripts::Forgotten,
        (Knowledge::Current, Some(negotiated)) => {
            MutualScripts::Agreed(vec![negotiated.local_script.clone(), negotiated.remote_script.clone()])
        }
        (Knowledge::Current, None) if is_mutual => MutualScripts::Forgotten,
        (Knowledge::Current, None) => MutualScripts::Agreed(Vec::new()),
    }
}

impl ClosingChannel {
    /// A channel at its close, but for where its money goes and what waits upstream.
    pub(super) fn of(
        terms: &Terms,
        factory: &Factory,
        commitments: &Commitments,
        knowledge: Knowledge,
        mutual_scripts: MutualScripts,
    ) -> Result<Self, Invariant> {
        let local = &commitments.local;
        let local_state = match knowledge {
            Knowledge::Nothing => None,
            Knowledge::Current | Knowledge::Old => Some(LocalState {
                number: local.number,
                per_commitment_point: factory.signer.per_commitment_point(local.number)?,
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
        Ok(Self {
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
            local_may_be_revoked: knowledge != Knowledge::Current,
            remote_state: (knowledge != Knowledge::Nothing).then(|| remote_state(&commitments.remote.current)),
            remote_next: commitments.remote.next().map(remote_state),
            secrets: commitments.secrets.clone(),
            mutual_scripts,
            preimages: sent_preimages(commitments),
            upstream_expiries: BTreeMap::new(),
            destination: ScriptBuf::new(),
        })
    }
}

/// Preimages of HTLCs offered to us that we have told the peer already.
fn sent_preimages(commitments: &Commitments) -> BTreeMap<PaymentHash, PaymentPreimage> {
    let sent = commitments.local_changes.all().filter_map(|update| match update {
        Update::Fulfill { preimage, .. } => Some((preimage.hash(), *preimage)),
        Update::Add(_) | Update::Fail { .. } | Update::FailMalformed { .. } | Update::Fee(_) => None,
    });
    sent.collect()
}

fn htlcs_of(spec: &CommitmentSpec, owner: Side) -> Vec<CommitmentHtlc> {
    spec.htlcs().iter().map(|htlc| in_commitment_of(htlc, owner)).collect()
}

/// The HTLCs of the peer's revoked commitment `number` out of all that the channel has retired, as the peer saw them.
pub fn revoked_htlcs(number: CommitmentNumber, retired: impl IntoIterator<Item = RetiredHtlc>) -> Vec<CommitmentHtlc> {
    let was_in = |retired: &RetiredHtlc| (retired.first_remote..=retired.last_remote).contains(&number);
    retired.into_iter().filter(was_in).map(|RetiredHtlc { htlc, .. }| in_commitment_of(&htlc, Side::Remote)).collect()
}
