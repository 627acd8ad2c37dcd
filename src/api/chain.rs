//! The proof-of-work chain that the daemon carries.

use std::{num::NonZeroU32, sync::Arc};

use async_trait::async_trait;
use bitcoin::{Address, Amount, Block, BlockHash, Transaction, Txid, block::Header};
use leyden_channels::types::Height;
use leyden_node::{
    BlockRef, InclusionProof, MempoolEntryInfo, MempoolInfo, PeerInfo, Tip, TipDoubt, Totals, TransactionInfo,
};

use super::{ApiError, ChainWatch, Updates};

/// The chain, its mempool, its miner and its peers.
#[async_trait]
pub(crate) trait Chain: ChainWatch + Send + Sync {
    async fn status(&self) -> Result<ChainStatus, ApiError>;
    async fn disk_use(&self) -> Result<DiskUse, ApiError>;
    /// `NotFound` if there is none.
    async fn block(&self, which: BlockSelector) -> Result<LocatedBlock, ApiError>;
    /// `NotFound` if there is none.
    async fn header(&self, hash: BlockHash) -> Result<Header, ApiError>;
    /// Of a block whose header is known. `NotFound` if there is none.
    async fn height_of(&self, hash: BlockHash) -> Result<Height, ApiError>;
    /// In the best chain. `NotFound` if it is not so long.
    async fn block_hash(&self, height: Height) -> Result<BlockHash, ApiError>;
    /// Every block that becomes the tip, after the block `from`, or from the present tip on.
    async fn block_epochs(&self, from: Option<BlockHash>) -> Result<Updates<BlockRef>, ApiError>;
    /// `NotFound` if it is neither in the best chain nor in the mempool.
    async fn transaction(&self, txid: Txid) -> Result<TransactionInfo, ApiError>;
    /// `NotFound` if it is in no block of the best chain.
    async fn prove_inclusion(&self, txid: Txid) -> Result<(BlockRef, InclusionProof), ApiError>;
    /// The transaction and its place. `InvalidArgument` if the proof is none, `FailedPrecondition` if its block is not in the
    /// best chain that this node knows.
    async fn verify_inclusion(&self, proof: InclusionProof) -> Result<TransactionInfo, ApiError>;
    async fn mempool(&self, with_entries: bool) -> Result<MempoolView, ApiError>;
    /// `InvalidArgument` with the reason if it is refused, `AlreadyExists` if it is known.
    async fn submit_transaction(&self, transaction: Transaction) -> Result<Txid, ApiError>;
    /// One item a block, the stream ends after the last. Dropping it ends the search. Without an address the
    /// wallet gets the rewards: `FailedPrecondition` while it is locked.
    async fn generate(&self, blocks: NonZeroU32, to: Option<Address>) -> Result<Updates<FoundBlock>, ApiError>;
    /// Replaces the mining that is going on, if any. `threads` of `None`: all cores.
    async fn start_mining(&self, to: Option<Address>, threads: Option<NonZeroU32>) -> Result<(), ApiError>;
    /// `FailedPrecondition` if nothing is being mined.
    async fn stop_mining(&self) -> Result<(), ApiError>;
    async fn mining_info(&self) -> Result<MiningInfo, ApiError>;
    /// What has happened since the start. Answers from memory.
    fn totals(&self) -> Totals;
    async fn utxo_set_hash(&self) -> Result<UtxoSetHash, ApiError>;
    /// `address` is host:port. `Unavailable` if nobody answers.
    async fn connect_peer(&self, address: &str) -> Result<(), ApiError>;
    async fn peers(&self) -> Result<Vec<PeerInfo>, ApiError>;
}

/// The end of the chain, and how far it is from what the peers have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ChainStatus {
    pub tip: Tip,
    /// The genesis block's target divided by the tip's.
    pub difficulty: f64,
    /// Of the best header.
    pub header_height: Height,
    pub syncing: bool,
    /// Why the tip cannot be relied on, if it cannot.
    pub doubt: Option<TipDoubt>,
}

/// What the chain takes on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskUse {
    pub bytes: u64,
    /// Headers only, and what concerns this node.
    pub light: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockSelector {
    Hash(BlockHash),
    /// In the best chain.
    Height(Height),
}

/// A block and where it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LocatedBlock {
    pub block: Arc<Block>,
    pub hash: BlockHash,
    pub height: Height,
    /// 0 if it is not in the best chain.
    pub confirmations: u32,
    pub difficulty: f64,
}

/// The mempool, and its transactions if they were asked for.
#[derive(Clone, Debug)]
pub(crate) struct MempoolView {
    pub info: MempoolInfo,
    pub entries: Vec<MempoolEntryInfo>,
}

/// A block found by `generate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoundBlock {
    pub hash: BlockHash,
    pub height: Height,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MiningInfo {
    /// Who gets the rewards; `None` while nothing is mined in the background.
    pub reward_to: Option<Address>,
    pub threads: u32,
    /// Over the last seconds; 0 while not mining.
    pub hashes_per_second: f64,
    /// Since the daemon started.
    pub blocks_found: u64,
    /// The name of the search code.
    pub kernel: String,
    /// Of the next block.
    pub difficulty: f64,
    /// What all miners together seem to do.
    pub network_hashes_per_second: f64,
    /// Of the tip.
    pub height: Height,
}

/// One hash over all unspent outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UtxoSetHash {
    pub hash: [u8; 32],
    pub block: BlockHash,
    pub height: Height,
    pub outputs: u64,
    pub total: Amount,
}
