//! All known headers: which chain has the most work, and how to get about on any of them.
//!
//! ```text
//!  genesis ─ 1 ─ 2 ─ 3 ─ 4        best: most work among valid headers, the first seen of equals
//!                 └─ 3'─ 4'─ 5'   best_stored: the same among those whose blocks are all stored
//! ```
//!
//! Work decides, not height (white paper, section 5). Headers are never forgotten; a header can be marked invalid, which
//! takes its descendants with it, and be reconsidered. Whether a block's *body* is stored is noted here too, because
//! "the best chain that can be connected now" is a question about the tree: bodies may arrive in any order.
//!
//! The tree keeps nothing on disk. A caller that stores each header, whether its body is stored and whether it is
//! invalid, rebuilds the same tree with [`HeaderTree::restore`] in any order that puts parents first; among chains of
//! equal work, the order of restoring then counts as the order of seeing.
//!
//! Ancestors are found in O(log n) by one extra pointer a header (Myers' skew-binary jump pointers).

mod branch;
mod entry;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::{BlockHash, CompactTarget};

pub use branch::Branch;
pub use entry::{KnownHeader, Validity};

use crate::block::BlockContext;
use crate::difficulty::{add_work, next_bits, work_from_bits};
use crate::error::HeaderError;
use crate::header::{Expectation, MEDIAN_TIME_SPAN, check_against, check_proof_of_work, earliest_time, median};
use crate::params::Params;
use entry::{Entry, Slot};

/// What became of an offered header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The header's block hash.
    pub hash: BlockHash,
    /// Its height in the chain that it extends.
    pub height: u32,
    /// False if the tree had it already.
    pub is_new: bool,
    /// The tip of the chain of most work is now this header.
    pub is_best: bool,
}

/// How to get from one block to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path {
    /// The last block that both chains share.
    pub fork: BlockHash,
    /// Blocks to take off, the tip first.
    pub disconnect: Vec<BlockHash>,
    /// Blocks to put on, the lowest first.
    pub connect: Vec<BlockHash>,
}

/// The tree of headers on top of one genesis block.
#[derive(Clone, Debug)]
pub struct HeaderTree {
    params: Arc<Params>,
    /// Parents come before their children.
    entries: Vec<Entry>,
    slots: HashMap<BlockHash, Slot>,
    best: Slot,
    best_stored: Slot,
    /// Counts bodies in the order in which they were stored.
    stored_so_far: u64,
    /// Counts headers in the order in which their whole chain became stored.
    linked_so_far: u64,
}

impl HeaderTree {
    /// A tree that knows the genesis block.
    pub fn new(params: Arc<Params>) -> Self {
        let header = params.genesis.header;
        let hash = params.genesis_hash;
        let genesis = Entry::genesis(header, hash);
        Self {
            params,
            entries: vec![genesis],
            slots: HashMap::from([(hash, Slot::GENESIS)]),
            best: Slot::GENESIS,
            best_stored: Slot::GENESIS,
            stored_so_far: 0,
            linked_so_far: 1,
        }
    }

    /// The network whose headers these are.
    pub fn params(&self) -> &Arc<Params> {
        &self.params
    }

    /// Checks a header and adds it. `now` is the clock in seconds.
    ///
    /// Knowing it already is no error, unless it is known to be invalid.
    pub fn accept(&mut self, header: Header, now: u64) -> Result<Accepted, HeaderError> {
        let hash = header.block_hash();
        if let Some(slot) = self.slot(&hash) {
            let entry = self.entry(slot);
            return if entry.validity.is_valid() {
                Ok(Accepted { hash, height: entry.height, is_new: false, is_best: slot == self.best })
            } else {
                Err(HeaderError::KnownInvalid(hash))
            };
        }
        check_proof_of_work(&header, &self.params)?;
        let (parent, height) = self.place_of(&header, now)?;
        let slot = self.insert(header, hash, parent, height);
        Ok(Accepted { hash, height, is_new: true, is_best: slot == self.best })
    }

    /// Checks a header that is not mined yet: all rules but the proof of work. `now` is the clock in seconds.
    pub fn check_unmined(&self, header: &Header, now: u64) -> Result<(), HeaderError> {
        self.place_of(header, now).map(|_| ())
    }

