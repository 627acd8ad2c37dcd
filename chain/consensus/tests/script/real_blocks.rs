//! Every input of two blocks of Bitcoin's chain.

use std::time::Instant;

use bitcoin::consensus::encode::deserialize;
use bitcoin::{Amount, Block, ScriptBuf, TxOut};
use leyden_consensus::script::{ScriptFlags, SpendingTx};
use serde_json::Value;

use crate::support::{vector_file, vector_json};

fn verify_block(name: &str, flags: ScriptFlags) -> Option<usize> {
    let block: Block = deserialize(&vector_file(&format!("blocks/{name}.raw.zst"))?).expect("a block");
    let coins = vector_json(&format!("blocks/{name}.spent_utxos.json.zst"))?;
    let mut outputs = coins.as_array().expect("coins").iter().map(|coin: &Value| TxOut {
        value: Amount::from_sat(coin["txout"]["value"].as_u64().expect("an amount")),
        script_pubkey: ScriptBuf::from_hex(coin["txout"]["script_pubkey"].as_str().expect("hex")).expect("hex"),
    });
    let spent: Vec<Vec<TxOut>> =
        block.txdata.iter().skip(1).map(|tx| outputs.by_ref().take(tx.input.len()).collect()).collect();
    assert!(outputs.next().is_none());

    let started = Instant::now();
    let mut inputs = 0;
    for (tx, spent) in block.txdata.iter().skip(1).zip(spent) {
        let spending = SpendingTx::new(tx, spent).expect("all outputs");
        for index in 0..tx.input.len() {
            assert_eq!(spending.verify_input(index, flags), Ok(()), "{} input {index}", tx.compute_txid());
            inputs += 1;
        }
    }
    println!("{name}: {inputs} inputs verified in {} ms by one thread", started.elapsed().as_millis());
    Some(inputs)
}

#[test]
fn block_277647_is_valid_under_the_rules_of_its_time() {
    if let Some(inputs) = verify_block("mainnet_277647", ScriptFlags::P2SH) {
        assert_eq!(inputs, 732);
    }
}

#[test]
fn block_866342_is_valid_under_all_consensus_rules() {
    if let Some(inputs) = verify_block("mainnet_866342", ScriptFlags::CONSENSUS) {
        assert_eq!(inputs, 7972);
    }
}
