//! Onion packets and the failures that come back through them (BOLT 4).
//!
//! ```text
//!   origin ── construct ──► [hop 1 ‖ [hop 2 ‖ [… ‖ last]]] ──► peel ──► peel ──► … peel: payload for us
//!   origin ◄─ decrypt ◄─ wrap ◄─ wrap ◄─ … build: a failure, told to the origin alone
//! ```
//!
//! - [`sphinx`]: building a packet and taking one layer off.
//! - [`payload`]: what a layer says to its hop.
//! - [`failure`]: failure messages, and the onions that carry them back.
//!
//! Promises: all packets have 1366 bytes, and a hop learns from one neither its place nor the length of the route;
//! an altered packet is refused before anything in it is read; no input, however made, panics. Which payments a
//! node has seen before is not known here: replay protection is the switch's.

pub mod failure;
pub mod payload;
pub mod sphinx;
mod stream;

pub use failure::{AttributedFailure, FailureMessage};
pub use payload::{ForwardPayload, HopPayload, PayloadError, PaymentData, ReceivePayload};
pub use sphinx::{BadOnion, Constructed, Hop, OnionError, PeelError, Peeled, SharedSecret, construct, peel};
