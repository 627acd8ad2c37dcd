//! The daemon as a whole: the chain runs from the start, the Lightning node once the wallet is open.
//!
//! ```text
//!   lock the data directory ─► chain ─► watchtower ─► gRPC ─► (init or unlock wallet) ─► Lightning node ─► SIGTERM: drain, close
//! ```

mod chain;
mod descriptors;
mod metrics;
mod passwords;
mod private;
mod rest;
mod run;
mod session;
mod tip;
mod tokens;
mod watchtower;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use async_trait::async_trait;
use bitcoin::NetworkKind;
use leyden_channels::channel::ChannelPolicy;
use leyden_node::Node;
use tokio::sync::{mpsc, watch};
use tokio_stream::{StreamExt as _, wrappers::WatchStream};
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use run::{RunError, run};

use crate::{
    admission::ConnectionSlots,
    api::{
        ApiError, Backups as _, Chain, Daemon, InitWallet, Lightning, NetworkInfo, UnlockWallet, Updates, WalletState,
        Watchtower,
    },
    config::Config,
    driver::{
        crossing::CrossingNode,
        depth::DepthRule,
        runtime::{RestoreOnPruned, Runtime, Setup},
        swaps::SwapLeg,
    },
    lightning::LightningNode,
    limits::{Descriptors, LimitUse},
    macaroon::{self, RootKey},
    sibling::Sibling,
    store::Store,
    wallet::{
        backup::BackupSeal,
        keys::NodeKeys,
        seed::{self, KeyScheme, Seed, SeedError},
    },
};

use chain::ChainFacade;
use passwords::Passwords;
use watchtower::WatchtowerFacade;

