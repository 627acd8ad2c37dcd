//! The script interpreter against Bitcoin Core's vectors, real blocks, known traps and random input.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod core_vectors;
mod digests;
mod observer;
mod random;
mod real_blocks;
mod support;
mod taproot_vectors;
mod traps;
mod traps_witness;
