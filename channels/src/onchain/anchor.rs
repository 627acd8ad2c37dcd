//! Getting our own commitment into a block: as it is, or with a child on our anchor that pays for both (BOLT 5,
//! Failing a Channel).

use std::collections::BTreeSet;

use bitcoin::{Amount, OutPoint};

use super::{
    Claim, ClaimId, ClosingChannel, Ctx, Effect,
    bump::{self, Urgency},
    claims::Sent,
    history::Facts,
    resolution::ResolutionError,
};
use crate::{
    keys::ClaimKey,
    tx::{ClaimError, ClaimInput, ClaimPath, ClaimRequest, CommitmentTx, OutputKind, build_claim, claim_weight},
    types::{FeeratePerKw, Height, HtlcDirection, PaymentHash},
};

/// The name of the child in [`Effect::NeedCoins`].
pub(super) const CHILD: ClaimId = ClaimId(u32::MAX);

/// Broadcasts our commitment, with a child where its own rate is not enough.
pub(super) fn push_commitment(
    channel: &ClosingChannel,
    facts: &mut Facts,
    ctx: &Ctx<'_>,
    effects: &mut Vec<Effect>,
) -> Result<(), ResolutionError> {
    let Some(commitment) = channel.local_commitment()? else { return Ok(()) };
    let Some(parent) = channel.signed_local_commitment(ctx.signer)? else { return Ok(()) };
    let alone = Effect::Broadcast { tx: parent.clone(), parents: Vec::new(), coins: Vec::new() };
    let Some(anchor) = anchor_input(&commitment) else {
        effects.push(alone);
        return Ok(());
    };

    let knows = |hash: &PaymentHash| channel.preimages.contains_key(hash) || facts.preimages.contains_key(hash);
    let (deadline, at_stake) = stake(channel, knows);
    let parent_fee = commitment_fee(channel, &commitment);
    let start = bump::starting_rate(ctx.tip, deadline, ctx.estimates, ctx.policy);
    let child = facts.child.get_or_insert_with(|| Claim::new(BTreeSet::from([anchor.outpoint]), ctx.tip, start));

    let weight = claim_weight(std::slice::from_ref(&anchor), &child.coins, &channel.destination);
    let package = weight + parent.weight();
    let budget = bump::percent(at_stake, ctx.policy.budget_percent)
        .checked_add(bump::percent(own_balance(channel), ctx.policy.commitment_budget_percent))
        .unwrap_or(at_stake);
    let urgency = Urgency { since: child.since, start: child.start, deadline, budget, weight: package };
    let floor = child.floor.unwrap_or(FeeratePerKw::FLOOR);
    let rate = urgency.rate(ctx.tip, ctx.estimates, ctx.policy).unwrap_or(FeeratePerKw::FLOOR).max(floor);
    if rate <= bump::rate_of(parent_fee, parent.weight()) && child.sent.is_none() {
        effects.push(alone);
        return Ok(());
    }

    let wanted = bump::fee_at(rate, package).checked_sub(parent_fee).unwrap_or(Amount::ZERO);
    let mut child_fee = wanted.max(bump::fee_at(FeeratePerKw::FLOOR, weight));
    let mut build = true;
    if let Some(sent) = &child.sent {
        let least = bump::replacement_fee(sent.fee, weight);
        build = child_fee >= least;
        child_fee = child_fee.max(least);
    }
    let needed = child_fee.checked_add(channel.destination.minimal_non_dust()).unwrap_or(Amount::MAX);
    let have: Amount = child.coins.iter().map(|coin| coin.output.value).sum();
    if build && have < needed {
        effects.push(alone);
        effects.push(Effect::NeedCoins { claim: CHILD, amount: needed });
        return Ok(());
    }
    if build {
        let built = build_claim(ClaimRequest {
            inputs: vec![anchor],
            fee_coins: &child.coins,
            destination: &channel.destination,
            fee: child_fee,
            tip: ctx.tip,
        });
        match built {
            Ok(claim) => child.sent = Some(Sent { tx: claim.sign(ctx.signer)?, fee: claim.fee, weight }),
            Err(ClaimError::Uneconomic { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match &child.sent {
        Some(sent) => {
            effects.push(Effect::Broadcast { tx: sent.tx.clone(), parents: vec![parent], coins: child.coins.clone() })
        }
        None => effects.push(alone),
    }
    Ok(())
}

/// Our anchor on our own commitment.
fn anchor_input(commitment: &CommitmentTx) -> Option<ClaimInput> {
    let (vout, output, info) = commitment.outputs().find(|(_, _, info)| info.kind == OutputKind::ToLocalAnchor)?;
    Some(ClaimInput {
        outpoint: OutPoint { txid: commitment.txid, vout },
        output: output.clone(),
        witness_script: info.witness_script.clone(),
        key: ClaimKey::Funding,
        path: ClaimPath::Anchor,
    })
}

/// What the commitment itself pays.
fn commitment_fee(channel: &ClosingChannel, commitment: &CommitmentTx) -> Amount {
    let outputs = commitment.tx.output.iter().map(|output| output.value);
    let total = outputs.fold(Amount::ZERO, |sum, next| sum.checked_add(next).unwrap_or(sum));
    channel.capacity.checked_sub(total).unwrap_or(Amount::ZERO)
}

fn own_balance(channel: &ClosingChannel) -> Amount {
    channel.local_state.as_ref().map_or(Amount::ZERO, |state| state.to_local.floor_sat())
}

/// The first deadline among our HTLCs, and what they are worth to us together.
fn stake(channel: &ClosingChannel, knows: impl Fn(&PaymentHash) -> bool) -> (Option<Height>, Amount) {
    let htlcs = channel.local_state.iter().flat_map(|state| &state.htlcs);
    let mut deadline = None;
    let mut total = Amount::ZERO;
    for htlc in htlcs {
        let until = match htlc.direction {
            HtlcDirection::Received if knows(&htlc.payment_hash) => htlc.cltv_expiry,
            HtlcDirection::Received => continue,
            HtlcDirection::Offered => match channel.upstream_expiries.get(&htlc.id) {
                Some(expiry) => *expiry,
                None => continue,
            },
        };
        deadline = deadline.into_iter().chain([Height(until.0)]).min();
        total = total.checked_add(htlc.amount.floor_sat()).unwrap_or(total);
    }
    (deadline, total)
}
