//! A block on its way: what it holds, what may be wrong with it, and how it is put together.

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Target, Transaction, TxIn, TxMerkleNode,
    TxOut, Witness,
};
use leyden_consensus::script::opcodes::{OP_1, OP_CHECKMULTISIG, OP_CHECKSIG, OP_RETURN, push_number};

use crate::draw::Draw;
use crate::scripts::push_of;

/// The highest target of regtest.
pub const BITS: u32 = 0x207f_ffff;
const MAX_MONEY: u64 = 21_000_000 * 100_000_000;
/// Bitcoin Core's limits for a block.
const MAX_WEIGHT: usize = 4_000_000;
const MAX_SIGOP_COST: usize = 80_000;

/// What a block will hold.
pub struct Draft {
    pub parent: BlockHash,
    pub height: u32,
    /// The median time of the eleven blocks before.
    pub median_time: u32,
    pub time: u32,
    pub transactions: Vec<Transaction>,
    /// What the transactions pay.
    pub fees: u64,
    /// What they cost in signature operations.
    pub sigop_cost: usize,
    /// Makes blocks of the same content different.
    pub nonce: u64,
    /// What goes into the coinbase's first output.
    pub script_pubkey: ScriptBuf,
}

/// The rule that a block breaks, or nearly breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    CoinbaseValue,
    CoinbaseHeight,
    CoinbaseScriptLength,
    CoinbaseOutput,
    NoCoinbase,
    NoTransactions,
    SecondCoinbase,
    NullInput,
    MerkleRoot,
    Commitment,
    ReservedValue,
    UnexpectedWitness,
    HeaderVersion,
    HeaderTime,
    HeaderBits,
    HeaderWork,
    Sigops,
    Weight,
    StrippedSize,
    Order,
    Twice,
    DuplicateInput,
    MissingInput,
    OutputValue,
    OutputSum,
    LockTime,
    Unspendable,
    SixtyFourBytes,
}

impl Fault {
    pub fn draw(draw: &mut Draw) -> Self {
        use Fault::*;
        if draw.percent(6) {
            return draw.pick(&[Weight, StrippedSize]);
        }
        draw.pick(&[
            CoinbaseValue,
            CoinbaseValue,
            CoinbaseHeight,
            CoinbaseScriptLength,
            CoinbaseOutput,
            NoCoinbase,
            NoTransactions,
            SecondCoinbase,
            NullInput,
            MerkleRoot,
            Commitment,
            Commitment,
            ReservedValue,
            UnexpectedWitness,
            HeaderVersion,
            HeaderTime,
            HeaderTime,
            HeaderBits,
            HeaderWork,
            Sigops,
            Sigops,
            Sigops,
            Order,
            Twice,
            DuplicateInput,
            MissingInput,
            OutputValue,
            OutputSum,
            LockTime,
            LockTime,
            Unspendable,
            SixtyFourBytes,
        ])
    }
}

impl Draft {
    /// The block, with its proof of work.
    pub fn finish(mut self, draw: &mut Draw, fault: Option<Fault>) -> Block {
        if let Some(fault) = fault {
            self.spoil_transactions(draw, fault);
        }
        let coinbase = self.coinbase(draw, fault);
        let mut txdata = vec![coinbase];
        txdata.append(&mut self.transactions);
        match fault {
            Some(Fault::NoCoinbase) => drop(txdata.remove(0)),
            Some(Fault::NoTransactions) => txdata.clear(),
            Some(Fault::SecondCoinbase) => {
                let mut second = txdata[0].clone();
                second.output.truncate(1);
                second.input[0].witness.clear();
                second.output[0].value = Amount::ZERO;
                txdata.push(second);
            }
            _ => {}
        }
        if fault == Some(Fault::Weight) {
            self.fill_weight(draw, &mut txdata);
        }
        if fault != Some(Fault::NoTransactions) && fault != Some(Fault::NoCoinbase) {
            commit(draw, &mut txdata, fault);
        }
        let mut merkle_root = merkle_root(txdata.iter().map(|tx| tx.compute_txid().to_byte_array()).collect());
        if fault == Some(Fault::MerkleRoot) {
            merkle_root[draw.below(32)] ^= 1;
        }
        self.mine(draw, fault, merkle_root, txdata)
    }

