//! Where the pure cores meet sockets, disk and clock: one task a peer, one thread that commits, and what brings them up.

mod allowance;
mod background;
mod backoff;
pub mod backup;
pub mod cause;
pub mod chain;
pub mod closed;
pub mod committer;
pub mod connection;
pub mod events;
pub mod fee_bump;
mod feerates;
mod funding;
pub mod gossip;
pub mod onchain;
pub mod payment_times;
pub mod peer;
pub mod peers;
mod rebroadcast;
pub mod routing;
pub mod runtime;
pub mod services;
mod strangers;
pub mod swaps;
pub mod switch;
pub mod towers;
pub mod uncommitted;
