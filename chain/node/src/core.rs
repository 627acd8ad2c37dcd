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

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::{Duration, Instant};

use bitcoin::block::Header;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::relative::LockTime;
use bitcoin::{Amount, Block, BlockHash, CompactTarget, ScriptBuf, Target, Transaction, Txid, Work, Wtxid};
use leyden_consensus::locktime::is_final;
use leyden_consensus::subsidy::block_subsidy;
use leyden_consensus::transaction::check_transaction;
use leyden_consensus::{BlockError, BlockIds, HeaderChain as _, HeaderError, Params};
use leyden_net::{ChainView, FilterRequest, HeaderEntry, MempoolView, RelayedTx, TxName};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, BlockAccepted, ChainEvent, HeadersAccepted};
use crate::chain_index::ChainIndex;
use crate::chainstate::{Chainstate, Shared, Step, Submitted};
use crate::clock::Clock;
use crate::error::{BlockRejected, HeadersRejected, MempoolError, NodeError, PackageError};
use crate::filter_index;
use crate::light_state::{self, Light, relayed};
use crate::mempool::accept::{Acceptor, Applied, NextBlock, SubmissionKind};
use crate::mempool::file::{self, FileError, Kept, Reader};
use crate::mempool::{Entry, FeeEstimator, Mempool, MempoolPolicy, package};
use crate::prepared::PreparedBlock;
use crate::pruner::{PruneConfig, Pruner};
use crate::scripts::ScriptVerifier;
use crate::store::Store;
use crate::sync::{lock, read, write};
use crate::template::{self, Template, TemplateContext};
use crate::totals::Counters;
use crate::types::{Accepted, RemovalReason, Tested, Tip};
use crate::waiting_blocks::WaitingBlocks;

