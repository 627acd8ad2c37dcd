//! Getting a commitment into a block: our own as it is, or either side's with a child of ours that pays for both
//! (BOLT 5, Failing a Channel).
//!
//! ```text
//!  nothing in the mempool:   our own is broadcast and hurried, if we want the close
//!  the peer's commitment waits there, and we want the close, or an HTLC of ours is at stake:
//!
//!     hurried by a child ──refused, or three blocks in vain──► our own with its child, to take the other's place
//!              ▲                                                        │
//!              └──────────────── refused: at the next block ────────────┘
//! ```
//!
//! The child spends our anchor, or on the peer's commitment of a channel without anchors our `to_remote`, which pays for
//! itself. Both commitments' children share the same coins: only one of the two can ever be.
//!
//! What else may wait in the mempool (a revoked commitment, one without a handle) is hurried by nobody and need never
//! confirm: a peer may put it there to keep us from closing. So once an HTLC has to be resolved on the chain
//! ([`super::must_close`]), our own commitment is pushed whatever waits.

use std::collections::BTreeSet;

use bitcoin::{Amount, OutPoint, Transaction};

use super::{
    Claim, ClaimId, Closer, ClosingChannel, Ctx, Effect, InFlight, RemoteState,
    bump::{self, Urgency},
    claims::{ASSUMED_COIN_WEIGHT, Sent},
    classify,
    closing_channel::is_outgoing,
    history::Facts,
    must_close,
    resolution::ResolutionError,
};
use crate::{
    keys::ClaimKey,
    tx::{
        ClaimError, ClaimInput, ClaimPath, ClaimRequest, CommitmentHtlc, CommitmentTx, OutputKind, RecognisedOutput,
        build_claim, claim_weight, to_remote_claim,
    },
    types::{CommitmentType, FeeratePerKw, Height, Msat, PaymentHash, Side},
};

/// The name of the child in [`Effect::NeedCoins`].
pub(super) const CHILD: ClaimId = ClaimId(u32::MAX);

/// Blocks for which a child may hurry the peer's commitment in vain before our own takes a turn. A package that pays
/// what miners ask is in one of the next few blocks; of the twelve before an HTLC's expiry most are left then.
const PATIENCE: u32 = 3;

/// What calls for a look at the commitments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnchorTrigger {
    /// A new tip: the other commitment may take its turn. Tells whether the last child was refused.
    Tip { refused: bool },
    /// The wallet has said which coins the child can have.
    Coins,
    /// Anything else.
    Other,
}

/// A commitment that is not in a block yet.
struct Pending {
    commitment: CommitmentTx,
    signed: Transaction,
    /// What our child spends.
    handle: Option<ClaimInput>,
    /// The first deadline among its HTLCs.
    deadline: Option<Height>,
    /// What its HTLCs are worth to us together.
    at_stake: Amount,
}

/// Pushes whichever commitment can close the channel. `in_mempool` is what spends the funding output there. Gives what
/// the wallet should have set aside for the child, and cannot.
pub(super) fn push_commitment(
    channel: &ClosingChannel,
    facts: &mut Facts,
    in_mempool: Option<&Transaction>,
    trigger: AnchorTrigger,
    ctx: &Ctx<'_>,
    effects: &mut Vec<Effect>,
) -> Result<Option<Amount>, ResolutionError> {
    let knows = |hash: &PaymentHash| channel.preimages.contains_key(hash) || facts.preimages.contains_key(hash);
    let remote = match in_mempool {
        Some(tx) => match classify(channel, tx)? {
            // Ours may be revoked: what spends the funding output was signed by what we have forgotten.
            Closer::RemoteFuture { .. } => return Ok(None),
            Closer::Remote { state, commitment } => remote_pending(channel, tx, &state, *commitment, &knows),
            Closer::Mutual | Closer::Local(_) | Closer::Revoked { .. } | Closer::LocalOld { .. } | Closer::Unknown => {
                None
            }
        },
        None => None,
    };
    // Only a tip ends the news of what is there already.
    let is_tip = matches!(trigger, AnchorTrigger::Tip { .. });
    facts.force_close |= is_tip && remote.is_none() && has_due_htlc(channel, &knows, ctx);
    let wants_close = |pending: &Pending| facts.force_close || pending.deadline.is_some();
    let pending = match remote {
        Some(remote) if !wants_close(&remote) => return Ok(None),
        Some(remote) => match local_pending(channel, ctx, &knows)? {
            Some(local) if local_has_turn(&remote, facts, trigger, ctx) => {
                // Decided: whatever becomes of the peer's, our own is pushed from now on.
                facts.force_close = true;
                local
            }
            Some(_) | None => remote,
        },
        None if facts.force_close => match local_pending(channel, ctx, &knows)? {
            Some(local) => local,
            None => return Ok(None),
        },
        None => return Ok(None),
    };
    push(pending, channel, facts, trigger, ctx, effects)
}

