//! What a restore has found, and what else can be done.

use std::path::PathBuf;

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint};
use leyden_channels::types::{Height, NodeId};

use super::ApiError;

#[async_trait]
pub(crate) trait Recovering: Send + Sync {
    async fn recovery(&self) -> Result<Recovery, ApiError>;
    /// Looks at the whole chain again, for so many unpaid addresses in a row (`None`: as many as the last time). Gives what
    /// there is when it has begun.
    async fn rescan(&self, window: Option<u32>) -> Result<Recovery, ApiError>;
}

/// How a restore stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// The last block that the wallet has looked at, and the last one that there is.
    pub scanned: Height,
    pub tip: Height,
    pub finished: bool,
    pub window: u32,
    /// Addresses up to the last one that has been paid or given out.
    pub known_addresses: u32,
    /// The most addresses in a row that nobody has paid, before one that somebody has.
    pub widest_gap: u32,
    /// Channels that only a backup has.
    pub lost_channels: Vec<LostChannel>,
    pub backup_file: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostChannel {
    pub funding: OutPoint,
    pub capacity: Amount,
    pub peer: NodeId,
}
