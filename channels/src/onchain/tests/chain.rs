//! A chain for tests: coins, a mempool with replacement, blocks that can be taken back.

use std::collections::BTreeMap;

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use leyden_consensus::script::{ScriptFlags, SpendingTx};

use crate::{onchain::Rejection, types::Height};

#[derive(Clone, Default)]
pub(crate) struct Chain {
    pub tip: Height,
    /// Every output ever made, with the height of its block.
    outputs: BTreeMap<OutPoint, (TxOut, u32)>,
    spent: BTreeMap<OutPoint, Txid>,
    pub blocks: BTreeMap<u32, Vec<Transaction>>,
    pub mempool: Vec<Transaction>,
    /// What a block asks for, in satoshi per 1000 weight units.
    pub minimum: u32,
    /// Blocks were taken back: what was final before need not be now.
    reorganised: bool,
    /// Transactions that never get into a block, nor into the mempool of whoever mines.
    pub censored: Vec<Txid>,
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

    /// All outputs of the chain that nothing spends there.
    pub fn unspent(&self) -> impl Iterator<Item = (&OutPoint, &TxOut)> {
        let unspent = self.outputs.iter().filter(|(outpoint, _)| !self.spent.contains_key(outpoint));
        unspent.map(|(outpoint, (output, _))| (outpoint, output))
    }

    /// The confirmed spend of an output, with its block and the place there.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<(Height, usize, &Transaction)> {
        let txid = *self.spent.get(outpoint)?;
        let (_, height) = self.outputs.get(&OutPoint { txid, vout: 0 })?;
        let mut block = self.blocks.get(height)?.iter().enumerate();
        let (index, tx) = block.find(|(_, tx)| tx.compute_txid() == txid)?;
        Some((Height(*height), index, tx))
    }

    /// What a script owns in the chain.
    pub fn balance(&self, script: &ScriptBuf) -> Amount {
        self.unspent().filter(|(_, output)| output.script_pubkey == *script).map(|(_, output)| output.value).sum()
    }

    pub fn fee(&self, tx: &Transaction) -> Amount {
        let inputs: Amount = tx.input.iter().map(|input| self.output(&input.previous_output).unwrap().value).sum();
        inputs - tx.output.iter().map(|output| output.value).sum::<Amount>()
    }

    pub fn submit(&mut self, tx: &Transaction) -> Result<(), Rejection> {
        let txid = tx.compute_txid();
        let known = self.mempool.iter().any(|other| other.compute_txid() == txid);
        if known || self.outputs.contains_key(&OutPoint { txid, vout: 0 }) {
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
        for input in &tx.input {
            let blocks = input.sequence.0;
            if blocks <= 0xffff {
                let confirmed = self.outputs.get(&input.previous_output).map(|(_, height)| *height);
                let enough = confirmed.is_some_and(|height| self.tip.0 + 1 >= height + blocks) || blocks == 0;
                if !enough && self.reorganised {
                    return Err(Rejection::Other);
                }
                assert!(enough, "{txid} comes {blocks} blocks after {confirmed:?} at {:?}", self.tip);
            }
        }
        // A commitment's lock time is a moment long past.
        let lock_time = tx.lock_time.to_consensus_u32();
        let is_final = lock_time <= self.tip.0 || lock_time >> 24 == 0x20;
        if !is_final && self.reorganised {
            return Err(Rejection::Other);
        }
        assert!(is_final, "{txid} is not final");
        let fee = self.fee(tx);
        let conflicts: Vec<usize> = (0..self.mempool.len())
            .filter(|index| {
                let other = &self.mempool[*index].input;
                other.iter().any(|one| tx.input.iter().any(|input| input.previous_output == one.previous_output))
            })
            .collect();
        let replaced: Amount = conflicts.iter().map(|index| self.fee(&self.mempool[*index])).sum();
        if !conflicts.is_empty() && fee < replaced + Amount::from_sat(tx.weight().to_wu().div_ceil(4)) {
            return Err(Rejection::Conflict);
        }
        for index in conflicts.into_iter().rev() {
            let gone = self.mempool.remove(index).compute_txid();
            self.mempool.retain(|tx| tx.input.iter().all(|input| input.previous_output.txid != gone));
        }
        self.mempool.push(tx.clone());
        Ok(())
    }

    /// One block with all that pays enough; a parent is carried by the rate of its best child.
    pub fn mine(&mut self) -> Vec<Transaction> {
        self.tip.0 += 1;
        let rate = |fee: Amount, weight: bitcoin::Weight| fee.to_sat() * 1000 / weight.to_wu();
        let worth = |tx: &Transaction| {
            let txid = tx.compute_txid();
            let is_child = |child: &&Transaction| child.input.iter().any(|input| input.previous_output.txid == txid);
            let children = self.mempool.iter().filter(is_child);
            let (fee, weight) = (self.fee(tx), tx.weight());
            let with_child = children.map(|child| rate(fee + self.fee(child), weight + child.weight()));
            with_child.chain([rate(fee, weight)]).max().unwrap_or(0)
        };
        let (mut taken, mut left): (Vec<Transaction>, Vec<Transaction>) = (Vec::new(), Vec::new());
        for tx in &self.mempool {
            let waits = tx.input.iter().any(|input| {
                let parent = input.previous_output.txid;
                left.iter().any(|other| other.compute_txid() == parent)
            });
            let wanted = worth(tx) >= u64::from(self.minimum) && !self.censored.contains(&tx.compute_txid());
            if wanted && !waits { taken.push(tx.clone()) } else { left.push(tx.clone()) }
        }
        self.mempool = left;
        for tx in &taken {
            self.connect(tx);
        }
        self.blocks.insert(self.tip.0, taken.clone());
        taken
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
        self.mempool.retain(|other| {
            other.input.iter().all(|one| tx.input.iter().all(|input| input.previous_output != one.previous_output))
        });
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
        self.reorganised = true;
        self.tip = to;
        txs
    }
}
