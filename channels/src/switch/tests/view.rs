//! What a node sees of the chain, and when. It looks as the driver does: at the state of the chain, wherever a block or
//! a transaction says that something has changed.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Transaction};

use super::items::*;
use super::network::Network;
use crate::channel::*;
use crate::onchain::{self, FoundSpend, KnownSpend, SpendUpdate, WatchedOutputs};
use crate::switch::*;
use crate::types::*;

/// How far a node has followed the chain, and what it watches there.
pub(super) struct View {
    pub tip: Height,
    /// Of channels so young that their funding transactions may be taken back.
    young: BTreeMap<ChannelId, FundingWatch>,
    outputs: WatchedOutputs<()>,
    /// Channels with outputs that were never looked at.
    unseen: Vec<ChannelId>,
}

impl View {
    pub fn at(tip: Height) -> Self {
        Self { tip, young: BTreeMap::new(), outputs: WatchedOutputs::default(), unseen: Vec::new() }
    }

    pub fn watch_output(&mut self, channel: ChannelId, outpoint: OutPoint, known: Option<KnownSpend>, closing: bool) {
        self.outputs.watch(channel, &(), outpoint, known, closing);
        self.unseen.push(channel);
    }

    pub fn have_looked_at(&self, channel: &ChannelId, outpoints: impl IntoIterator<Item = OutPoint>) -> bool {
        self.outputs.have_looked_at(channel, outpoints)
    }

    pub fn forget(&mut self, channel: &ChannelId) {
        self.young.remove(channel);
        self.outputs.forget(channel);
    }
}

impl Network {
    /// The spend of an output, as far as a node has followed the chain. Only one that is up to date knows the mempool.
    fn find(&self, node: usize, outpoint: &OutPoint) -> Option<FoundSpend> {
        let tip = self.nodes[node].view.tip;
        if let Some((height, index, tx)) = self.chain.spender(outpoint) {
            let place = Some((height, index as u32));
            return (height <= tip).then(|| FoundSpend { transaction: tx.clone(), place });
        }
        let spends = |tx: &&Transaction| tx.input.iter().any(|input| input.previous_output == *outpoint);
        let found = self.chain.mempool.iter().filter(|_| tip == self.chain.tip).find(spends);
        found.map(|tx| FoundSpend { transaction: tx.clone(), place: None })
    }

    /// Watches an output for a channel, the funding output first of all.
    pub fn watch(&mut self, node: usize, channel: ChannelId, outpoint: OutPoint) {
        let core = self.nodes[node].channels.get(&channel);
        let known = core.and_then(|core| core.known_spend(&outpoint));
        let closing = core.is_some_and(|core| core.resolution().is_some());
        let view = &mut self.nodes[node].view;
        view.watch_output(channel, outpoint, known, closing);
        let edge = self.base.edges.iter().position(|edge| edge.channel == channel).unwrap();
        if self.storms && outpoint.txid == self.base.fundings[edge].compute_txid() {
            view.young.entry(channel).or_insert_with(|| FundingWatch::new(Vec::new()));
            self.look_at_young(node, channel);
        }
    }

    /// Tells a channel what is new about its funding transaction itself.
    fn look_at_young(&mut self, node: usize, channel: ChannelId) {
        let Self { nodes, chain, base, bug, .. } = self;
        let view = &mut nodes[node].view;
        let (tip, Some(watch)) = (view.tip, view.young.get_mut(&channel)) else { return };
        let index = base.edges.iter().position(|edge| edge.channel == channel).unwrap();
        let needs = base.fundings[index].input[0].previous_output;
        let funding = base.fundings[index].compute_txid();
        let place = chain.place(funding).filter(|(height, _)| *height <= tip);
        let depth = place.map(|(height, place)| FundingDepth {
            height,
            index: place as u32 + 1,
            confirmations: tip.0 + 1 - height.0,
            output: base.fundings[index].output[0].clone(),
        });
        let other = chain.spender(&needs).filter(|(height, ..)| *height <= tip);
        let other = other.map(|(height, _, tx)| (tx.compute_txid(), height)).filter(|(txid, _)| *txid != funding);
        let inputs = if depth.is_some() { vec![FundingInput { coin: needs, by: funding }] } else { Vec::new() };
        let news = watch.news(FundingView { tip, depth, inputs, conflict: other });
        for event in news {
            let is_bad = matches!(event, Event::FundingUnconfirmed | Event::FundingConflict { .. });
            if !(is_bad && *bug == Bug::AssumedFundings) {
                let item = Item::Channel(channel, event);
                nodes[node].lanes.entry(item.lane()).or_default().push_back(item);
            }
        }
    }

