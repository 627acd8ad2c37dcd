//! What a transaction must satisfy to come into the pool.
//!
//! ```text
//!   examine: rules ─ form ─ locks ─ inputs ─ fee        what the transaction is
//!      │
//!   admit:   minimum fee ─ relatives ─ replacement      what it does to the pool
//!      │
//!   verify:  scripts                                    last, because it costs most
//!      ▼
//!   Plan ──▶ Mempool::apply
//! ```
//!
//! Nothing changes before the plan is applied.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use leyden_consensus::script::ScriptFlags;
use leyden_consensus::script::sigops::{SigopRules, sigop_cost};
use leyden_consensus::{
    Coin, CoinSource, ScriptCheck, TransactionError, check_transaction, check_transaction_inputs, locktime,
};

use super::policy::{ClusterLimit, MempoolPolicy};
use super::pool::{Entry, Mempool, NewEntry};
use super::rate::fee_at;
use super::replace::{self, Replacement};
use super::standard;
use super::truc::{self, Parent};
use crate::coins_cache::ChainCoins;
use crate::error::{MempoolError, NodeError, NonStandard};
use crate::scripts::ScriptVerifier;

/// Why a transaction is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmissionKind {
    /// Somebody sent it.
    New,
    /// It was in the pool or in a block before a reorganisation: fee and limits are not asked again, and it replaces
    /// nothing.
    Return,
}

/// Everything that the decision depends on: the pool, the tip, and the policy.
pub struct Acceptor<'a> {
    /// The mempool before the transaction.
    pub pool: &'a Mempool,
    /// What it takes.
    pub policy: &'a MempoolPolicy,
    /// The unspent outputs at the tip.
    pub coins: &'a ChainCoins,
    /// What checks scripts.
    pub scripts: &'a ScriptVerifier,
    /// The block that the transaction could come into.
    pub place: NextBlock<'a>,
    /// Seconds since 1970.
    pub now: u64,
}

/// The block that the transaction could come into: the one after the tip.
#[derive(Clone, Copy)]
pub struct NextBlock<'a> {
    /// Its height: the tip's and one.
    pub height: u32,
    /// The tip's median time past, in seconds since 1970.
    pub parent_median_time: u32,
    /// Median times of the active chain, by height.
    pub times: &'a dyn locktime::MedianTimes,
}

/// A change to the pool that may be applied.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Parents before children.
    pub entries: Vec<NewEntry>,
    /// Entries that leave, with all their descendants.
    pub leaving: BTreeSet<Txid>,
}

/// What applying a plan did.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// Entries whose place the new ones have taken, with their descendants.
    pub replaced: Vec<Entry>,
    /// Entries that had to leave because the mempool was full.
    pub evicted: Vec<Entry>,
}

/// A transaction that is valid but for its scripts, and what the pool needs to know of it.
pub(super) struct Candidate {
    pub entry: NewEntry,
    pub spent: Vec<TxOut>,
    /// Entries that spend the same outputs.
    pub conflicts: BTreeSet<Txid>,
}

/// Outputs of transactions that are offered together with the one that is looked at.
pub(super) type PackageOutputs = HashMap<OutPoint, TxOut>;

