//! A channel as people and dashboards see it.

use bitcoin::{Amount, OutPoint, ScriptBuf};

use super::closing_fee::ClosingFunds;
use super::commitment::HtlcDetails;
use super::commitment::limits;
use super::commitment::spec::{Htlc, HtlcKey};
use super::event::Origin;
use super::funding::FundingState;
use super::state::{ConnectionState, Established, FundingSpend, Knowledge, StateName};
use super::{Channel, Sides, State, Terms};
use crate::tx::fee;
use crate::types::{
    ChannelId, CommitmentNumber, CommitmentType, FeeratePerKw, HtlcId, Msat, NodeId, ShortChannelId, Side,
};

/// The figures of a channel at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// A temporary one while the channel is being opened.
    pub channel_id: ChannelId,
    /// The state that it is in.
    pub state: StateName,
    /// The peer.
    pub remote_node: NodeId,
    /// Who opened it and pays the fees of commitments.
    pub opener: Side,
    /// What the funding output is worth.
    pub capacity: Amount,
    /// Payments can be sent now.
    pub usable: bool,
    /// Whether the peer is connected and synchronised.
    pub online: bool,
    /// What has spent the funding output, once that is known.
    pub spend: Option<FundingSpend>,
    /// `None` while the channel is being opened.
    pub established: Option<EstablishedSummary>,
}

/// What is known once both first commitments are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EstablishedSummary {
    /// The funding output.
    pub funding: OutPoint,
    /// The shape of its commitment transactions.
    pub commitment_type: CommitmentType,
    /// Whether it is made known to the network.
    pub announce: bool,
    /// What the opener gave to the other side at the opening; not known of channels that earlier versions opened.
    pub push: Option<Msat>,
    /// Where our balance has to go on a cooperative close, if we said so at the opening.
    pub upfront_shutdown_script: Option<ScriptBuf>,
    /// Where the funding output is in the chain.
    pub short_channel_id: Option<ShortChannelId>,
    /// The alias that we gave to the peer, for its hints (BOLT 2, `channel_ready`).
    pub local_alias: Option<ShortChannelId>,
    /// The alias that the peer gave to us, for ours.
    pub remote_alias: Option<ShortChannelId>,
    /// Of our commitment, HTLCs taken out, before fees; both zero if a backup is all that we have.
    pub local_balance: Msat,
    /// The peer's, in the same commitment.
    pub remote_balance: Msat,
    /// What we have paid, and got, through HTLCs over the channel's life.
    pub total_sent: Msat,
    /// What we have got through HTLCs over the channel's life.
    pub total_received: Msat,
    /// What we may not spend below.
    pub local_reserve: Amount,
    /// What the peer may not spend below.
    pub remote_reserve: Amount,
    /// Of our commitment.
    pub feerate: FeeratePerKw,
    /// What the opener pays for our commitment.
    pub commitment_fee: Amount,
    /// Both anchors together.
    pub anchors: Amount,
    /// Of our commitment.
    pub htlcs: Vec<Htlc>,
    /// Those of them that a commitment of the peer's which it has not revoked lacks: they are
    /// not irrevocably committed.
    pub uncommitted: Vec<HtlcKey>,
    /// The HTLCs of ours that forward one of another channel, each with that channel and its number there.
    pub forwards: Vec<(HtlcId, ChannelId, HtlcId)>,
    /// One HTLC of this amount can be offered now.
    pub sendable: Msat,
    /// One HTLC of this amount can be received now.
    pub receivable: Msat,
    /// The number of our latest commitment.
    pub local_commitment: CommitmentNumber,
    /// The number of the peer's latest one.
    pub remote_commitment: CommitmentNumber,
    /// Blocks that we, and the peer, wait after closing alone.
    pub local_delay: u16,
    /// Blocks that the peer waits after closing alone.
    pub remote_delay: u16,
    /// Confirmations of the funding transaction before the channel is used.
    pub minimum_depth: u32,
    /// What the chain says of the funding transaction.
    pub funding_state: FundingState,
    /// The newest revoked state that enough towers must hold before anything more is signed.
    pub awaits_towers: Option<CommitmentNumber>,
    /// Nothing about the funding transaction keeps it from taking HTLCs.
    pub is_funded: bool,
    /// What binds us.
    pub local_limits: SideLimits,
    /// What binds the peer.
    pub remote_limits: SideLimits,
}

/// What binds one side of a channel: chosen by the other, but for the dust limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SideLimits {
    /// The dust limit of its own commitments.
    pub dust_limit: Amount,
    /// What its HTLCs may add up to.
    pub max_in_flight: Msat,
    /// The smallest HTLC that it may offer.
    pub htlc_minimum: Msat,
    /// How many HTLCs it may offer at once.
    pub max_htlcs: u16,
}

impl EstablishedSummary {
    /// What closing together can be paid from.
    pub fn closing_funds(&self, opener: Side) -> ClosingFunds {
        let balance = Sides { local: self.local_balance, remote: self.remote_balance };
        let dust_limit = self.local_limits.dust_limit.max(self.remote_limits.dust_limit);
        ClosingFunds::new(opener, &balance, dust_limit, self.commitment_type, self.feerate)
    }

