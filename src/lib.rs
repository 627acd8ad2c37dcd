//! Leyden: a Lightning node that carries its own proof-of-work chain.

#![warn(missing_docs)]

mod address;
mod admission;
mod api;
pub mod bench;
mod callers;
pub mod config;
mod counters;
pub mod daemon;
mod driver;
mod host;
mod jsonrpc;
mod lightning;
mod limits;
pub mod log_level;
mod macaroon;
mod metrics;
mod parallel;
mod request_room;
mod rest;
mod rpc;
mod sibling;
mod store;
mod tls;
mod tower;
mod wallet;
mod web;
mod zmq;

pub use leyden_common::words;

/// What the tests of the whole system look at without a daemon.
pub mod inside {
    pub use crate::{driver::onchain::rejection, store::Store, wallet::seed};
}
