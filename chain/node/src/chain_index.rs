//! All headers, and which of their blocks make up the active chain: what can be answered from memory.

use std::sync::Arc;

use bitcoin::{BlockHash, Work};
use leyden_consensus::{HeaderTree, KnownHeader, Params};
use leyden_net::{BlockState, HeaderEntry};

use crate::tip::BestChain;
use crate::types::{BlockRef, Tip};

/// The header tree with the active chain marked in it.
pub struct ChainIndex {
    /// All headers, of every branch.
    pub tree: HeaderTree,
    /// By height, from genesis to the tip; never empty.
    active: Vec<BlockHash>,
    /// A block up to which scripts are taken as valid.
    pub assumed_valid: Option<BlockHash>,
}

/// Two weeks: what must lie on top of a block whose scripts are not checked.
const BURIED_SECONDS: f64 = 14.0 * 86_400.0;

/// How many blocks of work `each` lie between two amounts of work; rounded, which a bound of weeks can bear.
fn work_ratio(more: Work, less: Work, each: Work) -> f64 {
    let number = |work: Work| work.to_be_bytes().iter().fold(0.0, |sum, byte| sum * 256.0 + f64::from(*byte));
    if more > less { number(more - less) / number(each).max(1.0) } else { 0.0 }
}

impl ChainIndex {
    /// The genesis block alone.
    pub fn new(params: Arc<Params>) -> Self {
        let genesis = params.genesis_hash;
        let mut tree = HeaderTree::new(params);
        tree.mark_stored(&genesis);
        Self { tree, active: vec![genesis], assumed_valid: None }
    }

    /// Makes the chain that ends in `tip` the active one. `None`, and nothing changed, if the block is not known.
    pub fn activate(&mut self, tip: &BlockHash) -> Option<()> {
        let path = self.tree.path(&self.tip_hash(), tip)?;
        let keep = self.active.len().checked_sub(path.disconnect.len())?;
        self.active.truncate(keep);
        self.active.extend(path.connect);
        Some(())
    }

    /// The hash of the active chain's last block.
    pub fn tip_hash(&self) -> BlockHash {
        // The list begins with the genesis block, which is never disconnected.
        self.active.last().copied().unwrap_or(self.tree.params().genesis_hash)
    }

    /// The active chain's last block.
    pub fn tip(&self) -> Tip {
        let hash = self.tip_hash();
        tip_of(&self.tree.get(&hash).unwrap_or_else(|| self.tree.best()))
    }

    /// Bitcoin Core's rule: the block is an ancestor of the named one, that one is on the best header chain, the best header
    /// has the network's minimum work, and it would take [`BURIED_SECONDS`] to make what lies on top of the block. So who
    /// can show us a false chain has to have spent that much on it, and saves nothing by our trust.
    pub fn is_assumed_valid(&self, hash: &BlockHash) -> bool {
        let Some(named) = self.assumed_valid else { return false };
        let (tree, params) = (&self.tree, self.tree.params());
        let (Some(block), Some(named)) = (tree.get(hash), tree.get(&named)) else { return false };
        let best = tree.best();
        let is_below = |below: &KnownHeader, above: &KnownHeader| {
            tree.ancestor(&above.hash, below.height).is_some_and(|found| found.hash == below.hash)
        };
        let blocks_on_top = work_ratio(best.chain_work, block.chain_work, best.header.work());
        is_below(&block, &named)
            && is_below(&named, &best)
            && best.chain_work >= params.minimum_chain_work
            && blocks_on_top * f64::from(params.spacing.get()) > BURIED_SECONDS
    }

    /// The header with most work behind it that is not known to be invalid; its block may be missing.
    pub fn best_header(&self) -> Tip {
        tip_of(&self.tree.best())
    }

    /// The end of the chain with most work of those that end in `known`, if it has more than the active one; without
    /// `known` of all that were ever told of.
    pub fn best_of(&self, known: Option<&[BlockHash]>) -> KnownHeader {
        let best = self.tree.best();
        let Some(known) = known else { return best };
        let active = self.tree.get(&self.tip_hash()).unwrap_or(best);
        let valid = known.iter().filter_map(|hash| self.tree.get(hash)).filter(|one| one.validity.is_valid());
        valid.fold(active, |best, one| if one.chain_work > best.chain_work { one } else { best })
    }

    /// Whether the active chain has all blocks up to `best` but the last `tolerated`, by which it may also part from
    /// them.
    pub fn has_chain_to(&self, best: &KnownHeader, tolerated: u32) -> bool {
        let needed = self.tree.ancestor(&best.hash, best.height.saturating_sub(tolerated));
        needed.is_some_and(|needed| self.active_at(needed.height) == Some(needed.hash))
    }

