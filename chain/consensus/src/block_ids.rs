//! The ids of a block's transactions and the roots over them, hashed once for all who need them.

use bitcoin::{Block, Transaction, Txid, WitnessMerkleNode, Wtxid};

use crate::merkle::{MerkleRoot, merkle_root, witness_root};

/// The ids of a block's transactions, in order, and their roots. Made of the very block that is then checked: who takes
/// those of another takes its verdict, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockIds {
    txids: Vec<Txid>,
    wtxids: Vec<Wtxid>,
    merkle_root: MerkleRoot,
    witness_root: WitnessMerkleNode,
}

impl BlockIds {
    /// Hashes the block's transactions.
    pub fn of(block: &Block) -> Self {
        Self::new(block.txdata.iter().map(transaction_ids).collect())
    }

    /// From [`transaction_ids`] of each transaction, in order: who has several threads hashes on all of them.
    pub fn new(ids: Vec<(Txid, Wtxid)>) -> Self {
        let (txids, wtxids): (Vec<Txid>, Vec<Wtxid>) = ids.into_iter().unzip();
        let (merkle_root, witness_root) = (merkle_root(&txids), witness_root(&wtxids));
        Self { txids, wtxids, merkle_root, witness_root }
    }

    /// The transactions' ids, in order.
    pub fn txids(&self) -> &[Txid] {
        &self.txids
    }

    /// The transactions' ids with witnesses, in order.
    pub fn wtxids(&self) -> &[Wtxid] {
        &self.wtxids
    }

    /// What the header has to say.
    pub fn merkle_root(&self) -> MerkleRoot {
        self.merkle_root
    }

    /// What the witness commitment is made of.
    pub fn witness_root(&self) -> WitnessMerkleNode {
        self.witness_root
    }
}

/// A transaction's id without witnesses and with them.
pub fn transaction_ids(tx: &Transaction) -> (Txid, Wtxid) {
    let txid = tx.compute_txid();
    // Without a witness both hash the same bytes (BIP 141).
    let has_witness = tx.input.iter().any(|input| !input.witness.is_empty());
    (txid, if has_witness { tx.compute_wtxid() } else { Wtxid::from_raw_hash(txid.to_raw_hash()) })
}
