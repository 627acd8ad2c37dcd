//! Opening: one process at a time, a format that we know, and our own network.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash};
use leyden_consensus::BlockIds;
use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, ErrorKind, Options};
use tokio_util::sync::CancellationToken;

use super::codec::HeaderStatus;
use super::coins::{Coins, UnflushedLimits};
use super::staged::Staging;
use super::{Batch, BatchKind, Durability, Store, WriteHook, family};
use crate::error::{NodeError, StoreError};

/// The format that this program writes. Raised when an older program would misread what a newer one wrote.
/// Format 2 has staged rows, which a database of format 1 gets with the first step that is too large for one batch; format
/// 3 has pruned blocks; format 4 has coins that are behind the tip.
pub const FORMAT: u32 = 4;

/// Memory for the changes of one step, some times what a single block can change.
pub const STEP_BYTES: usize = 48 << 20;

/// How many files RocksDB keeps open, where that is nobody's concern.
pub const OPEN_FILES: u32 = 512;

/// How to open a [`Store`].
#[derive(Clone)]
pub struct StoreOptions {
    /// The database's own folder; made if it is missing.
    pub path: PathBuf,
    /// Memory for RocksDB's block cache.
    pub cache_bytes: usize,
    /// How many files RocksDB may keep open.
    pub open_files: u32,
    /// Memory for the changes of one step from tip to tip; what is more waits on the disk until the step is complete.
    pub step_bytes: usize,
    /// How far the rows of coins may be behind the tip.
    pub unflushed: UnflushedLimits,
    /// Whether blocks get filters (BIP 158) when they are connected.
    pub filters: bool,
    /// Blocks are going to be pruned: what they leave in files with others is collected.
    pub prunes: bool,
    /// `false` leaves it to the operating system when writes reach the disk. Only for tests.
    pub sync: bool,
    /// Called before and after every batch; for tests of crashes.
    pub hook: Option<WriteHook>,
}

impl StoreOptions {
    /// The defaults: 64 MiB of cache, every commit synced to the disk.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            cache_bytes: 64 << 20,
            open_files: OPEN_FILES,
            step_bytes: STEP_BYTES,
            unflushed: UnflushedLimits::default(),
            filters: true,
            prunes: false,
            sync: true,
            hook: None,
        }
    }
}

impl Store {
    /// Opens the database, making it with `genesis` as its only block if it is not there.
    pub fn open(options: StoreOptions, genesis: &Block) -> Result<Self, NodeError> {
        let StoreOptions { path, cache_bytes, open_files, step_bytes, unflushed, filters, prunes, sync, hook } =
            options;
        let io = |error: std::io::Error| StoreError::Io { path: path.clone(), detail: error.to_string() };
        fs::create_dir_all(&path).map_err(io)?;
        let lock = lock(&path)?;
        let db = open_database(&path, cache_bytes, open_files, prunes)?;
        let store = Self {
            db,
            path,
            sync,
            hook,
            halted: OnceLock::new(),
            halt: CancellationToken::new(),
            recent: Mutex::default(),
            step_bytes,
            keeps_filters: filters,
            staging: Staging::default(),
            coins: Coins::new(unflushed),
            lost: Mutex::default(),
            pruned_below: AtomicU32::new(0),
            _lock: lock,
        };
        store.check_or_create(genesis)?;
        store.recover_staged()?;
        store.load_pruned()?;
        Ok(store)
    }

    fn check_or_create(&self, genesis: &Block) -> Result<(), NodeError> {
        let wanted = genesis.block_hash();
        let Some(format) = self.get(family::META, b"format")? else {
            let mut batch = Batch::new(BatchKind::Genesis);
            batch.put_meta("format", &FORMAT.to_le_bytes());
            batch.put_meta("genesis", wanted.as_byte_array());
            batch.put_header(0, &genesis.header, HeaderStatus::HEADER.with_block());
            batch.put_block(&wanted, genesis);
            batch.put_active(0, &wanted, genesis, BlockIds::of(genesis).txids());
            batch.set_tip(&wanted);
            return self.commit(&batch, Durability::Synced);
        };
        let format = <[u8; 4]>::try_from(&format[..]).map_err(|_| self.corrupt("the format number"))?;
        let found = u32::from_le_bytes(format);
        if found > FORMAT {
            return Err(StoreError::Newer { path: self.path.clone(), found, supported: FORMAT }.into());
        }
        let genesis = self.get(family::META, b"genesis")?.ok_or_else(|| self.corrupt("the genesis hash"))?;
        let found = BlockHash::from_slice(&genesis).map_err(|_| self.corrupt("the genesis hash"))?;
        if found != wanted {
            return Err(StoreError::OtherNetwork { path: self.path.clone(), found, wanted }.into());
        }
        Ok(())
    }
}

