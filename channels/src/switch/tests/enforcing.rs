//! Closed channels: the driver's part in their enforcement, in the driver's order (`driver/enforcement.rs`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use bitcoin::{Amount, OutPoint, Transaction};

use super::items::*;
use super::network::Network;
use super::node::Node;
use super::opening::Base;
use crate::channel::*;
use crate::keys::Signer;
use crate::onchain::{self, ClosingChannel, Notice as News, Resolution, Told};
use crate::switch::*;
use crate::types::*;

/// As the driver's.
const PATIENCE: u32 = 12;

/// One closed channel of a node.
pub(super) struct Enforced {
    pub resolution: Resolution,
    signer: Arc<dyn Signer + Send + Sync>,
    origins: HashMap<HtlcId, Origin>,
    begun: Height,
    tip: Height,
}

/// Shorter than the default: nothing may depend on how long a channel is remembered.
pub(super) fn policy() -> &'static onchain::Policy {
    static POLICY: OnceLock<onchain::Policy> = OnceLock::new();
    POLICY.get_or_init(|| onchain::Policy { finality: 14, give_up_after: 40, ..onchain::Policy::default() })
}

impl Enforced {
    pub fn new(resolution: Resolution, channel: &Channel, base: &Base, tip: Height) -> Self {
        let outgoing = resolution.channel().outgoing();
        let origins = outgoing.keys().filter_map(|id| channel.origin_of(*id).map(|origin| (*id, origin))).collect();
        let signer = base.signer(&channel.terms().unwrap().keys_id);
        Self { resolution, signer, origins, begun: tip, tip }
    }

    pub fn origin(&self, id: &HtlcId) -> Option<Origin> {
        self.origins.get(id).copied()
    }

    fn known_spend(&self, outpoint: &OutPoint) -> Option<Told> {
        let spends = |tx: &Transaction| tx.input.iter().any(|input| input.previous_output == *outpoint);
        let (tx, height) = self.resolution.spends().find(|(tx, _)| spends(tx))?;
        Some(Told { txid: tx.compute_txid(), height: Some(height) })
    }
}

impl Network {
    pub fn is_enforced(&self, node: usize, channel: &ChannelId) -> bool {
        let node = &self.nodes[node];
        node.enforced.contains_key(channel) || node.channels.get(channel).is_some_and(Channel::needs_enforcement)
    }

    /// Begins to enforce a closed channel. Safe to repeat.
    fn begin_enforcement(&mut self, index: usize, channel: ChannelId) -> Vec<Outbox<NodeEffect>> {
        let node = &mut self.nodes[index];
        let Some(core) = node.channels.get(&channel).filter(|_| !node.enforced.contains_key(&channel)) else {
            return Vec::new();
        };
        let closing = core.closing_channel(node.wallet.script.clone()).unwrap().unwrap();
        let incoming = |id: HtlcId| HtlcRef::of_origin(core.origin_of(id)?);
        let expiry = |id: HtlcId| node.switch.incoming_expiry(&incoming(id)?);
        let upstream_expiries: BTreeMap<HtlcId, CltvExpiry> =
            closing.outgoing().into_keys().filter_map(|id| Some((id, expiry(id)?))).collect();
        let (resolution, out) = Resolution::begin(ClosingChannel { upstream_expiries, ..closing });
        let enforced = Enforced::new(resolution, core, self.base, node.view.tip);
        node.enforced.insert(channel, enforced);
        self.truth.closes += 1;
        let mut outboxes = vec![out.tag(&channel).convert()];
        outboxes.extend(self.enforce(index, channel, onchain::Event::Restarted));
        outboxes
    }

    pub fn enforce(&mut self, index: usize, channel: ChannelId, event: onchain::Event) -> Option<Outbox<NodeEffect>> {
        let Node { enforced, outlook, .. } = &mut self.nodes[index];
        let (one, estimates) = (enforced.get_mut(&channel)?, &outlook.estimates);
        let ctx =
            onchain::Ctx { tip: one.tip, newest: one.tip, estimates, policy: policy(), signer: one.signer.as_ref() };
        Some(one.resolution.handle(event, &ctx).unwrap().tag(&channel).convert())
    }

    /// A channel has been closed by one side.
    pub fn closed(&mut self, index: usize, channel: ChannelId, by_us: bool) -> Vec<Outbox<NodeEffect>> {
        let mut outboxes = self.begin_enforcement(index, channel);
        if by_us && self.nodes[index].enforced.get(&channel).is_some_and(|one| !one.resolution.is_forced()) {
            outboxes.extend(self.enforce(index, channel, onchain::Event::ForceClose));
        }
        outboxes
    }

    /// After a restart: what a crash swallowed comes again.
    pub fn enforce_again(&mut self, index: usize, channel: ChannelId) -> Vec<Outbox<NodeEffect>> {
        if self.bug == Bug::ForgottenEnforcements {
            return Vec::new();
        }
        let mut outboxes: Vec<_> = self.enforce(index, channel, onchain::Event::Restarted).into_iter().collect();
        if self.is_enforced(index, &channel) {
            outboxes.extend(self.begin_enforcement(index, channel));
        }
        outboxes
    }

