//! A chain, or two, a payment that arrives late, hangs or fails, two people, and everything that can go wrong between them.

#![allow(unreachable_pub, reason = "helpers are shared between tests")]

mod across;
mod bad_days;
mod bad_input;
mod doubts;
mod lightning;
mod schedule;
mod world;