    /// How the active chain, whose blocks are pruned below a height, stands to the one that ends in `best`.
    pub fn best_chain(&self, best: &KnownHeader, tolerated: u32, pruned_below: u32) -> BestChain {
        if self.has_chain_to(best, tolerated) {
            return BestChain::Had;
        }
        let Some(fork) = self.fork_height(&best.hash) else { return BestChain::Missing };
        let above = fork.saturating_add(1);
        match self.tree.ancestor(&best.hash, above) {
            Some(first) if above < pruned_below => BestChain::OutOfReach { first: first.hash, fork },
            Some(_) | None => BestChain::Missing,
        }
    }

    /// The height of the last block that this one's chain has in common with the active one.
    pub fn fork_height(&self, hash: &BlockHash) -> Option<u32> {
        self.tree.fork_point(&self.tip_hash(), hash).map(|fork| fork.height)
    }

    /// The active chain's block at this height.
    pub fn active_at(&self, height: u32) -> Option<BlockHash> {
        self.active.get(usize::try_from(height).ok()?).copied()
    }

    /// Whether the block is part of the active chain.
    pub fn is_active(&self, hash: &BlockHash) -> bool {
        self.tree.get(hash).is_some_and(|known| self.active_at(known.height) == Some(*hash))
    }

    /// A block's height by its hash, on any branch.
    pub fn block_ref(&self, hash: &BlockHash) -> Option<BlockRef> {
        self.tree.get(hash).map(|known| BlockRef { hash: known.hash, height: known.height })
    }

    /// The block after `from` on the way to `to`: off, if `from` is not below `to`, else on.
    pub fn next_step(&self, from: &BlockHash, to: &BlockHash) -> Option<NextStep> {
        if from == to {
            return None;
        }
        let (from, to) = (self.tree.get(from)?, self.tree.get(to)?);
        match self.tree.ancestor(&to.hash, from.height) {
            Some(ancestor) if ancestor.hash == from.hash => {
                let next = self.tree.ancestor(&to.hash, from.height.checked_add(1)?)?;
                Some(NextStep::Connect(BlockRef { hash: next.hash, height: next.height }))
            }
            Some(_) | None => Some(NextStep::Disconnect {
                block: BlockRef { hash: from.hash, height: from.height },
                parent: from.header.prev_blockhash,
            }),
        }
    }

    /// What the peer logic reads of a header; `None` for one that is not in the tree.
    pub fn entry(&self, hash: &BlockHash) -> Option<HeaderEntry> {
        self.tree.get(hash).map(|known| self.entry_of(&known))
    }

    /// What the peer logic reads of this header.
    pub fn entry_of(&self, known: &KnownHeader) -> HeaderEntry {
        let state = if !known.validity.is_valid() {
            BlockState::Invalid
        } else if self.active_at(known.height) == Some(known.hash) {
            BlockState::Active
        } else if known.stored {
            BlockState::Stored
        } else {
            BlockState::HeaderOnly
        };
        HeaderEntry { hash: known.hash, header: known.header, height: known.height, work: known.chain_work, state }
    }
}

/// One block off or on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum NextStep {
    /// Connect this block, which follows the present one.
    Connect(BlockRef),
    /// Disconnect the present block, `block`, so that `parent` is the tip.
    Disconnect { block: BlockRef, parent: BlockHash },
}

/// This header as the end of a chain.
pub fn tip_of(known: &KnownHeader) -> Tip {
    Tip {
        hash: known.hash,
        height: known.height,
        time: known.header.time,
        median_time_past: known.median_time_past,
        work: known.chain_work,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::block::Header;

    /// A header on `parent` with its proof of work, which regtest makes easy.
    fn header_on(parent: &Header, salt: u32) -> Header {
        let (version, time) = (bitcoin::block::Version::NO_SOFT_FORK_SIGNALLING, parent.time + 60 + salt);
        let mut header = Header { version, prev_blockhash: parent.block_hash(), time, ..*parent };
        while !header.target().is_met_by(header.block_hash()) {
            header.nonce = header.nonce.wrapping_add(1);
        }
        header
    }

    #[test]
    fn headers_without_blocks_count_while_a_peer_stands_for_them() {
        let params = Arc::new(Params::regtest());
        let (mut index, now) = (ChainIndex::new(Arc::clone(&params)), 4_000_000_000);
        let mut active = params.genesis.header;
        for _ in 0..5 {
            active = header_on(&active, 0);
            index.tree.accept(active, now).unwrap();
            index.tree.mark_stored(&active.block_hash());
        }
        index.activate(&active.block_hash()).unwrap();
        let mut withheld = active;
        for _ in 0..3 {
            withheld = header_on(&withheld, 1);
            index.tree.accept(withheld, now).unwrap();
        }
        let behind = |known: Option<&[BlockHash]>| !index.has_chain_to(&index.best_of(known), 2);
        assert!(behind(None), "who has heard of no peer's chain takes every header seriously");
        assert!(behind(Some(&[active.block_hash(), withheld.block_hash()])));
        assert!(!behind(Some(&[active.block_hash()])), "whoever told of them has gone");
        assert!(!behind(Some(&[])));
    }
}
