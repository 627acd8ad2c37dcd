//! How much of something is allowed in a time: a bucket that fills at a steady rate, and from which is taken.

use std::collections::HashMap;
use std::hash::Hash;

use crate::types::Uptime;

/// How large a bucket is, and how fast it fills.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// What a full bucket holds.
    pub burst: f64,
    /// What flows in each second, up to that.
    pub per_second: f64,
}

/// What is left of an allowance. It starts full.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    left: f64,
    at: Uptime,
}

impl Bucket {
    /// A bucket that nobody has used.
    pub fn full(rate: Rate, now: Uptime) -> Self {
        Self { left: rate.burst, at: now }
    }

    /// What has come in since the last look counts, too.
    pub fn left(&mut self, rate: Rate, now: Uptime) -> f64 {
        self.left = (self.left + now.seconds_since(self.at) * rate.per_second).min(rate.burst);
        self.at = now;
        self.left
    }

    /// Takes out what was used; it may be more than there was, and has to be made up for then.
    pub fn take(&mut self, used: f64) {
        self.left -= used;
    }

    /// It is as full as it can be by now: nothing is lost by forgetting it.
    pub fn is_full(&mut self, rate: Rate, now: Uptime) -> bool {
        self.left(rate, now) >= rate.burst
    }
}

/// An allowance for each of many owners; of those that have used theirs lately alone something is kept.
#[derive(Debug)]
pub struct Allowances<K> {
    rate: Rate,
    buckets: HashMap<K, Bucket>,
}

impl<K: Eq + Hash> Allowances<K> {
    /// A bucket of this rate for whoever comes.
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: HashMap::new() }
    }

    /// Whether something is left of an owner's; that costs it nothing.
    pub fn has_left(&mut self, owner: &K, now: Uptime) -> bool {
        self.buckets.get_mut(owner).is_none_or(|bucket| bucket.left(self.rate, now) >= 1.0)
    }

    /// Takes one from an owner's; `false` if there is none.
    pub fn spend(&mut self, owner: K, now: Uptime) -> bool {
        let bucket = self.buckets.entry(owner).or_insert_with(|| Bucket::full(self.rate, now));
        let has_left = bucket.left(self.rate, now) >= 1.0;
        if has_left {
            bucket.take(1.0);
        }
        has_left
    }

    /// Drops somebody's bucket: the next time it is full.
    pub fn forget(&mut self, owner: &K) {
        self.buckets.remove(owner);
    }

    /// Forgets those of which nothing is missing.
    pub fn prune(&mut self, now: Uptime) {
        let rate = self.rate;
        self.buckets.retain(|_, bucket| !bucket.is_full(rate, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_fills_at_its_rate_and_no_further() {
        let rate = Rate { burst: 10.0, per_second: 2.0 };
        let mut bucket = Bucket::full(rate, Uptime(0));
        bucket.take(12.0);
        assert_eq!(bucket.left(rate, Uptime(0)), -2.0);
        assert_eq!(bucket.left(rate, Uptime(1_500)), 1.0);
        assert!(!bucket.is_full(rate, Uptime(5_000)));
        assert_eq!(bucket.left(rate, Uptime(60_000)), 10.0);
        assert!(bucket.is_full(rate, Uptime(60_000)));
    }

    #[test]
    fn each_owner_has_its_own_allowance_and_only_what_is_missing_is_kept() {
        let mut allowances = Allowances::new(Rate { burst: 2.0, per_second: 1.0 });
        let now = Uptime(0);
        assert!(allowances.spend(1, now) && allowances.spend(1, now) && !allowances.spend(1, now));
        assert!(!allowances.has_left(&1, now) && allowances.has_left(&2, now) && allowances.spend(2, now));
        allowances.prune(Uptime(1_000));
        assert_eq!(allowances.buckets.len(), 1);
        assert!(allowances.has_left(&1, Uptime(1_000)));
        allowances.forget(&1);
        assert!(allowances.buckets.is_empty());
    }
}
