//! What the rule tests share: vectors, a miner for easy targets, and a chain in memory that checks itself.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, transaction,
};
use leyden_consensus::block::{WITNESS_COMMITMENT_PREFIX, witness_commitment};
use leyden_consensus::merkle::{merkle_root, witness_merkle_root};
use leyden_consensus::subsidy::block_subsidy;
use leyden_consensus::{
    BlockContext, BlockError, BlockUndo, Coin, CoinStats, ConnectError, HeaderTree, Params, check_block,
    check_block_in_context, connect_block, disconnect_block,
};

/// The folder with the test vectors, if it is there; continuous integration must have it.
pub fn vectors() -> Option<PathBuf> {
    let folder = std::env::var_os("LEYDEN_VECTORS").unwrap_or_else(|| "../../../shared/vectors".into());
    let folder = PathBuf::from(folder);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("CI").is_none(), "no test vectors at {}: set LEYDEN_VECTORS", folder.display());
    println!("skipped: no test vectors at {} (set LEYDEN_VECTORS)", folder.display());
    None
}

/// One file of the vectors, unpacked if its name ends in `.zst`.
pub fn vector_file(name: &str) -> Option<Vec<u8>> {
    let bytes = std::fs::read(vectors()?.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    Some(if name.ends_with(".zst") { zstd::decode_all(&bytes[..]).expect("whole zstd file") } else { bytes })
}

pub fn vector_json(name: &str) -> Option<serde_json::Value> {
    Some(serde_json::from_slice(&vector_file(name)?).expect("valid JSON"))
}

/// The lines of a text file of the vectors.
pub fn vector_lines(name: &str) -> Option<Vec<String>> {
    let text = String::from_utf8(vector_file(name)?).expect("text");
    Some(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

pub fn block_from_hex(hex: &str) -> Block {
    deserialize(&hex::decode(hex).expect("hex")).expect("a block")
}

pub fn header_from_hex(hex: &str) -> Header {
    deserialize(&hex::decode(hex).expect("hex")).expect("a header")
}

/// Blocks in the framing of block files: magic, length, block.
pub fn framed_blocks(mut bytes: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    while let Some((frame, rest)) = bytes.split_at_checked(8) {
        let length = u32::from_le_bytes(frame[4..].try_into().unwrap()) as usize;
        blocks.push(deserialize(&rest[..length]).expect("a block"));
        bytes = &rest[length..];
    }
    blocks
}

/// A time when every block of the vectors is in the past.
pub const LATE: u64 = 4_000_000_000;

/// Anyone can spend this.
pub fn anyone() -> ScriptBuf {
    Builder::new().push_int(1).into_script()
}

pub fn spend(outpoints: &[OutPoint], outputs: &[u64]) -> Transaction {
    let input = |outpoint: &OutPoint| TxIn {
        previous_output: *outpoint,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let output = |value: &u64| TxOut { value: Amount::from_sat(*value), script_pubkey: anyone() };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: outpoints.iter().map(input).collect(),
        output: outputs.iter().map(output).collect(),
    }
}

pub fn outpoint(tx: &Transaction, vout: u32) -> OutPoint {
    OutPoint { txid: tx.compute_txid(), vout }
}

/// The header's nonce, counted up until it meets its target.
pub fn search(header: &mut Header) {
    while !header.target().is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
}

/// Gives a block the merkle root and the proof of work for what it holds.
pub fn seal(block: &mut Block) {
    let txids: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
    block.header.merkle_root = merkle_root(&txids).root;
    search(&mut block.header);
}

/// Adds a witness commitment to the coinbase.
pub fn commit_to_witnesses(block: &mut Block) {
    let reserved = [0u8; 32];
    block.txdata[0].input[0].witness = Witness::from_slice(&[reserved]);
    let commitment = Block::compute_witness_commitment(&witness_merkle_root(block), &reserved);
    let script = [&WITNESS_COMMITMENT_PREFIX[..], commitment.as_byte_array()].concat();
    block.txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) });
    assert!(witness_commitment(block).is_some());
}

/// Why the chain in memory refused a block.
pub type Refusal = ConnectError<std::convert::Infallible>;

/// The block's own fault.
pub fn fault(refusal: Refusal) -> BlockError {
    match refusal {
        ConnectError::Block(error) => error,
        other => panic!("no fault of the block: {other}"),
    }
}

/// A chain in memory: headers, coins, and what is needed to go back. Every step checks that going back works.
#[derive(Clone)]
pub struct TestChain {
    pub params: Arc<Params>,
    pub tree: HeaderTree,
    pub coins: HashMap<OutPoint, Coin>,
    pub stats: CoinStats,
    /// The connected blocks above the genesis block with their undo data as it would be stored.
    pub connected: Vec<(Block, Vec<u8>)>,
    pub fees: Amount,
    pub now: u64,
}