    /// The parent and the height of a header that may stand there.
    fn place_of(&self, header: &Header, now: u64) -> Result<(Slot, u32), HeaderError> {
        let parent = self.slot(&header.prev_blockhash).ok_or(HeaderError::UnknownParent(header.prev_blockhash))?;
        if !self.entry(parent).validity.is_valid() {
            return Err(HeaderError::InvalidParent { hash: header.block_hash(), parent: header.prev_blockhash });
        }
        let height = self.entry(parent).height.checked_add(1).ok_or(HeaderError::HeightOverflow)?;
        let bits =
            next_bits(&Branch::new(self, parent), header.time, &self.params).ok_or(HeaderError::MissingAncestor)?;
        let expected = Expectation {
            bits,
            median: self.entry(parent).median_time_past,
            parent_time: self.entry(parent).header.time,
            height,
        };
        check_against(header, &expected, now, &self.params)?;
        Ok((parent, height))
    }

    /// Adds a header that was accepted earlier and comes back from storage, its parent first.
    ///
    /// Only what a damaged disk could break is checked again: proof of work and the link to the parent. The fields of
    /// `KnownHeader` that the tree computes itself are not needed.
    pub fn restore(&mut self, header: Header, block_stored: bool, failed: bool) -> Result<Accepted, HeaderError> {
        let hash = header.block_hash();
        let (slot, is_new) = match self.slot(&hash) {
            Some(slot) => (slot, false),
            None => {
                check_proof_of_work(&header, &self.params)?;
                let parent =
                    self.slot(&header.prev_blockhash).ok_or(HeaderError::UnknownParent(header.prev_blockhash))?;
                let height = self.entry(parent).height.checked_add(1).ok_or(HeaderError::HeightOverflow)?;
                (self.insert(header, hash, parent, height), true)
            }
        };
        if block_stored {
            self.mark_stored(&hash);
        }
        if failed {
            self.invalidate(&hash);
        }
        Ok(Accepted { hash, height: self.entry(slot).height, is_new, is_best: slot == self.best })
    }

    /// The tip of the chain with the most work.
    pub fn best(&self) -> KnownHeader {
        self.entry(self.best).known()
    }

    /// The tip of the chain with the most work among those whose blocks are all stored; of equals, the one that was
    /// complete first.
    pub fn best_stored(&self) -> KnownHeader {
        self.entry(self.best_stored).known()
    }

    /// The tip of the chain with the most work among those that go through a block and whose blocks are all stored, as
    /// [`best_stored`](Self::best_stored); `None` if there is none.
    pub fn best_stored_through(&self, hash: &BlockHash) -> Option<KnownHeader> {
        let all = self.best_stored();
        if self.ancestor(&all.hash, self.get(hash)?.height).is_some_and(|through| through.hash == *hash) {
            return Some(all);
        }
        let descendants = self.descendants(self.slot(hash)?).into_iter().map(|slot| self.entry(slot));
        let complete = descendants.filter(|entry| entry.validity.is_valid() && entry.linked.is_some());
        complete.max_by_key(|entry| (entry.chain_work, Reverse(entry.linked))).map(Entry::known)
    }

    /// The header with this block hash, on any branch.
    pub fn get(&self, hash: &BlockHash) -> Option<KnownHeader> {
        self.slot(hash).map(|slot| self.entry(slot).known())
    }

    /// Whether the tree has a header with this block hash, on any branch.
    pub fn contains(&self, hash: &BlockHash) -> bool {
        self.slots.contains_key(hash)
    }

