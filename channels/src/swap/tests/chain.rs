//! A chain with a clock: coins, a mempool with replacement, blocks that can be taken back. Every spend is executed by our
//! own interpreter.

use std::collections::BTreeMap;

use bitcoin::{
    Amount, OutPoint, ScriptBuf, Transaction, TxIn, TxOut, Txid, Witness, hashes::Hash as _, script::Builder,
};
use leyden_consensus::{
    locktime,
    script::{ScriptFlags, SpendingTx},
};

use crate::{
    swap::{Tip, margins},
    types::{Height, UnixTime},
};

const FIRST_BLOCKS: u64 = 40;

#[derive(Clone)]
struct Block {
    hash: [u8; 32],
    time: u64,
    transactions: Vec<Transaction>,
}

#[derive(Clone)]
pub struct Chain {
    blocks: Vec<Block>,
    coins: BTreeMap<OutPoint, TxOut>,
    pub mempool: Vec<Transaction>,
    /// What a block asks for, in satoshi per 1000 weight units.
    pub minimum: u64,
    hashes: u64,
    issued: Amount,
    name: u8,
}

/// The output of a person's wallet: it needs no signature, and nobody here steals that way.
fn wallet_witness_script(owner: u8) -> ScriptBuf {
    Builder::new().push_slice([owner; 2]).into_script()
}

pub fn wallet_script(owner: u8) -> ScriptBuf {
    wallet_witness_script(owner).to_p2wsh()
}

impl Chain {
    /// A chain of empty blocks that end at `now`.
    pub fn new(name: u8, now: u64) -> Self {
        Self::with_spacing(name, now, 600)
    }

    /// Likewise; so many seconds lie between them.
    pub fn with_spacing(name: u8, now: u64, spacing: u64) -> Self {
        let mut chain = Self {
            blocks: Vec::new(),
            coins: BTreeMap::new(),
            mempool: Vec::new(),
            minimum: 0,
            hashes: 0,
            issued: Amount::ZERO,
            name,
        };
        for before in (0..FIRST_BLOCKS).rev() {
            chain.mine(now - before * spacing);
        }
        chain
    }

    /// A coin out of nowhere.
    pub fn give(&mut self, owner: u8, amount: Amount) {
        let txid = Txid::from_byte_array([owner; 32]);
        self.coins.insert(OutPoint { txid, vout: 0 }, TxOut { value: amount, script_pubkey: wallet_script(owner) });
        self.issued += amount;
    }

    pub fn balance(&self, owner: u8) -> Amount {
        let script = wallet_script(owner);
        self.coins.values().filter(|coin| coin.script_pubkey == script).map(|coin| coin.value).sum()
    }

    pub fn height(&self) -> u32 {
        u32::try_from(self.blocks.len()).unwrap() - 1
    }

    fn median_time(&self, height: u32) -> u64 {
        let end = height as usize + 1;
        let mut times: Vec<u64> = self.blocks[end.saturating_sub(11)..end].iter().map(|block| block.time).collect();
        times.sort_unstable();
        times[times.len() / 2]
    }

    pub fn tip_at(&self, height: u32) -> Tip {
        let hash = self.blocks[height as usize].hash;
        Tip { height: Height(height), hash, median_time: UnixTime(self.median_time(height)) }
    }

    pub fn measured_spacing(&self) -> u32 {
        let first = self.height().saturating_sub(margins::MEASURED_BLOCKS);
        let times: Vec<UnixTime> = (first..=self.height()).map(|height| UnixTime(self.median_time(height))).collect();
        margins::measured_spacing(&times)
    }

    pub fn tip(&self) -> Tip {
        self.tip_at(self.height())
    }

    pub fn contains(&self, tip: &Tip) -> bool {
        self.blocks.get(tip.height.0 as usize).is_some_and(|block| block.hash == tip.hash)
    }

    /// Its place, the hash of the one below, what is in it.
    pub fn block(&self, height: u32) -> (Tip, [u8; 32], Vec<Transaction>) {
        (self.tip_at(height), self.tip_at(height - 1).hash, self.blocks[height as usize].transactions.clone())
    }

