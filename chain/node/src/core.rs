//! The chain and the mempool together: every change to either goes through here, one at a time.
//!
//! ```text
//!   writers:  chain (mutex) ──▶ index (write, moments) ──▶ mempool (write, moments) ──▶ events
//!   readers:  index (read), mempool (read), store: never wait for a block that is being checked
//! ```
//!
//! Only who holds the chain writes the index or the mempool, so whoever reads both can take them in any order; nobody
//! takes the chain while holding one of them. A tip is announced while the index is locked, so whoever subscribes under
//! that lock misses nothing and gets nothing twice.

mod mining;
mod own;
mod pool;
mod views;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use bitcoin::block::Header;
use bitcoin::{Block, BlockHash, Wtxid};
use leyden_consensus::{BlockError, Params};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::backend::ChainEvent;
use crate::chain_index::ChainIndex;
use crate::chainstate::{Chainstate, Shared, Step};
use crate::clock::Clock;
use crate::error::NodeError;
use crate::filter_index;
use crate::light_state::Light;
use crate::mempool::{FeeEstimator, Mempool, MempoolPolicy};
use crate::pruner::{PruneConfig, Pruner};
use crate::scripts::ScriptVerifier;
use crate::store::Store;
use crate::sync::{lock, read, write};
use crate::totals::Counters;
use crate::types::Tip;
use crate::waiting_blocks::WaitingBlocks;

/// How long whoever wants a block that is damaged on the disk waits until a peer has sent it, and how often it looks.
const LOST_PATIENCE: Duration = Duration::from_secs(20);
const LOST_LOOK: Duration = Duration::from_millis(50);
/// Events that a slow receiver may be behind before it has to ask anew.
const EVENTS_KEPT: usize = 4096;
/// Transactions whose scripts passed, which are not run again.
const SCRIPTS_REMEMBERED: usize = 200_000;

/// The state behind all handles.
pub struct Core {
    /// The network's rules.
    pub params: Arc<Params>,
    /// What the mempool takes and relays.
    pub policy: MempoolPolicy,
    /// Where the time comes from.
    pub clock: Clock,
    /// The database.
    pub store: Arc<Store>,
    /// The header tree and the active chain.
    pub index: Arc<RwLock<ChainIndex>>,
    /// The transactions that wait for a block.
    pub mempool: RwLock<Mempool>,
    /// Cancelled when the node stops, or a write has failed.
    pub shutdown: CancellationToken,
    pub(crate) chain: Mutex<Chainstate>,
    pub(crate) scripts: Arc<ScriptVerifier>,
    pub(crate) waiting: WaitingBlocks,
    mempool_sequence: AtomicU64,
    /// What has happened since the start.
    pub counters: Counters,
    /// The last block that was mined here, and when that was.
    pub found_tip: Mutex<Option<(BlockHash, Instant)>>,
    /// The time of the latest header that was refused for it although its chain would be the best.
    pub refused_time: Mutex<Option<u32>>,
    /// What a light node has in the place of blocks; `None` in a full one.
    pub(crate) light: Option<Light>,
    /// All blocks of the active chain have their filters.
    pub has_filters: AtomicBool,
    /// Which blocks are given up.
    pub pruner: Pruner,
    fees: Mutex<FeeEstimator>,
    refused: Mutex<HashSet<Wtxid>>,
    events: broadcast::Sender<ChainEvent>,
}

impl Core {
    /// Loads the chain from its store.
    pub fn open(
        params: Arc<Params>,
        policy: MempoolPolicy,
        clock: Clock,
        store: Arc<Store>,
        coins_in_memory: usize,
        prune: Option<PruneConfig>,
    ) -> Result<Self, NodeError> {
        Self::open_as(params, policy, clock, store, coins_in_memory, prune, None)
    }

    /// Loads a light node's chain from its store.
    pub fn open_light(
        params: Arc<Params>,
        policy: MempoolPolicy,
        clock: Clock,
        store: Arc<Store>,
    ) -> Result<Self, NodeError> {
        let light = Light::open(&store)?;
        Self::open_as(params, policy, clock, store, 1, None, Some(light))
    }

    fn open_as(
        params: Arc<Params>,
        policy: MempoolPolicy,
        clock: Clock,
        store: Arc<Store>,
        coins_in_memory: usize,
        prune: Option<PruneConfig>,
        light: Option<Light>,
    ) -> Result<Self, NodeError> {
        let index = Arc::new(RwLock::new(ChainIndex::new(Arc::clone(&params))));
        let shared = Shared {
            params: Arc::clone(&params),
            store: Arc::clone(&store),
            index: Arc::clone(&index),
            scripts: Arc::new(ScriptVerifier::new(SCRIPTS_REMEMBERED)),
        };
        let chain = Chainstate::open(&shared, coins_in_memory)?;
        let core = Self {
            params,
            policy,
            clock,
            store,
            index,
            mempool: RwLock::default(),
            shutdown: CancellationToken::new(),
            chain: Mutex::new(chain),
            scripts: shared.scripts,
            waiting: WaitingBlocks::default(),
            mempool_sequence: AtomicU64::new(1),
            counters: Counters::default(),
            found_tip: Mutex::default(),
            refused_time: Mutex::default(),
            light,
            has_filters: AtomicBool::new(false),
            pruner: Pruner::new(prune),
            fees: Mutex::default(),
            refused: Mutex::default(),
            events: broadcast::channel(EVENTS_KEPT).0,
        };
        filter_index::begin(&core.store, &core.params.genesis)?;
        // The process may have stopped after it stored blocks and before it made their chain the active one.
        match core.advance(&mut lock(&core.chain), &mut Vec::new()) {
            // A block that would have to come off is damaged: peers are asked for it, which needs a node that runs.
            Err(NodeError::MissingData(hash)) => {
                tracing::warn!(%hash, "the tip stays where it is until the block is here")
            }
            advanced => advanced?,
        }
        core.warn_of_invalid_tip();
        Ok(core)
    }

