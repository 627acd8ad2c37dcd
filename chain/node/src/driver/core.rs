//! The loop that owns the peer logic: everything that happens becomes an event, every action is carried out.

mod active;
mod outbound;
mod serve;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message::NetworkMessage;
use leyden_net::{
    Action, Ctx, Direction, DisconnectReason, Envelope, Event, Fetched, PeerId, PeerSet, PeerSummary, RelayedTx,
    TransportKind,
};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{Connection, Counters, SendQueue};
use super::dial::{self, Backoff};
use super::work::{Offer, Workers};
use super::{Command, DriverConfig, LightPeer, Shared};
use crate::backend::{Backend, ChainEvent};
use crate::error::NodeError;
use crate::sync::lock;
use crate::time_budget::TimeBudget;
use crate::tip::FIRST_BLOCK;
use crate::totals::Traffic;
use crate::types::{PeerInfo, Pings};

/// Messages and connections that wait for the core; beyond that the connections wait.
const INPUT_QUEUE: usize = 256;
const TICK: Duration = Duration::from_millis(100);
/// What was queued before a disconnection has this long to leave.
const FAREWELL: Duration = Duration::from_secs(5);
const DISCOURAGED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_DISCOURAGED: usize = 10_000;
/// Connections that one address may open (addresses of this machine excepted).
const MAX_INBOUND_PER_ADDRESS: usize = 8;

/// What connections and the listener tell the core.
pub(super) enum Input {
    Connected {
        stream: TcpStream,
        address: SocketAddr,
        direction: Direction,
        /// Are encrypted packets tried first, if this node speaks in them (BIP 324)?
        encrypts: bool,
        /// Its share of the inbound connections.
        place: Option<OwnedSemaphorePermit>,
        /// Dropped when the connection is over.
        ended: Option<oneshot::Sender<()>>,
    },
    Message {
        peer: PeerId,
        message: NetworkMessage,
        /// The message's share of what the peer may have unhandled.
        permit: OwnedSemaphorePermit,
    },
    Closed {
        peer: PeerId,
    },
    /// An attempt to connect failed.
    Unreachable {
        address: SocketAddr,
        reason: String,
    },
}

/// Who waits for the outcome of an attempt to connect.
type Waiting = oneshot::Sender<Result<(), NodeError>>;

struct Remote {
    address: SocketAddr,
    direction: Direction,
    send_queue: SendQueue,
    counters: Arc<Counters>,
    kind: Arc<OnceLock<TransportKind>>,
    stop: CancellationToken,
}

/// The core before and while it runs.
pub(super) struct Core {
    config: DriverConfig,
    backend: Arc<dyn Backend>,
    peers: PeerSet,
    workers: Workers,
    remotes: BTreeMap<PeerId, Remote>,
    next_peer: u64,
    /// Configured peers, each with the token that ends the attempts.
    dialers: HashMap<SocketAddr, CancellationToken>,
    waiting: Vec<(SocketAddr, Waiting)>,
    /// Who waits for what was asked of a peer, by the number of the question.
    fetches: HashMap<u64, oneshot::Sender<Fetched>>,
    next_fetch: u64,
    shared: Arc<Mutex<Shared>>,
    /// Addresses that misbehaved, and until when they are not wanted.
    discouraged: HashMap<IpAddr, Instant>,
    started: Instant,
    searched: Instant,
    /// Connections are wanted.
    is_active: bool,
    /// When another peer was last tried although there were enough.
    rotated: Instant,
    saved: Instant,
    /// Peers of which it was said that they do not keep what is missing here.
    told_out_of_reach: BTreeSet<PeerId>,
    input: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    outcomes: (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    stop: CancellationToken,
    /// It ends by a fault of its own.
    failed: CancellationToken,
    tasks: TaskTracker,
    inbound_time: Arc<TimeBudget>,
    traffic: Arc<Counters>,
}

/// What the loop woke up for.
enum Woken {
    Stop,
    Outcome(Event),
    Command(Command),
    Chain(Result<ChainEvent, broadcast::error::RecvError>),
    Input(Input),
    Tick,
}

impl Core {
    pub(super) fn new(
        config: DriverConfig,
        backend: Arc<dyn Backend>,
        shared: Arc<Mutex<Shared>>,
        stop: CancellationToken,
        tasks: TaskTracker,
        inbound_time: Arc<TimeBudget>,
        traffic: Arc<Counters>,
    ) -> std::io::Result<Self> {
        let outcomes = mpsc::unbounded_channel();
        let workers = Workers::start(&backend, &outcomes.0)?;
        let now = Instant::now();
        let mut peers = PeerSet::new(config.protocol.clone(), rand::random());
        outbound::restore_addresses(&config, &mut peers, backend.now());
        Ok(Self {
            peers,
            config,
            backend,
            workers,
            remotes: BTreeMap::new(),
            next_peer: 0,
            dialers: HashMap::new(),
            waiting: Vec::new(),
            fetches: HashMap::new(),
            next_fetch: 0,
            shared,
            discouraged: HashMap::new(),
            started: now,
            searched: now,
            is_active: true,
            rotated: now,
            saved: now,
            told_out_of_reach: BTreeSet::new(),
            input: mpsc::channel(INPUT_QUEUE),
            outcomes,
            stop,
            failed: CancellationToken::new(),
            tasks,
            inbound_time,
            traffic,
        })
    }

