//! What a signature signs: the three digests of a transaction.
//!
//! ```text
//!   legacy       double SHA-256 of the transaction with scripts blanked         (Bitcoin 0.1)
//!   segwit v0    double SHA-256 of hashes over all inputs, sequences, outputs    (BIP 143)
//!   taproot      tagged SHA-256 that also commits to every spent output          (BIP 341, 342)
//! ```
//!
//! Legacy and segwit v0 commit to all 32 bits of the hash type, of which a signature's last byte gives the low eight;
//! undefined values are judged by their low five bits. Taproot knows seven hash types and refuses every other.

use bitcoin::hashes::{Hash, HashEngine, sha256, sha256d};
use bitcoin::sighash::TapSighash;
use bitcoin::taproot::TapLeafHash;
use bitcoin::{OutPoint, Transaction, TxIn, TxOut};

use super::opcodes::{Instructions, OP_CODESEPARATOR};

/// Which outputs a signature commits to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outputs {
    All,
    None,
    Single,
}

/// The hash type of a legacy or segwit v0 signature, with all its bits.
#[derive(Clone, Copy)]
pub(super) struct EcdsaHashType(pub(super) u32);

impl EcdsaHashType {
    /// How many different digests one script code has, up to the hash type at the very end.
    pub(super) const CLASSES: usize = 6;

    fn anyone_can_pay(self) -> bool {
        self.0 & 0x80 != 0
    }

    fn outputs(self) -> Outputs {
        match self.0 & 0x1f {
            2 => Outputs::None,
            3 => Outputs::Single,
            _ => Outputs::All,
        }
    }

    /// A number below [`Self::CLASSES`]: equal for hash types whose digests differ in their last four bytes only.
    pub(super) fn class(self) -> usize {
        let outputs = match self.outputs() {
            Outputs::All => 0,
            Outputs::None => 1,
            Outputs::Single => 2,
        };
        if self.anyone_can_pay() { outputs + 3 } else { outputs }
    }
}

/// The hashes over a whole transaction that the digests of all its inputs share.
#[derive(Clone)]
pub(super) struct SharedHashes {
    prevouts: sha256::Hash,
    sequences: sha256::Hash,
    outputs: sha256::Hash,
    /// BIP 143 only: the first three hashed again.
    twice: Option<TwiceHashed>,
    /// BIP 341 only: amounts and scripts of the spent outputs.
    spent: Option<SpentHashes>,
}

#[derive(Clone)]
struct TwiceHashed {
    prevouts: sha256d::Hash,
    sequences: sha256d::Hash,
    outputs: sha256d::Hash,
}

/// Which digests will be asked for.
#[derive(Clone, Copy)]
pub(super) struct Digests {
    pub(super) segwit_v0: bool,
    pub(super) taproot: bool,
}

#[derive(Clone)]
struct SpentHashes {
    amounts: sha256::Hash,
    scripts: sha256::Hash,
}

impl SharedHashes {
    /// Computes them, as far as these digests need them.
    pub(super) fn of(tx: &Transaction, spent: &[TxOut], digests: Digests) -> Self {
        let prevouts = hash_all(&tx.input, |engine, input| put_outpoint(engine, &input.previous_output));
        let sequences = hash_all(&tx.input, |engine, input| engine.input(&input.sequence.0.to_le_bytes()));
        let outputs = hash_all(&tx.output, put_output);
        let twice = digests.segwit_v0.then(|| TwiceHashed {
            prevouts: prevouts.hash_again(),
            sequences: sequences.hash_again(),
            outputs: outputs.hash_again(),
        });
        let spent = digests.taproot.then(|| SpentHashes::of(spent));
        Self { prevouts, sequences, outputs, twice, spent }
    }
}

impl SpentHashes {
    fn of(spent: &[TxOut]) -> Self {
        Self {
            amounts: hash_all(spent, |engine, output| engine.input(&output.value.to_sat().to_le_bytes())),
            scripts: hash_all(spent, |engine, output| put_bytes(engine, output.script_pubkey.as_bytes())),
        }
    }
}

/// One input of a transaction, with all that its digests need.
#[derive(Clone, Copy)]
pub(super) struct DigestInput<'t> {
    pub(super) tx: &'t Transaction,
    pub(super) input: &'t TxIn,
    pub(super) index: usize,
    /// The outputs that all inputs spend, in input order.
    pub(super) spent: &'t [TxOut],
    /// The one that this input spends.
    pub(super) spent_output: &'t TxOut,
    /// `None` where they were not computed beforehand.
    pub(super) shared: Option<&'t SharedHashes>,
}

/// The digest of a legacy input or the state shortly before its end.
pub(super) enum LegacyDigest {
    /// SIGHASH_SINGLE without an output of the same index: the number one, whoever signs what.
    One,
    /// To be finished by [`finish`].
    Engine(sha256::HashEngine),
}

/// The number one as Bitcoin's little-endian 256-bit integers have it.
pub(super) const DIGEST_ONE: [u8; 32] = {
    let mut one = [0; 32];
    one[0] = 1;
    one
};

