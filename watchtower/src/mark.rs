//! By what a client knows its own word again: a tower shows the mark of the newest backup that it was sent, and nobody but the
//! client's seed can make one.
//!
//! ```text
//!   mark of n = first 16 bytes of HMAC-SHA256(secret for this tower, "leyden/tower/mark" ‖ tag ‖ funding index ‖ n)
//! ```
//!
//! It travels with each backup and is no part of it: a tower keeps the newest one of a channel, not one a state. A tower that
//! says "you gave me state n" to a node that knows of none has to show it: without, any tower could tell a node that its data
//! is old, and have it wait for its peers to close.

use bitcoin::hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, cmp::fixed_time_eq, sha256};
use leyden_channels::types::CommitmentNumber;

use crate::{
    appointment::ChannelName,
    codec::{by_inner, encode},
};

const TAG: &[u8] = b"leyden/tower/mark";

/// Says that a client has sent a state of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mark(pub [u8; 16]);

impl Mark {
    /// `secret`: [`TowerKeys::secret`](crate::client::keys::TowerKeys::secret).
    pub fn of(secret: &[u8; 32], channel: &ChannelName, number: CommitmentNumber) -> Self {
        let mut engine = HmacEngine::<sha256::Hash>::new(secret);
        engine.input(TAG);
        engine.input(&encode(channel));
        engine.input(&number.0.to_be_bytes());
        let hash = Hmac::from_engine(engine).to_byte_array();
        let mut mark = [0; 16];
        mark.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        Self(mark)
    }

    /// Takes the same time whatever is wrong.
    pub fn is_of(&self, secret: &[u8; 32], channel: &ChannelName, number: CommitmentNumber) -> bool {
        fixed_time_eq(&self.0, &Self::of(secret, channel, number).0)
    }
}

by_inner!(Mark);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appointment::{ChannelTag, FundingIndex};

    #[test]
    fn a_mark_is_of_one_secret_channel_and_state() {
        let (one, other) = ([1; 32], [2; 32]);
        let channel = |tag, funding| ChannelName { tag: ChannelTag([tag; 16]), funding: FundingIndex(funding) };
        let mark = Mark::of(&one, &channel(3, 0), CommitmentNumber(7));
        assert!(mark.is_of(&one, &channel(3, 0), CommitmentNumber(7)));
        assert!(!mark.is_of(&other, &channel(3, 0), CommitmentNumber(7)));
        assert!(!mark.is_of(&one, &channel(4, 0), CommitmentNumber(7)));
        assert!(!mark.is_of(&one, &channel(3, 1), CommitmentNumber(7)));
        assert!(!mark.is_of(&one, &channel(3, 0), CommitmentNumber(8)));
        assert!(!Mark::default().is_of(&one, &channel(3, 0), CommitmentNumber(7)));
    }
}
