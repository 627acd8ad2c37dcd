//! Opening a channel that the peer funds (BOLT 2, Channel Establishment v1).
//!
//! ```text
//!   open_channel ──► accept_channel sent ──funding_created──► (durable) funding_signed sent ──► funding
//! ```
//!
//! Promises: once `funding_signed` is out the channel is remembered, because the funder may fund it; before that
//! nothing is.

use std::sync::Arc;

use bitcoin::{Amount, OutPoint, ScriptBuf};
use secp256k1::PublicKey;

use super::Established;
use crate::channel::commitment::spec::CommitmentSpec;
use crate::channel::commitment::{Commitments, Factory};
use crate::channel::error::{Fault, Invariant, ProtocolViolation};
use crate::channel::event::Event;
use crate::channel::params::{self, ChannelType, OpenContext, ParameterError, accepter_terms, opener_terms};
use crate::channel::terms::Terms;
use crate::channel::turn::{Ctx, Turn};
use crate::channel::{Sides, established, established::FundedBy};
use crate::keys::{CommitmentSignatures, Signer};
use crate::types::{ChannelId, CommitmentNumber, Msat, NodeId, ShortChannelId, Side, TipTrust};
use crate::wire::{AcceptChannel, FundingCreated, FundingSigned, Message, OpenChannel};

/// How we answer an `open_channel`.
#[derive(Clone, Debug)]
pub struct AcceptRequest {
    /// Who wants to open the channel.
    pub remote_node: NodeId,
    /// Names the keys behind the signer.
    pub keys_id: [u8; 32],
    /// What counts in place of the policy, for this channel alone.
    pub overrides: AcceptOverrides,
    /// A script of our wallet.
    pub shutdown_script: ScriptBuf,
    /// Whether to commit to it.
    pub commit_to_script: bool,
    /// What `channel_ready` will tell the peer, random.
    pub alias: ShortChannelId,
    /// Whether both nodes offered `option_support_large_channel`.
    pub large_channels: bool,
    /// Confirmations that an amount like this wants, where more than the policy's least.
    pub minimum_depth: u32,
    /// Whether the peer is trusted not to spend the coins of its funding transactions again: then its channels are used
    /// before these are confirmed.
    pub trusts_funder: bool,
}

/// What one channel that a peer opens should have instead of the policy's values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptOverrides {
    /// Blocks that the peer must wait for its money.
    pub to_self_delay: Option<u16>,
    /// What the peer must always keep.
    pub reserve: Option<Amount>,
    /// The most that the peer may have in flight; never above the policy's.
    pub max_in_flight: Option<Msat>,
    /// The most HTLCs that the peer may have in flight; never above the policy's.
    pub max_accepted_htlcs: Option<u16>,
    /// The smallest HTLC that we accept.
    pub htlc_minimum: Option<Msat>,
    /// Confirmations before it is used, however many the amount wants.
    pub minimum_depth: Option<u32>,
}

/// A channel that we have accepted.
pub(crate) struct OpeningFundee {
    request: AcceptRequest,
    open: OpenChannel,
    accept: AcceptChannel,
    channel_type: ChannelType,
    signer: Arc<dyn Signer + Send + Sync>,
}

