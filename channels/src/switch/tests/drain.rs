//! The end of a schedule: no more payments, crashes or cuts, and blocks until every closed channel is forgotten.

use super::items::*;
use super::network::*;
use super::schedule::Schedule;
use crate::channel::*;
use crate::switch::SwitchEvent;
use crate::types::*;

/// More blocks than any HTLC and any delay of these schedules lasts.
const ENOUGH_BLOCKS: u32 = 1_500;

impl Schedule {
    pub fn run(&mut self) {
        for step in 0..self.random.between(300, 900) {
            self.take_fundings_back(step);
            self.gather_crowd(step);
            self.step();
        }
        self.be_cut_off();
        self.keep_silent();
        self.calm();
        self.come_to_rest();
        self.decide_held();
        self.come_to_rest();
        self.restart_all();
        self.come_to_rest();
        if self.weather.closes.is_some() {
            self.bury();
            self.come_to_rest();
            self.restart_all();
            self.come_to_rest();
        }
        self.check();
    }

    /// Nothing stays held.
    fn decide_held(&mut self) {
        for (hash, (node, _)) in self.held.clone() {
            if self.random.chance(50) {
                self.tell(hash);
            }
            let tip = self.net.nodes[node].view.tip;
            if let Ok(out) = self.net.nodes[node].invoices.cancel(&hash, tip) {
                self.net.commit(node, vec![out.convert()], Crash::Never);
            }
        }
    }

    fn restart_all(&mut self) {
        for node in 0..NODES {
            self.net.restart(node);
        }
    }

    fn calm(&mut self) {
        self.weather.crash_percent = 0;
        self.weather.repeat_percent = 0;
        self.weather.lazy_percent = 0;
        self.weather.bad_route_percent = 0;
        self.climate.calm();
        if let Some(closes) = &mut self.weather.closes {
            closes.silence = 0;
        }
    }

    /// The two ends of the bad wire do not hear of each other while blocks pass; some channel closes meanwhile, and some
    /// preimage is told.
    fn keep_silent(&mut self) {
        let Some(closes) = &mut self.weather.closes else { return };
        closes.left += 2;
        for _ in 0..closes.silence.max(20) {
            if self.random.chance(4) {
                self.force_close();
            }
            self.close_under_held();
            self.block();
            for _ in 0..20 {
                if !self.settle_once() {
                    break;
                }
            }
        }
    }

    /// Everything is delivered until nothing moves.
    fn come_to_rest(&mut self) {
        for patience in 0..6 {
            for round in 0.. {
                assert!(round < 5_000, "the network does not come to rest");
                if !self.settle_once() {
                    break;
                }
                // Nobody tries a payment for ever.
                self.net.now = UnixTime(self.net.now.0 + 1);
            }
            // Parts that wait for others that will never come.
            self.net.now = UnixTime(self.net.now.0 + 30);
            for node in 0..NODES {
                self.tick(node);
            }
            if patience == 5 {
                assert!(!self.settle_once(), "still moving");
            }
        }
    }

    pub fn tick(&mut self, node: usize) {
        let now = self.net.now;
        let ctx = self.net.nodes[node].invoice_ctx(now);
        let out = self.net.nodes[node].invoices.tick(&ctx).convert();
        self.net.commit(node, vec![out], Crash::Never);
        if self.net.nodes[node].switch.is_waiting() {
            self.net.push(node, Item::Switch(SwitchEvent::Tick));
        }
    }

    /// Blocks, until what was closed is claimed, deep enough and forgotten.
    fn bury(&mut self) {
        let start = self.net.chain.tip.0;
        while self.is_something_closing() {
            assert!(self.net.chain.tip.0 < start + ENOUGH_BLOCKS, "never resolved: {:#?}", self.unresolved());
            for _ in 0..if self.is_chain_quiet() { 7 } else { 1 } {
                self.change_climate();
                self.net.chain.mine();
            }
            for node in 0..NODES {
                self.net.see_blocks(node);
            }
            if self.random.chance(3) {
                let node = self.random.below(NODES);
                self.net.restart(node);
            }
            while self.settle_once() {}
        }
    }

    /// For whoever looks for the reason.
    fn unresolved(&self) -> Vec<String> {
        let of_node = |(index, node): (usize, &super::node::Node)| {
            let closing = node.channels.iter().filter_map(|(channel, one)| Some((channel, one.resolution()?)));
            let enforced = closing.map(|(channel, one)| {
                let report = one.report(self.net.chain.tip, super::enforcing::policy());
                format!("{index} {channel} {:?} {report:#?}", one.close())
            });
            enforced.collect::<Vec<_>>()
        };
        self.net.nodes.iter().enumerate().flat_map(of_node).collect()
    }

    fn is_something_closing(&self) -> bool {
        let closing = |node: &super::node::Node| node.channels.values().any(Channel::needs_enforcement);
        let double_spent = |node: &super::node::Node| {
            self.net.truth.double_spent.iter().any(|channel| node.channels.contains_key(channel))
        };
        let mut nodes = self.net.nodes.iter();
        let busy = nodes.any(|node| closing(node) || double_spent(node));
        busy || !self.net.chain.mempool.is_empty() || self.is_funding_late()
    }

    /// Nothing but delays have to pass.
    fn is_chain_quiet(&self) -> bool {
        let channels = self.net.nodes.iter().flat_map(|node| node.channels.values());
        let mut enforced = channels.filter_map(Channel::resolution);
        let is_over = |one: &crate::onchain::Resolution| {
            let waits = |output: &crate::onchain::TrackedOutput| output.role.htlc().is_some() && output.is_unspent();
            one.close().is_some() && !one.outputs().any(waits)
        };
        self.net.chain.mempool.is_empty() && enforced.all(is_over)
    }

    pub fn settle_once(&mut self) -> bool {
        let mut moved = false;
        let silent = self.weather.closes.as_ref().is_some_and(|closes| closes.silence > 0);
        for pair in self.net.pairs() {
            let is_off = self.net.is_off(pair.0) || self.net.is_off(pair.1);
            if is_off || silent && pair == self.weather.bad_wire {
                self.net.cut(pair);
                continue;
            }
            if !self.net.wires[&pair].connected {
                self.net.connect(pair);
                moved = true;
            }
            for upward in [false, true] {
                while self.net.deliver(pair, upward) {
                    moved = true;
                }
            }
        }
        for node in (0..NODES).filter(|node| !self.net.is_off(*node)).collect::<Vec<_>>() {
            while self.net.nodes[node].lanes.values().any(|lane| !lane.is_empty()) {
                self.work(node, 8, true);
                moved = true;
            }
            if self.net.nodes[node].channels.values().any(Channel::wants_flush) {
                self.flush(node);
                moved = true;
            }
        }
        moved
    }
}
