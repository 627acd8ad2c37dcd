//! One transaction with the outputs that it spends, judged input by input.

pub mod keys;
mod program;
mod signature;
mod spend;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bitcoin::absolute::LockTime;
use bitcoin::consensus::{deserialize_partial, serialize};
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use bitcoinkernel::prelude::*;
use bitcoinkernel::{PrecomputedTransactionData, ScriptPubkey, verify};
use leyden_consensus::script::opcodes::{OP_0, OP_1, OP_NOP, OP_PUSHDATA1};
use leyden_consensus::script::{ScriptError, ScriptFlags, SpendingTx};

use self::keys::Keys;
pub use self::program::Locks;
use self::signature::Place;
pub use self::signature::push_of;
pub use self::spend::{Signed, Spend};
use crate::draw::Draw;

/// The consensus flags with their bits in Bitcoin Core.
const FLAGS: [(ScriptFlags, bitcoinkernel::ScriptVerificationFlags); 7] = [
    (ScriptFlags::P2SH, bitcoinkernel::VERIFY_P2SH),
    (ScriptFlags::DERSIG, bitcoinkernel::VERIFY_DERSIG),
    (ScriptFlags::NULLDUMMY, bitcoinkernel::VERIFY_NULLDUMMY),
    (ScriptFlags::CHECKLOCKTIMEVERIFY, bitcoinkernel::VERIFY_CHECKLOCKTIMEVERIFY),
    (ScriptFlags::CHECKSEQUENCEVERIFY, bitcoinkernel::VERIFY_CHECKSEQUENCEVERIFY),
    (ScriptFlags::WITNESS, bitcoinkernel::VERIFY_WITNESS),
    (ScriptFlags::TAPROOT, bitcoinkernel::VERIFY_TAPROOT),
];

/// How often the verdict was which.
#[derive(Default)]
pub struct Verdicts {
    pub valid: AtomicUsize,
    pub invalid: AtomicUsize,
    /// Why inputs were invalid, in Leyden's words, and how often.
    pub causes: Mutex<BTreeMap<String, usize>>,
}

impl Verdicts {
    fn note(&self, verdict: &Result<(), ScriptError>) {
        let Err(cause) = verdict else { return };
        let name: String = format!("{cause:?}").chars().take_while(char::is_ascii_alphanumeric).collect();
        *self.causes.lock().expect("no panic").entry(name).or_default() += 1;
    }
}

/// Draws a transaction and compares the verdicts on each of its inputs.
pub fn compare(seed: u64, keys: &Keys, verdicts: &Verdicts) -> Result<(), String> {
    let draw = &mut Draw::new(seed);
    let (mut tx, mut spent) = draw_transaction(draw, keys);
    for _ in 0..draw.pick(&[0, 0, 1, 1, 2]) {
        mutate(draw, &mut tx, &mut spent);
    }
    let flags = draw_flags(draw);
    judge(&serialize(&tx), &spent, flags, verdicts)
}

/// All verdicts of both on a transaction that comes as bytes.
pub fn judge(bytes: &[u8], spent: &[TxOut], flags: ScriptFlags, verdicts: &Verdicts) -> Result<(), String> {
    let ours = deserialize_partial::<Transaction>(bytes).ok().map(|(tx, _)| tx);
    let theirs = bitcoinkernel::Transaction::new(bytes).ok();
    let (Some(ours), Some(theirs)) = (&ours, &theirs) else {
        return match (ours, theirs) {
            (None, None) => Ok(()),
            (ours, _) => Err(format!("only one can read it (we: {})\n{}", ours.is_some(), hex(bytes))),
        };
    };
    let bits = FLAGS.iter().filter(|(flag, _)| flags.contains(*flag)).fold(0, |bits, (_, bit)| bits | bit);
    let outputs = their_outputs(spent);
    let hashed = PrecomputedTransactionData::new(theirs, &outputs).expect("one output an input");
    let spending = SpendingTx::new(ours, spent.to_vec()).expect("one output an input");
    for (input, output) in outputs.iter().enumerate() {
        let we = spending.verify_input(input, flags);
        let they = verify(&output.script_pubkey(), Some(output.value()), theirs, input, Some(bits), &hashed);
        let count = if they.is_ok() { &verdicts.valid } else { &verdicts.invalid };
        count.fetch_add(1, Ordering::Relaxed);
        verdicts.note(&we);
        if we.is_ok() != they.is_ok() {
            let scripts: Vec<String> = spent.iter().map(|output| hex(output.script_pubkey.as_bytes())).collect();
            return Err(format!(
                "input {input} under {flags:?}: we say {we:?}, Bitcoin Core {they:?}\ntransaction {}\nspends {scripts:?}",
                hex(bytes),
            ));
        }
    }
    Ok(())
}

