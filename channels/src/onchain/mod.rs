//! Enforcing a channel on the chain (BOLT 5): every output of every commitment ends with its rightful owner.
//!
//! ```text
//!  channel/state/closing ─► Resolution ──handle(event)──► effects: watch, broadcast, coins wanted, preimage, failed
//!                        │
//!   Waiting ── the funding output is spent in a block ──► classify: who closed, and with what?
//!      ▲                                                    │ ours            local_close
//!      │                                                    │ theirs          remote_close
//!   a reorganisation takes it back                          │ theirs, revoked revoked_close
//!      │                                                    ▼
//!      └───────────────────────────────────────────── Closed: outputs, each with its claim
//!                                                           │ deadline: until when   bump: at what fee
//!                                                           ▼
//!                                                     all spent, and deep enough: Resolved
//! ```
//!
//! | the Lightning paper | here | claimed by |
//! |---|---|---|
//! | Funding | the funding transaction; whatever spends its output is the close | |
//! | C1a, C1b | a commitment transaction, ours or the peer's | |
//! | D | `to_remote` on the peer's commitment | [`Role::ToRemote`] |
//! | (none) | our anchor, in a transaction that nobody knows | [`Role::Anchor`] |
//! | RD1a | delayed claim of `to_local` | [`Role::ToLocal`] |
//! | HE1b, HERD1b | HTLC-success transaction, its delayed claim | [`Role::LocalHtlc`], [`Role::LocalSecondStage`] |
//! | HT1a, HTRD1a | HTLC-timeout transaction, its delayed claim | [`Role::LocalHtlc`], [`Role::LocalSecondStage`] |
//! | (direct) | an HTLC output of the peer's commitment | [`Role::RemoteHtlc`] |
//! | BR1a | penalty on `to_local` | [`Role::RevokedToLocal`] |
//! | HBR1a | penalty on an HTLC output | [`Role::RevokedHtlc`] |
//! | HTBR1a and its success twin | penalty on a second-stage output | [`Role::RevokedSecondStage`] |
//!
//! The closing phase of a channel owns its [`Resolution`]: events come through the channel, and what is durable is a part
//! of the channel's state.
//!
//! Promises: what is durable are facts of the chain (which transaction spent what, at which height) and what we told
//! others; everything else is computed from them, so a restart and a reorganisation take the same road as the first
//! time. Nothing is forgotten before it is deep enough.

mod anchor;
mod bump;
mod claims;
mod classify;
mod closing_channel;
mod deadline;
mod grouping;
mod history;
mod local_close;
mod notice;
mod output;
mod record;
mod remote_close;
mod report;
mod resolution;
mod revoked_close;
#[cfg(test)]
pub(crate) mod tests;
mod tree;
mod upstream;
mod watch;

pub(crate) use bump::percent;
pub use bump::{
    EnforcementPolicy, FeeEstimates, Urgency, fee_at, is_catching_up, rate_of, replacement_fee, starting_rate,
};
pub use claims::{Claim, ClaimId, Sent};
pub use classify::{Closer, classify};
pub use closing_channel::{ClosingChannel, LocalState, MutualScripts, RebuildError, RemoteState};
pub use deadline::{CloseReason, InFlight, must_close};
pub use notice::{ClosedBy, Notice};
pub use output::{Role, Spend, TrackedOutput};
pub use record::{RecordError, StoredResolution};
pub use report::{OutputReport, OutputStatus};
pub use resolution::{Ctx, Effect, Event, Rejection, Resolution, ResolutionError, Turn};
pub use tree::{PaperName, SecondStage, SpendPath, Tree, TreeCommitment, TreeOutput, TreeOutputKind, tree};
pub use watch::{FoundSpend, KnownSpend, SpendUpdate, WatchedOutputs};
