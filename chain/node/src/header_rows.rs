//! The header tree from its rows, and which rows keep their place.
//!
//! A header costs its sender a proof of work, and us its place on the disk and in memory. Chains whose work is far below
//! ours are turned away before anything of them is stored (`leyden_net`'s pre-synchronisation). What passes there and
//! leads nowhere, because its blocks never came or ours have more work by now, is forgotten with the next start: kept are
//! the headers
//! * whose block is stored, or known to be invalid,
//! * of valid chains that have at least the work of the active one,
//! * that one of these needs as an ancestor.
//!
//! So what is loaded grows with the blocks that are stored, and not with what peers have ever announced. Who goes on with
//! a chain that was forgotten sends its headers again, as they do to everybody who lacks them.

use std::collections::HashSet;

use bitcoin::BlockHash;
use leyden_consensus::HeaderTree;

use crate::chain_index::ChainIndex;
use crate::error::{NodeError, StoreError};
use crate::store::{Batch, BatchKind, Durability, HeaderRow, Order, Store};

/// Rows that are removed in one write take at most this in memory.
const REMOVED_AT_ONCE: usize = 1 << 20;

/// Fills the index from the store.
pub(crate) fn load(store: &Store, index: &mut ChainIndex) -> Result<(), NodeError> {
    let corrupt = |detail: String| StoreError::Corrupt { path: store.path().to_owned(), detail };
    let tip = store.tip()?.ok_or_else(|| corrupt("it names no tip".into()))?;
    let missing = || corrupt(format!("the header of its tip {tip} is missing"));
    restore(store, index)?;
    let forgotten = forget_idle(store, &index.tree, &tip)?;
    if forgotten > 0 {
        tracing::info!(forgotten, "headers that lead nowhere are forgotten");
        *index = ChainIndex::new(std::sync::Arc::clone(index.tree.params()));
        restore(store, index)?;
    }
    index.activate(&tip).ok_or_else(missing)?;
    Ok(())
}

fn restore(store: &Store, index: &mut ChainIndex) -> Result<(), NodeError> {
    let genesis = index.tree.params().genesis_hash;
    for row in store.headers(Order::LowestFirst) {
        let HeaderRow { hash, header, status } = row?;
        if hash == genesis {
            continue;
        }
        let restored = index.tree.restore(header, status.has_block(), status.is_invalid());
        restored.map_err(|error| StoreError::Corrupt {
            path: store.path().to_owned(),
            detail: format!("header {hash}: {error}"),
        })?;
    }
    Ok(())
}

/// Removes the rows that nothing needs, and says how many.
fn forget_idle(store: &Store, tree: &HeaderTree, tip: &BlockHash) -> Result<usize, NodeError> {
    let Some(tip) = tree.get(tip) else { return Ok(0) };
    // Parents of what is kept. Rows come from the highest down, so a row's children have been looked at before.
    let mut needed = HashSet::new();
    let mut batch = Batch::new(BatchKind::Headers);
    let mut forgotten = 0usize;
    for row in store.headers(Order::HighestFirst) {
        let HeaderRow { hash, header, status } = row?;
        let known = tree.get(&hash).ok_or(NodeError::UnknownBlock(hash))?;
        let may_win = known.validity.is_valid() && known.chain_work >= tip.chain_work;
        if needed.remove(&hash) || may_win || status.has_block() || status.is_invalid() {
            needed.insert(header.prev_blockhash);
            continue;
        }
        forgotten = forgotten.saturating_add(1);
        batch.remove_header(known.height, &hash);
        if batch.memory() >= REMOVED_AT_ONCE {
            store.commit(&std::mem::replace(&mut batch, Batch::new(BatchKind::Headers)), Durability::Buffered)?;
        }
    }
    if forgotten > 0 {
        store.commit(&batch, Durability::Buffered)?;
    }
    Ok(forgotten)
}
