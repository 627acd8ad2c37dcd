//! A watchtower beside the node, or alone: where the pure tower of `leyden-watchtower` meets sockets, disk, chain and clock.
//!
//! ```text
//!   client ──BOLT 8──► connection ──┐                                                ┌──► connection: signs, answers
//!   client ──BOLT 8──► connection ──┼─► queue ─► worker: Tower, one synced write ────┼──► broadcaster ──► mempool
//!   blocks, mempool ─► follower ────┘               ▲ one thread, many jobs a write  └──► follower: blocks to read again
//!                                                   └──────── refused broadcasts ◄── broadcaster
//! ```
//!
//! - One thread ([`worker`]) owns the state machine and its database. It takes the jobs that wait, commits what they led to in one
//!   synced write, and only then hands on the effects: the more clients, the more share an fsync. Signing receipts and
//!   encryption are done by the connections' tasks, broadcasts by a task of their own, so no client and no mempool keeps a block waiting.
//! - [`follower`]: blocks come at least once, from the one that the tower has processed on. One that cannot be read is tried again until
//!   it can; nothing is passed over.
//! - [`listener`], [`connection`]: who is let in, and what one connection may cost. Bounds are in [`crate::limits`]; what a client may
//!   make the tower store is in `leyden_watchtower::session`.
//!
//! The tower's key lies in a file of its own ([`key`]) and not in the node's seed: a tower guards from the moment the daemon runs,
//! also while the wallet is locked, and `--tower-only` has no wallet at all. It guards no money; who has it can be taken for this
//! tower by its clients. A lost one makes them register anew.
//!
//! Promises: those of `leyden_watchtower::tower`. A failed write ends the process, since memory would be ahead of the disk.

mod broadcaster;
mod connection;
mod follower;
pub(crate) mod key;
mod listener;
mod notices;
mod worker;

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use bitcoin::constants::ChainHash;
use leyden_channels::{onchain::EnforcementPolicy, types::Height};
use leyden_node::{Needed, Node, NodeError, TimeBudget};
use leyden_watchtower::{
    message::TowerFeatures,
    session::{Admission, Limits},
    tower::{Config, PenaltyReport, Stats, Tower, TowerError},
};
use secp256k1::{PublicKey, SecretKey};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    admission::ConnectionSlots,
    driver::vital::Vital,
    limits::{LimitUse, SlotLimits, TOWER_HANDSHAKES_TIME, TOWER_STRANGERS_TIME},
    store::{StoreError, TowerStore},
    words::LogBudget,
};
use listener::Door;
use worker::{Job, Worker};

/// Jobs that may wait for the worker. Clients whose jobs do not fit are not read on; a block waits for those before it, some 20 µs
/// each.
const QUEUE: usize = 4_096;

/// How many lines of the log clients and strangers may cause together in a minute.
const LINES_PER_MINUTE: u32 = 60;

/// Under which name the watchtower says which blocks it needs.
pub(crate) const TOWER_NEEDS: &str = "watchtower";

#[derive(Debug, thiserror::Error)]
pub enum TowerStartError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the watchtower's database cannot be understood: {0}. Its rows are left as they are")]
    Tower(#[from] TowerError),
    #[error(
        "cannot listen for a watchtower's clients on {address}: {source}. Choose another address with --tower-listen"
    )]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the watchtower's hints could not be read: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

/// What a tower needs to start.
pub(crate) struct Setup {
    pub key: SecretKey,
    pub node: Node,
    pub store: TowerStore,
    pub listen: SocketAddr,
    /// Who may be a client.
    pub admission: Admission,
    pub limits: Limits,
    /// How many connections there is room for.
    pub connections: SlotLimits,
    /// Ends the process with this message.
    pub fatal: mpsc::UnboundedSender<String>,
    pub stopping: CancellationToken,
}

/// The running tower.
pub(crate) struct TowerServer {
    pub listen: SocketAddr,
    pub key: PublicKey,
    pub admission: Admission,
    jobs: mpsc::Sender<Job>,
    door: Arc<Door>,
}

/// What the tower guards, for people.
#[derive(Clone, Debug)]
pub(crate) struct TowerReport {
    /// The last block that everything was looked at in; `None` before the first.
    pub tip: Option<Height>,
    pub stats: Stats,
    /// Clients that are connected.
    pub connected: usize,
    /// Breaches whose penalties are not final.
    pub penalties: Vec<PenaltyReport>,
    /// What cannot be enforced until a person has looked at it, and why.
    pub broken: Vec<String>,
}

/// Ends the process if `what` panics: whoever relies on this tower must not believe that it guards.
fn vital(what: &str, fatal: &mpsc::UnboundedSender<String>) -> Vital<impl FnMut(String) + use<>> {
    let fatal = fatal.clone();
    Vital::new(what, move |why| drop(fatal.send(why)))
}

