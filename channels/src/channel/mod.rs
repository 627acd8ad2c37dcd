//! The channel: BOLT 2 as a state machine without a clock, a socket or a disk.
//!
//! ```text
//!                    Event                          Outbox { writes, effects }
//!   wallet, peer, ─────────► Channel::handle(&Ctx) ─────────────────► Outbox::commit_all(batch, store)
//!   chain, switch                                                          │
//!        ▲                                                                 ▼
//!        └───────────────────────────── driver ◄────────────────────── effects, once everything is durable
//! ```
//!
//! A driver drains what is waiting for a channel, hands it over event by event, ends with [`Event::Flush`], commits the
//! outboxes of all channels together, and then does what the effects say. After a restart it reads the rows under
//! [`Key::all_live_prefix`], restores each channel, and begins with [`Event::Restarted`]; then it settles again what is
//! under [`Key::all_settlements_prefix`]. An incoming HTLC that is told again and for which there is neither an
//! outgoing HTLC with that [`Origin`] nor a settlement has been forgotten between two commits, and is failed.
//!
//! ```text
//!   opening ─► funding ─► ready ─► normal ─► shutdown ─► negotiating ─► closing ─► closed      (state/)
//! ```
//!
//! Promises: a peer cannot make this code panic or leave it in a state that it could not restore; what a peer does wrong
//! is answered by a transition; an [`Error`] is a bug of ours and stops the channel, which from then on hears of the chain
//! alone ([`Channel::stopped`]).

mod backing;
mod backup;
mod closing_fee;
mod commitment;
mod effect;
mod environment;
mod erase;
mod error;
mod established;
mod event;
pub mod exposure;
pub mod feerate;
mod final_htlc;
mod funding;
mod funding_watch;
mod key;
mod onchain;
mod outbox;
mod params;
mod pending;
mod record;
mod settlement;
mod side;
mod state;
mod summary;
mod terms;
mod towers;
mod turn;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use backing::Backing;
pub use backup::{BackupError, ChannelBackup};
pub use closing_fee::ClosingFunds;
pub use commitment::limits::{CannotAdd, HtlcRoom};
pub use commitment::spec::{CommitmentSpec, Htlc, HtlcKey};
pub use effect::{Effect, FailReason, HtlcFailure, IncomingHtlc, Notice};
pub use environment::{Environment, FixedEnvironment};
pub use erase::{erase, prefixes};
pub use error::{CloseRefused, Error, Invariant, ProtocolViolation, RestoreError, Severity};
pub use event::{AddHtlc, AttemptId, CloseRequest, Event, FundingDepth, Origin, Publisher, Settlement};
pub use final_htlc::{FINAL_HTLCS_KEPT, FinalHtlc};
pub use funding::{FundingInput, FundingState};
pub use funding_watch::{FundingView, FundingWatch};
pub use key::Key;
pub use onchain::revoked_htlcs;
pub use outbox::{Inner, Outbox, Persist, Write};
pub use params::{
    ChannelPolicy, ChannelType, Feerates, LARGE_CHANNEL, MAX_ACCEPTED_HTLCS, MAX_FEERATE, MIN_DUST_LIMIT,
    ParameterError, is_shutdown_script,
};
pub use record::{RetiredHtlc, decode_retired, decode_revoked};
pub use settlement::OwedSettlement;
pub use side::Sides;
pub use state::opening_fundee::{AcceptOverrides, AcceptRequest};
pub use state::opening_funder::{OpenOverrides, OpenRequest};
pub use state::{ClosingDelay, FundingSpend, LocalClose, SpendKind, StateName};
pub use summary::{EstablishedSummary, SideLimits, Summary};
pub use terms::{SideTerms, Terms};
pub use towers::{RebuildRevokedError, RevokedHtlc, RevokedPast, RevokedState, TowerPolicy};
pub use turn::Ctx;

use crate::keys::Signer;
use crate::types::{ChannelId, CommitmentNumber, Side, TipTrust};
use crate::wire::{ErrorMessage, Message, OpenChannel};

use commitment::{Factory, limits};
use error::Fault;
use exposure::Exposure;
use record::{Rows, StoredPhase};
use state::opening_fundee::OpeningFundee;
use state::opening_funder::{OpeningFunder, Progress};
use state::{ConnectionState, Established, Knowledge, Phase};
use towers::TowerQueue;
use turn::{Touched, Turn};

/// One channel with one peer.
pub struct Channel {
    state: State,
    /// It has met a bug of ours: it hears of the chain alone.
    stopped: bool,
}

enum State {
    Funder(OpeningFunder),
    Fundee(Box<OpeningFundee>),
    Established(Box<Established>),
    /// The opening failed.
    Over(ChannelId),
}

