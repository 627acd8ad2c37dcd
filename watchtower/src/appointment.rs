//! What a client and its tower call things.
//!
//! ```text
//!   client ── has many ──► (tag, funding index) ── has many ──► commitment number: one appointment
//! ```
//!
//! None of these names tells a tower more than that two appointments belong together: the client's key is made for this
//! tower alone, so two towers cannot find out that they serve the same node, and a tag is 16 bytes that the client
//! chooses for (tower, channel) and that lead to no funding output. A channel may come to have several funding outputs;
//! the index tells them apart, and is 0 until then.

use std::fmt;

use leyden_channels::types::CommitmentNumber;

use crate::codec::{by_field, by_inner};

/// A client: the public key under which it speaks to this tower, compressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub [u8; 33]);

impl From<secp256k1::PublicKey> for ClientId {
    fn from(key: secp256k1::PublicKey) -> Self {
        Self(key.serialize())
    }
}

/// A channel, by a name that its client has chosen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelTag(pub [u8; 16]);

/// Which funding output of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FundingIndex(pub u16);

/// All commitments that spend one funding output of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName {
    /// The same for all its funding outputs.
    pub tag: ChannelTag,
    /// Which of them.
    pub funding: FundingIndex,
}

/// One revoked commitment of one of a client's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Appointment {
    /// Whose commitment it is.
    pub channel: ChannelName,
    /// Which commitment, counted from zero.
    pub number: CommitmentNumber,
}

macro_rules! hexadecimal {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    )*};
}

hexadecimal!(ClientId, ChannelTag);

by_inner!(ClientId, ChannelTag, FundingIndex);
by_field! { ChannelName { tag, funding } }
