//! Brings the Lightning node up from what is stored, and keeps its tasks running.
//!
//! ```text
//!   store ──► invoices, payments, channels ──► one task a peer
//!                    │
//!                    ├── chain task: wallet and watches          ├── listener: inbound peers
//!                    ├── dialler: peers with channels, away      └── ticker: invoices and parts that time out
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use bitcoin::{Network, OutPoint, constants::ChainHash};
use leyden_channels::{
    channel::{Backing, Channel, ChannelPolicy, Key, Origin, Outbox, OwedSettlement, RestoreError},
    gossip::serving::FLUSH_SECONDS,
    onchain,
    payment::{self, InvoiceNetwork},
    switch::{ForwardPolicy, SwitchEvent},
    types::{ChannelId, FeeratePerKw, Height, UnixTime},
    wire::{Feature, Features},
};
use leyden_node::{Needed, Node, NodeError, TimeBudget};
use secp256k1::PublicKey;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tracing::{debug, error, info};

use super::{
    announced::{announced, announced_addresses},
    backup::Backups,
    chain::{ChainWatch, LookBack},
    committer::{Committer, NodeEffect},
    connection::{self, ConnectionError, Local},
    depth::DepthRule,
    events::Events,
    feerates::LastFeerates,
    gossip::{self, Gossip, GossipEvent},
    interceptor::InterceptorPlace,
    payment_times::PaymentTimes,
    peer::{Command, Peer},
    peers::Peers,
    psbt_funding::PsbtFundings,
    routing,
    services::Services,
    swaps::{self, SwapLeg, Swaps},
    switch,
    towers::{TowerChannel, Towers},
    workers::Cores,
};
use crate::{
    admission::ConnectionSlots,
    limits::{Descriptors, HANDSHAKES_TIME, STRANGERS_TIME},
    store::{Store, StoreError},
    wallet::{
        backup::Contents,
        keys::NodeKeys,
        leases::Lease,
        onchain::{OnchainWallet, WalletError},
    },
    words::{Line, LogBudget},
};

/// How often peers that are away are dialled, at first and at last.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// How long overdue HTLCs wait at the start for what towers know: a block's time is ten times that.
const DEADLINE_PATIENCE: Duration = Duration::from_secs(60);

/// For how many unused addresses in a row the wallet looks at the chain at least: each channel has used one that may never
/// have been paid.
const LOOK_AHEAD: u32 = 250;

/// For how many unpaid addresses in a row the wallet looks at the chain.
pub(crate) fn look_ahead(store: &Store) -> Result<u32, StoreError> {
    Ok(store.recovery_window()?.unwrap_or_default().max(LOOK_AHEAD))
}

/// How many lines of the log nodes that have no channel with us may cause together in a minute.
const STRANGERS_LINES_PER_MINUTE: u32 = 60;

/// Under which name the wallet and its channels say which blocks they need.
pub(crate) const WALLET_NEEDS: &str = "wallet";
/// Under which name swaps do.
const SWAPS_NEED: &str = "swaps";

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Pruned(#[from] RestoreOnPruned),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("channel {channel} cannot be restored: {source}. Its record is left as it is; report this")]
    Channel { channel: ChannelId, source: RestoreError },
    #[error(
        "cannot listen for Lightning peers on {address}: {source}. Choose another address with --listen, or with --also-listen \
         for the network of --also"
    )]
    Listen { address: SocketAddr, source: io::Error },
}

/// A wallet that may have coins in blocks that nobody can look at any more.
#[derive(Debug, thiserror::Error)]
#[error(
    "this node is pruned: it keeps the blocks from height {0} on, and a wallet that is restored or rescanned looks at all of \
     them. Stop leydend, move its chain database away ({path}) and start it again without --prune: the chain is downloaded \
     once more. Set --prune again once the wallet has seen it",
    path = .1.display()
)]
pub(crate) struct RestoreOnPruned(u32, PathBuf);

impl RestoreOnPruned {
    /// Whether blocks are gone.
    pub(crate) fn check(node: &Node) -> Result<(), Self> {
        match node.pruned_below() {
            0 => Ok(()),
            below => Err(Self(below, node.database_path())),
        }
    }
}

