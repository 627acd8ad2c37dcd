//! Are the last blocks of the active chain still what they were when they were connected? (Bitcoin Core's `verifychain`.)
//!
//! ```text
//!   tip ─▶ body on the disk ─▶ valid by itself ─▶ undo data ─▶ taken off, in memory ─▶ … ─▶ put on again, with scripts
//!   level        0                   1                2                3                          4
//! ```
//!
//! Nothing is written. From level 3 on no block is connected meanwhile, and the coins of all looked-at blocks are in memory,
//! so there is a bound for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bitcoin::{Block, BlockHash};
use leyden_consensus::block::{check_identified, is_identified_mutated};
use leyden_consensus::{DisconnectError, KnownHeader, disconnect_block};

use crate::chainstate::Chainstate;
use crate::coins_cache::Overlay;
use crate::core::Core;
use crate::error::NodeError;
use crate::node::Node;
use crate::prepared::block_ids;
use crate::pruner::absence;
use crate::sync::{lock, read};

/// Coins that a look from level 3 on may have in memory: some 100 MB.
const MAX_COINS: usize = 500_000;

/// What is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainCheck {
    /// From 0 to 4, each with all before it.
    pub level: u8,
    /// So many blocks from the tip on; `None`: all.
    pub blocks: Option<u32>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainChecked {
    /// All is as it should be.
    Right,
    /// This is not.
    Wrong {
        /// The block at which it shows.
        block: BlockHash,
        /// For people.
        what: String,
    },
    /// Its coins would take too much memory: fewer blocks can be looked at, or a lower level.
    TooMany,
}

impl Node {
    /// Looks at the last blocks. It ends soon after `give_up` is set.
    pub async fn check_chain(&self, check: ChainCheck, give_up: Arc<AtomicBool>) -> Result<ChainChecked, NodeError> {
        self.blocking(move |core| core.check_chain(check, &give_up)).await
    }
}

/// Why a look ends before its end.
enum Ended {
    Found(ChainChecked),
    Node(NodeError),
}

impl From<NodeError> for Ended {
    fn from(error: NodeError) -> Self {
        Self::Node(error)
    }
}

impl From<crate::error::StoreError> for Ended {
    fn from(error: crate::error::StoreError) -> Self {
        Self::Node(error.into())
    }
}

fn wrong(block: BlockHash, what: impl std::fmt::Display) -> Ended {
    Ended::Found(ChainChecked::Wrong { block, what: what.to_string() })
}

impl Core {
    /// *Blocking.* Looks at the last blocks.
    pub fn check_chain(&self, check: ChainCheck, give_up: &AtomicBool) -> Result<ChainChecked, NodeError> {
        self.full("whole blocks")?;
        let looked = if check.level >= 3 {
            let chain = lock(&self.chain);
            self.look_at_chain(check, Some(&chain), give_up)
        } else {
            self.look_at_chain(check, None, give_up)
        };
        match looked {
            Ok(()) => Ok(ChainChecked::Right),
            Err(Ended::Found(found)) => Ok(found),
            Err(Ended::Node(error)) => Err(error),
        }
    }

    fn look_at_chain(&self, check: ChainCheck, chain: Option<&Chainstate>, give_up: &AtomicBool) -> Result<(), Ended> {
        let tip = self.tip();
        // The genesis block is part of the program.
        let count = check.blocks.unwrap_or(u32::MAX).min(tip.height);
        let first = tip.height.saturating_sub(count).saturating_add(1);
        let mut overlay = chain.map(|chain| Overlay::new(chain.coins()));
        let mut taken_off = Vec::new();
        let known_at = |height: u32| -> Result<KnownHeader, NodeError> {
            let index = read(&self.index);
            let known = index.tree.ancestor(&tip.hash, height);
            known.ok_or(NodeError::UnknownBlock(tip.hash))
        };
        let go_on = || match give_up.load(Ordering::Acquire) || self.shutdown.is_cancelled() {
            true => Err(NodeError::ShuttingDown),
            false => Ok(()),
        };
        for height in (first..=tip.height).rev() {
            go_on()?;
            let known = known_at(height)?;
            let block = self.store.block_on_disk(&known.hash)?;
            let Some(block) = block else {
                return Err(match absence(&read(&self.index), &self.store, &known.hash) {
                    NodeError::MissingData(hash) => wrong(hash, "its body cannot be read"),
                    pruned => pruned.into(),
                });
            };
            self.look_at_block(&known, &block, check.level)?;
            let Some(overlay) = overlay.as_mut() else { continue };
            let undo = self.store.undo(&known.hash)?.ok_or_else(|| wrong(known.hash, "its undo data are missing"))?;
            let changes = disconnect_block(&block, height, undo, &overlay.coins()).map_err(|error| match error {
                DisconnectError::Source(error) => error.into(),
                error => wrong(known.hash, error),
            })?;
            overlay.apply(changes);
            if overlay.len() > MAX_COINS {
                return Err(Ended::Found(ChainChecked::TooMany));
            }
            taken_off.push(known);
        }
        let (Some(mut overlay), Some(chain)) = (overlay, chain) else { return Ok(()) };
        if check.level < 4 {
            return Ok(());
        }
        for known in taken_off.into_iter().rev() {
            go_on()?;
            let block = chain.stored_block(&known.hash)?;
            let connected = chain.try_on(&block, &known.header, &overlay.coins())?;
            let connected = connected.map_err(|cause| wrong(known.hash, cause))?;
            overlay.apply(connected);
        }
        Ok(())
    }

    fn look_at_block(&self, known: &KnownHeader, block: &Block, level: u8) -> Result<(), Ended> {
        if block.header != known.header {
            return Err(wrong(known.hash, "another block is stored in its place"));
        }
        if level >= 1 {
            let ids = block_ids(block);
            check_identified(block, &ids, &self.params).map_err(|cause| wrong(known.hash, cause))?;
            let segwit = known.height >= self.params.activation.segwit;
            if let Some(cause) = is_identified_mutated(block, &ids, segwit) {
                return Err(wrong(known.hash, cause));
            }
        }
        if level >= 2 {
            let undo = self.store.undo(&known.hash)?.ok_or_else(|| wrong(known.hash, "its undo data are missing"))?;
            let spending = block.txdata.iter().skip(1).map(|transaction| transaction.input.len());
            if !undo.spent.iter().map(Vec::len).eq(spending) {
                return Err(wrong(known.hash, "its undo data are those of another block"));
            }
        }
        Ok(())
    }
}
