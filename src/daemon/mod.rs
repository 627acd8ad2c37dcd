//! The daemon as a whole: the chain runs from the start, the Lightning node once the wallet is open.
//!
//! ```text
//!   lock the data directory ─► chain ─► watchtower ─► gRPC ─► (init or unlock wallet) ─► Lightning node ─► SIGTERM: drain, close
//! ```
//!
//! A process may hold two networks (`--also`). A [`LeydenDaemon`] is one of them: its chain, wallet, channels and peers. What there
//! is once in a process (the lock, the listeners of calls, the macaroons' key, the end) is made by [`run`] and shared.

mod announcement;
mod chain;
mod chain_watch;
mod change_password;
mod descriptors;
mod diagnosis;
mod metrics;
mod passwords;
mod private;
mod rest;
mod run;
mod session;
mod tip;
mod tokens;
mod wallet;
mod watchtower;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use async_trait::async_trait;
use bitcoin::NetworkKind;
use leyden_channels::channel::ChannelPolicy;
use leyden_node::{Needed, Node, NodeError};
use tokio::sync::{mpsc, watch};
use tokio_stream::{StreamExt as _, wrappers::WatchStream};
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use run::{RunError, run};

use crate::{
    admission::ConnectionSlots,
    api::{
        ApiError, Chain, ChangePassword, Daemon, InitWallet, Lightning, NetworkInfo, UnlockWallet, Updates,
        WalletState, Watchtower,
    },
    config::{Config, Layout},
    counters::Counters,
    driver::{
        crossing::CrossingNode,
        depth::DepthRule,
        runtime::{Runtime, Setup},
        swaps::SwapLeg,
    },
    lightning::{LightningNode, NodeHere},
    limits::{Descriptors, LimitUse},
    macaroon::RootKey,
    sibling::Sibling,
    store::Store,
    wallet::{
        keys::NodeKeys,
        seed::{self, Seed},
    },
};

use announcement::Announcement;

use chain::ChainFacade;
use passwords::Passwords;
use wallet::MacaroonFiles;
use watchtower::WatchtowerFacade;

/// The running daemon on one network, behind the API.
pub struct LeydenDaemon {
    config: Config,
    node: Node,
    chain: Arc<ChainFacade>,
    root_key: Arc<RootKey>,
    lightning: RwLock<Option<Arc<LightningNode>>>,
    /// One wallet is opened at a time, and one password tried, on both networks together.
    opening: Arc<tokio::sync::Mutex<()>>,
    passwords: Arc<Passwords>,
    state: watch::Sender<WalletState>,
    fatal: mpsc::UnboundedSender<String>,
    stopping: CancellationToken,
    /// Its Lightning node, for the chain's calls and for the other network.
    cell: NodeCell,
    /// That of the other network, and what that is called.
    other: Option<(String, NodeCell)>,
    descriptors: Descriptors,
    slots: CallerSlots,
    watchtower: Option<Arc<WatchtowerFacade>>,
    announcement: Announcement,
    place: Place,
}

/// Whose blocks these are, among those that pruning asks.
const OTHERS_SWAPS_NEED: &str = "node of the other network";

/// A Lightning node, once its wallet is open.
type NodeCell = Arc<Mutex<Option<Arc<LightningNode>>>>;

