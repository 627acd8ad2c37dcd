//! Blocks that callers make or ask for.

use bitcoin::{Address, Block, address::NetworkUnchecked};
use leyden_jsonrpc::Call;
use leyden_node::{BlockAccepted, BlockRejected, Node};
use serde_json::{Value, json};

use super::error::RpcError;

/// Blocks that one call may ask for.
const MAX_BLOCKS: u32 = 100_000;

pub(super) async fn generate(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let count = u32::try_from(call.number(0)?).ok().filter(|count| *count <= MAX_BLOCKS);
    let count = count.ok_or_else(|| RpcError::parameter(format!("nblocks must be between 0 and {MAX_BLOCKS}")))?;
    let network = node.params().address_network;
    let address = call.text(1)?.parse::<Address<NetworkUnchecked>>().ok();
    let address = address.and_then(|address| address.require_network(network).ok());
    let address = address.ok_or_else(|| RpcError::not_found("Error: Invalid address"))?;
    Ok(json!(node.generate(count, address.script_pubkey()).await?))
}

/// `null` if the block is taken, else the reason in a word (BIP 22).
pub(super) async fn submit(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let block: Block = call.decoded(0, "Block")?;
    let hash = block.block_hash();
    Ok(match node.submit_block(block).await {
        Ok(BlockAccepted::Known) => json!("duplicate"),
        Ok(BlockAccepted::Stored { .. }) if node.is_active(&hash) => Value::Null,
        Ok(BlockAccepted::Stored { .. }) => json!("inconclusive"),
        Err(BlockRejected::Node(error)) => return Err(error.into()),
        Err(BlockRejected::Invalid { cause, .. } | BlockRejected::Mutated { cause, .. }) => {
            json!(cause.reject_reason())
        }
        Err(BlockRejected::Header { cause, .. }) => json!(cause.reject_reason()),
    })
}
