//! What the chain does to a schedule: blocks, closes, and blocks that are taken back.

use std::collections::VecDeque;

use super::items::*;
use super::network::*;
use super::schedule::Schedule;
use crate::channel::*;
use crate::margins::RECEIVED_MARGIN;
use crate::types::*;

/// Rounds of messages after which what can be settled is.
const ROUNDS_TO_SETTLE: usize = 200;

impl Schedule {
    /// Whether the next block could make a node close for an HTLC: for one that it has offered, and, that many blocks
    /// earlier, for one whose preimage it has told.
    fn is_htlc_near_its_end(&self) -> bool {
        let end = self.net.chain.tip.0 + 1 + RECEIVED_MARGIN;
        let mut channels = self.net.nodes.iter().flat_map(|node| node.channels.values());
        channels.any(|channel| channel.offered().any(|(htlc, _)| htlc.cltv_expiry.0 <= end))
    }

    /// A block. No node is so slow that it could lose money by it alone.
    pub fn block(&mut self) {
        // Where nobody closes, nobody is late for an HTLC either, whatever its messages have waited for. All of them get
        // through before each block that could be the last in time: what is told by now is signed by then, and nobody tells
        // a preimage so late ([`crate::margins`]).
        for _ in 0..ROUNDS_TO_SETTLE {
            if self.weather.closes.is_some() || !self.is_htlc_near_its_end() || !self.settle_once() {
                break;
            }
        }
        self.change_climate();
        self.net.chain.mine();
        let tip = self.net.chain.tip;
        let lag = self.weather.closes.as_ref().map_or(0, |closes| closes.lag);
        let seeing: Vec<usize> = (0..NODES).filter(|node| !self.net.is_dark(*node)).collect();
        for node in seeing.iter().copied() {
            if tip.0 - self.net.nodes[node].view.tip.0 > lag || self.random.chance(50) {
                self.net.see_blocks(node);
            }
        }
        for node in seeing {
            if self.weather.closes.is_some() && tip.0 - self.idle_at[node].0 > lag {
                self.catch_up(node);
            }
        }
    }

    pub fn catch_up(&mut self, node: usize) {
        self.net.see_blocks(node);
        for _ in 0..100 {
            if self.net.nodes[node].lanes.values().all(VecDeque::is_empty) {
                break;
            }
            self.work(node, 12, true);
        }
        self.flush(node);
        self.tick(node);
        self.idle_at[node] = self.net.chain.tip;
    }

    /// A node closes one of its channels, mostly one that holds HTLCs.
    pub fn force_close(&mut self) {
        let Some(closes) = self.weather.closes.as_mut().filter(|closes| closes.left > 0) else { return };
        closes.left -= 1;
        let ends = self.net.nodes.iter().enumerate().flat_map(|(node, state)| {
            state.channels.values().filter(|channel| !channel.needs_enforcement()).map(move |channel| (node, channel))
        });
        let (busy, idle): (Vec<_>, Vec<_>) =
            ends.partition(|(_, channel)| channel.offered().count() + channel.unsettled().count() > 0);
        let name = |ends: Vec<(usize, &Channel)>| ends.iter().map(|(node, one)| (*node, one.id())).collect::<Vec<_>>();
        let (busy, idle) = (name(busy), name(idle));
        let drawn = self.random.pick(&busy).filter(|_| self.random.chance(80)).or_else(|| self.random.pick(&idle));
        if let Some((node, channel)) = drawn {
            self.net.push(node, Item::ForceClose(channel));
        }
    }

    /// What is held for an invoice has to be got from the chain: its channel closes, and then its preimage is told.
    pub fn close_under_held(&mut self) {
        for (hash, holder, channels) in self.holding() {
            if self.random.chance(8)
                && let Some(channel) = self.random.pick(&channels)
            {
                let node = if self.random.chance(50) { holder } else { self.net.other(holder, &channel) };
                self.net.push(node, Item::ForceClose(channel));
            }
            if self.random.chance(8) {
                self.tell(hash);
            }
        }
    }

    /// A cheater puts a commitment of its own aside, and publishes it when it is an old one.
    pub fn cheat(&mut self) {
        let Some((cheater, kept)) = self.weather.closes.as_mut().and_then(|closes| closes.cheater.as_mut()) else {
            return;
        };
        let open = |channel: &&Channel| channel.state_name() == StateName::Normal;
        let channels = &self.net.nodes[*cheater].channels;
        let latest = |channel: &Channel| channel.local_close().unwrap().unwrap().transaction;
        match kept {
            None => {
                let open: Vec<&Channel> = channels.values().filter(open).collect();
                *kept = self.random.pick(&open).map(|channel| (channel.id(), latest(channel)));
            }
            Some((id, old)) => {
                let Some(channel) = channels.get(id).filter(open).filter(|channel| latest(channel) != *old) else {
                    return;
                };
                let funding = channel.terms().unwrap().funding;
                if self.net.truth.breach.is_none() && self.net.chain.submit(old).is_ok() {
                    let victim = self.net.other(*cheater, id);
                    let txid = old.compute_txid();
                    let breach = Breach { channel: *id, funding, txid, cheater: *cheater, victim };
                    self.net.truth.breach = Some(breach);
                }
            }
        }
    }

    /// The latest blocks are replaced by others, into which most of what was in them gets too.
    pub fn reorganise(&mut self) {
        let tip = self.net.chain.tip.0;
        let fork = Height(tip.saturating_sub(self.random.between(1, 3) as u32).max(self.net.base.tip.0));
        if fork.0 == tip {
            return;
        }
        for tx in self.net.chain.disconnect(fork) {
            self.resubmit(tx);
        }
        while self.net.chain.tip.0 <= tip {
            self.net.chain.mine();
        }
        for node in 0..NODES {
            self.net.see_reorganisation(node, fork);
        }
    }

    /// What was in a block that is gone gets into another one, or not.
    pub fn resubmit(&mut self, tx: bitcoin::Transaction) {
        if self.net.truth.deposits.iter().any(|(_, txid, _)| *txid == tx.compute_txid()) {
            if self.climate.random.chance(50) {
                self.net.chain.force(tx);
            }
        } else if self.net.base.fundings.contains(&tx) {
            self.bring_funding_back_later(tx);
        } else if self.random.chance(90) {
            let _ = self.net.chain.submit(&tx);
        }
    }
}
