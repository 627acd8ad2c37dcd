//! Which chain is the active one, and the set of unspent outputs that belongs to it.
//!
//! ```text
//!   header ─▶ tree ──────────────────────▶ stored                                    (one batch)
//!   block ──▶ mutated? valid in itself? ─▶ stored, whatever chain it is on           (one batch)
//!                                             │ a chain with more work is complete
//!                                             ▼
//!   step: blocks off ─ blocks on ─ scripts ─▶ coins, undo, indexes and tip together  (whole or not at all, synced)
//!            └─ one of them is invalid: nothing happened, the block is marked, the next best chain is tried
//! ```
//!
//! A step goes from the tip to the first block of the better chain that has more work than the tip. Outside of a
//! reorganisation that is one block; in one it is as long as the reorganisation is deep, so that no state between the
//! two tips is ever seen or stored. Its blocks are read one at a time, and its changes take a bounded memory (`step`).
//! If somebody says that a block of the active chain is invalid, the step goes back to what is left, which has less work.
//!
//! A pruned node cannot take off what it has pruned ([`crate::prune`]): chains that part from the active one below that count
//! for nothing here, their blocks are not stored, and the tip is in doubt while a peer stands for one with more work.
//!
//! What it promises: what the disk holds is always the state of the tip on disk, coins that are still in memory among it
//! (`store::coins`). A step that fails, by an invalid block or a
//! crash, leaves everything as it was. Of two chains with equal work the first that was complete stays,
//! and so does the one on which the node already stands. (differs: Bitcoin Core may go over to one that was complete earlier,
//! after a longer chain that contains its own tip has turned out invalid; that is no rule, and costs a reorganisation.)

use std::collections::VecDeque;
use std::sync::{Arc, RwLock};

use bitcoin::block::Header;
use bitcoin::{Block, BlockHash};
use leyden_consensus::block::{check_identified_body, check_identified_in_context, is_identified_mutated};
use leyden_consensus::header_tree::Path;
use leyden_consensus::{
    BlockContext, BlockError, BlockIds, CoinChanges, ConnectError, Connected, DisconnectError, KnownHeader, Params,
    ScriptJobs, connect_identified, disconnect_block,
};

use crate::chain_index::{ChainIndex, tip_of};
use crate::coins_cache::{ChainCoins, Overlay, OverlayCoins};
use crate::error::{BlockRejected, HeadersRejected, NodeError, StoreError};
use crate::header_rows;
use crate::prepared::{Prepared, PreparedBlock, block_ids};
use crate::pruner::absence;
use crate::roll_forward::roll_forward;
use crate::scripts::{NoScripts, ScriptVerifier};
use crate::step::StepChanges;
use crate::store::{Batch, BatchKind, Durability, HeaderStatus, Store};
use crate::sync::{read, write};
use crate::types::{BlockRef, Tip};

/// Coins, undo data and the active chain. Whoever holds it is the only writer.
pub struct Chainstate {
    params: Arc<Params>,
    store: Arc<Store>,
    index: Arc<RwLock<ChainIndex>>,
    coins: ChainCoins,
    scripts: Arc<ScriptVerifier>,
    /// Ids of the blocks that were stored last.
    ids: VecDeque<(BlockHash, Arc<BlockIds>)>,
}

/// What the chainstate shares with readers.
#[derive(Clone)]
pub struct Shared {
    /// The network's rules.
    pub params: Arc<Params>,
    /// The database.
    pub store: Arc<Store>,
    /// The header tree and the active chain.
    pub index: Arc<RwLock<ChainIndex>>,
    /// The threads that check scripts, with what they remember of checks.
    pub scripts: Arc<ScriptVerifier>,
}

/// A committed step from one tip to another.
#[derive(Clone, Debug)]
pub struct Step {
    /// The old tip first.
    pub disconnected: Vec<BlockRef>,
    /// The lowest first.
    pub connected: Vec<BlockRef>,
    /// The tip after the step.
    pub tip: Tip,
}

/// What a block was good for.
#[derive(Debug)]
pub enum Submitted {
    /// It was stored before; nothing changed.
    Known,
    /// It is stored now.
    Stored,
}

/// Blocks whose ids are kept: those that were stored and wait for one before them.
const IDS_KEPT: usize = 16;

/// Why a step was not made.
enum Refused {
    Invalid { hash: BlockHash, cause: BlockError },
    Node(NodeError),
}

impl From<NodeError> for Refused {
    fn from(error: NodeError) -> Self {
        Self::Node(error)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Node(error.into())
    }
}

