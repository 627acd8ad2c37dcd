//! Sums of a node with one channel.

use async_trait::async_trait;

use super::Fake;
use crate::api::*;

#[async_trait]
impl Figures for Fake {
    async fn channel_figures(&self) -> Result<ChannelFigures, ApiError> {
        self.answer(ChannelFigures { usable: 1, ..ChannelFigures::default() })
    }

    async fn tower_figures(&self) -> Result<TowerFigures, ApiError> {
        self.answer(TowerFigures { uncovered: 1, ..TowerFigures::default() })
    }

    fn network_figures(&self) -> NetworkFigures {
        NetworkFigures { peers: 2, strangers: 1, channels: 1, nodes: 2 }
    }

    fn payment_figures(&self) -> PaymentFigures {
        PaymentFigures::default()
    }
}