impl TestChain {
    pub fn new(params: Params) -> Self {
        let params = Arc::new(params);
        Self {
            tree: HeaderTree::new(params.clone()),
            params,
            coins: HashMap::new(),
            stats: CoinStats::default(),
            connected: Vec::new(),
            fees: Amount::ZERO,
            now: LATE,
        }
    }

    pub fn tip(&self) -> BlockHash {
        self.connected.last().map_or(self.params.genesis_hash, |(block, _)| block.block_hash())
    }

    pub fn height(&self) -> u32 {
        self.connected.len() as u32
    }

    pub fn context(&self) -> BlockContext {
        let parent = self.tree.get(&self.tip()).unwrap();
        BlockContext { height: parent.height + 1, parent_median_time: parent.median_time_past, parent: parent.hash }
    }

    /// A block on the tip, mined; the coinbase takes subsidy and fees. Change it and `seal` it again as you like.
    pub fn next_block(&self, transactions: Vec<Transaction>, fees: u64) -> Block {
        let context = self.context();
        let parent = self.tree.get(&context.parent).unwrap();
        let time = (parent.header.time + 600).max(context.parent_median_time + 1);
        let coinbase = self.coinbase(context.height, fees);
        let mut block = Block {
            header: Header {
                version: Version::from_consensus(0x2000_0000),
                prev_blockhash: context.parent,
                merkle_root: bitcoin::TxMerkleNode::all_zeros(),
                time,
                bits: self.tree.next_bits(&context.parent, time).unwrap(),
                nonce: 0,
            },
            txdata: std::iter::once(coinbase).chain(transactions).collect(),
        };
        seal(&mut block);
        block
    }

    fn coinbase(&self, height: u32, fees: u64) -> Transaction {
        let mut tx = spend(&[OutPoint::null()], &[block_subsidy(height, &self.params).to_sat() + fees]);
        tx.input[0].script_sig = Builder::new().push_int(i64::from(height)).push_int(0).into_script();
        tx
    }

    /// Checks a block by all rules, scripts included, and puts it on the tip. On an error nothing changes but that the
    /// header may have become known.
    pub fn connect(&mut self, block: &Block) -> Result<(), Refusal> {
        check_block(block, &self.params)?;
        self.tree.accept(block.header, self.now).map_err(BlockError::Header)?;
        let context = self.tree.context_for(&block.header).unwrap();
        assert_eq!(context.parent, self.tip(), "only blocks on the tip");
        check_block_in_context(block, &context, &self.params)?;
        let branch = self.tree.branch(&context.parent).unwrap();
        let connected = connect_block(block, &context, &self.coins, &branch, &self.params)?;
        for check in &connected.checks {
            check.run().map_err(BlockError::Script)?;
        }
        connected.changes.apply_to(&mut self.coins);
        self.stats.apply(&connected.changes).unwrap();
        self.fees += connected.fees;

        let stored = connected.undo.to_bytes();
        let undo = BlockUndo::from_bytes(&stored).unwrap();
        let back = disconnect_block(block, context.height, undo, &self.coins).unwrap();
        assert_eq!(back.len(), connected.changes.len());
        let there: HashMap<OutPoint, _> =
            connected.changes.iter().map(|(outpoint, change)| (*outpoint, (change.before(), change.after()))).collect();
        let reverse: HashMap<OutPoint, _> =
            back.iter().map(|(outpoint, change)| (*outpoint, (change.after(), change.before()))).collect();
        assert_eq!(there, reverse);

        self.tree.mark_stored(&block.block_hash());
        self.connected.push((block.clone(), stored));
        Ok(())
    }

    /// Takes the tip off.
    pub fn disconnect(&mut self) -> Block {
        let height = self.height();
        let (block, stored) = self.connected.pop().expect("a block above the genesis block");
        let undo = BlockUndo::from_bytes(&stored).unwrap();
        let changes = disconnect_block(&block, height, undo, &self.coins).unwrap();
        changes.apply_to(&mut self.coins);
        self.stats.apply(&changes).unwrap();
        block
    }

    /// Mines and connects empty blocks.
    pub fn mine(&mut self, count: u32) -> Vec<Block> {
        (0..count)
            .map(|_| {
                let block = self.next_block(Vec::new(), 0);
                self.connect(&block).unwrap();
                block
            })
            .collect()
    }

    /// Mines a block with these transactions.
    pub fn mine_with(&mut self, transactions: Vec<Transaction>, fees: u64) -> Result<Block, BlockError> {
        let block = self.next_block(transactions, fees);
        self.connect(&block).map_err(fault)?;
        Ok(block)
    }

    /// The whole set of coins in the order of outpoints, in bytes.
    pub fn coins_in_bytes(&self) -> Vec<u8> {
        let mut coins: Vec<_> = self.coins.iter().collect();
        coins.sort_unstable_by_key(|(outpoint, _)| **outpoint);
        let bytes = coins.into_iter().flat_map(|(outpoint, coin)| {
            [outpoint.txid.as_byte_array(), &outpoint.vout.to_le_bytes()[..], &coin.to_bytes()].concat()
        });
        bytes.collect()
    }
}
