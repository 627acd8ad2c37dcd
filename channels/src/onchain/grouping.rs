//! Which outputs share a claim, and when they part.
//!
//! ```text
//!  claimable outputs ──group──► Claim ──an input was spent by somebody else, or is contested, or its deadline is near──┐
//!                                 ▲                                                                                    │
//!                                 └────────────────────────────────────── taken apart ─────────────────────────────────┘
//! ```
//!
//! Promises: `to_local` of a revoked commitment travels alone, and so does every output that somebody else can spend
//! now: one pinned input would hold up all others. Only what must share coins for its fee (second stages with anchors)
//! is grouped all the same, and taken apart when one is contested.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, ScriptBuf, Txid};

use super::{
    Claim, ClaimId, Ctx, Effect, Rejection, Resolution, Role, TrackedOutput, bump,
    claims::{budget_of, is_economic},
};
use crate::{
    tx::{ClaimInput, ClaimPath, FeeCoin, claim_weight},
    types::{CommitmentType, Height, HtlcDirection},
};

/// How far away an expiry must be for nobody to come with a timeout while a claim waits.
const SAFE_BLOCKS: u32 = 6;

/// Which outputs may share a transaction. Those in one group have the same lock times and the same opponents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// The race for a revoked `to_local`, and whatever was taken apart.
    Alone(OutPoint),
    /// A second stage that the peer has signed as a whole.
    Presigned(OutPoint),
    /// Nobody else can spend these, whatever happens; or it does not matter if somebody does.
    OursAlone,
    /// HTLCs on the peer's commitment with their preimages; the peer can take them back after this expiry.
    Preimages {
        deadline: Option<Height>,
    },
    SecondStageSuccess {
        deadline: Option<Height>,
    },
    SecondStageTimeout {
        expiry: Height,
    },
    /// Revoked HTLCs that the cheater offered: it can move them on only after their expiry.
    PenaltiesSafe,
    SecondStagePenalties,
}

fn group_of(output: &TrackedOutput, tip: Height) -> Option<Group> {
    let claim = output.claim.as_ref()?;
    if output.contested {
        return Some(Group::Alone(output.outpoint));
    }
    Some(match &claim.path {
        ClaimPath::SecondStage(stage) => match (stage.kind, stage.htlc.direction) {
            (CommitmentType::StaticRemoteKey, _) => Group::Presigned(output.outpoint),
            (CommitmentType::Anchors, HtlcDirection::Received) => {
                Group::SecondStageSuccess { deadline: output.deadline }
            }
            (CommitmentType::Anchors, HtlcDirection::Offered) => {
                Group::SecondStageTimeout { expiry: claim.height_needed() }
            }
        },
        ClaimPath::HtlcPreimage { .. } => Group::Preimages { deadline: output.deadline },
        // The peer may come with the preimage at any time.
        ClaimPath::HtlcTimeout { .. } => Group::Alone(output.outpoint),
        // An anchor is not worth a transaction of its own.
        ClaimPath::ToRemote { .. } | ClaimPath::ToRemoteAnchors | ClaimPath::Delayed { .. } | ClaimPath::Anchor => {
            Group::OursAlone
        }
        ClaimPath::PenaltyDelayed => match output.role {
            Role::RevokedSecondStage => Group::SecondStagePenalties,
            _ => Group::Alone(output.outpoint),
        },
        ClaimPath::PenaltyHtlc { .. } => match output.role.htlc() {
            // The cheater offered it: its HTLC-timeout waits for the expiry.
            Some((_, htlc))
                if htlc.direction == HtlcDirection::Offered
                    && htlc.cltv_expiry.0 > tip.0.saturating_add(SAFE_BLOCKS) =>
            {
                Group::PenaltiesSafe
            }
            _ => Group::Alone(output.outpoint),
        },
    })
}

impl Claim {
    /// Takes apart a claim of several inputs that others can spend: near its deadline, and as soon as somebody can spend
    /// one of them who could not before. One may be pinned by a transaction that we cannot see (BOLT 5, Revoked
    /// Transaction Close Handling). The first part replaces the whole, so it must be able to pay more than that did: if no
    /// single input can, the claim is halved.
    fn take_apart_in_time(&self, outputs: &BTreeMap<OutPoint, TrackedOutput>, ctx: &Ctx<'_>) -> Option<Vec<Self>> {
        let sent = self.sent.as_ref()?;
        let mut tracked: Vec<&TrackedOutput> =
            self.inputs.iter().filter_map(|outpoint| outputs.get(outpoint)).collect();
        if tracked.len() < 2 || self.since >= ctx.tip || tracked.iter().all(|one| one.role.is_ours_alone()) {
            return None;
        }
        let deadline = tracked.iter().filter_map(|output| output.deadline).min();
        let near = deadline.is_some_and(|at| at.0 <= ctx.tip.0.saturating_add(ctx.policy.split_margin));
        let exposed = |output: &&TrackedOutput| matches!(group_of(output, ctx.tip), Some(Group::Alone(_)));
        if !near && !tracked.iter().any(exposed) {
            return None;
        }
        tracked.sort_by_key(|output| std::cmp::Reverse(output.output.value));
        let displacing = bump::replacement_fee(sent.fee, sent.weight);
        let singles: Vec<Vec<&TrackedOutput>> = tracked.iter().map(|output| vec![*output]).collect();
        let every_second = |first: usize| tracked.iter().skip(first).step_by(2).copied().collect();
        let halves: Vec<Vec<&TrackedOutput>> = vec![every_second(0), every_second(1)];
        let parts = [singles, halves].into_iter().find(|parts| {
            let first = parts.first().into_iter().flatten().copied();
            displacing <= budget_of(first, ctx.policy)
        })?;
        let weight = |part: &[&TrackedOutput]| {
            let inputs: Vec<ClaimInput> = part.iter().filter_map(|output| output.claim.clone()).collect();
            claim_weight(&inputs, &[], &ScriptBuf::new())
        };
        let parts = parts.into_iter().enumerate().map(|(index, part)| {
            let start = sent.rate.max(self.start);
            let start = if index == 0 { start.max(bump::rate_of(displacing, weight(&part))) } else { start };
            Self::new(part.iter().map(|output| output.outpoint).collect(), ctx.ramp_begin(), start)
        });
        Some(parts.collect())
    }
}

