//! From a configuration to a clean end.

use std::{
    fs::{File, TryLockError},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};

use leyden_node::{Clock, Node, NodeConfig, NodeError, PruneConfig};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, error, info, info_span, warn};

use super::{
    CallerSlots, LeydenDaemon, NodeCell, Parts, Place, Shared, announcement::Announcement, descriptors,
    metrics::MetricsListener, private, rest::RestListener, tip, tokens, watchtower::WatchtowerFacade,
};
use crate::{
    api::{ApiError, Daemon},
    config::Config,
    driver::runtime::WALLET_NEEDS,
    host::HostNames,
    jsonrpc,
    limits::Descriptors,
    macaroon::RootKey,
    metrics::RecorderError,
    rpc::{self, Authorizer, ServeError, ServeOptions, Services},
    tls,
    tower::{TOWER_NEEDS, TowerStartError},
    wallet::seed,
    zmq::{BindError, Notifier, Publisher},
};

/// What the end may take in all.
const STOP_LIMIT: Duration = Duration::from_secs(4);

/// Why the daemon does not start, or stops.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum RunError {
    #[error("another leydend runs on {0}: stop it (`leyden stop`), or give this one its own --data-dir")]
    AlreadyRunning(PathBuf),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "this process may have {limit} files and connections open, and needs {least} at least: allow it more (`ulimit -n 1024`, \
         or LimitNOFILE= of its service)"
    )]
    TooFewDescriptors { limit: u64, least: u64 },
    #[error("cannot listen for gRPC on {address}: {source}. Choose another address with --rpc-listen")]
    RpcListen { address: SocketAddr, source: io::Error },
    #[error(
        "cannot serve REST on {address}: {source}. Choose another address with --rest-listen, or leave it out with --no-rest"
    )]
    RestListen { address: SocketAddr, source: io::Error },
    #[error("cannot serve JSON-RPC on {address}: {source}. Choose another address with --bitcoin-rpc")]
    BitcoinRpcListen { address: SocketAddr, source: io::Error },
    #[error("cannot publish over ZeroMQ on tcp://{address}: {source}. Choose another address with --zmqpub{topic}")]
    ZmqListen { topic: &'static str, address: SocketAddr, source: io::Error },
    #[error("cannot serve metrics on {address}: {source}. Choose another address with --metrics")]
    MetricsListen { address: SocketAddr, source: io::Error },
    #[error("metrics cannot be recorded: {0}")]
    Recorder(#[from] RecorderError),
    #[error("{error}; the address is set with --{flag}")]
    ChainListen { error: NodeError, flag: &'static str },
    #[error(transparent)]
    Node(NodeError),
    #[error("network {network}: {error}")]
    Second { network: String, error: NodeError },
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Tower(#[from] TowerStartError),
    #[error("{0}")]
    Wallet(ApiError),
    #[error("{0}")]
    Fatal(String),
}

/// Runs until SIGTERM, SIGINT, `leyden stop` or a failure that makes going on unsafe.
pub async fn run(config: Config) -> Result<(), RunError> {
    let started = SystemTime::now();
    private::mask_new_files();
    let networks = if config.also.is_some() { 2 } else { 1 };
    let descriptors = descriptors::prepare(networks)?;
    let layout = config.layout.clone();
    let at = |path: PathBuf| move |source| RunError::Io { path, source };
    std::fs::create_dir_all(layout.root()).map_err(at(layout.root().to_owned()))?;
    let lock = File::create(layout.lock()).map_err(at(layout.lock()))?;
    match private::lock(&lock).await {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(RunError::AlreadyRunning(layout.root().to_owned())),
        Err(TryLockError::Error(source)) => return Err(at(layout.lock())(source)),
    }
    private::tighten(&layout).map_err(at(layout.root().to_owned()))?;
    // What an earlier run left would name addresses that nobody listens on.
    let _ = std::fs::remove_file(layout.running());

    let address = config.rpc_listen;
    let listener = TcpListener::bind(address).await.map_err(|source| RunError::RpcListen { address, source })?;
    let rpc_address = listener.local_addr().map_err(|source| RunError::RpcListen { address, source })?;
    let rest = RestListener::open(&config).await?;
    let metrics = MetricsListener::open(&config).await?;
    let metrics_address = metrics.as_ref().map(|metrics| metrics.address);
    let config = Config { rpc_listen: rpc_address, metrics: metrics_address, ..config };
    let mut config = config;
    match (&mut config.rest, &rest) {
        (Some(settings), Some(rest)) => settings.listen = rest.address,
        _ => config.rest = None,
    }
    let identity = tls::open(&layout, rpc_address, &config.tls_extra).map_err(at(layout.tls_certificate()))?;
    rpc::check_tls(&identity)?;
    let rest = rest.map(|rest| rest.with_tls(&identity)).transpose()?;
    let root_key = Arc::new(RootKey::open(&layout.macaroon_root_key()).map_err(at(layout.macaroon_root_key()))?);

    let second = config.also.take().map(|also| *also);
    let node = start_node(&config, descriptors, "chain-listen").await?;
    let height = node.tip().height;
    info!(network = %config.params.name, height, rpc = %rpc_address, "leydend is running");
    let second = match second {
        None => None,
        Some(second) => match start_node(&second, descriptors, "also-chain-listen").await {
            Ok(its_node) => {
                info!(network = %second.params.name, height = its_node.tip().height, "leydend is on this network, too");
                Some((second, its_node))
            }
            Err(error) => {
                node.shutdown().await;
                return Err(match error {
                    RunError::Node(error) => RunError::Second { network: second.params.name, error },
                    error => error,
                });
            }
        },
    };

    let stopping = CancellationToken::new();
    let second_config = second.as_ref().map(|(second, its_node)| (second, its_node));
    for (config, node) in [(&config, &node)].into_iter().chain(second_config) {
        let log = tip::log_doubts(node.clone(), tip::Duties::of(config), stopping.clone());
        // Of one network alone the log need not tell which.
        let span = if second.is_some() { info_span!("chain", network = %config.params.name) } else { Span::none() };
        tokio::spawn(log.instrument(span));
    }
    let slots = CallerSlots::new(descriptors);
    let publisher = Publisher::bind(&config.zmq).await.map_err(|BindError { notifier, source }| {
        RunError::ZmqListen { topic: notifier.topic.name(), address: notifier.address, source }
    })?;
    config.zmq = publisher.notifiers().to_vec();
    for Notifier { topic, address } in &config.zmq {
        info!(topic = topic.name(), %address, "published over ZeroMQ");
        if !address.ip().is_loopback() {
            warn!(%address, "whoever reaches this address can read which transactions this node sees, and when");
        }
    }
    publisher.serve(&node, &slots.zmq, &stopping);
    let names = HostNames::new(&config.tls_extra);
    if let Some(address) = config.bitcoin_rpc {
        let cookie = layout.bitcoin_rpc_cookie();
        let access = jsonrpc::Access::open(&cookie, config.bitcoin_rpc_auth.as_deref()).map_err(at(cookie))?;
        let listen = TcpListener::bind(address).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = listen.map_err(|source| RunError::BitcoinRpcListen { address, source })?;
        info!(%address, "Bitcoin Core's JSON-RPC is served");
        config.bitcoin_rpc = Some(address);
        if !address.ip().is_loopback() {
            warn!("the JSON-RPC is open to other machines and not encrypted");
        }
        let rest = config.chain_rest.then(|| names.clone());
        let service = jsonrpc::Service { node: node.clone(), access, notifiers: config.zmq.clone(), rest };
        tokio::spawn(jsonrpc::serve(service, listener, slots.jsonrpc.clone(), stopping.clone()));
    }
    let (fatal, mut fatals) = mpsc::unbounded_channel();
    let tower = WatchtowerFacade::start(&config, &node, descriptors, fatal.clone(), stopping.clone()).await;
    let tower = match tower {
        Ok(tower) => tower,
        Err(error) => {
            stopping.cancel();
            node.shutdown().await;
            if let Some((_, its_node)) = &second {
                its_node.shutdown().await;
            }
            return Err(error);
        }
    };
    if config.tower.as_ref().is_some_and(|tower| tower.alone) {
        // With a wallet they come with it. Whoever finds the address finds what opens it.
        tokens::write(&layout, &root_key).map_err(at(layout.root().to_owned()))?;
    }
    let tower_listen = tower.as_ref().map(WatchtowerFacade::listen);
    let announcement = Announcement::new(&config, &node, tower_listen, second.as_ref());
    announcement.write().map_err(at(layout.running()))?;
    let shared = Shared {
        root_key: Arc::clone(&root_key),
        opening: Arc::default(),
        passwords: Arc::default(),
        stopping: stopping.clone(),
        slots: slots.clone(),
        announcement,
    };
    let (cell, second_cell) = (NodeCell::default(), NodeCell::default());
    let cells = [Arc::clone(&cell), Arc::clone(&second_cell)];
    let second_name = second.as_ref().map(|(second, _)| second.params.name.clone());
    let first_name = config.params.name.clone();
    let second_node = second.as_ref().map(|(config, node)| (config.params.name.clone(), node.clone()));
    let second = second.map(|(config, node)| {
        let fatal = named(&config.params.name, fatal.clone());
        let other = Some((first_name, Arc::clone(&cell)));
        let (cell, place) = (Arc::clone(&second_cell), Place::Second);
        let parts = Parts { config, node, fatal, descriptors, watchtower: None, cell, other, place };
        Arc::new(LeydenDaemon::new(parts, shared.clone()))
    });
    let place = Place::First(second.clone());
    let (node_here, other) = (node.clone(), second_name.map(|name| (name, second_cell)));
    let parts = Parts { config, node: node_here, fatal, descriptors, watchtower: tower, cell, other, place };
    let daemon = Arc::new(LeydenDaemon::new(parts, shared));
    for one in [Some(&daemon), second.as_ref()].into_iter().flatten() {
        one.keep_for_other().await.map_err(RunError::Node)?;
    }
    let networks: Vec<Arc<dyn Daemon>> =
        [Some(Arc::clone(&daemon)), second].into_iter().flatten().map(|one| one as Arc<dyn Daemon>).collect();
    if let Some(metrics) = metrics {
        tokio::spawn(metrics.serve(networks.clone(), started, (slots.metrics.clone(), names), stopping.clone()));
    }
    let authorizer = Authorizer::Macaroons(root_key);
    let services = Services::new(networks, authorizer, stopping.clone()).await?;
    let rest = rest.map(|rest| tokio::spawn(rest.serve(services.clone(), slots.rest.clone(), stopping.clone())));
    let mut serving = tokio::spawn(rpc::serve(ServeOptions {
        services,
        tls: Some(identity),
        listener,
        slots: slots.grpc,
        stopping: stopping.clone(),
    }));

    let mut has_ended = false;
    let result = match daemon.open_unattended().await {
        Err(error) => Err(RunError::Wallet(error)),
        Ok(()) => tokio::select! {
            () = terminated() => Ok(()),
            () = stopping.cancelled() => Ok(()),
            message = fatals.recv() => Err(RunError::Fatal(message.unwrap_or_default())),
            // Without blocks nothing of a closed channel would be claimed in time.
            error = node.halted() => Err(RunError::Node(error)),
            error = halted(second_node.as_ref()) => Err(error),
            // Nobody could talk to the node any more, or stop it.
            ended = &mut serving => {
                has_ended = true;
                match ended {
                    Ok(Err(error)) => Err(error.into()),
                    Ok(Ok(())) => Ok(()),
                    Err(error) => Err(RunError::Fatal(format!("the gRPC server has ended: {error}"))),
                }
            }
        },
    };
    if let Err(error) = &result {
        error!(%error, "stopping");
    } else {
        info!("stopping");
    }
    stopping.cancel();
    let _ = std::fs::remove_file(layout.running());
    let _ = std::fs::remove_file(layout.bitcoin_rpc_cookie());
    let end = async {
        // One that has ended must not be asked again.
        let served = if has_ended { None } else { Some(serving.await) };
        if let Some(rest) = rest {
            let _ = rest.await;
        }
        node.shutdown().await;
        if let Some((_, its_node)) = &second_node {
            its_node.shutdown().await;
        }
        served
    };
    match timeout(STOP_LIMIT, end).await {
        Ok(Some(Ok(Err(error)))) if result.is_ok() => return Err(error.into()),
        Ok(_) => {}
        Err(_) => info!("not all tasks ended in time; everything committed is safe"),
    }
    // Two networks hold each other: their databases close once they do not.
    for cell in cells {
        *cell.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
    drop(lock);
    result
}

/// The chain of one network. `listen_flag` sets where its nodes are listened to.
async fn start_node(config: &Config, descriptors: Descriptors, listen_flag: &'static str) -> Result<Node, RunError> {
    let mut node_config = NodeConfig::new(config.params.clone(), config.layout.chain_database());
    node_config.listen = Some(config.chain_listen);
    node_config.database_files = descriptors.chain_files();
    node_config.max_inbound = descriptors.chain_inbound(node_config.max_inbound);
    node_config.connect = config.chain_connect.clone();
    if let Some(seconds) = config.clock_shift {
        warn!(seconds, "the clock is shifted on purpose");
        node_config.clock = Clock::Shifted(seconds);
    } else if config.params.name == "regtest" {
        // For those who test: the JSON-RPC can set it.
        node_config.clock = Clock::mockable();
    }
    node_config.filters = config.block_filters;
    node_config.light = config.light;
    if let Some(megabytes) = config.max_mempool {
        node_config.policy.max_memory_bytes = usize::from(megabytes) << 20;
    }
    node_config.prune = prune_config(config);
    node_config.assume_valid = config.assume_valid;
    Node::start(node_config).await.map_err(|error| match error {
        NodeError::Network(_) => RunError::ChainListen { error, flag: listen_flag },
        error => RunError::Node(error),
    })
}

/// When the chain of the second network can go on no more; never, if there is none.
async fn halted(second: Option<&(String, Node)>) -> RunError {
    match second {
        Some((network, node)) => RunError::Second { network: network.clone(), error: node.halted().await },
        None => std::future::pending().await,
    }
}

/// Ends the process as `fatal` does, with the name of the network before what it says.
fn named(network: &str, fatal: mpsc::UnboundedSender<String>) -> mpsc::UnboundedSender<String> {
    let (sender, mut messages) = mpsc::unbounded_channel::<String>();
    let network = network.to_owned();
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            let _ = fatal.send(format!("network {network}: {message}"));
        }
    });
    sender
}

/// What is given up of old blocks: nothing before the wallet that there is, and the watchtower, have said what they need.
fn prune_config(config: &Config) -> Option<PruneConfig> {
    let target_bytes = config.prune?;
    let alone = config.tower.as_ref().is_some_and(|tower| tower.alone);
    // A password that needs no person opens one, and makes it if there is none.
    let unattended = config.no_wallet_password || config.wallet_password_file.is_some();
    let wallet = !alone && (unattended || seed::exists(&config.layout.wallet_seed()));
    let wait_for = [(wallet, WALLET_NEEDS), (config.tower.is_some(), TOWER_NEEDS)];
    Some(PruneConfig {
        target_bytes,
        wait_for: wait_for.into_iter().filter_map(|(is_there, consumer)| is_there.then_some(consumer)).collect(),
    })
}

/// Resolves at SIGTERM or SIGINT.
async fn terminated() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    #[cfg(not(unix))]
    {
        let _ = tokio::signal::ctrl_c().await;
    }
}