    /// Cancelled once it has ended by a fault of its own.
    pub(super) fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// The way in for connections and listeners.
    pub(super) fn input(&self) -> mpsc::Sender<Input> {
        self.input.0.clone()
    }

    /// Runs until it is told to stop. Blocks its thread for as long as the peer logic thinks, so it wants one.
    pub(super) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut chain_events = self.backend.events();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let stop = self.stop.clone();
        loop {
            let woken = tokio::select! {
                biased;
                () = stop.cancelled() => Woken::Stop,
                Some(outcome) = self.outcomes.1.recv() => Woken::Outcome(outcome),
                // All handles are gone: nobody can stop us any more, so nobody wants us.
                command = commands.recv() => command.map_or(Woken::Stop, Woken::Command),
                event = chain_events.recv() => Woken::Chain(event),
                _ = ticks.tick() => Woken::Tick,
                Some(input) = self.input.1.recv() => Woken::Input(input),
            };
            match woken {
                Woken::Stop | Woken::Chain(Err(broadcast::error::RecvError::Closed)) => break,
                Woken::Outcome(event) => self.handle(event),
                Woken::Command(command) => self.command(command),
                Woken::Chain(Ok(ChainEvent::Tip(_)) | Err(broadcast::error::RecvError::Lagged(_))) => {
                    self.handle(Event::TipChanged);
                }
                Woken::Chain(Ok(ChainEvent::Transaction { txid, wtxid, fee_rate, .. })) => {
                    self.handle(Event::TransactionAccepted(RelayedTx { txid, wtxid, fee_rate }));
                }
                Woken::Chain(Ok(ChainEvent::TransactionRemoved { transaction, txid, wtxid, .. })) => {
                    self.handle(Event::TransactionRemoved { transaction, txid, wtxid });
                }
                Woken::Input(Input::Connected { stream, address, direction, encrypts, place, ended }) => {
                    self.connected(stream, (address, direction), encrypts, place, ended);
                }
                Woken::Input(Input::Message { peer, message, permit }) => {
                    let (time, begun) = (self.time_of(peer), Instant::now());
                    self.handle(Event::Message { peer, message });
                    drop(permit);
                    self.answer_waiting();
                    if let Some(time) = time {
                        time.charge(begun.elapsed());
                    }
                }
                Woken::Input(Input::Closed { peer }) => {
                    if let Some(remote) = self.remotes.remove(&peer) {
                        self.connection_lost(&remote, "the peer closed the connection");
                    }
                    self.handle(Event::Disconnected { peer });
                }
                Woken::Input(Input::Unreachable { address, reason }) => self.attempt_failed(address, &reason),
                Woken::Tick => {
                    self.handle(Event::Tick);
                    self.share_peers(self.peer_infos());
                    self.look_after_outbound();
                }
            }
        }
        self.stop.cancel();
        self.save_addresses();
        *lock(&self.shared) = Shared::default();
        let Self { workers, outcomes, input, waiting, .. } = self;
        drop((outcomes, input, waiting));
        workers.join();
    }

    fn handle(&mut self, event: Event) {
        let actions = {
            let backend = self.backend.as_ref();
            let ctx = Ctx { now: self.started.elapsed(), unix_time: backend.now(), chain: backend, mempool: backend };
            self.peers.handle(event, &ctx)
        };
        for action in actions {
            self.act(action);
        }
    }

    /// Out of what the work for a peer is done; `None` for those that this node chose.
    fn time_of(&self, peer: PeerId) -> Option<Arc<TimeBudget>> {
        let inbound = self.remotes.get(&peer).filter(|remote| remote.direction == Direction::Inbound);
        inbound.map(|_| Arc::clone(&self.inbound_time))
    }