impl Channel {
    /// Proposes a channel to the peer.
    pub fn open(
        request: OpenRequest,
        signer: Arc<dyn Signer + Send + Sync>,
        ctx: &Ctx<'_>,
    ) -> Result<(Self, Outbox), ParameterError> {
        let mut turn = Turn::new(ctx);
        let opening = OpeningFunder::start(request, signer, &mut turn)?;
        Ok((Self { state: State::Funder(opening), stopped: false }, turn.out))
    }

    /// Accepts a channel that the peer proposes. On an error the driver answers with [`Self::refusal`].
    pub fn accept(
        open: OpenChannel,
        request: AcceptRequest,
        signer: Arc<dyn Signer + Send + Sync>,
        ctx: &Ctx<'_>,
    ) -> Result<(Self, Outbox), ParameterError> {
        let mut turn = Turn::new(ctx);
        let opening = OpeningFundee::start(open, request, signer, &mut turn)?;
        Ok((Self { state: State::Fundee(Box::new(opening)), stopped: false }, turn.out))
    }

    /// What a peer is told whose `open_channel` cannot be accepted.
    pub fn refusal(temporary_channel_id: ChannelId, why: &ParameterError) -> ErrorMessage {
        ErrorMessage::new(temporary_channel_id, why.to_string())
    }

    /// A channel from its stored rows: all those under [`Key::live_prefix`], and under [`Key::enforcement_prefix`] what an
    /// earlier version has left there. It is offline; the first event must be
    /// [`Event::Restarted`]. `signer` makes the keys that [`Terms::keys_id`] names.
    pub fn restore(
        rows: impl IntoIterator<Item = (Key, Vec<u8>)>,
        signer: impl FnOnce(&Terms) -> Option<Arc<dyn Signer + Send + Sync>>,
    ) -> Result<Self, RestoreError> {
        let rows = Rows::collect(rows)?;
        let terms = record::decode_terms(&rows.terms.ok_or(RestoreError::Missing("terms"))?)?;
        let signatures = record::decode_signatures(&rows.signatures.ok_or(RestoreError::Missing("signatures"))?)?;
        let secrets = record::decode_secrets(&rows.secrets.ok_or(RestoreError::Missing("secrets"))?)?;
        let state = rows.state.ok_or(RestoreError::Missing("state"))?;
        let state = record::decode_state(&state, rows.htlcs, signatures, secrets)?;
        let funding_inputs = rows.funding_inputs.map_or(Ok(Vec::new()), |bytes| record::decode_inputs(&bytes))?;
        let conserved = state.commitments.check_conserved(&terms);
        conserved.map_err(|error| RestoreError::Damaged { what: "state", why: error.to_string() })?;
        let signer = signer(&terms).ok_or(RestoreError::ForeignKeys)?;
        if *signer.basepoints() != terms.sides.local.basepoints {
            return Err(RestoreError::ForeignKeys);
        }
        let factory = Factory::new(&terms, signer);
        let separate_rows = rows.closing.is_some();
        let phase = match state.phase {
            StoredPhase::Closing(stored) => {
                let separate = rows.closing.map(|closing| (closing, rows.resolution));
                Phase::Closing(Box::new(stored.restore(&terms, &factory, &state.commitments, separate)?))
            }
            StoredPhase::Other(phase) => phase,
        };
        let established = Established {
            terms,
            factory,
            commitments: state.commitments,
            phase,
            connection: ConnectionState::Offline,
            short_channel_id: state.short_channel_id,
            aliases: state.aliases,
            opened_at: state.opened_at,
            low_since: None,
            falling_since: None,
            funding_transaction: state.funding_transaction,
            violations: 0,
            funding_state: state.funding_state,
            funding_inputs,
            towers: TowerQueue { queued: state.queued, ..TowerQueue::default() },
            separate_rows,
        };
        Ok(Self { state: State::Established(Box::new(established)), stopped: false })
    }

    /// After an error of [`Self::handle`], which has left what the store has as it was: restored from there, without
    /// [`Event::Restarted`], the channel goes on hearing of its outputs on the chain and of preimages, and of nothing else.
    /// Whatever the bug is, a spend of the funding output is answered, and a revoked commitment punished.
    #[must_use]
    pub fn stopped(self) -> Self {
        Self { stopped: true, ..self }
    }

