//! Messages that the node only carries, to other programs and from them.
//!
//! ```text
//!   a type from 32768 on ─┬─ a program listens ─► within the peer's allowance? ─► told, whatever the type
//!                         └─ nobody does ───────► as any unknown message (BOLT 1: an even type ends the connection)
//! ```

use tokio::time::Instant;

use super::Peer;
use crate::{
    driver::{
        events::CustomMessage,
        peers::Refused,
        uncommitted::{Custom, FIRST_CUSTOM_TYPE},
    },
    limits::CUSTOM_OVERHEAD,
};

impl Peer {
    pub(super) fn is_for_programs(&self, message_type: u16) -> bool {
        message_type >= FIRST_CUSTOM_TYPE && self.services.events.hears_custom_messages()
    }

    pub(super) fn custom_message(&mut self, message_type: u16, data: Vec<u8>) {
        let Some(connected) = &mut self.connection else { return };
        let cost = CUSTOM_OVERHEAD.saturating_add(data.len() as u64);
        if !connected.custom.spend(cost, Instant::now().into_std()) {
            return self.services.peers.note_refused(Refused::Custom);
        }
        self.services.events.custom_message(CustomMessage { peer: self.node_id, message_type, data });
    }

    /// Whether the peer reads what it is sent; `None` if it is not connected.
    pub(super) fn send_custom(&mut self, message: Custom) -> Option<bool> {
        self.connection.as_ref()?;
        if self.is_full_for(message.len()) {
            return Some(false);
        }
        self.send(message);
        self.connection.as_ref().map(|_| true)
    }
}
