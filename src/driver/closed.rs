//! Records of channels that both sides have closed together, for people.
//!
//! ```text
//!   closing transaction in a block ──► record written, whoever waits is told ──► deep enough: the channel is forgotten
//!                                  ◄── block taken back: record removed
//! ```
//!
//! A record says what the chain says, so it waits for no commit of the channel, and is written before the channel can
//! be forgotten.

use bitcoin::{Amount, Transaction};
use leyden_channels::{
    channel::{Spend, SpendKind, Summary},
    onchain::Closer,
    types::{ChannelId, Height, Side},
};
use tracing::{error, info};

use super::{
    cause::reason,
    events::ChannelNews,
    peer::{Closing, Peer},
};
use crate::{
    api::{ClosedChannel, ClosureType},
    store::{Cause, StoreError},
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
