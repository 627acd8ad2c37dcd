//! A set of changes that is written whole or not at all.

use bitcoin::block::Header;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, OutPoint, Txid};
use leyden_consensus::{BlockUndo, Coin};

use super::codec::{self, HeaderStatus, SpendRecord, TxPosition};
use super::{BatchKind, family};

/// Changes on their way to [`Store::commit`](super::Store::commit).
pub struct Batch {
    pub(super) kind: BatchKind,
    /// Keys and values, one after the other.
    bytes: Vec<u8>,
    rows: Vec<RowRef>,
}

/// Where a row lies in the bytes.
#[derive(Clone, Copy, Debug)]
struct RowRef {
    family: &'static str,
    key: usize,
    /// `None` if the row is removed.
    value: Option<usize>,
}

/// Bytes of an input's row in `spends`, and of a transaction's rows in `positions` and `txids`, with their keys.
const SPEND_BYTES: usize = 36 + 40;
const PLACE_BYTES: usize = 2 * (32 + 8);

/// A row that is set, or removed if there is no value.
pub(super) struct Change<'a> {
    pub(super) family: &'static str,
    pub(super) key: &'a [u8],
    pub(super) value: Option<&'a [u8]>,
}

impl Batch {
    /// No changes yet.
    pub fn new(kind: BatchKind) -> Self {
        Self { kind, bytes: Vec::new(), rows: Vec::new() }
    }

    /// What it takes in memory.
    pub fn memory(&self) -> usize {
        self.bytes.len().saturating_add(self.rows.len().saturating_mul(size_of::<RowRef>()))
    }

    /// The changes in order.
    pub(super) fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        let mut rest = self.bytes.as_slice();
        self.rows.iter().map(move |row| {
            let mut take = |length: usize| {
                let (taken, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                rest = after;
                taken
            };
            let key = take(row.key);
            Change { family: row.family, key, value: row.value.map(take) }
        })
    }

    pub(super) fn put(&mut self, family: &'static str, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.rows.push(RowRef { family, key: key.len(), value: Some(value.len()) });
    }

    /// [`put`](Self::put) of a value that is appended where it stays.
    fn put_written(&mut self, family: &'static str, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(key);
        let before = self.bytes.len();
        write(&mut self.bytes);
        let value = self.bytes.len().saturating_sub(before);
        self.rows.push(RowRef { family, key: key.len(), value: Some(value) });
    }

    /// Makes room for so many rows of so many bytes together, keys and values.
    pub(crate) fn reserve(&mut self, rows: usize, bytes: usize) {
        self.rows.reserve(rows);
        self.bytes.reserve(bytes);
    }

    pub(super) fn delete(&mut self, family: &'static str, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.rows.push(RowRef { family, key: key.len(), value: None });
    }

    pub(super) fn put_meta(&mut self, key: &str, value: &[u8]) {
        self.put(family::META, key.as_bytes(), value);
    }

    /// The active tip that the batch leads to.
    pub fn set_tip(&mut self, hash: &BlockHash) {
        self.put_meta("tip", hash.as_byte_array());
    }

    /// Adds a header, or changes what is known of its block.
    pub fn put_header(&mut self, height: u32, header: &Header, status: HeaderStatus) {
        let key = codec::header_key(height, &header.block_hash());
        self.put(family::HEADERS, &key, &codec::encode_header(header, status));
    }

    /// Takes a header out again.
    pub fn remove_header(&mut self, height: u32, hash: &BlockHash) {
        self.delete(family::HEADERS, &codec::header_key(height, hash));
    }

    /// Adds a block's body.
    pub fn put_block(&mut self, hash: &BlockHash, block: &Block) {
        self.put_body(hash, &serialize(block));
    }

    /// Adds a block's body as bytes.
    pub(crate) fn put_body(&mut self, hash: &BlockHash, body: &[u8]) {
        self.put(family::BLOCKS, hash.as_byte_array(), body);
    }

    /// Adds the coins that a block has spent, to disconnect it by.
    pub fn put_undo(&mut self, hash: &BlockHash, undo: &BlockUndo) {
        self.put_written(family::UNDO, hash.as_byte_array(), |bytes| undo.put_bytes(bytes));
    }

    /// The block's body and undo data are no longer kept.
    pub fn remove_block(&mut self, hash: &BlockHash) {
        self.delete(family::BLOCKS, hash.as_byte_array());
        self.delete(family::UNDO, hash.as_byte_array());
    }

    /// Sets the coin, or removes it.
    pub fn put_coin(&mut self, outpoint: &OutPoint, coin: Option<&Coin>) {
        let key = codec::outpoint_key(outpoint);
        match coin {
            Some(coin) => self.put_written(family::COINS, &key, |bytes| coin.put_bytes(bytes)),
            None => self.delete(family::COINS, &key),
        }
    }

    /// The block and its transactions are now at this height of the active chain.
    pub fn put_active(&mut self, height: u32, hash: &BlockHash, block: &Block, txids: &[Txid]) {
        let inputs: usize = block.txdata.iter().map(|transaction| transaction.input.len()).sum();
        let (spends, places) = (inputs.saturating_mul(SPEND_BYTES), txids.len().saturating_mul(PLACE_BYTES));
        self.reserve(inputs.saturating_add(2 * txids.len()), spends.saturating_add(places));
        self.put(family::ACTIVE, &height.to_be_bytes(), hash.as_byte_array());
        let mut txids: Vec<(Txid, TxPosition)> =
            (0u32..).zip(txids).map(|(index, txid)| (*txid, TxPosition { height, index })).collect();
        for (txid, position) in &txids {
            self.put(family::POSITIONS, &position.key(), txid.as_byte_array());
        }
        let inputs = block.txdata.iter().zip(&txids).skip(1).flat_map(|(transaction, (txid, _))| {
            (0u32..).zip(&transaction.input).map(|(input, spent)| {
                let record = SpendRecord { txid: *txid, input, height };
                (spent.previous_output, record)
            })
        });
        let mut spends: Vec<(OutPoint, SpendRecord)> = inputs.collect();
        // In the order of the database, whose memory takes neighbours faster than it takes one here and one there.
        spends.sort_unstable_by_key(|(outpoint, _)| *outpoint);
        for (outpoint, record) in spends {
            self.put(family::SPENDS, &codec::outpoint_key(&outpoint), &record.encode());
        }
        txids.sort_unstable_by_key(|(txid, _)| *txid);
        for (txid, position) in txids {
            self.put(family::TXIDS, txid.as_byte_array(), &position.encode());
        }
    }

    pub(super) fn put_spends(&mut self, transaction: &bitcoin::Transaction, txid: &Txid, height: u32) {
        for (input, spent) in (0u32..).zip(&transaction.input) {
            let record = SpendRecord { txid: *txid, input, height };
            self.put(family::SPENDS, &codec::outpoint_key(&spent.previous_output), &record.encode());
        }
    }

    /// The block and its transactions leave this height of the active chain.
    pub fn remove_active(&mut self, height: u32, block: &Block) {
        self.delete(family::ACTIVE, &height.to_be_bytes());
        for (index, transaction) in (0u32..).zip(&block.txdata) {
            let txid = transaction.compute_txid();
            self.delete(family::TXIDS, txid.as_byte_array());
            self.delete(family::POSITIONS, &TxPosition { height, index }.key());
            if index == 0 {
                continue;
            }
            for spent in &transaction.input {
                self.delete(family::SPENDS, &codec::outpoint_key(&spent.previous_output));
            }
        }
    }
}
