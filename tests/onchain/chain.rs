//! The real chain in one process: chainstate, mempool and policy of `leyden-node`, blocks with real proof of work, and
//! reorganisations by the code that does them in the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLockReadGuard};

use bitcoin::{Amount, Block, BlockHash, OutPoint, Script, ScriptBuf, Transaction, TxOut, Txid};
use leyden_channels::{onchain::FoundSpend, types::Height};
use leyden_consensus::{Params, subsidy::block_subsidy};
use leyden_mining::{Job, search};
use leyden_node::{
    Backend as _, Clock, MempoolError, MempoolPolicy,
    core::Core,
    mempool::{Entry, Mempool},
    store::{Store, StoreOptions},
    template::{TemplateContext, assemble},
};

/// Well after all blocks of the tests.
const NOW: u64 = 1_800_000_000;

pub struct Chain {
    core: Core,
    params: Params,
    /// What a block's transaction must pay, in satoshi per 1000 weight units.
    pub minimum: u64,
    /// Transactions that no miner takes.
    pub censored: BTreeSet<Txid>,
    /// Outputs for which miners hold a spend that nobody else sees: they take no other one.
    pub hidden_conflicts: BTreeSet<OutPoint>,
    extra_nonce: u64,
    _folder: tempfile::TempDir,
}

impl Chain {
    /// A chain whose first blocks pay to `miner`, `spendable` of them so old that they can be spent.
    pub fn new(miner: &ScriptBuf, spendable: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let params = Params::regtest();
        let options = StoreOptions { sync: false, ..StoreOptions::new(folder.path()) };
        let store = Arc::new(Store::open(options, &params.genesis).expect("the store opens"));
        let core =
            Core::open(Arc::new(params.clone()), MempoolPolicy::default(), Clock::manual(NOW), store, 10_000, None);
        let core = core.expect("the chain opens");
        let mut chain = Self {
            core,
            params,
            minimum: 0,
            censored: BTreeSet::new(),
            hidden_conflicts: BTreeSet::new(),
            extra_nonce: 0,
            _folder: folder,
        };
        for _ in 0..100 + spendable {
            let block = chain.forge(chain.core.tip().hash, Vec::new(), miner);
            chain.add(block);
        }
        chain
    }

    pub fn tip(&self) -> Height {
        Height(self.core.tip().height)
    }

