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

use bitcoin::{Amount, Script, Transaction, Txid};
use leyden_channels::{
    channel::{Channel, Event, FundingSpend, FundingState, SpendKind, Summary},
    onchain::Closer,
    types::{ChannelId, Height, Side},
};
use tracing::{error, info, warn};

use super::{
    cause::reason,
    events::ChannelNews,
    peer::{CloseProgress, OpenProgress, Peer},
};
use crate::{
    store::{CloseCause, ClosedChannel, ClosureType, StoreError},
    words::said,
};

impl Peer {
    /// Brings the record up to what the channel knows of its end. `transaction` is the closing transaction, if that is
    /// news.
    pub(super) fn keep_close(&mut self, id: ChannelId, transaction: Option<&Transaction>) {
        let Some(summary) = self.slots.get(&id).and_then(|slot| slot.channel.summary()) else { return };
        if let Err(error) = self.write_close(id, &summary, transaction) {
            error!(channel = %self.point(&id), %error, "the record of a closed channel could not be stored; it is tried again at the next start");
        }
    }

    /// After a restart: a crash may have come between the news of a close and its record.
    pub(super) fn keep_closes(&mut self) {
        let closing = |channel: &Channel| Some(channel.resolution()?.spends().next()?.0.clone());
        let closed: Vec<(ChannelId, Transaction)> =
            self.slots.iter().filter_map(|(id, slot)| Some((*id, closing(&slot.channel)?))).collect();
        for (id, transaction) in closed {
            self.keep_close(id, Some(&transaction));
        }
    }

    fn write_close(
        &mut self,
        id: ChannelId,
        summary: &Summary,
        transaction: Option<&Transaction>,
    ) -> Result<(), StoreError> {
        let Some(FundingSpend { txid, height, kind: SpendKind::Mutual }) = summary.spend.clone() else { return Ok(()) };
        let Some(funding) = summary.established.as_ref().map(|known| known.funding) else { return Ok(()) };
        let store = &self.services.store;
        let kept = store.closed_channel(&funding)?;
        let Some(height) = height else {
            if kept.is_some() {
                info!(channel = %self.point(&id), %txid, "a reorganisation took the closing transaction back");
                store.remove_closed_channel(&funding)?;
            }
            return Ok(());
        };
        let Some(transaction) = transaction else { return Ok(()) };
        let cause = self.cause(&funding);
        let settled = settled(summary, transaction, |script| self.services.wallet.is_mine(script));
        let Some(closed) = closed_together(summary, settled, height, transaction.compute_txid(), cause.as_ref()) else {
            return Ok(());
        };
        if kept.as_ref() != Some(&closed) {
            store.put_closed_channel(&closed)?;
            info!(channel = %self.point(&id), %txid, height = height.0, settled = closed.settled.map(Amount::to_sat), "closed cooperatively");
            self.services.events.channel(ChannelNews::Closed(funding));
            // Both have what is theirs: nothing of it is open.
            self.services.events.channel(ChannelNews::Resolved(funding));
        }
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.tell_closing(&CloseProgress::Closed { txid });
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
        slot.tell_opening(OpenProgress::Failed { reason: reason.clone() });
        slot.tell_closing(&CloseProgress::Refused { reason: reason.clone() });
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
        slot.tell_opening(OpenProgress::Failed { reason: reason.clone() });
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
        let closed = ClosedChannel {
            node_id: summary.remote_node,
            funding: known.funding,
            short_channel_id: known.short_channel_id,
            capacity: summary.capacity,
            closing_txid,
            height,
            settled: Some(Amount::ZERO),
            time_locked: Amount::ZERO,
            closure,
            opener: summary.opener,
            closer: (closure == ClosureType::Abandoned).then_some(Side::Local),
            reason,
            fees: Amount::ZERO,
            outputs: Vec::new(),
        };
        warn!(channel = %self.point(&id), reason = said(&closed.reason), "the channel has ended");
        match self.services.store.put_closed_channel(&closed) {
            Ok(()) => self.services.events.channel(ChannelNews::Closed(known.funding)),
            Err(error) => {
                error!(channel = %self.point(&id), %error, "the record of a closed channel could not be stored")
            }
        }
    }
}

fn closed_together(
    summary: &Summary,
    settled: Option<Amount>,
    height: Height,
    closing_txid: Txid,
    cause: Option<&CloseCause>,
) -> Option<ClosedChannel> {
    let known = summary.established.as_ref()?;
    Some(ClosedChannel {
        node_id: summary.remote_node,
        funding: known.funding,
        short_channel_id: known.short_channel_id,
        capacity: summary.capacity,
        closing_txid: Some(closing_txid),
        height,
        settled,
        time_locked: Amount::ZERO,
        closure: ClosureType::Cooperative,
        opener: summary.opener,
        closer: cause.map(|cause| cause.by),
        reason: reason(Some(&Closer::Mutual), cause),
        fees: Amount::ZERO,
        outputs: Vec::new(),
    })
}

/// Our part of the closing transaction; `None` where nobody can tell. What pays the wallet is ours, whatever we have
/// forgotten. Else our part went to an address that the user named, and only the balances tell which it is: of the
/// opener's output the fee has been taken.
fn settled(summary: &Summary, transaction: &Transaction, is_mine: impl Fn(&Script) -> bool) -> Option<Amount> {
    let values = || transaction.output.iter().map(|output| output.value);
    let mine = transaction.output.iter().filter(|output| is_mine(&output.script_pubkey));
    let mine: Amount = mine.map(|output| output.value).sum();
    if mine > Amount::ZERO {
        return Some(mine);
    }
    let known = summary.established.as_ref().filter(|known| known.knows_balances())?;
    let balance = match summary.opener {
        Side::Local => known.remote_balance,
        Side::Remote => known.local_balance,
    };
    // Too little for an output goes to the miners.
    let not_openers = values().find(|value| *value == balance.floor_sat()).unwrap_or(Amount::ZERO);
    match summary.opener {
        Side::Local => values().sum::<Amount>().checked_sub(not_openers),
        Side::Remote => Some(not_openers),
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{ScriptBuf, TxOut, absolute, hashes::Hash as _, transaction::Version};
    use leyden_channels::{channel::StateName, types::NodeId};

    use super::*;

    fn script(byte: u8) -> ScriptBuf {
        ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([byte; 20]))
    }

    /// Of which a backup is all that we have.
    fn forgotten(opener: Side) -> Summary {
        Summary {
            channel_id: ChannelId([1; 32]),
            state: StateName::Closing,
            remote_node: NodeId([2; 33]),
            opener,
            capacity: Amount::from_sat(100_000),
            usable: false,
            online: false,
            spend: None,
            established: None,
        }
    }

    #[test]
    fn what_a_forgotten_channel_has_brought_is_what_pays_the_wallet_or_unknown() {
        let output = |byte, sat| TxOut { value: Amount::from_sat(sat), script_pubkey: script(byte) };
        let closing = Transaction {
            version: Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: Vec::new(),
            output: vec![output(1, 50_000), output(2, 49_000)],
        };
        for opener in [Side::Local, Side::Remote] {
            let got = |mine: u8| settled(&forgotten(opener), &closing, |of| *of == *script(mine));
            assert_eq!(got(2), Some(Amount::from_sat(49_000)));
            assert_eq!(got(3), None, "neither everything nor nothing");
        }
    }
}
