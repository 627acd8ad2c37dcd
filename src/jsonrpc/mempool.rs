//! Transactions, before their blocks and in them: what there is. What callers send is in `submission`.

use bitcoin::{
    Address, BlockHash, OutPoint, ScriptBuf, Transaction, Txid, address::NetworkUnchecked,
    consensus::encode::serialize_hex,
};
use leyden_jsonrpc::{Call, amount::coins};
use leyden_node::{MempoolEntryInfo, Node, TransactionInfo, types::Relatives};
use serde_json::{Value, json};

use super::{
    describe::{self, per_kvb},
    error::{MISC, RpcError},
};

pub(super) async fn transaction(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let txid: Txid = call.hash(0)?;
    let verbosity = call.verbosity(1, 0)?;
    let within: Option<BlockHash> = call.optional(2).map(|_| call.hash(2)).transpose()?;
    let unknown = || {
        RpcError::not_found("No such mempool or blockchain transaction. Use gettransaction for wallet transactions.")
    };
    let (transaction, block) = match within {
        None => {
            let TransactionInfo { transaction, confirmed } = node.transaction(txid).await?.ok_or_else(unknown)?;
            (transaction.as_ref().clone(), confirmed.map(|(block, _)| block.hash))
        }
        Some(hash) => {
            let block = node.block(hash).await?.ok_or_else(|| RpcError::not_found("Block hash not found"))?;
            let found = block.txdata.iter().find(|transaction| transaction.compute_txid() == txid).cloned();
            let missing = || {
                RpcError::not_found(
                    "No such transaction found in the provided block. Use gettransaction for wallet transactions.",
                )
            };
            (found.ok_or_else(missing)?, Some(hash))
        }
    };
    let mut value = describe::transaction(&transaction, node.params().address_network);
    if verbosity <= 0 {
        return Ok(value["hex"].take());
    }
    if let Some(hash) = block {
        let (header, height) = node.header(&hash).ok_or_else(unknown)?;
        let is_active = node.is_active(&hash);
        let depth = node.tip().height.saturating_sub(height).saturating_add(1);
        if within.is_some() {
            value["in_active_chain"] = json!(is_active);
        }
        value["blockhash"] = json!(hash);
        value["confirmations"] = json!(if is_active { depth } else { 0 });
        value["time"] = json!(header.time);
        value["blocktime"] = json!(header.time);
        if verbosity >= 2
            && !transaction.is_coinbase()
            && let Some(block) = node.block(hash).await?
            && let Some(place) = block.txdata.iter().position(|other| other.compute_txid() == txid)
            && let Some(spent) = node.spent_by(hash).await?
            && let Some(spent) = place.checked_sub(1).and_then(|place| spent.spent.get(place))
        {
            describe::add_spent(&mut value, &transaction, spent, Some(node.params().address_network));
        }
    }
    Ok(value)
}

pub(super) fn decode(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let transaction: Transaction = call.decoded(0, "TX")?;
    let mut value = describe::transaction(&transaction, node.params().address_network);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("hex");
    }
    Ok(value)
}

pub(super) fn decode_script(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let script = ScriptBuf::from_bytes(call.bytes(0)?);
    let network = node.params().address_network;
    let mut value = describe::script_pubkey(&script, network);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("hex");
    }
    if !script.is_p2sh() && script.witness_version().is_none() {
        let address =
            bitcoin::Address::p2sh(&script, network).map_err(|error| RpcError::parameter(error.to_string()))?;
        value["p2sh"] = json!(address.to_string());
        value["segwit"] = describe::script_pubkey(&script.to_p2wsh(), network);
    }
    Ok(value)
}

pub(super) async fn list(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let (verbose, with_sequence) = (call.flag(0, false)?, call.flag(1, false)?);
    if !with_sequence {
        return Ok(describe_all(node, &node.mempool_entries(), verbose));
    }
    if verbose {
        return Err(RpcError::parameter("Verbose results cannot contain mempool sequence values."));
    }
    let (txids, sequence) = node.mempool_at_rest().await?;
    Ok(json!({ "txids": txids, "mempool_sequence": sequence }))
}

pub(super) fn entry(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let txid: Txid = call.hash(0)?;
    let entry = node.mempool_entry(&txid).ok_or_else(not_in_mempool)?;
    Ok(describe_entry(node, &entry))
}

fn not_in_mempool() -> RpcError {
    RpcError::not_found("Transaction not in mempool")
}

pub(super) fn relatives(node: &Node, call: &Call, which: Relatives) -> Result<Value, RpcError> {
    let txid: Txid = call.hash(0)?;
    let related = node.mempool_relatives(&txid, which).ok_or_else(not_in_mempool)?;
    Ok(describe_all(node, &related, call.flag(1, false)?))
}

pub(super) fn describe_all(node: &Node, entries: &[MempoolEntryInfo], verbose: bool) -> Value {
    if !verbose {
        return entries.iter().map(|entry| json!(entry.txid)).collect();
    }
    Value::Object(entries.iter().map(|entry| (entry.txid.to_string(), describe_entry(node, entry))).collect())
}

