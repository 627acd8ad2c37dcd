//! The payment-channel core: BOLT's channels, keys, transactions, messages, transport and onions, with no clock,
//! no randomness, no socket, no database and no thread of its own.
//!
//! The names are those of the BOLTs. The Lightning paper's:
//!
//! | the paper | here |
//! |---|---|
//! | Funding | [`tx::Funding`]: the funding transaction's output |
//! | C1a, C1b | the local and the remote commitment transaction of one number: [`tx::CommitmentTx`] |
//! | RD1a | the claim of `to_local` after `to_self_delay` (1000 blocks): `tx/claim.rs` |
//! | D | `to_remote` |
//! | BR1a, HBR1a, HTBR1a | penalties on `to_local`, on an HTLC, on a second-stage output: `tx/penalty.rs` |
//! | HE1b and HERD1b, HT1a and HTRD1a | HTLC-success, HTLC-timeout (`tx/htlc.rs`), and the delayed claims of both |

#![warn(missing_docs)]

pub mod channel;
pub mod crossing;
pub mod gossip;
pub mod keys;
pub mod margins;
pub mod onchain;
pub mod onion;
pub mod payment;
pub mod routing;
pub mod swap;
pub mod switch;
pub mod transport;
pub mod tx;
pub mod types;
pub mod wire;
pub mod workers;

#[cfg(test)]
mod vectors;
