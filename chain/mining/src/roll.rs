//! More work for a block whose 2^32 nonces are used up: later times, then another extra nonce.
//!
//! ```text
//!   roll      0   1   …   window   window + 1   …
//!   time      t  t+1  …  t+window      t        …
//!   extra     as the block came     1           …      in the coinbase script, so the merkle root changes
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bitcoin::block::Header;
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::script::Builder;
use bitcoin::{Block, BlockHash, ScriptBuf, Transaction, TxMerkleNode};

use crate::job::Job;
use crate::search::search;

/// The headers of one block by roll. It keeps the coinbase and its merkle branch, not the block.
#[derive(Clone, Debug)]
pub struct Rolls {
    header: Header,
    coinbase: Transaction,
    /// What the coinbase is hashed with on the way to the root, lowest first.
    branch: Vec<[u8; 32]>,
    /// How many seconds later than its own the header's time may be.
    time_window: u32,
}

/// One roll of a block: its header without the nonce, and the coinbase that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll {
    /// The header to search nonces for.
    pub header: Header,
    /// The coinbase that its merkle root commits to.
    pub coinbase: Transaction,
}

impl Rolls {
    /// Prepares the rolls of `block`, whose transactions stay as they are but for the coinbase script. `None` if it
    /// has no coinbase transaction.
    ///
    /// The header's time is never later than its own and `time_window` seconds: others refuse a block two hours ahead
    /// of their clocks.
    pub fn new(block: &Block, time_window: u32) -> Option<Self> {
        let coinbase = block.txdata.first().filter(|first| !first.input.is_empty())?.clone();
        let txids = block.txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
        Some(Self { header: block.header, coinbase, branch: branch_of_first(txids), time_window })
    }

    /// The roll of this number; number 0 is the block as it came.
    pub fn roll(&self, number: u64) -> Roll {
        let times = u64::from(self.time_window).saturating_add(1);
        let (extra_nonce, later) = (number / times, number % times);
        // Less than the number of times, which is at most 2^32.
        let later = u32::try_from(later).unwrap_or(0);
        let mut roll = Roll { header: self.header, coinbase: self.coinbase.clone() };
        roll.header.time = self.header.time.saturating_add(later);
        if extra_nonce > 0
            && let Some(input) = roll.coinbase.input.first_mut()
        {
            input.script_sig = with_extra_nonce(&input.script_sig, extra_nonce);
            roll.header.merkle_root = self.merkle_root(&roll.coinbase);
        }
        roll
    }

    fn merkle_root(&self, coinbase: &Transaction) -> TxMerkleNode {
        let node = coinbase.compute_txid().to_byte_array();
        let root = self.branch.iter().fold(node, |node, sibling| parent(&node, sibling));
        TxMerkleNode::from_byte_array(root)
    }
}

/// Searches until the block has its proof of work, and fills in what it took: nonce, time, merkle root, coinbase
/// script. `None`, with the block as it was, if `stop` became true or the block has no coinbase.
///
/// See [`search`] for threads, stopping and counting, and [`Rolls::new`] for the time window.
pub fn mine_block(
    block: &mut Block,
    time_window: u32,
    threads: usize,
    stop: &AtomicBool,
    hashes: &AtomicU64,
) -> Option<BlockHash> {
    let rolls = Rolls::new(block, time_window)?;
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let roll = rolls.roll(number);
        if let Some(found) = search(&Job::new(&roll.header), threads, stop, hashes) {
            block.header = Header { nonce: found.nonce, ..roll.header };
            if let Some(coinbase) = block.txdata.first_mut() {
                *coinbase = roll.coinbase;
            }
            return Some(found.hash);
        }
        number = number.saturating_add(1);
    }
    None
}

/// A coinbase script is at most 100 bytes; the nine bytes of an extra nonce leave 91 to whoever writes it.
fn with_extra_nonce(script: &ScriptBuf, extra_nonce: u64) -> ScriptBuf {
    let push = Builder::new().push_slice(extra_nonce.to_le_bytes()).into_script();
    ScriptBuf::from_bytes([script.as_bytes(), push.as_bytes()].concat())
}

fn parent(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut engine = sha256d::Hash::engine();
    engine.input(left);
    engine.input(right);
    sha256d::Hash::from_engine(engine).to_byte_array()
}

/// The siblings on the way from the first leaf to the root. The first is always on the left.
fn branch_of_first(mut level: Vec<[u8; 32]>) -> Vec<[u8; 32]> {
    let mut branch = vec![];
    while level.len() > 1 {
        branch.extend(level.get(1));
        level = level
            .chunks(2)
            .filter_map(|pair| match pair {
                [left, right] => Some(parent(left, right)),
                // An odd last one is paired with itself.
                [last] => Some(parent(last, last)),
                _ => None,
            })
            .collect();
    }
    branch
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::constants::genesis_block;
    use bitcoin::{Network, TxIn, TxOut};

    fn block(transactions: u32) -> Block {
        let mut block = genesis_block(Network::Regtest);
        for number in 1..transactions {
            let mut tx = block.txdata[0].clone();
            tx.input[0] = TxIn::default();
            tx.output = vec![TxOut::NULL; number as usize];
            block.txdata.push(tx);
        }
        block.header.merkle_root = block.compute_merkle_root().expect("transactions");
        block
    }

    #[test]
    fn every_roll_is_another_header_that_commits_to_its_coinbase() {
        for transactions in 1..20 {
            let block = block(transactions);
            let rolls = Rolls::new(&block, 2).expect("a coinbase");
            assert_eq!(rolls.roll(0), Roll { header: block.header, coinbase: block.txdata[0].clone() });
            let mut seen = vec![];
            for number in 0..9 {
                let roll = rolls.roll(number);
                let mut rolled = Block { header: roll.header, txdata: block.txdata.clone() };
                rolled.txdata[0] = roll.coinbase;
                assert!(rolled.check_merkle_root(), "{transactions} transactions, roll {number}");
                assert_eq!(roll.header.time, block.header.time + (number % 3) as u32);
                assert!(!seen.contains(&roll.header));
                seen.push(roll.header);
            }
        }
    }

    #[test]
    fn a_mined_block_has_its_proof_of_work() {
        let mut block = block(3);
        let (stop, hashes) = (AtomicBool::new(false), AtomicU64::new(0));
        let hash = mine_block(&mut block, 0, 2, &stop, &hashes).expect("regtest is easy");
        assert_eq!(block.header.validate_pow(block.header.target()), Ok(hash));
        assert!(block.check_merkle_root());
    }

    #[test]
    fn a_stopped_search_leaves_the_block_alone() {
        let mut stopped = block(3);
        let (stop, hashes) = (AtomicBool::new(true), AtomicU64::new(0));
        assert_eq!(mine_block(&mut stopped, 0, 1, &stop, &hashes), None);
        assert_eq!(stopped, block(3));
        let mut empty = Block { header: stopped.header, txdata: vec![] };
        assert_eq!(mine_block(&mut empty, 0, 1, &AtomicBool::new(false), &hashes), None);
    }
}
