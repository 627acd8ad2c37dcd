//! Blocks that callers make or ask for.

use bitcoin::{Address, Block, CompactTarget, FeeRate, Target, Txid, address::NetworkUnchecked};
use leyden_consensus::Retarget;
use leyden_jsonrpc::Call;
use leyden_node::mempool::standard::dust_outputs;
use leyden_node::{BlockAccepted, BlockRejected, BlockState, MempoolPolicy, Node};
use serde_json::{Value, json};

use super::{
    block_template::complete,
    blockchain::{bits_of, chain_name},
    describe,
    error::{MISC, RpcError},
};

/// Blocks that one call may ask for.
const MAX_BLOCKS: u32 = 100_000;
/// Hashes that a call may take unless the caller says otherwise.
const DEFAULT_TRIES: i64 = 1_000_000;

pub(super) async fn generate(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let count = u32::try_from(call.number(0)?).ok().filter(|count| *count <= MAX_BLOCKS);
    let count = count.ok_or_else(|| RpcError::parameter(format!("nblocks must be between 0 and {MAX_BLOCKS}")))?;
    let network = node.params().address_network;
    let address = call.text(1)?.parse::<Address<NetworkUnchecked>>().ok();
    let address = address.and_then(|address| address.require_network(network).ok());
    let address = address.ok_or_else(|| RpcError::not_found("Error: Invalid address"))?;
    // A block takes a few tries on a chain for tests: the caller's bound says whether there is any.
    let tries = if call.optional(2).is_some() { call.number(2)? } else { DEFAULT_TRIES };
    let tries = u64::try_from(tries).map_err(|_| RpcError::new(MISC, "maxtries: JSON integer out of range"))?;
    if tries == 0 {
        return Ok(json!([]));
    }
    Ok(json!(node.generate(count, address.script_pubkey()).await?))
}

pub(super) fn info(node: &Node) -> Result<Value, RpcError> {
    let tip = node.tip();
    let bits = bits_of(node, &tip.hash);
    let describe = |bits: CompactTarget| {
        (
            json!(format!("{:08x}", bits.to_consensus())),
            describe::difficulty(bits),
            json!(hex::encode(Target::from_compact(bits).to_be_bytes())),
        )
    };
    let (now, next) = (describe(bits), describe(node.next_bits()?));
    Ok(json!({
        "blocks": tip.height,
        "bits": now.0,
        "difficulty": now.1,
        "target": now.2,
        "networkhashps": hash_rate(node, DEFAULT_SPAN, tip.height)?,
        "pooledtx": node.mempool_info().transactions,
        "blockmintxfee": describe::per_kvb(FeeRate::ZERO),
        "chain": chain_name(node),
        "next": { "height": tip.height.saturating_add(1), "bits": next.0, "difficulty": next.1, "target": next.2 },
        "warnings": [],
    }))
}

/// Blocks over which the rate of all miners is taken unless the caller says otherwise.
const DEFAULT_SPAN: i64 = 120;

pub(super) fn network_hash_rate(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let blocks = if call.optional(0).is_some() { call.number(0)? } else { DEFAULT_SPAN };
    let height = if call.optional(1).is_some() { call.number(1)? } else { -1 };
    if blocks < -1 || blocks == 0 {
        return Err(RpcError::parameter("Invalid nblocks. Must be a positive number or -1."));
    }
    let tip = node.tip().height;
    let height = match height {
        -1 => tip,
        height => u32::try_from(height)
            .ok()
            .filter(|height| *height <= tip)
            .ok_or_else(|| RpcError::parameter("Block does not exist at specified height"))?,
    };
    Ok(json!(hash_rate(node, blocks, height)?))
}

/// Expected hashes a second over the last `blocks` (-1: since the target has changed) up to `height`.
fn hash_rate(node: &Node, blocks: i64, height: u32) -> Result<f64, RpcError> {
    let since_change = match node.params().retarget {
        Retarget::Periodic { interval, .. } => height.checked_rem(interval.get()).unwrap_or(0).saturating_add(1),
        Retarget::Never | Retarget::MovingAverage { .. } => height,
    };
    let span = if blocks < 0 { since_change } else { u32::try_from(blocks).unwrap_or(u32::MAX) }.min(height);
    Ok(node.hash_rate_over(height, span)?)
}

/// What was added to which transactions' fees.
pub(super) fn priorities(node: &Node) -> Value {
    let described = node.priorities().into_iter().map(|(txid, delta)| {
        let mut value = json!({ "fee_delta": delta, "in_mempool": false });
        if let Some(entry) = node.mempool_entry(&txid) {
            value["in_mempool"] = json!(true);
            value["modified_fee"] = json!(entry.modified_fee.to_sat());
        }
        (txid.to_string(), value)
    });
    Value::Object(described.collect())
}

pub(super) async fn prioritise(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let txid: Txid = call.hash(0)?;
    if call.optional(1).is_some_and(|dummy| dummy.as_f64() != Some(0.0)) {
        return Err(RpcError::parameter(
            "Priority is no longer supported, dummy argument to prioritisetransaction must be 0.",
        ));
    }
    let delta = call.number(2)?;
    // Such a transaction is to pay nothing, so that its dust is spent with it.
    let policy = MempoolPolicy::default();
    let pooled = node.transaction(txid).await?.filter(|found| found.confirmed.is_none());
    if pooled.is_some_and(|found| dust_outputs(&found.transaction, &policy).next().is_some()) {
        return Err(RpcError::parameter("Priority is not supported for transactions with dust outputs."));
    }
    node.prioritise(txid, delta).await?;
    Ok(json!(true))
}

/// `null` if the block is taken, else the reason in a word (BIP 22).
pub(super) async fn submit(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let mut block: Block = call.decoded(0, "Block")?;
    let has_segwit = node
        .header(&block.header.prev_blockhash)
        .is_some_and(|(_, height)| height.saturating_add(1) >= node.params().activation.segwit);
    if has_segwit {
        complete(&mut block);
    }
    let hash = block.block_hash();
    match node.submit_block(block).await {
        Ok(BlockAccepted::Known) => Ok(json!("duplicate")),
        Ok(BlockAccepted::Stored { .. }) if node.is_active(&hash) => Ok(Value::Null),
        Ok(BlockAccepted::Stored { .. }) => Ok(json!("inconclusive")),
        Err(rejected) => verdict(rejected),
    }
}

/// What is wrong with a block, in BIP 22's and Bitcoin Core's words.
pub(super) fn verdict(rejected: BlockRejected) -> Result<Value, RpcError> {
    match rejected {
        BlockRejected::Node(error) => Err(error.into()),
        BlockRejected::Invalid { cause, .. } | BlockRejected::Mutated { cause, .. } => Ok(json!(cause.reject_reason())),
        BlockRejected::Header { cause, .. } => Ok(json!(cause.reject_reason())),
    }
}

/// What is said of a proposal that is known already.
pub(super) fn duplicate(state: BlockState) -> &'static str {
    match state {
        BlockState::Active => "duplicate",
        BlockState::Invalid => "duplicate-invalid",
        BlockState::Stored | BlockState::HeaderOnly => "duplicate-inconclusive",
    }
}
