//! A transaction together with what it spends.

use std::borrow::Cow;

use bitcoin::{Transaction, TxOut};
use thiserror::Error;

use super::error::ScriptError;
use super::flags::ScriptFlags;
use super::interpreter::{Execution, Version};
use super::observer::{Observer, StackView, Stage};
use super::opcodes::{OP_EQUAL, OP_HASH160, is_push_only};
use super::sighash::{self, DigestInput, Digests, EcdsaHashType, LeafPosition, LegacyDigest, SharedHashes};
use super::stack::Stack;
use super::witness::{Nesting, verify_program, witness_program};

/// A transaction with all the outputs that it spends, ready to have its inputs verified, in parallel if wanted.
///
/// What the signatures of all inputs share is hashed once, when this is made.
pub struct SpendingTx<'a> {
    tx: &'a Transaction,
    spent: Cow<'a, [TxOut]>,
    shared: Option<SharedHashes>,
}

/// The spent outputs do not belong to the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a transaction with {inputs} inputs was given {spent} spent outputs: pass one for each input, in input order")]
pub struct SpentOutputsMismatch {
    /// How many inputs the transaction has.
    pub inputs: usize,
    /// How many outputs were given.
    pub spent: usize,
}

impl<'a> SpendingTx<'a> {
    /// Joins a transaction with the outputs that its inputs spend, in input order.
    pub fn new(tx: &'a Transaction, spent: impl Into<Cow<'a, [TxOut]>>) -> Result<Self, SpentOutputsMismatch> {
        let spent = spent.into();
        if tx.input.len() != spent.len() {
            return Err(SpentOutputsMismatch { inputs: tx.input.len(), spent: spent.len() });
        }
        // Legacy digests share nothing. A native version 1 output is what can be taproot.
        let segwit = tx.input.iter().any(|input| !input.witness.is_empty());
        let is_taproot = |output: &TxOut| {
            let program = witness_program(output.script_pubkey.as_bytes());
            program.is_some_and(|(version, program)| version == 1 && program.len() == 32)
        };
        let shared = segwit.then(|| {
            let taproot = spent.iter().any(is_taproot);
            let digests = Digests { segwit_v0: !spent.iter().all(is_taproot), taproot };
            SharedHashes::of(tx, &spent, digests)
        });
        Ok(Self { tx, spent, shared })
    }

