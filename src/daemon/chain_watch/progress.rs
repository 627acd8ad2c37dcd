//! How far the chain has been searched, and what becomes of what was found when the chain changes.
//!
//! ```text
//!   next block ─► nothing in it ─► next …          found, deep enough ─► told ─► too deep to be undone ─► over
//!        ▲                                            │
//!        └──────── its block is in the chain no longer ┴─► told before? then that it is gone
//! ```

use std::collections::VecDeque;

use bitcoin::BlockHash;

/// Blocks on top of which nothing is undone any more: LND's number.
pub(super) const SAFE_DEPTH: u32 = 144;

/// A search.
#[derive(Debug)]
pub(super) struct Progress<T> {
    /// The next block to be searched.
    next: u32,
    /// Where it began.
    from: u32,
    /// Told with so many confirmations.
    depth: u32,
    /// The last blocks without it; no reorganisation that counts is deeper.
    searched: VecDeque<(u32, BlockHash)>,
    found: Option<Found<T>>,
}

#[derive(Debug)]
struct Found<T> {
    /// `None`: it was told.
    what: Option<T>,
    height: u32,
    hash: BlockHash,
}

impl<T> Progress<T> {
    pub(super) fn new(from: u32, depth: u32) -> Self {
        Self { next: from, from, depth, searched: VecDeque::new(), found: None }
    }

    /// Goes back to where the chain is what it was. Whether what was told is gone.
    pub(super) fn go_back(&mut self, in_chain: impl Fn(u32) -> Option<BlockHash>) -> bool {
        let lost = self.found.take_if(|found| in_chain(found.height) != Some(found.hash));
        if let Some(lost) = &lost {
            self.next = lost.height;
        }
        while let Some((height, _)) = self.searched.pop_back_if(|(height, hash)| in_chain(*height) != Some(*hash)) {
            self.next = height;
            if self.searched.is_empty() {
                // What lies before is not remembered.
                self.next = self.from;
            }
        }
        lost.is_some_and(|lost| lost.what.is_none())
    }

    /// The height of the block to search now.
    pub(super) fn next(&self, tip: u32) -> Option<u32> {
        (self.found.is_none() && self.next <= tip).then_some(self.next)
    }

    /// A block has been searched.
    pub(super) fn searched(&mut self, height: u32, hash: BlockHash, found: Option<T>) {
        match found {
            Some(what) => self.found = Some(Found { what: Some(what), height, hash }),
            None => {
                self.searched.push_back((height, hash));
                if self.searched.len() > SAFE_DEPTH as usize {
                    self.searched.pop_front();
                }
            }
        }
        self.next = height.saturating_add(1);
    }

    /// What is deep enough to be told and has not been.
    pub(super) fn next_to_tell(&mut self, tip: u32) -> Option<T> {
        let depth = self.depth;
        self.found.as_mut().filter(|found| confirmations(tip, found.height) >= depth)?.what.take()
    }

    /// Whether nothing more will come.
    pub(super) fn is_over(&self, tip: u32) -> bool {
        self.found.as_ref().is_some_and(|found| found.what.is_none() && confirmations(tip, found.height) > SAFE_DEPTH)
    }
}

fn confirmations(tip: u32, height: u32) -> u32 {
    tip.checked_sub(height).map_or(0, |above| above.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    /// A chain by the names of its blocks.
    struct Chain(Vec<u8>);

    impl Chain {
        fn hash(&self, height: u32) -> Option<BlockHash> {
            self.0.get(height as usize).map(|name| BlockHash::from_byte_array([*name; 32]))
        }

        fn tip(&self) -> u32 {
            self.0.len() as u32 - 1
        }

        /// Searches for the block of this name; what a caller is told.
        fn advance(&self, progress: &mut Progress<u8>, wanted: u8) -> Vec<Option<u8>> {
            let mut told = Vec::new();
            if progress.go_back(|height| self.hash(height)) {
                told.push(None);
            }
            while let Some(height) = progress.next(self.tip()) {
                let name = self.0[height as usize];
                progress.searched(height, self.hash(height).unwrap(), (name == wanted).then_some(name));
            }
            told.extend(progress.next_to_tell(self.tip()).map(Some));
            told
        }
    }

    #[test]
    fn it_is_told_once_when_it_is_deep_enough() {
        let mut progress = Progress::new(1, 2);
        assert!(Chain(vec![0, 1, 2]).advance(&mut progress, 3).is_empty());
        assert!(Chain(vec![0, 1, 2, 3]).advance(&mut progress, 3).is_empty(), "one confirmation");
        assert_eq!(Chain(vec![0, 1, 2, 3, 4]).advance(&mut progress, 3), [Some(3)]);
        assert!(Chain(vec![0, 1, 2, 3, 4, 5]).advance(&mut progress, 3).is_empty());
        assert!(!progress.is_over(146));
        assert!(progress.is_over(147), "144 blocks lie above it");
    }

    #[test]
    fn what_was_reorganised_out_is_gone_and_is_found_at_its_new_place() {
        let mut progress = Progress::new(1, 1);
        assert_eq!(Chain(vec![0, 1, 3]).advance(&mut progress, 3), [Some(3)]);
        assert_eq!(Chain(vec![0, 1, 8, 9]).advance(&mut progress, 3), [None]);
        assert_eq!(Chain(vec![0, 1, 8, 9, 3]).advance(&mut progress, 3), [Some(3)]);
        // The fork lies below what was searched, and it stands at a lower height now.
        assert_eq!(Chain(vec![0, 1, 3, 7, 6, 5]).advance(&mut progress, 3), [None, Some(3)]);
    }

    #[test]
    fn a_reorganisation_before_it_was_told_goes_unmentioned() {
        let mut progress = Progress::new(1, 3);
        assert!(Chain(vec![0, 1, 3]).advance(&mut progress, 3).is_empty());
        assert!(Chain(vec![0, 2, 3]).advance(&mut progress, 3).is_empty());
        assert_eq!(Chain(vec![0, 2, 3, 4, 5]).advance(&mut progress, 3), [Some(3)]);
    }

    #[test]
    fn a_search_that_begins_above_the_tip_waits() {
        let mut progress = Progress::new(3, 1);
        assert!(Chain(vec![0, 3]).advance(&mut progress, 3).is_empty());
        assert_eq!(Chain(vec![0, 3, 1, 3]).advance(&mut progress, 3), [Some(3)]);
    }
}
