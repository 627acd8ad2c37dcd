//! Both have signed a closing transaction, or something has closed the channel: we only answer.
//!
//! ```text
//!   connected ──► (nothing)                      nobody is greeted for a channel that is over
//!   peer ──channel_reestablish──► us: closed together:  channel_reestablish, shutdown, closing_signed …
//!                                     closed otherwise: error
//!
//!   block after block without a confirmation: broadcast again ─► a child pays more ─► our commitment
//! ```
//!
//! Promises: what both have signed is not given up for a commitment because of anything that the peer says; a peer with old
//! data gets our `channel_reestablish` before the `error`, and so learns that it must not close with them.
//! (differs) BOLT 2 wants `channel_reestablish` for every channel after each connection: a peer that has no use for it takes
//! it for a question about a channel that it has forgotten, and hangs up. One that has sends its own.

use super::reestablish::ReestablishOutcome;
use super::{ConnectionState, Established, Knowledge, Negotiating, Phase};
use crate::channel::effect::{Effect, Notice};
use crate::channel::error::{Fault, ProtocolViolation};
use crate::channel::turn::Turn;
use crate::types::{FeeratePerKw, Height, Side};
use crate::wire::{ChannelReestablish, ErrorMessage, Message};

/// Blocks without a confirmation after which a child pays for the closing transaction: as many as its own fee is meant for.
const RAISE_AFTER: u32 = 6;
/// Blocks without a confirmation after which our commitment is tried too. A day: a mempool that is full for an afternoon
/// costs nobody the delay of a forced close.
const FORCE_AFTER: u32 = 144;
/// Blocks for which both may stay with fees that have nothing in common (BOLT 2: "a reasonable amount of time"). Hours, in
/// which mempools empty and people change their minds.
const DISAGREEMENT: u32 = 18;
/// Blocks for which a peer that is connected may leave us without a first `closing_signed`, or an answer to ours.
const SILENCE: u32 = 144;

impl Established {
    /// Both have signed one closing transaction, or one is in the mempool or the chain.
    pub(super) fn is_settled_together(&self) -> bool {
        match &self.phase {
            Phase::Negotiating(negotiating) => negotiating.agreed.is_some(),
            Phase::Closing(closing) => closing.is_mutual(),
            Phase::Funding
            | Phase::Ready
            | Phase::Normal
            | Phase::Shutdown(_)
            | Phase::Lost
            | Phase::Restored
            | Phase::Closed => false,
        }
    }

    pub(super) fn reestablish_settled(
        &mut self,
        message: &ChannelReestablish,
        turn: &mut Turn<'_>,
    ) -> Result<(), Fault> {
        let in_sync = matches!(self.judge(message), Ok(ReestablishOutcome::Synced { .. }));
        let again = in_sync && self.negotiation().is_some();
        let asks = again && self.connection != ConnectionState::Syncing;
        if asks && !self.negotiation_mut().is_some_and(Negotiating::may_begin_again) {
            return Ok(());
        }
        // A peer with old data learns so before it closes with them; any other would only begin to use the channel.
        if self.connection != ConnectionState::Syncing && self.knowledge() != Knowledge::Nothing && (again || !in_sync)
        {
            let ours = self.channel_reestablish()?;
            turn.send(ours);
        }
        if !again {
            self.set_connection(ConnectionState::Waiting, turn);
            turn.send(self.end_for_peer());
            return Ok(());
        }
        self.set_connection(ConnectionState::Online, turn);
        if let Some(negotiating) = self.negotiation_mut() {
            negotiating.start_again();
        }
        self.negotiate_again(turn)
    }

    /// What a peer is told that asks about a channel which has ended.
    pub(super) fn end_for_peer(&self) -> Message {
        let spend = self.closing().and_then(|closing| closing.spend.as_ref()).map(|spend| spend.txid);
        let agreed = self.negotiation().and_then(|negotiating| negotiating.agreed.as_ref());
        let txid = spend.or_else(|| agreed.map(|agreed| agreed.transaction.compute_txid()));
        let text = match txid {
            Some(txid) => format!("the channel has been closed by transaction {txid}"),
            None => "we have closed this channel".to_owned(),
        };
        ErrorMessage::new(self.terms.channel_id, text).into()
    }

