//! What the script tests share: vectors, Core's script notation, one-input spends.

use std::path::PathBuf;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use leyden_consensus::script::opcodes::Instruction;
use leyden_consensus::script::{Observer, ScriptError, ScriptFlags, SpendingTx, StackView, Stage, opcodes};

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

/// One JSON file of the vectors.
pub fn vector_json(name: &str) -> Option<serde_json::Value> {
    Some(serde_json::from_slice(&vector_file(name)?).expect("valid JSON"))
}

/// A transaction in hex.
pub fn transaction(hex: &str) -> Transaction {
    bitcoin::consensus::encode::deserialize_hex(hex).expect("a transaction")
}

/// A set of flags as Core's vectors write it.
pub fn flags(names: &str) -> ScriptFlags {
    names
        .split(',')
        .filter(|name| !name.is_empty() && *name != "NONE")
        .map(|name| ScriptFlags::by_name(name).unwrap_or_else(|| panic!("unknown flag {name}")))
        .fold(ScriptFlags::NONE, |set, flag| set | flag)
}

/// Adds what a flag needs: CLEANSTACK implies WITNESS implies P2SH.
pub fn filled(mut flags: ScriptFlags) -> ScriptFlags {
    if flags.contains(ScriptFlags::CLEANSTACK) {
        flags |= ScriptFlags::WITNESS;
    }
    if flags.contains(ScriptFlags::WITNESS) {
        flags |= ScriptFlags::P2SH;
    }
    flags
}

/// Drops the flags whose needs are not there.
pub fn trimmed(mut flags: ScriptFlags) -> ScriptFlags {
    if !flags.contains(ScriptFlags::P2SH) {
        flags = flags.without(ScriptFlags::WITNESS);
    }
    if !flags.contains(ScriptFlags::WITNESS) {
        flags = flags.without(ScriptFlags::CLEANSTACK);
    }
    flags
}

/// A small reproducible source of flag sets.
pub struct FlagSource(pub u64);

impl FlagSource {
    pub fn next(&mut self) -> ScriptFlags {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ScriptFlags::from_bits_truncate((self.0 >> 40) as u32)
    }
}

/// A push of data, by length alone.
pub fn push(data: &[u8]) -> Vec<u8> {
    let mut script = match data.len() {
        length @ 0..=75 => vec![length as u8],
        length @ 76..=255 => vec![0x4c, length as u8],
        length => [&[0x4d][..], &u16::try_from(length).expect("short data").to_le_bytes()].concat(),
    };
    script.extend_from_slice(data);
    script
}

/// A push of a number: small ones by their opcode.
pub fn push_number(value: i64) -> Vec<u8> {
    match value {
        0 => vec![0],
        -1 => vec![0x4f],
        1..=16 => vec![0x50 + value as u8],
        _ => {
            let mut bytes: Vec<u8> = value.unsigned_abs().to_le_bytes().to_vec();
            while bytes.last() == Some(&0) {
                bytes.pop();
            }
            if bytes.last().is_some_and(|last| last & 0x80 != 0) {
                bytes.push(0);
            }
            if value < 0 {
                *bytes.last_mut().expect("not zero") |= 0x80;
            }
            push(&bytes)
        }
    }
}

/// A script in Core's notation: opcodes, decimal numbers, `0x` raw bytes, `'text'`.
pub fn script(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        if let Some(raw) = word.strip_prefix("0x") {
            bytes.extend(hex::decode(raw).expect("raw hex"));
        } else if let Some(quoted) = word.strip_prefix('\'') {
            bytes.extend(push(quoted.strip_suffix('\'').expect("closing quote").as_bytes()));
        } else if let Ok(number) = word.parse::<i64>() {
            bytes.extend(push_number(number));
        } else {
            let known = opcodes::NAMED.iter().find(|(name, opcode)| {
                (*opcode >= opcodes::OP_NOP || *opcode == opcodes::OP_RESERVED)
                    && (*name == word || name.strip_prefix("OP_") == Some(word))
            });
            let alias = match word.strip_prefix("OP_").unwrap_or(word) {
                "NOP2" => Some(opcodes::OP_CHECKLOCKTIMEVERIFY),
                "NOP3" => Some(opcodes::OP_CHECKSEQUENCEVERIFY),
                _ => None,
            };
            bytes.push(known.map(|(_, opcode)| *opcode).or(alias).unwrap_or_else(|| panic!("unknown opcode {word}")));
        }
    }
    bytes
}

