//! Outputs for blocks to spend: ones that anybody can spend at a known cost, and ones with a drawn script.

use std::rc::Rc;

use bitcoin::hashes::{Hash, hash160, sha256};
use bitcoin::{ScriptBuf, TxOut, Witness};
use leyden_consensus::script::opcodes::*;

use crate::draw::Draw;
use crate::scripts::{Locks, Spend, push_of};

/// An unspent output, and how it is spent.
#[derive(Clone)]
pub struct Known {
    pub output: TxOut,
    pub height: u32,
    pub is_coinbase: bool,
    pub lock: Lock,
}

#[derive(Clone)]
pub enum Lock {
    Open(Open),
    Drawn(Rc<Spend>, Locks),
    /// Nobody knows how.
    Closed,
}

/// What anybody can spend.
#[derive(Clone)]
pub enum Open {
    /// `1`, without pay-to-anything.
    Bare,
    Wrapped {
        wrap: Wrap,
        script: Vec<u8>,
        sigops: usize,
    },
    /// Takes an item of any length: for blocks of an exact weight.
    Filler,
}

#[derive(Clone, Copy)]
pub enum Wrap {
    ScriptHash,
    Witness,
    Nested,
}

const DROP_ALL: [u8; 2] = [OP_DROP, OP_1];

impl Open {
    pub fn draw(draw: &mut Draw) -> Self {
        match draw.below(8) {
            0..=2 => Self::Bare,
            3 => Self::Filler,
            _ => {
                let wrap = draw.pick(&[Wrap::ScriptHash, Wrap::Witness, Wrap::Witness, Wrap::Nested]);
                let (script, sigops) = counted(draw);
                Self::Wrapped { wrap, script, sigops }
            }
        }
    }

    pub fn script_pubkey(&self) -> ScriptBuf {
        match self {
            Self::Bare => vec![OP_1].into(),
            Self::Filler => witness_output(&DROP_ALL).into(),
            Self::Wrapped { wrap: Wrap::ScriptHash, script, .. } => script_hash(script).into(),
            Self::Wrapped { wrap: Wrap::Witness, script, .. } => witness_output(script).into(),
            Self::Wrapped { wrap: Wrap::Nested, script, .. } => script_hash(&witness_output(script)).into(),
        }
    }

    pub fn unlock(&self) -> (ScriptBuf, Witness) {
        match self {
            Self::Bare => (ScriptBuf::new(), Witness::new()),
            Self::Filler => (ScriptBuf::new(), Witness::from_slice(&[&[][..], &DROP_ALL])),
            Self::Wrapped { wrap: Wrap::ScriptHash, script, .. } => (push_of(script).into(), Witness::new()),
            Self::Wrapped { wrap: Wrap::Witness, script, .. } => (ScriptBuf::new(), Witness::from_slice(&[script])),
            Self::Wrapped { wrap: Wrap::Nested, script, .. } => {
                (push_of(&witness_output(script)).into(), Witness::from_slice(&[script]))
            }
        }
    }

    /// What spending it costs in signature operations.
    pub fn sigop_cost(&self) -> usize {
        match self {
            Self::Bare | Self::Filler => 0,
            Self::Wrapped { wrap: Wrap::ScriptHash, sigops, .. } => 4 * sigops,
            Self::Wrapped { sigops, .. } => *sigops,
        }
    }
}

/// A script that passes, with signature operations in a branch that is never taken.
fn counted(draw: &mut Draw) -> (Vec<u8>, usize) {
    let (mut script, mut sigops) = (vec![OP_0, OP_IF], 0);
    for _ in 0..draw.below(4) {
        match draw.below(5) {
            0 => {
                let keys = draw.within(1, 16);
                script.extend([OP_1 - 1 + keys as u8, OP_CHECKMULTISIG]);
                sigops += keys;
            }
            1 => {
                // The number does not stand directly before it.
                script.extend([OP_2, OP_NOP, OP_CHECKMULTISIGVERIFY]);
                sigops += 20;
            }
            2 => {
                script.extend([1, OP_CHECKSIG]);
            }
            _ => {
                script.push(OP_CHECKSIG);
                sigops += 1;
            }
        }
    }
    script.extend([OP_ENDIF, OP_1]);
    (script, sigops)
}

fn witness_output(script: &[u8]) -> Vec<u8> {
    [&[OP_0][..], &push_of(sha256::Hash::hash(script).as_byte_array())].concat()
}

fn script_hash(script: &[u8]) -> Vec<u8> {
    [&[OP_HASH160][..], &push_of(hash160::Hash::hash(script).as_byte_array()), &[OP_EQUAL]].concat()
}
