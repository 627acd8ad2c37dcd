//! Does what the cores ask for, once what it rests on is durable.

use std::sync::Arc;

use bitcoin::{FeeRate, OutPoint, ScriptBuf, Transaction, Txid};
use leyden_channels::{
    channel::{
        self, Backing, CannotAdd, Effect, Event, FundingInput, HtlcFailure, IncomingHtlc, Key, Notice, Origin,
        Publisher, SpendKind, StateName,
    },
    payment::incoming::InvoiceEffect,
    switch::{HtlcRef, SwitchEffect, SwitchEvent},
    types::{ChannelId, FeeratePerKw, HtlcId, PaymentPreimage, ShortChannelId, Side},
};
use tracing::{debug, error, info, warn};

use super::{CloseProgress, FundingSource, NO_MORE_LINES, OpenChoices, OpenProgress, Peer};
use crate::driver::{
    committer::{ConnectionId, NodeEffect},
    events::{ChannelNews, OwnHtlc, OwnHtlcNews},
    fee_bump::{Child, FeeBump, FeeBumpError},
    gossip::{GossipEvent, OwnChannelState},
    towers::TowerChannel,
};
use crate::{
    wallet::reserve::Reserve,
    words::{Line, said},
};

/// The part of our output of a closing transaction that may be spent on getting it into a block, without the user's word.
const RAISE_BUDGET_PART: u64 = 20;

impl Peer {
    /// Carries out what stays inside the node.
    pub(super) fn decide(&mut self, effect: NodeEffect) {
        match effect {
            NodeEffect::Channel { channel, effect, .. } => self.decide_for_channel(channel, effect),
            NodeEffect::Invoice(InvoiceEffect::Settle { channel, id, settlement })
                if self.slots.contains_key(&channel) =>
            {
                self.underway.push(self.services.tell_received(channel, id, &settlement));
                self.event(channel, Event::Settle { id, settlement });
            }
            NodeEffect::Invoice(effect) => self.underway.extend(self.services.invoice_effect(effect)),
            NodeEffect::Switch(effect) => self.switch_effect(effect),
            NodeEffect::Payment(effect) => self.underway.extend(self.services.payment_effect(effect)),
            NodeEffect::News(news) => self.services.events.own_htlc(news),
            // Theirs is a task of its own.
            NodeEffect::Towers(_) => {}
        }
    }

    fn decide_for_channel(&mut self, id: ChannelId, effect: Effect) {
        match effect {
            Effect::Incoming(htlc) => self.arrived(*htlc),
            Effect::Fulfilled { origin, htlc, preimage, .. } => {
                self.fulfilled(origin, HtlcRef { channel: id, id: htlc }, preimage);
            }
            Effect::Failed { origin, htlc, failure, .. } => {
                self.failed(origin, HtlcRef { channel: id, id: htlc }, failure);
            }
            Effect::Refused { origin, cause } => self.refused(origin, cause),
            _ => {}
        }
    }

    pub(super) async fn effect(&mut self, effect: NodeEffect) {
        match effect {
            NodeEffect::Channel { channel, connection, effect } => {
                self.channel_effect(channel, connection, effect).await
            }
            effect => self.decide(effect),
        }
    }

