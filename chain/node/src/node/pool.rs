//! The mempool, asked through the handle.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitcoin::{FeeRate, OutPoint, ScriptBuf, Transaction, Txid};

use super::Node;
use crate::backend::Backend as _;
use crate::error::{MempoolError, NodeError};
use crate::light;
use crate::mempool::Entry;
use crate::sync::read;
use crate::types::{MempoolEntryInfo, MempoolInfo, Relatives, Tested};

impl Node {
    /// A transaction's relatives in the mempool, nearest or not, without itself; `None` if it is not there.
    pub fn mempool_relatives(&self, txid: &Txid, which: Relatives) -> Option<Vec<MempoolEntryInfo>> {
        let pool = read(&self.inner.core.mempool);
        pool.get(txid)?;
        let start = BTreeSet::from([*txid]);
        let related = match which {
            Relatives::Ancestors => pool.with_ancestors(&start),
            Relatives::Descendants => pool.with_descendants(&start),
        };
        let related = related.iter().filter(|other| *other != txid).filter_map(|other| pool.get(other));
        Some(related.map(entry_info).collect())
    }

    /// The transaction of the mempool that spends this output.
    pub fn mempool_spender(&self, outpoint: &OutPoint) -> Option<Arc<Transaction>> {
        let pool = read(&self.inner.core.mempool);
        let (txid, _) = pool.spender(outpoint)?;
        pool.get(&txid).map(|entry| Arc::clone(&entry.transaction))
    }

    // ---- the mempool ----

    /// Offers a transaction to the mempool, which relays it.
    pub async fn submit_transaction(&self, transaction: Transaction) -> Result<Txid, MempoolError> {
        self.watch_awaited([&transaction]).await?;
        self.blocking(move |core| Ok(core.submit_transaction(transaction))).await?
    }

    /// Offers a child with its unconfirmed parents, parents first: the child may pay for all of them. Tells what had to go for
    /// them; a light node does not know.
    pub async fn submit_package(&self, transactions: Vec<Transaction>) -> Result<Vec<Txid>, MempoolError> {
        self.watch_awaited(&transactions).await?;
        self.blocking(move |core| Ok(core.submit_package(transactions))).await?
    }

    /// Would the transactions be accepted now, each with those before it? The answers end with the first refusal.
    pub async fn test_transactions(&self, transactions: Vec<Transaction>) -> Result<Vec<Tested>, MempoolError> {
        self.blocking(move |core| Ok(core.test_transactions(transactions))).await?
    }

    /// A light node watches the outputs of its own transactions whose spends were asked for.
    pub(super) async fn watch_awaited(&self, own: impl IntoIterator<Item = &Transaction>) -> Result<(), NodeError> {
        let core = &self.inner.core;
        let Some(light) = &core.light else { return Ok(()) };
        let scripts: Vec<ScriptBuf> = own.into_iter().flat_map(|transaction| light.awaited_of(transaction)).collect();
        light::watch(core, scripts, core.tip().height.saturating_add(1)).await
    }

    /// The mempool's size, memory and lowest feerate.
    pub fn mempool_info(&self) -> MempoolInfo {
        let core = &self.inner.core;
        let pool = read(&core.mempool);
        MempoolInfo {
            transactions: pool.len(),
            virtual_bytes: pool.totals().virtual_bytes,
            memory_bytes: pool.memory(),
            memory_cap_bytes: core.policy.max_memory_bytes,
            total_fee: pool.totals().fee,
            minimum_fee_rate: pool.minimum_fee_rate(&core.policy, core.clock.now()),
        }
    }

    /// All transactions of the mempool, parents before children.
    pub fn mempool_entries(&self) -> Vec<MempoolEntryInfo> {
        read(&self.inner.core.mempool).iter().map(entry_info).collect()
    }

    /// A transaction of the mempool with its relatives; `None` if it is not there.
    pub fn mempool_entry(&self, txid: &Txid) -> Option<MempoolEntryInfo> {
        read(&self.inner.core.mempool).get(txid).map(entry_info)
    }

    /// Adds so many satoshi to what a transaction counts as paying when this node makes blocks, now or when it comes.
    pub async fn prioritise(&self, txid: Txid, delta: i64) -> Result<(), NodeError> {
        self.blocking(move |core| {
            core.full("a mempool")?;
            core.prioritise(txid, delta);
            Ok(())
        })
        .await
    }

    /// What was added to the fees of which transactions, in satoshi, whether or not they are in the mempool.
    pub fn priorities(&self) -> Vec<(Txid, i64)> {
        read(&self.inner.core.mempool).priorities().map(|(txid, delta)| (*txid, delta)).collect()
    }

    /// The fee rate that should confirm a transaction within so many blocks.
    pub fn estimate_fee(&self, blocks: u32) -> FeeRate {
        self.inner.core.estimate_fee(blocks)
    }
}

pub(super) fn entry_info(entry: &Entry) -> MempoolEntryInfo {
    MempoolEntryInfo {
        txid: entry.txid,
        wtxid: entry.wtxid,
        fee: entry.fee,
        modified_fee: entry.modified_fee,
        virtual_bytes: entry.virtual_bytes,
        weight: entry.weight,
        time: entry.time,
        ancestors: entry.ancestors.count,
        descendants: entry.descendants.count,
        ancestor_fee: entry.ancestors.fee,
        ancestor_virtual_bytes: entry.ancestors.virtual_bytes,
        descendant_fee: entry.descendants.fee,
        descendant_virtual_bytes: entry.descendants.virtual_bytes,
        parents: entry.parents.iter().copied().collect(),
        children: entry.children.iter().copied().collect(),
    }
}
