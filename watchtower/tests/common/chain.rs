//! A chain for tests: coins, a mempool with a floor and replacement, blocks that can be taken back. Every script is executed.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use leyden_channels::{onchain::Rejection, types::Height};
use leyden_consensus::script::{ScriptFlags, SpendingTx};

#[derive(Clone, Default)]
pub struct Chain {
    pub tip: Height,
    /// Every output ever made, with the height of its block.
    outputs: BTreeMap<OutPoint, (TxOut, u32)>,
    spent: BTreeMap<OutPoint, Txid>,
    pub blocks: BTreeMap<u32, Vec<Transaction>>,
    /// How often a block was made at each height: it makes the blocks' hashes.
    made: BTreeMap<u32, u8>,
    pub mempool: Vec<Transaction>,
    /// What a block asks for, in satoshi per 1000 weight units; the mempool takes what pays for relay.
    pub minimum: u32,
    /// What the mempool asks for.
    pub floor: u32,
}

impl Chain {
    pub fn new(tip: u32) -> Self {
        Self { tip: Height(tip), ..Self::default() }
    }

    /// An output out of nowhere, confirmed at the tip.
    pub fn add(&mut self, outpoint: OutPoint, output: TxOut) {
        self.outputs.insert(outpoint, (output, self.tip.0));
    }

    pub fn output(&self, outpoint: &OutPoint) -> Option<TxOut> {
        let in_mempool = || {
            let tx = self.mempool.iter().find(|tx| tx.compute_txid() == outpoint.txid)?;
            tx.output.get(outpoint.vout as usize).cloned()
        };
        self.outputs.get(outpoint).map(|(output, _)| output.clone()).or_else(in_mempool)
    }

    pub fn is_unspent(&self, outpoint: &OutPoint) -> bool {
        self.outputs.contains_key(outpoint) && !self.spent.contains_key(outpoint)
    }

    pub fn has(&self, txid: Txid) -> bool {
        self.outputs.contains_key(&OutPoint { txid, vout: 0 })
    }

    pub fn unspent(&self) -> impl Iterator<Item = (&OutPoint, &TxOut)> {
        let unspent = self.outputs.iter().filter(|(outpoint, _)| !self.spent.contains_key(outpoint));
        unspent.map(|(outpoint, (output, _))| (outpoint, output))
    }

    /// What a script owns in the chain.
    pub fn balance(&self, script: &ScriptBuf) -> Amount {
        self.unspent().filter(|(_, output)| output.script_pubkey == *script).map(|(_, output)| output.value).sum()
    }

    pub fn fee(&self, tx: &Transaction) -> Amount {
        let inputs: Amount = tx.input.iter().map(|input| self.output(&input.previous_output).unwrap().value).sum();
        inputs - tx.output.iter().map(|output| output.value).sum::<Amount>()
    }

    pub fn hash(&self, height: Height) -> [u8; 32] {
        let mut hash = [self.made.get(&height.0).copied().unwrap_or_default(); 32];
        hash[..4].copy_from_slice(&height.0.to_be_bytes());
        hash
    }

    fn rate(&self, tx: &Transaction) -> u64 {
        self.fee(tx).to_sat() * 1_000 / tx.weight().to_wu()
    }

    pub fn submit(&mut self, tx: &Transaction) -> Result<(), Rejection> {
        let txid = tx.compute_txid();
        if self.mempool.iter().any(|other| other.compute_txid() == txid) || self.has(txid) {
            return Ok(());
        }
        let spent: Option<Vec<TxOut>> = tx.input.iter().map(|input| self.output(&input.previous_output)).collect();
        let Some(spent) = spent else { return Err(Rejection::Other) };
        if tx.input.iter().any(|input| self.spent.contains_key(&input.previous_output)) {
            return Err(Rejection::Conflict);
        }
        let spending = SpendingTx::new(tx, spent).unwrap();
        for index in 0..tx.input.len() {
            if let Err(error) = spending.verify_input(index, ScriptFlags::STANDARD) {
                panic!("input {index} of {tx:?}: {error}");
            }
        }
        for input in tx.input.iter().filter(|input| input.sequence.0 <= 0xffff && input.sequence.0 > 0) {
            let confirmed = self.outputs.get(&input.previous_output).map(|(_, height)| *height);
            if confirmed.is_none_or(|height| self.tip.0 + 1 < height + input.sequence.0) {
                return Err(Rejection::Other);
            }
        }
        // A commitment's lock time is a moment long past.
        let lock_time = tx.lock_time.to_consensus_u32();
        if lock_time > self.tip.0 && lock_time >> 24 != 0x20 {
            return Err(Rejection::Other);
        }
        if self.rate(tx) < u64::from(self.floor) {
            return Err(Rejection::FeeTooLow);
        }
        let conflicts: Vec<Transaction> =
            self.mempool.iter().filter(|other| spends_alike(other, tx)).cloned().collect();
        let replaced: Amount = conflicts.iter().map(|other| self.fee(other)).sum();
        if !conflicts.is_empty() && self.fee(tx) < replaced + Amount::from_sat(tx.weight().to_wu().div_ceil(4)) {
            return Err(Rejection::Conflict);
        }
        self.evict(conflicts.iter().map(Transaction::compute_txid).collect());
        self.mempool.push(tx.clone());
        Ok(())
    }