    /// A tip that was marked when it could not be taken off is none that the network follows.
    fn warn_of_invalid_tip(&self) {
        let tip = self.tip();
        if read(&self.index).tree.get(&tip.hash).is_some_and(|known| !known.validity.is_valid()) {
            tracing::error!(
                height = tip.height,
                "a block of this node's chain is marked as invalid and cannot be taken off: take the mark back with \
                 `reconsiderblock {}`, or start with an empty chain database",
                tip.hash
            );
        }
    }

    /// Takes the scripts of this block and all before it as valid, as long as it lies deep in the chain with most work
    /// ([`ChainIndex::is_assumed_valid`]). Everything else is checked.
    pub fn assume_valid(&self, hash: BlockHash) {
        write(&self.index).assumed_valid = Some(hash);
    }

    /// A block whose header is known. One that is damaged is waited for while peers are asked for it. *Blocking.*
    pub(crate) fn block_from_anywhere(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, NodeError> {
        let begun = Instant::now();
        loop {
            let found = self.store.block(hash)?;
            let is_worth_waiting = self.store.is_lost(hash) && begun.elapsed() < LOST_PATIENCE;
            if found.is_some() || !is_worth_waiting || self.shutdown.is_cancelled() {
                return Ok(found);
            }
            std::thread::sleep(LOST_LOOK);
        }
    }

    /// Nothing changes the chain while this is held.
    pub(crate) fn hold_chain(&self) -> MutexGuard<'_, Chainstate> {
        lock(&self.chain)
    }

    /// The active chain's last block.
    pub fn tip(&self) -> Tip {
        read(&self.index).tip()
    }

    /// What is true of the tip while no block is connected.
    pub(crate) fn chain_rests<R>(&self, of: impl FnOnce(BlockHash) -> Result<R, NodeError>) -> Result<R, NodeError> {
        let _chain = lock(&self.chain);
        of(self.tip().hash)
    }

    /// Events from now on, and the tip at this very moment.
    pub fn subscribe(&self) -> (broadcast::Receiver<ChainEvent>, Tip) {
        let index = read(&self.index);
        (self.events.subscribe(), index.tip())
    }

    /// Takes every step that is to be taken.
    pub(crate) fn advance(
        &self,
        chain: &mut Chainstate,
        invalid: &mut Vec<(BlockHash, BlockError)>,
    ) -> Result<(), NodeError> {
        while let Some(step) = chain.activate(invalid, |tip| self.announce(ChainEvent::Tip(tip)))? {
            self.note_step(chain, &step)?;
        }
        Ok(())
    }

    /// What a committed step means for everything but the coins.
    pub(crate) fn note_step(&self, chain: &Chainstate, step: &Step) -> Result<(), NodeError> {
        self.counters.note_step(step.disconnected.len(), step.connected.len());
        self.follow(chain, step)
    }

    /// Refuses what a light node does not have.
    pub(crate) fn full(&self, what: &'static str) -> Result<(), NodeError> {
        if self.light.is_some() { Err(NodeError::LightNode(what)) } else { Ok(()) }
    }

    /// The block as notices tell of it: a light node has those of its transactions that concern it.
    pub(crate) fn told_block(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, NodeError> {
        if self.light.is_none() {
            return self.block_from_anywhere(hash);
        }
        let Some(known) = read(&self.index).tree.get(hash) else { return Ok(None) };
        let txdata = self.store.proofs(hash)?.into_iter().map(|proof| proof.transaction).collect();
        Ok(Some(Arc::new(Block { header: known.header, txdata })))
    }

    pub(crate) fn announce(&self, event: ChainEvent) {
        // Nobody listening is no failure.
        let _ = self.events.send(event);
    }

    /// Brings the mempool to the new tip.
    fn follow(&self, chain: &Chainstate, step: &Step) -> Result<(), NodeError> {
        let now = self.clock.now();
        lock(&self.refused).clear();
        if step.disconnected.is_empty() {
            // Read before the pool is locked: its readers shall not wait for a disk.
            let blocks: Result<Vec<_>, _> = step.connected.iter().map(|at| chain.stored_block(&at.hash)).collect();
            let mut pool = write(&self.mempool);
            for (at, block) in step.connected.iter().zip(blocks?) {
                self.confirm(&mut pool, &block, &chain.ids_of(&at.hash, &block));
            }
            self.note_time(&mut pool, now);
        } else {
            // Judging everything anew takes a while, and readers shall not wait for it.
            let mut pool = read(&self.mempool).clone();
            for at in &step.connected {
                let block = chain.stored_block(&at.hash)?;
                self.confirm(&mut pool, &block, &chain.ids_of(&at.hash, &block));
            }
            self.note_time(&mut pool, now);
            self.return_transactions(chain, &mut pool, step)?;
            *write(&self.mempool) = pool;
        }
        Ok(())
    }

    /// A header from the future says something of our clock if it is on the best chain.
    fn note_refused(&self, header: &Header) {
        let index = read(&self.index);
        let parent = index.tree.get(&header.prev_blockhash);
        if parent.is_some_and(|parent| parent.chain_work + header.work() > index.tip().work) {
            *lock(&self.refused_time) = Some(header.time);
        }
    }
}
