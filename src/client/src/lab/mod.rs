//! `leyden lab`: what the papers tell of, on real nodes and with the code that decides about blocks.
//!
//! - [`trace`]: the interpreter at work, step by step.
//! - [`malleability`]: a withdrawal whose transaction id somebody changes, and two exchanges that keep books about it.

pub mod malleability;
mod miner;
pub mod trace;

use crate::cluster::ClusterError;

/// Why something did not go as the lab shows it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum LabError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("a temporary folder cannot be made: {0}")]
    Folder(std::io::Error),
    #[error("{0}")]
    Failed(String),
}

impl LabError {
    /// Something that must not happen, with what it came from.
    fn of(what: &str, cause: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{what}: {cause}"))
    }
}
