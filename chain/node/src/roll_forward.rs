//! After a crash: the coins of blocks that were connected, but whose coins were not written yet ([`crate::store::coins`]
//! says why that may be).
//!
//! ```text
//!   ─■─■─■──────□──□──□──□   tip: its undo data and indexes are written, and so is every body
//!        └ rows of coins └── each block's coins are set and removed, in order; nothing is checked again
//!                   └─ ✗ a body is damaged: the tip steps back below it, and the block is fetched again
//! ```

use std::time::Instant;

use bitcoin::BlockHash;
use leyden_consensus::coins_left_by;

use crate::chain_index::ChainIndex;
use crate::error::{NodeError, StoreError};
use crate::store::{Batch, BatchKind, Durability, FLUSHED_AT_ONCE, Store};

/// Brings the coins to the tip of the index.
pub(crate) fn roll_forward(store: &Store, index: &mut ChainIndex) -> Result<(), NodeError> {
    let tip = index.tip_hash();
    let Some(behind) = store.coins_at()?.filter(|at| *at != tip) else { return Ok(()) };
    let begun = Instant::now();
    let path = index.tree.path(&behind, &tip).filter(|path| path.disconnect.is_empty());
    let path = path.ok_or_else(|| StoreError::Corrupt {
        path: store.path().to_owned(),
        detail: format!("its coins are those of block {behind}, which is not of the chain of its tip {tip}"),
    })?;
    let mut batch = Batch::new(BatchKind::Coins);
    let (mut reached, mut blocks) = (behind, 0u32);
    for hash in &path.connect {
        let Some(height) = index.block_ref(hash).map(|at| at.height) else { break };
        let Some(block) = store.block(hash)? else {
            tracing::error!(%hash, height, "a block is damaged whose coins are not written; it is no longer the tip's");
            break;
        };
        for (outpoint, coin) in coins_left_by(&block, height) {
            batch.put_coin(&outpoint, coin.as_ref());
            if batch.memory() >= FLUSHED_AT_ONCE {
                store.commit(&std::mem::replace(&mut batch, Batch::new(BatchKind::Coins)), Durability::Buffered)?;
            }
        }
        (reached, blocks) = (*hash, blocks.saturating_add(1));
    }
    batch.set_coins_at(&reached);
    store.commit(&batch, Durability::Buffered)?;
    if reached != tip {
        step_back(store, index, &reached)?;
    }
    tracing::info!(blocks, seconds = begun.elapsed().as_secs_f64(), "coins that were not written are made up for");
    Ok(())
}

fn step_back(store: &Store, index: &mut ChainIndex, to: &BlockHash) -> Result<(), NodeError> {
    let at = index.block_ref(to).ok_or(NodeError::UnknownBlock(*to))?;
    store.rewind_to(at.height, to)?;
    index.activate(to).ok_or(NodeError::UnknownBlock(*to))
}
