//! What gossip takes for the present.
//!
//! ```text
//!   chain ─────────── median time of the last blocks: no clock of ours can move it
//!     ├─ present ──── the wall clock, but within [chain, chain + CHAIN_LAG]: what is signed, refreshed and pruned by
//!     └─ latest ───── the later of both: what may not be much later than now
//!   uptime ────────── for how long something has lasted
//! ```
//!
//! A wall clock jumps: an operator, a dead battery or a bad time server sets it weeks ahead for a moment. Nothing that
//! such a moment does may last, so nobody is forgotten, and nothing signed, by the wall clock alone.

use super::limits::{CHAIN_LAG_SECONDS, FUTURE_SECONDS, STALE_SECONDS};
use crate::types::{UnixTime, Uptime};

/// All clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The clock that timestamps of messages are compared with; it may be set.
    pub wall: UnixTime,
    /// Median time of the tip and the ten blocks before it.
    pub chain: UnixTime,
    /// The clock that durations are measured by; it only goes on.
    pub uptime: Uptime,
}

impl Clocks {
    /// What the chain vouches for. Where it stands still, so does this.
    pub fn present(&self) -> UnixTime {
        let last = UnixTime(self.chain.0.saturating_add(CHAIN_LAG_SECONDS));
        self.wall.clamp(self.chain, last)
    }

    /// No honest clock is much later than this.
    pub fn latest(&self) -> UnixTime {
        self.wall.max(self.chain)
    }

    /// Whether somebody may have signed for this time whose clock is right. What has got in for a later one, under a clock
    /// of ours that was wrong, counts for nothing against what is signed now, or its owner would not be heard until then.
    pub fn tolerates(&self, timestamp: u32) -> bool {
        u64::from(timestamp) <= self.latest().0.saturating_add(FUTURE_SECONDS)
    }

    /// Whether an owner that last spoke at this time is taken to be gone.
    pub fn is_stale(&self, timestamp: u32) -> bool {
        u64::from(timestamp).saturating_add(STALE_SECONDS) < self.present().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_moves_the_present_only_as_far_as_the_chain_goes_along() {
        let at = |wall, chain| Clocks { wall: UnixTime(wall), chain: UnixTime(chain), uptime: Uptime(0) };
        assert_eq!(at(100_000, 96_000).present(), UnixTime(100_000));
        assert_eq!(at(9_000_000, 96_000).present(), UnixTime(96_000 + CHAIN_LAG_SECONDS));
        assert_eq!(at(5, 96_000).present(), UnixTime(96_000));
        assert_eq!(at(5, 96_000).latest(), UnixTime(96_000));
    }
}
