//! What a node is started with.

use std::net::SocketAddr;
use std::path::PathBuf;

use bitcoin::BlockHash;
use leyden_consensus::Params;

use crate::clock::Clock;
use crate::mempool::MempoolPolicy;
use crate::pruner::PruneConfig;
use crate::store::{OPEN_FILES, UnflushedLimits, WriteHook};

/// Settings of a [`Node`](crate::Node).
#[derive(Clone)]
pub struct NodeConfig {
    /// The network's rules.
    pub params: Params,
    /// The database goes into its folder `chain`.
    pub data_dir: PathBuf,
    /// Only headers, and what concerns this node: see `light`. The database goes into its folder `light` then.
    pub light: bool,
    /// Is there any networking?
    pub network: bool,
    /// Where to wait for peers; nowhere if it is `None`.
    pub listen: Option<SocketAddr>,
    /// Peers to keep a connection to.
    pub connect: Vec<SocketAddr>,
    /// Connections that are opened to addresses that peers tell of.
    pub max_outbound: usize,
    /// Connections that others may open to us.
    pub max_inbound: usize,
    /// What the mempool takes and relays.
    pub policy: MempoolPolicy,
    /// Where the node's time comes from.
    pub clock: Clock,
    /// Outpoints kept in memory, at some 150 bytes each.
    pub coins_in_memory: usize,
    /// How far the coins on the disk may be behind the tip.
    pub unflushed: UnflushedLimits,
    /// Memory for the database's own cache.
    pub database_cache_bytes: usize,
    /// Whether blocks get filters (BIP 158), which are served to light clients (BIP 157).
    pub filters: bool,
    /// How many files the database may keep open.
    pub database_files: u32,
    /// Which blocks are given up; `None`: none.
    pub prune: Option<PruneConfig>,
    /// A block up to which scripts are taken as valid.
    pub assume_valid: Option<BlockHash>,
    /// `false` lets the operating system decide when writes reach the disk. Only for tests.
    pub sync_writes: bool,
    /// Fails writes, for tests of crashes.
    pub write_hook: Option<WriteHook>,
}

impl NodeConfig {
    /// The defaults: no listening, no peers, Bitcoin Core's policy.
    pub fn new(params: Params, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            params,
            data_dir: data_dir.into(),
            light: false,
            listen: None,
            network: true,
            connect: Vec::new(),
            max_outbound: 8,
            max_inbound: 117,
            policy: MempoolPolicy::default(),
            clock: Clock::System,
            coins_in_memory: 500_000,
            unflushed: UnflushedLimits::default(),
            database_cache_bytes: 64 << 20,
            filters: true,
            database_files: OPEN_FILES,
            prune: None,
            assume_valid: None,
            sync_writes: true,
            write_hook: None,
        }
    }
}
