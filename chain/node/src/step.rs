//! What a step from one tip to another changes, in memory as long as it is little.
//!
//! A step is as long as a reorganisation is deep, so its changes have no bound of their own. Once they pass the bound that
//! the store names, those made so far are put aside on the disk ([`Store::stage`]) and the step goes on with empty hands.
//! Either way they are written whole or not at all.

use bitcoin::{Block, BlockHash};
use leyden_consensus::{BlockIds, CoinChanges, Connected};

use crate::coins_cache::{ChainCoins, Overlay, OverlayCoins};
use crate::error::NodeError;
use crate::filter_index::FilterWriter;
use crate::store::{Batch, BatchKind, Store};
use crate::types::BlockRef;

/// Memory for an outpoint and what has become of it.
const CHANGE_BYTES: usize = 200;

/// The changes of a step that is not committed yet.
pub(crate) struct StepChanges<'a> {
    store: &'a Store,
    batch: Batch,
    overlay: Overlay<'a>,
    filters: FilterWriter,
    /// Blocks that went on, and the bytes of their bodies.
    grown: (u32, usize),
    /// Blocks came off.
    is_turn: bool,
}

impl<'a> StepChanges<'a> {
    /// No change yet.
    pub(crate) fn new(coins: &'a ChainCoins) -> Self {
        Self {
            store: coins.store(),
            batch: Batch::new(BatchKind::Tip),
            overlay: Overlay::new(coins),
            filters: FilterWriter::default(),
            grown: (0, 0),
            is_turn: false,
        }
    }

    /// The coins as they are after the changes.
    pub(crate) fn coins(&mut self) -> OverlayCoins<'_> {
        self.overlay.coins()
    }

    /// The block comes off the end of the active chain.
    pub(crate) fn disconnect(&mut self, at: BlockRef, block: &Block, coins: CoinChanges) -> Result<(), NodeError> {
        if !self.is_turn {
            // From here on the coins' rows are to be those of the tip at any time.
            self.store.flush_coins()?;
            self.is_turn = true;
        }
        self.batch.remove_active(at.height, block);
        self.overlay.apply(coins);
        self.make_room()
    }

    /// The block goes on the end of the active chain.
    pub(crate) fn connect(
        &mut self,
        at: BlockRef,
        block: &Block,
        ids: &BlockIds,
        Connected { changes, undo, .. }: Connected<'_>,
    ) -> Result<(), NodeError> {
        self.batch.put_undo(&at.hash, &undo);
        self.batch.put_active(at.height, &at.hash, block, ids.txids());
        if self.store.keeps_filters() {
            self.filters.add(self.store, &mut self.batch, (&at.hash, block), &undo)?;
        }
        self.overlay.apply(changes);
        let (blocks, bytes) = self.grown;
        self.grown = (blocks.saturating_add(1), bytes.saturating_add(block.total_size()));
        self.make_room()
    }

    fn make_room(&mut self) -> Result<(), NodeError> {
        let memory = self.batch.memory().saturating_add(self.overlay.len().saturating_mul(CHANGE_BYTES));
        if memory < self.store.step_bytes() {
            return Ok(());
        }
        if !self.overlay.is_staged() {
            // Coins that wait in memory would hide the rows.
            self.store.flush_coins()?;
        }
        self.overlay.move_to(&mut self.batch);
        let full = std::mem::replace(&mut self.batch, Batch::new(BatchKind::Tip));
        self.store.stage(&full)
    }

    /// Writes all of it, with the tip to which it leads.
    pub(crate) fn commit(mut self, tip: &BlockHash) -> Result<(), NodeError> {
        if self.overlay.is_staged() {
            self.overlay.move_to(&mut self.batch);
            self.batch.set_tip(tip);
            self.batch.set_coins_at(tip);
            self.store.commit_staged(&self.batch)?;
            self.store.forget_coins();
            return Ok(());
        }
        let coins = self.overlay.into_changes();
        if self.is_turn {
            self.store.commit_turn(self.batch, tip, coins)
        } else {
            self.store.commit_growth(self.batch, tip, self.grown, coins)
        }
    }

    /// Nothing of it happens.
    pub(crate) fn discard(self) -> Result<(), NodeError> {
        if self.overlay.is_staged() { self.store.discard_staged() } else { Ok(()) }
    }
}
