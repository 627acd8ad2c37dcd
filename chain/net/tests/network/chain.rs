//! A chain model without rules worth the name: a header needs its proof of work, a block its merkle root, and a block
//! whose coinbase says so is invalid.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::constants::genesis_block;
use bitcoin::pow::Work;
use bitcoin::{
    Amount, Block, BlockHash, FeeRate, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    Wtxid, transaction,
};
use leyden_net::{
    BlockOutcome, BlockState, ChainView, HeaderEntry, HeadersOutcome, MempoolView, RelayedTx, TransactionOutcome,
    TxName,
};

/// The time of the first mined block.
pub const START: u64 = 1_700_000_000;

#[derive(Clone)]
pub struct Chain {
    entries: HashMap<BlockHash, HeaderEntry>,
    blocks: HashMap<BlockHash, Block>,
    active: Vec<BlockHash>,
    /// Does this node think that marked blocks are valid?
    lawless: bool,
}

impl Chain {
    pub fn new(lawless: bool) -> Self {
        let genesis = genesis_block(Network::Regtest);
        let hash = genesis.block_hash();
        let work = genesis.header.work();
        let entry = HeaderEntry { hash, header: genesis.header, height: 0, work, state: BlockState::Active };
        Self {
            entries: HashMap::from([(hash, entry)]),
            blocks: HashMap::from([(hash, genesis)]),
            active: vec![hash],
            lawless,
        }
    }

    pub fn tip(&self) -> HeaderEntry {
        self.entries[self.active.last().unwrap()]
    }

    pub fn block(&self, hash: &BlockHash) -> Option<&Block> {
        self.blocks.get(hash)
    }

    pub fn height(&self) -> u32 {
        self.tip().height
    }

    /// All headers, those of side branches too.
    #[allow(dead_code, reason = "the driver's tests use another part of this model")]
    pub fn header_count(&self) -> usize {
        self.entries.len()
    }

    /// Builds and connects a block on the active tip. `salt` keeps equal blocks apart.
    pub fn mine(&mut self, time: u64, salt: u64, invalid: bool) -> BlockHash {
        self.mine_block(make_block(&self.tip(), time, salt, invalid))
    }

    /// Connects a block of our own.
    pub fn mine_block(&mut self, block: Block) -> BlockHash {
        let hash = block.block_hash();
        assert!(matches!(self.accept_headers(&[block.header]), HeadersOutcome::Accepted { .. }));
        assert_eq!(self.process_block(block), BlockOutcome::Accepted);
        hash
    }

    pub fn accept_headers(&mut self, headers: &[Header]) -> HeadersOutcome {
        let mut last = None;
        for header in headers {
            let hash = header.block_hash();
            last = Some(hash);
            if self.entries.contains_key(&hash) {
                continue;
            }
            let Some(parent) = self.entries.get(&header.prev_blockhash).copied() else {
                return HeadersOutcome::Undecided;
            };
            if parent.state == BlockState::Invalid || header.bits.to_consensus() != 0x207f_ffff {
                return HeadersOutcome::Invalid;
            }
            let work = parent.work + header.work();
            let state = BlockState::HeaderOnly;
            self.entries.insert(hash, HeaderEntry { hash, header: *header, height: parent.height + 1, work, state });
        }
        last.map_or(HeadersOutcome::Undecided, |last| HeadersOutcome::Accepted { last })
    }

    pub fn process_block(&mut self, block: Block) -> BlockOutcome {
        let hash = block.block_hash();
        if !block.check_merkle_root() {
            return BlockOutcome::Mutated;
        }
        // Wrong by itself: nothing is remembered.
        if block.txdata.is_empty() || block.txdata.iter().skip(1).any(Transaction::is_coinbase) {
            return BlockOutcome::Invalid;
        }
        self.accept_headers(&[block.header]);
        let Some(entry) = self.entries.get_mut(&hash) else { return BlockOutcome::Undecided };
        if is_marked_invalid(&block) && !self.lawless {
            self.invalidate(hash);
            return BlockOutcome::Invalid;
        }
        match entry.state {
            BlockState::Invalid => return BlockOutcome::Invalid,
            BlockState::HeaderOnly => entry.state = BlockState::Stored,
            BlockState::Stored | BlockState::Active => return BlockOutcome::Accepted,
        }
        self.blocks.insert(hash, block);
        self.activate();
        BlockOutcome::Accepted
    }

