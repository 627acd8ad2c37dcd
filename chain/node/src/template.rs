//! Blocks to be mined: the transactions that pay most for their room, and a coinbase that takes the fees.
//!
//! A transaction is worth as much as the package that has to come with it: the fee of itself and all its ancestors that
//! are not in the block yet, over their size. The best package goes in, its descendants become cheaper to bring along,
//! and so on until the block is full (white paper, section 6: fees are the incentive).

use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut,
    Txid, Witness, transaction,
};
use leyden_consensus::weight::{MAX_BLOCK_SIGOP_COST, MAX_BLOCK_WEIGHT};

use crate::mempool::{Entry, Mempool, Rate, Totals};

/// Weight kept for the header, the number of transactions and the coinbase.
const RESERVED_WEIGHT: u64 = 8_000;
/// Signature operations kept for the coinbase's outputs.
const RESERVED_SIGOP_COST: u64 = 400;
/// Once the block is nearly full, so many packages that do not fit end the search for one that does.
const MAX_MISSES: usize = 1_000;
const NEARLY_FULL: u64 = 4_000;
/// Blocks signal nothing: BIP 9's bits are all clear.
const BLOCK_VERSION: i32 = 0x2000_0000;
/// BIP 141, commitment structure: what a witness commitment begins with.
const COMMITMENT_TAG: [u8; 4] = [0xaa, 0x21, 0xa9, 0xed];

/// What a block has to fit on.
#[derive(Clone, Copy, Debug)]
pub struct TemplateContext {
    /// The block before.
    pub parent: BlockHash,
    /// The new block's height.
    pub height: u32,
    /// Its time, in seconds since 1970.
    pub time: u32,
    /// The target that the chain asks for.
    pub bits: CompactTarget,
    /// What it may create, without fees.
    pub subsidy: Amount,
    /// Do blocks of this height commit to witnesses?
    pub segwit: bool,
}

/// A block that lacks its nonce.
#[derive(Clone, Debug)]
pub struct Template {
    /// The block with nonce 0.
    pub block: Block,
    /// Its height.
    pub height: u32,
    /// What its transactions pay together.
    pub fees: Amount,
    /// Of each transaction but the coinbase, in their order.
    pub costs: Vec<TransactionCost>,
}

/// What a transaction of a template pays, and what it takes of the block's limits beside its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionCost {
    /// Inputs less outputs.
    pub fee: Amount,
    /// The cost of its signature operations (BIP 141).
    pub sigop_cost: u64,
}

/// Builds the block. `script` receives subsidy and fees; `extra_nonce` makes this miner's coinbase differ from others'.
pub fn build(pool: &Mempool, context: &TemplateContext, script: ScriptBuf, extra_nonce: u64) -> Template {
    let selection = select(pool, MAX_BLOCK_WEIGHT.saturating_sub(RESERVED_WEIGHT));
    let fees = selection.iter().fold(Amount::ZERO, |sum, entry| sum.checked_add(entry.fee).unwrap_or(sum));
    let transactions = selection.iter().map(|entry| entry.transaction.as_ref().clone()).collect();
    let costs =
        selection.iter().map(|entry| TransactionCost { fee: entry.fee, sigop_cost: entry.sigop_cost }).collect();
    Template { costs, ..assemble(transactions, fees, context, script, extra_nonce) }
}

/// A block of these transactions, which pay `fees` together. What each of them costs is not known.
pub fn assemble(
    transactions: Vec<Transaction>,
    fees: Amount,
    context: &TemplateContext,
    script: ScriptBuf,
    extra_nonce: u64,
) -> Template {
    let mut txdata = vec![coinbase(context, fees, script, extra_nonce)];
    txdata.extend(transactions);
    let header = Header {
        version: Version::from_consensus(BLOCK_VERSION),
        prev_blockhash: context.parent,
        merkle_root: TxMerkleNode::all_zeros(),
        time: context.time,
        bits: context.bits,
        nonce: 0,
    };
    let mut block = Block { header, txdata };
    commit_to_witnesses(&mut block, context.segwit);
    update_merkle_root(&mut block);
    Template { block, height: context.height, fees, costs: Vec::new() }
}

impl Template {
    /// Gives the block another coinbase, when all its nonces have been tried.
    pub fn set_extra_nonce(&mut self, extra_nonce: u64) {
        let script = coinbase_script(self.height, extra_nonce);
        if let Some(input) = self.block.txdata.first_mut().and_then(|coinbase| coinbase.input.first_mut()) {
            input.script_sig = script;
        }
        // The coinbase counts as zero in the witness tree, so the commitment stays as it is.
        update_merkle_root(&mut self.block);
    }
}

fn update_merkle_root(block: &mut Block) {
    if let Some(root) = block.compute_merkle_root() {
        block.header.merkle_root = root;
    }
}

fn coinbase_script(height: u32, extra_nonce: u64) -> ScriptBuf {
    // BIP 34 wants the height first.
    Builder::new().push_int(i64::from(height)).push_slice(extra_nonce.to_le_bytes()).into_script()
}

