//! The chain and the mempool as the peer-to-peer driver sees them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bitcoin::block::Header;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::{Block, BlockHash, Transaction, Txid, Wtxid};
use leyden_consensus::HeaderError;
use leyden_net::{ChainView, FilterRequest, HeaderEntry, MempoolView, RelayedTx, TxName};
use tokio::sync::broadcast;

use super::Core;
use crate::backend::{Backend, BlockAccepted, ChainEvent, HeadersAccepted};
use crate::chainstate::Submitted;
use crate::error::{BlockRejected, HeadersRejected, MempoolError, NodeError, PackageError};
use crate::filter_index;
use crate::light_state::relayed;
use crate::mempool::package;
use crate::prepared::PreparedBlock;
use crate::sync::{lock, read};

impl Backend for Core {
    fn now(&self) -> u64 {
        self.clock.now()
    }

    fn block(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, NodeError> {
        Ok(self.store.block(hash)?)
    }

    fn filters(&self, request: &FilterRequest) -> Result<Vec<NetworkMessage>, NodeError> {
        Ok(filter_index::answer(&self.store, request)?)
    }

    fn accept_headers(&self, headers: &[Header]) -> Result<HeadersAccepted, HeadersRejected> {
        let result = lock(&self.chain).accept_headers(headers, self.clock.now());
        if let Err(HeadersRejected::Header { hash, cause: HeaderError::TimeTooFarAhead { .. } }) = &result
            && let Some(header) = headers.iter().find(|header| header.block_hash() == *hash)
        {
            self.note_refused(header);
        }
        let new = result?;
        Ok(HeadersAccepted { new, last: headers.last().map(Header::block_hash) })
    }

    fn prepare_block(&self, block: Block) -> PreparedBlock {
        let prepared = PreparedBlock::new(block, &self.params);
        self.check_scripts_ahead(&prepared);
        prepared
    }

    fn submit_prepared(&self, block: PreparedBlock) -> Result<BlockAccepted, BlockRejected> {
        self.full("the blocks before it, so that it cannot check it")?;
        let hash = block.hash;
        let mut chain = lock(&self.chain);
        match chain.store_block(block, self.clock.now())? {
            Submitted::Known => return Ok(BlockAccepted::Known),
            Submitted::Stored => {}
        }
        let mut invalid = Vec::new();
        self.advance(&mut chain, &mut invalid)?;
        match invalid.into_iter().find(|(failed, _)| *failed == hash) {
            Some((hash, cause)) => Err(BlockRejected::Invalid { hash, cause }),
            None => Ok(BlockAccepted::Stored { tip: self.tip() }),
        }
    }

    fn submit_transaction(&self, transaction: Transaction) -> Result<Txid, MempoolError> {
        self.store.check_running()?;
        if let Some(light) = &self.light {
            return self.submit_own(light, &Arc::new(transaction));
        }
        let txid = transaction.compute_txid();
        self.accept_one(&lock(&self.chain), Arc::new(transaction)).map(|_| txid)
    }

    fn submit_package(&self, transactions: Vec<Transaction>) -> Result<Vec<Txid>, MempoolError> {
        self.store.check_running()?;
        let transactions: Vec<Arc<Transaction>> = transactions.into_iter().map(Arc::new).collect();
        if let Some(light) = &self.light {
            let submitted = transactions.iter().map(|transaction| match self.submit_own(light, transaction) {
                Ok(_) | Err(MempoolError::AlreadyInMempool(_) | MempoolError::AlreadyConfirmed(_)) => Ok(()),
                Err(error) => Err(error),
            });
            // Of the mempools of others nobody knows what had to go.
            return submitted.collect::<Result<(), MempoolError>>().map(|()| Vec::new());
        }
        package::check_shape(&transactions, &self.policy)?;
        let mut replaced = Vec::new();
        let chain = lock(&self.chain);
        let mut together = Vec::new();
        let mut waiting_for: BTreeSet<Txid> = BTreeSet::new();
        for transaction in transactions {
            let txid = transaction.compute_txid();
            match self.accept_one(&chain, Arc::clone(&transaction)) {
                Ok(gone) => replaced.extend(gone),
                Err(MempoolError::AlreadyInMempool(_) | MempoolError::AlreadyConfirmed(_)) => {}
                // The parent is there under the same id; whoever signed it otherwise may still bump it.
                Err(MempoolError::SameTransactionOtherWitness(_)) => {}
                Err(MempoolError::MissingInputs(outpoint)) if waiting_for.contains(&outpoint.txid) => {
                    together.push(transaction);
                }
                Err(error) if error.is_fee_too_low() => {
                    waiting_for.insert(txid);
                    together.push(transaction);
                }
                Err(error @ MempoolError::Node(_)) => return Err(error),
                Err(error) => return Err(PackageError::Transaction { txid, error: Box::new(error) }.into()),
            }
        }
        if together.is_empty() {
            return Ok(replaced);
        }
        let plan = {
            let pool = read(&self.mempool);
            self.acceptor(&chain, &pool, |acceptor| acceptor.check_package(&together))
        }?;
        replaced.extend(self.accept_plan(plan)?);
        Ok(replaced)
    }

    fn events(&self) -> broadcast::Receiver<ChainEvent> {
        self.events.subscribe()
    }
}

impl ChainView for Core {
    fn entry(&self, hash: &BlockHash) -> Option<HeaderEntry> {
        read(&self.index).entry(hash)
    }

