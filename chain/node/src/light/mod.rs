//! A light node: all headers, and of the blocks only the transactions that concern it (white paper, section 8; BIP 157).
//!
//! ```text
//!   headers of all peers ─▶ header tree ─▶ next block of the chain with most work that a peer stands for
//!                                               │ hashes of its filter, of several peers ─▶ do they agree? (`agree`)
//!   watched scripts ──▶ does the filter match? ◀┘          no: the block itself is looked at
//!   (`watch_set`)             │ yes: the block ─▶ merkle root, witness commitment ─▶ transactions that concern us
//!                             ▼
//!            one commit: place of the block, the transactions with their merkle branches, new scripts, tip
//! ```
//!
//! To all that use the node it looks like a full one: the active chain is as long as the blocks have been looked at, notices
//! tell of each of its blocks with the transactions that concern us, and `spender` and `transaction` answer from what is
//! kept. What is asked for by `spender` is watched from then on, and looked for in the blocks that were passed over.
//!
//! What it promises: whatever a block of the active chain has that pays to or spends from a watched script is kept, unless
//! all peers that were asked have named the same false filter. All rules for headers are checked; those for transactions
//! are left to the miners, whose work it follows.
//!
//! What it cannot know is refused by name ([`NodeError::LightNode`](crate::NodeError::LightNode)): unspent outputs, outputs
//! of others' channels, transactions that wait for a block, templates.

mod agree;
mod audit;
mod pool;
mod scan;
mod watch_set;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Instant;

use bitcoin::bip158::BlockFilter;
use bitcoin::{BlockHash, FeeRate, OutPoint, ScriptBuf, Transaction, Txid};
use leyden_net::PeerId;

pub(crate) use self::pool::{LightPool, relayed};
pub(crate) use self::scan::run;
use self::watch_set::WatchSet;
use crate::core::Core;
use crate::driver::Driver;
use crate::error::NodeError;
use crate::store::Store;
use crate::sync::{lock, read};

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
    set: Mutex<WatchSet>,
    /// Transactions of our own that wait for a block.
    pub(crate) pool: RwLock<LightPool>,
    /// One at a time looks at blocks or adds scripts.
    turn: tokio::sync::Mutex<()>,
    filters: Mutex<VecDeque<(BlockHash, BlockFilter)>>,
    /// Set once connections are there.
    driver: OnceLock<Driver>,
    /// Chains that no peer could show, and until when they are left alone.
    withheld: Mutex<HashMap<BlockHash, Instant>>,
    /// Peers whose word on the blocks of the past was heard.
    heard: Mutex<HashSet<PeerId>>,
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

    fn remember_filter(&self, hash: BlockHash, filter: BlockFilter) {
        let mut filters = lock(&self.filters);
        if filters.len() >= RECENT_FILTERS {
            filters.pop_front();
        }
        filters.push_back((hash, filter));
    }

    /// It was one of a peer that differs from others.
    fn forget_filter(&self, hash: &BlockHash) {
        lock(&self.filters).retain(|(of, _)| of != hash);
    }

    fn remembered_filter(&self, hash: &BlockHash) -> Option<BlockFilter> {
        lock(&self.filters).iter().find(|(of, _)| of == hash).map(|(_, filter)| filter.clone())
    }
}

/// What should be paid for a confirmation within so many blocks.
pub(crate) fn fee_rate(blocks: u32) -> FeeRate {
    if blocks <= FAST_BLOCKS { FAST } else { SLOW }
}

/// Watches scripts, of which those that are new concern no block below `since`. Resolves when all blocks up to the tip have
/// been looked at for them; waits for a peer if it takes one.
pub(crate) async fn watch(core: &Arc<Core>, scripts: Vec<ScriptBuf>, since: u32) -> Result<(), NodeError> {
    let Some(light) = &core.light else { return Ok(()) };
    if lock(&light.set).unwatched(scripts.iter().cloned()).is_empty() {
        return Ok(());
    }
    scan::add_scripts(core, light, scripts, since).await
}

/// Watches an output, so that the store tells who spends it. If its transaction is not known, it is watched as soon as that is
/// seen.
pub(crate) async fn watch_output(core: &Arc<Core>, outpoint: OutPoint) -> Result<(), NodeError> {
    let Some(light) = &core.light else { return Ok(()) };
    let Some((transaction, height)) = find(core, light, &outpoint.txid)? else {
        lock(&light.set).await_output(outpoint);
        return Ok(());
    };
    let output = usize::try_from(outpoint.vout).ok().and_then(|vout| transaction.output.get(vout));
    let Some(output) = output else { return Ok(()) };
    // One that waits is in no block yet.
    let since = height.unwrap_or_else(|| core.tip().height.saturating_add(1));
    watch(core, vec![output.script_pubkey.clone()], since).await
}

/// A kept transaction and its height; `None` for the height of one that waits.
fn find(core: &Core, light: &Light, txid: &Txid) -> Result<Option<(Transaction, Option<u32>)>, NodeError> {
    if let Some(waiting) = read(&light.pool).get(txid) {
        return Ok(Some((waiting.as_ref().clone(), None)));
    }
    let Some(position) = core.store.position(txid)? else { return Ok(None) };
    let Some(hash) = core.store.active_hash(position.height)? else { return Ok(None) };
    let kept = core.store.proofs(&hash)?.into_iter().find(|proof| proof.index == position.index);
    Ok(kept.map(|proof| (proof.transaction, Some(position.height))))
}
