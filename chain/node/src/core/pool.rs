//! The mempool under the chain: what comes in, what blocks confirm, what a reorganisation gives back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bitcoin::{Block, Transaction, Txid, Wtxid};
use leyden_consensus::BlockIds;

use super::Core;
use crate::backend::ChainEvent;
use crate::chainstate::{Chainstate, Step};
use crate::error::{MempoolError, NodeError};
use crate::light_state;
use crate::mempool::accept::{Acceptor, Applied, NextBlock, SubmissionKind};
use crate::mempool::file::{self, FileError, Kept, Reader};
use crate::mempool::{Entry, Mempool, package};
use crate::sync::{lock, read, write};
use crate::types::{Accepted, RemovalReason, Tested};

/// Bytes of disconnected blocks whose transactions come back into the mempool (Bitcoin Core's 20 MB). Those of the lowest
/// blocks come first: the others may depend on them.
const RETURNED_BYTES: usize = 20_000_000;
/// Transactions that were refused for good since the last block.
const MAX_REFUSED: usize = 50_000;

impl Core {
    /// The number that the next transaction gets which comes into the mempool, or leaves it for another reason than its
    /// confirmation; 1 at the start.
    pub fn mempool_sequence(&self) -> u64 {
        self.mempool_sequence.load(Ordering::Relaxed)
    }