    pub fn mempool(&self) -> RwLockReadGuard<'_, Mempool> {
        self.core.mempool.read().expect("no test has panicked in there")
    }

    /// The mempool's transactions, parents first.
    pub fn waiting(&self) -> Vec<Transaction> {
        self.mempool().iter().map(|entry| entry.transaction.as_ref().clone()).collect()
    }

    pub fn submit(&self, tx: &Transaction) -> Result<(), MempoolError> {
        self.core.submit_transaction(tx.clone()).map(drop)
    }

    pub fn submit_package(&self, transactions: Vec<Transaction>) -> Result<(), MempoolError> {
        self.core.submit_package(transactions).map(drop)
    }

    pub fn knows(&self, txid: Txid) -> bool {
        self.mempool().contains(&txid) || self.position(txid).is_some()
    }

    /// One block with all that pays enough, by itself or by its children.
    pub fn mine(&mut self) -> Block {
        let chosen = {
            let pool = self.mempool();
            let mut taken: BTreeSet<Txid> = BTreeSet::new();
            let worth = |entry: &Entry| {
                let rate = |fee: Amount, weight: u64| fee.to_sat() * 1000 / weight;
                let with_children = rate(entry.descendants.fee, entry.descendants.weight);
                rate(entry.fee, entry.weight).max(with_children) >= self.minimum
            };
            let takes = |entry: &Entry| {
                let mut inputs = entry.transaction.input.iter();
                let held = inputs.any(|input| self.hidden_conflicts.contains(&input.previous_output));
                !held && !self.censored.contains(&entry.txid)
            };
            let mut chosen = Vec::new();
            for entry in pool.iter() {
                let has_parents = entry.parents.iter().all(|parent| taken.contains(parent));
                if has_parents && worth(entry) && takes(entry) {
                    taken.insert(entry.txid);
                    chosen.push((entry.transaction.as_ref().clone(), entry.fee));
                }
            }
            chosen
        };
        self.mine_these(chosen)
    }

    fn mine_these(&mut self, chosen: Vec<(Transaction, Amount)>) -> Block {
        let block = self.forge(self.core.tip().hash, chosen, &unspendable());
        self.add(block.clone());
        block
    }

    /// Replaces the blocks above `fork` by a branch that is one block longer: `blocks` first, then empty ones. What was
    /// in the old blocks returns to the mempool if it can.
    pub fn reorganise(&mut self, fork: Height, blocks: Vec<Vec<Transaction>>) {
        let length = self.tip().0 - fork.0 + 1;
        assert!(blocks.len() <= length as usize, "the branch is longer than a reorganisation needs");
        let mut parent = self.hash_at(fork);
        let mut rest = blocks.into_iter();
        for _ in 0..length {
            // Their fees go to nobody: a miner may do that.
            let chosen = rest.next().unwrap_or_default().into_iter().map(|tx| (tx, Amount::ZERO)).collect();
            let block = self.forge(parent, chosen, &unspendable());
            parent = block.block_hash();
            self.add(block);
        }
        assert_eq!(self.core.tip().hash, parent, "the longer branch is the chain now");
    }

    fn forge(&mut self, parent: BlockHash, chosen: Vec<(Transaction, Amount)>, miner: &ScriptBuf) -> Block {
        let known = self.core.index.read().expect("no panic in there").tree.get(&parent).expect("a known block");
        let height = known.height + 1;
        self.extra_nonce += 1;
        let context = TemplateContext {
            parent,
            height,
            time: known.header.time + 60,
            bits: self.params.genesis.header.bits,
            subsidy: block_subsidy(height, &self.params),
            segwit: true,
        };
        let fees = chosen.iter().map(|(_, fee)| *fee).sum();
        let transactions = chosen.into_iter().map(|(tx, _)| tx).collect();
        let mut block = assemble(transactions, fees, &context, miner.clone(), self.extra_nonce).block;
        let found = search(&Job::new(&block.header), 1, &Default::default(), &Default::default());
        block.header.nonce = found.expect("regtest is easy").nonce;
        block
    }

    fn add(&self, block: Block) {
        self.core.submit_block(block).unwrap_or_else(|error| panic!("{error}"));
    }

    fn hash_at(&self, height: Height) -> BlockHash {
        self.core.index.read().expect("no panic in there").active_at(height.0).expect("a block of the chain")
    }

    pub fn block_at(&self, height: Height) -> Arc<Block> {
        self.core.store.block(&self.hash_at(height)).expect("readable").expect("stored")
    }

    /// All transactions above `from` but the coinbases, in the chain's order.
    pub fn confirmed(&self, from: Height) -> Vec<Transaction> {
        let heights = from.0 + 1..=self.tip().0;
        heights.flat_map(|height| self.block_at(Height(height)).txdata[1..].to_vec()).collect()
    }

    /// Who spends an output, as the daemon finds it: in a block, else in the mempool.
    pub fn spender(&self, outpoint: &OutPoint) -> Option<FoundSpend> {
        if let Some(spend) = self.core.store.spend(outpoint).expect("readable") {
            let block = self.block_at(Height(spend.height));
            let index = block.txdata.iter().position(|tx| tx.compute_txid() == spend.txid).expect("it is there");
            let place = Some((Height(spend.height), u32::try_from(index).expect("few")));
            return Some(FoundSpend { transaction: block.txdata[index].clone(), place });
        }
        let pool = self.mempool();
        let (txid, _) = pool.spender(outpoint)?;
        Some(FoundSpend { transaction: pool.get(&txid)?.transaction.as_ref().clone(), place: None })
    }

    /// A transaction, in a block or in the mempool.
    pub fn transaction(&self, txid: Txid) -> Option<Transaction> {
        match self.position(txid) {
            Some((height, index)) => Some(self.block_at(height).txdata[index as usize].clone()),
            None => self.mempool().get(&txid).map(|entry| entry.transaction.as_ref().clone()),
        }
    }

    /// Where a transaction is in the chain.
    pub fn position(&self, txid: Txid) -> Option<(Height, u32)> {
        let position = self.core.store.position(&txid).expect("readable")?;
        Some((Height(position.height), position.index))
    }

    /// Whether a claim's coin is gone, as the daemon sees it.
    pub fn is_lost(&self, coin: &OutPoint, ours: &[OutPoint]) -> bool {
        let claims = |tx: &Transaction| tx.input.iter().any(|input| ours.contains(&input.previous_output));
        !self.knows(coin.txid) || self.spender(coin).is_some_and(|found| !claims(&found.transaction))
    }

    pub fn is_unspent(&self, outpoint: &OutPoint) -> bool {
        self.core.store.coin(outpoint).expect("readable").is_some()
    }

    /// What these scripts own in the chain.
    pub fn balance(&self, is_ours: impl Fn(&Script) -> bool) -> Amount {
        let mut coins: BTreeMap<OutPoint, Amount> = BTreeMap::new();
        for height in 1..=self.tip().0 {
            for tx in &self.block_at(Height(height)).txdata {
                coins.retain(|outpoint, _| tx.input.iter().all(|input| input.previous_output != *outpoint));
                let txid = tx.compute_txid();
                let paid = (0..).zip(&tx.output).filter(|(_, output)| is_ours(&output.script_pubkey));
                coins.extend(paid.map(|(vout, output)| (OutPoint { txid, vout }, output.value)));
            }
        }
        coins.into_values().sum()
    }

    /// The output itself, wherever its transaction is in the chain.
    pub fn output(&self, outpoint: &OutPoint) -> TxOut {
        let (height, index) = self.position(outpoint.txid).expect("confirmed");
        self.block_at(height).txdata[index as usize].output[outpoint.vout as usize].clone()
    }

    pub fn fee(&self, tx: &Transaction) -> Amount {
        let inputs: Amount = tx.input.iter().map(|input| self.output(&input.previous_output).value).sum();
        inputs - tx.output.iter().map(|output| output.value).sum::<Amount>()
    }
}

/// Whoever mines does not matter here.
fn unspendable() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&ScriptBuf::new().wscript_hash())
}
