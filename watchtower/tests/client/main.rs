//! The towers' client against towers that are the real state machine.
//!
//! `LEYDEN_SCHEDULES` says how many random schedules to run; `LEYDEN_SCHEDULE_SEED` is the first seed: alone, it runs that
//! schedule again.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

#[path = "../common/mod.rs"]
mod common;

mod behaviours;
mod liars;
mod making;
mod schedule;
mod world;
