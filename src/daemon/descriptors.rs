//! How many files and connections the process may have open: raised as far as it goes, or told if that is too few. Who gets
//! them is said in [`crate::limits`].

use super::RunError;
use crate::limits::Descriptors;

/// What the databases with their fewest files, the listeners, the runtime and a few peers need at least, on each network.
const LEAST: u64 = 80;

/// Raises the limit as far as it goes, and refuses to start with one that is too low. What each of so many networks gets.
pub(super) fn prepare(networks: u64) -> Result<Descriptors, RunError> {
    let limit = raise();
    let least = LEAST.saturating_mul(networks);
    if limit < least {
        return Err(RunError::TooFewDescriptors { limit, least });
    }
    Ok(Descriptors::new(limit / networks.max(1)))
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
