//! The transactions that are on their way: what each pays, and how it is replaced.
//!
//! ```text
//!  Claim ──coins, if it cannot pay for itself──► broadcast ──each block──► raise or repeat
//! ```
//!
//! Promises: what a claim pays stays within its budget, however often it is refused.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Weight};

use super::{
    Ctx, FeeEstimates, Policy, TrackedOutput,
    bump::{self, Urgency},
};
use crate::{
    tx::{ClaimError, ClaimInput, ClaimPath, ClaimRequest, FeeCoin, build_claim, claim_weight},
    types::{FeeratePerKw, Height},
};

/// Names a claim as long as the channel is being resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub u32);

/// A transaction that claims one or more outputs, in its newest version.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub inputs: BTreeSet<OutPoint>,
    /// The tip when it was first wanted.
    pub since: Height,
    pub start: FeeratePerKw,
    /// Coins that the wallet has set aside for it.
    pub coins: Vec<FeeCoin>,
    /// The newest version, if there is one: without coins some claims cannot be built. Inputs that spend coins are
    /// not signed yet.
    pub sent: Option<Sent>,
    /// A rate that a person asked for: the least that the next version pays.
    pub floor: Option<FeeratePerKw>,
}

/// A version of a claim that has been broadcast.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub tx: Transaction,
    pub fee: Amount,
    pub weight: Weight,
}

impl Sent {
    pub fn rate(&self) -> FeeratePerKw {
        bump::rate_of(self.fee, self.weight)
    }
}

/// What to do about a claim at a new tip.
pub(super) enum Step {
    /// Broadcast (again) what `sent` holds.
    Broadcast,
    /// The wallet must set coins aside, worth at least this in all.
    NeedCoins(Amount),
    /// It is not worth its fee now.
    Wait,
}

/// What a claim is judged by.
struct Plan {
    inputs: Vec<ClaimInput>,
    deadline: Option<Height>,
    budget: Amount,
    /// Whether it can pay for itself.
    needs_coins: bool,
    presigned: bool,
}

impl Plan {
    fn of(tracked: &[&TrackedOutput], destination: &ScriptBuf, policy: &Policy) -> Self {
        let inputs: Vec<ClaimInput> = tracked.iter().filter_map(|output| output.claim.clone()).collect();
        let is_stage = |input: &ClaimInput| matches!(input.path, ClaimPath::SecondStage(_));
        let presigned = inputs.iter().any(ClaimInput::is_presigned);
        let needs_coins = inputs.iter().any(|input| is_stage(input) && !input.is_presigned());
        let mut budget = budget_of(tracked.iter().copied(), policy);
        if !needs_coins {
            // Whatever it costs, something must be left that can be paid to us.
            let total = tracked
                .iter()
                .map(|output| output.output.value)
                .fold(Amount::ZERO, |sum, next| sum.checked_add(next).unwrap_or(sum));
            budget = budget.min(total.checked_sub(destination.minimal_non_dust()).unwrap_or(Amount::ZERO));
        }
        let deadline = tracked.iter().filter_map(|output| output.deadline).min();
        Self { inputs, deadline, budget, needs_coins, presigned }
    }

    fn weight(&self, coins: &[FeeCoin], destination: &ScriptBuf) -> Weight {
        let weight = claim_weight(&self.inputs, coins, destination);
        if self.needs_coins && coins.is_empty() {
            // A P2WPKH coin to begin with.
            return weight.checked_add(ASSUMED_COIN_WEIGHT).unwrap_or(weight);
        }
        weight
    }
}

impl Claim {
    pub fn new(inputs: BTreeSet<OutPoint>, since: Height, start: FeeratePerKw) -> Self {
        Self { inputs, since, start, coins: Vec::new(), sent: None, floor: None }
    }

    /// Makes the next version pay at least a quarter more than the refused one, as far as the budget goes.
    pub(super) fn raise(&mut self) {
        let refused = self.sent.as_ref().map_or(self.start, Sent::rate);
        self.start = self.start.max(FeeratePerKw(refused.0.saturating_add(refused.0 / 4)));
    }

