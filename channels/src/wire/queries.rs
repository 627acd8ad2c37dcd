//! Asking for gossip (BOLT 7, Query Messages).

use std::borrow::Cow;

use bitcoin::constants::ChainHash;

use super::bigsize;
use super::codec::{DecodeError, Field, Reader, Record};
use crate::types::ShortChannelId;

/// The encoding byte of a plain array.
const PLAIN: u8 = 0;
/// The encoding byte of an array compressed by zlib.
const ZLIB: u8 = 1;
/// Bytes of the longest list that fits into a message in the plain encoding: a compressed one may not hold more.
pub(crate) const LONGEST_LIST: usize = 8 * ((65_535 - 32 - 2 - 1) / 8);

/// A list of channels behind an encoding byte. BOLT 7 has withdrawn zlib (1), and nothing is sent in it; but Electrum
/// before 4.7 asks in no other way (its `lnpeer.py`, `get_short_channel_ids`). Lists in other encodings are kept unread,
/// so that the receiver can warn and go on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum ShortIds {
    /// One after another.
    Plain(Vec<ShortChannelId>),
    /// Compressed by zlib, as it came.
    Zlib(Vec<u8>),
    /// In an encoding that is not read.
    Unsupported { encoding: u8, bytes: Vec<u8> },
}

impl ShortIds {
    /// The channels, if the encoding is one that we read.
    pub fn plain(&self) -> Option<&[ShortChannelId]> {
        match self {
            Self::Plain(ids) => Some(ids),
            Self::Zlib(_) | Self::Unsupported { .. } => None,
        }
    }

    /// The channels, out of a compressed list too; `None` if that is broken, or longer than a plain one could be.
    pub fn read(&self) -> Option<Cow<'_, [ShortChannelId]>> {
        match self {
            Self::Plain(ids) => Some(Cow::Borrowed(ids)),
            Self::Zlib(bytes) => {
                let list = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(bytes, LONGEST_LIST).ok()?;
                read_items(Reader::new(&list), 8).ok().map(Cow::Owned)
            }
            Self::Unsupported { .. } => None,
        }
    }
}

impl Field for ShortIds {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = usize::from(reader.field::<u16>()?);
        let mut bytes = Reader::new(reader.bytes(len)?);
        // LND takes a list of no bytes at all as an empty one; so do we.
        if bytes.is_empty() {
            return Ok(Self::Plain(Vec::new()));
        }
        match bytes.field::<u8>()? {
            PLAIN => read_items(bytes, 8).map(Self::Plain),
            ZLIB => Ok(Self::Zlib(bytes.take_rest().to_vec())),
            encoding => Ok(Self::Unsupported { encoding, bytes: bytes.take_rest().to_vec() }),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(ids) => {
                ((1 + ids.len() * 8) as u16).write(out);
                out.push(PLAIN);
                ids.iter().for_each(|id| id.write(out));
            }
            Self::Zlib(bytes) => {
                ((1 + bytes.len()) as u16).write(out);
                out.push(ZLIB);
                out.extend_from_slice(bytes);
            }
            Self::Unsupported { encoding, bytes } => {
                ((1 + bytes.len()) as u16).write(out);
                out.push(*encoding);
                out.extend_from_slice(bytes);
            }
        }
    }
}

fn read_items<T: Field>(mut reader: Reader<'_>, item_len: usize) -> Result<Vec<T>, DecodeError> {
    let mut items = Vec::with_capacity(reader.remaining() / item_len);
    while !reader.is_empty() {
        items.push(reader.field()?);
    }
    Ok(items)
}

message! {
    /// Asks for the announcements of these channels.
    QueryShortChannelIds = 261 {
        chain_hash: ChainHash,
        encoded_short_ids: ShortIds,
    }
    extension {
        /// One for each channel.
        1 => query_flags: QueryFlags,
    }
}

/// What is wanted of each channel of a [`QueryShortChannelIds`], behind an encoding byte.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum QueryFlags {
    /// One number a channel.
    Plain(Vec<u64>),
    /// In an encoding that is not read.
    Unsupported { encoding: u8, bytes: Vec<u8> },
}

impl QueryFlags {
    /// Its announcement.
    pub const CHANNEL_ANNOUNCEMENT: u64 = 1;
    /// The update of node 1.
    pub const CHANNEL_UPDATE_1: u64 = 2;
    /// The update of node 2.
    pub const CHANNEL_UPDATE_2: u64 = 4;
    /// The announcement of node 1.
    pub const NODE_ANNOUNCEMENT_1: u64 = 8;
    /// The announcement of node 2.
    pub const NODE_ANNOUNCEMENT_2: u64 = 16;
    /// Everything about a channel.
    pub const ALL: u64 = 31;
}

impl Record for QueryFlags {
    fn read_record(mut value: Reader<'_>) -> Result<Self, DecodeError> {
        match value.field::<u8>()? {
            PLAIN => {
                let mut flags = Vec::with_capacity(value.remaining());
                while !value.is_empty() {
                    flags.push(value.bigsize()?);
                }
                Ok(Self::Plain(flags))
            }
            encoding => Ok(Self::Unsupported { encoding, bytes: value.take_rest().to_vec() }),
        }
    }

