//! Leyden: a Lightning node that carries its own proof-of-work chain.

pub mod address;
pub mod admission;
pub mod api;
pub mod callers;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod driver;
pub mod jsonrpc;
pub mod lightning;
pub mod limits;
pub mod macaroon;
pub mod rpc;
pub mod store;
pub mod tls;
pub mod wallet;
pub mod words;
