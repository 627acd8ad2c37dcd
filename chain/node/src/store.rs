//! The database: column families, keys and values, and the one way to write them.
//!
//! | column family | key | value |
//! |---|---|---|
//! | `meta` | `format`, `genesis`, `tip` | format number, hash, hash |
//! | `meta` | `pruned`, `kept` | the lowest height whose block was not pruned; heights of blocks below that are kept ([`prune`]) |
//! | `headers` | height, hash | header, status byte |
//! | `blocks` | hash | block |
//! | `undo` | hash | the coins that the block spent |
//! | `meta` | `coins` | hash of the block to which the rows of `coins` belong; the tip if it is missing ([`coins`]) |
//! | `coins` | txid, output index | coin, as `leyden-consensus` packs it |
//! | `active` | height | hash of the active chain's block |
//! | `txids` | txid | height, index in the block (active chain) |
//! | `positions` | height, index in the block | txid (active chain) |
//! | `spends` | txid, output index | spending txid, input, height (active chain) |
//! | `filter_headers` | block hash | hash of the block's filter, filter header (BIP 157); in a light node the hash, or nothing |
//! | `filters` | block hash | the block's basic filter (BIP 158) |
//! | `proofs` | block hash | a light node's transactions of the block, each with its merkle branch |
//! | `watched` | script | nothing: a light node has looked at all blocks for it |
//! | `staged` | family, key | a row of a step that is too large for one batch ([`staged`]) |
//!
//! Integers in keys are big-endian, so that they sort; in values little-endian.
//!
//! What it promises: a [`Batch`] is written whole or not at all, after every batch that was written before it. A
//! batch whose [`Durability`] is `Synced` survives the loss of power together with all before it. After a failed
//! write nothing more is written: memory may be ahead of the disk, and only a restart brings them together.

mod batch;
mod codec;
mod coins;
mod filters;
mod light;
mod lost;
mod open;
mod prune;
mod rewind;
mod scan;
mod staged;

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, OnceLock};

use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{Amount, Block, BlockHash, OutPoint, Txid};
use leyden_consensus::BlockUndo;
use rocksdb::{ColumnFamily, DB, DBPinnableSlice, IteratorMode, WriteBatch, WriteOptions};
use tokio_util::sync::CancellationToken;

pub use batch::Batch;
pub(crate) use codec::hash_coin;
pub use codec::{HeaderStatus, SpendRecord, TxPosition};
use coins::Coins;
pub(crate) use coins::FLUSHED_AT_ONCE;
pub use coins::{StepCoin, UnflushedLimits};
pub(crate) use light::FilterWord;
pub use open::{FORMAT, OPEN_FILES, STEP_BYTES, StoreOptions};
pub use scan::Going;
use staged::Staging;

use crate::error::{NodeError, StoreError};
use crate::sync::lock;

/// Column families by name.
pub(crate) mod family {
    pub(crate) const META: &str = "meta";
    pub(crate) const HEADERS: &str = "headers";
    pub(crate) const BLOCKS: &str = "blocks";
    pub(crate) const UNDO: &str = "undo";
    pub(crate) const COINS: &str = "coins";
    pub(crate) const ACTIVE: &str = "active";
    pub(crate) const TXIDS: &str = "txids";
    pub(crate) const POSITIONS: &str = "positions";
    pub(crate) const SPENDS: &str = "spends";
    pub(crate) const STAGED: &str = "staged";
    pub(crate) const FILTER_HEADERS: &str = "filter_headers";
    pub(crate) const FILTERS: &str = "filters";
    pub(crate) const PROOFS: &str = "proofs";
    pub(crate) const WATCHED: &str = "watched";
    /// A family's place in this list is written to the disk: new ones come last.
    pub(crate) const ALL: [&str; 14] = [
        META,
        HEADERS,
        BLOCKS,
        UNDO,
        COINS,
        ACTIVE,
        TXIDS,
        POSITIONS,
        SPENDS,
        STAGED,
        FILTER_HEADERS,
        FILTERS,
        PROOFS,
        WATCHED,
    ];

    /// A family's place in the list.
    pub(crate) fn tag(name: &str) -> Option<u8> {
        ALL.iter().position(|known| *known == name).and_then(|place| u8::try_from(place).ok())
    }
}

/// Does a write have to survive the loss of power before anything else happens?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It reaches the disk at the latest with the next synced write, and in order.
    Buffered,
    /// It is on the disk when the call returns.
    Synced,
}

/// A moment at which a test may make a write fail, as if the process died there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WritePoint {
    /// Nothing of the batch is written.
    Before(BatchKind),
    /// All of it is.
    After(BatchKind),
}

