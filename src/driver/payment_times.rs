//! How long payments take: their records have whole seconds, which says nothing of most.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use leyden_channels::types::PaymentHash;

/// When each payment was begun that has not ended. Of one that was begun before a restart nothing is known.
#[derive(Debug, Default)]
pub(crate) struct PaymentTimes(Mutex<HashMap<PaymentHash, Instant>>);

impl PaymentTimes {
    /// A payment begins; another part of it changes nothing.
    pub(crate) fn begin(&self, hash: PaymentHash) {
        self.lock().entry(hash).or_insert_with(Instant::now);
    }

    /// It has ended.
    pub(crate) fn end(&self, hash: &PaymentHash) -> Option<Duration> {
        self.lock().remove(hash).map(|begun| begun.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PaymentHash, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_takes_from_its_first_part_to_its_end() {
        let (times, hash) = (PaymentTimes::default(), PaymentHash([1; 32]));
        let pause = Duration::from_millis(5);
        times.begin(hash);
        std::thread::sleep(pause);
        times.begin(hash);
        assert!(times.end(&hash).is_some_and(|took| took >= pause));
        assert_eq!(times.end(&hash), None, "it has ended, or was begun before a restart");
    }
}
