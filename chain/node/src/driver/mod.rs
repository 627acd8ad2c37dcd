//! Sockets: everything between `leyden-net`'s pure peers and the operating system.
//!
//! ```text
//!   listener, dialers ──▶ connection task (a peer each) ──▶ messages ──▶ core: PeerSet::handle
//!                              ▲  frames                                   │ actions
//!                              └───────────────────────────────────────────┤
//!   backend ◀── worker threads: headers · blocks · transactions ◀──────────┤
//!      │                │ outcomes                                         │
//!      └─ ChainEvent ───┴──────────────────────────────────────▶ core ─────┘
//! ```
//!
//! What it promises:
//! * The runtime's threads never wait for a disk or a signature check: the core runs on a blocking thread of its own,
//!   checks on worker threads, and blocks are read for peers on the blocking pool.
//! * What peers that came to us can make it do is bounded, in processor time for all of them ([`INBOUND_TIME`]).
//! * What a peer can make wait here is bounded: bytes read and not yet handled, bytes written and not yet sent, blocks
//!   being served. A peer that does not read is let go.
//! * What is said is encrypted (BIP 324) unless the peer cannot; then the connection is opened again for plain frames.
//! * Configured peers are connected again whenever the connection ends, after a pause that grows.

mod address_file;
mod connection;
mod core;
mod dial;
mod fair_queue;
mod work;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::p2p::Magic;
use bitcoin::{Block, BlockHash, Transaction};
use leyden_net::{Fetched, KnownAddress, PeerId, Wish};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::Backend;
use crate::bans::BanList;
use crate::error::NodeError;
use crate::network::{BoxFuture, ChainPeers, Network};
use crate::sync::lock;
use crate::time_budget::{Share, TimeBudget};
use crate::totals::Traffic;
use crate::types::PeerInfo;
use connection::Counters;

/// Settings of a [`Driver`].
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// The four bytes that open every message of the network.
    pub magic: Magic,
    /// Where to accept connections; port 0 lets the system choose one.
    pub listen: Option<SocketAddr>,
    /// Peers to stay connected to.
    pub connect: Vec<SocketAddr>,
    /// Connections that others may open to us.
    pub max_inbound: usize,
    /// Connections that are opened to addresses that peers tell of. 0: to configured peers only.
    pub max_outbound: usize,
    /// Where addresses that peers tell of are kept between two runs; nowhere if it is `None`.
    pub address_file: Option<PathBuf>,
    /// Addresses with which the user wants no connection; nobody is banned if it is `None`.
    pub bans: Option<Arc<BanList>>,
    /// After this time with all connections of its own the node tries another peer, and lets the one go that it misses least.
    pub rotate_after: Duration,
    /// The first pause before a configured peer is tried again; it doubles with each failure.
    pub reconnect_after: Duration,
    /// The longest such pause.
    pub reconnect_at_most: Duration,
    /// What the peer logic is told once.
    pub protocol: leyden_net::Config,
}

impl DriverConfig {
    /// Settings of a node that neither listens nor connects yet.
    pub fn new(magic: Magic, protocol: leyden_net::Config) -> Self {
        Self {
            magic,
            listen: None,
            connect: Vec::new(),
            max_inbound: 117,
            max_outbound: 0,
            address_file: None,
            bans: None,
            rotate_after: Duration::from_secs(10 * 60),
            reconnect_after: Duration::from_millis(500),
            reconnect_at_most: Duration::from_secs(60),
            protocol,
        }
    }
}

/// Inbound connections beside [`DriverConfig::max_inbound`]: newcomers for whom room is made, and who gives way to them.
const SPARE_PLACES: usize = 4;

/// Processor time for all that is done for peers that came to us, but the check of blocks, which cost their senders more:
/// decoding, answers, checks of transactions. A fifth of one core takes 20 MB of messages a second, some times what the
/// busiest hour of Bitcoin's network says, and leaves the rest to those that this node chose and to everything else.
pub const INBOUND_TIME: Share = Share { per_second: Duration::from_millis(200), at_once: Duration::from_millis(400) };

/// Why the driver did not start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum DriverError {
    #[error("cannot listen for peers on {address}: {error}; choose another address or stop the program that uses it")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// The running peer-to-peer side of a node. Cheap to clone; all clones are the same driver, which stops when the last
