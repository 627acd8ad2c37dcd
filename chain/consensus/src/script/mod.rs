//! The script interpreter: who may spend an output.
//!
//! ```text
//!                       ┌ input script ─▶ output script ─▶ true?                       legacy
//!  SpendingTx           │                      └▶ pay-to-script-hash: the pushed script ─▶ true?
//!    .verify_input() ───┤
//!                       └ witness program: version 0 ─▶ witness script ─▶ exactly true?
//!                                          version 1 ─▶ key path, or tapscript ─▶ exactly true?
//! ```
//!
//! It decides as Bitcoin Core does for every script and every combination of flags, and names the same cause of a
//! failure. It is pure and takes any input without panicking; a [`SpendingTx`] can be used from many threads.

mod conditional;
mod error;
mod flags;
mod interpreter;
mod number;
mod observer;
pub mod opcodes;
mod sighash;
pub mod sigops;
mod spending;
mod stack;
mod witness;

pub use error::ScriptError;
pub use flags::ScriptFlags;
pub use observer::{Observer, StackView, Stage};
pub use sighash::LeafPosition;
pub use spending::{SpendingTx, SpentOutputsMismatch, is_script_hash};
pub use witness::witness_program;
