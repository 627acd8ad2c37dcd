//! The switch alone, event by event, and in a network of six nodes under random schedules.

#![allow(unreachable_pub, reason = "helpers are shared between tests")]

mod blocks;
mod checks;
mod climate;
mod crowd;
mod dark;
mod deals;
mod doubt;
mod drain;
mod enforcing;
mod forwarding;
mod fundings;
mod intercepting;
mod items;
mod ledger;
mod market;
mod network;
mod node;
mod opening;
mod purses;
mod random;
mod restart;
mod schedule;
mod settling;
mod single;
mod truth;
mod view;
mod wallet;
mod weather;
mod wires;