    /// A lock as a wallet makes it, change included, and its fee. `None` without a coin that is large enough.
    pub fn fund(&self, owner: u8, script: ScriptBuf, amount: Amount, fee: Amount) -> Option<Transaction> {
        let own = wallet_script(owner);
        let is_enough = |coin: &TxOut| coin.script_pubkey == own && coin.value >= amount + fee;
        let (outpoint, coin) = self.coins.iter().find(|(_, coin)| is_enough(coin))?;
        let mut witness = Witness::new();
        witness.push(wallet_witness_script(owner));
        let change = TxOut { value: coin.value - amount - fee, script_pubkey: own };
        Some(Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![TxIn { previous_output: *outpoint, witness, ..TxIn::default() }],
            output: vec![TxOut { value: amount, script_pubkey: script }, change],
        })
    }

    /// What a wallet knows of a lock that it has made and no block has.
    pub fn waiting(&self, script: &ScriptBuf) -> Option<Transaction> {
        let pays_it = |known: &&Transaction| known.output.iter().any(|output| output.script_pubkey == *script);
        self.mempool.iter().find(pays_it).cloned()
    }

    /// A wallet's spend of a lock's coins back to itself; `None` if they are spent.
    pub fn recall(&self, lock: &Transaction, to: ScriptBuf, fee: Amount) -> Option<Transaction> {
        let held: Amount = self.spent(lock)?.iter().map(|coin| coin.value).sum();
        let output = vec![TxOut { value: held - fee, script_pubkey: to }];
        Some(Transaction { output, ..lock.clone() })
    }

    fn spent(&self, transaction: &Transaction) -> Option<Vec<TxOut>> {
        transaction.input.iter().map(|input| self.coins.get(&input.previous_output).cloned()).collect()
    }

    fn fee(&self, transaction: &Transaction) -> Option<Amount> {
        let inputs: Amount = self.spent(transaction)?.iter().map(|coin| coin.value).sum();
        inputs.checked_sub(transaction.output.iter().map(|output| output.value).sum())
    }

    fn is_valid(&self, transaction: &Transaction) -> bool {
        let Some(spent) = self.spent(transaction) else { return false };
        let cutoff = u32::try_from(self.median_time(self.height())).unwrap();
        let spending = SpendingTx::new(transaction, spent).unwrap();
        locktime::is_final(transaction, self.height() + 1, cutoff)
            && (0..transaction.input.len()).all(|at| spending.verify_input(at, ScriptFlags::STANDARD).is_ok())
    }

    /// Whether the mempool has it now. A rival must pay more than what it replaces.
    pub fn submit(&mut self, transaction: &Transaction) -> bool {
        let txid = transaction.compute_txid();
        if self.mempool.iter().any(|known| known.compute_txid() == txid) {
            return true;
        }
        if !self.is_valid(transaction) {
            return false;
        }
        let spends = |known: &Transaction| {
            known
                .input
                .iter()
                .any(|input| transaction.input.iter().any(|own| own.previous_output == input.previous_output))
        };
        let fee = self.fee(transaction).unwrap();
        if self.mempool.iter().filter(|known| spends(known)).any(|known| self.fee(known).unwrap() >= fee) {
            return false;
        }
        self.mempool.retain(|known| !spends(known));
        self.mempool.push(transaction.clone());
        true
    }

    /// A block with all of the mempool that pays enough.
    pub fn mine(&mut self, time: u64) {
        let least = if self.blocks.is_empty() { 0 } else { self.median_time(self.height()) + 1 };
        let mut transactions = Vec::new();
        for transaction in std::mem::take(&mut self.mempool) {
            let pays = self.fee(&transaction).map(|fee| fee.to_sat() * 1000 / transaction.weight().to_wu());
            match pays {
                Some(rate) if rate >= self.minimum && self.is_valid(&transaction) => {
                    self.apply(&transaction);
                    transactions.push(transaction);
                }
                Some(_) => self.mempool.push(transaction),
                None => {}
            }
        }
        self.hashes += 1;
        let mut hash = [self.name; 32];
        hash[..8].copy_from_slice(&self.hashes.to_be_bytes());
        self.blocks.push(Block { hash, time: time.max(least), transactions });
    }

    fn apply(&mut self, transaction: &Transaction) {
        transaction.input.iter().for_each(|input| drop(self.coins.remove(&input.previous_output)));
        let txid = transaction.compute_txid();
        for (vout, output) in (0..).zip(&transaction.output) {
            self.coins.insert(OutPoint { txid, vout }, output.clone());
        }
    }

    /// Takes blocks back, and mines one more than that in their place. What was in them is in the mempool again, or not if
    /// its miner is `forgetful`.
    pub fn reorganize(&mut self, depth: u32, now: u64, forgetful: bool) {
        let kept = self.blocks.len() - depth as usize;
        let gone: Vec<Block> = self.blocks.split_off(kept);
        let (blocks, waiting) = (std::mem::take(&mut self.blocks), std::mem::take(&mut self.mempool));
        self.coins.clear();
        self.restore_issued();
        blocks.iter().flat_map(|block| &block.transactions).for_each(|transaction| self.apply(transaction));
        self.blocks = blocks;
        let returned = gone.into_iter().flat_map(|block| block.transactions).filter(|_| !forgetful);
        for transaction in returned.chain(waiting).collect::<Vec<_>>() {
            // Those whose parents are to be mined again wait beside the mempool in a real node; here they are sent again.
            self.submit(&transaction);
        }
        for _ in 0..=depth {
            self.mine(now);
        }
    }

    fn restore_issued(&mut self) {
        for (owner, amount) in self.first_coins() {
            let txid = Txid::from_byte_array([owner; 32]);
            self.coins.insert(OutPoint { txid, vout: 0 }, TxOut { value: amount, script_pubkey: wallet_script(owner) });
        }
    }

    /// Each person's first coin is worth the same.
    fn first_coins(&self) -> Vec<(u8, Amount)> {
        super::world::OWNERS.iter().map(|owner| (*owner, self.issued / super::world::OWNERS.len() as u64)).collect()
    }

    /// All fees that blocks took.
    pub fn fees(&self) -> Amount {
        self.issued - self.coins.values().map(|coin| coin.value).sum::<Amount>()
    }

    /// An unspent output to this script.
    pub fn find(&self, script: &ScriptBuf) -> Option<(OutPoint, Amount)> {
        let found = self.coins.iter().find(|(_, coin)| coin.script_pubkey == *script);
        found.map(|(outpoint, coin)| (*outpoint, coin.value))
    }

    /// All scripts that own something.
    pub fn holdings(&self) -> BTreeMap<ScriptBuf, Amount> {
        let mut all = BTreeMap::new();
        for coin in self.coins.values() {
            *all.entry(coin.script_pubkey.clone()).or_insert(Amount::ZERO) += coin.value;
        }
        all
    }

    pub fn issued(&self) -> Amount {
        self.issued
    }
}
