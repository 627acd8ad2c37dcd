//! Which branch counts, as its user says.

use bitcoin::{BlockHash, block::Header};
use leyden_jsonrpc::Call;
use leyden_node::{ChainTipStatus, HeadersRejected, Node, NodeError};
use serde_json::{Value, json};

use super::{
    blockchain::unknown_block,
    error::{RpcError, VERIFY},
};

pub(super) async fn tips(node: &Node) -> Result<Value, RpcError> {
    let tips = node.chain_tips().await?.into_iter().map(|tip| {
        let status = match tip.status {
            ChainTipStatus::Active => "active",
            ChainTipStatus::Invalid => "invalid",
            ChainTipStatus::HeadersOnly => "headers-only",
            ChainTipStatus::ValidHeaders => "valid-headers",
            ChainTipStatus::ValidFork => "valid-fork",
        };
        json!({
            "height": tip.block.height,
            "hash": tip.block.hash,
            "branchlen": tip.branch_length,
            "status": status,
        })
    });
    Ok(tips.collect())
}

fn done(decided: Result<(), NodeError>) -> Result<Value, RpcError> {
    match decided {
        Ok(()) => Ok(Value::Null),
        Err(NodeError::UnknownBlock(_)) => Err(unknown_block()),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn invalidate(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let hash: BlockHash = call.hash(0)?;
    if hash == node.params().genesis_hash {
        return Err(RpcError::parameter("the genesis block cannot be invalid: there is no chain without it"));
    }
    done(node.invalidate_block(hash).await)
}

pub(super) async fn reconsider(node: &Node, call: &Call) -> Result<Value, RpcError> {
    done(node.reconsider_block(call.hash(0)?).await)
}

pub(super) async fn prefer(node: &Node, call: &Call) -> Result<Value, RpcError> {
    done(node.prefer_block(call.hash(0)?).await)
}

pub(super) async fn submit_header(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let header: Header = call.decoded(0, "Block header")?;
    if node.header(&header.prev_blockhash).is_none() {
        let text = format!("Must submit previous header ({}) first", header.prev_blockhash);
        return Err(RpcError::new(VERIFY, text));
    }
    match node.accept_headers(vec![header]).await {
        Ok(_) => Ok(Value::Null),
        Err(HeadersRejected::Header { cause, .. }) => Err(RpcError::new(VERIFY, cause.reject_reason())),
        Err(HeadersRejected::Node(error)) => Err(error.into()),
    }
}
