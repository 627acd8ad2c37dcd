//! The chain, block by block, to the worker: from the block that the tower has processed on, none left out.
//!
//! ```text
//!   subscribe from the tower's tip ──► connected, disconnected, mempool ──► worker ──done──► the next
//!        ▲                                                │ not done, not read
//!        └── another chain than before: back some blocks   └── again, until it is
//! ```

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bitcoin::{BlockHash, hashes::Hash as _};
use leyden_channels::types::Height;
use leyden_node::{Node, NodeError, Notice, NoticeStream};
use leyden_watchtower::{
    record::TipRow,
    tower::{RECENT_BLOCKS, TowerError},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};
use tracing::{error, info, warn};

use super::worker::Job;

/// Before what failed is tried again, at first and at last.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// The daemon is stopping.
struct Stopping;

/// Ends with the daemon.
pub(super) async fn follow(
    node: Node,
    rereads: mpsc::UnboundedReceiver<Height>,
    jobs: mpsc::Sender<Job>,
    needed_from: Arc<AtomicU32>,
) {
    let mut follower = Follower {
        node,
        rereads,
        jobs,
        needed_from,
        to_reread: BTreeSet::new(),
        reread_at: Instant::now(),
        is_told: false,
    };
    let Err(Stopping) = follower.run().await;
}

struct Follower {
    node: Node,
    rereads: mpsc::UnboundedReceiver<Height>,
    jobs: mpsc::Sender<Job>,
    /// Blocks from this height on must not be pruned.
    needed_from: Arc<AtomicU32>,
    /// Blocks to look at again that could not be read yet.
    to_reread: BTreeSet<Height>,
    reread_at: Instant,
    /// The tower knows that it has seen all blocks that there are.
    is_told: bool,
}

impl Follower {
    async fn run(&mut self) -> Result<std::convert::Infallible, Stopping> {
        let mut notices = self.subscribe().await?;
        let mut retry = Retry::default();
        loop {
            if !self.is_told && self.node.tip().hash == notices.position() {
                self.is_told = true;
                self.jobs.send(Job::Tip).await.map_err(|_| Stopping)?;
            }
            let again = !self.to_reread.is_empty();
            let notice = tokio::select! {
                notice = notices.next() => notice,
                Some(height) = self.rereads.recv() => {
                    self.to_reread.insert(height);
                    self.read_again().await?;
                    continue;
                }
                () = sleep_until(self.reread_at), if again => {
                    self.read_again().await?;
                    continue;
                }
            };
            match notice {
                Ok(notice) => {
                    retry = Retry::default();
                    if !self.tell(notice).await? {
                        notices = self.subscribe().await?;
                    }
                }
                Err(NodeError::ShuttingDown) => return Err(Stopping),
                Err(NodeError::UnknownBlock(_)) => notices = self.subscribe().await?,
                Err(error) => {
                    if retry.is_first() {
                        error!(%error, "a block cannot be read; the watchtower tries until it can");
                    }
                    retry.pause().await;
                }
            }
        }
    }

    /// From the tower's tip on, or from the node's if the tower has seen no block.
    async fn subscribe(&mut self) -> Result<NoticeStream, Stopping> {
        let mut retry = Retry::default();
        loop {
            let (answer, position) = oneshot::channel();
            self.jobs.send(Job::Position(answer)).await.map_err(|_| Stopping)?;
            let Some(tip) = position.await.map_err(|_| Stopping)? else {
                self.begin().await?;
                continue;
            };
            self.has_seen(tip.height);
            match self.node.subscribe(Some(BlockHash::from_byte_array(tip.hash))) {
                Ok(notices) => return Ok(notices),
                Err(NodeError::ShuttingDown) => return Err(Stopping),
                Err(NodeError::UnknownBlock(_)) if self.node.tip().height >= tip.height.0 => {
                    self.step_back(tip).await?;
                }
                Err(error) => {
                    if retry.is_first() {
                        let height = tip.height.0;
                        warn!(%error, height, "the watchtower waits until the chain is where it was before");
                    }
                    retry.pause().await;
                }
            }
        }
    }

    /// All up to here are looked at; the last ones of these may have to be read again.
    fn has_seen(&self, height: Height) {
        let lowest = self.to_reread.first().map_or(height, |first| height.min(*first));
        self.needed_from.store(lowest.0.saturating_sub(RECENT_BLOCKS), Ordering::Release);
    }

    /// The first block that the tower sees is the tip of now: no state can be revoked before somebody has backed it up.
    async fn begin(&self) -> Result<(), Stopping> {
        let tip = self.node.tip();
        match self.node.block(tip.hash).await {
            Ok(Some(block)) => {
                let (height, hash) = (Height(tip.height), tip.hash);
                if let Err(error) = self.ask(|answer| Job::Block { height, hash, block, answer }).await? {
                    error!(%error, "the watchtower cannot begin; it tries again");
                    sleep(LAST_RETRY).await;
                }
            }
            Ok(None) => sleep(FIRST_RETRY).await,
            Err(NodeError::ShuttingDown) => return Err(Stopping),
            Err(error) => {
                error!(%error, "the watchtower cannot read the chain's tip; it tries again");
                sleep(LAST_RETRY).await;
            }
        }
        Ok(())
    }

