//! What a light node has beside headers and its database: [`crate::light`] works on it.

mod pool;
mod watch_set;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, RwLock};
use std::time::Instant;

use bitcoin::bip158::{BlockFilter, FilterHeader};
use bitcoin::{BlockHash, FeeRate, ScriptBuf, Transaction};
use leyden_net::PeerId;

pub(crate) use self::pool::{LightPool, relayed};
pub(crate) use self::watch_set::WatchSet;
use crate::driver::Driver;
use crate::error::NodeError;
use crate::store::Store;
use crate::sync::lock;

/// Filters of the last blocks, so that a script that is watched a little late costs no question: some megabytes.
const RECENT_FILTERS: usize = 144;
/// What is paid for a place in the next blocks. A light node sees no fees of others: this is more than chains without a
/// crowd ask for, and channels raise what they claim with as a deadline comes near.
const FAST: FeeRate = FeeRate::from_sat_per_vb_u32(10);
/// What is paid when nothing presses.
const SLOW: FeeRate = FeeRate::from_sat_per_vb_u32(5);
/// Up to which target something presses.
const FAST_BLOCKS: u32 = 6;

/// What a light node has beside headers and its database.
pub(crate) struct Light {
    pub(crate) set: Mutex<WatchSet>,
    /// Transactions of our own that wait for a block.
    pub(crate) pool: RwLock<LightPool>,
    /// One at a time looks at blocks or adds scripts.
    pub(crate) turn: tokio::sync::Mutex<()>,
    pub(crate) filters: Mutex<VecDeque<(BlockHash, BlockFilter)>>,
    /// Set once connections are there.
    pub(crate) driver: OnceLock<Driver>,
    /// Chains that no peer could show, and until when they are left alone.
    pub(crate) withheld: Mutex<HashMap<BlockHash, Instant>>,
    /// When the ends of chains with more work than the active one were first seen.
    pub(crate) first_seen: Mutex<HashMap<BlockHash, Instant>>,
    /// Up to which block each connected peer's word was held against what stands.
    pub(crate) heard: Mutex<HashMap<PeerId, BlockHash>>,
    /// A block, and the filter header there of a peer that was heard of all blocks up to it: who names the same one agrees.
    pub(crate) vouched: Mutex<Option<(BlockHash, FilterHeader)>>,
    /// Blocks that are to be looked at, whatever is said of their filters.
    pub(crate) to_look: Mutex<HashSet<BlockHash>>,
    /// Blocks that are looked at because of what single peers say.
    pub(crate) looks: tokio::sync::Semaphore,
    /// The height of an old block that a search needs and no connected peer keeps.
    pub(crate) lacks: Mutex<Option<u32>>,
    /// Counts whatever a search that waits for its turn cannot build upon: exchanged blocks, other scripts.
    changes: AtomicU64,
}

/// Blocks that are looked at at a time because of what single peers say: some megabytes each.
const LOOKS_AT_A_TIME: usize = 4;

impl Light {
    /// With what the store has.
    pub(crate) fn open(store: &Store) -> Result<Self, NodeError> {
        Ok(Self {
            set: Mutex::new(WatchSet::new(store.watched()?, &store.kept()?)),
            pool: RwLock::default(),
            turn: tokio::sync::Mutex::default(),
            filters: Mutex::default(),
            driver: OnceLock::new(),
            withheld: Mutex::default(),
            first_seen: Mutex::default(),
            heard: Mutex::default(),
            vouched: Mutex::default(),
            to_look: Mutex::default(),
            looks: tokio::sync::Semaphore::new(LOOKS_AT_A_TIME),
            lacks: Mutex::default(),
            changes: AtomicU64::new(0),
        })
    }

    /// Blocks can be asked for from now on.
    pub(crate) fn connect(&self, driver: Driver) {
        // Nothing else sets it.
        let _ = self.driver.set(driver);
    }

    /// Outputs of this transaction whose spends were asked for before it was known.
    pub(crate) fn awaited_of(&self, transaction: &Transaction) -> Vec<ScriptBuf> {
        lock(&self.set).awaited_of(transaction)
    }

    /// Blocks of the active chain were exchanged, or scripts added.
    pub(crate) fn blocks_change(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Differs from what it was before if blocks were exchanged, or scripts added.
    pub(crate) fn state_of_blocks(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// All peers are to be heard again.
    pub(crate) fn forget_heard(&self) {
        lock(&self.heard).clear();
        *lock(&self.vouched) = None;
    }

    /// How many scripts are watched.
    pub(crate) fn scripts(&self) -> usize {
        lock(&self.set).scripts().len()
    }

    pub(crate) fn remember_filter(&self, hash: BlockHash, filter: BlockFilter) {
        let mut filters = lock(&self.filters);
        if filters.len() >= RECENT_FILTERS {
            filters.pop_front();
        }
        filters.push_back((hash, filter));
    }

    /// It was one of a peer that differs from others.
    pub(crate) fn forget_filter(&self, hash: &BlockHash) {
        lock(&self.filters).retain(|(of, _)| of != hash);
    }

    pub(crate) fn remembered_filter(&self, hash: &BlockHash) -> Option<BlockFilter> {
        lock(&self.filters).iter().find(|(of, _)| of == hash).map(|(_, filter)| filter.clone())
    }
}

/// What should be paid for a confirmation within so many blocks.
pub(crate) fn fee_rate(blocks: u32) -> FeeRate {
    if blocks <= FAST_BLOCKS { FAST } else { SLOW }
}
