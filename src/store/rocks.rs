//! The daemon's database: what the cores commit, the wallet's log, peers and history, each in a table of its own.
//!
//! Promises: a write is on the disk when the call returns, whole or not at all; a database of a newer program, of another
//! node, or one that is in use is refused with that reason.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use leyden_channels::{
    channel::{Key, Persist, Write},
    payment::{
        record,
        start::{Naming, Rows},
    },
};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, DB, DBRecoveryMode, Direction, ErrorKind, IteratorMode, Options,
    WriteBatch, WriteOptions,
};

use super::CoreKey;
use crate::{
    counters::{Commit, Counters, Database},
    wallet::onchain::{ChangeLog, WalletError},
};

/// Format 1 did not name the invoices and payments that are not over.
const FORMAT: u32 = 2;

/// What a database keeps in memory of what it has read, in all its tables.
const CACHE_BYTES: usize = 64 << 20;

const CORE: &str = "core";
const WALLET: &str = "wallet";
const PEER: &str = "peer";
const HISTORY: &str = "history";
const META: &str = "meta";
const GOSSIP: &str = "gossip";
const LEARNT: &str = "learnt";
const FUNDINGS: &str = "fundings";
const FAMILIES: [&str; 8] = [CORE, WALLET, PEER, HISTORY, META, GOSSIP, LEARNT, FUNDINGS];

/// What may be lost in a crash: it can be had again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// What the network has told.
    Gossip,
    /// What payments have taught about channels.
    Learnt,
    /// Where the funding outputs of the network's channels are, as far as they have been looked up.
    Fundings,
}

impl Table {
    const fn family(self) -> &'static str {
        match self {
            Self::Gossip => GOSSIP,
            Self::Learnt => LEARNT,
            Self::Fundings => FUNDINGS,
        }
    }
}

/// How many files RocksDB keeps open, where that is nobody's concern.
const OPEN_FILES: u32 = 512;

const META_FORMAT: &[u8] = b"format";
const META_NODE: &[u8] = b"node_id";
const META_WINDOW: &[u8] = b"recovery_window";
const META_STATELESS: &[u8] = b"stateless";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("another leydend is using {path}: stop it, or give this one its own --data-dir")]
    InUse { path: PathBuf },
    #[error("{path} was written by a newer leydend (format {found}, this one knows {FORMAT}): use the newer program")]
    Newer { path: PathBuf, found: u32 },
    #[error(
        "{path} is damaged: {what}. Do not delete it: nobody else has what it holds. Copy it aside and ask for help"
    )]
    Damaged { path: PathBuf, what: String },
    #[error(
        "there are too few file descriptors for {path}, which is not damaged: allow this process more (`ulimit -n 1024`) and \
         start it again"
    )]
    TooManyFiles { path: PathBuf },
    #[error(
        "{path} belongs to node {found}, but this wallet's seed is that of {expected}: use the other seed or data directory"
    )]
    OtherNode { path: PathBuf, found: String, expected: String },
    #[error(
        "the disk refuses a write to {path}: {what}. Make room or repair it, then start leydend again; nothing was sent"
    )]
    Write { path: PathBuf, what: String },
}

/// A key and its value.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// The open database; clones share it.
#[derive(Clone)]
pub struct Store {
    db: Arc<DB>,
    path: Arc<Path>,
    next_wallet_entry: Arc<AtomicU64>,
    counters: Counters,
}

