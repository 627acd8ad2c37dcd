//! What fee rate gets a transaction confirmed within some blocks.
//!
//! Two answers, and the higher one counts:
//! * **What waits.** The pool is packed into blocks as a miner would, best package first. The rate that comes into the
//!   first half of the blocks asked for (the first block, if it is one) outbids the present queue, and leaves room for
//!   newcomers that outbid it in turn.
//! * **What was mined.** If the recent blocks were full, a quarter of the way up from the cheapest transaction in
//!   each for who is in a hurry (two blocks), a tenth for who can wait; the median of those blocks. On a chain with room in
//!   its blocks this asks for nothing.
//!
//! In a market where more come than blocks take, who pays it is mined in time in at least 85 % of all cases, as Bitcoin Core
//! asks of its own (`tests/fee_estimates.rs` plays that). Nobody can tell what comes: when everybody offers ten times as
//! much at once, who has just paid waits, and the next estimate, which sees the queue, is right again. Without a history, after
//! a restart, the queue alone speaks; blocks that a reorganisation brings count beside those that it took away.
//!
//! Never below what the pool accepts now. This looks at the present only: no history is stored, and a restart
//! forgets nothing that a few blocks do not bring back.

use std::collections::VecDeque;

use bitcoin::FeeRate;

use super::policy::MempoolPolicy;
use super::pool::{Entry, Mempool};
use super::rate::{Rate, add_rates};

/// Virtual bytes of transactions in a block, with some room left for the coinbase.
const BLOCK_BYTES: u64 = 998_000;
/// A block that is fuller than this leaves nobody a cheap place.
const FULL_BLOCK_WEIGHT: u64 = 3_800_000;
const BLOCKS_REMEMBERED: usize = 12;

/// Remembers what recent blocks took.
#[derive(Clone, Debug, Default)]
pub struct FeeEstimator {
    recent: VecDeque<Cheap>,
}

/// What was low in a block, and yet mined; zero for a block with room.
#[derive(Clone, Copy, Debug)]
struct Cheap {
    quartile: FeeRate,
    decile: FeeRate,
}

/// Who wants to be mined within so many blocks is in a hurry: one block that fills up with others is half of the time.
const HURRY: u32 = 2;

impl FeeEstimator {
    /// A block was connected; `mined` are its transactions that the pool knew.
    pub fn note_block(&mut self, weight: u64, mined: &[Entry]) {
        let mut rates: Vec<Rate> = mined.iter().map(|entry| mined_at(entry).max(entry.rate())).collect();
        rates.sort_unstable();
        let full = weight >= FULL_BLOCK_WEIGHT;
        let low =
            |part: usize| rates.get(rates.len() / part).filter(|_| full).map_or(FeeRate::ZERO, |rate| rate.per_kwu());
        self.recent.push_back(Cheap { quartile: low(4), decile: low(10) });
        if self.recent.len() > BLOCKS_REMEMBERED {
            self.recent.pop_front();
        }
    }

    /// The rate for a confirmation within `blocks` blocks (at least one).
    pub fn estimate(&self, blocks: u32, pool: &Mempool, policy: &MempoolPolicy, now: u64) -> FeeRate {
        let minimum = pool.minimum_fee_rate(policy, now);
        queued(pool, u64::from(blocks.max(1))).max(self.mined(blocks)).max(minimum)
    }

    fn mined(&self, blocks: u32) -> FeeRate {
        let low = |cheap: &Cheap| if blocks <= HURRY { cheap.quartile } else { cheap.decile };
        let mut rates: Vec<FeeRate> = self.recent.iter().map(low).collect();
        rates.sort_unstable();
        rates.get(rates.len() / 2).copied().unwrap_or(FeeRate::ZERO)
    }
}

/// The rate at which a miner takes the entry: that of itself with the ancestors that it needs, or, for one that needs
/// none and pays little, that of itself with the descendants that pay for it.
fn mined_at(entry: &Entry) -> Rate {
    let with_ancestors = entry.ancestors.rate();
    if entry.parents.is_empty() { with_ancestors.max(entry.descendants.rate()) } else { with_ancestors }
}

