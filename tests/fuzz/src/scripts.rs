//! Scripts: any spend under any rules has one answer, and what passes under more rules passes under fewer.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::{Hash as _, hash160, sha256};
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, XOnlyPublicKey};
use leyden_consensus::script::sigops::{SigopRules, sigop_cost};
use leyden_consensus::script::{ScriptFlags, SpendingTx};
use secp256k1::{SECP256K1, SecretKey};

use crate::input::Input;

pub fn scripts(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (flags, fewer) = (input.u32(), input.u32());
    let wrapping = input.byte() % 5;
    let mut transaction = Transaction {
        version: Version(input.u32() as i32),
        lock_time: LockTime::from_consensus(input.u32()),
        input: vec![spending(1)],
        output: vec![TxOut { value: Amount::from_sat(input.u64()), script_pubkey: ScriptBuf::new() }],
    };
    transaction.input[0].sequence = Sequence(input.u32());
    // Inputs and outputs beside: what a signature's hash type counts.
    (0..input.index(3)).for_each(|_| transaction.input.push(spending(2)));
    let output = transaction.output[0].clone();
    (0..input.index(3)).for_each(|_| transaction.output.push(output.clone()));

    let items: Vec<Vec<u8>> = (0..input.index(6)).map(|_| input.short().to_vec()).collect();
    let script_sig = input.short().to_vec();
    let script = input.rest();
    let script_pubkey = place(&mut transaction.input[0], wrapping, items, script_sig, script);

    let value = Amount::from_sat(1_000);
    let mut spent = vec![TxOut { value, script_pubkey: script_pubkey.into() }];
    spent.resize(transaction.input.len(), spent[0].clone());
    let _ = sigop_cost(&transaction, spent.iter(), SigopRules::P2shAndWitness);
    let spending = SpendingTx::new(&transaction, spent).expect("an output for each input");

    let flags = filled(ScriptFlags::from_bits_truncate(flags));
    let fewer = trimmed(flags & ScriptFlags::from_bits_truncate(fewer));
    let result = spending.verify_input(0, flags);
    assert_eq!(spending.verify_input(0, flags), result, "the same question has the same answer");
    if result.is_ok() {
        assert_eq!(spending.verify_input(0, fewer), Ok(()), "passes under {flags:?}, not under {fewer:?}");
    }
}

fn spending(byte: u8) -> TxIn {
    let previous_output = OutPoint { txid: Txid::from_byte_array([byte; 32]), vout: 0 };
    TxIn { previous_output, ..TxIn::default() }
}

/// Puts the script where it runs, and gives the script of the output that is spent.
fn place(input: &mut TxIn, wrapping: u8, items: Vec<Vec<u8>>, script_sig: Vec<u8>, script: &[u8]) -> Vec<u8> {
    let mut witness = items;
    let (script_sig, script_pubkey) = match wrapping {
        // Bare.
        0 => (script_sig, script.to_vec()),
        // Pay to script hash.
        1 => {
            let script_sig = [script_sig, push(script)].concat();
            (script_sig, script_hash(script))
        }
        // A version 0 witness script, native and nested.
        2 | 3 => {
            let program = [&[0, 32], &sha256::Hash::hash(script).to_byte_array()[..]].concat();
            witness.push(script.to_vec());
            if wrapping == 2 { (Vec::new(), program) } else { (push(&program), script_hash(&program)) }
        }
        // A tapscript, alone in its tree.
        _ => {
            let (control, script_pubkey) = taproot_leaf(script);
            witness.extend([script.to_vec(), control]);
            (Vec::new(), script_pubkey)
        }
    };
    input.script_sig = script_sig.into();
    input.witness = Witness::from_slice(&witness);
    script_pubkey
}

fn script_hash(script: &[u8]) -> Vec<u8> {
    [&[0xa9, 20][..], &hash160::Hash::hash(script).to_byte_array(), &[0x87]].concat()
}

fn push(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len();
    match length {
        0..=75 => [&[length as u8], bytes].concat(),
        76..=255 => [&[0x4c, length as u8], bytes].concat(),
        _ => [&[0x4d, length as u8, (length >> 8) as u8], bytes].concat(),
    }
}

fn taproot_leaf(script: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let leaf = ScriptBuf::from_bytes(script.to_vec());
    let secret = SecretKey::from_slice(&[1; 32]).expect("a secret key");
    let internal = XOnlyPublicKey::from(secret.public_key(SECP256K1));
    let tree = TaprootBuilder::new().add_leaf(0, leaf.clone()).expect("one leaf");
    let tree = tree.finalize(SECP256K1, internal).expect("a whole tree");
    let control = tree.control_block(&(leaf, LeafVersion::TapScript)).expect("the leaf").serialize();
    (control, [&[0x51, 32], &tree.output_key().serialize()[..]].concat())
}

/// Adds what a flag needs: CLEANSTACK needs WITNESS, which needs P2SH.
fn filled(mut flags: ScriptFlags) -> ScriptFlags {
    if flags.contains(ScriptFlags::CLEANSTACK) {
        flags |= ScriptFlags::WITNESS;
    }
    if flags.contains(ScriptFlags::WITNESS) {
        flags |= ScriptFlags::P2SH;
    }
    flags
}

/// Drops the flags whose needs are not there.
fn trimmed(mut flags: ScriptFlags) -> ScriptFlags {
    if !flags.contains(ScriptFlags::P2SH) {
        flags = flags.without(ScriptFlags::WITNESS);
    }
    if !flags.contains(ScriptFlags::WITNESS) {
        flags = flags.without(ScriptFlags::CLEANSTACK);
    }
    flags
}
