//! Closed channels: the driver's part in their enforcement, in the driver's order (`driver/onchain.rs`).

use std::sync::OnceLock;

use bitcoin::{Amount, OutPoint, ScriptBuf};

use super::items::*;
use super::network::Network;
use super::node::Outlook;
use super::wallet::Wallet;
use crate::channel::*;
use crate::onchain::{self, FeeEstimates, Notice as News};
use crate::switch::*;
use crate::types::*;

/// Shorter than the default: nothing may depend on how long a channel is remembered.
pub(super) fn policy() -> &'static onchain::EnforcementPolicy {
    static POLICY: OnceLock<onchain::EnforcementPolicy> = OnceLock::new();
    POLICY.get_or_init(|| onchain::EnforcementPolicy {
        finality: 14,
        give_up_after: 40,
        ..onchain::EnforcementPolicy::default()
    })
}

/// What a node's channels ask when they close.
pub(super) struct NodeEnvironment<'a> {
    pub switch: &'a Switch,
    pub wallet: &'a Wallet,
    pub outlook: &'a Outlook,
}

impl crate::channel::Environment for NodeEnvironment<'_> {
    fn policy(&self) -> &onchain::EnforcementPolicy {
        policy()
    }

    fn estimates(&self) -> FeeEstimates {
        self.outlook.estimates.clone()
    }

    /// Nobody catches up here: a claim begins where its channel is.
    fn newest(&self) -> Height {
        Height(0)
    }

    fn destination(&self, _: &Terms) -> ScriptBuf {
        self.wallet.script.clone()
    }

    fn upstream_expiry(&self, origin: Origin) -> Option<CltvExpiry> {
        self.switch.incoming_expiry(&HtlcRef::of_origin(origin)?)
    }
}

impl Network {
    pub fn is_enforced(&self, node: usize, channel: &ChannelId) -> bool {
        self.nodes[node].channels.get(channel).is_some_and(Channel::needs_enforcement)
    }

    /// A channel has been closed by one side.
    pub fn closed(&mut self, index: usize, channel: ChannelId) {
        if self.truth.closing.insert((index, channel)) {
            self.truth.closes += 1;
        }
    }

    /// What the chain has done to the outputs of a channel, in order.
    pub fn enforce_all(
        &mut self,
        index: usize,
        channel: ChannelId,
        events: Vec<onchain::Event>,
        tip: Height,
    ) -> Vec<Outbox<NodeEffect>> {
        let mut outboxes = Vec::new();
        for event in events {
            if event == onchain::Event::Tip && !self.has_looked_at_outputs(index, &channel) {
                continue;
            }
            outboxes.extend(self.channel_event(index, channel, Event::Chain { event, tip }));
        }
        outboxes
    }

    fn has_looked_at_outputs(&self, index: usize, channel: &ChannelId) -> bool {
        let node = &self.nodes[index];
        node.channels.get(channel).is_none_or(|core| node.view.have_looked_at(channel, core.watched()))
    }

    /// Everything is claimed and deep enough.
    pub fn resolved(&mut self, index: usize, channel: ChannelId) -> Vec<Outbox<NodeEffect>> {
        let node = &mut self.nodes[index];
        let Some(resolution) = node.channels.get(&channel).and_then(Channel::resolution) else { return Vec::new() };
        node.wallet.put_back_all(&channel);
        self.truth.note_close(index, resolution);
        self.channel_event(index, channel, Event::CloseConfirmed)
    }

    /// Does what an enforcement asks for, once its record is durable.
    pub fn onchain_effect(&mut self, index: usize, channel: ChannelId, effect: onchain::Effect) {
        let node = &mut self.nodes[index];
        let mut answer = |event| self.followups.push(Item::Channel(channel, Event::Onchain(event)));
        match effect {
            onchain::Effect::Broadcast { tx, parents, coins } => {
                let tx = node.wallet.sign(tx, &coins);
                if let Err(cause) = self.broadcast(index, &parents, &tx) {
                    let rejected = onchain::Event::Rejected { txid: tx.compute_txid(), cause };
                    self.followups.push(Item::Channel(channel, Event::Onchain(rejected)));
                }
            }
            onchain::Effect::LoadRevokedHtlcs { number } => {
                let retired = node.store.0.iter().filter_map(|(key, value)| match *key {
                    Key::RetiredHtlc { channel: of, offered_by, id } if of == channel => {
                        Some(decode_retired(HtlcKey { offered_by, id }, value).unwrap())
                    }
                    _ => None,
                });
                answer(onchain::Event::RevokedHtlcs { number, htlcs: revoked_htlcs(number, retired) });
            }
            onchain::Effect::NeedCoins { claim, amount } => {
                let tip = node.view.tip;
                let coins = node.wallet.set_aside((channel, claim), amount, tip, &mut self.chain);
                if coins.iter().map(|coin| coin.output.value).sum::<Amount>() < amount {
                    self.truth.lacking += 1;
                }
                answer(onchain::Event::Coins { claim, coins });
            }
            onchain::Effect::CheckCoins { coins, ours } => {
                let lost: Vec<OutPoint> = coins.into_iter().filter(|coin| self.chain.is_lost(coin, &ours)).collect();
                if !lost.is_empty() && self.bug != Bug::KeptDeadCoins {
                    answer(onchain::Event::CoinsLost(lost));
                }
            }
            onchain::Effect::ReleaseCoins(coins) => node.wallet.put_back(&coins),
            // What was taken back is in the ledger's balances.
            onchain::Effect::TakenBack { .. } => {}
            onchain::Effect::Notice(news) => self.news_of_close(index, channel, &news),
            onchain::Effect::Resolved => self.followups.push(Item::Resolved(channel)),
            onchain::Effect::Watch { .. } | onchain::Effect::Fulfilled { .. } | onchain::Effect::Failed { .. } => {
                panic!("the channel has an effect of its own for {effect:?}")
            }
        }
    }

    fn news_of_close(&mut self, index: usize, channel: ChannelId, news: &News) {
        match news {
            News::Closed { .. } if self.bug == Bug::FailedTooEarly => {
                let offered: Vec<(Htlc, Origin)> = self.nodes[index].channels[&channel].offered().collect();
                for (htlc, origin) in offered {
                    self.failed(index, origin, HtlcRef { channel, id: htlc.id }, HtlcFailure::NotOnChain);
                }
            }
            News::Closed { .. } | News::Reopened => {}
            News::Breach { .. } if self.truth.is_breached(&channel) => self.truth.breaches += 1,
            News::OldLocalState { .. } if self.truth.is_breached(&channel) => {}
            News::Breach { .. } | News::UnknownSpend { .. } | News::OldLocalState { .. } | News::DataLoss { .. } => {
                panic!("{index}: {news:?} of {channel}")
            }
        }
    }
}
