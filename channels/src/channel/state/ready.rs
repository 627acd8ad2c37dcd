//! We have sent `channel_ready`; the peer's opens the channel.

use super::{Established, Fault, Phase};
use crate::channel::turn::Turn;
use crate::wire::Message;

impl Established {
    pub(super) fn ready_message(&mut self, message: Message, turn: &mut Turn<'_>) -> Result<(), Fault> {
        match message {
            Message::ChannelReady(ready) => {
                self.receive_channel_ready(&ready, turn);
                self.set_phase(Phase::Normal, turn);
                Ok(())
            }
            Message::Shutdown(shutdown) => self.receive_shutdown(shutdown, turn),
            Message::ChannelReestablish(message) => self.reestablish(&message, turn),
            other => Err(self.unexpected(&other)),
        }
    }
}
