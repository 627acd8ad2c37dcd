//! What stands behind a channel, beside its peer's word.

use super::state::{Established, Knowledge};
use super::{Channel, State};
use crate::types::{CommitmentNumber, Height, Msat, Side};

/// What stands behind a channel. Whoever has only promised to fund one is a stranger still: a promise costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// The peer wants to open it; nothing is signed.
    Proposed,
    /// The peer has our signature and says that it will fund it.
    Promised {
        /// The tip when we signed.
        since: Height,
        /// Its funding transaction was seen, in the mempool at least.
        seen: bool,
    },
    /// A block has had its funding output, or we fund it ourselves, or the user trusts the peer for it, or a backup knows it.
    Funded,
}

impl Channel {
    /// How far the peer has bound itself to this channel.
    pub fn backing(&self) -> Backing {
        match &self.state {
            State::Funder(_) => Backing::Funded,
            State::Fundee(_) | State::Over(_) => Backing::Proposed,
            State::Established(channel) => channel.backing(),
        }
    }
}

impl Established {
    pub(super) fn backing(&self) -> Backing {
        let trusted = self.terms.minimum_depth == 0;
        let from_backup = self.knowledge() != Knowledge::Current;
        if self.terms.opener == Side::Local || self.short_channel_id.is_some() || trusted || from_backup {
            return Backing::Funded;
        }
        Backing::Promised { since: self.opened_at, seen: !self.funding_inputs.is_empty() }
    }

    /// No payment was ever made in it.
    pub(super) fn is_unused(&self) -> bool {
        let (local, remote) = (self.commitments.local.number, self.commitments.remote.latest().number);
        local == CommitmentNumber(0) && remote == CommitmentNumber(0)
    }

    /// Whether it can be forgotten at any moment without a loss for us: it is not funded, as far as the chain says, and
    /// nothing in it is ours. What the peer loses if it funds it after all is the wait for its own closing.
    pub(super) fn is_worth_nothing(&self) -> bool {
        let ours = self.commitments.local.spec.balance.local;
        matches!(self.backing(), Backing::Promised { .. }) && self.is_unused() && ours == Msat::ZERO
    }
}
