//! What goes into a [`PeerSet`](crate::PeerSet) and what comes out of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bitcoin::block::Header;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::{Block, BlockHash, Transaction, Txid, Wtxid};

use crate::block_form::BlockForm;
use crate::fetched::{Fetched, Wish};
use crate::misbehavior::Misbehavior;
use crate::view::{ChainView, MempoolView, RelayedTx};

/// A connection, by a number that its driver gives it and never uses again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u64);

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The peer connected to us.
    Inbound,
    /// We connected to the peer.
    Outbound,
}

/// What every call is given.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    /// Time since a moment that stays the same: what durations are measured with.
    pub now: Duration,
    /// Seconds since 1970, by a clock that may be set: what is compared with times in headers and messages.
    pub unix_time: u64,
    /// The header tree at this moment.
    pub chain: &'a dyn ChainView,
    /// The mempool at this moment.
    pub mempool: &'a dyn MempoolView,
}

impl Ctx<'_> {
    /// The clock's time as a duration since 1970.
    pub(crate) fn unix_now(&self) -> Duration {
        Duration::from_secs(self.unix_time)
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Event {
    /// A connection is open. `address` is the remote end's.
    Connected { peer: PeerId, address: SocketAddr, direction: Direction },
    /// A connection is closed, for whatever reason; also after our own [`Action::Disconnect`].
    Disconnected { peer: PeerId },
    /// A message arrived.
    Message { peer: PeerId, message: NetworkMessage },
    /// Time passed. Wanted several times a second.
    Tick,
    /// What became of [`Action::AcceptHeaders`].
    HeadersProcessed { peer: PeerId, count: usize, outcome: HeadersOutcome },
    /// What became of [`Action::ProcessBlock`].
    BlockProcessed { peer: PeerId, hash: BlockHash, outcome: BlockOutcome },
    /// What became of [`Action::SubmitTransaction`], or of one transaction of [`Action::SubmitPackage`].
    TransactionProcessed { peer: PeerId, transaction: Arc<Transaction>, outcome: TransactionOutcome },
    /// What [`Action::ServeBlock`] or [`Action::ServeFilters`] asked for is on its way (or could not be read).
    BlockServed { peer: PeerId },
    /// A peer has asked for transactions that a block does not have. [`Event::BlockServed`] follows.
    AskedBeyondBlock { peer: PeerId },
    /// A light node wants something of this peer. Answered by [`Action::Fetched`] with the same number.
    Fetch { peer: PeerId, request: u64, wish: Wish },
    /// A block shows that a filter of this peer leaves out what it must have.
    Lies { peer: PeerId },
    /// Somebody wants to know how long the peers take to answer.
    PingWanted,
    /// The active chain has a new tip, wherever it came from.
    TipChanged,
    /// The mempool has a new transaction, wherever it came from; or an old one is to be announced again.
    TransactionAccepted(RelayedTx),
    /// A transaction left the mempool without being confirmed: if it comes back, peers may have lost it too.
    TransactionRemoved { transaction: Arc<Transaction>, txid: Txid, wtxid: Wtxid },
}

/// What became of a list of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum HeadersOutcome {
    /// All are in the tree; `last` is the last one's hash.
    Accepted { last: BlockHash },
    /// One breaks the rules for good, and not only by an unlucky clock.
    Invalid,
    /// They cannot be judged now: a time too far ahead, an unknown parent, a fault of ours.
    Undecided,
}

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOutcome {
    /// It is stored, and connected if its chain has most work.
    Accepted,
    /// The hash names an invalid block.
    Invalid,
    /// The copy was damaged; the hash may name a valid block (CVE-2012-2459, altered witnesses).
    Mutated,
    /// It cannot be judged now: a time too far ahead, a fault of ours.
    Undecided,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum TransactionOutcome {
    /// It is in the mempool, or was already.
    Accepted,
    /// It spends outputs of these transactions, which nobody knows.
    MissingInputs { parents: Vec<Txid> },
    /// Its fee alone is too low; a child may pay for it.
    FeeTooLow,
    /// It breaks a consensus rule, so no honest node relays it.
    Invalid,
    /// Our policy or the state of the mempool is against it.
    Rejected,
}

/// Something that the driver is to do.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum Action {
    /// Send the message to the peer.
    Send { peer: PeerId, message: NetworkMessage },
    /// Read the block and send it in this form. Answer with [`Event::BlockServed`].
    ServeBlock { peer: PeerId, hash: BlockHash, form: BlockForm },
    /// Read the filters, or what stands for them, and send them. Answer with [`Event::BlockServed`].
    ServeFilters { peer: PeerId, request: FilterRequest },
    /// What came of [`Event::Fetch`].
    Fetched { peer: PeerId, request: u64, outcome: Fetched },
    /// Close the connection once what was sent before is written. Nothing further comes from this peer.
    Disconnect { peer: PeerId, reason: DisconnectReason },
    /// Talk no more to this address for some time (it does not concern addresses of this machine).
    Discourage { address: IpAddr },
    /// Check headers and put them into the tree. Answer with [`Event::HeadersProcessed`].
    AcceptHeaders { peer: PeerId, headers: Vec<Header> },
    /// Check, store and connect the block. Its header may be news, and its parent block may be still missing. Answer
    /// with [`Event::BlockProcessed`].
    ProcessBlock { peer: PeerId, block: Block },
    /// Offer the transaction to the mempool. Answer with [`Event::TransactionProcessed`].
    SubmitTransaction { peer: PeerId, transaction: Arc<Transaction> },
    /// Offer a parent that pays too little together with its child. Answer with [`Event::TransactionProcessed`] for
    /// each of the two.
    SubmitPackage { peer: PeerId, parent: Arc<Transaction>, child: Arc<Transaction> },
}

/// What is to be read of the block filters (BIP 157).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of a variant says what its fields are")]
pub enum FilterRequest {
    /// The filters of these blocks, a message each.
    Filters { blocks: Vec<BlockHash> },
    /// The hashes of the filters of these blocks, which follow `before`, or begin with the genesis block.
    Headers { before: Option<BlockHash>, blocks: Vec<BlockHash> },
    /// The filter headers of these blocks, the last of which are at most 999 below `stop`.
    Checkpoints { stop: BlockHash, blocks: Vec<BlockHash> },
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum DisconnectReason {
    #[error("the peer misbehaves: {0}")]
    Misbehaving(Misbehavior),
    #[error("the handshake took too long")]
    HandshakeTimeout,
    #[error("the peer speaks protocol version {version}; at least {minimum} is needed")]
    OldVersion { version: u32, minimum: u32 },
    #[error("the connection leads back to this node")]
    SelfConnection,
    #[error("the peer does not serve blocks with witnesses")]
    MissingServices,
    #[error("the peer's handshake breaks the protocol: {0}")]
    Handshake(&'static str),
    #[error("no answer to a ping")]
    PingTimeout,
    #[error("no answer to getheaders")]
    HeadersTimeout,
    #[error("blocks that were asked for do not arrive")]
    BlockTimeout,
    #[error("the peer asks for a block that this node has pruned")]
    BlockPruned,
}
