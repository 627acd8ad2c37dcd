//! How many confirmations a channel wants before it is used, if a stranger funds it.

use std::ops::RangeInclusive;

use bitcoin::Amount;
use leyden_consensus::{
    Params,
    params::Retarget,
    risk::{ATTACKER_SHARE, RaceModel, confirmations_for_amount},
    subsidy::block_subsidy,
};

/// What the depth is chosen by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum DepthRule {
    /// So many confirmations that it does not pay to take the funding back: [`confirmations_for_amount`].
    DoesNotPay,
    /// So many that this attacker takes no more than the budget from us on average: capacity × chance.
    Budget { attacker_share: f64, budget: Amount },
}

impl DepthRule {
    /// The rule that the owner's wishes make. An attacker alone means nothing without a budget.
    pub(crate) fn new(attacker_share: Option<f64>, budget: Option<Amount>) -> Self {
        match budget {
            None => Self::DoesNotPay,
            Some(budget) => Self::Budget { attacker_share: attacker_share.unwrap_or(ATTACKER_SHARE), budget },
        }
    }

    /// The fewest confirmations within `allowed`, on a chain of this height.
    pub(crate) fn confirmations(
        self,
        capacity: Amount,
        height: u32,
        params: &Params,
        allowed: RangeInclusive<u32>,
    ) -> u32 {
        let (least, most) = (*allowed.start(), *allowed.end());
        match (self, params.retarget) {
            (Self::Budget { attacker_share, budget }, _) => {
                let acceptable = budget.to_sat() as f64 / capacity.to_sat().max(1) as f64;
                let wanted = RaceModel::NegativeBinomial.confirmations_for_risk(attacker_share, acceptable, most);
                wanted.unwrap_or(most).max(least)
            }
            // Where the difficulty never moves, as on regtest, blocks cost nothing and depth says nothing.
            (Self::DoesNotPay, Retarget::Never) => least,
            (Self::DoesNotPay, Retarget::Periodic { .. } | Retarget::MovingAverage { .. }) => {
                confirmations_for_amount(capacity, block_subsidy(height, params), allowed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COIN: Amount = Amount::ONE_BTC;

    fn wanted(rule: DepthRule, capacity: Amount, params: &Params) -> u32 {
        rule.confirmations(capacity, 0, params, 3..=144)
    }

    #[test]
    fn without_a_budget_it_is_what_does_not_pay_and_the_least_where_blocks_cost_nothing() {
        let rule = DepthRule::new(Some(0.1), None);
        assert_eq!(rule, DepthRule::DoesNotPay);
        assert_eq!(wanted(rule, COIN * 1_000, &Params::regtest()), 3);
        assert!(wanted(rule, COIN * 1_000, &Params::leyden()) > wanted(rule, COIN, &Params::leyden()));
    }

    #[test]
    fn a_budget_is_kept_for_every_amount_up_to_the_most_confirmations() {
        let budget = Amount::from_sat(10_000);
        let rule = DepthRule::new(None, Some(budget));
        for params in [Params::regtest(), Params::leyden()] {
            for sat in (14..34).map(|power| 1_u64 << power) {
                let depth = wanted(rule, Amount::from_sat(sat), &params);
                let loss = |z| RaceModel::NegativeBinomial.attacker_success(ATTACKER_SHARE, z) * sat as f64;
                assert!(loss(depth) < 10_000.0 || depth == 144, "{sat} sat: {depth}");
                assert!(depth == 3 || loss(depth - 1) >= 10_000.0, "{sat} sat: {depth} is more than needed");
            }
        }
        // Nobody keeps this budget: what is allowed has an end.
        assert_eq!(wanted(DepthRule::new(Some(0.49), Some(budget)), COIN, &Params::regtest()), 144);
        assert_eq!(wanted(DepthRule::new(None, Some(Amount::ZERO)), COIN, &Params::regtest()), 144);
    }
}
