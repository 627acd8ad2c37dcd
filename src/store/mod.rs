//! What survives a crash: one RocksDB for wallet, channels, invoices and payments.
//!
//! ```text
//!   core     channels, settlements, payments, invoices, towers, under the keys of the pure cores
//!   wallet   change sets of the on-chain wallet, by a counter
//!   peer     where peers with channels were last reached, by node id
//!   history  what is kept for people alone: closed channels, labels of transactions; leases of coins
//!   gossip   what the network has told, the messages as they came
//!   learnt   what payments have taught about channels
//!   meta     the format version and the node id that this data belongs to
//! ```
//!
//! Every write is synced before it returns, but those of gossip and learnt. A database of a newer program, of another node, or that is damaged or held
//! by another process is named as such.
//!
//! A watchtower's rows are in a database of their own: see [`TowerStore`].

mod announced;
mod cause;
mod closed;
mod directory;
mod invoice_number;
mod key;
mod leases;
mod lent;
mod payment_numbers;
mod peer_storage;
mod plain;
mod rocks;
mod tower;

pub(crate) use announced::ChangedAnnouncement;
pub(crate) use cause::CloseCause;
pub(crate) use closed::{ClosedChannel, ClosureType, ResolvedKind, ResolvedOutput};
pub(crate) use key::{CROSSING, CROSSING_RATE, CoreKey, SUBMARINE, SWAP};
pub use rocks::Store;
pub(crate) use rocks::{StoreError, Table};
pub(crate) use tower::TowerStore;
