//! Sums and counts of the open wallet, for dashboards. Each costs one look at what it is about at most, and names nobody.

use async_trait::async_trait;
use leyden_channels::channel::StateName;

use super::{ApiError, ChannelBalance};

#[async_trait]
pub(crate) trait Figures: Send + Sync {
    async fn channel_figures(&self) -> Result<ChannelFigures, ApiError>;
    async fn tower_figures(&self) -> Result<TowerFigures, ApiError>;
    fn network_figures(&self) -> NetworkFigures;
    fn payment_figures(&self) -> PaymentFigures;
}

/// The channels that have not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChannelFigures {
    /// How many there are in each state, none left out.
    pub states: Vec<(StateName, u64)>,
    /// Those over which payments can be sent now.
    pub usable: u64,
    pub balance: ChannelBalance,
    /// HTLCs that are under way: those that we have offered, and those that the peers have.
    pub offered_htlcs: u64,
    pub received_htlcs: u64,
}

/// Who is connected, and what gossip has told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NetworkFigures {
    pub peers: u64,
    /// Those of them that came to us and have no channel that is funded.
    pub strangers: u64,
    pub channels: u64,
    pub nodes: u64,
}

/// What has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PaymentFigures {
    pub payments: u64,
    pub forwards: u64,
    /// Invoices that can be paid or are held.
    pub invoices: u64,
}

/// The watchtowers that guard this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TowerFigures {
    /// In use and reached; in use and not; not in use; those that broke their word.
    pub connected: u64,
    pub away: u64,
    pub deactivated: u64,
    pub convicted: u64,
    /// So many have to hold a revoked state before its channel goes on.
    pub required: u64,
    /// Backups that they have acknowledged, and that wait for them.
    pub held: u64,
    pub waiting: u64,
    /// Backups that could not be made since the start.
    pub failed: u64,
    /// Channels by whether a tower holds all that their peers have revoked, or is about to.
    pub covered: u64,
    pub uncovered: u64,
}
