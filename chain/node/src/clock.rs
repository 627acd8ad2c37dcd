//! The time, which tests set.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the node's time comes from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    /// The system's, so many seconds ahead of it (below zero: behind).
    Shifted(i64),
    /// Stands still until it is set.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that shows `now` until [`Clock::set`].
    pub fn manual(now: u64) -> Self {
        Self::Manual(Arc::new(AtomicU64::new(now)))
    }

    /// Seconds since 1970.
    pub fn now(&self) -> u64 {
        match self {
            Self::System => system_time(),
            Self::Shifted(seconds) => system_time().saturating_add_signed(*seconds),
            Self::Manual(now) => now.load(Ordering::Relaxed),
        }
    }

    /// Sets a manual clock; does nothing to the system's.
    pub fn set(&self, now: u64) {
        match self {
            Self::System | Self::Shifted(_) => {}
            Self::Manual(cell) => cell.store(now, Ordering::Relaxed),
        }
    }
}

fn system_time() -> u64 {
    // Before 1970 the clock is wrong, and every block would come from the future: as safe as any answer.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
