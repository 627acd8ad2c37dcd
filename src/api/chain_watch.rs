//! Who waits until something stands in the chain, or is spent there.

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{Block, BlockHash, OutPoint, ScriptBuf, Transaction, Txid};
use leyden_channels::types::Height;

use super::{ApiError, Updates};

#[async_trait]
pub(crate) trait ChainWatch: Send + Sync {
    /// Ends when what was found is too deep to be undone. `Unavailable` if too many wait already.
    async fn confirmations(&self, wanted: WantedTx) -> Result<Updates<ChainSight<FoundTx>>, ApiError>;
    /// Ends as `confirmations` does.
    async fn spends(&self, wanted: WantedSpend) -> Result<Updates<ChainSight<FoundSpend>>, ApiError>;
}

/// A transaction that pays to a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedTx {
    /// `None`: any.
    pub txid: Option<Txid>,
    pub script: ScriptBuf,
    /// It counts with so many: 1 in the tip itself.
    pub confirmations: u32,
    /// The first block that may hold it.
    pub from: Height,
    /// Whether its block is told, too.
    pub with_block: bool,
}

/// The spending of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedSpend {
    /// `None`: of any that pays to the script, as far as its spender shows that.
    pub outpoint: Option<OutPoint>,
    pub script: ScriptBuf,
    /// The first block that may hold it.
    pub from: Height,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChainSight<T> {
    Found(T),
    /// What was found is in the chain no longer.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundTx {
    pub transaction: Arc<Transaction>,
    /// Its place in the block.
    pub index: u32,
    /// If it was asked for.
    pub block: Option<Arc<Block>>,
    pub hash: BlockHash,
    pub height: Height,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundSpend {
    pub spender: Arc<Transaction>,
    pub input: u32,
    pub height: Height,
}
