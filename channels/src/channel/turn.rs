//! One turn of a channel: the outbox while it is being filled.

use bitcoin::constants::ChainHash;

use super::Environment;
use super::effect::{Effect, Notice};
use super::outbox::Outbox;
use super::params::{ChannelPolicy, Feerates};
use super::towers::TowerPolicy;
use crate::types::{Height, TipTrust, UnixTime};
use crate::wire::Message;

/// What a channel may know of the world while it handles an event.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    /// The chain that channels are on.
    pub chain: ChainHash,
    /// The clock.
    pub now: UnixTime,
    /// The height of the chain's tip.
    pub tip: Height,
    /// Whether the tip may be relied on.
    pub trust: TipTrust,
    /// What the chain asks for now.
    pub feerates: Feerates,
    /// What this node wants of its channels.
    pub policy: &'a ChannelPolicy,
    /// What this node's towers want of it.
    pub towers: TowerPolicy,
    /// What a channel asks that closes, and who works for it.
    pub environment: &'a dyn Environment,
}

/// Which parts of the stored channel have to be written at the end of the turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Touched {
    pub terms: bool,
    pub state: bool,
    pub signatures: bool,
    pub secrets: bool,
    pub inputs: bool,
}

/// Everything that a state's handler works with beside the channel itself.
pub(crate) struct Turn<'a> {
    pub ctx: &'a Ctx<'a>,
    pub out: Outbox,
    pub touched: Touched,
}

impl<'a> Turn<'a> {
    pub(super) fn new(ctx: &'a Ctx<'a>) -> Self {
        Self { ctx, out: Outbox::default(), touched: Touched::default() }
    }

    pub(super) fn emit(&mut self, effect: Effect) {
        self.out.emit(effect);
    }

    pub(super) fn send(&mut self, message: impl Into<Message>) {
        self.emit(Effect::Send(message.into()));
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        self.emit(Effect::Notice(notice));
    }
}
