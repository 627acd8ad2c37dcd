//! The watchtower's database.
//!
//! ```text
//!   rows      clients, channels, breaches and what is done about them: few, rewritten often
//!   backups   sealed kits and HTLCs of own channels: a million and more, written once
//!   hints     which backups a transaction may concern: keys alone, all read at the start
//!   meta      the format version
//! ```
//!
//! It is not a part of the node's database: a tower guards while the node's wallet is locked, or without a node, and whoever
//! gives up being a tower deletes one folder.
//!
//! Promises: what was committed is on the disk when the call returns, whole or not at all; space is given back when enough
//! was deleted to be worth it ([`TowerStore::reclaim`]).

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use leyden_channels::channel::{Persist, Write};
use leyden_watchtower::{
    codec::ReadError,
    hint::Hint,
    record::{Archive, Key, Table, Unread},
};
use rocksdb::{BlockBasedOptions, ColumnFamily, DB, Options, ReadOptions, WriteBatch, WriteOptions};
use tracing::error;

use super::rocks::{StoreError, open_database, stored_format};
use crate::counters::{Commit, Counters, Database};

const FORMAT: u32 = 1;

const ROWS: &str = "rows";
const BACKUPS: &str = "backups";
const HINTS: &str = "hints";
const META: &str = "meta";
const FAMILIES: [&str; 4] = [ROWS, BACKUPS, HINTS, META];

const META_FORMAT: &[u8] = b"format";

/// In how many ranges the hints are read at the start, at the same time. A disk answers several readers faster than one, and
/// two cores are kept busy when one range is done early.
const HINT_RANGES: u8 = 8;
/// How much of a range is read ahead.
const READ_AHEAD: usize = 2 << 20;

/// Rows that were deleted before the disk is asked to give their space back: some 15 MB of backups without HTLCs.
const RECLAIM_LEAST: u64 = 65_536;
/// And the part of all rows that they must be: what is compacted is read and written once for eight that were deleted.
const RECLAIM_PART: u64 = 8;

/// What is read at a time. Rows are small and found one by one only after a breach; larger blocks have a smaller index, which
/// saves a byte or two of each state.
const BLOCK_SIZE: usize = 16 << 10;
/// What a table gathers in memory before it is written out.
const WRITE_BUFFER: usize = 16 << 20;

const fn family_of(table: Table) -> &'static str {
    match table {
        Table::Backup | Table::OwnHtlc => BACKUPS,
        Table::Hint => HINTS,
        Table::Tip
        | Table::Client
        | Table::Channel
        | Table::Held
        | Table::OwnState
        | Table::Breach
        | Table::Response
        | Table::Enforcement
        | Table::Recent
        | Table::Leaving
        | Table::Closed => ROWS,
    }
}

const fn table_of(key: &Key) -> Table {
    match key {
        Key::Tip => Table::Tip,
        Key::Client(_) => Table::Client,
        Key::Channel(_) => Table::Channel,
        Key::Held(_) => Table::Held,
        Key::Backup { .. } => Table::Backup,
        Key::Hint { .. } => Table::Hint,
        Key::OwnState(_) => Table::OwnState,
        Key::OwnHtlc { .. } => Table::OwnHtlc,
        Key::Breach { .. } => Table::Breach,
        Key::Response { .. } => Table::Response,
        Key::Enforcement(_) => Table::Enforcement,
        Key::Recent(_) => Table::Recent,
        Key::Leaving(_) => Table::Leaving,
        Key::Closed { .. } => Table::Closed,
    }
}

fn set_family_options(options: &mut Options) {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_size(BLOCK_SIZE);
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(WRITE_BUFFER);
}

/// The open database; clones share it.
#[derive(Clone)]
pub(crate) struct TowerStore {
    db: Arc<DB>,
    path: Arc<Path>,
    /// Backups deleted since space was last given back.
    deleted: Arc<AtomicU64>,
    /// Keys that a scan has come by and that are none.
    unnamed: Arc<Mutex<BTreeSet<Vec<u8>>>>,
}

