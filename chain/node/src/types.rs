//! What the node tells its callers: plain values, no handles.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use bitcoin::pow::Work;
use bitcoin::{Amount, Block, BlockHash, FeeRate, Transaction, Txid, Wtxid};
use leyden_net::TransportKind;

/// A block's name and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRef {
    /// The block's hash.
    pub hash: BlockHash,
    /// Blocks between the genesis block (0) and this one.
    pub height: u32,
}

/// The end of a chain of blocks or headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The last block's hash.
    pub hash: BlockHash,
    /// Blocks between the genesis block (0) and this one.
    pub height: u32,
    /// The block's own time, seconds since 1970.
    pub time: u32,
    /// Median time of the block and the ten before it; what relative and absolute locks are measured with (BIP 113).
    pub median_time_past: u32,
    /// Work of the whole chain up to and including this block.
    pub work: Work,
}

impl Tip {
    /// Its hash and height alone.
    pub fn block_ref(&self) -> BlockRef {
        BlockRef { hash: self.hash, height: self.height }
    }
}

/// Something that happened, in the order in which it happened.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Notice {
    /// The block is the new end of the active chain.
    BlockConnected { hash: BlockHash, height: u32, block: Arc<Block> },
    /// The block was the end of the active chain and is no longer part of it.
    BlockDisconnected { hash: BlockHash, height: u32, block: Arc<Block> },
    /// The transaction is in the mempool.
    TransactionAccepted { transaction: Arc<Transaction> },
    /// The transaction left the mempool for another reason than its confirmation.
    TransactionRemoved { txid: Txid, reason: RemovalReason },
}

/// Why a transaction left the mempool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovalReason {
    /// A transaction that pays more spends one of its inputs (or one of its ancestors').
    Replaced,
    /// A confirmed transaction spends one of its inputs (or one of its ancestors').
    Conflict,
    /// The mempool was full and this paid least.
    Evicted,
    /// Nobody mined it for too long.
    Expired,
    /// A reorganisation made it (or an ancestor) invalid or non-final.
    Reorganisation,
}

/// The transaction that spends an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The transaction that spends.
    pub txid: Txid,
    /// Which of the spending transaction's inputs.
    pub input: u32,
    /// The block of the active chain that holds it; `None` while it is in the mempool.
    pub confirmed: Option<BlockRef>,
}

/// A transaction and where it is.
#[derive(Clone, Debug)]
pub struct TransactionInfo {
    /// With its witnesses.
    pub transaction: Arc<Transaction>,
    /// The block of the active chain that holds it and its position there; `None` while it is in the mempool.
    pub confirmed: Option<(BlockRef, u32)>,
}

/// An output of the active chain, as a short channel id names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputInfo {
    /// The output's name.
    pub outpoint: bitcoin::OutPoint,
    /// Its value and script.
    pub output: bitcoin::TxOut,
    /// The block that created it.
    pub block: BlockRef,
    /// Is it unspent in the active chain? The mempool is not asked.
    pub unspent: bool,
}

/// The unspent outputs of the active chain as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtxoSet {
    /// The tip that they belong to.
    pub block: BlockRef,
    /// What Bitcoin Core calls `hash_serialized_3`.
    pub hash: bitcoin::hashes::sha256d::Hash,
    /// How many outputs there are.
    pub coins: u64,
    /// What they are worth together.
    pub amount: Amount,
}

/// Which way from a transaction of the mempool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relatives {
    /// What it spends from, and so on.
    Ancestors,
    /// What spends from it, and so on.
    Descendants,
}

/// What a transaction would be in the mempool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// What it pays by itself.
    pub fee: Amount,
    /// Sigop-adjusted.
    pub virtual_bytes: u64,
}

impl Accepted {
    pub(crate) fn of(entry: &crate::mempool::pool::NewEntry) -> Self {
        Self { fee: entry.fee, virtual_bytes: entry.virtual_bytes }
    }
}

/// Whether a transaction would be accepted.
pub type Tested = Result<Accepted, crate::error::MempoolError>;

