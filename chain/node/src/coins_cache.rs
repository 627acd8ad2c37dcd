//! Unspent outputs: a cache in front of the database, and a step's changes in front of the cache.
//!
//! ```text
//!   Overlay (one step: several blocks off and on) ──▶ CoinsCache (memory) ──▶ Store (disk)
//!        ├── committed: one batch to the store, then the cache learns of it
//!        ├── too large: put aside on the disk meanwhile (`step`), and read from there
//!        └── dropped:   nothing happened
//! ```
//!
//! The cache never holds anything that the database does not: a step is written through before it is seen. So a crash
//! loses nothing, and a step that fails leaves no trace.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bitcoin::OutPoint;
use leyden_consensus::{Coin, CoinChanges, CoinSource};

use crate::error::StoreError;
use crate::store::{Batch, Store};
use crate::sync::lock;

/// What the database says of recently used outpoints, `None` for those without a coin.
pub struct CoinsCache {
    store: Arc<Store>,
    generations: Mutex<Generations>,
    capacity: usize,
}

/// Entries enter the young generation; when it is full it becomes the old one, and what was old and not used since is
/// forgotten.
#[derive(Default)]
struct Generations {
    young: HashMap<OutPoint, Option<Coin>>,
    old: HashMap<OutPoint, Option<Coin>>,
}

impl CoinsCache {
    /// A cache for about `capacity` outpoints (some 150 bytes each).
    pub fn new(store: Arc<Store>, capacity: usize) -> Self {
        Self { store, generations: Mutex::default(), capacity }
    }

    /// The database behind the cache.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Takes over what has just been written to the database.
    fn learn(&self, changes: HashMap<OutPoint, Option<Coin>>) {
        let mut generations = self.lock();
        for (outpoint, coin) in changes {
            self.insert(&mut generations, outpoint, coin);
        }
    }

    /// The database has changed in more than is worth learning.
    fn forget(&self) {
        *self.lock() = Generations::default();
    }

    fn insert(&self, generations: &mut Generations, outpoint: OutPoint, coin: Option<Coin>) {
        if generations.young.len() >= self.capacity / 2 {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(outpoint, coin);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        lock(&self.generations)
    }
}

impl CoinSource for CoinsCache {
    type Error = StoreError;

    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, StoreError> {
        let mut generations = self.lock();
        if let Some(coin) = generations.young.get(outpoint) {
            return Ok(coin.clone());
        }
        let coin = match generations.old.remove(outpoint) {
            Some(coin) => coin,
            None => self.store.coin(outpoint)?,
        };
        self.insert(&mut generations, *outpoint, coin.clone());
        Ok(coin)
    }
}

/// The coins as they will be after a step that is not committed yet.
pub struct Overlay<'a> {
    cache: &'a CoinsCache,
    changes: HashMap<OutPoint, Option<Coin>>,
    /// Earlier changes wait on the disk.
    is_staged: bool,
}

impl<'a> Overlay<'a> {
    /// No change yet.
    pub fn new(cache: &'a CoinsCache) -> Self {
        Self { cache, changes: HashMap::new(), is_staged: false }
    }

    /// A block of the step went on or came off.
    pub fn apply(&mut self, changes: &CoinChanges) {
        for (outpoint, change) in changes {
            self.changes.insert(*outpoint, change.after().cloned());
        }
    }

    /// What has to be written for the step.
    pub fn changes(&self) -> impl Iterator<Item = (&OutPoint, Option<&Coin>)> {
        self.changes.iter().map(|(outpoint, coin)| (outpoint, coin.as_ref()))
    }

    /// Changes that are in memory.
    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether some of the changes wait on the disk.
    pub(crate) fn is_staged(&self) -> bool {
        self.is_staged
    }

    /// Hands over the changes to a batch that will be staged.
    pub(crate) fn move_to(&mut self, batch: &mut Batch) {
        for (outpoint, coin) in self.changes.drain() {
            batch.put_coin(&outpoint, coin.as_ref());
        }
        self.is_staged = true;
    }

    /// The step has been written.
    pub fn committed(self) {
        if self.is_staged {
            self.cache.forget();
        } else {
            self.cache.learn(self.changes);
        }
    }
}

impl CoinSource for Overlay<'_> {
    type Error = StoreError;

    fn coin(&self, outpoint: &OutPoint) -> Result<Option<Coin>, StoreError> {
        if let Some(coin) = self.changes.get(outpoint) {
            return Ok(coin.clone());
        }
        if self.is_staged
            && let Some(coin) = self.cache.store.staged_coin(outpoint)?
        {
            return Ok(coin);
        }
        self.cache.coin(outpoint)
    }
}
