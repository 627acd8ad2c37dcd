//! How likely an attacker is to undo a payment (Bitcoin white paper, section 11).
//!
//! While the merchant waits for `z` blocks, the attacker mines in secret; what it has found by then is
//! Poisson-distributed with mean `z·q/p`. From a deficit of `d` blocks it catches up with probability `(q/p)^d`, the
//! gambler's ruin. Floating point is right here: this advises a person, no consensus rule depends on it.

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

#[cfg(test)]
mod tests {
    use super::*;

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