impl Chainstate {
    /// Loads what the database holds. `coins` is how many outpoints are kept in memory.
    pub fn open(shared: &Shared, coins: usize) -> Result<Self, NodeError> {
        let Shared { params, store, index, scripts } = shared.clone();
        header_rows::load(&store, &mut write(&index))?;
        roll_forward(&store, &mut write(&index))?;
        store.keep_coins(coins);
        Ok(Self { params, coins: ChainCoins::new(Arc::clone(&store)), store, index, scripts, ids: VecDeque::new() })
    }

    /// The threads that check scripts.
    pub fn scripts(&self) -> &ScriptVerifier {
        &self.scripts
    }

    /// The unspent outputs at the active tip.
    pub fn coins(&self) -> &ChainCoins {
        &self.coins
    }

    fn tip(&self) -> KnownHeader {
        let index = read(&self.index);
        let tip = index.tip_hash();
        index.tree.get(&tip).unwrap_or_else(|| index.tree.best())
    }

    /// Adds headers to the tree and the database. Returns how many were new.
    pub fn accept_headers(&mut self, headers: &[Header], now: u64) -> Result<usize, HeadersRejected> {
        self.store.check_running().map_err(HeadersRejected::Node)?;
        let mut accepted = Vec::new();
        let mut refused = None;
        {
            let mut index = write(&self.index);
            for header in headers {
                match index.tree.accept(*header, now) {
                    Ok(result) if result.is_new => accepted.push((result.height, *header)),
                    Ok(_) => {}
                    Err(cause) => {
                        refused = Some(HeadersRejected::Header { hash: header.block_hash(), cause });
                        break;
                    }
                }
            }
        }
        if !accepted.is_empty() {
            let mut batch = Batch::new(BatchKind::Headers);
            for (height, header) in &accepted {
                batch.put_header(*height, header, HeaderStatus::HEADER);
            }
            self.store.commit(&batch, Durability::Buffered)?;
        }
        refused.map_or(Ok(accepted.len()), Err)
    }

    /// Checks a block as far as its place in the tree allows, and stores it. [`Self::activate`] does the rest.
    ///
    /// Bitcoin Core's order: what the block shows by itself comes first, whether or not the block is known, and a fault found
    /// there is remembered of nobody. Its header stays as unknown or as good as it was, so that no copy doctored in a way that
    /// we do not know can make us refuse the block itself. Who sends such a block is let go, which bounds the work.
    pub fn store_block(&mut self, prepared: PreparedBlock, now: u64) -> Result<Submitted, BlockRejected> {
        self.store.check_running()?;
        let PreparedBlock { block, hash, work } = prepared;
        let Prepared { ids, body, checked } = match work {
            Ok(prepared) => prepared,
            Err(cause) => {
                self.accept_header_of(&block, now)?;
                return Err(BlockRejected::Invalid { hash, cause });
            }
        };
        match checked {
            Ok(()) => {}
            Err(cause) if cause.is_mutation() => return Err(BlockRejected::Mutated { hash, cause }),
            Err(cause) => return Err(BlockRejected::Invalid { hash, cause }),
        }
        self.accept_header_of(&block, now)?;
        let (known, context) = {
            let index = read(&self.index);
            (index.tree.get(&hash), index.tree.context_for(&block.header))
        };
        let Some(known) = known else { return Err(NodeError::UnknownBlock(hash).into()) };
        if known.stored && !self.store.is_lost(&hash) {
            return Ok(Submitted::Known);
        }
        self.check_reach(&hash)?;
        let Some(context) = context else { return Err(NodeError::UnknownBlock(block.header.prev_blockhash).into()) };
        // A copy whose bytes do not belong to the header says nothing about the block that does.
        let segwit = context.height >= self.params.activation.segwit;
        if let Some(cause) = is_identified_mutated(&block, &ids, segwit) {
            return Err(BlockRejected::Mutated { hash, cause });
        }
        if let Err(cause) = check_identified_in_context(&block, &ids, &context, &self.params) {
            if cause.is_mutation() {
                return Err(BlockRejected::Mutated { hash, cause });
            }
            self.mark_invalid(&known, false)?;
            return Err(BlockRejected::Invalid { hash, cause });
        }
        let mut batch = Batch::new(BatchKind::Block);
        batch.put_header(known.height, &known.header, HeaderStatus::HEADER.with_block());
        batch.put_body(&hash, &body);
        self.store.commit(&batch, Durability::Buffered)?;
        self.store.remember(hash, &block, body.len());
        if self.ids.len() >= IDS_KEPT {
            self.ids.pop_front();
        }
        self.ids.push_back((hash, ids));
        self.store.note_found(&hash);
        write(&self.index).tree.mark_stored(&hash);
        Ok(Submitted::Stored)
    }

