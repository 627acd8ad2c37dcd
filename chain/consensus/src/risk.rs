//! How likely an attacker is to undo a payment (Bitcoin white paper, section 11).
//!
//! ```text
//!   honest    ──▪──▪──▪──▪      z blocks, and the payment is in the first of them
//!   attacker  ──▫──▫            k blocks, mined in secret meanwhile, without the payment
//!                               from z − k behind it ever draws level with probability (q/p)^(z − k)
//! ```
//!
//! How `k` is distributed makes two formulas, [`RaceModel`]. Floating point is right here: this advises a person and chooses
//! a depth, no rule on which nodes must agree depends on it. All sums have positive terms alone, so that even a chance of
//! 10^-300 has its first digits right, and logarithms keep what is too small for a number from becoming none.

use std::ops::RangeInclusive;

use bitcoin::Amount;

/// How many blocks the attacker is taken to have mined until the honest miners have found `z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaceModel {
    /// As the white paper has it: the honest blocks take exactly the time that is to be expected, in which the attacker's
    /// number has a Poisson distribution with mean `z·q/p`. This is an approximation, and too small where it matters: it
    /// passes over that the honest miners may be unlucky, which is when an attacker gets ahead.
    Poisson,
    /// The race itself: each next block is the attacker's with probability `q`, so its number is negative-binomial, with the
    /// same mean and a variance that is `1/p` times as large. Exact; what the node decides by.
    NegativeBinomial,
}

impl RaceModel {
    /// The probability that an attacker with share `attacker_share` of the hash rate (0 to 1) ever overtakes a payment
    /// that has `confirmations` blocks on top. 1.0 from half of the hash rate on; a share that is no number counts as none.
    pub fn attacker_success(self, attacker_share: f64, confirmations: u32) -> f64 {
        let attacker = if attacker_share.is_nan() { 0.0 } else { attacker_share.clamp(0.0, 1.0) };
        let honest = 1.0 - attacker;
        if attacker >= honest || confirmations == 0 {
            return 1.0;
        }
        if attacker == 0.0 {
            return 0.0;
        }
        let success = match self {
            Self::Poisson => poisson(attacker / honest, confirmations),
            Self::NegativeBinomial => negative_binomial(attacker, honest, confirmations),
        };
        success.clamp(0.0, 1.0)
    }

    /// The fewest confirmations that keep an attacker's chance under `acceptable`, if `limit` confirmations suffice.
    pub fn confirmations_for_risk(self, attacker_share: f64, acceptable: f64, limit: u32) -> Option<u32> {
        fewest(0..=limit, |confirmations| self.attacker_success(attacker_share, confirmations) < acceptable)
    }
}

/// The paper's sum, `Σ poisson(k)·min(1, ratio^(z−k))`, each term of the distribution from the one before.
fn poisson(ratio: f64, confirmations: u32) -> f64 {
    let z = f64::from(confirmations);
    let mean = z * ratio;
    let mut ln_term = -mean;
    let mut success = 0.0;
    let mut found = 0.0;
    loop {
        let behind = f64::max(z - found, 0.0);
        let chance = (ln_term + behind * ratio.ln()).exp();
        success += chance;
        found += 1.0;
        // Beyond `z` the terms only fall, for the mean is below it: what is left then changes no digit.
        if found > z && chance <= success * f64::EPSILON {
            return success;
        }
        ln_term += mean.ln() - f64::ln(found);
    }
}

/// `2·Σ C(z−1+k, k)·q^z·p^k` for `k < z`: twice the probability that the attacker finds `z` blocks first. For it may be ahead
/// when the honest miners have found theirs, and the chance to catch up from behind comes to as much:
/// `C(z−1+k, k)·p^z·q^k · (q/p)^(z−k)` is the term above.
fn negative_binomial(attacker: f64, honest: f64, confirmations: u32) -> f64 {
    let z = f64::from(confirmations);
    let mut ln_term = z * attacker.ln();
    let mut attacker_first = 0.0;
    for found in 0..confirmations {
        attacker_first += ln_term.exp();
        let next = f64::from(found) + 1.0;
        ln_term += honest.ln() + f64::ln((z - 1.0 + next) / next);
    }
    2.0 * attacker_first
}