/// The rate that outbids all but the first half of what fits into so many blocks; zero if everything fits.
fn queued(pool: &Mempool, blocks: u64) -> FeeRate {
    let room = BLOCK_BYTES.saturating_mul(blocks).saturating_add(BLOCK_BYTES) / 2;
    if pool.totals().virtual_bytes <= room {
        return FeeRate::ZERO;
    }
    let mut packages: Vec<(Rate, u64)> = pool.iter().map(|entry| (mined_at(entry), entry.virtual_bytes)).collect();
    packages.sort_unstable_by(|left, right| right.cmp(left));
    let mut used = 0u64;
    for (rate, bytes) in packages {
        used = used.saturating_add(bytes);
        if used > room {
            let step = FeeRate::from_sat_per_kwu(1);
            return add_rates(rate.per_kwu(), step);
        }
    }
    FeeRate::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mempool::pool::NewEntry;
    use bitcoin::absolute::LockTime;
    use bitcoin::{Amount, OutPoint, Transaction, TxIn, transaction::Version};
    use std::sync::Arc;

    /// An entry of 100,000 virtual bytes.
    fn entry(transaction: Transaction, fee: u64) -> NewEntry {
        NewEntry {
            txid: transaction.compute_txid(),
            wtxid: transaction.compute_wtxid(),
            transaction: Arc::new(transaction),
            fee: Amount::from_sat(fee),
            weight: 400_000,
            virtual_bytes: 100_000,
            sigop_cost: 0,
            time: 0,
        }
    }

    /// Unrelated transactions of 100,000 virtual bytes that pay 1, 2, 3… satoshi a byte.
    fn pool_of(count: u32) -> Mempool {
        let mut pool = Mempool::default();
        for number in 1..=count {
            let transaction = Transaction {
                version: Version::TWO,
                lock_time: LockTime::from_consensus(number),
                input: Vec::new(),
                output: Vec::new(),
            };
            pool.insert(entry(transaction, u64::from(number) * 100_000));
        }
        pool
    }

    #[test]
    fn with_room_for_everything_the_minimum_is_enough() {
        let policy = MempoolPolicy::default();
        let estimator = FeeEstimator::default();
        assert_eq!(estimator.estimate(1, &pool_of(9), &policy, 0), policy.minimum_relay);
    }

    #[test]
    fn a_queue_is_outbid_and_patience_is_cheaper() {
        let policy = MempoolPolicy::default();
        let estimator = FeeEstimator::default();
        let pool = pool_of(30);
        // The best nine of thirty fit into one block; the tenth pays 21 sat/vB, which is 5250 sat/kwu.
        let rates: Vec<u64> =
            [1, 3, 5, 7].iter().map(|blocks| estimator.estimate(*blocks, &pool, &policy, 0).to_sat_per_kwu()).collect();
        assert_eq!(rates, [5_251, 2_751, 251, 25]);
    }

    /// Parents that pay nothing, each with a child that pays 1, 2, 3… satoshi for each byte of both.
    fn pool_of_pairs(count: u32) -> Mempool {
        let mut pool = Mempool::default();
        for number in 1..=count {
            let mut parent = None;
            for fee in [0, u64::from(number) * 200_000] {
                let spends = |txid| TxIn { previous_output: OutPoint { txid, vout: 0 }, ..TxIn::default() };
                let transaction = Transaction {
                    version: Version::TWO,
                    lock_time: LockTime::from_consensus(number),
                    input: parent.map(spends).into_iter().collect(),
                    output: Vec::new(),
                };
                parent = Some(transaction.compute_txid());
                pool.insert(entry(transaction, fee));
            }
        }
        pool
    }

    #[test]
    fn a_parent_whose_child_pays_for_it_counts_at_the_rate_of_both() {
        let policy = MempoolPolicy::default();
        let mut estimator = FeeEstimator::default();
        // The best four of fifteen pairs fit into one block, and half of the fifth, which pays 11 sat/vB.
        let pool = pool_of_pairs(15);
        assert_eq!(estimator.estimate(1, &pool, &policy, 0), FeeRate::from_sat_per_kwu(2_751));
        // A full block of five pairs: their parents do not make it look cheap.
        let mined: Vec<Entry> = pool_of_pairs(5).iter().cloned().collect();
        (0..12).for_each(|_| estimator.note_block(3_990_000, &mined));
        assert!(estimator.estimate(1, &Mempool::default(), &policy, 0) >= FeeRate::from_sat_per_kwu(500));
    }

    #[test]
    fn full_blocks_are_remembered_and_blocks_with_room_too() {
        let policy = MempoolPolicy::default();
        let mut estimator = FeeEstimator::default();
        let mined: Vec<Entry> = pool_of(8).iter().cloned().collect();
        (0..12).for_each(|_| estimator.note_block(3_990_000, &mined));
        assert_eq!(estimator.estimate(1, &Mempool::default(), &policy, 0), FeeRate::from_sat_per_kwu(750));
        (0..7).for_each(|_| estimator.note_block(100_000, &mined));
        assert_eq!(estimator.estimate(1, &Mempool::default(), &policy, 0), policy.minimum_relay);
    }
}
