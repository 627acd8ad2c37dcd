//! Fuzz targets: functions of bytes that panic when a promise of a pure crate is broken.
//!
//! ```text
//!   corpus/<target>/* ──┐
//!   a few mutations  ───┼──► target(bytes) ──► nothing, or a panic that names what was broken
//!   libFuzzer ──────────┘
//! ```
//!
//! Ordinary tests run every file of the corpus and some thousand mutations of them; `make fuzz` lets libFuzzer look for
//! more. The README beside says how, and how to keep what was found.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod blocks;
mod channel_pair;
mod channel_rows;
mod input;
mod invoices;
mod jsonrpc;
pub mod mutation;
mod network_files;
mod onions;
mod p2p_frames;
mod peer_set;
mod records;
mod scripts;
mod wire_messages;

pub use blocks::blocks;
pub use channel_pair::channel_pair;
pub use channel_rows::channel_rows;
pub use invoices::invoices;
pub use jsonrpc::jsonrpc;
pub use network_files::network_files;
pub use onions::onions;
pub use p2p_frames::p2p_frames;
pub use peer_set::peer_set;
pub use records::records;
pub use scripts::scripts;
pub use wire_messages::wire_messages;

/// A function of bytes that panics when what it tests is wrong.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also the name of its folder in the corpus and of its binary.
pub const TARGETS: &[(&str, Target)] = &[
    ("blocks", blocks),
    ("channel_pair", channel_pair),
    ("channel_rows", channel_rows),
    ("invoices", invoices),
    ("jsonrpc", jsonrpc),
    ("network_files", network_files),
    ("onions", onions),
    ("p2p_frames", p2p_frames),
    ("peer_set", peer_set),
    ("records", records),
    ("scripts", scripts),
    ("wire_messages", wire_messages),
];
