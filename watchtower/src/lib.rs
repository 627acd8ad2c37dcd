//! A watchtower: somebody who acts for a channel's owner while the owner is asleep.
//!
//! ```text
//!   client ── backup of each revoked state ──► tower ── sees the revoked state in a block ──► penalties, until final
//! ```
//!
//! - [`appointment`]: what a client and its tower call things.
//! - [`message`]: what they say to each other.
//! - [`receipt`]: what the tower signs for.
//! - [`hint`], [`seal`]: by what a breach is recognised, and what only the breach opens.
//! - [`kit`]: what a blind tower can do about a breach, signed in advance.
//! - [`lookout`]: blocks against all hints.

pub mod appointment;
pub mod codec;
pub mod hint;
pub mod kit;
pub mod lookout;
pub mod message;
pub mod receipt;
pub mod seal;
