//! The seam between the chain and the sockets.
//!
//! ```text
//!   driver (tokio tasks, sockets) ──▶ leyden-net's pure peers ──▶ ChainView, MempoolView ──▶ memory
//!      │ actions: check headers, store a block, take a transaction                             ▲
//!      └──────────────────────────────────────────────────────▶ Backend ──▶ chainstate, mempool, RocksDB
//!      ◀───────────────────── ChainEvent (broadcast) ───────────────────────
//! ```
//!
//! All methods are synchronous and may be called from any number of threads. Those of the two views answer from memory
//! in microseconds. Those of [`Backend`] marked *blocking* read the disk or check signatures: a driver calls them inside
//! `tokio::task::spawn_blocking` (or on a thread of its own).

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::{Block, BlockHash, FeeRate, Transaction, Txid, Wtxid};
use leyden_net::{ChainView, FilterRequest, MempoolView};
use tokio::sync::broadcast;

use crate::error::{BlockRejected, HeadersRejected, MempoolError, NodeError};
use crate::prepared::PreparedBlock;
use crate::types::{RemovalReason, Tip};

/// What a peer-to-peer driver needs of the chain.
pub trait Backend: ChainView + MempoolView + Send + Sync + 'static {
    /// Seconds since 1970, by the node's clock (which tests set).
    fn now(&self) -> u64;

    /// *Blocking.* The block, if it is stored. It need not be of the active chain.
    fn block(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, NodeError>;

    /// *Blocking.* The answer to a request for block filters (BIP 157); no message if one of them is missing.
    fn filters(&self, request: &FilterRequest) -> Result<Vec<NetworkMessage>, NodeError>;

    /// *Blocking.* Checks and stores headers, each of which follows a known one. Stops at the first that is refused;
    /// those before it stay. Known headers count as accepted.
    fn accept_headers(&self, headers: &[Header]) -> Result<HeadersAccepted, HeadersRejected>;

    /// *Blocking.* Does what can be done for a block before it is its turn; may be called while another is submitted.
    fn prepare_block(&self, block: Block) -> PreparedBlock;

    /// *Blocking.* Checks the block, stores it, and makes the valid chain with most work the active one. Its header is
    /// accepted on the way if it was not before. Blocks may come in any order once their headers are known.
    fn submit_prepared(&self, block: PreparedBlock) -> Result<BlockAccepted, BlockRejected>;

    /// *Blocking.* Prepares the block and submits it.
    fn submit_block(&self, block: Block) -> Result<BlockAccepted, BlockRejected> {
        self.submit_prepared(self.prepare_block(block))
    }

    /// *Blocking.* Offers a transaction to the mempool.
    fn submit_transaction(&self, transaction: Transaction) -> Result<Txid, MempoolError>;

    /// *Blocking.* Offers a child with its unconfirmed parents, parents first. Tells what had to go for them.
    fn submit_package(&self, transactions: Vec<Transaction>) -> Result<Vec<Txid>, MempoolError>;

    /// What happens from now on. A receiver that lags loses the oldest events and asks the views anew.
    fn events(&self) -> broadcast::Receiver<ChainEvent>;
}

/// What became of a list of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadersAccepted {
    /// How many were not known before.
    pub new: usize,
    /// The last of the list.
    pub last: Option<BlockHash>,
}

/// What became of a block that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum BlockAccepted {
    /// It was stored before; nothing changed.
    Known,
    /// It is stored. The tip after it, which changed if this block or ones that waited for it made it so.
    Stored { tip: Tip },
}

/// Something that peers may have to be told about.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum ChainEvent {
    /// The active chain has a new end. One event a step: a reorganisation is one step.
    Tip(Tip),
    /// A transaction came into the mempool. `sequence`: [`crate::core::Core::mempool_sequence`] of that moment.
    Transaction { transaction: Arc<Transaction>, txid: Txid, wtxid: Wtxid, fee_rate: FeeRate, sequence: u64 },
    /// A transaction left the mempool for another reason than its confirmation.
    TransactionRemoved { transaction: Arc<Transaction>, txid: Txid, wtxid: Wtxid, reason: RemovalReason, sequence: u64 },
}
