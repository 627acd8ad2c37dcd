//! A set of changes that is written whole or not at all.

use bitcoin::block::Header;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, OutPoint, Txid};
use leyden_consensus::{BlockUndo, Coin};
use rocksdb::{ColumnFamily, WriteBatch};

use super::codec::{self, HeaderStatus, SpendRecord, TxPosition};
use super::{BatchKind, Store, family};
use crate::error::StoreError;

/// Changes on their way to [`Store::commit`].
pub struct Batch<'a> {
    pub(super) inner: WriteBatch,
    pub(super) kind: BatchKind,
    families: Families<'a>,
}

struct Families<'a> {
    meta: &'a ColumnFamily,
    headers: &'a ColumnFamily,
    blocks: &'a ColumnFamily,
    undo: &'a ColumnFamily,
    coins: &'a ColumnFamily,
    active: &'a ColumnFamily,
    txids: &'a ColumnFamily,
    positions: &'a ColumnFamily,
    spends: &'a ColumnFamily,
}

impl Store {
    /// An empty batch.
    pub fn batch(&self, kind: BatchKind) -> Result<Batch<'_>, StoreError> {
        let families = Families {
            meta: self.family(family::META)?,
            headers: self.family(family::HEADERS)?,
            blocks: self.family(family::BLOCKS)?,
            undo: self.family(family::UNDO)?,
            coins: self.family(family::COINS)?,
            active: self.family(family::ACTIVE)?,
            txids: self.family(family::TXIDS)?,
            positions: self.family(family::POSITIONS)?,
            spends: self.family(family::SPENDS)?,
        };
        Ok(Batch { inner: WriteBatch::default(), kind, families })
    }
}

impl Batch<'_> {
    pub(super) fn put_meta(&mut self, key: &str, value: &[u8]) {
        self.inner.put_cf(self.families.meta, key, value);
    }

    /// The active tip that the batch leads to.
    pub fn set_tip(&mut self, hash: &BlockHash) {
        self.put_meta("tip", hash.as_byte_array());
    }

    /// Adds a header, or changes what is known of its block.
    pub fn put_header(&mut self, height: u32, header: &Header, status: HeaderStatus) {
        let key = codec::header_key(height, &header.block_hash());
        self.inner.put_cf(self.families.headers, key, codec::encode_header(header, status));
    }

    /// Adds a block's body.
    pub fn put_block(&mut self, hash: &BlockHash, block: &Block) {
        self.inner.put_cf(self.families.blocks, hash.as_byte_array(), serialize(block));
    }

    /// Adds the coins that a block has spent, to disconnect it by.
    pub fn put_undo(&mut self, hash: &BlockHash, undo: &BlockUndo) {
        self.inner.put_cf(self.families.undo, hash.as_byte_array(), undo.to_bytes());
    }

    /// Sets the coin, or removes it.
    pub fn put_coin(&mut self, outpoint: &OutPoint, coin: Option<&Coin>) {
        let key = codec::outpoint_key(outpoint);
        match coin {
            Some(coin) => self.inner.put_cf(self.families.coins, key, coin.to_bytes()),
            None => self.inner.delete_cf(self.families.coins, key),
        }
    }

    /// The block and its transactions are now at this height of the active chain.
    pub fn put_active(&mut self, height: u32, hash: &BlockHash, block: &Block) {
        self.inner.put_cf(self.families.active, height.to_be_bytes(), hash.as_byte_array());
        for (index, transaction) in (0u32..).zip(&block.txdata) {
            let txid = transaction.compute_txid();
            let position = TxPosition { height, index };
            self.inner.put_cf(self.families.txids, txid.as_byte_array(), position.encode());
            self.inner.put_cf(self.families.positions, position.key(), txid.as_byte_array());
            if index > 0 {
                self.put_spends(transaction, &txid, height);
            }
        }
    }

    fn put_spends(&mut self, transaction: &bitcoin::Transaction, txid: &Txid, height: u32) {
        for (input, spent) in (0u32..).zip(&transaction.input) {
            let record = SpendRecord { txid: *txid, input, height };
            self.inner.put_cf(self.families.spends, codec::outpoint_key(&spent.previous_output), record.encode());
        }
    }

    /// The block and its transactions leave this height of the active chain.
    pub fn remove_active(&mut self, height: u32, block: &Block) {
        self.inner.delete_cf(self.families.active, height.to_be_bytes());
        for (index, transaction) in (0u32..).zip(&block.txdata) {
            let txid = transaction.compute_txid();
            self.inner.delete_cf(self.families.txids, txid.as_byte_array());
            self.inner.delete_cf(self.families.positions, TxPosition { height, index }.key());
            if index == 0 {
                continue;
            }
            for spent in &transaction.input {
                self.inner.delete_cf(self.families.spends, codec::outpoint_key(&spent.previous_output));
            }
        }
    }
}