impl TowerServer {
    pub(crate) async fn start(setup: Setup) -> Result<Self, TowerStartError> {
        let Setup { key, node, store, listen, admission, limits, connections, fatal, stopping } = setup;
        let failed = |source| TowerStartError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let listen = listener.local_addr().map_err(failed)?;
        let public = key.public_key(secp256k1::SECP256K1);
        let own = if admission.listed.is_empty() { TowerFeatures::default() } else { TowerFeatures::OWN };
        let config = Config {
            chain: ChainHash::from_genesis_block_hash(node.params().genesis_hash),
            key: public,
            features: TowerFeatures::BLIND.with(own),
            admission: admission.clone(),
            limits: limits.clone(),
        };
        let (store, tower) = tokio::task::spawn_blocking(move || {
            let lookout = leyden_watchtower::lookout::Lookout::load(store.hints()?);
            let tower = Tower::restore(config, lookout, &store)?;
            Ok::<_, TowerStartError>((store, tower))
        })
        .await??;
        let stats = tower.stats();
        for (slot, error) in tower.broken() {
            error!(channel = slot.0, %error, "a channel cannot be guarded, and takes no more backups: report this");
        }
        info!(%listen, key = %public, clients = stats.clients, states = stats.states, "the watchtower is running");
        notices::log_turned_away(&tower, &admission);

        let (jobs, queue) = mpsc::channel(QUEUE);
        let (broadcasts, to_broadcast) = mpsc::unbounded_channel();
        let (rereads, to_reread) = mpsc::unbounded_channel();
        let policy = EnforcementPolicy::default();
        let worker = Worker::new(tower, store, node.clone(), policy, queue, broadcasts, rereads);
        // One of tokio's blocking threads: the end of the runtime waits for it, because RocksDB cannot be closed while the process exits.
        let failed = fatal.clone();
        let of_worker = vital("the watchtower", &fatal);
        let of_follower = vital("the watchtower's look at the chain", &fatal);
        tokio::task::spawn_blocking(move || {
            let _held = of_worker;
            if let Err(error) = worker.run() {
                let _ = failed.send(error.to_string());
            }
        });
        let door = Arc::new(Door {
            secret: key,
            limits,
            slots: ConnectionSlots::new(connections),
            strangers_time: TimeBudget::new(TOWER_STRANGERS_TIME),
            handshakes_time: TimeBudget::new(TOWER_HANDSHAKES_TIME),
            log: LogBudget::new(LINES_PER_MINUTE),
            next: AtomicU64::new(0),
        });
        let (waiting, stop) = (jobs.clone(), stopping.clone());
        tokio::spawn(async move {
            stop.cancelled().await;
            // It may have ended by itself.
            let _ = waiting.send(Job::Stop).await;
        });
        let listening = listener::listen(listener, Arc::clone(&door), jobs.clone());
        tokio::spawn(stopping.clone().run_until_cancelled_owned(listening));
        let broadcasting = broadcaster::run(node.clone(), to_broadcast, jobs.clone());
        tokio::spawn(stopping.clone().run_until_cancelled_owned(broadcasting));
        let needed_from = Arc::new(AtomicU32::new(0));
        let from = Arc::clone(&needed_from);
        let keeper = move || Ok(Needed { from: from.load(Ordering::Acquire), blocks: BTreeSet::new() });
        node.keep_blocks_for(TOWER_NEEDS, Arc::new(keeper)).await?;
        let following = follower::follow(node, to_reread, jobs.clone(), needed_from);
        tokio::spawn(stopping.run_until_cancelled_owned(async move {
            of_follower.hold(following).await;
            // Whoever relies on this tower must not believe that it guards.
            let _ = fatal.send("the watchtower has ended, and sees no more blocks".to_owned());
        }));
        Ok(Self { listen, key: public, admission, jobs, door })
    }

    /// `None` while the daemon is stopping.
    pub(crate) async fn report(&self) -> Option<TowerReport> {
        let (answer, report) = oneshot::channel();
        self.jobs.send(Job::Report(answer)).await.ok()?;
        report.await.ok()
    }

    /// What clients may make the daemon hold, and how much of that is used.
    pub(crate) fn limits(&self) -> impl Iterator<Item = LimitUse> + use<> {
        let strangers =
            "milliseconds of processor time spent for connections that are not registered; more has to wait";
        let handshakes =
            "milliseconds of processor time spent for handshakes of a watchtower's clients; more has to wait";
        let times = [
            LimitUse::of_time("tower.strangers_time", &self.door.strangers_time, strangers),
            LimitUse::of_time("tower.handshakes_time", &self.door.handshakes_time, handshakes),
        ];
        self.door.slots.limits("tower.strangers", "tower.allowed").into_iter().chain(times)
    }
}
