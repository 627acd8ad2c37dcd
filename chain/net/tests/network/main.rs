//! Several nodes under a simulated clock: honest ones that must agree, and others that must not keep them from it.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod chain;
mod compact;
mod fetch;
mod malformed;
mod relay;
mod stage;
mod sync;
mod world;
