//! Blocks, headers and unspent outputs.

use std::sync::Arc;

use bitcoin::{Block, BlockHash, CompactTarget, OutPoint, Txid, consensus::encode::serialize_hex};
use leyden_consensus::{BlockUndo, script::ScriptFlags, script_flags};
use leyden_jsonrpc::{Call, amount::coins};
use leyden_node::{Node, NodeError, Tip};
use serde_json::{Map, Value, json};

use super::{
    describe,
    error::{MISC, RpcError},
};

pub(super) fn difficulty(node: &Node) -> Value {
    describe::difficulty(bits_of(node, &node.tip().hash))
}

/// The target of a known block in its short form.
pub(super) fn bits_of(node: &Node, hash: &BlockHash) -> CompactTarget {
    node.header(hash).map_or(node.params().genesis.header.bits, |(header, _)| header.bits)
}

pub(super) fn info(node: &Node) -> Result<Value, RpcError> {
    let (tip, best) = (node.tip(), node.best_header());
    let bits = bits_of(node, &tip.hash);
    let progress = f64::from(tip.height) / f64::from(best.height.max(1));
    let mut info = json!({
        "chain": chain_name(node),
        "blocks": tip.height,
        "headers": best.height,
        "bestblockhash": tip.hash,
        "bits": format!("{:08x}", bits.to_consensus()),
        "target": hex::encode(bitcoin::Target::from_compact(bits).to_be_bytes()),
        "difficulty": describe::difficulty(bits),
        "time": tip.time,
        "mediantime": tip.median_time_past,
        "verificationprogress": if tip.hash == best.hash { 1.0 } else { progress },
        "initialblockdownload": tip.hash != best.hash,
        "chainwork": describe::work(tip.work),
        "pruned": node.prune_target().is_some() || node.pruned_below() > 0,
        "warnings": [],
    });
    if info["pruned"] == json!(true) {
        info["pruneheight"] = json!(node.pruned_below());
    }
    if let Some(target) = node.prune_target() {
        info["automatic_pruning"] = json!(true);
        info["prune_target_size"] = json!(target);
    }
    Ok(info)
}

/// There is one set of unspent outputs, and every block behind it was checked.
pub(super) fn states(node: &Node) -> Result<Value, RpcError> {
    if node.watched_scripts().is_some() {
        return Err(NodeError::LightNode("unspent outputs").into());
    }
    let info = info(node)?;
    Ok(json!({
        "headers": info["headers"],
        "chainstates": [{
            "blocks": info["blocks"],
            "bestblockhash": info["bestblockhash"],
            "bits": info["bits"],
            "target": info["target"],
            "difficulty": info["difficulty"],
            "verificationprogress": info["verificationprogress"],
            "validated": true,
        }],
    }))
}

/// Clients ask it to know whose addresses to use: every chain that is not regtest has those of a test network.
pub(super) fn chain_name(node: &Node) -> &'static str {
    if node.params().address_network == bitcoin::Network::Regtest { "regtest" } else { "signet" }
}

pub(super) fn hash(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let height = u32::try_from(call.number(0)?).ok();
    let hash = height.and_then(|height| node.block_hash(height));
    hash.map(|hash| json!(hash)).ok_or_else(|| RpcError::parameter("Block height out of range"))
}

pub(super) async fn header(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let hash: BlockHash = call.hash(0)?;
    let (header, _) = node.header(&hash).ok_or_else(unknown_block)?;
    if !call.flag(1, true)? {
        return Ok(json!(serialize_hex(&header)));
    }
    let mut value = describe_header(node, &hash)?;
    value["nTx"] = json!(transactions_in(node, &hash).await?);
    Ok(value)
}

/// How many transactions a block has; 0, as in Bitcoin Core, if only its header is here.
async fn transactions_in(node: &Node, hash: &BlockHash) -> Result<u64, RpcError> {
    if node.watched_scripts().is_some() {
        return Ok(0);
    }
    // Those of pruned blocks are still counted.
    match node.header(hash).filter(|_| node.is_active(hash)) {
        Some((_, height)) => Ok(node.transaction_count(height..=height).await?),
        None => Ok(node.block(*hash).await?.map_or(0, |block| block.txdata.len() as u64)),
    }
}

pub(super) async fn block(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let hash: BlockHash = call.hash(0)?;
    let verbosity = call.verbosity(1, 1)?;
    let _ = node.header(&hash).ok_or_else(unknown_block)?;
    let block = node.block(hash).await?.ok_or_else(|| RpcError::new(MISC, "Block not available (not downloaded)"))?;
    if verbosity <= 0 {
        return Ok(json!(serialize_hex(block.as_ref())));
    }
    let spent = spent(node, hash, verbosity).await?;
    describe_block(node, &hash, &block, spent.as_deref(), verbosity)
}

/// What a block has spent, as far as a description of this verbosity tells of it. A block that was never connected has none, and
/// pruning takes it with the block.
pub(super) async fn spent(node: &Node, hash: BlockHash, verbosity: i64) -> Result<Option<Arc<BlockUndo>>, NodeError> {
    if verbosity >= 2 { node.spent_by(hash).await } else { Ok(None) }
}

/// Verbosity 1: with the ids of its transactions; above: with the transactions.
pub(super) fn describe_block(
    node: &Node,
    hash: &BlockHash,
    block: &Block,
    spent: Option<&BlockUndo>,
    verbosity: i64,
) -> Result<Value, RpcError> {
    let mut value = describe_summary(node, hash, block)?;
    value["tx"] = transactions_of(node, block, spent, verbosity).collect();
    Ok(value)
}

