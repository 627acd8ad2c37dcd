//! What the tests of this crate share: a forge for blocks on any parent, coins that anybody can spend, and an
//! independent account of the unspent outputs.
#![allow(dead_code, reason = "every test binary uses another part of it")]

pub mod light;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::block::Header;
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::opcodes::OP_TRUE;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, consensus,
    transaction,
};
use leyden_consensus::{BlockContext, Coin, Params, connect_block, subsidy::block_subsidy};
use leyden_mining::{Job, search};
use leyden_node::core::Core;
use leyden_node::store::{STEP_BYTES, Store, StoreOptions, WriteHook};
use leyden_node::template::{TemplateContext, assemble};
use leyden_node::{Clock, MempoolPolicy, NodeError};

/// For how long anything is waited for: many times longer than it takes on a machine that does nothing else.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Well after all blocks of the tests.
pub const NOW: u64 = 1_800_000_000;

pub fn true_script() -> ScriptBuf {
    Builder::new().push_opcode(OP_TRUE).into_script()
}

/// An output that anybody can spend, and that is standard.
pub fn open_script() -> ScriptBuf {
    ScriptBuf::new_p2wsh(&true_script().wscript_hash())
}

pub fn open_output(sat: u64) -> TxOut {
    TxOut { value: Amount::from_sat(sat), script_pubkey: open_script() }
}

/// Spends open outputs.
pub fn spend(outpoints: &[OutPoint], outputs: Vec<TxOut>) -> Transaction {
    let input = |outpoint: &OutPoint| TxIn {
        previous_output: *outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::from_slice(&[true_script().as_bytes()]),
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: outpoints.iter().map(input).collect(),
        output: outputs,
    }
}

pub fn output_of(transaction: &Transaction, vout: u32) -> OutPoint {
    OutPoint { txid: transaction.compute_txid(), vout }
}

pub fn coinbase_of(block: &Block) -> OutPoint {
    output_of(&block.txdata[0], 0)
}

/// A block's place, for building on it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub hash: BlockHash,
    pub height: u32,
    pub time: u32,
}

impl Place {
    pub fn genesis(params: &Params) -> Self {
        Self { hash: params.genesis_hash, height: 0, time: params.genesis.header.time }
    }

    pub fn of(block: &Block, height: u32) -> Self {
        Self { hash: block.block_hash(), height, time: block.header.time }
    }
}

static EXTRA_NONCE: AtomicU64 = AtomicU64::new(1);

/// Mines a block on `parent` whose transactions pay `fees` together.
pub fn forge_paying(params: &Params, parent: Place, transactions: Vec<Transaction>, fees: u64) -> Block {
    let height = parent.height + 1;
    let context = TemplateContext {
        parent: parent.hash,
        height,
        time: parent.time + 60,
        bits: params.genesis.header.bits,
        subsidy: block_subsidy(height, params),
        segwit: true,
    };
    let extra_nonce = EXTRA_NONCE.fetch_add(1, Ordering::Relaxed);
    solve(assemble(transactions, Amount::from_sat(fees), &context, open_script(), extra_nonce).block)
}

pub fn forge(params: &Params, parent: Place, transactions: Vec<Transaction>) -> Block {
    forge_paying(params, parent, transactions, 0)
}

/// Finds the nonce.
pub fn solve(mut block: Block) -> Block {
    let found = search(&Job::new(&block.header), 1, &Default::default(), &Default::default()).expect("regtest is easy");
    block.header.nonce = found.nonce;
    block
}

/// A chain of empty blocks.
pub fn forge_chain(params: &Params, mut parent: Place, length: u32) -> Vec<Block> {
    (0..length)
        .map(|_| {
            let block = forge(params, parent, Vec::new());
            parent = Place::of(&block, parent.height + 1);
            block
        })
        .collect()
}

pub fn open_store(path: &Path, hook: Option<WriteHook>) -> Arc<Store> {
    open_store_with(path, hook, STEP_BYTES)
}

/// With so much memory for the changes of a step.
pub fn open_store_with(path: &Path, hook: Option<WriteHook>, step_bytes: usize) -> Arc<Store> {
    open_store_as(StoreOptions { sync: false, hook, step_bytes, ..StoreOptions::new(path) })
}

pub fn open_store_as(options: StoreOptions) -> Arc<Store> {
    Arc::new(Store::open(options, &Params::regtest().genesis).expect("the store opens"))
}

pub fn open_core_with(path: &Path, policy: MempoolPolicy, hook: Option<WriteHook>) -> Core {
    open_core_of(open_store(path, hook), policy)
}

pub fn open_core_of(store: Arc<Store>, policy: MempoolPolicy) -> Core {
    try_open_core_of(store, policy).expect("the chain opens")
}

pub fn try_open_core_of(store: Arc<Store>, policy: MempoolPolicy) -> Result<Core, NodeError> {
    Core::open(Arc::new(Params::regtest()), policy, Clock::manual(NOW), store, 1_000, None)
}

/// Memory for the changes of a step, with which each takes the way of a small one or of a large one.
pub const BOTH_WAYS: [usize; 2] = [STEP_BYTES, 1];

