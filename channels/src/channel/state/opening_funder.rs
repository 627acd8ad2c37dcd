//! Opening a channel that we fund (BOLT 2, Channel Establishment v1).
//!
//! ```text
//!   open_channel sent ──accept_channel──► wallet asked ──funded──► funding_created sent ──funding_signed──► funding
//! ```
//!
//! Promises: until `funding_signed` has been verified and the channel is durable nobody sees the funding transaction, so
//! nothing is at stake: a lost connection ends the opening, and the wallet gets its coins back. Of a transaction that
//! somebody else broadcasts ([`Publisher::Maker`]) the channel keeps nothing but what it needs, and the news that the
//! channel is established is the leave to do so.

use std::sync::Arc;

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction};
use secp256k1::PublicKey;

use crate::channel::commitment::spec::CommitmentSpec;
use crate::channel::commitment::{Commitments, Factory};
use crate::channel::effect::Effect;
use crate::channel::error::{Fault, Invariant};
use crate::channel::event::{Event, Publisher};
use crate::channel::params::{self, ChannelType, OpenContext, ParameterError, accepter_terms, opener_terms};
use crate::channel::terms::Terms;
use crate::channel::turn::{Ctx, Turn};
use crate::channel::{Sides, established, established::FundedBy};
use crate::keys::{CommitmentSignatures, Signer};
use crate::tx::funding_script_pubkey;
use crate::types::{ChannelId, CommitmentNumber, FeeratePerKw, Msat, NodeId, ShortChannelId, Side, TipTrust};
use crate::wire::{AcceptChannel, FundingCreated, FundingSigned, Message, OpenChannel};

use super::Established;

/// A channel that we want to open.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    /// With whom.
    pub remote_node: NodeId,
    /// Random, until the channel has its real id.
    pub temporary_channel_id: ChannelId,
    /// Names the keys behind the signer.
    pub keys_id: [u8; 32],
    /// What the funding output is worth.
    pub capacity: Amount,
    /// A gift to the peer.
    pub push: Msat,
    /// Of the first commitments.
    pub feerate: FeeratePerKw,
    /// What is proposed; the peer cannot choose another.
    pub channel_type: ChannelType,
    /// Whether the channel is made known to the network.
    pub announce: bool,
    /// What counts in place of the policy, for this channel alone.
    pub overrides: OpenOverrides,
    /// A script of our wallet.
    pub shutdown_script: ScriptBuf,
    /// Whether to commit to it.
    pub commit_to_script: bool,
    /// What `channel_ready` will tell the peer, random.
    pub alias: ShortChannelId,
    /// Whether both nodes offered `option_support_large_channel`.
    pub large_channels: bool,
}

/// What one channel should have instead of the policy's values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenOverrides {
    /// Blocks that the peer must wait for its money.
    pub to_self_delay: Option<u16>,
    /// The longest such delay that we accept for ourselves.
    pub max_to_self_delay: Option<u16>,
    /// The smallest HTLC that we accept.
    pub htlc_minimum: Option<Msat>,
    /// The most that the peer may have in flight; never above the capacity.
    pub max_in_flight: Option<Msat>,
    /// The most HTLCs that the peer may have in flight; never above the policy's.
    pub max_accepted_htlcs: Option<u16>,
    /// What the peer must always keep.
    pub reserve: Option<Amount>,
    /// The peer must not wait for confirmations.
    pub zero_conf: bool,
}

/// How far the opening is.
pub(crate) enum OpeningFunder {
    Proposed(Box<Proposal>),
    Accepted(Box<Accepted>),
    Funded(Box<Funded>),
}

pub(crate) struct Proposal {
    request: OpenRequest,
    open: OpenChannel,
    channel_type: ChannelType,
    signer: Arc<dyn Signer + Send + Sync>,
}

pub(crate) struct Accepted {
    proposal: Proposal,
    sides: Sides<crate::channel::terms::SideTerms>,
    remote_point: PublicKey,
    minimum_depth: u32,
}

pub(crate) struct Funded {
    terms: Terms,
    factory: Factory,
    spec: CommitmentSpec,
    remote_point: PublicKey,
    transaction: Transaction,
    publisher: Publisher,
    alias: ShortChannelId,
}

/// What an event led to.
pub(crate) enum Progress {
    Opening(OpeningFunder),
    Established(Box<Established>),
}

