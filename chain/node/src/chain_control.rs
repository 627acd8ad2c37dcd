//! What a user may decide about the chain, and what there is to decide between.
//!
//! ```text
//!   genesis ─ 1 ─ 2 ─ 3 ─ 4      active
//!                 └─ 3'─ 4'      fork: `prefer 4'` makes it the active one while both have the same work
//!                 ✗              `invalidate 3` leaves 4' (or 2), and is remembered; `reconsider 3` takes it back
//! ```
//!
//! The steps are those of any reorganisation: coins, wallet, channels and mempool follow them as they do when a miner
//! makes one.

use bitcoin::BlockHash;
use leyden_consensus::KnownHeader;

use crate::backend::ChainEvent;
use crate::core::Core;
use crate::error::NodeError;
use crate::node::Node;
use crate::sync::{lock, read};
use crate::types::BlockRef;

/// The end of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainTip {
    /// Its last block.
    pub block: BlockRef,
    /// Blocks since it parted from the active chain.
    pub branch_length: u32,
    /// What is known of it.
    pub status: ChainTipStatus,
}

/// What is known of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainTipStatus {
    /// It is the active chain.
    Active,
    /// It holds a block that is invalid.
    Invalid,
    /// Not all its blocks are here.
    HeadersOnly,
    /// All its blocks are here, and were never connected.
    ValidHeaders,
    /// It was part of the active chain once.
    ValidFork,
}

/// What a light node leaves to its peers' work.
const CHOICE: &str = "a choice between chains of blocks";

impl Node {
    /// Treats a block as invalid from now on, also after a restart, and with it all that follow it. Nothing happens to
    /// the genesis block.
    pub async fn invalidate_block(&self, hash: BlockHash) -> Result<(), NodeError> {
        self.blocking(move |core| core.decide(|chain| chain.invalidate(&hash))).await
    }

    /// Takes back that a block is invalid, for it and the blocks before and after it.
    pub async fn reconsider_block(&self, hash: BlockHash) -> Result<(), NodeError> {
        self.blocking(move |core| core.decide(|chain| chain.reconsider(&hash))).await
    }

    /// Makes the chain that ends in this block the active one, if it has as much work.
    pub async fn prefer_block(&self, hash: BlockHash) -> Result<(), NodeError> {
        self.blocking(move |core| {
            core.full(CHOICE)?;
            let mut chain = lock(&core.chain);
            match chain.prefer(&hash, |tip| core.announce(ChainEvent::Tip(tip)))? {
                Some(step) => core.note_step(&chain, &step),
                None => Ok(()),
            }
        })
        .await
    }

    /// The ends of all branches, the highest first. Reads the disk once a branch.
    pub async fn chain_tips(&self) -> Result<Vec<ChainTip>, NodeError> {
        self.blocking(chain_tips).await
    }
}

impl Core {
    /// Changes verdicts, and takes every step that follows from them.
    fn decide(
        &self,
        change: impl FnOnce(&mut crate::chainstate::Chainstate) -> Result<(), NodeError>,
    ) -> Result<(), NodeError> {
        self.full(CHOICE)?;
        let mut chain = lock(&self.chain);
        self.store.check_running()?;
        change(&mut chain)?;
        self.advance(&mut chain, &mut Vec::new())
    }
}

fn chain_tips(core: &Core) -> Result<Vec<ChainTip>, NodeError> {
    let (active, tips) = {
        let index = read(&core.index);
        let active = index.tip_hash();
        let mut tips: Vec<(KnownHeader, u32)> = Vec::new();
        // Headers may go on where the active chain ends.
        let ends = index.tree.tips().into_iter().filter(|known| known.hash != active);
        for known in ends.chain(index.tree.get(&active)) {
            let fork = index.tree.fork_point(&active, &known.hash);
            let fork = fork.ok_or(NodeError::UnknownBlock(known.hash))?;
            tips.push((known, known.height.saturating_sub(fork.height)));
        }
        (active, tips)
    };
    let mut found = Vec::new();
    for (known, branch_length) in tips {
        let status = if known.hash == active {
            ChainTipStatus::Active
        } else if !known.validity.is_valid() {
            ChainTipStatus::Invalid
        } else if !known.connectable {
            ChainTipStatus::HeadersOnly
        } else if core.store.undo(&known.hash)?.is_some() {
            ChainTipStatus::ValidFork
        } else {
            ChainTipStatus::ValidHeaders
        };
        found.push(ChainTip { block: BlockRef { hash: known.hash, height: known.height }, branch_length, status });
    }
    found.sort_unstable_by_key(|tip| (std::cmp::Reverse(tip.block.height), tip.block.hash));
    Ok(found)
}
