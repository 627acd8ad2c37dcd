//! What the wallet waits for is handed to the mempool again: a mempool lives in memory, so a restart empties it, and a
//! reorganisation may take a transaction back that nobody else keeps.

use bitcoin::Transaction;
use leyden_node::{MempoolError, Node};
use tracing::{info, warn};

use crate::wallet::onchain::{OnchainWallet, WalletError};

/// Hands over all pending transactions of the wallet; `false` if some must be tried again at a later block.
pub async fn rebroadcast(node: &Node, wallet: &OnchainWallet) -> Result<bool, WalletError> {
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
            return give_up(node, wallet, refused);
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
fn give_up(
    node: &Node,
    wallet: &OnchainWallet,
    refused: Vec<(Transaction, MempoolError)>,
) -> Result<bool, WalletError> {
    let mut all_over = true;
    for (transaction, error) in refused {
        let txid = transaction.compute_txid();
        if is_final(&error) {
            warn!(%txid, %error, "a pending transaction can never confirm; its coins are free again");
            wallet.transaction_dropped(txid, node.clock().now())?;
        } else {
            info!(%txid, %error, "a pending transaction is not accepted; it is tried again at the next block");
            all_over = false;
        }
    }
    Ok(all_over)
}

/// Whether no later block can make the transaction acceptable, short of a reorganisation.
fn is_final(error: &MempoolError) -> bool {
    matches!(error, MempoolError::Coinbase | MempoolError::Invalid(_) | MempoolError::MissingInputs(_))
}
