//! The states of a channel, a file each.
//!
//! ```text
//!   opening_funder ─┐                        depth                both channel_ready
//!                   ├─ funding_signed ─► funding ──channel_ready──► ready ──► normal
//!   opening_fundee ─┘                        │                        │          │
//!                                            └────────── shutdown ◄───┴──────────┘   shutdown sent or received
//!                                                            │ no HTLC, no update left
//!                                                            ▼
//!                                                       negotiating ──closing_signed agreed──► (broadcast)
//!   from any of them:  peer proves that we lost data ─► lost          funding output spent  ─► closing ─► closed
//!                      our own or the peer's failure ─► closing
//!   from a backup alone:                              restored ──────► funding output spent  ─► closing
//! ```
//!
//! Beside its state, an established channel has a [`ConnectionState`]: offline, synchronising (`channel_reestablish` sent), or
//! online. Promises: what is at stake is in the state and durable; the connection is not.

pub(super) mod closing;
mod deadline;
mod funding;
pub(super) mod lost;
pub(super) mod negotiating;
mod normal;
pub(super) mod opening_fundee;
pub(super) mod opening_funder;
mod ready;
mod reestablish;
mod restored;
mod settled;
pub(super) mod shutdown;
mod tower_queue;
mod unfunded;
mod updates;

use std::fmt;

use bitcoin::{Transaction, TxOut};

use super::backing::Backing;
use super::commitment::{Commitments, Factory, HtlcRemoval};
use super::effect::{Effect, Notice};
use super::error::{Fault, Invariant, ProtocolViolation, Severity};
use super::event::{Event, Settlement};
use super::funding::{FundingInput, FundingState};
use super::terms::Terms;
use super::towers::{TowerPolicy, TowerQueue};
use super::turn::Turn;
use super::{Sides, event::FundingDepth};
use crate::onchain;
use crate::types::{Height, ShortChannelId};
use crate::wire::{ErrorMessage, Message, Warning};

pub(super) use closing::{Closing, Knowledge};
pub use closing::{FundingSpend, LocalClose, SpendKind};
pub(super) use negotiating::{Agreed, Negotiating};
pub use shutdown::ClosingDelay;
pub(super) use shutdown::{CloseFees, LocalShutdown, Shutdown};

/// Where an established channel is in its life.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    /// The funding transaction is not deep enough.
    Funding,
    /// We have sent `channel_ready`, the peer has not.
    Ready,
    /// Payments flow.
    Normal,
    /// No new HTLC; the pending ones are being resolved.
    Shutdown(Shutdown),
    /// The closing fee is being negotiated, or a closing transaction is on its way.
    Negotiating(Box<Negotiating>),
    /// Our state is old: only the peer can close.
    Lost,
    /// A backup is all that we have: only the peer can close.
    Restored,
    /// A commitment transaction has been broadcast, or the funding output is spent.
    Closing(Box<Closing>),
    /// Over.
    Closed,
}

/// The name of a state, for people and for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// Messages of the opening are exchanged; nothing is at stake.
    Opening,
    /// The first commitments are signed; the funding transaction is not deep enough.
    Funding,
    /// We have sent `channel_ready` and wait for the peer's.
    Ready,
    /// Payments can flow.
    Normal,
    /// `shutdown` was sent or received; HTLCs end.
    Shutdown,
    /// Without HTLCs; the closing fee is being agreed on.
    Negotiating,
    /// Our data is old: the peer has to close.
    Lost,
    /// Only a backup is left: the peer has to close.
    Restored,
    /// Its funding output is spent, or will be by our commitment; outputs are claimed.
    Closing,
    /// Another transaction has taken the coins of its funding transaction.
    DoubleSpent,
    /// Everything is final; the channel may be forgotten.
    Closed,
}

impl StateName {
    /// Every state, in the order of a channel's life.
    pub const ALL: [Self; 11] = [
        Self::Opening,
        Self::Funding,
        Self::Ready,
        Self::Normal,
        Self::Shutdown,
        Self::Negotiating,
        Self::Lost,
        Self::Restored,
        Self::Closing,
        Self::DoubleSpent,
        Self::Closed,
    ];
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opening => "being opened",
            Self::Funding => "waiting for its funding transaction",
            Self::Ready => "waiting for the peer's channel_ready",
            Self::Normal => "open",
            Self::Shutdown => "shutting down",
            Self::Negotiating => "negotiating the closing fee",
            Self::Lost => "waiting for the peer to close it, because our data is old",
            Self::Restored => "waiting for the peer to close it, because we have only a backup of it",
            Self::Closing => "closing",
            Self::DoubleSpent => "without funds, because its funding transaction was double-spent",
            Self::Closed => "closed",
        })
    }
}

