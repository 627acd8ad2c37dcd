//! The minimum fee rate that evictions have set, and how it sinks again.

use bitcoin::FeeRate;

use super::policy::MempoolPolicy;

const HALF_LIFE_SECONDS: u64 = 12 * 3600;

/// The minimum fee rate that evictions have set.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Floor {
    /// Satoshi per 1000 weight units.
    pub(super) rate: u64,
    /// Seconds since 1970 at which it rose, or a block came.
    pub(super) since: u64,
    pub(super) block_since_rise: bool,
}

impl Floor {
    pub(super) fn raise(&mut self, rate: FeeRate, now: u64) {
        if rate.to_sat_per_kwu() > self.rate {
            self.rate = rate.to_sat_per_kwu();
            self.since = now;
            self.block_since_rise = false;
        }
    }

    pub(super) fn decayed(&self, pool_memory: usize, policy: &MempoolPolicy, now: u64) -> u64 {
        if self.rate == 0 || !self.block_since_rise {
            return self.rate;
        }
        let half_life = if pool_memory < policy.max_memory_bytes / 4 {
            HALF_LIFE_SECONDS / 4
        } else if pool_memory < policy.max_memory_bytes / 2 {
            HALF_LIFE_SECONDS / 2
        } else {
            HALF_LIFE_SECONDS
        };
        let elapsed = now.saturating_sub(self.since);
        let halvings = u32::try_from(elapsed / half_life).unwrap_or(u32::MAX);
        let whole = self.rate.checked_shr(halvings).unwrap_or(0);
        // Between two halvings the rate falls in a straight line, which stays above the curve by 6% at most.
        let part = elapsed % half_life;
        let rate = whole.saturating_sub(whole.saturating_mul(part) / half_life.saturating_mul(2));
        if rate < policy.incremental_relay.to_sat_per_kwu() / 2 { 0 } else { rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_halves_in_twelve_hours_once_a_block_has_come() {
        let policy = MempoolPolicy::default();
        let full = policy.max_memory_bytes;
        let mut floor = Floor::default();
        floor.raise(FeeRate::from_sat_per_kwu(1_000), 0);
        assert_eq!(floor.decayed(full, &policy, 10 * HALF_LIFE_SECONDS), 1_000, "nothing has changed without a block");
        floor.block_since_rise = true;
        assert_eq!(floor.decayed(full, &policy, HALF_LIFE_SECONDS), 500);
        assert_eq!(floor.decayed(full, &policy, HALF_LIFE_SECONDS / 2), 750);
        assert_eq!(floor.decayed(0, &policy, HALF_LIFE_SECONDS), 62, "faster while there is room");
        assert_eq!(floor.decayed(full, &policy, 10 * HALF_LIFE_SECONDS), 0);
        floor.raise(FeeRate::from_sat_per_kwu(10), 5);
        assert_eq!(floor.rate, 1_000, "a cheaper eviction does not lower it");
    }
}
