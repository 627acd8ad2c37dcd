//! What the wallet waits for is handed to the mempool again: a mempool lives in memory, so a restart empties it, and a
//! reorganisation may take a transaction back that nobody else keeps.

use std::collections::HashSet;

use bitcoin::{Transaction, Txid};
use leyden_node::{MempoolError, Node};
use tracing::{info, warn};

use crate::wallet::onchain::{OnchainWallet, WalletError};

/// Hands over all pending transactions of the wallet; `false` if some must be tried again at a later block.
pub(super) async fn rebroadcast(node: &Node, wallet: &OnchainWallet) -> Result<bool, WalletError> {
    let mut waiting = wallet.pending();
    // A child may come before its parent: as long as some get in, others may follow.
    loop {
        let before = waiting.len();
        let mut refused = Vec::new();
        for transaction in waiting {
            if let Err(error) = hand_over(node, &transaction).await {
                refused.push((transaction, error));
            }
        }
        if refused.is_empty() {
            return Ok(true);
        }
        if refused.len() == before {
            return give_up(node, wallet, refused).await;
        }
        waiting = refused.into_iter().map(|(transaction, _)| transaction).collect();
    }
}

async fn hand_over(node: &Node, transaction: &Transaction) -> Result<(), MempoolError> {
    match node.submit_transaction(transaction.clone()).await {
        Ok(_) | Err(MempoolError::AlreadyInMempool(_) | MempoolError::AlreadyConfirmed(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Coins of transactions that can never confirm are free again; the rest waits.
async fn give_up(
    node: &Node,
    wallet: &OnchainWallet,
    mut refused: Vec<(Transaction, MempoolError)>,
) -> Result<bool, WalletError> {
    let mut over = HashSet::new();
    // A child may come before its parent here too.
    loop {
        let before = refused.len();
        let mut waiting = Vec::new();
        for (transaction, error) in refused {
            let txid = transaction.compute_txid();
            if is_final(node, &error, &over).await {
                warn!(%txid, %error, "a pending transaction can never confirm; its coins are free again");
                wallet.transaction_dropped(txid, node.clock().now())?;
                over.insert(txid);
            } else {
                waiting.push((transaction, error));
            }
        }
        refused = waiting;
        if refused.len() == before {
            break;
        }
    }
    for (transaction, error) in &refused {
        let txid = transaction.compute_txid();
        info!(%txid, %error, "a pending transaction is not accepted; it is tried again at the next block");
    }
    Ok(refused.is_empty())
}

/// Whether no later block can make the transaction acceptable, short of a reorganisation. An input that is missing may
/// still come, unless its transaction is known (then it is spent) or is itself `over`.
async fn is_final(node: &Node, error: &MempoolError, over: &HashSet<Txid>) -> bool {
    match error {
        MempoolError::Coinbase | MempoolError::Invalid(_) => true,
        MempoolError::MissingInputs(outpoint) => {
            over.contains(&outpoint.txid) || node.transaction(outpoint.txid).await.is_ok_and(|found| found.is_some())
        }
        _ => false,
    }
}
