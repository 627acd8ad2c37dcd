//! The transactions that are on their way: what each pays, and how it is replaced.
//!
//! ```text
//!  Claim ──coins, if it cannot pay for itself──► broadcast ──each block──► raise or repeat
//!             ▲   └── fewer than wanted: it pays what they can, and asks again at the next block
//!             └────── they are gone: it asks for others
//! ```
//!
//! Promises: what a claim pays stays within its budget, however often it is refused; a claim that can pay for relay is
//! never kept back because it should pay more.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Weight};

use super::{
    Ctx, Effect, EnforcementPolicy, FeeEstimates, TrackedOutput,
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
    /// The outputs that it claims.
    pub inputs: BTreeSet<OutPoint>,
    /// The tip when it was first wanted, or the newest block if that was known to lie ahead.
    pub since: Height,
    /// The feerate of its first version.
    pub start: FeeratePerKw,
    /// Coins that the wallet has set aside for it.
    pub coins: Vec<FeeCoin>,
    /// The newest version, if there is one: without coins some claims cannot be built. Inputs that spend coins are
    /// not signed yet; some of `coins` may have been set aside since.
    pub sent: Option<Sent>,
    /// A rate that a person asked for: the least that the next version pays.
    pub floor: Option<FeeratePerKw>,
}

/// A version of a claim that has been broadcast.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    /// The transaction, signed.
    pub tx: Transaction,
    /// What it pays.
    pub fee: Amount,
    /// Its weight with all witnesses.
    pub weight: Weight,
    /// What it pays for itself, or a child for itself and its parent.
    pub rate: FeeratePerKw,
}

/// What to do about a claim at a new tip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Broadcast (again) what `sent` holds.
    pub broadcast: bool,
    /// The coins of the wallet that it should have, in all, and has not.
    pub wanted: Option<Amount>,
}

impl Step {
    /// It is not worth its fee now.
    pub(super) const WAIT: Self = Self { broadcast: false, wanted: None };
    pub(super) const BROADCAST: Self = Self { broadcast: true, wanted: None };
}

