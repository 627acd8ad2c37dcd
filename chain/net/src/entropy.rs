//! Random numbers that follow from one seed: SHA-256 of the seed and a counter.

use std::time::Duration;

use bitcoin::hashes::{Hash, HashEngine, sha256};

#[derive(Clone, Debug)]
pub(crate) struct Entropy {
    seed: [u8; 32],
    counter: u64,
}

impl Entropy {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// For orders that nobody else can foresee.
    pub(crate) fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        let mut engine = sha256::Hash::engine();
        engine.input(&self.seed);
        engine.input(&self.counter.to_le_bytes());
        self.counter = self.counter.wrapping_add(1);
        let digest = sha256::Hash::from_engine(engine).to_byte_array();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        let number = self.next_u64().checked_rem(bound).unwrap_or(0);
        usize::try_from(number).unwrap_or(0)
    }

    /// The time to the next event of a Poisson process with this mean, at most ten times the mean.
    pub(crate) fn poisson(&mut self, mean: Duration) -> Duration {
        // 53 bits make a number in (0, 1] that a double holds exactly.
        let uniform = ((self.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        mean.mul_f64((-uniform.ln()).clamp(0.0, 10.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_the_mean_is_kept() {
        let (mut one, mut two) = (Entropy::new([7; 32]), Entropy::new([7; 32]));
        let mean = Duration::from_secs(2);
        let waits: Vec<_> = (0..2_000).map(|_| one.poisson(mean)).collect();
        assert!(waits.iter().all(|wait| *wait == two.poisson(mean)));
        let average = waits.iter().sum::<Duration>() / 2_000;
        assert!(average > mean.mul_f64(0.9) && average < mean.mul_f64(1.1), "{average:?}");
        assert_eq!(one.below(0), 0);
        assert!((0..100).all(|_| one.below(3) < 3));
    }
}
