//! How large a block may be and how many signature checks it may ask for (BIP 141).

use bitcoin::script::Instruction;
use bitcoin::{Block, Script, Transaction, TxIn, TxOut, VarInt, Witness};

/// Four units a byte, one for a byte of witness.
pub const MAX_BLOCK_WEIGHT: u64 = 4_000_000;
/// Four units a signature operation, one in witness programs.
pub const MAX_BLOCK_SIGOP_COST: u64 = 80_000;
/// What a byte outside of witnesses weighs.
pub const WITNESS_SCALE: u64 = 4;

/// Size of a block without witnesses.
pub fn stripped_size(block: &Block) -> u64 {
    let transactions: usize = block.txdata.iter().map(Transaction::base_size).sum();
    (bitcoin::block::Header::SIZE + VarInt::from(block.txdata.len()).size() + transactions) as u64
}

/// Weight of a block: three times its size without witnesses plus its whole size.
pub fn block_weight(block: &Block) -> u64 {
    block.weight().to_wu()
}

/// Signature operations in scripts of the old kind, in all inputs and outputs. Counts every script, the coinbase's too,
/// and takes a CHECKMULTISIG for 20.
pub fn legacy_sigops(tx: &Transaction) -> u64 {
    let inputs = tx.input.iter().map(|input| input.script_sig.count_sigops_legacy());
    let outputs = tx.output.iter().map(|output| output.script_pubkey.count_sigops_legacy());
    // Counting stops at a push that runs over the end of the script; it does not fail.
    inputs.chain(outputs).map(|count| count as u64).sum()
}

/// Which signature operations beyond the legacy ones count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SigopRules {
    Legacy,
    P2sh,
    P2shAndWitness,
}

/// The signature operation cost of a transaction whose inputs spend `spent`, in input order (none for a coinbase).
pub fn sigop_cost<'a>(tx: &Transaction, spent: impl IntoIterator<Item = &'a TxOut>, rules: SigopRules) -> u64 {
    let legacy = legacy_sigops(tx) * WITNESS_SCALE;
    if tx.is_coinbase() {
        return legacy;
    }
    let (p2sh, witness) = match rules {
        SigopRules::Legacy => (false, false),
        SigopRules::P2sh => (true, false),
        SigopRules::P2shAndWitness => (true, true),
    };
    let spending = |(input, output): (&TxIn, &TxOut)| {
        let redeem = if output.script_pubkey.is_p2sh() { last_push(&input.script_sig) } else { None };
        let in_p2sh = match redeem {
            Some(redeem) if p2sh => redeem.count_sigops() as u64 * WITNESS_SCALE,
            Some(_) | None => 0,
        };
        let program = if output.script_pubkey.is_witness_program() { Some(&*output.script_pubkey) } else { redeem };
        let in_witness = match program {
            Some(program) if witness => witness_sigops(program, &input.witness),
            Some(_) | None => 0,
        };
        in_p2sh + in_witness
    };
    legacy + tx.input.iter().zip(spent).map(spending).sum::<u64>()
}

/// What a script that only pushes leaves on top of the stack; `None` if it does anything else.
fn last_push(script_sig: &Script) -> Option<&Script> {
    let mut last = Script::new();
    for instruction in script_sig.instructions() {
        last = match instruction.ok()? {
            Instruction::PushBytes(bytes) => Script::from_bytes(bytes.as_bytes()),
            // The number opcodes push too, but no script.
            Instruction::Op(opcode) if opcode.to_u8() <= bitcoin::opcodes::all::OP_PUSHNUM_16.to_u8() => Script::new(),
            Instruction::Op(_) => return None,
        };
    }
    Some(last)
}

/// Version 0 counts; taproot has its own budget inside the script; programs of the future count nothing.
fn witness_sigops(program: &Script, witness: &Witness) -> u64 {
    if program.is_p2wpkh() {
        1
    } else if program.is_p2wsh() {
        witness.last().map_or(0, |script| Script::from_bytes(script).count_sigops() as u64)
    } else {
        0
    }
}
