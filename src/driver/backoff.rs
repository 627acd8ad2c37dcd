//! When a peer is dialled again whose connections end badly.
//!
//! ```text
//!   disputed (a warning, an error, bytes that make no sense) ──► 1 s, 2 s, 4 s … 5 min
//!   ended without a word within seconds ───────────────────────► 0.5 s, 1 s, 2 s, 4 s
//!   ended quietly ─────────────────────────────────────────────► at once
//!   lasted a good while ───────────────────────────────────────► at once, and all is forgotten
//! ```
//!
//! What made two nodes disagree is mostly still there a moment later, and each connection costs every channel with that peer
//! a round of messages and its payments. Whoever waits to be dialled loses nothing: the peer can dial us at any time.

use std::time::{Duration, Instant};

/// A connection that lasted this long was good, whatever ended it.
const GOOD_WHILE: Duration = Duration::from_secs(600);
/// One that ended without a word this soon was no good.
const NO_TIME: Duration = Duration::from_secs(2);
const FIRST_DISPUTE: Duration = Duration::from_secs(1);
const LAST_DISPUTE: Duration = Duration::from_secs(300);
const FIRST_SILENCE: Duration = Duration::from_millis(500);
const LAST_SILENCE: Duration = Duration::from_secs(4);

/// Until when a peer is not dialled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    /// Connections in a row that ended badly.
    bad: u32,
    until: Option<Instant>,
}

impl Backoff {
    pub(super) fn connection_ended(&mut self, disputed: bool, lasted: Duration, now: Instant) {
        let (first, last) = match (disputed, lasted) {
            (_, lasted) if lasted >= GOOD_WHILE => return *self = Self::default(),
            (true, _) => (FIRST_DISPUTE, LAST_DISPUTE),
            (false, lasted) if lasted < NO_TIME => (FIRST_SILENCE, LAST_SILENCE),
            (false, _) => return self.until = None,
        };
        let doubled = 2_u32.checked_pow(self.bad).and_then(|factor| first.checked_mul(factor)).unwrap_or(last);
        self.until = now.checked_add(doubled.min(last));
        self.bad = self.bad.saturating_add(1);
    }

    /// How long it is until then.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    pub(super) fn may_dial(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disputes_double_the_pause_up_to_a_bound_until_a_connection_lasts() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..40 {
            backoff.connection_ended(true, Duration::from_millis(50), now);
            pauses.push(backoff.pause(now).as_secs());
        }
        assert_eq!(pauses[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(pauses[39], 300);
        assert!(!backoff.may_dial(now + Duration::from_secs(299)) && backoff.may_dial(now + Duration::from_secs(300)));
        backoff.connection_ended(true, GOOD_WHILE, now);
        assert!(backoff.may_dial(now), "it was good for long enough");
        backoff.connection_ended(true, Duration::ZERO, now);
        assert_eq!(backoff.pause(now), Duration::from_secs(1));
    }

    #[test]
    fn a_peer_that_restarts_is_dialled_at_once_and_one_that_only_hangs_up_is_not_hammered() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        backoff.connection_ended(false, Duration::from_secs(3), now);
        assert!(backoff.may_dial(now));
        for expected in [500, 1000, 2000, 4000, 4000] {
            backoff.connection_ended(false, Duration::from_millis(20), now);
            assert_eq!(backoff.pause(now), Duration::from_millis(expected));
        }
    }
}
