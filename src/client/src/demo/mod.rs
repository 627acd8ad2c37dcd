//! `leyden demo`: stories played by real daemons, with every balance checked to the satoshi.
//!
//! - [`multihop`]: the Lightning paper's payment over two nodes between, with its amounts and locks: it is paid, refunded,
//!   and settled on the chain.
//! - [`seed`]: two nodes mine, open a channel, pay both ways through it, survive a SIGKILL and close it.
//! - [`force_close`]: one is gone in the middle of payments, the other closes alone and waits for its part.
//! - [`breach`]: one closes with a state that it has revoked, and the other takes all.
//! - [`submarine`]: coins of the chain into a channel and out of it again, and what happens when the other walks away.
//! - [`submarine_across`]: the same with the coins on one network and the channel on another.
//! - [`crossing`]: a Lightning payment from one network to another, over somebody with a node on both.
//! - [`swap`]: coins of one network for coins of another, and what happens when one of the two walks away.
//! - [`tower`]: the same while the other is away, and a watchtower takes it for her.

pub mod breach;
pub mod calls;
pub mod crossing;
pub mod force_close;
pub mod guarded;
pub mod ledger;
pub mod multihop;
mod narrator;
pub mod seed;
pub mod stage;
pub mod submarine;
pub mod submarine_across;
pub mod swap;
pub mod tower;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::cluster::ClusterError;

pub use calls::NOBODY;
pub use narrator::Narrator;

/// A demo that did not end as it should.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
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

/// Where the nodes of a story keep their data; a temporary folder is gone with this.
struct DataFolder {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl DataFolder {
    fn new(chosen: Option<PathBuf>) -> Result<Self, DemoError> {
        if let Some(path) = chosen {
            return Ok(Self { path, temporary: None });
        }
        let temporary = tempfile::Builder::new().prefix("leyden-demo-").tempdir().map_err(DemoError::Folder)?;
        Ok(Self { path: temporary.path().to_owned(), temporary: Some(temporary) })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it to nodes that outlive this process.
    fn keep(self) -> PathBuf {
        match self.temporary {
            Some(temporary) => temporary.keep(),
            None => self.path,
        }
    }
}