    /// Whether the balances are known, or a backup is all that we have.
    pub fn knows_balances(&self) -> bool {
        self.local_balance > Msat::ZERO || self.remote_balance > Msat::ZERO || !self.htlcs.is_empty()
    }
}

impl Channel {
    /// `None` for an opening that has failed.
    pub fn summary(&self) -> Option<Summary> {
        let (remote_node, capacity, opener) = match &self.state {
            State::Funder(opening) => {
                let (node, capacity) = opening.peer();
                (node, capacity, Side::Local)
            }
            State::Fundee(opening) => {
                let (node, capacity) = opening.peer();
                (node, capacity, Side::Remote)
            }
            State::Established(channel) => (channel.terms.remote_node, channel.terms.capacity, channel.terms.opener),
            State::Over(_) => return None,
        };
        let established = self.established();
        Some(Summary {
            channel_id: self.id(),
            state: self.state_name(),
            remote_node,
            opener,
            capacity,
            usable: established.is_some_and(Established::is_usable),
            online: established
                .is_none_or(|channel| matches!(channel.connection, ConnectionState::Online | ConnectionState::Waiting)),
            spend: established.and_then(|channel| channel.closing()?.spend.clone()),
            established: established.map(Established::summary),
        })
    }
}

impl Channel {
    /// Whether HTLCs can be offered now.
    pub fn is_usable(&self) -> bool {
        self.established().is_some_and(Established::is_usable)
    }

    /// The largest HTLC that can be offered now; nothing if the channel is not usable.
    pub fn sendable(&self) -> Msat {
        let Some(channel) = self.established().filter(|channel| channel.is_usable()) else { return Msat::ZERO };
        let view = channel.commitments.remote_view(None);
        view.map_or(Msat::ZERO, |view| limits::sendable(&view, &channel.terms, Side::Local))
    }

    /// Who waits for the outgoing HTLCs that this channel holds.
    pub fn pending_origins(&self) -> Vec<Origin> {
        let details = self.established().map(|channel| &channel.commitments.details);
        details.into_iter().flat_map(|details| details.values()).filter_map(|details| details.origin).collect()
    }
}

impl Established {
    fn summary(&self) -> EstablishedSummary {
        let Self { terms, commitments, .. } = self;
        let spec = &commitments.local.spec;
        let untrimmed = limits::untrimmed(spec, terms, Side::Local);
        let view = commitments.remote_view(None).unwrap_or_else(|_| commitments.remote.current.spec.clone());
        let known = self.knowledge() != Knowledge::Nothing;
        let if_known = |amount: Msat| if known { amount } else { Msat::ZERO };
        EstablishedSummary {
            funding: terms.funding,
            commitment_type: terms.commitment_type(),
            announce: terms.announce,
            push: terms.push,
            upfront_shutdown_script: {
                let script = terms.sides.local.upfront_shutdown_script.clone();
                script.filter(|script| !script.is_empty())
            },
            short_channel_id: self.short_channel_id,
            local_alias: self.aliases.local,
            remote_alias: self.aliases.remote,
            local_balance: if_known(spec.balance.local),
            remote_balance: if_known(spec.balance.remote),
            total_sent: commitments.paid.local,
            total_received: commitments.paid.remote,
            local_reserve: terms.reserve_of(Side::Local),
            remote_reserve: terms.reserve_of(Side::Remote),
            feerate: spec.feerate,
            commitment_fee: fee::commitment_fee(terms.commitment_type(), spec.feerate, untrimmed),
            anchors: fee::anchors_cost(terms.commitment_type()),
            htlcs: spec.htlcs().to_vec(),
            uncommitted: {
                let remote = &commitments.remote.current.spec;
                let lacks = |htlc: &&Htlc| remote.htlc(htlc.key()).is_none();
                spec.htlcs().iter().filter(lacks).map(Htlc::key).collect()
            },
            forwards: {
                let forward = |details: &HtlcDetails| match details.origin? {
                    Origin::Forward { channel, htlc } => Some((details.htlc.id, channel, htlc)),
                    Origin::Payment(_) => None,
                };
                commitments.details.values().filter_map(forward).collect()
            },
            sendable: if_known(limits::sendable(&view, terms, Side::Local)),
            receivable: if_known(limits::sendable(&view, terms, Side::Remote)),
            local_commitment: commitments.local.number,
            remote_commitment: commitments.remote.current.number,
            local_delay: terms.delay_of(Side::Local),
            remote_delay: terms.delay_of(Side::Remote),
            minimum_depth: terms.minimum_depth,
            funding_state: self.funding_state,
            awaits_towers: self.towers.awaited(),
            is_funded: self.not_funded().is_none(),
            local_limits: SideLimits::of(terms, Side::Local),
            remote_limits: SideLimits::of(terms, Side::Remote),
        }
    }
}

impl SideLimits {
    fn of(terms: &Terms, side: Side) -> Self {
        Self {
            dust_limit: terms.sides.of(side).dust_limit,
            max_in_flight: terms.max_in_flight_of(side),
            htlc_minimum: terms.htlc_minimum_of(side),
            max_htlcs: terms.max_htlcs_of(side),
        }
    }
}
