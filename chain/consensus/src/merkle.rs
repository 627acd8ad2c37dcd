//! Merkle roots that notice when a list of transactions has been doctored.
//!
//! A level with an odd number of nodes pairs its last node with itself. So a block whose transactions end in a repeated
//! run has the same root as the honest one (CVE-2012-2459): whoever takes such a copy for the block and remembers its
//! hash as invalid can be cut off from the chain. A root is therefore reported together with that suspicion.

use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::{Block, Transaction, TxMerkleNode, Txid, WitnessMerkleNode, Wtxid};

/// The root over a block's transaction ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MerkleRoot {
    /// The root as it stands in a header.
    pub root: TxMerkleNode,
    /// Two equal neighbours were hashed together: the list may be a doctored copy of another with the same root.
    pub repeats: bool,
}

/// The root that commits to transactions by their ids; all zeros for none.
pub fn merkle_root(txids: &[Txid]) -> MerkleRoot {
    let (root, repeats) = fold(txids.iter().map(|txid| txid.to_raw_hash()).collect());
    MerkleRoot { root: TxMerkleNode::from_raw_hash(root), repeats }
}

/// The root that commits to witnesses (BIP 141); the coinbase counts as all zeros.
pub fn witness_merkle_root(block: &Block) -> WitnessMerkleNode {
    witness_root(&block.txdata.iter().map(Transaction::compute_wtxid).collect::<Vec<_>>())
}

/// The same over ids that are known.
pub fn witness_root(wtxids: &[Wtxid]) -> WitnessMerkleNode {
    let coinbase = wtxids.iter().take(1).map(|_| Wtxid::all_zeros());
    let leaves = coinbase.chain(wtxids.iter().skip(1).copied()).map(Wtxid::to_raw_hash).collect();
    WitnessMerkleNode::from_raw_hash(fold(leaves).0)
}

fn fold(mut level: Vec<sha256d::Hash>) -> (sha256d::Hash, bool) {
    let mut repeats = false;
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => {
                    repeats |= left == right;
                    join(left, right)
                }
                [last] => join(last, last),
                _ => sha256d::Hash::all_zeros(),
            })
            .collect();
    }
    (level.first().copied().unwrap_or_else(sha256d::Hash::all_zeros), repeats)
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

    fn ids(count: u8) -> Vec<Txid> {
        (0..count).map(|n| Txid::from_byte_array([n + 1; 32])).collect()
    }

    #[test]
    fn a_repeated_tail_has_the_same_root_and_is_noticed() {
        for (honest, tail) in [(3u8, 1usize), (5, 1), (6, 2), (7, 1), (9, 1), (12, 4)] {
            let honest = ids(honest);
            let mut doctored = honest.clone();
            doctored.extend_from_slice(&honest[honest.len() - tail..]);
            assert_eq!(merkle_root(&honest).root, merkle_root(&doctored).root);
            assert!(!merkle_root(&honest).repeats);
            assert!(merkle_root(&doctored).repeats);
        }
    }

    #[test]
    fn one_transaction_is_its_own_root_and_none_has_the_zero_root() {
        assert_eq!(merkle_root(&ids(1)).root.to_raw_hash(), ids(1)[0].to_raw_hash());
        assert_eq!(merkle_root(&[]).root, TxMerkleNode::all_zeros());
    }
}
