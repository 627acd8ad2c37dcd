//! What a claim pays, and when it pays more.
//!
//! ```text
//!  feerate
//!    budget ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─│   never more than a share of what is claimed
//!                                           ╱│
//!                                          ╱ │   the last CONFIRMATION_BUDGET blocks: by the same factor with each,
//!                                        ╱   │   so that the budget is reached at the deadline
//!    start ─────┐      ┌───────┐    __──     │
//!               └──────┘       └──── estimate for SOON blocks
//!           first broadcast              deadline        height
//! ```
//!
//! While there is time, a claim pays what the market asks for: a block that leaves it out, be it by chance or by whoever found
//! it, costs nothing. Only near the deadline time is worth more than fees. By the same factor with each block, and not by the
//! same step, since the budget may be thousands of times the market's rate: a step would be more than any block asks for.
//!
//! A claim that is made while the node catches up with the chain is broadcast at once, but the ramp does not count the
//! blocks of the past: none of them could take it. It begins at the newest block that is known ([`is_catching_up`]).
//!
//! Promises: a rate never falls while a claim waits, never exceeds the budget, and a replacement always pays enough
//! more to be relayed (BIP 125). A claim without a deadline waits for a cheap block: it pays what it began with, or what
//! even a patient one has to pay by now.

use bitcoin::{Amount, Weight};

use crate::margins::{CONFIRMATION_BUDGET, FAIL_DEPTH, FINAL_DEPTH};
use crate::types::{FeeratePerKw, Height};

/// What enforcement may cost, and how careful it is. All depths are confirmations, the block itself being the first. The
/// blocks between an HTLC's events and its expiry are in [`crate::margins`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnforcementPolicy {
    /// How deep a spend must be before an output is forgotten (BOLT 5 says 100).
    pub finality: u32,
    /// How deep the loss of an outgoing HTLC must be before its incoming one is failed.
    pub fail_depth: u32,
    /// The share of a claim's value, in percent, that may go to fees.
    pub budget_percent: u64,
    /// The share of what a penalty claims, in percent, that may go to fees: better to the miners than to the cheater.
    pub penalty_budget_percent: u64,
    /// The share of our own balance, in percent, that may go into getting our commitment confirmed.
    pub commitment_budget_percent: u64,
    /// In how many blocks a claim without deadline would like to be confirmed.
    pub relaxed_target: u32,
    /// How many blocks before its deadline a claim of several contestable inputs is split.
    pub split_margin: u32,
    /// The most inputs that go into one claim.
    pub max_inputs: usize,
    /// After how many blocks an output that is not worth its fee is given up.
    pub give_up_after: u32,
}

impl Default for EnforcementPolicy {
    fn default() -> Self {
        Self {
            finality: FINAL_DEPTH,
            fail_depth: FAIL_DEPTH,
            budget_percent: 50,
            penalty_budget_percent: 90,
            commitment_budget_percent: 5,
            relaxed_target: 144,
            split_margin: 18,
            max_inputs: 100,
            give_up_after: 2016,
        }
    }
}

/// What it costs to be in a block soon: rates by target, the shortest target first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeeEstimates {
    targets: Vec<(u32, FeeratePerKw)>,
}

impl FeeEstimates {
    /// Feerates by the number of blocks within which they should confirm, in any order.
    pub fn new(mut targets: Vec<(u32, FeeratePerKw)>) -> Self {
        targets.sort_unstable();
        Self { targets }
    }

    /// The feerates by the number of blocks within which they should confirm, the shortest first.
    pub fn targets(&self) -> &[(u32, FeeratePerKw)] {
        &self.targets
    }

    /// One rate for every target.
    pub fn flat(rate: FeeratePerKw) -> Self {
        Self { targets: vec![(1, rate)] }
    }

    /// The rate that should confirm within `blocks`: that of the longest target not beyond it.
    pub fn within(&self, blocks: u32) -> FeeratePerKw {
        let fitting = self.targets.iter().take_while(|(target, _)| *target <= blocks.max(1)).last();
        fitting.or(self.targets.first()).map_or(FeeratePerKw::FLOOR, |(_, rate)| (*rate).max(FeeratePerKw::FLOOR))
    }
}

/// In how many blocks a claim with a deadline would like to be confirmed while that is far: the longer it waits, the longer
/// others have to contest it.
const SOON: u32 = 6;