/// The same as text, in little more memory than the text takes.
pub(super) fn block_text(
    node: &Node,
    hash: &BlockHash,
    block: &Block,
    spent: Option<&BlockUndo>,
    verbosity: i64,
) -> Result<String, RpcError> {
    let mut text = describe_summary(node, hash, block)?.to_string();
    // Instead of the object's end.
    text.pop();
    text.push_str(",\"tx\":[");
    for (place, transaction) in transactions_of(node, block, spent, verbosity).enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(&transaction.to_string());
    }
    text.push_str("]}");
    Ok(text)
}

fn describe_summary(node: &Node, hash: &BlockHash, block: &Block) -> Result<Value, RpcError> {
    let mut value = describe_header(node, hash)?;
    value["nTx"] = json!(block.txdata.len());
    describe::add_sizes(&mut value, block);
    Ok(value)
}

fn transactions_of<'a>(
    node: &Node,
    block: &'a Block,
    spent: Option<&'a BlockUndo>,
    verbosity: i64,
) -> impl Iterator<Item = Value> + 'a {
    let network = node.params().address_network;
    let outputs = (verbosity >= 3).then_some(network);
    let spent_by = move |place: usize| spent?.spent.get(place.checked_sub(1)?);
    block.txdata.iter().enumerate().map(move |(place, transaction)| {
        if verbosity == 1 {
            return json!(transaction.compute_txid());
        }
        let mut value = describe::transaction(transaction, network);
        if let Some(spent) = spent_by(place) {
            describe::add_spent(&mut value, transaction, spent, outputs);
        }
        value
    })
}

/// Soft forks with the height from which each holds. A block is told of the rules for the one after it.
pub(super) fn deployments(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let hash = if call.optional(0).is_some() { call.hash(0)? } else { node.tip().hash };
    let (_, height) = node.header(&hash).ok_or_else(unknown_block)?;
    let params = node.params();
    let active = params.activation;
    let next = height.saturating_add(1);
    let flags = script_flags(height, hash, params);
    let named = ScriptFlags::NAMED.iter().filter(|(_, flag)| flags.contains(*flag)).map(|(name, _)| *name);
    let mut deployments = Map::new();
    // Taproot holds from the genesis block on, but for excepted blocks.
    for (name, from) in [
        ("bip34", active.bip34),
        ("bip66", active.bip66),
        ("bip65", active.bip65),
        ("csv", active.csv),
        ("segwit", active.segwit),
        ("taproot", 0),
    ] {
        deployments.insert(name.to_owned(), json!({ "type": "buried", "active": next >= from, "height": from }));
    }
    Ok(json!({
        "hash": hash,
        "height": height,
        "script_flags": named.collect::<Vec<_>>(),
        "deployments": deployments,
    }))
}

pub(super) fn unknown_block() -> RpcError {
    RpcError::not_found("Block not found")
}

pub(super) fn describe_header(node: &Node, hash: &BlockHash) -> Result<Value, RpcError> {
    let (header, height) = node.header(hash).ok_or_else(unknown_block)?;
    let Tip { median_time_past, work, .. } = node.header_place(hash).ok_or_else(unknown_block)?;
    let is_active = node.is_active(hash);
    let depth = i64::from(node.tip().height) - i64::from(height) + 1;
    let mut value = json!({
        "hash": hash,
        "confirmations": if is_active { depth } else { -1 },
        "height": height,
        "version": header.version.to_consensus(),
        "versionHex": format!("{:08x}", header.version.to_consensus()),
        "merkleroot": header.merkle_root,
        "time": header.time,
        "mediantime": median_time_past,
        "nonce": header.nonce,
        "bits": format!("{:08x}", header.bits.to_consensus()),
        "target": hex::encode(header.target().to_be_bytes()),
        "difficulty": describe::difficulty(header.bits),
        "chainwork": describe::work(work),
    });
    if height > 0 {
        value["previousblockhash"] = json!(header.prev_blockhash);
    }
    if is_active && let Some(next) = node.block_hash(height.saturating_add(1)) {
        value["nextblockhash"] = json!(next);
    }
    Ok(value)
}

pub(super) async fn output(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let txid: Txid = call.hash(0)?;
    let vout = u32::try_from(call.number(1)?).map_err(|_| RpcError::parameter("n is no output's number"))?;
    let with_mempool = call.flag(2, true)?;
    let outpoint = OutPoint { txid, vout };
    let tip = node.tip();
    if with_mempool && node.spender(outpoint).await?.is_some() {
        return Ok(Value::Null);
    }
    let network = node.params().address_network;
    let found = match node.coin(outpoint).await? {
        Some(coin) => {
            let confirmations = tip.height.saturating_sub(coin.height).saturating_add(1);
            Some((coin.output, confirmations, coin.is_coinbase))
        }
        None if with_mempool && node.mempool_entry(&txid).is_some() => {
            let found = node.transaction(txid).await?;
            let output = found.and_then(|found| found.transaction.output.get(vout as usize).cloned());
            output.map(|output| (output, 0, false))
        }
        None => None,
    };
    Ok(found.map_or(Value::Null, |(output, confirmations, coinbase)| {
        json!({
            "bestblock": tip.hash,
            "confirmations": confirmations,
            "value": coins(output.value),
            "scriptPubKey": describe::script_pubkey(&output.script_pubkey, network),
            "coinbase": coinbase,
        })
    }))
}
