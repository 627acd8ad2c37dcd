//! Looking on while an input is verified, step by step.
//!
//! ```text
//!   stage ─▶ (instruction ─▶ executed)* ─▶ stage ─▶ …        an instruction that is not executed failed, and with it the input
//! ```
//!
//! The interpreter is the one that decides about blocks: it is compiled once for `()`, which looks at nothing and costs
//! nothing, and once for each other observer.

use super::opcodes::Instruction;
use super::stack::Stack;

/// Is told what the interpreter does. All of its methods do nothing unless they are written.
pub trait Observer {
    /// Another script begins, or what is verified without one.
    fn stage(&mut self, stage: Stage<'_>, stack: StackView<'_>) {
        let _ = (stage, stack);
    }

    /// An instruction has been read; `executing` is false in a branch that is not taken.
    fn instruction(&mut self, instruction: Instruction<'_>, executing: bool) {
        let _ = (instruction, executing);
    }

    /// It has been executed, or passed over, and has left these stacks.
    fn executed(&mut self, stack: StackView<'_>, alternative: StackView<'_>) {
        let _ = (stack, alternative);
    }
}

/// Nobody looks.
impl Observer for () {}

/// Which part of an input is verified next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage<'a> {
    /// The input script, which only pushes unless it is very old.
    InputScript(&'a [u8]),
    /// The output script.
    OutputScript(&'a [u8]),
    /// The script that the input script pushed last, whose hash the output script names (BIP 16).
    RedeemScript(&'a [u8]),
    /// The script that a version 0 program of 20 bytes stands for (BIP 141).
    KeyHash(&'a [u8]),
    /// The script in the witness, whose hash is the version 0 program (BIP 141).
    WitnessScript(&'a [u8]),
    /// A leaf of the tree that the output key commits to (BIP 342).
    Tapscript(&'a [u8]),
    /// The output key itself signs; there is no script (BIP 341).
    KeyPath {
        /// The output key.
        key: &'a [u8],
        /// With a hash type of one byte, if it is not the default one.
        signature: &'a [u8],
    },
    /// Nothing is checked: a program or leaf of a future version, an opcode kept for one, or pay-to-anchor.
    AnyoneCanSpend,
}

/// The items of a stack at one moment.
#[derive(Clone, Copy)]
pub struct StackView<'a>(pub(super) &'a Stack<'a>);

impl StackView<'_> {
    /// The items, the first one pushed first; the top of the stack is the last.
    pub fn items(&self) -> impl Iterator<Item = &[u8]> {
        self.0.items()
    }
}
