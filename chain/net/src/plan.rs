//! The blocks that a peer could send: those between the active chain and its best header.

use std::collections::VecDeque;

use bitcoin::BlockHash;

use crate::config::DOWNLOAD_WINDOW;
use crate::view::{BlockState, ChainView, HeaderEntry};

/// Blocks that a plan holds at a time.
const PLAN_LENGTH: usize = 256;
/// Blocks of one peer's best chain that are not stored, lowest first.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) target: BlockHash,
    /// The block of that chain up to which all are stored, or were when the plan was made.
    pub(crate) stored_to: BlockHash,
    /// The blocks after it up to here are stored or part of the plan.
    pub(crate) end: BlockHash,
    pub(crate) blocks: VecDeque<BlockHash>,
}

/// The first blocks of the chain of `target` above the height `from` that are not stored.
pub(crate) fn make_plan(chain: &dyn ChainView, target: &HeaderEntry, from: u32) -> Option<Plan> {
    let window = target.height.min(from.saturating_add(DOWNLOAD_WINDOW));
    let mut above = Vec::new();
    let mut next = chain.ancestor(&target.hash, window).and_then(|hash| chain.entry(&hash));
    while let Some(entry) = next
        && entry.height > from
    {
        above.push(entry);
        next = chain.entry(&entry.header.prev_blockhash);
    }
    let start = chain.ancestor(&target.hash, from)?;
    let (mut stored_to, mut end, mut blocks) = (start, start, VecDeque::new());
    for entry in above.into_iter().rev() {
        if entry.state == BlockState::HeaderOnly {
            if blocks.len() >= PLAN_LENGTH {
                break;
            }
            blocks.push_back(entry.hash);
        } else if blocks.is_empty() {
            stored_to = entry.hash;
        }
        end = entry.hash;
    }
    Some(Plan { target: target.hash, stored_to, end, blocks })
}

/// The height of the last block that the chain of `target` has in common with the active chain.
pub(crate) fn common_height(chain: &dyn ChainView, target: &HeaderEntry, tip: &HeaderEntry) -> u32 {
    // All heights up to the answer agree and none above does.
    let agrees = |height: u32| {
        let theirs = chain.ancestor(&target.hash, height);
        theirs.is_some() && theirs == chain.active_at(height)
    };
    let (mut low, mut high) = (0, target.height.min(tip.height));
    if agrees(high) {
        return high;
    }
    while high.saturating_sub(low) > 1 {
        let middle = low + (high - low) / 2;
        if agrees(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}