/// What the node needs to start.
pub(crate) struct Setup {
    pub keys: NodeKeys,
    pub node: Node,
    pub store: Store,
    /// Where the channels' backup is kept.
    pub backup: PathBuf,
    /// For how many unused addresses in a row the wallet looks at the chain, if it is being restored.
    pub recovery_window: Option<u32>,
    pub listen: SocketAddr,
    /// Where the network is told to reach us; empty: at `listen`, if others can.
    pub announce: Vec<SocketAddr>,
    pub policy: ChannelPolicy,
    /// How many confirmations a channel wants that a stranger funds.
    pub depth_rule: DepthRule,
    /// What the process may have open.
    pub descriptors: Descriptors,
    /// The terms under which new channels forward.
    pub forwarding: ForwardPolicy,
    /// Whether payments are taken that nobody has asked for.
    pub accept_keysend: bool,
    /// Whether forwards wait while no program is there that decides about them.
    pub require_interceptor: bool,
    /// Whose channels are used before they are confirmed.
    pub zero_conf_peers: Vec<PublicKey>,
    /// So many towers have to hold a revoked state before its channel goes on.
    pub towers_required: u16,
    /// At which rate penalties signed for strangers' towers pay for themselves at most.
    pub tower_sweep_feerate: FeeratePerKw,
    /// The second daemon's chain, for swaps between the two.
    pub swap_with: Option<Arc<dyn SwapLeg>>,
    /// What the node is called.
    pub alias: String,
    /// Ends the process with this message: what memory believes may differ from the disk.
    pub fatal: mpsc::UnboundedSender<String>,
}

/// The running Lightning node. Dropping it ends its tasks.
pub(crate) struct Runtime {
    pub services: Arc<Services>,
    pub listen: SocketAddr,
    tasks: JoinSet<()>,
}

/// A wallet that has seen no block of a pruned chain begins with the first that is there, if it is new: then nothing before
/// concerns it.
fn begin_where_blocks_are(node: &Node, wallet: &OnchainWallet, store: &Store) -> Result<(), StartError> {
    let below = node.pruned_below();
    let (seen, _) = wallet.tip();
    if seen.saturating_add(1) >= below {
        return Ok(());
    }
    if seen > 0 || store.recovery_window()?.is_some() {
        RestoreOnPruned::check(node)?;
    }
    let Some(hash) = node.block_hash(below.saturating_sub(1)) else { return Ok(()) };
    info!(height = below, "the new wallet begins with the first block that this node keeps");
    wallet.begin_after((below.saturating_sub(1), hash))?;
    Ok(())
}