    fn mine(&self, draw: &mut Draw, fault: Option<Fault>, merkle_root: [u8; 32], txdata: Vec<Transaction>) -> Block {
        let mut header = Header {
            version: BlockVersion::from_consensus(0x2000_0000),
            prev_blockhash: self.parent,
            merkle_root: TxMerkleNode::from_byte_array(merkle_root),
            time: self.time,
            bits: CompactTarget::from_consensus(BITS),
            nonce: 0,
        };
        match fault {
            Some(Fault::HeaderVersion) => {
                header.version = BlockVersion::from_consensus(draw.pick(&[0, 1, 2, 3, 4, 5, -1, i32::MIN, i32::MAX]));
            }
            Some(Fault::HeaderTime) => {
                let now =
                    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
                // The two judges look at the clock one after the other: not within seconds of the limit.
                header.time = draw.pick(&[
                    self.median_time - 1,
                    self.median_time,
                    self.median_time + 1,
                    now as u32 + 7_200 - 900,
                    now as u32 + 7_200 + 900,
                ]);
            }
            Some(Fault::HeaderBits) => {
                header.bits = CompactTarget::from_consensus(draw.pick(&[
                    BITS - 1,
                    BITS + 1,
                    0x2000_ffff,
                    0x1f7f_ffff,
                    0,
                    0x20ff_ffff,
                ]));
            }
            _ => {}
        }
        let target = Target::from_compact(CompactTarget::from_consensus(BITS));
        let met = fault != Some(Fault::HeaderWork);
        while target.is_met_by(header.block_hash()) != met {
            header.nonce += 1;
        }
        Block { header, txdata }
    }

