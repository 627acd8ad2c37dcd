//! Who waits until something stands in the chain: one task each, that has the chain searched from where its caller says and goes
//! on with every new block.
//!
//! Promises: what is in the chain is found however late the caller comes, and told again after a reorganisation; nothing waits for
//! a caller that does not read; those who wait are few ([`MAX_CHAIN_WATCHES`]), and a block is searched for all of them together
//! ([`search`]). What was told is not held any longer, and a block only while it is told.

mod progress;
mod search;

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use bitcoin::{Block, BlockHash};
use leyden_channels::types::Height;
use leyden_node::{Node, Notice};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

pub(super) use self::search::Search;
use self::{
    progress::Progress,
    search::{Hit, Wanted},
};
use super::chain::{ChainFacade, node_error};
use crate::{
    api::{ApiError, ChainSight, ChainWatch, FoundSpend, FoundTx, Updates, WantedSpend, WantedTx},
    limits::MAX_CHAIN_WATCHES,
};

/// Of the process, whatever networks it is on.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_CHAIN_WATCHES)));

/// Where something was found.
#[derive(Clone)]
struct Place {
    hit: Hit,
    hash: BlockHash,
    height: u32,
}

/// What a caller is told of it.
trait Tell: Send + 'static {
    fn tell(place: Place, block: Option<Arc<Block>>) -> Self;
}

impl Tell for FoundTx {
    fn tell(Place { hit, hash, height }: Place, block: Option<Arc<Block>>) -> Self {
        Self { transaction: hit.transaction, index: hit.index, block, hash, height: Height(height) }
    }
}

impl Tell for FoundSpend {
    fn tell(Place { hit, height, .. }: Place, _: Option<Arc<Block>>) -> Self {
        Self { spender: hit.transaction, input: hit.input, height: Height(height) }
    }
}

#[async_trait]
impl ChainWatch for ChainFacade {
    async fn confirmations(&self, wanted: WantedTx) -> Result<Updates<ChainSight<FoundTx>>, ApiError> {
        let WantedTx { txid, script, confirmations, from, with_block } = wanted;
        let progress = Progress::new(from.0, confirmations);
        self.watch(Wanted::Payment { script, txid }, progress, with_block)
    }

    async fn spends(&self, wanted: WantedSpend) -> Result<Updates<ChainSight<FoundSpend>>, ApiError> {
        let WantedSpend { outpoint, script, from } = wanted;
        let wanted = outpoint.map_or(Wanted::SpendOf(script), Wanted::Spend);
        self.watch(wanted, Progress::new(from.0, 1), false)
    }
}

impl ChainFacade {
    fn watch<T: Tell>(
        &self,
        wanted: Wanted,
        progress: Progress<Place>,
        with_block: bool,
    ) -> Result<Updates<ChainSight<T>>, ApiError> {
        let place = Arc::clone(&PLACES).try_acquire_owned().map_err(|_| {
            ApiError::unavailable(format!(
                "{MAX_CHAIN_WATCHES} callers wait for something in the chain already: end some of them"
            ))
        })?;
        let (sender, receiver) = mpsc::channel(1);
        let (node, search) = (self.node().clone(), self.search().clone());
        let watch = Watch { node, search, wanted: Arc::new(wanted), with_block, progress, sender };
        tokio::spawn(watch.follow(place));
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

/// One who waits.
struct Watch<T> {
    node: Node,
    search: Search,
    wanted: Arc<Wanted>,
    with_block: bool,
    progress: Progress<Place>,
    sender: mpsc::Sender<Result<ChainSight<T>, ApiError>>,
}

impl<T: Tell> Watch<T> {
    /// Until nothing more will come, or the caller has gone.
    async fn follow(mut self, _place: OwnedSemaphorePermit) {
        let sender = self.sender.clone();
        let search = async {
            let mut notices = self.node.subscribe(Some(self.node.tip().hash)).map_err(node_error)?;
            loop {
                if !self.advance().await? || self.progress.is_over(self.node.tip().height) {
                    return Ok(());
                }
                while !matches!(
                    notices.next().await.map_err(node_error)?,
                    Notice::BlockConnected { .. } | Notice::BlockDisconnected { .. }
                ) {}
            }
        };
        let ended: Result<(), ApiError> = tokio::select! {
            ended = search => ended,
            () = sender.closed() => return,
        };
        if let Err(error) = ended {
            // Who has gone does not hear it.
            let _ = sender.send(Err(error)).await;
        }
    }

    /// As far as the chain goes now. Whether the caller is still there.
    async fn advance(&mut self) -> Result<bool, ApiError> {
        let Self { node, progress, sender, .. } = self;
        if progress.go_back(|height| node.block_hash(height)) && sender.send(Ok(ChainSight::Gone)).await.is_err() {
            return Ok(false);
        }
        while let Some(height) = progress.next(node.tip().height) {
            // The chain may have become another one since: the next look finds that out.
            let Some(hash) = node.block_hash(height) else { break };
            let Some(hit) = self.search.of(Arc::clone(&self.wanted), height, hash).await? else { break };
            progress.searched(height, hash, hit.map(|hit| Place { hit, hash, height }));
        }
        match progress.next_to_tell(node.tip().height) {
            Some(found) => {
                let block = if self.with_block { node.block(found.hash).await.map_err(node_error)? } else { None };
                Ok(sender.send(Ok(ChainSight::Found(T::tell(found, block)))).await.is_ok())
            }
            None => Ok(true),
        }
    }
}
