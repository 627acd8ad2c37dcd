//! Everything about a channel that enforcing it on the chain needs, taken out of the live channel once.

use std::collections::BTreeMap;

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut};
use secp256k1::PublicKey;

use crate::{
    keys::{Basepoints, CommitmentKeys, CommitmentSignatures, KeyError, PerCommitmentSecrets, Signer},
    tx::{
        CommitmentHtlc, CommitmentInput, CommitmentParams, CommitmentSetup, CommitmentTx, CommitmentTxError, Funding,
        FundingSignatures, build_commitment,
    },
    types::{
        ChannelId, CltvExpiry, CommitmentNumber, CommitmentType, FeeratePerKw, HtlcDirection, HtlcId, Msat,
        PaymentHash, PaymentPreimage, Side,
    },
};

/// A channel at the moment of its close. It does not change any more, apart from what the resolution learns.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosingChannel {
    /// The channel.
    pub channel_id: ChannelId,
    /// The shape of its commitment transactions.
    pub kind: CommitmentType,
    /// Who opened it and pays the fees of commitments.
    pub opener: Side,
    /// The funding output.
    pub funding: OutPoint,
    /// What the funding output is worth.
    pub capacity: Amount,
    /// Our public keys.
    pub local: Basepoints,
    /// The peer's public keys.
    pub remote: Basepoints,
    /// The dust limit of our commitments.
    pub local_dust_limit: Amount,
    /// The dust limit of the peer's commitments.
    pub remote_dust_limit: Amount,
    /// How long we wait for our own money.
    pub local_delay: u16,
    /// How long the peer waits for its own.
    pub remote_delay: u16,
    /// Our latest commitment that we know, if we know one.
    pub local_state: Option<LocalState>,
    /// We have lost data: that commitment may be revoked, and is not broadcast. If it is in a block all the same, what it
    /// gives us is claimed.
    pub local_may_be_revoked: bool,
    /// The peer's oldest commitment that is not revoked.
    pub remote_state: Option<RemoteState>,
    /// One more that we have signed and the peer may broadcast.
    pub remote_next: Option<RemoteState>,
    /// The secrets of the peer's revoked commitments.
    pub secrets: PerCommitmentSecrets,
    /// Where a cooperative close may pay to.
    pub mutual_scripts: MutualScripts,
    /// The preimages of HTLCs offered to us that we may use: those of payments for us, and those that we have paid
    /// onwards for.
    pub preimages: BTreeMap<PaymentHash, PaymentPreimage>,
    /// When the incoming HTLC behind an outgoing one of ours expires, for HTLCs that we forward.
    pub upstream_expiries: BTreeMap<HtlcId, CltvExpiry>,
    /// Where all that is ours goes.
    pub destination: ScriptBuf,
}

/// To which scripts a cooperative close may pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MutualScripts {
    /// These and no others; none at all before both have named theirs.
    Agreed(Vec<ScriptBuf>),
    /// We have lost what was agreed on.
    Forgotten,
}

impl MutualScripts {
    /// Whether both may have signed a closing transaction with these outputs. Where we have forgotten what we signed, the
    /// peer is given the benefit of the doubt: nobody has our key.
    pub fn may_pay(&self, outputs: &[TxOut]) -> bool {
        match self {
            Self::Agreed(scripts) => outputs.iter().all(|output| scripts.contains(&output.script_pubkey)),
            Self::Forgotten => true,
        }
    }
}

/// Our latest commitment.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalState {
    /// Its number.
    pub number: CommitmentNumber,
    /// The point that its keys are derived with.
    pub per_commitment_point: PublicKey,
    /// What it and its second stages pay.
    pub feerate: FeeratePerKw,
    /// Ours: we are the owner here.
    pub to_local: Msat,
    /// What the peer has, before fees.
    pub to_remote: Msat,
    /// As we see them: `Offered` is by us.
    pub htlcs: Vec<CommitmentHtlc>,
    /// The peer's.
    pub signatures: CommitmentSignatures,
}

/// A commitment of the peer's.
#[derive(Clone, Debug, PartialEq)]
pub struct RemoteState {
    /// Its number.
    pub number: CommitmentNumber,
    /// The point that its keys are derived with.
    pub per_commitment_point: PublicKey,
    /// What it and its second stages pay.
    pub feerate: FeeratePerKw,
    /// The peer's: it is the owner here.
    pub to_local: Msat,
    /// Ours.
    pub to_remote: Msat,
    /// As the peer sees them: `Offered` is by the peer.
    pub htlcs: Vec<CommitmentHtlc>,
}

