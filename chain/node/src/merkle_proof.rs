//! Proof that a block holds a transaction, for those who have only its header (white paper, section 8).
//!
//! ```text
//!            root ── in the header
//!           /    \
//!         ab      [cd]          the proof for b: its index 1, and the hashes in brackets
//!        /  \     /  \
//!      [a]   b   c    d
//! ```
//!
//! What it promises: a proof that verifies cannot be made for a transaction that is not in the block, given that the
//! header has its work. The transaction itself is part of the proof, and one whose bytes could be an inner node of the
//! tree (64 of them, CVE-2017-12842) is refused. Who wants certainty about the tree's depth also asks for the coinbase's
//! proof and compares the lengths of the two.

use bitcoin::block::Header;
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::{Block, Transaction, TxMerkleNode, Txid};

/// Bytes of an inner node's two hashes, and of no transaction that can be proved.
const INNER_NODE_BYTES: usize = 64;
/// A block holds fewer than 2^17 transactions.
const MAX_DEPTH: usize = 17;

/// A transaction, and the way from it to the merkle root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MerkleProof {
    /// The transaction that the block holds.
    pub transaction: Transaction,
    /// Its place in the block; 0 is the coinbase.
    pub index: u32,
    /// The sibling at each level, the lowest first.
    pub siblings: Vec<TxMerkleNode>,
}

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ProofError {
    #[error("the transaction could be taken for an inner node of the tree")]
    Ambiguous,
    #[error("the proof has {siblings} levels; index {index} does not fit, or no block is so large")]
    Shape { index: u32, siblings: usize },
    #[error("index {index} is that of a node joined with itself: the tree has no transaction there")]
    Doubled { index: u32 },
    #[error("the proof ends in {got}, the header says {wanted}")]
    OtherRoot { got: TxMerkleNode, wanted: TxMerkleNode },
}

impl MerkleProof {
    /// The proof for the block's transaction at `index`; `None` if there is none.
    pub fn new(block: &Block, index: u32) -> Option<Self> {
        let mut at = usize::try_from(index).ok()?;
        let transaction = block.txdata.get(at)?.clone();
        let mut level: Vec<sha256d::Hash> =
            block.txdata.iter().map(|transaction| transaction.compute_txid().to_raw_hash()).collect();
        let mut siblings = Vec::new();
        while level.len() > 1 {
            // A node without a sibling is joined with itself.
            let sibling = level.get(at ^ 1).or_else(|| level.get(at))?;
            siblings.push(TxMerkleNode::from_raw_hash(*sibling));
            level = level.chunks(2).filter_map(|pair| Some(join(pair.first()?, pair.last()?))).collect();
            at /= 2;
        }
        Some(Self { transaction, index, siblings })
    }

    /// Checks the proof against a header whose work the caller trusts, and returns the transaction's id.
    pub fn verify(&self, header: &Header) -> Result<Txid, ProofError> {
        if self.transaction.base_size() == INNER_NODE_BYTES {
            return Err(ProofError::Ambiguous);
        }
        let txid = self.transaction.compute_txid();
        let mut hash = txid.to_raw_hash();
        let mut at = self.index;
        for sibling in &self.siblings {
            let sibling = sibling.to_raw_hash();
            // A node without a sibling is joined with itself, and stands on the left (CVE-2012-2459).
            if !at.is_multiple_of(2) && sibling == hash {
                return Err(ProofError::Doubled { index: self.index });
            }
            hash = if at.is_multiple_of(2) { join(&hash, &sibling) } else { join(&sibling, &hash) };
            at /= 2;
        }
        if at != 0 || self.siblings.len() > MAX_DEPTH {
            return Err(ProofError::Shape { index: self.index, siblings: self.siblings.len() });
        }
        let (got, wanted) = (TxMerkleNode::from_raw_hash(hash), header.merkle_root);
        if got == wanted { Ok(txid) } else { Err(ProofError::OtherRoot { got, wanted }) }
    }
}

fn join(left: &sha256d::Hash, right: &sha256d::Hash) -> sha256d::Hash {
    let mut engine = sha256d::Hash::engine();
    engine.input(left.as_byte_array());
    engine.input(right.as_byte_array());
    sha256d::Hash::from_engine(engine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::absolute::LockTime;
    use bitcoin::constants::genesis_block;
    use bitcoin::{Network, transaction::Version};

    fn block_of(count: u32) -> Block {
        let mut block = genesis_block(Network::Regtest);
        let other = |number: u32| Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(number),
            ..block.txdata[0].clone()
        };
        block.txdata = (0..count).map(other).collect();
        block.header.merkle_root = block.compute_merkle_root().unwrap();
        block
    }

    #[test]
    fn every_transaction_of_blocks_of_any_size_can_be_proved() {
        for count in 1..=17 {
            let block = block_of(count);
            for index in 0..count {
                let proof = MerkleProof::new(&block, index).unwrap();
                assert_eq!(proof.verify(&block.header), Ok(block.txdata[index as usize].compute_txid()));
            }
            assert_eq!(MerkleProof::new(&block, count), None);
        }
    }

    #[test]
    fn the_last_transaction_of_an_odd_level_has_one_place_only() {
        for (count, index) in [(3, 2), (5, 4), (6, 4), (11, 10)] {
            let block = block_of(count);
            let proof = MerkleProof::new(&block, index).unwrap();
            for other in count..count + 8 {
                let moved = MerkleProof { index: other, ..proof.clone() };
                assert!(moved.verify(&block.header).is_err(), "{index} of {count} as {other}");
            }
        }
        let moved = MerkleProof { index: 3, ..MerkleProof::new(&block_of(3), 2).unwrap() };
        assert_eq!(moved.verify(&block_of(3).header), Err(ProofError::Doubled { index: 3 }));
    }

    #[test]
    fn a_proof_proves_nothing_else() {
        let block = block_of(5);
        let proof = MerkleProof::new(&block, 3).unwrap();
        let mut other = proof.clone();
        other.transaction.lock_time = LockTime::from_consensus(99);
        assert!(matches!(other.verify(&block.header), Err(ProofError::OtherRoot { .. })));
        let moved = MerkleProof { index: 2, ..proof.clone() };
        assert!(matches!(moved.verify(&block.header), Err(ProofError::OtherRoot { .. })));
        let beyond = MerkleProof { index: 3 + 8, ..proof.clone() };
        assert!(matches!(beyond.verify(&block.header), Err(ProofError::Shape { index: 11, siblings: 3 })));
        let mut short = proof;
        short.siblings.pop();
        assert!(short.verify(&block.header).is_err());
    }
}