    pub(super) async fn channel_effect(&mut self, id: ChannelId, connection: ConnectionId, effect: Effect) {
        match effect {
            Effect::Send(message) => {
                if let Some(connected) = &mut self.connection
                    && connected.id == connection
                    && let Err(error) = connected.connection.queue(&message)
                {
                    error!(channel = %self.point(&id), %error, "disconnecting");
                    self.disconnect();
                }
            }
            Effect::Disconnect => {
                if self.connection.as_ref().is_some_and(|connected| connected.id == connection) {
                    self.note_dispute();
                    if let Some(connected) = &mut self.connection {
                        let _ = connected.connection.flush();
                    }
                    self.disconnect();
                }
            }
            Effect::Fund { script, amount } => self.fund(id, script, amount),
            Effect::ReleaseFunding { transaction } => self.services.wallet.release(&transaction),
            Effect::Broadcast(transaction) => self.hand_over(id, transaction).await,
            Effect::BumpClosingFee { transaction, feerate } => self.bump_closing_fee(id, &transaction, feerate).await,
            Effect::WatchFunding { funding, script, inputs, .. } => self.watch(id, funding, script, inputs).await,
            Effect::Watch { outpoint, .. } => self.watch_output(id, outpoint),
            effect @ (Effect::Incoming(_)
            | Effect::Fulfilled { .. }
            | Effect::Failed { .. }
            | Effect::Refused { .. }) => {
                self.decide_for_channel(id, effect);
            }
            Effect::CloseRefused(refused) => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.wish_to_close = false;
                    slot.tell_closing(&CloseProgress::Refused { reason: refused.to_string() });
                }
            }
            Effect::FeeRefused { feerate } => {
                warn!(channel = %self.point(&id), feerate = feerate.0, "the fee rate was not changed");
            }
            Effect::Final { htlc, end } if self.services.events.hears_htlcs() => {
                let known = self.slots.get(&id).and_then(|slot| slot.channel.summary()?.established);
                let name = known.and_then(|known| known.short_channel_id.or(known.local_alias));
                let news = OwnHtlcNews::Ended { name: name.unwrap_or(ShortChannelId(0)), end };
                // What it rests on is durable already.
                let at = self.services.now();
                self.services.events.own_htlc(OwnHtlc { at, channel: id, id: Some(htlc), news });
            }
            Effect::Final { .. } => {}
            Effect::Notice(notice) => {
                if matches!(notice, Notice::Established { .. } | Notice::Confirmed { .. }) {
                    self.note_backing(id);
                    self.keep_backup(id).await;
                }
                self.note_cause_in(id, &notice);
                let reserve = matches!(
                    notice,
                    Notice::Established { .. } | Notice::StateChanged { .. } | Notice::Confirmed { .. }
                );
                self.notice(id, notice);
                if reserve {
                    self.keep_reserve(id);
                }
            }
            Effect::Closing { transaction, kind } => match kind {
                // It is told by what both have signed.
                SpendKind::Mutual => {}
                SpendKind::Local => self.closed_by_us(id, transaction).await,
                SpendKind::Remote(_)
                | SpendKind::Revoked(_)
                | SpendKind::Future(_)
                | SpendKind::LocalOld(_)
                | SpendKind::Unknown => self.closed_by_peer(id, transaction),
            },
            Effect::TowerBackup { number } => {
                let past = self.slots.get(&id).and_then(|slot| slot.channel.revoked_past());
                self.services.towers.queued(id, number, past.and_then(|past| past.secrets.get(number)));
            }
            Effect::Onchain(effect) => self.onchain_effect(id, *effect).await,
            Effect::Forget => {
                self.keep_double_spend(id);
                self.services.wallet.put_back_all(&id);
                // A peer chooses the temporary id of an opening: it may be that of somebody else's channel.
                let is_ours = self.services.peers.owner(&id) == Some(self.node_id);
                if is_ours {
                    self.services.watch.forget(&id);
                    self.services.towers.channel_over(id);
                    self.services.peers.remove_channel(&id);
                    self.services.backups.remove(&id);
                }
                self.refuse_waiting(id);
                if let Some(slot) = self.slots.remove(&id)
                    && slot.channel.backing() != Backing::Funded
                {
                    slot.tell_closing(&CloseProgress::Refused {
                        reason: "it is forgotten: no transaction closes it, because none has funded it".into(),
                    });
                }
                self.keep_reserve(id);
                self.forget_unsent(&id);
                self.renamed.retain(|_, named| *named != id);
                if is_ours {
                    self.erase(id);
                }
                self.services.gossip.tell(GossipEvent::ChannelGone(id));
                self.underway.push(self.services.tell_switch(SwitchEvent::LinkGone(id)));
            }
        }
    }

    /// Pays for a closing transaction out of what it pays us.
    async fn bump_closing_fee(&mut self, id: ChannelId, transaction: &Transaction, feerate: FeeratePerKw) {
        let txid = transaction.compute_txid();
        let asked = self.slots.get(&id).is_some_and(|slot| slot.fee_bump_wanted);
        let ours = self.services.wallet.gain(transaction).to_unsigned().unwrap_or_default();
        let wanted = u64::from(feerate.0);
        // It spends what the closing transaction brings home.
        let reserve = Reserve::Spend;
        let child = |rate: u64, budget| Child { rate: FeeRate::from_sat_per_kwu(rate), budget, spends: None, reserve };
        // Without the user's word it costs a small part of what it is about, and then does what that can.
        let budget = (!asked).then(|| ours / RAISE_BUDGET_PART);
        let result = match self.services.pull_along(transaction, child(wanted, budget)).await {
            Err(FeeBumpError::BeyondBudget { cost, budget }) => {
                let affordable = wanted.saturating_mul(budget.to_sat()) / cost.to_sat().max(1);
                self.services.pull_along(transaction, child(affordable, Some(budget))).await
            }
            result => result,
        };
        match result {
            Ok(FeeBump { txid: child, fee }) => {
                info!(channel = %self.point(&id), %txid, %child, fee = fee.to_sat(), "a child pays for the closing transaction");
                self.report_fee_bump(id, Ok(txid));
            }
            Err(FeeBumpError::PaysEnough) => self.report_fee_bump(id, Ok(txid)),
            Err(error) => {
                debug!(channel = %self.point(&id), %txid, %error, "nothing pays for the closing transaction");
                self.report_fee_bump(id, Err(error));
            }
        }
    }

    fn report_fee_bump(&mut self, id: ChannelId, result: Result<Txid, FeeBumpError>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if !std::mem::take(&mut slot.fee_bump_wanted) {
            return;
        }
        slot.tell_closing(&match result {
            Ok(txid) => CloseProgress::Pending { txid, by: Side::Local },
            Err(error) => CloseProgress::Refused {
                reason: format!("the closing transaction cannot be raised: {error}. `--force` closes without it"),
            },
        });
    }

    /// Removes what is stored of a channel that is over. If that fails it is over again at the next start.
    pub(super) fn erase(&mut self, id: ChannelId) {
        let mut keys = Vec::new();
        for prefix in channel::prefixes(&id) {
            match self.services.store.core_records(&prefix) {
                Ok(rows) => keys.extend(rows.iter().filter_map(|(key, _)| Key::decode(key))),
                Err(error) => {
                    return error!(channel = %self.point(&id), %error, "the rows of a closed channel cannot be read");
                }
            }
        }
        self.push(id, self.connection_id(), channel::erase(&id, keys));
    }

    pub(in crate::driver) fn tell_closing(&self, id: ChannelId, news: &CloseProgress) {
        if let Some(slot) = self.slots.get(&id) {
            slot.tell_closing(news);
        }
    }

    pub(super) fn notice(&mut self, id: ChannelId, notice: Notice) {
        let name = self.point(&id);
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if is_news_of_link(&notice) {
            let terms = slot.choices.as_ref().map_or(self.services.forwarding, |choices| choices.forwarding);
            self.underway.extend(self.services.link(&slot.channel, terms));
        }
        if (is_news_of_link(&notice) || matches!(notice, Notice::Usable(_) | Notice::Funding(_)))
            && let Some(state) = OwnChannelState::of(&slot.channel)
        {
            self.services.gossip.tell(GossipEvent::Channel(Box::new(state)));
        }
        match notice {
            Notice::Established { funding, .. } => {
                if let Some(channel) = TowerChannel::of(&slot.channel) {
                    self.services.towers.established(channel);
                }
                if let Some(OpenChoices { memo, source, .. }) = slot.choices.take() {
                    if !memo.is_empty()
                        && let Err(error) = self.services.store.put_memo(&funding, &memo)
                    {
                        warn!(channel = %name, %error, "the channel's memo could not be stored");
                    }
                    let publisher = match source {
                        FundingSource::Wallet { .. } => Some(Publisher::Channel),
                        FundingSource::Psbt(psbt) => psbt.signed(),
                    };
                    // Otherwise whoever opens it hears of it when the mempool has the funding transaction.
                    if publisher == Some(Publisher::Maker) {
                        slot.tell_opening(OpenProgress::Pending { funding });
                    }
                }
                self.services.events.channel(ChannelNews::Pending(funding));
            }
            Notice::StateChanged { from, to } => {
                // Openings cost a stranger nothing.
                let begins = matches!(from, StateName::Opening | StateName::Funding);
                if !begins || self.log.line(&format!("{id} {to}")) != Line::Skip {
                    info!(channel = %name, %from, %to, "state");
                }
                if to == StateName::Normal
                    && from != StateName::Normal
                    && let Some(summary) = slot.channel.summary()
                    && let Some(established) = &summary.established
                {
                    let funding = established.funding;
                    slot.tell_opening(OpenProgress::Open { funding });
                    slot.opening = None;
                    self.services.store.counters().channel_opened();
                    self.services.events.channel(ChannelNews::Open(Arc::new(summary)));
                }
            }
            Notice::Confirmed { short_channel_id } => info!(channel = %name, %short_channel_id, "confirmed"),
            Notice::Funding(state) if state.is_on_chain() => info!(channel = %name, "{state}"),
            Notice::Funding(state) => warn!(channel = %name, "{state}"),
            Notice::Usable(usable) => {
                if let Some(funding) = slot.channel.terms().map(|terms| terms.funding) {
                    self.services.events.channel(ChannelNews::Usable { funding, usable });
                }
            }
            Notice::OpenFailed { reason } => {
                if self.log.line(&reason) != Line::Skip {
                    info!(channel = %name, reason = said(&reason), "the opening failed");
                }
                if let Some(OpenChoices { source: FundingSource::Psbt(psbt), .. }) = &slot.choices {
                    psbt.ended(&reason);
                }
                slot.tell_opening(OpenProgress::Failed { reason });
            }
            Notice::ProtocolViolation(violation) => {
                self.services.store.counters().protocol_violation();
                let violation = said(&violation.to_string());
                match self.log.line(&violation) {
                    Line::Write => warn!(channel = %name, peer = %self.node_id, violation, "the peer broke a rule"),
                    Line::WriteAndSaySo => {
                        warn!(channel = %name, peer = %self.node_id, violation, "the peer broke a rule; {NO_MORE_LINES}");
                    }
                    Line::Skip => {}
                }
            }
            Notice::PeerSays { error, text } => {
                self.note_dispute();
                // What concerns all channels comes once for each of them.
                let line = self.log.line(&text);
                let words = said(&text);
                match line {
                    Line::Write => warn!(channel = %name, peer = %self.node_id, error, words, "the peer says"),
                    Line::WriteAndSaySo => {
                        warn!(channel = %name, peer = %self.node_id, error, words, "the peer says; {NO_MORE_LINES}");
                    }
                    Line::Skip => return,
                }
                self.services.events.complaint(self.node_id, text, self.services.now().0);
            }
            Notice::ClosingSigned { transaction } => {
                slot.fee_bump_wanted = false;
                slot.tell_closing(&CloseProgress::Pending { txid: transaction, by: Side::Local })
            }
            Notice::DataLoss => {
                error!(channel = %name, "our data is older than the peer's: it must close, we only wait");
            }
            Notice::PeerDataLoss => {
                warn!(channel = %name, "the peer has lost data and must recover or ask us to close")
            }
        }
    }

    pub(super) async fn watch(
        &mut self,
        id: ChannelId,
        funding: OutPoint,
        script: ScriptBuf,
        inputs: Vec<FundingInput>,
    ) {
        let backing = self.slots.get(&id).map_or(Backing::Funded, |slot| slot.channel.backing());
        self.services.peers.add_channel(id, self.node_id, backing);
        // Of a channel from a backup nothing is known that its funding needed.
        let is_recovered = backing == Backing::Funded && inputs.is_empty();
        let owner = self.mailbox.clone();
        if let Err(error) = self.services.watch.watch(id, owner, funding, script, inputs, is_recovered).await {
            error!(channel = %self.point(&id), %error, "the chain cannot be watched");
        }
    }

    pub(super) fn arrived(&mut self, htlc: IncomingHtlc) {
        self.underway.push(self.services.tell_switch(SwitchEvent::Incoming(Box::new(htlc))));
    }

    pub(super) fn switch_effect(&mut self, effect: SwitchEffect) {
        match effect {
            SwitchEffect::Offer { channel, add } if self.runs(&channel) => self.add(channel, add),
            SwitchEffect::Settle { channel, id, settlement } if self.slots.contains_key(&channel) => {
                self.event(channel, Event::Settle { id, settlement });
            }
            effect => self.underway.extend(self.services.switch_effect(effect)),
        }
    }

    /// Tells who listens of an HTLC that begins or ends here, once what has happened so far is durable.
    pub(super) fn news(&mut self, channel: ChannelId, id: Option<HtlcId>, news: OwnHtlcNews) {
        self.underway.push(self.services.tell_own_htlc(channel, id, news));
    }

    pub(in crate::driver) fn fulfilled(&mut self, origin: Origin, outgoing: HtlcRef, preimage: PaymentPreimage) {
        if let Origin::Payment(attempt) = origin {
            self.news(outgoing.channel, Some(outgoing.id), OwnHtlcNews::Paid { preimage });
            self.underway.push(self.services.payment_fulfilled(attempt, preimage));
        } else {
            self.underway.extend(self.services.forward_fulfilled(origin, outgoing, preimage));
        }
    }

    pub(in crate::driver) fn failed(&mut self, origin: Origin, outgoing: HtlcRef, failure: HtlcFailure) {
        if let Origin::Payment(attempt) = origin {
            self.news(outgoing.channel, Some(outgoing.id), OwnHtlcNews::Failed);
            self.underway.push(self.services.payment_failed(attempt, &failure));
        } else {
            self.underway.extend(self.services.forward_failed(origin, outgoing, failure));
        }
    }

    pub(super) fn refused(&mut self, origin: Origin, cause: CannotAdd) {
        if let Origin::Payment(attempt) = origin {
            self.underway.push(self.services.payment_refused(attempt, &cause));
        } else {
            self.underway.extend(self.services.forward_refused(origin, cause));
        }
    }
}

/// Whether the switch has to know: that there is a channel, or its names.
fn is_news_of_link(notice: &Notice) -> bool {
    matches!(notice, Notice::Established { .. } | Notice::StateChanged { .. } | Notice::Confirmed { .. })
}
