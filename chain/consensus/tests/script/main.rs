//! The script interpreter against Bitcoin Core's vectors, real blocks, known traps and random input.

mod core_vectors;
mod digests;
mod random;
mod real_blocks;
mod support;
mod taproot_vectors;
mod traps;
mod traps_witness;