    fn accept_header_of(&mut self, block: &Block, now: u64) -> Result<(), BlockRejected> {
        match self.accept_headers(&[block.header], now) {
            Ok(_) => Ok(()),
            Err(HeadersRejected::Header { hash, cause }) => Err(BlockRejected::Header { hash, cause }),
            Err(HeadersRejected::Node(error)) => Err(error.into()),
        }
    }

    fn mark_invalid(&self, known: &KnownHeader, stored: bool) -> Result<(), NodeError> {
        let status = if stored { HeaderStatus::HEADER.with_block() } else { HeaderStatus::HEADER };
        let mut batch = Batch::new(BatchKind::Invalid);
        batch.put_header(known.height, &known.header, status.with_invalid());
        self.store.commit(&batch, Durability::Buffered)?;
        write(&self.index).tree.invalidate(&known.hash);
        Ok(())
    }

    /// A block that was stored cannot be read: its chain waits until it is here again.
    fn mark_missing(&self, hash: &BlockHash) -> Result<(), NodeError> {
        let known = read(&self.index).tree.get(hash).ok_or(NodeError::UnknownBlock(*hash))?;
        let mut batch = Batch::new(BatchKind::Block);
        batch.put_header(known.height, &known.header, HeaderStatus::HEADER);
        batch.remove_block(hash);
        self.store.commit(&batch, Durability::Buffered)?;
        write(&self.index).tree.mark_missing(hash);
        Ok(())
    }

    /// One step towards the best chain that is complete; `None` if the tip is its end. Blocks that turn out invalid on
    /// the way are marked and added to `invalid`. `announce` is called with the new tip under the index's lock, so that
    /// whoever reads the index sees announcements in step with it.
    pub fn activate(
        &mut self,
        invalid: &mut Vec<(BlockHash, BlockError)>,
        announce: impl Fn(Tip),
    ) -> Result<Option<Step>, NodeError> {
        loop {
            let Some(path) = self.better_path() else { return Ok(None) };
            if let Some(step) = self.take(&path, &announce, invalid)? {
                return Ok(Some(step));
            }
        }
    }

    /// One step on this path; `None` if a block on it is invalid or cannot be read, which is marked then.
    fn take(
        &mut self,
        path: &Path,
        announce: impl FnOnce(Tip),
        invalid: &mut Vec<(BlockHash, BlockError)>,
    ) -> Result<Option<Step>, NodeError> {
        match self.step(path) {
            Ok(step) => {
                let mut index = write(&self.index);
                index.activate(&step.tip.hash).ok_or(NodeError::UnknownBlock(step.tip.hash))?;
                announce(step.tip);
                drop(index);
                self.store.settle()?;
                Ok(Some(step))
            }
            Err(Refused::Invalid { hash, cause }) => {
                tracing::warn!(%hash, %cause, "a block with enough work is invalid");
                let known = read(&self.index).tree.get(&hash).ok_or(NodeError::UnknownBlock(hash))?;
                self.mark_invalid(&known, true)?;
                invalid.push((hash, cause));
                Ok(None)
            }
            Err(Refused::Node(NodeError::MissingData(hash))) if path.connect.contains(&hash) => {
                self.mark_missing(&hash)?;
                Ok(None)
            }
            Err(Refused::Node(error)) => {
                tracing::error!(%error, to = ?path.connect.last(), "a better chain cannot be followed");
                Err(error)
            }
        }
    }

    /// Refuses a block whose chain would take off what is pruned of the active one.
    fn check_reach(&self, hash: &BlockHash) -> Result<(), NodeError> {
        let below = self.store.pruned_below();
        let fork = read(&self.index).fork_height(hash).ok_or(NodeError::UnknownBlock(*hash))?;
        if fork.saturating_add(1) < below { Err(NodeError::OutOfReach { hash: *hash, fork, below }) } else { Ok(()) }
    }

    /// The way to the complete chain with most work, if that is more than the tip's, or if the tip does not count any more. It
    /// takes off no block that is pruned.
    fn better_path(&self) -> Option<Path> {
        let tip = self.tip();
        let index = read(&self.index);
        // The last block that has to stay.
        let base = index.active_at(self.store.pruned_below().saturating_sub(1))?;
        let best = index.tree.best_stored_through(&base)?;
        if tip.validity.is_valid() && best.chain_work <= tip.chain_work {
            return None;
        }
        index.tree.path(&tip.hash, &best.hash)
    }