/// What a batch is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BatchKind {
    /// The first batch of a new database.
    Genesis,
    /// Headers that joined the tree.
    Headers,
    /// A block's body.
    Block,
    /// A step from one tip to another.
    Tip,
    /// A block that turned out invalid.
    Invalid,
    /// A part of a step that is too large for one batch, or its removal.
    Staged,
    /// Rows of such a step on their way to their families.
    Settle,
    /// Coins of steps that were written before.
    Coins,
    /// Filters of blocks that were connected without one.
    Filters,
    /// Bodies and undo data that are no longer kept.
    Prune,
}

/// Called around every write; an `Err` stops the store there. For tests of crashes.
pub type WriteHook = Arc<dyn Fn(WritePoint) -> Result<(), String> + Send + Sync>;

/// Which way rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Parents before children.
    LowestFirst,
    /// Children before parents.
    HighestFirst,
}

/// A header and what is known of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderRow {
    /// The header's block hash.
    pub hash: BlockHash,
    /// The header itself.
    pub header: Header,
    /// Whether the block is stored, and whether it is invalid.
    pub status: HeaderStatus,
}

/// A column family's name, a key and its value.
pub type Row = (&'static str, Vec<u8>, Vec<u8>);

/// The unspent outputs as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtxoStats {
    /// What Bitcoin Core calls `hash_serialized_3`: SHA-256d over all coins in the order of txid and index, each as
    /// outpoint, 32-bit height and coinbase flag, and output.
    pub hash: sha256d::Hash,
    /// How many outputs are unspent.
    pub coins: u64,
    /// What they are worth together.
    pub amount: Amount,
}

/// Blocks kept in memory, because several readers want each new one: so many, or as many as have so many bytes together. In
/// memory a block of payments takes some three times its bytes.
const RECENT_BLOCKS: usize = 16;
const RECENT_BYTES: usize = 8 << 20;

/// A block that was stored or read lately.
struct RecentBlock {
    hash: BlockHash,
    block: Arc<Block>,
    bytes: usize,
}

/// The open database. It is closed, and its lock released, when the last handle to it is dropped.
pub struct Store {
    db: DB,
    path: PathBuf,
    sync: bool,
    hook: Option<WriteHook>,
    halted: OnceLock<StoreError>,
    /// Cancelled once [`Self::halted`] is set.
    halt: CancellationToken,
    recent: Mutex<VecDeque<RecentBlock>>,
    step_bytes: usize,
    keeps_filters: bool,
    staging: Staging,
    coins: Coins,
    lost: Mutex<BTreeSet<BlockHash>>,
    /// The lowest height whose block was not pruned; 0 if none was.
    pruned_below: AtomicU32,
    /// Held for its lock; declared last, so released after the database is closed.
    _lock: File,
}

/// A row's value.
struct Value<'a> {
    bytes: DBPinnableSlice<'a>,
    /// Bytes that come before it.
    skip: usize,
}