    /// Handles one event. On an error, which is a bug of ours, the channel must not be used any more; what the store
    /// has is still right: see [`Self::stopped`].
    pub fn handle(&mut self, event: Event, ctx: &Ctx<'_>) -> Result<Outbox, Error> {
        let mut turn = Turn::new(ctx);
        if self.stopped && !event.is_heard_when_stopped() {
            return Ok(turn.out);
        }
        let over = State::Over(self.id());
        self.state = match std::mem::replace(&mut self.state, over) {
            State::Established(mut channel) => {
                let result = channel.handle(event, &mut turn);
                let state = State::Established(channel);
                if let Err(invariant) = result {
                    self.state = state;
                    return Err(invariant.into());
                }
                state
            }
            State::Over(id) => {
                // The wallet was asked before the opening ended.
                if let Event::Funded { transaction, .. } = event {
                    turn.emit(Effect::ReleaseFunding { transaction: transaction.compute_txid() });
                }
                State::Over(id)
            }
            opening @ (State::Funder(_) | State::Fundee(_)) if is_warning(&event, &mut turn) => opening,
            State::Funder(opening) => self.handle_opening_funder(opening, event, &mut turn)?,
            State::Fundee(opening) => self.handle_opening_fundee(*opening, event, &mut turn)?,
        };
        if let State::Established(channel) = &self.state {
            write_touched(channel, &mut turn);
        }
        Ok(turn.out)
    }

    fn handle_opening_funder(
        &self,
        opening: OpeningFunder,
        event: Event,
        turn: &mut Turn<'_>,
    ) -> Result<State, Invariant> {
        let id = opening.temporary_id();
        if let Some(reason) = end_of_opening(id, &event, turn) {
            opening.release(turn);
            return Ok(opening_failed(id, reason, turn));
        }
        match opening.handle(event, turn) {
            Ok(Progress::Opening(opening)) => Ok(State::Funder(opening)),
            Ok(Progress::Established(channel)) => Ok(State::Established(channel)),
            Err(fault) => opening_violation(id, fault, turn),
        }
    }

    fn handle_opening_fundee(
        &self,
        opening: OpeningFundee,
        event: Event,
        turn: &mut Turn<'_>,
    ) -> Result<State, Invariant> {
        let id = opening.temporary_id();
        if let Some(reason) = end_of_opening(id, &event, turn) {
            return Ok(opening_failed(id, reason, turn));
        }
        match opening.handle(event, turn) {
            Ok(Ok(channel)) => Ok(State::Established(Box::new(channel))),
            Ok(Err(opening)) => Ok(State::Fundee(Box::new(opening))),
            Err(fault) => opening_violation(id, fault, turn),
        }
    }

    /// The opening has ended, and there is no channel.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_))
    }

    /// The temporary id until both first commitments are signed, then the permanent one.
    pub fn id(&self) -> ChannelId {
        match &self.state {
            State::Funder(opening) => opening.temporary_id(),
            State::Fundee(opening) => opening.temporary_id(),
            State::Established(channel) => channel.terms.channel_id,
            State::Over(id) => *id,
        }
    }

    /// The state that the channel is in, for people and for the driver.
    pub fn state_name(&self) -> StateName {
        match &self.state {
            State::Funder(_) | State::Fundee(_) => StateName::Opening,
            State::Established(channel) => channel.state_name(),
            State::Over(_) => StateName::Closed,
        }
    }

    /// What was agreed at opening; `None` before that.
    pub fn terms(&self) -> Option<&Terms> {
        self.established().map(|channel| &channel.terms)
    }

    /// Works out what the next commitments need, so that it is there when it is asked for: some 200 µs, for a time when
    /// there is nothing else to do. It changes nothing but caches.
    pub fn prepare(&mut self) {
        if let State::Established(channel) = &mut self.state
            && matches!(channel.phase, Phase::Normal | Phase::Shutdown(_))
        {
            let Established { commitments, terms, factory, .. } = channel.as_mut();
            commitments.prepare(terms, factory);
        }
    }

    /// Whether an [`Event::Flush`] would send something now.
    pub fn wants_flush(&self) -> bool {
        self.established().is_some_and(Established::wants_flush)
    }

    /// Why the next [`Event::Flush`] should come late.
    pub fn closing_delay(&self) -> Option<ClosingDelay> {
        self.established().and_then(Established::closing_delay)
    }

    /// Whether the peer's next `revoke_and_ack` makes HTLCs of its final. What becomes of them is known soon after that:
    /// to sign only then saves signing for those that end at once.
    pub fn awaits_decisions(&self) -> bool {
        let signed = self.established().map(|channel| &channel.commitments.remote_changes.signed);
        signed.is_some_and(|signed| signed.iter().any(|update| update.adds().is_some()))
    }

    /// The newest revoked state that enough towers must hold before the peer's next commitment is signed.
    pub fn awaits_towers(&self) -> Option<CommitmentNumber> {
        self.established().and_then(|channel| channel.towers.awaited())
    }

    /// Whether the channel has a place for one more HTLC of this node.
    pub fn room_for_htlc(&self) -> HtlcRoom {
        self.established().map_or(HtlcRoom::Full, |channel| channel.commitments.room(&channel.terms))
    }

    /// About how many HTLCs an [`Event::Flush`] would sign once more: those with an output in the peer's commitment that stay
    /// in its next one.
    pub fn htlcs_to_repeat(&self) -> usize {
        let Some(Established { commitments, terms, .. }) = self.established() else { return 0 };
        let gathered = commitments.remote_changes.acked.iter().chain(&commitments.local_changes.proposed);
        let removed = gathered.filter(|update| update.removes().is_some()).count();
        limits::untrimmed(&commitments.remote.current.spec, terms, Side::Remote).saturating_sub(removed)
    }

    /// Our latest commitment, signed by both; `None` while the channel is being opened, or if it must
    /// never be broadcast.
    pub fn local_close(&self) -> Result<Option<LocalClose>, Error> {
        match self.established() {
            Some(channel) if channel.knowledge() == Knowledge::Current => Ok(Some(channel.local_close()?)),
            Some(_) | None => Ok(None),
        }
    }

    /// What is at stake in HTLCs that would not be enforced, and what may be; `None` while the channel is being opened.
    pub fn exposure(&self, ctx: &Ctx<'_>) -> Option<Exposure> {
        let channel = self.established()?;
        Some(channel.commitments.exposure(&channel.terms, &ctx.feerates, ctx.policy))
    }

    fn established(&self) -> Option<&Established> {
        match &self.state {
            State::Established(channel) => Some(channel),
            State::Funder(_) | State::Fundee(_) | State::Over(_) => None,
        }
    }
}

