//! Of this channel a backup is all that we have: no state, no signature, no secret of the peer's.
//!
//! ```text
//!   connected ──channel_reestablish with commitment 0──► peer        which must close at once (BOLT 2)
//!             ◄──its channel_reestablish───────────────
//!             ──error: please close──────────────────────►           for peers that know no commitment 0
//!   funding output spent ─► closing ─► to_remote, with a key that the seed gives
//! ```
//!
//! Promises: nothing of ours is ever broadcast from here; there is nothing that could be.

use super::lost::please_close;
use super::{ConnectionState, Established, Fault};
use crate::channel::error::Invariant;
use crate::channel::turn::Turn;
use crate::types::CommitmentNumber;
use crate::wire::{ChannelReestablish, Message};

impl Established {
    /// BOLT 2, Message Retransmission: who expects commitment 0, which is signed at the opening, expects nothing any
    /// more, and the receiver closes with its latest commitment.
    pub(super) fn channel_reestablish_of_nothing(&mut self) -> Result<ChannelReestablish, Invariant> {
        let first = CommitmentNumber(0);
        Ok(ChannelReestablish {
            channel_id: self.terms.channel_id,
            next_commitment_number: first,
            next_revocation_number: first,
            your_last_per_commitment_secret: [0; 32],
            my_current_per_commitment_point: self.factory.signer.per_commitment_point(first)?,
        })
    }

    pub(super) fn restored_message(&mut self, message: &Message, turn: &mut Turn<'_>) -> Result<(), Fault> {
        if matches!(message, Message::ChannelReestablish(_)) {
            self.set_connection(ConnectionState::Online, turn);
            turn.send(please_close(self.terms.channel_id));
        }
        Ok(())
    }
}
