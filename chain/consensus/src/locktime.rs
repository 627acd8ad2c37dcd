//! When a transaction may be mined: absolute locks (BIP 113 for their clock) and relative ones (BIP 68).
//!
//! CHECKLOCKTIMEVERIFY and CHECKSEQUENCEVERIFY (BIP 65, 112) only compare numbers inside the transaction; what makes
//! those numbers bind is here.

use bitcoin::Transaction;

/// Lock times from here on are seconds since 1970, below they are heights.
pub const LOCK_TIME_THRESHOLD: u32 = 500_000_000;

/// Relative lock: not a lock at all.
const SEQUENCE_DISABLED: u32 = 1 << 31;
/// Relative lock: counts units of 512 seconds instead of blocks.
const SEQUENCE_IN_TIME: u32 = 1 << 22;
const SEQUENCE_VALUE: u32 = 0xffff;
/// 2^9 = 512 seconds a unit.
const SEQUENCE_TIME_SHIFT: u32 = 9;

/// The median time past of the blocks of one chain.
pub trait MedianTimes {
    /// The median time of the eleven blocks that end at a height.
    fn median_time_past(&self, height: u32) -> Option<u32>;
}

impl<F: Fn(u32) -> Option<u32>> MedianTimes for F {
    fn median_time_past(&self, height: u32) -> Option<u32> {
        self(height)
    }
}

/// Whether the absolute lock of a transaction has run out in a block at `height`, where `cutoff` is the median time of
/// the block before (BIP 113; before its activation the block's own time).
///
/// The lock is the last height or time that is too early, and binds only if some input is not final.
pub fn is_final(tx: &Transaction, height: u32, cutoff: u32) -> bool {
    let lock = tx.lock_time.to_consensus_u32();
    let reached = if lock < LOCK_TIME_THRESHOLD { height } else { cutoff };
    lock == 0 || lock < reached || tx.input.iter().all(|input| input.sequence.0 == u32::MAX)
}

/// The last height and the last median time at which a transaction is still locked by its inputs' sequence numbers.
/// `None`: not locked that way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SequenceLocks {
    /// The transaction may be in a block above this height.
    pub last_locked_height: Option<u64>,
    /// It may be in a block whose parent's median time, in seconds since 1970, is after this.
    pub last_locked_time: Option<u64>,
}

/// A question about the chain that could not be answered: the median time at this height is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the median time past at height {0} is not known")]
pub struct UnknownMedianTime(pub u32);

/// Works the relative locks of a transaction out. `coin_heights` has the heights of the blocks that created the spent
/// outputs, in input order; for an output in the mempool that is the height of the next block.
///
/// A lock in time counts from the median time of the block *before* the one that created the output.
pub fn sequence_locks<M: MedianTimes + ?Sized>(
    tx: &Transaction,
    coin_heights: &[u32],
    times: &M,
) -> Result<SequenceLocks, UnknownMedianTime> {
    let mut locks = SequenceLocks::default();
    // The version is an unsigned number here: 0xffffffff asks for relative locks too.
    if (tx.version.0 as u32) < 2 {
        return Ok(locks);
    }
    for (input, coin_height) in tx.input.iter().zip(coin_heights) {
        let sequence = input.sequence.0;
        if sequence & SEQUENCE_DISABLED != 0 {
            continue;
        }
        let value = u64::from(sequence & SEQUENCE_VALUE);
        if sequence & SEQUENCE_IN_TIME != 0 {
            let before = coin_height.saturating_sub(1);
            let start = times.median_time_past(before).ok_or(UnknownMedianTime(before))?;
            let first_free = u64::from(start).saturating_add(value << SEQUENCE_TIME_SHIFT);
            locks.last_locked_time = later(locks.last_locked_time, first_free);
        } else {
            locks.last_locked_height = later(locks.last_locked_height, u64::from(*coin_height).saturating_add(value));
        }
    }
    Ok(locks)
}

/// The later of a lock and one that ends just before `first_free`.
fn later(lock: Option<u64>, first_free: u64) -> Option<u64> {
    first_free.checked_sub(1).max(lock)
}

