//! One breach: what of it is spent, and by whom.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, Transaction, TxIn, TxOut, Txid};
use leyden_channels::{
    onchain::{EnforcementPolicy, FeeEstimates, Rejection, Spend, is_catching_up},
    types::{Height, HtlcDirection},
};

use super::batch::{Batch, HURRY};
use crate::{
    codec::by_field,
    kit::{Claims, KitClaim, KitRole},
    record::Row,
};

/// What is durable of a breach besides the transaction and the kit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Where the breach is; `None` while a reorganisation has taken it back.
    pub height: Option<Height>,
    /// Confirmed transactions that spent what came of it, in the order in which they were told.
    pub spends: Vec<SpentBy>,
    pub(super) batches: Vec<Batch>,
}

/// What a transaction in a block did, without its bytes, of which it may have many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpentBy {
    /// The transaction.
    pub txid: Txid,
    /// Of its block.
    pub height: Height,
    /// The outputs that it spent, and whether in the way that the client alone can sign.
    pub spent: Vec<(OutPoint, bool)>,
    /// Its first output, if it is the cheater's: a second stage pays there.
    pub first_output: Option<TxOut>,
}

by_field! { Response { height, spends, batches } SpentBy { txid, height, spent, first_output } }

impl Row for Response {
    const WHAT: &'static str = "the response to a breach";
}

/// An output and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// What takes it.
    pub claim: KitClaim,
    /// Where its transaction is.
    pub confirmed: Height,
    /// The transaction in a block that has spent it.
    pub spend: Option<Spend>,
    /// Somebody else's spend was seen in the mempool, or kept ours out of it.
    pub contested: bool,
}

/// A breach that this tower answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    txid: Txid,
    pub(super) claims: Claims,
    response: Response,
    /// Computed from the rest.
    outputs: BTreeMap<OutPoint, Tracked>,
}

/// What a tip is handled with.
#[derive(Clone, Copy)]
pub struct TipCtx<'a> {
    /// The block that is looked at.
    pub tip: Height,
    /// The newest block that the chain has: later than `tip` while the tower catches up.
    pub newest: Height,
    /// What the next blocks cost.
    pub estimates: &'a FeeEstimates,
    /// How much of a claim may go to fees.
    pub policy: &'a EnforcementPolicy,
}

impl TipCtx<'_> {
    /// From which block on the fee of a claim that is made now may climb.
    pub(super) fn ramp_begin(&self) -> Height {
        if is_catching_up(self.tip, self.newest) { self.newest } else { self.tip }
    }
}

impl Breach {
    /// A breach that has just been opened, or one that was stored.
    pub fn new(txid: Txid, claims: Claims, response: Response) -> Self {
        let mut this = Self { txid, claims, response, outputs: BTreeMap::new() };
        this.rebuild();
        this
    }

    /// The revoked commitment.
    pub fn txid(&self) -> Txid {
        self.txid
    }

    /// What has to be stored of it.
    pub fn response(&self) -> &Response {
        &self.response
    }

    /// Everything that is claimed, with what has become of it.
    pub fn outputs(&self) -> &BTreeMap<OutPoint, Tracked> {
        &self.outputs
    }

    /// The breach is in a block. False if that is known.
    pub fn confirmed(&mut self, height: Height) -> bool {
        let is_news = self.response.height != Some(height);
        if is_news {
            self.response.height = Some(height);
            self.rebuild();
        }
        is_news
    }

    /// A transaction in a block that spends what came of the breach. False if that is known, or does not concern it.
    pub fn spent(&mut self, tx: &Transaction, height: Height) -> bool {
        let ours = |input: &TxIn| Some((input.previous_output, self.is_ours(input)?));
        let spent: Vec<(OutPoint, bool)> = tx.input.iter().filter_map(ours).collect();
        if spent.is_empty() {
            return false;
        }
        let txid = tx.compute_txid();
        if self.response.spends.iter().any(|known| known.height == height && known.txid == txid) {
            return false;
        }
        let is_cheaters = spent.iter().any(|(_, ours)| !ours);
        let first_output = tx.output.first().filter(|_| is_cheaters).cloned();
        let spend = SpentBy { txid, height, spent, first_output };
        self.apply(&spend);
        self.response.spends.push(spend);
        true
    }

    /// Notes whose outputs an unconfirmed transaction spends.
    pub fn seen_in_mempool(&mut self, tx: &Transaction) {
        for input in &tx.input {
            if self.is_ours(input) == Some(false)
                && let Some(output) = self.outputs.get_mut(&input.previous_output)
            {
                output.contested = true;
            }
        }
    }

    /// The blocks above `to` were taken back. True if that changes anything.
    pub fn reorganized(&mut self, to: Height) -> bool {
        let before = (self.response.height, self.response.spends.len());
        self.response.height = self.response.height.filter(|height| *height <= to);
        self.response.spends.retain(|spend| spend.height <= to);
        self.rebuild();
        before != (self.response.height, self.response.spends.len())
    }