impl Store {
    /// Opens or creates the database at `path`.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, OPEN_FILES)
    }

    /// With so many files open at once.
    pub fn open_with(path: &Path, open_files: u32) -> Result<Self, StoreError> {
        let mut options = Options::default();
        // Read again after a crash, when the next start takes longest. Records are small and rewritten often, so most have died
        // when what is in memory goes to the tables: little more is written than with ten times this.
        options.set_max_total_wal_size(4 << 20);
        let db = open_database(path, options, open_files, &FAMILIES, |_| {})?;
        let next_wallet_entry = Arc::new(AtomicU64::new(0));
        let store = Self { db: Arc::new(db), path: path.into(), next_wallet_entry, counters: Counters::default() };
        let writes = match stored_format(path, store.get(META, META_FORMAT)?, FORMAT)? {
            Some(FORMAT) => return Ok(store),
            Some(_) => store.names_of_open()?,
            None => Vec::new(),
        };
        // With the format, so that it is done whole or not at all.
        let mut batch = store.batch(writes)?;
        batch.put_cf(store.family(META)?, META_FORMAT, FORMAT.to_be_bytes());
        store.write(batch)?;
        Ok(store)
    }

    /// What a database of format 1 lacks.
    fn names_of_open(&self) -> Result<Vec<Write<CoreKey>>, StoreError> {
        let damaged = |error: record::RecordError| self.damaged(&error.to_string());
        let mut naming = Naming::default();
        self.each(CORE, &Key::all_invoices_prefix(), |_, value| {
            naming.invoice(&record::decode_invoice(value).map_err(damaged)?);
            Ok(())
        })?;
        self.each(CORE, &Key::all_payments_prefix(), |_, value| {
            naming.payment(&record::decode_payment(value).map_err(damaged)?);
            Ok(())
        })?;
        let writes = naming.writes().into_iter().map(|write| match write {
            Write::Put { key, value } => Write::Put { key: key.into(), value },
            Write::Delete { key } => Write::Delete { key: key.into() },
        });
        Ok(writes.collect())
    }

    /// The same database, whose happenings are counted there.
    pub(crate) fn counted_by(self, counters: Counters) -> Self {
        Self { counters, ..self }
    }

    /// Where what happens to this node is counted.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Remembers whose data this is, and refuses another node's.
    pub fn claim_for(&self, node_id: &secp256k1::PublicKey) -> Result<(), StoreError> {
        let expected = node_id.serialize();
        match self.get(META, META_NODE)? {
            None => self.put(META, META_NODE, &expected),
            Some(found) if found == expected => Ok(()),
            Some(found) => Err(StoreError::OtherNode {
                path: self.path.as_ref().into(),
                found: hex::encode(found),
                expected: hex::encode(expected),
            }),
        }
    }

    /// For how many unused addresses in a row a restored wallet looks at the chain.
    pub fn put_recovery_window(&self, window: u32) -> Result<(), StoreError> {
        self.put(META, META_WINDOW, &window.to_be_bytes())
    }

    /// How many unused addresses in a row a recovery looks through; `None` if none is under way.
    pub fn recovery_window(&self) -> Result<Option<u32>, StoreError> {
        let bytes = self.get(META, META_WINDOW)?;
        bytes
            .map(|bytes| bytes.try_into().map(u32::from_be_bytes).map_err(|_| self.damaged("the recovery window")))
            .transpose()
    }

    /// Whether whoever made the wallet wants no macaroon on this disk.
    pub fn put_stateless(&self) -> Result<(), StoreError> {
        self.put(META, META_STATELESS, &[])
    }

    /// Whether the wallet was made without macaroon files.
    pub fn is_stateless(&self) -> Result<bool, StoreError> {
        Ok(self.get(META, META_STATELESS)?.is_some())
    }

    /// Every record of the core whose key begins with `prefix`, in the order of the keys.
    pub fn core_records(&self, prefix: &[u8]) -> Result<Vec<Row>, StoreError> {
        self.records(CORE, prefix)
    }

    /// The keys of the core that begin with `prefix`, in their order, without what stands there.
    pub fn core_keys(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        self.keys(CORE, prefix)
    }

    /// The row of a channel's core under this key.
    pub fn core_record(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(CORE, key)
    }

    /// The record of the core with the greatest of the keys that begin with `prefix`.
    pub fn last_core_record(&self, prefix: &[u8]) -> Result<Option<Row>, StoreError> {
        // No key is as long as this one: it lies after all that begin with the prefix.
        let end = [prefix, &[0xff; 64]].concat();
        let family = self.family(CORE)?;
        match self.db.iterator_cf(family, IteratorMode::From(&end, Direction::Reverse)).next() {
            None => Ok(None),
            Some(Err(error)) => Err(self.damaged(error.as_ref())),
            Some(Ok((key, value))) => Ok(key.starts_with(prefix).then(|| (key.into_vec(), value.into_vec()))),
        }
    }

    /// The record of the core with the least of the keys that begin with `prefix`.
    pub fn first_core_record(&self, prefix: &[u8]) -> Result<Option<Row>, StoreError> {
        let family = self.family(CORE)?;
        match self.db.iterator_cf(family, IteratorMode::From(prefix, Direction::Forward)).next() {
            None => Ok(None),
            Some(Err(error)) => Err(self.damaged(error.as_ref())),
            Some(Ok((key, value))) => Ok(key.starts_with(prefix).then(|| (key.into_vec(), value.into_vec()))),
        }
    }

    /// All records of a table, in the order of their keys.
    pub fn table(&self, table: Table) -> Result<Vec<Row>, StoreError> {
        self.records(table.family(), &[])
    }

    /// Shows all records of a table, in the order of their keys, until `look` breaks off.
    pub fn look_through<B>(
        &self,
        table: Table,
        mut look: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, StoreError> {
        let mut rows = self.db.raw_iterator_cf(self.family(table.family())?);
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            if let ControlFlow::Break(with) = look(key, value) {
                return Ok(ControlFlow::Break(with));
            }
            rows.next();
        }
        rows.status().map_err(|error| self.damaged(error.as_ref()))?;
        Ok(ControlFlow::Continue(()))
    }

    /// The row of a table under this key.
    pub fn table_record(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(table.family(), key)
    }

    /// Writes records, or deletes them (`None`), without waiting for the disk.
    pub fn put_table(
        &self,
        table: Table,
        records: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        let family = self.family(table.family())?;
        let mut batch = WriteBatch::default();
        for (key, value) in records {
            match value {
                Some(value) => batch.put_cf(family, key, value),
                None => batch.delete_cf(family, key),
            }
        }
        self.db
            .write(batch)
            .map_err(|error| StoreError::Write { path: self.path.as_ref().into(), what: error.to_string() })
    }

    /// Where a peer was last reached; replaced at each connection that we opened.
    pub fn put_peer(&self, node_id: &secp256k1::PublicKey, address: &str) -> Result<(), StoreError> {
        self.put(PEER, &node_id.serialize(), address.as_bytes())
    }

    /// The Lightning nodes that are dialled again after a start, with their addresses.
    pub fn peers(&self) -> Result<Vec<(secp256k1::PublicKey, String)>, StoreError> {
        self.records(PEER, &[])?
            .into_iter()
            .map(|(key, value)| {
                let node_id = secp256k1::PublicKey::from_slice(&key).map_err(|_| self.damaged("a peer's id"))?;
                let address = String::from_utf8(value).map_err(|_| self.damaged("a peer's address"))?;
                Ok((node_id, address))
            })
            .collect()
    }

    pub(super) fn put_history(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.put(HISTORY, key, value)
    }

    pub(super) fn history_entry(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.get(HISTORY, key)
    }

    /// The values whose keys begin with `prefix`.
    pub(super) fn history(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(self.records(HISTORY, prefix)?.into_iter().map(|(_, value)| value).collect())
    }

    /// The keys that begin with `prefix`.
    pub(super) fn history_keys(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        self.keys(HISTORY, prefix)
    }

    pub(super) fn remove_history(&self, key: &[u8]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.family(HISTORY)?, key);
        self.write(batch)
    }

    fn records(&self, family: &str, prefix: &[u8]) -> Result<Vec<Row>, StoreError> {
        let mut list = Vec::new();
        for entry in self.db.iterator_cf(self.family(family)?, IteratorMode::From(prefix, Direction::Forward)) {
            let (key, value) = entry.map_err(|error| self.damaged(error.as_ref()))?;
            if !key.starts_with(prefix) {
                break;
            }
            list.push((key.into_vec(), value.into_vec()));
        }
        Ok(list)
    }

    fn keys(&self, family: &str, prefix: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut keys = Vec::new();
        self.each(family, prefix, |key, _| {
            keys.push(key.to_vec());
            Ok(())
        })?;
        Ok(keys)
    }

    /// Shows the rows whose keys begin with `prefix`, in their order.
    fn each(
        &self,
        family: &str,
        prefix: &[u8],
        mut look: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut rows = self.db.raw_iterator_cf(self.family(family)?);
        rows.seek(prefix);
        while let Some((key, value)) = rows.item().filter(|(key, _)| key.starts_with(prefix)) {
            look(key, value)?;
            rows.next();
        }
        rows.status().map_err(|error| self.damaged(error.as_ref()))
    }

    fn batch(&self, writes: Vec<Write<CoreKey>>) -> Result<WriteBatch, StoreError> {
        let core = self.family(CORE)?;
        let mut batch = WriteBatch::default();
        for write in writes {
            match write {
                Write::Put { key, value } => batch.put_cf(core, key.encode(), value),
                Write::Delete { key } => batch.delete_cf(core, key.encode()),
            }
        }
        Ok(batch)
    }

    fn get(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get_cf(self.family(family)?, key).map_err(|error| self.damaged(error.as_ref()))
    }

    fn put(&self, family: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(family)?, key, value);
        self.write(batch)
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

    /// The error for content that makes no sense.
    pub fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged { path: self.path.as_ref().into(), what: what.to_owned() }
    }
}

