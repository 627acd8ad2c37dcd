//! The loop that executes one script.
//!
//! ```text
//!   input script ──▶ stack ──▶ output script ──▶ stack        legacy, then a pay-to-script-hash script
//!   witness items ───────────▶ witness script ─▶ one item     version 0 and tapscript
//! ```
//!
//! Promises: no input can make it panic or loop, and it neither copies a script nor allocates for an item. Every
//! instruction is read and its size and kind checked even in branches that are not taken; only its effect is skipped.

pub(super) mod signature;

use bitcoin::hashes::{Hash, hash160, ripemd160, sha1, sha256, sha256d};

use super::conditional::Conditionals;
use super::error::ScriptError;
use super::flags::ScriptFlags;
use super::number;
use super::observer::{Observer, StackView};
use super::opcodes::{self, *};
use super::sighash::{DigestInput, LeafPosition};
use super::stack::{Item, Stack};
use signature::DigestCache;

/// The longest legacy and version 0 script, in bytes.
const MAX_SCRIPT_BYTES: usize = 10_000;
/// The longest item, in bytes.
pub(super) const MAX_ITEM_BYTES: usize = 520;
/// The most counted operations of a legacy or version 0 script: opcodes above `OP_16`, and the keys of multisigs.
pub(super) const MAX_OPERATIONS: usize = 201;
/// The most items on both stacks together.
pub(super) const MAX_STACK_ITEMS: usize = 1_000;

/// Lock times from here on are times, those below are heights (BIP 65).
const LOCK_TIME_THRESHOLD: i64 = 500_000_000;
/// BIP 68: this bit of a sequence switches its relative lock off.
const SEQUENCE_DISABLE: i64 = 1 << 31;
/// BIP 68: this bit tells time from height.
const SEQUENCE_IS_TIME: i64 = 1 << 22;
/// BIP 68: the bits that have a meaning.
const SEQUENCE_MASK: i64 = SEQUENCE_IS_TIME | 0xffff;

/// Which rules a script is executed by, with the state that only these rules need.
pub(super) enum Version {
    Legacy,
    WitnessV0,
    Tapscript(Tapscript),
}

/// What a tapscript's signature checks need beyond the transaction.
pub(super) struct Tapscript {
    pub(super) position: LeafPosition,
    pub(super) annex_hash: Option<sha256::Hash>,
    /// BIP 342: what is left of the budget for signature checks.
    pub(super) weight_left: i64,
}

/// One script being executed. `'s` is the lifetime of scripts and witness, `'x` that of the call.
pub(super) struct Execution<'x, 's> {
    pub(super) script: &'s [u8],
    pub(super) stack: &'x mut Stack<'s>,
    pub(super) version: &'x mut Version,
    pub(super) flags: ScriptFlags,
    pub(super) input: DigestInput<'x>,
    /// Where the signed part of the script starts: after the last executed `OP_CODESEPARATOR`.
    pub(super) code_start: usize,
    pub(super) operations: usize,
    digests: DigestCache,
    alternative: Stack<'s>,
    conditionals: Conditionals,
}

impl<'x, 's> Execution<'x, 's> {
    pub(super) fn new(
        script: &'s [u8],
        stack: &'x mut Stack<'s>,
        version: &'x mut Version,
        flags: ScriptFlags,
        input: DigestInput<'x>,
    ) -> Self {
        Self {
            script,
            stack,
            version,
            flags,
            input,
            code_start: 0,
            operations: 0,
            digests: DigestCache::default(),
            alternative: Stack::default(),
            conditionals: Conditionals::default(),
        }
    }

    /// Whether numbers and pushes must use their shortest form.
    pub(super) fn minimal(&self) -> bool {
        self.flags.contains(ScriptFlags::MINIMALDATA)
    }

