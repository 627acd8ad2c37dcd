//! What the switch hears, what it asks for, and what it may know of the world.

use secp256k1::SecretKey;

use crate::channel::{AddHtlc, CannotAdd, HtlcFailure, IncomingHtlc, Settlement};
use crate::payment::incoming::Arrived;
use crate::types::{ChannelId, Height, HtlcId, PaymentPreimage, TipTrust, UnixTime};

use super::circuit::HtlcRef;
use super::history::HtlcEvent;
use super::interception::{InterceptedHtlc, Interception, Interceptor};
use super::link::Link;
use super::policy::{ForwardPolicy, Limits};

/// What the switch may know of the world while it handles an event.
#[derive(Clone, Copy, Debug)]
pub struct SwitchCtx<'a> {
    /// The clock.
    pub now: UnixTime,
    /// The height of the chain's tip.
    pub tip: Height,
    /// Whether the tip may be relied on.
    pub trust: TipTrust,
    /// Opens onions.
    pub node_secret: &'a SecretKey,
    /// How much one neighbour may have in flight.
    pub limits: &'a Limits,
}

/// What can happen to the switch.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum SwitchEvent {
    /// There is a channel, or its names have changed ([`Link::of`]).
    Link(Box<Link>),
    /// A channel is over and nothing of it is pending any more.
    LinkGone(ChannelId),
    /// Our new `channel_update` for this channel, encoded as a message.
    Announced { channel: ChannelId, update: Vec<u8> },
    /// [`Effect::Incoming`](crate::channel::Effect::Incoming) of a channel.
    Incoming(Box<IncomingHtlc>),
    /// [`Effect::Fulfilled`](crate::channel::Effect::Fulfilled) of an HTLC whose origin is `incoming`.
    Fulfilled { incoming: HtlcRef, outgoing: HtlcRef, preimage: PaymentPreimage },
    /// [`Effect::Failed`](crate::channel::Effect::Failed), likewise.
    Failed { incoming: HtlcRef, outgoing: HtlcRef, failure: HtlcFailure },
    /// [`Effect::Refused`](crate::channel::Effect::Refused), likewise.
    Refused { incoming: HtlcRef, cause: CannotAdd },
    /// The chain's tip is now at this height.
    NewTip(Height),
    /// Time has passed, or what is known of the tip has changed: HTLCs that wait for it are looked at. Wanted once a
    /// second while [`Switch::is_waiting`](super::Switch::is_waiting).
    Tick,
    /// Somebody who decides about forwards has come, or gone.
    Interceptor(Interceptor),
    /// His answer about a held HTLC. One that is not held is left alone: answers may come twice, or too late.
    Intercepted { incoming: HtlcRef, answer: Interception },
    /// A channel has been closed by one side.
    Closed(ChannelId),
    /// After this block the channel is not closed: news of a close in it have been handled.
    StillOpen { channel: ChannelId, tip: Height },
}

/// What the switch asks its driver to do, once its writes are durable. After a restart all of it is found again.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum SwitchEffect {
    /// Hand [`Event::Add`](crate::channel::Event::Add) to this channel. If there is no such channel, answer
    /// [`SwitchEvent::Refused`].
    Offer { channel: ChannelId, add: Box<AddHtlc> },
    /// Hand [`Event::Settle`](crate::channel::Event::Settle) to this channel.
    Settle { channel: ChannelId, id: HtlcId, settlement: Settlement },
    /// The HTLC ends here: for the invoices.
    Receive(Box<Arrived>),
    /// Ask about a forward; answer with [`SwitchEvent::Intercepted`]. Asked again after a restart, and of the next one if the
    /// one who decides goes and one is required.
    Ask(Box<InterceptedHtlc>),
    /// A channel forwards under new terms: announce them.
    PolicyChanged { channel: ChannelId, policy: ForwardPolicy },
    /// News for whoever watches.
    Htlc(Box<HtlcEvent>),
}
