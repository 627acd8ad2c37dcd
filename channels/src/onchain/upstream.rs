//! When what happens on this channel's chain is told to the incoming HTLC behind an outgoing one, and to the invoice that
//! an incoming one paid.
//!
//! ```text
//!  the peer shows a preimage, in the mempool or in a block ─────────────► fulfilled, at once
//!  our timeout (or penalty) has spent the output, deep enough ──────────► failed
//!  the close has no output for it (dust, or another state), deep enough ► failed
//!  its output was never worth its claim, for weeks ─────────────────────► failed
//!  the close is one whose outputs we cannot know (lost data) ───────────► failed long after its expiry
//!  upstream is about to expire, and nothing is decided yet ─────────────► failed: better lose this HTLC than both
//!
//!  an HTLC offered to us, its preimage shown: taken back by the peer, or
//!  not worth an output or its claim, deep enough ───────────────────────► taken back: its invoice is not paid
//! ```

use std::collections::BTreeMap;

use bitcoin::{
    Transaction,
    hashes::{Hash as _, sha256},
};

use super::{
    Closer, ClosingChannel, Ctx, Effect, EnforcementPolicy, Resolution, TrackedOutput, closing_channel::is_outgoing,
    history::HtlcOutcome,
};
use crate::{
    margins::UPSTREAM_MARGIN,
    tx::CommitmentHtlc,
    types::{Height, HtlcId, PaymentHash, PaymentPreimage, Side},
};

impl Resolution {
    /// Tells the preimages that a transaction shows.
    pub(super) fn take_preimages(&mut self, tx: &Transaction, effects: &mut Vec<Effect>) {
        let found = preimages_in(tx, self.outgoing.values());
        for (id, htlc) in &self.outgoing {
            if let Some(preimage) = found.get(&htlc.payment_hash) {
                let outcome = HtlcOutcome::Fulfilled(*preimage);
                if self.facts.reported.insert(*id, outcome) != Some(outcome) {
                    effects.push(outcome_effect(htlc, outcome));
                }
            }
        }
    }

    /// Tells what is lost by now.
    pub(super) fn tell_lost(&mut self, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) {
        let unknown_htlcs = match self.closer() {
            Some(Closer::Revoked { number, .. }) => !self.facts.revoked_htlcs.contains_key(number),
            _ => false,
        };
        if unknown_htlcs {
            return;
        }
        for (id, htlc) in &self.outgoing {
            if !self.facts.reported.contains_key(id)
                && is_lost(&self.channel, htlc, &self.htlc_state(*id, ctx), ctx.tip, ctx.policy)
            {
                self.facts.reported.insert(*id, HtlcOutcome::Failed);
                effects.push(outcome_effect(htlc, HtlcOutcome::Failed));
            }
        }
    }

    /// Tells which HTLCs offered to us have brought us nothing, although their preimages are shown.
    pub(super) fn tell_taken_back(&mut self, ctx: &Ctx<'_>, effects: &mut Vec<Effect>) {
        let Some(close) = &self.close else { return };
        let deep = |height: Height| depth(height, ctx.tip) >= ctx.policy.fail_depth;
        let is_ours = |output: &TrackedOutput| match output.spend {
            Some(spend) => spend.ours || !deep(spend.height),
            None => !self.is_given_up(output, ctx) || self.is_on_its_way(output),
        };
        let gone: Vec<(HtlcId, PaymentHash)> = self
            .shown_incoming()
            .filter(|(id, _)| !self.facts.taken_back.contains(id))
            .filter(|(id, _)| match self.outputs.values().find(|output| output.role.incoming() == Some(*id)) {
                Some(output) => !is_ours(output),
                // Too small for an output of its own.
                None => deep(close.height),
            })
            .collect();
        for (htlc, payment_hash) in gone {
            self.facts.taken_back.insert(htlc);
            effects.push(Effect::TakenBack { htlc, payment_hash });
        }
    }

    /// What was told of that, and is told again after a restart.
    pub(super) fn taken_back(&self) -> impl Iterator<Item = (HtlcId, PaymentHash)> {
        self.shown_incoming().filter(|(id, _)| self.facts.taken_back.contains(id))
    }

    /// The HTLCs offered to us in the commitment that closed the channel, and whether each has brought us its amount, by what has
    /// spent its output. To be asked when nothing is open any more.
    pub(crate) fn incoming_ends(&self) -> Vec<(HtlcId, bool)> {
        let is_ours = |id: HtlcId| {
            let mut outputs = self.outputs.values();
            outputs.any(|output| output.role.incoming() == Some(id) && output.spend.is_some_and(|spend| spend.ours))
        };
        self.incoming_of_close().map(|htlc| (htlc.id, is_ours(htlc.id))).collect()
    }

    /// Those of them whose preimages we know. One that is not in that commitment any more was settled before.
    fn shown_incoming(&self) -> impl Iterator<Item = (HtlcId, PaymentHash)> {
        let shown =
            |hash: &PaymentHash| self.channel.preimages.contains_key(hash) || self.facts.preimages.contains_key(hash);
        let incoming = self.incoming_of_close().filter(move |htlc| shown(&htlc.payment_hash));
        incoming.map(|htlc| (htlc.id, htlc.payment_hash))
    }