/// is dropped.
#[derive(Clone, Debug)]
pub struct Driver {
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Mutex<Shared>>,
    local_address: Option<SocketAddr>,
    stop: CancellationToken,
    failed: CancellationToken,
    tasks: TaskTracker,
    inbound_time: Arc<TimeBudget>,
    traffic: Arc<Counters>,
}

/// The peers as they were some tenths of a second ago at most.
#[derive(Debug, Default)]
struct Shared {
    peers: Vec<PeerInfo>,
    about_tip: ChainPeers,
    for_light: Vec<LightPeer>,
    /// The user wants no connections.
    is_switched_off: bool,
}

/// A peer as a light node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LightPeer {
    pub(crate) id: PeerId,
    pub(crate) inbound: bool,
    /// The user named it.
    pub(crate) is_named: bool,
    /// It serves blocks and their filters (BIP 157).
    pub(crate) serves_filters: bool,
    /// It keeps all blocks, not the last ones only (BIP 159).
    pub(crate) keeps_all: bool,
    /// The end of its chain.
    pub(crate) best_known: Option<BlockHash>,
}

/// What a handle asks of the core.
#[derive(Debug)]
enum Command {
    /// Stay connected, however often it fails.
    Keep(SocketAddr),
    /// Connect, tell how it went, and if it went well stay connected.
    Connect {
        address: SocketAddr,
        answer: oneshot::Sender<Result<(), NodeError>>,
    },
    Disconnect(SocketAddr),
    /// Ask a peer for something.
    Fetch {
        peer: PeerId,
        wish: Wish,
        answer: oneshot::Sender<Fetched>,
    },
    /// A peer's filter leaves out what its block has, or a block is not what its header says.
    Lies(PeerId),
    /// Close the connections with addresses that are banned by now.
    LetBannedGo,
    /// Ask all peers how long they take to answer.
    Ping,
    /// Have connections, or none.
    SetActive(bool),
    /// Tell some of the known addresses.
    Addresses {
        limit: usize,
        answer: oneshot::Sender<Vec<KnownAddress>>,
    },
    /// Tell which transactions wait for their parents.
    Orphans(oneshot::Sender<Vec<(u64, Arc<Transaction>)>>),
}

impl Driver {
    /// Starts listening and connecting. To be called inside a tokio runtime.
    pub async fn start(config: DriverConfig, backend: Arc<dyn Backend>) -> Result<Self, DriverError> {
        let listener = match config.listen {
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                Some(listener.map_err(|error| DriverError::Listen { address, error })?)
            }
            None => None,
        };
        let local_address = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let (commands, command_queue) = mpsc::unbounded_channel();
        for address in &config.connect {
            // The receiver is in this function.
            let _ = commands.send(Command::Keep(*address));
        }
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let about_tip = ChainPeers { dials: !config.connect.is_empty(), ..ChainPeers::default() };
        let shared = Arc::new(Mutex::new(Shared { about_tip, ..Shared::default() }));
        let max_inbound = config.max_inbound;
        let inbound_time = TimeBudget::new(INBOUND_TIME);
        let traffic = Arc::new(Counters::default());
        let core = core::Core::new(
            config,
            backend,
            Arc::clone(&shared),
            stop.clone(),
            tasks.clone(),
            Arc::clone(&inbound_time),
            Arc::clone(&traffic),
        )
        .map_err(DriverError::Thread)?;
        if let Some(listener) = listener {
            let places = Arc::new(Semaphore::new(max_inbound.saturating_add(SPARE_PLACES)));
            tasks.spawn(dial::listen(listener, core.input(), places, stop.clone()));
        }
        let runtime = tokio::runtime::Handle::current();
        let failed = core.failed();
        let fault = Fault { failed: failed.clone(), stop: stop.clone(), shared: Arc::clone(&shared) };
        tasks.spawn_blocking(move || {
            let _fault = fault;
            runtime.block_on(core.run(command_queue));
        });
        Ok(Self { commands, shared, local_address, stop, failed, tasks, inbound_time, traffic })
    }

    /// Where it listens.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.local_address
    }

    /// Connects to a peer, and resolves when the handshake is done or has failed. Once it succeeded, the connection is
    /// made again whenever it ends.
    pub async fn connect(&self, address: SocketAddr) -> Result<(), NodeError> {
        let (answer, result) = oneshot::channel();
        let _ = self.commands.send(Command::Connect { address, answer });
        result.await.unwrap_or(Err(NodeError::ShuttingDown))
    }

    /// Stays connected with this address, however often it fails.
    pub fn keep(&self, address: SocketAddr) {
        let _ = self.commands.send(Command::Keep(address));
    }

    /// Closes all connections with this address, and does not open them again.
    pub fn disconnect(&self, address: SocketAddr) {
        let _ = self.commands.send(Command::Disconnect(address));
    }

    /// The peers with whom the handshake is done.
    pub fn peers(&self) -> Vec<PeerInfo> {
        lock(&self.shared).peers.clone()
    }

    /// What follows from them about the tip.
    pub fn chain_peers(&self) -> ChainPeers {
        lock(&self.shared).about_tip.clone()
    }

    /// The peers with whom the handshake is done, as a light node sees them.
    pub(crate) fn light_peers(&self) -> Vec<LightPeer> {
        lock(&self.shared).for_light.clone()
    }

    /// Asks one peer for something.
    pub(crate) async fn fetch(&self, peer: PeerId, wish: Wish) -> Fetched {
        let (answer, result) = oneshot::channel();
        let _ = self.commands.send(Command::Fetch { peer, wish, answer });
        result.await.unwrap_or(Fetched::Failed)
    }

    /// Lets a peer go that was shown to lie.
    pub(crate) fn lies(&self, peer: PeerId) {
        let _ = self.commands.send(Command::Lies(peer));
    }

    /// Closes all connections and waits until nothing runs any more.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Sees to it that a fault that ends the core is no secret: whoever goes on without peers takes an old chain for the present one.
