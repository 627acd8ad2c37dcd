//! The three digests against `sighash.json`, BIP 143 and BIP 341.

use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::sighash::TapSighash;
use bitcoin::{Amount, ScriptBuf, TxOut};
use leyden_consensus::script::{ScriptError, SpendingTx};

use crate::support::{Spend, transaction, vector_json};

fn unknown_outputs(count: usize) -> Vec<TxOut> {
    vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() }; count]
}

fn bytes(value: &serde_json::Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("a string")).expect("hex")
}

#[test]
fn legacy_digests_commit_to_all_32_bits_of_the_hash_type() {
    let Some(rows) = vector_json("bitcoin-core/sighash.json") else { return };
    let mut cases = 0;
    for row in rows.as_array().expect("rows").iter().filter(|row| row[1].is_string()) {
        let tx = transaction(row[0].as_str().expect("hex"));
        let spending = SpendingTx::new(&tx, unknown_outputs(tx.input.len())).expect("all outputs");
        let index = row[2].as_u64().expect("an index") as usize;
        let hash_type = (row[3].as_i64().expect("a hash type") as i32).cast_unsigned();
        let mut expected = bytes(&row[4]);
        expected.reverse();
        assert_eq!(spending.legacy_digest(index, &bytes(&row[1]), hash_type).expect("an input")[..], expected, "{row}");
        cases += 1;
    }
    println!("sighash.json: {cases} cases");
    assert_eq!(cases, 500);
}

#[test]
fn bip_143_digests_hash_the_preimages_of_the_bip() {
    let Some(vectors) = vector_json("bips/bip143.json") else { return };
    let mut cases = 0;
    for case in vectors["sighash_cases"].as_array().expect("cases") {
        let tx = transaction(case["tx"].as_str().expect("hex"));
        let index = case["input_index"].as_u64().expect("an index") as usize;
        let mut spent = unknown_outputs(tx.input.len());
        spent[index].value = Amount::from_sat(case["amount_sat"].as_u64().expect("an amount"));
        let spending = SpendingTx::new(&tx, spent).expect("all outputs");
        let hash_type = case["hash_type"].as_u64().expect("a hash type") as u32;
        let digest = spending.segwit_v0_digest(index, &bytes(&case["script_code"]), hash_type).expect("an input");
        assert_eq!(digest[..], bytes(&case["sighash"]), "{case}");
        assert_eq!(digest, sha256d::Hash::hash(&bytes(&case["preimage"])).to_byte_array());
        cases += 1;
    }
    println!("bip143.json: {cases} digests");
    assert_eq!(cases, 14);
}

#[test]
fn bip_341_wallet_vectors_have_the_same_digests_and_verify() {
    let Some(vectors) = vector_json("bitcoin-core/bip341_wallet_vectors.json") else { return };
    let (mut digests, mut verified) = (0, 0);
    for spending_case in vectors["keyPathSpending"].as_array().expect("cases") {
        let spent: Vec<_> = spending_case["given"]["utxosSpent"]
            .as_array()
            .expect("outputs")
            .iter()
            .map(|output| TxOut {
                value: Amount::from_sat(output["amountSats"].as_u64().expect("an amount")),
                script_pubkey: ScriptBuf::from_bytes(bytes(&output["scriptPubKey"])),
            })
            .collect();
        let unsigned = transaction(spending_case["given"]["rawUnsignedTx"].as_str().expect("hex"));
        let spending = SpendingTx::new(&unsigned, spent.clone()).expect("all outputs");
        for case in spending_case["inputSpending"].as_array().expect("inputs") {
            let index = case["given"]["txinIndex"].as_u64().expect("an index") as usize;
            let hash_type = case["given"]["hashType"].as_u64().expect("a hash type") as u8;
            let digest = spending.taproot_digest(index, hash_type, None, None).expect("a digest");
            assert_eq!(digest[..], bytes(&case["intermediary"]["sigHash"]), "{case}");
            let mut engine = TapSighash::engine();
            engine.input(&bytes(&case["intermediary"]["sigMsg"]));
            assert_eq!(digest, TapSighash::from_engine(engine).to_byte_array());
            digests += 1;
        }
        let signed = transaction(spending_case["auxiliary"]["fullySignedTx"].as_str().expect("hex"));
        let spending = SpendingTx::new(&signed, spent).expect("all outputs");
        for index in 0..signed.input.len() {
            let standard = leyden_consensus::script::ScriptFlags::STANDARD;
            assert_eq!(spending.verify_input(index, standard), Ok(()), "input {index}");
            verified += 1;
        }
    }
    println!("bip341_wallet_vectors.json: {digests} digests, {verified} inputs verified");
    assert_eq!((digests, verified), (7, 9));
}

#[test]
fn an_input_or_output_that_is_missing_is_an_error() {
    let spend = Spend::of(vec![0x51]);
    let missing = ScriptError::NoSuchInput { index: 1, inputs: 1 };
    assert_eq!(spend.spending().legacy_digest(1, &[], 1), Err(missing));
    assert_eq!(spend.spending().verify_input(1, Default::default()), Err(missing));
    assert!(SpendingTx::new(&spend.tx, vec![]).is_err());
}