    /// Builds, raises or repeats the claim for this tip.
    pub(super) fn step(
        &mut self,
        outputs: &BTreeMap<OutPoint, TrackedOutput>,
        destination: &ScriptBuf,
        ctx: &Ctx<'_>,
    ) -> Result<Step, ClaimError> {
        let Ctx { tip, estimates, policy, signer } = *ctx;
        // After a reorganisation the locks may run again.
        let tracked: Vec<&TrackedOutput> = self.inputs.iter().filter_map(|outpoint| outputs.get(outpoint)).collect();
        if !tracked.iter().all(|output| output.is_claimable(tip)) {
            return Ok(Step::Wait);
        }
        let plan = Plan::of(&tracked, destination, policy);
        let weight = plan.weight(&self.coins, destination);
        let urgency =
            Urgency { since: self.since, start: self.start, deadline: plan.deadline, budget: plan.budget, weight };
        let rate = match urgency.rate(tip, estimates, policy) {
            Some(rate) => rate.max(self.floor.unwrap_or(FeeratePerKw::FLOOR)),
            // What the peer has signed as a whole pays what it pays.
            None if plan.presigned => FeeratePerKw::FLOOR,
            None => return Ok(if self.sent.is_some() { Step::Broadcast } else { Step::Wait }),
        };
        let mut fee = bump::fee_at(rate, weight);
        if let Some(sent) = &self.sent {
            let least = bump::replacement_fee(sent.fee, weight);
            let same_inputs = sent.tx.input.len() == self.inputs.len().saturating_add(self.coins.len());
            if plan.presigned || (same_inputs && (fee < least || rate <= sent.rate())) {
                return Ok(Step::Broadcast);
            }
            fee = fee.max(least);
        }
        if plan.needs_coins {
            let needed = fee.checked_add(destination.minimal_non_dust()).unwrap_or(Amount::MAX);
            let have: Amount = self.coins.iter().map(|coin| coin.output.value).sum();
            if have < needed {
                return Ok(Step::NeedCoins(needed));
            }
        }
        let request = ClaimRequest { inputs: plan.inputs, fee_coins: &self.coins, destination, fee, tip };
        let claim = match build_claim(request) {
            Ok(claim) => claim,
            Err(ClaimError::Uneconomic { .. }) => {
                return Ok(if self.sent.is_some() { Step::Broadcast } else { Step::Wait });
            }
            Err(error) => return Err(error),
        };
        self.sent = Some(Sent { tx: claim.sign(signer)?, fee: claim.fee, weight });
        Ok(Step::Broadcast)
    }
}

/// What claiming these outputs may cost at most.
pub(super) fn budget_of<'a>(outputs: impl IntoIterator<Item = &'a TrackedOutput>, policy: &Policy) -> Amount {
    let share = |output: &TrackedOutput| {
        let share = if output.role.is_penalty() { policy.penalty_budget_percent } else { policy.budget_percent };
        bump::percent(output.output.value, share)
    };
    outputs.into_iter().map(share).fold(Amount::ZERO, |sum, next| sum.checked_add(next).unwrap_or(sum))
}

/// The input of a P2WPKH coin.
const ASSUMED_COIN_WEIGHT: Weight = Weight::from_wu(41 * 4 + 108);

/// Whether a claim of this output and no other can be made at today's cheapest rate.
pub(super) fn can_be_alone(
    output: &TrackedOutput,
    estimates: &FeeEstimates,
    policy: &Policy,
    destination: &ScriptBuf,
) -> bool {
    let plan = Plan::of(&[output], destination, policy);
    let cheapest = bump::fee_at(estimates.within(policy.relaxed_target), plan.weight(&[], destination));
    plan.presigned || cheapest <= plan.budget
}

/// Whether an output pays for its part of a claim at today's cheapest rate: coins that others bring left out.
pub(super) fn is_economic(
    output: &TrackedOutput,
    estimates: &FeeEstimates,
    policy: &Policy,
    destination: &ScriptBuf,
) -> bool {
    let Some(claim) = &output.claim else { return false };
    let inputs = std::slice::from_ref(claim);
    let weight = claim_weight(inputs, &[], destination);
    let cheapest = bump::fee_at(estimates.within(policy.relaxed_target), weight);
    claim.is_presigned() || cheapest <= budget_of([output], policy)
}
