//! What a light node may ask of a peer, and what may come of it (BIP 157).

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
