//! Our state is old, the peer has proved it: broadcasting it would cost everything (BOLT 2, Message Retransmission).
//!
//! Promises: nothing leads from here to our commitment transaction, not even [`Event::ForceClose`]; an `error` asks the
//! peer to close, and `to_remote` of whatever it broadcasts is ours.
//!
//! [`Event::ForceClose`]: crate::channel::Event::ForceClose

use super::{ConnectionState, Established, Fault, Phase};
use crate::channel::effect::Notice;
use crate::channel::turn::Turn;
use crate::types::ChannelId;
use crate::wire::{ErrorMessage, Message};

pub(super) fn please_close(channel: ChannelId) -> Message {
    ErrorMessage::new(channel, "we have lost data of this channel: please close it with your latest commitment").into()
}

impl Established {
    pub(super) fn lose(&mut self, turn: &mut Turn<'_>) {
        self.set_phase(Phase::Lost, turn);
        self.set_connection(ConnectionState::Online, turn);
        turn.notice(Notice::DataLoss);
        turn.send(please_close(self.terms.channel_id));
    }

    pub(super) fn lost_message(&mut self, message: &Message, turn: &mut Turn<'_>) -> Result<(), Fault> {
        if matches!(message, Message::ChannelReestablish(_)) {
            self.set_connection(ConnectionState::Online, turn);
            turn.send(please_close(self.terms.channel_id));
        }
        Ok(())
    }
}