    /// Puts a transaction into the miners' mempool whatever it pays, in place of what contradicts it.
    pub fn force(&mut self, tx: &Transaction) {
        let gone = self.mempool.iter().filter(|other| spends_alike(other, tx)).map(Transaction::compute_txid).collect();
        self.evict(gone);
        let known = tx.input.iter().all(|input| self.output(&input.previous_output).is_some());
        let spent = tx.input.iter().any(|input| self.spent.contains_key(&input.previous_output));
        if known && !spent && !self.has(tx.compute_txid()) {
            self.mempool.push(tx.clone());
        }
    }

    fn evict(&mut self, mut gone: BTreeSet<Txid>) {
        // A child comes after its parents.
        self.mempool.retain(|tx| {
            let txid = tx.compute_txid();
            let falls = gone.contains(&txid) || tx.input.iter().any(|input| gone.contains(&input.previous_output.txid));
            if falls {
                gone.insert(txid);
            }
            !falls
        });
    }

    /// A block of all that pays enough, parents before children.
    pub fn mine(&mut self) -> Vec<Transaction> {
        self.tip = Height(self.tip.0 + 1);
        *self.made.entry(self.tip.0).or_default() += 1;
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for tx in std::mem::take(&mut self.mempool) {
            let waits = tx.input.iter().any(|input| {
                let parent = input.previous_output.txid;
                left.iter().any(|other: &Transaction| other.compute_txid() == parent)
            });
            // Second stages of anchors have no fee of their own; whoever forces them pays elsewhere.
            let paid = self.output_rate(&tx, &taken);
            if paid.is_none_or(|rate| rate >= u64::from(self.minimum) || rate == 0) && !waits {
                taken.push(tx);
            } else {
                left.push(tx);
            }
        }
        self.mempool = left;
        for tx in &taken {
            self.connect(tx);
        }
        self.blocks.insert(self.tip.0, taken.clone());
        taken
    }

    fn output_rate(&self, tx: &Transaction, block: &[Transaction]) -> Option<u64> {
        let value = |outpoint: &OutPoint| {
            let in_block = block.iter().find(|parent| parent.compute_txid() == outpoint.txid);
            let output = in_block.and_then(|parent| parent.output.get(outpoint.vout as usize).cloned());
            output.or_else(|| self.output(outpoint)).map(|output| output.value)
        };
        let inputs: Option<Amount> = tx.input.iter().map(|input| value(&input.previous_output)).sum::<Option<Amount>>();
        let fee = inputs? - tx.output.iter().map(|output| output.value).sum::<Amount>();
        Some(fee.to_sat() * 1_000 / tx.weight().to_wu())
    }

    fn connect(&mut self, tx: &Transaction) {
        let txid = tx.compute_txid();
        for input in &tx.input {
            assert!(self.outputs.contains_key(&input.previous_output));
            assert!(self.spent.insert(input.previous_output, txid).is_none(), "{txid} spends twice");
        }
        for (vout, output) in (0..).zip(&tx.output) {
            self.outputs.insert(OutPoint { txid, vout }, (output.clone(), self.tip.0));
        }
        let gone = self.mempool.iter().filter(|other| spends_alike(other, tx)).map(Transaction::compute_txid).collect();
        self.evict(gone);
    }

    /// Takes blocks back; what was in them is gone, also from the mempool.
    pub fn disconnect(&mut self, to: Height) -> Vec<Transaction> {
        let gone = self.blocks.split_off(&(to.0 + 1));
        let txs: Vec<Transaction> = gone.into_values().flatten().collect();
        for tx in &txs {
            let txid = tx.compute_txid();
            for input in &tx.input {
                self.spent.remove(&input.previous_output);
            }
            for vout in 0..tx.output.len() as u32 {
                self.outputs.remove(&OutPoint { txid, vout });
            }
        }
        self.mempool.clear();
        self.tip = to;
        txs
    }
}

/// Whether two transactions cannot both be in the chain.
fn spends_alike(one: &Transaction, other: &Transaction) -> bool {
    let spent = |input: &bitcoin::TxIn| other.input.iter().any(|with| with.previous_output == input.previous_output);
    one.input.iter().any(spent)
}
