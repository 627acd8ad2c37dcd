//! The time, which tests set.
//!
//! What a clock that jumps does, by who asks. Timeouts, backoff, pings, bans and dialling ask no clock but the monotonic
//! one (`Instant`). The rest asks [`Clock::now`], which believes in a jump only once it has lasted ([`BELIEVED_AFTER`]); a
//! jump that is shorter is seen by nobody.
//!
//! | what | if it jumps ahead for long | if it jumps back for long |
//! |---|---|---|
//! | headers: two hours in the future at most | blocks of the future are taken, as all nodes with that clock would | new blocks wait until the clock is set; the tip is in doubt |
//! | blocks that are mined here | their time is that of the clock; others refuse them until their clocks say so | refused here while the clock is behind the chain |
//! | doubts about the tip (`tip`) | nothing is paid or forwarded, since the tip looks old | the same, since the chain is ahead |
//! | open invoices and payments' deadlines | they end early: who pays asks for a new one, and who is paid loses nothing | they live longer |
//! | held invoices and HTLCs | nothing: they end by blocks | nothing |
//! | macaroons with `time-before` | they end early; a new one is baked | they live longer |
//! | what payments have taught (half-lives) | it is forgotten, and learnt again | it stays longer |
//! | which of two rival transactions of the wallet counts | nothing: each sight is stamped after what it replaces | nothing |
//! | gossip: age and future of updates | see `leyden_channels::gossip` | |
//! | times that people are shown | wrong until the clock is set | wrong |

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the node's time comes from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The operating system's clock.
    #[default]
    System,
    /// The system's, so many seconds ahead of it (below zero: behind).
    Shifted(i64),
    /// Stands still until it is set.
    Manual(Arc<AtomicU64>),
    /// The system's until it is set, and stands still then; 0 makes it the system's again.
    Mockable(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that shows `now` until [`Clock::set`].
    pub fn manual(now: u64) -> Self {
        Self::Manual(Arc::new(AtomicU64::new(now)))
    }

    /// The system's clock, which [`Clock::set`] stops.
    pub fn mockable() -> Self {
        Self::Mockable(Arc::default())
    }

    /// Seconds since 1970.
    pub fn now(&self) -> u64 {
        match self {
            Self::System => system_time(),
            Self::Shifted(seconds) => system_time().saturating_add_signed(*seconds),
            Self::Manual(now) => now.load(Ordering::Relaxed),
            Self::Mockable(mocked) => match mocked.load(Ordering::Relaxed) {
                0 => system_time(),
                mocked => mocked,
            },
        }
    }

    /// Sets a clock that can be set. Returns whether it can: the system's stays as it is.
    pub fn set(&self, now: u64) -> bool {
        match self {
            Self::System | Self::Shifted(_) => false,
            Self::Manual(cell) | Self::Mockable(cell) => {
                cell.store(now, Ordering::Relaxed);
                true
            }
        }
    }
}

/// By so much the wall clock may be moved and is believed at once: what keeping it right takes.
const SLACK: Duration = Duration::from_secs(10);
/// For so long a jump has to last before it is believed: longer than a mistake that is mended at once, short enough for a
/// machine that has slept.
pub const BELIEVED_AFTER: Duration = Duration::from_secs(60);

/// The wall clock without its short jumps: between two looks the monotonic clock says how much time has gone by.
#[derive(Debug)]
struct SteadyClock {
    /// What the wall clock showed when it was last believed, since 1970.
    wall: Duration,
    /// When that was.
    at: Instant,
    /// The wall clock has been elsewhere since then, by so much that it agrees with itself.
    doubt: Option<Doubt>,
}

#[derive(Debug)]
struct Doubt {
    wall: Duration,
    at: Instant,
}

impl SteadyClock {
    fn new(wall: Duration, at: Instant) -> Self {
        Self { wall, at, doubt: None }
    }

