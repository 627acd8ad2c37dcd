//! What goes when the pool is full, and what newcomers must pay afterwards.
//!
//! The pool drops the transaction whose loss, together with everything that spends it, costs a miner least per byte,
//! until it fits. The minimum fee rate then rises just above what was dropped, so that the same bandwidth is not spent
//! again on what would be dropped at once. It sinks by half every twelve hours (faster while the pool is far from
//! full), but only after a block has come: before that nothing has changed.

use std::collections::BTreeSet;

use bitcoin::FeeRate;

use super::floor::Floor;
use super::policy::MempoolPolicy;
use super::pool::{Entry, Mempool};
use super::rate::add_rates;

impl Mempool {
    /// The lowest fee rate that is accepted now.
    pub fn minimum_fee_rate(&self, policy: &MempoolPolicy, now: u64) -> FeeRate {
        let floor = self.floor.decayed(self.memory(), policy, now);
        FeeRate::from_sat_per_kwu(floor).max(policy.minimum_relay)
    }

    /// A block came: the floor may sink from now on.
    pub fn note_block(&mut self, policy: &MempoolPolicy, now: u64) {
        let rate = self.floor.decayed(self.memory(), policy, now);
        self.floor = Floor { rate, since: now, block_since_rise: true };
    }

    /// Evicts until the pool fits. Returns what was evicted.
    pub fn trim(&mut self, policy: &MempoolPolicy, now: u64) -> Vec<Entry> {
        let mut evicted = Vec::new();
        while self.memory() > policy.max_memory_bytes {
            let Some(cheapest) = self.cheapest() else { break };
            let dropped = cheapest.descendants.rate().per_kwu();
            let txid = cheapest.txid;
            let rate = add_rates(dropped, policy.incremental_relay);
            self.floor.raise(rate, now);
            evicted.extend(self.remove_with_descendants(&BTreeSet::from([txid])));
        }
        evicted
    }
}