    /// Marks a block as invalid because somebody says so. The mark is stored, also if the block's turn never came; not on
    /// a block of the active chain that cannot be taken off.
    pub fn invalidate(&mut self, hash: &BlockHash) -> Result<(), NodeError> {
        let (known, is_active) = {
            let index = read(&self.index);
            (index.tree.get(hash).ok_or(NodeError::UnknownBlock(*hash))?, index.is_active(hash))
        };
        let below = self.store.pruned_below();
        if is_active && known.height > 0 && known.height < below {
            return Err(NodeError::Pruned { height: known.height, below });
        }
        // Nothing is left without the genesis block.
        if known.height == 0 { Ok(()) } else { self.mark_invalid(&known, known.stored) }
    }

    /// Takes back that a block is invalid, for it and the blocks before and after it.
    pub fn reconsider(&mut self, hash: &BlockHash) -> Result<(), NodeError> {
        let mut index = write(&self.index);
        if !index.tree.contains(hash) {
            return Err(NodeError::UnknownBlock(*hash));
        }
        let forgiven = index.tree.reconsider(hash);
        let mut batch = Batch::new(BatchKind::Headers);
        for known in forgiven.iter().filter_map(|hash| index.tree.get(hash)) {
            let status = if known.stored { HeaderStatus::HEADER.with_block() } else { HeaderStatus::HEADER };
            batch.put_header(known.height, &known.header, status);
        }
        drop(index);
        self.store.commit(&batch, Durability::Synced)
    }

    /// Makes a complete chain of the same work as the active one the active one. One of less work stays where it is.
    pub fn prefer(&mut self, hash: &BlockHash, announce: impl FnOnce(Tip)) -> Result<Option<Step>, NodeError> {
        let tip = self.tip();
        let path = {
            let index = read(&self.index);
            let known = index.tree.get(hash).ok_or(NodeError::UnknownBlock(*hash))?;
            if known.chain_work != tip.chain_work || !known.connectable || !known.validity.is_valid() {
                return Ok(None);
            }
            index.tree.path(&tip.hash, hash).filter(|path| !path.connect.is_empty())
        };
        let Some(path) = path else { return Ok(None) };
        self.check_reach(hash)?;
        self.take(&path, announce, &mut Vec::new())
    }

    fn step(&self, path: &Path) -> Result<Step, Refused> {
        self.store.check_running()?;
        let mut changes = StepChanges::new(&self.coins);
        match self.change(path, &mut changes) {
            Ok(step) => {
                changes.commit(&step.tip.hash)?;
                Ok(step)
            }
            Err(refused) => {
                changes.discard()?;
                Err(refused)
            }
        }
    }

    /// Follows the path as far as it takes to have more work than the tip.
    fn change(&self, path: &Path, changes: &mut StepChanges<'_>) -> Result<Step, Refused> {
        let tip = self.tip();
        let fork = read(&self.index).tree.get(&path.fork).ok_or(NodeError::UnknownBlock(path.fork))?;
        let (mut disconnected, mut connected, mut end) = (Vec::new(), Vec::new(), fork);
        for hash in &path.disconnect {
            disconnected.push(self.disconnect(hash, changes)?);
        }
        for hash in &path.connect {
            end = read(&self.index).tree.get(hash).ok_or(NodeError::UnknownBlock(*hash))?;
            self.connect(&end, changes)?;
            connected.push(BlockRef { hash: *hash, height: end.height });
            if end.chain_work > tip.chain_work {
                break;
            }
        }
        Ok(Step { disconnected, connected, tip: tip_of(&end) })
    }

    /// The ids of this block's transactions.
    pub(crate) fn ids_of(&self, hash: &BlockHash, block: &Block) -> Arc<BlockIds> {
        let known = self.ids.iter().rev().find(|(known, _)| known == hash).map(|(_, ids)| Arc::clone(ids));
        known.unwrap_or_else(|| Arc::new(block_ids(block)))
    }

    /// A block that is or was part of the active chain.
    pub fn stored_block(&self, hash: &BlockHash) -> Result<Arc<Block>, NodeError> {
        self.store.block(hash)?.ok_or_else(|| absence(&read(&self.index), &self.store, hash))
    }

    fn disconnect(&self, hash: &BlockHash, changes: &mut StepChanges<'_>) -> Result<BlockRef, NodeError> {
        let known = read(&self.index).tree.get(hash).ok_or(NodeError::UnknownBlock(*hash))?;
        let block = self.stored_block(hash)?;
        let undo = self.store.undo(hash)?.ok_or(NodeError::MissingData(*hash))?;
        let coins = disconnect_block(&block, known.height, undo, &changes.coins()).map_err(|error| match error {
            DisconnectError::Source(error) => error,
            other => StoreError::Corrupt { path: self.store.path().to_owned(), detail: format!("{hash}: {other}") },
        })?;
        let at = BlockRef { hash: *hash, height: known.height };
        changes.disconnect(at, &block, coins)?;
        Ok(at)
    }