/// How long whoever wants a block that is damaged on the disk waits until a peer has sent it, and how often it looks.
const LOST_PATIENCE: Duration = Duration::from_secs(20);
const LOST_LOOK: Duration = Duration::from_millis(50);
/// Events that a slow receiver may be behind before it has to ask anew.
const EVENTS_KEPT: usize = 4096;
/// Transactions whose scripts passed, which are not run again.
const SCRIPTS_REMEMBERED: usize = 200_000;
/// Bytes of disconnected blocks whose transactions come back into the mempool (Bitcoin Core's 20 MB). Those of the lowest
/// blocks come first: the others may depend on them.
const RETURNED_BYTES: usize = 20_000_000;
/// Transactions that were refused for good since the last block.
const MAX_REFUSED: usize = 50_000;

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

    /// The number that the next transaction gets which comes into the mempool, or leaves it for another reason than its
    /// confirmation; 1 at the start.
    pub fn mempool_sequence(&self) -> u64 {
        self.mempool_sequence.load(Ordering::Relaxed)
    }

    fn next_mempool_sequence(&self) -> u64 {
        self.mempool_sequence.fetch_add(1, Ordering::Relaxed)
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

    /// A light node's own transaction: it goes to the peers, which say nothing of what they think of it.
    fn submit_own(&self, light: &Light, transaction: &Arc<Transaction>) -> Result<Txid, MempoolError> {
        let txid = transaction.compute_txid();
        check_transaction(transaction).map_err(MempoolError::Invalid)?;
        if transaction.is_coinbase() {
            return Err(MempoolError::Coinbase);
        }
        if self.store.position(&txid).map_err(NodeError::from)?.is_some() {
            return Err(MempoolError::AlreadyConfirmed(txid));
        }
        self.check_own_locks(light, transaction)?;
        if read(&light.pool).get(&txid).is_some() {
            self.announce(own_event(transaction, self.next_mempool_sequence()));
            return Err(MempoolError::AlreadyInMempool(txid));
        }
        let replaced = write(&light.pool).insert(transaction);
        self.announce_gone(&replaced, RemovalReason::Replaced);
        self.announce(own_event(transaction, self.next_mempool_sequence()));
        Ok(txid)
    }

    /// Whether the next block may hold it, as far as what it spends is known.
    fn check_own_locks(&self, light: &Light, transaction: &Transaction) -> Result<(), MempoolError> {
        let tip = self.tip();
        let next = tip.height.saturating_add(1);
        if !is_final(transaction, next, tip.median_time_past) {
            return Err(MempoolError::NonFinal);
        }
        for input in &transaction.input {
            let coin = input.previous_output;
            let spend = self.store.spend(&coin).map_err(NodeError::from)?;
            if spend.is_some() {
                return Err(MempoolError::MissingInputs(coin));
            }
            let Some(LockTime::Blocks(blocks)) = input.sequence.to_relative_lock_time() else { continue };
            let parent = self.store.position(&coin.txid).map_err(NodeError::from)?;
            let is_open = match parent {
                Some(parent) => parent.height.saturating_add(u32::from(blocks.value())) <= next,
                None => blocks.value() == 0 || read(&light.pool).get(&coin.txid).is_none(),
            };
            if !is_open && transaction.version.0 >= 2 {
                return Err(MempoolError::NonBip68Final);
            }
        }
        Ok(())
    }

    /// Blocks hold these transactions of a light node now: they, and what cannot confirm beside them, wait no more.
    pub(crate) fn confirm_own(&self, light: &Light, confirmed: &[Transaction]) {
        for transaction in confirmed {
            let conflicts = {
                let mut pool = write(&light.pool);
                pool.remove(&transaction.compute_txid());
                pool.remove_conflicts(transaction)
            };
            self.announce_gone(&conflicts, RemovalReason::Conflict);
        }
    }

    /// No block holds this transaction of a light node any more: it waits again, if nothing else took its place.
    pub(crate) fn return_own(&self, light: &Light, transaction: Transaction) {
        let transaction = Arc::new(transaction);
        if let Err(error) = self.submit_own(light, &transaction) {
            tracing::debug!(%error, "a transaction of a disconnected block does not wait again");
        }
    }

    fn announce_gone(&self, transactions: &[Arc<Transaction>], reason: RemovalReason) {
        for transaction in transactions {
            let (txid, wtxid) = (transaction.compute_txid(), transaction.compute_wtxid());
            let (transaction, sequence) = (Arc::clone(transaction), self.next_mempool_sequence());
            self.announce(ChainEvent::TransactionRemoved { transaction, txid, wtxid, reason, sequence });
        }
    }

    pub(crate) fn announce(&self, event: ChainEvent) {
        // Nobody listening is no failure.
        let _ = self.events.send(event);
    }

    fn announce_removed(&self, entries: &[Entry], reason: RemovalReason) {
        for entry in entries {
            let (txid, wtxid) = (entry.txid, entry.wtxid);
            let (transaction, sequence) = (Arc::clone(&entry.transaction), self.next_mempool_sequence());
            self.announce(ChainEvent::TransactionRemoved { transaction, txid, wtxid, reason, sequence });
        }
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

    fn confirm(&self, pool: &mut Mempool, block: &Block, ids: &BlockIds) {
        let confirmed = pool.confirm(block, ids.txids());
        lock(&self.fees).note_block(block.weight().to_wu(), &confirmed.mined);
        self.announce_removed(&confirmed.conflicts, RemovalReason::Conflict);
    }

    fn note_time(&self, pool: &mut Mempool, now: u64) {
        let expired = pool.expire(now.saturating_sub(self.policy.expiry_seconds));
        self.announce_removed(&expired, RemovalReason::Expired);
        pool.note_block(&self.policy, now);
    }

    /// After a reorganisation everything is judged anew: what the old blocks held, the lowest of them first and up to
    /// [`RETURNED_BYTES`], then what the pool held.
    fn return_transactions(&self, chain: &Chainstate, pool: &mut Mempool, step: &Step) -> Result<(), NodeError> {
        let old = pool.drain();
        let mut bytes = 0usize;
        for at in step.disconnected.iter().rev() {
            let block = chain.stored_block(&at.hash)?;
            bytes = bytes.saturating_add(block.total_size());
            if bytes > RETURNED_BYTES {
                tracing::warn!(height = at.height, "transactions of disconnected blocks from here on are not kept");
                break;
            }
            for transaction in block.txdata.iter().skip(1) {
                match self.judge_returning(chain, pool, Arc::new(transaction.clone())) {
                    Ok(plan) => drop(self.apply(pool, plan, true)),
                    Err(error) => tracing::debug!(%error, "a transaction of a disconnected block is not kept"),
                }
            }
        }
        for entry in old {
            match self.judge_returning(chain, pool, Arc::clone(&entry.transaction)) {
                Ok(mut plan) => {
                    // It waits since it came, not since the reorganisation.
                    plan.entries.iter_mut().for_each(|new| new.time = entry.time);
                    self.apply(pool, plan, false);
                }
                Err(_) => self.announce_removed(&[entry], RemovalReason::Reorganisation),
            }
        }
        Ok(())
    }

    fn judge_returning(
        &self,
        chain: &Chainstate,
        pool: &Mempool,
        transaction: Arc<Transaction>,
    ) -> Result<crate::mempool::Plan, MempoolError> {
        self.acceptor(chain, pool, |acceptor| acceptor.check(transaction, SubmissionKind::Return))
    }

    fn acceptor<R>(&self, chain: &Chainstate, pool: &Mempool, use_it: impl FnOnce(&Acceptor<'_>) -> R) -> R {
        let tip = self.tip();
        let times = |height: u32| {
            let index = read(&self.index);
            let hash = index.active_at(height)?;
            index.tree.median_time_past(&hash)
        };
        let acceptor = Acceptor {
            pool,
            policy: &self.policy,
            coins: chain.coins(),
            scripts: chain.scripts(),
            place: NextBlock {
                height: tip.height.saturating_add(1),
                parent_median_time: tip.median_time_past,
                times: &times,
            },
            now: self.clock.now(),
        };
        use_it(&acceptor)
    }

    /// What had to go for it.
    fn apply(&self, pool: &mut Mempool, plan: crate::mempool::Plan, announce: bool) -> Vec<Txid> {
        let entries = plan.entries.clone();
        let Applied { replaced, evicted } = pool.apply(plan, &self.policy, self.clock.now());
        self.announce_removed(&replaced, RemovalReason::Replaced);
        let (own, others): (Vec<Entry>, Vec<Entry>) =
            evicted.into_iter().partition(|evicted| entries.iter().any(|entry| entry.txid == evicted.txid));
        self.announce_removed(&others, RemovalReason::Evicted);
        for entry in entries.iter().filter(|entry| announce && !own.iter().any(|own| own.txid == entry.txid)) {
            self.announce(ChainEvent::Transaction {
                transaction: Arc::clone(&entry.transaction),
                txid: entry.txid,
                wtxid: entry.wtxid,
                fee_rate: entry.rate().per_kwu(),
                sequence: self.next_mempool_sequence(),
            });
        }
        replaced.iter().map(|entry| entry.txid).collect()
    }

    /// What had to go for it.
    fn accept_one(&self, chain: &Chainstate, transaction: Arc<Transaction>) -> Result<Vec<Txid>, MempoolError> {
        let plan = {
            let pool = read(&self.mempool);
            self.acceptor(chain, &pool, |acceptor| acceptor.check(Arc::clone(&transaction), SubmissionKind::New))
        };
        match plan {
            Ok(plan) => self.accept_plan(plan),
            Err(error) => {
                if !error.may_be_accepted_later() {
                    self.refuse(transaction.compute_wtxid());
                }
                Err(error)
            }
        }
    }

    /// Applies a plan of new transactions; all of them must survive the eviction that may follow. What had to go for them.
    fn accept_plan(&self, plan: crate::mempool::Plan) -> Result<Vec<Txid>, MempoolError> {
        let txids: Vec<Txid> = plan.entries.iter().map(|entry| entry.txid).collect();
        let mut pool = write(&self.mempool);
        let replaced = self.apply(&mut pool, plan, true);
        if txids.iter().all(|txid| pool.contains(txid)) { Ok(replaced) } else { Err(MempoolError::MempoolFull) }
    }

    fn refuse(&self, wtxid: Wtxid) {
        let mut refused = lock(&self.refused);
        if refused.len() >= MAX_REFUSED {
            refused.clear();
        }
        refused.insert(wtxid);
    }

    /// Takes back what the mempool held when it was saved, as far as it is still valid. Returns how many there were and
    /// how many are back; `None` if the node stops before all were read.
    pub fn restore_mempool(&self, mut file: Reader) -> Result<Option<(u64, usize)>, FileError> {
        let (all, oldest) = (file.left(), self.clock.now().saturating_sub(self.policy.expiry_seconds));
        let mut back = 0usize;
        while let Some(Kept { transaction, time, delta }) = file.read()? {
            if self.shutdown.is_cancelled() {
                return Ok(None);
            }
            if delta != 0 {
                self.prioritise(transaction.compute_txid(), delta);
            }
            if time < oldest {
                continue;
            }
            // One at a time: blocks and peers' transactions are not kept waiting.
            let chain = lock(&self.chain);
            let plan = self.judge_returning(&chain, &read(&self.mempool), Arc::new(transaction));
            let Ok(mut plan) = plan else { continue };
            plan.entries.iter_mut().for_each(|entry| entry.time = time);
            back += usize::from(self.accept_plan(plan).is_ok());
        }
        while let Some((txid, delta)) = file.read_delta()? {
            self.prioritise(txid, delta);
        }
        Ok(Some((all, back)))
    }

    /// Adds so many satoshi to what a transaction counts as paying when blocks are made, now or when it comes.
    pub fn prioritise(&self, txid: Txid, delta: i64) {
        // Whoever works on a copy of the pool holds the chain.
        let _chain = lock(&self.chain);
        write(&self.mempool).prioritise(txid, delta);
    }

    /// Saves the mempool for [`Self::restore_mempool`]. Returns how many transactions it holds.
    pub fn save_mempool(&self, path: &std::path::Path) -> std::io::Result<usize> {
        let (entries, others) = {
            let pool = read(&self.mempool);
            let deltas: BTreeMap<Txid, i64> = pool.priorities().map(|(txid, delta)| (*txid, delta)).collect();
            let delta = |entry: &Entry| deltas.get(&entry.txid).copied().unwrap_or(0);
            let entries: Vec<(Arc<Transaction>, u64, i64)> =
                pool.iter().map(|entry| (Arc::clone(&entry.transaction), entry.time, delta(entry))).collect();
            let others: Vec<(Txid, i64)> = deltas.into_iter().filter(|(txid, _)| !pool.contains(txid)).collect();
            (entries, others)
        };
        let kept = entries.iter().map(|(transaction, time, delta)| (transaction.as_ref(), *time, *delta));
        file::write(path, kept, &others)?;
        Ok(entries.len())
    }

    /// Would the transactions be accepted now, each with those before it? Nothing changes. There are as many answers as
    /// transactions up to the first that is refused; what follows is not looked at.
    pub fn test_transactions(&self, transactions: Vec<Transaction>) -> Result<Vec<Tested>, MempoolError> {
        self.full("what transactions spend, so that it cannot check them")?;
        let transactions: Vec<Arc<Transaction>> = transactions.into_iter().map(Arc::new).collect();
        package::check_list(&transactions, &self.policy)?;
        let chain = lock(&self.chain);
        // A copy that they may come into: those that follow spend their outputs.
        let mut pool = match transactions.as_slice() {
            [_] => None,
            _ => Some(read(&self.mempool).clone()),
        };
        let mut answers = Vec::new();
        for transaction in transactions {
            let check = |pool: &Mempool| {
                self.acceptor(&chain, pool, |acceptor| acceptor.check(Arc::clone(&transaction), SubmissionKind::New))
            };
            let plan = match &pool {
                Some(pool) => check(pool),
                None => check(&read(&self.mempool)),
            };
            let plan = match plan {
                Ok(plan) => plan,
                Err(error) => {
                    answers.push(Err(error));
                    break;
                }
            };
            answers.push(Ok(plan.entries.first().map_or(Accepted::default(), Accepted::of)));
            if let Some(pool) = &mut pool {
                pool.apply(plan, &self.policy, self.clock.now());
            }
        }
        Ok(answers)
    }

    /// A block on top of the tip, checked by the same rules as any other.
    pub fn template(&self, script: ScriptBuf, extra_nonce: u64) -> Result<Template, NodeError> {
        self.full("blocks to mine on")?;
        let chain = lock(&self.chain);
        self.store.check_running()?;
        let context = self.template_context()?;
        let template = template::build(&read(&self.mempool), &context, script.clone(), extra_nonce);
        match chain.check_template(&template.block) {
            Ok(()) => return Ok(template),
            Err(BlockRejected::Node(error)) => return Err(error),
            // A bug of the mempool's; mining goes on without it.
            Err(error) => tracing::error!(%error, "the mempool's transactions do not make a valid block"),
        }
        let empty = template::assemble(Vec::new(), Amount::ZERO, &context, script, extra_nonce);
        chain.check_template(&empty.block).map_err(|error| NodeError::InvalidTemplate(Box::new(error)))?;
        Ok(empty)
    }

    /// More to search for a template whose nonces are used up: the time of now, with the target that goes with it, and another
    /// extra nonce. `false` if there is another tip.
    pub fn roll_template(&self, template: &mut Template) -> Result<bool, NodeError> {
        let context = self.template_context()?;
        let header = &mut template.block.header;
        if context.parent != header.prev_blockhash {
            return Ok(false);
        }
        (header.time, header.bits) = (context.time, context.bits);
        template.set_extra_nonce(rand::random());
        Ok(true)
    }

    /// The target that the next block needs to meet if it is made now.
    pub fn next_bits(&self) -> Result<CompactTarget, NodeError> {
        Ok(self.template_context()?.bits)
    }

    /// Expected hashes for the next block, and what all miners did per second over the last blocks.
    pub fn network_work(&self) -> Result<(Work, f64), NodeError> {
        const SPAN: u32 = 120;
        let rate = self.hash_rate_over(self.tip().height, SPAN)?;
        Ok((Target::from_compact(self.next_bits()?).to_work(), rate))
    }

    /// What all miners did per second over the `span` blocks that end at `height`; 0 if these took no time.
    pub fn hash_rate_over(&self, height: u32, span: u32) -> Result<f64, NodeError> {
        let index = read(&self.index);
        let at = |height: u32| index.active_at(height).and_then(|hash| index.tree.get(&hash));
        let (Some(first), Some(last)) = (at(height.saturating_sub(span)), at(height)) else { return Ok(0.0) };
        let times = || {
            index.tree.branch(&last.hash).map(|branch| {
                (first.height..=last.height)
                    .filter_map(move |height| branch.header_at(height).map(|header| header.time))
            })
        };
        // Times may step back between two blocks.
        let (earliest, latest) = (times().and_then(Iterator::min), times().and_then(Iterator::max));
        let seconds = latest.unwrap_or(0).saturating_sub(earliest.unwrap_or(0));
        let work = as_f64(last.chain_work) - as_f64(first.chain_work);
        Ok(if seconds == 0 { 0.0 } else { work / f64::from(seconds) })
    }

    /// A header from the future says something of our clock if it is on the best chain.
    fn note_refused(&self, header: &Header) {
        let index = read(&self.index);
        let parent = index.tree.get(&header.prev_blockhash);
        if parent.is_some_and(|parent| parent.chain_work + header.work() > index.tip().work) {
            *lock(&self.refused_time) = Some(header.time);
        }
    }

    fn template_context(&self) -> Result<TemplateContext, NodeError> {
        let index = read(&self.index);
        let tip = index.tip();
        let unknown = NodeError::UnknownBlock(tip.hash);
        let height = tip.height.saturating_add(1);
        let earliest = index.tree.earliest_time(&tip.hash).ok_or(unknown.clone())?;
        let time = u32::try_from(self.clock.now()).unwrap_or(u32::MAX).max(earliest);
        let latest = self.clock.now().saturating_add(u64::from(self.params.max_ahead));
        if u64::from(time) > latest {
            let seconds = u64::from(time).saturating_sub(self.clock.now());
            return Err(NodeError::ClockBehindChain { seconds });
        }
        let bits = index.tree.next_bits(&tip.hash, time).ok_or(unknown)?;
        Ok(TemplateContext {
            parent: tip.hash,
            height,
            time,
            bits,
            subsidy: block_subsidy(height, &self.params),
            segwit: height >= self.params.activation.segwit,
        })
    }

    /// The fee rate for a confirmation within so many blocks.
    pub fn estimate_fee(&self, blocks: u32) -> bitcoin::FeeRate {
        if self.light.is_some() {
            return light_state::fee_rate(blocks);
        }
        let pool = read(&self.mempool);
        lock(&self.fees).estimate(blocks, &pool, &self.policy, self.clock.now())
    }
}

fn own_event(transaction: &Arc<Transaction>, sequence: u64) -> ChainEvent {
    let RelayedTx { txid, wtxid, fee_rate } = relayed(transaction);
    ChainEvent::Transaction { transaction: Arc::clone(transaction), txid, wtxid, fee_rate, sequence }
}

/// A number of hashes, rounded.
fn as_f64(work: Work) -> f64 {
    work.to_be_bytes().iter().fold(0.0, |sum, byte| sum * 256.0 + f64::from(*byte))
}

impl Backend for Core {
    fn now(&self) -> u64 {
        self.clock.now()
    }

    fn block(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, NodeError> {
        Ok(self.store.block(hash)?)
    }

    fn filters(&self, request: &FilterRequest) -> Result<Vec<NetworkMessage>, NodeError> {
        Ok(filter_index::answer(&self.store, request)?)
    }

    fn accept_headers(&self, headers: &[Header]) -> Result<HeadersAccepted, HeadersRejected> {
        let result = lock(&self.chain).accept_headers(headers, self.clock.now());
        if let Err(HeadersRejected::Header { hash, cause: HeaderError::TimeTooFarAhead { .. } }) = &result
            && let Some(header) = headers.iter().find(|header| header.block_hash() == *hash)
        {
            self.note_refused(header);
        }
        let new = result?;
        Ok(HeadersAccepted { new, last: headers.last().map(Header::block_hash) })
    }

    fn prepare_block(&self, block: Block) -> PreparedBlock {
        let prepared = PreparedBlock::new(block, &self.params);
        self.check_scripts_ahead(&prepared);
        prepared
    }

    fn submit_prepared(&self, block: PreparedBlock) -> Result<BlockAccepted, BlockRejected> {
        self.full("the blocks before it, so that it cannot check it")?;
        let hash = block.hash;
        let mut chain = lock(&self.chain);
        match chain.store_block(block, self.clock.now())? {
            Submitted::Known => return Ok(BlockAccepted::Known),
            Submitted::Stored => {}
        }
        let mut invalid = Vec::new();
        self.advance(&mut chain, &mut invalid)?;
        match invalid.into_iter().find(|(failed, _)| *failed == hash) {
            Some((hash, cause)) => Err(BlockRejected::Invalid { hash, cause }),
            None => Ok(BlockAccepted::Stored { tip: self.tip() }),
        }
    }

    fn submit_transaction(&self, transaction: Transaction) -> Result<Txid, MempoolError> {
        self.store.check_running()?;
        if let Some(light) = &self.light {
            return self.submit_own(light, &Arc::new(transaction));
        }
        let txid = transaction.compute_txid();
        self.accept_one(&lock(&self.chain), Arc::new(transaction)).map(|_| txid)
    }

    fn submit_package(&self, transactions: Vec<Transaction>) -> Result<Vec<Txid>, MempoolError> {
        self.store.check_running()?;
        let transactions: Vec<Arc<Transaction>> = transactions.into_iter().map(Arc::new).collect();
        if let Some(light) = &self.light {
            let submitted = transactions.iter().map(|transaction| match self.submit_own(light, transaction) {
                Ok(_) | Err(MempoolError::AlreadyInMempool(_) | MempoolError::AlreadyConfirmed(_)) => Ok(()),
                Err(error) => Err(error),
            });
            // Of the mempools of others nobody knows what had to go.
            return submitted.collect::<Result<(), MempoolError>>().map(|()| Vec::new());
        }
        package::check_shape(&transactions, &self.policy)?;
        let mut replaced = Vec::new();
        let chain = lock(&self.chain);
        let mut together = Vec::new();
        let mut waiting_for: BTreeSet<Txid> = BTreeSet::new();
        for transaction in transactions {
            let txid = transaction.compute_txid();
            match self.accept_one(&chain, Arc::clone(&transaction)) {
                Ok(gone) => replaced.extend(gone),
                Err(MempoolError::AlreadyInMempool(_) | MempoolError::AlreadyConfirmed(_)) => {}
                // The parent is there under the same id; whoever signed it otherwise may still bump it.
                Err(MempoolError::SameTransactionOtherWitness(_)) => {}
                Err(MempoolError::MissingInputs(outpoint)) if waiting_for.contains(&outpoint.txid) => {
                    together.push(transaction);
                }
                Err(error) if error.is_fee_too_low() => {
                    waiting_for.insert(txid);
                    together.push(transaction);
                }
                Err(error @ MempoolError::Node(_)) => return Err(error),
                Err(error) => return Err(PackageError::Transaction { txid, error: Box::new(error) }.into()),
            }
        }
        if together.is_empty() {
            return Ok(replaced);
        }
        let plan = {
            let pool = read(&self.mempool);
            self.acceptor(&chain, &pool, |acceptor| acceptor.check_package(&together))
        }?;
        replaced.extend(self.accept_plan(plan)?);
        Ok(replaced)
    }

    fn events(&self) -> broadcast::Receiver<ChainEvent> {
        self.events.subscribe()
    }
}

impl ChainView for Core {
    fn entry(&self, hash: &BlockHash) -> Option<HeaderEntry> {
        read(&self.index).entry(hash)
    }

    fn active_tip(&self) -> HeaderEntry {
        let index = read(&self.index);
        let tip = index.tree.get(&index.tip_hash()).unwrap_or_else(|| index.tree.best());
        index.entry_of(&tip)
    }

    fn most_work_header(&self) -> HeaderEntry {
        let index = read(&self.index);
        index.entry_of(&index.tree.best())
    }

    fn ancestor(&self, of: &BlockHash, height: u32) -> Option<BlockHash> {
        read(&self.index).tree.ancestor(of, height).map(|known| known.hash)
    }

    fn active_at(&self, height: u32) -> Option<BlockHash> {
        read(&self.index).active_at(height)
    }

    fn serves_filters(&self) -> bool {
        self.has_filters.load(Ordering::Acquire)
    }

    fn is_in_reach(&self, target: &BlockHash) -> bool {
        let below = self.store.pruned_below();
        below == 0 || read(&self.index).fork_height(target).is_some_and(|fork| fork.saturating_add(1) >= below)
    }

    fn lost_blocks(&self) -> Vec<BlockHash> {
        self.store.lost_blocks()
    }
}

impl MempoolView for Core {
    fn knows(&self, name: &TxName) -> bool {
        if let Some(light) = &self.light {
            return read(&light.pool).named(name).is_some();
        }
        match name {
            TxName::Wtxid(wtxid) => {
                read(&self.mempool).by_wtxid(wtxid).is_some() || lock(&self.refused).contains(wtxid)
            }
            TxName::Txid(txid) => read(&self.mempool).contains(txid),
        }
    }

    fn transaction(&self, name: &TxName) -> Option<Arc<Transaction>> {
        if let Some(light) = &self.light {
            return read(&light.pool).named(name).cloned();
        }
        let pool = read(&self.mempool);
        let entry = match name {
            TxName::Wtxid(wtxid) => pool.by_wtxid(wtxid),
            TxName::Txid(txid) => pool.get(txid),
        };
        entry.map(|entry| Arc::clone(&entry.transaction))
    }

    fn visit(&self, visit: &mut dyn FnMut(&Wtxid, &Arc<Transaction>)) {
        // A light node puts no blocks together.
        if self.light.is_none() {
            read(&self.mempool).iter().for_each(|entry| visit(&entry.wtxid, &entry.transaction));
        }
    }

    fn relayable(&self, limit: usize) -> Vec<RelayedTx> {
        if let Some(light) = &self.light {
            return read(&light.pool).iter().take(limit).map(|transaction| relayed(transaction)).collect();
        }
        let pool = read(&self.mempool);
        let relayed = pool.iter().map(|entry| RelayedTx {
            txid: entry.txid,
            wtxid: entry.wtxid,
            fee_rate: entry.rate().per_kwu(),
        });
        relayed.take(limit).collect()
    }

    fn minimum_fee_rate(&self) -> bitcoin::FeeRate {
        read(&self.mempool).minimum_fee_rate(&self.policy, self.clock.now())
    }
}
