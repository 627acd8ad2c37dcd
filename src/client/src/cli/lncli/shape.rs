//! Where lncli prints something else than the message that LND answers.

use bitcoin::{Block, Transaction, consensus::encode::deserialize_hex};
use serde_json::{Value, json};

use super::super::{CliError, format};

/// Makes what is printed of an answer and its request, both as their messages print.
pub(super) type Shape = fn(Value, &Value) -> Result<Value, CliError>;

/// `version`: lncli's own beside the node's.
pub(super) fn version(node: Value, _: &Value) -> Result<Value, CliError> {
    let own = env!("CARGO_PKG_VERSION");
    Ok(json!({ "lncli": { "version": own, "commit": "" }, "lnd": node }))
}

/// Weight units in a virtual byte, and in a thousand of them: sat/kw × 4 / 1000 = sat/vB.
const WEIGHT_OF_VBYTE: i64 = 4;
const KILO: i64 = 1000;

/// `wallet estimatefeerate`: rates a virtual byte beside those a thousand weight units, numbers as numbers.
pub(super) fn fee_rate(answer: Value, _: &Value) -> Result<Value, CliError> {
    let rate = |name: &str| number(&answer[name]);
    let (rate, relay) = (rate("sat_per_kw"), rate("min_relay_fee_sat_per_kw"));
    let per_vbyte = |rate: i64| rate.saturating_mul(WEIGHT_OF_VBYTE) / KILO;
    Ok(json!({
        "sat_per_kw": rate,
        "sat_per_vbyte": per_vbyte(rate),
        "min_relay_fee_sat_per_kw": relay,
        "min_relay_fee_sat_per_vbyte": per_vbyte(relay),
    }))
}

/// `wallet publishtx`: the txid.
pub(super) fn published(_: Value, request: &Value) -> Result<Value, CliError> {
    let hex = request["tx_hex"].as_str().unwrap_or_default();
    let transaction: Transaction =
        deserialize_hex(hex).map_err(|error| CliError::Unprintable(format!("the transaction: {error}")))?;
    Ok(json!({ "txid": transaction.compute_txid().to_string() }))
}

/// `wallet listleases`: a list, outpoints as text.
pub(super) fn leases(answer: Value, _: &Value) -> Result<Value, CliError> {
    Ok(locks(&answer["locked_utxos"]))
}

fn locks(leases: &Value) -> Value {
    let lock = |lease: &Value| {
        json!({
            "id": lease["id"],
            "outpoint": outpoint(&lease["outpoint"]),
            "expiration": number(&lease["expiration"]),
            "pk_script": lease["pk_script"],
            "value": number(&lease["value"]),
        })
    };
    leases.as_array().into_iter().flatten().map(lock).collect()
}

/// `wallet pendingsweeps`: outpoints as text.
pub(super) fn sweeps(mut answer: Value, _: &Value) -> Result<Value, CliError> {
    for sweep in answer["pending_sweeps"].as_array_mut().into_iter().flatten() {
        sweep["outpoint"] = outpoint(&sweep["outpoint"]);
    }
    Ok(answer)
}

/// `wallet psbt fund`: the PSBT as base64.
pub(super) fn funded(answer: Value, _: &Value) -> Result<Value, CliError> {
    Ok(json!({
        "psbt": base64(&answer["funded_psbt"]),
        "change_output_index": answer["change_output_index"],
        "locks": locks(&answer["locked_utxos"]),
    }))
}

/// `wallet psbt finalize`.
pub(super) fn finalized(answer: Value, _: &Value) -> Result<Value, CliError> {
    Ok(json!({ "psbt": base64(&answer["signed_psbt"]), "final_tx": answer["raw_final_tx"] }))
}

/// `wallet psbt sign`.
pub(super) fn signed(answer: Value, _: &Value) -> Result<Value, CliError> {
    Ok(json!({ "psbt": base64(&answer["signed_psbt"]) }))
}

/// `chain getbestblock`, `chain getblockhash`: the hash as it is shown.
pub(super) fn block_hash(mut answer: Value, _: &Value) -> Result<Value, CliError> {
    if let Ok(mut hash) = hex::decode(answer["block_hash"].as_str().unwrap_or_default()) {
        hash.reverse();
        answer["block_hash"] = hex::encode(hash).into();
    }
    Ok(answer)
}

/// `chain getblock`: its header, with the names of lncli's library.
pub(super) fn block(answer: Value, _: &Value) -> Result<Value, CliError> {
    let hex = answer["raw_block"].as_str().unwrap_or_default();
    let block: Block = deserialize_hex(hex).map_err(|error| CliError::Unprintable(format!("the block: {error}")))?;
    let time = format::time(block.header.time.into());
    Ok(json!({
        "Version": block.header.version.to_consensus(),
        "PrevBlock": block.header.prev_blockhash.to_string(),
        "MerkleRoot": block.header.merkle_root.to_string(),
        "Timestamp": format!("{}Z", time.replace(' ', "T")),
        "Bits": block.header.bits.to_consensus(),
        "Nonce": block.header.nonce,
    }))
}

/// `listunspent`: outpoints as text, amounts as numbers.
pub(in super::super) fn unspent(mut answer: Value) -> Value {
    for coin in answer["utxos"].as_array_mut().into_iter().flatten() {
        coin["outpoint"] = outpoint(&coin["outpoint"]);
        for name in ["amount_sat", "confirmations"] {
            coin[name] = number(&coin[name]).into();
        }
    }
    answer
}

/// `listchannels`, `closedchannels`: each channel's short id as number and text too. In newer ones of lncli `chan_id` is the
/// BOLT 2 channel_id (differs: here it stays the number that LND's message holds, as in all programs that read it).
pub(in super::super) fn scids(channels: &mut Value) {
    for channel in channels.as_array_mut().into_iter().flatten() {
        let Ok(id) = channel["chan_id"].as_str().unwrap_or_default().parse() else { continue };
        channel["scid"] = channel["chan_id"].clone();
        channel["scid_str"] = format::scid(id).into();
    }
}

fn outpoint(outpoint: &Value) -> Value {
    let txid = outpoint["txid_str"].as_str().unwrap_or_default();
    format!("{txid}:{}", outpoint["output_index"]).into()
}

/// A number, or one that stands in quotes.
fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}

fn base64(bytes: &Value) -> Value {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let bytes = hex::decode(bytes.as_str().unwrap_or_default()).unwrap_or_default();
    BASE64_STANDARD.encode(bytes).into()
}