/// Appends the hash type to a legacy or segwit v0 digest and ends it.
pub(super) fn finish(mut engine: sha256::HashEngine, hash_type: EcdsaHashType) -> [u8; 32] {
    engine.input(&hash_type.0.to_le_bytes());
    sha256d::Hash::from_engine(engine).to_byte_array()
}

impl DigestInput<'_> {
    fn with_shared<T>(&self, digests: Digests, use_it: impl FnOnce(&SharedHashes) -> T) -> T {
        let has_all = |shared: &SharedHashes| {
            (!digests.taproot || shared.spent.is_some()) && (!digests.segwit_v0 || shared.twice.is_some())
        };
        match self.shared {
            Some(shared) if has_all(shared) => use_it(shared),
            _ => use_it(&SharedHashes::of(self.tx, self.spent, digests)),
        }
    }

    /// The legacy digest up to its hash type. `script_code` is as the interpreter cut it, code separators included.
    pub(super) fn legacy(&self, script_code: &[u8], hash_type: EcdsaHashType) -> LegacyDigest {
        let tx = self.tx;
        let outputs = hash_type.outputs();
        if outputs == Outputs::Single && self.index >= tx.output.len() {
            return LegacyDigest::One;
        }
        let mut engine = sha256::Hash::engine();
        engine.input(&tx.version.0.to_le_bytes());
        if hash_type.anyone_can_pay() {
            put_size(&mut engine, 1);
            put_outpoint(&mut engine, &self.input.previous_output);
            put_script_code(&mut engine, script_code);
            engine.input(&self.input.sequence.0.to_le_bytes());
        } else {
            put_size(&mut engine, tx.input.len());
            for (index, input) in tx.input.iter().enumerate() {
                put_outpoint(&mut engine, &input.previous_output);
                if index == self.index {
                    put_script_code(&mut engine, script_code);
                    engine.input(&input.sequence.0.to_le_bytes());
                } else {
                    put_size(&mut engine, 0);
                    // Without a commitment to all outputs, the other inputs may be updated at will.
                    let sequence = if outputs == Outputs::All { input.sequence.0 } else { 0 };
                    engine.input(&sequence.to_le_bytes());
                }
            }
        }
        match outputs {
            Outputs::None => put_size(&mut engine, 0),
            Outputs::All => {
                put_size(&mut engine, tx.output.len());
                tx.output.iter().for_each(|output| put_output(&mut engine, output));
            }
            Outputs::Single => {
                put_size(&mut engine, self.index.saturating_add(1));
                for _ in 0..self.index {
                    // An empty output: value -1 and no script.
                    engine.input(&[0xff; 8]);
                    put_size(&mut engine, 0);
                }
                tx.output.get(self.index).into_iter().for_each(|output| put_output(&mut engine, output));
            }
        }
        engine.input(&tx.lock_time.to_consensus_u32().to_le_bytes());
        LegacyDigest::Engine(engine)
    }

    /// The BIP 143 digest up to its hash type.
    pub(super) fn segwit_v0(&self, script_code: &[u8], hash_type: EcdsaHashType) -> sha256::HashEngine {
        const ZERO: [u8; 32] = [0; 32];
        let tx = self.tx;
        let outputs = hash_type.outputs();
        self.with_shared(Digests { segwit_v0: true, taproot: false }, |shared| {
            let part = |hash: fn(&TwiceHashed) -> &sha256d::Hash, is_signed: bool| -> [u8; 32] {
                shared.twice.as_ref().filter(|_| is_signed).map_or(ZERO, |twice| hash(twice).to_byte_array())
            };
            let mut engine = sha256::Hash::engine();
            engine.input(&tx.version.0.to_le_bytes());
            engine.input(&part(|twice| &twice.prevouts, !hash_type.anyone_can_pay()));
            engine.input(&part(|twice| &twice.sequences, !hash_type.anyone_can_pay() && outputs == Outputs::All));
            put_outpoint(&mut engine, &self.input.previous_output);
            put_bytes(&mut engine, script_code);
            engine.input(&self.spent_output.value.to_sat().to_le_bytes());
            engine.input(&self.input.sequence.0.to_le_bytes());
            match (outputs, tx.output.get(self.index)) {
                (Outputs::All, _) => engine.input(&part(|twice| &twice.outputs, true)),
                (Outputs::Single, Some(output)) => {
                    let single = hash_all(std::slice::from_ref(output), put_output);
                    engine.input(single.hash_again().as_ref());
                }
                (Outputs::Single, None) | (Outputs::None, _) => engine.input(&ZERO),
            }
            engine.input(&tx.lock_time.to_consensus_u32().to_le_bytes());
            engine
        })
    }

    /// The BIP 341 digest, in a script with the extension of BIP 342. `None` if the hash type is undefined, or signs
    /// the output of this index and there is none.
    pub(super) fn taproot(
        &self,
        hash_type: u8,
        annex_hash: Option<&sha256::Hash>,
        leaf: Option<&LeafPosition>,
    ) -> Option<[u8; 32]> {
        let tx = self.tx;
        if !matches!(hash_type, 0..=3 | 0x81..=0x83) {
            return None;
        }
        let anyone_can_pay = hash_type & 0x80 != 0;
        let mut engine = TapSighash::engine();
        engine.input(&[0, hash_type]);
        engine.input(&tx.version.0.to_le_bytes());
        engine.input(&tx.lock_time.to_consensus_u32().to_le_bytes());
        self.with_shared(Digests { segwit_v0: false, taproot: !anyone_can_pay }, |shared| {
            if !anyone_can_pay && let Some(spent) = &shared.spent {
                engine.input(shared.prevouts.as_ref());
                engine.input(spent.amounts.as_ref());
                engine.input(spent.scripts.as_ref());
                engine.input(shared.sequences.as_ref());
            }
            if matches!(hash_type & 3, 0 | 1) {
                engine.input(shared.outputs.as_ref());
            }
        });
        engine.input(&[u8::from(leaf.is_some()) << 1 | u8::from(annex_hash.is_some())]);
        if anyone_can_pay {
            put_outpoint(&mut engine, &self.input.previous_output);
            put_output(&mut engine, self.spent_output);
            engine.input(&self.input.sequence.0.to_le_bytes());
        } else {
            engine.input(&u32::try_from(self.index).ok()?.to_le_bytes());
        }
        if let Some(annex_hash) = annex_hash {
            engine.input(annex_hash.as_ref());
        }
        if hash_type & 3 == 3 {
            engine.input(hash_all(std::slice::from_ref(tx.output.get(self.index)?), put_output).as_ref());
        }
        if let Some(leaf) = leaf {
            engine.input(leaf.leaf_hash.as_ref());
            // The version of 32-byte keys.
            engine.input(&[0]);
            engine.input(&leaf.code_separator.to_le_bytes());
        }
        Some(TapSighash::from_engine(engine).to_byte_array())
    }
}

