//! Filters for blocks that were connected without one: made after the start, while the node goes on.

use std::sync::atomic::Ordering;

use bitcoin::BlockHash;

use crate::core::Core;
use crate::error::{NodeError, StoreError};
use crate::filter_index::FilterWriter;
use crate::store::{Batch, BatchKind, Durability};
use crate::sync::read;

/// Filters that are written at a time take at most this in memory.
const WRITTEN_AT_ONCE: usize = 4 << 20;

/// Makes the filters of blocks that were connected without one. Returns how many; before all were made only if the node
/// stops. Blocks.
pub(crate) fn catch_up(core: &Core) -> Result<u32, NodeError> {
    let (store, mut made) = (&core.store, 0u32);
    if !store.keeps_filters() {
        return Ok(0);
    }
    let mut height = first_missing(core)?;
    while !core.shutdown.is_cancelled() {
        let Some(hash) = read(&core.index).active_at(height) else {
            // Nobody connects a block in this moment: if the tip has its filter, so will all that follow.
            if core.chain_rests(|tip| Ok(store.filter_link(&tip)?.is_some()))? {
                core.has_filters.store(true, Ordering::Release);
                return Ok(made);
            }
            height = first_missing(core)?;
            continue;
        };
        match write_some(core, height, hash)? {
            0 => height = first_missing(core)?,
            some => {
                made = made.saturating_add(some);
                height = height.saturating_add(some);
                tracing::debug!(height, "block filters made up for");
            }
        }
    }
    Ok(made)
}

/// Writes the filters from this height on until they are many. Returns how many; none if the chain has changed.
fn write_some(core: &Core, first: u32, hash: BlockHash) -> Result<u32, NodeError> {
    let (mut batch, mut writer) = (Batch::new(BatchKind::Filters), FilterWriter::default());
    let (mut height, mut next) = (first, Some(hash));
    while let Some(hash) = next
        && batch.memory() < WRITTEN_AT_ONCE
        && !core.shutdown.is_cancelled()
    {
        let block = core.store.block(&hash)?.ok_or(NodeError::MissingData(hash))?;
        let undo = core.store.undo(&hash)?.ok_or(NodeError::MissingData(hash))?;
        if !writer.add(&core.store, &mut batch, (&hash, &block), &undo)? {
            break;
        }
        height = height.saturating_add(1);
        next = read(&core.index).active_at(height);
    }
    core.store.commit(&batch, Durability::Buffered)?;
    Ok(height.saturating_sub(first))
}

/// The lowest height of the active chain whose block has no filter; the one above the tip if all have.
pub(crate) fn first_missing(core: &Core) -> Result<u32, StoreError> {
    let (mut has, mut lacks) = (0, core.tip().height.saturating_add(1));
    while lacks.saturating_sub(has) > 1 {
        let middle = has.midpoint(lacks);
        let hash = read(&core.index).active_at(middle);
        let found = hash.map(|hash| core.store.filter_link(&hash)).transpose()?.flatten();
        if found.is_some() {
            has = middle;
        } else {
            lacks = middle;
        }
    }
    Ok(lacks)
}
