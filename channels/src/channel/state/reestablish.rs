//! A new connection: finding out what the old one lost, and sending exactly that again (BOLT 2, Message
//! Retransmission).
//!
//! ```text
//!   offline ──connected: channel_reestablish──► syncing ──the peer's──► online
//!
//!   the peer expects            we have signed              so it lost
//!   commitment n                n, and it is not revoked    our updates and commitment_signed
//!   commitment n + 1            n                           nothing
//!   revocation of m - 1         our commitment is m         our revoke_and_ack
//!   revocation of m             our commitment is m         nothing
//!   revocation beyond m         our commitment is m         nothing: we lost data, if it can prove that
//! ```
//!
//! Promises: nothing is sent again that was not lost; what is sent again is the same, in the order of the first time,
//! also relative to each other; if the peer proves that our state is old, we never broadcast.

use super::shutdown::{LocalShutdown, Shutdown};
use super::{ConnectionState, Established, Phase};
use crate::channel::commitment::remote::RemoteStage;
use crate::channel::effect::Notice;
use crate::channel::error::{Fault, Invariant, ProtocolViolation};
use crate::channel::turn::Turn;
use crate::types::CommitmentNumber;
use crate::wire::{self, ChannelReestablish, Message};

/// What the peer's `channel_reestablish` says about it and us.
pub(super) enum ReestablishOutcome {
    Synced {
        lost_revocation: bool,
        lost_commitment: bool,
    },
    /// The peer has forgotten something.
    PeerBehind,
    /// We have, and it has proved it.
    WeAreBehind,
}

impl Established {
    pub(super) fn connected(&mut self, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        if self.connection != ConnectionState::Offline {
            // The peer was faster than the news of the old connection's end.
            self.disconnected(turn);
        }
        match &self.phase {
            Phase::Negotiating(negotiating) if negotiating.agreed.is_some() => {
                self.set_connection(ConnectionState::Waiting, turn)
            }
            Phase::Closing(_) => self.set_connection(ConnectionState::Waiting, turn),
            Phase::Funding
            | Phase::Ready
            | Phase::Normal
            | Phase::Shutdown(_)
            | Phase::Negotiating(_)
            | Phase::Lost => {
                let message = self.channel_reestablish()?;
                turn.send(Message::ChannelReestablish(message));
                self.set_connection(ConnectionState::Syncing, turn);
            }
            Phase::Restored => {
                let message = self.channel_reestablish_of_nothing()?;
                turn.send(Message::ChannelReestablish(message));
                self.set_connection(ConnectionState::Syncing, turn);
            }
            Phase::Closed => {}
        }
        Ok(())
    }

    pub(super) fn channel_reestablish(&mut self) -> Result<ChannelReestablish, Invariant> {
        let commitments = &mut self.commitments;
        let next_revocation_number = commitments.remote.current.number;
        let last = next_revocation_number.0.checked_sub(1).map(CommitmentNumber);
        let secret = last.and_then(|number| commitments.secrets.get(number));
        let point = commitments.points.point(commitments.local.number, self.factory.signer.as_ref())?;
        Ok(ChannelReestablish {
            channel_id: self.terms.channel_id,
            next_commitment_number: commitments.local.number.next(),
            next_revocation_number,
            your_last_per_commitment_secret: secret.map_or([0; 32], |secret| secret.0),
            my_current_per_commitment_point: point,
        })
    }

    pub(super) fn reestablish(&mut self, message: &ChannelReestablish, turn: &mut Turn<'_>) -> Result<(), Fault> {
        if self.is_settled_together() || matches!(self.phase, Phase::Closing(_)) {
            return self.reestablish_settled(message, turn);
        }
        if self.connection != ConnectionState::Syncing {
            return Err(self.unexpected(&Message::ChannelReestablish(message.clone())));
        }
        match self.judge(message)? {
            ReestablishOutcome::WeAreBehind => {
                self.lose(turn);
                Ok(())
            }
            ReestablishOutcome::PeerBehind => {
                self.set_connection(ConnectionState::PeerBehind, turn);
                turn.notice(Notice::PeerDataLoss);
                Ok(())
            }
            ReestablishOutcome::Synced { lost_revocation, lost_commitment } => {
                self.send_again(message, lost_revocation, lost_commitment, turn)
            }
        }
    }

