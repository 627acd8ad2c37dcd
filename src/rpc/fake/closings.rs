//! One channel that can become anything.

use async_trait::async_trait;
use bitcoin::Amount;
use leyden_channels::{
    onchain::Tree,
    types::{CommitmentType, Height},
};

use super::{Fake, funding, node_id};
use crate::api::*;

#[async_trait]
impl Closings for Fake {
    async fn channel_tree(&self, funding: bitcoin::OutPoint) -> Result<ChannelTree, ApiError> {
        let (capacity, kind) = (Amount::from_sat(1_000), CommitmentType::Anchors);
        let tree = Tree { funding, capacity, kind, commitments: Vec::new() };
        self.asked(funding, ChannelTree { node_id: node_id(), tree, height: Height(7) })
    }

    async fn closing_channels(&self) -> Result<Vec<ClosingChannel>, ApiError> {
        self.answer(vec![ClosingChannel {
            node_id: node_id(),
            funding: funding(),
            capacity: Amount::from_sat(1_000),
            reason: "because".to_owned(),
            closing_txid: Some(funding().txid),
            closed_at: Some(Height(5)),
            outputs: Vec::new(),
            fees: Amount::from_sat(3),
            recovered: Amount::ZERO,
            height: Height(7),
        }])
    }

    async fn warnings(&self) -> Result<Vec<String>, ApiError> {
        self.answer(vec!["careful".to_owned()])
    }
}
