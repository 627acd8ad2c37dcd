//! A block on its way to the chain, with all that can be said of it before it is its turn.
//!
//! ```text
//!   bytes ──▶ prepare: ids, body, verdict of the block alone     on any thread, while the block before is connected;
//!                │     scripts, as far as can be (`ahead`)
//!                └──▶ submit: place in the chain, coins, scripts, commit     one at a time, who holds the chain
//! ```

use std::sync::Arc;

use bitcoin::consensus::serialize;
use bitcoin::{Block, BlockHash};
use leyden_consensus::block::check_identified;
use leyden_consensus::block_ids::transaction_ids;
use leyden_consensus::header::check_proof_of_work;
use leyden_consensus::{BlockError, BlockIds, Params};
use rayon::prelude::*;

/// Transactions below which it is not worth spreading them over threads.
const HASHED_TOGETHER: usize = 128;

/// A block, hashed and checked as far as that needs nothing else.
pub struct PreparedBlock {
    /// The block.
    pub block: Arc<Block>,
    /// Its header's hash.
    pub hash: BlockHash,
    pub(crate) work: Result<Prepared, BlockError>,
}

/// What was found out; without a proof of work nothing is, as it would cost us more than its sender.
pub(crate) struct Prepared {
    pub(crate) ids: Arc<BlockIds>,
    pub(crate) body: Vec<u8>,
    pub(crate) checked: Result<(), BlockError>,
}

impl PreparedBlock {
    /// Does the work that needs only the block.
    pub fn new(block: Block, params: &Params) -> Self {
        let hash = block.block_hash();
        let work = check_proof_of_work(&block.header, params).map_err(BlockError::from).map(|()| {
            let ids = Arc::new(block_ids(&block));
            let (body, checked) = rayon::join(|| serialize(&block), || check_identified(&block, &ids, params));
            Prepared { ids, body, checked }
        });
        Self { block: Arc::new(block), hash, work }
    }
}

/// The ids of its transactions, hashed on all cores.
pub(crate) fn block_ids(block: &Block) -> BlockIds {
    BlockIds::new(block.txdata.par_iter().with_min_len(HASHED_TOGETHER).map(transaction_ids).collect())
}
