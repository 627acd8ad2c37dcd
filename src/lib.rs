//! Leyden: a Lightning node that carries its own proof-of-work chain.

pub mod address;
pub mod admission;
pub mod api;
pub mod bench;
pub mod callers;
pub mod config;
pub mod counters;
pub mod daemon;
pub mod driver;
pub mod jsonrpc;
pub mod lightning;
pub mod limits;
pub mod macaroon;
pub mod metrics;
pub mod rpc;
pub mod sibling;
pub mod store;
pub mod tls;
pub mod tower;
pub mod wallet;
pub mod zmq;

pub use leyden_common::words;
