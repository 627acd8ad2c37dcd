//! Replacement by fee: BIP 125's economic rules for every transaction, signalled or not.
//!
//! 1. (signalling) is not asked for: miners take what pays most, so signalling protects nobody.
//! 2. The replacement spends no unconfirmed output that its predecessors did not spend.
//! 3. It pays at least the fees of all that leaves.
//! 4. On top of that it pays the relay of its own bytes.
//! 5. At most a hundred transactions leave.
//!
//! And it pays a higher fee rate than every transaction that it directly conflicts with, so that a miner gains. Of a package
//! the fee rate diagram tells that (`package`): the child that it replaces along with a parent may have paid for both, so
//! that child's own rate says nothing.

use std::collections::BTreeSet;

use bitcoin::{Amount, Transaction, Txid};

use super::policy::MempoolPolicy;
use super::pool::Mempool;
use super::rate::{Rate, fee_at};
use crate::error::MempoolError;

/// The newcomer: a transaction, or a package that pays together.
pub struct Replacement<'a> {
    /// What comes in their place.
    pub transactions: &'a [&'a Transaction],
    /// What the newcomer pays, a whole package together.
    pub fee: Amount,
    /// Its size, a whole package together.
    pub virtual_bytes: u64,
    /// Entries that spend the same outputs, or whose place it takes (a version-3 sibling).
    pub conflicts: &'a BTreeSet<Txid>,
}

/// Everything that leaves if the replacement is accepted, or the rule that forbids it.
pub fn check(pool: &Mempool, policy: &MempoolPolicy, new: &Replacement<'_>) -> Result<BTreeSet<Txid>, MempoolError> {
    let leaving = pool.with_descendants(new.conflicts);
    if leaving.len() > policy.max_replacements {
        return Err(MempoolError::TooManyReplacements { count: leaving.len(), limit: policy.max_replacements });
    }
    for transaction in new.transactions {
        if let Some(txid) = pool.with_ancestors(&pool.parents_of(transaction)).intersection(&leaving).next() {
            return Err(MempoolError::SpendsConflicting(*txid));
        }
    }
    check_no_new_unconfirmed(pool, new)?;
    let rate = Rate::new(new.fee, new.virtual_bytes);
    let alone = new.transactions.len() == 1;
    for entry in new.conflicts.iter().filter_map(|txid| pool.get(txid)).filter(|_| alone) {
        if rate <= entry.rate() {
            return Err(MempoolError::ReplacementFeeRateTooLow {
                replaced: entry.txid,
                conflicting: entry.rate().per_kwu(),
                offered: rate.per_kwu(),
            });
        }
    }
    let fees = leaving.iter().filter_map(|txid| pool.get(txid)).map(|entry| entry.modified_fee);
    let replaced = fees.fold(Amount::ZERO, |sum, fee| sum.checked_add(fee).unwrap_or(Amount::MAX));
    let relay = fee_at(policy.incremental_relay, new.virtual_bytes);
    let required = replaced.checked_add(relay).unwrap_or(Amount::MAX);
    if new.fee < required {
        return Err(MempoolError::ReplacementFeeTooLow { fee: new.fee, required });
    }
    Ok(leaving)
}

fn check_no_new_unconfirmed(pool: &Mempool, new: &Replacement<'_>) -> Result<(), MempoolError> {
    let known: BTreeSet<Txid> = new
        .conflicts
        .iter()
        .filter_map(|txid| pool.get(txid))
        .flat_map(|entry| entry.parents.iter().copied())
        .collect();
    for input in new.transactions.iter().flat_map(|transaction| &transaction.input) {
        let outpoint = input.previous_output;
        if pool.contains(&outpoint.txid) && !known.contains(&outpoint.txid) {
            return Err(MempoolError::ReplacementAddsUnconfirmed(outpoint));
        }
    }
    Ok(())
}
