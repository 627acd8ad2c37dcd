//! What may be sent although nothing of it was made durable: words and questions that no money hangs on.
//!
//! ```text
//!   pong, ping, warning, error, peer storage ──► Uncommitted ─┐
//!   what only other programs understand      ──► Uncommitted ─┤
//!   gossip                                   ──► Gossip      ─┼──► the connection
//!   everything else      Outbox ──commit──► Effect::Send     ─┘
//! ```
//!
//! Promises: nothing else has a way into these types. A signature or a revocation is sent by
//! [`Effect::Send`](leyden_channels::channel::Effect::Send) alone, which no driver reaches before the commit.
//!
//! ```compile_fail,E0277
//! fn sign_at_once(signed: leyden_channels::wire::CommitmentSigned) -> leyden::driver::uncommitted::Uncommitted {
//!     signed.into() // not one of those
//! }
//! ```

use leyden_channels::wire::{
    ErrorMessage, MAX_MESSAGE_LEN, Message, Warning,
    control::{PeerStorage, PeerStorageRetrieval, Ping, Pong},
};

/// The first type that is for anybody's own use (BOLT 1, Lightning Message Format).
pub(crate) const FIRST_CUSTOM_TYPE: u16 = 32_768;
/// What a message has room for beside its type (BOLT 8: its length has two bytes).
pub(crate) const MAX_CUSTOM_DATA: usize = MAX_MESSAGE_LEN - size_of::<u16>();

/// A message that depends on nothing durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Uncommitted(Message);

impl Uncommitted {
    /// To be encrypted.
    pub(crate) fn message(&self) -> &Message {
        &self.0
    }
}

macro_rules! uncommitted {
    ($($name:ident),* $(,)?) => {$(
        impl From<$name> for Uncommitted {
            fn from(message: $name) -> Self {
                Self(Message::$name(message))
            }
        }
    )*};
}

uncommitted!(Ping, Pong, Warning, PeerStorage, PeerStorageRetrieval);

impl From<ErrorMessage> for Uncommitted {
    fn from(message: ErrorMessage) -> Self {
        Self(Message::Error(message))
    }
}

/// A message whose type BOLT 1 leaves to anybody's own use: nothing of this node's reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Custom {
    message_type: u16,
    payload: Vec<u8>,
}

impl Custom {
    /// `None` if the type is one of the protocol's, or the message too long.
    pub(crate) fn new(message_type: u16, payload: Vec<u8>) -> Option<Self> {
        let is_custom = message_type >= FIRST_CUSTOM_TYPE && payload.len() <= MAX_CUSTOM_DATA;
        is_custom.then_some(Self { message_type, payload })
    }

    /// Bytes of the message, its type apart.
    pub(crate) fn len(&self) -> usize {
        self.payload.len()
    }
}

impl From<Custom> for Uncommitted {
    fn from(Custom { message_type, payload }: Custom) -> Self {
        Self(Message::Unknown { message_type, payload })
    }
}

/// The types that BOLT 7 gives to gossip: announcements, updates and questions about them.
const GOSSIP_TYPES: std::ops::RangeInclusive<u16> = 256..=265;
/// BOLT 1's `warning`, by which a peer hears that its gossip is wrong.
const WARNING_TYPE: u16 = 1;

/// An encoded message of gossip, or a `warning` about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gossip(Vec<u8>);

impl Gossip {
    /// `None` if the bytes are another kind of message.
    pub(crate) fn encoded(bytes: Vec<u8>) -> Option<Self> {
        let message_type = bytes.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes))?;
        (GOSSIP_TYPES.contains(&message_type) || message_type == WARNING_TYPE).then_some(Self(bytes))
    }

    /// To be encrypted.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use leyden_channels::types::ChannelId;
    use leyden_channels::wire::{RevokeAndAck, queries::GossipTimestampFilter};

    use super::*;

    #[test]
    fn no_message_of_the_protocol_passes_as_a_programs_own() {
        assert!(Custom::new(128, vec![1]).is_none() && Custom::new(32_767, Vec::new()).is_none());
        assert!(Custom::new(32_768, vec![0; MAX_CUSTOM_DATA + 1]).is_none());
        let most = Custom::new(u16::MAX, vec![0; MAX_CUSTOM_DATA]).unwrap();
        assert_eq!(most.len(), MAX_CUSTOM_DATA);
        assert!(Uncommitted::from(most).message().encode().is_ok());
    }

    #[test]
    fn only_gossip_and_warnings_pass_as_gossip() {
        let bytes = |message: Message| message.encode().unwrap();
        let chain_hash = [1; 32].into();
        let filter = GossipTimestampFilter { chain_hash, first_timestamp: 0, timestamp_range: 1 };
        assert!(Gossip::encoded(bytes(filter.into())).is_some());
        assert!(Gossip::encoded(bytes(Warning::new(ChannelId::ALL, "no").into())).is_some());
        let next_per_commitment_point =
            secp256k1::SecretKey::from_slice(&[3; 32]).unwrap().public_key(secp256k1::SECP256K1);
        let channel_id = ChannelId([7; 32]);
        let revoke = RevokeAndAck { channel_id, per_commitment_secret: [2; 32], next_per_commitment_point };
        assert_eq!(Gossip::encoded(bytes(revoke.into())), None);
        assert_eq!(Gossip::encoded(vec![1]), None);
    }
}
