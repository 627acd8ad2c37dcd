//! The chain's rules against real chains, published vectors, known traps and random chains.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod any_input;
mod bytes;
mod hash_rate_jumps;
mod header_vectors;
mod leyden_difficulty;
mod random_chains;
mod random_header_trees;
mod real_blocks;
mod regtest_chains;
mod support;
mod traps_blocks;
mod traps_coins;
mod traps_headers;
mod whitepaper;