fn coinbase(context: &TemplateContext, fees: Amount, script: ScriptBuf, extra_nonce: u64) -> Transaction {
    let value = context.subsidy.checked_add(fees).unwrap_or(context.subsidy);
    Transaction {
        version: transaction::Version::TWO,
        // Locked to its own height, so that no two coinbases can be alike (BIP 54).
        lock_time: LockTime::from_consensus(context.height.saturating_sub(1)),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: coinbase_script(context.height, extra_nonce),
            sequence: Sequence::ENABLE_LOCKTIME_NO_RBF,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value, script_pubkey: script }],
    }
}

/// BIP 141: an output of the coinbase commits to the witnesses of all other transactions, and to 32 reserved bytes.
fn commit_to_witnesses(block: &mut Block, segwit: bool) {
    const RESERVED: [u8; 32] = [0; 32];
    if !segwit {
        return;
    }
    let Some(root) = block.witness_root() else { return };
    let commitment = Block::compute_witness_commitment(&root, &RESERVED);
    let mut payload = [0u8; 36];
    let (tag, hash) = payload.split_at_mut(4);
    tag.copy_from_slice(&COMMITMENT_TAG);
    hash.copy_from_slice(commitment.as_byte_array());
    let Some(coinbase) = block.txdata.first_mut() else { return };
    let script_pubkey = Builder::new().push_opcode(OP_RETURN).push_slice(payload).into_script();
    coinbase.output.push(TxOut { value: Amount::ZERO, script_pubkey });
    if let Some(input) = coinbase.input.first_mut() {
        input.witness.push(RESERVED);
    }
}

/// Entries that pay most for `max_weight`, parents before children.
fn select(pool: &Mempool, max_weight: u64) -> Vec<&Entry> {
    let mut selection = Selection {
        pool,
        max_weight,
        taken: Vec::new(),
        included: HashSet::new(),
        left: HashMap::new(),
        weight: 0,
        sigop_cost: RESERVED_SIGOP_COST,
    };
    selection.run();
    selection.taken
}

struct Selection<'a> {
    pool: &'a Mempool,
    max_weight: u64,
    taken: Vec<&'a Entry>,
    included: HashSet<Txid>,
    /// Sums over an entry and its ancestors that are not taken yet, where they differ from the pool's.
    left: HashMap<Txid, Totals>,
    weight: u64,
    sigop_cost: u64,
}

impl<'a> Selection<'a> {
    fn run(&mut self) {
        let mut queue: BinaryHeap<Ranked> = self.pool.iter().map(|entry| self.rank(entry)).collect();
        let mut failed: HashSet<Txid> = HashSet::new();
        let mut misses = 0;
        while let Some(ranked) = queue.pop() {
            let Some(entry) = self.pool.get(&ranked.txid) else { continue };
            // A package that has changed since it was ranked is in the queue a second time.
            if self.included.contains(&ranked.txid) || failed.contains(&ranked.txid) || self.rank(entry) != ranked {
                continue;
            }
            let sums = self.sums(entry);
            let weight = self.weight.saturating_add(sums.weight);
            let sigop_cost = self.sigop_cost.saturating_add(sums.sigop_cost);
            if weight > self.max_weight || sigop_cost > MAX_BLOCK_SIGOP_COST {
                failed.insert(ranked.txid);
                misses += 1;
                if misses > MAX_MISSES && self.weight.saturating_add(NEARLY_FULL) > self.max_weight {
                    break;
                }
                continue;
            }
            misses = 0;
            self.weight = weight;
            self.sigop_cost = sigop_cost;
            for descendant in self.take(entry) {
                if let Some(entry) = self.pool.get(&descendant) {
                    queue.push(self.rank(entry));
                }
            }
        }
    }

    /// Takes the entry with all that it needs. Returns the descendants, which have become cheaper.
    fn take(&mut self, entry: &'a Entry) -> BTreeSet<Txid> {
        let pool = self.pool;
        let mut package: Vec<&Entry> = pool
            .with_ancestors(&BTreeSet::from([entry.txid]))
            .iter()
            .filter(|txid| !self.included.contains(*txid))
            .filter_map(|txid| pool.get(txid))
            .collect();
        package.sort_unstable_by_key(|entry| entry.sequence);
        let mut changed = BTreeSet::new();
        for taken in &package {
            self.included.insert(taken.txid);
            for descendant in pool.with_descendants(&BTreeSet::from([taken.txid])) {
                if descendant == taken.txid {
                    continue;
                }
                if let Some(other) = pool.get(&descendant) {
                    self.left.entry(descendant).or_insert(other.ancestors).subtract(&taken.totals());
                    changed.insert(descendant);
                }
            }
        }
        self.taken.extend(package);
        changed.retain(|txid| !self.included.contains(txid));
        changed
    }

    fn sums(&self, entry: &Entry) -> Totals {
        self.left.get(&entry.txid).copied().unwrap_or(entry.ancestors)
    }

    fn rank(&self, entry: &Entry) -> Ranked {
        Ranked { rate: self.sums(entry).rate(), sequence: std::cmp::Reverse(entry.sequence), txid: entry.txid }
    }
}

/// The best rate first, the oldest of equals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ranked {
    rate: Rate,
    sequence: std::cmp::Reverse<u64>,
    txid: Txid,
}