/// Opens or creates a database with these tables, whose options `set` changes, and with so many files open at once.
pub(super) fn open_database(
    path: &Path,
    mut options: Options,
    open_files: u32,
    known: &[&str],
    set: impl FnOnce(&mut Options),
) -> Result<DB, StoreError> {
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_keep_log_file_num(2);
    options.set_max_open_files(i32::try_from(open_files).unwrap_or(i32::MAX));
    // More would be started for each file, and take longer than the file.
    options.set_max_file_opening_threads(1);
    // Every write was synced before anybody heard of it: only a torn last record may be dropped. RocksDB would by
    // default go on with whatever state came before a damaged place, which for a channel is a revoked one.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    std::fs::create_dir_all(path).map_err(|error| StoreError::Write { path: path.into(), what: error.to_string() })?;
    // A newer program may have tables that we do not know: all are opened, so that its format can be read and told.
    let mut families: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
    if path.join("CURRENT").exists() {
        let stored = DB::list_cf(&options, path).map_err(|error| open_error(path, &error))?;
        families.extend(stored.into_iter().filter(|name| !known.contains(&name.as_str())));
    }
    // Copies share a cache; options that are none make one of their own each, which takes milliseconds.
    let mut usual = Options::default();
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    usual.set_block_based_table_factory(&table);
    set(&mut usual);
    let families = families.into_iter().map(|name| (name, usual.clone()));
    DB::open_cf_with_opts(&options, path, families).map_err(|error| open_error(path, &error))
}

