//! Which claims share a transaction, and what it pays.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid, VarInt, Weight};
use leyden_channels::{
    onchain::{Urgency, fee_at, rate_of, replacement_fee, starting_rate},
    types::{FeeratePerKw, Height, HtlcDirection},
};

use super::breach::{Breach, TipCtx, Tracked};
use crate::{
    codec::by_field,
    kit::{KitClaim, KitRole, joined},
};

/// Blocks within which an HTLC that the cheater can move on, out of the kit's reach, should be ours: the cheater needs one
/// for its own transaction, and a fee that waits for a cheap block loses the race.
pub const HURRY: u32 = 3;

/// How far away an expiry must be for nobody to come with a timeout while a batch waits.
const SAFE_BLOCKS: u32 = 6;

/// A transaction of one or more claims, in its newest version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub inputs: Vec<OutPoint>,
    /// From where on its fee climbs.
    pub since: Height,
    pub start: FeeratePerKw,
    pub sent: Option<SentBatch>,
}

/// What was broadcast: its fee tells the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SentBatch {
    pub txid: Txid,
    pub fee: Amount,
    pub rate: FeeratePerKw,
}

by_field! {
    Batch { inputs, since, start, sent }
    SentBatch { txid, fee, rate }
}

/// Which outputs may share a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// The cheater can spend it, now or soon.
    Alone(OutPoint),
    /// HTLCs that the cheater offered: it can move them on only after their expiry.
    Safe,
    SecondStages,
}

fn group_of(outpoint: &OutPoint, output: &Tracked, tip: Height) -> Group {
    if output.contested {
        return Group::Alone(*outpoint);
    }
    match output.claim.role {
        KitRole::ToLocal | KitRole::ToRemote | KitRole::Htlc { direction: HtlcDirection::Received, .. } => {
            Group::Alone(*outpoint)
        }
        KitRole::SecondStage => Group::SecondStages,
        KitRole::Htlc { direction: HtlcDirection::Offered, expiry } => {
            if expiry.0 > tip.0.saturating_add(SAFE_BLOCKS) {
                Group::Safe
            } else {
                Group::Alone(*outpoint)
            }
        }
    }
}

impl Breach {
    /// Drops batches that are settled, and takes apart those that somebody interferes with.
    pub(super) fn tend(&self, batches: &mut Vec<Batch>, ctx: TipCtx<'_>) {
        let unspent = |outpoint: &OutPoint| self.outputs().get(outpoint).is_some_and(|output| output.spend.is_none());
        let mut tended = Vec::with_capacity(batches.len());
        for mut batch in batches.drain(..) {
            let live: Vec<OutPoint> = batch.inputs.iter().filter(|one| unspent(one)).copied().collect();
            if live.is_empty() {
                continue;
            }
            if live.len() < batch.inputs.len() {
                batch = batch.part(live);
            }
            let contested = |one: &OutPoint| self.outputs().get(one).is_some_and(|output| output.contested);
            if batch.inputs.len() > 1 && batch.inputs.iter().any(contested) {
                let (apart, rest): (Vec<_>, Vec<_>) = batch.inputs.iter().copied().partition(contested);
                tended.extend(apart.into_iter().map(|one| batch.part(vec![one])));
                if rest.is_empty() {
                    continue;
                }
                batch = batch.part(rest);
            }
            match batch.take_apart_in_time(self, ctx) {
                Some(parts) => tended.extend(parts),
                None => tended.push(batch),
            }
        }
        *batches = tended;
    }

    /// Makes batches of what is unspent and in none yet.
    pub(super) fn group(&self, batches: &mut Vec<Batch>, ctx: TipCtx<'_>) {
        let taken: BTreeSet<OutPoint> = batches.iter().flat_map(|batch| &batch.inputs).copied().collect();
        let mut groups: BTreeMap<Group, Vec<OutPoint>> = BTreeMap::new();
        for (outpoint, output) in self.outputs() {
            if output.spend.is_none() && !taken.contains(outpoint) {
                groups.entry(group_of(outpoint, output, ctx.tip)).or_default().push(*outpoint);
            }
        }
        for outpoints in groups.into_values() {
            for inputs in outpoints.chunks(ctx.policy.max_inputs.max(1)) {
                let mut batch =
                    Batch { inputs: inputs.to_vec(), since: ctx.ramp_begin(), start: FeeratePerKw::FLOOR, sent: None };
                batch.start = starting_rate(ctx.tip, batch.deadline(self), ctx.estimates, ctx.policy);
                batches.push(batch);
            }
        }
    }
}

impl Batch {
    pub(super) fn is(&self, txid: Txid) -> bool {
        self.sent.is_some_and(|sent| sent.txid == txid)
    }

    /// Makes the next version pay at least a quarter more than the refused one, as far as the slack goes.
    pub(super) fn raise(&mut self) {
        let refused = self.sent.map_or(self.start, |sent| sent.rate);
        self.start = self.start.max(FeeratePerKw(refused.0.saturating_add(refused.0 / 4)));
    }

    /// Some of its inputs, not below what they paid together.
    fn part(&self, inputs: Vec<OutPoint>) -> Self {
        let start = self.sent.map_or(self.start, |sent| sent.rate.max(self.start));
        Self { inputs, since: self.since, start, sent: None }
    }

