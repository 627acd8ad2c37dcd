//! What somebody may ask for: so much at once, and so much a second.

use std::time::{Duration, Instant};

/// Fills up with time, up to a bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    most: u64,
    per_second: u64,
    left: u64,
    at: Instant,
}

impl Allowance {
    pub(super) fn new(most: u64, per_second: u64, now: Instant) -> Self {
        Self { most, per_second, left: most, at: now }
    }

    /// Takes `cost`, if there is so much.
    pub(super) fn spend(&mut self, cost: u64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at);
        let missing = self.most.saturating_sub(self.left);
        let refill = u128::from(self.per_second) * passed.as_nanos() / Duration::from_secs(1).as_nanos();
        if refill >= u128::from(missing) {
            (self.left, self.at) = (self.most, now);
        } else {
            // Less than one unit is not lost: it counts from where the last whole one was.
            self.left = self.left.saturating_add(u64::try_from(refill).unwrap_or(missing));
            let worth = refill * Duration::from_secs(1).as_nanos() / u128::from(self.per_second.max(1));
            self.at += Duration::from_nanos(u64::try_from(worth).unwrap_or(0));
        }
        let enough = self.left.checked_sub(cost);
        self.left = enough.unwrap_or(self.left);
        enough.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spent_comes_back_with_time_and_no_faster() {
        let begun = Instant::now();
        let mut allowance = Allowance::new(100, 10, begun);
        assert!(allowance.spend(70, begun) && !allowance.spend(40, begun) && allowance.spend(30, begun));
        // Asking often does not lose what has come since.
        let later = |millis| begun + Duration::from_millis(millis);
        assert!(!(1..=9).any(|tenth| allowance.spend(10, later(tenth * 100))));
        assert!(allowance.spend(10, later(1_000)) && !allowance.spend(1, later(1_050)));
        assert!(allowance.spend(100, later(1_000_000)) && !allowance.spend(1, later(1_000_000)));
    }
}