    fn active_tip(&self) -> HeaderEntry {
        let index = read(&self.index);
        let tip = index.tree.get(&index.tip_hash()).unwrap_or_else(|| index.tree.best());
        index.entry_of(&tip)
    }

    fn most_work_header(&self) -> HeaderEntry {
        let index = read(&self.index);
        index.entry_of(&index.tree.best())
    }

    fn ancestor(&self, of: &BlockHash, height: u32) -> Option<BlockHash> {
        read(&self.index).tree.ancestor(of, height).map(|known| known.hash)
    }

    fn active_at(&self, height: u32) -> Option<BlockHash> {
        read(&self.index).active_at(height)
    }

    fn serves_filters(&self) -> bool {
        self.has_filters.load(Ordering::Acquire)
    }

    fn is_in_reach(&self, target: &BlockHash) -> bool {
        let below = self.store.pruned_below();
        below == 0 || read(&self.index).fork_height(target).is_some_and(|fork| fork.saturating_add(1) >= below)
    }

    fn lost_blocks(&self) -> Vec<BlockHash> {
        self.store.lost_blocks()
    }
}

impl MempoolView for Core {
    fn knows(&self, name: &TxName) -> bool {
        if let Some(light) = &self.light {
            return read(&light.pool).named(name).is_some();
        }
        match name {
            TxName::Wtxid(wtxid) => {
                read(&self.mempool).by_wtxid(wtxid).is_some() || lock(&self.refused).contains(wtxid)
            }
            TxName::Txid(txid) => read(&self.mempool).contains(txid),
        }
    }

    fn transaction(&self, name: &TxName) -> Option<Arc<Transaction>> {
        if let Some(light) = &self.light {
            return read(&light.pool).named(name).cloned();
        }
        let pool = read(&self.mempool);
        let entry = match name {
            TxName::Wtxid(wtxid) => pool.by_wtxid(wtxid),
            TxName::Txid(txid) => pool.get(txid),
        };
        entry.map(|entry| Arc::clone(&entry.transaction))
    }

    fn visit(&self, visit: &mut dyn FnMut(&Wtxid, &Arc<Transaction>)) {
        // A light node puts no blocks together.
        if self.light.is_none() {
            read(&self.mempool).iter().for_each(|entry| visit(&entry.wtxid, &entry.transaction));
        }
    }

    fn relayable(&self, limit: usize) -> Vec<RelayedTx> {
        if let Some(light) = &self.light {
            return read(&light.pool).iter().take(limit).map(|transaction| relayed(transaction)).collect();
        }
        let pool = read(&self.mempool);
        let relayed = pool.iter().map(|entry| RelayedTx {
            txid: entry.txid,
            wtxid: entry.wtxid,
            fee_rate: entry.rate().per_kwu(),
        });
        relayed.take(limit).collect()
    }

    fn minimum_fee_rate(&self) -> bitcoin::FeeRate {
        read(&self.mempool).minimum_fee_rate(&self.policy, self.clock.now())
    }
}