fn node_in(cell: &NodeCell) -> Option<Arc<LightningNode>> {
    cell.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn node_here(network: &str, cell: &NodeCell) -> NodeHere {
    let cell = Arc::clone(cell);
    NodeHere::new(move || node_in(&cell), format!("the wallet of {network} is not open"))
}

/// Which of the daemon's networks it is.
enum Place {
    /// The first; with the second, if there is one.
    First(Option<Arc<LeydenDaemon>>),
    Second,
}

/// The other network, as swaps and as crossing payments ask it.
#[derive(Default)]
struct OtherNetwork {
    swaps: Option<Arc<dyn SwapLeg>>,
    crossings: Option<Arc<dyn CrossingNode>>,
}

impl OtherNetwork {
    fn of(node: impl SwapLeg + CrossingNode + 'static) -> Self {
        let node = Arc::new(node);
        Self { swaps: Some(Arc::clone(&node) as Arc<dyn SwapLeg>), crossings: Some(node) }
    }
}

/// What a network of the daemon is made of.
struct Parts {
    config: Config,
    node: Node,
    fatal: mpsc::UnboundedSender<String>,
    descriptors: Descriptors,
    watchtower: Option<WatchtowerFacade>,
    cell: NodeCell,
    other: Option<(String, NodeCell)>,
    place: Place,
}

/// What the networks of a process share.
#[derive(Clone)]
struct Shared {
    root_key: Arc<RootKey>,
    opening: Arc<tokio::sync::Mutex<()>>,
    passwords: Arc<Passwords>,
    stopping: CancellationToken,
    slots: CallerSlots,
    announcement: Announcement,
}

/// Who calls.
#[derive(Clone)]
struct CallerSlots {
    grpc: ConnectionSlots,
    rest: ConnectionSlots,
    jsonrpc: ConnectionSlots,
    metrics: ConnectionSlots,
    zmq: ConnectionSlots,
}

impl CallerSlots {
    fn new(descriptors: Descriptors) -> Self {
        Self {
            grpc: ConnectionSlots::new(descriptors.callers()),
            rest: ConnectionSlots::new(descriptors.browsers()),
            jsonrpc: ConnectionSlots::new(descriptors.callers()),
            metrics: ConnectionSlots::new(descriptors.metrics_callers()),
            zmq: ConnectionSlots::new(descriptors.subscribers()),
        }
    }

    fn limits(&self) -> impl Iterator<Item = LimitUse> {
        let grpc = self.grpc.limits("grpc.unknown_callers", "grpc.callers");
        let rest = self.rest.limits("rest.unknown_callers", "rest.callers");
        let jsonrpc = self.jsonrpc.limits("jsonrpc.unknown_callers", "jsonrpc.callers");
        // Whoever asks for metrics or subscribes stays unknown.
        let [metrics, _] = self.metrics.limits("metrics.callers", "metrics.callers");
        let [zmq, _] = self.zmq.limits("zmq.subscribers", "zmq.subscribers");
        grpc.into_iter().chain(rest).chain(jsonrpc).chain([metrics, zmq])
    }
}

impl LeydenDaemon {
    fn new(parts: Parts, shared: Shared) -> Self {
        let Parts { config, node, fatal, descriptors, watchtower, cell, other, place } = parts;
        let Shared { root_key, opening, passwords, stopping, slots, announcement } = shared;
        let state =
            if seed::exists(&config.layout.wallet_seed()) { WalletState::Locked } else { WalletState::NonExisting };
        Self {
            chain: Arc::new(ChainFacade::new(node.clone(), Arc::clone(&cell))),
            config,
            node,
            root_key,
            lightning: RwLock::new(None),
            opening,
            passwords,
            state: watch::channel(state).0,
            fatal,
            stopping,
            cell,
            other,
            descriptors,
            slots,
            watchtower: watchtower.map(Arc::new),
            announcement,
            place,
        }
    }

    fn second(&self) -> Option<&Arc<LeydenDaemon>> {
        match &self.place {
            Place::First(second) => second.as_ref(),
            Place::Second => None,
        }
    }

    fn is_alone_tower(&self) -> bool {
        self.config.tower.as_ref().is_some_and(|tower| tower.alone)
    }

    /// Where what happens to this network's node is counted.
    fn counters(&self) -> Counters {
        match self.place {
            Place::First(_) => Counters::default(),
            Place::Second => Counters::of_second(&self.config.params.name),
        }
    }

    /// Has this network's chain keep the blocks that swaps of the other network's node still need: all of them while that one's
    /// wallet is closed, none before there is one.
    async fn keep_for_other(&self) -> Result<(), NodeError> {
        let Some((name, cell)) = &self.other else { return Ok(()) };
        let seed_of_other = Layout::new(self.config.layout.root().to_owned(), name).wallet_seed();
        let cell = Arc::clone(cell);
        let keeper = move || {
            let from = match node_in(&cell) {
                Some(node) => node.blocks_needed_of_other(),
                None if seed::exists(&seed_of_other) => 0,
                None => u32::MAX,
            };
            Ok(Needed { from, blocks: BTreeSet::new() })
        };
        self.node.keep_blocks_for(OTHERS_SWAPS_NEED, Arc::new(keeper)).await
    }

    /// The other network: for swaps and for crossing payments. Each has the other, so that what was begun goes on whichever is named
    /// first.
    fn other_network(&self) -> OtherNetwork {
        match (&self.other, &self.config.swap_with) {
            (Some((name, cell)), _) => OtherNetwork::of(node_here(name, cell)),
            (None, Some(folder)) => OtherNetwork::of(Sibling::new(folder.clone())),
            (None, None) => OtherNetwork::default(),
        }
    }

    fn other_node(&self) -> Option<Arc<LightningNode>> {
        self.other.as_ref().and_then(|(_, cell)| node_in(cell))
    }

    fn seed_path(&self) -> PathBuf {
        self.config.layout.wallet_seed()
    }

    fn running(&self) -> Option<Arc<LightningNode>> {
        self.lightning.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts the Lightning node with the keys of `seed`.
    async fn open(&self, seed: &Seed, recovery_window: Option<u32>, macaroons: MacaroonFiles) -> Result<(), ApiError> {
        self.state.send_replace(WalletState::Unlocked);
        match self.start_lightning(seed, recovery_window, macaroons).await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.state.send_replace(WalletState::Locked);
                Err(error)
            }
        }
    }

    async fn start_lightning(
        &self,
        seed: &Seed,
        recovery_window: Option<u32>,
        macaroons: MacaroonFiles,
    ) -> Result<(), ApiError> {
        let failed = |error: &dyn std::fmt::Display| ApiError::internal(error.to_string());
        let store = Store::open_with(&self.config.layout.node_database(), self.descriptors.node_files())
            .map_err(|error| failed(&error))?
            .counted_by(self.counters());
        let writes_macaroons = match macaroons {
            MacaroonFiles::AsBefore => !store.is_stateless()?,
            MacaroonFiles::None => {
                store.put_stateless()?;
                false
            }
            MacaroonFiles::OfFirst => {
                // It may be the first one another time.
                if self.other_node().is_some_and(|first| first.leaves_no_macaroons()) {
                    store.put_stateless()?;
                }
                false
            }
        };
        let policy = ChannelPolicy {
            to_self_delay: self.config.to_self_delay,
            minimum_depth: self.config.min_depth,
            keeps_final_htlcs: self.config.keeps_final_htlcs,
            ..ChannelPolicy::default()
        };
        let policy = match self.config.max_dust_exposure {
            // Who names an amount means that one, in large channels too.
            Some(max_dust_exposure) => ChannelPolicy { max_dust_exposure, max_dust_exposure_ppm: 0, ..policy },
            None => policy,
        };
        let OtherNetwork { swaps: swap_with, crossings: cross_with } = self.other_network();
        let runtime = Runtime::start(Setup {
            keys: self.keys(seed),
            node: self.node.clone(),
            store,
            backup: self.config.layout.channel_backup(),
            recovery_window,
            listen: self.config.listen,
            announce: self.config.announce.clone(),
            policy,
            depth_rule: DepthRule::new(self.config.attacker_share, self.config.risk_budget),
            descriptors: self.descriptors,
            forwarding: self.config.forwarding,
            accept_keysend: self.config.accept_keysend,
            require_interceptor: self.config.require_interceptor,
            zero_conf_peers: self.config.zero_conf_peers.clone(),
            towers_required: self.config.tower_require,
            tower_sweep_feerate: self.config.tower_sweep_feerate,
            swap_with,
            alias: self.config.alias.clone(),
            fatal: self.fatal.clone(),
        })
        .await
        .map_err(|error| failed(&error))?;
        // The first is open whenever the second is.
        let second = self.other.as_ref().filter(|_| self.second().is_some());
        let second = second.map(|(name, cell)| node_here(name, cell));
        let beside = self.other.as_ref().map(|(name, cell)| node_here(name, cell));
        let lightning = LightningNode::new(runtime, cross_with, second, beside, self.fatal.clone())
            .map_err(|error| failed(&error))?;
        let network = &self.config.params.name;
        info!(%network, listen = %lightning.listen(), "the Lightning node is running");
        *self.lightning.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&lightning));
        *self.cell.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&lightning));
        if writes_macaroons {
            tokens::write(&self.config.layout, &self.root_key).map_err(|error| failed(&error))?;
        }
        self.announcement.listens(network, lightning.listen()).map_err(|error| failed(&error))?;
        if self.config.mine {
            self.chain.start_mining_for(lightning.standing_reward_script(), self.config.mine_threads).await?;
        }
        self.state.send_replace(WalletState::RpcActive);
        let (state, stopping) = (self.state.clone(), self.stopping.clone());
        tokio::spawn(async move {
            while !lightning.wallet_is_synced() && !stopping.is_cancelled() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            state.send_replace(WalletState::ServerActive);
        });
        Ok(())
    }

    fn keys(&self, seed: &Seed) -> NodeKeys {
        let params = self.node.params();
        NodeKeys::new(seed, NetworkKind::from(params.address_network), &params.genesis_hash)
    }
}

