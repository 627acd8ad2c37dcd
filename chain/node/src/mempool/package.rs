//! A child with its unconfirmed parents, taken together: how a commitment transaction without a sufficient fee of its
//! own gets in, by the child that pays for it.
//!
//! Each transaction is first tried alone. What fails for its fee only, and the child that could not come because of
//! that, is then judged by the fee of all of them over the size of all of them, whatever a parent pays by itself and
//! whatever its version. (Should the child leave later, the parent stays, as in Bitcoin Core from its version 31 on: the
//! child has paid for the bandwidth of both, and what pays least is the first to go when the pool is full.)
//!
//! A package may replace others if it
//! - is one parent with one child and nothing else unconfirmed around them,
//! - pays the fees of all that leaves, and on top the relay of its own bytes,
//! - throws out at most a hundred transactions,
//! - has a rate above the parent's own: the child really pays for it,
//! - and makes no block of any size earn less ([`super::diagram`]).
//!
//! So a commitment of which a peer has filled the descendants gives way to the other commitment with its child, at the
//! price of what the peer has attached.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Transaction, Txid};

use super::accept::{Acceptor, Candidate, PackageOutputs, Plan, SubmissionKind};
use super::diagram::{Diagram, Member};
use super::policy::MempoolPolicy;
use super::pool::NewEntry;
use super::rate::{Rate, fee_at};
use super::replace::{self, Replacement};
use super::truc::{self, Parent};
use crate::error::{MempoolError, PackageError};

/// Whether the list is a child with its parents, whatever the pool holds.
pub fn check_shape(transactions: &[Arc<Transaction>], policy: &MempoolPolicy) -> Result<(), PackageError> {
    check_list(transactions, policy)?;
    let spent_by = |transaction: &Transaction| -> HashSet<Txid> {
        transaction.input.iter().map(|input| input.previous_output.txid).collect()
    };
    let Some((child, parents)) = transactions.split_last() else { return Err(PackageError::Empty) };
    let spent_by_child = spent_by(child);
    let is_parent = |parent: &Arc<Transaction>| spent_by_child.contains(&parent.compute_txid());
    if !parents.iter().all(is_parent) || spent_by_child.contains(&child.compute_txid()) {
        return Err(PackageError::NotChildWithParents);
    }
    Ok(())
}

/// Whether the list is short enough, each follows what it spends, and no two of them are in each other's way.
pub fn check_list(transactions: &[Arc<Transaction>], policy: &MempoolPolicy) -> Result<(), PackageError> {
    let count = transactions.len();
    if count > policy.max_package_count {
        return Err(PackageError::TooMany { count, limit: policy.max_package_count });
    }
    let weight = transactions.iter().map(|transaction| transaction.weight().to_wu()).fold(0, u64::saturating_add);
    if count > 1 && weight > policy.max_package_weight {
        return Err(PackageError::TooHeavy { weight, limit: policy.max_package_weight });
    }
    let txids: Vec<Txid> = transactions.iter().map(|transaction| transaction.compute_txid()).collect();
    let mut spent = HashSet::new();
    let inputs = transactions.iter().flat_map(|transaction| &transaction.input);
    if !inputs.into_iter().all(|input| spent.insert(input.previous_output))
        || txids.iter().collect::<HashSet<_>>().len() != count
    {
        return Err(PackageError::Conflicting);
    }
    let mut later: HashSet<Txid> = txids.iter().copied().collect();
    for (transaction, txid) in transactions.iter().zip(&txids) {
        if transaction.input.iter().any(|input| later.contains(&input.previous_output.txid)) {
            return Err(PackageError::NotSorted);
        }
        later.remove(txid);
    }
    Ok(())
}

