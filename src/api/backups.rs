//! Backups of channels, sealed: what is in them only this node's seed can read.

use bitcoin::OutPoint;

/// The backup of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelBackup {
    pub funding: OutPoint,
    pub sealed: Vec<u8>,
}

/// The backups of all channels at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSnapshot {
    pub singles: Vec<ChannelBackup>,
    /// All of them as one.
    pub all: Vec<u8>,
}