    fn act(&mut self, action: Action) {
        let checked = match action {
            Action::Send { peer, message } => {
                self.send(peer, message);
                return;
            }
            Action::ServeBlock { peer, hash, form } => {
                self.serve_block(peer, hash, form);
                return;
            }
            Action::ServeFilters { peer, request } => {
                self.serve_filters(peer, request);
                return;
            }
            Action::Fetched { request, outcome, peer: _ } => {
                if let Some(answer) = self.fetches.remove(&request) {
                    // Who asked may have given up.
                    let _ = answer.send(outcome);
                }
                return;
            }
            Action::Disconnect { peer, reason } => {
                tracing::debug!(peer = peer.0, %reason, "disconnecting");
                if matches!(reason, DisconnectReason::Misbehaving(_)) {
                    self.workers.give_up_transactions(peer);
                }
                self.let_go(peer, &reason.to_string());
                return;
            }
            Action::Discourage { address } => {
                self.discourage(address);
                return;
            }
            Action::AcceptHeaders { peer, headers } => self.workers.headers(peer, headers),
            Action::ProcessBlock { peer, block } => self.workers.block(peer, block),
            Action::SubmitTransaction { peer, transaction } => {
                self.workers.transaction(peer, Offer::Single(transaction), self.time_of(peer))
            }
            Action::SubmitPackage { peer, parent, child } => {
                self.workers.transaction(peer, Offer::Package { parent, child }, self.time_of(peer))
            }
        };
        if !checked {
            tracing::error!("a worker thread of the peer-to-peer driver is gone; no more is exchanged with peers");
            self.failed.cancel();
            self.stop.cancel();
        }
    }

    fn send(&mut self, peer: PeerId, message: NetworkMessage) {
        let Some(remote) = self.remotes.get(&peer) else { return };
        if !remote.send_queue.send(Envelope::new(&message)) {
            tracing::debug!(peer = peer.0, "the peer does not read what it is sent; disconnecting");
            remote.stop.cancel();
        }
    }

    fn connected(
        &mut self,
        stream: TcpStream,
        (address, direction): (SocketAddr, Direction),
        encrypts: bool,
        place: Option<OwnedSemaphorePermit>,
        ended: Option<oneshot::Sender<()>>,
    ) {
        // Who is connected to on purpose is not banned by a subnet.
        let is_banned = !self.dialers.contains_key(&address) && self.is_banned(address.ip());
        if !self.is_active || is_banned || (direction == Direction::Inbound && !self.make_room_for(address.ip())) {
            tracing::debug!(%address, "connection refused");
            return;
        }
        let peer = PeerId(self.next_peer);
        self.next_peer = self.next_peer.wrapping_add(1);
        let (send_queue, outgoing) = SendQueue::new();
        let (counters, kind) = (Arc::new(Counters::among(&self.traffic)), Arc::new(OnceLock::new()));
        let stop = self.stop.child_token();
        let remote = Remote {
            address,
            direction,
            send_queue: send_queue.clone(),
            counters: Arc::clone(&counters),
            kind: Arc::clone(&kind),
            stop: stop.clone(),
        };
        self.remotes.insert(peer, remote);
        let connection = Connection {
            peer,
            stream,
            address,
            direction,
            magic: self.config.magic,
            encrypts: encrypts && self.config.protocol.services.has(ServiceFlags::P2P_V2),
            kind,
            outgoing,
            send_queue,
            counters,
            input: self.input(),
            outcomes: self.outcomes.0.clone(),
            stop,
            place,
            ended,
        };
        let is_chosen = direction != Direction::Inbound;
        self.tasks.spawn(self.inbound_time.meter(move || is_chosen, connection.run()));
        self.handle(Event::Connected { peer, address, direction });
    }

    fn is_banned(&self, address: IpAddr) -> bool {
        self.config.bans.as_ref().is_some_and(|bans| bans.is_banned(address, self.backend.now()))
    }

    /// If all places are taken, the peer that is easiest to replace gives way.
    fn make_room_for(&mut self, address: IpAddr) -> bool {
        if self.discouraged.get(&address).is_some_and(|until| *until > Instant::now()) {
            return false;
        }
        let inbound = || self.remotes.values().filter(|remote| remote.direction == Direction::Inbound);
        let of_address = inbound().filter(|remote| remote.address.ip() == address).count();
        if !address.is_loopback() && of_address >= MAX_INBOUND_PER_ADDRESS {
            return false;
        }
        if inbound().count() < self.config.max_inbound {
            return true;
        }
        let Some(peer) = self.peers.choose_to_evict(self.started.elapsed()) else { return false };
        tracing::debug!(peer = peer.0, "disconnecting: another peer wants the place");
        // No last words: the newcomer waits for the file descriptor.
        if let Some(remote) = self.remotes.remove(&peer) {
            remote.stop.cancel();
        }
        self.handle(Event::Disconnected { peer });
        true
    }