    fn claims<'a>(&self, breach: &'a Breach) -> Vec<&'a KitClaim> {
        self.inputs.iter().filter_map(|one| breach.outputs().get(one)).map(|output| &output.claim).collect()
    }

    fn deadline(&self, breach: &Breach) -> Option<Height> {
        let outputs = self.inputs.iter().filter_map(|one| Some((one, breach.outputs().get(one)?)));
        outputs.filter_map(|(outpoint, output)| breach.deadline(outpoint, output)).min()
    }

    /// Takes apart a batch that the cheater can spend inputs of, near its deadline and as soon as it can spend one that it could
    /// not before: one may be pinned by a transaction that we cannot see. The first part replaces the whole, so it must be
    /// able to pay more than that did: if no single input can, the batch is halved.
    fn take_apart_in_time(&self, breach: &Breach, ctx: TipCtx<'_>) -> Option<Vec<Self>> {
        let sent = self.sent?;
        if self.inputs.len() < 2 || self.since >= ctx.tip {
            return None;
        }
        let near = self.deadline(breach).is_some_and(|at| at.0 <= ctx.tip.0.saturating_add(ctx.policy.split_margin));
        let exposed = |one: &OutPoint| {
            let output = breach.outputs().get(one);
            output.is_some_and(|output| matches!(group_of(one, output, ctx.tip), Group::Alone(_)))
        };
        if !near && !self.inputs.iter().any(exposed) {
            return None;
        }
        let slack = |one: &OutPoint| breach.outputs().get(one).map(|output| output.claim.sweep.slack());
        let mut sorted = self.inputs.clone();
        sorted.sort_by_key(|one| std::cmp::Reverse(slack(one)));
        let displacing = replacement_fee(sent.fee, weight_of(&self.claims(breach), &[]));
        let singles: Vec<Vec<OutPoint>> = sorted.iter().map(|one| vec![*one]).collect();
        let every_second = |first: usize| sorted.iter().skip(first).step_by(2).copied().collect();
        let halves: Vec<Vec<OutPoint>> = vec![every_second(0), every_second(1)];
        let parts = [singles, halves].into_iter().find(|parts| {
            let first: Amount = parts.first().into_iter().flatten().filter_map(slack).sum();
            displacing <= first
        })?;
        let parts = parts.into_iter().enumerate().map(|(index, inputs)| {
            let mut part = Self { since: ctx.ramp_begin(), ..self.part(inputs) };
            if index == 0 {
                part.start = part.start.max(rate_of(displacing, weight_of(&part.claims(breach), &[])));
            }
            part
        });
        Some(parts.collect())
    }

    /// What is to be broadcast at this tip; `None` only if its claims are gone.
    pub(super) fn step(&mut self, breach: &Breach, ctx: TipCtx<'_>) -> Option<Transaction> {
        let claims = self.claims(breach);
        let slack: Amount = claims.iter().map(|claim| claim.sweep.slack()).sum();
        let weight = weight_of(&claims, &[]);
        let urgency =
            Urgency { since: self.since, start: self.start, deadline: self.deadline(breach), budget: slack, weight };
        // Each claim leaves what the lowest rate asks for.
        let rate = urgency.rate(ctx.tip, ctx.estimates, ctx.policy).unwrap_or(FeeratePerKw::FLOOR);
        let mut fee = fee_of(breach, &claims, slack, rate);
        if let Some(sent) = self.sent
            && (rate <= sent.rate || fee < replacement_fee(sent.fee, weight))
        {
            fee = sent.fee;
        }
        let tx = build(breach, &claims, slack, fee);
        if claims.is_empty() {
            return None;
        }
        let (txid, rate) = (tx.compute_txid(), rate_of(fee, weight));
        self.sent = Some(SentBatch { txid, fee, rate: self.sent.map_or(rate, |sent| sent.rate.max(rate)) });
        Some(tx)
    }
}

/// What this rate costs; all of the slack where less than an output would be left of it.
fn fee_of(breach: &Breach, claims: &[&KitClaim], slack: Amount, rate: FeeratePerKw) -> Amount {
    let change = TxOut { value: Amount::ZERO, script_pubkey: breach.claims.sweep_script().clone() };
    let fee = fee_at(rate, weight_of(claims, std::slice::from_ref(&change)));
    let left = slack.checked_sub(fee).unwrap_or(Amount::ZERO);
    if left >= change.script_pubkey.minimal_non_dust() { fee } else { slack }
}

/// The transaction that pays this fee; what is left of the slack goes to the client.
fn build(breach: &Breach, claims: &[&KitClaim], slack: Amount, fee: Amount) -> Transaction {
    let value = slack.checked_sub(fee).unwrap_or(Amount::ZERO);
    let change = (value > Amount::ZERO).then(|| TxOut { value, script_pubkey: breach.claims.sweep_script().clone() });
    joined(claims.iter().map(|claim| (&claim.sweep, claim.witness.clone())), change.as_slice())
}

fn weight_of(claims: &[&KitClaim], more: &[TxOut]) -> Weight {
    let counts = [claims.len(), claims.len().saturating_add(more.len())];
    let counts: u64 = counts.into_iter().map(|count| VarInt::from(count).size() as u64).sum();
    let frame = Weight::from_wu((4 + 4 + counts) * 4 + 2);
    let weights = claims.iter().map(|claim| claim.sweep.weight()).chain(more.iter().map(TxOut::weight));
    weights.fold(frame, |sum, weight| sum + weight)
}
