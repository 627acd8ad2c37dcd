//! Payments flow. A `shutdown` from either side ends this state.

use super::{Established, Fault};
use crate::channel::turn::Turn;
use crate::wire::Message;

impl Established {
    pub(super) fn normal_message(&mut self, message: Message, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let Some(message) = self.update_message(message, turn)? else { return Ok(()) };
        match message {
            Message::Shutdown(shutdown) => self.receive_shutdown(shutdown, turn),
            Message::ChannelReady(ready) => {
                // Redundant after a reconnection, or with another alias.
                self.receive_channel_ready(&ready, turn);
                Ok(())
            }
            Message::ChannelReestablish(message) => self.reestablish(&message, turn),
            other => Err(self.unexpected(&other)),
        }
    }
}