impl Resolution {
    /// Drops claims that are settled, and takes apart those that somebody interferes with.
    pub(super) fn tend_claims(&mut self, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) {
        let mut apart = Vec::new();
        self.facts.claims.retain(|_, claim| {
            let live: BTreeSet<OutPoint> = claim
                .inputs
                .iter()
                .filter(|outpoint| self.outputs.get(outpoint).is_some_and(TrackedOutput::is_unspent))
                .copied()
                .collect();
            if live.is_empty() {
                let spent_coins = |coin: &FeeCoin| {
                    let by_us = self.facts.spends.iter().flat_map(|spend| &spend.tx.input);
                    by_us.into_iter().any(|input| input.previous_output == coin.outpoint)
                };
                let unspent: Vec<FeeCoin> = claim.coins.drain(..).filter(|coin| !spent_coins(coin)).collect();
                if !unspent.is_empty() {
                    effects.push(Effect::ReleaseCoins(unspent));
                }
                return false;
            }
            if live.len() < claim.inputs.len() {
                claim.start = claim.sent.as_ref().map_or(claim.start, |sent| sent.rate.max(claim.start));
                claim.inputs = live;
                claim.sent = None;
            }
            let contested: Vec<OutPoint> = claim
                .inputs
                .iter()
                .filter(|outpoint| self.outputs.get(outpoint).is_some_and(|output| output.contested))
                .copied()
                .collect();
            if claim.inputs.len() > 1 && !contested.is_empty() {
                let start = claim.sent.as_ref().map_or(claim.start, |sent| sent.rate.max(claim.start));
                for outpoint in contested {
                    claim.inputs.remove(&outpoint);
                    apart.push(Claim::new(BTreeSet::from([outpoint]), claim.since, start));
                }
                claim.sent = None;
                claim.start = start;
            }
            if let Some(parts) = claim.take_apart_in_time(&self.outputs, ctx) {
                apart.extend(parts);
                if let Some(coins) = (!claim.coins.is_empty()).then(|| std::mem::take(&mut claim.coins)) {
                    effects.push(Effect::ReleaseCoins(coins));
                }
                return false;
            }
            !claim.inputs.is_empty()
        });
        for claim in apart {
            self.add_claim(claim);
        }
    }

    /// Makes claims of outputs that can be claimed now and are in none yet.
    pub(super) fn group_outputs(&mut self, ctx: &Ctx<'_>) {
        let taken: BTreeSet<OutPoint> = self.facts.claims.values().flat_map(|claim| &claim.inputs).copied().collect();
        let mut groups: BTreeMap<Group, Vec<&TrackedOutput>> = BTreeMap::new();
        for output in self.outputs.values() {
            let wanted = output.is_claimable(ctx.tip)
                && !taken.contains(&output.outpoint)
                && is_economic(output, ctx.estimates, ctx.policy, &self.channel.destination);
            if let Some(group) = wanted.then(|| group_of(output, ctx.tip)).flatten() {
                groups.entry(group).or_default().push(output);
            }
        }
        let mut new = Vec::new();
        for outputs in groups.into_values() {
            for chunk in outputs.chunks(ctx.policy.max_inputs.max(1)) {
                let deadline = chunk.iter().filter_map(|output| output.deadline).min();
                let start = bump::starting_rate(ctx.tip, deadline, ctx.estimates, ctx.policy);
                new.push(Claim::new(chunk.iter().map(|output| output.outpoint).collect(), ctx.ramp_begin(), start));
            }
        }
        for claim in new {
            self.add_claim(claim);
        }
    }

    fn add_claim(&mut self, claim: Claim) {
        self.facts.claims.insert(ClaimId(self.facts.next_claim), claim);
        self.facts.next_claim = self.facts.next_claim.saturating_add(1);
    }

    /// True if the refused claim can be taken apart.
    pub(super) fn rejected(&mut self, txid: Txid, cause: Rejection) -> bool {
        let mut divisible = false;
        let sent = |claim: &&mut Claim| claim.sent.as_ref().is_some_and(|sent| sent.tx.compute_txid() == txid);
        let claims = self.facts.claims.values_mut().chain(self.facts.child.as_mut());
        for claim in claims.filter(sent) {
            match cause {
                Rejection::Conflict => {
                    for outpoint in &claim.inputs {
                        if let Some(output) = self.outputs.get_mut(outpoint) {
                            output.contested = true;
                        }
                    }
                    divisible |= claim.inputs.len() > 1;
                    claim.raise();
                }
                Rejection::FeeTooLow => claim.raise(),
                Rejection::Other => {}
            }
        }
        divisible
    }
}