impl OpeningFunder {
    pub(crate) fn start(
        request: OpenRequest,
        signer: Arc<dyn Signer + Send + Sync>,
        turn: &mut Turn<'_>,
    ) -> Result<Self, ParameterError> {
        let Ctx { chain, policy, feerates, trust, .. } = turn.ctx;
        if *trust == TipTrust::InDoubt {
            return Err(ParameterError::TipInDoubt);
        }
        let points = signer.basepoints();
        let overrides = &request.overrides;
        let in_flight = policy.max_in_flight(request.capacity);
        let reserve = policy.reserve(request.capacity, policy.dust_limit);
        let open = OpenChannel {
            chain_hash: *chain,
            temporary_channel_id: request.temporary_channel_id,
            funding_satoshis: request.capacity,
            push_msat: request.push,
            dust_limit_satoshis: policy.dust_limit,
            max_htlc_value_in_flight_msat: overrides.max_in_flight.map_or(in_flight, |wish| wish.min(in_flight)),
            channel_reserve_satoshis: overrides.reserve.unwrap_or(reserve),
            htlc_minimum_msat: overrides.htlc_minimum.unwrap_or(policy.htlc_minimum),
            feerate_per_kw: request.feerate,
            to_self_delay: overrides.to_self_delay.unwrap_or(policy.to_self_delay),
            max_accepted_htlcs: overrides
                .max_accepted_htlcs
                .map_or(policy.max_accepted_htlcs, |wish| wish.min(policy.max_accepted_htlcs)),
            funding_pubkey: points.funding,
            revocation_basepoint: points.revocation,
            payment_basepoint: points.payment,
            delayed_payment_basepoint: points.delayed_payment,
            htlc_basepoint: points.htlc,
            first_per_commitment_point: signer.per_commitment_point(CommitmentNumber(0))?,
            channel_flags: if request.announce { OpenChannel::ANNOUNCE_CHANNEL } else { 0 },
            upfront_shutdown_script: Some(if request.commit_to_script {
                request.shutdown_script.clone()
            } else {
                ScriptBuf::new()
            }),
            channel_type: Some(request.channel_type.to_features()),
        };
        let context = OpenContext { chain: *chain, feerates, large_channels: request.large_channels };
        let channel_type = policy.check_open(&open, &context)?;
        turn.send(open.clone());
        Ok(Self::Proposed(Box::new(Proposal { request, open, channel_type, signer })))
    }

    pub(crate) fn temporary_id(&self) -> ChannelId {
        match self {
            Self::Proposed(proposal) => proposal.request.temporary_channel_id,
            Self::Accepted(accepted) => accepted.proposal.request.temporary_channel_id,
            Self::Funded(funded) => funded.terms.channel_id,
        }
    }

    /// The node at the other end, and the capacity that is wanted.
    pub(crate) fn peer(&self) -> (NodeId, Amount) {
        match self {
            Self::Proposed(proposal) => (proposal.request.remote_node, proposal.request.capacity),
            Self::Accepted(accepted) => (accepted.proposal.request.remote_node, accepted.proposal.request.capacity),
            Self::Funded(funded) => (funded.terms.remote_node, funded.terms.capacity),
        }
    }

    /// The coins that the wallet gets back if the opening fails.
    pub(crate) fn release(&self, turn: &mut Turn<'_>) {
        if let Self::Funded(funded) = self {
            turn.emit(Effect::ReleaseFunding { transaction: funded.transaction.compute_txid() });
        }
    }

    /// One event of the opening. On an error the opening is over.
    pub(crate) fn handle(self, event: Event, turn: &mut Turn<'_>) -> Result<Progress, Fault> {
        match (self, event) {
            (Self::Proposed(proposal), Event::Message(Message::AcceptChannel(accept))) => {
                proposal.accepted(&accept, turn).map(Progress::Opening)
            }
            (Self::Accepted(accepted), Event::Funded { transaction, output, publisher }) => {
                accepted.funded(transaction, output, publisher, turn).map(Progress::Opening)
            }
            (Self::Funded(funded), Event::Message(Message::FundingSigned(signed))) => {
                funded.signed(&signed, turn).map(|channel| Progress::Established(Box::new(channel)))
            }
            (state, Event::Message(message)) => {
                let state_name = super::StateName::Opening;
                state.release(turn);
                Err(crate::channel::error::ProtocolViolation::Unexpected { message: message.name(), state: state_name }
                    .into())
            }
            // The wallet was late: the opening has moved on.
            (state, _) => Ok(Progress::Opening(state)),
        }
    }
}

