//! Backups of channels, sealed: what is in them only this node's seed can read.

use async_trait::async_trait;
use bitcoin::OutPoint;

use super::{ApiError, Updates};

/// Backups out of this node, and back into it.
#[async_trait]
pub(crate) trait Backups: Send + Sync {
    /// `NotFound` if there is no such channel.
    async fn channel_backup(&self, funding: OutPoint) -> Result<ChannelBackup, ApiError>;
    async fn channel_backups(&self) -> Result<BackupSnapshot, ApiError>;
    /// The present ones at once, then all of them after each change.
    async fn backup_updates(&self) -> Result<Updates<BackupSnapshot>, ApiError>;
    /// What these backups hold; `InvalidArgument` if one cannot be opened.
    async fn verify_backups(&self, sealed: Vec<Vec<u8>>) -> Result<BackupContents, ApiError>;
    /// Takes channels back, so that their peers close them; gives how many there were that are not here.
    async fn restore_backups(&self, sealed: Vec<Vec<u8>>) -> Result<u32, ApiError>;
}

/// The backup of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelBackup {
    pub funding: OutPoint,
    pub sealed: Vec<u8>,
}

/// The backups of all channels at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackupSnapshot {
    pub singles: Vec<ChannelBackup>,
    /// All of them as one.
    pub all: Vec<u8>,
}

/// What lies in a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BackupContents {
    /// By their funding outputs.
    pub channels: Vec<OutPoint>,
    /// How many.
    pub swaps: usize,
}
