//! What happened, in order, to whoever asks.
//!
//! ```text
//!   subscribe(from) ─▶ off until the active chain is reached, on until its tip      read from the store
//!                  ─▶ the mempool as it is                                          a snapshot
//!                  ─▶ every tip, every transaction                                  live
//!                          └─ too slow: back to the top, from where the reader is
//! ```
//!
//! What it promises:
//! * Blocks come at least once and in an order that makes sense: each `BlockConnected` follows its parent, each
//!   `BlockDisconnected` takes the last one off. A consumer stores the hash of the last block that it has processed, and
//!   subscribes from it after a restart; if that block was reorganised away meanwhile, it is first disconnected.
//! * Every transaction that is in the mempool is told of at least once, unless it left before the reader got there.
//! * A reader costs the chain nothing, however slow: blocks are read from the store when the reader asks, and of
//!   transactions only the newest few thousand are kept.

use std::collections::VecDeque;
use std::sync::Arc;

use bitcoin::{BlockHash, Transaction};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::backend::ChainEvent;
use crate::chain_index::NextStep;
use crate::core::Core;
use crate::error::NodeError;
use crate::pruner::absence;
use crate::sync::read;
use crate::types::{BlockRef, Notice};

/// An endless sequence of notices.
pub struct NoticeStream {
    core: Arc<Core>,
    /// The last block that the reader knows of.
    position: BlockHash,
    /// Where the reader has to be before the next event is told.
    target: BlockHash,
    /// The mempool as it was when the reader began, or fell behind.
    snapshot: VecDeque<Arc<Transaction>>,
    snapshot_due: bool,
    events: broadcast::Receiver<ChainEvent>,
}

impl NoticeStream {
    /// Starts after the block `from`, or after the tip.
    pub(crate) fn new(core: Arc<Core>, from: Option<BlockHash>) -> Result<Self, NodeError> {
        let (events, tip) = core.subscribe();
        let position = from.unwrap_or(tip.hash);
        if !read(&core.index).tree.contains(&position) {
            return Err(NodeError::UnknownBlock(position));
        }
        Ok(Self { core, position, target: tip.hash, snapshot: VecDeque::new(), snapshot_due: true, events })
    }

    /// The next notice; waits for it. Fails with [`NodeError::ShuttingDown`] at the end, and with the store's error if a
    /// block cannot be read. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> Result<Notice, NodeError> {
        loop {
            if self.position != self.target {
                return self.step().await;
            }
            if std::mem::take(&mut self.snapshot_due) {
                let own = self.core.light.as_ref().map(|light| read(&light.pool).iter().map(Arc::clone).collect());
                let pool = read(&self.core.mempool);
                self.snapshot =
                    own.unwrap_or_else(|| pool.iter().map(|entry| Arc::clone(&entry.transaction)).collect());
            }
            if let Some(transaction) = self.snapshot.pop_front() {
                return Ok(Notice::TransactionAccepted { transaction });
            }
            let event = tokio::select! {
                biased;
                () = self.core.shutdown.cancelled() => return Err(NodeError::ShuttingDown),
                event = self.events.recv() => event,
            };
            match event {
                Ok(ChainEvent::Tip(tip)) => self.target = tip.hash,
                Ok(ChainEvent::Transaction { transaction, .. }) => {
                    return Ok(Notice::TransactionAccepted { transaction });
                }
                Ok(ChainEvent::TransactionRemoved { txid, reason, .. }) => {
                    return Ok(Notice::TransactionRemoved { txid, reason });
                }
                Err(RecvError::Lagged(_)) => {
                    let (events, tip) = self.core.subscribe();
                    self.events = events;
                    self.target = tip.hash;
                    self.snapshot_due = true;
                }
                Err(RecvError::Closed) => return Err(NodeError::ShuttingDown),
            }
        }
    }

    /// The block that the reader has seen last.
    pub fn position(&self) -> BlockHash {
        self.position
    }

    async fn step(&mut self) -> Result<Notice, NodeError> {
        let step = read(&self.core.index).next_step(&self.position, &self.target);
        let step = step.ok_or(NodeError::UnknownBlock(self.target))?;
        let (at, position) = match step {
            NextStep::Connect(at) => (at, at.hash),
            NextStep::Disconnect { block, parent } => (block, parent),
        };
        let block = loop {
            let core = Arc::clone(&self.core);
            let found = tokio::task::spawn_blocking(move || core.told_block(&at.hash)).await;
            let found = found.map_err(|error| NodeError::Invariant(error.to_string()))??;
            match found {
                Some(block) => break block,
                None if self.core.shutdown.is_cancelled() => return Err(NodeError::ShuttingDown),
                // No peer has sent it again yet.
                None if self.core.store.is_lost(&at.hash) => {}
                None => return Err(absence(&read(&self.core.index), &self.core.store, &at.hash)),
            }
        };
        self.position = position;
        let BlockRef { hash, height } = at;
        Ok(match step {
            NextStep::Connect(_) => Notice::BlockConnected { hash, height, block },
            NextStep::Disconnect { .. } => Notice::BlockDisconnected { hash, height, block },
        })
    }
}
