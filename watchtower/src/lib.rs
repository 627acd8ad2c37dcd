//! What a watchtower does with a block: find, among appointments that it cannot read, the ones that a breach answers to.
//!
//! ```text
//!   client: (hint, sealed answer) ──► lookout ── block with the breach ──► opened answer
//! ```
//!
//! - [`hint`]: half of a txid, by which a breach is recognised.
//! - [`seal`]: answers that only the breach opens.
//! - [`lookout`]: blocks against all hints.
//!
//! This is the blind mode's core. What an answer holds, who acts on it and how a client and a tower talk comes on top of
//! it; until then no tower is offered to anybody.

pub mod hint;
pub mod lookout;
pub mod seal;