/// Whether the peer warns, which is told and ends nothing (BOLT 1, The `error` and `warning` Messages): it may be about
/// something else altogether.
fn is_warning(event: &Event, turn: &mut Turn<'_>) -> bool {
    let Event::Message(Message::Warning(warning)) = event else { return false };
    turn.notice(Notice::PeerSays { error: false, text: warning.text() });
    true
}

/// Why an event ends an opening, whatever it has come to. A peer that could not know is told: some open no other channel
/// until they are (BOLT 1: `error` for what makes a channel unusable).
fn end_of_opening(id: ChannelId, event: &Event, turn: &mut Turn<'_>) -> Option<String> {
    match event {
        Event::Disconnected => Some("the connection ended".to_owned()),
        Event::Message(Message::Error(error)) => {
            let text = error.text();
            turn.notice(Notice::PeerSays { error: true, text: text.clone() });
            Some(format!("the peer refused: {text}"))
        }
        // Nothing is at stake yet; and from the tip counts after how many blocks the channel may be forgotten.
        Event::Message(_) if turn.ctx.trust == TipTrust::InDoubt => {
            let reason = ParameterError::TipInDoubt.to_string();
            turn.send(ErrorMessage::new(id, reason.clone()));
            Some(reason)
        }
        Event::FundingRefused { reason } => {
            // Why is nobody's business but ours.
            turn.send(ErrorMessage::new(id, "this channel is not funded"));
            Some(reason.clone())
        }
        Event::Close(_) | Event::ForceClose | Event::Abandon => {
            turn.send(ErrorMessage::new(id, "the opening was cancelled"));
            Some("it was cancelled".to_owned())
        }
        _ => None,
    }
}

fn opening_failed(id: ChannelId, reason: String, turn: &mut Turn<'_>) -> State {
    turn.notice(Notice::OpenFailed { reason });
    turn.emit(Effect::Forget);
    State::Over(id)
}

fn opening_violation(id: ChannelId, fault: Fault, turn: &mut Turn<'_>) -> Result<State, Invariant> {
    match fault {
        Fault::Violation(violation) => {
            turn.send(ErrorMessage::new(id, violation.to_string()));
            turn.notice(Notice::ProtocolViolation(violation.clone()));
            Ok(opening_failed(id, violation.to_string(), turn))
        }
        Fault::Invariant(invariant) => Err(invariant),
    }
}

fn write_touched(channel: &Established, turn: &mut Turn<'_>) {
    let Touched { terms, state, signatures, secrets, inputs } = turn.touched;
    let id = channel.terms.channel_id;
    if terms {
        turn.out.put(Key::Terms(id), record::encode_terms(&channel.terms));
    }
    if signatures {
        let bytes = record::encode_signatures(&channel.commitments.local.signatures);
        turn.out.put(Key::Signatures(id), bytes);
    }
    if secrets {
        turn.out.put(Key::Secrets(id), channel.commitments.secrets.encode());
    }
    if inputs {
        turn.out.put(Key::FundingInputs(id), record::encode_inputs(&channel.funding_inputs));
    }
    if state {
        turn.out.put(Key::State(id), record::encode_state(channel));
        if channel.separate_rows {
            // All that they say is in the state from now on.
            turn.out.delete(Key::Closing(id));
            turn.out.delete(Key::Resolution(id));
        }
    }
}
