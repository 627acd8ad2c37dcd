//! How much of something is allowed in a time: a bucket that fills at a steady rate, and from which is taken.

use crate::types::Uptime;

/// How large a bucket is, and how fast it fills.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub burst: f64,
    pub per_second: f64,
}

/// What is left of an allowance. It starts full.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    left: f64,
    at: Uptime,
}

impl Bucket {
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
}