    pub(super) fn next_mempool_sequence(&self) -> u64 {
        self.mempool_sequence.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn announce_removed(&self, entries: &[Entry], reason: RemovalReason) {
        for entry in entries {
            let (txid, wtxid) = (entry.txid, entry.wtxid);
            let (transaction, sequence) = (Arc::clone(&entry.transaction), self.next_mempool_sequence());
            self.announce(ChainEvent::TransactionRemoved { transaction, txid, wtxid, reason, sequence });
        }
    }

    pub(super) fn confirm(&self, pool: &mut Mempool, block: &Block, ids: &BlockIds) {
        let confirmed = pool.confirm(block, ids.txids());
        lock(&self.fees).note_block(block.weight().to_wu(), &confirmed.mined);
        self.announce_removed(&confirmed.conflicts, RemovalReason::Conflict);
    }

    pub(super) fn note_time(&self, pool: &mut Mempool, now: u64) {
        let expired = pool.expire(now.saturating_sub(self.policy.expiry_seconds));
        self.announce_removed(&expired, RemovalReason::Expired);
        pool.note_block(&self.policy, now);
    }

    /// After a reorganisation everything is judged anew: what the old blocks held, the lowest of them first and up to
    /// [`RETURNED_BYTES`], then what the pool held.
    pub(super) fn return_transactions(
        &self,
        chain: &Chainstate,
        pool: &mut Mempool,
        step: &Step,
    ) -> Result<(), NodeError> {
        let old = pool.drain();
        let mut bytes = 0usize;
        for at in step.disconnected.iter().rev() {
            let block = chain.stored_block(&at.hash)?;
            bytes = bytes.saturating_add(block.total_size());
            if bytes > RETURNED_BYTES {
                tracing::warn!(height = at.height, "transactions of disconnected blocks from here on are not kept");
                break;
            }
            for transaction in block.txdata.iter().skip(1) {
                match self.judge_returning(chain, pool, Arc::new(transaction.clone())) {
                    Ok(plan) => drop(self.apply(pool, plan, true)),
                    Err(error) => tracing::debug!(%error, "a transaction of a disconnected block is not kept"),
                }
            }
        }
        for entry in old {
            match self.judge_returning(chain, pool, Arc::clone(&entry.transaction)) {
                Ok(mut plan) => {
                    // It waits since it came, not since the reorganisation.
                    plan.entries.iter_mut().for_each(|new| new.time = entry.time);
                    self.apply(pool, plan, false);
                }
                Err(_) => self.announce_removed(&[entry], RemovalReason::Reorganisation),
            }
        }
        Ok(())
    }

    pub(super) fn judge_returning(
        &self,
        chain: &Chainstate,
        pool: &Mempool,
        transaction: Arc<Transaction>,
    ) -> Result<crate::mempool::Plan, MempoolError> {
        self.acceptor(chain, pool, |acceptor| acceptor.check(transaction, SubmissionKind::Return))
    }

    pub(super) fn acceptor<R>(&self, chain: &Chainstate, pool: &Mempool, use_it: impl FnOnce(&Acceptor<'_>) -> R) -> R {
        let tip = self.tip();
        let times = |height: u32| {
            let index = read(&self.index);
            let hash = index.active_at(height)?;
            index.tree.median_time_past(&hash)
        };
        let acceptor = Acceptor {
            pool,
            policy: &self.policy,
            coins: chain.coins(),
            scripts: chain.scripts(),
            place: NextBlock {
                height: tip.height.saturating_add(1),
                parent_median_time: tip.median_time_past,
                times: &times,
            },
            now: self.clock.now(),
        };
        use_it(&acceptor)
    }

    /// What had to go for it.
    pub(super) fn apply(&self, pool: &mut Mempool, plan: crate::mempool::Plan, announce: bool) -> Vec<Txid> {
        let entries = plan.entries.clone();
        let Applied { replaced, evicted } = pool.apply(plan, &self.policy, self.clock.now());
        self.announce_removed(&replaced, RemovalReason::Replaced);
        let (own, others): (Vec<Entry>, Vec<Entry>) =
            evicted.into_iter().partition(|evicted| entries.iter().any(|entry| entry.txid == evicted.txid));
        self.announce_removed(&others, RemovalReason::Evicted);
        for entry in entries.iter().filter(|entry| announce && !own.iter().any(|own| own.txid == entry.txid)) {
            self.announce(ChainEvent::Transaction {
                transaction: Arc::clone(&entry.transaction),
                txid: entry.txid,
                wtxid: entry.wtxid,
                fee_rate: entry.rate().per_kwu(),
                sequence: self.next_mempool_sequence(),
            });
        }
        replaced.iter().map(|entry| entry.txid).collect()
    }

    /// What had to go for it.
    pub(super) fn accept_one(
        &self,
        chain: &Chainstate,
        transaction: Arc<Transaction>,
    ) -> Result<Vec<Txid>, MempoolError> {
        let plan = {
            let pool = read(&self.mempool);
            self.acceptor(chain, &pool, |acceptor| acceptor.check(Arc::clone(&transaction), SubmissionKind::New))
        };
        match plan {
            Ok(plan) => self.accept_plan(plan),
            Err(error) => {
                if !error.may_be_accepted_later() {
                    self.refuse(transaction.compute_wtxid());
                }
                Err(error)
            }
        }
    }

    /// Applies a plan of new transactions; all of them must survive the eviction that may follow. What had to go for them.
    pub(super) fn accept_plan(&self, plan: crate::mempool::Plan) -> Result<Vec<Txid>, MempoolError> {
        let txids: Vec<Txid> = plan.entries.iter().map(|entry| entry.txid).collect();
        let mut pool = write(&self.mempool);
        let replaced = self.apply(&mut pool, plan, true);
        if txids.iter().all(|txid| pool.contains(txid)) { Ok(replaced) } else { Err(MempoolError::MempoolFull) }
    }

    pub(super) fn refuse(&self, wtxid: Wtxid) {
        let mut refused = lock(&self.refused);
        if refused.len() >= MAX_REFUSED {
            refused.clear();
        }
        refused.insert(wtxid);
    }

    /// Takes back what the mempool held when it was saved, as far as it is still valid. Returns how many there were and
    /// how many are back; `None` if the node stops before all were read.
    pub fn restore_mempool(&self, mut file: Reader) -> Result<Option<(u64, usize)>, FileError> {
        let (all, oldest) = (file.left(), self.clock.now().saturating_sub(self.policy.expiry_seconds));
        let mut back = 0usize;
        while let Some(Kept { transaction, time, delta }) = file.read()? {
            if self.shutdown.is_cancelled() {
                return Ok(None);
            }
            if delta != 0 {
                self.prioritise(transaction.compute_txid(), delta);
            }
            if time < oldest {
                continue;
            }
            // One at a time: blocks and peers' transactions are not kept waiting.
            let chain = lock(&self.chain);
            let plan = self.judge_returning(&chain, &read(&self.mempool), Arc::new(transaction));
            let Ok(mut plan) = plan else { continue };
            plan.entries.iter_mut().for_each(|entry| entry.time = time);
            back += usize::from(self.accept_plan(plan).is_ok());
        }
        while let Some((txid, delta)) = file.read_delta()? {
            self.prioritise(txid, delta);
        }
        Ok(Some((all, back)))
    }

    /// Adds so many satoshi to what a transaction counts as paying when blocks are made, now or when it comes.
    pub fn prioritise(&self, txid: Txid, delta: i64) {
        // Whoever works on a copy of the pool holds the chain.
        let _chain = lock(&self.chain);
        write(&self.mempool).prioritise(txid, delta);
    }

    /// Saves the mempool for [`Self::restore_mempool`]. Returns how many transactions it holds.
    pub fn save_mempool(&self, path: &std::path::Path) -> std::io::Result<usize> {
        let (entries, others) = {
            let pool = read(&self.mempool);
            let deltas: BTreeMap<Txid, i64> = pool.priorities().map(|(txid, delta)| (*txid, delta)).collect();
            let delta = |entry: &Entry| deltas.get(&entry.txid).copied().unwrap_or(0);
            let entries: Vec<(Arc<Transaction>, u64, i64)> =
                pool.iter().map(|entry| (Arc::clone(&entry.transaction), entry.time, delta(entry))).collect();
            let others: Vec<(Txid, i64)> = deltas.into_iter().filter(|(txid, _)| !pool.contains(txid)).collect();
            (entries, others)
        };
        let kept = entries.iter().map(|(transaction, time, delta)| (transaction.as_ref(), *time, *delta));
        file::write(path, kept, &others)?;
        Ok(entries.len())
    }

    /// Would the transactions be accepted now, each with those before it? Nothing changes. There are as many answers as
    /// transactions up to the first that is refused; what follows is not looked at.
    pub fn test_transactions(&self, transactions: Vec<Transaction>) -> Result<Vec<Tested>, MempoolError> {
        self.full("what transactions spend, so that it cannot check them")?;
        let transactions: Vec<Arc<Transaction>> = transactions.into_iter().map(Arc::new).collect();
        package::check_list(&transactions, &self.policy)?;
        let chain = lock(&self.chain);
        // A copy that they may come into: those that follow spend their outputs.
        let mut pool = match transactions.as_slice() {
            [_] => None,
            _ => Some(read(&self.mempool).clone()),
        };
        let mut answers = Vec::new();
        for transaction in transactions {
            let check = |pool: &Mempool| {
                self.acceptor(&chain, pool, |acceptor| acceptor.check(Arc::clone(&transaction), SubmissionKind::New))
            };
            let plan = match &pool {
                Some(pool) => check(pool),
                None => check(&read(&self.mempool)),
            };
            let plan = match plan {
                Ok(plan) => plan,
                Err(error) => {
                    answers.push(Err(error));
                    break;
                }
            };
            answers.push(Ok(plan.entries.first().map_or(Accepted::default(), Accepted::of)));
            if let Some(pool) = &mut pool {
                pool.apply(plan, &self.policy, self.clock.now());
            }
        }
        Ok(answers)
    }

    /// The fee rate for a confirmation within so many blocks.
    pub fn estimate_fee(&self, blocks: u32) -> bitcoin::FeeRate {
        if self.light.is_some() {
            return light_state::fee_rate(blocks);
        }
        let pool = read(&self.mempool);
        lock(&self.fees).estimate(blocks, &pool, &self.policy, self.clock.now())
    }
}