    fn write_record(&self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(flags) => {
                out.push(PLAIN);
                flags.iter().for_each(|flag| bigsize::write(*flag, out));
            }
            Self::Unsupported { encoding, bytes } => {
                out.push(*encoding);
                out.extend_from_slice(bytes);
            }
        }
    }
}

message! {
    /// All that the sender has for a [`QueryShortChannelIds`] has been sent.
    ReplyShortChannelIdsEnd = 262 {
        chain_hash: ChainHash,
        /// 0: the sender does not keep up with this chain, ask somebody else.
        full_information: u8,
    }
}

message! {
    /// Asks which channels were funded in a range of blocks.
    QueryChannelRange = 263 {
        chain_hash: ChainHash,
        first_blocknum: u32,
        number_of_blocks: u32,
    }
    extension {
        1 => query_option: QueryOption,
    }
}

impl QueryChannelRange {
    /// The first block after the range.
    pub fn end(&self) -> u32 {
        self.first_blocknum.saturating_add(self.number_of_blocks)
    }
}

/// What a [`QueryChannelRange`] wants beside the channels' ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryOption(pub u64);

impl QueryOption {
    /// With the updates' timestamps.
    pub const WANT_TIMESTAMPS: u64 = 1;
    /// With the updates' checksums.
    pub const WANT_CHECKSUMS: u64 = 2;

    /// Whether timestamps are asked for.
    pub fn wants_timestamps(self) -> bool {
        self.0 & Self::WANT_TIMESTAMPS != 0
    }

    /// Whether checksums are asked for.
    pub fn wants_checksums(self) -> bool {
        self.0 & Self::WANT_CHECKSUMS != 0
    }
}

impl Record for QueryOption {
    fn read_record(mut value: Reader<'_>) -> Result<Self, DecodeError> {
        let flags = value.bigsize()?;
        value.finish()?;
        Ok(Self(flags))
    }

    fn write_record(&self, out: &mut Vec<u8>) {
        bigsize::write(self.0, out);
    }
}

message! {
    /// The channels funded in a part of the blocks that were asked for.
    ReplyChannelRange = 264 {
        chain_hash: ChainHash,
        first_blocknum: u32,
        number_of_blocks: u32,
        /// 1 in the last reply to a query. (Peers of old set it in each, see BOLT 7: the range decides, too.)
        sync_complete: u8,
        encoded_short_ids: ShortIds,
    }
    extension {
        1 => timestamps: Timestamps,
        3 => checksums: Checksums,
    }
}

impl ReplyChannelRange {
    /// The first block after the range.
    pub fn end(&self) -> u32 {
        self.first_blocknum.saturating_add(self.number_of_blocks)
    }
}

/// The timestamps of both updates of a channel; 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpdateTimestamps {
    /// Of the update of node 1, in seconds since 1970.
    pub timestamp_node_id_1: u32,
    /// Of the update of node 2, in seconds since 1970.
    pub timestamp_node_id_2: u32,
}

impl Field for UpdateTimestamps {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { timestamp_node_id_1: reader.field()?, timestamp_node_id_2: reader.field()? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.timestamp_node_id_1.write(out);
        self.timestamp_node_id_2.write(out);
    }
}

/// One entry a channel of the reply, behind an encoding byte.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Timestamps {
    /// One after another.
    Plain(Vec<UpdateTimestamps>),
    /// In an encoding that is not read.
    Unsupported { encoding: u8, bytes: Vec<u8> },
}

impl Record for Timestamps {
    fn read_record(mut value: Reader<'_>) -> Result<Self, DecodeError> {
        match value.field::<u8>()? {
            PLAIN => read_items(value, 8).map(Self::Plain),
            encoding => Ok(Self::Unsupported { encoding, bytes: value.take_rest().to_vec() }),
        }
    }

    fn write_record(&self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(items) => {
                out.push(PLAIN);
                items.iter().for_each(|item| item.write(out));
            }
            Self::Unsupported { encoding, bytes } => {
                out.push(*encoding);
                out.extend_from_slice(bytes);
            }
        }
    }
}

/// The CRC32C of both updates of a channel without signature and timestamp; 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpdateChecksums {
    /// Of the update of node 1.
    pub checksum_node_id_1: u32,
    /// Of the update of node 2.
    pub checksum_node_id_2: u32,
}

impl Field for UpdateChecksums {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { checksum_node_id_1: reader.field()?, checksum_node_id_2: reader.field()? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.checksum_node_id_1.write(out);
        self.checksum_node_id_2.write(out);
    }
}

/// One entry a channel of the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksums(pub Vec<UpdateChecksums>);

impl Record for Checksums {
    fn read_record(value: Reader<'_>) -> Result<Self, DecodeError> {
        read_items(value, 8).map(Self)
    }

    fn write_record(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|item| item.write(out));
    }
}

message! {
    /// From now on, relay gossip whose timestamp is in this range.
    GossipTimestampFilter = 265 {
        chain_hash: ChainHash,
        first_timestamp: u32,
        timestamp_range: u32,
    }
}

impl GossipTimestampFilter {
    /// Whether gossip of this time passes.
    pub fn contains(&self, timestamp: u32) -> bool {
        timestamp.checked_sub(self.first_timestamp).is_some_and(|since| since < self.timestamp_range)
    }
}
