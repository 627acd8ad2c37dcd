//! A watchtower: somebody who acts for a channel's owner while the owner is asleep.
//!
//! ```text
//!   client ── backup of each revoked state ──► tower ── sees the revoked state in a block ──► penalties, until final
//! ```
//!
//! - [`appointment`]: what a client and its tower call things.
//! - [`message`]: what they say to each other.
//! - [`receipt`]: what the tower signs for.
//! - [`mark`]: by what a client knows that it has sent a state.
//! - [`hint`], [`seal`]: by what a breach is recognised, and what only the breach opens.
//! - [`kit`]: what a blind tower can do about a breach, signed in advance.
//! - [`lookout`]: blocks against all hints.
//! - [`responder`]: a breach that a blind tower has opened, until its penalties are final.
//! - [`own`]: the mode of a tower that belongs to its client.
//! - [`session`]: who may be a client, and what it may make a tower hold and do.
//! - [`tower`]: all of it, in one state machine.
//! - [`client`]: the other half: what a node with channels queues, sends, and holds its towers to.
//! - [`record`]: what is stored, and under which keys.
//! - [`synthetic`]: channels that never were, for measurements.

#![warn(missing_docs)]

pub mod appointment;
pub mod client;
pub mod codec;
pub mod hint;
pub mod kit;
pub mod lookout;
pub mod mark;
pub mod message;
pub mod own;
pub mod receipt;
pub mod record;
pub mod responder;
pub mod seal;
pub mod session;
pub mod synthetic;
pub mod tower;
