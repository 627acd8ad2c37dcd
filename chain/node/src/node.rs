//! The handle through which the daemon, its wallet and its channels use the chain.
//!
//! Methods that are not `async` answer from memory. The others do their disk and signature work on threads of their
//! own, never on the runtime's.

mod mempool_file;
mod mining;
mod peers;
mod pool;
mod reading;
mod start;

use std::sync::{Arc, Mutex, OnceLock};

use bitcoin::block::Header;
use bitcoin::{Block, BlockHash};
use leyden_consensus::Params;

use self::mempool_file::MempoolFile;
pub(crate) use self::start::open;
use self::start::{
    announcing_limits, driver_config, flush_when_it_rests, follow_lightly, make_filters, prune_as_it_grows,
};
use crate::backend::{Backend, BlockAccepted, HeadersAccepted};
use crate::bans::BanList;
use crate::chain_index::tip_of;
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::core::Core;
use crate::driver::Driver;
use crate::error::{BlockRejected, HeadersRejected, NodeError};
use crate::miner::Miner;
use crate::network::{ChainPeers, Network};
use crate::notices::NoticeStream;
use crate::sync::{lock, read};
use crate::tip::{self, LastContact, TipDoubt, TipEvidence, TipRules};
use crate::totals::Totals;
use crate::types::Tip;

/// A full node. Cheap to clone; all clones are the same node.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    mempool_file: MempoolFile,
    miner: Mutex<Option<Miner>>,
    network: OnceLock<Arc<dyn Network>>,
    bans: Arc<BanList>,
}

