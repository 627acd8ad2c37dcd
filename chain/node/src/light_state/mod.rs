//! What a light node has beside headers and its database: [`crate::light`] works on it.

mod pool;
mod watch_set;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, OnceLock, RwLock};
use std::time::Instant;

use bitcoin::bip158::BlockFilter;
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
    /// Peers whose word on the blocks of the past was heard.
    pub(crate) heard: Mutex<HashSet<PeerId>>,
}

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
            heard: Mutex::default(),
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