    /// How many headers the tree knows, the genesis block included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never: there is always a genesis block.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All headers, parents before their children: what a rebuild needs.
    pub fn iter(&self) -> impl Iterator<Item = KnownHeader> + '_ {
        self.entries.iter().map(Entry::known)
    }

    /// Headers without children: the tips of all chains.
    pub fn tips(&self) -> Vec<KnownHeader> {
        self.entries.iter().filter(|entry| entry.first_child.is_none()).map(Entry::known).collect()
    }

    /// The chain that ends in a block.
    pub fn branch(&self, tip: &BlockHash) -> Option<Branch<'_>> {
        self.slot(tip).map(|slot| Branch::new(self, slot))
    }

    /// The ancestor of a block at a height; the block itself at its own height.
    pub fn ancestor(&self, hash: &BlockHash, height: u32) -> Option<KnownHeader> {
        self.ancestor_slot(self.slot(hash)?, height).map(|slot| self.entry(slot).known())
    }

    /// The block at a height of the chain with the most work.
    pub fn at_height(&self, height: u32) -> Option<KnownHeader> {
        self.ancestor_slot(self.best, height).map(|slot| self.entry(slot).known())
    }

    /// Whether a block is on the chain with the most work.
    pub fn is_in_best_chain(&self, hash: &BlockHash) -> bool {
        self.slot(hash).is_some_and(|slot| self.ancestor_slot(self.best, self.entry(slot).height) == Some(slot))
    }

    /// The median time of the eleven blocks that end in this one.
    pub fn median_time_past(&self, hash: &BlockHash) -> Option<u32> {
        self.slot(hash).map(|slot| self.entry(slot).median_time_past)
    }

    /// The bits that a block on top of `parent` must carry if its time is `time`.
    pub fn next_bits(&self, parent: &BlockHash, time: u32) -> Option<CompactTarget> {
        next_bits(&self.branch(parent)?, time, &self.params)
    }

    /// The earliest time that a block on top of `parent` may carry.
    pub fn earliest_time(&self, parent: &BlockHash) -> Option<u32> {
        let entry = self.entry(self.slot(parent)?);
        Some(earliest_time(entry.median_time_past, entry.header.time, &self.params))
    }

    /// What block checks need to know of the chain below a block whose parent the tree knows.
    pub fn context_for(&self, header: &Header) -> Option<BlockContext> {
        let parent = self.entry(self.slot(&header.prev_blockhash)?);
        Some(BlockContext {
            height: parent.height.checked_add(1)?,
            parent_median_time: parent.median_time_past,
            parent: parent.hash,
        })
    }

    /// The last block that two chains share.
    pub fn fork_point(&self, a: &BlockHash, b: &BlockHash) -> Option<KnownHeader> {
        Some(self.entry(self.fork_slot(self.slot(a)?, self.slot(b)?)?).known())
    }

    /// Which blocks to take off and to put on to get from one block to another.
    pub fn path(&self, from: &BlockHash, to: &BlockHash) -> Option<Path> {
        let (from, to) = (self.slot(from)?, self.slot(to)?);
        let fork = self.fork_slot(from, to)?;
        let down_to_fork = |mut slot: Slot| {
            let mut hashes = Vec::new();
            while slot != fork {
                hashes.push(self.entry(slot).hash);
                slot = self.entry(slot).parent?;
            }
            Some(hashes)
        };
        let disconnect = down_to_fork(from)?;
        let mut connect = down_to_fork(to)?;
        connect.reverse();
        Some(Path { fork: self.entry(fork).hash, disconnect, connect })
    }

    /// Hashes from a block back to the genesis block, dense at first and then in growing steps, as `getheaders` wants
    /// them: a peer on another branch finds the fork among them.
    pub fn locator(&self, tip: &BlockHash) -> Option<Vec<BlockHash>> {
        let mut slot = self.slot(tip)?;
        let mut locator = Vec::new();
        let mut step = 1u32;
        loop {
            let entry = self.entry(slot);
            locator.push(entry.hash);
            if entry.height == 0 {
                return Some(locator);
            }
            if locator.len() > 10 {
                step = step.saturating_mul(2);
            }
            slot = self.ancestor_slot(slot, entry.height.saturating_sub(step))?;
        }
    }

    /// Headers of the best chain after the first locator hash that is on it, up to `limit` of them or to `stop`.
    pub fn headers_after(&self, locator: &[BlockHash], stop: &BlockHash, limit: usize) -> Vec<Header> {
        let fork = locator.iter().find(|hash| self.is_in_best_chain(hash)).and_then(|hash| self.slot(hash));
        let first = self.entry(fork.unwrap_or(Slot::GENESIS)).height.saturating_add(1);
        let last = u32::try_from(limit)
            .unwrap_or(u32::MAX)
            .saturating_sub(1)
            .saturating_add(first)
            .min(self.entry(self.best).height);
        if limit == 0 || first > last {
            return Vec::new();
        }
        // Walk down once instead of looking every height up.
        let mut headers = Vec::new();
        let mut cursor = self.ancestor_slot(self.best, last);
        while let Some(slot) = cursor {
            let entry = self.entry(slot);
            if entry.height < first {
                break;
            }
            if entry.hash == *stop {
                headers.clear();
            }
            headers.push(entry.header);
            cursor = entry.parent;
        }
        headers.reverse();
        headers
    }

    /// Notes that a block's body is stored. Returns whether [`best_stored`](Self::best_stored) has moved.
    pub fn mark_stored(&mut self, hash: &BlockHash) -> bool {
        let Some(slot) = self.slot(hash) else { return false };
        let before = self.best_stored;
        if self.entry(slot).stored.is_none() {
            self.stored_so_far += 1;
            self.entry_mut(slot).stored = Some(self.stored_so_far);
        }
        if self.entry(slot).linked.is_none() && self.parent_is_linked(slot) {
            self.link_from(slot);
        }
        before != self.best_stored
    }

    /// Notes that a block's body is gone (a wrong copy was stored, or it was pruned and is wanted again): it and its
    /// descendants no longer count as connectable. Bodies pruned behind the tip need no such note.
    pub fn mark_missing(&mut self, hash: &BlockHash) {
        let Some(slot) = self.slot(hash).filter(|slot| *slot != Slot::GENESIS) else { return };
        self.entry_mut(slot).stored = None;
        for descendant in self.descendants(slot) {
            self.entry_mut(descendant).linked = None;
        }
        self.choose_again();
    }

    /// Marks a block invalid, and with it its descendants. Returns the hashes that were valid before, the lowest first.
    /// The genesis block cannot be invalid.
    pub fn invalidate(&mut self, hash: &BlockHash) -> Vec<BlockHash> {
        let Some(slot) = self.slot(hash).filter(|slot| *slot != Slot::GENESIS) else { return Vec::new() };
        let mut newly_invalid = Vec::new();
        for descendant in self.descendants(slot) {
            let entry = self.entry_mut(descendant);
            if entry.validity.is_valid() {
                newly_invalid.push(entry.hash);
            }
            if descendant == slot {
                entry.validity = Validity::Failed;
            } else if entry.validity == Validity::Valid {
                entry.validity = Validity::OnFailed;
            }
        }
        self.choose_again();
        newly_invalid
    }

    /// Takes back that a block is invalid, for it, its ancestors and its descendants. Returns those among them that were
    /// marked themselves: their stored marks have to go too.
    pub fn reconsider(&mut self, hash: &BlockHash) -> Vec<BlockHash> {
        let Some(slot) = self.slot(hash) else { return Vec::new() };
        let mut forgiven = Vec::new();
        let mut cursor = Some(slot);
        let mut lowest = slot;
        while let Some(ancestor) = cursor {
            if self.entry(ancestor).validity == Validity::Failed {
                self.entry_mut(ancestor).validity = Validity::Valid;
                forgiven.push(self.entry(ancestor).hash);
                lowest = ancestor;
            }
            cursor = self.entry(ancestor).parent;
        }
        // Descendants come after their ancestors, so each one finds its parent's verdict already taken back.
        for descendant in self.descendants(lowest) {
            let parent_valid =
                self.entry(descendant).parent.is_none_or(|parent| self.entry(parent).validity.is_valid());
            let below = self.ancestor_slot(descendant, self.entry(slot).height) == Some(slot);
            let entry = self.entry_mut(descendant);
            if below && entry.validity == Validity::Failed {
                forgiven.push(entry.hash);
            }
            entry.validity = match entry.validity {
                Validity::Failed if !below => Validity::Failed,
                Validity::Valid | Validity::OnFailed | Validity::Failed if parent_valid => Validity::Valid,
                Validity::Valid | Validity::OnFailed | Validity::Failed => Validity::OnFailed,
            };
        }
        self.choose_again();
        forgiven
    }

    // ---- the arena ----

    fn slot(&self, hash: &BlockHash) -> Option<Slot> {
        self.slots.get(hash).copied()
    }

    /// A slot is only made when its entry is pushed, and entries are never removed: this cannot miss.
    fn entry(&self, slot: Slot) -> &Entry {
        &self.entries[slot.index()]
    }

    fn entry_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.entries[slot.index()]
    }

    fn insert(&mut self, header: Header, hash: BlockHash, parent: Slot, height: u32) -> Slot {
        let slot = Slot::new(self.entries.len());
        let above = self.entry(parent);
        let jump = above.jump;
        // If the parent's jump and the jump from there are equally long, join them; else start a new short one.
        let first = above.height - self.entry(jump).height;
        let second = self.entry(jump).height - self.entry(self.entry(jump).jump).height;
        let entry = Entry {
            header,
            hash,
            height,
            chain_work: add_work(above.chain_work, work_from_bits(header.bits)),
            median_time_past: self.median_with(&header, parent),
            validity: if above.validity.is_valid() { Validity::Valid } else { Validity::OnFailed },
            parent: Some(parent),
            jump: if first == second { self.entry(jump).jump } else { parent },
            first_child: None,
            next_sibling: above.first_child,
            stored: None,
            linked: None,
        };
        let better = entry.validity.is_valid() && entry.chain_work > self.entry(self.best).chain_work;
        self.entries.push(entry);
        self.slots.insert(hash, slot);
        self.entry_mut(parent).first_child = Some(slot);
        if better {
            self.best = slot;
        }
        slot
    }

    fn median_with(&self, header: &Header, parent: Slot) -> u32 {
        let mut times = vec![header.time];
        let mut cursor = Some(parent);
        while let Some(slot) = cursor.filter(|_| times.len() < MEDIAN_TIME_SPAN as usize) {
            times.push(self.entry(slot).header.time);
            cursor = self.entry(slot).parent;
        }
        median(times).unwrap_or(header.time)
    }

    fn ancestor_slot(&self, from: Slot, height: u32) -> Option<Slot> {
        let mut slot = from;
        loop {
            let entry = self.entry(slot);
            if entry.height == height {
                return Some(slot);
            }
            if entry.height < height {
                return None;
            }
            slot = if self.entry(entry.jump).height >= height { entry.jump } else { entry.parent? };
        }
    }

    fn fork_slot(&self, a: Slot, b: Slot) -> Option<Slot> {
        let height = self.entry(a).height.min(self.entry(b).height);
        let (mut a, mut b) = (self.ancestor_slot(a, height)?, self.ancestor_slot(b, height)?);
        while a != b {
            // Equal heights have jumps of equal length, so both sides stay level.
            let (above_a, above_b) = (self.entry(a), self.entry(b));
            (a, b) = if above_a.jump != above_b.jump {
                (above_a.jump, above_b.jump)
            } else {
                (above_a.parent?, above_b.parent?)
            };
        }
        Some(a)
    }

    /// A block and all that build on it, parents first.
    fn descendants(&self, slot: Slot) -> Vec<Slot> {
        let mut found = vec![slot];
        let mut next = 0;
        while let Some(parent) = found.get(next).copied() {
            let mut child = self.entry(parent).first_child;
            while let Some(slot) = child {
                found.push(slot);
                child = self.entry(slot).next_sibling;
            }
            next += 1;
        }
        found
    }

    fn parent_is_linked(&self, slot: Slot) -> bool {
        self.entry(slot).parent.is_some_and(|parent| self.entry(parent).linked.is_some())
    }

    /// The chain up to this stored block is complete: link it and all stored blocks that only waited for it, of siblings
    /// the one first whose body came first (as Bitcoin Core does, so that both keep the same of two equal tips).
    fn link_from(&mut self, slot: Slot) {
        let mut waiting = vec![slot];
        let mut next = 0;
        while let Some(slot) = waiting.get(next).copied() {
            next += 1;
            let order = self.linked_so_far;
            self.linked_so_far += 1;
            let entry = self.entry_mut(slot);
            entry.linked = Some(order);
            let (work, valid) = (entry.chain_work, entry.validity.is_valid());
            if valid && work > self.entry(self.best_stored).chain_work {
                self.best_stored = slot;
            }
            let siblings = waiting.len();
            let mut child = self.entry(slot).first_child;
            while let Some(slot) = child {
                if self.entry(slot).stored.is_some() && self.entry(slot).linked.is_none() {
                    waiting.push(slot);
                }
                child = self.entry(slot).next_sibling;
            }
            if let Some(siblings) = waiting.get_mut(siblings..) {
                siblings.sort_by_key(|slot| self.entry(*slot).stored);
            }
        }
    }

    /// Finds both best tips again after verdicts have changed.
    fn choose_again(&mut self) {
        let mut best = Slot::GENESIS;
        let mut best_stored = Slot::GENESIS;
        for (index, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.validity.is_valid()) {
            if entry.chain_work > self.entry(best).chain_work {
                best = Slot::new(index);
            }
            if let Some(order) = entry.linked {
                let champion = self.entry(best_stored);
                let earlier = champion.linked.is_none_or(|champion| order < champion);
                if entry.chain_work > champion.chain_work || (entry.chain_work == champion.chain_work && earlier) {
                    best_stored = Slot::new(index);
                }
            }
        }
        self.best = best;
        self.best_stored = best_stored;
    }
}