    /// A claim of ours was refused. True if one with this id was.
    pub fn rejected(&mut self, txid: Txid, cause: Rejection) -> bool {
        let Some(batch) = self.response.batches.iter_mut().find(|batch| batch.is(txid)) else { return false };
        match cause {
            Rejection::Conflict => {
                for outpoint in &batch.inputs {
                    if let Some(output) = self.outputs.get_mut(outpoint) {
                        output.contested = true;
                    }
                }
                batch.raise();
            }
            Rejection::FeeTooLow => batch.raise(),
            Rejection::Other => {}
        }
        true
    }

    /// Builds, raises and repeats claims for this tip: what is to be broadcast.
    pub fn tip(&mut self, ctx: TipCtx<'_>) -> Vec<Transaction> {
        if self.response.height.is_none() {
            return Vec::new();
        }
        let mut batches = std::mem::take(&mut self.response.batches);
        if ctx.ramp_begin() > ctx.tip {
            batches.iter_mut().for_each(|batch| batch.since = ctx.ramp_begin());
        }
        self.tend(&mut batches, ctx);
        self.group(&mut batches, ctx);
        let txs = batches.iter_mut().filter_map(|batch| batch.step(self, ctx)).collect();
        self.response.batches = batches;
        txs
    }

    /// What [`Self::tip`] will broadcast if the next block holds the breach: the first claims that a miner can take, in the same
    /// block. The penalties' branches wait for nothing, and a second stage that the cheater has ready waits for one block.
    pub fn before_the_block(&self, ctx: TipCtx<'_>) -> Vec<Transaction> {
        if self.response.height.is_some() {
            return Vec::new();
        }
        let height = Some(Height(ctx.tip.0.saturating_add(1)));
        let mut there = Self::new(self.txid, self.claims.clone(), Response { height, ..self.response.clone() });
        // The cheater cannot take it, and with anchors it waits for a block.
        there.outputs.retain(|_, output| output.claim.role != KitRole::ToRemote);
        there.tip(ctx)
    }

    /// Whether everything that could be claimed is spent, and all of that is final.
    pub fn is_resolved(&self, tip: Height, policy: &EnforcementPolicy) -> bool {
        let deep = |height: Height| tip.0.saturating_add(1).saturating_sub(height.0) >= policy.finality;
        let given_up = |output: &Tracked| tip.0.saturating_sub(output.confirmed.0) >= policy.give_up_after;
        self.response.height.is_some_and(deep)
            && self.outputs.values().all(|output| match &output.spend {
                Some(spend) => deep(spend.height),
                None => given_up(output),
            })
    }

    /// By which block our claim of an output should be confirmed.
    pub(super) fn deadline(&self, outpoint: &OutPoint, output: &Tracked) -> Option<Height> {
        let after = |blocks: u32| Height(output.confirmed.0.saturating_add(blocks));
        let delay = after(u32::from(self.claims.remote_delay()));
        match output.claim.role {
            KitRole::ToRemote => None,
            KitRole::ToLocal | KitRole::SecondStage => Some(delay),
            KitRole::Htlc { .. } if self.claims.covers_second_stage(outpoint) => Some(delay),
            KitRole::Htlc { direction: HtlcDirection::Received, .. } => Some(delay.min(after(HURRY))),
            KitRole::Htlc { direction: HtlcDirection::Offered, expiry } => {
                Some(delay.min(after(HURRY).max(Height(expiry.0))))
            }
        }
    }

    fn rebuild(&mut self) {
        let before = std::mem::take(&mut self.outputs);
        let Some(confirmed) = self.response.height else { return };
        for claim in &self.claims.claims {
            let output = Tracked { claim: claim.clone(), confirmed, spend: None, contested: false };
            self.outputs.insert(claim.sweep.outpoint, output);
        }
        let spends = std::mem::take(&mut self.response.spends);
        spends.iter().for_each(|spend| self.apply(spend));
        self.response.spends = spends;
        for (outpoint, output) in &mut self.outputs {
            output.contested = before.get(outpoint).is_some_and(|before| before.contested);
        }
    }

    /// Whether an input spends one of the outputs in the way that the client alone can sign; `None` if it spends none.
    fn is_ours(&self, input: &TxIn) -> Option<bool> {
        self.outputs.get(&input.previous_output).map(|output| output.claim.is_our_way(&input.witness))
    }

    fn apply(&mut self, spend: &SpentBy) {
        let SpentBy { txid, height, ref spent, ref first_output } = *spend;
        for (outpoint, ours) in spent {
            let Some(output) = self.outputs.get_mut(outpoint) else { continue };
            output.spend = Some(Spend { txid, height, ours: *ours });
            if !ours
                && let Some(paid) = first_output
                && let Some(claim) = self.claims.second_stage(outpoint, txid, paid)
            {
                let stage = Tracked { claim, confirmed: height, spend: None, contested: false };
                self.outputs.insert(stage.claim.sweep.outpoint, stage);
            }
        }
    }
}
