//! From the chain's events to messages, in Bitcoin Core's order.

use std::{collections::HashMap, sync::Arc};

use bitcoin::{Block, BlockHash, Transaction, consensus::serialize, hashes::Hash as _};
use leyden_node::{ChainEvent, Node, chain_index::NextStep};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tracing::warn;

use super::{Message, Outlets, Topic};

/// What is published, and how far.
pub(super) struct Feed {
    node: Node,
    outlets: Outlets,
    events: Receiver<ChainEvent>,
    /// The last block that was told of.
    position: BlockHash,
    /// The number that the next message of a topic gets.
    numbers: HashMap<Topic, u32>,
}

impl Feed {
    /// Begins with what happens from now on.
    pub(super) fn new(node: Node, outlets: Outlets) -> Self {
        let (events, tip) = node.events();
        Self { node, outlets, events, position: tip.hash, numbers: HashMap::new() }
    }

    /// Until the node stops.
    pub(super) async fn run(mut self) {
        loop {
            match self.events.recv().await {
                Ok(ChainEvent::Tip(tip)) => self.follow(tip.hash).await,
                Ok(ChainEvent::Transaction { transaction, txid, sequence, .. }) => {
                    self.transaction(&transaction);
                    self.sequence(reversed(txid.to_byte_array()), b'A', Some(sequence));
                }
                Ok(ChainEvent::TransactionRemoved { txid, sequence, .. }) => {
                    self.sequence(reversed(txid.to_byte_array()), b'R', Some(sequence));
                }
                // Blocks are made up for; of transactions the mempool's sequence shows that some are missing.
                Err(RecvError::Lagged(missed)) => {
                    warn!(missed, "subscribers miss transactions: the chain was faster than what is published");
                    let (events, tip) = self.node.events();
                    self.events = events;
                    self.follow(tip.hash).await;
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Tells of all blocks on the way to the new tip, and then of the tip.
    async fn follow(&mut self, tip: BlockHash) {
        if !self.outlets.are_heard() {
            // Blocks are not read for nobody.
            self.position = tip;
            return;
        }
        let mut last = None;
        while let Some(step) = self.node.next_step(&self.position, &tip) {
            let (hash, next, label) = match step {
                NextStep::Connect(at) => (at.hash, at.hash, b'C'),
                NextStep::Disconnect { block, parent } => (block.hash, parent, b'D'),
            };
            let block = match self.node.block(hash).await {
                Ok(Some(block)) => block,
                Ok(None) | Err(_) => {
                    warn!(%hash, "subscribers are not told of a block that cannot be read");
                    self.position = tip;
                    return;
                }
            };
            block.txdata.iter().for_each(|transaction| self.transaction(transaction));
            self.sequence(reversed(hash.to_byte_array()), label, None);
            self.position = next;
            last = Some(block).filter(|_| label == b'C');
        }
        if let Some(block) = last {
            self.block(&tip, &block);
        }
    }

    fn block(&mut self, hash: &BlockHash, block: &Arc<Block>) {
        self.publish(Topic::HashBlock, || reversed(hash.to_byte_array()).to_vec());
        self.publish(Topic::RawBlock, || serialize(block.as_ref()));
    }

    fn transaction(&mut self, transaction: &Transaction) {
        self.publish(Topic::HashTx, || reversed(transaction.compute_txid().to_byte_array()).to_vec());
        self.publish(Topic::RawTx, || serialize(transaction));
    }

    fn sequence(&mut self, hash: [u8; 32], label: u8, mempool_sequence: Option<u64>) {
        self.publish(Topic::Sequence, || {
            let mut body = hash.to_vec();
            body.push(label);
            body.extend(mempool_sequence.into_iter().flat_map(u64::to_le_bytes));
            body
        });
    }

    fn publish(&mut self, topic: Topic, body: impl FnOnce() -> Vec<u8>) {
        if !self.outlets.has(topic) {
            return;
        }
        let number = self.numbers.entry(topic).or_default();
        let message = Arc::new(Message::new(topic.name(), &body(), *number));
        *number = number.wrapping_add(1);
        self.outlets.publish(topic, &message);
    }
}

/// As hashes are written for people.
fn reversed(mut hash: [u8; 32]) -> [u8; 32] {
    hash.reverse();
    hash
}
