//! Transactions of our own that wait for a block. A light node cannot check those of others, and takes none.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bitcoin::{FeeRate, OutPoint, Transaction, Txid};
use leyden_net::{RelayedTx, TxName};

/// Transactions by their ids, and what they spend.
#[derive(Debug, Default)]
pub(crate) struct LightPool {
    /// In the order in which they came: parents first.
    transactions: BTreeMap<u64, Arc<Transaction>>,
    places: HashMap<Txid, u64>,
    spends: HashMap<OutPoint, Txid>,
    next: u64,
}

impl LightPool {
    pub(crate) fn get(&self, txid: &Txid) -> Option<&Arc<Transaction>> {
        self.transactions.get(self.places.get(txid)?)
    }

    pub(crate) fn named(&self, name: &TxName) -> Option<&Arc<Transaction>> {
        match name {
            TxName::Txid(txid) => self.get(txid),
            TxName::Wtxid(wtxid) => self.iter().find(|transaction| transaction.compute_wtxid() == *wtxid),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Transaction>> {
        self.transactions.values()
    }

    pub(crate) fn spender(&self, outpoint: &OutPoint) -> Option<(Txid, u32)> {
        let txid = *self.spends.get(outpoint)?;
        let inputs = &self.get(&txid)?.input;
        let input = inputs.iter().position(|input| input.previous_output == *outpoint)?;
        Some((txid, u32::try_from(input).ok()?))
    }

    /// Adds a transaction. Those that spend one of its inputs, and what spends from them, make room for it.
    pub(crate) fn insert(&mut self, transaction: &Arc<Transaction>) -> Vec<Arc<Transaction>> {
        let txid = transaction.compute_txid();
        let replaced = self.remove_conflicts(transaction);
        self.places.insert(txid, self.next);
        self.transactions.insert(self.next, Arc::clone(transaction));
        self.spends.extend(transaction.input.iter().map(|input| (input.previous_output, txid)));
        self.next = self.next.saturating_add(1);
        replaced
    }

    /// Takes out what cannot confirm together with this transaction.
    pub(crate) fn remove_conflicts(&mut self, transaction: &Transaction) -> Vec<Arc<Transaction>> {
        let txid = transaction.compute_txid();
        let rivals = transaction.input.iter().filter_map(|input| self.spends.get(&input.previous_output));
        let mut to_remove: Vec<Txid> = rivals.filter(|rival| **rival != txid).copied().collect();
        let mut removed = Vec::new();
        while let Some(rival) = to_remove.pop() {
            let Some(gone) = self.remove(&rival) else { continue };
            let outputs = (0u32..).take(gone.output.len()).map(|vout| OutPoint { txid: rival, vout });
            to_remove.extend(outputs.filter_map(|outpoint| self.spends.get(&outpoint)).copied());
            removed.push(gone);
        }
        removed
    }

    /// Takes a transaction out, and leaves what spends from it.
    pub(crate) fn remove(&mut self, txid: &Txid) -> Option<Arc<Transaction>> {
        let gone = self.transactions.remove(&self.places.remove(txid)?)?;
        for input in &gone.input {
            if self.spends.get(&input.previous_output) == Some(txid) {
                self.spends.remove(&input.previous_output);
            }
        }
        Some(gone)
    }
}

/// How peers are told of it. What it pays is not known here: whether it is enough is for them to say.
pub(crate) fn relayed(transaction: &Transaction) -> RelayedTx {
    RelayedTx { txid: transaction.compute_txid(), wtxid: transaction.compute_wtxid(), fee_rate: FeeRate::MAX }
}