impl Phase {
    pub(super) const fn name(&self) -> StateName {
        match self {
            Self::Funding => StateName::Funding,
            Self::Ready => StateName::Ready,
            Self::Normal => StateName::Normal,
            Self::Shutdown(_) => StateName::Shutdown,
            Self::Negotiating(_) => StateName::Negotiating,
            Self::Lost => StateName::Lost,
            Self::Restored => StateName::Restored,
            Self::Closing(_) => StateName::Closing,
            Self::Closed => StateName::Closed,
        }
    }
}

/// The connection, as this channel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    Offline,
    /// We have sent `channel_reestablish` and wait for the peer's.
    Syncing,
    Online,
    /// Connected, but the channel is over for us: only the peer's `channel_reestablish` is answered.
    Waiting,
    /// The peer has lost data: it may find it again, or ask us by an `error` to close (BOLT 2, Message
    /// Retransmission, Rationale).
    PeerBehind,
}

/// A channel from the moment on at which something is at stake.
pub(crate) struct Established {
    pub terms: Terms,
    pub factory: Factory,
    pub commitments: Commitments,
    pub phase: Phase,
    pub connection: ConnectionState,
    pub short_channel_id: Option<ShortChannelId>,
    /// The alias that each side told in `channel_ready`.
    pub aliases: Sides<Option<ShortChannelId>>,
    /// The tip when the funding output was agreed on.
    pub opened_at: Height,
    /// Since when the feerate has been too low with HTLCs pending. Not stored: a restart counts again.
    pub low_since: Option<Height>,
    /// Since when the opener would lower the feerate. Not stored either.
    pub falling_since: Option<Height>,
    /// Of the funder, until it is confirmed: to be broadcast again after a restart.
    pub funding_transaction: Option<Transaction>,
    /// How often the peer was wrong since anything went well. Not stored.
    pub violations: u8,
    pub funding_state: FundingState,
    /// What the funding transaction needs; empty until it was seen.
    pub funding_inputs: Vec<FundingInput>,
    pub towers: TowerQueue,
    /// It was read from rows that an earlier version kept beside it, and that go with the next write. Not stored.
    pub separate_rows: bool,
}

/// How often in a row a peer may break rules in a channel before we end it. Each time the connection ends too, and the next
/// comes later and later: this is an hour or more, and whatever made it wrong had its chance to pass.
const MAX_VIOLATIONS: u8 = 16;

impl Established {
    /// One event. A wrong of the peer's is answered here; only a bug of ours is an error.
    pub(super) fn handle(&mut self, event: Event, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        self.towers.required = turn.ctx.towers == TowerPolicy::Require;
        match self.dispatch(event, turn).and_then(|()| self.settle_phase(turn)) {
            Ok(()) => Ok(()),
            Err(Fault::Violation(violation)) => self.answer(violation, turn),
            Err(Fault::Invariant(invariant)) => Err(invariant),
        }
    }

    fn dispatch(&mut self, event: Event, turn: &mut Turn<'_>) -> Result<(), Fault> {
        match event {
            Event::Restarted => self.restarted(turn)?,
            Event::Connected => self.connected(turn)?,
            Event::Disconnected => self.disconnected(turn),
            Event::Message(message) => return self.message(message, turn),
            Event::Funded { .. } | Event::FundingRefused { .. } => {}
            Event::Add(add) => self.add(&add, turn)?,
            Event::Settle { settlement: Settlement::Fulfill(preimage), .. } if self.needs_enforcement() => {
                self.enforce(onchain::Event::Preimage(preimage), turn)?;
            }
            Event::Settle { id, settlement } => self.settle(id, HtlcRemoval::from(settlement), turn),
            Event::UpdateFee(feerate) => self.propose_fee(feerate, turn)?,
            Event::Feerates => self.follow_feerate(turn)?,
            Event::Flush => return self.flush(turn),
            Event::Close(_) | Event::ForceClose if self.refuse_close(turn) => {}
            Event::Close(request) => return self.close(request, turn),
            Event::ForceClose => self.wish_force_close(turn)?,
            Event::Abandon => self.abandon(turn)?,
            Event::FundingDepth(depth) => return self.funding_depth(&depth, turn),
            Event::FundingSeen { inputs } => self.funding_seen(inputs, turn),
            Event::FundingUnconfirmed => self.funding_is_unconfirmed(turn),
            Event::FundingConflict { by, height, confirmations } => {
                self.funding_conflicts(by, height, confirmations, turn)?;
            }
            Event::Chain { event, tip } => self.chain_news(event, tip, turn)?,
            Event::Onchain(event) => self.enforce(event, turn)?,
            // What it means follows: the transaction is in no block, or elsewhere.
            Event::Reorganized { .. } => {}
            Event::NewTip(tip) => return self.new_tip(tip, turn),
            Event::TowersHold { up_to } => self.towers.held = up_to,
            Event::TowerKnowsRevoked { number } => self.tower_knows_revoked(number, turn),
            Event::CloseConfirmed => self.close_confirmed(turn),
        }
        Ok(())
    }

