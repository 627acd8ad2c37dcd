//! A light node's own transactions: it has no mempool of others'.

use std::sync::Arc;

use bitcoin::relative::LockTime;
use bitcoin::{Transaction, Txid};
use leyden_consensus::locktime::is_final;
use leyden_consensus::transaction::check_transaction;
use leyden_net::RelayedTx;

use super::Core;
use crate::backend::ChainEvent;
use crate::error::{MempoolError, NodeError};
use crate::light_state::{Light, relayed};
use crate::sync::{read, write};
use crate::types::RemovalReason;

impl Core {
    /// A light node's own transaction: it goes to the peers, which say nothing of what they think of it.
    pub(super) fn submit_own(&self, light: &Light, transaction: &Arc<Transaction>) -> Result<Txid, MempoolError> {
        let txid = transaction.compute_txid();
        check_transaction(transaction).map_err(MempoolError::Invalid)?;
        if transaction.is_coinbase() {
            return Err(MempoolError::Coinbase);
        }
        if self.store.position(&txid).map_err(NodeError::from)?.is_some() {
            return Err(MempoolError::AlreadyConfirmed(txid));
        }
        self.check_own_locks(light, transaction)?;
        if read(&light.pool).get(&txid).is_some() {
            self.announce(own_event(transaction, self.next_mempool_sequence()));
            return Err(MempoolError::AlreadyInMempool(txid));
        }
        let replaced = write(&light.pool).insert(transaction);
        self.announce_gone(&replaced, RemovalReason::Replaced);
        self.announce(own_event(transaction, self.next_mempool_sequence()));
        Ok(txid)
    }

    /// Whether the next block may hold it, as far as what it spends is known.
    pub(super) fn check_own_locks(&self, light: &Light, transaction: &Transaction) -> Result<(), MempoolError> {
        let tip = self.tip();
        let next = tip.height.saturating_add(1);
        if !is_final(transaction, next, tip.median_time_past) {
            return Err(MempoolError::NonFinal);
        }
        for input in &transaction.input {
            let coin = input.previous_output;
            let spend = self.store.spend(&coin).map_err(NodeError::from)?;
            if spend.is_some() {
                return Err(MempoolError::MissingInputs(coin));
            }
            let Some(LockTime::Blocks(blocks)) = input.sequence.to_relative_lock_time() else { continue };
            let parent = self.store.position(&coin.txid).map_err(NodeError::from)?;
            let is_open = match parent {
                Some(parent) => parent.height.saturating_add(u32::from(blocks.value())) <= next,
                None => blocks.value() == 0 || read(&light.pool).get(&coin.txid).is_none(),
            };
            if !is_open && transaction.version.0 >= 2 {
                return Err(MempoolError::NonBip68Final);
            }
        }
        Ok(())
    }

    /// Blocks hold these transactions of a light node now: they, and what cannot confirm beside them, wait no more.
    pub(crate) fn confirm_own(&self, light: &Light, confirmed: &[Transaction]) {
        for transaction in confirmed {
            let conflicts = {
                let mut pool = write(&light.pool);
                pool.remove(&transaction.compute_txid());
                pool.remove_conflicts(transaction)
            };
            self.announce_gone(&conflicts, RemovalReason::Conflict);
        }
    }

    /// No block holds this transaction of a light node any more: it waits again, if nothing else took its place.
    pub(crate) fn return_own(&self, light: &Light, transaction: Transaction) {
        let transaction = Arc::new(transaction);
        if let Err(error) = self.submit_own(light, &transaction) {
            tracing::debug!(%error, "a transaction of a disconnected block does not wait again");
        }
    }

    pub(super) fn announce_gone(&self, transactions: &[Arc<Transaction>], reason: RemovalReason) {
        for transaction in transactions {
            let (txid, wtxid) = (transaction.compute_txid(), transaction.compute_wtxid());
            let (transaction, sequence) = (Arc::clone(transaction), self.next_mempool_sequence());
            self.announce(ChainEvent::TransactionRemoved { transaction, txid, wtxid, reason, sequence });
        }
    }
}

pub(super) fn own_event(transaction: &Arc<Transaction>, sequence: u64) -> ChainEvent {
    let RelayedTx { txid, wtxid, fee_rate } = relayed(transaction);
    ChainEvent::Transaction { transaction: Arc::clone(transaction), txid, wtxid, fee_rate, sequence }
}