    /// The transaction.
    pub fn transaction(&self) -> &'a Transaction {
        self.tx
    }

    /// The outputs that it spends, in input order.
    pub fn spent_outputs(&self) -> &[TxOut] {
        &self.spent
    }

    fn input(&self, index: usize) -> Result<DigestInput<'_>, ScriptError> {
        match (self.tx.input.get(index), self.spent.get(index)) {
            (Some(input), Some(spent_output)) => Ok(DigestInput {
                tx: self.tx,
                input,
                index,
                spent: &self.spent,
                spent_output,
                shared: self.shared.as_ref(),
            }),
            _ => Err(ScriptError::NoSuchInput { index, inputs: self.tx.input.len() }),
        }
    }

    /// Whether the input script and witness of this input may spend its output, under these rules.
    pub fn verify_input(&self, index: usize, flags: ScriptFlags) -> Result<(), ScriptError> {
        self.verify_input_observed(index, flags, &mut ())
    }

    /// The same for somebody who looks on. If it fails, then at the instruction, or in the stage, that was told last, or
    /// between two stages.
    pub fn verify_input_observed<O: Observer>(
        &self,
        index: usize,
        flags: ScriptFlags,
        observer: &mut O,
    ) -> Result<(), ScriptError> {
        let input = self.input(index)?;
        let script_sig = input.input.script_sig.as_bytes();
        let script_pubkey = input.spent_output.script_pubkey.as_bytes();
        if flags.contains(ScriptFlags::SIGPUSHONLY) && !is_push_only(script_sig) {
            return Err(ScriptError::SigPushOnly);
        }

        // One stack, two scripts one after the other: joining them into one would let the first change the second
        // (CVE-2010-5141).
        let mut stack = Stack::default();
        observer.stage(Stage::InputScript(script_sig), StackView(&stack));
        execute(&input, &mut stack, script_sig, flags, observer)?;
        let script_hash = flags.contains(ScriptFlags::P2SH) && is_script_hash(script_pubkey);
        let pushed = script_hash.then(|| stack.clone());
        observer.stage(Stage::OutputScript(script_pubkey), StackView(&stack));
        execute(&input, &mut stack, script_pubkey, flags, observer)?;
        require_true(&stack)?;
        let mut clean = stack.len() == 1;

        let mut had_witness_program = false;
        if flags.contains(ScriptFlags::WITNESS)
            && let Some((version, program)) = witness_program(script_pubkey)
        {
            had_witness_program = true;
            if !script_sig.is_empty() {
                return Err(ScriptError::WitnessMalleated);
            }
            verify_program(&input, version, program, flags, Nesting::Native, observer)?;
            clean = true;
        }

        if let Some(mut pushed) = pushed {
            if !is_push_only(script_sig) {
                return Err(ScriptError::SigPushOnly);
            }
            let redeem_item = pushed.pop()?;
            let redeem_script = redeem_item.bytes();
            let mut stack: Stack<'_> = pushed;
            observer.stage(Stage::RedeemScript(redeem_script), StackView(&stack));
            execute(&input, &mut stack, redeem_script, flags, observer)?;
            require_true(&stack)?;
            clean = stack.len() == 1;
            if flags.contains(ScriptFlags::WITNESS)
                && let Some((version, program)) = witness_program(redeem_script)
            {
                had_witness_program = true;
                // Exactly one push of the script, in the shortest form: a program is 42 bytes at most.
                let only_push = script_sig
                    .split_first()
                    .is_some_and(|(length, rest)| usize::from(*length) == rest.len() && rest == redeem_script);
                if !only_push {
                    return Err(ScriptError::WitnessMalleatedP2sh);
                }
                verify_program(&input, version, program, flags, Nesting::ScriptHash, observer)?;
                clean = true;
            }
        }

        if flags.contains(ScriptFlags::CLEANSTACK) && !clean {
            return Err(ScriptError::CleanStack);
        }
        if flags.contains(ScriptFlags::WITNESS) && !had_witness_program && !input.input.witness.is_empty() {
            return Err(ScriptError::WitnessUnexpected);
        }
        Ok(())
    }

    /// The legacy digest of an input, with all 32 bits of the hash type.
    ///
    /// `script_code` is the executed script from the last executed code separator on, without the signature's push.
    pub fn legacy_digest(&self, index: usize, script_code: &[u8], hash_type: u32) -> Result<[u8; 32], ScriptError> {
        let hash_type = EcdsaHashType(hash_type);
        Ok(match self.input(index)?.legacy(script_code, hash_type) {
            LegacyDigest::One => sighash::DIGEST_ONE,
            LegacyDigest::Engine(engine) => sighash::finish(engine, hash_type),
        })
    }

    /// The BIP 143 digest of an input, with all 32 bits of the hash type.
    pub fn segwit_v0_digest(&self, index: usize, script_code: &[u8], hash_type: u32) -> Result<[u8; 32], ScriptError> {
        let hash_type = EcdsaHashType(hash_type);
        Ok(sighash::finish(self.input(index)?.segwit_v0(script_code, hash_type), hash_type))
    }

    /// The BIP 341 digest of an input; `leaf` where the signature is checked in a tapscript (BIP 342).
    pub fn taproot_digest(
        &self,
        index: usize,
        hash_type: u8,
        annex: Option<&[u8]>,
        leaf: Option<&LeafPosition>,
    ) -> Result<[u8; 32], ScriptError> {
        let annex_hash = annex.map(sighash::annex_hash);
        self.input(index)?.taproot(hash_type, annex_hash.as_ref(), leaf).ok_or(ScriptError::SchnorrSigHashType)
    }
}

/// BIP 16: `HASH160 <20 bytes> EQUAL`.
pub fn is_script_hash(script: &[u8]) -> bool {
    matches!(script, [OP_HASH160, 20, hash @ .., OP_EQUAL] if hash.len() == 20)
}

fn execute<'s, O: Observer>(
    input: &DigestInput<'_>,
    stack: &mut Stack<'s>,
    script: &'s [u8],
    flags: ScriptFlags,
    observer: &mut O,
) -> Result<(), ScriptError> {
    if script.is_empty() {
        return Ok(());
    }
    Execution::new(script, stack, &mut Version::Legacy, flags, *input).run(observer)
}

fn require_true(stack: &Stack<'_>) -> Result<(), ScriptError> {
    match stack.top(0) {
        Ok(result) if result.is_true() => Ok(()),
        _ => Err(ScriptError::EvalFalse),
    }
}
