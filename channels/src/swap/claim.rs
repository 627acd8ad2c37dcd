//! What spends a contract, or calls its lock back, and what that pays: more with each block, within its budget.

use bitcoin::{Amount, Transaction};
use secp256k1::SecretKey;

use super::{
    contract::{Contract, ContractError, Path, Spend},
    leg::{Claim, LegState},
};
use crate::{
    onchain::{EnforcementPolicy, FeeEstimates, Urgency, fee_at, percent, rate_of, replacement_fee, starting_rate},
    types::Height,
};

/// Blocks until a refund may pay its whole budget: nobody else can take the coins without giving theirs.
pub(super) const REFUND_PATIENCE: u32 = 144;

/// A spend that is wanted.
pub(super) struct Terms<'a> {
    pub contract: &'a Contract,
    pub path: Path,
    pub key: SecretKey,
    /// The height by which it should have paid its whole budget.
    pub deadline: Height,
}

/// The spend of a leg as it should be now: the one that there is, or one that pays more. `None` if there is nothing to
/// spend, or it cannot pay for its relay.
pub(super) fn build(
    state: &LegState,
    terms: &Terms<'_>,
    estimates: &FeeEstimates,
    policy: &EnforcementPolicy,
) -> Result<Option<Claim>, ContractError> {
    let Terms { contract, path, key, deadline } = *terms;
    let Some(lock) = state.lock else { return Ok(None) };
    let with_secret = matches!(path, Path::Redeem(_));
    let spends_it = |claim: &&Claim| {
        let first = claim.transaction.input.first();
        claim.with_secret == with_secret && first.is_some_and(|input| input.previous_output == lock.outpoint)
    };
    let old = state.claim.as_ref().filter(spends_it);
    let weight = contract.spend_weight(path, &state.destination)?;
    let tip = state.tip.height;
    let start = starting_rate(tip, Some(deadline), estimates, policy);
    let (since, start, deadline) = old.map_or((tip, start, deadline), |old| (old.since, old.start, old.deadline));
    let budget = percent(lock.amount, policy.budget_percent);
    let urgency = Urgency { since, start, deadline: Some(deadline), budget, weight };
    let Some(rate) = urgency.rate(tip, estimates, policy) else { return Ok(old.cloned()) };
    let fee = fee_at(rate, weight);
    if let Some(old) = old
        && (fee < replacement_fee(old.fee, weight) || rate <= rate_of(old.fee, weight))
    {
        return Ok(Some(old.clone()));
    }
    let spend = Spend { outpoint: lock.outpoint, amount: lock.amount, path, to: &state.destination, fee };
    let transaction = contract.spend(&spend, &key)?;
    Ok(Some(Claim { transaction, with_secret, fee, since, start, deadline }))
}

/// A lock that no block has taken, and that shall not come any more.
pub(super) struct Recall<'a> {
    pub lock: &'a Transaction,
    /// The most that it pays.
    pub paid: Amount,
    /// What it locks.
    pub amount: Amount,
    /// Seconds or blocks over which the fee climbs to its budget.
    pub window: u64,
    /// Of these, what is left.
    pub left: u64,
}

/// What calling a lock back pays.
pub(super) fn recall_fee(recall: &Recall<'_>, estimates: &FeeEstimates, policy: &EnforcementPolicy) -> Option<Amount> {
    let weight = recall.lock.weight();
    let least = replacement_fee(recall.paid, weight);
    let soon = fee_at(estimates.within(1), weight);
    let budget = percent(recall.amount, policy.budget_percent);
    let way = budget.checked_sub(least).unwrap_or(Amount::ZERO).to_sat();
    let passed = u128::from(recall.window.saturating_sub(recall.left));
    let climbed = u128::from(way).saturating_mul(passed) / u128::from(recall.window.max(1));
    let ramp = least.checked_add(Amount::from_sat(u64::try_from(climbed).unwrap_or(way)))?;
    Some(ramp.max(soon).min(budget.max(least)))
}