/// Whether an HTLC forces us onto the chain at this tip: one that we offered, in whichever commitment, or one of ours whose
/// preimage we know.
fn has_due_htlc(channel: &ClosingChannel, knows: &impl Fn(&PaymentHash) -> bool, ctx: &Ctx<'_>) -> bool {
    let in_flight = |offered_by, htlc: &CommitmentHtlc| InFlight {
        offered_by,
        id: htlc.id,
        amount: htlc.amount,
        cltv_expiry: htlc.cltv_expiry,
        preimage_known: knows(&htlc.payment_hash),
        upstream_waits: channel.upstream_expiries.contains_key(&htlc.id),
    };
    let local = channel.local_state.iter().flat_map(|state| &state.htlcs);
    let incoming = local.filter(|htlc| !is_outgoing(Side::Local, htlc)).map(|htlc| in_flight(Side::Remote, htlc));
    let outgoing = channel.outgoing();
    let in_flight = outgoing.values().map(|htlc| in_flight(Side::Local, htlc)).chain(incoming);
    // The channel closes anyway: there is nothing to be saved by bearing with small ones.
    let (feerate, dust_limit) = (FeeratePerKw::FLOOR, channel.local_dust_limit);
    must_close(channel.kind, in_flight, ctx.tip, feerate, dust_limit, Msat::ZERO).is_some()
}

/// A commitment of the peer's that may be there, if a child of ours can hurry it.
fn remote_pending(
    channel: &ClosingChannel,
    signed: &Transaction,
    state: &RemoteState,
    commitment: CommitmentTx,
    knows: &impl Fn(&PaymentHash) -> bool,
) -> Option<Pending> {
    let handle = handle_of(channel, Side::Remote, &commitment)?;
    let (deadline, at_stake) = stake(channel, Side::Remote, &state.htlcs, knows);
    let signed = signed.clone();
    Some(Pending { commitment, signed, handle: Some(handle), deadline, at_stake })
}

/// Our own commitment, if we may broadcast it.
fn local_pending(
    channel: &ClosingChannel,
    ctx: &Ctx<'_>,
    knows: &impl Fn(&PaymentHash) -> bool,
) -> Result<Option<Pending>, ResolutionError> {
    let Some(state) = &channel.local_state else { return Ok(None) };
    let Some(commitment) = channel.local_commitment()? else { return Ok(None) };
    let Some(owner) = ctx.signer.owner() else { return Ok(None) };
    let Some(signed) = channel.signed_local_commitment(owner)? else { return Ok(None) };
    let handle = handle_of(channel, Side::Local, &commitment);
    let (deadline, at_stake) = stake(channel, Side::Local, &state.htlcs, knows);
    Ok(Some(Pending { commitment, signed, handle, deadline, at_stake }))
}

/// Whether our own commitment is to be tried now although the peer's is in the mempool.
fn local_has_turn(remote: &Pending, facts: &Facts, trigger: AnchorTrigger, ctx: &Ctx<'_>) -> bool {
    let (Some(child), Some(handle)) = (&facts.child, &remote.handle) else { return false };
    let hurries_remote = child.inputs.contains(&handle.outpoint);
    match trigger {
        AnchorTrigger::Tip { refused } => {
            let in_vain = ctx.tip.0.saturating_sub(child.since.0).checked_sub(PATIENCE);
            // From then on in turn: neither is given up.
            hurries_remote && (refused || in_vain.is_some_and(|blocks| blocks.is_multiple_of(2)))
        }
        AnchorTrigger::Coins | AnchorTrigger::Other => !hurries_remote,
    }
}