    fn coinbase(&mut self, draw: &mut Draw, fault: Option<Fault>) -> Transaction {
        let mut script_sig = push_number(i64::from(self.height));
        script_sig.extend(push_of(&self.nonce.to_le_bytes()));
        let mut value = subsidy(self.height) + self.fees;
        match fault {
            Some(Fault::CoinbaseValue) => value = value.saturating_add_signed(draw.pick(&[-1, 0, 1, 1])),
            Some(Fault::CoinbaseHeight) => {
                let height = i64::from(self.height);
                let bytes = (height as u32).to_le_bytes();
                script_sig = match draw.below(6) {
                    0 => push_number(height - 1),
                    1 => push_number(height + 1),
                    // The number in four bytes, or pushed the long way: not the form that BIP 34 wants.
                    2 => push_of(&bytes),
                    3 => [&[0x4c], &push_number(height)[..]].concat(),
                    4 => [&push_number(height)[..], &[OP_1]].concat(),
                    _ => [&[OP_1], &push_number(height)[..]].concat(),
                };
                script_sig.extend(push_of(&self.nonce.to_le_bytes()));
            }
            Some(Fault::CoinbaseScriptLength) => {
                let length = draw.pick(&[0, 1, 2, 3, 99, 100, 101]);
                script_sig.resize(length, OP_1);
            }
            _ => {}
        }
        let mut output = vec![TxOut { value: Amount::from_sat(value), script_pubkey: self.script_pubkey.clone() }];
        match fault {
            Some(Fault::CoinbaseOutput) => {
                output.push(TxOut { value: Amount::from_sat(odd_value(draw)), script_pubkey: ScriptBuf::new() });
            }
            Some(Fault::Sigops) => {
                let script_pubkey = filler_sigops(draw, self.sigop_cost);
                output.extend(
                    script_pubkey.into_iter().map(|script| TxOut { value: Amount::ZERO, script_pubkey: script.into() }),
                );
            }
            Some(Fault::StrippedSize) => {
                let size =
                    draw.near(1_000_000 - 300 - self.transactions.iter().map(Transaction::base_size).sum::<usize>());
                output.push(TxOut { value: Amount::ZERO, script_pubkey: vec![OP_RETURN; size].into() });
            }
            _ => {}
        }
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: script_sig.into(),
                sequence: Sequence::MAX,
                witness: Witness::new(),
            }],
            output,
        }
    }

    fn spoil_transactions(&mut self, draw: &mut Draw, fault: Fault) {
        let Some(last) = self.transactions.len().checked_sub(1) else { return };
        let at = draw.below(last + 1);
        match fault {
            Fault::Order => self.transactions.reverse(),
            Fault::Twice => {
                let mut again = self.transactions[at].clone();
                if draw.percent(70) {
                    again.output[0].value = Amount::ZERO;
                }
                self.transactions.push(again);
            }
            Fault::DuplicateInput => {
                let input = self.transactions[at].input[0].clone();
                self.transactions[at].input.push(input);
            }
            Fault::MissingInput => {
                let outpoint = &mut self.transactions[at].input[0].previous_output;
                match draw.below(3) {
                    0 => outpoint.vout += 1,
                    1 => outpoint.vout = u32::MAX,
                    _ => outpoint.txid = bitcoin::Txid::from_byte_array([7; 32]),
                }
            }
            Fault::NullInput => {
                let null = TxIn { previous_output: OutPoint::null(), ..self.transactions[at].input[0].clone() };
                self.transactions[at].input.push(null);
            }
            Fault::OutputValue => {
                let output = self.transactions[at].output.len() - 1;
                self.transactions[at].output[output].value = Amount::from_sat(odd_value(draw));
            }
            Fault::OutputSum => {
                // One more than the inputs hold, or as much.
                let values = self.transactions[at].output.clone();
                let more = self.fees + draw.pick(&[0, 1]);
                self.transactions[at].output[0].value = values[0].value + Amount::from_sat(more);
                self.fees = 0;
            }
            Fault::LockTime => {
                let tx = &mut self.transactions[at];
                tx.version = Version(draw.pick(&[1, 2, 2, 2, -1, i32::MIN]));
                let height = self.height;
                match draw.below(3) {
                    0 => {
                        tx.input[0].sequence = Sequence(draw.pick(&[0, u32::MAX, 0xffff_fffe]));
                        tx.lock_time = LockTime::from_consensus(draw.pick(&[height - 1, height, height + 1]));
                    }
                    1 => {
                        tx.input[0].sequence = Sequence(0xffff_fffe);
                        let time = self.median_time;
                        tx.lock_time = LockTime::from_consensus(draw.pick(&[time - 1, time, time + 1]));
                    }
                    // Blocks or units of 512 seconds since the coin: those of the base are one a block and 600 seconds apart.
                    _ => {
                        let unit = draw.pick(&[0, 1 << 22, 1 << 31, (1 << 31) | (1 << 22)]);
                        let most = height as usize + 2;
                        tx.input[0].sequence = Sequence(draw.below(most) as u32 | unit);
                    }
                }
            }
            Fault::UnexpectedWitness => self.transactions[at].input[0].witness.push([1]),
            Fault::Unspendable => {
                // An output that nobody can spend is no coin; spending it in the same block is not better.
                let tx = &mut self.transactions[at];
                let value = tx.output.pop().map_or(Amount::ZERO, |output| output.value);
                let length = draw.pick(&[9_999, 10_000, 10_001]);
                let script = draw.pick(&[&[OP_RETURN][..], &[]]);
                let script = if script.is_empty() { vec![0x61; length] } else { script.to_vec() };
                tx.output.push(TxOut { value, script_pubkey: script.into() });
                let previous_output = OutPoint { txid: tx.compute_txid(), vout: tx.output.len() as u32 - 1 };
                let input = TxIn {
                    previous_output,
                    script_sig: vec![OP_1].into(),
                    sequence: Sequence::MAX,
                    witness: Witness::new(),
                };
                let output = TxOut { value, script_pubkey: ScriptBuf::new() };
                let lock_time = LockTime::ZERO;
                self.transactions.push(Transaction {
                    version: Version::TWO,
                    lock_time,
                    input: vec![input],
                    output: vec![output],
                });
            }
            Fault::SixtyFourBytes => {
                // One input without a script takes 51 bytes with version, counts and lock time, the output nine more.
                let tx = &mut self.transactions[at];
                tx.input.truncate(1);
                tx.output.truncate(1);
                tx.input[0].script_sig = ScriptBuf::new();
                tx.output[0].script_pubkey = vec![OP_1; draw.within(3, 5)].into();
                self.fees = 0;
            }
            _ => {}
        }
    }

    /// Up to the weight of a block, or one beyond: the coinbase roughly, the last bytes by an item that is dropped.
    fn fill_weight(&mut self, draw: &mut Draw, txdata: &mut [Transaction]) {
        let is_filler =
            |input: &&mut TxIn| input.witness.len() == 2 && input.witness.nth(0).is_some_and(<[u8]>::is_empty);
        let goal = draw.near(MAX_WEIGHT);
        let weigh = |txdata: &[Transaction]| {
            // Header, count, and the commitment that is still to come.
            let count = if txdata.len() < 253 { 1 } else { 3 };
            4 * (80 + count + 47) + 36 + txdata.iter().map(|tx| tx.weight().to_wu() as usize).sum::<usize>()
        };
        let room = goal.saturating_sub(weigh(txdata) + 200);
        txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey: vec![OP_RETURN; room / 4].into() });
        let missing = goal.saturating_sub(weigh(txdata));
        if let Some(input) = txdata.iter_mut().skip(1).flat_map(|tx| &mut tx.input).find(is_filler) {
            let script = input.witness.nth(1).unwrap_or_default().to_vec();
            input.witness = Witness::from_slice(&[vec![1; missing.min(250)], script]);
        }
    }
}

