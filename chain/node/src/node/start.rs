//! How a node starts, and the tasks that run beside it until it stops.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::p2p::Magic;
use tokio::sync::broadcast::error::RecvError;

use crate::backend::ChainEvent;
use crate::bans::BanList;
use crate::config::NodeConfig;
use crate::core::Core;
use crate::driver::{Driver, DriverConfig};
use crate::error::NodeError;
use crate::filter_catch_up;
use crate::light;
use crate::store::{STEP_BYTES, Store, StoreOptions};
use crate::tip::TipRules;

/// How long transactions wait for company on a regtest chain, on average.
const REGTEST_TRICKLE: Duration = Duration::from_millis(100);

/// On a regtest chain blocks come in bursts and nobody else mines: an announcement that was missed is made up for soon.
const REGTEST_REFRESH: Duration = Duration::from_secs(3);

/// And a peer on the same machine that does not answer is asked again soon.
const REGTEST_HEADERS: Duration = Duration::from_secs(15);

/// Where a peer was stopped for a while nobody should wait for a minute after it is back.
const REGTEST_RECONNECT: Duration = Duration::from_secs(2);

/// How long after a fault of its own the following of the chain begins again.
const AFTER_FAULT: Duration = Duration::from_secs(5);

/// So long after the last block its coins are written, so that a node at the tip leaves nothing to a restart.
const REST_BEFORE_FLUSH: Duration = Duration::from_secs(10);

/// Opens the database, or makes it, and loads the chain.
pub(crate) fn open(config: NodeConfig) -> Result<Core, NodeError> {
    let options = StoreOptions {
        path: config.data_dir.join(if config.light { "light" } else { "chain" }),
        cache_bytes: config.database_cache_bytes,
        open_files: config.database_files,
        step_bytes: STEP_BYTES,
        unflushed: config.unflushed,
        filters: config.filters && !config.light,
        prunes: config.prune.is_some(),
        sync: config.sync_writes,
        hook: config.write_hook,
    };
    let store = Arc::new(Store::open(options, &config.params.genesis)?);
    if config.light {
        return Core::open_light(Arc::new(config.params), config.policy, config.clock, store);
    }
    let core =
        Core::open(Arc::new(config.params), config.policy, config.clock, store, config.coins_in_memory, config.prune)?;
    if let Some(hash) = config.assume_valid {
        core.assume_valid(hash);
    }
    Ok(core)
}

pub(super) fn driver_config(config: &NodeConfig, bans: Arc<BanList>) -> DriverConfig {
    let params = &config.params;
    let agent = concat!("/leyden:", env!("CARGO_PKG_VERSION"), "/");
    let mut protocol = if config.light {
        leyden_net::Config::light_node(agent, params.minimum_chain_work)
    } else {
        leyden_net::Config::full_node(agent, params.minimum_chain_work)
    };
    if TipRules::of(params).for_tests {
        // A chain for tests and demos: nobody's privacy is at stake, and people wait for transactions to arrive.
        protocol.timing.trickle_inbound = REGTEST_TRICKLE;
        protocol.timing.trickle_outbound = REGTEST_TRICKLE;
        protocol.timing.headers_refresh = REGTEST_REFRESH;
        protocol.timing.headers = REGTEST_HEADERS;
        if config.light {
            protocol.timing.block = REGTEST_HEADERS;
        }
        protocol.timing.transaction_delay = REGTEST_TRICKLE;
    }
    let magic = Magic::from_bytes(params.magic);
    let defaults = DriverConfig::new(magic, protocol);
    let reconnect_at_most = if TipRules::of(params).for_tests { REGTEST_RECONNECT } else { defaults.reconnect_at_most };
    DriverConfig {
        listen: config.listen,
        connect: config.connect.clone(),
        max_outbound: config.max_outbound,
        address_file: Some(config.data_dir.join("addresses")),
        bans: Some(bans),
        max_inbound: config.max_inbound,
        reconnect_at_most,
        ..defaults
    }
}

/// Has a light node follow the chain. A fault of ours must not end that for good, with nobody to see it.
pub(super) async fn follow_lightly(core: Arc<Core>, driver: Driver) {
    while let Err(error) = tokio::spawn(light::run(Arc::clone(&core), driver.clone())).await {
        if error.is_cancelled() {
            return;
        }
        tracing::error!(%error, "following the chain has failed, which is a fault of this program: it begins again");
        tokio::time::sleep(AFTER_FAULT).await;
    }
}

/// Makes the filters of blocks that have none, on a thread of its own, which nobody waits for.
pub(super) fn make_filters(core: &Arc<Core>) {
    let core = Arc::downgrade(core);
    tokio::task::spawn_blocking(move || {
        let Some(core) = core.upgrade() else { return };
        match filter_catch_up::catch_up(&core) {
            Ok(0) => {}
            Ok(made) => tracing::info!(made, "block filters were made for blocks that had none"),
            Err(NodeError::MissingData(hash)) => tracing::warn!(
                %hash,
                "no block filters are served: those of old blocks cannot be made, since their blocks were pruned"
            ),
            Err(error) => tracing::error!(%error, "block filters cannot be made; none are served"),
        }
    });
}

/// A node that does not have all blocks says so to its peers.
pub(super) fn announcing_limits(mut config: DriverConfig, core: &Core) -> DriverConfig {
    if core.pruner.target_bytes().is_some() || core.store.pruned_below() > 0 {
        config.protocol = config.protocol.pruned();
    }
    config
}

/// Looks with every block whether there is too much, until the node stops.
pub(super) async fn prune_as_it_grows(core: Arc<Core>) {
    if core.pruner.target_bytes().is_none() {
        return;
    }
    let (mut events, _) = core.subscribe();
    let stop = core.shutdown.clone();
    let core = Arc::downgrade(&core);
    loop {
        // Once for all blocks that came meanwhile.
        let woken = tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => event,
        };
        match woken {
            Ok(ChainEvent::Tip(_)) | Err(RecvError::Lagged(_)) => {}
            Ok(ChainEvent::Transaction { .. } | ChainEvent::TransactionRemoved { .. }) => continue,
            Err(RecvError::Closed) => return,
        }
        let Some(core) = core.upgrade() else { return };
        events = core.subscribe().0;
        let pruned = tokio::task::spawn_blocking(move || core.prune()).await;
        match pruned {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "old blocks cannot be pruned"),
            Err(error) => tracing::error!(%error, "pruning has ended"),
        }
    }
}

/// Writes coins once no block has come for a while, until the node stops.
pub(super) async fn flush_when_it_rests(core: Arc<Core>) {
    let (mut events, _) = core.subscribe();
    let stop = core.shutdown.clone();
    let core = Arc::downgrade(&core);
    let mut due: Option<tokio::time::Instant> = None;
    loop {
        let woken = tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => Some(event),
            () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => None,
        };
        match woken {
            Some(Ok(ChainEvent::Tip(_)) | Err(RecvError::Lagged(_))) => {
                due = Some(tokio::time::Instant::now() + REST_BEFORE_FLUSH);
            }
            Some(Ok(ChainEvent::Transaction { .. } | ChainEvent::TransactionRemoved { .. })) => {}
            Some(Err(RecvError::Closed)) => return,
            None => {
                due = None;
                let Some(core) = core.upgrade() else { return };
                // Whoever waits for a failed write hears of it.
                let _ = tokio::task::spawn_blocking(move || core.store.flush_coins()).await;
            }
        }
    }
}
