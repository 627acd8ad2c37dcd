//! What is waited for is there at once, and gone then.

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{Network, constants::genesis_block};
use leyden_channels::types::Height;

use super::Fake;
use crate::api::*;

#[async_trait]
impl ChainWatch for Fake {
    async fn confirmations(&self, wanted: WantedTx) -> Result<Updates<ChainSight<FoundTx>>, ApiError> {
        let block = Arc::new(genesis_block(Network::Regtest));
        let (transaction, hash) = (Arc::new(block.txdata[0].clone()), block.block_hash());
        let block = wanted.with_block.then_some(block);
        let found = FoundTx { transaction, index: 0, block, hash, height: Height(9) };
        let updates = self.updates(vec![ChainSight::Found(found), ChainSight::Gone]);
        self.asked(wanted, updates)
    }

    async fn spends(&self, wanted: WantedSpend) -> Result<Updates<ChainSight<FoundSpend>>, ApiError> {
        let spender = Arc::new(genesis_block(Network::Regtest).txdata[0].clone());
        let found = FoundSpend { spender, input: 0, height: Height(9) };
        let updates = self.updates(vec![ChainSight::Found(found), ChainSight::Gone]);
        self.asked(wanted, updates)
    }
}