    /// Closes a connection once what is queued was sent, or after a short while.
    fn let_go(&mut self, peer: PeerId, reason: &str) {
        let Some(remote) = self.remotes.remove(&peer) else { return };
        self.connection_lost(&remote, reason);
        remote.send_queue.close();
        self.tasks.spawn(async move {
            let _ = tokio::time::timeout(FAREWELL, remote.stop.cancelled()).await;
            remote.stop.cancel();
        });
    }

    fn discourage(&mut self, address: IpAddr) {
        let now = Instant::now();
        if self.discouraged.len() >= MAX_DISCOURAGED {
            self.discouraged.retain(|_, until| *until > now);
        }
        if self.discouraged.len() < MAX_DISCOURAGED {
            self.discouraged.insert(address, now + DISCOURAGED_FOR);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Keep(address) => self.keep(address),
            Command::Connect { answer, .. } if !self.is_active => {
                let _ = answer.send(Err(active::switched_off()));
            }
            Command::Connect { address, answer } => {
                self.waiting.push((address, answer));
                self.keep(address);
                self.answer_waiting();
            }
            Command::Fetch { peer, wish, answer } => {
                let request = self.next_fetch;
                self.next_fetch = self.next_fetch.wrapping_add(1);
                self.fetches.insert(request, answer);
                self.handle(Event::Fetch { peer, request, wish });
            }
            Command::Lies(peer) => self.handle(Event::Lies { peer }),
            Command::Ping => self.handle(Event::PingWanted),
            Command::SetActive(active) => self.set_active(active),
            Command::Addresses { limit, answer } => {
                let _ = answer.send(self.peers.draw_addresses(limit));
            }
            Command::Orphans(answer) => {
                let orphans = self.peers.orphans().map(|(peer, orphan)| (peer.0, Arc::clone(orphan)));
                let _ = answer.send(orphans.collect());
            }
            Command::LetBannedGo => {
                let banned = |remote: &Remote| self.is_banned(remote.address.ip());
                let remotes = self.remotes.iter().filter(|(_, remote)| banned(remote));
                let peers: Vec<(PeerId, SocketAddr)> = remotes.map(|(peer, remote)| (*peer, remote.address)).collect();
                for (peer, address) in peers {
                    if let Some(stop) = self.dialers.remove(&address) {
                        stop.cancel();
                    }
                    self.let_go(peer, "its address is banned");
                    self.handle(Event::Disconnected { peer });
                }
            }
            Command::Disconnect(address) => {
                if let Some(stop) = self.dialers.remove(&address) {
                    stop.cancel();
                }
                let ids: Vec<PeerId> =
                    self.remotes.iter().filter(|(_, remote)| remote.address == address).map(|(id, _)| *id).collect();
                for peer in ids {
                    self.let_go(peer, "this side closed the connection");
                    self.handle(Event::Disconnected { peer });
                }
            }
        }
    }

    /// Connects to a peer, and again whenever the connection ends.
    fn keep(&mut self, address: SocketAddr) {
        if self.dialers.contains_key(&address) {
            return;
        }
        let stop = self.stop.child_token();
        self.dialers.insert(address, stop.clone());
        if self.is_active {
            self.dial(address, stop);
        }
    }

    fn dial(&mut self, address: SocketAddr, stop: CancellationToken) {
        let backoff = Backoff { first: self.config.reconnect_after, longest: self.config.reconnect_at_most };
        self.tasks.spawn(dial::stay_connected(address, backoff, self.input(), stop));
    }

