//! The indexes of blocks at the end of the active chain, removed without their bodies: these are damaged.

use bitcoin::{BlockHash, OutPoint};
use rocksdb::{Direction, IteratorMode};

use super::{Batch, BatchKind, Durability, SpendRecord, Store, TxPosition, codec, family};
use crate::error::NodeError;

/// Rows that are removed in one write take at most this in memory.
const REMOVED_AT_ONCE: usize = 4 << 20;

impl Store {
    /// Makes the block at this height the tip, whose coins the rows must be already. Looks at every spend of the chain, which
    /// takes a while in a large one. A crash on the way leaves the old tip, and the way to be gone again.
    pub(crate) fn rewind_to(&self, height: u32, tip: &BlockHash) -> Result<(), NodeError> {
        let above = height.saturating_add(1);
        let mut batch = Batch::new(BatchKind::Tip);
        let spends = self.family(family::SPENDS)?;
        for row in self.db.iterator_cf(spends, IteratorMode::Start) {
            let (key, value) = row.map_err(|error| self.error(error))?;
            let record = SpendRecord::decode(&value).ok_or_else(|| self.corrupt("a spend"))?;
            let spent: OutPoint = codec::decode_outpoint(&key).ok_or_else(|| self.corrupt("a spend's key"))?;
            if record.height >= above {
                batch.delete(family::SPENDS, &codec::outpoint_key(&spent));
            }
            self.write_if_full(&mut batch)?;
        }
        let start = TxPosition { height: above, index: 0 }.key();
        let positions = self.family(family::POSITIONS)?;
        for row in self.db.iterator_cf(positions, IteratorMode::From(&start, Direction::Forward)) {
            let (key, txid) = row.map_err(|error| self.error(error))?;
            batch.delete(family::TXIDS, &txid);
            batch.delete(family::POSITIONS, &key);
            self.write_if_full(&mut batch)?;
        }
        let active = self.family(family::ACTIVE)?;
        for row in self.db.iterator_cf(active, IteratorMode::From(&above.to_be_bytes(), Direction::Forward)) {
            let (key, _) = row.map_err(|error| self.error(error))?;
            batch.delete(family::ACTIVE, &key);
        }
        batch.set_tip(tip);
        batch.set_coins_at(tip);
        self.commit(&batch, Durability::Synced)
    }

    fn write_if_full(&self, batch: &mut Batch) -> Result<(), NodeError> {
        if batch.memory() < REMOVED_AT_ONCE {
            return Ok(());
        }
        self.commit(&std::mem::replace(batch, Batch::new(BatchKind::Tip)), Durability::Buffered)
    }
}