/// The mempool at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MempoolInfo {
    /// How many transactions wait.
    pub transactions: usize,
    /// Sum of the virtual sizes.
    pub virtual_bytes: u64,
    /// Approximate memory, which is what the cap counts.
    pub memory_bytes: usize,
    /// The most memory that it takes before the cheapest are evicted.
    pub memory_cap_bytes: usize,
    /// What all of them pay.
    pub total_fee: Amount,
    /// The lowest fee rate that is accepted now: the relay minimum, or more while the pool is full.
    pub minimum_fee_rate: FeeRate,
}

/// One transaction of the mempool.
#[derive(Clone, Debug)]
pub struct MempoolEntryInfo {
    /// Its id without witnesses.
    pub txid: Txid,
    /// Its id with witnesses.
    pub wtxid: Wtxid,
    /// What it pays by itself.
    pub fee: Amount,
    /// What it counts as paying, with what the user has added; the sums over relatives are of these.
    pub modified_fee: Amount,
    /// Sigop-adjusted.
    pub virtual_bytes: u64,
    /// Weight units (BIP 141).
    pub weight: u64,
    /// Seconds since 1970 at which it was accepted.
    pub time: u64,
    /// With itself.
    pub ancestors: usize,
    /// With itself.
    pub descendants: usize,
    /// What it and its ancestors pay.
    pub ancestor_fee: Amount,
    /// The size of it and its ancestors.
    pub ancestor_virtual_bytes: u64,
    /// What it and its descendants pay.
    pub descendant_fee: Amount,
    /// The size of it and its descendants.
    pub descendant_virtual_bytes: u64,
    /// Those in the mempool that it spends from.
    pub parents: Vec<Txid>,
    /// Those in the mempool that spend from it.
    pub children: Vec<Txid>,
}

/// The search for blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct MiningStatus {
    /// Who gets the rewards of the search in the background; `None` if there is none.
    pub script: Option<bitcoin::ScriptBuf>,
    /// Threads of the search in the background.
    pub threads: usize,
    /// Headers tried per second in the background, over the last seconds.
    pub hash_rate: f64,
    /// By this node since it started, on demand and in the background.
    pub blocks_found: u64,
    /// The name of the search code.
    pub kernel: &'static str,
    /// Expected hashes for the next block.
    pub work: Work,
    /// What all miners together did per second, by the work and times of the last blocks (120 at most).
    pub network_hash_rate: f64,
}

/// A connected peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The connection's number since the start; none is used twice.
    pub id: u64,
    /// The remote end's.
    pub address: SocketAddr,
    /// Whether the peer connected to us.
    pub inbound: bool,
    /// What it calls itself (BIP 14).
    pub user_agent: String,
    /// The version of the protocol that it speaks.
    pub protocol_version: u32,
    /// What it said it serves.
    pub services: ServiceFlags,
    /// The height that it named in its `version` message.
    pub start_height: i32,
    /// Bytes that were sent to it on this connection.
    pub bytes_sent: u64,
    /// Bytes that came from it on this connection.
    pub bytes_received: u64,
    /// How many seconds its clock is ahead of ours; `None` if it does not tell a time.
    pub clock_ahead: Option<i64>,
    /// Whether it has told all headers that it has at least once.
    pub has_sent_headers: bool,
    /// Whether this node has asked it to tell of new blocks by compact ones (BIP 152, high bandwidth).
    pub high_bandwidth_to: bool,
    /// Whether it has asked that of this node.
    pub high_bandwidth_from: bool,
    /// Whether what is said to it and by it is encrypted (BIP 324).
    pub transport: TransportKind,
    /// How long it took to answer pings; how long one has been waiting.
    pub pings: Pings,
}

/// What a peer's answers to pings took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pings {
    /// The last one.
    pub last: Option<Duration>,
    /// The shortest.
    pub shortest: Option<Duration>,
    /// One is not answered yet for so long.
    pub waiting: Option<Duration>,
}