/// How long to wait for a process that is about to end: after a kill its lock may outlive it by a moment.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// RocksDB has a lock of its own, but tells of it in free text only.
fn lock(path: &Path) -> Result<File, StoreError> {
    let io = |error: std::io::Error| StoreError::Io { path: path.to_owned(), detail: error.to_string() };
    let file = File::create(path.join("leyden.lock")).map_err(io)?;
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_RETRY),
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
    }
}

fn open_database(path: &Path, cache_bytes: usize, open_files: u32, prunes: bool) -> Result<DB, StoreError> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_open_files(i32::try_from(open_files).unwrap_or(i32::MAX));
    // More would be started for each file, and take longer than the file.
    options.set_max_file_opening_threads(1);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(2);
    options.set_db_write_buffer_size(64 << 20);
    options.set_max_total_wal_size(128 << 20);

    let cache = Cache::new_lru_cache(cache_bytes);
    // A database of a newer program may hold column families that we do not know: all must be opened, so that the
    // format number can be read and the reason told.
    let mut names: Vec<String> = family::ALL.iter().map(|name| (*name).to_owned()).collect();
    names.push("default".to_owned());
    if path.join("CURRENT").exists() {
        let stored = DB::list_cf(&options, path).map_err(|error| classify(path, &error))?;
        names.extend(stored.into_iter().filter(|name| !family::ALL.contains(&name.as_str()) && name != "default"));
    }
    // Each set of options that is not a copy makes a cache of its own first, which takes milliseconds.
    let usual = Options::default();
    let families = names.into_iter().map(|name| {
        let options = family_options(&name, usual.clone(), &cache, prunes);
        ColumnFamilyDescriptor::new(name, options)
    });
    DB::open_cf_descriptors(&options, path, families).map_err(|error| classify(path, &error))
}

fn family_options(name: &str, mut options: Options, cache: &Cache, prunes: bool) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    match name {
        // Looked up by keys that are often absent.
        family::COINS | family::TXIDS | family::SPENDS | family::FILTER_HEADERS => table.set_bloom_filter(10.0, false),
        // Large values, written once: kept apart from the keys, so that compaction does not copy them.
        family::BLOCKS | family::UNDO | family::FILTERS => {
            options.set_enable_blob_files(true);
            options.set_min_blob_size(1 << 10);
            // A file whose blocks are all gone is removed in any case; this moves the few that are kept out of old ones.
            options.set_enable_blob_gc(prunes);
        }
        _ => {}
    }
    options.set_block_based_table_factory(&table);
    options
}

/// What a failure of RocksDB means to a person.
pub(super) fn classify(path: &Path, error: &rocksdb::Error) -> StoreError {
    let path = path.to_owned();
    let detail = error.to_string();
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::InvalidArgument | ErrorKind::NotSupported => {
            StoreError::Corrupt { path, detail }
        }
        // RocksDB tells it in words only.
        ErrorKind::IOError if detail.contains("Too many open files") => StoreError::TooManyFiles { path },
        ErrorKind::IOError if ["No space left", "File too large"].iter().any(|words| detail.contains(words)) => {
            StoreError::Full { path }
        }
        ErrorKind::IOError if detail.contains("/LOCK") => StoreError::Locked { path },
        ErrorKind::IOError
        | ErrorKind::NotFound
        | ErrorKind::MergeInProgress
        | ErrorKind::Incomplete
        | ErrorKind::ShutdownInProgress
        | ErrorKind::TimedOut
        | ErrorKind::Aborted
        | ErrorKind::Busy
        | ErrorKind::Expired
        | ErrorKind::TryAgain
        | ErrorKind::CompactionTooLarge
        | ErrorKind::ColumnFamilyDropped
        | ErrorKind::Unknown => StoreError::Io { path, detail },
    }
}
