//! What blocks hold: transactions, coins, filters and proofs, and which blocks are kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bitcoin::bip158::BlockFilter;
use bitcoin::{Block, BlockHash, OutPoint, ScriptBuf, Txid};
use leyden_consensus::Coin;

use super::Node;
use crate::block_filter::FilterLink;
use crate::core::Core;
use crate::error::NodeError;
use crate::inclusion::InclusionProof;
use crate::light;
use crate::light_state::Light;
use crate::pruner::{Keeper, absence};
use crate::store::TxPosition;
use crate::sync::{lock, read};
use crate::types::{BlockRef, OutputInfo, Spend, TransactionInfo, UtxoSet};

impl Node {
    /// Any stored block; [`NodeError::Pruned`] for one of the active chain that was given up.
    pub async fn block(&self, hash: BlockHash) -> Result<Option<Arc<Block>>, NodeError> {
        self.inner.core.full("whole blocks")?;
        self.blocking(move |core| {
            let found = core.block_from_anywhere(&hash)?;
            if found.is_some() {
                return Ok(found);
            }
            match absence(&read(&core.index), &core.store, &hash) {
                pruned @ NodeError::Pruned { .. } => Err(pruned),
                _ => Ok(None),
            }
        })
        .await
    }

    /// The lowest height from which on all blocks are stored: 0 unless older ones were pruned.
    pub fn pruned_below(&self) -> u32 {
        self.inner.core.store.pruned_below()
    }

    /// Removes all blocks up to this height that nobody needs. Returns the lowest height from which on all are stored; `None`
    /// if blocks are not pruned here.
    pub async fn prune_up_to(&self, height: u32) -> Result<Option<u32>, NodeError> {
        self.blocking(move |core| Ok(core.prune_up_to(height)?.map(|_| core.store.pruned_below()))).await
    }

    /// What bodies and undo data may take on the disk, if old ones are pruned.
    pub fn prune_target(&self) -> Option<u64> {
        self.inner.core.pruner.target_bytes()
    }

    /// Has no block pruned from now on that `keeper` says a consumer needs. See [`crate::prune`].
    pub async fn keep_blocks_for(&self, consumer: &'static str, keeper: Keeper) -> Result<(), NodeError> {
        self.blocking(move |core| {
            core.pruner.add_keeper(consumer, keeper);
            // Whatever is being pruned without its word is done before this returns.
            drop(core.hold_chain());
            Ok(())
        })
        .await
    }

    /// The folder of the chain database.
    pub fn database_path(&self) -> PathBuf {
        self.inner.core.store.path().to_owned()
    }

    /// The height of the block of the active chain that holds the transaction. *Blocking*, for a read.
    pub fn height_of(&self, txid: &Txid) -> Result<Option<u32>, NodeError> {
        Ok(self.inner.core.store.position(txid)?.map(|position| position.height))
    }

    /// A transaction of the active chain or the mempool.
    pub async fn transaction(&self, txid: Txid) -> Result<Option<TransactionInfo>, NodeError> {
        self.blocking(move |core| find_transaction(core, &txid)).await
    }

    /// The output that a short channel id names (BOLT 7): block height, index of the transaction, index of the output.
    pub async fn output_at(&self, height: u32, index: u32, vout: u32) -> Result<Option<OutputInfo>, NodeError> {
        self.inner.core.full("the outputs of others")?;
        self.blocking(move |core| find_output(core, TxPosition { height, index }, vout)).await
    }

    /// The coin at an outpoint, if the active chain has it unspent.
    pub async fn coin(&self, outpoint: OutPoint) -> Result<Option<Coin>, NodeError> {
        self.inner.core.full("unspent outputs")?;
        self.blocking(move |core| Ok(core.store.coin(&outpoint)?)).await
    }

    /// The proof that the active chain holds a transaction, and where; `None` if it does not.
    pub async fn inclusion_proof(&self, txid: Txid) -> Result<Option<(BlockRef, InclusionProof)>, NodeError> {
        self.blocking(move |core| {
            let Some(position) = core.store.position(&txid)? else { return Ok(None) };
            let Some(hash) = core.store.active_hash(position.height)? else { return Ok(None) };
            let at = BlockRef { hash, height: position.height };
            if core.light.is_some() {
                return Ok(kept_proof(core, &hash, position.index)?.map(|proof| (at, proof)));
            }
            let block =
                core.block_from_anywhere(&hash)?.ok_or_else(|| absence(&read(&core.index), &core.store, &hash))?;
            Ok(InclusionProof::new(&block, position.index).map(|proof| (at, proof)))
        })
        .await
    }

    /// The filter of any block that was ever part of the active chain, with its header; `None` if it was not made.
    pub async fn filter(&self, hash: BlockHash) -> Result<Option<(BlockFilter, FilterLink)>, NodeError> {
        self.blocking(move |core| {
            let (filter, link) = (core.store.filter(&hash)?, core.store.filter_link(&hash)?);
            Ok(filter.zip(link))
        })
        .await
    }

    /// Whether blocks get filters, and whether all have theirs by now.
    pub fn has_filters(&self) -> Option<bool> {
        let core = &self.inner.core;
        core.store.keeps_filters().then(|| core.has_filters.load(Ordering::Acquire))
    }

