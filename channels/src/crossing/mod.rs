//! Crossings: a Lightning payment that comes in on one network and goes out on another, through a node with channels on both.
//!
//! ```text
//!    payer, north                       the crossing node                          payee, south
//!                                                          ◄──── south invoice, hash H ────┘
//!      ask ── south invoice ──► price by the owner's rate
//!          ◄── north invoice, the same hash H, held ──┘
//!      HTLC with H ───────────────► held in full
//!                                   time enough? room enough? ── commit ──► HTLC with H ──► paid
//!                                   preimage ◄──────────────────────────────── preimage ────┘
//!          ◄── preimage ─────────── settles north        (or gives north back, once south can never be paid)
//! ```
//!
//! It is a forward whose incoming and outgoing HTLC lie on two networks; so the words are those of a forward: the incoming
//! network, where the payer is, and the outgoing one. [`Rate`] is the price, [`margins`] how much time there must be,
//! [`Crossings`] the state machine of all crossings of one owner, behind the commit gate.
//!
//! # Promises
//!
//! - The outgoing invoice is paid only while the whole price is held on the incoming network, and at most once.
//! - The incoming HTLCs are given back only when no HTLC of the outgoing payment can succeed any more, or when it was never
//!   begun and never will be. After a restart the fate of the outgoing payment is asked before anything else.
//! - "There is no such payment" is believed of the records alone that were noted when the payment was decided, or of later ones
//!   of the same data directory, and not once the payment was seen there. If others say it, nothing is paid again and nothing is
//!   given back: what is held is held until it runs out.
//! - The outgoing HTLCs expire so early that their fate is known, and can be told on the incoming network, before the incoming
//!   ones run out: in time, as the two networks count blocks of their own. Where the two clocks leave too little, nothing is
//!   quoted, and what has come in is given back.
//! - The price is the rate's, rounded up by less than one millisatoshi in the owner's favour; a quote binds until it expires.
//! - All that others can ask for is bounded: quotes that nobody has paid, payments under way, and what they lock.
//!
//! # Limits
//!
//! - The owner's money is at risk like a forward's, but with the margins of [`margins`]: who is away from either network for longer
//!   than they allow while a payment is under way can pay and not be paid. As long as that is not known to be so, the incoming
//!   HTLC is held up to its very expiry, and a preimage that comes late is claimed on the chain.
//! - A data directory that is put back to what it was is for a crossing what it is for a channel: what was held or paid on a
//!   channel that it does not know of is lost. As long as the channels stand, nothing is: the outgoing node is asked before
//!   anything is given back. While that node is away, only what was seen to arrive goes back unasked; what was there already
//!   when the program was started is held until it runs out, or that node is back.
//! - Of parts that are not worth a claim on the chain (a payer may split as it likes) as much can be lost as of any small HTLC.
//! - One hash crosses once: after a failure the payee is asked for another invoice.

pub mod margins;

mod book;
mod node;
mod rate;
mod record;
mod refusal;
mod state;

#[cfg(test)]
mod tests;

pub use book::{Crossings, MAX_INVOICE_BYTES, MAX_UNDER_WAY, MAX_WAITING};
pub use node::{Ctx, Effect, HoldOrder, Incoming, Key, NodeNow, Order, Outgoing, PayOrder, PaymentRecords};
pub use rate::{Rate, RateError};
pub use record::RestoreError;
pub use refusal::Refusal;
pub use state::{Ask, Begun, Crossing, Held, Outcome, Pair, Reason, State};

/// Writes and effects of crossings.
pub type CrossingOutbox = crate::channel::Outbox<Effect, Key>;
