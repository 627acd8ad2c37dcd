//! Block filters.

use bitcoin::BlockHash;
use leyden_jsonrpc::Call;
use leyden_node::Node;
use serde_json::{Value, json};

use super::error::{MISC, RpcError};

pub(super) async fn filter(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let hash: BlockHash = call.hash(0)?;
    if call.optional(1).is_some() && call.text(1)? != "basic" {
        return Err(RpcError::not_found("Unknown filtertype"));
    }
    if node.has_filters().is_none() {
        return Err(RpcError::new(MISC, "Index is not enabled for filtertype basic"));
    }
    if node.header(&hash).is_none() {
        return Err(RpcError::not_found("Block not found"));
    }
    let Some((filter, link)) = node.filter(hash).await? else {
        let reason = if node.is_active(&hash) {
            "Block filters are still in the process of being indexed."
        } else {
            "Block was not connected to active chain."
        };
        return Err(RpcError::new(MISC, format!("Filter not found. {reason}")));
    };
    Ok(json!({ "filter": hex::encode(&filter.content), "header": link.header }))
}
