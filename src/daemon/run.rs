//! From a configuration to a clean end.

use std::{
    fs::{File, TryLockError},
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use leyden_common::files::write_new;
use leyden_node::{Clock, Node, NodeConfig, NodeError, PruneConfig};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    CallerSlots, LeydenDaemon, descriptors, metrics::MetricsListener, private, rest::RestListener, tip, tokens,
    watchtower::WatchtowerFacade,
};
use crate::{
    api::ApiError,
    config::{Config, Running},
    driver::runtime::WALLET_NEEDS,
    host::HostNames,
    jsonrpc,
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
         or LimitNOFILE= of its service)",
        least = descriptors::LEAST
    )]
    TooFewDescriptors { limit: u64 },
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
    #[error("{0}; the address is set with --chain-listen")]
    ChainListen(NodeError),
    #[error(transparent)]
    Node(NodeError),
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
    let descriptors = descriptors::prepare()?;
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

    let mut node_config = NodeConfig::new(config.params.clone(), layout.chain_database());
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
    node_config.prune = prune_config(&config);
    node_config.assume_valid = config.assume_valid;
    let node = Node::start(node_config).await.map_err(|error| match error {
        NodeError::Network(_) => RunError::ChainListen(error),
        error => RunError::Node(error),
    })?;
    info!(network = %config.params.name, height = node.tip().height, rpc = %rpc_address, "leydend is running");

    let stopping = CancellationToken::new();
    tokio::spawn(tip::log_doubts(node.clone(), tip::Duties::of(&config), stopping.clone()));
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
            return Err(error);
        }
    };
    if config.tower.as_ref().is_some_and(|tower| tower.alone) {
        // With a wallet they come with it. Whoever finds the address finds what opens it.
        tokens::write(&layout, &root_key).map_err(at(layout.root().to_owned()))?;
    }
    announce(&config, &node, None, tower.as_ref().map(WatchtowerFacade::listen)).map_err(at(layout.running()))?;
    let daemon = Arc::new(LeydenDaemon::new(
        config,
        node.clone(),
        Arc::clone(&root_key),
        fatal,
        stopping.clone(),
        descriptors,
        slots.clone(),
        tower,
    ));
    if let Some(metrics) = metrics {
        let daemon = Arc::clone(&daemon) as Arc<dyn crate::api::Daemon>;
        tokio::spawn(metrics.serve(daemon, started, (slots.metrics.clone(), names), stopping.clone()));
    }
    let authorizer = Authorizer::Macaroons(root_key);
    let services = Services::new(Arc::clone(&daemon) as Arc<dyn crate::api::Daemon>, authorizer, stopping.clone());
    let services = services.await?;
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
        served
    };
    match timeout(STOP_LIMIT, end).await {
        Ok(Some(Ok(Err(error)))) if result.is_ok() => return Err(error.into()),
        Ok(_) => {}
        Err(_) => info!("not all tasks ended in time; everything committed is safe"),
    }
    drop(lock);
    result
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

/// Tells clients on this machine where the daemon listens.
pub(super) fn announce(
    config: &Config,
    node: &Node,
    listen: Option<SocketAddr>,
    tower: Option<SocketAddr>,
) -> io::Result<()> {
    let running = Running {
        pid: std::process::id(),
        network: config.params.name.clone(),
        rpc: config.rpc_listen,
        listen,
        chain_listen: node.local_address(),
        bitcoin_rpc: config.bitcoin_rpc,
        rest: config.rest.as_ref().map(|rest| rest.listen),
        tower,
        metrics: config.metrics,
    };
    write_new(&config.layout.running(), &serde_json::to_vec_pretty(&running).map_err(io::Error::other)?)
}
