//! Penalties on their way to the mempool. One that is refused is told to the tower, which comes with it again at every block.

use std::collections::HashMap;

use bitcoin::{Transaction, Txid};
use leyden_node::{MempoolError, Node};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::worker::Job;
use crate::driver::onchain::rejection;

/// Refused transactions that are remembered, so that the same words are not logged at every block.
const MAX_REMEMBERED: usize = 10_000;

pub(super) async fn run(node: Node, mut queue: mpsc::UnboundedReceiver<Transaction>, jobs: mpsc::Sender<Job>) {
    let mut refused: HashMap<Txid, String> = HashMap::new();
    while let Some(transaction) = queue.recv().await {
        let txid = transaction.compute_txid();
        match hand_over(&node, transaction).await {
            Ok(()) => {
                if refused.remove(&txid).is_some() {
                    info!(%txid, "a penalty that was refused before is in the mempool now");
                }
            }
            Err(error) => {
                let cause = rejection(&error);
                let reason = error.to_string();
                if refused.get(&txid) != Some(&reason) {
                    warn!(%txid, %reason, "a penalty was refused by the mempool; it is rebroadcast at the next block");
                    if refused.len() >= MAX_REMEMBERED {
                        refused.clear();
                    }
                    refused.insert(txid, reason);
                }
                if jobs.send(Job::Rejected { txid, cause }).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn hand_over(node: &Node, transaction: Transaction) -> Result<(), MempoolError> {
    let txid = transaction.compute_txid();
    match node.submit_transaction(transaction).await {
        Ok(_) | Err(MempoolError::AlreadyInMempool(_) | MempoolError::AlreadyConfirmed(_)) => Ok(()),
        // One that confirmed meanwhile spends its inputs itself.
        Err(_) if node.transaction(txid).await.is_ok_and(|found| found.is_some()) => Ok(()),
        Err(error) => Err(error),
    }
}