/// The smallest number within `range` for which something holds that holds for all larger ones too.
fn fewest(range: RangeInclusive<u32>, holds: impl Fn(u32) -> bool) -> Option<u32> {
    let (mut least, mut most) = range.into_inner();
    if least > most || !holds(most) {
        return None;
    }
    while least < most {
        let middle = least.midpoint(most);
        if holds(middle) {
            most = middle;
        } else {
            least = middle.saturating_add(1);
        }
    }
    Some(least)
}

/// The share of the hash rate that a channel's depth is made for. The paper's table of section 11 begins to hurt here;
/// against more than half nothing helps.
pub const ATTACKER_SHARE: f64 = 0.3;
/// One reorganisation can take back every channel that was funded in its blocks, from as many victims: what an attacker
/// may win counts as so many times the amount of one.
const VICTIMS: f64 = 100.0;
/// What a block earns at least, whatever has become of the subsidy: a million virtual bytes at the relay minimum of one
/// satoshi each. A chain whose blocks earn less will not have the miners that this reckons with.
const LEAST_REWARD: Amount = Amount::from_sat(1_000_000);

/// The fewest confirmations, within `allowed`, after which it does not pay to take a payment of `amount` back on a chain
/// whose blocks earn `reward`.
///
/// Who mines in secret with 30 % of the hash rate wins the payment, and a hundred like it, with the probability `P(z)` of
/// [`RaceModel::NegativeBinomial`]; else the blocks that were mined in vain, `z·q/p` of them on the average, are lost with all
/// that they would have earned. `z` is enough as soon as the loss that is to be expected outweighs the win:
///
/// ```text
///   100 · amount · P(z)  <=  (1 − P(z)) · z · q/p · reward
/// ```
///
/// `P` falls exponentially, so `z` grows with the logarithm of the amount: the work of the network enters by what it earns,
/// which is what it costs where mining is a trade.
pub fn confirmations_for_amount(amount: Amount, reward: Amount, allowed: RangeInclusive<u32>) -> u32 {
    let at_stake = amount.to_sat() as f64 * VICTIMS;
    let reward = reward.max(LEAST_REWARD).to_sat() as f64;
    let blocks_in_vain = ATTACKER_SHARE / (1.0 - ATTACKER_SHARE);
    let does_not_pay = |confirmations: u32| {
        let success = RaceModel::NegativeBinomial.attacker_success(ATTACKER_SHARE, confirmations);
        at_stake * success <= (1.0 - success) * f64::from(confirmations) * blocks_in_vain * reward
    };
    let most = *allowed.end();
    fewest(allowed, does_not_pay).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    use RaceModel::{NegativeBinomial, Poisson};

    #[test]
    fn more_confirmations_are_wanted_for_more_money_and_for_cheaper_blocks() {
        let coins = |coins: u64| Amount::from_sat(coins * 100_000_000);
        let wanted = |amount, reward| confirmations_for_amount(amount, reward, 3..=144);
        let young = coins(50);
        assert_eq!(wanted(Amount::from_sat(1_000_000), young), 3);
        assert_eq!(wanted(coins(1), young), 3);
        let large = wanted(coins(10), young);
        assert!((5..=9).contains(&large), "{large}");
        assert!(wanted(coins(1_000), young) > large);
        // Once the subsidy is gone, fees are what blocks earn.
        let old = wanted(coins(10), Amount::ZERO);
        assert!((30..=50).contains(&old), "{old}");
        assert_eq!(old, wanted(coins(10), Amount::from_sat(1_000_000)));
        let mut before = 0;
        for sat in (0..60).map(|power| 1_u64 << power) {
            let confirmations = wanted(Amount::from_sat(sat), young);
            assert!((before..=144).contains(&confirmations), "it never falls as the amount rises");
            before = confirmations;
        }
        assert_eq!(confirmations_for_amount(coins(21_000_000), Amount::ZERO, 3..=12), 12, "bounded");
        assert_eq!(confirmations_for_amount(Amount::ZERO, young, 3..=12), 3);
    }

    #[test]
    fn an_attacker_with_half_of_the_hash_rate_always_wins() {
        for model in [Poisson, NegativeBinomial] {
            assert_eq!(model.attacker_success(0.5, 100), 1.0);
            assert_eq!(model.attacker_success(7.0, 3), 1.0);
            assert_eq!(model.confirmations_for_risk(0.5, 0.001, 50), None);
        }
    }

    #[test]
    fn nobody_overtakes_without_hash_rate() {
        for model in [Poisson, NegativeBinomial] {
            assert_eq!(model.attacker_success(0.0, 1), 0.0);
            assert_eq!(model.attacker_success(-1.0, 1), 0.0);
            assert_eq!(model.attacker_success(f64::NAN, 1), 0.0);
        }
    }

    /// One block: the honest miners find theirs first with probability `p`, and one behind is caught up with `q/p`; or the
    /// attacker is first. Two blocks by hand as well.
    #[test]
    fn small_races_come_out_as_by_hand() {
        for share in [0.1, 0.25, 0.4] {
            let (q, p): (f64, f64) = (share, 1.0 - share);
            let one = p * (q / p) + q;
            // Attacker's blocks before the second honest one: none p², one 2p²q, else level already.
            let two = p * p * (q / p).powi(2) + 2.0 * p * p * q * (q / p) + (1.0 - p * p - 2.0 * p * p * q);
            assert!((NegativeBinomial.attacker_success(share, 1) - one).abs() < 1e-12);
            assert!((NegativeBinomial.attacker_success(share, 2) - two).abs() < 1e-12);
        }
    }

    /// Both distributions summed the other way round: as long as all numbers are large, plain arithmetic is good enough.
    #[test]
    fn formulas_agree_with_their_definitions() {
        for (share, z) in [(0.1, 5), (0.3, 12), (0.45, 30)] {
            let (q, p): (f64, f64) = (share, 1.0 - share);
            let (ratio, zf) = (q / p, f64::from(z));
            let (mut by_poisson, mut exact) = (1.0, 1.0);
            let (mut poisson, mut binomial) = ((-zf * ratio).exp(), p.powi(z));
            for k in 0..=z {
                let caught_up = ratio.powi(z - k);
                by_poisson -= poisson * (1.0 - caught_up);
                exact -= binomial * (1.0 - caught_up);
                let next = f64::from(k + 1);
                poisson *= zf * ratio / next;
                binomial *= q * (zf - 1.0 + next) / next;
            }
            let z = z.unsigned_abs();
            assert!((Poisson.attacker_success(share, z) - by_poisson).abs() < 1e-12);
            assert!((NegativeBinomial.attacker_success(share, z) - exact).abs() < 1e-12);
        }
    }

    #[test]
    fn a_chance_too_small_for_plain_arithmetic_is_neither_none_nor_one() {
        // e^(-z·q/p) is no number any more, and 0.1^400 is none either.
        let long = Poisson.attacker_success(0.45, 1_000);
        assert!(long > 0.0 && long < 1e-6, "{long}");
        let small = NegativeBinomial.attacker_success(0.1, 400);
        assert!(small > 0.0 && small < 1e-100, "{small}");
    }

    proptest! {
        #[test]
        fn each_further_block_makes_it_harder(share in 0.0..0.4999f64, z in 0u32..400) {
            for model in [Poisson, NegativeBinomial] {
                let (before, after) = (model.attacker_success(share, z), model.attacker_success(share, z + 1));
                prop_assert!(after <= before * (1.0 + 1e-12), "{:?} {} {}", model, before, after);
            }
        }

        #[test]
        fn fewest_confirmations_are_the_first_that_suffice(share in 0.0..0.4f64, acceptable in 1e-9..0.5f64) {
            for model in [Poisson, NegativeBinomial] {
                let suffices = |z: &u32| model.attacker_success(share, *z) < acceptable;
                prop_assert_eq!(model.confirmations_for_risk(share, acceptable, 600), (0..=600).find(suffices));
            }
        }
    }
}
