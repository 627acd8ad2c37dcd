//! How much a block may create: the white paper's incentive (section 6) with Bitcoin's halvings.

use bitcoin::Amount;

use crate::params::Params;

/// No amount, sum or fee may pass this: 21 million coins.
pub const MAX_MONEY: Amount = Amount::from_sat(21_000_000 * 100_000_000);

/// New coins that the block at `height` may create, fees apart.
pub fn block_subsidy(height: u32, params: &Params) -> Amount {
    let halvings = height.checked_div(params.halving_interval).unwrap_or(0);
    Amount::from_sat(params.initial_subsidy.to_sat().checked_shr(halvings).unwrap_or(0))
}

/// The sum of two amounts, if it is still money.
pub(crate) fn checked_sum(a: Amount, b: Amount) -> Option<Amount> {
    a.checked_add(b).filter(|sum| *sum <= MAX_MONEY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsidy_halves_every_210_000_blocks_until_nothing_is_left() {
        let params = Params::leyden();
        assert_eq!(block_subsidy(0, &params), Amount::from_sat(50_0000_0000));
        assert_eq!(block_subsidy(209_999, &params), Amount::from_sat(50_0000_0000));
        assert_eq!(block_subsidy(210_000, &params), Amount::from_sat(25_0000_0000));
        assert_eq!(block_subsidy(32 * 210_000, &params), Amount::from_sat(1));
        assert_eq!(block_subsidy(33 * 210_000, &params), Amount::ZERO);
        assert_eq!(block_subsidy(u32::MAX, &params), Amount::ZERO);
    }

    #[test]
    fn all_subsidies_together_stay_under_21_million() {
        for params in [Params::leyden(), Params::mainnet()] {
            let per_era = u64::from(params.halving_interval);
            let total: u64 = (0..64u32)
                .map(|era| block_subsidy(era.saturating_mul(params.halving_interval), &params).to_sat() * per_era)
                .sum();
            assert_eq!(total, 2_099_999_997_690_000);
            assert!(total <= MAX_MONEY.to_sat());
        }
    }

    #[test]
    fn regtest_halves_every_150_blocks() {
        let params = Params::regtest();
        assert_eq!(block_subsidy(149, &params), Amount::from_sat(50_0000_0000));
        assert_eq!(block_subsidy(150, &params), Amount::from_sat(25_0000_0000));
    }
}