    /// Executes the whole script. The stack then holds what the script left.
    pub(super) fn run<O: Observer>(mut self, observer: &mut O) -> Result<(), ScriptError> {
        // Tapscripts are limited by the block weight alone.
        let limited = match self.version {
            Version::Legacy | Version::WitnessV0 => true,
            Version::Tapscript(_) => false,
        };
        if limited && self.script.len() > MAX_SCRIPT_BYTES {
            return Err(ScriptError::ScriptSize);
        }
        let constant_code =
            matches!(self.version, Version::Legacy) && self.flags.contains(ScriptFlags::CONST_SCRIPTCODE);
        let minimal = self.minimal();
        let mut instructions = Instructions::new(self.script);
        let mut position = 0u32;
        while let Some(read) = instructions.next() {
            let Ok(instruction) = read else { return Err(ScriptError::BadOpcode) };
            let opcode = instruction.opcode;
            let executing = self.conditionals.executing();
            observer.instruction(instruction, executing);
            if instruction.data.len() > MAX_ITEM_BYTES {
                return Err(ScriptError::PushSize);
            }
            if limited && opcode > OP_16 {
                self.operations = self.operations.saturating_add(1);
                if self.operations > MAX_OPERATIONS {
                    return Err(ScriptError::OpCount);
                }
            }
            if opcodes::is_disabled(opcode) {
                return Err(ScriptError::DisabledOpcode);
            }
            if opcode == OP_CODESEPARATOR && constant_code {
                return Err(ScriptError::OpCodeSeparator);
            }
            if opcode <= OP_PUSHDATA4 {
                if executing {
                    if minimal && !opcodes::is_minimal_push(&instruction) {
                        return Err(ScriptError::MinimalData);
                    }
                    self.stack.push(Item::Slice(instruction.data));
                }
            } else if opcode == OP_CODESEPARATOR {
                if executing {
                    self.code_start = self.script.len().saturating_sub(instructions.rest().len());
                    if let Version::Tapscript(tapscript) = &mut *self.version {
                        tapscript.position.code_separator = position;
                    }
                }
            } else if executing || (OP_IF..=OP_ENDIF).contains(&opcode) {
                self.perform(opcode, executing)?;
            }
            if self.stack.len().saturating_add(self.alternative.len()) > MAX_STACK_ITEMS {
                return Err(ScriptError::StackSize);
            }
            observer.executed(StackView(self.stack), StackView(&self.alternative));
            position = position.saturating_add(1);
        }
        if self.conditionals.is_balanced() { Ok(()) } else { Err(ScriptError::UnbalancedConditional) }
    }

