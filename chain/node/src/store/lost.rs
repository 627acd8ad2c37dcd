//! Blocks whose bodies are damaged on the disk: peers have them too, so they are fetched again.

use bitcoin::BlockHash;

use super::Store;
use crate::sync::lock;

/// Lost blocks that are remembered. A disk with more is not worth to be trusted; the others are found when they are read again.
const MAX_LOST: usize = 1_000;
/// How many are fetched at a time.
const FETCHED_AT_ONCE: usize = 16;

impl Store {
    /// The body of this block is gone, as `why` says. Said once.
    pub(crate) fn note_lost(&self, hash: BlockHash, why: &dyn std::fmt::Display) {
        let mut lost = lock(&self.lost);
        if lost.len() < MAX_LOST && lost.insert(hash) {
            tracing::error!(%hash, %why, "a stored block is damaged: it is fetched again from peers; look after this disk");
        }
    }

    /// It is stored again.
    pub(crate) fn note_found(&self, hash: &BlockHash) {
        if lock(&self.lost).remove(hash) {
            tracing::info!(%hash, "a damaged block was fetched again");
        }
    }

    /// Whether the body of this block is damaged and has not been fetched again.
    pub(crate) fn is_lost(&self, hash: &BlockHash) -> bool {
        lock(&self.lost).contains(hash)
    }

    /// Some of the blocks that have to be fetched again.
    pub fn lost_blocks(&self) -> Vec<BlockHash> {
        lock(&self.lost).iter().take(FETCHED_AT_ONCE).copied().collect()
    }
}