/// The format of a database, `None` of a new one; an error if we cannot read it.
pub(super) fn stored_format(path: &Path, stored: Option<Vec<u8>>, newest: u32) -> Result<Option<u32>, StoreError> {
    let Some(bytes) = stored else { return Ok(None) };
    match bytes.try_into().map(u32::from_be_bytes) {
        Ok(found) if found > newest => Err(StoreError::Newer { path: path.into(), found }),
        Ok(found) => Ok(Some(found)),
        Err(_) => Err(StoreError::Damaged { path: path.into(), what: "its format is unreadable".to_owned() }),
    }
}

pub(super) fn open_error(path: &Path, error: &rocksdb::Error) -> StoreError {
    let text = error.to_string();
    let says = |words: &str| error.kind() == ErrorKind::IOError && text.contains(words);
    // RocksDB tells these apart in words only.
    if says("Too many open files") {
        StoreError::TooManyFiles { path: path.into() }
    } else if says("While lock file") || says("lock hold by") {
        StoreError::InUse { path: path.into() }
    } else if says("No space left") || says("File too large") || says("Read-only file system") {
        StoreError::Write { path: path.into(), what: text }
    } else {
        StoreError::Damaged { path: path.into(), what: text }
    }
}

impl Persist<CoreKey> for Store {
    type Error = StoreError;

