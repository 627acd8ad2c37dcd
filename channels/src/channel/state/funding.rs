//! Waiting for the funding transaction to be deep enough; a channel of zero confirmations does not wait.
//!
//! ```text
//!   funding ──depth──► (channel_ready sent) ready        the peer's channel_ready may come first: it gives the next
//!                                                        point, and then the depth leads straight to normal
//! ```

use super::{ConnectionState, Established, Fault, Phase};
use crate::channel::commitment::remote::RemoteStage;
use crate::channel::event::FundingDepth;
use crate::channel::turn::Turn;
use crate::types::CommitmentNumber;
use crate::wire::{ChannelReady, Message};

impl Established {
    pub(super) fn funding_message(&mut self, message: Message, turn: &mut Turn<'_>) -> Result<(), Fault> {
        match message {
            Message::ChannelReady(ready) => {
                self.receive_channel_ready(&ready, turn);
                Ok(())
            }
            Message::Shutdown(shutdown) => self.receive_shutdown(shutdown, turn),
            Message::ChannelReestablish(message) => self.reestablish(&message, turn),
            other => Err(self.unexpected(&other)),
        }
    }

    pub(super) fn funding_depth(&mut self, depth: &FundingDepth, turn: &mut Turn<'_>) -> Result<(), Fault> {
        match self.phase {
            Phase::Lost | Phase::Restored => {
                self.funding_is_confirmed(None, depth.confirmations, turn);
                return Ok(());
            }
            Phase::Closed => return Ok(()),
            Phase::Closing(_) if self.check_funding_output(&depth.output).is_err() => return Ok(()),
            Phase::Closing(_)
            | Phase::Funding
            | Phase::Ready
            | Phase::Normal
            | Phase::Shutdown(_)
            | Phase::Negotiating(_) => {}
        }
        self.note_depth(depth, turn)?;
        if self.phase == Phase::Funding && depth.confirmations >= self.terms.minimum_depth {
            self.deep_enough(turn)?;
        }
        Ok(())
    }

    /// As many confirmations as were agreed on are there.
    pub(crate) fn deep_enough(&mut self, turn: &mut Turn<'_>) -> Result<(), Fault> {
        // Whether channel_ready goes out now or after the next connection, channel_reestablish repeats it.
        if self.connection == ConnectionState::Online {
            let ready = self.channel_ready()?;
            turn.send(Message::ChannelReady(ready));
        }
        let next = match self.commitments.remote.stage {
            RemoteStage::Unready => Phase::Ready,
            RemoteStage::Settled { .. } | RemoteStage::AwaitingRevocation { .. } => Phase::Normal,
        };
        self.set_phase(next, turn);
        Ok(())
    }

    pub(super) fn channel_ready(&mut self) -> Result<ChannelReady, Fault> {
        let point = self.commitments.points.point(CommitmentNumber(1), self.factory.signer.as_ref())?;
        Ok(ChannelReady {
            channel_id: self.terms.channel_id,
            second_per_commitment_point: point,
            short_channel_id: self.aliases.local,
        })
    }

    /// The first one gives the point of commitment 1; later ones may only change the alias (BOLT 2).
    pub(super) fn receive_channel_ready(&mut self, ready: &ChannelReady, turn: &mut Turn<'_>) {
        if self.commitments.remote.stage == RemoteStage::Unready {
            self.commitments.remote.stage = RemoteStage::Settled { next_point: ready.second_per_commitment_point };
            turn.touched.state = true;
        }
        if ready.short_channel_id.is_some() && self.aliases.remote != ready.short_channel_id {
            self.aliases.remote = ready.short_channel_id;
            turn.touched.state = true;
        }
    }
}
