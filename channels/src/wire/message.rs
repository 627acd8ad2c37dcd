//! [`Message`]: one variant a message type, and the macros that lay messages out.

use super::closing::{ClosingSigned, Shutdown};
use super::codec::{DecodeError, Reader};
use super::commitment::{
    ChannelReestablish, CommitmentSigned, RevokeAndAck, UpdateAddHtlc, UpdateFailHtlc, UpdateFailMalformedHtlc,
    UpdateFee, UpdateFulfillHtlc,
};
use super::control::{ErrorMessage, Init, PeerStorage, PeerStorageRetrieval, Ping, Pong, Warning};
use super::gossip::{AnnouncementSignatures, ChannelAnnouncement, ChannelUpdate, NodeAnnouncement};
use super::opening::{AcceptChannel, ChannelReady, FundingCreated, FundingSigned, OpenChannel};
use super::queries::{
    GossipTimestampFilter, QueryChannelRange, QueryShortChannelIds, ReplyChannelRange, ReplyShortChannelIdsEnd,
};
use crate::types::ChannelId;

/// The transport's length field has two bytes (BOLT 1, Lightning Message Format).
pub const MAX_MESSAGE_LEN: usize = 65_535;

/// A message that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum EncodeError {
    #[error("a message of {0} bytes is longer than the {MAX_MESSAGE_LEN} that the transport carries")]
    TooLong(usize),
}

/// What every message type knows about itself.
pub trait Payload: Sized {
    /// The number of the message type.
    const TYPE: u16;

    /// Everything after the type, extension included; `reader` is empty afterwards.
    fn read_payload(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// Appends the message without its type.
    fn write_payload(&self, out: &mut Vec<u8>);
}

impl<T: Payload> Payload for Box<T> {
    const TYPE: u16 = T::TYPE;

    fn read_payload(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        T::read_payload(reader).map(Self::new)
    }

