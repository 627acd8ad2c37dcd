use bitcoin::{Block, FeeRate, ScriptBuf, Sequence, TxIn, absolute::LockTime, hashes::Hash as _, transaction::Version};
use leyden_channels::{onchain::ClaimId, types::ChannelId};

use super::*;
use crate::wallet::{
    listing::WalletTransaction,
    onchain::{
        Coins, OnchainWallet,
        tests::{MemoryLog, next_block, open_with, payment},
    },
};

fn coinbase(script: ScriptBuf, height: u32) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(height),
        input: vec![TxIn { previous_output: OutPoint::null(), sequence: Sequence::MAX, ..TxIn::default() }],
        output: vec![TxOut { value: Amount::from_sat(100_000 + u64::from(height)), script_pubkey: script }],
    }
}

fn elsewhere() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros())
}

/// A wallet that has mined so many blocks.
fn miner(blocks: u32) -> OnchainWallet {
    let wallet = open_with(&MemoryLog::default(), 10);
    let script = wallet.new_script().unwrap();
    for height in 1..=blocks {
        let block = next_block(wallet.tip().1, height, vec![coinbase(script.clone(), height)]);
        wallet.block_connected(&block, height).unwrap();
    }
    wallet
}

/// How often the wallet was gone through, and what that takes: questions to the chain.
fn looks(wallet: &OnchainWallet) -> u64 {
    wallet.lock().ledger.whole_looks
}

#[test]
fn nothing_that_is_asked_of_a_wallet_goes_through_all_of_it() {
    let wallet = miner(1_000);
    let begun = looks(&wallet);
    assert_eq!(wallet.unspent().len(), 1_000);
    assert_eq!(wallet.transactions(|_| true, 0, usize::MAX).len(), 1_000);
    assert_eq!(wallet.unspent().iter().filter(|coin| coin.immature).count(), 99);
    for claim in 0..4 {
        let coins = wallet.set_aside((ChannelId([1; 32]), ClaimId(claim)), Amount::from_sat(20_000));
        assert_eq!(coins.len(), 1);
    }
    let target = [(elsewhere(), Amount::from_sat(250_000))];
    let paid = wallet.pay(&target, FeeRate::BROADCAST_MIN, &Coins::default()).unwrap();
    wallet.transaction_seen(paid.clone(), 5).unwrap();
    wallet.block_connected(&next_block(wallet.tip().1, 9, vec![paid]), 1_001).unwrap();
    wallet.balance();
    assert_eq!(looks(&wallet), begun, "begun with one look, and none since");
}

#[test]
fn a_page_of_transactions_is_the_newest_after_those_that_are_left_out() {
    let wallet = miner(20);
    let heights = |page: Vec<WalletTransaction>| -> Vec<Option<u32>> {
        page.iter().map(|one| one.block.map(|(height, _)| height)).collect()
    };
    let all = heights(wallet.transactions(|_| true, 0, usize::MAX));
    assert_eq!((all.len(), all.first()), (20, Some(&Some(20))));
    assert!(all.is_sorted_by(|a, b| a > b));
    assert_eq!(heights(wallet.transactions(|_| true, 5, 3)), all[5..8]);
    assert_eq!(heights(wallet.transactions(|height| height <= Some(10), 1, 2)), [Some(9), Some(8)]);
    assert!(wallet.transactions(|_| true, 20, 1).is_empty());
}

#[test]
fn a_look_at_everything_asks_in_proportion_to_the_coins() {
    let asked = |blocks: u32| {
        let wallet = miner(blocks);
        let state = wallet.lock();
        Ledger::of(&state.wallet).blocks.asked.get()
    };
    let (few, many) = (asked(1_000), asked(4_000));
    assert!(few >= 1_000 && many <= few * 4, "{few} questions for 1,000 coins and {many} for 4,000");
}

#[test]
fn large_claims_take_the_largest_coins_and_what_is_left_the_smallest_that_is_enough() {
    let wallet = open_with(&MemoryLog::default(), 10);
    let coins = [1_000_u64, 2_000, 4_000, 8_000, 16_000].into_iter().zip(0..);
    let coins = coins.map(|(sat, salt)| payment(wallet.new_script().unwrap(), sat, salt)).collect();
    wallet.block_connected(&next_block(wallet.tip().1, 1, coins), 1).unwrap();
    let take = |claim, sat| {
        let coins = wallet.set_aside((ChannelId([1; 32]), ClaimId(claim)), Amount::from_sat(sat));
        coins.iter().map(|coin| coin.output.value.to_sat()).collect::<Vec<_>>()
    };
    assert_eq!(take(1, 1_500), [2_000]);
    assert_eq!(take(2, 20_500), [16_000, 8_000]);
    assert_eq!(take(3, 90_000), [4_000, 1_000], "all that there is");
    assert_eq!(take(4, 1), [0_u64; 0]);
}

/// xorshift64: the same schedule for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

struct Story {
    wallet: OnchainWallet,
    dice: Dice,
    chain: Vec<Block>,
    /// What may be mined.
    pool: Vec<Transaction>,
    /// All that there ever was.
    made: std::collections::HashSet<Txid>,
    salt: u32,
    clock: u64,
}

