//! How many files and connections the process may have open, and who gets them.
//!
//! ```text
//!   limit ─┬─ a quarter   the chain's database     (512 at most)
//!          ├─ a quarter   the node's database      (512 at most)
//!          └─ the rest    peers of both networks, clients, files
//! ```

use super::RunError;

/// What both databases, the listeners, the runtime and a few peers need at least.
pub const LEAST: u64 = 160;
/// More files than this make a database of ours no faster.
const MOST_FOR_A_DATABASE: u64 = 512;

/// Raises the limit as far as it goes, and refuses to start with one that is too low.
pub fn prepare() -> Result<u64, RunError> {
    let limit = raise();
    if limit < LEAST { Err(RunError::TooFewDescriptors { limit }) } else { Ok(limit) }
}

/// How many files each of the two databases may keep open.
pub fn for_a_database(limit: u64) -> u32 {
    u32::try_from((limit / 4).min(MOST_FOR_A_DATABASE)).unwrap_or(u32::MAX)
}

#[cfg(unix)]
fn raise() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where it may not be raised, what there is counts.
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    current.unwrap_or(u64::MAX)
}

#[cfg(not(unix))]
fn raise() -> u64 {
    u64::MAX
}