/// Blocks that may be on their way at any time, as many as a tip may lack that is relied on. Only miners make headers of more.
const ON_THEIR_WAY: u32 = 2;

/// Whether the block at `tip` lies in the past: no claim of now could be in it, or in the next ones.
pub fn is_catching_up(tip: Height, newest: Height) -> bool {
    newest.0.saturating_sub(tip.0) > ON_THEIR_WAY
}

/// What raises a claim's fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Urgency {
    /// The tip when the claim was first made.
    pub since: Height,
    /// The rate that it began with.
    pub start: FeeratePerKw,
    /// The last block in which the claim is of use; `None`: there is no hurry.
    pub deadline: Option<Height>,
    /// The most that the claim may cost.
    pub budget: Amount,
    /// Of the claim's transaction, with all that pays for it.
    pub weight: Weight,
}

impl Urgency {
    /// The rate that the claim should pay at this tip; `None` if the budget does not even pay for relay.
    pub fn rate(&self, tip: Height, estimates: &FeeEstimates, policy: &EnforcementPolicy) -> Option<FeeratePerKw> {
        let highest = rate_of(self.budget, self.weight);
        if highest < FeeratePerKw::FLOOR {
            return None;
        }
        let wanted = match self.deadline {
            None => estimates.within(policy.relaxed_target).max(self.start),
            Some(deadline) => {
                let left = deadline.0.saturating_sub(tip.0);
                let from = self.since.0.max(deadline.0.saturating_sub(CONFIRMATION_BUDGET));
                let total = deadline.0.saturating_sub(from).max(1);
                let passed = tip.0.saturating_sub(from);
                between(self.start, highest, passed, total).max(estimates.within(left.min(SOON)))
            }
        };
        Some(wanted.clamp(FeeratePerKw::FLOOR, highest))
    }
}

/// The rate after `passed` of `total` blocks, on the way from `low` to `high` by the same factor with each block.
fn between(low: FeeratePerKw, high: FeeratePerKw, passed: u32, total: u32) -> FeeratePerKw {
    if passed >= total || low >= high {
        return high;
    }
    // Halving the way again and again: the middle of a way by a factor is the root of the product of its ends.
    let (mut low, mut high) = (u64::from(low.0.max(1)), u64::from(high.0));
    let (mut at, total) = (u64::from(passed), u64::from(total));
    while at > 0 && low < high {
        let middle = low.saturating_mul(high).isqrt();
        at *= 2;
        if at >= total {
            at -= total;
            if middle == low {
                break;
            }
            low = middle;
        } else if middle == high {
            break;
        } else {
            high = middle;
        }
    }
    FeeratePerKw(u32::try_from(low).unwrap_or(u32::MAX))
}

/// What a new claim begins with.
pub fn starting_rate(
    tip: Height,
    deadline: Option<Height>,
    estimates: &FeeEstimates,
    policy: &EnforcementPolicy,
) -> FeeratePerKw {
    let target = deadline.map_or(policy.relaxed_target, |deadline| deadline.0.saturating_sub(tip.0).min(SOON));
    estimates.within(target)
}

/// The fee that a replacement of a transaction paying `old` must pay at least: the old one and its own relay.
pub fn replacement_fee(old: Amount, weight: Weight) -> Amount {
    old.checked_add(fee_at(FeeratePerKw::FLOOR, weight)).unwrap_or(Amount::MAX)
}

/// The fee that makes at least this rate: rounded up, unlike BOLT 3's, or a claim at the relay minimum falls below it.
pub fn fee_at(rate: FeeratePerKw, weight: Weight) -> Amount {
    Amount::from_sat(u64::from(rate.0).saturating_mul(weight.to_wu()).div_ceil(1000))
}

/// The rate that a fee makes, rounded down.
pub fn rate_of(fee: Amount, weight: Weight) -> FeeratePerKw {
    let rate = fee.to_sat().saturating_mul(1000) / weight.to_wu().max(1);
    FeeratePerKw(u32::try_from(rate).unwrap_or(u32::MAX))
}