impl Story {
    fn tip(&self) -> BlockHash {
        self.wallet.tip().1
    }

    fn incoming(&mut self) -> Transaction {
        self.salt += 1;
        let mut tx = payment(self.wallet.new_script().unwrap(), 10_000 + u64::from(self.salt), self.salt % 250);
        // Now and then two that exclude one another.
        tx.input[0].previous_output.vout = self.salt % 2;
        tx.input[0].previous_output.txid = Txid::from_byte_array([1 + self.dice.roll(60) as u8; 32]);
        tx
    }

    fn see(&mut self, tx: Transaction) {
        self.wallet.transaction_seen(tx.clone(), self.clock).unwrap();
        self.made.insert(tx.compute_txid());
        self.pool.push(tx);
    }

    /// Whether a block may have a transaction after what it has already: not twice, no double spend, no child without
    /// its parent.
    fn may_follow(&self, block: &[Transaction], tx: &Transaction) -> bool {
        let before = || self.chain.iter().flat_map(|block| &block.txdata).chain(block);
        let has = |txid: Txid| before().any(|other| other.compute_txid() == txid);
        let is_spent =
            |outpoint| before().flat_map(|other| &other.input).any(|input| input.previous_output == outpoint);
        let mut inputs = tx.input.iter().map(|input| input.previous_output);
        !has(tx.compute_txid())
            && inputs.all(|spent| !is_spent(spent) && (!self.made.contains(&spent.txid) || has(spent.txid)))
    }

    fn step(&mut self) {
        self.clock += 1;
        match self.dice.roll(8) {
            0 | 1 => {
                let tx = self.incoming();
                self.see(tx);
            }
            2 => {
                let amount = Amount::from_sat(5_000 + self.dice.roll(20_000) as u64);
                if let Ok(tx) = self.wallet.pay(&[(elsewhere(), amount)], FeeRate::BROADCAST_MIN, &Coins::default()) {
                    self.see(tx);
                }
            }
            3 if !self.pool.is_empty() => {
                let tx = self.pool.remove(self.dice.roll(self.pool.len()));
                self.wallet.transaction_dropped(tx.compute_txid(), self.clock).unwrap();
            }
            4 => {
                let pending = self.wallet.pending();
                let rate = FeeRate::from_sat_per_vb_u32(3);
                if let Some(old) = pending.iter().min_by_key(|tx| tx.compute_txid())
                    && let Ok(new) = self.wallet.replacement(old.compute_txid(), rate, Default::default())
                {
                    self.see(new);
                }
            }
            5 if self.chain.len() > 2 => {
                // The last block is replaced by an empty one, and what was in it waits again.
                let old = self.chain.pop().unwrap();
                let height = self.chain.len() as u32 + 1;
                self.salt += 1;
                let block = next_block(old.header.prev_blockhash, 1_000_000 + self.salt, Vec::new());
                self.wallet.block_connected(&block, height).unwrap();
                self.chain.push(block);
                self.pool.extend(old.txdata.into_iter().filter(|tx| !tx.is_coinbase()));
            }
            _ => {
                let height = self.chain.len() as u32 + 1;
                let mut txdata = vec![coinbase(self.wallet.new_script().unwrap(), height)];
                for tx in std::mem::take(&mut self.pool) {
                    if self.may_follow(&txdata, &tx) && self.dice.roll(3) > 0 {
                        txdata.push(tx);
                    } else {
                        self.pool.push(tx);
                    }
                }
                self.salt += 1;
                let block = next_block(self.tip(), 1_000_000 + self.salt, txdata);
                self.wallet.block_connected(&block, height).unwrap();
                self.chain.push(block);
            }
        }
    }
}

#[test]
fn noting_what_comes_gives_what_a_look_at_everything_gives() {
    let mut without_look = 0;
    for seed in 1..=30_u64 {
        let mut story = Story {
            wallet: open_with(&MemoryLog::default(), 10),
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            chain: Vec::new(),
            pool: Vec::new(),
            made: Default::default(),
            salt: 0,
            clock: 1_000,
        };
        for step in 0..60 {
            let before = looks(&story.wallet);
            story.step();
            let state = story.wallet.lock();
            without_look += u64::from(state.ledger.whole_looks == before);
            let whole = Ledger::of(&state.wallet);
            // When a transaction was first seen is not told of one that a block had before.
            let places = |ledger: &Ledger| -> BTreeMap<Txid, Option<u32>> {
                ledger.places().map(|(txid, place)| (*txid, place.height())).collect()
            };
            let (noted, looked) = (places(&state.ledger), places(&whole));
            let differ: Vec<_> = noted.iter().filter(|(txid, place)| looked.get(*txid) != Some(*place)).collect();
            assert!(differ.is_empty() && noted.len() == looked.len(), "seed {seed}, step {step}: {differ:?}");
            assert_eq!(state.ledger.coins, whole.coins, "seed {seed}, step {step}");
            assert_eq!(state.ledger.by_value, whole.by_value, "seed {seed}, step {step}");
            assert_eq!(state.ledger.blocks.hashes, whole.blocks.hashes, "seed {seed}, step {step}");
        }
    }
    assert!(without_look > 900, "{without_look} of 1,800 steps went without a look at everything");
}
