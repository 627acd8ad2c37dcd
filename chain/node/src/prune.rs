//! Which old blocks are given up (the white paper's section 7).
//!
//! ```text
//!   genesis ──×──×──■──×──×──●────────────●─────────────────────● tip
//!              pruned  └ a block      pruned_below      └ the last 288 blocks, and all
//!                        that a channel needs             from where a consumer is, stay
//! ```
//!
//! A node needs the headers, the unspent outputs, and the last blocks with what they spent, so that it can follow a
//! reorganisation. The rest is there for others, and for a wallet that has not looked yet. While bodies and undo data take
//! more room than the target, the oldest are removed, but never
//! * a block whose coins are not written yet,
//! * one of the last [`REORG_HORIZON`] blocks, as peers are promised by `NODE_NETWORK_LIMITED` (BIP 159),
//! * what a consumer says that it needs ([`Needed`]): the wallet all that it has not seen, a channel its funding
//!   transaction's block and, once it closes, all after that, a watchtower what it may have to read again.
//!
//! A consumer that is expected and has not spoken yet, such as a wallet that is still locked, holds everything.
//!
//! The target is compared with what RocksDB has on the disk, not with a sum of our own, so it holds after a crash too. It is
//! one for bodies and undo data, as Bitcoin Core's is: headers, unspent outputs and indexes come on top.

use std::sync::atomic::Ordering;

use leyden_net::config::NETWORK_LIMITED_BLOCKS;

use crate::core::Core;
use crate::error::NodeError;
use crate::filter_catch_up;
use crate::pruner::PruneConfig;
use crate::store::{Batch, BatchKind, Durability, HeaderRow};
use crate::sync::{read, write};

/// The last blocks that are kept in any case.
pub const REORG_HORIZON: u32 = NETWORK_LIMITED_BLOCKS;
/// So much less than the target is left, so that not every block makes the database collect.
const SLACK_PERCENT: u64 = 10;
/// Heights that are looked at while blocks have to wait for it.
const AT_ONCE: u32 = 128;
/// With fewer heights than this to give up it is not worth to make the database collect.
const LEAST_AT_ONCE: u32 = 16;

/// What a look for blocks to prune has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Blocks that were removed.
    pub blocks: u64,
    /// Bytes of their bodies and undo data.
    pub bytes: u64,
}

impl Core {
    /// Removes the oldest blocks while there is more than the target. *Blocking*; takes the chain for moments only.
    pub fn prune(&self) -> Result<Pruned, NodeError> {
        let Some(config) = &self.pruner.config else { return Ok(Pruned::default()) };
        let bytes = self.store.bodies_bytes()?;
        if bytes <= config.target_bytes {
            return Ok(Pruned::default());
        }
        let least = config.target_bytes.saturating_sub(config.target_bytes / 100 * SLACK_PERCENT);
        let excess = bytes.saturating_sub(least);
        let mut pruned = Pruned::default();
        let reach = self.tip().height.saturating_sub(REORG_HORIZON);
        if reach < self.store.pruned_below().saturating_add(LEAST_AT_ONCE) {
            return Ok(pruned);
        }
        while pruned.bytes < excess && self.prune_some(config, u32::MAX, &mut pruned)? {}
        if pruned.blocks > 0 {
            self.store.collect_removed()?;
            let (blocks, below) = (pruned.blocks, self.store.pruned_below());
            tracing::info!(blocks, bytes = pruned.bytes, below, "old blocks are pruned");
        }
        Ok(pruned)
    }

    /// Removes all blocks up to this height that nobody needs, whatever they take. *Blocking*; takes the chain for moments
    /// only. `None` if blocks are not pruned here.
    pub fn prune_up_to(&self, height: u32) -> Result<Option<Pruned>, NodeError> {
        let Some(config) = &self.pruner.config else { return Ok(None) };
        let mut pruned = Pruned::default();
        while self.prune_some(config, height.saturating_add(1), &mut pruned)? {}
        if pruned.blocks > 0 {
            self.store.collect_removed()?;
            let (blocks, below) = (pruned.blocks, self.store.pruned_below());
            tracing::info!(blocks, bytes = pruned.bytes, below, "old blocks are pruned, as was asked");
        }
        Ok(Some(pruned))
    }

    /// The lowest block that a restart would have to go through for its coins.
    fn coins_need_from(&self) -> Result<u32, NodeError> {
        let Some(at) = self.store.coins_at()? else { return Ok(u32::MAX) };
        let at = read(&self.index).block_ref(&at).ok_or(NodeError::UnknownBlock(at))?;
        Ok(at.height.saturating_add(1))
    }

    /// The lowest block of which the filter is still to be made.
    fn filters_need_from(&self) -> Result<u32, NodeError> {
        if !self.store.keeps_filters() || self.has_filters.load(Ordering::Acquire) {
            return Ok(u32::MAX);
        }
        // Without its body no filter can be made any more: nobody waits for that.
        let missing = filter_catch_up::first_missing(self)?;
        Ok(if missing < self.store.pruned_below() { u32::MAX } else { missing })
    }

    /// Goes on for some heights below `end`; `false` if nothing more may be removed.
    fn prune_some(&self, config: &PruneConfig, end: u32, pruned: &mut Pruned) -> Result<bool, NodeError> {
        // With the chain held no block above the limit can come off, and no consumer can begin lower.
        let _chain = self.hold_chain();
        let Some(needed) = self.pruner.needed(config)? else { return Ok(false) };
        let limit = self.tip().height.saturating_sub(REORG_HORIZON).min(needed.from).min(self.filters_need_from()?);
        let limit = limit.min(self.coins_need_from()?).min(end);
        // The genesis block stays.
        let first = self.store.pruned_below().max(1);
        let end = limit.min(first.saturating_add(AT_ONCE));
        let before = self.store.kept_blocks()?;
        let is_needed = |height: &u32| needed.blocks.contains(height) || *height >= needed.from;
        let released: Vec<u32> = before.iter().copied().filter(|height| !is_needed(height)).collect();
        if first >= end && released.is_empty() {
            return Ok(false);
        }
        let mut kept: Vec<u32> = before.into_iter().filter(is_needed).collect();
        let mut batch = Batch::new(BatchKind::Prune);
        let mut missing = Vec::new();
        for height in released.into_iter().chain(first..end) {
            for HeaderRow { hash, header, status } in self.store.headers_at(height)? {
                let is_active = read(&self.index).is_active(&hash);
                if !status.has_block() {
                    continue;
                }
                if is_active && needed.blocks.contains(&height) {
                    kept.push(height);
                    continue;
                }
                pruned.bytes = pruned.bytes.saturating_add(self.store.block_bytes(&hash)?);
                pruned.blocks = pruned.blocks.saturating_add(1);
                batch.remove_block(&hash);
                // A branch that was left: should it ever win, its blocks have to be fetched again.
                if !is_active {
                    batch.put_header(height, &header, status.without_block());
                    missing.push(hash);
                }
            }
        }
        let below = first.max(end);
        batch.set_pruned(below, &kept);
        self.store.commit(&batch, Durability::Buffered)?;
        self.store.note_pruned(below);
        let mut index = write(&self.index);
        missing.iter().for_each(|hash| index.tree.mark_missing(hash));
        Ok(true)
    }
}