/// The transactions of Core's script tests: one that pays `amount` to `script_pubkey`, one that spends it.
pub fn credit_and_spend(
    script_pubkey: Vec<u8>,
    amount: Amount,
    script_sig: Vec<u8>,
    witness: Witness,
) -> (Transaction, Vec<TxOut>) {
    let spent = TxOut { value: amount, script_pubkey: ScriptBuf::from_bytes(script_pubkey) };
    let credit = Transaction {
        version: Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: ScriptBuf::from_bytes(vec![0, 0]),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![spent.clone()],
    };
    let spend = Transaction {
        version: Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: credit.compute_txid(), vout: 0 },
            script_sig: ScriptBuf::from_bytes(script_sig),
            sequence: Sequence::MAX,
            witness,
        }],
        output: vec![TxOut { value: amount, script_pubkey: ScriptBuf::new() }],
    };
    (spend, vec![spent])
}

/// A spend of one output that tests build up.
#[derive(Clone)]
pub struct Spend {
    pub tx: Transaction,
    pub spent: Vec<TxOut>,
}

impl Spend {
    /// Spends an output of 1000 with this script; nothing is signed yet.
    pub fn of(script_pubkey: Vec<u8>) -> Self {
        let previous_output = OutPoint { txid: Txid::from_byte_array([7; 32]), vout: 3 };
        let output = TxOut { value: Amount::from_sat(900), script_pubkey: ScriptBuf::from_bytes(vec![0x51]) };
        Self {
            tx: Transaction {
                version: Version::TWO,
                lock_time: LockTime::ZERO,
                input: vec![TxIn { previous_output, ..TxIn::default() }],
                output: vec![output],
            },
            spent: vec![TxOut { value: Amount::from_sat(1000), script_pubkey: ScriptBuf::from_bytes(script_pubkey) }],
        }
    }

    pub fn script_sig(mut self, script_sig: Vec<u8>) -> Self {
        self.tx.input[0].script_sig = ScriptBuf::from_bytes(script_sig);
        self
    }

    pub fn witness<T: AsRef<[u8]>>(mut self, items: &[T]) -> Self {
        self.tx.input[0].witness = Witness::from_slice(items);
        self
    }

    pub fn spending(&self) -> SpendingTx<'_> {
        SpendingTx::new(&self.tx, self.spent.clone()).expect("an output for the input")
    }

    pub fn verify(&self, flags: ScriptFlags) -> Result<(), ScriptError> {
        verified(&self.spending(), 0, flags)
    }
}

/// Whether an input may be spent, the same whether somebody looks on or not.
pub fn verified(spending: &SpendingTx<'_>, index: usize, flags: ScriptFlags) -> Result<(), ScriptError> {
    let mut order = Order::default();
    let result = spending.verify_input_observed(index, flags, &mut order);
    assert_eq!(spending.verify_input(index, flags), result, "with and without an observer");
    assert!(result.is_err() || order.pending == 0, "what passed has executed every instruction that it read");
    assert!(order.pending <= 1, "nothing goes on after what failed");
    result
}

/// Watches the order of what an observer is told.
#[derive(Default)]
struct Order {
    /// Instructions that were read and not executed.
    pending: usize,
}

impl Observer for Order {
    fn stage(&mut self, _: Stage<'_>, _: StackView<'_>) {
        assert_eq!(self.pending, 0, "a script ends before the next one begins");
    }

    fn instruction(&mut self, _: Instruction<'_>, _: bool) {
        self.pending += 1;
    }

    fn executed(&mut self, _: StackView<'_>, _: StackView<'_>) {
        self.pending -= 1;
    }
}

/// Writes down what an observer is told.
#[derive(Default)]
pub struct Trace {
    pub lines: Vec<String>,
}

fn in_hex<'a>(items: impl Iterator<Item = &'a [u8]>) -> String {
    items.map(|item| if item.is_empty() { "-".to_owned() } else { hex::encode(item) }).collect::<Vec<_>>().join(" ")
}

impl Observer for Trace {
    fn stage(&mut self, stage: Stage<'_>, stack: StackView<'_>) {
        let name = format!("{stage:?}");
        let name = name.split(['(', ' ']).next().unwrap_or_default();
        self.lines.push(format!("{name}: {}", in_hex(stack.items())));
    }

    fn instruction(&mut self, instruction: Instruction<'_>, executing: bool) {
        let Instruction { opcode, data } = instruction;
        self.lines.push(format!("{opcode:02x}{}{}", hex::encode(data), if executing { "" } else { " skipped" }));
    }

    fn executed(&mut self, stack: StackView<'_>, alternative: StackView<'_>) {
        self.lines.push(format!("= {} | {}", in_hex(stack.items()), in_hex(alternative.items())));
    }
}

/// The result of a bare script with this input script, both in Core's notation.
pub fn evaluate(script_sig: &str, script_pubkey: &str, flags: ScriptFlags) -> Result<(), ScriptError> {
    Spend::of(script(script_pubkey)).script_sig(script(script_sig)).verify(flags)
}
