//! How likely an attacker is to undo a payment (Bitcoin white paper, section 11).
//!
//! While the merchant waits for `z` blocks, the attacker mines in secret; what it has found by then is
//! Poisson-distributed with mean `z·q/p`. From a deficit of `d` blocks it catches up with probability `(q/p)^d`, the
//! gambler's ruin. Floating point is right here: this advises a person, no consensus rule depends on it.

use std::ops::RangeInclusive;

use bitcoin::Amount;

/// The probability that an attacker with share `attacker_share` of the hash rate (0 to 1) ever overtakes a payment
/// that has `confirmations` blocks on top. 1.0 from half of the hash rate on; a share that is no number counts as none.
pub fn attacker_success(attacker_share: f64, confirmations: u32) -> f64 {
    let attacker = if attacker_share.is_nan() { 0.0 } else { attacker_share.clamp(0.0, 1.0) };
    let honest = 1.0 - attacker;
    if attacker >= honest {
        return 1.0;
    }
    let ratio = attacker / honest;
    let mean = f64::from(confirmations) * ratio;
    // The sum of the paper: 1 − Σ poisson(k)·(1 − ratio^(z−k)), each Poisson term from the one before.
    let mut poisson = (-mean).exp();
    let mut caught_up = 1.0;
    for found in 0..=confirmations {
        if found > 0 {
            poisson *= mean / f64::from(found);
        }
        caught_up -= poisson * (1.0 - ratio.powf(f64::from(confirmations - found)));
    }
    caught_up.clamp(0.0, 1.0)
}

/// The fewest confirmations that keep an attacker's chance under `acceptable`, if `limit` confirmations suffice.
pub fn confirmations_for_risk(attacker_share: f64, acceptable: f64, limit: u32) -> Option<u32> {
    (0..=limit).find(|confirmations| attacker_success(attacker_share, *confirmations) < acceptable)
}

/// The share of the hash rate that a channel's depth is made for. The paper's table of section 11 begins to hurt here;
/// against more than half nothing helps.
const ATTACKER_SHARE: f64 = 0.3;
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
/// [`attacker_success`]; else the blocks that were mined in vain, `z·q/p` of them on the average, are lost with all that
/// they would have earned. `z` is enough as soon as the loss that is to be expected outweighs the win:
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
    let does_not_pay = |confirmations: &u32| {
        let success = attacker_success(ATTACKER_SHARE, *confirmations);
        at_stake * success <= (1.0 - success) * f64::from(*confirmations) * blocks_in_vain * reward
    };
    allowed.clone().find(does_not_pay).unwrap_or(*allowed.end())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!((20..=40).contains(&old), "{old}");
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
        assert_eq!(attacker_success(0.5, 100), 1.0);
        assert_eq!(attacker_success(7.0, 3), 1.0);
        assert_eq!(confirmations_for_risk(0.5, 0.001, 50), None);
    }

    #[test]
    fn nobody_overtakes_without_hash_rate() {
        assert_eq!(attacker_success(0.0, 1), 0.0);
        assert_eq!(attacker_success(-1.0, 1), 0.0);
        assert_eq!(attacker_success(f64::NAN, 1), 0.0);
    }
}
