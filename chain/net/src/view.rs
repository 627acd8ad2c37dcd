//! What the peer logic reads of the chain and the mempool. Both are answered from memory, in microseconds; whatever
//! needs a disk or a signature check is an action whose outcome comes back as an event.

use std::sync::Arc;

use bitcoin::block::Header;
use bitcoin::pow::Work;
use bitcoin::{BlockHash, FeeRate, Transaction, Txid, Wtxid};

/// A header of the tree and what is known about its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderEntry {
    /// The header's block hash.
    pub hash: BlockHash,
    /// The header itself.
    pub header: Header,
    /// Blocks between the genesis block (0) and this one.
    pub height: u32,
    /// Work of the whole chain up to and including this header.
    pub work: Work,
    /// What this node has of the block.
    pub state: BlockState,
}

/// How far a block has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// The block itself was not received yet.
    HeaderOnly,
    /// It is stored, but not part of the active chain.
    Stored,
    /// It is part of the active chain.
    Active,
    /// It or one of its ancestors is invalid.
    Invalid,
}

/// The header tree, read only.
pub trait ChainView {
    /// A header by its hash.
    fn entry(&self, hash: &BlockHash) -> Option<HeaderEntry>;

    /// The end of the active chain, all of whose blocks are stored and valid.
    fn active_tip(&self) -> HeaderEntry;

    /// The end of the chain of headers with most work that is not known to be invalid.
    fn most_work_header(&self) -> HeaderEntry;

    /// The hash at `height` on the chain that ends in `of`; `None` if `of` is unknown or lower than that.
    fn ancestor(&self, of: &BlockHash, height: u32) -> Option<BlockHash>;

    /// The hash at `height` of the active chain.
    fn active_at(&self, height: u32) -> Option<BlockHash>;

    /// Whether the filters of all blocks are at hand (BIP 157).
    fn serves_filters(&self) -> bool;

    /// Whether the active chain could be left for the one that ends in `target`. A pruned node cannot take off what it has
    /// pruned: it needs no blocks of such a chain.
    fn is_in_reach(&self, target: &BlockHash) -> bool {
        let _ = target;
        true
    }

    /// Blocks that were stored, of the active chain too, and are damaged: some of those that have to be fetched again.
    fn lost_blocks(&self) -> Vec<BlockHash> {
        Vec::new()
    }
}

/// How a transaction is named in an announcement: by its whole content to peers that negotiated BIP 339, else without
/// witnesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TxName {
    /// With witnesses (BIP 339).
    Wtxid(Wtxid),
    /// Without witnesses.
    Txid(Txid),
}

/// The mempool, read only.
pub trait MempoolView {
    /// Need this transaction not be asked for? True if it is in the mempool, was confirmed lately, or was refused for
    /// good since the last block.
    fn knows(&self, name: &TxName) -> bool;

    /// A transaction of the mempool.
    fn transaction(&self, name: &TxName) -> Option<Arc<Transaction>>;

    /// Shows all transactions of the mempool, with their ids.
    fn visit(&self, visit: &mut dyn FnMut(&Wtxid, &Arc<Transaction>));

    /// What a new peer is told of: transactions of the mempool, parents before children, at most `limit`.
    fn relayable(&self, limit: usize) -> Vec<RelayedTx>;

    /// The least fee rate that is accepted now: what `feefilter` tells peers.
    fn minimum_fee_rate(&self) -> FeeRate;
}

/// A transaction that may be announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayedTx {
    /// Its id without witnesses.
    pub txid: Txid,
    /// Its id with witnesses.
    pub wtxid: Wtxid,
    /// By which peers' fee filters are respected.
    pub fee_rate: FeeRate,
}