    fn message(&mut self, message: Message, turn: &mut Turn<'_>) -> Result<(), Fault> {
        match (&message, self.connection) {
            (Message::Error(error), _) => return self.peer_failed(error, turn),
            (Message::Warning(warning), _) => {
                turn.notice(Notice::PeerSays { error: false, text: warning.text() });
                self.disagree(turn);
                return Ok(());
            }
            // Gossip about this channel is the driver's business.
            (Message::AnnouncementSignatures(_), _) => return Ok(()),
            (Message::ChannelReestablish(_), ConnectionState::Syncing | ConnectionState::Waiting)
            | (_, ConnectionState::Online) => {}
            // Nothing but channel_reestablish may come first; what comes is of the last connection, or too early.
            (
                _,
                ConnectionState::Offline
                | ConnectionState::Syncing
                | ConnectionState::Waiting
                | ConnectionState::PeerBehind,
            ) => return Ok(()),
        }
        match &self.phase {
            Phase::Closing(_) | Phase::Closed => self.closing_message(&message, turn),
            Phase::Lost => self.lost_message(&message, turn),
            Phase::Restored => self.restored_message(&message, turn),
            Phase::Negotiating(_) => self.negotiating_message(message, turn),
            Phase::Funding => self.funding_message(message, turn),
            Phase::Ready => self.ready_message(message, turn),
            Phase::Normal => self.normal_message(message, turn),
            Phase::Shutdown(_) => self.shutdown_message(message, turn),
        }
    }

    fn unexpected(&self, message: &Message) -> Fault {
        ProtocolViolation::Unexpected { message: message.name(), state: self.phase.name() }.into()
    }

    fn peer_failed(&mut self, error: &ErrorMessage, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let text = error.text();
        turn.notice(Notice::PeerSays { error: true, text: text.clone() });
        if self.is_settled_together() {
            self.left_alone(turn);
            return Ok(());
        }
        match self.phase {
            Phase::Lost | Phase::Restored | Phase::Closing(_) | Phase::Closed => Ok(()),
            Phase::Funding | Phase::Ready | Phase::Normal | Phase::Shutdown(_) | Phase::Negotiating(_) => {
                Err(ProtocolViolation::PeerFailed(text).into())
            }
        }
    }

    /// What follows from a wrong of the peer's.
    fn answer(&mut self, violation: ProtocolViolation, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        let channel = self.terms.channel_id;
        let mut violation = violation;
        if self.is_settled_together() {
            // Nothing that it says undoes what it has signed, and nothing else is at stake.
            turn.notice(Notice::ProtocolViolation(violation.clone()));
            if self.connection != ConnectionState::Offline {
                turn.send(Warning::new(channel, violation.to_string()));
            }
            self.left_alone(turn);
            return Ok(());
        }
        if violation.severity() == Severity::Warn {
            self.violations = self.violations.saturating_add(1);
            if self.violations >= MAX_VIOLATIONS {
                violation = ProtocolViolation::RepeatedViolations { times: self.violations, last: Box::new(violation) };
            }
        }
        turn.notice(Notice::ProtocolViolation(violation.clone()));
        match violation.severity() {
            Severity::Tell => {
                if self.connection != ConnectionState::Offline {
                    turn.send(Warning::new(channel, violation.to_string()));
                }
                Ok(())
            }
            Severity::Warn => {
                if self.connection != ConnectionState::Offline {
                    turn.send(Warning::new(channel, violation.to_string()));
                    turn.emit(Effect::Disconnect);
                }
                self.disconnected(turn);
                Ok(())
            }
            Severity::Fail => {
                if self.connection != ConnectionState::Offline && !matches!(violation, ProtocolViolation::PeerFailed(_))
                {
                    turn.send(ErrorMessage::new(channel, violation.to_string()));
                }
                // A transaction id names its outputs: no reorganisation makes this one the channel's.
                let never =
                    matches!(violation, ProtocolViolation::FundingAmount { .. } | ProtocolViolation::FundingScript);
                if never && matches!(self.backing(), Backing::Promised { .. }) {
                    self.forget_unfunded(turn);
                    return Ok(());
                }
                self.force_close(turn)
            }
        }
    }

    /// Steps that need no event of their own: a drained channel that is shutting down starts to negotiate.
    fn settle_phase(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        if matches!(self.phase, Phase::Shutdown(_)) && self.connection == ConnectionState::Online {
            self.negotiate_if_drained(turn)?;
        }
        Ok(())
    }

