//! What the daemon does, for Prometheus: `leydend --metrics HOST:PORT`, then `GET /metrics`.
//!
//! ```text
//!   what happens: crate::counters ──► recorder of the process ──────────────┐
//!   what is: api, read at each scrape ──► a recorder of this scrape alone ──┴─► page ──► GET /metrics
//! ```
//!
//! - What happens is counted where it happens ([`crate::counters`]); what is, is asked of the same traits that the gRPC
//!   services ask. So nothing of a state is remembered here: what cannot be read is left out of the page.
//! - A page is kept for a second, and one is made at a time: whoever asks all the time costs no more than who asks once a
//!   second. What is asked of tasks, which may be busy, is waited for [`READ_LIMIT`](crate::limits::METRICS_READ_LIMIT) long.
//! - Who asks shows nothing: there is no password and no encryption. Balances, but no keys, channels or hashes, are told.
//!
//! Names are `leyden_…` with their unit at the end; those of the process are the ones that every dashboard knows. No label has
//! values that others choose.

mod chain;
mod lightning;
mod limits;
mod page;
mod process;
mod recorder;
mod scrape;
mod server;
mod towers;

pub(crate) use recorder::{Recorded, RecorderError, install};
pub(crate) use server::serve;
