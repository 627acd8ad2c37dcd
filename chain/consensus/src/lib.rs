//! The rules of a Bitcoin-format chain, pure: no clock, no disk, no network, no thread.
//!
//! ```text
//!  header ──► HeaderTree::accept ──► most work wins            params: which network's rules
//!  block  ──► check_block ──► check_block_in_context ──► connect_block ──► coin changes
//!             (bytes alone)    (height, median time)      (coins spent)      undo data
//!                                                                            script checks
//! ```
//!
//! What each step needs comes as an argument, what it finds comes back as a value: a block that fails halfway has
//! changed nothing, and the caller runs script checks on as many threads as it likes. Every refusal is one typed
//! cause ([`error`]) that also knows Bitcoin Core's reject reason.
//!
//! # Which verdicts rest on a library
//!
//! A library's helper that is right for wallets may be wrong for a rule: one counter of the `bitcoin` crate was, and a
//! block could have split the chain. So a rule is written here unless the library's part is listed below with what it
//! must do and what shows that it does. Whoever adds a rule adds its line.
//!
//! | verdict | rests on | which must | shown by |
//! |---|---|---|---|
//! | bytes are a block, a transaction, a header | `bitcoin::consensus` | refuse sizes that are not in their shortest form and a witness mark without witnesses; take every transaction that fits into a block, whatever its items | `bytes`, trap 1, trap 2 |
//! | ids and block hashes | `compute_txid`, `compute_wtxid`, `block_hash` | double SHA-256 of those bytes, without witnesses in a txid | real blocks |
//! | sizes and weights | `base_size`, `total_size`, `Block::weight` | three times the bytes without witnesses and once all bytes | `bytes`, blocks of 4,000,000 ± 1 |
//! | who is a coinbase | `is_coinbase`, `OutPoint::is_null` | one input, all zeros and index 2^32 − 1 | `bytes` |
//! | targets | `Target::from_compact`, `to_compact_lossy`, `is_met_by` | Bitcoin Core's vectors; signs, zero and overflow are judged here before | header vectors |
//! | work | `Target::to_work` | 2^256 / (target + 1), rounded down; the library is wrong for target 1, which is set right here | [`difficulty`] |
//! | signatures | `secp256k1`, with its lax DER parser | Bitcoin Core links the same code | script vectors |
//! | hashes, tagged hashes, branches of a taproot tree, tweaks of keys | `bitcoin_hashes`, `bitcoin::taproot`, `secp256k1` | FIPS 180, BIP 340 and 341 | script vectors, BIP 341's vectors |
//! | sums of money | `Amount::checked_add`, `checked_sub` | not wrap; limits are judged here | trap 19 |
//!
//! Not taken from the library, because it differs or nobody shows that it never will: counts of signature operations
//! ([`script::sigops`]), script execution and all digests ([`script`]), witness programs and pay-to-script-hash, pushes
//! only and pushes in shortest form, numbers in scripts and the height in a coinbase (BIP 34), lock times and sequence
//! numbers ([`locktime`]), merkle roots ([`merkle`]), witness commitments ([`block`]), retargeting ([`difficulty`]),
//! subsidies. How a coin is packed on the disk ([`coin_codec`]) asks the library for the form of its script; a wrong
//! answer would cost bytes, not a verdict, since what is unpacked is compared in tests with what was packed.
//!
//! What is only relayed or not (the mempool's policy) is listed in `leyden_node::mempool::standard`.

#![warn(missing_docs)]

pub mod block;
pub mod block_ids;
pub mod coin_codec;
pub mod coins;
pub mod connect;
pub mod difficulty;
pub mod error;
pub mod header;
mod header_chain;
pub mod header_tree;
pub mod keyed_hash;
pub mod locktime;
pub mod merkle;
pub mod network_file;
pub mod params;
pub mod risk;
pub mod script;
pub mod subsidy;
pub mod transaction;
pub mod utxo_hash;
pub mod weight;

mod uint;

pub use block::{BlockContext, check_block, check_block_in_context, is_block_mutated};
pub use block_ids::BlockIds;
pub use coins::{BlockUndo, Coin, CoinChange, CoinChanges, CoinSource};
pub use connect::{
    Connected, ScriptCheck, ScriptJobs, coins_left_by, connect_block, connect_identified, disconnect_block,
    script_flags,
};
pub use difficulty::next_bits;
pub use error::{BlockError, ConnectError, DisconnectError, HeaderError, ScriptFailure, TransactionError};
pub use header::median_time_past;
pub use header_chain::HeaderChain;
pub use header_tree::{Accepted, Branch, HeaderTree, KnownHeader, Validity};
pub use network_file::NetworkFile;
pub use params::{Params, Retarget};
pub use transaction::{check_transaction, check_transaction_inputs};
pub use utxo_hash::{CoinStats, UtxoSetHash};