impl TowerStore {
    /// Opens or creates the database at `path`, with so many files open at once.
    pub(crate) fn open(path: &Path, open_files: u32) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.set_max_total_wal_size(128 << 20);
        let db = open_database(path, options, open_files, &FAMILIES, set_family_options)?;
        let store = Self { db: Arc::new(db), path: path.into(), deleted: Arc::default(), unnamed: Arc::default() };
        let stored =
            store.db.get_cf(store.family(META)?, META_FORMAT).map_err(|error| store.damaged(error.as_ref()))?;
        if stored_format(path, stored, FORMAT)?.is_none() {
            let mut batch = WriteBatch::default();
            batch.put_cf(store.family(META)?, META_FORMAT, FORMAT.to_be_bytes());
            store.write(batch)?;
        }
        Ok(store)
    }

    /// All hints, sorted.
    pub(crate) fn hints(&self) -> Result<Vec<Hint>, StoreError> {
        let ranges: Vec<(u8, Option<u8>)> = (0..HINT_RANGES)
            .map(|range| {
                let begin = |range: u8| range.saturating_mul(u8::MAX / HINT_RANGES + 1);
                (begin(range), (range + 1 < HINT_RANGES).then(|| begin(range + 1)))
            })
            .collect();
        let read = thread::scope(|scope| {
            let readers: Vec<_> =
                ranges.into_iter().map(|(from, to)| scope.spawn(move || self.hints_between(from, to))).collect();
            let ended = readers.into_iter().map(|reader| reader.join());
            ended.map(|read| read.unwrap_or_else(|_| Err(self.damaged("a reader of the hints ended")))).collect()
        });
        let read: Result<Vec<Vec<Hint>>, StoreError> = read;
        Ok(read?.concat())
    }

    /// Hints whose first byte is at least `from` and below `to`.
    fn hints_between(&self, from: u8, to: Option<u8>) -> Result<Vec<Hint>, StoreError> {
        let [table] = Table::Hint.prefix();
        let end = to.map_or_else(|| vec![table.saturating_add(1)], |to| vec![table, to]);
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end);
        options.set_readahead_size(READ_AHEAD);
        options.fill_cache(false);
        let mut rows = self.db.raw_iterator_cf_opt(self.family(HINTS)?, options);
        rows.seek([table, from]);
        let mut hints = Vec::new();
        while let Some(key) = rows.key() {
            let hint = key.get(1..9).and_then(|hint| hint.try_into().ok());
            hints.push(Hint(hint.ok_or_else(|| self.damaged("a hint"))?));
            rows.next();
        }
        rows.status().map_err(|error| self.damaged(error.as_ref()))?;
        Ok(hints)
    }

    /// Whether so much was deleted that [`Self::reclaim`] is worth its while.
    pub(crate) fn is_worth_reclaiming(&self) -> bool {
        let deleted = self.deleted.load(Ordering::Relaxed);
        let estimate = |family: &ColumnFamily| self.db.property_int_value_cf(family, "rocksdb.estimate-num-keys");
        let rows = self.family(BACKUPS).ok().and_then(|family| estimate(family).ok().flatten()).unwrap_or_default();
        deleted >= RECLAIM_LEAST.max(rows / RECLAIM_PART)
    }

    /// Gives the space of what was deleted back to the disk. It reads and writes all backups once: not for a thread that
    /// others wait for.
    pub(crate) fn reclaim(&self) -> Result<(), StoreError> {
        self.deleted.store(0, Ordering::Relaxed);
        // All of them: a write-ahead log stays as long as one has something in it.
        for family in FAMILIES {
            self.db.compact_range_cf(self.family(family)?, None::<&[u8]>, None::<&[u8]>);
        }
        Ok(())
    }

    /// Keys that cannot be read: their rows are passed over, and left as they are.
    pub(crate) fn unnamed(&self) -> Vec<Vec<u8>> {
        self.lock_unnamed().iter().cloned().collect()
    }

    fn lock_unnamed(&self) -> MutexGuard<'_, BTreeSet<Vec<u8>>> {
        self.unnamed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_unnamed(&self, key: &[u8], error: &ReadError) {
        if self.lock_unnamed().insert(key.to_vec()) {
            let key = hex::encode(key);
            error!(%key, %error, "the watchtower's database has a row whose key cannot be read: it is passed over");
        }
    }

    fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db
            .write_opt(batch, &options)
            .map_err(|error| StoreError::Write { path: self.path.as_ref().into(), what: error.to_string() })
    }

    fn family(&self, name: &str) -> Result<&ColumnFamily, StoreError> {
        self.db.cf_handle(name).ok_or_else(|| self.damaged("a table is missing"))
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged { path: self.path.as_ref().into(), what: what.to_owned() }
    }
}