/// Where in a tapscript a signature is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafPosition {
    /// The leaf that is being executed.
    pub leaf_hash: TapLeafHash,
    /// The position, counted in opcodes, of the last executed `OP_CODESEPARATOR`.
    pub code_separator: u32,
}

impl LeafPosition {
    /// The position before any `OP_CODESEPARATOR` has been executed.
    pub const NO_CODE_SEPARATOR: u32 = u32::MAX;
}

/// The hash of an annex that digests commit to (BIP 341).
pub(super) fn annex_hash(annex: &[u8]) -> sha256::Hash {
    let mut engine = sha256::Hash::engine();
    put_bytes(&mut engine, annex);
    sha256::Hash::from_engine(engine)
}

fn hash_all<T>(items: &[T], mut put: impl FnMut(&mut sha256::HashEngine, &T)) -> sha256::Hash {
    let mut engine = sha256::Hash::engine();
    items.iter().for_each(|item| put(&mut engine, item));
    sha256::Hash::from_engine(engine)
}

fn put_size(engine: &mut impl HashEngine, size: usize) {
    let size = size as u64;
    // The narrowing casts are exact in their ranges.
    match size {
        0..=0xfc => engine.input(&[size as u8]),
        0xfd..=0xffff => {
            engine.input(&[0xfd]);
            engine.input(&(size as u16).to_le_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            engine.input(&[0xfe]);
            engine.input(&(size as u32).to_le_bytes());
        }
        _ => {
            engine.input(&[0xff]);
            engine.input(&size.to_le_bytes());
        }
    }
}

pub(super) fn put_bytes(engine: &mut impl HashEngine, bytes: &[u8]) {
    put_size(engine, bytes.len());
    engine.input(bytes);
}

fn put_outpoint(engine: &mut impl HashEngine, outpoint: &OutPoint) {
    engine.input(outpoint.txid.as_ref());
    engine.input(&outpoint.vout.to_le_bytes());
}

fn put_output(engine: &mut impl HashEngine, output: &TxOut) {
    engine.input(&output.value.to_sat().to_le_bytes());
    put_bytes(engine, output.script_pubkey.as_bytes());
}

/// A legacy script code: the script without its code separators. After a truncated push no separator is looked for;
/// such a script fails whatever its digests are.
fn put_script_code(engine: &mut impl HashEngine, script_code: &[u8]) {
    // A script with no such byte anywhere, as nearly all are, needs no parsing.
    if !script_code.contains(&OP_CODESEPARATOR) {
        return put_bytes(engine, script_code);
    }
    let separators = Instructions::new(script_code)
        .filter(|read| read.is_ok_and(|instruction| instruction.opcode == OP_CODESEPARATOR))
        .count();
    put_size(engine, script_code.len().saturating_sub(separators));
    let mut instructions = Instructions::new(script_code);
    let mut kept = script_code;
    while let Some(Ok(instruction)) = instructions.next() {
        if instruction.opcode == OP_CODESEPARATOR {
            let upto = kept.len().saturating_sub(instructions.rest().len()).saturating_sub(1);
            engine.input(kept.get(..upto).unwrap_or_default());
            kept = instructions.rest();
        }
    }
    engine.input(kept);
}
