//! The mempool between two runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Node;
use crate::core::Core;
use crate::error::{NodeError, StoreError};
use crate::mempool::file::{self, FileError};

/// What the mempool holds between two runs.
pub(super) struct MempoolFile {
    path: PathBuf,
    /// Its transactions are back, as far as they are valid: the mempool may take the file's place.
    is_restored: Arc<AtomicBool>,
}

impl MempoolFile {
    pub(super) fn of(folder: &Path) -> Self {
        Self { path: file::path(folder), is_restored: Arc::default() }
    }

    /// Reads it on a thread of its own, which nobody waits for.
    pub(super) fn restore(&self, core: &Arc<Core>) {
        let (core, path, is_restored) = (Arc::downgrade(core), self.path.clone(), Arc::clone(&self.is_restored));
        tokio::task::spawn_blocking(move || {
            let restored = file::open(&path).and_then(|file| match core.upgrade() {
                Some(core) => core.restore_mempool(file),
                None => Ok(None),
            });
            match restored {
                Ok(Some((all, back))) => tracing::info!(back, of = all, "the mempool is back from its file"),
                Ok(None) => return,
                Err(FileError::Absent) => tracing::info!("the mempool starts empty: it has no file"),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "the mempool starts empty: its file is of no use");
                }
            }
            is_restored.store(true, Ordering::Release);
        });
    }

    /// Not before it was read: half a mempool would take the place of the whole one.
    pub(super) async fn save(&self, core: &Arc<Core>) {
        if !self.is_restored.load(Ordering::Acquire) {
            return;
        }
        let (core, path) = (Arc::clone(core), self.path.clone());
        let saved = tokio::task::spawn_blocking(move || core.save_mempool(&path)).await;
        match saved {
            Ok(Ok(transactions)) => tracing::info!(transactions, "the mempool is saved"),
            Ok(Err(error)) => tracing::warn!(%error, "the mempool cannot be saved; the next start begins without it"),
            Err(error) => tracing::error!(%error, "the mempool is not saved"),
        }
    }
}

impl Node {
    /// Writes the mempool to the disk, and says where. `None` while that of the last run is being read.
    pub async fn save_mempool(&self) -> Result<Option<PathBuf>, NodeError> {
        let file = &self.inner.mempool_file;
        if !file.is_restored.load(Ordering::Acquire) {
            return Ok(None);
        }
        let path = file.path.clone();
        let failed = |error: std::io::Error| StoreError::Io { path: path.clone(), detail: error.to_string() };
        let saved = path.clone();
        self.blocking(move |core| Ok(core.save_mempool(&saved))).await?.map_err(failed)?;
        Ok(Some(path))
    }
}