struct Fault {
    failed: CancellationToken,
    stop: CancellationToken,
    shared: Arc<Mutex<Shared>>,
}

impl Drop for Fault {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the peer-to-peer driver has met a fault of its own; no more is exchanged with peers");
            *lock(&self.shared) = Shared::default();
            self.failed.cancel();
            self.stop.cancel();
        }
    }
}

impl Network for Driver {
    fn connect(&self, address: SocketAddr) -> BoxFuture<Result<(), NodeError>> {
        let driver = self.clone();
        Box::pin(async move { Self::connect(&driver, address).await })
    }

    fn keep(&self, address: SocketAddr) {
        Self::keep(self, address);
    }

    fn disconnect(&self, address: SocketAddr) {
        Self::disconnect(self, address);
    }

    fn let_banned_go(&self) {
        let _ = self.commands.send(Command::LetBannedGo);
    }

    fn orphans(&self) -> BoxFuture<Vec<(u64, Arc<Transaction>)>> {
        let (answer, result) = oneshot::channel();
        let _ = self.commands.send(Command::Orphans(answer));
        Box::pin(async move { result.await.unwrap_or_default() })
    }

    fn ping(&self) {
        let _ = self.commands.send(Command::Ping);
    }

    fn set_active(&self, active: bool) {
        let _ = self.commands.send(Command::SetActive(active));
    }

    fn is_active(&self) -> bool {
        !lock(&self.shared).is_switched_off
    }

    fn addresses(&self, limit: usize) -> BoxFuture<Vec<KnownAddress>> {
        let (answer, result) = oneshot::channel();
        let _ = self.commands.send(Command::Addresses { limit, answer });
        Box::pin(async move { result.await.unwrap_or_default() })
    }

    fn fetch_block(&self, peer: u64, hash: BlockHash) -> BoxFuture<Option<Block>> {
        let driver = self.clone();
        Box::pin(async move {
            match driver.fetch(PeerId(peer), Wish::Block(hash)).await {
                Fetched::Block(block) => Some(*block),
                Fetched::FilterHashes { .. } | Fetched::Filters(_) | Fetched::Failed => None,
            }
        })
    }

    fn peers(&self) -> Vec<PeerInfo> {
        Self::peers(self)
    }

    fn chain_peers(&self) -> ChainPeers {
        Self::chain_peers(self)
    }

    fn local_address(&self) -> Option<SocketAddr> {
        Self::local_address(self)
    }

    fn inbound_time(&self) -> Arc<TimeBudget> {
        Arc::clone(&self.inbound_time)
    }

    fn traffic(&self) -> Traffic {
        self.traffic.traffic()
    }

    fn failed(&self) -> BoxFuture<()> {
        Box::pin(self.failed.clone().cancelled_owned())
    }

    fn stop(&self) -> BoxFuture<()> {
        let driver = self.clone();
        Box::pin(async move { driver.shutdown().await })
    }
}

#[cfg(test)]
mod tests;