    /// The chain has been made anew, without the block that the tower saw last. What it has seen since then is seen again.
    async fn step_back(&self, tip: TipRow) -> Result<(), Stopping> {
        let to = tip.height.0.saturating_sub(RECENT_BLOCKS);
        let Some(hash) = self.node.block_hash(to) else {
            sleep(FIRST_RETRY).await;
            return Ok(());
        };
        warn!(
            from = tip.height.0,
            to, "the chain does not know the block that the watchtower saw last; it looks at blocks again"
        );
        if let Err(error) = self.ask(|answer| Job::Reorganized { to: Height(to), hash, answer }).await? {
            error!(%error, "the watchtower cannot go back; it tries again");
            sleep(LAST_RETRY).await;
        }
        Ok(())
    }

    /// Tells the worker until it has done it; `false` if the tower is somewhere else than the notices.
    async fn tell(&mut self, notice: Notice) -> Result<bool, Stopping> {
        let mut retry = Retry::default();
        loop {
            let done = match &notice {
                Notice::BlockConnected { hash, height, block } => {
                    let (hash, height, block) = (*hash, Height(*height), block.clone());
                    self.ask(|answer| Job::Block { height, hash, block, answer }).await?
                }
                Notice::BlockDisconnected { height, block, .. } => {
                    self.is_told = false;
                    let (to, hash) = (Height(height.saturating_sub(1)), block.header.prev_blockhash);
                    self.ask(|answer| Job::Reorganized { to, hash, answer }).await?
                }
                Notice::TransactionAccepted { transaction } => {
                    self.jobs.send(Job::Mempool(transaction.clone())).await.map_err(|_| Stopping)?;
                    return Ok(true);
                }
                Notice::TransactionRemoved { .. } => return Ok(true),
            };
            match done {
                Ok(()) => {
                    if let Notice::BlockConnected { height, .. } = &notice {
                        self.has_seen(Height(*height));
                    }
                    return Ok(true);
                }
                Err(TowerError::Gap { expected, got }) => {
                    warn!(expected, got, "the watchtower follows the chain anew from where it is");
                    return Ok(false);
                }
                Err(error) => {
                    if retry.is_first() {
                        error!(%error, "the watchtower could not look at a block; it tries until it can");
                    }
                    retry.pause().await;
                }
            }
        }
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, Stopping> {
        let (answer, done) = oneshot::channel();
        self.jobs.send(job(answer)).await.map_err(|_| Stopping)?;
        done.await.map_err(|_| Stopping)
    }

    /// Shows blocks of the tower's chain again, as far as they can be read; the others in a while.
    async fn read_again(&mut self) -> Result<(), Stopping> {
        for height in std::mem::take(&mut self.to_reread) {
            if !self.show_again(height).await? {
                self.to_reread.insert(height);
            }
        }
        self.reread_at = Instant::now() + LAST_RETRY;
        Ok(())
    }

    async fn show_again(&self, height: Height) -> Result<bool, Stopping> {
        let (answer, position) = oneshot::channel();
        self.jobs.send(Job::Position(answer)).await.map_err(|_| Stopping)?;
        let Some(tip) = position.await.map_err(|_| Stopping)?.filter(|tip| tip.height >= height) else {
            // A reorganisation has taken it back: the block that replaces it comes by itself.
            return Ok(true);
        };
        // On another chain than ours the same height is another block, which the tower has not come to.
        let is_on_chain = || self.node.is_active(&BlockHash::from_byte_array(tip.hash));
        let found = self.node.block_hash(height.0).filter(|_| is_on_chain());
        let Some(hash) = found else { return Ok(false) };
        let Ok(Some(block)) = self.node.block(hash).await else { return Ok(false) };
        if !is_on_chain() {
            return Ok(false);
        }
        let done = self.ask(|answer| Job::Block { height, hash, block, answer }).await?;
        if let Err(error) = &done {
            info!(%error, height = height.0, "a block could not be looked at again; it is tried later");
        }
        Ok(done.is_ok())
    }
}

/// Longer and longer pauses.
#[derive(Default)]
struct Retry(u32);

impl Retry {
    fn is_first(&self) -> bool {
        self.0 == 0
    }

    async fn pause(&mut self) {
        let pause = FIRST_RETRY.saturating_mul(1 << self.0.min(8)).min(LAST_RETRY);
        self.0 = self.0.saturating_add(1);
        sleep(pause).await;
    }
}