/// Why a stored channel cannot be enforced: it was damaged, or never was ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum RebuildError {
    #[error("a commitment transaction cannot be rebuilt: {0}")]
    Commitment(#[from] CommitmentTxError),
    #[error("a key of the channel cannot be derived: {0}")]
    Key(#[from] KeyError),
}

impl ClosingChannel {
    /// The funding output with its script.
    pub fn funding(&self) -> Funding {
        Funding::new(self.funding, self.capacity, self.local.funding, self.remote.funding)
    }

    /// What all commitments of `owner` have in common.
    pub fn params(&self, owner: Side) -> CommitmentParams {
        let (owner_dust_limit, owner_to_self_delay) = match owner {
            Side::Local => (self.local_dust_limit, self.local_delay),
            Side::Remote => (self.remote_dust_limit, self.remote_delay),
        };
        CommitmentParams::new(CommitmentSetup {
            kind: self.kind,
            funding: self.funding(),
            owner,
            opener: self.opener,
            local: &self.local,
            remote: &self.remote,
            owner_dust_limit,
            owner_to_self_delay,
        })
    }

    /// The keys of a commitment of `owner` with this point.
    pub fn keys(&self, owner: Side, point: PublicKey) -> Result<CommitmentKeys, KeyError> {
        match owner {
            Side::Local => CommitmentKeys::derive(point, &self.local, &self.remote),
            Side::Remote => CommitmentKeys::derive(point, &self.remote, &self.local),
        }
    }

    /// The transaction of [`Self::local_state`].
    pub fn local_commitment(&self) -> Result<Option<CommitmentTx>, RebuildError> {
        let Some(state) = &self.local_state else { return Ok(None) };
        let keys = self.keys(Side::Local, state.per_commitment_point)?;
        let commitment = build_commitment(&CommitmentInput {
            params: &self.params(Side::Local),
            keys: &keys,
            number: state.number,
            feerate: state.feerate,
            to_local: state.to_local,
            to_remote: state.to_remote,
            htlcs: &state.htlcs,
        })?;
        Ok(Some(commitment))
    }

    /// A commitment of the peer's as we have signed it.
    pub fn remote_commitment(&self, state: &RemoteState) -> Result<CommitmentTx, RebuildError> {
        let keys = self.keys(Side::Remote, state.per_commitment_point)?;
        Ok(build_commitment(&CommitmentInput {
            params: &self.params(Side::Remote),
            keys: &keys,
            number: state.number,
            feerate: state.feerate,
            to_local: state.to_local,
            to_remote: state.to_remote,
            htlcs: &state.htlcs,
        })?)
    }

    /// Our commitment, signed by both; `None` if there is none that we may broadcast.
    pub fn signed_local_commitment(&self, signer: &dyn Signer) -> Result<Option<Transaction>, RebuildError> {
        if self.local_may_be_revoked {
            return Ok(None);
        }
        let (Some(state), Some(commitment)) = (&self.local_state, self.local_commitment()?) else { return Ok(None) };
        let funding = self.funding();
        let local = signer.sign_funding_input(&commitment.sighash(&funding));
        let signatures = FundingSignatures { local, remote: state.signatures.commitment };
        Ok(Some(commitment.signed(&funding, &signatures)))
    }

    /// HTLCs that a revoked commitment of the peer's may have had and that are still in a valid one, as the peer sees
    /// them.
    pub(super) fn live_htlcs(&self) -> impl Iterator<Item = CommitmentHtlc> {
        let local = self.local_state.iter().flat_map(|state| &state.htlcs);
        let local = local.map(|htlc| CommitmentHtlc { direction: htlc.direction.reversed(), ..*htlc });
        let remote = self.remote_state.iter().chain(&self.remote_next).flat_map(|state| &state.htlcs);
        local.chain(remote.copied())
    }

    /// Every HTLC that we have offered and that some valid commitment has, once each.
    pub fn outgoing(&self) -> BTreeMap<HtlcId, CommitmentHtlc> {
        let local = self.local_state.iter().flat_map(|state| &state.htlcs).map(|htlc| (Side::Local, htlc));
        let remote = self.remote_state.iter().chain(&self.remote_next).flat_map(|state| &state.htlcs);
        local
            .chain(remote.map(|htlc| (Side::Remote, htlc)))
            .filter(|(owner, htlc)| is_outgoing(*owner, htlc))
            .map(|(_, htlc)| (htlc.id, *htlc))
            .collect()
    }
}

/// Whether we offered an HTLC that is in `owner`'s commitment.
pub(super) fn is_outgoing(owner: Side, htlc: &CommitmentHtlc) -> bool {
    match owner {
        Side::Local => htlc.direction == HtlcDirection::Offered,
        Side::Remote => htlc.direction == HtlcDirection::Received,
    }
}
