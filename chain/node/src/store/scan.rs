//! Many rows at once, from one consistent snapshot.

use std::ops::RangeInclusive;

use bitcoin::{BlockHash, OutPoint};
use leyden_consensus::Coin;
use rocksdb::IteratorMode;

use super::{Store, TxPosition, codec, family};
use crate::error::NodeError;
use crate::sync::lock;

/// Whether more rows are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    /// They are.
    On,
    /// What was seen is enough.
    Stop,
}

impl Store {
    /// Shows every unspent output in the order of their outpoints, as they were at one moment, and returns the tip of
    /// that moment. Ends where `visit` says so, or with its first error.
    pub fn scan_coins(
        &self,
        mut visit: impl FnMut(&OutPoint, &Coin) -> Result<Going, NodeError>,
    ) -> Result<BlockHash, NodeError> {
        let snapshot = self.snapshot()?;
        let tip = snapshot.get_cf(self.family(family::META)?, b"tip").map_err(|error| self.error(error))?;
        let tip = tip.ok_or_else(|| self.corrupt("the tip")).and_then(|bytes| self.decode_hash(&bytes))?;
        for row in snapshot.iterator_cf(self.family(family::COINS)?, IteratorMode::Start) {
            let (key, value) = row.map_err(|error| self.error(error))?;
            let outpoint = codec::decode_outpoint(&key).ok_or_else(|| self.corrupt("a coin's key"))?;
            let coin = Coin::from_bytes(&value).map_err(|_| self.corrupt("a coin"))?;
            match visit(&outpoint, &coin)? {
                Going::On => {}
                Going::Stop => break,
            }
        }
        Ok(tip)
    }

    /// How many transactions the active chain's blocks of these heights have, one number a block from the lowest on. Ends
    /// early where the chain does, and with the first error of `count`.
    pub fn transaction_counts(
        &self,
        heights: RangeInclusive<u32>,
        mut count: impl FnMut(u32) -> Result<(), NodeError>,
    ) -> Result<(), NodeError> {
        let snapshot = self.snapshot()?;
        let mut rows = snapshot.raw_iterator_cf(self.family(family::POSITIONS)?);
        for height in heights {
            // A block's last transaction says how many there are.
            rows.seek_for_prev(TxPosition { height, index: u32::MAX }.key());
            rows.status().map_err(|error| self.error(error))?;
            let last = rows.key().map(|key| TxPosition::of_key(key).ok_or_else(|| self.corrupt("a position's key")));
            match last.transpose()? {
                Some(last) if last.height == height => count(last.index.saturating_add(1))?,
                Some(_) | None => return Ok(()),
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<rocksdb::Snapshot<'_>, NodeError> {
        let moving = lock(&self.staging.moving);
        self.move_rows(&moving)?;
        self.flush(&moving)?;
        Ok(self.db.snapshot())
    }

    /// What the files of the unspent outputs take on the disk; 0 while they are all in memory.
    pub fn coins_bytes(&self) -> u64 {
        let size = |family| self.db.property_int_value_cf(family, "rocksdb.total-sst-files-size").ok().flatten();
        self.family(family::COINS).ok().and_then(size).unwrap_or(0)
    }
}