/// The subsidy of regtest, which halves every 150 blocks.
pub fn subsidy(height: u32) -> u64 {
    5_000_000_000 >> (height / 150)
}

fn odd_value(draw: &mut Draw) -> u64 {
    draw.pick(&[0, 1, MAX_MONEY - 1, MAX_MONEY, MAX_MONEY + 1, i64::MAX as u64, 1 << 63, u64::MAX])
}

/// Output scripts that bring a block's cost to the limit, or near it.
fn filler_sigops(draw: &mut Draw, cost: usize) -> Vec<Vec<u8>> {
    let goal = MAX_SIGOP_COST + draw.pick(&[0, 0, 1, 2, 3, 4, 8]) - draw.pick(&[0, 0, 0, 1, 4]);
    let mut left = goal.saturating_sub(cost) / 4;
    let mut scripts = Vec::new();
    while left > 0 {
        let mut script = Vec::new();
        while left > 0 && script.len() < 900 {
            // In an output every CHECKMULTISIG counts twenty, whatever is before it.
            if left >= 20 && draw.percent(98) {
                if draw.percent(20) {
                    script.push(OP_1);
                }
                script.push(OP_CHECKMULTISIG);
                left -= 20;
            } else {
                script.push(OP_CHECKSIG);
                left -= 1;
            }
        }
        // Nothing behind a push that breaks off counts.
        if draw.percent(50) {
            script.extend([0x4d, 0xff, OP_CHECKSIG]);
        }
        scripts.push(script);
    }
    scripts
}

/// The witness commitment, where there are witnesses (and sometimes where there are none).
fn commit(draw: &mut Draw, txdata: &mut [Transaction], fault: Option<Fault>) {
    let has_witness = txdata.iter().any(|tx| tx.input.iter().any(|input| !input.witness.is_empty()));
    let choice = if fault == Some(Fault::Commitment) { draw.below(8) } else { 8 };
    if choice == 0 || (!has_witness && choice == 8 && fault != Some(Fault::ReservedValue) && draw.percent(50)) {
        return;
    }
    let mut reserved = vec![vec![draw.byte(); 32]];
    if fault == Some(Fault::ReservedValue) {
        match draw.below(4) {
            0 => reserved[0].push(0),
            1 => drop(reserved[0].pop()),
            2 => reserved.push(Vec::new()),
            _ => reserved.clear(),
        }
    }
    let mut leaves: Vec<[u8; 32]> = txdata.iter().map(|tx| tx.compute_wtxid().to_byte_array()).collect();
    leaves[0] = [0; 32];
    let root = merkle_root(leaves);
    let mut committed = [&root[..], reserved.first().map_or(&[][..], |value| value)].concat();
    committed.truncate(64);
    let right = sha256d::Hash::hash(&committed).to_byte_array();
    let output = |hash: &[u8], mark: u8, after: &[u8]| TxOut {
        value: Amount::ZERO,
        script_pubkey: [&[OP_RETURN, 36, 0xaa, 0x21, 0xa9, mark], hash, after].concat().into(),
    };
    let wrong = [9; 32];
    let outputs = match choice {
        1 => vec![output(&wrong, 0xed, &[])],
        // The last one counts.
        2 => vec![output(&wrong, 0xed, &[]), output(&right, 0xed, &[])],
        3 => vec![output(&right, 0xed, &[]), output(&wrong, 0xed, &[])],
        // Bytes behind it are allowed, a byte less is no commitment.
        4 => vec![output(&right, 0xed, &[1, 2, 3])],
        5 => vec![output(&right[..31], 0xed, &[])],
        6 => vec![output(&right, 0xee, &[])],
        // Right, but the reserved value is not there.
        7 => {
            reserved.clear();
            vec![output(&right, 0xed, &[])]
        }
        _ => vec![output(&right, 0xed, &[])],
    };
    txdata[0].output.extend(outputs);
    txdata[0].input[0].witness = Witness::from_slice(&reserved);
}

/// Written here, since its root decides what a mutated block is.
pub fn merkle_root(mut level: Vec<[u8; 32]>) -> [u8; 32] {
    while level.len() > 1 {
        let pair = |pair: &[[u8; 32]]| {
            let right = pair.last().copied().unwrap_or_default();
            sha256d::Hash::hash(&[pair[0], right].concat()).to_byte_array()
        };
        level = level.chunks(2).map(pair).collect();
    }
    level.first().copied().unwrap_or_default()
}
