//! What a funding transaction needs, and who has taken it: the looks at the chain behind `FundingWatch`.

use std::collections::HashSet;

use bitcoin::{Transaction, Txid};
use leyden_channels::{channel::FundingInput, margins::FINAL_DEPTH, types::Height};
use leyden_node::{Node, NodeError};

/// Ancestors that are followed: no mempool lets a transaction have more that are unconfirmed.
const MAX_ANCESTORS: usize = 25;

/// The inputs of a funding transaction, and of those of its ancestors that no block holds for good.
pub(super) async fn needs_of(node: &Node, funding: &Transaction, tip: Height) -> Result<Vec<FundingInput>, NodeError> {
    let mut needs = Vec::new();
    let mut to_follow = vec![funding.clone()];
    let mut known = HashSet::from([funding.compute_txid()]);
    while let Some(transaction) = to_follow.pop() {
        let by = transaction.compute_txid();
        // A coinbase needs nothing; if its block is taken back it is gone, and nobody can say for whom.
        for input in transaction.input.iter().filter(|input| !input.previous_output.is_null()) {
            let coin = input.previous_output;
            needs.push(FundingInput { coin, by });
            if known.len() > MAX_ANCESTORS || known.contains(&coin.txid) {
                continue;
            }
            let parent = match node.transaction(coin.txid).await {
                // Too deep to be read is deeper than any reorganisation.
                Err(NodeError::Pruned { .. }) => continue,
                found => found?,
            };
            let Some(parent) = parent else { continue };
            let confirmations = |height: u32| tip.0.saturating_add(1).saturating_sub(height);
            let is_final = parent.confirmed.is_some_and(|(block, _)| confirmations(block.height) >= FINAL_DEPTH);
            if !is_final && known.insert(coin.txid) {
                to_follow.push(parent.transaction.as_ref().clone());
            }
        }
    }
    Ok(needs)
}

/// A transaction in a block that has spent one of these coins in the stead of who needs it.
pub(super) async fn conflict_with(node: &Node, needs: &[FundingInput]) -> Result<Option<(Txid, Height)>, NodeError> {
    for FundingInput { coin, by } in needs {
        let spend = node.spender(*coin).await?;
        if let Some(spend) = spend.filter(|spend| spend.txid != *by)
            && let Some(block) = spend.confirmed
        {
            return Ok(Some((spend.txid, Height(block.height))));
        }
    }
    Ok(None)
}
