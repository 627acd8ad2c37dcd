//! What the node asks of its connections.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bitcoin::{Block, BlockHash, Transaction};
use leyden_net::KnownAddress;

use crate::error::NodeError;
use crate::time_budget::TimeBudget;
use crate::totals::Traffic;
use crate::types::PeerInfo;

/// What the connections tell about the tip.
#[derive(Clone, Debug, Default)]
pub struct ChainPeers {
    /// How many seconds the clocks of peers are ahead of ours: of those that this node chose, or of all others if it
    /// has chosen none.
    pub clocks_ahead: Vec<i64>,
    /// The ends of the best chains that peers are known to have, of the same ones as far as they have told all their
    /// headers.
    pub best_known: Vec<BlockHash>,
    /// A peer is connected that has told all its headers.
    pub hears: bool,
    /// Some address is kept connected.
    pub dials: bool,
    /// There was a connection that this node opened.
    pub had_outbound: bool,
    /// When a peer that had told all its headers was last seen connected.
    pub heard: Option<Instant>,
}

/// An answer that takes a while.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the node asks of its peer-to-peer driver.
pub trait Network: Send + Sync {
    /// Connects, and resolves when the handshake is done or has failed.
    fn connect(&self, address: SocketAddr) -> BoxFuture<Result<(), NodeError>>;
    /// Connects, and again whenever the connection ends, however often it fails.
    fn keep(&self, address: SocketAddr);
    /// Ends the connection, if there is one, and does not make it again.
    fn disconnect(&self, address: SocketAddr);
    /// Closes the connections with addresses that are banned by now.
    fn let_banned_go(&self);
    /// Transactions that wait for their parents, each with the number of the peer that brought it.
    fn orphans(&self) -> BoxFuture<Vec<(u64, Arc<Transaction>)>>;
    /// Asks all peers how long they take to answer; [`Network::peers`] tells it then.
    fn ping(&self);
    /// Has connections, or closes all and makes none, until it is told otherwise.
    fn set_active(&self, active: bool);
    /// Whether connections are wanted. (What was told a moment ago may not be seen yet.)
    fn is_active(&self) -> bool;
    /// So many of the known addresses at most, drawn by lot.
    fn addresses(&self, limit: usize) -> BoxFuture<Vec<KnownAddress>>;
    /// A block from this peer; `None` if it does not come.
    fn fetch_block(&self, peer: u64, hash: BlockHash) -> BoxFuture<Option<Block>>;
    /// The peers whose handshake is finished.
    fn peers(&self) -> Vec<PeerInfo>;
    /// What follows from them about the tip.
    fn chain_peers(&self) -> ChainPeers;
    /// Where it waits for peers.
    fn local_address(&self) -> Option<SocketAddr>;
    /// Processor time that peers share that came to us.
    fn inbound_time(&self) -> Arc<TimeBudget>;
    /// Bytes of all connections since the start.
    fn traffic(&self) -> Traffic;
    /// Resolves once it has ended by a fault of its own.
    fn failed(&self) -> BoxFuture<()>;
    /// Closes everything, and resolves when all tasks have ended.
    fn stop(&self) -> BoxFuture<()>;
}
