//! How rows are written.

use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::{Hash, HashEngine};
use bitcoin::{BlockHash, OutPoint, Txid};
use leyden_consensus::Coin;

/// What is known of the block behind a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderStatus(u8);

impl HeaderStatus {
    /// Only the header is here.
    pub const HEADER: Self = Self(0);
    const BLOCK_STORED: u8 = 1;
    const INVALID: u8 = 2;

    /// The block's body is stored, too.
    #[must_use]
    pub fn with_block(self) -> Self {
        Self(self.0 | Self::BLOCK_STORED)
    }

    /// The block was found invalid.
    #[must_use]
    pub fn with_invalid(self) -> Self {
        Self(self.0 | Self::INVALID)
    }

    /// The block's body is not stored any more.
    #[must_use]
    pub fn without_block(self) -> Self {
        Self(self.0 & !Self::BLOCK_STORED)
    }

    /// Whether the block's body is stored.
    pub fn has_block(self) -> bool {
        self.0 & Self::BLOCK_STORED != 0
    }

    /// Whether the block itself was found invalid.
    pub fn is_invalid(self) -> bool {
        self.0 & Self::INVALID != 0
    }
}

/// A transaction's place in the active chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxPosition {
    /// The block's height.
    pub height: u32,
    /// Its place in the block; the coinbase is 0.
    pub index: u32,
}

impl TxPosition {
    pub(super) fn key(self) -> [u8; 8] {
        let mut key = [0; 8];
        let (height, index) = key.split_at_mut(4);
        height.copy_from_slice(&self.height.to_be_bytes());
        index.copy_from_slice(&self.index.to_be_bytes());
        key
    }

    pub(super) fn of_key(key: &[u8]) -> Option<Self> {
        let (height, index) = key.split_first_chunk()?;
        Some(Self { height: u32::from_be_bytes(*height), index: u32::from_be_bytes(index.try_into().ok()?) })
    }

    pub(super) fn encode(self) -> [u8; 8] {
        let mut value = [0; 8];
        let (height, index) = value.split_at_mut(4);
        height.copy_from_slice(&self.height.to_le_bytes());
        index.copy_from_slice(&self.index.to_le_bytes());
        value
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (height, rest) = take_u32(bytes)?;
        let (index, rest) = take_u32(rest)?;
        rest.is_empty().then_some(Self { height, index })
    }
}

/// The transaction of the active chain that spends an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpendRecord {
    /// The transaction that spends.
    pub txid: Txid,
    /// By which of its inputs.
    pub input: u32,
    /// The height of the block that holds it.
    pub height: u32,
}

impl SpendRecord {
    pub(super) fn encode(&self) -> [u8; 40] {
        let mut value = [0; 40];
        let (txid, place) = value.split_at_mut(32);
        let (input, height) = place.split_at_mut(4);
        txid.copy_from_slice(self.txid.as_byte_array());
        input.copy_from_slice(&self.input.to_le_bytes());
        height.copy_from_slice(&self.height.to_le_bytes());
        value
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (txid, rest) = bytes.split_at_checked(32)?;
        let (input, rest) = take_u32(rest)?;
        let (height, rest) = take_u32(rest)?;
        rest.is_empty().then_some(Self { txid: Txid::from_slice(txid).ok()?, input, height })
    }
}

pub(super) fn header_key(height: u32, hash: &BlockHash) -> Vec<u8> {
    let mut key = height.to_be_bytes().to_vec();
    key.extend_from_slice(hash.as_byte_array());
    key
}

pub(super) fn encode_header(header: &Header, status: HeaderStatus) -> Vec<u8> {
    let mut value = serialize(header);
    value.push(status.0);
    value
}

pub(super) fn decode_header(key: &[u8], value: &[u8]) -> Option<(BlockHash, Header, HeaderStatus)> {
    let hash = BlockHash::from_slice(key.get(4..)?).ok()?;
    let (status, header) = value.split_last()?;
    let header: Header = deserialize(header).ok()?;
    (header.block_hash() == hash).then_some((hash, header, HeaderStatus(*status)))
}

pub(super) fn outpoint_key(outpoint: &OutPoint) -> [u8; 36] {
    let mut key = [0; 36];
    let (txid, vout) = key.split_at_mut(32);
    txid.copy_from_slice(outpoint.txid.as_byte_array());
    vout.copy_from_slice(&outpoint.vout.to_be_bytes());
    key
}

pub(super) fn decode_outpoint(key: &[u8]) -> Option<OutPoint> {
    let (txid, vout) = key.split_at_checked(32)?;
    Some(OutPoint { txid: Txid::from_slice(txid).ok()?, vout: u32::from_be_bytes(vout.try_into().ok()?) })
}

/// A coin's part of the hash of all coins. Heights stay far below 2^31: at one block a second that is 68 years.
pub(crate) fn hash_coin(engine: &mut impl HashEngine, outpoint: &OutPoint, coin: &Coin) {
    let height_and_coinbase = coin.height.wrapping_shl(1) | u32::from(coin.is_coinbase);
    engine.input(outpoint.txid.as_byte_array());
    engine.input(&outpoint.vout.to_le_bytes());
    engine.input(&height_and_coinbase.to_le_bytes());
    engine.input(&serialize(&coin.output));
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_at_checked(4)?;
    Some((u32::from_le_bytes(number.try_into().ok()?), rest))
}
