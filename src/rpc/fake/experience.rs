//! A node that has learnt about one pair.

use std::time::Duration;

use async_trait::async_trait;
use leyden_channels::types::{Msat, NodeId, UnixTime};

use super::{Fake, node_id};
use crate::api::*;

fn result() -> PairResult {
    let at = UnixTime(1_700_000_000);
    PairResult { failed: Some((at, Msat(400_500))), passed: Some((at, Msat(2_000))) }
}

#[async_trait]
impl Experience for Fake {
    async fn experience(&self) -> Result<Vec<PairHistory>, ApiError> {
        let (from, to) = (NodeId::from(node_id()), NodeId([3; 33]));
        self.answer(vec![PairHistory { from, to, result: result() }])
    }

    async fn pair_chance(&self, from: NodeId, to: NodeId, amount: Msat) -> Result<(f64, PairResult), ApiError> {
        self.asked((from, to, amount), (0.25, result()))
    }

    async fn import_experience(&self, pairs: Vec<PairHistory>, force: bool) -> Result<(), ApiError> {
        self.asked((pairs, force), ())
    }

    async fn half_life(&self) -> Result<Duration, ApiError> {
        self.answer(Duration::from_secs(6 * 3600))
    }

    async fn set_half_life(&self, half_life: Duration) -> Result<(), ApiError> {
        self.asked(half_life, ())
    }
}
