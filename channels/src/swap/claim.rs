//! What spends a contract, or calls its lock back, and what that pays: more with each block, within its budget.

use bitcoin::{Amount, Transaction};
use secp256k1::SecretKey;

use super::{
    contract::{Contract, ContractError, Path, Spend},
    leg::{Claim, LegState, Ramp, Recall},
    margins,
};
use crate::{
    onchain::{EnforcementPolicy, FeeEstimates, Urgency, fee_at, percent, rate_of, replacement_fee, starting_rate},
    types::Height,
};

/// The share of a lock, in percent, that calling it back may pay: nobody bids against it, a block has only to take it.
const RECALL_PERCENT: u64 = 5;

/// A spend that is wanted.
pub(super) struct Terms<'a> {
    pub contract: &'a Contract,
    pub path: Path,
    pub key: SecretKey,
    /// The height by which it should have paid its whole budget; `None` while nobody else can take the coins without giving
    /// theirs.
    pub deadline: Option<Height>,
    /// The swap has been fed to the chain's tip.
    pub is_fed: bool,
}

/// The spend of a leg as it should be now: the one that there is, or one that pays more. `None` if there is nothing to
/// spend, or it cannot pay for its relay.
pub(super) fn build(
    state: &LegState,
    terms: &Terms<'_>,
    estimates: &FeeEstimates,
    policy: &EnforcementPolicy,
) -> Result<Option<Claim>, ContractError> {
    let Terms { contract, path, key, deadline, is_fed } = *terms;
    let Some(lock) = state.lock else { return Ok(None) };
    let with_secret = matches!(path, Path::Redeem(_));
    let spends_it = |claim: &&Claim| {
        let first = claim.transaction.input.first();
        claim.with_secret == with_secret && first.is_some_and(|input| input.previous_output == lock.outpoint)
    };
    let old = state.claim.as_ref().filter(spends_it);
    let weight = contract.spend_weight(path, &state.destination)?;
    let tip = state.tip.height;
    let start = match path {
        Path::Redeem(_) => starting_rate(tip, deadline, estimates, policy),
        Path::Refund => estimates.within(margins::CONFIRMATION_BUDGET),
    };
    let start = old.map_or(start, |old| start.max(rate_of(old.fee, weight)));
    let ramp = match (old.and_then(|old| old.ramp), deadline) {
        // A chain that is slower than its spacing brings the deadline nearer.
        (Some(ramp), Some(deadline)) => Some(Ramp { deadline: ramp.deadline.min(deadline), ..ramp }),
        (Some(ramp), None) => Some(ramp),
        // Blocks that could not have it, since the chain was away or is caught up with, raise nothing.
        (None, Some(deadline)) if is_fed => Some(Ramp { since: tip, start, deadline }),
        (None, Some(_) | None) => None,
    };
    let budget = percent(lock.amount, policy.budget_percent);
    let urgency = match ramp {
        Some(Ramp { since, start, deadline }) => Urgency { since, start, deadline: Some(deadline), budget, weight },
        None => Urgency { since: tip, start, deadline: None, budget, weight },
    };
    let Some(rate) = urgency.rate(tip, estimates, policy) else { return Ok(old.cloned()) };
    let fee = fee_at(rate, weight);
    if let Some(old) = old
        && (fee < replacement_fee(old.fee, weight) || rate <= rate_of(old.fee, weight))
    {
        return Ok(Some(Claim { ramp, ..old.clone() }));
    }
    let spend = Spend { outpoint: lock.outpoint, amount: lock.amount, path, to: &state.destination, fee };
    let transaction = contract.spend(&spend, &key)?;
    Ok(Some(Claim { transaction, with_secret, fee, ramp }))
}

impl LegState {
    /// What calling this person's lock back pays, of which no more than `limit` is paid in fees: enough to replace it, or what
    /// a block asks for; and twice as much with each block that did not take it. Time alone raises nothing.
    pub(super) fn recall_fee(
        &mut self,
        lock: &Transaction,
        limit: Amount,
        amount: Amount,
        estimates: &FeeEstimates,
    ) -> Amount {
        let (weight, tip) = (lock.weight(), self.tip.height);
        let most = percent(amount, RECALL_PERCENT);
        let soon = fee_at(estimates.within(1), weight);
        let least = replacement_fee(self.lock_fee.unwrap_or(limit), weight);
        let since = self.recall.map_or(tip, |recall| recall.since);
        let missed = tip.0.saturating_sub(since.0);
        let climbed = least.to_sat().checked_shl(missed).filter(|fee| fee >> missed == least.to_sat());
        let climbed = climbed.map_or(most, Amount::from_sat);
        let wanted = climbed.max(soon).min(most.max(least));
        let fee = match self.recall {
            Some(before) if wanted < replacement_fee(before.fee, weight) => before.fee,
            Some(_) | None => wanted,
        };
        self.recall = Some(Recall { since, fee });
        fee
    }
}
