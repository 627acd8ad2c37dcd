//! Submarine swaps: coins in an output of the chain for a Lightning payment, between two people who do not trust each other.
//!
//! ```text
//!  in (loop in): the initiator fills a channel         out (loop out): the initiator empties a channel
//!
//!   initiator                      participant           initiator                      participant
//!     ├── offer, invoice of hash ──────►│                   ├── offer of hash ──────────────►│
//!     │◄───────── acceptance ───────────┤                   │◄── acceptance, hold invoice ───┤
//!     ├── locks coins [hash] ══════════►│                   ├── pays; the HTLC is held ─────►│
//!     │◄── pays the invoice once deep ──┤                   │◄═════════ locks coins [hash] ──┤
//!     ├── takes it: shows the secret ──►│                   ├── redeems once deep: shows ═══►│
//!     │                       redeems ══╡                   │                   settles ─────┤
//! ```
//!
//! (`═` is a transaction of the chain, `─` a message or an HTLC.) It is an atomic swap whose one leg is a Lightning
//! payment: the initiator knows the secret, the payment's hash is the contract's hash, and whoever locks second locks for a
//! shorter time.
//!
//! With both legs on one chain the contract expires at a height, which is what an HTLC does. With coins on one chain and the
//! payment on another it expires at a time, as those of an atomic swap do, and the pace of the payment's chain is doubted, as a
//! crossing does: [`across`] says how much time that takes. `time.rs` is the one place that knows both clocks.
//!
//! [`terms`] has what both agree on, [`Submarine`] the machine of one person. It sees Lightning as two mirrors that its
//! driver holds up: [`Payment`], how the payment of this hash stands, and [`Receipt`], how the held invoice of this hash
//! stands. The payments and the invoices have their own durable machines, which are the truth about them.
//!
//! # Promises
//!
//! - Nothing is locked or paid beyond what was quoted: amount, fees, refund height and the HTLC's expiry.
//! - The signed refund is durable before the lock is broadcast.
//! - What the other says is never relied on: a lock counts when a block has it, with the script that follows from both keys
//!   and the amount of the offer, so many blocks deep; an invoice when hash, amount and expiry are those of the offer.
//! - The payment is begun only if the last of its HTLCs expires so long before the refund height that its fate is known, and
//!   the coins can be redeemed, before the refund is possible. It is never made twice: the payments have one for each hash.
//! - The coins are locked only for a payment that is held, whole, and for longer than the refund needs.
//! - The initiator of a swap in shows the secret only for HTLCs that have the blocks left that a claim on the chain needs.
//! - The initiator of a swap out shows the secret only with the payment on its way, the lock deep, and time to redeem. Once it is shown,
//!   nothing stops the redeem.
//! - A held payment goes back only when the lock is not there, or is back: never while the other could take the coins.
//! - Who has or may take the payment does not take the coins back; who takes them back has given the invoice up before.
//! - Every claim is broadcast again at each block and pays more toward its deadline, within its budget; a reorganisation
//!   puts the machine back to where the chain is.

pub mod across;
pub mod terms;

mod act;
mod event;
mod record;
mod state;
mod time;

#[cfg(test)]
mod tests;

pub use event::{Ctx, Effect, Event, SubmarineOutbox};
pub use state::{Bargain, Believed, Lightning, Payment, Phase, Receipt, Request, Span, Submarine};
pub use terms::{Acceptance, Clock, Direction, Offer};
pub use time::PaymentChain;