fn their_outputs(spent: &[TxOut]) -> Vec<bitcoinkernel::TxOut> {
    let output = |output: &TxOut| {
        let script = ScriptPubkey::new(output.script_pubkey.as_bytes()).expect("any bytes are a script");
        bitcoinkernel::TxOut::new(&script, output.value.to_sat() as i64)
    };
    spent.iter().map(output).collect()
}

/// Whether all inputs pass under all rules of consensus, by Bitcoin Core's word.
pub fn core_accepts(tx: &Transaction, spent: &[TxOut]) -> bool {
    let tx = bitcoinkernel::Transaction::new(&serialize(tx)).expect("a transaction");
    let outputs = their_outputs(spent);
    let hashed = PrecomputedTransactionData::new(&tx, &outputs).expect("one output an input");
    let passes = |(input, output): (usize, &bitcoinkernel::TxOut)| {
        let all = Some(bitcoinkernel::VERIFY_ALL);
        verify(&output.script_pubkey(), Some(output.value()), &tx, input, all, &hashed).is_ok()
    };
    outputs.iter().enumerate().all(passes)
}

fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 20_000;
    let shown: String = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN { format!("{shown}… ({} bytes)", bytes.len()) } else { shown }
}

const VERSIONS: [i32; 9] = [2, 2, 2, 1, 0, 3, -1, i32::MIN, i32::MAX];
const LOCK_TIMES: [u32; 10] =
    [0, 1, 100, 499_999_999, 500_000_000, 500_000_001, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, u32::MAX];
const SEQUENCES: [u32; 12] = [
    u32::MAX,
    u32::MAX,
    0xffff_fffe,
    0xffff_fffd,
    0,
    1,
    0xffff,
    0x1_0000,
    0x40_0000,
    0x40_0001,
    0x8000_0000,
    0x8040_0001,
];