    /// The peer does not take part any more: nothing that it says undoes what it has signed.
    pub(super) fn left_alone(&mut self, turn: &mut Turn<'_>) {
        let proposed = self.negotiation().is_some_and(Negotiating::proposes_more);
        let asked = self.connection == ConnectionState::Syncing || proposed;
        if self.connection != ConnectionState::Offline {
            self.set_connection(ConnectionState::Waiting, turn);
        }
        let wanted = self.negotiation_mut().and_then(|negotiating| {
            negotiating.start_again();
            negotiating.fees.map(|fees| fees.wanted)
        });
        if let Some(wanted) = wanted.filter(|_| asked) {
            self.raise_alone(wanted, turn);
        }
    }

    /// Makes the closing transaction pay more: anew with the peer if we pay and can, else by a child.
    pub(super) fn raise(&mut self, feerate: FeeratePerKw, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let agreed = self.negotiation().and_then(|one| Some((one, one.agreed.as_ref()?)));
        let Some((negotiating, agreed)) = agreed else { return Ok(()) };
        if self.closing_cost(negotiating, feerate) <= agreed.fee {
            turn.notice(Notice::ClosingSigned { transaction: agreed.transaction.compute_txid() });
            return Ok(());
        }
        let can_pay_more = self.closing_fee_at(negotiating, feerate, turn) > agreed.fee;
        if self.terms.opener == Side::Remote || self.connection == ConnectionState::Offline || !can_pay_more {
            self.raise_alone(feerate, turn);
            return Ok(());
        }
        if self.connection == ConnectionState::Syncing {
            // It has been asked already; once it answers, the latest fees count.
            return Ok(());
        }
        // The peer may have ended its part: like after a reconnection it can begin again.
        let ours = self.channel_reestablish()?;
        turn.send(ours);
        self.set_connection(ConnectionState::Syncing, turn);
        if let Some(negotiating) = self.negotiation_mut() {
            negotiating.start_again();
        }
        Ok(())
    }

    /// However little the opener has left: a child pays from the wallet.
    fn raise_alone(&self, feerate: FeeratePerKw, turn: &mut Turn<'_>) {
        let Some(negotiating) = self.negotiation() else { return };
        if let Some(agreed) = &negotiating.agreed
            && self.closing_cost(negotiating, feerate) > agreed.fee
        {
            turn.emit(Effect::BumpClosingFee { transaction: agreed.transaction.clone(), feerate });
        }
    }

    /// A block without a confirmation, or without an agreement.
    pub(super) fn closing_tip(&mut self, tip: Height, turn: &mut Turn<'_>) -> Result<(), Fault> {
        let may_be_forced = match &self.phase {
            Phase::Closing(closing) if !closing.can_be_raised() => return Ok(()),
            Phase::Closing(closing) => !closing.is_forced(),
            _ => true,
        };
        if self.connection == ConnectionState::Syncing && self.is_settled_together() {
            // It was asked to sign another one before the last block, and does not answer.
            self.left_alone(turn);
        }
        let Some(negotiating) = self.negotiation_mut() else { return Ok(()) };
        negotiating.new_block();
        if negotiating.since.is_none() {
            negotiating.since = Some(tip);
            turn.touched.state = true;
        }
        let waited = negotiating.since.map_or(0, |since| tip.0.saturating_sub(since.0));
        let (disagreed, fees) = (negotiating.disagreed, negotiating.fees);
        let Some(agreed) = negotiating.agreed.clone() else {
            let silent = self.connection != ConnectionState::Offline && waited >= SILENCE;
            let stuck = silent || (disagreed && waited >= DISAGREEMENT);
            return if stuck { Err(ProtocolViolation::ClosingStuck.into()) } else { Ok(()) };
        };
        turn.emit(Effect::Broadcast(agreed.transaction));
        if waited >= RAISE_AFTER {
            let closing = turn.ctx.feerates.closing;
            self.raise_alone(fees.map_or(closing, |fees| fees.wanted.max(closing)), turn);
        }
        if waited >= FORCE_AFTER && may_be_forced {
            self.force_close(turn)?;
        }
        Ok(())
    }
}