    fn write_payload(&self, out: &mut Vec<u8>) {
        T::write_payload(self, out);
    }
}

/// Defines a message: a struct with its fields in their order on the wire, then the records of its extension.
macro_rules! message {
    (
        $(#[$doc:meta])*
        $name:ident = $kind:literal {
            $( $(#[$field_doc:meta])* $field:ident: $ty:ty, )*
        }
        $( extension {
            $( $(#[$record_doc:meta])* $number:literal => $record:ident: $record_ty:ty, )*
        } )?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "fields are named as in the BOLT that defines the message")]
        pub struct $name {
            $( $(#[$field_doc])* pub $field: $ty, )*
            $( $( $(#[$record_doc])* pub $record: Option<$record_ty>, )* )?
        }

        impl $crate::wire::message::Payload for $name {
            const TYPE: u16 = $kind;

            fn read_payload(
                reader: &mut $crate::wire::codec::Reader<'_>,
            ) -> Result<Self, $crate::wire::codec::DecodeError> {
                $( let $field = reader.field::<$ty>()?; )*
                $( $( let mut $record = None; )* )?
                let mut records = $crate::wire::tlv::Records::new($crate::wire::codec::Reader::new(reader.take_rest()));
                while let Some((kind, _value)) = records.next_record()? {
                    match kind {
                        $( $( $number => {
                            $record = Some(<$record_ty as $crate::wire::codec::Record>::read_record(_value)?);
                        } )* )?
                        other => $crate::wire::tlv::unknown(other)?,
                    }
                }
                Ok(Self { $( $field, )* $( $( $record, )* )? })
            }

            fn write_payload(&self, out: &mut Vec<u8>) {
                $( $crate::wire::codec::Field::write(&self.$field, out); )*
                $( $( if let Some(value) = &self.$record {
                    $crate::wire::tlv::write($number, value, out);
                } )* )?
            }
        }

        #[cfg(test)]
        impl $crate::wire::sample::Sample for $name {
            fn sample(source: &mut $crate::wire::sample::Source) -> Self {
                Self {
                    $( $field: $crate::wire::sample::Sample::sample(source), )*
                    $( $( $record: $crate::wire::sample::Sample::sample(source), )* )?
                }
            }
        }
    };
}

macro_rules! messages {
    ( $( $(#[$doc:meta])* $name:ident($ty:ty), )* ) => {
        /// A message of any type.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "a variant is the message of its name")]
        pub enum Message {
            $( $(#[$doc])* $name($ty), )*
            /// A message that this code has no name for. Odd types are to be ignored; an even one ends the
            /// connection ([`Message::must_be_understood`]).
            Unknown { message_type: u16, payload: Vec<u8> },
        }

        impl Message {
            /// The number of this message's type.
            pub fn message_type(&self) -> u16 {
                match self {
                    $( Self::$name(_) => <$ty as Payload>::TYPE, )*
                    Self::Unknown { message_type, .. } => *message_type,
                }
            }

            /// The name of this message's type, for errors and logs.
            pub fn name(&self) -> &'static str {
                match self {
                    $( Self::$name(_) => stringify!($name), )*
                    Self::Unknown { .. } => "an unknown message",
                }
            }

            /// A decrypted message, type included.
            pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                let mut reader = Reader::new(bytes);
                let message_type = reader.field::<u16>()?;
                Ok(match message_type {
                    $( <$ty as Payload>::TYPE => Self::$name(Payload::read_payload(&mut reader)?), )*
                    _ => Self::Unknown { message_type, payload: reader.take_rest().to_vec() },
                })
            }

            /// Appends this message, type included, to `out`. On an error `out` is as it was.
            pub fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                let start = out.len();
                out.extend_from_slice(&self.message_type().to_be_bytes());
                match self {
                    $( Self::$name(message) => message.write_payload(out), )*
                    Self::Unknown { payload, .. } => out.extend_from_slice(payload),
                }
                let len = out.len() - start;
                if len > MAX_MESSAGE_LEN {
                    out.truncate(start);
                    return Err(EncodeError::TooLong(len));
                }
                Ok(())
            }
        }

        $( impl From<$ty> for Message {
            fn from(message: $ty) -> Self {
                Self::$name(message)
            }
        } )*

        /// One message of every type.
        #[cfg(test)]
        pub(crate) fn sample_messages(source: &mut crate::wire::sample::Source) -> Vec<Message> {
            vec![ $( Message::$name(crate::wire::sample::Sample::sample(source)), )* ]
        }
    };
}

messages! {
    Warning(Warning),
    PeerStorage(PeerStorage),
    PeerStorageRetrieval(PeerStorageRetrieval),
    Init(Init),
    Error(ErrorMessage),
    Ping(Ping),
    Pong(Pong),
    OpenChannel(Box<OpenChannel>),
    AcceptChannel(Box<AcceptChannel>),
    FundingCreated(FundingCreated),
    FundingSigned(FundingSigned),
    ChannelReady(ChannelReady),
    Shutdown(Shutdown),
    ClosingSigned(ClosingSigned),
    UpdateAddHtlc(UpdateAddHtlc),
    UpdateFulfillHtlc(UpdateFulfillHtlc),
    UpdateFailHtlc(UpdateFailHtlc),
    CommitmentSigned(CommitmentSigned),
    RevokeAndAck(RevokeAndAck),
    UpdateFee(UpdateFee),
    UpdateFailMalformedHtlc(UpdateFailMalformedHtlc),
    ChannelReestablish(ChannelReestablish),
    ChannelAnnouncement(Box<ChannelAnnouncement>),
    NodeAnnouncement(Box<NodeAnnouncement>),
    ChannelUpdate(ChannelUpdate),
    AnnouncementSignatures(AnnouncementSignatures),
    QueryShortChannelIds(QueryShortChannelIds),
    ReplyShortChannelIdsEnd(ReplyShortChannelIdsEnd),
    QueryChannelRange(QueryChannelRange),
    ReplyChannelRange(ReplyChannelRange),
    GossipTimestampFilter(GossipTimestampFilter),
}

impl Message {
    /// This message, type included, in a buffer of its own.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut out = Vec::new();
        self.encode_into(&mut out)?;
        Ok(out)
    }

    /// The channel, or the opening, that this message is about.
    pub fn channel_id(&self) -> Option<ChannelId> {
        match self {
            Self::Warning(message) => Some(message.channel_id),
            Self::Error(message) => Some(message.channel_id),
            Self::OpenChannel(message) => Some(message.temporary_channel_id),
            Self::AcceptChannel(message) => Some(message.temporary_channel_id),
            Self::FundingCreated(message) => Some(message.temporary_channel_id),
            Self::FundingSigned(message) => Some(message.channel_id),
            Self::ChannelReady(message) => Some(message.channel_id),
            Self::Shutdown(message) => Some(message.channel_id),
            Self::ClosingSigned(message) => Some(message.channel_id),
            Self::UpdateAddHtlc(message) => Some(message.channel_id),
            Self::UpdateFulfillHtlc(message) => Some(message.channel_id),
            Self::UpdateFailHtlc(message) => Some(message.channel_id),
            Self::CommitmentSigned(message) => Some(message.channel_id),
            Self::RevokeAndAck(message) => Some(message.channel_id),
            Self::UpdateFee(message) => Some(message.channel_id),
            Self::UpdateFailMalformedHtlc(message) => Some(message.channel_id),
            Self::ChannelReestablish(message) => Some(message.channel_id),
            Self::AnnouncementSignatures(message) => Some(message.channel_id),
            Self::Init(_)
            | Self::PeerStorage(_)
            | Self::PeerStorageRetrieval(_)
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::ChannelAnnouncement(_)
            | Self::NodeAnnouncement(_)
            | Self::ChannelUpdate(_)
            | Self::QueryShortChannelIds(_)
            | Self::ReplyShortChannelIdsEnd(_)
            | Self::QueryChannelRange(_)
            | Self::ReplyChannelRange(_)
            | Self::GossipTimestampFilter(_)
            | Self::Unknown { .. } => None,
        }
    }

    /// Whether a node that does not know this message has to hang up (BOLT 1: it is ok to be odd).
    pub fn must_be_understood(&self) -> bool {
        self.message_type().is_multiple_of(2)
    }
}

impl From<OpenChannel> for Message {
    fn from(message: OpenChannel) -> Self {
        Self::OpenChannel(Box::new(message))
    }
}

impl From<AcceptChannel> for Message {
    fn from(message: AcceptChannel) -> Self {
        Self::AcceptChannel(Box::new(message))
    }
}

impl From<ChannelAnnouncement> for Message {
    fn from(message: ChannelAnnouncement) -> Self {
        Self::ChannelAnnouncement(Box::new(message))
    }
}

impl From<NodeAnnouncement> for Message {
    fn from(message: NodeAnnouncement) -> Self {
        Self::NodeAnnouncement(Box::new(message))
    }
}
