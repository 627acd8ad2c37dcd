//! Two chains, two people, and everything that can go wrong between them.

#![allow(unreachable_pub, reason = "helpers are shared between tests")]

mod bad_days;
mod bad_input;
pub(in crate::swap) mod chain;
mod contracts;
mod costs;
mod doubts;
mod older;
pub(in crate::swap) mod person;
pub(crate) mod schedule;
pub(in crate::swap) mod world;
