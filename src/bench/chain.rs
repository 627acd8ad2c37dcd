//! How fast this machine validates a chain: `leyden bench chain` asks for it, one process for the making and one for the
//! validating, so that the memory of each is its own.

use std::path::Path;

use leyden_common::bench::{ChainDiskUse, ChainMade, ChainValidated};
use leyden_node::disk_use::{self, DiskUse};
use leyden_node::synthetic::{
    SyntheticChain, SyntheticError, ValidatedChain, peak_memory, validate_chain, write_chain,
};

use super::BenchError;

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

/// Compares what it takes on the disk in an archival, a pruned and a light node.
pub(super) fn compare_disk_use(folder: &Path, light_folder: &Path) -> Result<ChainDiskUse, BenchError> {
    let runtime = tokio::runtime::Runtime::new().map_err(SyntheticError::from)?;
    let used = runtime.block_on(disk_use::measure(folder, light_folder)).map_err(SyntheticError::from)?;
    let DiskUse { archival, pruned, light } = used;
    Ok(ChainDiskUse { archival, pruned, light })
}