/// Whether somebody spends these outputs: in the mempool, or in a block unless only the mempool is wanted.
pub(super) async fn spending(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let outputs = call.objects(0, &["txid", "vout"])?;
    if outputs.is_empty() {
        return Err(RpcError::parameter("Invalid parameter, outputs are missing"));
    }
    let options = call.options(1, &["mempool_only", "return_spending_tx"])?;
    let flag = |name: &str| options.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut answers = Vec::new();
    for output in outputs {
        let txid = output.get("txid").and_then(Value::as_str).and_then(|text| text.parse::<Txid>().ok());
        let txid = txid.ok_or_else(|| RpcError::parameter("txid must be of length 64 and hexadecimal"))?;
        let vout = output.get("vout").and_then(Value::as_u64).and_then(|vout| u32::try_from(vout).ok());
        let vout = vout.ok_or_else(|| RpcError::parameter("Invalid parameter, vout cannot be negative"))?;
        let outpoint = OutPoint { txid, vout };
        let mut answer = json!({ "txid": txid, "vout": vout });
        let mut spending = node.mempool_spender(&outpoint);
        if spending.is_none()
            && !flag("mempool_only")
            && let Some(spend) = node.spender(outpoint).await?
            && let Some(block) = spend.confirmed
        {
            answer["blockhash"] = json!(block.hash);
            spending = node.transaction(spend.txid).await?.map(|found| found.transaction);
        }
        if let Some(spending) = spending {
            answer["spendingtxid"] = json!(spending.compute_txid());
            if flag("return_spending_tx") {
                answer["spendingtx"] = json!(serialize_hex(spending.as_ref()));
            }
        }
        answers.push(answer);
    }
    Ok(Value::Array(answers))
}

pub(super) async fn save(node: &Node) -> Result<Value, RpcError> {
    match node.save_mempool().await {
        Ok(Some(path)) => Ok(json!({ "filename": path.display().to_string() })),
        Ok(None) => Err(RpcError::new(MISC, "The mempool was not loaded yet")),
        Err(error) => Err(RpcError::new(MISC, format!("Unable to dump mempool to disk: {error}"))),
    }
}

pub(super) fn validate_address(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let text = call.text(0)?;
    let network = node.params().address_network;
    let parsed = text.parse::<Address<NetworkUnchecked>>().map_err(|error| error.to_string());
    let address = match parsed.and_then(|address| address.require_network(network).map_err(|error| error.to_string())) {
        Ok(address) => address,
        Err(error) => return Ok(json!({ "isvalid": false, "error_locations": [], "error": error })),
    };
    let script = address.script_pubkey();
    let mut value = json!({
        "isvalid": true,
        "address": address.to_string(),
        "scriptPubKey": hex::encode(script.as_bytes()),
        "isscript": script.is_p2sh() || script.is_p2wsh() || script.is_p2tr(),
        "iswitness": script.is_witness_program(),
    });
    if let Some(program) = address.witness_program() {
        value["witness_version"] = json!(program.version().to_num());
        value["witness_program"] = json!(hex::encode(program.program().as_bytes()));
    }
    Ok(value)
}

fn describe_entry(node: &Node, entry: &MempoolEntryInfo) -> Value {
    json!({
        "vsize": entry.virtual_bytes,
        "weight": entry.weight,
        "time": entry.time,
        "height": node.tip().height,
        "descendantcount": entry.descendants,
        "descendantsize": entry.descendant_virtual_bytes,
        "ancestorcount": entry.ancestors,
        "ancestorsize": entry.ancestor_virtual_bytes,
        "wtxid": entry.wtxid,
        "fees": {
            "base": coins(entry.fee),
            "modified": coins(entry.modified_fee),
            "ancestor": coins(entry.ancestor_fee),
            "descendant": coins(entry.descendant_fee),
        },
        "depends": entry.parents,
        "spentby": entry.children,
        "bip125-replaceable": true,
        "unbroadcast": false,
    })
}

pub(super) fn info(node: &Node) -> Value {
    let info = node.mempool_info();
    let relay = per_kvb(leyden_node::MempoolPolicy::default().minimum_relay);
    json!({
        "loaded": true,
        "size": info.transactions,
        "bytes": info.virtual_bytes,
        "usage": info.memory_bytes,
        "total_fee": coins(info.total_fee),
        "maxmempool": info.memory_cap_bytes,
        "mempoolminfee": per_kvb(info.minimum_fee_rate),
        "minrelaytxfee": relay,
        "incrementalrelayfee": relay,
        "unbroadcastcount": 0,
        "fullrbf": true,
    })
}

pub(super) fn estimate(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let target = call.number(0)?;
    let blocks = u32::try_from(target).ok().filter(|blocks| (1..=1008).contains(blocks));
    let blocks = blocks.ok_or_else(|| RpcError::parameter("Invalid conf_target, must be between 1 and 1008"))?;
    Ok(json!({ "feerate": per_kvb(node.estimate_fee(blocks)), "blocks": blocks }))
}
