//! A reorganisation takes all funding transactions back, soon after the channels have been opened. Some come back at once,
//! some later and elsewhere; of some the opener spends the coins otherwise.

use bitcoin::Transaction;

use super::climate::Climate;
use super::network::*;
use super::opening::OPENING_TIP;
use super::random::Random;
use super::schedule::Schedule;
use super::wallet;
use crate::channel::Channel;
use crate::types::*;

/// Blocks until a funding transaction that was taken back is in one again, at most.
const LATE: u64 = 12;

/// Drawn for a schedule whose channels are young.
pub(super) struct FundingStorm {
    /// After so many steps.
    step: u64,
    /// Transactions that come back at these heights.
    late: Vec<(Height, Transaction)>,
}

impl FundingStorm {
    pub fn draw(random: &mut Random) -> Self {
        Self { step: random.between(20, 200), late: Vec::new() }
    }
}

impl Schedule {
    /// What was closed already is left in peace: a commitment without its funding output is no business of these schedules.
    pub fn take_fundings_back(&mut self, step: u64) {
        let is_due = self.climate.storm.as_ref().is_some_and(|storm| storm.step == step);
        let mut channels = self.net.nodes.iter().flat_map(|node| node.channels.values());
        let is_closed = self.net.truth.closes > 0 || channels.any(Channel::needs_enforcement);
        if !is_due || self.net.truth.breach.is_some() || is_closed {
            return;
        }
        let tip = self.net.chain.tip;
        let fork = Height(OPENING_TIP.0 - 1);
        for tx in self.net.chain.disconnect(fork) {
            let Some(index) = self.net.base.fundings.iter().position(|funding| *funding == tx) else {
                self.resubmit(tx);
                continue;
            };
            match self.climate.random.below(10) {
                0..=4 => self.net.chain.force(tx),
                5..=6 => self.bring_funding_back_later(tx),
                _ => self.net.double_spend(index, &tx),
            }
        }
        self.net.truth.storms += 1;
        while self.net.chain.tip <= tip {
            self.net.chain.mine();
        }
        for node in 0..NODES {
            self.net.see_reorganisation(node, fork);
        }
    }

    /// Its opener's wallet hands it over until it is in a block.
    pub fn bring_funding_back_later(&mut self, tx: Transaction) {
        let Climate { storm, random, .. } = &mut self.climate;
        let height = Height(self.net.chain.tip.0 + random.between(1, LATE) as u32);
        storm.as_mut().expect("elsewhere fundings are buried").late.push((height, tx));
    }

    /// Before each block.
    pub fn bring_fundings_back(&mut self) {
        let Some(storm) = &mut self.climate.storm else { return };
        let tip = self.net.chain.tip;
        for (_, tx) in storm.late.extract_if(.., |(height, _)| *height <= tip) {
            self.net.chain.force(tx);
        }
    }

    pub fn is_funding_late(&self) -> bool {
        self.climate.storm.as_ref().is_some_and(|storm| !storm.late.is_empty())
    }
}

impl Network {
    /// The opener of a channel spends the coin of its funding transaction otherwise.
    fn double_spend(&mut self, index: usize, funding: &Transaction) {
        let edge = self.base.edges[index];
        let to = &self.nodes[edge.ends.0].wallet.vault;
        self.truth.double_spent.insert(edge.channel);
        self.chain.force(wallet::from_outside(funding.input[0].previous_output, edge.capacity, to));
    }
}
