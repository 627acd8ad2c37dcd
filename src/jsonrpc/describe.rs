//! Blocks, transactions and scripts as Bitcoin Core's JSON describes them.

use bitcoin::{
    Address, Amount, Block, FeeRate, Network, Script, Target, Transaction, TxIn, TxOut, Work,
    blockdata::script::Instruction,
    consensus::encode::serialize_hex,
    opcodes::all::{OP_PUSHNUM_1, OP_PUSHNUM_16, OP_PUSHNUM_NEG1},
};
use leyden_consensus::Coin;
use leyden_jsonrpc::amount::coins;
use serde_json::{Value, json};

/// Coins for 1,000 virtual bytes.
pub(super) fn per_kvb(rate: FeeRate) -> Value {
    // A weight unit is a quarter of a virtual byte.
    let satoshi = rate.to_sat_per_kwu().saturating_mul(4);
    coins(Amount::from_sat(satoshi))
}

pub(super) fn work(work: Work) -> Value {
    json!(hex::encode(work.to_be_bytes()))
}

/// How many times harder than Bitcoin's easiest block.
pub(super) fn difficulty(bits: bitcoin::CompactTarget) -> Value {
    json!(Target::from_compact(bits).difficulty_float())
}

pub(super) fn transaction(transaction: &Transaction, network: Network) -> Value {
    json!({
        "txid": transaction.compute_txid(),
        "hash": transaction.compute_wtxid(),
        "version": transaction.version.0,
        "size": transaction.total_size(),
        "vsize": transaction.vsize(),
        "weight": transaction.weight().to_wu(),
        "locktime": transaction.lock_time.to_consensus_u32(),
        "vin": transaction.input.iter().map(|input| input_of(input, transaction.is_coinbase())).collect::<Vec<_>>(),
        "vout": (0..).zip(&transaction.output).map(|(n, out)| output_of(n, out, network)).collect::<Vec<Value>>(),
        "hex": serialize_hex(transaction),
    })
}

/// Adds the fee, and if they are wanted the outputs that it spends, of a transaction that is no coinbase.
pub(super) fn add_spent(value: &mut Value, transaction: &Transaction, spent: &[Coin], outputs: Option<Network>) {
    let taken = spent.iter().map(|coin| coin.output.value).try_fold(Amount::ZERO, Amount::checked_add);
    let paid = transaction.output.iter().map(|output| output.value).try_fold(Amount::ZERO, Amount::checked_add);
    if let (Some(taken), Some(paid)) = (taken, paid)
        && let Some(fee) = taken.checked_sub(paid)
    {
        value["fee"] = coins(fee);
    }
    let Some(network) = outputs else { return };
    let inputs = value["vin"].as_array_mut().into_iter().flatten();
    for (input, coin) in inputs.zip(spent) {
        input["prevout"] = json!({
            "generated": coin.is_coinbase,
            "height": coin.height,
            "value": coins(coin.output.value),
            "scriptPubKey": script_pubkey(&coin.output.script_pubkey, network),
        });
    }
}

fn input_of(input: &TxIn, is_coinbase: bool) -> Value {
    let mut value = if is_coinbase {
        json!({ "coinbase": hex::encode(input.script_sig.as_bytes()) })
    } else {
        json!({
            "txid": input.previous_output.txid,
            "vout": input.previous_output.vout,
            "scriptSig": { "asm": asm(&input.script_sig), "hex": hex::encode(input.script_sig.as_bytes()) },
        })
    };
    if !input.witness.is_empty() {
        value["txinwitness"] = input.witness.iter().map(hex::encode).collect();
    }
    value["sequence"] = json!(input.sequence.to_consensus_u32());
    value
}

fn output_of(n: u32, output: &TxOut, network: Network) -> Value {
    json!({ "value": coins(output.value), "n": n, "scriptPubKey": script_pubkey(&output.script_pubkey, network) })
}

pub(super) fn script_pubkey(script: &Script, network: Network) -> Value {
    let mut value = json!({
        "asm": asm(script),
        "hex": hex::encode(script.as_bytes()),
        "type": kind(script),
    });
    // Bare public keys have an address in the library, but nobody pays to it in that form.
    if !script.is_p2pk()
        && let Ok(address) = Address::from_script(script, network)
    {
        value["address"] = json!(address.to_string());
    }
    value
}

