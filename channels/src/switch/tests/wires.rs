//! Connections that come and go, and nodes that die and come back.

use std::collections::{HashSet, VecDeque};

use super::items::*;
use super::network::Network;
use super::node::{Node, Stored};
use super::wallet::Wallet;
use crate::channel::*;
use crate::switch::*;
use crate::wire::{ErrorMessage, Message};

impl Network {
    pub fn cut(&mut self, pair: (usize, usize)) {
        let wire = self.wires.get_mut(&pair).unwrap();
        if !std::mem::replace(&mut wire.connected, false) {
            return;
        }
        wire.queues.iter_mut().for_each(VecDeque::clear);
        let channels = self.channels_between(pair);
        for node in [pair.0, pair.1] {
            for channel in &channels {
                if let Some(lane) = self.nodes[node].lanes.get_mut(&Lane::Channel(*channel)) {
                    lane.retain(|item| !matches!(item, Item::Channel(_, Event::Message(_))));
                }
                self.turn(node, vec![Item::Channel(*channel, Event::Disconnected)], Crash::Never);
            }
        }
    }

    pub fn connect(&mut self, pair: (usize, usize)) {
        if std::mem::replace(&mut self.wires.get_mut(&pair).unwrap().connected, true) {
            return;
        }
        for channel in self.channels_between(pair) {
            for node in [pair.0, pair.1] {
                // A channel that has restarted hears of that before anything else.
                let lane = self.nodes[node].lanes.entry(Lane::Channel(channel)).or_default();
                if matches!(lane.front(), Some(Item::Channel(_, Event::Restarted))) {
                    let restarted = lane.pop_front();
                    self.turn(node, restarted.into_iter().collect(), Crash::Never);
                }
                self.turn(node, vec![Item::Channel(channel, Event::Connected)], Crash::Never);
            }
        }
    }

    /// Moves the next message of a wire to its channel's lane.
    pub fn deliver(&mut self, pair: (usize, usize), upward: bool) -> bool {
        let wire = self.wires.get_mut(&pair).unwrap();
        let Some(message) = wire.queues[usize::from(upward)].pop_front() else { return false };
        let bytes = message.encode().unwrap();
        let message = Message::decode(&bytes).unwrap();
        let channel = message.channel_id().expect("only channels speak here");
        let node = if upward { pair.1 } else { pair.0 };
        if !self.nodes[node].channels.contains_key(&channel) {
            if !matches!(message, Message::Error(_) | Message::Warning(_)) {
                let answer = Message::Error(ErrorMessage::new(channel, "unknown channel"));
                self.wires.get_mut(&pair).unwrap().queues[usize::from(!upward)].push_back(answer);
            }
            return true;
        }
        self.push(node, Item::Channel(channel, Event::Message(message)));
        true
    }

    /// A node dies and comes back with what it has committed.
    pub fn restart(&mut self, node: usize) {
        self.truth.restarts += 1;
        let peers = self.pairs().into_iter().filter(|pair| pair.0 == node || pair.1 == node);
        for pair in peers.collect::<Vec<_>>() {
            // Its own state is gone: only the other end hears of it.
            self.forget_wire(pair, node);
        }
        let dead = &mut self.nodes[node];
        let wallet = std::mem::replace(&mut dead.wallet, Wallet::of(node)).restart();
        let (rows, outlook) = (std::mem::take(&mut dead.store.0), dead.outlook.clone());
        let stored = Stored { rows, tip: dead.view.tip, wallet, outlook };
        let (loaded, outboxes) = Node::load(self.base, node, stored, self.bug);
        self.followups.clear();
        let owed = loaded.store.0.iter().filter_map(|(key, value)| match key {
            Key::Settlement { .. } => OwedSettlement::decode(value),
            _ => None,
        });
        for owed in owed {
            self.truth.owed[usize::from(!matches!(owed, OwedSettlement::Fulfilled { .. }))] += 1;
        }
        let offered = loaded.channels.values().flat_map(Channel::offered);
        self.truth.resumed += offered.filter(|(_, origin)| HtlcRef::of_origin(*origin).is_some()).count();
        self.nodes[node] = loaded;
        self.nodes[node].trust = self.trust(node);
        self.commit(node, outboxes, Crash::Never);
        self.recover_payments(node);
        for channel in self.nodes[node].channels.keys().copied().collect::<Vec<_>>() {
            self.push(node, Item::Channel(channel, Event::Restarted));
        }
    }

    fn forget_wire(&mut self, pair: (usize, usize), dead: usize) {
        let wire = self.wires.get_mut(&pair).unwrap();
        if !std::mem::replace(&mut wire.connected, false) {
            return;
        }
        wire.queues.iter_mut().for_each(VecDeque::clear);
        let other = if pair.0 == dead { pair.1 } else { pair.0 };
        for channel in self.channels_between(pair) {
            if let Some(lane) = self.nodes[other].lanes.get_mut(&Lane::Channel(channel)) {
                lane.retain(|item| !matches!(item, Item::Channel(_, Event::Message(_))));
            }
            self.turn(other, vec![Item::Channel(channel, Event::Disconnected)], Crash::Never);
        }
    }

    /// Outcomes that were stored and not processed, then attempts that no channel has.
    fn recover_payments(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let outcomes = node.store.0.iter().filter_map(|(key, value)| match key {
            Key::Outcome(attempt) => Some((*attempt, OwedSettlement::decode(value).unwrap())),
            _ => None,
        });
        let mut outboxes: Vec<Outbox<NodeEffect>> = Vec::new();
        for (attempt, owed) in outcomes.collect::<Vec<_>>() {
            outboxes.push(match owed {
                OwedSettlement::Fulfilled { preimage } => {
                    self.truth.fulfilled.insert((index, attempt));
                    node.payments.fulfilled(attempt, preimage, now).convert()
                }
                OwedSettlement::Failed { failure } => node.payments.failed(attempt, &failure, now).convert(),
            });
        }
        let alive = node.channels.values().flat_map(Channel::offered).filter_map(|(_, origin)| match origin {
            Origin::Payment(attempt) => Some(attempt),
            Origin::Forward { .. } => None,
        });
        let alive: HashSet<AttemptId> = alive.collect();
        outboxes.push(node.payments.restarted(&alive, now).convert());
        self.commit(index, outboxes, Crash::Never);
    }
}
