//! One side or both have said `shutdown`: what is pending gets resolved, nothing is added (BOLT 2, Closing Initiation).
//!
//! ```text
//!   close wanted ──our updates signed──► shutdown sent ─┐
//!                                                       ├── no HTLC and no update left ──► negotiating
//!   shutdown received ──────────────────────────────────┘
//! ```

use bitcoin::ScriptBuf;

use super::negotiating::Negotiating;
use super::{Established, Link, Phase};
use crate::channel::commitment::changes::Update;
use crate::channel::effect::Effect;
use crate::channel::error::{CloseRefused, Fault, Wrong};
use crate::channel::event::CloseRequest;
use crate::channel::params::is_shutdown_script;
use crate::channel::turn::Turn;
use crate::types::FeeratePerKw;
use crate::wire::{self, Message};

/// A channel that is being shut down.
#[derive(Clone, Debug, PartialEq)]
pub struct Shutdown {
    pub local: LocalShutdown,
    /// The peer's script, once it has said `shutdown`.
    pub remote: Option<ScriptBuf>,
    /// What our side would pay; `None` if only the peer wanted to close.
    pub fees: Option<CloseFees>,
}

/// How far our own `shutdown` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalShutdown {
    /// It waits for our updates to be signed, or for the connection.
    Wanted(ScriptBuf),
    /// Sent, and to be sent again after every reconnection.
    Sent(ScriptBuf),
}

impl LocalShutdown {
    pub const fn script(&self) -> &ScriptBuf {
        match self {
            Self::Wanted(script) | Self::Sent(script) => script,
        }
    }
}

/// The fee rates that a close was asked for with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFees {
    pub wanted: FeeratePerKw,
    pub minimum: FeeratePerKw,
    pub maximum: FeeratePerKw,
}

impl Established {
    pub(super) fn shutdown_message(&mut self, message: Message, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let peer_has_shut_down = matches!(&self.phase, Phase::Shutdown(shutdown) if shutdown.remote.is_some());
        if peer_has_shut_down && matches!(message, Message::UpdateAddHtlc(_)) {
            return Err(Wrong::AddAfterShutdown.into());
        }
        let Some(message) = self.update_message(message, turn)? else { return Ok(()) };
        match message {
            Message::Shutdown(shutdown) => self.receive_shutdown(shutdown, turn),
            Message::ChannelReady(ready) => {
                self.receive_channel_ready(&ready, turn);
                Ok(())
            }
            Message::ChannelReestablish(message) => self.reestablish(&message, turn),
            other => Err(self.unexpected(&other)),
        }
    }

    /// This node wants to close together with the peer.
    pub(super) fn close(&mut self, request: CloseRequest, turn: &mut Turn<'_>) {
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
                return;
            }
            Phase::Negotiating(negotiating) => {
                negotiating.fees = Some(fees);
                turn.touched.state = true;
                return;
            }
            Phase::Lost | Phase::Restored | Phase::Closing(_) | Phase::Closed => {
                turn.emit(Effect::CloseRefused(CloseRefused::State(self.phase.name())));
                return;
            }
        }
        let script = match &self.terms.sides.local.upfront_shutdown_script {
            Some(committed) if *committed != request.script => {
                let committed = committed.to_hex_string();
                turn.emit(Effect::CloseRefused(CloseRefused::UpfrontScript { committed }));
                return;
            }
            Some(_) | None => request.script,
        };
        if !is_shutdown_script(&script) {
            turn.emit(Effect::CloseRefused(CloseRefused::Script));
            return;
        }
        let shutdown = Shutdown { local: LocalShutdown::Wanted(script), remote: None, fees: Some(fees) };
        self.set_phase(Phase::Shutdown(shutdown), turn);
        self.send_shutdown_if_due(turn);
    }

    pub(super) fn receive_shutdown(&mut self, message: wire::Shutdown, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let script = message.scriptpubkey;
        if !is_shutdown_script(&script) {
            return Err(Wrong::ShutdownScriptForm.into());
        }
        if let Some(committed) = &self.terms.sides.remote.upfront_shutdown_script
            && *committed != script
        {
            return Err(Wrong::ShutdownScriptChanged.into());
        }
        let unsigned = |update: &Update| update.adds().is_some() || matches!(update, Update::Fee(_));
        if self.commitments.remote_changes.proposed.iter().any(unsigned) {
            return Err(Wrong::ShutdownWithUnsignedUpdates.into());
        }
        match &mut self.phase {
            Phase::Shutdown(shutdown) => match &shutdown.remote {
                // Sent again after a reconnection.
                Some(known) if *known == script => {}
                Some(_) => return Err(Wrong::ShutdownScriptChanged.into()),
                None => {
                    shutdown.remote = Some(script);
                    turn.touched.state = true;
                }
            },
            Phase::Funding | Phase::Ready | Phase::Normal => {
                let local = LocalShutdown::Wanted(self.terms.shutdown_script.clone());
                let shutdown = Shutdown { local, remote: Some(script), fees: None };
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

    /// BOLT 2: no `shutdown` while updates of ours are not signed.
    pub(super) fn send_shutdown_if_due(&mut self, turn: &mut Turn<'_>) {
        if self.link != Link::Online || !self.commitments.local_changes.proposed.is_empty() {
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