    fn commit(&mut self, writes: Vec<Write<CoreKey>>) -> Result<(), StoreError> {
        let batch = self.batch(writes)?;
        let (rows, bytes, begun) = (batch.len(), batch.size_in_bytes(), Instant::now());
        self.write(batch)?;
        self.counters.commit(Commit { database: Database::Node, rows, bytes, took: begun.elapsed() });
        Ok(())
    }
}

impl Rows for Store {
    type Error = StoreError;

    fn row(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        self.core_record(&key.encode())
    }

    fn keys(&self, prefix: &[u8]) -> Result<Vec<Key>, StoreError> {
        let named = |key: Vec<u8>| Key::decode(&key).ok_or_else(|| self.damaged("a key that nothing has"));
        self.core_keys(prefix)?.into_iter().map(named).collect()
    }

    fn last_key(&self, prefix: &[u8]) -> Result<Option<Key>, StoreError> {
        let Some((key, _)) = self.last_core_record(prefix)? else { return Ok(None) };
        Key::decode(&key).map(Some).ok_or_else(|| self.damaged("a key that nothing has"))
    }

    fn damaged(&self, what: &str) -> StoreError {
        Self::damaged(self, what)
    }
}

/// The wallet's log lies in the same database, under a counter.
impl ChangeLog for Store {
    fn load(&self) -> Result<Vec<Vec<u8>>, WalletError> {
        let records = self.records(WALLET, &[]).map_err(wallet_error)?;
        let next = match records.last() {
            None => 0,
            Some((key, _)) => {
                let last: [u8; 8] =
                    key.as_slice().try_into().map_err(|_| WalletError::Damaged("an entry has a strange key".into()))?;
                u64::from_be_bytes(last).saturating_add(1)
            }
        };
        self.next_wallet_entry.store(next, Ordering::SeqCst);
        Ok(records.into_iter().map(|(_, value)| value).collect())
    }

    fn append(&self, change: &[u8]) -> Result<(), WalletError> {
        let key = self.next_wallet_entry.fetch_add(1, Ordering::SeqCst).to_be_bytes();
        self.put(WALLET, &key, change).map_err(wallet_error)
    }

    fn replace(&self, whole: &[u8]) -> Result<(), WalletError> {
        let replace = || {
            let family = self.family(WALLET)?;
            let mut batch = WriteBatch::default();
            for (key, _) in self.records(WALLET, &[])? {
                batch.delete_cf(family, key);
            }
            let key = self.next_wallet_entry.fetch_add(1, Ordering::SeqCst).to_be_bytes();
            batch.put_cf(family, key, whole);
            self.write(batch)
        };
        replace().map_err(wallet_error)
    }
}

fn wallet_error(error: StoreError) -> WalletError {
    WalletError::Store(error.to_string())
}

#[cfg(test)]
mod tests {
    use leyden_channels::{
        channel::Outbox,
        payment::{
            outgoing::{Numbers, PaymentEffect, PaymentFailure, PaymentLimits, PaymentRequest, Payments},
            start,
        },
        types::{Msat, PaymentHash, UnixTime},
    };

    use super::*;

