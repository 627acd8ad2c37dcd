//! What becomes of the coins that pay for claims: owners sweep them and pay others in, wallets with the same words spend them.

use bitcoin::Amount;

use super::network::*;
use super::random::Random;
use super::schedule::Schedule;
use crate::channel::Channel;
use crate::types::*;

/// A coin that an owner pays in: enough for several claims at the highest rate.
const DEPOSIT: Amount = Amount::from_sat(400_000);
/// Blocks after which an owner has read that claims lack coins, and pays some in: well below the twelve that are left for
/// an HTLC whose preimage is known.
const OWNER_READS_AFTER: u32 = 2;
/// What an owner who sweeps leaves for the claims of each channel with anchors, and for all, unless he insists.
const RESERVE: u64 = 10_000;
const MOST_RESERVE: u64 = 100_000;

/// How often, in percent of blocks, something happens to some node's coins.
pub(super) struct Purses {
    sweep: u64,
    /// Of the owners who sweep, those who leave no reserve either.
    insist: u64,
    vanish: u64,
}

impl Purses {
    pub fn draw(random: &mut Random) -> Self {
        Self { sweep: random.between(0, 10), insist: random.between(0, 100), vanish: random.between(0, 10) }
    }

    pub fn calm(&mut self) {
        (self.sweep, self.vanish) = (0, 0);
    }
}

impl Schedule {
    pub fn fill_purses(&mut self) {
        if self.climate.purses.is_none() {
            return;
        }
        for node in 0..NODES {
            self.net.nodes[node].wallet.is_real = true;
            for _ in 0..self.climate.random.between(1, 3) {
                self.net.pay_in(node, DEPOSIT);
            }
        }
        self.block();
    }

    pub fn touch_purses(&mut self) {
        let Some(Purses { sweep, insist, vanish }) = self.climate.purses else { return };
        let random = &mut self.climate.random;
        if random.chance(sweep) {
            let node = random.below(NODES);
            self.net.sweep(node, random.chance(insist));
        }
        if random.chance(vanish) {
            let node = random.below(NODES);
            self.net.spend_elsewhere(node, random.next());
        }
        for node in 0..NODES {
            let tip = self.net.nodes[node].view.tip;
            if let Some((since, amount)) = self.net.nodes[node].wallet.lacking
                && tip.0 >= since.0 + OWNER_READS_AFTER
            {
                self.net.nodes[node].wallet.lacking = None;
                self.net.pay_in(node, DEPOSIT.max(amount * 2));
            }
        }
    }
}

impl Network {
    /// A coin from outside is in the next block.
    pub fn pay_in(&mut self, node: usize, value: Amount) {
        let tx = self.nodes[node].wallet.deposit(value, &mut self.chain);
        self.truth.deposits.push((node, tx.compute_txid(), value));
        self.chain.force(tx);
    }

    fn sweep(&mut self, node: usize, insists: bool) {
        let Self { nodes, chain, .. } = self;
        let one = &nodes[node];
        let with_anchors = |channel: &&Channel| {
            channel.terms().is_some_and(|terms| terms.commitment_type() == CommitmentType::Anchors)
        };
        let channels = one.channels.values().filter(with_anchors).count() as u64;
        let reserve = if insists { 0 } else { (RESERVE * channels).min(MOST_RESERVE) };
        let feerate = chain.minimum.max(FeeratePerKw::FLOOR.0) * 2;
        if let Some(tx) = one.wallet.sweep(Amount::from_sat(reserve), feerate, one.view.tip, chain) {
            let _ = chain.submit(&tx);
        }
    }

    fn spend_elsewhere(&mut self, node: usize, draw: u64) {
        let one = &self.nodes[node];
        if let Some(tx) = one.wallet.spend_elsewhere(draw, &self.chain) {
            self.truth.vanished += 1;
            self.chain.force(tx);
        }
    }
}