    pub(super) fn judge(&self, message: &ChannelReestablish) -> Result<ReestablishOutcome, Fault> {
        let (commitment, revocation) = (message.next_commitment_number, message.next_revocation_number);
        let local = self.commitments.local.number;
        let signed = self.commitments.remote.latest().number;

        if let Some(last) = revocation.0.checked_sub(1).map(CommitmentNumber) {
            // Compared here, never sent: the peer may ask about a commitment that we have not revoked.
            let secret = self.factory.signer.release_commitment_secret(last);
            match (secret.0 == message.your_last_per_commitment_secret, revocation > local) {
                (true, true) => return Ok(ReestablishOutcome::WeAreBehind),
                (true, false) => {}
                (false, _) => return Err(ProtocolViolation::ReestablishSecret.into()),
            }
        }
        // BOLT 2, Message Retransmission: a peer that has nothing but a backup asks like this, and must be helped.
        if commitment.0 == 0 {
            return Err(ProtocolViolation::PeerHasNothing.into());
        }
        if commitment > signed.next() {
            return Err(ProtocolViolation::ReestablishFuture { commitment, revocation }.into());
        }
        let awaiting = self.commitments.remote.next().is_some();
        let lost_commitment = awaiting && commitment == signed;
        let knows_commitment = lost_commitment || commitment == signed.next();
        let lost_revocation = revocation.next() == local;
        let knows_revocation = lost_revocation || revocation == local;
        if knows_commitment && knows_revocation {
            Ok(ReestablishOutcome::Synced { lost_revocation, lost_commitment })
        } else {
            Ok(ReestablishOutcome::PeerBehind)
        }
    }

    fn send_again(
        &mut self,
        message: &ChannelReestablish,
        lost_revocation: bool,
        lost_commitment: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), Fault> {
        let first = CommitmentNumber(1);
        let both_at_start = message.next_commitment_number == first && self.commitments.local.number.next() == first;
        if both_at_start && matches!(self.phase, Phase::Ready | Phase::Normal | Phase::Shutdown(_)) {
            let ready = self.channel_ready()?;
            turn.send(Message::ChannelReady(ready));
        }

        let local = self.commitments.local.number;
        let revoked_first = match &self.commitments.remote.stage {
            RemoteStage::AwaitingRevocation { signed_at, .. } => *signed_at == local,
            RemoteStage::Unready | RemoteStage::Settled { .. } => true,
        };
        if lost_revocation && revoked_first {
            self.revoke_again(turn)?;
        }
        if lost_commitment {
            let must_come_first = lost_revocation && !revoked_first;
            self.sign_again_if_needed(must_come_first, turn)?;
        }
        if lost_revocation && !revoked_first {
            self.revoke_again(turn)?;
        }
        // Removals that were proposed and not signed: the peer has forgotten them.
        for update in &self.commitments.local_changes.proposed {
            turn.send(self.commitments.message_of(update, self.terms.channel_id)?);
        }
        self.set_connection(ConnectionState::Online, turn);

        match &self.phase {
            Phase::Shutdown(shutdown) => {
                if let LocalShutdown::Sent(script) = &shutdown.local {
                    turn.send(wire::Shutdown { channel_id: self.terms.channel_id, scriptpubkey: script.clone() });
                }
                self.send_shutdown_if_due(turn);
            }
            Phase::Negotiating(_) => self.negotiate_again(turn)?,
            Phase::Funding
            | Phase::Ready
            | Phase::Normal
            | Phase::Lost
            | Phase::Restored
            | Phase::Closing(_)
            | Phase::Closed => {}
        }
        Ok(())
    }

    fn revoke_again(&mut self, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        let message = self.commitments.revoke_again(&self.terms, &self.factory)?;
        turn.send(Message::RevokeAndAck(message));
        Ok(())
    }

    /// What only a fee wants comes late, or never, to a peer that closes with us (see [`ClosingDelay`]).
    ///
    /// [`ClosingDelay`]: super::ClosingDelay
    fn sign_again_if_needed(&mut self, must_come_first: bool, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        let only_a_fee = self.commitments.is_without_htlcs();
        match &mut self.phase {
            Phase::Negotiating(_) => Ok(()),
            // A revocation that was lost too and went after it counts more.
            Phase::Shutdown(Shutdown { local: LocalShutdown::Sent(_), signature_lost, .. })
                if only_a_fee && !must_come_first =>
            {
                *signature_lost = true;
                Ok(())
            }
            _ => self.sign_again(turn),
        }
    }

    pub(super) fn sign_again(&self, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        for update in &self.commitments.local_changes.signed {
            turn.send(self.commitments.message_of(update, self.terms.channel_id)?);
        }
        let message = self.commitments.sign_again(&self.terms, &self.factory, turn.ctx.environment.workers())?;
        turn.send(Message::CommitmentSigned(message));
        Ok(())
    }
}
