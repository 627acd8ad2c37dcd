//! The messages of BOLT 1, 2 and 7: what travels between two peers once the transport has decrypted it.
//!
//! ```text
//!   message = type (u16) ‖ fields ‖ extension (TLV stream)
//!
//!   bytes ── Message::decode ──► Message::OpenChannel(..) | … | Message::Unknown { message_type, payload }
//!   bytes ◄─ Message::encode ─── Message
//! ```
//!
//! Promises:
//! - Decoding any bytes ends in a message or a [`DecodeError`], never in a panic, and reserves no more memory than
//!   the bytes themselves take. Every length is checked, integers must be in their shortest form, streams in order.
//! - A message that we encode is decoded to the same message by us, and byte for byte as BOLT lays it out.
//! - Unknown odd records are dropped, unknown even ones refused; unknown messages come back as
//!   [`Message::Unknown`], and the caller hangs up when their type is even. What a signature covers (the unknown
//!   tail of an announcement) is kept.
//! - Signatures are checked for form only. Fields hold what the peer said; what may be said is the business of the
//!   state machines.
//!
//! A message lives in the file of its group: [`control`], [`opening`], [`commitment`], [`closing`], [`gossip`],
//! [`queries`]. To add one: write it there with `message!`, and name it in `messages!` in `message.rs`.

pub mod bigsize;
pub mod codec;
#[macro_use]
mod message;
pub mod closing;
pub mod commitment;
pub mod control;
pub mod features;
pub mod gossip;
pub mod opening;
pub mod queries;
pub mod tlv;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

pub use closing::{ClosingSigned, FeeRange, Shutdown};
pub use codec::{DecodeError, Field, Reader, Record};
pub use commitment::{
    ChannelReestablish, CommitmentSigned, OnionRoutingPacket, RevokeAndAck, UpdateAddHtlc, UpdateFailHtlc,
    UpdateFailMalformedHtlc, UpdateFee, UpdateFulfillHtlc,
};
pub use control::{ErrorMessage, Init, PeerStorage, PeerStorageRetrieval, Ping, Pong, Warning};
pub use features::{Feature, FeatureError, Features};
pub use gossip::{
    AnnouncementSignatures, ChannelAnnouncement, ChannelUpdate, NodeAddress, NodeAnnouncement, alias_text,
};
pub use message::{EncodeError, MAX_MESSAGE_LEN, Message, Payload};
pub use opening::{AcceptChannel, ChannelReady, FundingCreated, FundingSigned, OpenChannel};
pub use queries::{
    GossipTimestampFilter, QueryChannelRange, QueryShortChannelIds, ReplyChannelRange, ReplyShortChannelIdsEnd,
    ShortIds,
};
