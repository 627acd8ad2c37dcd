//! Transactions, before their blocks and in them.

use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use leyden_consensus::coins::is_unspendable;
use leyden_jsonrpc::{Call, amount::coins};
use leyden_node::{MempoolEntryInfo, MempoolError, Node, TransactionInfo};
use serde_json::{Map, Value, json};

use super::{
    describe::{self, per_kvb},
    error::{ALREADY_IN_UTXO_SET, RpcError, VERIFY, VERIFY_REJECTED},
};

/// What a transaction may pay for 1,000 virtual bytes unless the caller says otherwise: a tenth of a coin.
const MAX_FEE_RATE: Amount = Amount::from_sat(10_000_000);

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

/// The fee, if all that it spends is known.
async fn fee(node: &Node, transaction: &Transaction, others: &[Transaction]) -> Result<Option<Amount>, RpcError> {
    let mut sum = Amount::ZERO;
    for input in &transaction.input {
        let OutPoint { txid, vout } = input.previous_output;
        let of = |transaction: &Transaction| transaction.output.get(vout as usize).map(|output| output.value);
        let value = match others.iter().find(|other| other.compute_txid() == txid) {
            Some(other) => of(other),
            None => node.transaction(txid).await?.and_then(|found| of(&found.transaction)),
        };
        let Some(value) = value else { return Ok(None) };
        // More than all money is spent by no valid transaction; the mempool will say so.
        let Some(larger) = sum.checked_add(value) else { return Ok(None) };
        sum = larger;
    }
    let paid = transaction.output.iter().try_fold(Amount::ZERO, |paid, output| paid.checked_add(output.value));
    Ok(paid.and_then(|paid| sum.checked_sub(paid)))
}

/// Whether the fee is more than `limit` for 1,000 virtual bytes.
fn is_too_much(fee: Amount, transaction: &Transaction, limit: Option<Amount>) -> bool {
    let size = u128::try_from(transaction.vsize()).unwrap_or(u128::MAX);
    limit.is_some_and(|limit| u128::from(fee.to_sat()) * 1000 > u128::from(limit.to_sat()).saturating_mul(size))
}

/// Coins sent to what nobody can ever spend are lost: none are, unless the caller says how many an output may have.
fn check_burns(transaction: &Transaction, limit: Option<Amount>) -> Result<(), RpcError> {
    let limit = limit.unwrap_or(Amount::ZERO);
    let burnt = |output: &TxOut| is_unspendable(&output.script_pubkey) && output.value > limit;
    if transaction.output.iter().any(burnt) {
        return Err(RpcError::new(VERIFY, "Unspendable output exceeds maximum configured by user (maxburnamount)"));
    }
    Ok(())
}

fn too_much() -> RpcError {
    RpcError::new(VERIFY, "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)")
}

fn refused(error: &MempoolError) -> RpcError {
    match error {
        MempoolError::AlreadyConfirmed(_) => {
            RpcError::new(ALREADY_IN_UTXO_SET, "Transaction outputs already in utxo set")
        }
        MempoolError::MissingInputs(_) => RpcError::new(VERIFY, "bad-txns-inputs-missingorspent"),
        error => RpcError::new(VERIFY_REJECTED, error.reason()),
    }
}

pub(super) async fn send(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let transaction: Transaction = call.decoded(0, "TX")?;
    let limit = call.fee_rate_limit(1, MAX_FEE_RATE)?;
    check_burns(&transaction, call.amount(2)?)?;
    let txid = transaction.compute_txid();
    if let Some(fee) = fee(node, &transaction, &[]).await?
        && is_too_much(fee, &transaction, limit)
    {
        return Err(too_much());
    }
    match node.submit_transaction(transaction).await {
        // A caller that asks again wants it to be there, and it is.
        Ok(_) | Err(MempoolError::AlreadyInMempool(_) | MempoolError::SameTransactionOtherWitness(_)) => {
            Ok(json!(txid))
        }
        Err(error) => Err(refused(&error)),
    }
}

pub(super) async fn send_package(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let package: Vec<Transaction> = call.all_decoded(0, "TX")?;
    let limit = call.fee_rate_limit(1, MAX_FEE_RATE)?;
    let burns = call.amount(2)?;
    let mut results = Map::new();
    for transaction in &package {
        check_burns(transaction, burns)?;
        let fee = fee(node, transaction, &package).await?.unwrap_or(Amount::ZERO);
        if is_too_much(fee, transaction, limit) {
            return Err(too_much());
        }
        results.insert(
            transaction.compute_wtxid().to_string(),
            json!({
                "txid": transaction.compute_txid(),
                "vsize": transaction.vsize(),
                "fees": { "base": coins(fee) },
            }),
        );
    }
    let message = match node.submit_package(package).await {
        Ok(_) => "success".to_owned(),
        Err(error) => {
            for result in results.values_mut() {
                *result = json!({ "txid": result["txid"], "error": error.reason() });
            }
            "transaction failed".to_owned()
        }
    };
    Ok(json!({ "package_msg": message, "tx-results": results, "replaced-transactions": [] }))
}

pub(super) async fn test(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let transactions: Vec<Transaction> = call.all_decoded(0, "TX")?;
    let limit = call.fee_rate_limit(1, MAX_FEE_RATE)?;
    let [transaction] = transactions.as_slice() else {
        return Err(RpcError::parameter("exactly one transaction can be tested at a time"));
    };
    let mut value = json!({ "txid": transaction.compute_txid(), "wtxid": transaction.compute_wtxid() });
    let fee = fee(node, transaction, &[]).await?.unwrap_or(Amount::ZERO);
    let refusal = match node.test_transaction(transaction.clone()).await {
        Ok(()) if is_too_much(fee, transaction, limit) => Some("max-fee-exceeded".to_owned()),
        Ok(()) => None,
        Err(MempoolError::MissingInputs(_)) => Some("missing-inputs".to_owned()),
        Err(error) => Some(error.reason()),
    };
    value["allowed"] = json!(refusal.is_none());
    match refusal {
        Some(reason) => value["reject-reason"] = json!(reason),
        None => {
            value["vsize"] = json!(transaction.vsize());
            value["fees"] = json!({ "base": coins(fee) });
        }
    }
    Ok(json!([value]))
}

pub(super) fn list(node: &Node, call: &Call) -> Result<Value, RpcError> {
    if call.flag(1, false)? {
        return Err(RpcError::parameter("mempool_sequence is not kept by this node"));
    }
    let entries = node.mempool_entries();
    if !call.flag(0, false)? {
        return Ok(entries.iter().map(|entry| json!(entry.txid)).collect());
    }
    Ok(Value::Object(entries.iter().map(|entry| (entry.txid.to_string(), describe_entry(node, entry))).collect()))
}

pub(super) fn entry(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let txid: Txid = call.hash(0)?;
    let entry = node.mempool_entry(&txid).ok_or_else(|| RpcError::not_found("Transaction not in mempool"))?;
    Ok(describe_entry(node, &entry))
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
            "modified": coins(entry.fee),
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
