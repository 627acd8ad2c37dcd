//! One side or both have said `shutdown`: what is pending gets resolved, nothing is added (BOLT 2, Closing Initiation).
//!
//! ```text
//!   close wanted ──all that we may sign is signed──► shutdown sent ─┐
//!                                                                   ├── no HTLC and no update left ──► negotiating
//!   shutdown received ──────────────────────────────────────────────┘
//! ```
//!
//! A fee rate that is on its way when both have said `shutdown` moves no balance, and nodes differ in what they do about
//! it. LDK, LND and Eclair wait until it is in both commitments. Core Lightning begins to negotiate once everything that it
//! has signed is revoked, sends no signature that it still owes, and takes one that it is owed for a violation. So we send
//! a signature that only a fee wants a little late ([`ClosingDelay::Signature`]), take `closing_signed` in its place, and
//! begin ourselves when the one that we are owed does not come ([`ClosingDelay::Negotiation`]). One that got lost with a
//! connection is not sent again before the peer has said `shutdown` too: whether it has begun to negotiate is not known
//! earlier, and a peer that has takes no `update_fee`.

use bitcoin::ScriptBuf;

use super::negotiating::Negotiating;
use super::{ConnectionState, Established, Phase};
use crate::channel::effect::Effect;
use crate::channel::error::{CloseRefused, Fault, ProtocolViolation};
use crate::channel::event::CloseRequest;
use crate::channel::params::is_shutdown_script;
use crate::channel::turn::Turn;
use crate::types::{FeeratePerKw, Side};
use crate::wire::{self, Message};

/// A channel that is being shut down.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shutdown {
    pub local: LocalShutdown,
    /// The peer's script, once it has said `shutdown`.
    pub remote: Option<ScriptBuf>,
    /// What our side would pay; `None` if only the peer wanted to close.
    pub fees: Option<CloseFees>,
    /// A signature that only a fee wants got lost with the last connection, and is to be sent again. Not stored: a new
    /// connection tells it again.
    pub signature_lost: bool,
}

impl Shutdown {
    pub(crate) const fn new(local: LocalShutdown, remote: Option<ScriptBuf>, fees: Option<CloseFees>) -> Self {
        Self { local, remote, fees, signature_lost: false }
    }
}

/// Why the next [`Event::Flush`](crate::channel::Event::Flush) should come late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosingDelay {
    /// It would sign what only a fee wants, and the peer may be about to send `closing_signed` instead.
    Signature,
    /// It would begin to negotiate although the peer owes us a signature. Longer than the rest of a peer that is about to
    /// send that one.
    Negotiation,
}

/// How far our own `shutdown` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LocalShutdown {
    /// It waits for our updates to be signed, or for the connection.
    Wanted(ScriptBuf),
    /// Sent, and to be sent again after every reconnection.
    Sent(ScriptBuf),
}

impl LocalShutdown {
    pub(crate) const fn script(&self) -> &ScriptBuf {
        match self {
            Self::Wanted(script) | Self::Sent(script) => script,
        }
    }
}

/// The fee rates that a close was asked for with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CloseFees {
    pub wanted: FeeratePerKw,
    pub minimum: FeeratePerKw,
    pub maximum: FeeratePerKw,
}

impl Established {
    pub(super) fn shutdown_message(&mut self, message: Message, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let peer_has_shut_down = matches!(&self.phase, Phase::Shutdown(shutdown) if shutdown.remote.is_some());
        if peer_has_shut_down && matches!(message, Message::UpdateAddHtlc(_)) {
            return Err(ProtocolViolation::AddAfterShutdown.into());
        }
        let Some(message) = self.update_message(message, turn)? else { return Ok(()) };
        match message {
            Message::Shutdown(shutdown) => self.receive_shutdown(shutdown, turn),
            Message::ChannelReady(ready) => {
                self.receive_channel_ready(&ready, turn);
                Ok(())
            }
            Message::ChannelReestablish(message) => self.reestablish(&message, turn),
            Message::ClosingSigned(signed) => match self.may_negotiate() {
                Some(negotiating) => {
                    self.set_phase(Phase::Negotiating(Box::new(negotiating)), turn);
                    self.closing_signed(&signed, turn)
                }
                None => Err(self.unexpected(&Message::ClosingSigned(signed))),
            },
            other => Err(self.unexpected(&other)),
        }
    }

    /// The negotiation that can begin: both have said `shutdown`, and no HTLC is left.
    fn may_negotiate(&self) -> Option<Negotiating> {
        let Phase::Shutdown(Shutdown { local: LocalShutdown::Sent(local), remote: Some(remote), fees, .. }) =
            &self.phase
        else {
            return None;
        };
        let ready = self.commitments.is_without_htlcs();
        ready.then(|| Negotiating::new(local.clone(), remote.clone(), *fees))
    }

    /// Why a flush should come late.
    pub(crate) fn closing_delay(&self) -> Option<ClosingDelay> {
        let Phase::Shutdown(Shutdown { local: LocalShutdown::Sent(_), .. }) = &self.phase else { return None };
        if self.connection != ConnectionState::Online || !self.commitments.is_without_htlcs() {
            return None;
        }
        match self.owes_late_signature() {
            true => Some(ClosingDelay::Signature),
            false => self.is_owed_a_signature().then_some(ClosingDelay::Negotiation),
        }
    }

    fn owes_late_signature(&self) -> bool {
        self.lost_signature_is_due() || self.may_sign()
    }

    /// A signature got lost with the last connection, and is to be sent again, or replaced by a negotiation.
    pub(super) fn lost_signature_is_due(&self) -> bool {
        match &self.phase {
            Phase::Shutdown(Shutdown { signature_lost: true, remote, .. }) => {
                remote.is_some() || !self.commitments.is_without_htlcs()
            }
            _ => false,
        }
    }