impl Runtime {
    pub(crate) async fn start(setup: Setup) -> Result<Self, StartError> {
        let Setup {
            keys,
            node,
            store,
            backup,
            recovery_window,
            listen,
            announce,
            policy,
            depth_rule,
            descriptors,
            forwarding,
            accept_keysend,
            require_interceptor,
            zero_conf_peers,
            towers_required,
            tower_sweep_feerate,
            swap_with,
            alias,
            fatal,
        } = setup;
        store.claim_for(&keys.node_id())?;
        let params = node.params();
        if let Some(window) = recovery_window {
            store.put_recovery_window(window)?;
        }
        let look_ahead = look_ahead(&store)?;
        let log = Box::new(store.clone());
        let wallet = OnchainWallet::open(&keys, params.address_network, params.genesis_hash, look_ahead, log)?;
        keep_leases(&store, &wallet, node.clock().now())?;
        if recovery_window.is_some() && wallet.tip().0 > 0 {
            RestoreOnPruned::check(&node)?;
            info!(look_ahead, "the wallet rescans the whole chain");
            wallet.rescan(look_ahead)?;
        }
        // A new wallet has not been paid; what a light node does not know of yet may be in any block.
        let is_new = wallet.tip().0 == 0 && recovery_window.is_none();
        let look_back = LookBack {
            wallet: if is_new { node.tip().height.saturating_add(1) } else { 0 },
            channels: wallet.tip().0 > 0 && node.watched_scripts() == Some(0),
        };
        let wallet = Arc::new(wallet);
        let watch = ChainWatch::new(node.clone(), look_back);
        // Nothing is pruned until it is known what the wallet and every channel need.
        node.keep_blocks_for(WALLET_NEEDS, Arc::new(|| Ok(Needed { from: 0, blocks: BTreeSet::new() }))).await?;
        begin_where_blocks_are(&node, &wallet, &store)?;
        let invoice_network =
            if params.address_network == Network::Regtest { InvoiceNetwork::Regtest } else { InvoiceNetwork::Leyden };
        let flush_seconds = if params.address_network == Network::Regtest { 1 } else { FLUSH_SECONDS };
        let local = Local {
            secret: keys.node_secret(),
            features: if zero_conf_peers.is_empty() {
                Features::init()
            } else {
                Features::init().offer(Feature::Zeroconf)
            },
            chain: ChainHash::from_genesis_block_hash(params.genesis_hash),
            counters: store.counters().clone(),
        };
        let listener =
            TcpListener::bind(listen).await.map_err(|source| StartError::Listen { address: listen, source })?;
        let listen = listener.local_addr().map_err(|source| StartError::Listen { address: listen, source })?;
        let tell = fatal.clone();
        let committer = Committer::start(store.clone(), move |why| drop(tell.send(why)));
        let backups = Backups::new(&keys, params.genesis_hash, backup);
        let (gossip, gossip_events) = Gossip::open(&store, local.chain, keys.node_id(), Height(node.tip().height))?;
        let (towers, tower_task) = Towers::open(&store, towers_required, tower_sweep_feerate)?;
        let (swaps, swap_tasks) = Swaps::new(swap_with);
        let begun = UnixTime(node.clock().now());
        let peers = Peers::new(descriptors.lightning());
        let listening = announced_addresses(&announce, listen, params.address_network == Network::Regtest);
        let announced = announced(alias, &announce, listening, &keys.node_id(), store.changed_announcement()?);
        let services = Arc::new(Services {
            acceptors: Arc::default(),
            interceptor: Arc::new(InterceptorPlace::new(require_interceptor)),
            psbt_fundings: Arc::new(PsbtFundings::new(peers.clone())),
            gossip,
            begun,
            router: Mutex::default(),
            failure_updates: Mutex::default(),
            learnt: Mutex::new(routing::load_learnt(&store, begun)?),
            announced: RwLock::new(announced),
            zero_conf_peers,
            keys,
            local,
            wallet,
            committer,
            watch,
            node,
            peers,
            handshakes: ConnectionSlots::new(descriptors.handshakes()),
            events: Events::default(),
            backups,
            towers,
            swaps,
            invoices: Mutex::new(
                payment::start::invoices(&store, store.invoice_number()?)?.taking_keysend(accept_keysend),
            ),
            payments: Mutex::new(payment::start::payments(&store, store.payment_numbers()?)?),
            payment_times: PaymentTimes::default(),
            directory: store.directory()?,
            store,
            policy,
            depth_rule,
            last_feerates: LastFeerates::default(),
            forwarding,
            switch: Mutex::default(),
            enforcement_policy: onchain::EnforcementPolicy::default(),
            invoice_network,
            strangers_log: Arc::new(LogBudget::new(STRANGERS_LINES_PER_MINUTE)),
            strangers_time: TimeBudget::new(STRANGERS_TIME),
            handshakes_time: TimeBudget::new(HANDSHAKES_TIME),
            cores: Cores::start(),
        });

        let mut runtime = Self { services, listen, tasks: JoinSet::new() };
        let channels = runtime.load_channels()?;
        for channel in &channels {
            if let Some(terms) = channel.terms() {
                runtime.services.watch.knows(channel.id(), terms.funding);
            }
        }
        runtime.services.node.keep_blocks_for(SWAPS_NEED, runtime.services.swaps.keeper()).await?;
        let (keeper, its_wallet) = (runtime.services.watch.clone(), Arc::clone(&runtime.services.wallet));
        let needed = move || keeper.needed(&its_wallet);
        runtime.services.node.keep_blocks_for(WALLET_NEEDS, Arc::new(needed)).await?;
        runtime.load_switch(&channels).await?;
        // Before any channel tells its HTLCs.
        let alone = runtime.services.end_intercepting();
        if runtime.services.run(alone).await.is_err() {
            error!("it could not be noted who decides about forwards");
        }
        runtime.settle_lost_attempts(&channels).await?;
        // Before any channel speaks: its states that wait, and what towers know of it.
        let known = channels.iter().filter_map(TowerChannel::of).collect();
        runtime.keep("the towers' task", tower_task.run(Arc::clone(&runtime.services), known));
        let swaps = swaps::Loaded::read(&runtime.services)?;
        runtime.spawn_peers(channels, &swaps)?;
        runtime.keep("gossip", gossip::run(Arc::clone(&runtime.services), gossip_events, flush_seconds));
        runtime.keep("the swaps' task", swap_tasks.run(Arc::clone(&runtime.services), swaps, fatal.clone()));
        runtime.spawn_chain(fatal);
        runtime.spawn_listener(listener);
        runtime.spawn_dialler();
        runtime.spawn_ticker();
        Ok(runtime)
    }