impl Proposal {
    fn accepted(self: Box<Self>, accept: &AcceptChannel, turn: &mut Turn<'_>) -> Result<OpeningFunder, Fault> {
        let remote = accepter_terms(accept);
        let local = opener_terms(&self.open);
        let zero_conf = self.channel_type.zero_conf || self.request.overrides.zero_conf;
        turn.ctx.policy.check_accept(accept, &self.open, &remote, zero_conf)?;
        if let Some(maximum) = self.request.overrides.max_to_self_delay
            && remote.to_self_delay > maximum
        {
            return Err(ParameterError::ToSelfDelay { maximum, got: remote.to_self_delay }.into());
        }
        params::check_both(&local, &remote)?;
        let script = funding_script_pubkey(&local.basepoints.funding, &remote.basepoints.funding);
        turn.emit(Effect::Fund { script, amount: self.request.capacity });
        Ok(OpeningFunder::Accepted(Box::new(Accepted {
            sides: Sides { local, remote },
            remote_point: accept.first_per_commitment_point,
            minimum_depth: if zero_conf { 0 } else { accept.minimum_depth.max(1) },
            proposal: *self,
        })))
    }
}

impl Accepted {
    fn funded(
        self: Box<Self>,
        transaction: Transaction,
        output: u32,
        publisher: Publisher,
        turn: &mut Turn<'_>,
    ) -> Result<OpeningFunder, Fault> {
        let Self { proposal, sides, remote_point, minimum_depth } = *self;
        let Proposal { request, channel_type, signer, .. } = proposal;
        let script = funding_script_pubkey(&sides.local.basepoints.funding, &sides.remote.basepoints.funding);
        let index = u16::try_from(output).map_err(|_| ParameterError::FundingOutput(output))?;
        let paid = transaction.output.get(usize::from(index));
        if !paid.is_some_and(|paid| paid.value == request.capacity && paid.script_pubkey == script) {
            turn.emit(Effect::ReleaseFunding { transaction: transaction.compute_txid() });
            return Err(ParameterError::FundingOutput(output).into());
        }
        let funding = OutPoint { txid: transaction.compute_txid(), vout: output };
        let terms = Terms {
            channel_id: ChannelId::from_funding(funding),
            remote_node: request.remote_node,
            keys_id: request.keys_id,
            opener: Side::Local,
            channel_type,
            announce: request.announce,
            funding,
            capacity: request.capacity,
            push: Some(request.push),
            minimum_depth,
            sides,
            shutdown_script: request.shutdown_script,
        };
        let factory = Factory::new(&terms, signer);
        let local = terms.capacity_msat().checked_sub(request.push).ok_or(Invariant::Overflow)?;
        let spec = CommitmentSpec::new(Sides { local, remote: request.push }, request.feerate);
        let built = factory
            .build(&terms, Side::Remote, CommitmentNumber(0), &spec, remote_point)
            .map_err(|error| error.fault())?;
        let CommitmentSignatures { commitment, .. } = factory.sign(&built, turn.ctx.environment.workers())?;
        turn.send(FundingCreated {
            temporary_channel_id: request.temporary_channel_id,
            funding_txid: funding.txid,
            funding_output_index: index,
            signature: commitment,
        });
        let alias = request.alias;
        let funded = Funded { terms, factory, spec, remote_point, transaction, publisher, alias };
        Ok(OpeningFunder::Funded(Box::new(funded)))
    }
}

impl Funded {
    fn signed(self: Box<Self>, message: &FundingSigned, turn: &mut Turn<'_>) -> Result<Established, Fault> {
        let Self { terms, factory, spec, remote_point, transaction, publisher, alias } = *self;
        let signatures = CommitmentSignatures { commitment: message.signature, htlcs: Vec::new() };
        let verified = established::verify_first(&terms, &factory, &spec, &signatures);
        if let Err(fault) = verified {
            turn.emit(Effect::ReleaseFunding { transaction: terms.funding.txid });
            return Err(fault);
        }
        let commitments = Commitments::first(spec, signatures, remote_point);
        let funding = FundedBy::Us { transaction: transaction.clone(), publisher };
        let channel = established::begin(terms, factory, commitments, alias, funding, turn)?;
        // After the news that there is a channel: what lets its money be found again is kept before money goes in.
        match publisher {
            Publisher::Channel => turn.emit(Effect::Broadcast(transaction)),
            Publisher::Maker => {}
        }
        Ok(channel)
    }
}