    fn invalidate(&mut self, hash: BlockHash) {
        let mut bad = vec![hash];
        while let Some(hash) = bad.pop() {
            self.entries.get_mut(&hash).unwrap().state = BlockState::Invalid;
            bad.extend(
                self.entries.values().filter(|entry| entry.header.prev_blockhash == hash).map(|entry| entry.hash),
            );
        }
    }

    /// Makes the stored chain with most work the active one.
    fn activate(&mut self) {
        let mut candidates: Vec<HeaderEntry> =
            self.entries.values().filter(|entry| entry.work > self.tip().work).copied().collect();
        candidates.sort_by_key(|entry| std::cmp::Reverse(entry.work));
        for candidate in candidates {
            let mut branch = Vec::new();
            let mut entry = candidate;
            while entry.state == BlockState::Stored {
                branch.push(entry.hash);
                entry = self.entries[&entry.header.prev_blockhash];
            }
            if entry.state != BlockState::Active {
                continue;
            }
            for hash in self.active.drain(entry.height as usize + 1..) {
                self.entries.get_mut(&hash).unwrap().state = BlockState::Stored;
            }
            for hash in branch.into_iter().rev() {
                self.entries.get_mut(&hash).unwrap().state = BlockState::Active;
                self.active.push(hash);
            }
            return;
        }
    }
}

impl ChainView for Chain {
    fn entry(&self, hash: &BlockHash) -> Option<HeaderEntry> {
        self.entries.get(hash).copied()
    }

    fn active_tip(&self) -> HeaderEntry {
        self.tip()
    }

    fn most_work_header(&self) -> HeaderEntry {
        let valid = self.entries.values().filter(|entry| entry.state != BlockState::Invalid);
        *valid.max_by_key(|entry| (entry.work, entry.hash)).unwrap()
    }

    fn ancestor(&self, of: &BlockHash, height: u32) -> Option<BlockHash> {
        let mut entry = self.entries.get(of)?;
        while entry.height > height {
            if entry.state == BlockState::Active {
                return self.active.get(height as usize).copied();
            }
            entry = self.entries.get(&entry.header.prev_blockhash)?;
        }
        (entry.height == height).then_some(entry.hash)
    }

    fn active_at(&self, height: u32) -> Option<BlockHash> {
        self.active.get(height as usize).copied()
    }

    fn serves_filters(&self) -> bool {
        true
    }
}

const INVALID_MARK: u32 = 666;

fn is_marked_invalid(block: &Block) -> bool {
    block.txdata[0].lock_time == LockTime::from_consensus(INVALID_MARK)
}

pub fn make_block(parent: &HeaderEntry, time: u64, salt: u64, invalid: bool) -> Block {
    let coinbase = Transaction {
        version: transaction::Version::ONE,
        lock_time: LockTime::from_consensus(if invalid { INVALID_MARK } else { 0 }),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(salt.to_le_bytes().to_vec()),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Amount::from_sat(50), script_pubkey: ScriptBuf::new() }],
    };
    let header = Header {
        version: Version::TWO,
        prev_blockhash: parent.hash,
        merkle_root: bitcoin::hashes::Hash::all_zeros(),
        time: time as u32,
        bits: bitcoin::CompactTarget::from_consensus(0x207f_ffff),
        nonce: 0,
    };
    solve(Block { header, txdata: vec![coinbase] })
}

/// The same block with more transactions.
#[allow(dead_code, reason = "the driver's tests have no use for it")]
pub fn with_transactions(mut block: Block, transactions: &[Arc<Transaction>]) -> Block {
    block.txdata.extend(transactions.iter().map(|transaction| transaction.as_ref().clone()));
    solve(block)
}

fn solve(mut block: Block) -> Block {
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    while !block.header.target().is_met_by(block.header.block_hash()) {
        block.header.nonce += 1;
    }
    block
}

/// A mempool that takes what has its parents. Output 0 of the all-`n` transactions exists from the start.
#[derive(Clone, Default)]
pub struct Mempool {
    transactions: BTreeMap<Txid, (Arc<Transaction>, FeeRate)>,
    order: Vec<Txid>,
}