/// A share of an amount.
pub(crate) fn percent(amount: Amount, percent: u64) -> Amount {
    Amount::from_sat(amount.to_sat().saturating_mul(percent.min(100)) / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urgency(deadline: Option<u32>) -> Urgency {
        Urgency {
            since: Height(100),
            start: FeeratePerKw(1_000),
            deadline: deadline.map(Height),
            budget: Amount::from_sat(50_000),
            weight: Weight::from_wu(1_000),
        }
    }

    #[test]
    fn far_from_the_deadline_a_claim_pays_what_the_market_asks_for_and_no_more() {
        let estimates =
            FeeEstimates::new(vec![(2, FeeratePerKw(4_000)), (6, FeeratePerKw(1_000)), (144, FeeratePerKw(253))]);
        let policy = EnforcementPolicy::default();
        let rate = |tip| urgency(Some(200)).rate(Height(tip), &estimates, &policy).unwrap().0;
        assert!((100..=176).all(|tip| rate(tip) == 1_000), "blocks that miss it cost nothing");
        assert_eq!(starting_rate(Height(100), Some(Height(200)), &estimates, &policy), FeeratePerKw(1_000));
        assert_eq!(starting_rate(Height(198), Some(Height(200)), &estimates, &policy), FeeratePerKw(4_000));
    }

    #[test]
    fn near_the_deadline_the_rate_climbs_by_a_factor_to_the_budget_and_no_further() {
        let (estimates, policy) = (FeeEstimates::flat(FeeratePerKw(1_000)), EnforcementPolicy::default());
        let rate = |tip| urgency(Some(200)).rate(Height(tip), &estimates, &policy).unwrap().0;
        // Half of the way by factors: the root of 1,000 times 50,000.
        assert_eq!((rate(176), rate(188), rate(200), rate(300)), (1_000, 7_071, 50_000, 50_000));
        for tip in 176..200 {
            let (now, next) = (u64::from(rate(tip)), u64::from(rate(tip + 1)));
            assert!(now * 115 < next * 100 && next * 100 < now * 121, "{now} at {tip}, then {next}");
        }
    }

    #[test]
    fn a_claim_that_is_made_near_its_deadline_climbs_in_what_is_left() {
        let (estimates, policy) = (FeeEstimates::flat(FeeratePerKw(1_000)), EnforcementPolicy::default());
        let late = Urgency { since: Height(196), ..urgency(Some(200)) };
        let rate = |tip| late.rate(Height(tip), &estimates, &policy).unwrap().0;
        assert_eq!((rate(196), rate(198), rate(200)), (1_000, 7_071, 50_000));
        let overdue = Urgency { since: Height(203), ..urgency(Some(200)) };
        assert_eq!(overdue.rate(Height(203), &estimates, &policy), Some(FeeratePerKw(1_000)));
        assert_eq!(overdue.rate(Height(204), &estimates, &policy), Some(FeeratePerKw(50_000)));
    }

    #[test]
    fn a_fee_spike_lifts_the_rate_at_once_but_not_above_the_budget() {
        let policy = EnforcementPolicy::default();
        let rate = |estimate| {
            let estimates = FeeEstimates::flat(FeeratePerKw(estimate));
            urgency(Some(200)).rate(Height(110), &estimates, &policy).unwrap().0
        };
        assert_eq!((rate(20_000), rate(125_000)), (20_000, 50_000));
    }

    #[test]
    fn without_a_deadline_the_cheapest_estimate_is_paid() {
        let estimates =
            FeeEstimates::new(vec![(144, FeeratePerKw(300)), (1, FeeratePerKw(9_000)), (6, FeeratePerKw(2_000))]);
        let policy = EnforcementPolicy::default();
        let began_at = |start| Urgency { start: FeeratePerKw(start), ..urgency(None) };
        assert_eq!(began_at(253).rate(Height(5_000), &estimates, &policy), Some(FeeratePerKw(300)));
        assert_eq!(began_at(700).rate(Height(5_000), &estimates, &policy), Some(FeeratePerKw(700)));
        assert_eq!(
            [1, 5, 6, 143, 144, 2016].map(|blocks| estimates.within(blocks).0),
            [9_000, 9_000, 2_000, 2_000, 300, 300]
        );
    }

    #[test]
    fn what_cannot_pay_for_relay_is_left() {
        let poor = Urgency { budget: Amount::from_sat(200), ..urgency(Some(200)) };
        assert_eq!(poor.rate(Height(150), &FeeEstimates::default(), &EnforcementPolicy::default()), None);
    }
}
