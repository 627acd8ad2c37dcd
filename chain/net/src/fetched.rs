//! What a light node may ask of a peer, what may come of it, and what of a request is not done yet (BIP 157).

use std::time::Duration;

use bitcoin::bip158::{FilterHash, FilterHeader};
use bitcoin::{Block, BlockHash};

/// What is asked of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Wish {
    /// The hashes of the filters from the block at height `start` to the block `stop`, at most 2,000.
    FilterHashes { start: u32, stop: BlockHash },
    /// These filters themselves, at most 1,000.
    Filters { start: u32, stop: BlockHash },
    /// A block with its witnesses.
    Block(BlockHash),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Fetched {
    /// As many as were asked for, the lowest first, and the filter header before them.
    FilterHashes { previous: FilterHeader, hashes: Vec<FilterHash> },
    /// As many as were asked for, the lowest first.
    Filters(Vec<Vec<u8>>),
    /// Its hash is the one that was asked for; its transactions are not checked.
    Block(Box<Block>),
    /// The peer has gone, does not have it, or took too long.
    Failed,
}

/// A question that is not answered yet.
#[derive(Clone, Debug)]
pub(crate) struct Fetch {
    pub request: u64,
    pub wish: Wish,
    pub asked: Duration,
    /// When something last came.
    pub heard: Duration,
    pub filters: Vec<Vec<u8>>,
    pub bytes: usize,
}

/// What is left of a request for block filters.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FilterRange {
    /// Filters from this height up to a block.
    Filters(u32, BlockHash),
    /// Their hashes.
    Headers(u32, BlockHash),
    /// The headers of some of all filters up to a block.
    Checkpoints(BlockHash),
}
