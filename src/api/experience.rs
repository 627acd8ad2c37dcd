//! What payments have taught about where money can go: LND's mission control.

use std::time::Duration;

use async_trait::async_trait;
use leyden_channels::types::{Msat, NodeId, UnixTime};

use super::ApiError;

#[async_trait]
pub(crate) trait Experience: Send + Sync {
    /// All that is known, by pairs of neighbours.
    async fn experience(&self) -> Result<Vec<PairHistory>, ApiError>;
    /// The chance that an amount passes from one node to its neighbour now, and what is known of the two.
    async fn pair_chance(&self, from: NodeId, to: NodeId, amount: Msat) -> Result<(f64, PairResult), ApiError>;
    /// Takes what another node has learnt of pairs whose channels are known; with `force` also what is older than what
    /// this node has learnt itself.
    async fn import_experience(&self, pairs: Vec<PairHistory>, force: bool) -> Result<(), ApiError>;
    /// After which time half of what was learnt has faded.
    async fn half_life(&self) -> Result<Duration, ApiError>;
    /// Until the next start.
    async fn set_half_life(&self, half_life: Duration) -> Result<(), ApiError>;
}

/// What is known about the way from one node to its neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PairHistory {
    pub from: NodeId,
    pub to: NodeId,
    pub result: PairResult,
}

/// Amounts as they were at a time: what has been learnt since of the same channel moves both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PairResult {
    /// The lowest amount that was too much; zero if it failed whatever the amount.
    pub failed: Option<(UnixTime, Msat)>,
    /// The highest amount that can be sent.
    pub passed: Option<(UnixTime, Msat)>,
}