impl SequenceLocks {
    /// Whether the locks have run out in a block at `height` whose parent has this median time.
    pub fn are_open(&self, height: u32, parent_median_time: u32) -> bool {
        self.last_locked_height.is_none_or(|last| last < u64::from(height))
            && self.last_locked_time.is_none_or(|last| last < u64::from(parent_median_time))
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::transaction::Version;
    use bitcoin::{OutPoint, ScriptBuf, Sequence, TxIn, Witness};

    use super::*;

    fn tx(version: i32, lock_time: u32, sequences: &[u32]) -> Transaction {
        let input = |sequence: &u32| TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::new(),
            sequence: Sequence(*sequence),
            witness: Witness::new(),
        };
        Transaction {
            version: Version(version),
            lock_time: LockTime::from_consensus(lock_time),
            input: sequences.iter().map(input).collect(),
            output: Vec::new(),
        }
    }

    fn open(tx: &Transaction, coin_height: u32, height: u32, time: u32) -> bool {
        let times = |height: u32| Some(1_000_000 + 600 * height);
        sequence_locks(tx, &[coin_height], &times).unwrap().are_open(height, time)
    }

    #[test]
    fn a_lock_height_is_the_last_height_that_is_too_early() {
        let locked = tx(2, 100, &[0]);
        assert!(!is_final(&locked, 100, u32::MAX));
        assert!(is_final(&locked, 101, 0));
    }

    #[test]
    fn a_lock_time_compares_with_the_median_time_and_not_with_the_height() {
        let locked = tx(2, LOCK_TIME_THRESHOLD, &[0]);
        assert!(!is_final(&locked, u32::MAX, LOCK_TIME_THRESHOLD));
        assert!(is_final(&locked, 0, LOCK_TIME_THRESHOLD + 1));
        assert!(!is_final(&tx(2, LOCK_TIME_THRESHOLD - 1, &[0]), LOCK_TIME_THRESHOLD - 1, u32::MAX));
    }

    #[test]
    fn a_lock_binds_unless_every_input_is_final() {
        assert!(is_final(&tx(2, u32::MAX, &[u32::MAX, u32::MAX]), 0, 0));
        assert!(!is_final(&tx(2, u32::MAX, &[u32::MAX, u32::MAX - 1]), 0, 0));
        assert!(is_final(&tx(2, 0, &[0]), 0, 0));
    }

    #[test]
    fn a_relative_height_lock_opens_exactly_that_many_blocks_after_the_coin() {
        let locked = tx(2, 0, &[10]);
        assert!(!open(&locked, 100, 109, 0));
        assert!(open(&locked, 100, 110, 0));
        assert!(open(&tx(2, 0, &[0]), 100, 100, 0));
        assert!(!open(&tx(2, 0, &[0xffff]), 0, 0xfffe, 0));
        assert!(open(&tx(2, 0, &[0xffff]), 0, 0xffff, 0));
    }

    #[test]
    fn a_relative_time_lock_counts_from_the_median_of_the_block_before_the_coins() {
        let locked = tx(2, 0, &[SEQUENCE_IN_TIME | 3]);
        let start = 1_000_000 + 600 * 99;
        assert!(!open(&locked, 100, 1000, start + 3 * 512 - 1));
        assert!(open(&locked, 100, 1000, start + 3 * 512));
        // An output of the genesis block has no block before it.
        assert!(open(&tx(2, 0, &[SEQUENCE_IN_TIME]), 0, 1, 1_000_000));
    }

    #[test]
    fn a_transaction_version_of_all_ones_asks_for_relative_locks() {
        assert!(!open(&tx(-1, 0, &[10]), 100, 105, 0));
        assert!(open(&tx(1, 0, &[10]), 100, 105, 0));
        assert!(open(&tx(0, 0, &[10]), 100, 105, 0));
        assert!(!open(&tx(i32::MIN, 0, &[10]), 100, 105, 0));
    }

    #[test]
    fn a_disabled_sequence_and_unused_bits_do_not_lock() {
        assert!(open(&tx(2, 0, &[SEQUENCE_DISABLED | 0xffff]), 100, 101, 0));
        assert!(!open(&tx(2, 0, &[0x0fa0_0000 | 10]), 100, 109, 0));
        assert!(open(&tx(2, 0, &[0x0fa0_0000 | 10]), 100, 110, 0));
    }

    #[test]
    fn an_unknown_median_time_is_an_error_and_not_an_open_lock() {
        let nothing = |_: u32| None;
        assert_eq!(sequence_locks(&tx(2, 0, &[SEQUENCE_IN_TIME]), &[7], &nothing), Err(UnknownMedianTime(6)));
    }
}
