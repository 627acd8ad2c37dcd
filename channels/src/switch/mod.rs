//! The switch: HTLCs from one channel to another, and their fate back.
//!
//! ```text
//!    channel A–B                         switch                          channel B–C
//!   Effect::Incoming ──► peel, check, remember the onion ──Offer──► Event::Add, Origin: the incoming HTLC
//!                                                                        │
//!                           next channel with C, or fail ◄──Refused──────┤
//!   Event::Settle ◄─────────────── the preimage ◄───────Fulfilled────────┤  (settlement owed: stored by B–C)
//!   Event::Settle ◄─────────────── one more layer ◄─────Failed───────────┘  (likewise)
//!        │
//!        └──► signed: the owed settlement is deleted
//! ```
//!
//! - [`forward`]: what to do with an HTLC.   - [`policy`]: fees, limits, and shares for neighbours.
//! - [`grace`]: terms before a change.
//! - [`circuit`]: what is on its way.        - [`replay`]: what a restart finds.
//! - [`link`]: the channels' names.          - [`history`]: what was earned, and news.
//! - [`waiting`]: what waits for the tip.    - [`interception`]: what somebody else decides.
//!
//! Promises, whenever a crash comes:
//! * An incoming HTLC is handed to at most one outgoing channel at a time, and to another one only after the first has
//!   said that it did not take it.
//! * It is settled exactly as the outgoing one was, and not before that is final: a preimage at once, a failure once it
//!   is irrevocable.
//! * It is never left without an answer while no outgoing HTLC forwards it.
//! * The same onion is not forwarded twice.
//! * Nothing is forwarded while the tip is in doubt; what is fulfilled or failed behind is settled at any time.
//! * A fulfilled forward is in the history once.
//!
//! A driver must restore the switch before any channel handles an event, and hand it every channel; after that the
//! order of events of different channels does not matter.

mod circuit;
mod event;
mod forward;
mod grace;
mod history;
mod interception;
mod link;
mod machine;
mod policy;
mod replay;
mod waiting;

#[cfg(test)]
mod tests;

pub use circuit::{HtlcRef, Leg};
pub use event::{SwitchCtx, SwitchEffect, SwitchEvent};
pub use grace::GRACE_SECONDS;
pub use history::{FailureDetail, ForwardRecord, HtlcEvent, HtlcEventKind, Outgoing};
pub use interception::{AUTO_FAIL_BLOCKS, InterceptedHtlc, Interception, InterceptionFailure, Interceptor};
pub use link::Link;
pub use machine::Switch;
pub use policy::{ForwardPolicy, Limits, MIN_CLTV_EXPIRY_DELTA, PolicyError};
pub use waiting::WAIT_MARGIN_BLOCKS;