impl OpeningFundee {
    pub(crate) fn start(
        open: OpenChannel,
        request: AcceptRequest,
        signer: Arc<dyn Signer + Send + Sync>,
        turn: &mut Turn<'_>,
    ) -> Result<Self, ParameterError> {
        let Ctx { chain, policy, feerates, trust, .. } = turn.ctx;
        if *trust == TipTrust::InDoubt {
            return Err(ParameterError::TipInDoubt);
        }
        let context = OpenContext { chain: *chain, feerates, large_channels: request.large_channels };
        let channel_type = policy.check_open(&open, &context)?;
        if channel_type.zero_conf && !request.trusts_funder {
            return Err(ParameterError::Untrusted);
        }
        let remote = opener_terms(&open);
        policy.check_remote(&remote, open.funding_satoshis)?;
        let points = signer.basepoints();
        let overrides = &request.overrides;
        let in_flight = policy.max_in_flight(open.funding_satoshis);
        let reserve = policy.reserve(open.funding_satoshis, remote.dust_limit);
        let depth = overrides.minimum_depth.unwrap_or_else(|| policy.depth_for(request.minimum_depth));
        let accept = AcceptChannel {
            temporary_channel_id: open.temporary_channel_id,
            dust_limit_satoshis: policy.dust_limit,
            max_htlc_value_in_flight_msat: overrides.max_in_flight.map_or(in_flight, |wish| wish.min(in_flight)),
            channel_reserve_satoshis: overrides.reserve.unwrap_or(reserve),
            htlc_minimum_msat: overrides.htlc_minimum.unwrap_or(policy.htlc_minimum),
            minimum_depth: if request.trusts_funder { 0 } else { depth.max(1) },
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
            upfront_shutdown_script: Some(if request.commit_to_script {
                request.shutdown_script.clone()
            } else {
                ScriptBuf::new()
            }),
            channel_type: open.channel_type.clone(),
        };
        params::check_both(&accepter_terms(&accept), &remote)?;
        turn.send(accept.clone());
        Ok(Self { request, open, accept, channel_type, signer })
    }

    pub(crate) const fn temporary_id(&self) -> ChannelId {
        self.open.temporary_channel_id
    }

    /// The node at the other end, and the capacity that it wants.
    pub(crate) const fn peer(&self) -> (NodeId, Amount) {
        (self.request.remote_node, self.open.funding_satoshis)
    }

    /// One event of the opening: `Ok(Err(self))` if it means nothing here, an error if the opening is over.
    pub(crate) fn handle(self, event: Event, turn: &mut Turn<'_>) -> Result<Result<Established, Self>, Fault> {
        match event {
            Event::Message(Message::FundingCreated(created)) => self.created(&created, turn).map(Ok),
            Event::Message(message) => {
                Err(ProtocolViolation::Unexpected { message: message.name(), state: super::StateName::Opening }.into())
            }
            _ => Ok(Err(self)),
        }
    }

    fn created(self, message: &FundingCreated, turn: &mut Turn<'_>) -> Result<Established, Fault> {
        let Self { request, open, accept, channel_type, signer } = self;
        let funding = OutPoint { txid: message.funding_txid, vout: u32::from(message.funding_output_index) };
        let terms = Terms {
            channel_id: ChannelId::from_funding(funding),
            remote_node: request.remote_node,
            keys_id: request.keys_id,
            opener: Side::Remote,
            channel_type,
            announce: open.announces(),
            funding,
            capacity: open.funding_satoshis,
            push: Some(open.push_msat),
            minimum_depth: accept.minimum_depth,
            sides: Sides { local: accepter_terms(&accept), remote: opener_terms(&open) },
            shutdown_script: request.shutdown_script,
        };
        let factory = Factory::new(&terms, signer);
        let remote = terms.capacity_msat().checked_sub(open.push_msat).ok_or(Invariant::Overflow)?;
        let spec = CommitmentSpec::new(Sides { local: open.push_msat, remote }, open.feerate_per_kw);
        let signatures = CommitmentSignatures { commitment: message.signature, htlcs: Vec::new() };
        established::verify_first(&terms, &factory, &spec, &signatures)?;
        let remote_point: PublicKey = open.first_per_commitment_point;
        let built = factory
            .build(&terms, Side::Remote, CommitmentNumber(0), &spec, remote_point)
            .map_err(|error| error.fault())?;
        let CommitmentSignatures { commitment, .. } = factory.sign(&built, turn.ctx.environment.workers())?;
        turn.send(FundingSigned { channel_id: terms.channel_id, signature: commitment });
        let commitments = Commitments::first(spec, signatures, remote_point);
        established::begin(terms, factory, commitments, request.alias, FundedBy::Peer, turn)
    }
}
