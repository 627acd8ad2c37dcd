//! Compact filters of blocks (BIP 158), by which a light client learns whether a block concerns it without asking for it.
//!
//! ```text
//!   block ── scripts of its outputs ──┐
//!   undo data ── scripts it spent ────┴─▶ filter ─▶ filter hash ─▶ filter header ◀── parent's filter header
//! ```
//!
//! What it promises: a script that the block pays to (but data outputs, which nobody can spend) or that it spends from
//! always matches; any other does once in some 784,931 times. The filter headers commit to the filters of all blocks up to
//! theirs, so two nodes that name the same one agree on all of them.

use bitcoin::bip158::{BlockFilter, BlockFilterWriter, FilterHash, FilterHeader};
use bitcoin::hashes::Hash;
use bitcoin::{Block, Script};
use leyden_consensus::BlockUndo;

use crate::error::NodeError;

/// A filter's hash, and the header that chains it to those before it (BIP 157, Filter Headers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterLink {
    /// SHA-256d of the filter.
    pub hash: FilterHash,
    /// SHA-256d of the filter's hash and the header before.
    pub header: FilterHeader,
}

impl FilterLink {
    /// What stands before the genesis block's filter.
    pub fn before_genesis() -> FilterHeader {
        FilterHeader::all_zeros()
    }

    /// The link of the filter with this hash, after `previous`.
    pub fn after(previous: &FilterHeader, hash: FilterHash) -> Self {
        Self { hash, header: hash.filter_header(previous) }
    }

    /// The link of this filter, after `previous`.
    pub fn of(previous: &FilterHeader, filter: &BlockFilter) -> Self {
        Self::after(previous, FilterHash::hash(&filter.content))
    }
}

/// The block's basic filter. `undo` has the coins that it spent.
pub fn build(block: &Block, undo: &BlockUndo) -> Result<BlockFilter, NodeError> {
    let spent = undo.spent.iter().flatten().map(|coin| coin.output.script_pubkey.as_script());
    build_from(block, spent)
}

/// The basic filter of a block that spent outputs with these scripts, in any order.
pub fn build_from<'a>(block: &Block, spent: impl IntoIterator<Item = &'a Script>) -> Result<BlockFilter, NodeError> {
    let mut content = Vec::new();
    let mut writer = BlockFilterWriter::new(&mut content, block);
    // BIP 158, Basic filter: outputs with OP_RETURN first stay out, and so do empty scripts.
    writer.add_output_scripts();
    spent.into_iter().for_each(|script| writer.add_element(script.as_bytes()));
    writer.finish().map_err(|error| NodeError::Invariant(format!("a filter cannot be encoded: {error}")))?;
    Ok(BlockFilter { content })
}