impl std::ops::Deref for Value<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.skip..).unwrap_or_default()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// The database's folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the batch whole or not at all.
    pub fn commit(&self, batch: &Batch, durability: Durability) -> Result<(), NodeError> {
        let families = self.families()?;
        // A row is a kind, a family and two lengths before its key and value.
        let mut rows = WriteBatch::with_capacity_bytes(batch.memory());
        let mut last = None;
        for batch::Change { family, key, value } in batch.changes() {
            // Most rows are of the family of the one before.
            let handle = match last {
                Some((name, handle)) if name == family => handle,
                _ => {
                    let place = family::tag(family).map(usize::from).and_then(|tag| families.get(tag));
                    *place.ok_or_else(|| self.corrupt(&format!("column family {family}")))?
                }
            };
            last = Some((family, handle));
            match value {
                Some(value) => rows.put_cf(handle, key, value),
                None => rows.delete_cf(handle, key),
            }
        }
        self.write(batch.kind, rows, durability)
    }

    fn write(&self, kind: BatchKind, rows: WriteBatch, durability: Durability) -> Result<(), NodeError> {
        self.check_running()?;
        self.at(WritePoint::Before(kind))?;
        let mut options = WriteOptions::default();
        options.set_sync(self.sync && durability == Durability::Synced);
        if let Err(error) = self.db.write_opt(rows, &options) {
            let error = self.error(error);
            return Err(self.halt(error));
        }
        self.at(WritePoint::After(kind))
    }

    /// Fails if an earlier write did.
    pub fn check_running(&self) -> Result<(), NodeError> {
        match self.halted.get() {
            Some(error) => Err(NodeError::Halted(error.clone())),
            None => Ok(()),
        }
    }

    fn at(&self, point: WritePoint) -> Result<(), NodeError> {
        let Some(hook) = &self.hook else { return Ok(()) };
        hook(point).map_err(|detail| self.halt(StoreError::Io { path: self.path.clone(), detail }))
    }

    fn halt(&self, error: StoreError) -> NodeError {
        tracing::error!(%error, "a write failed; the node stops");
        let first = self.halted.get_or_init(|| error).clone();
        self.halt.cancel();
        NodeError::Halted(first)
    }

    /// Resolves when a write has failed, with what every write fails with from then on.
    pub async fn until_halted(&self) -> StoreError {
        loop {
            self.halt.cancelled().await;
            if let Some(error) = self.halted.get() {
                return error.clone();
            }
        }
    }

    /// The active tip, up to which undo data and indexes are written; `None` in a new database.
    pub fn tip(&self) -> Result<Option<BlockHash>, StoreError> {
        self.get(family::META, b"tip")?.map(|bytes| self.decode_hash(&bytes)).transpose()
    }

    /// All headers by their height.
    pub fn headers(&self, order: Order) -> impl Iterator<Item = Result<HeaderRow, StoreError>> + '_ {
        let family = self.family(family::HEADERS);
        let mode = match order {
            Order::LowestFirst => IteratorMode::Start,
            Order::HighestFirst => IteratorMode::End,
        };
        let rows = family.map(|family| self.db.iterator_cf(family, mode));
        let (rows, failure) = match rows {
            Ok(rows) => (Some(rows), None),
            Err(error) => (None, Some(Err(error))),
        };
        rows.into_iter()
            .flatten()
            .map(|row| {
                let (key, value) = row.map_err(|error| self.error(error))?;
                let (hash, header, status) =
                    codec::decode_header(&key, &value).ok_or_else(|| self.corrupt("a header record"))?;
                Ok(HeaderRow { hash, header, status })
            })
            .chain(failure)
    }

    /// The block, whether or not it is of the active chain. One that is damaged is as good as none, and is noted as
    /// [lost](Self::lost_blocks).
    pub fn block(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, StoreError> {
        let recent = lock(&self.recent);
        if let Some(recent) = recent.iter().find(|recent| recent.hash == *hash) {
            return Ok(Some(Arc::clone(&recent.block)));
        }
        drop(recent);
        let block = self.block_on_disk(hash)?.map(Arc::new);
        if let Some(block) = &block {
            self.remember(*hash, block, block.total_size());
        }
        Ok(block)
    }

    /// [`block`](Self::block), whatever is in memory.
    pub(crate) fn block_on_disk(&self, hash: &BlockHash) -> Result<Option<Block>, StoreError> {
        let bytes = match self.get(family::BLOCKS, hash.as_byte_array()) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => bytes,
            Err(error @ StoreError::Corrupt { .. }) => {
                self.note_lost(*hash, &error);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let block = deserialize::<Block>(&bytes);
        if block.is_err() {
            self.note_lost(*hash, &self.corrupt("a block"));
        }
        Ok(block.ok())
    }

    /// Keeps a block at hand that was just stored, with the length of its body.
    pub(crate) fn remember(&self, hash: BlockHash, block: &Arc<Block>, bytes: usize) {
        let mut recent = lock(&self.recent);
        if recent.iter().any(|known| known.hash == hash) {
            return;
        }
        recent.push_back(RecentBlock { hash, block: Arc::clone(block), bytes });
        let mut left = recent.iter().fold(0usize, |sum, known| sum.saturating_add(known.bytes));
        // The last one stays whatever its size.
        while recent.len() > 1 && (recent.len() > RECENT_BLOCKS || left > RECENT_BYTES) {
            left = left.saturating_sub(recent.pop_front().map_or(0, |known| known.bytes));
        }
    }

    /// The coins that the block spent, if it was ever connected.
    pub fn undo(&self, hash: &BlockHash) -> Result<Option<BlockUndo>, StoreError> {
        let Some(bytes) = self.get(family::UNDO, hash.as_byte_array())? else { return Ok(None) };
        BlockUndo::from_bytes(&bytes).map(Some).map_err(|_| self.corrupt("undo data"))
    }

    /// Hash of the active chain's block at this height.
    pub fn active_hash(&self, height: u32) -> Result<Option<BlockHash>, StoreError> {
        self.get(family::ACTIVE, &height.to_be_bytes())?.map(|bytes| self.decode_hash(&bytes)).transpose()
    }

    /// Where the active chain holds the transaction.
    pub fn position(&self, txid: &Txid) -> Result<Option<TxPosition>, StoreError> {
        let Some(bytes) = self.get(family::TXIDS, txid.as_byte_array())? else { return Ok(None) };
        TxPosition::decode(&bytes).map(Some).ok_or_else(|| self.corrupt("a transaction's position"))
    }

    /// The transaction at this place of the active chain.
    pub fn txid_at(&self, position: TxPosition) -> Result<Option<Txid>, StoreError> {
        let Some(bytes) = self.get(family::POSITIONS, &position.key())? else { return Ok(None) };
        Txid::from_slice(&bytes).map(Some).map_err(|_| self.corrupt("a transaction id"))
    }

    /// Which transaction of the active chain spends the output.
    pub fn spend(&self, outpoint: &OutPoint) -> Result<Option<SpendRecord>, StoreError> {
        let Some(bytes) = self.get(family::SPENDS, &codec::outpoint_key(outpoint))? else { return Ok(None) };
        SpendRecord::decode(&bytes).map(Some).ok_or_else(|| self.corrupt("a spend"))
    }

    /// Memory for the changes of one step; what is more waits on the disk.
    pub(crate) fn step_bytes(&self) -> usize {
        self.step_bytes
    }

    /// Bytes of the database's files.
    pub(crate) fn disk_bytes(&self) -> Result<u64, StoreError> {
        let io = |error: std::io::Error| StoreError::Io { path: self.path.clone(), detail: error.to_string() };
        let mut bytes = 0u64;
        for entry in std::fs::read_dir(&self.path).map_err(io)? {
            // A file that has just gone takes nothing.
            bytes = bytes.saturating_add(entry.map_err(io)?.metadata().map_or(0, |data| data.len()));
        }
        Ok(bytes)
    }

    /// Whether blocks get filters when they are connected.
    pub(crate) fn keeps_filters(&self) -> bool {
        self.keeps_filters
    }

    /// The tip and its unspent outputs, from one consistent snapshot.
    pub fn utxo_set(&self) -> Result<(BlockHash, UtxoStats), NodeError> {
        let mut engine = sha256d::Hash::engine();
        let mut coins = 0u64;
        let mut amount = Amount::ZERO;
        let tip = self.scan_coins(|outpoint, coin| {
            hash_coin(&mut engine, outpoint, coin);
            coins = coins.saturating_add(1);
            amount = amount.checked_add(coin.output.value).ok_or_else(|| self.corrupt("a coin's amount"))?;
            Ok(Going::On)
        })?;
        Ok((tip, UtxoStats { hash: sha256d::Hash::from_engine(engine), coins, amount }))
    }

    /// Every row of every column family, for comparing states byte by byte.
    pub fn dump(&self) -> Result<Vec<Row>, NodeError> {
        let moving = lock(&self.staging.moving);
        self.move_rows(&moving)?;
        self.flush(&moving)?;
        let mut rows = Vec::new();
        for name in family::ALL {
            for row in self.db.iterator_cf(self.family(name)?, IteratorMode::Start) {
                let (key, value) = row.map_err(|error| self.error(error))?;
                rows.push((name, key.into_vec(), value.into_vec()));
            }
        }
        Ok(rows)
    }

    fn get(&self, family: &str, key: &[u8]) -> Result<Option<Value<'_>>, StoreError> {
        if let Some(row) = self.committed_row(family, key)? {
            return Ok(row);
        }
        let bytes = self.db.get_pinned_cf(self.family(family)?, key).map_err(|error| self.error(error))?;
        Ok(bytes.map(|bytes| Value { bytes, skip: 0 }))
    }

    /// All families in the order of [`family::ALL`].
    fn families(&self) -> Result<Vec<&ColumnFamily>, StoreError> {
        family::ALL.iter().map(|name| self.family(name)).collect()
    }

    fn family(&self, name: &str) -> Result<&ColumnFamily, StoreError> {
        self.db.cf_handle(name).ok_or_else(|| self.corrupt(&format!("column family {name}")))
    }

    fn decode_hash(&self, bytes: &[u8]) -> Result<BlockHash, StoreError> {
        BlockHash::from_slice(bytes).map_err(|_| self.corrupt("a block hash"))
    }

    fn corrupt(&self, what: &str) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), detail: format!("{what} cannot be read") }
    }

    fn error(&self, error: rocksdb::Error) -> StoreError {
        open::classify(&self.path, &error)
    }
}