    /// Who spends the output: a transaction of the active chain, else one of the mempool. A light node watches the output
    /// from now on, and looks for its spend in the blocks that it passed over before it answers.
    pub async fn spender(&self, outpoint: OutPoint) -> Result<Option<Spend>, NodeError> {
        light::watch_output(&self.inner.core, outpoint).await?;
        self.blocking(move |core| find_spender(core, &outpoint)).await
    }

    /// A hash over all unspent outputs: equal on all nodes with the same tip.
    pub async fn utxo_set_hash(&self) -> Result<UtxoSet, NodeError> {
        self.inner.core.full("unspent outputs")?;
        self.blocking(|core| {
            let (hash, stats) = core.store.utxo_set()?;
            let block = read(&core.index).block_ref(&hash).ok_or(NodeError::UnknownBlock(hash))?;
            Ok(UtxoSet { block, hash: stats.hash, coins: stats.coins, amount: stats.amount })
        })
        .await
    }

    /// A light node looks for these scripts in all blocks from now on, and in those from `since` on that it has passed over,
    /// before this resolves. A full node has everything anyway.
    pub async fn watch_scripts(&self, scripts: Vec<ScriptBuf>, since: u32) -> Result<(), NodeError> {
        light::watch(&self.inner.core, scripts, since).await
    }

    /// Bytes of the files in which this node keeps the chain.
    pub async fn disk_bytes(&self) -> Result<u64, NodeError> {
        self.blocking(|core| Ok(core.store.disk_bytes()?)).await
    }

    /// The height of an old block that a light node needs for a search and that no connected peer keeps.
    pub(super) fn lacks_blocks_from(&self) -> Option<u32> {
        self.inner.core.light.as_ref().and_then(|light| *lock(&light.lacks))
    }

    /// How many scripts a light node watches; `None` for a full node.
    pub fn watched_scripts(&self) -> Option<usize> {
        self.inner.core.light.as_ref().map(Light::scripts)
    }
}

pub(super) fn find_transaction(core: &Core, txid: &Txid) -> Result<Option<TransactionInfo>, NodeError> {
    let pooled = match &core.light {
        Some(light) => read(&light.pool).get(txid).cloned(),
        None => read(&core.mempool).get(txid).map(|entry| Arc::clone(&entry.transaction)),
    };
    if let Some(transaction) = pooled {
        return Ok(Some(TransactionInfo { transaction, confirmed: None }));
    }
    let Some(position) = core.store.position(txid)? else { return Ok(None) };
    let Some(hash) = core.store.active_hash(position.height)? else { return Ok(None) };
    let transaction = if core.light.is_some() {
        let kept = core.store.proofs(&hash)?.into_iter().find(|proof| proof.index == position.index);
        kept.map(|proof| proof.transaction)
    } else {
        let block = core.block_from_anywhere(&hash)?.ok_or_else(|| absence(&read(&core.index), &core.store, &hash))?;
        let index = usize::try_from(position.index).unwrap_or(usize::MAX);
        block.txdata.get(index).cloned()
    };
    // A reorganisation between the two reads may have moved it; then it is as if the question came a moment later.
    let transaction = transaction.filter(|transaction| transaction.compute_txid() == *txid);
    Ok(transaction.map(|transaction| TransactionInfo {
        transaction: Arc::new(transaction),
        confirmed: Some((BlockRef { hash, height: position.height }, position.index)),
    }))
}

/// A light node's proof for the transaction at this place of a block.
pub(super) fn kept_proof(core: &Core, hash: &BlockHash, index: u32) -> Result<Option<InclusionProof>, NodeError> {
    let Some((header, _)) = read(&core.index).tree.get(hash).map(|known| (known.header, known.height)) else {
        return Ok(None);
    };
    let kept = core.store.proofs(hash)?;
    let at = |index: u32| kept.iter().find(|proof| proof.index == index).cloned();
    let both = at(index).zip(at(0));
    Ok(both.map(|(transaction, coinbase)| InclusionProof::of(header, transaction, coinbase)))
}

pub(super) fn find_output(core: &Core, position: TxPosition, vout: u32) -> Result<Option<OutputInfo>, NodeError> {
    let Some(hash) = core.store.active_hash(position.height)? else { return Ok(None) };
    let Some(txid) = core.store.txid_at(position)? else { return Ok(None) };
    let block = BlockRef { hash, height: position.height };
    let outpoint = OutPoint { txid, vout };
    if let Some(coin) = core.store.coin(&outpoint)? {
        return Ok(Some(OutputInfo { outpoint, output: coin.output, block, unspent: true }));
    }
    let Some(found) = find_transaction(core, &txid)? else { return Ok(None) };
    let output = usize::try_from(vout).ok().and_then(|vout| found.transaction.output.get(vout));
    Ok(output.map(|output| OutputInfo { outpoint, output: output.clone(), block, unspent: false }))
}

pub(super) fn find_spender(core: &Core, outpoint: &OutPoint) -> Result<Option<Spend>, NodeError> {
    if let Some(spend) = core.store.spend(outpoint)?
        && let Some(hash) = core.store.active_hash(spend.height)?
    {
        let confirmed = Some(BlockRef { hash, height: spend.height });
        return Ok(Some(Spend { txid: spend.txid, input: spend.input, confirmed }));
    }
    let spender = match &core.light {
        Some(light) => read(&light.pool).spender(outpoint),
        None => read(&core.mempool).spender(outpoint),
    };
    Ok(spender.map(|(txid, input)| Spend { txid, input, confirmed: None }))
}