/// Whether the wallet has answered in this turn what it can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coins {
    /// It is asked before anything is built with fewer coins than wanted.
    Asked,
    /// There are no more than these.
    All,
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
    fn of(tracked: &[&TrackedOutput], destination: &ScriptBuf, policy: &EnforcementPolicy) -> Self {
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
    /// A claim that was decided on at the height `since`, and of which nothing was broadcast.
    pub fn new(inputs: BTreeSet<OutPoint>, since: Height, start: FeeratePerKw) -> Self {
        Self { inputs, since, start, coins: Vec::new(), sent: None, floor: None }
    }

    /// The newest version as an effect, with those of its coins that it spends.
    pub(super) fn broadcast(&self, parents: Vec<Transaction>) -> Option<Effect> {
        let tx = self.sent.as_ref()?.tx.clone();
        let spends = |coin: &&FeeCoin| tx.input.iter().any(|input| input.previous_output == coin.outpoint);
        let coins = self.coins.iter().filter(spends).cloned().collect();
        Some(Effect::Broadcast { tx, parents, coins })
    }

    /// Gives coins up that can be spent no more, and the version that spends them.
    pub(super) fn lose_coins(&mut self, lost: &[OutPoint]) -> Vec<FeeCoin> {
        let is_lost = |outpoint: &OutPoint| lost.contains(outpoint);
        let spends_lost = |sent: &mut Sent| sent.tx.input.iter().any(|input| is_lost(&input.previous_output));
        if let Some(dead) = self.sent.take_if(spends_lost) {
            self.start = self.start.max(dead.rate);
        }
        self.coins.extract_if(.., |coin| is_lost(&coin.outpoint)).collect()
    }

    /// Makes the next version pay at least a quarter more than the refused one, as far as the budget goes.
    pub(super) fn raise(&mut self) {
        let refused = self.sent.as_ref().map_or(self.start, |sent| sent.rate);
        self.start = self.start.max(FeeratePerKw(refused.0.saturating_add(refused.0 / 4)));
    }

    /// Builds, raises or repeats the claim for this tip.
    pub(super) fn step(
        &mut self,
        outputs: &BTreeMap<OutPoint, TrackedOutput>,
        destination: &ScriptBuf,
        ctx: &Ctx<'_>,
        coins: Coins,
    ) -> Result<Step, ClaimError> {
        let Ctx { tip, estimates, policy, signer, .. } = *ctx;
        // After a reorganisation the locks may run again.
        let tracked: Vec<&TrackedOutput> = self.inputs.iter().filter_map(|outpoint| outputs.get(outpoint)).collect();
        if !tracked.iter().all(|output| output.is_claimable(tip)) {
            return Ok(Step::WAIT);
        }
        let plan = Plan::of(&tracked, destination, policy);
        let weight = plan.weight(&self.coins, destination);
        let urgency =
            Urgency { since: self.since, start: self.start, deadline: plan.deadline, budget: plan.budget, weight };
        let repeat = Step { broadcast: self.sent.is_some(), wanted: None };
        let rate = match urgency.rate(tip, estimates, policy) {
            Some(rate) => rate.max(self.floor.unwrap_or(FeeratePerKw::FLOOR)),
            // What the peer has signed as a whole pays what it pays.
            None if plan.presigned => FeeratePerKw::FLOOR,
            None => return Ok(repeat),
        };
        let mut fee = bump::fee_at(rate, weight);
        let mut least = bump::fee_at(FeeratePerKw::FLOOR, weight);
        if let Some(sent) = &self.sent {
            least = bump::replacement_fee(sent.fee, weight);
            let same_inputs = sent.tx.input.len() == self.inputs.len().saturating_add(self.coins.len());
            if plan.presigned || (same_inputs && (fee < least || rate <= sent.rate)) {
                return Ok(Step::BROADCAST);
            }
            fee = fee.max(least);
        }
        let mut wanted = None;
        if plan.needs_coins {
            let needed = fee.checked_add(destination.minimal_non_dust()).unwrap_or(Amount::MAX);
            let have: Amount = self.coins.iter().map(|coin| coin.output.value).sum();
            wanted = (have < needed).then_some(needed);
            fee = fee.min(have);
            let asks_first = wanted.is_some() && coins == Coins::Asked;
            if asks_first || fee < least {
                return Ok(Step { wanted, ..repeat });
            }
        }
        let request = ClaimRequest { inputs: plan.inputs, fee_coins: &self.coins, destination, fee, tip };
        let claim = match build_claim(request) {
            Ok(claim) => claim,
            Err(ClaimError::Uneconomic { .. }) => return Ok(Step { wanted, ..repeat }),
            Err(error) => return Err(error),
        };
        let rate = bump::rate_of(claim.fee, weight);
        self.sent = Some(Sent { tx: claim.sign(signer)?, fee: claim.fee, weight, rate });
        Ok(Step { wanted, ..Step::BROADCAST })
    }
}

/// What claiming these outputs may cost at most.
pub(super) fn budget_of<'a>(
    outputs: impl IntoIterator<Item = &'a TrackedOutput>,
    policy: &EnforcementPolicy,
) -> Amount {
    let share = |output: &TrackedOutput| {
        let share = if output.role.is_penalty() { policy.penalty_budget_percent } else { policy.budget_percent };
        bump::percent(output.output.value, share)
    };
    outputs.into_iter().map(share).fold(Amount::ZERO, |sum, next| sum.checked_add(next).unwrap_or(sum))
}

/// The input of a P2WPKH coin.
pub(super) const ASSUMED_COIN_WEIGHT: Weight = Weight::from_wu(41 * 4 + 108);

/// Whether a claim of this output and no other can be made at today's cheapest rate.
pub(super) fn can_be_alone(
    output: &TrackedOutput,
    estimates: &FeeEstimates,
    policy: &EnforcementPolicy,
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
    policy: &EnforcementPolicy,
    destination: &ScriptBuf,
) -> bool {
    let Some(claim) = &output.claim else { return false };
    let inputs = std::slice::from_ref(claim);
    let weight = claim_weight(inputs, &[], destination);
    let cheapest = bump::fee_at(estimates.within(policy.relaxed_target), weight);
    claim.is_presigned() || cheapest <= budget_of([output], policy)
}
