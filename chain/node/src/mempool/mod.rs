//! Transactions that are valid on top of the tip and wait for a block.
//!
//! ```text
//!   transaction ─▶ accept: rules, policy, fees, conflicts, scripts ─▶ Plan { entry, replaced }
//!                                                                        │ applied only if all of it holds
//!   package ─────▶ package: parents that need their child's fee          ▼
//!                                                                      pool: the graph of spends, with sums over
//!   block ───────▶ pool.confirm: leave, with all that conflicts          ancestors and descendants
//!                                                                        │ too much memory
//!                                                                        ▼
//!                                                                      eviction: what pays least, and a higher minimum
//! ```
//!
//! What it promises: the pool's transactions can all be mined together; none spends an output twice; sums over
//! ancestors and descendants are exact. The policy limits only what is kept and relayed, never what a block may hold.

pub mod accept;
pub mod diagram;
pub mod eviction;
pub mod fees;
pub mod file;
mod floor;
pub mod package;
pub mod policy;
pub mod pool;
mod priorities;
pub mod rate;
pub mod replace;
pub mod standard;
pub mod truc;

pub use accept::{Acceptor, Plan};
pub use fees::FeeEstimator;
pub use policy::MempoolPolicy;
pub use pool::{Entry, Mempool, Totals};
pub use rate::Rate;
