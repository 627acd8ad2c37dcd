//! What the node's user adds to a transaction's fee in its own eyes (Bitcoin Core's `prioritisetransaction`): nobody pays it,
//! but blocks are made, and room is given, as if somebody did.
//!
//! A delta stays until it is taken back by its opposite, or a block holds the transaction; it may be set before the
//! transaction comes. Whatever the delta, a transaction counts as paying nothing at worst. (differs: in Bitcoin Core the sum may be
//! negative; either way it is the last that a block takes.)

use std::collections::BTreeMap;

use bitcoin::{Amount, Txid};

use super::pool::Mempool;

/// Deltas in satoshi by transaction; none is zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Priorities(BTreeMap<Txid, i64>);

impl Priorities {
    pub(super) fn delta(&self, txid: &Txid) -> i64 {
        self.0.get(txid).copied().unwrap_or(0)
    }

    /// Adds to what was added before. Saturating: fees are less than 2^51.
    fn add(&mut self, txid: Txid, delta: i64) {
        let sum = self.delta(&txid).saturating_add(delta);
        if sum == 0 {
            self.0.remove(&txid)
        } else {
            self.0.insert(txid, sum)
        };
    }

    pub(super) fn forget(&mut self, txid: &Txid) {
        self.0.remove(txid);
    }
}

/// The fee with a delta.
fn with_delta(fee: Amount, delta: i64) -> Amount {
    let magnitude = Amount::from_sat(delta.unsigned_abs());
    if delta < 0 {
        fee.checked_sub(magnitude).unwrap_or(Amount::ZERO)
    } else {
        fee.checked_add(magnitude).unwrap_or(Amount::MAX_MONEY)
    }
    .min(Amount::MAX_MONEY)
}

impl Mempool {
    /// What a transaction counts as paying that pays `fee`.
    pub fn modified_fee(&self, txid: &Txid, fee: Amount) -> Amount {
        with_delta(fee, self.priorities.delta(txid))
    }

    /// Adds so many satoshi to what the transaction counts as paying, now or when it comes.
    pub fn prioritise(&mut self, txid: Txid, delta: i64) {
        self.priorities.add(txid, delta);
        if let Some(entry) = self.get(&txid) {
            let fee = self.modified_fee(&txid, entry.fee);
            self.set_modified_fee(&txid, fee);
        }
    }

    /// All deltas in satoshi.
    pub fn priorities(&self) -> impl Iterator<Item = (&Txid, i64)> {
        self.priorities.0.iter().map(|(txid, delta)| (txid, *delta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_adds_up_and_never_makes_a_fee_negative() {
        let (mut priorities, txid) = (Priorities::default(), <Txid as bitcoin::hashes::Hash>::all_zeros());
        priorities.add(txid, 500);
        priorities.add(txid, -700);
        assert_eq!(priorities.delta(&txid), -200);
        let fee = Amount::from_sat(150);
        assert_eq!(with_delta(fee, priorities.delta(&txid)), Amount::ZERO);
        assert_eq!(with_delta(fee, -50).to_sat(), 100);
        assert_eq!(with_delta(fee, i64::MAX), Amount::MAX_MONEY);
        priorities.add(txid, 200);
        assert!(priorities.0.is_empty());
    }
}
