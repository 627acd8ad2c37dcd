//! The watchtower that this daemon runs for others.

use std::net::SocketAddr;

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use leyden_channels::types::Height;
use leyden_watchtower::tower::{PenaltyReport, Stats};

use super::ApiError;

#[async_trait]
pub(crate) trait Watchtower: Send + Sync {
    /// Where clients reach it.
    fn info(&self) -> WatchtowerInfo;

    /// What it guards.
    async fn stats(&self) -> Result<WatchtowerStats, ApiError>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchtowerInfo {
    pub key: PublicKey,
    pub listen: SocketAddr,
    /// Addresses that clients can use, as far as they are known.
    pub addresses: Vec<SocketAddr>,
    /// How many clients are on the allow list.
    pub allowed: usize,
    /// How many others may register.
    pub strangers: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchtowerStats {
    /// The last block that everything was looked at in; `None` before the first.
    pub tip: Option<Height>,
    pub stats: Stats,
    /// Clients that are connected.
    pub connected: usize,
    /// Breaches whose penalties are not final.
    pub penalties: Vec<PenaltyReport>,
    /// What cannot be guarded until a person has looked at it.
    pub broken: Vec<String>,
}