impl Persist<Key> for TowerStore {
    type Error = StoreError;

    fn commit(&mut self, writes: Vec<Write<Key>>) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        let mut deleted = 0;
        for write in writes {
            let table = table_of(write.key());
            let family = self.family(family_of(table))?;
            match write {
                Write::Put { key, value } => batch.put_cf(family, key.encode(), value),
                Write::Delete { key } => {
                    deleted += u64::from(family_of(table) == BACKUPS);
                    batch.delete_cf(family, key.encode());
                }
            }
        }
        let (rows, bytes, begun) = (batch.len(), batch.size_in_bytes(), Instant::now());
        self.write(batch)?;
        Counters::default().commit(Commit { database: Database::Tower, rows, bytes, took: begun.elapsed() });
        self.deleted.fetch_add(deleted, Ordering::Relaxed);
        Ok(())
    }
}

impl Archive for TowerStore {
    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, Unread> {
        let family = self.family(family_of(table_of(key))).map_err(unread)?;
        self.db.get_cf(family, key.encode()).map_err(unread)
    }

    fn scan(&self, prefix: &[u8], after: Option<&Key>, limit: usize) -> Result<Vec<(Key, Vec<u8>)>, Unread> {
        let Some(family) = prefix.first().and_then(|byte| family_of_byte(*byte)) else {
            return Err(Unread("there is no such table".to_owned()));
        };
        let mut rows = self.db.raw_iterator_cf(self.family(family).map_err(unread)?);
        let after = after.map(Key::encode);
        match &after {
            None => rows.seek(prefix),
            Some(after) => {
                rows.seek(after);
                if rows.key() == Some(after) {
                    rows.next();
                }
            }
        }
        let mut found = Vec::new();
        while found.len() < limit
            && let Some((key, value)) = rows.item().filter(|(key, _)| key.starts_with(prefix))
        {
            match Key::decode(key) {
                Ok(key) => found.push((key, value.to_vec())),
                // It must not keep anybody from the others.
                Err(error) => self.note_unnamed(key, &error),
            }
            rows.next();
        }
        rows.status().map_err(unread)?;
        Ok(found)
    }
}

/// Where the table lies that keys with this first byte are of.
fn family_of_byte(byte: u8) -> Option<&'static str> {
    Table::ALL.into_iter().find(|table| table.prefix() == [byte]).map(family_of)
}

fn unread(error: impl ToString) -> Unread {
    Unread(error.to_string())
}

#[cfg(test)]
mod tests {
    use leyden_channels::types::CommitmentNumber;
    use leyden_watchtower::record::{SCAN_LIMIT, Slot, scan_all};

    use super::*;

    fn hint(number: u64) -> Hint {
        // Spread as txids are.
        Hint(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
    }

    fn backup(slot: u32, number: u64) -> [Write<Key>; 2] {
        let (slot, number) = (Slot(slot), CommitmentNumber(number));
        let hint = hint(number.0);
        let value = [hint.0.to_vec(), rand::random_iter().take(194).collect()].concat();
        [
            Write::Put { key: Key::Backup { slot, number }, value },
            Write::Put { key: Key::Hint { hint, slot, number }, value: Vec::new() },
        ]
    }

    fn open(folder: &Path) -> TowerStore {
        TowerStore::open(folder, 64).unwrap()
    }

    fn size(folder: &Path) -> u64 {
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }

    #[test]
    fn every_table_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        for table in Table::ALL {
            assert_eq!(store.scan(&table.prefix(), None, 1).unwrap(), [], "{table:?}");
        }
    }

