//! What to do with an incoming HTLC that is irrevocably committed (BOLT 2, Forwarding HTLCs; BOLT 4; BOLT 7).
//!
//! ```text
//!   onion ──peel──► payload ──► for us ───────────────────────────────────────────────► Receive
//!     │                │
//!     │                └──────► for the next hop ──► names a channel? pays? lives long enough? ──► Forward
//!     ▼                                                    │ in BOLT 4's order, the first that fails
//!   Malformed: nobody can read it                          ▼
//!                                                        Fail: told to the sender, under the onion's secret
//! ```
//!
//! Promises: nothing is decided from what cannot be authenticated; what is forwarded pays what the named channel asks
//! and leaves the time that it asks; it may leave through any channel with the same peer (BOLT 4, non-strict
//! forwarding), the named one first, whose own terms it meets as well.

use secp256k1::SecretKey;

use crate::channel::{CannotAdd, IncomingHtlc, Settlement, StateName};
use crate::onion::{self, FailureMessage, ForwardPayload, HopPayload, PeelError, ReceivePayload, SharedSecret};
use crate::types::ChannelId;
use crate::wire::OnionRoutingPacket;

use super::event::SwitchCtx;
use super::grace::{ForwardedHtlc, PolicyViolation};
use super::history::FailureDetail;
use super::link::{Entry, Links};
use super::policy::{is_too_far, is_too_soon};

/// How a failure gets back to the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReturnPath {
    /// Encrypted, so that only the sender reads it.
    Onion(SharedSecret),
    /// The onion could not be read, so nothing can be encrypted: the previous hop tells it as its own failure.
    Plain { sha256_of_onion: [u8; 32] },
}

impl ReturnPath {
    /// Fails the HTLC in our own name.
    pub(super) fn fail(&self, failure: &FailureMessage) -> Settlement {
        match self {
            Self::Onion(secret) => Settlement::Fail { reason: onion::failure::build(secret, failure) },
            Self::Plain { sha256_of_onion } => {
                let code = failure.code();
                let bad_onion = FailureMessage::InvalidOnionHmac { sha256_of_onion: *sha256_of_onion }.code();
                let failure_code = if code & onion::failure::BADONION == 0 { bad_onion } else { code };
                Settlement::FailMalformed { sha256_of_onion: *sha256_of_onion, failure_code }
            }
        }
    }
}

/// Our layer of an onion.
pub(super) struct OpenedOnion {
    pub secret: SharedSecret,
    pub content: OnionContent,
}

pub(super) enum OnionContent {
    Receive(ReceivePayload),
    Forward { payload: ForwardPayload, next: OnionRoutingPacket },
}

/// An onion that is failed without a look at the HTLC, and how.
pub(super) struct UnusableOnion {
    pub back: ReturnPath,
    pub failure: FailureMessage,
}

/// Takes our layer off.
pub(super) fn open(htlc: &IncomingHtlc, node_secret: &SecretKey) -> Result<OpenedOnion, UnusableOnion> {
    let plain = || ReturnPath::Plain { sha256_of_onion: htlc.onion.sha256() };
    if htlc.path_key.is_some() {
        // Blinded paths are neither understood nor advertised; BOLT 4 has one answer to whatever is wrong in one.
        let failure = FailureMessage::InvalidOnionBlinding { sha256_of_onion: htlc.onion.sha256() };
        return Err(UnusableOnion { back: plain(), failure });
    }
    let peeled = onion::peel(&htlc.onion, &htlc.payment_hash, node_secret).map_err(|error| match error {
        PeelError::BadOnion(reason) => {
            UnusableOnion { back: plain(), failure: FailureMessage::bad_onion(reason, &htlc.onion) }
        }
        PeelError::InvalidLayer(secret) => UnusableOnion {
            back: ReturnPath::Onion(secret),
            failure: FailureMessage::InvalidOnionPayload { kind: 0, offset: 0 },
        },
    })?;
    let secret = peeled.shared_secret;
    match (HopPayload::decode(&peeled.payload, peeled.next.is_none()), peeled.next) {
        (Ok(HopPayload::Receive(payload)), None) => Ok(OpenedOnion { secret, content: OnionContent::Receive(payload) }),
        (Ok(HopPayload::Forward(payload)), Some(next)) => {
            Ok(OpenedOnion { secret, content: OnionContent::Forward { payload, next } })
        }
        (Ok(HopPayload::Receive(_) | HopPayload::Forward(_)), Some(_) | None) => {
            let failure = FailureMessage::InvalidOnionPayload { kind: 0, offset: 0 };
            Err(UnusableOnion { back: ReturnPath::Onion(secret), failure })
        }
        (Err(error), Some(_) | None) => Err(UnusableOnion { back: ReturnPath::Onion(secret), failure: error.into() }),
    }
}

