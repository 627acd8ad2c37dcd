//! The switch alone, event by event, and in a network of six nodes under random schedules.

mod forwarding;
mod network;
mod opening;
mod restart;
mod schedule;
mod settling;
mod single;