    pub(super) fn take_lost_signature(&mut self) -> bool {
        match &mut self.phase {
            Phase::Shutdown(shutdown) => std::mem::take(&mut shutdown.signature_lost),
            _ => false,
        }
    }

    /// We speak first, and only a signature of the peer's for our fee is missing.
    fn is_owed_a_signature(&self) -> bool {
        let commitments = &self.commitments;
        self.terms.opener == Side::Local
            && commitments.remote.next().is_none()
            && !commitments.has_something_to_sign()
            && !commitments.is_drained()
            && self.may_negotiate().is_some()
    }

    /// A flush that has waited long enough.
    pub(super) fn flush_after_rest(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let lost = self.lost_signature_is_due() && self.take_lost_signature();
        // A fee of ours that the peer has never seen signed is pending nowhere but here: it need not be any more.
        let opens = self.terms.opener == Side::Local;
        match self.may_negotiate().filter(|_| self.is_owed_a_signature() || (lost && opens)) {
            None if lost => return Ok(self.sign_again(turn)?),
            None => {}
            Some(negotiating) => {
                self.set_phase(Phase::Negotiating(Box::new(negotiating)), turn);
                self.propose_closing_fee(turn)?;
            }
        }
        Ok(())
    }

    /// This node wants to close together with the peer.
    pub(super) fn close(&mut self, request: CloseRequest, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let fees = CloseFees {
            wanted: request.feerate,
            minimum: request.feerate_min.min(request.feerate),
            maximum: request.feerate_max.max(request.feerate),
        };
        match &mut self.phase {
            Phase::Funding | Phase::Ready | Phase::Normal => {}
            // Asking again may only change the fee.
            Phase::Shutdown(shutdown) => {
                shutdown.fees = Some(fees);
                turn.touched.state = true;
                return Ok(());
            }
            Phase::Negotiating(_) => return self.close_again(fees, turn),
            Phase::Closing(closing) if closing.can_be_raised() => return self.close_again(fees, turn),
            Phase::Lost | Phase::Restored | Phase::Closing(_) | Phase::Closed => {
                turn.emit(Effect::CloseRefused(CloseRefused::State(self.phase.name())));
                return Ok(());
            }
        }
        let script = match &self.terms.sides.local.upfront_shutdown_script {
            Some(committed) if *committed != request.script => {
                let committed = committed.to_hex_string();
                turn.emit(Effect::CloseRefused(CloseRefused::UpfrontScript { committed }));
                return Ok(());
            }
            Some(_) | None => request.script,
        };
        if !is_shutdown_script(&script) {
            turn.emit(Effect::CloseRefused(CloseRefused::Script));
            return Ok(());
        }
        let shutdown = Shutdown::new(LocalShutdown::Wanted(script), None, Some(fees));
        self.set_phase(Phase::Shutdown(shutdown), turn);
        self.send_shutdown_if_due(turn);
        Ok(())
    }

    pub(super) fn receive_shutdown(&mut self, message: wire::Shutdown, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let script = message.scriptpubkey;
        if !is_shutdown_script(&script) {
            return Err(ProtocolViolation::ShutdownScriptForm.into());
        }
        if let Some(committed) = &self.terms.sides.remote.upfront_shutdown_script
            && *committed != script
        {
            return Err(ProtocolViolation::ShutdownScriptChanged.into());
        }
        // A peer should sign its updates first. If it signs them after this, nothing is lost: what it has added is failed.
        match &mut self.phase {
            Phase::Shutdown(shutdown) => match &shutdown.remote {
                // Sent again after a reconnection.
                Some(known) if *known == script => {}
                Some(_) => return Err(ProtocolViolation::ShutdownScriptChanged.into()),
                None => {
                    shutdown.remote = Some(script);
                    turn.touched.state = true;
                }
            },
            Phase::Funding | Phase::Ready | Phase::Normal => {
                let local = LocalShutdown::Wanted(self.terms.shutdown_script.clone());
                let shutdown = Shutdown::new(local, Some(script), None);
                self.set_phase(Phase::Shutdown(shutdown), turn);
            }
            Phase::Negotiating(_) | Phase::Lost | Phase::Restored | Phase::Closing(_) | Phase::Closed => {}
        }
        self.send_shutdown_if_due(turn);
        Ok(())
    }

    pub(super) const fn wants_shutdown(&self) -> bool {
        matches!(&self.phase, Phase::Shutdown(Shutdown { local: LocalShutdown::Wanted(_), .. }))
    }

    /// BOLT 2: no `shutdown` while updates are pending on the peer's commitment: ours that are not signed, and its own that
    /// it waits to see signed.
    pub(super) fn send_shutdown_if_due(&mut self, turn: &mut Turn<'_>) {
        if self.connection != ConnectionState::Online || self.commitments.has_something_to_sign() {
            return;
        }
        if let Phase::Shutdown(shutdown) = &mut self.phase
            && let LocalShutdown::Wanted(script) = &shutdown.local
        {
            let script = script.clone();
            shutdown.local = LocalShutdown::Sent(script.clone());
            turn.touched.state = true;
            turn.send(wire::Shutdown { channel_id: self.terms.channel_id, scriptpubkey: script });
        }
    }

    pub(super) fn negotiate_if_drained(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        if let Phase::Shutdown(shutdown) = &self.phase
            && let (LocalShutdown::Sent(local), Some(remote)) = (&shutdown.local, &shutdown.remote)
            && self.commitments.is_drained()
        {
            let negotiating = Negotiating::new(local.clone(), remote.clone(), shutdown.fees);
            self.set_phase(Phase::Negotiating(Box::new(negotiating)), turn);
            self.propose_closing_fee(turn)?;
        }
        Ok(())
    }
}
