//! A suite a state, all on one harness that checks while it runs, and the random schedules.

#![allow(unreachable_pub, reason = "helpers are shared between tests")]

mod any_order;
mod backup;
mod chain_close;
mod checks;
mod climate;
mod closing_with_others;
mod cooperative_close;
mod exposure;
mod feerate;
mod harness;
mod limits;
mod onchain;
mod opening;
mod reconnection;
mod schedule;
mod towers;
mod unfunded;
mod updates;
mod work;