impl Acceptor<'_> {
    /// Decides about one transaction.
    pub fn check(&self, transaction: Arc<Transaction>, kind: SubmissionKind) -> Result<Plan, MempoolError> {
        let candidate = self.examine(transaction, kind, &PackageOutputs::new())?;
        let leaving = match kind {
            SubmissionKind::New => self.admit(&candidate)?,
            SubmissionKind::Return => match candidate.conflicts.first() {
                Some(conflict) => return Err(MempoolError::SpendsConflicting(*conflict)),
                None => BTreeSet::new(),
            },
        };
        self.verify(std::slice::from_ref(&candidate))?;
        Ok(Plan { entries: vec![candidate.entry], leaving })
    }

    pub(super) fn examine(
        &self,
        transaction: Arc<Transaction>,
        kind: SubmissionKind,
        package: &PackageOutputs,
    ) -> Result<Candidate, MempoolError> {
        if transaction.is_coinbase() {
            return Err(MempoolError::Coinbase);
        }
        check_transaction(&transaction).map_err(MempoolError::Invalid)?;
        standard::check_size(&transaction)?;
        if self.policy.require_standard {
            standard::check_transaction(&transaction, self.policy)?;
        }
        if !locktime::is_final(&transaction, self.place.height, self.place.parent_median_time) {
            return Err(MempoolError::NonFinal);
        }
        let (txid, wtxid) = (transaction.compute_txid(), transaction.compute_wtxid());
        if let Some(known) = self.pool.get(&txid) {
            return Err(match known.wtxid == wtxid {
                true => MempoolError::AlreadyInMempool(txid),
                false => MempoolError::SameTransactionOtherWitness(txid),
            });
        }
        let coins = self.coins_of(&transaction, &txid, package)?;
        let fee = self.check_coins(&transaction, &coins)?;
        let spent: Vec<TxOut> = coins.into_iter().map(|coin| coin.output).collect();
        let sigop_cost = sigop_cost(&transaction, &spent, SigopRules::P2shAndWitness);
        standard::check_sigop_cost(sigop_cost)?;
        if self.policy.require_standard {
            standard::check_inputs(&transaction, &spent)?;
            if kind == SubmissionKind::New
                && fee > Amount::ZERO
                && standard::dust_outputs(&transaction, self.policy).next().is_some()
            {
                return Err(NonStandard::DustWithFee.into());
            }
        }
        let conflicts = transaction.input.iter().filter_map(|input| self.pool.spender(&input.previous_output));
        let conflicts = conflicts.map(|(txid, _)| txid).collect();
        let weight = transaction.weight();
        let virtual_bytes = standard::virtual_bytes(weight, sigop_cost);
        let entry = NewEntry {
            transaction,
            txid,
            wtxid,
            fee,
            weight: weight.to_wu(),
            virtual_bytes,
            sigop_cost,
            time: self.now,
        };
        Ok(Candidate { entry, spent, conflicts })
    }

    /// The spent coins in input order; those of the pool and the package count as created in the next block.
    fn coins_of(
        &self,
        transaction: &Transaction,
        txid: &Txid,
        package: &PackageOutputs,
    ) -> Result<Vec<Coin>, MempoolError> {
        let mut coins = Vec::with_capacity(transaction.input.len());
        for outpoint in transaction.input.iter().map(|input| input.previous_output) {
            let unconfirmed = self.pool.output(&outpoint).or_else(|| package.get(&outpoint));
            let coin = match unconfirmed {
                Some(output) => Some(Coin { output: output.clone(), height: self.place.height, is_coinbase: false }),
                None => self.coins.coin(&outpoint).map_err(NodeError::from)?,
            };
            match coin {
                Some(coin) => coins.push(coin),
                None if self.is_confirmed(transaction, txid)? => return Err(MempoolError::AlreadyConfirmed(*txid)),
                None => return Err(MempoolError::MissingInputs(outpoint)),
            }
        }
        Ok(coins)
    }

    fn is_confirmed(&self, transaction: &Transaction, txid: &Txid) -> Result<bool, NodeError> {
        for (vout, _) in (0u32..).zip(&transaction.output) {
            if self.coins.coin(&OutPoint { txid: *txid, vout })?.is_some() {
                return Ok(true);
            }
        }
        Ok(self.coins.store().position(txid)?.is_some())
    }

    fn check_coins(&self, transaction: &Transaction, coins: &[Coin]) -> Result<Amount, MempoolError> {
        let heights: Vec<u32> = coins.iter().map(|coin| coin.height).collect();
        let locks = locktime::sequence_locks(transaction, &heights, self.place.times)
            .map_err(|error| NodeError::Invariant(error.to_string()))?;
        if !locks.are_open(self.place.height, self.place.parent_median_time) {
            return Err(MempoolError::NonBip68Final);
        }
        let coins: Vec<Option<&Coin>> = coins.iter().map(Some).collect();
        check_transaction_inputs(transaction, &coins, self.place.height).map_err(|error| match error {
            TransactionError::MissingInput(outpoint) => MempoolError::MissingInputs(outpoint),
            TransactionError::ImmatureCoinbase { outpoint, depth, required } => {
                MempoolError::PrematureCoinbaseSpend { outpoint, depth, required }
            }
            TransactionError::OutputsExceedInputs { inputs, outputs } => {
                MempoolError::InputsBelowOutputs { inputs, outputs }
            }
            other => MempoolError::Invalid(other),
        })
    }

    fn admit(&self, candidate: &Candidate) -> Result<BTreeSet<Txid>, MempoolError> {
        let entry = &candidate.entry;
        let fee = self.pool.modified_fee(&entry.txid, entry.fee);
        self.check_fee(fee, entry.virtual_bytes)?;
        let mut conflicts = candidate.conflicts.clone();
        let parents = self.pool.parents_of(&entry.transaction);
        if let Err(violation) = self.check_truc(candidate, &parents) {
            match truc::evictable_sibling(self.pool, &entry.transaction) {
                Some(sibling) if self.check_truc_without(candidate, &parents, &sibling).is_ok() => {
                    conflicts.insert(sibling);
                }
                Some(_) | None => return Err(MempoolError::Truc(violation)),
            }
        }
        let leaving = if conflicts.is_empty() {
            BTreeSet::new()
        } else {
            let new = Replacement {
                transactions: &[&entry.transaction],
                fee,
                virtual_bytes: entry.virtual_bytes,
                conflicts: &conflicts,
            };
            replace::check(self.pool, self.policy, &new)?
        };
        self.check_cluster(&[entry], &leaving)?;
        self.check_ephemeral(&entry.transaction, &[])?;
        Ok(leaving)
    }

    /// Is the fee enough for the relay, and for the pool as full as it is?
    pub(super) fn check_fee(&self, fee: Amount, virtual_bytes: u64) -> Result<(), MempoolError> {
        let required = fee_at(self.pool.minimum_fee_rate(self.policy, self.now), virtual_bytes);
        if fee >= required {
            return Ok(());
        }
        let relay = fee_at(self.policy.minimum_relay, virtual_bytes);
        if fee < relay {
            return Err(MempoolError::FeeBelowMinimumRelay { fee, required: relay });
        }
        Err(MempoolError::FeeBelowMempoolMinimum { fee, required })
    }

    fn check_truc(&self, candidate: &Candidate, parents: &BTreeSet<Txid>) -> Result<(), crate::error::TrucViolation> {
        let leaving = self.pool.with_descendants(&candidate.conflicts);
        self.check_truc_leaving(candidate, parents, &leaving)
    }

    fn check_truc_without(
        &self,
        candidate: &Candidate,
        parents: &BTreeSet<Txid>,
        sibling: &Txid,
    ) -> Result<(), crate::error::TrucViolation> {
        let mut leaving = self.pool.with_descendants(&candidate.conflicts);
        leaving.insert(*sibling);
        self.check_truc_leaving(candidate, parents, &leaving)
    }

    fn check_truc_leaving(
        &self,
        candidate: &Candidate,
        parents: &BTreeSet<Txid>,
        leaving: &BTreeSet<Txid>,
    ) -> Result<(), crate::error::TrucViolation> {
        let parents: Vec<Parent> =
            parents.iter().filter_map(|txid| Parent::of_pool(self.pool, txid, leaving)).collect();
        truc::check(&candidate.entry.transaction, candidate.entry.virtual_bytes, &parents)
    }

    /// The newcomers, which are related to each other, and all that they become related to stay within the limit.
    pub(super) fn check_cluster(&self, new: &[&NewEntry], leaving: &BTreeSet<Txid>) -> Result<(), MempoolError> {
        let mut parents = BTreeSet::new();
        for entry in new {
            parents.extend(self.pool.parents_of(&entry.transaction));
        }
        let ClusterLimit { count: limit_count, virtual_bytes: limit_bytes } = self.cluster_limit(new, &parents);
        let related = self.pool.cluster(&parents, leaving, limit_count);
        let count = related.count.saturating_add(new.len());
        let virtual_bytes =
            new.iter().map(|entry| entry.virtual_bytes).fold(related.virtual_bytes, u64::saturating_add);
        if count > limit_count || virtual_bytes > limit_bytes {
            return Err(MempoolError::ClusterTooLarge { count, virtual_bytes, limit_count, limit_bytes });
        }
        Ok(())
    }

    /// How large the cluster of a newcomer may be with it.
    ///
    /// A contract between two has an output that each of them can spend at once (BOLT 3's anchors). One of them could
    /// use the limit up by a chain of its own and keep the other from paying for the commitment ("pinning"). So one
    /// small transaction may come on top if the commitment is its only unconfirmed ancestor: whoever has filled the
    /// limit through the only output that it can spend has no second one for this place. (The "CPFP carve-out" of
    /// Bitcoin Core up to its version 30; it differs from later ones in that it is still here.)
    fn cluster_limit(&self, new: &[&NewEntry], parents: &BTreeSet<Txid>) -> ClusterLimit {
        let limit = self.policy.cluster;
        let has_one_ancestor = || {
            let mut parents = parents.iter().filter_map(|txid| self.pool.get(txid));
            parents.next().is_some_and(|parent| parent.parents.is_empty()) && parents.next().is_none()
        };
        match new {
            [only]
                if only.virtual_bytes <= self.policy.extra_child_bytes
                    && !truc::is_truc(&only.transaction)
                    && has_one_ancestor() =>
            {
                ClusterLimit {
                    count: limit.count.saturating_add(1),
                    virtual_bytes: limit.virtual_bytes.saturating_add(self.policy.extra_child_bytes),
                }
            }
            _ => limit,
        }
    }

    /// Who spends a parent spends all of its dust, so that none is left behind when the parent confirms.
    pub(super) fn check_ephemeral(
        &self,
        child: &Transaction,
        package: &[Arc<Transaction>],
    ) -> Result<(), MempoolError> {
        let spent: BTreeSet<OutPoint> = child.input.iter().map(|input| input.previous_output).collect();
        let parents: BTreeSet<Txid> = spent.iter().map(|outpoint| outpoint.txid).collect();
        for parent in parents {
            let of_package = || package.iter().find(|transaction| transaction.compute_txid() == parent);
            let transaction = self.pool.get(&parent).map(|entry| &entry.transaction).or_else(of_package);
            let Some(transaction) = transaction else { continue };
            for (index, _, _) in standard::dust_outputs(transaction, self.policy) {
                let vout = u32::try_from(index).unwrap_or(u32::MAX);
                if !spent.contains(&OutPoint { txid: parent, vout }) {
                    return Err(MempoolError::UnspentEphemeralDust { parent });
                }
            }
        }
        Ok(())
    }

    pub(super) fn verify(&self, candidates: &[Candidate]) -> Result<(), MempoolError> {
        let flags = if self.policy.require_standard { ScriptFlags::STANDARD } else { ScriptFlags::CONSENSUS };
        let checks: Vec<ScriptCheck<'_>> = candidates
            .iter()
            .map(|candidate| ScriptCheck::new(&candidate.entry.transaction, candidate.spent.clone(), flags))
            .collect();
        let Err(failure) = self.scripts.verify(&checks) else { return Ok(()) };
        let failed = candidates.iter().find(|candidate| candidate.entry.txid == failure.txid);
        let candidate = failed.ok_or_else(|| NodeError::Invariant("a script of no candidate fails".into()))?;
        let transaction = &candidate.entry.transaction;
        // Only whoever breaks the rules of consensus misbehaves. It is enough to look at the input that failed: the others
        // would cost as much again.
        let passes = |flags| {
            let check = ScriptCheck::new(transaction, candidate.spent.clone(), flags);
            check.prepare().and_then(|spending| check.run_input(&spending, failure.input)).is_ok()
        };
        let before_segwit = ScriptFlags::CONSENSUS.without(ScriptFlags::WITNESS).without(ScriptFlags::TAPROOT);
        Err(if passes(ScriptFlags::CONSENSUS) {
            MempoolError::ScriptPolicy(failure)
        } else if transaction.input.iter().all(|input| input.witness.is_empty()) && passes(before_segwit) {
            MempoolError::WitnessStripped(failure)
        } else {
            MempoolError::Script(failure)
        })
    }
}

impl Mempool {
    /// Carries a plan out, and evicts what no longer fits.
    pub fn apply(&mut self, plan: Plan, policy: &MempoolPolicy, now: u64) -> Applied {
        let replaced = self.remove_with_descendants(&plan.leaving);
        for entry in plan.entries {
            self.insert(entry);
        }
        Applied { replaced, evicted: self.trim(policy, now) }
    }
}
