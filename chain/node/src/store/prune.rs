//! What is left of the bodies of old blocks, and what they take on the disk.
//!
//! A pruned block keeps its header and its rows in the indexes; its body and its undo data are gone. Which blocks these are
//! is two rows of `meta`: the height below which blocks are pruned, and the heights below it whose blocks somebody needed at
//! the time. They change in the batch that removes the bodies.

use std::sync::atomic::Ordering;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use rocksdb::Direction;
use rocksdb::IteratorMode;

use super::{Batch, FORMAT, HeaderRow, Store, codec, family};
use crate::error::StoreError;

/// The row of `meta` with the height below which blocks are pruned.
const PRUNED: &str = "pruned";
/// The row of `meta` with the heights below it whose blocks are kept.
const KEPT: &str = "kept";

/// RocksDB's measures of what a family has on the disk and in memory, in bytes.
const MEASURES: [&str; 3] =
    ["rocksdb.total-sst-files-size", "rocksdb.total-blob-file-size", "rocksdb.cur-size-all-mem-tables"];

impl Store {
    /// Blocks of the active chain lower than this are pruned, but for [`Self::kept_blocks`] and the genesis block; 0 if none
    /// ever was.
    pub fn pruned_below(&self) -> u32 {
        self.pruned_below.load(Ordering::Acquire)
    }

    pub(super) fn load_pruned(&self) -> Result<(), StoreError> {
        if let Some(bytes) = self.get(family::META, PRUNED.as_bytes())? {
            let height = <[u8; 4]>::try_from(&bytes[..]).map_err(|_| self.corrupt("the height of pruned blocks"))?;
            self.pruned_below.store(u32::from_le_bytes(height), Ordering::Release);
        }
        Ok(())
    }

    /// Heights below [`Self::pruned_below`] whose blocks were not pruned.
    pub fn kept_blocks(&self) -> Result<Vec<u32>, StoreError> {
        let Some(bytes) = self.get(family::META, KEPT.as_bytes())? else { return Ok(Vec::new()) };
        let (heights, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(self.corrupt("the heights of kept blocks"));
        }
        Ok(heights.iter().map(|height| u32::from_le_bytes(*height)).collect())
    }

    /// To be called once the batch is committed that [`Batch::set_pruned`] put this height into.
    pub(crate) fn note_pruned(&self, below: u32) {
        self.pruned_below.store(below, Ordering::Release);
    }

    /// Bytes of a block's body and undo data; 0 if they are not stored.
    pub(crate) fn block_bytes(&self, hash: &BlockHash) -> Result<u64, StoreError> {
        let length = |family| -> Result<u64, StoreError> {
            Ok(self.get(family, hash.as_byte_array())?.map_or(0, |bytes| bytes.len() as u64))
        };
        Ok(length(family::BLOCKS)?.saturating_add(length(family::UNDO)?))
    }

    /// All headers of this height.
    pub(crate) fn headers_at(&self, height: u32) -> Result<Vec<HeaderRow>, StoreError> {
        let start = height.to_be_bytes();
        let rows = self.db.iterator_cf(self.family(family::HEADERS)?, IteratorMode::From(&start, Direction::Forward));
        let mut found = Vec::new();
        for row in rows {
            let (key, value) = row.map_err(|error| self.error(error))?;
            if !key.starts_with(&start) {
                break;
            }
            let (hash, header, status) =
                codec::decode_header(&key, &value).ok_or_else(|| self.corrupt("a header record"))?;
            found.push(HeaderRow { hash, header, status });
        }
        Ok(found)
    }

    /// What all bodies and undo data take, in bytes, with what is not collected yet.
    pub fn bodies_bytes(&self) -> Result<u64, StoreError> {
        let mut bytes = 0u64;
        for name in [family::BLOCKS, family::UNDO] {
            let handle = self.family(name)?;
            for measure in MEASURES {
                let value = self.db.property_int_value_cf(handle, measure).map_err(|error| self.error(error))?;
                bytes = bytes.saturating_add(value.unwrap_or(0));
            }
        }
        Ok(bytes)
    }

    /// Gives the room of removed bodies back to the file system. Takes as long as it takes to read the keys of all that are
    /// left.
    pub fn collect_removed(&self) -> Result<(), StoreError> {
        for name in [family::BLOCKS, family::UNDO] {
            let handle = self.family(name)?;
            self.db.flush_cf(handle).map_err(|error| self.error(error))?;
            self.db.compact_range_cf(handle, None::<&[u8]>, None::<&[u8]>);
        }
        Ok(())
    }
}

impl Batch {
    /// Blocks below this height are pruned, but for those at `kept`.
    pub fn set_pruned(&mut self, below: u32, kept: &[u32]) {
        // A program that does not know of it would look for the bodies.
        self.put_meta("format", &FORMAT.to_le_bytes());
        self.put_meta(PRUNED, &below.to_le_bytes());
        let kept: Vec<u8> = kept.iter().flat_map(|height| height.to_le_bytes()).collect();
        self.put_meta(KEPT, &kept);
    }
}
