//! The funding transaction leaves the best chain, comes back, or never can: what follows for the channel, whatever its
//! phase.
//!
//! ```text
//!   gone, or back and not deep ──► no HTLC is offered, taken or passed on; what is pending gets resolved
//!   double-spent in a block ─────► the same for zero-conf channels too; neither side can close it any more
//!      └─ FAIL_DEPTH deep ───────► outgoing HTLCs have failed: no commitment will ever hold them
//!      └─ FINAL_DEPTH deep ──────► closed and forgotten
//!   abandoned by the user ───────► the same at once, whatever the chain says
//!   closed before it was funded, and nothing in it is ours; or what was to be its funding output is another one
//!                        ────────► the fundee forgets it at once
//! ```
//!
//! The depths are those of the enforcement ([`onchain::EnforcementPolicy`]): nothing is told upstream, and nothing forgotten, before a
//! reorganisation that undoes it is out of the question by the same measure as everywhere.

use super::{Established, Phase};
use crate::channel::commitment::limits::CannotAdd;
use crate::channel::commitment::spec::{Htlc, HtlcKey};
use crate::channel::effect::{Effect, HtlcFailure, Notice};
use crate::channel::error::{CloseRefused, Invariant};
use crate::channel::event::Origin;
use crate::channel::funding::{FundingInput, FundingState};
use crate::channel::turn::Turn;
use crate::margins::{FAIL_DEPTH, FINAL_DEPTH};
use crate::types::{Height, ShortChannelId, Side};
use bitcoin::Txid;

impl Established {
    /// Why no HTLC may be added because of the funding transaction. Whoever uses a channel of zero confirmations trusts
    /// its funder until another transaction has taken the coins.
    pub(crate) fn not_funded(&self) -> Option<CannotAdd> {
        let trusted = self.terms.minimum_depth == 0;
        match self.funding_state {
            FundingState::Confirmed | FundingState::Awaited => None,
            FundingState::Shallow | FundingState::ReorgedOut if trusted => None,
            state @ (FundingState::Shallow | FundingState::ReorgedOut | FundingState::DoubleSpent { .. }) => {
                Some(CannotAdd::NotFunded(state))
            }
        }
    }

    pub(crate) fn is_double_spent(&self) -> bool {
        matches!(self.funding_state, FundingState::DoubleSpent { .. })
    }

    pub(super) fn set_funding_state(&mut self, state: FundingState, turn: &mut Turn<'_>) {
        if self.funding_state == state {
            return;
        }
        let was_usable = self.is_usable();
        self.funding_state = state;
        turn.touched.state = true;
        turn.notice(Notice::Funding(state));
        self.notice_usable(was_usable, turn);
    }

    /// It is in a block, with so many confirmations. To be called before the new place is taken note of.
    pub(super) fn funding_is_confirmed(
        &mut self,
        place: Option<ShortChannelId>,
        confirmations: u32,
        turn: &mut Turn<'_>,
    ) {
        let deep = confirmations >= self.terms.minimum_depth;
        let moved = place.is_some() && self.short_channel_id.is_some() && self.short_channel_id != place;
        let state = match self.funding_state {
            FundingState::Confirmed if moved && !deep => FundingState::Shallow,
            FundingState::Awaited | FundingState::Confirmed => FundingState::Confirmed,
            FundingState::Shallow | FundingState::ReorgedOut | FundingState::DoubleSpent { .. } if deep => {
                FundingState::Confirmed
            }
            FundingState::Shallow | FundingState::ReorgedOut | FundingState::DoubleSpent { .. } => {
                FundingState::Shallow
            }
        };
        self.set_funding_state(state, turn);
    }

    pub(super) fn funding_is_unconfirmed(&mut self, turn: &mut Turn<'_>) {
        let state = match self.short_channel_id {
            None => FundingState::Awaited,
            Some(_) => FundingState::ReorgedOut,
        };
        self.set_funding_state(state, turn);
    }

    pub(super) fn funding_seen(&mut self, inputs: Vec<FundingInput>, turn: &mut Turn<'_>) {
        for input in inputs {
            if !self.funding_inputs.contains(&input) {
                self.funding_inputs.push(input);
                turn.touched.inputs = true;
            }
        }
    }

    /// A transaction of a block has spent a coin that the funding transaction needs.
    pub(super) fn funding_conflicts(
        &mut self,
        by: Txid,
        height: Height,
        confirmations: u32,
        turn: &mut Turn<'_>,
    ) -> Result<(), Invariant> {
        if self.phase == Phase::Closed {
            return Ok(());
        }
        // What is proposed stays: the peer has it and counts on it, until the connection ends.
        self.set_funding_state(FundingState::DoubleSpent { by, height }, turn);
        if confirmations >= FAIL_DEPTH {
            self.fail_outgoing(turn)?;
        }
        if confirmations >= FINAL_DEPTH {
            self.end_unfunded(turn);
        }
        Ok(())
    }

    /// The user gives the channel up, with all that is in it.
    pub(super) fn abandon(&mut self, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        self.give_up_proposals(turn);
        self.fail_outgoing(turn)?;
        self.end_unfunded(turn);
        Ok(())
    }

    pub(super) fn refuse_close(&self, turn: &mut Turn<'_>) -> bool {
        let FundingState::DoubleSpent { .. } = self.funding_state else { return false };
        turn.emit(Effect::CloseRefused(CloseRefused::NotFunded(self.funding_state)));
        true
    }

    /// No commitment will ever hold our HTLCs: they have failed. Told once: from then on nobody waits for them.
    fn fail_outgoing(&mut self, turn: &mut Turn<'_>) -> Result<(), Invariant> {
        let waits = self.commitments.details.iter_mut().filter(|(key, details)| {
            // What was told for paid stays so.
            key.offered_by == Side::Local && !details.preimage_told
        });
        let failed: Vec<(HtlcKey, Htlc, Origin)> = waits
            .filter_map(|(key, details)| details.origin.take().map(|origin| (*key, details.htlc, origin)))
            .collect();
        let keys: Vec<HtlcKey> = failed.iter().map(|(key, ..)| *key).collect();
        self.store_htlcs(&keys, turn)?;
        for (_, htlc, origin) in failed {
            self.failed(&htlc, origin, HtlcFailure::NotOnChain, turn);
        }
        Ok(())
    }

    /// The peer was to fund it, and that does not matter any more.
    pub(super) fn forget_unfunded(&mut self, turn: &mut Turn<'_>) {
        self.set_phase(Phase::Closed, turn);
        turn.emit(Effect::Forget);
    }

    fn end_unfunded(&mut self, turn: &mut Turn<'_>) {
        turn.emit(Effect::ReleaseFunding { transaction: self.terms.funding.txid });
        self.forget_unfunded(turn);
    }
}
