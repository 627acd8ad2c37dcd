//! `script_tests.json`, `tx_valid.json`, `tx_invalid.json`.

use std::collections::HashMap;

use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use bitcoin::taproot::{LeafVersion, TaprootBuilder};
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Witness};
use leyden_consensus::check_transaction;
use leyden_consensus::script::{ScriptError, ScriptFlags, SpendingTx};
use serde_json::Value;

use crate::support::{
    FlagSource, credit_and_spend, filled, flags, script, transaction, trimmed, vector_json, verified,
};

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

/// One row of `script_tests.json`.
struct ScriptTest {
    spend: Transaction,
    spent: Vec<TxOut>,
    flags: ScriptFlags,
    expected: Option<ScriptError>,
}

fn script_test(row: &[Value]) -> Option<ScriptTest> {
    if row.len() < 4 {
        return None;
    }
    let mut witness = Witness::new();
    let mut amount = Amount::ZERO;
    let mut taproot_output = None;
    let mut rest = row;
    if let Some(items) = row[0].as_array() {
        rest = &row[1..];
        let (btc, items) = items.split_last().expect("an amount");
        amount = Amount::from_sat((btc.as_f64().expect("a number") * 1e8).round() as u64);
        for item in items {
            let item = text(item);
            if let Some(asm) = item.strip_prefix("#SCRIPT#") {
                witness.push(script(asm));
            } else if item == "#CONTROLBLOCK#" {
                let secp = Secp256k1::new();
                let key = secp256k1::constants::ONE;
                let key = SecretKey::from_slice(&key).expect("the key 1");
                let leaf = ScriptBuf::from_bytes(witness.last().expect("the script").to_vec());
                let tree = TaprootBuilder::new()
                    .add_leaf(0, leaf.clone())
                    .expect("one leaf")
                    .finalize(&secp, key.x_only_public_key(&secp).0)
                    .expect("complete");
                let control = tree.control_block(&(leaf, LeafVersion::TapScript)).expect("the leaf");
                witness.push(control.serialize());
                taproot_output = Some(tree.output_key());
            } else {
                witness.push(hex::decode(item).expect("witness hex"));
            }
        }
    }
    let script_sig = script(text(&rest[0]));
    let script_pubkey = match text(&rest[1]) {
        "0x51 0x20 #TAPROOTOUTPUT#" => {
            let key = taproot_output.expect("a control block").serialize();
            [&[OP_PUSHNUM_1.to_u8(), 32][..], &key].concat()
        }
        asm => script(asm),
    };
    let mut flags = flags(text(&rest[2]));
    if flags.contains(ScriptFlags::CLEANSTACK) {
        flags = filled(flags);
    }
    let expected = match text(&rest[3]) {
        "OK" => None,
        name => Some(ScriptError::by_core_name(name).unwrap_or_else(|| panic!("unknown result {name}"))),
    };
    let (spend, spent) = credit_and_spend(script_pubkey, amount, script_sig, witness);
    Some(ScriptTest { spend, spent, flags, expected })
}

#[test]
fn script_tests_fail_for_the_same_cause_as_in_bitcoin_core() {
    let Some(rows) = vector_json("bitcoin-core/script_tests.json") else { return };
    let (mut cases, mut good, mut variations) = (0, 0, 0);
    let mut random = FlagSource(1);
    for row in rows.as_array().expect("rows") {
        let Some(test) = script_test(row.as_array().expect("a row")) else { continue };
        let spending = SpendingTx::new(&test.spend, test.spent).expect("one output");
        let result = verified(&spending, 0, test.flags);
        assert_eq!(result.err().map(|e| e.core_name()), test.expected.map(|e| e.core_name()), "{row}");
        cases += 1;
        good += u32::from(test.expected.is_none());
        // Fewer rules never fail what passed, more rules never pass what failed.
        for _ in 0..32 {
            let extra = random.next();
            let flags = match test.expected {
                None => trimmed(test.flags.without(extra)),
                Some(_) => filled(test.flags | extra),
            };
            assert_eq!(verified(&spending, 0, flags).is_ok(), test.expected.is_none(), "{row} with {flags:?}");
            variations += 1;
        }
    }
    println!("script_tests.json: {cases} cases, {good} of them good; {variations} more with other flags");
    assert_eq!(cases, 1233);
}

