//! Two chains, two people, and everything that can go wrong between them.

#![allow(unreachable_pub, reason = "helpers are shared between tests")]

mod bad_days;
mod bad_input;
mod chain;
mod contracts;
mod person;
mod schedule;
mod world;