/// The running daemon, behind the API.
pub struct LeydenDaemon {
    config: Config,
    node: Node,
    chain: Arc<ChainFacade>,
    root_key: Arc<RootKey>,
    lightning: RwLock<Option<Arc<LightningNode>>>,
    /// One wallet is opened at a time, and one password tried.
    opening: tokio::sync::Mutex<()>,
    passwords: Passwords,
    state: watch::Sender<WalletState>,
    fatal: mpsc::UnboundedSender<String>,
    stopping: CancellationToken,
    rewards: Arc<Mutex<Option<Arc<LightningNode>>>>,
    descriptors: Descriptors,
    slots: CallerSlots,
    watchtower: Option<Arc<WatchtowerFacade>>,
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
            rest: ConnectionSlots::new(descriptors.callers()),
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
    #[expect(clippy::too_many_arguments, reason = "each is a different type, and there is one caller")]
    fn new(
        config: Config,
        node: Node,
        root_key: Arc<RootKey>,
        fatal: mpsc::UnboundedSender<String>,
        stopping: CancellationToken,
        descriptors: Descriptors,
        slots: CallerSlots,
        watchtower: Option<WatchtowerFacade>,
    ) -> Self {
        let state =
            if seed::exists(&config.layout.wallet_seed()) { WalletState::Locked } else { WalletState::NonExisting };
        let rewards = Arc::default();
        Self {
            chain: Arc::new(ChainFacade::new(node.clone(), Arc::clone(&rewards))),
            config,
            node,
            root_key,
            lightning: RwLock::new(None),
            opening: tokio::sync::Mutex::new(()),
            passwords: Passwords::default(),
            state: watch::channel(state).0,
            fatal,
            stopping,
            rewards,
            descriptors,
            slots,
            watchtower: watchtower.map(Arc::new),
        }
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
            .map_err(|error| failed(&error))?;
        let writes_macaroons = macaroons == MacaroonFiles::AsBefore && !store.is_stateless()?;
        if !writes_macaroons {
            store.put_stateless()?;
        }
        let policy = ChannelPolicy {
            to_self_delay: self.config.to_self_delay,
            minimum_depth: self.config.min_depth,
            ..ChannelPolicy::default()
        };
        let policy = match self.config.max_dust_exposure {
            // Who names an amount means that one, in large channels too.
            Some(max_dust_exposure) => ChannelPolicy { max_dust_exposure, max_dust_exposure_ppm: 0, ..policy },
            None => policy,
        };
        let other = self.config.swap_with.clone().map(|folder| Arc::new(Sibling::new(folder)));
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
            swap_with: other.clone().map(|other| other as Arc<dyn SwapLeg>),
            alias: self.config.alias.clone(),
            fatal: self.fatal.clone(),
        })
        .await
        .map_err(|error| failed(&error))?;
        let other = other.map(|other| other as Arc<dyn CrossingNode>);
        let lightning = LightningNode::new(runtime, self.config.alias.clone(), other, self.fatal.clone())
            .map_err(|error| failed(&error))?;
        info!(listen = %lightning.listen(), "the Lightning node is running");
        *self.lightning.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&lightning));
        *self.rewards.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&lightning));
        if writes_macaroons {
            tokens::write(&self.config.layout, &self.root_key).map_err(|error| failed(&error))?;
        }
        let tower = self.watchtower.as_ref().map(|tower| tower.listen());
        run::announce(&self.config, &self.node, Some(lightning.listen()), tower).map_err(|error| failed(&error))?;
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

    fn new_seed(&self) -> Seed {
        Seed::generate("").with_scheme(KeyScheme::usual(self.node.params()))
    }

    /// Whether backups can be opened with these words: what cannot must not come to light when the wallet is there.
    fn check_backups(&self, seed: &Seed, backups: &[Vec<u8>]) -> Result<(), ApiError> {
        let genesis = self.node.params().genesis_hash;
        let opens = |seed: &Seed, sealed: &Vec<u8>| BackupSeal::new(&self.keys(seed), genesis).open(sealed).map(drop);
        for sealed in backups {
            let Err(error) = opens(seed, sealed) else { continue };
            let other = seed.scheme().other();
            if opens(&seed.clone().with_scheme(other), sealed).is_ok() {
                return Err(ApiError::precondition(format!(
                    "this channel backup is of the same words, but of a wallet whose keys follow otherwise: restore it with \
                     `leyden create --restore --keys {}`",
                    other.name()
                )));
            }
            return Err(error.into());
        }
        Ok(())
    }

    fn refuse_if_open(&self) -> Result<(), ApiError> {
        match self.running() {
            Some(_) => Err(ApiError::exists(
                "wallet already unlocked, WalletUnlocker service is no longer available: there is nothing to do",
            )),
            None => Ok(()),
        }
    }

    fn refuse_without_wallet(&self) -> Result<(), ApiError> {
        if self.is_tower_only() {
            return Err(ApiError::precondition(
                "this leydend is a watchtower alone and opens no wallet: start it without --tower-only, or with --tower",
            ));
        }
        Ok(())
    }

    /// Channels of which only a backup is left.
    async fn take_back(&self, backups: Vec<Vec<u8>>) -> Result<(), ApiError> {
        match self.running() {
            Some(lightning) if !backups.is_empty() => lightning.restore_backups(backups).await.map(drop),
            Some(_) | None => Ok(()),
        }
    }

    /// What needs no person: a wallet without a password, or one whose password lies in a file.
    async fn open_unattended(&self) -> Result<(), ApiError> {
        if self.is_tower_only() {
            self.state.send_replace(WalletState::ServerActive);
            return Ok(());
        }
        let path = self.seed_path();
        let password = match &self.config.wallet_password_file {
            Some(file) => Some(read_password(file)?),
            None => None,
        };
        if !seed::exists(&path) {
            if self.config.no_wallet_password {
                tracing::warn!(
                    "making a wallet without a password: its seed lies readable on the disk. Use it for demonstrations only"
                );
                seed::save(&path, &self.new_seed(), None).map_err(seed_error)?;
            } else if let Some(password) = &password {
                tracing::warn!(
                    wallet = %path.display(),
                    "making a wallet whose 24 words nobody has seen: if this disk is lost, its money is lost. To have the \
                     words, begin with an empty data directory, without --wallet-password-file, and run `leyden create`"
                );
                seed::save(&path, &self.new_seed(), Some(password)).map_err(seed_error)?;
            } else {
                info!("there is no wallet yet: create one with `leyden create`");
                return Ok(());
            }
        }
        if password.is_none() && seed::is_locked(&path).map_err(seed_error)? {
            info!("the wallet is locked: unlock it with `leyden unlock`");
            return Ok(());
        }
        let _opening = self.opening.lock().await;
        let seed = load(path, password).await?;
        self.open(&seed, None, MacaroonFiles::AsBefore).await
    }
}

/// Whether macaroons are left in the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MacaroonFiles {
    /// As the wallet was made, or opened last: they are, unless somebody has wanted none.
    AsBefore,
    /// Never from now on.
    None,
}

impl MacaroonFiles {
    fn of(stateless: bool) -> Self {
        if stateless { Self::None } else { Self::AsBefore }
    }
}

/// Deriving the key takes a second on purpose, so not on an async thread.
async fn load(path: PathBuf, password: Option<String>) -> Result<Seed, ApiError> {
    tokio::task::spawn_blocking(move || seed::load(&path, password.as_deref()))
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?
        .map_err(seed_error)
}

