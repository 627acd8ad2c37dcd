//! Blocks that were prepared and wait for their turn, with the outputs that they make.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use bitcoin::{Block, BlockHash, OutPoint, TxOut, Txid};
use leyden_consensus::BlockIds;
use leyden_consensus::keyed_hash::IdMap;

use crate::sync::lock;

/// Blocks whose outputs are at hand: one is connected, one waits for it, one is prepared.
const WAITING: usize = 3;

/// The blocks that were prepared last.
#[derive(Default)]
pub(crate) struct WaitingBlocks(Mutex<VecDeque<Arc<WaitingBlock>>>);

/// One of them.
pub(crate) struct WaitingBlock {
    hash: BlockHash,
    block: Arc<Block>,
    ids: Arc<BlockIds>,
    places: OnceLock<IdMap<Txid, usize>>,
}

impl WaitingBlock {
    pub(crate) fn output(&self, outpoint: &OutPoint) -> Option<&TxOut> {
        let places = || self.ids.txids().iter().enumerate().map(|(place, txid)| (*txid, place)).collect();
        let place = self.places.get_or_init(places).get(&outpoint.txid)?;
        let vout = usize::try_from(outpoint.vout).ok()?;
        self.block.txdata.get(*place)?.output.get(vout)
    }
}

impl WaitingBlocks {
    /// Adds a block. Returns it and those before it, the last first.
    pub(crate) fn add(&self, hash: BlockHash, block: &Arc<Block>, ids: &Arc<BlockIds>) -> Vec<Arc<WaitingBlock>> {
        let mut blocks = lock(&self.0);
        blocks.retain(|waiting| waiting.hash != hash);
        blocks.truncate(WAITING.saturating_sub(1));
        let (block, ids) = (Arc::clone(block), Arc::clone(ids));
        blocks.push_front(Arc::new(WaitingBlock { hash, block, ids, places: OnceLock::new() }));
        blocks.iter().cloned().collect()
    }

    pub(crate) fn has(&self, hash: &BlockHash) -> bool {
        lock(&self.0).iter().any(|waiting| waiting.hash == *hash)
    }
}
