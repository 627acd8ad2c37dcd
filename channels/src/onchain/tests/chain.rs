//! A chain for tests: coins, a mempool with a floor, replacement, packages and evictions, blocks that can be taken back.

use std::collections::{BTreeMap, BTreeSet};

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
    /// What each block asked for.
    pub asked: BTreeMap<u32, u32>,
    /// What the mempool asks for, in the same unit: of a transaction alone, or of one whose child pays for both.
    floor: u32,
    /// What the next block has whatever the mempool says: somebody else's transactions.
    forced: Vec<Transaction>,
    /// Blocks were taken back: what was final before need not be now.
    reorganised: bool,
    /// Transactions that never get into a block, nor into the mempool of whoever mines.
    pub censored: Vec<Txid>,
    /// Transactions whose descendants are full: they take no further child.
    pub pinned: Vec<Txid>,
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

    /// The coins of a script, with the heights of their blocks.
    pub fn coins_of(&self, script: &ScriptBuf) -> impl Iterator<Item = (&OutPoint, &TxOut, Height)> {
        let unspent = self.outputs.iter().filter(|(outpoint, _)| !self.spent.contains_key(outpoint));
        let own = unspent.filter(move |(_, (output, _))| output.script_pubkey == *script);
        own.map(|(outpoint, (output, height))| (outpoint, output, Height(*height)))
    }

    pub fn is_spent_in_mempool(&self, outpoint: &OutPoint) -> bool {
        self.mempool.iter().flat_map(|tx| &tx.input).any(|input| input.previous_output == *outpoint)
    }

    /// The block of a transaction, and its place there.
    pub fn place(&self, txid: Txid) -> Option<(Height, usize)> {
        let (_, height) = self.outputs.get(&OutPoint { txid, vout: 0 })?;
        let index = self.blocks.get(height)?.iter().position(|tx| tx.compute_txid() == txid)?;
        Some((Height(*height), index))
    }

    /// Whether the chain has this transaction.
    pub fn has(&self, txid: Txid) -> bool {
        self.outputs.contains_key(&OutPoint { txid, vout: 0 })
    }

    /// What a script owns in the chain.
    pub fn balance(&self, script: &ScriptBuf) -> Amount {
        self.coins_of(script).map(|(_, output, _)| output.value).sum()
    }

    pub fn fee(&self, tx: &Transaction) -> Amount {
        let inputs: Amount = tx.input.iter().map(|input| self.output(&input.previous_output).unwrap().value).sum();
        inputs - tx.output.iter().map(|output| output.value).sum::<Amount>()
    }

    /// A coin that was paid by a block which is not in the chain any more, and by nothing since.
    pub fn remove(&mut self, outpoint: &OutPoint) {
        self.outputs.remove(outpoint);
        let spends = |tx: &Transaction| tx.input.iter().any(|input| input.previous_output == *outpoint);
        self.mempool.retain(|tx| !spends(tx));
    }

    /// Whether no version of a claim on one of `ours` can spend this coin any more.
    pub fn is_lost(&self, coin: &OutPoint, ours: &[OutPoint]) -> bool {
        let claims = |tx: &Transaction| tx.input.iter().any(|input| ours.contains(&input.previous_output));
        let is_spent = self.spender(coin).is_some_and(|(_, _, tx)| !claims(tx));
        is_spent || self.output(coin).is_none()
    }

    pub fn submit(&mut self, tx: &Transaction) -> Result<(), Rejection> {
        self.accept(tx, self.floor)
    }

    /// Parents of which some cannot get in alone, with the child that pays for all.
    pub fn submit_package(&mut self, parents: &[Transaction], child: &Transaction) -> Result<(), Rejection> {
        let before = if parents.is_empty() { Vec::new() } else { self.mempool.clone() };
        let result = self.try_package(parents, child);
        if result.is_err() && !parents.is_empty() {
            self.mempool = before;
        }
        result
    }

    fn try_package(&mut self, parents: &[Transaction], child: &Transaction) -> Result<(), Rejection> {
        let mut asked = Amount::ZERO;
        let mut cheap = Vec::new();
        for parent in parents {
            match self.submit(parent) {
                Ok(()) => continue,
                Err(Rejection::FeeTooLow) => {}
                Err(Rejection::Conflict) => asked += self.evict_rivals(parent),
                Err(Rejection::Other) => return Err(Rejection::Other),
            }
            self.accept(parent, 0)?;
            cheap.push(parent);
        }
        self.submit(child)?;
        let package = || cheap.iter().copied().chain([child]);
        if !cheap.is_empty() && self.rate(package()) < u64::from(self.floor) {
            return Err(Rejection::FeeTooLow);
        }
        let paid: Amount = package().map(|tx| self.fee(tx)).sum();
        let relay = package().map(|tx| tx.weight().to_wu().div_ceil(4)).sum();
        let replaces = asked > Amount::ZERO;
        if replaces && paid < asked + Amount::from_sat(relay) { Err(Rejection::Conflict) } else { Ok(()) }
    }

    /// Makes room for a transaction: what spends its inputs leaves with all descendants. Gives the fees of all those.
    fn evict_rivals(&mut self, tx: &Transaction) -> Amount {
        let fees = |chain: &Self| -> Amount { chain.mempool.iter().map(|one| chain.fee(one)).sum() };
        let before = fees(self);
        let gone = self.mempool.iter().filter(|one| spends_alike(one, tx)).map(Transaction::compute_txid).collect();
        self.evict(gone);
        before - fees(self)
    }

    /// What these pay together.
    pub fn rate<'a>(&self, txs: impl IntoIterator<Item = &'a Transaction>) -> u64 {
        let sum = |(fee, weight), tx: &Transaction| (fee + self.fee(tx).to_sat(), weight + tx.weight().to_wu());
        let (fee, weight) = txs.into_iter().fold((0, 0), sum);
        fee * 1000 / weight
    }

    fn accept(&mut self, tx: &Transaction, floor: u32) -> Result<(), Rejection> {
        let txid = tx.compute_txid();
        let known = self.mempool.iter().any(|other| other.compute_txid() == txid);
        if known || self.outputs.contains_key(&OutPoint { txid, vout: 0 }) {
            return Ok(());
        }
        let spent: Option<Vec<TxOut>> = tx.input.iter().map(|input| self.output(&input.previous_output)).collect();
        let Some(spent) = spent else { return Err(Rejection::Other) };
        if tx.input.iter().any(|input| self.pinned.contains(&input.previous_output.txid)) {
            return Err(Rejection::Other);
        }
        let is_spent = tx.input.iter().any(|input| self.spent.contains_key(&input.previous_output));
        if is_spent || self.forced.iter().any(|other| spends_alike(other, tx)) {
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
        if self.rate([tx]) < u64::from(floor) {
            return Err(Rejection::FeeTooLow);
        }
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
        let gone = conflicts.into_iter().map(|index| self.mempool[index].compute_txid()).collect();
        self.evict(gone);
        self.mempool.push(tx.clone());
        Ok(())
    }

    /// Takes transactions out of the mempool, and all that descends from them.
    fn evict(&mut self, mut gone: BTreeSet<Txid>) {
        // A child comes after its parents.
        self.mempool.retain(|tx| {
            let txid = tx.compute_txid();
            let goes = gone.contains(&txid) || tx.input.iter().any(|input| gone.contains(&input.previous_output.txid));
            if goes {
                gone.insert(txid);
            }
            !goes
        });
    }

    /// The mempool asks for another rate; what pays less, and no child of it pays enough for both, is evicted.
    pub fn set_floor(&mut self, floor: u32) {
        self.floor = floor;
        let poor = |tx: &&Transaction| self.worth(tx) < u64::from(floor);
        let poor = self.mempool.iter().filter(poor).map(Transaction::compute_txid).collect();
        self.evict(poor);
    }

    /// The next block has this transaction, whatever waits in the mempool.
    pub fn force(&mut self, tx: Transaction) {
        let conflicts = |other: &&Transaction| spends_alike(other, &tx);
        let gone = self.mempool.iter().filter(conflicts).map(Transaction::compute_txid).collect();
        self.evict(gone);
        self.forced.push(tx);
    }

    /// What a transaction is worth to a miner: a parent is carried by the rate of its best child.
    fn worth(&self, tx: &Transaction) -> u64 {
        let txid = tx.compute_txid();
        let is_child = |child: &&Transaction| child.input.iter().any(|input| input.previous_output.txid == txid);
        let children = self.mempool.iter().filter(is_child);
        children.map(|child| self.rate([tx, child])).chain([self.rate([tx])]).max().unwrap_or(0)
    }

    /// One block with all that pays enough.
    pub fn mine(&mut self) -> Vec<Transaction> {
        self.tip.0 += 1;
        let (mut taken, mut left): (Vec<Transaction>, Vec<Transaction>) = (Vec::new(), Vec::new());
        for tx in &self.mempool {
            let waits = tx.input.iter().any(|input| {
                let parent = input.previous_output.txid;
                left.iter().any(|other| other.compute_txid() == parent)
            });
            let wanted = self.worth(tx) >= u64::from(self.minimum) && !self.censored.contains(&tx.compute_txid());
            if wanted && !waits { taken.push(tx.clone()) } else { left.push(tx.clone()) }
        }
        self.mempool = left;
        let mut forced = std::mem::take(&mut self.forced);
        forced.retain(|tx| tx.input.iter().all(|input| self.is_unspent(&input.previous_output)));
        taken.splice(..0, forced);
        for tx in &taken {
            self.connect(tx);
        }
        self.blocks.insert(self.tip.0, taken.clone());
        self.asked.insert(self.tip.0, self.minimum);
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
        self.reorganised = true;
        self.tip = to;
        txs
    }
}

/// Whether two transactions cannot both be in the chain.
fn spends_alike(one: &Transaction, other: &Transaction) -> bool {
    let spent = |input: &bitcoin::TxIn| other.input.iter().any(|with| with.previous_output == input.previous_output);
    one.input.iter().any(spent)
}