/// Bitcoin Core's name for the form of an output's script.
fn kind(script: &Script) -> &'static str {
    let is_anchor = script.as_bytes() == [0x51, 0x02, 0x4e, 0x73];
    match script.witness_version().map(|version| version.to_num()) {
        Some(0) if script.is_p2wpkh() => "witness_v0_keyhash",
        Some(0) if script.is_p2wsh() => "witness_v0_scripthash",
        Some(0) => "nonstandard",
        Some(1) if script.is_p2tr() => "witness_v1_taproot",
        Some(1) if is_anchor => "anchor",
        Some(_) => "witness_unknown",
        None if script.is_p2pkh() => "pubkeyhash",
        None if script.is_p2sh() => "scripthash",
        None if leyden_node::mempool::standard::is_public_key(script) => "pubkey",
        None if script.is_op_return() && is_data_after_first(script) => "nulldata",
        None if script.is_multisig() => "multisig",
        None => "nonstandard",
    }
}

/// Whether only data follows the first opcode.
fn is_data_after_first(script: &Script) -> bool {
    Script::from_bytes(script.as_bytes().get(1..).unwrap_or_default()).is_push_only()
}

/// A script in words: data of at most four bytes as a number, other data in hexadecimal.
pub(super) fn asm(script: &Script) -> String {
    let mut words = Vec::new();
    for instruction in script.instructions() {
        words.push(match instruction {
            Ok(Instruction::PushBytes(data)) if data.len() <= 4 => number(data.as_bytes()).to_string(),
            Ok(Instruction::PushBytes(data)) => hex::encode(data.as_bytes()),
            Ok(Instruction::Op(op)) if op == OP_PUSHNUM_NEG1 => "-1".to_owned(),
            Ok(Instruction::Op(op)) if (OP_PUSHNUM_1.to_u8()..=OP_PUSHNUM_16.to_u8()).contains(&op.to_u8()) => {
                (op.to_u8() - OP_PUSHNUM_1.to_u8() + 1).to_string()
            }
            Ok(Instruction::Op(op)) => op.to_string(),
            Err(_) => "[error]".to_owned(),
        });
    }
    words.join(" ")
}

/// Little-endian with the sign in the highest bit, as scripts have numbers.
fn number(bytes: &[u8]) -> i64 {
    let Some((last, _)) = bytes.split_last() else { return 0 };
    let magnitude = (0..).zip(bytes).fold(0_i64, |sum, (place, byte)| sum | i64::from(*byte) << (8 * place));
    let sign_bit = 0x80_i64 << (8 * (bytes.len() - 1));
    if last & 0x80 == 0 { magnitude } else { -(magnitude & !sign_bit) }
}

/// What `getblock` adds to `getblockheader`, beside the transactions.
pub(super) fn add_sizes(value: &mut Value, block: &Block) {
    let size = block.total_size();
    let weight = block.weight().to_wu();
    // Four times what is not witness, and once what is.
    let stripped = (weight.saturating_sub(size as u64)) / 3;
    value["strippedsize"] = json!(stripped);
    value["size"] = json!(size);
    value["weight"] = json!(weight);
}

#[cfg(test)]
mod tests {
    use bitcoin::ScriptBuf;

    use super::*;

    fn script(text: &str) -> ScriptBuf {
        ScriptBuf::from_hex(text).unwrap()
    }

    #[test]
    fn scripts_read_as_in_bitcoin_core() {
        for (hex, words, name) in [
            (
                "0014751e76e8199196d454941c45d1b3a323f1433bd6",
                "0 751e76e8199196d454941c45d1b3a323f1433bd6",
                "witness_v0_keyhash",
            ),
            (
                "76a914751e76e8199196d454941c45d1b3a323f1433bd688ac",
                "OP_DUP OP_HASH160 751e76e8199196d454941c45d1b3a323f1433bd6 OP_EQUALVERIFY OP_CHECKSIG",
                "pubkeyhash",
            ),
            ("6a0568656c6c6f", "OP_RETURN 68656c6c6f", "nulldata"),
            ("51024e73", "1 29518", "anchor"),
            ("02e80305aa", "1000 [error]", "nonstandard"),
            ("4f", "-1", "nonstandard"),
        ] {
            assert_eq!((asm(&script(hex)).as_str(), kind(&script(hex))), (words, name), "{hex}");
        }
    }

    #[test]
    fn small_pushes_are_numbers() {
        for (bytes, expected) in [(&[][..], 0), (&[0x81], -1), (&[0xe8, 0x03], 1000), (&[0xff, 0x80], -255)] {
            assert_eq!(number(bytes), expected);
        }
    }
}
