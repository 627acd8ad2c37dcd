//! The interpreter at work: which scripts it runs to verify an input, and the stack after each instruction.

use leyden_consensus::script::{
    Observer, ScriptError, ScriptFlags, SpendingTx, StackView, Stage,
    opcodes::{self, Instruction, Instructions, OP_PUSHDATA4},
};

/// How many instructions are written down: more than any script of the old kinds has. A tapscript may have as many as a
/// block has bytes.
const MOST_STEPS: usize = 20_000;

/// What happened while one input was verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The scripts, in the order in which they ran.
    pub stages: Vec<TracedStage>,
    /// Why the input may not be spent; `None` if it may.
    pub failure: Option<ScriptError>,
    /// Instructions beyond the number that is written down.
    pub left_out: usize,
    steps: usize,
}

/// One script, or what is verified without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedStage {
    /// Such as `output script`.
    pub name: &'static str,
    /// The script as opcodes and data; for a key path the key and the signature.
    pub script: String,
    /// What was on the stack at the beginning, the top last.
    pub stack: Vec<Vec<u8>>,
    /// Its instructions, up to the one that failed if one did.
    pub steps: Vec<Step>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its opcode, or the data that it pushes.
    pub instruction: String,
    /// Not in a branch that is taken, so without an effect.
    pub skipped: bool,
    /// The stack after it, the top last; `None` if it failed.
    pub stack: Option<Vec<Vec<u8>>>,
    /// The alternative stack after it.
    pub alternative: Vec<Vec<u8>>,
}

impl Trace {
    /// Verifies an input by these rules and writes down each step.
    pub fn of(spending: &SpendingTx<'_>, input: usize, flags: ScriptFlags) -> Self {
        let mut trace = Self::default();
        trace.failure = spending.verify_input_observed(input, flags, &mut trace).err();
        trace
    }

    fn last_step(&mut self) -> Option<&mut Step> {
        self.stages.last_mut()?.steps.last_mut()
    }
}

fn copied(stack: StackView<'_>) -> Vec<Vec<u8>> {
    stack.items().map(<[u8]>::to_vec).collect()
}

impl Observer for Trace {
    fn stage(&mut self, stage: Stage<'_>, stack: StackView<'_>) {
        let (name, script) = match stage {
            Stage::InputScript(script) => ("input script", disassembled(script)),
            Stage::OutputScript(script) => ("output script", disassembled(script)),
            Stage::RedeemScript(script) => ("redeem script", disassembled(script)),
            Stage::KeyHash(script) => ("script of the key hash", disassembled(script)),
            Stage::WitnessScript(script) => ("witness script", disassembled(script)),
            Stage::Tapscript(script) => ("tapscript", disassembled(script)),
            Stage::KeyPath { key, signature } => {
                ("key path", format!("key {} signature {}", hex::encode(key), hex::encode(signature)))
            }
            Stage::AnyoneCanSpend => ("anyone can spend", String::new()),
        };
        self.stages.push(TracedStage { name, script, stack: copied(stack), steps: Vec::new() });
    }

    fn instruction(&mut self, instruction: Instruction<'_>, executing: bool) {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            self.left_out += 1;
            return;
        }
        if let Some(stage) = self.stages.last_mut() {
            let instruction = word(&instruction);
            stage.steps.push(Step { instruction, skipped: !executing, stack: None, alternative: Vec::new() });
        }
    }

    fn executed(&mut self, stack: StackView<'_>, alternative: StackView<'_>) {
        if self.steps > MOST_STEPS {
            return;
        }
        if let Some(step) = self.last_step() {
            step.stack = Some(copied(stack));
            step.alternative = copied(alternative);
        }
    }
}

/// A script as opcodes and data, such as `OP_DUP OP_HASH160 89ab… OP_EQUALVERIFY OP_CHECKSIG`.
pub fn disassembled(script: &[u8]) -> String {
    let words = Instructions::new(script).map(|read| match read {
        Ok(instruction) => word(&instruction),
        Err(_) => "[a push beyond the end]".to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn word(instruction: &Instruction<'_>) -> String {
    match instruction.opcode {
        0 => "OP_0".to_owned(),
        1..=OP_PUSHDATA4 => hex::encode(instruction.data),
        opcode => {
            let named = opcodes::NAMED.iter().find(|(_, number)| *number == opcode);
            named.map_or_else(|| format!("OP_UNKNOWN_{opcode:02x}"), |(name, _)| (*name).to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{Amount, ScriptBuf, Transaction, TxIn, TxOut, absolute::LockTime, transaction::Version};

    use super::*;

    fn traced(script: Vec<u8>) -> Trace {
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn::default()],
            output: vec![],
        };
        let spent = vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) }];
        Trace::of(&SpendingTx::new(&tx, spent).unwrap(), 0, ScriptFlags::CONSENSUS)
    }

    #[test]
    fn each_step_has_the_stack_that_it_leaves_and_the_failed_one_has_none() {
        let trace = traced(vec![0x52, 0x02, 0xab, 0xcd, 0x75, 0x6a]);
        let stage = trace.stages.last().unwrap();
        assert_eq!((stage.name, stage.script.as_str()), ("output script", "OP_2 abcd OP_DROP OP_RETURN"));
        let stacks: Vec<_> = stage.steps.iter().map(|step| step.stack.clone()).collect();
        let two = vec![2];
        assert_eq!(stacks, [Some(vec![two.clone()]), Some(vec![two.clone(), vec![0xab, 0xcd]]), Some(vec![two]), None]);
        assert_eq!(trace.failure, Some(ScriptError::OpReturn));
    }

    #[test]
    fn every_opcode_has_a_word_and_a_truncated_push_too() {
        assert_eq!(disassembled(&[0, 0x51, 0xfe, 5, 1]), "OP_0 OP_1 OP_UNKNOWN_fe [a push beyond the end]");
    }
}
