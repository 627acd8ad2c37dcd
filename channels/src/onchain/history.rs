//! What the chain has done to a channel: the durable facts, and what follows from them.
//!
//! ```text
//!  facts: the spend of the funding output, then spends of what came of it, in the chain's order
//!     └──apply, one after the other──► close (who, how) and outputs (whose, spent by whom, what was born of that)
//! ```
//!
//! Promises: the outputs depend on the facts alone, so after a restart or a reorganisation the same facts give the same
//! outputs.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Transaction, Txid};

use super::{
    Claim, ClaimId, Closer, Effect, Resolution, Role, Spend, TrackedOutput, classify, closing_channel::RebuildError,
    local_close, remote_close, resolution::watch, revoked_close,
};
use crate::{
    tx::CommitmentHtlc,
    types::{CommitmentNumber, Height, HtlcId, PaymentHash, PaymentPreimage},
};

/// What is durable, besides the channel itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    /// We want our commitment in the chain.
    pub force_close: bool,
    /// Transactions in the chain that spent the funding output or a tracked one, in the chain's order.
    pub spends: Vec<ChainSpend>,
    /// Learnt since the close.
    pub preimages: BTreeMap<PaymentHash, PaymentPreimage>,
    pub revoked_htlcs: BTreeMap<CommitmentNumber, Vec<CommitmentHtlc>>,
    /// What upstream has been told.
    pub reported: BTreeMap<HtlcId, HtlcOutcome>,
    pub claims: BTreeMap<ClaimId, Claim>,
    /// The child that pays for the commitment that is tried at the moment.
    pub child: Option<Claim>,
    /// The child of the other commitment, without coins, until it has its turn again.
    pub rival: Option<Claim>,
    /// HTLCs offered to us whose preimage we had shown, and that brought us nothing all the same.
    pub taken_back: BTreeSet<HtlcId>,
    pub next_claim: u32,
}

impl Facts {
    /// Lets the fees of all claims climb from there on.
    pub(super) fn claims_begin_at(&mut self, tip: Height) {
        for claim in self.child.iter_mut().chain(&mut self.rival).chain(self.claims.values_mut()) {
            claim.since = tip;
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct ChainSpend {
    pub tx: Transaction,
    pub height: Height,
}

/// What the owner of an outgoing HTLC has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HtlcOutcome {
    Fulfilled(PaymentPreimage),
    Failed,
}

/// How and where the channel was closed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Close {
    pub closer: Closer,
    pub txid: Txid,
    pub height: Height,
}

impl Resolution {
    /// Computes everything again after something was learnt.
    pub(super) fn relearn(&mut self, effects: &mut Vec<Effect>) -> Result<(), RebuildError> {
        let before = std::mem::take(&mut self.outputs);
        self.rebuild()?;
        for (outpoint, output) in &mut self.outputs {
            match before.get(outpoint) {
                Some(known) => output.contested = known.contested,
                None => effects.push(watch(output)),
            }
        }
        Ok(())
    }

    pub(super) fn rebuild(&mut self) -> Result<(), RebuildError> {
        self.close = None;
        self.outputs = BTreeMap::new();
        let spends = std::mem::take(&mut self.facts.spends);
        let result = spends.iter().try_for_each(|spend| self.apply(spend).map(|_| ()));
        self.facts.spends = spends;
        result
    }

    /// What one confirmed transaction changes. False if it does not concern us.
    pub(super) fn apply(&mut self, spend: &ChainSpend) -> Result<bool, RebuildError> {
        let ChainSpend { tx, height } = spend;
        let txid = tx.compute_txid();
        let mut concerns_us = false;
        if self.close.is_none() && tx.input.iter().any(|input| input.previous_output == self.channel.funding) {
            let closer = classify(&self.channel, tx)?;
            let outputs = self.outputs_of(&closer, tx, *height)?;
            self.outputs.extend(outputs.into_iter().map(|output| (output.outpoint, output)));
            self.close = Some(Close { closer, txid, height: *height });
            concerns_us = true;
        }

        let mut born = Vec::new();
        let mut cheater_moved_on = false;
        for input in &tx.input {
            let Some(spent) = self.outputs.get(&input.previous_output) else { continue };
            concerns_us = true;
            let ours = spent.is_our_way(&input.witness);
            match (&spent.role, self.close.as_ref().map(|close| &close.closer)) {
                (Role::LocalHtlc(_), Some(Closer::Local(commitment))) if ours => {
                    born.extend(local_close::second_stage(&self.channel, commitment, spent, tx, *height));
                }
                (Role::RevokedHtlc(_), _) if !ours => cheater_moved_on = true,
                _ => {}
            }
            if let Some(spent) = self.outputs.get_mut(&input.previous_output) {
                spent.spend = Some(Spend { txid, height: *height, ours });
            }
        }
        if cheater_moved_on && let Some(Close { closer: Closer::Revoked { secret, .. }, .. }) = &self.close {
            born.extend(revoked_close::second_stages(&self.channel, *secret, tx, *height)?);
        }
        self.outputs.extend(born.into_iter().map(|output| (output.outpoint, output)));
        Ok(concerns_us)
    }

    fn outputs_of(
        &self,
        closer: &Closer,
        tx: &Transaction,
        height: Height,
    ) -> Result<Vec<TrackedOutput>, RebuildError> {
        let mut preimages = self.channel.preimages.clone();
        preimages.extend(&self.facts.preimages);
        let mut outputs = match closer {
            Closer::Local(commitment) => local_close::outputs(&self.channel, commitment, height, &preimages),
            Closer::Remote { state, commitment } => {
                remote_close::outputs(&self.channel, state, commitment, height, &preimages)
            }
            Closer::RemoteFuture { .. } => remote_close::to_remote_only(&self.channel, tx, height)?,
            Closer::Revoked { number, secret } => {
                // Some may be live still. One too many does no harm: it has no output there.
                let mut htlcs = self.facts.revoked_htlcs.get(number).cloned().unwrap_or_default();
                for live in self.channel.live_htlcs() {
                    if !htlcs.iter().any(|known| (known.direction, known.id) == (live.direction, live.id)) {
                        htlcs.push(live);
                    }
                }
                revoked_close::outputs(&self.channel, *secret, &htlcs, tx, height)?
            }
            Closer::Unknown => remote_close::ours_in(&self.channel, tx, height)?,
            Closer::Mutual | Closer::LocalOld { .. } => Vec::new(),
        };
        outputs.retain(|output| !self.penalties_only || output.role.is_penalty());
        Ok(outputs)
    }
}
