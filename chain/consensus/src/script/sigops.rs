//! How many signature checks scripts may ask for.
//!
//! ```text
//!                       counted                       CHECKMULTISIG counts      cost of one
//!   legacy    every input and output script           20                        4
//!   P2SH      the redeem script, the last push        its number of keys        4
//!   witness   the witness script of version 0         its number of keys        1
//!             (1 for a public key hash)
//! ```
//!
//! The number of keys (BIP 16) is that of the opcode *directly* before the CHECKMULTISIG, if that is `OP_1` to `OP_16`;
//! else 20. Nothing is executed: checks in branches that are never taken count. A push that runs over the end of the
//! script ends the counting, and what was counted stays. Tapscripts have a budget of their own (BIP 342).
//!
//! A block that costs more than its limit is invalid, so a count that differs by one from everybody else's splits the
//! chain. The `bitcoin` crate's counter does differ (it remembers a number across other opcodes): it is not used.

use bitcoin::{Transaction, TxIn, TxOut};

use super::opcodes::{
    Instructions, OP_1, OP_16, OP_CHECKMULTISIG, OP_CHECKMULTISIGVERIFY, OP_CHECKSIG, OP_CHECKSIGVERIFY,
};
use super::spending::is_script_hash;
use super::witness::witness_program;
use crate::weight::WITNESS_SCALE;

/// What a CHECKMULTISIG counts as when it does not say how many keys it has: the most it may have.
const MAX_MULTISIG_KEYS: u64 = 20;

/// Which signature operations beyond the legacy ones count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SigopRules {
    /// None: before BIP 16.
    Legacy,
    /// Those in redeem scripts (BIP 16).
    P2sh,
    /// Those in redeem scripts and in witnesses (BIP 141).
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
        let in_p2sh = if p2sh { p2sh_sigops(input, output) * WITNESS_SCALE } else { 0 };
        let in_witness = if witness { witness_sigops(input, output) } else { 0 };
        in_p2sh + in_witness
    };
    legacy + tx.input.iter().zip(spent).map(spending).sum::<u64>()
}

/// Signature operations in scripts of the old kind, in all inputs and outputs, the coinbase's too.
pub fn legacy_sigops(tx: &Transaction) -> u64 {
    let inputs = tx.input.iter().map(|input| input.script_sig.as_bytes());
    let outputs = tx.output.iter().map(|output| output.script_pubkey.as_bytes());
    inputs.chain(outputs).map(legacy).sum()
}

/// Signature operations of the redeem script that an input reveals; 0 if it spends no pay-to-script-hash output.
pub fn p2sh_sigops(input: &TxIn, spent: &TxOut) -> u64 {
    redeem_script(input, spent).map_or(0, accurate)
}

/// Signature operations of the witness that an input carries: version 0 counts, natively and inside
/// pay-to-script-hash; programs of other versions count nothing.
pub fn witness_sigops(input: &TxIn, spent: &TxOut) -> u64 {
    let script = spent.script_pubkey.as_bytes();
    let program = witness_program(script).or_else(|| redeem_script(input, spent).and_then(witness_program));
    match program {
        Some((0, hash)) if hash.len() == 20 => 1,
        Some((0, hash)) if hash.len() == 32 => input.witness.last().map_or(0, accurate),
        Some(_) | None => 0,
    }
}

/// Counts a script in which every CHECKMULTISIG is taken for 20.
pub fn legacy(script: &[u8]) -> u64 {
    count(script, |_before| MAX_MULTISIG_KEYS)
}

/// Counts a script in which a CHECKMULTISIG is taken for the number directly before it.
pub fn accurate(script: &[u8]) -> u64 {
    count(script, |before| match before {
        Some(number @ OP_1..=OP_16) => u64::from(number - OP_1) + 1,
        Some(_) | None => MAX_MULTISIG_KEYS,
    })
}

/// `multisig` is told the opcode before the CHECKMULTISIG, if there is one.
fn count(script: &[u8], multisig: impl Fn(Option<u8>) -> u64) -> u64 {
    let mut counted = 0;
    let mut before = None;
    for read in Instructions::new(script) {
        let Ok(instruction) = read else { break };
        counted += match instruction.opcode {
            OP_CHECKSIG | OP_CHECKSIGVERIFY => 1,
            OP_CHECKMULTISIG | OP_CHECKMULTISIGVERIFY => multisig(before),
            _ => 0,
        };
        before = Some(instruction.opcode);
    }
    counted
}

fn redeem_script<'t>(input: &'t TxIn, spent: &TxOut) -> Option<&'t [u8]> {
    if is_script_hash(spent.script_pubkey.as_bytes()) { last_push(input.script_sig.as_bytes()) } else { None }
}

/// The bytes that the last push of an input script pushes, as far as they can be a script: a number opcode pushes
/// none. `None` if the script does anything but push, or breaks off.
pub fn last_push(script_sig: &[u8]) -> Option<&[u8]> {
    let mut last: &[u8] = &[];
    for read in Instructions::new(script_sig) {
        let instruction = read.ok().filter(|instruction| instruction.opcode <= OP_16)?;
        last = instruction.data;
    }
    Some(last)
}