fn draw_transaction(draw: &mut Draw, keys: &Keys) -> (Transaction, Vec<TxOut>) {
    let lock_time = draw.pick(&LOCK_TIMES);
    let inputs = draw.pick(&[1, 1, 1, 2, 3]);
    let outputs = draw.pick(&[1, 1, 2, 3]);
    let mut tx = Transaction {
        version: Version(draw.pick(&VERSIONS)),
        lock_time: LockTime::from_consensus(lock_time),
        input: Vec::new(),
        output: Vec::new(),
    };
    for _ in 0..outputs {
        let length = draw.pick(&[0, 22, 34, 252, 253]);
        let script_pubkey = ScriptBuf::from(draw.bytes(length));
        let value = Amount::from_sat(draw.bits() >> draw.pick(&[13, 30, 63]));
        tx.output.push(TxOut { value, script_pubkey });
    }
    let (mut spends, mut spent) = (Vec::new(), Vec::new());
    for _ in 0..inputs {
        let sequence = draw.pick(&SEQUENCES);
        let spend = Spend::draw(draw, keys, Locks { lock_time, sequence });
        let txid = Txid::from_slice(&draw.bytes(32)).expect("32 bytes");
        tx.input.push(TxIn {
            previous_output: OutPoint { txid, vout: draw.below(3) as u32 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence(sequence),
            witness: Witness::new(),
        });
        let value = Amount::from_sat(draw.bits() >> draw.pick(&[13, 30, 63]));
        spent.push(TxOut { value, script_pubkey: spend.script_pubkey.clone() });
        spends.push(spend);
    }
    sign_all(&mut tx, &mut spent, &spends, keys);
    (tx, spent)
}

/// Signs every input.
pub fn sign_all(tx: &mut Transaction, spent: &mut [TxOut], spends: &[Spend], keys: &Keys) {
    let signed: Vec<Signed> =
        spends.iter().enumerate().map(|(input, spend)| spend.sign(&Place { tx, spent, input }, keys)).collect();
    for (input, signed) in signed.into_iter().enumerate() {
        tx.input[input].script_sig = signed.script_sig;
        tx.input[input].witness = signed.witness;
        if let Some(script_pubkey) = signed.script_pubkey {
            spent[input].script_pubkey = script_pubkey;
        }
    }
}

/// Mostly all rules; else some of them, as far as they go together.
fn draw_flags(draw: &mut Draw) -> ScriptFlags {
    if draw.percent(60) {
        return ScriptFlags::CONSENSUS;
    }
    let mut flags = FLAGS.iter().filter(|_| draw.percent(70)).fold(ScriptFlags::NONE, |flags, (flag, _)| flags | *flag);
    if flags.contains(ScriptFlags::TAPROOT) {
        flags |= ScriptFlags::WITNESS;
    }
    if flags.contains(ScriptFlags::WITNESS) {
        flags |= ScriptFlags::P2SH;
    }
    flags
}

/// Changes something after everything was signed.
fn mutate(draw: &mut Draw, tx: &mut Transaction, spent: &mut [TxOut]) {
    let input = draw.below(tx.input.len());
    match draw.below(16) {
        0 => tx.version = Version(draw.pick(&VERSIONS)),
        1 => tx.lock_time = LockTime::from_consensus(draw.pick(&LOCK_TIMES)),
        2 => tx.input[input].sequence = Sequence(draw.pick(&SEQUENCES)),
        3 => spent[input].value = Amount::from_sat(draw.bits() >> 20),
        4 if !tx.output.is_empty() => {
            let output = draw.below(tx.output.len());
            tx.output[output].value = Amount::from_sat(draw.bits() >> 20);
        }
        5 => drop(tx.output.pop()),
        6 => tx.output.push(TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() }),
        7 => {
            // The last push, the redeem script, stays.
            let script_sig = tx.input[input].script_sig.as_bytes();
            let before = draw.pick(&[&[OP_0][..], &[OP_1], &[OP_NOP], &[1, 7], &[OP_PUSHDATA1]]);
            tx.input[input].script_sig = [before, script_sig].concat().into();
        }
        8 => {
            let mut bytes = tx.input[input].script_sig.to_bytes();
            mutate_bytes(draw, &mut bytes);
            tx.input[input].script_sig = bytes.into();
        }
        9 => {
            let mut bytes = spent[input].script_pubkey.to_bytes();
            mutate_bytes(draw, &mut bytes);
            spent[input].script_pubkey = bytes.into();
        }
        10 => {
            let other = draw.below(tx.input.len());
            let witness = tx.input[other].witness.clone();
            tx.input[input].witness = witness;
        }
        _ => {
            let mut items = tx.input[input].witness.to_vec();
            mutate_items(draw, &mut items);
            tx.input[input].witness = Witness::from_slice(&items);
        }
    }
}

fn mutate_items(draw: &mut Draw, items: &mut Vec<Vec<u8>>) {
    let at = draw.below(items.len() + 1);
    match draw.below(7) {
        0 => {
            let length = draw.below(4);
            items.insert(at, draw.bytes(length));
        }
        1 if at < items.len() => drop(items.remove(at)),
        2 if at < items.len() => items.insert(at, items[at].clone()),
        3 if at < items.len() => {
            let other = draw.below(items.len());
            items.swap(at, other);
        }
        4 => items.push(vec![0x50; draw.below(3)]),
        // As many as a stack may hold; a thousand times more come with their own test in the interpreter.
        5 if draw.percent(10) => {
            let count = draw.near(1_000).saturating_sub(items.len());
            (0..count).for_each(|_| items.insert(0, Vec::new()));
        }
        _ if at < items.len() => mutate_bytes(draw, &mut items[at]),
        _ => items.push(Vec::new()),
    }
}

pub fn mutate_bytes(draw: &mut Draw, bytes: &mut Vec<u8>) {
    let at = draw.below(bytes.len() + 1);
    match draw.below(6) {
        0 => bytes.insert(at, draw.byte()),
        1 if at < bytes.len() => drop(bytes.remove(at)),
        2 => bytes.truncate(at),
        3 if at < bytes.len() => bytes[at] = draw.byte(),
        4 => {
            let length = draw.near(520).saturating_sub(bytes.len());
            bytes.extend(draw.bytes(length));
        }
        _ if at < bytes.len() => bytes[at] ^= 1 << draw.below(8),
        _ => bytes.push(draw.byte()),
    }
}
