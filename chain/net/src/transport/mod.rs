//! What lies between the bytes of a connection and its messages: plain frames (v1), or encrypted packets (v2, BIP 324).
//!
//! ```text
//!   initiator                                           responder
//!      │ ── key 64, garbage up to 4095 ──────────────────▶ │   not the first 16 bytes of v1: it is v2
//!      │ ◀── key 64, garbage, terminator 16, version packet │
//!      │ ── terminator 16, version packet ───────────────▶ │
//!   Transport ◀─────────── packets: length 3 │ header 1, contents │ tag 16 ───────────▶ Transport
//! ```
//!
//! Keys come from a Diffie-Hellman exchange whose public keys look like random bytes (ElligatorSwift), so nothing that is
//! sent tells what is spoken. Each side has its own keys for lengths and for packets, which are replaced every 224
//! packets. A packet may be a decoy, which is dropped. The session id is the same on both sides, and differs if somebody
//! sits between them: two people who compare it know.
//!
//! What it promises: nothing is kept for longer than a key, the longest garbage and one message; the same secrets and bytes give
//! the same bytes and messages.

mod cipher;
mod contents;
mod opening;
mod packets;

pub use opening::{Opening, Secrets};

use bitcoin::p2p::Magic;
use bitcoin::p2p::message::NetworkMessage;

use crate::codec::{Envelope, FRAME_HEADER, FrameDecoder, FrameError};
use packets::{PacketDecoder, PacketEncoder};

/// Most garbage after a key (BIP 324).
pub const MAX_GARBAGE: usize = 4_095;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum TransportKind {
    /// Not known yet.
    #[default]
    Detecting,
    /// Plain frames.
    V1,
    /// Encrypted packets (BIP 324). `session_id` is the same on both sides.
    V2 { session_id: [u8; 32] },
}

/// A connection on which messages can be exchanged, in its two directions.
#[derive(Debug)]
pub struct Transport {
    /// What is spoken.
    pub kind: TransportKind,
    /// The way out.
    pub encoder: MessageEncoder,
    /// The way in, which may hold messages already.
    pub decoder: MessageDecoder,
}

impl Transport {
    /// Plain frames.
    pub fn v1(magic: Magic) -> Self {
        let decoder = MessageDecoder::V1(FrameDecoder::new(magic));
        Self { kind: TransportKind::V1, encoder: MessageEncoder::V1(magic), decoder }
    }
}

/// Makes bytes of messages.
#[derive(Debug)]
pub enum MessageEncoder {
    /// Frames of the network with these first four bytes.
    V1(Magic),
    /// Packets.
    V2(V2Encoder),
}

impl MessageEncoder {
    /// The bytes to send next. `None` if the message is longer than the protocol can tell.
    pub fn encode(&mut self, envelope: &Envelope) -> Option<Vec<u8>> {
        match self {
            Self::V1(magic) => Some(envelope.frame(*magic)),
            Self::V2(V2Encoder(packets)) => {
                let (name, length) = contents::message_type(envelope);
                packets.packet(&[name.get(..length)?, envelope.payload()])
            }
        }
    }
}

/// Makes messages of bytes.
#[derive(Debug)]
pub enum MessageDecoder {
    /// Of frames.
    V1(FrameDecoder),
    /// Of packets.
    V2(Box<V2Decoder>),
}

impl MessageDecoder {
    /// Adds bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        match self {
            Self::V1(frames) => frames.feed(bytes),
            Self::V2(packets) => packets.packets.feed(bytes),
        }
    }

    /// The next message, if its last byte has arrived. To be called until it gives `None` after each [`Self::feed`], so that
    /// no more than one message is held.
    pub fn next_message(&mut self) -> Result<Option<NetworkMessage>, FrameError> {
        match self {
            Self::V1(frames) => frames.next_message(),
            Self::V2(decoder) => {
                let V2Decoder { packets, last_length } = decoder.as_mut();
                while let Some(contents) = packets.next_contents()? {
                    if let Some((command, payload)) = contents::read(contents) {
                        *last_length = FRAME_HEADER.saturating_add(payload.len());
                        return contents::decode(command, payload).map(Some);
                    }
                }
                Ok(None)
            }
        }
    }

    /// Bytes that the last message takes in a frame.
    pub fn last_frame_length(&self) -> usize {
        match self {
            Self::V1(frames) => frames.last_frame_length(),
            Self::V2(packets) => packets.last_length,
        }
    }
}

/// The sending side of BIP 324.
#[derive(Debug)]
pub struct V2Encoder(PacketEncoder);

/// The receiving side of BIP 324.
#[derive(Debug)]
pub struct V2Decoder {
    packets: PacketDecoder,
    last_length: usize,
}

#[cfg(test)]
mod tests;