#[cfg(test)]
mod tests {
    use super::super::opcodes::*;
    use super::*;

    /// The example of the fault: `0 IF 1 (CHECKMULTISIG × 196) ENDIF 1`.
    fn many_multisigs_after_one_number() -> Vec<u8> {
        let mut script = vec![OP_0, OP_IF, OP_1];
        script.extend([OP_CHECKMULTISIG; 196]);
        script.extend([OP_ENDIF, OP_1]);
        script
    }

    #[test]
    fn a_number_counts_for_the_checkmultisig_directly_behind_it_and_for_no_other() {
        // The first has 1 key, the other 195 have another CHECKMULTISIG before them: 1 + 195 · 20.
        assert_eq!(accurate(&many_multisigs_after_one_number()), 3_901);
        for (script, counted) in [
            (vec![OP_2, OP_CHECKMULTISIG], 2),
            (vec![OP_2, OP_CHECKMULTISIGVERIFY], 2),
            (vec![OP_2, OP_CHECKMULTISIG, OP_CHECKMULTISIG], 2 + 20),
            (vec![OP_2, OP_CHECKMULTISIGVERIFY, OP_CHECKMULTISIG], 2 + 20),
            (vec![OP_2, OP_CHECKSIG, OP_CHECKMULTISIG], 1 + 20),
            (vec![OP_2, OP_CHECKSIGVERIFY, OP_CHECKMULTISIGVERIFY], 1 + 20),
            (vec![OP_2, OP_NOP, OP_CHECKMULTISIG], 20),
            (vec![OP_2, OP_IF, OP_CHECKMULTISIG], 20),
            (vec![OP_2, 1, 3, OP_CHECKMULTISIG], 20),
            (vec![OP_3, OP_2, OP_CHECKMULTISIG], 2),
            (vec![OP_CHECKMULTISIG, OP_2], 20),
        ] {
            assert_eq!(accurate(&script), counted, "{script:?}");
        }
    }

    #[test]
    fn only_the_number_opcodes_1_to_16_say_how_many_keys_there_are() {
        for (before, keys) in [
            (OP_0, 20),
            (OP_1NEGATE, 20),
            (OP_RESERVED, 20),
            (OP_1, 1),
            (OP_15, 15),
            (OP_16, 16),
            (OP_NOP, 20),
            (0xff, 20),
        ] {
            assert_eq!(accurate(&[before, OP_CHECKMULTISIG]), keys, "opcode {before:#x}");
            assert_eq!(legacy(&[before, OP_CHECKMULTISIG]), 20, "opcode {before:#x}");
        }
        // Numbers that are pushed as bytes do not count, however they are written.
        for push in [&[1, 2][..], &[OP_PUSHDATA1, 1, 2], &[OP_PUSHDATA2, 1, 0, 2], &[OP_PUSHDATA4, 1, 0, 0, 0, 2]] {
            assert_eq!(accurate(&[push, &[OP_CHECKMULTISIG]].concat()), 20, "{push:?}");
        }
    }

    #[test]
    fn counting_ends_at_a_push_that_breaks_off_and_keeps_what_it_has() {
        for broken in [
            &[75, OP_CHECKSIG][..],
            &[OP_PUSHDATA1],
            &[OP_PUSHDATA1, 2, OP_CHECKSIG],
            &[OP_PUSHDATA2, 0],
            &[OP_PUSHDATA2, 0xff, 0xff, OP_CHECKSIG],
            &[OP_PUSHDATA4, 0xff, 0xff, 0xff, 0xff, OP_CHECKSIG],
        ] {
            let script = [&[OP_CHECKSIG, OP_3, OP_CHECKMULTISIG], broken].concat();
            assert_eq!((accurate(&script), legacy(&script)), (4, 21), "{broken:?}");
        }
        assert_eq!(accurate(&[1, OP_CHECKSIG, OP_CHECKSIG]), 1, "data is no code");
        assert_eq!(accurate(&[]), 0);
    }

    #[test]
    fn the_last_push_of_an_input_script_is_its_redeem_script_unless_it_does_more_than_push() {
        assert_eq!(last_push(&[1, 7, 2, 8, 9]), Some(&[8, 9][..]));
        assert_eq!(last_push(&[OP_PUSHDATA1, 1, OP_CHECKSIG]), Some(&[OP_CHECKSIG][..]));
        for pushes_no_bytes in [OP_0, OP_1NEGATE, OP_RESERVED, OP_1, OP_16] {
            assert_eq!(last_push(&[1, OP_CHECKSIG, pushes_no_bytes]), Some(&[][..]), "{pushes_no_bytes:#x}");
        }
        assert_eq!(last_push(&[]), Some(&[][..]));
        for other in [&[1, 7, OP_NOP][..], &[OP_NOP, 1, 7], &[1, 7, 2, 8], &[1, 7, OP_PUSHDATA2, 1]] {
            assert_eq!(last_push(other), None, "{other:?}");
        }
    }
}
