//! The node, full or [`light`]: everything between the pure rules of `leyden-consensus` and the daemon.
//!
//! ```text
//!   peers ── driver ──▶ Backend ──▶ chainstate ──▶ one atomic batch: coins, undo, indexes, tip ──▶ RocksDB
//!                          │            │
//!                          ▼            ▼
//!   wallet, channels ─▶ Node ◀── notices: every block connected or disconnected, in order, at least once
//!                          │
//!                          ▼
//!                       mempool ──▶ template ──▶ miner
//! ```
//!
//! What it promises:
//! * The stored state is always that of exactly one tip. A crash at any instant leaves the tip before or the tip
//!   after, never something between.
//! * A consumer that remembers the hash of the last block it processed gets every later change, through restarts and
//!   reorganisations.
//! * Nobody who reads notices slowly holds up the chain.

#![warn(missing_docs)]

mod ahead;
pub mod backend;
pub mod bans;
pub mod block_filter;
pub mod chain_control;
pub mod chain_index;
pub mod chainstate;
pub mod clock;
pub mod coin_search;
pub mod coins_cache;
pub mod config;
pub mod core;
pub mod disk_use;
pub mod driver;
pub mod error;
pub mod external_miners;
mod filter_catch_up;
mod filter_index;
mod following;
mod header_rows;
mod history;
pub mod inclusion;
mod light;
mod light_state;
pub mod mempool;
pub mod merkle_proof;
pub mod miner;
pub mod network;
mod node;
pub mod notices;
pub mod prepared;
pub mod prune;
pub mod pruner;
mod roll_forward;
pub mod scripts;
mod step;
pub mod store;
mod sync;
pub mod synthetic;
pub mod template;
pub mod time_budget;
pub mod tip;
pub mod totals;
pub mod types;
pub mod utxo_set;
pub mod verify;
mod waiting_blocks;

pub use backend::{Backend, BlockAccepted, ChainEvent, HeadersAccepted};
pub use bans::{Ban, BanError, BanList, Subnet};
pub use chain_control::{ChainTip, ChainTipStatus};
pub use clock::Clock;
pub use coin_search::{CoinSearch, CoinsFound};
pub use config::NodeConfig;
pub use driver::{Driver, DriverConfig, DriverError};
pub use error::{BlockRejected, HeadersRejected, MempoolError, NodeError, StoreError};
pub use external_miners::{MinerTemplate, ProposalRejected};
pub use inclusion::{InclusionError, InclusionProof};
pub use leyden_net::{BlockState, KnownAddress, TransportKind};
pub use mempool::MempoolPolicy;
pub use merkle_proof::MerkleProof;
pub use network::{ChainPeers, Network};
pub use node::Node;
pub use notices::NoticeStream;
pub use prepared::PreparedBlock;
pub use pruner::{Keeper, LEAST_TARGET_MB, Needed, PruneConfig};
pub use time_budget::{Share, TimeBudget};
pub use tip::TipDoubt;
pub use totals::{Totals, Traffic};
pub use types::{
    Accepted, BlockRef, MempoolEntryInfo, MempoolInfo, MiningStatus, Notice, OutputInfo, PeerInfo, Pings, Relatives,
    RemovalReason, Spend, Tested, Tip, TransactionInfo, UtxoSet,
};
pub use utxo_set::{UtxoSetDigest, UtxoSetHashKind, UtxoSetStats};
pub use verify::{ChainCheck, ChainChecked};