    #[test]
    fn every_hint_is_read_back_in_order_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        store.commit((0..10_000).flat_map(|number| backup(1, number)).collect()).unwrap();
        let extremes = [[0; 8], [0xff; 8]].map(|hint| {
            let key = Key::Hint { hint: Hint(hint), slot: Slot(2), number: CommitmentNumber(0) };
            Write::Put { key, value: Vec::new() }
        });
        store.commit(extremes.into()).unwrap();
        drop(store);
        let hints = open(folder.path()).hints().unwrap();
        let mut wanted: Vec<Hint> = (0..10_000).map(hint).chain([Hint([0; 8]), Hint([0xff; 8])]).collect();
        wanted.sort();
        assert_eq!(hints, wanted);
    }

    #[test]
    fn a_scan_goes_on_where_it_stopped_and_stays_in_its_table() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        let count = SCAN_LIMIT as u64 * 2 + 1;
        store.commit((0..count).flat_map(|number| backup(7, number)).collect()).unwrap();
        store.commit(backup(8, 0).into()).unwrap();
        let mut numbers = Vec::new();
        scan_all::<Unread>(&store, &Table::Backup.of_slot(Slot(7)), |key, value| {
            let Key::Backup { slot: Slot(7), number } = key else { panic!("{key:?}") };
            assert_eq!(value.len(), 202);
            numbers.push(number.0);
            Ok(())
        })
        .unwrap();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        assert!(store.get(&Key::Backup { slot: Slot(8), number: CommitmentNumber(0) }).unwrap().is_some());
        assert_eq!(store.get(&Key::Tip).unwrap(), None);
    }

    #[test]
    fn a_key_that_cannot_be_read_is_passed_over_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        store.commit((0..3).flat_map(|number| backup(7, number)).collect()).unwrap();
        let bad = [Table::Backup.of_slot(Slot(7)), vec![0, 0, 0]].concat();
        let mut batch = WriteBatch::default();
        batch.put_cf(store.family(BACKUPS).unwrap(), &bad, b"?");
        store.write(batch).unwrap();
        assert!(store.unnamed().is_empty());
        for _ in 0..2 {
            assert_eq!(store.scan(&Table::Backup.of_slot(Slot(7)), None, SCAN_LIMIT).unwrap().len(), 3);
        }
        assert_eq!(store.unnamed(), [bad]);
    }

    #[test]
    fn space_of_deleted_backups_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        let count = RECLAIM_LEAST;
        for begin in (0..count).step_by(4_096) {
            store.commit((begin..begin + 4_096).flat_map(|number| backup(1, number)).collect()).unwrap();
        }
        store.reclaim().unwrap();
        let full = size(folder.path());
        for number in 0..count {
            let keys = backup(1, number).map(|write| Write::Delete { key: *write.key() });
            if number + 1 == count {
                assert!(!store.is_worth_reclaiming());
            }
            // One sync for many.
            let mut batch = WriteBatch::default();
            for key in keys.iter().map(Write::key) {
                batch.delete_cf(store.family(family_of(table_of(key))).unwrap(), key.encode());
            }
            store.db.write(batch).unwrap();
            store.deleted.fetch_add(1, Ordering::Relaxed);
        }
        assert!(store.is_worth_reclaiming());
        store.reclaim().unwrap();
        let left = size(folder.path());
        assert!(left < full / 2, "{left} bytes of {full}");
        assert!(store.hints().unwrap().is_empty() && !store.is_worth_reclaiming());
    }

    #[test]
    fn a_database_of_a_newer_program_is_refused_by_its_format() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut batch = WriteBatch::default();
        batch.put_cf(store.family(META).unwrap(), META_FORMAT, 2_u32.to_be_bytes());
        store.write(batch).unwrap();
        drop(store);
        assert!(matches!(TowerStore::open(folder.path(), 64), Err(StoreError::Newer { found: 2, .. })));
    }
}
