//! Frames: how messages lie on the wire.
//!
//! ```text
//!   magic 4 | command 12 | payload length 4 | checksum 4 | payload
//! ```
//!
//! A decoder is fed bytes as they come and gives whole messages. Nothing is allocated for a payload whose announced
//! length is above the limit, and payloads of messages that this node has no use for are skipped unread.

use bitcoin::consensus::encode::{self, Decodable, Encodable};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::p2p::Magic;
use bitcoin::p2p::message::{CommandString, NetworkMessage, RawNetworkMessage};

/// Bytes before a payload.
pub const FRAME_HEADER: usize = 24;
const COMMAND: usize = 12;
const CHECKSUM: usize = 4;
/// The longest payload that is accepted or sent; a block of the greatest weight fits.
pub const MAX_PAYLOAD: usize = 4_000_000;

/// The messages that [`PeerSet`](crate::PeerSet) reads.
pub(crate) const READ: [&str; 29] = [
    "version",
    "verack",
    "wtxidrelay",
    "sendaddrv2",
    "sendheaders",
    "feefilter",
    "ping",
    "pong",
    "getaddr",
    "addr",
    "addrv2",
    "inv",
    "getdata",
    "notfound",
    "getblocks",
    "getheaders",
    "headers",
    "block",
    "tx",
    "getcfilters",
    "getcfheaders",
    "getcfcheckpt",
    "cfilter",
    "cfheaders",
    "cfcheckpt",
    "sendcmpct",
    "cmpctblock",
    "getblocktxn",
    "blocktxn",
];

/// Why a stream cannot be read on. The connection is of no use after that.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum FrameError {
    #[error("the peer is on another network (magic {got:?}, wanted {wanted:?})")]
    WrongMagic { got: Magic, wanted: Magic },
    #[error("a message of {length} bytes is too long; at most {limit} are allowed")]
    Oversized { length: usize, limit: usize },
    #[error("a command is not padded ASCII")]
    BadCommand,
    #[error("a `{command}` message has a wrong checksum")]
    WrongChecksum { command: String },
    #[error("a `{command}` message cannot be decoded: {error}")]
    Malformed { command: String, error: encode::Error },
    #[error("a packet does not authenticate: it was altered, or the two sides are out of step")]
    NotAuthentic,
    #[error("what follows the peer's key has no end")]
    NoGarbageTerminator,
    #[error("there is no such private key; another one has to be drawn")]
    NoKey,
}

/// Makes a frame of a message.
pub fn encode_frame(magic: Magic, message: NetworkMessage) -> Vec<u8> {
    Envelope::new(&message).frame(magic)
}

/// An encoded message that is on its way, however it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    command: CommandString,
    payload: Vec<u8>,
}

impl Envelope {
    /// Encodes a message.
    pub fn new(message: &NetworkMessage) -> Self {
        let mut payload = Vec::new();
        // Writing to a vector cannot fail.
        let written = message.consensus_encode(&mut payload);
        debug_assert!(written.is_ok());
        Self { command: message.command(), payload }
    }

    pub(crate) fn command(&self) -> &str {
        self.command.as_ref()
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Bytes that it takes in a frame, and about as many in a packet.
    pub fn frame_length(&self) -> usize {
        FRAME_HEADER.saturating_add(self.payload.len())
    }

    pub(crate) fn frame(&self, magic: Magic) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.frame_length());
        bytes.extend(magic.to_bytes());
        bytes.extend(self.command().bytes().chain(std::iter::repeat(0)).take(COMMAND));
        // A payload that is longer is refused by everybody.
        bytes.extend(u32::try_from(self.payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend(sha256d::Hash::hash(&self.payload).to_byte_array().into_iter().take(CHECKSUM));
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// Makes messages of a stream of bytes.
#[derive(Debug)]
pub struct FrameDecoder {
    magic: Magic,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were consumed.
    consumed: usize,
    /// Bytes still to come of a payload that is not read.
    skip: usize,
    last_frame_length: usize,
}

impl FrameDecoder {
    /// A decoder for the network with these first four bytes.
    pub fn new(magic: Magic) -> Self {
        Self { magic, buffer: Vec::new(), consumed: 0, skip: 0, last_frame_length: 0 }
    }

    /// Adds bytes as they came.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
        }
        let skipped = self.skip.min(bytes.len());
        if self.buffer.is_empty() {
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes of the frame that the last message came in.
    pub fn last_frame_length(&self) -> usize {
        self.last_frame_length
    }

    /// The next message, if its last byte has arrived. To be called until it gives `None` after each
    /// [`Self::feed`], so the buffer never holds much more than one message.
    pub fn next_message(&mut self) -> Result<Option<NetworkMessage>, FrameError> {
        loop {
            let bytes = self.buffer.get(self.consumed..).unwrap_or_default();
            let Some((header, rest)) = bytes.split_at_checked(FRAME_HEADER) else { return Ok(None) };
            let frame = FrameHeader::read(header, self.magic)?;
            if !READ.contains(&frame.command.as_str()) {
                let here = frame.length.min(rest.len());
                self.consumed += FRAME_HEADER + here;
                self.skip = frame.length - here;
                if self.skip > 0 {
                    return Ok(None);
                }
                continue;
            }
            let Some(bytes) = bytes.get(..FRAME_HEADER + frame.length) else {
                // Room for the rest at once, but never on the word of a peer that has sent nothing yet.
                if rest.len() > frame.length / 4 {
                    self.buffer.reserve(FRAME_HEADER + frame.length);
                }
                return Ok(None);
            };
            let message = RawNetworkMessage::consensus_decode_from_finite_reader(&mut &bytes[..]);
            self.consumed += bytes.len();
            self.last_frame_length = bytes.len();
            return match message {
                Ok(message) => Ok(Some(message.into_payload())),
                Err(encode::Error::InvalidChecksum { .. }) => Err(FrameError::WrongChecksum { command: frame.command }),
                Err(error) => Err(FrameError::Malformed { command: frame.command, error }),
            };
        }
    }
}

/// The name in a field of twelve bytes, if it is padded as it has to be.
pub(crate) fn command_name(field: &[u8; COMMAND]) -> Option<&str> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let (name, padding) = field.split_at(end);
    let is_sound = padding.iter().all(|byte| *byte == 0) && name.iter().all(|byte| (0x20..0x7f).contains(byte));
    std::str::from_utf8(name).ok().filter(|_| is_sound)
}

struct FrameHeader {
    command: String,
    length: usize,
}

impl FrameHeader {
    fn read(bytes: &[u8], wanted: Magic) -> Result<Self, FrameError> {
        let mut magic = [0u8; 4];
        let mut command = [0u8; COMMAND];
        let mut length = [0u8; 4];
        magic.copy_from_slice(bytes.get(..4).ok_or(FrameError::BadCommand)?);
        command.copy_from_slice(bytes.get(4..16).ok_or(FrameError::BadCommand)?);
        length.copy_from_slice(bytes.get(16..20).ok_or(FrameError::BadCommand)?);
        let got = Magic::from_bytes(magic);
        if got != wanted {
            return Err(FrameError::WrongMagic { got, wanted });
        }
        let command = command_name(&command).ok_or(FrameError::BadCommand)?.to_owned();
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD {
            return Err(FrameError::Oversized { length, limit: MAX_PAYLOAD });
        }
        Ok(Self { command, length })
    }
}

#[cfg(test)]
mod tests;