    fn look_at_fundings(&mut self, node: usize) {
        for channel in self.nodes[node].view.young.keys().copied().collect::<Vec<_>>() {
            self.look_at_young(node, channel);
        }
        for channel in self.nodes[node].view.outputs.in_use() {
            self.look_at_outputs(node, channel, None, false);
        }
    }

    /// A node gets the blocks that it has not seen.
    pub fn see_blocks(&mut self, node: usize) {
        let seen = self.nodes[node].view.tip;
        if seen < self.chain.tip {
            self.follow(node, seen, false);
        }
    }

    /// The blocks above `fork` are others now.
    pub fn see_reorganisation(&mut self, node: usize, fork: Height) {
        if self.nodes[node].view.tip > fork {
            self.follow(node, fork, true);
        }
    }

    /// The news of closes come before those of the tip; the enforcements hear of it before the channels or after them.
    fn follow(&mut self, node: usize, from: Height, everything: bool) {
        let tip = self.chain.tip;
        self.nodes[node].view.tip = tip;
        let channels_first = (tip.0 as usize + node).is_multiple_of(2);
        let mut spent = BTreeMap::new();
        for height in from.0 + 1..=tip.0 {
            self.look_at_fundings(node);
            if channels_first {
                self.push_tip(node, Height(height));
            }
            self.nodes[node].view.outputs.spent_by(&self.chain.blocks[&height], &mut spent);
        }
        let open: Vec<ChannelId> = self.nodes[node].view.outputs.open().map(|(channel, ())| channel).collect();
        for channel in open {
            self.push(node, Item::StillOpen(channel, tip));
        }
        let in_use = self.nodes[node].view.outputs.in_use();
        for channel in self.nodes[node].view.outputs.channels() {
            let some: BTreeSet<OutPoint> = spent.remove(&channel).unwrap_or_default();
            if !in_use.contains(&channel) {
                self.look_at_outputs(node, channel, (!everything).then_some(some), true);
            }
        }
        if !channels_first {
            self.push_tip(node, tip);
        }
    }

    fn push_tip(&mut self, node: usize, tip: Height) {
        for channel in self.nodes[node].channels.keys().copied().collect::<Vec<_>>() {
            self.push(node, Item::Tip(channel, tip));
        }
        self.push(node, Item::Switch(SwitchEvent::NewTip(tip)));
    }

    /// A node hears of what is in the mempool.
    pub fn glance(&mut self, node: usize) {
        if self.nodes[node].view.tip != self.chain.tip {
            return;
        }
        self.look_at_fundings(node);
        let mut spent = BTreeMap::new();
        self.nodes[node].view.outputs.spent_by(&self.chain.mempool, &mut spent);
        for (channel, outpoints) in spent {
            self.look_at_outputs(node, channel, Some(outpoints), false);
        }
    }

    /// Looks at the outputs that have been asked for in this turn.
    pub fn look_at_new_outputs(&mut self, node: usize) {
        for channel in std::mem::take(&mut self.nodes[node].view.unseen) {
            self.look_at_outputs(node, channel, None, true);
            // The tip alone says nothing to a channel in use.
            if self.nodes[node].view.outputs.in_use().contains(&channel)
                && let Some(lane) = self.nodes[node].lanes.get_mut(&Lane::Channel(channel))
                && let Some(Item::Enforce { events, .. }) = lane.back()
                && events[..] == [onchain::Event::Tip]
            {
                lane.pop_back();
            }
        }
    }

    /// As the driver's `look_at_some`.
    fn look_at_outputs(&mut self, node: usize, channel: ChannelId, some: Option<BTreeSet<OutPoint>>, is_new_tip: bool) {
        let outputs = &self.nodes[node].view.outputs;
        let mut outpoints = match some {
            Some(some) => outputs.and_new(&channel, some),
            None => outputs.of(&channel),
        };
        let mut events = loop {
            let found = outpoints.iter().map(|outpoint| (*outpoint, self.find(node, outpoint))).collect();
            let outputs = &mut self.nodes[node].view.outputs;
            match outputs.update(&channel, found) {
                SpendUpdate::Events(events) => break events,
                SpendUpdate::LookAtAll => outpoints = outputs.of(&channel),
            }
        };
        if is_new_tip && !events.contains(&onchain::Event::Tip) {
            events.push(onchain::Event::Tip);
        }
        if !events.is_empty() {
            let tip = self.nodes[node].view.tip;
            self.push(node, Item::Enforce { channel, events, tip });
        }
    }
}
