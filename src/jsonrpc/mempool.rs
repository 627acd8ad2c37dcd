//! Transactions, before their blocks and in them: what there is. What callers send is in `submission`.

use bitcoin::{
    Address, BlockHash, Network, OutPoint, Script, ScriptBuf, Transaction, Txid, WPubkeyHash,
    address::NetworkUnchecked,
    blockdata::script::Instruction,
    consensus::encode::serialize_hex,
    hashes::Hash as _,
    opcodes::{Class, ClassifyContext, all::OP_CHECKSIGADD},
};
use leyden_jsonrpc::{Call, amount::coins};
use leyden_node::{MempoolEntryInfo, Node, NodeError, TransactionInfo, types::Relatives};
use serde_json::{Value, json};

use super::{
    describe::{self, per_kvb},
    error::{MISC, RpcError},
};

/// Bytes of the longest script that can be run, and of the longest element on its stack.
const MAX_SCRIPT_SIZE: usize = 10_000;
const MAX_SCRIPT_ELEMENT_SIZE: usize = 520;
/// The last opcode that has a meaning: OP_NOP10.
const LAST_OPCODE: u8 = 0xb9;
/// Bytes of a compressed public key.
const COMPRESSED_KEY: usize = 33;

pub(super) async fn transaction(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let txid: Txid = call.hash(0)?;
    let verbosity = call.verbosity(1, 0)?;
    let within: Option<BlockHash> = call.optional(2).map(|_| call.hash(2)).transpose()?;
    let unknown = || match node.watched_scripts() {
        None => RpcError::not_found(
            "No such mempool or blockchain transaction. Use gettransaction for wallet transactions.",
        ),
        Some(_) => NodeError::LightNode("transactions that do not concern its wallet and channels").into(),
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
    if !can_be_wrapped(&script) {
        return Ok(value);
    }
    value["p2sh"] = json!(hashed(&script, network));
    if let Some(program) = witness_program(&script) {
        value["segwit"] = describe::script_pubkey(&program, network);
        value["segwit"]["p2sh-segwit"] = json!(hashed(&program, network));
    }
    Ok(value)
}

/// The address of a script's hash, also of one that is too long to be spent so: Bitcoin Core tells it too.
fn hashed(script: &Script, network: Network) -> String {
    Address::p2sh_from_hash(script.script_hash(), network).to_string()
}

/// Bitcoin Core's rule for which scripts there is an address of their hash.
fn can_be_wrapped(script: &Script) -> bool {
    // Those whose form has one meaning only.
    let is_plain = script.witness_version().is_none_or(|_| script.is_p2wpkh() || script.is_p2wsh());
    if !is_plain || script.is_p2sh() || script.is_op_return() || script.len() > MAX_SCRIPT_SIZE {
        return false;
    }
    script.instructions().all(|instruction| match instruction {
        Ok(Instruction::PushBytes(data)) => data.len() <= MAX_SCRIPT_ELEMENT_SIZE,
        Ok(Instruction::Op(op)) => {
            op != OP_CHECKSIGADD
                && op.classify(ClassifyContext::TapScript) != Class::SuccessOp
                && op.to_u8() <= LAST_OPCODE
        }
        Err(_) => false,
    })
}

/// The script of a witness that a script fits into: of a key's hash if it asks for one key, else of its own.
fn witness_program(script: &Script) -> Option<ScriptBuf> {
    if script.is_witness_program() {
        return None;
    }
    let is_public_key = leyden_node::mempool::standard::is_public_key(script);
    let mut pushed = script.instructions().flatten().filter_map(|instruction| match instruction {
        Instruction::PushBytes(data) => Some(data),
        Instruction::Op(_) => None,
    });
    if is_public_key || script.is_multisig() {
        let mut keys = pushed.clone().filter(|data| data.len() > 1);
        // With witnesses keys are compressed.
        if keys.any(|key| key.len() != COMPRESSED_KEY) {
            return None;
        }
    }
    let first = pushed.next();
    if is_public_key {
        return first.map(|key| ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(key.as_bytes())));
    }
    if script.is_p2pkh() {
        return first
            .and_then(|hash| WPubkeyHash::from_slice(hash.as_bytes()).ok())
            .map(|hash| ScriptBuf::new_p2wpkh(&hash));
    }
    Some(script.to_p2wsh())
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

/// A transaction that several peers have brought is kept of the first: it alone is in `from`.
pub(super) async fn orphans(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let verbosity = call.verbosity(0, 0)?;
    if !(0..=2).contains(&verbosity) {
        return Err(RpcError::parameter(format!("Invalid verbosity value {verbosity}")));
    }
    let told = node.orphans().await.into_iter().map(|(peer, orphan)| {
        if verbosity == 0 {
            return json!(orphan.compute_txid());
        }
        let mut value = json!({
            "txid": orphan.compute_txid(),
            "wtxid": orphan.compute_wtxid(),
            "bytes": orphan.total_size(),
            "vsize": orphan.vsize(),
            "weight": orphan.weight().to_wu(),
            "from": [peer],
        });
        if verbosity == 2 {
            value["hex"] = json!(serialize_hex(&*orphan));
        }
        value
    });
    Ok(told.collect())
}

pub(super) fn describe_all(node: &Node, entries: &[MempoolEntryInfo], verbose: bool) -> Value {
    if !verbose {
        return entries.iter().map(|entry| json!(entry.txid)).collect();
    }
    Value::Object(entries.iter().map(|entry| (entry.txid.to_string(), describe_entry(node, entry))).collect())
}

/// All entries as text, in little more memory than the text takes.
pub(super) fn entries_text(node: &Node, entries: &[MempoolEntryInfo]) -> String {
    let mut text = String::from("{");
    for (place, entry) in entries.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(&format!("\"{}\":{}", entry.txid, describe_entry(node, entry)));
    }
    text.push('}');
    text
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
