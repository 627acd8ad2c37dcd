//! What blocks and mempools ask for, and what each node thinks that they do.
//!
//! ```text
//!   feerate
//!     spike, up to a hundred times ──┐  ┌┐
//!                                    │  ││       for some blocks
//!                          ╱╲____    │  ││
//!      level, which drifts    ╲__╱───┘  └┴──
//! ```

use super::network::*;
use super::random::Random;
use crate::channel::{Feerates, MAX_FEERATE};
use crate::onchain::FeeEstimates;
use crate::types::*;

/// A hundred times the relay minimum.
pub(super) const HIGHEST: u32 = 100 * FeeratePerKw::FLOOR.0;
/// How long blocks are so dear at most. A channel is closed twelve blocks before an HTLC whose preimage is known expires;
/// commitment and claim need two blocks at ordinary rates, and whoever pays once for a spike's end is still in time.
const SPIKE: u32 = 6;
/// How long they are ordinary after a spike, so that no deadline meets two of them.
const PAUSE: u32 = 24;

pub(super) struct Market {
    /// What the level does not rise above, and how fast it moves, in percent a block.
    ceiling: u32,
    drift: u64,
    spike_percent: u64,
    level: u32,
    /// What the next block asks for of that, in percent: some blocks come fast.
    block: u32,
    /// The rate of a spike, and for how many more blocks it lasts.
    spike: Option<(u32, u32)>,
    pause: u32,
    /// What each node makes of it, in percent.
    guesses: [u32; NODES],
}

impl Market {
    pub fn draw(random: &mut Random) -> Self {
        Self {
            ceiling: [1_000, 4_000, HIGHEST][random.below(3)],
            drift: random.between(0, 25),
            spike_percent: random.between(0, 10),
            level: FeeratePerKw::FLOOR.0,
            block: 100,
            spike: None,
            pause: 0,
            guesses: [(); NODES].map(|()| random.between(70, 180) as u32),
        }
    }

    pub fn calm(&mut self) {
        (self.ceiling, self.drift, self.spike_percent) = (FeeratePerKw::FLOOR.0, 0, 0);
        (self.level, self.block, self.spike) = (FeeratePerKw::FLOOR.0, 100, None);
        self.guesses = [100; NODES];
    }

    /// A block later.
    pub fn step(&mut self, random: &mut Random) {
        let percent = 100 - self.drift + random.next() % (2 * self.drift + 3);
        let moved = u64::from(self.level) * percent / 100;
        self.level = (moved as u32).clamp(FeeratePerKw::FLOOR.0, self.ceiling);
        self.block = random.between(50, 100) as u32;
        self.pause = self.pause.saturating_sub(1);
        self.spike = self.spike.and_then(|(rate, left)| (left > 1).then_some((rate, left - 1)));
        if self.spike.is_none() && self.pause == 0 && random.chance(self.spike_percent) {
            let rate = u64::from(self.level) * random.between(2, 100);
            let lasts = random.between(1, u64::from(SPIKE)) as u32;
            self.spike = Some(((rate as u32).min(HIGHEST), lasts));
            self.pause = lasts + PAUSE;
        }
    }

    fn next_block(&self) -> u32 {
        let ordinary = (self.level * self.block / 100).max(FeeratePerKw::FLOOR.0);
        self.spike.map_or(ordinary, |(rate, _)| rate.max(self.level))
    }

    /// Blocks and mempools ask for it from now on, and nodes hear of it.
    pub fn rule(&self, net: &mut Network) {
        let next_block = self.next_block();
        net.chain.minimum = next_block;
        // A mempool that is full asks for a part of that.
        let floor = FeeratePerKw((next_block / 10).max(FeeratePerKw::FLOOR.0));
        net.chain.set_floor(floor.0);
        let highest = self.spike.map_or(self.level, |(rate, _)| rate.max(self.level));
        for (node, guess) in net.nodes.iter_mut().zip(self.guesses) {
            let guessed = |rate: u32| FeeratePerKw((rate * guess / 100).max(FeeratePerKw::FLOOR.0));
            let (soon, later) = (guessed(highest * 5 / 4), guessed(self.level * 3 / 5));
            node.outlook.feerates = feerates(soon, later, floor);
            node.outlook.estimates = FeeEstimates::new(vec![(1, soon), (144, later)]);
            node.outlook.highest = node.outlook.highest.max(soon);
            node.outlook.highest_later = node.outlook.highest_later.max(later);
        }
    }
}

/// As the daemon's (`driver/feerates.rs`).
fn feerates(closing: FeeratePerKw, slow: FeeratePerKw, mempool_minimum: FeeratePerKw) -> Feerates {
    let maximum = FeeratePerKw((closing.0 * 10).max(MAX_FEERATE.0));
    Feerates { minimum: FeeratePerKw::FLOOR, maximum, closing, slow, mempool_minimum }
}
