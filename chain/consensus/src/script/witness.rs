//! Witness programs: version 0 (BIP 141) and taproot (BIP 341, 342).
//!
//! ```text
//!   0 <20 bytes>   witness: signature key                    implied pay-to-public-key-hash script
//!   0 <32 bytes>   witness: items… script                    SHA-256(script) = program
//!   1 <32 bytes>   witness: signature [annex]                key path
//!                  witness: items… script control [annex]    script path: leaf and branches tweak the key
//!   any other      succeeds, for future rules
//! ```

use bitcoin::Witness;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::secp256k1::{Parity, Scalar, XOnlyPublicKey};
use bitcoin::taproot::{TapLeafHash, TapNodeHash, TapTweakHash};

use super::error::ScriptError;
use super::flags::ScriptFlags;
use super::interpreter::signature::{self, SECP};
use super::interpreter::{Execution, MAX_ITEM_BYTES, MAX_STACK_ITEMS, Tapscript, Version};
use super::observer::{Observer, StackView, Stage};
use super::opcodes::{self, Instructions, OP_1, OP_16, OP_CHECKSIG, OP_DUP, OP_EQUALVERIFY, OP_HASH160};
use super::sighash::{self, DigestInput, LeafPosition};
use super::stack::{Item, Stack};

/// The first byte of an annex.
const ANNEX_TAG: u8 = 0x50;
/// A control block is a leaf version, a key and at most this many hashes.
const MAX_BRANCHES: usize = 128;
/// The bits of a control block's first byte that are the leaf version.
const LEAF_VERSION_MASK: u8 = 0xfe;
const LEAF_VERSION_TAPSCRIPT: u8 = 0xc0;
/// BIP 342: what the budget for signature checks has beyond the witness size.
const WEIGHT_ALLOWANCE: i64 = 50;
/// The program of a pay-to-anchor output, which anyone can spend.
const ANCHOR_PROGRAM: [u8; 2] = [0x4e, 0x73];

/// A script that is a witness version and a program, if it is one: a small number and one direct push of 2 to 40 bytes.
pub fn witness_program(script: &[u8]) -> Option<(u8, &[u8])> {
    let [version, length, program @ ..] = script else { return None };
    if !(2..=40).contains(&program.len()) || usize::from(*length) != program.len() {
        return None;
    }
    match *version {
        0 => Some((0, program)),
        number @ OP_1..=OP_16 => Some((number - OP_1 + 1, program)),
        _ => None,
    }
}

/// Where a witness program was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Nesting {
    /// It is the output script.
    Native,
    /// It is the script of a pay-to-script-hash output: versions above 0 have no meaning there.
    ScriptHash,
}

/// Whether the input's witness satisfies the program.
pub(super) fn verify_program<O: Observer>(
    input: &DigestInput<'_>,
    version: u8,
    program: &[u8],
    flags: ScriptFlags,
    nesting: Nesting,
    observer: &mut O,
) -> Result<(), ScriptError> {
    let witness = &input.input.witness;
    match (version, program.len(), nesting) {
        (0, 20, _) => verify_key_hash(input, program, flags, observer),
        (0, 32, _) => verify_script_hash(input, program, flags, observer),
        (0, _, _) => Err(ScriptError::WitnessProgramWrongLength),
        (1, 32, Nesting::Native) if !flags.contains(ScriptFlags::TAPROOT) => anyone_can_spend(observer),
        (1, 32, Nesting::Native) if witness.is_empty() => Err(ScriptError::WitnessProgramWitnessEmpty),
        (1, 32, Nesting::Native) => verify_taproot(input, program, flags, observer),
        (1, 2, Nesting::Native) if program == ANCHOR_PROGRAM => anyone_can_spend(observer),
        _ if flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_WITNESS_PROGRAM) => {
            Err(ScriptError::DiscourageUpgradableWitnessProgram)
        }
        _ => anyone_can_spend(observer),
    }
}

fn anyone_can_spend<O: Observer>(observer: &mut O) -> Result<(), ScriptError> {
    observer.stage(Stage::AnyoneCanSpend, StackView(&Stack::default()));
    Ok(())
}

fn verify_key_hash<O: Observer>(
    input: &DigestInput<'_>,
    program: &[u8],
    flags: ScriptFlags,
    observer: &mut O,
) -> Result<(), ScriptError> {
    let witness = &input.input.witness;
    if witness.len() != 2 {
        return Err(ScriptError::WitnessProgramMismatch);
    }
    let mut script = [0; 25];
    for (to, from) in script
        .iter_mut()
        .zip([OP_DUP, OP_HASH160, 20].iter().chain(program.iter().take(20)).chain(&[OP_EQUALVERIFY, OP_CHECKSIG]))
    {
        *to = *from;
    }
    execute(input, items(witness, 2), &script, flags, Version::WitnessV0, Stage::KeyHash, observer)
}

fn verify_script_hash<O: Observer>(
    input: &DigestInput<'_>,
    program: &[u8],
    flags: ScriptFlags,
    observer: &mut O,
) -> Result<(), ScriptError> {
    let witness = &input.input.witness;
    let script = witness.last().ok_or(ScriptError::WitnessProgramWitnessEmpty)?;
    if sha256::Hash::hash(script).as_byte_array() != program {
        return Err(ScriptError::WitnessProgramMismatch);
    }
    let items = items(witness, witness.len().saturating_sub(1));
    execute(input, items, script, flags, Version::WitnessV0, Stage::WitnessScript, observer)
}

