//! What a blind tower does about a breach whose kit it has opened, until every output of it is spent and that is final.
//!
//! ```text
//!   opened kit, breach in a block ──► outputs ──group──► batches ──build──► broadcast ─┐
//!        ▲                              │ spent by us: wait until it is deep           │ refused, or not in the next block:
//!        │ a reorganisation             │ spent by the cheater: its second stage,      │ pay more, come again
//!        └──────────────────────────────┘ where the kit covers it, is one more output  ▼
//!                                                     ◄───────────── contested: taken apart
//! ```
//!
//! Every claim's signature covers its own input and output, so batches may be cut and joined at will. The fee comes out of
//! what the outputs leave (the slack); what of it is not needed yet goes to the client's script as one output more, and the
//! fee climbs from the market's rate to all of the slack at the deadline.
//!
//! Deadlines: `to_local` when the cheater's delay has passed. An HTLC likewise, where the kit covers the cheater's second
//! stage; with anchors it does not, so an HTLC that the cheater can move on must be ours within [`HURRY`] blocks.
//!
//! **A cheater who pins.** `to_local` is always claimed alone, and so is each output that the cheater can spend now: a
//! transaction of his that we cannot see, or cannot replace, holds up that one and no other. HTLCs that he offered share a
//! batch until shortly before their expiry. What he can pin with a second stage of anchors is a single HTLC for as long as it
//! stands; with `static_remotekey` we get it from there.
//!
//! Promises: the outputs follow from the breach, the kit and the confirmed spends alone, so a restart and a reorganisation end
//! where a first run would; a claim that was refused comes again at every block; of a breach that is in the mempool
//! alone the first claims are broadcast and nothing is kept; a batch pays no more than its slack.

mod batch;
mod breach;
mod report;

pub use batch::HURRY;
pub use breach::{Breach, Response, SpentBy, TipCtx, Tracked};
pub use report::{ClaimReport, ClaimStatus};
