//! All coins, from one consistent snapshot.

use bitcoin::{BlockHash, OutPoint};
use leyden_consensus::Coin;
use rocksdb::IteratorMode;

use super::{Store, codec, family};
use crate::error::NodeError;
use crate::sync::lock;

impl Store {
    /// Shows every unspent output in the order of their outpoints, as they were at one moment, and returns the tip of
    /// that moment. Ends with the first error of `visit`.
    pub fn scan_coins(
        &self,
        mut visit: impl FnMut(&OutPoint, &Coin) -> Result<(), NodeError>,
    ) -> Result<BlockHash, NodeError> {
        let snapshot = {
            let moving = lock(&self.staging.moving);
            self.move_rows(&moving)?;
            self.db.snapshot()
        };
        let tip = snapshot.get_cf(self.family(family::META)?, b"tip").map_err(|error| self.error(error))?;
        let tip = tip.ok_or_else(|| self.corrupt("the tip")).and_then(|bytes| self.decode_hash(&bytes))?;
        for row in snapshot.iterator_cf(self.family(family::COINS)?, IteratorMode::Start) {
            let (key, value) = row.map_err(|error| self.error(error))?;
            let outpoint = codec::decode_outpoint(&key).ok_or_else(|| self.corrupt("a coin's key"))?;
            let coin = Coin::from_bytes(&value).map_err(|_| self.corrupt("a coin"))?;
            visit(&outpoint, &coin)?;
        }
        Ok(tip)
    }

    /// What the files of the unspent outputs take on the disk; 0 while they are all in memory.
    pub fn coins_bytes(&self) -> u64 {
        let size = |family| self.db.property_int_value_cf(family, "rocksdb.total-sst-files-size").ok().flatten();
        self.family(family::COINS).ok().and_then(size).unwrap_or(0)
    }
}