impl Acceptor<'_> {
    /// Decides about transactions together that were refused alone for their fee (and about their child).
    pub fn check_package(&self, transactions: &[Arc<Transaction>]) -> Result<Plan, MempoolError> {
        let of = |txid: Txid, error: MempoolError| match error {
            MempoolError::Node(_) => error,
            other => MempoolError::Package(PackageError::Transaction { txid, error: Box::new(other) }),
        };
        let mut outputs = PackageOutputs::new();
        let mut candidates: Vec<Candidate> = Vec::new();
        for transaction in transactions {
            let txid = transaction.compute_txid();
            let candidate = self
                .examine(Arc::clone(transaction), SubmissionKind::New, &outputs)
                .map_err(|error| of(txid, error))?;
            self.check_package_truc(&candidate, &candidates).map_err(|error| of(txid, error))?;
            self.check_ephemeral(transaction, transactions).map_err(|error| of(txid, error))?;
            for (vout, output) in (0u32..).zip(&transaction.output) {
                outputs.insert(OutPoint { txid, vout }, output.clone());
            }
            candidates.push(candidate);
        }
        let fees = candidates.iter().map(|candidate| &candidate.entry);
        let fees = fees.map(|entry| self.pool.modified_fee(&entry.txid, entry.fee));
        let fee = fees.fold(Amount::ZERO, |sum, fee| sum.checked_add(fee).unwrap_or(Amount::MAX));
        let virtual_bytes =
            candidates.iter().map(|candidate| candidate.entry.virtual_bytes).fold(0, u64::saturating_add);
        let required = fee_at(self.pool.minimum_fee_rate(self.policy, self.now), virtual_bytes);
        if fee < required {
            return Err(PackageError::FeeTooLow { fee, required }.into());
        }
        let leaving = self.package_replacement(&candidates, fee, virtual_bytes)?;
        let entries: Vec<_> = candidates.iter().map(|candidate| &candidate.entry).collect();
        self.check_cluster(&entries, &leaving)?;
        self.verify(&candidates)?;
        Ok(Plan { entries: candidates.into_iter().map(|candidate| candidate.entry).collect(), leaving })
    }

    fn check_package_truc(&self, candidate: &Candidate, before: &[Candidate]) -> Result<(), MempoolError> {
        let entry = &candidate.entry;
        let spent: BTreeSet<Txid> = entry.transaction.input.iter().map(|input| input.previous_output.txid).collect();
        let in_pool = self.pool.parents_of(&entry.transaction);
        let leaving = self.pool.with_descendants(&candidate.conflicts);
        let mut parents: Vec<Parent> =
            in_pool.iter().filter_map(|txid| Parent::of_pool(self.pool, txid, &leaving)).collect();
        for parent in before.iter().map(|parent| &parent.entry).filter(|parent| spent.contains(&parent.txid)) {
            let has_parents = !self.pool.parents_of(&parent.transaction).is_empty();
            let truc = truc::is_truc(&parent.transaction);
            parents.push(Parent { txid: parent.txid, truc, has_parents, other_children: BTreeSet::new() });
        }
        truc::check(&entry.transaction, entry.virtual_bytes, &parents).map_err(MempoolError::Truc)
    }

    fn package_replacement(
        &self,
        candidates: &[Candidate],
        fee: Amount,
        virtual_bytes: u64,
    ) -> Result<BTreeSet<Txid>, MempoolError> {
        let conflicts: BTreeSet<Txid> =
            candidates.iter().flat_map(|candidate| candidate.conflicts.iter().copied()).collect();
        if conflicts.is_empty() {
            return Ok(BTreeSet::new());
        }
        let transactions: Vec<&Transaction> =
            candidates.iter().map(|candidate| candidate.entry.transaction.as_ref()).collect();
        let alone = transactions.iter().all(|transaction| self.pool.parents_of(transaction).is_empty());
        let [parent, child] = candidates else { return Err(PackageError::ReplacementShape.into()) };
        if !alone {
            return Err(PackageError::ReplacementShape.into());
        }
        let new = Replacement { transactions: &transactions, fee, virtual_bytes, conflicts: &conflicts };
        let leaving = replace::check(self.pool, self.policy, &new)?;
        if Rate::new(fee, virtual_bytes) <= parent.entry.rate() {
            return Err(PackageError::ReplacementByParent.into());
        }
        let member = |entry: &NewEntry, parents: Vec<Txid>| Member { txid: entry.txid, rate: entry.rate(), parents };
        let package = [member(&parent.entry, Vec::new()), member(&child.entry, vec![parent.entry.txid])];
        let replaced: Vec<Member> = leaving
            .iter()
            .filter_map(|txid| self.pool.get(txid))
            .map(|entry| Member {
                txid: entry.txid,
                rate: entry.rate(),
                parents: entry.parents.iter().copied().collect(),
            })
            .collect();
        if Diagram::of(&package).improves(&Diagram::of(&replaced)) {
            Ok(leaving)
        } else {
            Err(PackageError::ReplacementWorse.into())
        }
    }
}
