//! What a light node looks out for in blocks.
//!
//! ```text
//!   script ─▶ its outputs, as kept transactions show them ─▶ whoever spends one concerns us
//!   outpoint of a transaction that is not known yet ─▶ its script, once the transaction is kept
//! ```

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bitcoin::{Block, OutPoint, ScriptBuf, Transaction, Txid};

/// Scripts, and the outputs with one of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct WatchSet {
    scripts: HashSet<ScriptBuf>,
    coins: HashSet<OutPoint>,
    /// Outputs whose spends are asked for, of transactions that nobody has seen.
    awaited: BTreeMap<Txid, BTreeSet<u32>>,
}

impl WatchSet {
    /// The stored scripts, with the outputs of the kept transactions.
    pub(crate) fn new(scripts: Vec<ScriptBuf>, kept: &[Transaction]) -> Self {
        let mut set = Self { scripts: scripts.into_iter().collect(), ..Self::default() };
        kept.iter().for_each(|transaction| set.note_coins(transaction));
        set
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.scripts.is_empty()
    }

    pub(crate) fn scripts(&self) -> &HashSet<ScriptBuf> {
        &self.scripts
    }

    /// Those of the scripts that are not watched yet.
    pub(crate) fn unwatched(&self, scripts: impl IntoIterator<Item = ScriptBuf>) -> Vec<ScriptBuf> {
        let mut new: Vec<ScriptBuf> = scripts.into_iter().filter(|script| !self.scripts.contains(script)).collect();
        new.sort_unstable();
        new.dedup();
        // BIP 158: these are in no filter.
        new.retain(|script| !script.is_empty() && !script.is_op_return());
        new
    }

    /// Watches these scripts; `kept` are the transactions that may pay to one of them already.
    pub(crate) fn add(&mut self, scripts: &[ScriptBuf], kept: &[Transaction]) {
        self.scripts.extend(scripts.iter().cloned());
        kept.iter().for_each(|transaction| self.note_coins(transaction));
    }

    /// The output's spends are asked for, and its transaction is not known.
    pub(crate) fn await_output(&mut self, outpoint: OutPoint) {
        self.awaited.entry(outpoint.txid).or_default().insert(outpoint.vout);
    }

    /// Outputs of this transaction whose spends were asked for: their scripts are to be watched.
    pub(crate) fn awaited_of(&mut self, transaction: &Transaction) -> Vec<ScriptBuf> {
        let Some(outputs) = self.awaited.remove(&transaction.compute_txid()) else { return Vec::new() };
        let output = |vout: &u32| transaction.output.get(usize::try_from(*vout).ok()?);
        outputs.iter().filter_map(output).map(|output| output.script_pubkey.clone()).collect()
    }

    fn note_coins(&mut self, transaction: &Transaction) {
        let txid = transaction.compute_txid();
        let paid = (0u32..).zip(&transaction.output).filter(|(_, output)| self.scripts.contains(&output.script_pubkey));
        self.coins.extend(paid.map(|(vout, _)| OutPoint { txid, vout }));
    }

    fn concerns(&self, transaction: &Transaction) -> bool {
        transaction.output.iter().any(|output| self.scripts.contains(&output.script_pubkey))
            || transaction.input.iter().any(|input| self.coins.contains(&input.previous_output))
    }

    /// The places of the block's transactions that concern us, and scripts that are watched because of them. Parents come
    /// before children in a block, so what a transaction brings counts for those after it.
    pub(crate) fn pick(&mut self, block: &Block) -> (Vec<u32>, Vec<ScriptBuf>) {
        let (mut places, mut scripts) = (Vec::new(), Vec::new());
        for (index, transaction) in (0u32..).zip(&block.txdata) {
            if !self.concerns(transaction) {
                continue;
            }
            let awaited = self.awaited_of(transaction);
            let new = self.unwatched(awaited);
            self.scripts.extend(new.iter().cloned());
            scripts.extend(new);
            self.note_coins(transaction);
            places.push(index);
        }
        (places, scripts)
    }
}