fn verify_taproot<O: Observer>(
    input: &DigestInput<'_>,
    program: &[u8],
    flags: ScriptFlags,
    observer: &mut O,
) -> Result<(), ScriptError> {
    let witness = &input.input.witness;
    let mut count = witness.len();
    let annex = witness.last().filter(|last| count >= 2 && last.first() == Some(&ANNEX_TAG));
    let annex_hash = annex.map(sighash::annex_hash);
    if annex.is_some() {
        count = count.saturating_sub(1);
    }
    // Key path: the one item left is a signature by the output key.
    let Some(items_left) = count.checked_sub(2) else {
        let signature = witness.nth(0).unwrap_or_default();
        observer.stage(Stage::KeyPath { key: program, signature }, StackView(&Stack::default()));
        return signature::check_schnorr(input, signature, program, annex_hash.as_ref(), None);
    };
    let control = witness.nth(items_left.saturating_add(1)).unwrap_or_default();
    let script = witness.nth(items_left).unwrap_or_default();
    let leaf_hash = verify_commitment(control, script, program)?;
    let leaf_version = control.first().map_or(0, |first| first & LEAF_VERSION_MASK);
    if leaf_version != LEAF_VERSION_TAPSCRIPT {
        if flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_TAPROOT_VERSION) {
            return Err(ScriptError::DiscourageUpgradableTaprootVersion);
        }
        return anyone_can_spend(observer);
    }
    // OP_SUCCESS goes before every other rule, sizes included; only what stands before it must parse.
    for read in Instructions::new(script) {
        let Ok(instruction) = read else { return Err(ScriptError::BadOpcode) };
        if opcodes::is_op_success(instruction.opcode) {
            if flags.contains(ScriptFlags::DISCOURAGE_OP_SUCCESS) {
                return Err(ScriptError::DiscourageOpSuccess);
            }
            return anyone_can_spend(observer);
        }
    }
    if items_left > MAX_STACK_ITEMS {
        return Err(ScriptError::StackSize);
    }
    let weight = i64::try_from(witness.size()).unwrap_or(i64::MAX);
    let version = Version::Tapscript(Tapscript {
        position: LeafPosition { leaf_hash, code_separator: LeafPosition::NO_CODE_SEPARATOR },
        annex_hash,
        weight_left: weight.saturating_add(WEIGHT_ALLOWANCE),
    });
    execute(input, items(witness, items_left), script, flags, version, Stage::Tapscript, observer)
}

/// BIP 341: the control block's key, tweaked by the tree that the leaf and the control block's hashes make, is the
/// output key with the parity that the control block says.
fn verify_commitment(control: &[u8], script: &[u8], program: &[u8]) -> Result<TapLeafHash, ScriptError> {
    const WRONG: ScriptError = ScriptError::TaprootWrongControlSize;
    let Some((first, rest)) = control.split_first() else { return Err(WRONG) };
    let (key, branches) = rest.split_at_checked(32).ok_or(WRONG)?;
    let (branches, odd_bytes) = branches.as_chunks::<32>();
    if !odd_bytes.is_empty() || branches.len() > MAX_BRANCHES {
        return Err(WRONG);
    }
    let leaf_hash = tap_leaf_hash(first & LEAF_VERSION_MASK, script);
    let root = branches.iter().fold(TapNodeHash::from_byte_array(leaf_hash.to_byte_array()), |node, branch| {
        TapNodeHash::from_node_hashes(node, TapNodeHash::from_byte_array(*branch))
    });
    let parity = Parity::from_u8(first & 1).map_err(|_| WRONG)?;
    let tweaked = XOnlyPublicKey::from_slice(key).ok().and_then(|internal_key| {
        let tweak = TapTweakHash::from_key_and_tweak(internal_key, Some(root)).to_byte_array();
        internal_key.add_tweak(&SECP, &Scalar::from_be_bytes(tweak).ok()?).ok()
    });
    match tweaked {
        Some((output_key, tweaked_parity)) if output_key.serialize() == program && tweaked_parity == parity => {
            Ok(leaf_hash)
        }
        _ => Err(ScriptError::WitnessProgramMismatch),
    }
}

/// The hash of a taproot leaf of any version (BIP 341).
fn tap_leaf_hash(leaf_version: u8, script: &[u8]) -> TapLeafHash {
    let mut engine = TapLeafHash::engine();
    engine.input(&[leaf_version]);
    sighash::put_bytes(&mut engine, script);
    TapLeafHash::from_engine(engine)
}

/// The first `count` items of the witness, not longer than an item may be.
fn items(witness: &Witness, count: usize) -> Result<Stack<'_>, ScriptError> {
    // Witness items are at least a byte each of a transaction that is already in memory.
    let mut stack = Stack::with_capacity(count.saturating_add(8));
    for item in witness.iter().take(count) {
        if item.len() > MAX_ITEM_BYTES {
            return Err(ScriptError::PushSize);
        }
        stack.push(Item::Slice(item));
    }
    Ok(stack)
}

/// Executes a witness script, which has to leave exactly one item, and that true.
fn execute<'s, O: Observer>(
    input: &DigestInput<'_>,
    items: Result<Stack<'s>, ScriptError>,
    script: &'s [u8],
    flags: ScriptFlags,
    mut version: Version,
    stage: fn(&'s [u8]) -> Stage<'s>,
    observer: &mut O,
) -> Result<(), ScriptError> {
    let mut stack = items?;
    observer.stage(stage(script), StackView(&stack));
    Execution::new(script, &mut stack, &mut version, flags, *input).run(observer)?;
    if stack.len() != 1 {
        return Err(ScriptError::CleanStack);
    }
    if stack.top(0)?.is_true() { Ok(()) } else { Err(ScriptError::EvalFalse) }
}
