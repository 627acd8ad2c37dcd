//! What moves through a node: its state machines' events, in lanes, and their effects.

use crate::channel::*;
use crate::onchain;
use crate::payment::incoming::{Arrived, InvoiceEffect};
use crate::payment::outgoing::{PaymentEffect, PaymentRequest};
use crate::switch::*;
use crate::types::*;

/// When a node dies within a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    Never,
    BeforeCommit,
    AfterCommit,
}

/// A mistake that a driver could make, planted to see that the checks see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// A restart does not read the owed settlements.
    ForgottenSettlements,
    /// A restart does not read which onions were seen.
    ForgottenOnions,
    /// A restart does not tell the switch of the HTLCs that were offered.
    ForgottenCircuits,
    /// The effects of a commit happen although the commit was lost.
    EffectsBeforeCommit,
    /// A restart does not read which closed channels are being enforced.
    ForgottenEnforcements,
    /// Preimages that the chain shows are not told upstream.
    SilentPreimages,
    /// An HTLC is failed upstream as soon as its channel is closed.
    FailedTooEarly,
    /// A preimage does not get to the enforcement of a closed channel.
    UnusedPreimages,
    /// A node that hears of no block relies on the last one.
    TrustedTips,
    /// Nobody counts what is too small to be fought for.
    UncountedExposure,
    /// Channels do not hear that their funding transactions are gone.
    AssumedFundings,
    /// Claims do not hear that their coins are gone.
    KeptDeadCoins,
}

/// What a lane holds.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Channel(ChannelId, Event),
    /// The chain's new tip, for one channel.
    Tip(ChannelId, Height),
    /// No block up to this tip has closed the channel.
    StillOpen(ChannelId, Height),
    /// Our own commitment is wanted in the chain.
    ForceClose(ChannelId),
    /// The channel has been closed by one side.
    Closed(ChannelId),
    /// News of the chain for a channel's outputs: all up to this tip.
    Enforce {
        channel: ChannelId,
        events: Vec<onchain::Event>,
        tip: Height,
    },
    /// A closed channel's outputs are all where they belong.
    Resolved(ChannelId),
    /// What is stored of a channel that is over goes.
    Erase(ChannelId),
    Switch(SwitchEvent),
    Receive(Box<Arrived>),
    Payment(PaymentNews),
}

#[derive(Clone, Debug)]
pub(super) enum PaymentNews {
    FindRoutes { request: Box<PaymentRequest>, amount: Msat },
    Fulfilled(AttemptId, PaymentPreimage),
    Failed(AttemptId, HtlcFailure),
    Refused(AttemptId, CannotAdd),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    Channel(ChannelId),
    Switch,
    Invoices,
    Payments,
}

impl Item {
    pub fn lane(&self) -> Lane {
        match self {
            Self::Channel(channel, _)
            | Self::Tip(channel, _)
            | Self::StillOpen(channel, _)
            | Self::ForceClose(channel)
            | Self::Closed(channel)
            | Self::Enforce { channel, .. }
            | Self::Resolved(channel)
            | Self::Erase(channel) => Lane::Channel(*channel),
            Self::Switch(_) => Lane::Switch,
            Self::Receive(_) => Lane::Invoices,
            Self::Payment(_) => Lane::Payments,
        }
    }
}

/// The effects of every state machine in one type.
#[derive(Debug)]
pub(super) enum NodeEffect {
    Channel(ChannelId, Effect),
    Switch(SwitchEffect),
    Invoice(InvoiceEffect),
    Payment(PaymentEffect),
}

impl From<(ChannelId, Effect)> for NodeEffect {
    fn from((channel, effect): (ChannelId, Effect)) -> Self {
        Self::Channel(channel, effect)
    }
}

impl From<SwitchEffect> for NodeEffect {
    fn from(effect: SwitchEffect) -> Self {
        Self::Switch(effect)
    }
}

impl From<InvoiceEffect> for NodeEffect {
    fn from(effect: InvoiceEffect) -> Self {
        Self::Invoice(effect)
    }
}

impl From<PaymentEffect> for NodeEffect {
    fn from(effect: PaymentEffect) -> Self {
        Self::Payment(effect)
    }
}
