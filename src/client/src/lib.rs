//! `leyden`, the client: the command line ([`cli`]), the connection to a daemon that other programs may use too
//! ([`client`]), and real daemons in processes of their own ([`cluster`]) that play the demos ([`demo`]), run the
//! benchmarks and show what the papers tell of ([`lab`]). It holds no wallet, no chain and no database: all of that is
//! `leydend`'s.

#![warn(missing_docs)]

pub mod cli;
pub mod client;
pub mod cluster;
pub mod demo;
pub mod lab;