    /// Executes one opcode that is not a push of bytes. Conditionals come here in branches not taken too.
    // The loop is compiled for each observer, and has to take this in wherever that is.
    #[inline]
    fn perform(&mut self, opcode: u8, executing: bool) -> Result<(), ScriptError> {
        match opcode {
            OP_1NEGATE => self.push_number(-1),
            OP_1..=OP_16 => self.push_number(i64::from(opcode) - i64::from(OP_1) + 1),

            OP_NOP => Ok(()),
            OP_CHECKLOCKTIMEVERIFY => self.op_check_lock_time(),
            OP_CHECKSEQUENCEVERIFY => self.op_check_sequence(),
            OP_NOP1 | OP_NOP4..=OP_NOP10 => {
                if self.flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_NOPS) {
                    return Err(ScriptError::DiscourageUpgradableNops);
                }
                Ok(())
            }
            OP_IF | OP_NOTIF => {
                let condition = executing && (self.pop_condition()? == (opcode == OP_IF));
                self.conditionals.enter(condition);
                Ok(())
            }
            OP_ELSE => balanced(self.conditionals.toggle()),
            OP_ENDIF => balanced(self.conditionals.leave()),
            OP_VERIFY => {
                let result = self.stack.pop()?.is_true();
                require(result, ScriptError::Verify)
            }
            OP_RETURN => Err(ScriptError::OpReturn),

            OP_TOALTSTACK => {
                let item = self.stack.pop()?;
                self.alternative.push(item);
                Ok(())
            }
            OP_FROMALTSTACK => {
                let item = self.alternative.pop().map_err(|_| ScriptError::InvalidAltstackOperation)?;
                self.stack.push(item);
                Ok(())
            }
            OP_2DROP => self.stack.drop_items(2),
            OP_2DUP => self.stack.copy(1, 2),
            OP_3DUP => self.stack.copy(2, 3),
            OP_2OVER => self.stack.copy(3, 2),
            OP_2ROT => {
                self.stack.roll(5)?;
                self.stack.roll(5)
            }
            OP_2SWAP => {
                self.stack.roll(3)?;
                self.stack.roll(3)
            }
            OP_IFDUP => {
                if self.stack.top(0)?.is_true() {
                    self.stack.copy(0, 1)?;
                }
                Ok(())
            }
            OP_DEPTH => self.push_length(self.stack.len()),
            OP_DROP => self.stack.drop_items(1),
            OP_DUP => self.stack.copy(0, 1),
            OP_NIP => self.stack.nip(),
            OP_OVER => self.stack.copy(1, 1),
            OP_PICK | OP_ROLL => {
                self.stack.need(2)?;
                let position = self.stack.number(0, self.minimal())?;
                self.stack.drop_items(1)?;
                let position = usize::try_from(position).map_err(|_| ScriptError::InvalidStackOperation)?;
                if opcode == OP_PICK { self.stack.copy(position, 1) } else { self.stack.roll(position) }
            }
            OP_ROT => self.stack.roll(2),
            OP_SWAP => self.stack.swap(0, 1),
            OP_TUCK => self.stack.tuck(),
            OP_SIZE => self.push_length(self.stack.top(0)?.bytes().len()),

            OP_EQUAL => {
                let equal = self.pop_equal()?;
                self.push_bool(equal)
            }
            OP_EQUALVERIFY => {
                let equal = self.pop_equal()?;
                require(equal, ScriptError::EqualVerify)
            }

            OP_1ADD | OP_1SUB | OP_NEGATE | OP_ABS | OP_NOT | OP_0NOTEQUAL => self.op_one_number(opcode),
            OP_NUMEQUALVERIFY => {
                let (one, other) = self.pop_two_numbers()?;
                require(one == other, ScriptError::NumEqualVerify)
            }
            OP_ADD | OP_SUB | OP_BOOLAND..=OP_MAX => self.op_two_numbers(opcode),
            OP_WITHIN => {
                self.stack.need(3)?;
                let minimal = self.minimal();
                let value = self.stack.number(2, minimal)?;
                let least = self.stack.number(1, minimal)?;
                let limit = self.stack.number(0, minimal)?;
                self.stack.drop_items(3)?;
                self.push_bool((least..limit).contains(&value))
            }

            OP_RIPEMD160 | OP_SHA1 | OP_SHA256 | OP_HASH160 | OP_HASH256 => self.op_hash(opcode),
            OP_CHECKSIG => {
                let good = self.op_checksig()?;
                self.push_bool(good)
            }
            OP_CHECKSIGVERIFY => {
                let good = self.op_checksig()?;
                require(good, ScriptError::CheckSigVerify)
            }
            OP_CHECKSIGADD => self.op_checksigadd(),
            OP_CHECKMULTISIG => {
                let good = self.op_checkmultisig()?;
                self.push_bool(good)
            }
            OP_CHECKMULTISIGVERIFY => {
                let good = self.op_checkmultisig()?;
                require(good, ScriptError::CheckMultisigVerify)
            }
            _ => Err(ScriptError::BadOpcode),
        }
    }

    #[inline]
    fn push_number(&mut self, value: i64) -> Result<(), ScriptError> {
        self.stack.push(Item::from_number(value));
        Ok(())
    }

    fn push_length(&mut self, length: usize) -> Result<(), ScriptError> {
        // Stacks and items are far shorter than any limit of the number.
        self.push_number(i64::try_from(length).unwrap_or(i64::MAX))
    }

    fn push_bool(&mut self, value: bool) -> Result<(), ScriptError> {
        self.stack.push(Item::from_bool(value));
        Ok(())
    }

    fn pop_equal(&mut self) -> Result<bool, ScriptError> {
        let equal = self.stack.top(1)?.bytes() == self.stack.top(0)?.bytes();
        self.stack.drop_items(2)?;
        Ok(equal)
    }

    /// Takes the condition of an `IF` from the stack.
    fn pop_condition(&mut self) -> Result<bool, ScriptError> {
        let condition = self.stack.top(0)?;
        let minimal = matches!(condition.bytes(), [] | [1]);
        match self.version {
            Version::Tapscript(_) => require(minimal, ScriptError::TapscriptMinimalIf)?,
            Version::WitnessV0 if self.flags.contains(ScriptFlags::MINIMALIF) => {
                require(minimal, ScriptError::MinimalIf)?;
            }
            Version::WitnessV0 | Version::Legacy => {}
        }
        let value = condition.is_true();
        self.stack.drop_items(1)?;
        Ok(value)
    }

    fn op_one_number(&mut self, opcode: u8) -> Result<(), ScriptError> {
        let value = self.stack.number(0, self.minimal())?;
        // Operands have 31 bits and a sign, so 64 bits always hold the result.
        let result = match opcode {
            OP_1ADD => value + 1,
            OP_1SUB => value - 1,
            OP_NEGATE => -value,
            OP_ABS => value.abs(),
            OP_NOT => i64::from(value == 0),
            OP_0NOTEQUAL => i64::from(value != 0),
            _ => return Err(ScriptError::BadOpcode),
        };
        self.stack.drop_items(1)?;
        self.push_number(result)
    }

    /// Takes two numbers from the stack, the deeper one first.
    fn pop_two_numbers(&mut self) -> Result<(i64, i64), ScriptError> {
        self.stack.need(2)?;
        let minimal = self.minimal();
        let numbers = (self.stack.number(1, minimal)?, self.stack.number(0, minimal)?);
        self.stack.drop_items(2)?;
        Ok(numbers)
    }

    #[inline]
    fn op_two_numbers(&mut self, opcode: u8) -> Result<(), ScriptError> {
        let (one, other) = self.pop_two_numbers()?;
        let result = match opcode {
            OP_ADD => one + other,
            OP_SUB => one - other,
            OP_BOOLAND => i64::from(one != 0 && other != 0),
            OP_BOOLOR => i64::from(one != 0 || other != 0),
            OP_NUMEQUAL => i64::from(one == other),
            OP_NUMNOTEQUAL => i64::from(one != other),
            OP_LESSTHAN => i64::from(one < other),
            OP_GREATERTHAN => i64::from(one > other),
            OP_LESSTHANOREQUAL => i64::from(one <= other),
            OP_GREATERTHANOREQUAL => i64::from(one >= other),
            OP_MIN => one.min(other),
            OP_MAX => one.max(other),
            _ => return Err(ScriptError::BadOpcode),
        };
        self.push_number(result)
    }

    fn op_hash(&mut self, opcode: u8) -> Result<(), ScriptError> {
        let item = self.stack.pop()?;
        let bytes = item.bytes();
        self.stack.push(match opcode {
            OP_RIPEMD160 => Item::from_hash20(ripemd160::Hash::hash(bytes).to_byte_array()),
            OP_SHA1 => Item::from_hash20(sha1::Hash::hash(bytes).to_byte_array()),
            OP_HASH160 => Item::from_hash20(hash160::Hash::hash(bytes).to_byte_array()),
            OP_SHA256 => Item::from_hash32(sha256::Hash::hash(bytes).to_byte_array()),
            OP_HASH256 => Item::from_hash32(sha256d::Hash::hash(bytes).to_byte_array()),
            _ => return Err(ScriptError::BadOpcode),
        });
        Ok(())
    }

    fn lock_time_operand(&self) -> Result<i64, ScriptError> {
        let value = number::decode(self.stack.top(0)?.bytes(), self.minimal(), number::LOCK_TIME_OPERAND)?;
        if value < 0 { Err(ScriptError::NegativeLockTime) } else { Ok(value) }
    }

    /// BIP 65: the transaction's lock time is of the same kind and at least the operand, and this input commits to it.
    fn op_check_lock_time(&mut self) -> Result<(), ScriptError> {
        if !self.flags.contains(ScriptFlags::CHECKLOCKTIMEVERIFY) {
            return Ok(());
        }
        let wanted = self.lock_time_operand()?;
        let lock_time = i64::from(self.input.tx.lock_time.to_consensus_u32());
        let same_kind = (wanted < LOCK_TIME_THRESHOLD) == (lock_time < LOCK_TIME_THRESHOLD);
        let committed = self.input.input.sequence.0 != u32::MAX;
        require(same_kind && wanted <= lock_time && committed, ScriptError::UnsatisfiedLockTime)
    }

    /// BIP 112: this input's relative lock is of the same kind and at least the operand.
    fn op_check_sequence(&mut self) -> Result<(), ScriptError> {
        if !self.flags.contains(ScriptFlags::CHECKSEQUENCEVERIFY) {
            return Ok(());
        }
        let wanted = self.lock_time_operand()?;
        if wanted & SEQUENCE_DISABLE != 0 {
            return Ok(());
        }
        let sequence = i64::from(self.input.input.sequence.0);
        // The version is 32 bits without a sign: 0xffffffff is a late version, not a negative one.
        let locks = self.input.tx.version.0.cast_unsigned() >= 2 && sequence & SEQUENCE_DISABLE == 0;
        let (wanted, sequence) = (wanted & SEQUENCE_MASK, sequence & SEQUENCE_MASK);
        let same_kind = (wanted < SEQUENCE_IS_TIME) == (sequence < SEQUENCE_IS_TIME);
        require(locks && same_kind && wanted <= sequence, ScriptError::UnsatisfiedLockTime)
    }
}

fn require(condition: bool, otherwise: ScriptError) -> Result<(), ScriptError> {
    if condition { Ok(()) } else { Err(otherwise) }
}

fn balanced(had_level: bool) -> Result<(), ScriptError> {
    require(had_level, ScriptError::UnbalancedConditional)
}