/// The channels that an HTLC may leave through, the first to be tried first, at least one. `room` says whether one more HTLC of the neighbour that it came from
/// may leave through a channel.
pub(super) fn route(
    htlc: &IncomingHtlc,
    payload: &ForwardPayload,
    links: &Links,
    ctx: &SwitchCtx<'_>,
    room: impl Fn(&Entry) -> bool,
) -> Result<Vec<ChannelId>, Refusal> {
    let name = payload.short_channel_id;
    let named = links.named(name).ok_or(FailureMessage::UnknownNextPeer)?;
    let update = || named.update_for(name);
    let (amount, expiry) = (payload.amt_to_forward, payload.outgoing_cltv_value);

    let passing = ForwardedHtlc { incoming_amount: htlc.amount, incoming_expiry: htlc.cltv_expiry, amount, expiry };

    // BOLT 4, Requirements of Failure Messages: in this order.
    match named.met(&passing, ctx.now) {
        Err(PolicyViolation::Minimum) => {
            return Err(FailureMessage::AmountBelowMinimum { htlc_msat: amount, channel_update: update() }.into());
        }
        Err(PolicyViolation::Fee) => {
            return Err(FailureMessage::FeeInsufficient { htlc_msat: htlc.amount, channel_update: update() }.into());
        }
        Err(PolicyViolation::Delta) => {
            return Err(FailureMessage::IncorrectCltvExpiry { cltv_expiry: expiry, channel_update: update() }.into());
        }
        // Another channel may carry more.
        Err(PolicyViolation::Maximum) | Ok(()) => {}
    }
    if is_too_soon(expiry, ctx.tip) {
        return Err(FailureMessage::ExpiryTooSoon { channel_update: update() }.into());
    }
    if !named.policy().enabled {
        return Err(FailureMessage::ChannelDisabled { disabled_flags: 0, channel_update: update() }.into());
    }
    if is_too_far(htlc.cltv_expiry, ctx.tip) {
        return Err(FailureMessage::ExpiryTooFar.into());
    }

    let siblings =
        links.with_peer(&named.link.peer).into_iter().filter(|entry| entry.link.channel != named.link.channel);
    let channels: Vec<ChannelId> = std::iter::once(named)
        .chain(siblings)
        // Whichever carries it is paid what it asks: else a dear channel could be used at the fee of a cheap one.
        .filter(|entry| entry.policy().enabled && entry.met(&passing, ctx.now).is_ok())
        // An HTLC that goes back where it came from does nothing but hold two slots.
        .filter(|entry| entry.link.channel != htlc.channel && room(entry))
        .map(|entry| entry.link.channel)
        .collect();
    // An HTLC that must fail is failed for a passing reason of ours: the sender may find another way.
    if channels.is_empty() || htlc.must_fail.is_some() {
        let detail = match named.met(&passing, ctx.now) {
            Err(PolicyViolation::Maximum) => FailureDetail::ExceedsMaximum,
            Ok(()) if named.link.channel == htlc.channel => FailureDetail::CircularRoute,
            Err(PolicyViolation::Minimum | PolicyViolation::Fee | PolicyViolation::Delta) | Ok(()) => {
                FailureDetail::None
            }
        };
        let failure = FailureMessage::TemporaryChannelFailure { channel_update: update() };
        return Err(Refusal { failure, detail });
    }
    Ok(channels)
}

/// Why an HTLC is not forwarded: what its sender is told, and what only we are.
pub(super) struct Refusal {
    pub failure: FailureMessage,
    pub detail: FailureDetail,
}

impl From<FailureMessage> for Refusal {
    fn from(failure: FailureMessage) -> Self {
        Self { failure, detail: FailureDetail::None }
    }
}

/// What the sender is told if no channel took the HTLC; `cause` is what the last one said.
pub(super) fn refusal(payload: &ForwardPayload, cause: &CannotAdd, links: &Links) -> Refusal {
    let name = payload.short_channel_id;
    let channel_update = links.named(name).map(|entry| entry.update_for(name)).unwrap_or_default();
    let failure = match cause {
        CannotAdd::State(
            StateName::Shutdown
            | StateName::Negotiating
            | StateName::Lost
            | StateName::Restored
            | StateName::Closing
            | StateName::DoubleSpent
            | StateName::Closed,
        ) => FailureMessage::PermanentChannelFailure,
        CannotAdd::State(StateName::Opening | StateName::Funding | StateName::Ready) => FailureMessage::UnknownNextPeer,
        CannotAdd::BelowMinimum { .. } => {
            FailureMessage::AmountBelowMinimum { htlc_msat: payload.amt_to_forward, channel_update }
        }
        CannotAdd::TipInDoubt => FailureMessage::TemporaryNodeFailure,
        CannotAdd::State(StateName::Normal)
        | CannotAdd::NotFunded(_)
        | CannotAdd::Offline
        | CannotAdd::Disconnected
        | CannotAdd::Expiry(_)
        | CannotAdd::TooManyHtlcs { .. }
        | CannotAdd::TooMuchInFlight { .. }
        | CannotAdd::Balance { .. }
        | CannotAdd::RemoteFee { .. }
        | CannotAdd::DustExposure { .. } => FailureMessage::TemporaryChannelFailure { channel_update },
    };
    Refusal { failure, detail: detail_of(cause) }
}

/// Why a channel did not take an HTLC.
pub(super) const fn detail_of(cause: &CannotAdd) -> FailureDetail {
    match cause {
        CannotAdd::State(_) | CannotAdd::NotFunded(_) | CannotAdd::Offline | CannotAdd::Disconnected => {
            FailureDetail::LinkNotEligible
        }
        CannotAdd::TooMuchInFlight { .. } => FailureDetail::ExceedsMaximum,
        CannotAdd::Balance { .. } => FailureDetail::InsufficientBalance,
        CannotAdd::TipInDoubt
        | CannotAdd::BelowMinimum { .. }
        | CannotAdd::Expiry(_)
        | CannotAdd::TooManyHtlcs { .. }
        | CannotAdd::RemoteFee { .. }
        | CannotAdd::DustExposure { .. } => FailureDetail::AddFailed,
    }
}
