//! A crowd: many payments that wait at once on one channel. Each is too small to be fought for, or may be once feerates have
//! risen; only together are they worth a thought, and only a limit on their sum bounds what a close of that channel costs.

use super::network::*;
use super::random::Random;
use super::schedule::Schedule;
use crate::types::*;

/// Steps of the schedule between two payments: some of them have arrived when the next one begins.
const STEPS_BETWEEN: u64 = 4;
/// The smallest payment, above the dust limit so that it has an output where feerates are low.
const SMALLEST: u64 = 400_000;
/// What its largest payment may be: a crowd that is not fought for at the lowest feerates, at those that HTLCs are counted
/// at, and at a hundred times the lowest.
const LARGEST: [u64; 3] = [1_500_000, 6_000_000, 20_000_000];

/// Drawn for a schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    /// After so many steps.
    step: u64,
    from: usize,
    to: usize,
    payments: u64,
    largest: Msat,
}

impl Crowd {
    pub fn draw(random: &mut Random) -> Self {
        let (one, other) = EDGES[random.below(EDGES.len())];
        let (from, to) = if random.chance(50) { (one, other) } else { (other, one) };
        let largest = Msat(LARGEST[random.below(LARGEST.len())]);
        Self { step: random.between(20, 250), from, to, payments: random.between(8, 24), largest }
    }

    /// It takes the shortest way, so that all of it is on one channel.
    pub fn goes(&self, from: usize, to: usize) -> bool {
        (self.from, self.to) == (from, to)
    }
}

impl Schedule {
    pub fn gather_crowd(&mut self, step: u64) {
        let Some(crowd) = self.climate.crowd.filter(|crowd| crowd.step == step) else { return };
        for _ in 0..crowd.payments {
            let amount = Msat(self.climate.random.between(SMALLEST, crowd.largest.0));
            self.pay_from(crowd.from, crowd.to, Some(amount));
            for _ in 0..STEPS_BETWEEN {
                self.step();
            }
        }
    }
}