    fn incoming_of_close(&self) -> impl Iterator<Item = &CommitmentHtlc> {
        let (owner, htlcs): (Side, &[CommitmentHtlc]) = match self.closer() {
            Some(Closer::Local(_)) => {
                (Side::Local, self.channel.local_state.as_ref().map(|state| state.htlcs.as_slice()).unwrap_or_default())
            }
            Some(Closer::Remote { state, .. }) => (Side::Remote, &state.htlcs),
            // A penalty takes everything; of the others nothing is known, or they have no HTLCs.
            Some(
                Closer::Mutual
                | Closer::RemoteFuture { .. }
                | Closer::Revoked { .. }
                | Closer::LocalOld { .. }
                | Closer::Unknown,
            )
            | None => (Side::Local, &[]),
        };
        htlcs.iter().filter(move |htlc| !is_outgoing(owner, htlc))
    }

    fn htlc_state(&self, id: HtlcId, ctx: &Ctx<'_>) -> OutgoingHtlcState<'_> {
        let Some(close) = &self.close else { return OutgoingHtlcState::Open };
        match close.closer {
            Closer::Mutual | Closer::Local(_) | Closer::Remote { .. } | Closer::Revoked { .. } => {}
            Closer::RemoteFuture { .. } | Closer::LocalOld { .. } | Closer::Unknown => {
                return OutgoingHtlcState::Unknown;
            }
        }
        let mut outputs = self.outputs.values();
        match outputs.find(|output| output.role.htlc().is_some() && output.role.outgoing() == Some(id)) {
            None => OutgoingHtlcState::NoOutput { closed: close.height },
            Some(output) => OutgoingHtlcState::Held { output, given_up: self.is_given_up(output, ctx) },
        }
    }
}

pub(super) fn outcome_effect(htlc: &CommitmentHtlc, outcome: HtlcOutcome) -> Effect {
    let (id, payment_hash) = (htlc.id, htlc.payment_hash);
    match outcome {
        HtlcOutcome::Fulfilled(preimage) => Effect::Fulfilled { htlc: id, payment_hash, preimage },
        HtlcOutcome::Failed => Effect::Failed { htlc: id, payment_hash },
    }
}

/// Preimages of these HTLCs that a transaction's witnesses show: an item of 32 bytes that hashes to the payment hash,
/// wherever it stands, so that every way to spend an HTLC is covered.
fn preimages_in<'a>(
    tx: &Transaction,
    htlcs: impl IntoIterator<Item = &'a CommitmentHtlc>,
) -> BTreeMap<PaymentHash, PaymentPreimage> {
    let shown: BTreeMap<PaymentHash, PaymentPreimage> = tx
        .input
        .iter()
        .flat_map(|input| input.witness.iter())
        .filter_map(|item| <[u8; 32]>::try_from(item).ok())
        .map(|item| (PaymentHash(sha256::Hash::hash(&item).to_byte_array()), PaymentPreimage(item)))
        .collect();
    htlcs
        .into_iter()
        .filter_map(|htlc| shown.get(&htlc.payment_hash).map(|preimage| (htlc.payment_hash, *preimage)))
        .collect()
}

/// How deep `height` is under `tip`: 1 for the tip itself.
pub(super) fn depth(height: Height, tip: Height) -> u32 {
    (tip.0.saturating_add(1)).saturating_sub(height.0)
}

/// What has become of an outgoing HTLC.
enum OutgoingHtlcState<'a> {
    /// The channel is not closed in a block.
    Open,
    /// The close, at this height, has no output for it.
    NoOutput { closed: Height },
    /// This output holds it.
    Held { output: &'a TrackedOutput, given_up: bool },
    /// The close may have an output for it that we cannot find.
    Unknown,
}

/// Whether an outgoing HTLC without a known preimage is to be failed upstream now.
fn is_lost(
    channel: &ClosingChannel,
    htlc: &CommitmentHtlc,
    htlc_state: &OutgoingHtlcState<'_>,
    tip: Height,
    policy: &EnforcementPolicy,
) -> bool {
    let upstream_ends =
        channel.upstream_expiries.get(&htlc.id).is_some_and(|expiry| tip.0.saturating_add(UPSTREAM_MARGIN) >= expiry.0);
    let decided = match htlc_state {
        OutgoingHtlcState::Open => false,
        OutgoingHtlcState::NoOutput { closed } => depth(*closed, tip) >= policy.fail_depth,
        // Somebody spent it and no preimage was seen: that was us.
        OutgoingHtlcState::Held { output, given_up } => match output.spend {
            Some(spend) => depth(spend.height, tip) >= policy.fail_depth,
            None => *given_up,
        },
        OutgoingHtlcState::Unknown => depth(Height(htlc.cltv_expiry.0), tip) >= policy.finality,
    };
    decided || upstream_ends
}