pub fn open_core(path: &Path) -> Core {
    open_core_with(path, MempoolPolicy::default(), None)
}

/// Unspent outputs by the consensus rules alone, without a database.
#[derive(Clone)]
pub struct Ledger {
    params: Params,
    headers: Vec<Header>,
    coins: HashMap<OutPoint, Coin>,
}

impl Ledger {
    pub fn new(params: &Params) -> Self {
        Self { params: params.clone(), headers: vec![params.genesis.header], coins: HashMap::new() }
    }

    pub fn connect(&mut self, block: &Block) {
        let chain = &self.headers[..];
        let median = |height: u32| leyden_consensus::median_time_past(&chain[..=height as usize]);
        let height = u32::try_from(self.headers.len()).unwrap();
        let context = BlockContext {
            height,
            parent_median_time: median(height - 1).unwrap(),
            parent: chain.last().unwrap().block_hash(),
        };
        let connected = connect_block(block, &context, &self.coins, &median, &self.params).expect("a valid block");
        connected.changes.apply_to(&mut self.coins);
        self.headers.push(block.header);
    }

    pub fn tip(&self) -> BlockHash {
        self.headers.last().unwrap().block_hash()
    }

    /// Bitcoin Core's `hash_serialized_3`, written out once more.
    pub fn hash(&self) -> sha256d::Hash {
        let mut coins: Vec<(&OutPoint, &Coin)> = self.coins.iter().collect();
        coins.sort_by_key(|(outpoint, _)| (outpoint.txid.to_byte_array(), outpoint.vout));
        let mut engine = sha256d::Hash::engine();
        for (outpoint, coin) in coins {
            engine.input(&consensus::serialize(outpoint));
            engine.input(&(coin.height * 2 + u32::from(coin.is_coinbase)).to_le_bytes());
            engine.input(&consensus::serialize(&coin.output));
        }
        sha256d::Hash::from_engine(engine)
    }
}

/// Blocks whose transactions spend what the blocks before have created, in a way of their own for each `flavour`.
pub struct Spender {
    pub params: Params,
    pub blocks: Vec<Block>,
    /// Place of the last block.
    pub place: Place,
    coinbases: Vec<OutPoint>,
    loose: Vec<(OutPoint, u64)>,
    flavour: u64,
}

impl Spender {
    pub fn new(params: &Params) -> Self {
        Self {
            params: params.clone(),
            blocks: Vec::new(),
            place: Place::genesis(params),
            coinbases: Vec::new(),
            loose: Vec::new(),
            flavour: 0,
        }
    }

    /// Another chain that shares everything up to here, with none of its blocks in the list.
    pub fn branch(&self, flavour: u64) -> Self {
        Self {
            params: self.params.clone(),
            blocks: Vec::new(),
            place: self.place,
            coinbases: self.coinbases.clone(),
            loose: self.loose.clone(),
            flavour,
        }
    }

    pub fn extend(&mut self, count: u32) {
        for _ in 0..count {
            self.extend_one();
        }
    }

    fn extend_one(&mut self) {
        let height = self.place.height + 1;
        let mut transactions = Vec::new();
        if let Some(coinbase) = height.checked_sub(101).and_then(|index| self.coinbases.get(index as usize)) {
            let value = block_subsidy(height - 100, &self.params).to_sat();
            let first = value / (self.flavour + 2);
            let split = spend(&[*coinbase], vec![open_output(first), open_output(value - first)]);
            // A coin that lives and dies within the block, and one that lives on.
            let inner = spend(&[output_of(&split, 0)], vec![open_output(first)]);
            self.loose.push((output_of(&split, 1), value - first));
            self.loose.push((output_of(&inner, 0), first));
            transactions.extend([split, inner]);
        }
        if self.loose.len() > 6 {
            let at = (height as usize + self.flavour as usize) % 3;
            let (one, other) = (self.loose.remove(at), self.loose.remove(at));
            let joined = spend(&[one.0, other.0], vec![open_output(one.1 + other.1)]);
            self.loose.push((output_of(&joined, 0), one.1 + other.1));
            transactions.push(joined);
        }
        let block = forge(&self.params, self.place, transactions);
        self.place = Place::of(&block, height);
        self.coinbases.push(coinbase_of(&block));
        self.blocks.push(block);
    }
}

/// The test vectors' folder, or `None` if it is absent and may be (never in CI).
pub fn vectors() -> Option<PathBuf> {
    let path = match std::env::var_os("LEYDEN_VECTORS") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from("../../../shared/vectors"),
    };
    if path.is_dir() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "the test vectors are missing at {}", path.display());
    println!("skipped: no test vectors at {}", path.display());
    None
}

pub fn blocks_from_hex(path: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(path).expect("the vector file can be read");
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| consensus::encode::deserialize_hex(line.trim()).expect("a block in hex")).collect()
}

pub fn txids(transactions: &[Transaction]) -> Vec<Txid> {
    transactions.iter().map(Transaction::compute_txid).collect()
}