    #[test]
    fn second_process_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Store::open(folder.path()).unwrap();
        assert!(matches!(Store::open(folder.path()), Err(StoreError::InUse { .. })));
    }

    #[test]
    fn newer_format_and_other_node_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let key = |byte| secp256k1::SecretKey::from_slice(&[byte; 32]).unwrap().public_key(secp256k1::SECP256K1);
        let store = Store::open(folder.path()).unwrap();
        store.claim_for(&key(1)).unwrap();
        store.claim_for(&key(1)).unwrap();
        assert!(matches!(store.claim_for(&key(2)), Err(StoreError::OtherNode { .. })));
        store.put(META, META_FORMAT, &9_u32.to_be_bytes()).unwrap();
        drop(store);
        assert!(matches!(Store::open(folder.path()), Err(StoreError::Newer { found: 9, .. })));
    }

    fn commit(store: &mut Store, outbox: Outbox<PaymentEffect>) {
        Outbox::commit_all(vec![outbox.with_keys::<CoreKey>()], store).unwrap();
    }

    /// Begins a payment.
    fn begin(store: &mut Store, payments: &mut Payments, tag: u8) -> PaymentHash {
        let hash = PaymentHash([tag; 32]);
        let node = secp256k1::SecretKey::from_slice(&[9; 32]).unwrap().public_key(secp256k1::SECP256K1);
        let request = PaymentRequest {
            payment_hash: hash,
            destination: node,
            amount: Msat(1_000),
            payment_secret: None,
            payment_metadata: None,
            final_cltv_delta: 18,
            max_fee: Msat(0),
            deadline: UnixTime(100),
            bolt11: String::new(),
            hints: Vec::new(),
            limits: PaymentLimits {
                max_parts: 1,
                max_part: None,
                max_cltv: None,
                outgoing: Vec::new(),
                last_hop: None,
                time_pref: 0,
            },
            keysend: None,
            custom_records: Vec::new(),
        };
        commit(store, payments.start(request, None, UnixTime(1)).unwrap());
        hash
    }

    #[test]
    fn a_start_knows_what_is_open_in_a_database_of_an_earlier_version() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        let mut payments = Payments::default();
        let over = begin(&mut store, &mut payments, 1);
        let open = begin(&mut store, &mut payments, 2);
        commit(&mut store, payments.no_route(&over, PaymentFailure::NoRoute, UnixTime(2)));
        // As format 1 would have left it.
        let names = |store: &Store| store.core_keys(&Key::all_open_payments_prefix()).unwrap();
        assert_eq!(names(&store), [Key::OpenPayment(2).encode()]);
        let name = CoreKey::from(Key::OpenPayment(2));
        store.commit(vec![Write::Delete { key: name }]).unwrap();
        store.put(META, META_FORMAT, &1_u32.to_be_bytes()).unwrap();
        drop(store);
        for _ in 0..2 {
            let store = Store::open(folder.path()).unwrap();
            assert_eq!(names(&store), [Key::OpenPayment(2).encode()]);
            let started = start::payments(&store, Numbers::default()).unwrap();
            assert_eq!((started.pending(&open).is_some(), started.pending(&over).is_some()), (true, false));
            assert_eq!(started.last_index(), 2);
        }
    }

    #[test]
    fn wallet_log_keeps_its_order_over_restarts_and_compaction() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..3_u8 {
            let store = Store::open(folder.path()).unwrap();
            let log: &dyn ChangeLog = &store;
            let before: Vec<Vec<u8>> = (0..round * 2).map(|entry| vec![entry]).collect();
            assert_eq!(log.load().unwrap(), before);
            log.append(&[round * 2]).unwrap();
            log.append(&[round * 2 + 1]).unwrap();
        }
        let store = Store::open(folder.path()).unwrap();
        store.load().unwrap();
        store.replace(b"whole").unwrap();
        store.append(b"more").unwrap();
        assert_eq!(store.load().unwrap(), [b"whole".to_vec(), b"more".to_vec()]);
    }
}
