//! A set of changes that is too large for memory, written whole or not at all all the same.
//!
//! ```text
//!   part ─▶ part ─▶ last part with the mark (synced) ─▶ its rows are moved to their families, some at a time ─▶ no mark
//!     rows wait in the family `staged`     │
//!     no mark: nothing has happened        └─ from here on readers find the waiting rows before any other
//! ```
//!
//! A waiting row's key is its family's place in the list of all, then its own key; its value is a byte that says whether
//! the row is set, then the value. Later parts win over earlier ones.
//!
//! What it promises: a start finds either none of the changes or all of them; whoever reads single rows sees the state
//! before or the state after; whoever reads a family whole waits until the rows are in it. At most [`MOVED_AT_ONCE`] bytes
//! of the changes are in memory at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bitcoin::OutPoint;
use leyden_consensus::Coin;
use rocksdb::{IteratorMode, WriteBatch};

use super::batch::{Batch, Change};
use super::{BatchKind, Durability, FORMAT, Store, Value, codec, family};
use crate::error::{NodeError, StoreError};
use crate::sync::lock;

/// The row of `meta` that says that all staged rows hold.
const MARK: &str = "staged";
/// Bytes of staged rows that are moved in one write.
const MOVED_AT_ONCE: usize = 8 << 20;
const REMOVED: u8 = 0;
const SET: u8 = 1;

/// What is known of the staged rows.
#[derive(Debug, Default)]
pub(super) struct Staging {
    /// Held while rows are moved, and while a family is read whole.
    pub(super) moving: Mutex<()>,
    /// The staged rows hold: they come before those of their families.
    is_marked: AtomicBool,
}

impl Store {
    /// Puts changes aside. They are not seen, nor found after a restart, before [`Self::commit_staged`].
    pub fn stage(&self, changes: &Batch) -> Result<(), NodeError> {
        let mut rows = WriteBatch::default();
        self.add_staged(&mut rows, changes)?;
        self.write(BatchKind::Staged, rows, Durability::Buffered)
    }

    /// Writes all staged changes and these after them, whole or not at all. [`Self::settle`] has to follow.
    pub fn commit_staged(&self, last: &Batch) -> Result<(), NodeError> {
        let _moving = lock(&self.staging.moving);
        let mut rows = WriteBatch::default();
        self.add_staged(&mut rows, last)?;
        let meta = self.family(family::META)?;
        rows.put_cf(meta, MARK, [SET]);
        // A program that does not know of the mark would take half of the changes for all.
        rows.put_cf(meta, "format", FORMAT.to_le_bytes());
        self.write(last.kind, rows, Durability::Synced)?;
        self.staging.is_marked.store(true, Ordering::Release);
        Ok(())
    }

    /// Moves the committed rows to their families.
    pub fn settle(&self) -> Result<(), NodeError> {
        self.move_rows(&lock(&self.staging.moving))
    }

    /// Forgets what was staged and not committed.
    pub fn discard_staged(&self) -> Result<(), NodeError> {
        let mut all = WriteBatch::default();
        let last = [u8::MAX];
        all.delete_range_cf(self.family(family::STAGED)?, &[][..], &last[..]);
        self.write(BatchKind::Staged, all, Durability::Buffered)
    }

    /// After a start: finishes what was committed, forgets what was not.
    pub(super) fn recover_staged(&self) -> Result<(), NodeError> {
        if self.get(family::META, MARK.as_bytes())?.is_some() {
            self.staging.is_marked.store(true, Ordering::Release);
            return self.settle();
        }
        if self.db.iterator_cf(self.family(family::STAGED)?, IteratorMode::Start).next().is_some() {
            self.discard_staged()?;
        }
        Ok(())
    }

    /// The coin as a step that is not committed yet has left it; `None` if the step has not touched it, or still has it in
    /// memory.
    pub fn staged_coin(&self, outpoint: &OutPoint) -> Result<Option<Option<Coin>>, StoreError> {
        match self.staged_row(family::COINS, &codec::outpoint_key(outpoint))? {
            None => Ok(None),
            Some(None) => Ok(Some(None)),
            Some(Some(bytes)) => {
                Coin::from_bytes(&bytes).map(|coin| Some(Some(coin))).map_err(|_| self.corrupt("a staged coin"))
            }
        }
    }

    /// A row as the committed changes leave it, while they wait to be moved.
    pub(super) fn committed_row(&self, family: &str, key: &[u8]) -> Result<Option<Option<Value<'_>>>, StoreError> {
        if !self.staging.is_marked.load(Ordering::Acquire) {
            return Ok(None);
        }
        self.staged_row(family, key)
    }

    fn staged_row(&self, family: &str, key: &[u8]) -> Result<Option<Option<Value<'_>>>, StoreError> {
        let Some(tag) = family::tag(family) else { return Ok(None) };
        let staged = self.family(family::STAGED)?;
        let key = [&[tag][..], key].concat();
        let Some(bytes) = self.db.get_pinned_cf(staged, key).map_err(|error| self.error(error))? else {
            return Ok(None);
        };
        Ok(Some((bytes.first() == Some(&SET)).then(|| Value { bytes, skip: 1 })))
    }

    fn add_staged(&self, rows: &mut WriteBatch, changes: &Batch) -> Result<(), StoreError> {
        let staged = self.family(family::STAGED)?;
        for Change { family, key, value } in changes.changes() {
            let tag = family::tag(family).ok_or_else(|| self.corrupt(&format!("column family {family}")))?;
            let key = [&[tag][..], key].concat();
            match value {
                Some(value) => rows.put_cf(staged, key, [&[SET][..], value].concat()),
                None => rows.put_cf(staged, key, [REMOVED]),
            }
        }
        Ok(())
    }

    /// A crash on the way does no harm: a row that was moved is moved again, or is already gone from here.
    pub(super) fn move_rows(&self, _moving: &std::sync::MutexGuard<'_, ()>) -> Result<(), NodeError> {
        if !self.staging.is_marked.load(Ordering::Acquire) {
            return Ok(());
        }
        let staged = self.family(family::STAGED)?;
        let mut batch = WriteBatch::default();
        for row in self.db.iterator_cf(staged, IteratorMode::Start) {
            let (key, value) = row.map_err(|error| self.error(error))?;
            let broken = || self.corrupt("a staged row");
            let (tag, own_key) = key.split_first().ok_or_else(broken)?;
            let name = family::ALL.get(usize::from(*tag)).ok_or_else(broken)?;
            match value.split_first() {
                Some((&SET, value)) => batch.put_cf(self.family(name)?, own_key, value),
                Some((&REMOVED, [])) => batch.delete_cf(self.family(name)?, own_key),
                Some(_) | None => return Err(broken().into()),
            }
            batch.delete_cf(staged, &key);
            if batch.size_in_bytes() >= MOVED_AT_ONCE {
                self.write(BatchKind::Settle, std::mem::take(&mut batch), Durability::Buffered)?;
            }
        }
        batch.delete_cf(self.family(family::META)?, MARK);
        self.write(BatchKind::Settle, batch, Durability::Buffered)?;
        self.staging.is_marked.store(false, Ordering::Release);
        Ok(())
    }
}
