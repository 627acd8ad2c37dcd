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

pub mod block;
pub mod coin_codec;
pub mod coins;
pub mod connect;
pub mod difficulty;
pub mod error;
pub mod header;
pub mod header_tree;
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
pub use coins::{BlockUndo, Coin, CoinChange, CoinChanges, CoinSource};
pub use connect::{Connected, ScriptCheck, connect_block, disconnect_block, script_flags};
pub use difficulty::next_bits;
pub use error::{BlockError, ConnectError, DisconnectError, HeaderError, ScriptFailure, TransactionError};
pub use header::{HeaderChain, median_time_past};
pub use header_tree::{Accepted, Branch, HeaderTree, KnownHeader, Validity};
pub use network_file::NetworkFile;
pub use params::{Params, Retarget};
pub use transaction::{check_transaction, check_transaction_inputs};
pub use utxo_hash::{CoinStats, UtxoSetHash};
