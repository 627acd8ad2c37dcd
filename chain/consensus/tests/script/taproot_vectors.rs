//! Bitcoin Core's dump of its taproot functional test.

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{ScriptBuf, TxOut, Witness};
use leyden_consensus::script::{ScriptFlags, SpendingTx};
use serde_json::Value;

use crate::support::{flags, transaction, vector_json, verified};

#[test]
fn script_assets_succeed_and_fail_as_in_bitcoin_core() {
    let Some(assets) = vector_json("bitcoin-core/script_assets_test.json.zst") else { return };
    let (mut good, mut bad, mut variations) = (0, 0, 0);
    for asset in assets.as_array().expect("assets") {
        let tx = transaction(asset["tx"].as_str().expect("hex"));
        let spent: Vec<TxOut> = asset["prevouts"]
            .as_array()
            .expect("outputs")
            .iter()
            .map(|output| deserialize_hex(output.as_str().expect("hex")).expect("an output"))
            .collect();
        let index = asset["index"].as_u64().expect("an index") as usize;
        let rules = flags(asset["flags"].as_str().expect("flags"));
        let id = &asset["id"];
        let attempt = |case: &Value, rules: ScriptFlags| {
            let mut tx = tx.clone();
            let items = case["witness"].as_array().expect("items").iter();
            let items: Vec<_> = items.map(|item| hex::decode(item.as_str().expect("hex")).expect("hex")).collect();
            let script_sig = hex::decode(case["scriptSig"].as_str().expect("hex")).expect("hex");
            tx.input[index].script_sig = ScriptBuf::from_bytes(script_sig);
            tx.input[index].witness = Witness::from_slice(&items);
            verified(&SpendingTx::new(&tx, spent.clone()).expect("all outputs"), index, rules)
        };
        if let Some(success) = asset.get("success") {
            assert_eq!(attempt(success, rules), Ok(()), "{id}: {}", asset["comment"]);
            good += 1;
            // A spend that passes under these rules passes under fewer; a final one, under all consensus rules.
            let final_one = asset["final"].as_bool() == Some(true);
            let others = [
                rules.without(ScriptFlags::TAPROOT),
                rules.without(ScriptFlags::DERSIG),
                rules & (ScriptFlags::P2SH | ScriptFlags::WITNESS),
                if final_one { ScriptFlags::CONSENSUS } else { ScriptFlags::P2SH & rules },
            ];
            for fewer in others {
                assert_eq!(attempt(success, fewer), Ok(()), "{id} with {fewer:?}: {}", asset["comment"]);
                variations += 1;
            }
        }
        if let Some(failure) = asset.get("failure") {
            assert!(attempt(failure, rules).is_err(), "{id}: {}", asset["comment"]);
            bad += 1;
            assert!(attempt(failure, ScriptFlags::CONSENSUS | rules).is_err(), "{id}: {}", asset["comment"]);
            variations += 1;
        }
    }
    println!("script_assets_test.json: {good} successes, {bad} failures; {variations} more with other flags");
    assert_eq!((good, bad), (2760, 2483));
}