    /// An incoming HTLC of a closed channel is ours.
    pub fn claim_with(
        &mut self,
        index: usize,
        channel: ChannelId,
        preimage: PaymentPreimage,
    ) -> Vec<Outbox<NodeEffect>> {
        let mut outboxes = self.begin_enforcement(index, channel);
        if self.bug != Bug::UnusedPreimages {
            outboxes.extend(self.enforce(index, channel, onchain::Event::Preimage(preimage)));
        }
        outboxes
    }

    /// What the chain has done to a closed channel, in order.
    pub fn enforce_all(
        &mut self,
        index: usize,
        channel: ChannelId,
        events: Vec<onchain::Event>,
        tip: Height,
    ) -> Vec<Outbox<NodeEffect>> {
        if let Some(one) = self.nodes[index].enforced.get_mut(&channel) {
            one.tip = tip;
        }
        let mut outboxes = Vec::new();
        for event in events {
            let is_tip = event == onchain::Event::Tip;
            if is_tip && !self.has_looked_at_outputs(index, &channel) {
                continue;
            }
            outboxes.extend(self.enforce(index, channel, event));
            if is_tip {
                outboxes.extend(self.lose_patience(index, channel));
            }
        }
        outboxes
    }

    fn has_looked_at_outputs(&self, index: usize, channel: &ChannelId) -> bool {
        let node = &self.nodes[index];
        let Some(one) = node.enforced.get(channel) else { return true };
        let outputs = one.resolution.outputs().map(|output| output.outpoint);
        node.view.have_looked_at(channel, outputs.chain([one.resolution.channel().funding]))
    }

    fn lose_patience(&mut self, index: usize, channel: ChannelId) -> Option<Outbox<NodeEffect>> {
        let node = &self.nodes[index];
        let one = node.enforced.get(&channel)?;
        let waited = node.view.tip.0.saturating_sub(one.begun.0);
        let lost = one.resolution.close().is_none() && !one.resolution.is_forced() && waited >= PATIENCE;
        if lost { self.enforce(index, channel, onchain::Event::ForceClose) } else { None }
    }

    /// Everything is claimed and deep enough.
    pub fn resolved(&mut self, index: usize, channel: ChannelId) -> Vec<Outbox<NodeEffect>> {
        let Some(one) = self.nodes[index].enforced.remove(&channel) else { return Vec::new() };
        self.nodes[index].wallet.put_back_all(&channel);
        self.truth.note_close(index, &one.resolution);
        let mut outboxes = vec![one.resolution.forget().tag(&channel).convert()];
        outboxes.extend(self.channel_event(index, channel, Event::CloseConfirmed));
        outboxes
    }

    /// Does what an enforcement asks for, once its record is durable.
    pub fn enforcement_effect(&mut self, index: usize, channel: ChannelId, effect: onchain::Effect) {
        let node = &mut self.nodes[index];
        let mut answer = |event| self.followups.push(Item::Enforcement(channel, Box::new(event)));
        match effect {
            onchain::Effect::Watch { outpoint, .. } => {
                let known = node.enforced.get(&channel).and_then(|one| one.known_spend(&outpoint));
                node.view.watch_output(channel, outpoint, known);
            }
            onchain::Effect::Broadcast { tx, parents, coins } => {
                let tx = node.wallet.sign(tx, &coins);
                if let Err(cause) = self.broadcast(index, &parents, &tx) {
                    let rejected = onchain::Event::Rejected { txid: tx.compute_txid(), cause };
                    self.followups.push(Item::Enforcement(channel, Box::new(rejected)));
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
            onchain::Effect::Fulfilled { .. } if self.bug == Bug::SilentPreimages => {}
            onchain::Effect::Fulfilled { htlc, preimage, .. } => {
                if let Some(origin) = node.enforced.get(&channel).and_then(|one| one.origin(&htlc)) {
                    self.truth.from_chain[0] += 1;
                    self.fulfilled(index, origin, HtlcRef { channel, id: htlc }, preimage);
                }
            }
            onchain::Effect::Failed { htlc, .. } => self.not_on_chain(index, channel, htlc),
            onchain::Effect::Notice(news) => self.news_of_close(index, channel, &news),
            onchain::Effect::Resolved => self.followups.push(Item::Resolved(channel)),
        }
    }

    fn not_on_chain(&mut self, index: usize, channel: ChannelId, htlc: HtlcId) {
        let one = self.nodes[index].enforced.get(&channel);
        if let Some(origin) = one.and_then(|one| one.origin(&htlc)) {
            self.truth.from_chain[1] += 1;
            self.failed(index, origin, HtlcRef { channel, id: htlc }, HtlcFailure::NotOnChain);
        }
    }

    fn news_of_close(&mut self, index: usize, channel: ChannelId, news: &News) {
        match news {
            News::Closed { .. } if self.bug == Bug::FailedTooEarly => {
                let one = &self.nodes[index].enforced[&channel];
                for htlc in one.resolution.channel().outgoing().into_keys() {
                    self.not_on_chain(index, channel, htlc);
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