/// A transaction whose output has this value is refused, and so is a package that holds it.
pub const REFUSED: u64 = 2;

/// A transaction whose output has this value breaks the rules.
pub const INVALID: u64 = 3;

/// And one whose output has this value does too, which nobody sees before a child pays for it.
pub const INVALID_PARENT: u64 = 4;

/// The least fee, which an output's value of 1 says is not paid.
pub const MINIMUM: u64 = 250;

impl Mempool {
    /// Confirmed outputs that transactions may spend are named by txids of equal bytes.
    fn is_confirmed(txid: &Txid) -> bool {
        let bytes: &[u8; 32] = txid.as_ref();
        bytes.iter().all(|byte| *byte == bytes[0])
    }

    pub fn submit(&mut self, transaction: &Arc<Transaction>, with_package: bool) -> TransactionOutcome {
        let txid = transaction.compute_txid();
        if self.transactions.contains_key(&txid) {
            return TransactionOutcome::Accepted;
        }
        let unknown = |txid: &Txid| !Self::is_confirmed(txid) && !self.transactions.contains_key(txid);
        let parents: Vec<Txid> =
            transaction.input.iter().map(|input| input.previous_output.txid).filter(unknown).collect();
        if !parents.is_empty() {
            return TransactionOutcome::MissingInputs { parents };
        }
        match transaction.output[0].value.to_sat() {
            1 | INVALID_PARENT if !with_package => return TransactionOutcome::FeeTooLow,
            INVALID_PARENT => return TransactionOutcome::Invalid,
            REFUSED => return TransactionOutcome::Rejected,
            INVALID => return TransactionOutcome::Invalid,
            _ => {}
        }
        self.transactions.insert(txid, (Arc::clone(transaction), FeeRate::from_sat_per_kwu(MINIMUM)));
        self.order.push(txid);
        TransactionOutcome::Accepted
    }

    pub fn contains(&self, txid: &Txid) -> bool {
        self.transactions.contains_key(txid)
    }

    /// A transaction leaves without being confirmed.
    pub fn remove(&mut self, txid: &Txid) {
        self.transactions.remove(txid);
        self.order.retain(|other| other != txid);
    }

    fn by_wtxid(&self, wtxid: &Wtxid) -> Option<&Arc<Transaction>> {
        self.transactions.values().map(|(transaction, _)| transaction).find(|tx| tx.compute_wtxid() == *wtxid)
    }
}

impl MempoolView for Mempool {
    fn knows(&self, name: &TxName) -> bool {
        self.transaction(name).is_some()
    }

    fn transaction(&self, name: &TxName) -> Option<Arc<Transaction>> {
        match name {
            TxName::Txid(txid) => self.transactions.get(txid).map(|(transaction, _)| Arc::clone(transaction)),
            TxName::Wtxid(wtxid) => self.by_wtxid(wtxid).cloned(),
        }
    }

    fn visit(&self, visit: &mut dyn FnMut(&Wtxid, &Arc<Transaction>)) {
        self.transactions.values().for_each(|(transaction, _)| visit(&transaction.compute_wtxid(), transaction));
    }

    fn relayable(&self, limit: usize) -> Vec<RelayedTx> {
        self.order.iter().take(limit).map(|txid| relayed(&self.transactions[txid].0)).collect()
    }

    fn minimum_fee_rate(&self) -> FeeRate {
        FeeRate::from_sat_per_kwu(MINIMUM)
    }
}

pub fn relayed(transaction: &Transaction) -> RelayedTx {
    RelayedTx {
        txid: transaction.compute_txid(),
        wtxid: transaction.compute_wtxid(),
        fee_rate: FeeRate::from_sat_per_kwu(MINIMUM),
    }
}

/// A transaction that spends `parent`; one of `value` 1 pays too little by itself.
pub fn spend(parent: Txid, value: u64) -> Arc<Transaction> {
    Arc::new(Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output: OutPoint::new(parent, 0), ..TxIn::default() }],
        output: vec![TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::new() }],
    })
}

#[allow(dead_code)]
pub fn zero_work() -> Work {
    Work::from_be_bytes([0; 32])
}