/// One row of `tx_valid.json` or `tx_invalid.json`.
struct TxTest {
    tx: Transaction,
    spent: Vec<TxOut>,
    flags: String,
}

fn tx_test(row: &Value) -> Option<TxTest> {
    let inputs = row[0].as_array()?;
    let mut outputs = HashMap::new();
    for input in inputs {
        let mut txid: Vec<u8> = hex::decode(text(&input[0])).expect("txid hex");
        txid.reverse();
        // The vectors write the null output's index as -1.
        let vout = input[1].as_i64().expect("an index") as u32;
        let outpoint = OutPoint { txid: bitcoin::Txid::from_slice(&txid).expect("a txid"), vout };
        let value = Amount::from_sat(input[3].as_u64().unwrap_or(0));
        outputs.insert(outpoint, TxOut { value, script_pubkey: ScriptBuf::from_bytes(script(text(&input[2]))) });
    }
    let tx = transaction(text(&row[1]));
    let spent = tx.input.iter().map(|input| outputs.get(&input.previous_output).cloned()).collect::<Option<Vec<_>>>();
    let spent = spent.unwrap_or_else(|| panic!("an input without its output: {row}"));
    Some(TxTest { tx, spent, flags: text(&row[2]).to_owned() })
}

fn all_inputs_pass(spending: &SpendingTx<'_>, flags: ScriptFlags) -> bool {
    (0..spending.transaction().input.len()).all(|index| verified(spending, index, flags).is_ok())
}

/// Every valid set that lacks one more flag.
fn each_without_one(flags: ScriptFlags) -> impl Iterator<Item = ScriptFlags> {
    ScriptFlags::NAMED.iter().map(move |(_, flag)| trimmed(flags.without(*flag))).filter(move |fewer| *fewer != flags)
}

#[test]
fn valid_transactions_pass_under_every_flag_but_the_excluded() {
    let Some(rows) = vector_json("bitcoin-core/tx_valid.json") else { return };
    let (mut cases, mut variations) = (0, 0);
    let mut random = FlagSource(2);
    for row in rows.as_array().expect("rows") {
        let Some(test) = tx_test(row) else { continue };
        assert_eq!(check_transaction(&test.tx), Ok(()), "{row}");
        let excluded = flags(&test.flags);
        let spending = SpendingTx::new(&test.tx, test.spent).expect("all outputs");
        assert!(all_inputs_pass(&spending, !excluded), "{row}");
        cases += 1;
        for (_, flag) in ScriptFlags::NAMED {
            for fewer in [!(excluded | *flag), !(excluded | random.next())] {
                assert!(all_inputs_pass(&spending, trimmed(fewer)), "{row} with {fewer:?}");
                variations += 1;
            }
        }
        // The excluded set is as small as can be.
        for smaller in each_without_one(excluded) {
            assert!(!all_inputs_pass(&spending, !smaller), "{row} passes with {:?}", !smaller);
            variations += 1;
        }
    }
    println!("tx_valid.json: {cases} cases; {variations} more with other flags");
    assert_eq!(cases, 121);
}

#[test]
fn invalid_transactions_fail_under_the_given_flags() {
    let Some(rows) = vector_json("bitcoin-core/tx_invalid.json") else { return };
    let (mut cases, mut malformed, mut variations) = (0, 0, 0);
    let mut random = FlagSource(3);
    for row in rows.as_array().expect("rows") {
        let Some(test) = tx_test(row) else { continue };
        cases += 1;
        if check_transaction(&test.tx).is_err() {
            assert_eq!(test.flags, "BADTX", "{row}");
            malformed += 1;
            continue;
        }
        assert_ne!(test.flags, "BADTX", "{row}");
        let included = flags(&test.flags);
        let spending = SpendingTx::new(&test.tx, test.spent).expect("all outputs");
        assert!(!all_inputs_pass(&spending, included), "{row}");
        for (_, flag) in ScriptFlags::NAMED {
            for more in [included | *flag, included | random.next()] {
                assert!(!all_inputs_pass(&spending, filled(more)), "{row} with {more:?}");
                variations += 1;
            }
        }
        // The included set is as small as can be.
        for smaller in each_without_one(included) {
            assert!(all_inputs_pass(&spending, smaller), "{row} fails with {smaller:?}");
            variations += 1;
        }
    }
    println!("tx_invalid.json: {cases} cases, {malformed} of them malformed; {variations} more with other flags");
    assert_eq!(cases, 93);
}