    /// The time, when the wall clock shows `wall` at the moment `at`.
    fn look(&mut self, wall: Duration, at: Instant) -> Duration {
        let expected = after(self.wall, self.at, at);
        if expected.abs_diff(wall) <= SLACK {
            *self = Self::new(wall, at);
            return wall;
        }
        match &self.doubt {
            Some(doubt) if after(doubt.wall, doubt.at, at).abs_diff(wall) <= SLACK => {
                if at.saturating_duration_since(doubt.at) < BELIEVED_AFTER {
                    return expected;
                }
                tracing::warn!(
                    from = expected.as_secs(),
                    to = wall.as_secs(),
                    "the machine's clock has jumped, and is believed now: times, invoices and announcements follow it"
                );
                *self = Self::new(wall, at);
                wall
            }
            Some(_) | None => {
                self.doubt = Some(Doubt { wall, at });
                expected
            }
        }
    }
}

fn after(wall: Duration, then: Instant, now: Instant) -> Duration {
    wall.saturating_add(now.saturating_duration_since(then))
}

/// The process has one wall clock.
static STEADY: OnceLock<Mutex<SteadyClock>> = OnceLock::new();

fn system_time() -> u64 {
    // Before 1970 the clock is wrong, and every block would come from the future: as safe as any answer.
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = Instant::now();
    let steady = STEADY.get_or_init(|| Mutex::new(SteadyClock::new(wall, at)));
    steady.lock().unwrap_or_else(PoisonError::into_inner).look(wall, at).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEEKS: Duration = Duration::from_secs(21 * 24 * 3600);
    const BEGUN: Duration = Duration::from_secs(1_800_000_000);

    /// What is shown so many seconds after the beginning by a wall clock that is then moved by `shift`.
    fn shown(clock: &mut SteadyClock, start: Instant, seconds: u64, shift: impl Fn(Duration) -> Duration) -> i64 {
        let gone = Duration::from_secs(seconds);
        let shown = clock.look(shift(BEGUN + gone), start + gone);
        shown.as_secs() as i64 - BEGUN.as_secs() as i64
    }

    #[test]
    fn three_weeks_ahead_for_five_seconds_are_seen_by_nobody() {
        let start = Instant::now();
        for jump in [|wall| wall + WEEKS, |wall: Duration| wall - WEEKS] {
            let mut clock = SteadyClock::new(BEGUN, start);
            assert_eq!(shown(&mut clock, start, 10, |wall| wall), 10);
            for second in 11..16 {
                assert_eq!(shown(&mut clock, start, second, jump), second as i64);
            }
            assert_eq!(shown(&mut clock, start, 16, |wall| wall), 16);
            assert_eq!(shown(&mut clock, start, 500, |wall| wall), 500);
        }
    }

    #[test]
    fn a_clock_that_is_set_is_believed_after_a_minute() {
        let start = Instant::now();
        let mut clock = SteadyClock::new(BEGUN, start);
        let ahead = |wall| wall + WEEKS;
        for second in [1, 30, 60] {
            assert_eq!(shown(&mut clock, start, second, ahead), second as i64);
        }
        assert_eq!(shown(&mut clock, start, 61, ahead), 61 + WEEKS.as_secs() as i64);
        assert_eq!(shown(&mut clock, start, 62, ahead), 62 + WEEKS.as_secs() as i64);
    }

    #[test]
    fn a_clock_that_wanders_is_believed_nowhere_and_small_steps_at_once() {
        let start = Instant::now();
        let mut clock = SteadyClock::new(BEGUN, start);
        for second in 1..300 {
            let wanders = |wall: Duration| wall + Duration::from_secs(1_000 * second);
            assert_eq!(shown(&mut clock, start, second, wanders), second as i64);
        }
        let late = |wall: Duration| wall - Duration::from_secs(9);
        assert_eq!(shown(&mut clock, start, 300, late), 291);
    }
}