impl Node {
    /// Opens the database, or makes it, and starts. Inside a tokio runtime.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let bans = Arc::new(BanList::open(config.data_dir.join("bans")));
        let driver_config = config.network.then(|| driver_config(&config, Arc::clone(&bans)));
        let mempool_file = MempoolFile::of(&config.data_dir);
        let core = Arc::new(tokio::task::spawn_blocking(move || open(config)).await.map_err(panicked)??);
        if core.light.is_none() {
            // What a light node waits for, the wallet and the channels hand over again.
            mempool_file.restore(&core);
        }
        make_filters(&core);
        let driver_config = driver_config.map(|config| announcing_limits(config, &core));
        tokio::spawn(prune_as_it_grows(Arc::clone(&core)));
        tokio::spawn(flush_when_it_rests(Arc::clone(&core)));
        let inner = Inner { core, mempool_file, miner: Mutex::new(None), network: OnceLock::new(), bans };
        let node = Self { inner: Arc::new(inner) };
        if let Some(config) = driver_config {
            let driver = Driver::start(config, node.backend()).await;
            let driver = driver.map_err(|error| NodeError::Network(error.to_string()))?;
            if let Some(light) = &node.inner.core.light {
                light.connect(driver.clone());
                tokio::spawn(follow_lightly(Arc::clone(&node.inner.core), driver.clone()));
            }
            // Nothing else sets it.
            let _ = node.inner.network.set(Arc::new(driver));
        }
        Ok(node)
    }

    /// The seam for a peer-to-peer driver.
    pub fn backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.inner.core) as Arc<dyn Backend>
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// The network's rules.
    pub fn params(&self) -> &Params {
        &self.inner.core.params
    }

    /// Where the node's time comes from.
    pub fn clock(&self) -> &Clock {
        &self.inner.core.clock
    }

    /// Resolves when a write has failed, or the peer-to-peer driver: nothing more is stored or heard, the tip stays where it is,
    /// and only a new start helps.
    pub async fn halted(&self) -> NodeError {
        let disconnected = async {
            match self.inner.network.get() {
                Some(network) => network.failed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = self.inner.core.store.until_halted() => NodeError::Halted(error),
            () = disconnected => NodeError::Network("its driver has met a fault of its own; start the node again".into()),
        }
    }

    // ---- the chain ----

    /// The last block of the active chain.
    pub fn tip(&self) -> Tip {
        self.inner.core.tip()
    }

    /// The last header of the chain with most work, whose blocks may still be on their way.
    pub fn best_header(&self) -> Tip {
        read(&self.inner.core.index).best_header()
    }

    /// Whether the tip may be relied on, and if not why ([`crate::tip`]). Answers from memory.
    pub fn check_tip(&self) -> Result<(), TipDoubt> {
        let core = &self.inner.core;
        let rules = TipRules::of(&core.params);
        let ChainPeers { clocks_ahead, best_known, hears, dials, had_outbound, heard } =
            self.inner.network.get().map(|network| network.chain_peers()).unwrap_or_default();
        let (tip, best_header, best_chain) = {
            let index = read(&core.index);
            // Headers without blocks cost little on a chain of little work: they count while a peer stands for them.
            let best = index.best_of(hears.then_some(best_known.as_slice()));
            (index.tip(), tip_of(&best), index.best_chain(&best, tip::TOLERATED_BLOCKS, core.store.pruned_below()))
        };
        let found = *lock(&core.found_tip);
        let evidence = TipEvidence {
            now: core.clock.now(),
            tip,
            best_header,
            best_chain,
            refused_time: *lock(&core.refused_time),
            clocks_ahead,
            // On a chain for tests who listens is asked for blocks, and misses nobody who has gone.
            expects_peers: dials || had_outbound || (heard.is_some() && !rules.for_tests),
            heard: match heard {
                _ if hears => LastContact::Now,
                Some(heard) => LastContact::Ago(heard.elapsed()),
                None => LastContact::Never,
            },
            found_alone: found.is_some_and(|(hash, at)| hash == tip.hash && heard.is_none_or(|heard| heard < at)),
            lacks: self.lacks_blocks_from(),
        };
        tip::judge(&evidence, &rules)
    }

    /// The hash of the active chain's block at this height.
    pub fn block_hash(&self, height: u32) -> Option<BlockHash> {
        read(&self.inner.core.index).active_at(height)
    }

    /// The header and height of any known block.
    pub fn header(&self, hash: &BlockHash) -> Option<(Header, u32)> {
        read(&self.inner.core.index).tree.get(hash).map(|known| (known.header, known.height))
    }

    /// A known header as the end of a chain: its median time and the work up to it.
    pub fn header_place(&self, hash: &BlockHash) -> Option<Tip> {
        read(&self.inner.core.index).tree.get(hash).map(|known| tip_of(&known))
    }

    /// Is the block part of the active chain?
    pub fn is_active(&self, hash: &BlockHash) -> bool {
        read(&self.inner.core.index).is_active(hash)
    }

    /// Notices from now on, or of everything after the block `from`. See [`crate::notices`].
    pub fn subscribe(&self, from: Option<BlockHash>) -> Result<NoticeStream, NodeError> {
        NoticeStream::new(Arc::clone(&self.inner.core), from)
    }

    /// Offers a block, as a peer would.
    pub async fn submit_block(&self, block: Block) -> Result<BlockAccepted, BlockRejected> {
        self.blocking(move |core| Ok(core.submit_block(block))).await?
    }

    /// Offers headers, as a peer would.
    pub async fn accept_headers(&self, headers: Vec<Header>) -> Result<HeadersAccepted, HeadersRejected> {
        self.blocking(move |core| Ok(core.accept_headers(&headers))).await?
    }

    /// What has happened since the start.
    pub fn totals(&self) -> Totals {
        let traffic = self.inner.network.get().map(|network| network.traffic()).unwrap_or_default();
        self.inner.core.counters.totals(traffic)
    }

    /// Stops mining and networking; notice streams end. The database is closed when the last handle is dropped.
    pub async fn shutdown(&self) {
        self.inner.core.shutdown.cancel();
        self.stop_mining().await;
        if let Some(network) = self.inner.network.get() {
            network.stop().await;
        }
        if let Err(error) = self.blocking(|core| core.store.flush_coins()).await {
            tracing::warn!(%error, "coins are not written; the next start makes up for it");
        }
        self.inner.mempool_file.save(&self.inner.core).await;
    }

    pub(crate) async fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Core) -> Result<R, NodeError> + Send + 'static,
    ) -> Result<R, NodeError> {
        let core = Arc::clone(&self.inner.core);
        tokio::task::spawn_blocking(move || work(&core)).await.map_err(panicked)?
    }
}

fn panicked(error: tokio::task::JoinError) -> NodeError {
    NodeError::Invariant(error.to_string())
}