/// Broadcasts a commitment, with a child where its own rate is not enough.
fn push(
    pending: Pending,
    channel: &ClosingChannel,
    facts: &mut Facts,
    trigger: AnchorTrigger,
    ctx: &Ctx<'_>,
    effects: &mut Vec<Effect>,
) -> Result<Option<Amount>, ResolutionError> {
    let Pending { commitment, signed: parent, handle, deadline, at_stake } = pending;
    let alone = Effect::Broadcast { tx: parent.clone(), parents: Vec::new(), coins: Vec::new() };
    let Some(handle) = handle else {
        effects.push(alone);
        return Ok(None);
    };
    let start = bump::starting_rate(ctx.tip, deadline, ctx.estimates, ctx.policy);
    let parent_fee = commitment_fee(channel, &commitment);
    let child = child_on(facts, handle.outpoint, ctx.ramp_begin(), start);

    let mut weight = claim_weight(std::slice::from_ref(&handle), &child.coins, &channel.destination);
    if child.coins.is_empty() && handle.path == ClaimPath::Anchor {
        weight = weight.checked_add(ASSUMED_COIN_WEIGHT).unwrap_or(weight);
    }
    let package = weight + parent.weight();
    let budget = bump::percent(at_stake, ctx.policy.budget_percent)
        .checked_add(bump::percent(own_balance(channel), ctx.policy.commitment_budget_percent))
        .unwrap_or(at_stake);
    let urgency = Urgency { since: child.since, start: child.start, deadline, budget, weight: package };
    let floor = child.floor.unwrap_or(FeeratePerKw::FLOOR);
    let rate = urgency.rate(ctx.tip, ctx.estimates, ctx.policy).unwrap_or(FeeratePerKw::FLOOR).max(floor);
    if rate <= bump::rate_of(parent_fee, parent.weight()) && child.sent.is_none() {
        effects.push(alone);
        return Ok(None);
    }

    let wanted_fee = bump::fee_at(rate, package).checked_sub(parent_fee).unwrap_or(Amount::ZERO);
    let mut least = bump::fee_at(FeeratePerKw::FLOOR, weight);
    let mut fee = wanted_fee.max(least);
    let mut build = true;
    if let Some(sent) = &child.sent {
        least = bump::replacement_fee(sent.fee, weight);
        build = fee >= least;
    }
    let left = channel.destination.minimal_non_dust();
    let coins = child.coins.iter().map(|coin| coin.output.value);
    let have = coins.fold(handle.output.value, |sum, next| sum.checked_add(next).unwrap_or(sum));
    let needed = fee.checked_add(left).unwrap_or(Amount::MAX);
    // What the handle itself pays needs no coin.
    let missing = (build && have < needed).then(|| needed.checked_sub(handle.output.value).unwrap_or(Amount::ZERO));
    if missing.is_some() {
        // As much as there is, if that lifts the parent at all.
        fee = fee.min(have.checked_sub(left).unwrap_or(Amount::ZERO));
        let lifts = bump::rate_of(fee, weight) > bump::rate_of(parent_fee, parent.weight());
        build = trigger == AnchorTrigger::Coins && fee >= least && lifts;
    }
    if build {
        let request = ClaimRequest {
            inputs: vec![handle],
            fee_coins: &child.coins,
            destination: &channel.destination,
            fee,
            tip: ctx.tip,
        };
        match build_claim(request) {
            Ok(claim) => {
                let both = parent_fee.checked_add(claim.fee).unwrap_or(claim.fee);
                let rate = bump::rate_of(both, package);
                child.sent = Some(Sent { tx: claim.sign(ctx.signer)?, fee: claim.fee, weight, rate });
            }
            Err(ClaimError::Uneconomic { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    effects.push(child.broadcast(vec![parent]).unwrap_or(alone));
    if let Some(amount) = missing
        && trigger != AnchorTrigger::Coins
    {
        effects.push(Effect::NeedCoins { claim: CHILD, amount });
    }
    Ok(missing)
}

/// The child of this commitment. That of another one lends it its coins, and waits for another turn.
fn child_on(facts: &mut Facts, handle: OutPoint, tip: Height, start: FeeratePerKw) -> &mut Claim {
    let on_this = |claim: &Claim| claim.inputs.contains(&handle);
    if let Some(mut other) = facts.child.take_if(|child| !on_this(child)) {
        let mut child = facts
            .rival
            .take_if(|rival| on_this(rival))
            .unwrap_or_else(|| Claim::new(BTreeSet::from([handle]), other.since, start));
        child.coins = std::mem::take(&mut other.coins);
        child.floor = other.floor;
        child.start = child.start.max(other.start);
        facts.rival = Some(other);
        facts.child = Some(child);
    }
    facts.child.get_or_insert_with(|| Claim::new(BTreeSet::from([handle]), tip, start))
}

/// What our child of `owner`'s commitment spends: our anchor, or our own balance if nothing locks it.
fn handle_of(channel: &ClosingChannel, owner: Side, commitment: &CommitmentTx) -> Option<ClaimInput> {
    let wanted = match (channel.kind, owner) {
        (CommitmentType::Anchors, Side::Local) => OutputKind::ToLocalAnchor,
        (CommitmentType::Anchors, Side::Remote) => OutputKind::ToRemoteAnchor,
        (CommitmentType::StaticRemoteKey, Side::Remote) => OutputKind::ToRemote,
        (CommitmentType::StaticRemoteKey, Side::Local) => return None,
    };
    let (vout, output, info) = commitment.outputs().find(|(_, _, info)| info.kind == wanted)?;
    let outpoint = OutPoint { txid: commitment.txid, vout };
    if wanted == OutputKind::ToRemote {
        let recognised = RecognisedOutput { vout, output: output.clone(), info: info.clone() };
        return Some(to_remote_claim(outpoint, &recognised, channel.kind, &channel.local));
    }
    Some(ClaimInput {
        outpoint,
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
    knows: &impl Fn(&PaymentHash) -> bool,
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
