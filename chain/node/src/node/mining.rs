//! Mining, and what is known of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bitcoin::{BlockHash, CompactTarget, ScriptBuf};

use super::Node;
use crate::error::NodeError;
use crate::miner::{Miner, StopOnDrop, mine_one};
use crate::sync::lock;
use crate::types::MiningStatus;

impl Node {
    // ---- mining ----

    /// Mines `count` blocks that pay to `script`, and returns their hashes. Dropping the future ends the search.
    pub async fn generate(&self, count: u32, script: ScriptBuf) -> Result<Vec<BlockHash>, NodeError> {
        let mut hashes = Vec::new();
        for _ in 0..count {
            hashes.push(self.generate_one(script.clone()).await?);
        }
        Ok(hashes)
    }

    /// Mines one block. Dropping the future ends the search.
    pub async fn generate_one(&self, script: ScriptBuf) -> Result<BlockHash, NodeError> {
        let stop = Arc::new(AtomicBool::new(false));
        let _guard = StopOnDrop(Arc::clone(&stop));
        let mined = self.blocking(move |core| mine_one(core, &script, cores(), &stop));
        tokio::select! {
            () = self.inner.core.shutdown.cancelled() => Err(NodeError::ShuttingDown),
            mined = mined => mined,
        }
    }

    /// Mines without end to `script`, on so many threads (`None`: all cores). Replaces the mining that goes on, if any.
    pub async fn start_mining(&self, script: ScriptBuf, threads: Option<usize>) -> Result<(), NodeError> {
        self.stop_mining().await;
        if self.inner.core.shutdown.is_cancelled() {
            return Err(NodeError::ShuttingDown);
        }
        let miner = Miner::start(Arc::clone(&self.inner.core), script, threads.unwrap_or_else(cores));
        let other = lock(&self.inner.miner).replace(miner);
        if let Some(other) = other {
            other.stop().await;
        }
        Ok(())
    }

    /// Ends the mining, and says whether there was any.
    pub async fn stop_mining(&self) -> bool {
        let miner = lock(&self.inner.miner).take();
        match miner {
            Some(miner) => {
                miner.stop().await;
                true
            }
            None => false,
        }
    }

    /// Headers tried per second, if mining goes on.
    pub fn hash_rate(&self) -> Option<f64> {
        lock(&self.inner.miner).as_ref().map(Miner::hash_rate)
    }

    /// The target of a block that is made now.
    pub fn next_bits(&self) -> Result<CompactTarget, NodeError> {
        self.inner.core.next_bits()
    }

    /// What all miners did per second over the `span` blocks that end at `height`; 0 if these took no time.
    pub fn hash_rate_over(&self, height: u32, span: u32) -> Result<f64, NodeError> {
        self.inner.core.hash_rate_over(height, span)
    }

    /// Everything about the search for blocks.
    pub fn mining_status(&self) -> Result<MiningStatus, NodeError> {
        let core = &self.inner.core;
        let (work, network_hash_rate) = core.network_work()?;
        let miner = lock(&self.inner.miner);
        Ok(MiningStatus {
            script: miner.as_ref().map(|miner| miner.script().clone()),
            threads: miner.as_ref().map_or(0, Miner::threads),
            hash_rate: miner.as_ref().map_or(0.0, Miner::hash_rate),
            blocks_found: core.counters.found(),
            kernel: leyden_mining::kernel::best().name(),
            work,
            network_hash_rate,
        })
    }
}

pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
