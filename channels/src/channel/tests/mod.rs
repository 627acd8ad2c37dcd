//! A suite a state, all on one harness that checks while it runs, and the random schedules.

mod backup;
mod chain_close;
mod checks;
mod cooperative_close;
mod enforcement;
mod harness;
mod limits;
mod opening;
mod reconnection;
mod schedule;
mod updates;