#[async_trait]
impl Daemon for LeydenDaemon {
    fn state(&self) -> WalletState {
        *self.state.borrow()
    }

    fn subscribe_state(&self) -> Updates<WalletState> {
        Box::pin(WatchStream::new(self.state.subscribe()).map(Ok))
    }

    fn network(&self) -> NetworkInfo {
        let params = self.node.params();
        NetworkInfo { name: params.name.clone(), addresses: params.address_network, genesis: params.genesis_hash }
    }

    async fn gen_seed(&self, entropy: Option<[u8; 32]>) -> Result<Vec<String>, ApiError> {
        let seed = entropy.map_or_else(|| Seed::generate(""), |entropy| Seed::from_entropy(entropy, ""));
        Ok(seed.words())
    }

    async fn init_wallet(&self, request: InitWallet) -> Result<Vec<u8>, ApiError> {
        self.make_wallet(request).await
    }

    async fn unlock_wallet(&self, request: UnlockWallet, from: Option<IpAddr>) -> Result<(), ApiError> {
        self.unlock(request, from).await
    }

    async fn change_password(&self, request: ChangePassword, from: Option<IpAddr>) -> Result<Vec<u8>, ApiError> {
        self.change_password_to(request, from).await
    }

    fn lightning(&self) -> Option<Arc<dyn Lightning>> {
        self.running().map(|lightning| lightning as Arc<dyn Lightning>)
    }

    fn chain(&self) -> Option<Arc<dyn Chain>> {
        Some(Arc::clone(&self.chain) as Arc<dyn Chain>)
    }

    fn limits(&self) -> Vec<LimitUse> {
        let lightning = self.running().map(|lightning| lightning.limits()).unwrap_or_default();
        // Callers come to both networks at once.
        let callers = match self.place {
            Place::First(_) => self.slots.limits().collect(),
            Place::Second => Vec::new(),
        };
        let chain = self.node.inbound_time().map(|time| {
            let what = "milliseconds of processor time spent for peers of the chain that came to us; more has to wait";
            LimitUse::of_time("chain.inbound_time", &time, what)
        });
        let tower = self.watchtower.iter().flat_map(|tower| tower.limits());
        lightning.into_iter().chain(chain).chain(callers).chain(tower).collect()
    }

    fn watchtower(&self) -> Option<Arc<dyn Watchtower>> {
        self.watchtower.clone().map(|tower| tower as Arc<dyn Watchtower>)
    }

    fn is_tower_only(&self) -> bool {
        self.is_alone_tower()
    }

    fn stop(&self) {
        self.stopping.cancel();
    }
}
