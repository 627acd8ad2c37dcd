//! Getting a commitment into a block: our own as it is, or either side's with a child on our anchor that pays for both
//! (BOLT 5, Failing a Channel).
//!
//! ```text
//!  the peer's commitment waits in the mempool: it is hurried if we want the close, or an HTLC of ours is at stake
//!  otherwise, if we want the close:            our own is broadcast, and hurried
//! ```

use std::collections::BTreeSet;

use bitcoin::{Amount, OutPoint, Transaction};

use super::{
    Claim, ClaimId, Closer, ClosingChannel, Ctx, Effect,
    bump::{self, Urgency},
    claims::Sent,
    classify,
    closing_channel::is_outgoing,
    history::Facts,
    resolution::ResolutionError,
};
use crate::{
    keys::ClaimKey,
    tx::{
        ClaimError, ClaimInput, ClaimPath, ClaimRequest, CommitmentHtlc, CommitmentTx, OutputKind, build_claim,
        claim_weight,
    },
    types::{FeeratePerKw, Height, PaymentHash, Side},
};

/// The name of the child in [`Effect::NeedCoins`].
pub(super) const CHILD: ClaimId = ClaimId(u32::MAX);

/// A commitment that is not in a block yet.
struct Pending {
    owner: Side,
    commitment: CommitmentTx,
    signed: Transaction,
    htlcs: Vec<CommitmentHtlc>,
}

/// Pushes whichever commitment can close the channel. `in_mempool` is what spends the funding output there.
pub(super) fn push_commitment(
    channel: &ClosingChannel,
    facts: &mut Facts,
    in_mempool: Option<&Transaction>,
    ctx: &Ctx<'_>,
    effects: &mut Vec<Effect>,
) -> Result<(), ResolutionError> {
    let pending = match remote_pending(channel, in_mempool)? {
        Some(pending) => pending,
        None => {
            let (Some(state), true) = (&channel.local_state, facts.force_close) else { return Ok(()) };
            let Some(commitment) = channel.local_commitment()? else { return Ok(()) };
            let Some(signed) = channel.signed_local_commitment(ctx.signer)? else { return Ok(()) };
            Pending { owner: Side::Local, commitment, signed, htlcs: state.htlcs.clone() }
        }
    };
    let knows = |hash: &PaymentHash| channel.preimages.contains_key(hash) || facts.preimages.contains_key(hash);
    let stake = stake(channel, pending.owner, &pending.htlcs, knows);
    if !facts.force_close && stake.0.is_none() {
        return Ok(());
    }
    push(&pending, stake, channel, facts, ctx, effects)
}

/// The peer's commitment, if it is one that may be there and has an anchor of ours.
fn remote_pending(
    channel: &ClosingChannel,
    in_mempool: Option<&Transaction>,
) -> Result<Option<Pending>, ResolutionError> {
    let Some(signed) = in_mempool else { return Ok(None) };
    let Closer::Remote { state, commitment } = classify(channel, signed)? else { return Ok(None) };
    let pending = Pending { owner: Side::Remote, commitment: *commitment, signed: signed.clone(), htlcs: state.htlcs };
    Ok(anchor_input(&pending).is_some().then_some(pending))
}

/// Broadcasts a commitment, with a child where its own rate is not enough.
fn push(
    pending: &Pending,
    (deadline, at_stake): (Option<Height>, Amount),
    channel: &ClosingChannel,
    facts: &mut Facts,
    ctx: &Ctx<'_>,
    effects: &mut Vec<Effect>,
) -> Result<(), ResolutionError> {
    let parent = pending.signed.clone();
    let alone = Effect::Broadcast { tx: parent.clone(), parents: Vec::new(), coins: Vec::new() };
    let Some(anchor) = anchor_input(pending) else {
        effects.push(alone);
        return Ok(());
    };

    // The child of another commitment can never be.
    if let Some(other) = facts.child.take_if(|child| !child.inputs.contains(&anchor.outpoint))
        && !other.coins.is_empty()
    {
        effects.push(Effect::ReleaseCoins(other.coins));
    }
    let parent_fee = commitment_fee(channel, &pending.commitment);
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

/// Our anchor on a commitment.
fn anchor_input(pending: &Pending) -> Option<ClaimInput> {
    let ours = match pending.owner {
        Side::Local => OutputKind::ToLocalAnchor,
        Side::Remote => OutputKind::ToRemoteAnchor,
    };
    let (vout, output, info) = pending.commitment.outputs().find(|(_, _, info)| info.kind == ours)?;
    Some(ClaimInput {
        outpoint: OutPoint { txid: pending.commitment.txid, vout },
        output: output.clone(),
        witness_script: info.witness_script.clone(),
        key: ClaimKey::Funding,
        path: ClaimPath::Anchor,
    })
}

/// What a commitment pays to the miners, HTLCs too small for an output included.
pub(super) fn commitment_fee(channel: &ClosingChannel, commitment: &CommitmentTx) -> Amount {
    let outputs = commitment.tx.output.iter().map(|output| output.value);
    let total = outputs.fold(Amount::ZERO, |sum, next| sum.checked_add(next).unwrap_or(sum));
    channel.capacity.checked_sub(total).unwrap_or(Amount::ZERO)
}

fn own_balance(channel: &ClosingChannel) -> Amount {
    channel.local_state.as_ref().map_or(Amount::ZERO, |state| state.to_local.floor_sat())
}

/// The first deadline among the HTLCs of `owner`'s commitment, and what they are worth to us together.
fn stake(
    channel: &ClosingChannel,
    owner: Side,
    htlcs: &[CommitmentHtlc],
    knows: impl Fn(&PaymentHash) -> bool,
) -> (Option<Height>, Amount) {
    let mut deadline = None;
    let mut total = Amount::ZERO;
    for htlc in htlcs {
        let until = match is_outgoing(owner, htlc) {
            false if knows(&htlc.payment_hash) => htlc.cltv_expiry,
            false => continue,
            true => match channel.upstream_expiries.get(&htlc.id) {
                Some(expiry) => *expiry,
                None => continue,
            },
        };
        deadline = deadline.into_iter().chain([Height(until.0)]).min();
        total = total.checked_add(htlc.amount.floor_sat()).unwrap_or(total);
    }
    (deadline, total)
}
