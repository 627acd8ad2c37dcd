//! One chain of the tree, seen from its tip.

use bitcoin::BlockHash;
use bitcoin::block::Header;

use super::HeaderTree;
use super::entry::{KnownHeader, Slot};
use crate::header_chain::HeaderChain;
use crate::locktime::MedianTimes;

/// The chain from the genesis block to one tip.
#[derive(Clone, Copy, Debug)]
pub struct Branch<'a> {
    tree: &'a HeaderTree,
    tip: Slot,
}

impl<'a> Branch<'a> {
    pub(super) fn new(tree: &'a HeaderTree, tip: Slot) -> Self {
        Self { tree, tip }
    }

    /// The last block of this chain.
    pub fn tip(&self) -> KnownHeader {
        self.tree.entry(self.tip).known()
    }

    /// The block at a height of this chain.
    pub fn get(&self, height: u32) -> Option<KnownHeader> {
        self.tree.ancestor_slot(self.tip, height).map(|slot| self.tree.entry(slot).known())
    }

    /// The hash of the block at a height of this chain; `None` above its tip.
    pub fn hash_at(&self, height: u32) -> Option<BlockHash> {
        self.tree.ancestor_slot(self.tip, height).map(|slot| self.tree.entry(slot).hash)
    }

    /// Whether a block is on this chain.
    pub fn contains(&self, hash: &BlockHash) -> bool {
        self.tree.get(hash).is_some_and(|known| self.hash_at(known.height) == Some(*hash))
    }
}

impl HeaderChain for Branch<'_> {
    fn tip_height(&self) -> u32 {
        self.tree.entry(self.tip).height
    }

    fn header_at(&self, height: u32) -> Option<Header> {
        self.tree.ancestor_slot(self.tip, height).map(|slot| self.tree.entry(slot).header)
    }
}

impl MedianTimes for Branch<'_> {
    fn median_time_past(&self, height: u32) -> Option<u32> {
        self.tree.ancestor_slot(self.tip, height).map(|slot| self.tree.entry(slot).median_time_past)
    }
}