    fn connect(&self, known: &KnownHeader, changes: &mut StepChanges<'_>) -> Result<(), Refused> {
        let block = self.stored_block(&known.hash)?;
        let context = read(&self.index).tree.context_for(&known.header);
        let context = context.ok_or(NodeError::UnknownBlock(known.header.prev_blockhash))?;
        let invalid = |cause| Refused::Invalid { hash: known.hash, cause };
        let ids = self.ids_of(&known.hash, &block);
        if read(&self.index).is_assumed_valid(&known.hash) {
            return self.connect_coins(&block, &ids, &context, changes, &mut NoScripts);
        }
        // What the block changes is worked out while its scripts are checked: if one fails, all of the step is dropped.
        let (changed, verified) =
            self.scripts.verify_while(|jobs| self.connect_coins(&block, &ids, &context, changes, jobs));
        changed?;
        verified.map_err(|failure| invalid(failure.into()))
    }

    fn connect_coins<'b>(
        &self,
        block: &'b Block,
        ids: &BlockIds,
        context: &BlockContext,
        changes: &mut StepChanges<'_>,
        jobs: &mut dyn ScriptJobs<'b>,
    ) -> Result<(), Refused> {
        let hash = block.block_hash();
        let connected = self.check_coins(block, ids, context, &changes.coins(), jobs)?;
        let connected = connected.map_err(|cause| Refused::Invalid { hash, cause })?;
        Ok(changes.connect(BlockRef { hash, height: context.height }, block, ids, connected)?)
    }

    /// The rules that need coins, scripts apart. The outer error is ours, the inner one the block's.
    fn check_coins<'b>(
        &self,
        block: &'b Block,
        ids: &BlockIds,
        context: &BlockContext,
        coins: &OverlayCoins<'_>,
        jobs: &mut dyn ScriptJobs<'b>,
    ) -> Result<Result<Connected<'b>, BlockError>, NodeError> {
        let times = |height: u32| {
            let index = read(&self.index);
            index.tree.ancestor(&context.parent, height).map(|known| known.median_time_past)
        };
        match connect_identified(block, ids, context, coins, &times, &self.params, jobs) {
            Ok(connected) => Ok(Ok(connected)),
            Err(ConnectError::Block(cause)) => Ok(Err(cause)),
            Err(ConnectError::Source(error)) => Err(error.into()),
            Err(error @ ConnectError::UnknownMedianTime { .. }) => Err(NodeError::Invariant(error.to_string())),
        }
    }

    /// What a block would change of these coins, which are those before it, if it is valid there with all its scripts.
    pub(crate) fn try_on(
        &self,
        block: &Block,
        header: &Header,
        coins: &OverlayCoins<'_>,
    ) -> Result<Result<CoinChanges, BlockError>, NodeError> {
        let context = read(&self.index).tree.context_for(header);
        let context = context.ok_or(NodeError::UnknownBlock(header.prev_blockhash))?;
        let ids = block_ids(block);
        if let Err(cause) = check_identified_in_context(block, &ids, &context, &self.params) {
            return Ok(Err(cause));
        }
        let (checked, verified) =
            self.scripts.verify_while(|jobs| self.check_coins(block, &ids, &context, coins, jobs));
        Ok(checked?.and_then(|connected| verified.map_err(BlockError::from).map(|()| connected.changes)))
    }

    /// Checks a block that is not mined yet, on top of the tip: everything but its proof of work.
    pub fn check_template(&self, block: &Block) -> Result<(), BlockRejected> {
        let hash = block.block_hash();
        let invalid = |cause| BlockRejected::Invalid { hash, cause };
        let context = read(&self.index).tree.context_for(&block.header);
        let context = context.ok_or(NodeError::UnknownBlock(block.header.prev_blockhash))?;
        let ids = block_ids(block);
        check_identified_body(block, &ids).map_err(invalid)?;
        check_identified_in_context(block, &ids, &context, &self.params).map_err(invalid)?;
        let mut overlay = Overlay::new(&self.coins);
        let coins = overlay.coins();
        let (checked, verified) =
            self.scripts.verify_while(|jobs| self.check_coins(block, &ids, &context, &coins, jobs));
        checked?.map_err(invalid)?;
        verified.map_err(|failure| invalid(failure.into()))
    }
}
