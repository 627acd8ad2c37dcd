//! Two networks, their owner's node between them, and everything that can go wrong there.

#![allow(unreachable_pub, reason = "helpers are shared between tests")]

mod asking;
mod bad_days;
mod clocks;
mod schedule;
mod world;
