//! Proofs that blocks hold transactions, as Bitcoin Core writes them: a header and a partial merkle tree.

use std::collections::BTreeSet;

use bitcoin::{BlockHash, MerkleBlock, Txid, consensus::encode::serialize_hex};
use leyden_jsonrpc::Call;
use leyden_node::Node;
use serde_json::{Value, json};

use super::{
    blockchain::unknown_block,
    error::{MISC, RpcError},
};

pub(super) async fn make(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let texts = call.texts(0)?;
    if texts.is_empty() {
        return Err(RpcError::parameter("Parameter 'txids' cannot be empty"));
    }
    let mut txids = BTreeSet::new();
    for text in texts {
        let wrong = || RpcError::parameter(format!("txid must be of length 64 and hexadecimal (not '{text}')"));
        let txid: Txid = text.parse().map_err(|_| wrong())?;
        if !txids.insert(txid) {
            return Err(RpcError::parameter(format!("Invalid parameter, duplicated txid: {txid}")));
        }
    }
    let hash: BlockHash = if call.optional(1).is_some() { call.hash(1)? } else { block_of(node, &txids).await? };
    node.header(&hash).ok_or_else(unknown_block)?;
    let block = node.block(hash).await?.ok_or_else(|| RpcError::new(MISC, "Block not available (not downloaded)"))?;
    let held = block.txdata.iter().filter(|transaction| txids.contains(&transaction.compute_txid())).count();
    if held != txids.len() {
        return Err(RpcError::not_found("Not all transactions found in specified or retrieved block"));
    }
    Ok(json!(serialize_hex(&MerkleBlock::from_block_with_predicate(&block, |txid| txids.contains(txid)))))
}

/// The block of the active chain that holds the first of them.
async fn block_of(node: &Node, txids: &BTreeSet<Txid>) -> Result<BlockHash, RpcError> {
    let missing = || RpcError::not_found("Transaction not yet in block");
    let first = txids.first().ok_or_else(missing)?;
    let found = node.transaction(*first).await?.and_then(|found| found.confirmed);
    found.map(|(block, _)| block.hash).ok_or_else(missing)
}

/// The transactions that a proof proves; none if it proves nothing.
pub(super) async fn verify(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let proof: MerkleBlock = call.decoded(0, "Proof")?;
    let (mut txids, mut places) = (Vec::new(), Vec::new());
    if proof.extract_matches(&mut txids, &mut places).is_err() {
        return Ok(json!([]));
    }
    let hash = proof.header.block_hash();
    if !node.is_active(&hash) {
        return Err(RpcError::not_found("Block not found in chain"));
    }
    // A tree that claims another size than the block's could pass an inner node off as a transaction.
    let height = node.header(&hash).map_or(0, |(_, height)| height);
    let held = node.transaction_count(height..=height).await?;
    if held != u64::from(proof.txn.num_transactions()) {
        return Ok(json!([]));
    }
    Ok(json!(txids))
}
