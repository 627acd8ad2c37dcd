//! What is known of the active chain's blocks beside their bytes.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bitcoin::BlockHash;
use leyden_consensus::BlockUndo;

use crate::error::NodeError;
use crate::node::Node;

impl Node {
    /// The coins that a block spent; `None` if it was never part of the active chain, or they were pruned.
    pub async fn spent_by(&self, hash: BlockHash) -> Result<Option<Arc<BlockUndo>>, NodeError> {
        self.blocking(move |core| {
            core.full("what blocks spend")?;
            Ok(core.store.undo(&hash)?.map(Arc::new))
        })
        .await
    }

    /// How many transactions the active chain's blocks of these heights have together. One read a block.
    pub async fn transaction_count(&self, heights: RangeInclusive<u32>) -> Result<u64, NodeError> {
        self.blocking(move |core| {
            core.full("whole blocks")?;
            let mut sum = 0u64;
            core.store.transaction_counts(heights, |count| {
                sum = sum.saturating_add(u64::from(count));
                if core.shutdown.is_cancelled() { Err(NodeError::ShuttingDown) } else { Ok(()) }
            })?;
            Ok(sum)
        })
        .await
    }
}