    /// Tells those who wait for a connection that it is there.
    fn answer_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let infos = self.peer_infos();
        let is_ready = |address: &SocketAddr| infos.iter().any(|peer| peer.address == *address && !peer.inbound);
        let (ready, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(address, _)| is_ready(address));
        self.waiting = waiting;
        self.share_peers(infos);
        for (_, answer) in ready {
            let _ = answer.send(Ok(()));
        }
    }

    fn connection_lost(&mut self, remote: &Remote, reason: &str) {
        if remote.direction == Direction::Outbound {
            self.attempt_failed(remote.address, reason);
        }
    }

    /// Tells those who wait for a connection that it failed. Then there are no further attempts either.
    fn attempt_failed(&mut self, address: SocketAddr, reason: &str) {
        let all = std::mem::take(&mut self.waiting);
        let (failed, waiting): (Vec<_>, Vec<_>) = all.into_iter().partition(|(wanted, _)| *wanted == address);
        self.waiting = waiting;
        if failed.is_empty() {
            return;
        }
        if let Some(stop) = self.dialers.remove(&address) {
            stop.cancel();
        }
        for (_, answer) in failed {
            let _ = answer.send(Err(NodeError::Unreachable { address, reason: reason.into() }));
        }
    }

    /// Shows the peers to everybody, and what follows from them about the tip.
    fn share_peers(&self, peers: Vec<PeerInfo>) {
        let mut shared = lock(&self.shared);
        let about = &mut shared.about_tip;
        about.hears = peers.iter().any(|peer| peer.has_sent_headers);
        if about.hears {
            about.heard = Some(Instant::now());
        }
        about.had_outbound |= peers.iter().any(|peer| !peer.inbound);
        about.dials = !self.dialers.is_empty();
        let (others, chosen): (Vec<&PeerInfo>, Vec<&PeerInfo>) = peers.iter().partition(|peer| peer.inbound);
        let counted = if chosen.is_empty() { others } else { chosen };
        about.clocks_ahead = counted.iter().filter_map(|peer| peer.clock_ahead).collect();
        about.best_known = self.best_known();
        shared.for_light =
            self.peers.peers().iter().filter(|peer| peer.ready).map(|peer| self.light_peer(peer)).collect();
        shared.peers = peers;
    }

    fn light_peer(&self, peer: &PeerSummary) -> LightPeer {
        let keeps_all = peer.services.has(ServiceFlags::NETWORK);
        let keeps_some = keeps_all || peer.services.has(ServiceFlags::NETWORK_LIMITED);
        LightPeer {
            id: peer.peer,
            inbound: peer.direction == Direction::Inbound,
            is_named: self.dialers.contains_key(&peer.address),
            serves_filters: keeps_some && peer.services.has(ServiceFlags::COMPACT_FILTERS | ServiceFlags::WITNESS),
            keeps_all,
            best_known: peer.best_known,
        }
    }

    /// Where the chains of the peers end that have told all their headers: of those that this node chose, or of all
    /// others if none of them has.
    fn best_known(&self) -> Vec<BlockHash> {
        let synced: Vec<PeerSummary> = self.peers.peers().into_iter().filter(|peer| peer.has_sent_headers).collect();
        let (others, chosen): (Vec<&PeerSummary>, Vec<&PeerSummary>) =
            synced.iter().partition(|peer| peer.direction == Direction::Inbound);
        let counted = if chosen.is_empty() { others } else { chosen };
        counted.iter().filter_map(|peer| peer.best_known).collect()
    }

    fn peer_infos(&self) -> Vec<PeerInfo> {
        let (elapsed, unix_time) = (self.started.elapsed(), i64::try_from(self.backend.now()).unwrap_or(i64::MAX));
        let ready = self.peers.peers().into_iter().filter(|peer| peer.ready);
        ready
            .filter_map(|peer| {
                let remote = self.remotes.get(&peer.peer)?;
                let Traffic { sent, received } = remote.counters.traffic();
                Some(PeerInfo {
                    id: peer.peer.0,
                    address: peer.address,
                    inbound: peer.direction == Direction::Inbound,
                    user_agent: peer.user_agent,
                    protocol_version: peer.version,
                    services: peer.services,
                    start_height: peer.start_height,
                    bytes_sent: sent,
                    bytes_received: received,
                    // What it shows by now: our clock may have been set since.
                    clock_ahead: peer.clock.filter(|clock| clock.reported >= FIRST_BLOCK).map(|clock| {
                        let since = i64::try_from(elapsed.saturating_sub(clock.at).as_secs()).unwrap_or(i64::MAX);
                        clock.reported.saturating_add(since).saturating_sub(unix_time)
                    }),
                    has_sent_headers: peer.has_sent_headers,
                    high_bandwidth_to: peer.high_bandwidth_to,
                    high_bandwidth_from: peer.high_bandwidth_from,
                    transport: remote.kind.get().copied().unwrap_or_default(),
                    pings: Pings {
                        last: peer.round_trip,
                        shortest: peer.shortest_round_trip,
                        waiting: peer.ping_since.map(|since| elapsed.saturating_sub(since)),
                    },
                })
            })
            .collect()
    }
}
