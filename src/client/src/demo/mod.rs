//! `leyden demo`: stories played by real daemons, with every balance checked to the satoshi.
//!
//! - [`multihop`]: the Lightning paper's payment over two nodes between, with its amounts and locks: it is paid, refunded,
//!   and settled on the chain.
//! - [`seed`]: two nodes mine, open a channel, pay both ways through it, survive a SIGKILL and close it.
//! - [`force_close`]: one is gone in the middle of payments, the other closes alone and waits for its part.
//! - [`breach`]: one closes with a state that it has revoked, and the other takes all.

pub mod breach;
pub mod calls;
pub mod force_close;
pub mod ledger;
pub mod multihop;
mod narrator;
pub mod seed;
pub mod stage;

use std::path::PathBuf;

use crate::cluster::ClusterError;

pub use calls::NOBODY;
pub use narrator::Narrator;

/// A demo that did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("a temporary folder cannot be made: {0}")]
    Folder(std::io::Error),
    #[error("{} of the balances differ from what they should be: {}", .0.len(), .0.join("; "))]
    Differs(Vec<String>),
    #[error("{0}")]
    Story(String),
}

/// How a demo is run.
#[derive(Debug, Clone, Default)]
pub struct DemoOptions {
    /// Leaves the nodes running at the end.
    pub keep: bool,
    /// Where the nodes keep their data; a temporary folder if `None`.
    pub folder: Option<PathBuf>,
}
