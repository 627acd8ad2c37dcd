//! How fast this machine validates a chain: `leyden bench chain` asks for it, one process for the making and one for the
//! validating, so that the memory of each is its own.

use std::path::Path;

use leyden_common::bench::{ChainMade, ChainValidated};
use leyden_node::synthetic::{
    SyntheticChain, SyntheticError, ValidatedChain, peak_memory, validate_chain, write_chain,
};

/// Writes the chain.
pub(super) fn make(file: &Path, full_blocks: u32) -> Result<ChainMade, SyntheticError> {
    let SyntheticChain { blocks, inputs, bytes, tip } = write_chain(file, full_blocks)?;
    Ok(ChainMade { blocks, inputs, bytes, tip: tip.to_string() })
}

/// Validates it.
pub(super) fn validate(file: &Path, folder: &Path) -> Result<ChainValidated, SyntheticError> {
    let ValidatedChain { tip, seconds } = validate_chain(file, folder)?;
    Ok(ChainValidated { tip: tip.to_string(), seconds, peak_memory: peak_memory() })
}
