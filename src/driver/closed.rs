//! Records of channels that both sides have closed together, that were never funded or that were abandoned, for people.
//!
//! ```text
//!   closing transaction in a block ──► record written, whoever waits is told ──► deep enough: the channel is forgotten
//!                                  ◄── block taken back: record removed
//! ```
//!
//! ```text
//!   funding transaction double-spent, for good ─┐
//!   abandoned by the user ─────────────────────►└─ record written ──► the channel is forgotten
//! ```
//!
//! A record says what the chain says, so it waits for no commit of the channel, and is written before the channel can
//! be forgotten.

use bitcoin::{Amount, Transaction, Txid};
use leyden_channels::{
    channel::{Event, FundingState, Spend, SpendKind, Summary},
    onchain::Closer,
    types::{ChannelId, Height, Side},
};
use tracing::{error, info, warn};

use super::{
    cause::reason,
    events::ChannelNews,
    peer::{Closing, Opening, Peer},
};
use crate::{
    api::{ClosedChannel, ClosureType},
    store::{Cause, StoreError},
    words::said,
};

impl Peer {
    /// Brings the record up to what the channel knows of its end. `transaction` is the closing transaction, if that is
    /// news.
    pub(super) fn keep_close(&mut self, id: ChannelId, transaction: Option<&Transaction>) {
        let Some(summary) = self.slots.get(&id).and_then(|slot| slot.channel.summary()) else { return };
        if let Err(error) = self.write_close(id, &summary, transaction) {
            error!(channel = %id, %error, "the record of a closed channel is not kept; it is tried again at a restart");
        }
    }

    fn write_close(
        &mut self,
        id: ChannelId,
        summary: &Summary,
        transaction: Option<&Transaction>,
    ) -> Result<(), StoreError> {
        let Some(Spend { txid, height, kind: SpendKind::Mutual }) = summary.spend.clone() else { return Ok(()) };
        let Some(funding) = summary.established.as_ref().map(|known| known.funding) else { return Ok(()) };
        let store = &self.services.store;
        let kept = store.closed_channel(&funding)?;
        let Some(height) = height else {
            if kept.is_some() {
                info!(channel = %id, %txid, "a reorganisation took the closing transaction back");
                store.remove_closed_channel(&funding)?;
            }
            return Ok(());
        };
        let Some(transaction) = transaction else { return Ok(()) };
        let cause = self.cause(&funding);
        let Some(closed) = closed_together(summary, transaction, height, cause.as_ref()) else { return Ok(()) };
        if kept.as_ref() != Some(&closed) {
            store.put_closed_channel(&closed)?;
            info!(channel = %id, %txid, height = height.0, settled = closed.settled.to_sat(), "closed together");
            self.services.events.channel(ChannelNews::Closed(funding));
        }
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.tell_closing(&Closing::Closed { txid });
        }
        Ok(())
    }
}

impl Peer {
    /// The record of a channel that ends because its funding transaction was double-spent.
    pub(super) fn keep_double_spend(&mut self, id: ChannelId) {
        let Some(slot) = self.slots.get(&id) else { return };
        let Some(summary) = slot.channel.summary() else { return };
        let Some(known) = &summary.established else { return };
        let FundingState::DoubleSpent { by, height } = known.funding_state else { return };
        let store = &self.services.store;
        if store.closed_channel(&known.funding).is_ok_and(|kept| kept.is_some()) {
            return;
        }
        let reason = format!("it was never funded, or no longer: {}", known.funding_state);
        slot.tell_opening(Opening::Failed { reason: reason.clone() });
        slot.tell_closing(&Closing::Refused { reason: reason.clone() });
        self.keep_unfunded(id, &summary, ClosureType::FundingCanceled, (Some(by), height), reason);
    }

    /// The user gives a channel up: recorded, then forgotten.
    pub(super) fn abandon(&mut self, id: ChannelId) -> Result<(), String> {
        let slot = self.slots.get(&id).ok_or("there is no such channel")?;
        if slot.stopped {
            return Err("this channel met an error and is stopped: start leydend again, then abandon it".into());
        }
        let summary = slot.channel.summary().filter(|summary| summary.established.is_some());
        let summary = summary.ok_or("this opening ends by itself, with the connection")?;
        let reason = format!("this node's user abandoned it while it was {}", summary.state);
        slot.tell_opening(Opening::Failed { reason: reason.clone() });
        self.keep_unfunded(id, &summary, ClosureType::Abandoned, (None, self.services.tip()), reason);
        self.event(id, Event::Abandon);
        Ok(())
    }

    fn keep_unfunded(
        &self,
        id: ChannelId,
        summary: &Summary,
        closure: ClosureType,
        (closing_txid, height): (Option<Txid>, Height),
        reason: String,
    ) {
        let Some(known) = &summary.established else { return };
        let Ok(node_id) = summary.remote_node.public_key() else { return };
        let closed = ClosedChannel {
            node_id,
            funding: known.funding,
            short_channel_id: known.short_channel_id,
            capacity: summary.capacity,
            closing_txid,
            height,
            settled: Amount::ZERO,
            time_locked: Amount::ZERO,
            closure,
            opener: summary.opener,
            closer: (closure == ClosureType::Abandoned).then_some(Side::Local),
            reason,
            fees: Amount::ZERO,
            outputs: Vec::new(),
        };
        warn!(channel = %id, reason = said(&closed.reason), "the channel has ended");
        match self.services.store.put_closed_channel(&closed) {
            Ok(()) => self.services.events.channel(ChannelNews::Closed(known.funding)),
            Err(error) => error!(channel = %id, %error, "the record of a closed channel is not kept"),
        }
    }
}

fn closed_together(
    summary: &Summary,
    transaction: &Transaction,
    height: Height,
    cause: Option<&Cause>,
) -> Option<ClosedChannel> {
    let known = summary.established.as_ref()?;
    Some(ClosedChannel {
        node_id: summary.remote_node.public_key().ok()?,
        funding: known.funding,
        short_channel_id: known.short_channel_id,
        capacity: summary.capacity,
        closing_txid: Some(transaction.compute_txid()),
        height,
        settled: settled(summary, transaction),
        time_locked: Amount::ZERO,
        closure: ClosureType::Cooperative,
        opener: summary.opener,
        closer: cause.map(|cause| cause.by),
        reason: reason(Some(&Closer::Mutual), cause),
        fees: Amount::ZERO,
        outputs: Vec::new(),
    })
}

/// Our part of the closing transaction. Only the opener's differs from its balance, by the fee.
fn settled(summary: &Summary, transaction: &Transaction) -> Amount {
    let Some(known) = &summary.established else { return Amount::ZERO };
    let balance = match summary.opener {
        Side::Local => known.remote_balance,
        Side::Remote => known.local_balance,
    };
    // Too little for an output goes to the miners.
    let values = || transaction.output.iter().map(|output| output.value);
    let not_openers = values().find(|value| *value == balance.floor_sat()).unwrap_or(Amount::ZERO);
    match summary.opener {
        Side::Local => values().sum::<Amount>().checked_sub(not_openers).unwrap_or(Amount::ZERO),
        Side::Remote => not_openers,
    }
}