    pub(super) fn set_phase(&mut self, phase: Phase, turn: &mut Turn<'_>) {
        let (from, to) = (self.phase.name(), phase.name());
        let was_usable = self.is_usable();
        self.phase = phase;
        turn.touched.state = true;
        if from != to {
            turn.notice(Notice::StateChanged { from, to });
        }
        self.notice_usable(was_usable, turn);
    }

    fn set_connection(&mut self, connection: ConnectionState, turn: &mut Turn<'_>) {
        let was_usable = self.is_usable();
        self.connection = connection;
        self.notice_usable(was_usable, turn);
    }

    fn notice_usable(&self, was_usable: bool, turn: &mut Turn<'_>) {
        let usable = self.is_usable();
        if was_usable != usable {
            turn.notice(Notice::Usable(usable));
        }
    }

    /// The phase for people; what the chain says of the funding may matter more.
    pub(super) fn state_name(&self) -> StateName {
        match self.phase.name() {
            StateName::Closed => StateName::Closed,
            _ if self.is_double_spent() => StateName::DoubleSpent,
            name => name,
        }
    }

    /// Whether HTLCs can be offered.
    pub(super) fn is_usable(&self) -> bool {
        self.connection == ConnectionState::Online && self.phase == Phase::Normal && self.not_funded().is_none()
    }

    /// What is in no commitment by now never will be.
    fn give_up_proposals(&mut self, turn: &mut Turn<'_>) {
        for (origin, cause) in self.commitments.forget_uncommitted() {
            turn.emit(Effect::Refused { origin, cause });
        }
    }

    fn disconnected(&mut self, turn: &mut Turn<'_>) {
        self.give_up_proposals(turn);
        if let Some(negotiating) = self.negotiation_mut() {
            negotiating.start_again();
        }
        if let Phase::Shutdown(shutdown) = &mut self.phase {
            shutdown.signature_lost = false;
        }
        self.set_connection(ConnectionState::Offline, turn);
    }

    /// Asks again for everything that a crash may have swallowed.
    fn restarted(&mut self, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        let (funding, script) = (self.terms.funding, self.factory.funding.script_pubkey());
        if let Some(transaction) = &self.funding_transaction {
            turn.emit(Effect::Broadcast(transaction.clone()));
        }
        if self.phase == Phase::Closed {
            turn.emit(Effect::Forget);
            return Ok(());
        }
        // Rows of an earlier version go with this write.
        turn.touched.state |= self.separate_rows;
        let (depth, inputs) = (self.terms.minimum_depth, self.funding_inputs.clone());
        turn.emit(Effect::WatchFunding { funding, script: script.clone(), depth, inputs });
        turn.emit(Effect::Watch { outpoint: funding, script });
        self.replay(turn);
        self.queued_again(turn);
        if let Phase::Negotiating(negotiating) = &self.phase
            && let Some(agreed) = &negotiating.agreed
        {
            turn.emit(Effect::Broadcast(agreed.transaction.clone()));
        }
        self.closing_again(turn)
    }

    /// BOLT 2, channel_ready: script and amount must be those of the channel, or nothing backs it.
    fn check_funding_output(&self, output: &TxOut) -> Result<(), ProtocolViolation> {
        let (expected, got) = (self.terms.capacity, output.value);
        if got != expected {
            return Err(ProtocolViolation::FundingAmount { expected, got });
        }
        if output.script_pubkey != self.factory.funding.script_pubkey() {
            return Err(ProtocolViolation::FundingScript);
        }
        Ok(())
    }

    /// Takes note of how deep the funding transaction is, in any state.
    fn note_depth(&mut self, depth: &FundingDepth, turn: &mut Turn<'_>) -> Result<(), Fault> {
        self.check_funding_output(&depth.output)?;
        let output = u16::try_from(self.terms.funding.vout)
            .map_err(|_| ProtocolViolation::FundingIndex(self.terms.funding.vout))?;
        let short_channel_id = ShortChannelId::new(depth.height, depth.index, output);
        self.funding_is_confirmed(Some(short_channel_id), depth.confirmations, turn);
        if self.short_channel_id != Some(short_channel_id) {
            self.short_channel_id = Some(short_channel_id);
            turn.touched.state = true;
            turn.notice(Notice::Confirmed { short_channel_id });
        }
        // Only with confirmations is it told.
        if depth.confirmations >= self.terms.minimum_depth && self.funding_transaction.take().is_some() {
            turn.touched.state = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_in_the_list_of_all() {
        assert!(StateName::ALL.iter().enumerate().all(|(at, state)| *state as usize == at));
        assert_eq!(StateName::ALL.last(), Some(&StateName::Closed));
    }
}