    /// Runs a task until this is dropped. If it panics the process ends ([`super::vital`]).
    pub(crate) fn keep(&mut self, what: &str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.services.committer.vital(what).hold(task));
    }

    fn load_channels(&self) -> Result<Vec<Channel>, StartError> {
        let services = &self.services;
        let mut rows: BTreeMap<ChannelId, Vec<(Key, Vec<u8>)>> = BTreeMap::new();
        let mut stored = services.store.core_records(&Key::all_live_prefix())?;
        // Where earlier versions kept what becomes of closed channels.
        stored.extend(services.store.core_records(&Key::all_enforcement_prefix())?);
        for (key, value) in stored {
            let key = Key::decode(&key).ok_or_else(|| services.store.damaged("a channel's key"))?;
            let channel = key.channel().ok_or_else(|| services.store.damaged("a channel's key"))?;
            rows.entry(channel).or_default().push((key, value));
        }
        let live = |(channel, rows): &(ChannelId, Vec<(Key, Vec<u8>)>)| {
            let is_live = rows.iter().any(|(key, _)| matches!(key, Key::Terms(_)));
            if !is_live {
                error!(%channel, "a closed channel is not in the database any more");
            }
            is_live
        };
        rows.into_iter()
            .filter(live)
            .map(|(channel, rows)| {
                Channel::restore(rows, |terms| services.signer(&terms.keys_id))
                    .map_err(|source| StartError::Channel { channel, source })
            })
            .collect()
    }

    /// The switch knows all channels before any of them handles an event.
    async fn load_switch(&self, channels: &[Channel]) -> Result<(), StartError> {
        let services = &self.services;
        let (loaded, batch) = switch::load(&services.store, channels, services.forwarding, services.now())?;
        *services.switch.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
        if services.run(services.committer.submit(batch)).await.is_err() {
            error!("the switch could not be updated");
        }
        Ok(())
    }

    /// Outcomes that a crash kept from the payments; then payments whose HTLC no channel holds: those were never
    /// offered.
    async fn settle_lost_attempts(&self, channels: &[Channel]) -> Result<(), StartError> {
        let services = &self.services;
        let mut batch: Vec<Outbox<NodeEffect>> = Vec::new();
        for (key, value) in services.store.core_records(&Key::all_outcomes_prefix())? {
            let (Some(Key::Outcome(attempt)), Some(owed)) = (Key::decode(&key), OwedSettlement::decode(&value)) else {
                return Err(services.store.damaged("the outcome of a payment").into());
            };
            let mut payments = services.payments();
            let outbox = match owed {
                OwedSettlement::Fulfilled { preimage } => payments.fulfilled(attempt, preimage, services.now()),
                OwedSettlement::Failed { failure } => payments.failed(attempt, &failure, services.now()),
            };
            batch.push(outbox.convert());
        }
        let alive: HashSet<_> = channels
            .iter()
            .flat_map(Channel::pending_origins)
            .filter_map(|origin| match origin {
                Origin::Payment(attempt) => Some(attempt),
                Origin::Forward { .. } => None,
            })
            .collect();
        batch.push(services.payments().restarted(&alive, services.now()).convert());
        if services.run(services.committer.submit(batch)).await.is_err() {
            error!("payments could not be updated");
        }
        Ok(())
    }

    fn spawn_peers(&mut self, channels: Vec<Channel>, swaps: &swaps::Loaded) -> Result<(), StartError> {
        let mut by_peer: HashMap<PublicKey, Vec<Channel>> = HashMap::new();
        for channel in channels {
            let id = channel.id();
            let node = channel.terms().and_then(|terms| terms.remote_node.public_key().ok());
            let node = node.ok_or_else(|| self.services.store.damaged("a channel's peer"))?;
            self.services.peers.add_channel(id, node, channel.backing());
            by_peer.entry(node).or_default().push(channel);
        }
        let addresses: HashMap<PublicKey, String> = self.services.store.peers()?.into_iter().collect();
        let mut backups = Vec::new();
        for (node_id, channels) in &by_peer {
            let reached_at = self.services.addresses_of(node_id, addresses.get(node_id).cloned());
            let funded = channels.iter().filter(|channel| channel.backing() == Backing::Funded);
            backups.extend(funded.filter_map(|channel| channel.backup(reached_at.clone())));
        }
        // Before any task runs: one that wrote the file first would write it without what only the file knows.
        let is_closed = |funding: &OutPoint| match self.services.store.closed_channel(funding) {
            Ok(closed) => closed.is_some(),
            Err(error) => {
                error!(%error, "whether a channel has ended cannot be read; its backup is kept");
                false
            }
        };
        let now = Contents { channels: backups, swaps: swaps.backups() };
        self.services.backups.begin(now, is_closed, |key| swaps.knows(key));
        for (node_id, channels) in by_peer {
            enter_peer(&self.services, node_id, channels, None);
            if let Some(address) = addresses.get(&node_id) {
                self.services.peers.set_address(&node_id, address.clone());
            }
        }
        self.services
            .store
            .forget_peer_storage(self.services.tip(), |node| self.services.peers.has_channel_with(node))?;
        Ok(())
    }

    fn spawn_chain(&mut self, fatal: mpsc::UnboundedSender<String>) {
        let services = Arc::clone(&self.services);
        let (tips, mut new_tip) = watch::channel(services.tip());
        self.keep("what follows the chain", async move {
            let run = services.watch.clone().run(Arc::clone(&services.wallet), tips);
            if let Err(error) = run.await {
                let _ = fatal.send(format!("the chain cannot be followed: {error}"));
            }
        });
        let services = Arc::clone(&self.services);
        self.keep("what tells channels of blocks", async move {
            // An HTLC that is overdue has its channel closed: not by a node whose towers are about to say that its data is old.
            services.towers.answered_in(DEADLINE_PATIENCE).await;
            while new_tip.changed().await.is_ok() {
                let tip: Height = *new_tip.borrow_and_update();
                for mailbox in services.peers.all() {
                    let _ = mailbox.send(Command::NewTip(tip));
                }
                services.gossip.tell(GossipEvent::NewTip(tip));
                let underway = services.tell_switch(SwitchEvent::NewTip(tip));
                if services.run(underway).await.is_err() {
                    return;
                }
            }
        });
    }

    fn spawn_listener(&mut self, listener: TcpListener) {
        let services = Arc::clone(&self.services);
        self.keep("the listener for peers", async move {
            services.towers.answered().await;
            loop {
                services.handshakes.settle().await;
                let (stream, address) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, for example: it passes.
                        // It may be so for long, for as long as somebody wants.
                        if services.strangers_log.line(&error.to_string()) != Line::Skip {
                            error!(%error, "a connection could not be accepted");
                        }
                        services.handshakes.give_way();
                        sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let known = services.peers.is_known_address(address.ip());
                let place = services.handshakes.enter(address.ip(), known);
                let services = Arc::clone(&services);
                tokio::spawn(async move {
                    let accept = connection::accept(&services.local, stream);
                    let accepted = tokio::select! {
                        accepted = services.handshakes_time.meter(|| known, accept) => accepted,
                        () = place.leave().cancelled() => return debug!(%address, "a silent connection gives way"),
                    };
                    match accepted {
                        Ok(established) if is_refused(&services, &established) => {
                            debug!(peer = %established.remote, "a forger is not let in");
                        }
                        Ok(established) => hand_over(&services, established),
                        Err(error) => debug!(%error, "an inbound connection failed"),
                    }
                });
            }
        });
    }

    fn spawn_dialler(&mut self) {
        let services = Arc::clone(&self.services);
        self.keep("the dialler", async move {
            services.towers.answered().await;
            loop {
                for (node_id, address) in services.peers.claim_missing() {
                    let services = Arc::clone(&services);
                    tokio::spawn(async move {
                        let mut pause = FIRST_RETRY;
                        while !services.peers.is_connected(&node_id) {
                            match connection::dial(&services.local, node_id, &address).await {
                                Ok(established) => {
                                    hand_over(&services, established);
                                    break;
                                }
                                Err(error) => debug!(peer = %node_id, %error, "not reached, trying again"),
                            }
                            sleep(pause).await;
                            pause = (pause * 2).min(LAST_RETRY);
                        }
                        services.peers.dialled(&node_id);
                    });
                }
                sleep(FIRST_RETRY).await;
            }
        });
    }

    fn spawn_ticker(&mut self) {
        let services = Arc::clone(&self.services);
        self.keep("the ticker", async move {
            loop {
                sleep(Duration::from_secs(1)).await;
                let ctx = services.invoice_ctx();
                let ticked = services.change(&services.invoices, |invoices| invoices.tick(&ctx));
                for underway in std::iter::once(ticked).chain(services.look_at_waiting()) {
                    if services.run(underway).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// Connects to a node and hands the connection to its task. The address is kept, to find the node again.
pub(crate) async fn connect(
    services: &Arc<Services>,
    node_id: PublicKey,
    address: &str,
) -> Result<(), ConnectionError> {
    services.towers.answered().await;
    let established = connection::dial(&services.local, node_id, address).await?;
    hand_over(services, established);
    services.peers.set_address(&node_id, address.to_owned());
    if let Err(error) = services.store.put_peer(&node_id, address) {
        error!(%error, "a peer's address could not be stored");
    }
    Ok(())
}

/// Dials a node until it answers, also if we have no channel with it.
pub(crate) fn keep_dialling(services: &Arc<Services>, node_id: PublicKey, address: String) {
    let services = Arc::clone(services);
    tokio::spawn(async move {
        let mut pause = FIRST_RETRY;
        while !services.peers.is_connected(&node_id) && connect(&services, node_id, &address).await.is_err() {
            sleep(pause).await;
            pause = (pause * 2).min(LAST_RETRY);
        }
    });
}

/// Hands a command to a peer's task, which is started if there is none.
pub(crate) fn tell_peer(services: &Arc<Services>, node_id: PublicKey, command: Command) {
    enter_peer(services, node_id, Vec::new(), Some(command));
}

fn hand_over(services: &Arc<Services>, established: connection::Established) {
    if !services.peers.make_room(&established.remote, established.inbound) {
        return debug!(peer = %established.remote, "no room for another stranger");
    }
    enter_peer(services, established.remote, Vec::new(), Some(Command::Connected(Box::new(established))));
}

/// A stranger that has forged gossip lately.
fn is_refused(services: &Services, established: &connection::Established) -> bool {
    let connection::Established { remote, address, .. } = established;
    services.gossip.refuses(remote, address.ip()) && !services.peers.has_channel_with(remote)
}

/// Starts the peer's task if there is none, and hands it the command.
fn enter_peer(services: &Arc<Services>, node_id: PublicKey, channels: Vec<Channel>, command: Option<Command>) {
    let start = || {
        let (mailbox, commands) = mpsc::unbounded_channel();
        let mut peer = Peer::new(node_id, Arc::clone(services), mailbox.clone());
        channels.into_iter().for_each(|channel| peer.restore(channel));
        let standing = peer.standing().clone();
        let vital = services.committer.vital(&format!("the task of peer {node_id} and its channels"));
        tokio::spawn(standing.meter(vital.hold(peer.run(commands))));
        mailbox
    };
    services.peers.enter(node_id, start, command);
}

/// Coins that were leased before a restart are so still; what is over is forgotten.
fn keep_leases(store: &Store, wallet: &OnchainWallet, now: u64) -> Result<(), StoreError> {
    for (coin, id, until) in store.leases()? {
        let left = Duration::from_secs(until.saturating_sub(now));
        let kept = !left.is_zero() && wallet.lease(coin, Lease { id, until }, left).is_ok();
        if !kept {
            store.remove_lease(&coin)?;
        }
    }
    Ok(())
}
