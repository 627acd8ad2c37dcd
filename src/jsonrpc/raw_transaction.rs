//! Transactions that callers put together and sign elsewhere.

use std::collections::BTreeSet;

use bitcoin::{
    Address, Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, absolute::LockTime,
    address::NetworkUnchecked, consensus::encode::serialize_hex, script::PushBytesBuf, transaction::Version,
};
use leyden_jsonrpc::{
    Call, amount,
    error::{MISC, TYPE},
};
use leyden_node::Node;
use serde_json::{Map, Value, json};

use super::error::RpcError;

/// BIP 125: a transaction with an input below it says that it may be replaced.
const HIGHEST_REPLACEABLE: u32 = 0xffff_fffd;
/// The highest sequence with which the lock time still counts.
const HIGHEST_LOCKED: u32 = 0xffff_fffe;
/// Versions that are relayed.
const VERSIONS: std::ops::RangeInclusive<i64> = 1..=3;
const DEFAULT_VERSION: i32 = 2;

/// An unsigned transaction in hexadecimal. The coins need not exist: nobody looks for them.
pub(super) fn create(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let lock_time = match call.optional(2) {
        None => 0,
        Some(_) => u32::try_from(call.number(2)?)
            .map_err(|_| RpcError::parameter("Invalid parameter, locktime out of range"))?,
    };
    let replaceable = if call.optional(3).is_some() { Some(call.flag(3, true)?) } else { None };
    let version = match call.optional(4) {
        None => DEFAULT_VERSION,
        Some(_) => {
            let version = i32::try_from(call.number(4)?).ok().filter(|version| VERSIONS.contains(&i64::from(*version)));
            version.ok_or_else(|| RpcError::parameter("Invalid parameter, version out of range(1~3)"))?
        }
    };
    let sequence = match (replaceable.unwrap_or(true), lock_time) {
        (true, _) => HIGHEST_REPLACEABLE,
        (false, 0) => u32::MAX,
        (false, _) => HIGHEST_LOCKED,
    };
    let transaction = Transaction {
        version: Version(version),
        lock_time: LockTime::from_consensus(lock_time),
        input: inputs(call, sequence)?,
        output: outputs(node, call)?,
    };
    let signals = || transaction.input.iter().any(|input| input.sequence.0 <= HIGHEST_REPLACEABLE);
    if replaceable == Some(true) && !transaction.input.is_empty() && !signals() {
        let text = "Invalid parameter combination: Sequence number(s) contradict replaceable option";
        return Err(RpcError::parameter(text));
    }
    Ok(json!(serialize_hex(&transaction)))
}

fn list<'a>(call: &'a Call, place: usize, name: &str) -> Result<&'a [Value], RpcError> {
    match call.optional(place) {
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(RpcError::new(TYPE, format!("{name} must be an array"))),
        None => Err(RpcError::new(MISC, format!("{name} is missing"))),
    }
}

fn inputs(call: &Call, default: u32) -> Result<Vec<TxIn>, RpcError> {
    let read = |input: &Value| {
        let input = input.as_object().ok_or_else(|| RpcError::new(TYPE, "inputs must be made of objects"))?;
        let txid = match input.get("txid") {
            Some(Value::String(text)) => text.parse::<Txid>().map_err(|_| {
                RpcError::parameter(format!("txid must be of length 64 and hexadecimal (not '{text}')"))
            })?,
            Some(_) => return Err(RpcError::new(TYPE, "txid must be a string")),
            None => return Err(RpcError::parameter("Invalid parameter, missing txid key")),
        };
        let vout = input.get("vout").filter(|vout| vout.is_number());
        let vout = vout.ok_or_else(|| RpcError::parameter("Invalid parameter, missing vout key"))?;
        let vout = vout.as_i64().and_then(|vout| u32::try_from(vout).ok());
        let vout = vout.ok_or_else(|| RpcError::parameter("Invalid parameter, vout cannot be negative"))?;
        let sequence = match input.get("sequence").filter(|sequence| sequence.is_number()) {
            None => default,
            Some(given) => given
                .as_i64()
                .and_then(|given| u32::try_from(given).ok())
                .ok_or_else(|| RpcError::parameter("Invalid parameter, sequence number is out of range"))?,
        };
        Ok(TxIn {
            previous_output: OutPoint { txid, vout },
            script_sig: ScriptBuf::new(),
            sequence: Sequence(sequence),
            witness: Default::default(),
        })
    };
    list(call, 0, "inputs")?.iter().map(read).collect()
}

/// Pairs of an address and an amount, or of `data` and what it is, in their order.
fn outputs(node: &Node, call: &Call) -> Result<Vec<TxOut>, RpcError> {
    let pairs: Vec<&Map<String, Value>> = match call.optional(1) {
        Some(Value::Object(all)) if all.len() > 1 => {
            // Who passes it wants them in the order in which they are written.
            let text = "outputs: the keys of an object have no order here, pass an array of objects with one key each";
            return Err(RpcError::parameter(text));
        }
        Some(Value::Object(all)) => {
            if all.is_empty() {
                Vec::new()
            } else {
                vec![all]
            }
        }
        Some(Value::Array(items)) => {
            let pair = |item: &'_ Value| match item.as_object() {
                None => Err(RpcError::parameter("Invalid parameter, key-value pair not an object as expected")),
                Some(pair) if pair.len() != 1 => {
                    Err(RpcError::parameter("Invalid parameter, key-value pair must contain exactly one key"))
                }
                Some(_) => Ok(()),
            };
            items.iter().try_for_each(pair)?;
            items.iter().filter_map(Value::as_object).collect()
        }
        Some(_) => return Err(RpcError::new(TYPE, "outputs must be an array")),
        None => return Err(RpcError::parameter("Invalid parameter, output argument must be non-null")),
    };
    let (mut made, mut has_data, mut seen) = (Vec::new(), false, BTreeSet::new());
    for (key, value) in pairs.into_iter().flatten() {
        if key == "data" {
            if std::mem::replace(&mut has_data, true) {
                return Err(RpcError::parameter("Invalid parameter, duplicate key: data"));
            }
            let text = value.as_str().ok_or_else(|| RpcError::new(TYPE, "data must be a string"))?;
            let wrong = || RpcError::parameter(format!("Data must be hexadecimal string (not '{text}')"));
            let data = hex::decode(text).ok().and_then(|bytes| PushBytesBuf::try_from(bytes).ok()).ok_or_else(wrong)?;
            made.push(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new_op_return(data) });
            continue;
        }
        let address = key.parse::<Address<NetworkUnchecked>>().ok();
        let address = address.and_then(|address| address.require_network(node.params().address_network).ok());
        let address = address.ok_or_else(|| RpcError::not_found(format!("Invalid Bitcoin address: {key}")))?;
        let script_pubkey = address.script_pubkey();
        if !seen.insert(script_pubkey.clone()) {
            return Err(RpcError::parameter(format!("Invalid parameter, duplicated address: {key}")));
        }
        made.push(TxOut { value: amount_of(value)?, script_pubkey });
    }
    Ok(made)
}

fn amount_of(value: &Value) -> Result<Amount, RpcError> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return Err(RpcError::new(TYPE, "Amount is not a number or string"));
        }
    };
    amount::parse(&text).ok_or_else(|| RpcError::new(TYPE, "Invalid amount"))
}
