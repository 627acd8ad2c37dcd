//! How many files and connections the process may have open: raised as far as it goes, or told if that is too few. Who gets
//! them is said in [`crate::limits`].

use super::RunError;
use crate::limits::Descriptors;

/// What the databases with their fewest files, the listeners, the runtime and a few peers need at least.
pub(super) const LEAST: u64 = 80;

/// Raises the limit as far as it goes, and refuses to start with one that is too low.
pub(super) fn prepare() -> Result<Descriptors, RunError> {
    let limit = raise();
    if limit < LEAST { Err(RunError::TooFewDescriptors { limit }) } else { Ok(Descriptors::new(limit)) }
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