fn read_password(file: &PathBuf) -> Result<String, ApiError> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| ApiError::precondition(format!("the password file {}: {error}", file.display())))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn seed_error(error: SeedError) -> ApiError {
    match error {
        SeedError::WordCount { .. }
        | SeedError::BadWords(_)
        | SeedError::PasswordTooShort
        | SeedError::WrongPassword => ApiError::invalid(error.to_string()),
        SeedError::PasswordNeeded => ApiError::precondition(error.to_string()),
        SeedError::Exists(_) => ApiError::exists(error.to_string()),
        SeedError::Newer { .. } | SeedError::Damaged { .. } | SeedError::Io { .. } => {
            ApiError::internal(error.to_string())
        }
    }
}

fn password_text(password: &[u8]) -> Result<String, ApiError> {
    String::from_utf8(password.to_vec()).map_err(|_| ApiError::invalid("the password is not text"))
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
        self.refuse_without_wallet()?;
        let path = self.seed_path();
        // Where it lies is not for everybody who asks.
        let there_is_one = || ApiError::exists("a wallet exists already; it is never overwritten");
        if seed::exists(&path) {
            return Err(there_is_one());
        }
        let _opening = self.opening.lock().await;
        if seed::exists(&path) {
            return Err(there_is_one());
        }
        let scheme = request.keys.unwrap_or_else(|| KeyScheme::usual(self.node.params()));
        let seed = Seed::from_words(&request.words, &request.passphrase).map_err(seed_error)?.with_scheme(scheme);
        if request.recovery_window.is_some() || !request.backups.is_empty() {
            RestoreOnPruned::check(&self.node).map_err(|error| ApiError::precondition(error.to_string()))?;
        }
        let password = password_text(&request.password)?;
        self.check_backups(&seed, &request.backups)?;
        let kept = seed.clone();
        tokio::task::spawn_blocking(move || seed::save(&path, &kept, Some(&password)))
            .await
            .map_err(|error| ApiError::internal(error.to_string()))?
            .map_err(seed_error)?;
        self.open(&seed, request.recovery_window, MacaroonFiles::of(request.stateless)).await?;
        self.take_back(request.backups).await?;
        Ok(self.root_key.bake(macaroon::ADMIN, rand::random()).to_bytes())
    }

    async fn unlock_wallet(&self, request: UnlockWallet, from: Option<IpAddr>) -> Result<(), ApiError> {
        self.refuse_without_wallet()?;
        self.refuse_if_open()?;
        let path = self.seed_path();
        if !seed::exists(&path) {
            return Err(ApiError::precondition("there is no wallet yet: create one with `leyden create`"));
        }
        let password = password_text(&request.password)?;
        let attempt = self.passwords.begin(from)?;
        let _opening = self.opening.lock().await;
        self.refuse_if_open()?;
        let loaded = tokio::task::spawn_blocking(move || seed::load(&path, Some(&password)))
            .await
            .map_err(|error| ApiError::internal(error.to_string()))?;
        let seed = match loaded {
            Ok(seed) => {
                attempt.was_right();
                seed
            }
            Err(error) => {
                if matches!(error, SeedError::WrongPassword) {
                    attempt.was_wrong();
                }
                return Err(seed_error(error));
            }
        };
        self.open(&seed, request.recovery_window, MacaroonFiles::of(request.stateless)).await?;
        self.take_back(request.backups).await
    }

    fn lightning(&self) -> Option<Arc<dyn Lightning>> {
        self.running().map(|lightning| lightning as Arc<dyn Lightning>)
    }

    fn chain(&self) -> Option<Arc<dyn Chain>> {
        Some(Arc::clone(&self.chain) as Arc<dyn Chain>)
    }

    fn limits(&self) -> Vec<LimitUse> {
        let lightning = self.running().map(|lightning| lightning.limits()).unwrap_or_default();
        let chain = self.node.inbound_time().map(|time| {
            let what = "milliseconds of processor time spent for peers of the chain that came to us; more has to wait";
            LimitUse::of_time("chain.inbound_time", &time, what)
        });
        let tower = self.watchtower.iter().flat_map(|tower| tower.limits());
        lightning.into_iter().chain(chain).chain(self.slots.limits()).chain(tower).collect()
    }

    fn watchtower(&self) -> Option<Arc<dyn Watchtower>> {
        self.watchtower.clone().map(|tower| tower as Arc<dyn Watchtower>)
    }

    fn is_tower_only(&self) -> bool {
        self.config.tower.as_ref().is_some_and(|tower| tower.alone)
    }

    fn stop(&self) {
        self.stopping.cancel();
    }
}
