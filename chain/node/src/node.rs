//! The handle through which the daemon, its wallet and its channels use the chain.
//!
//! Methods that are not `async` answer from memory. The others do their disk and signature work on threads of their
//! own, never on the runtime's.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bitcoin::bip158::BlockFilter;
use bitcoin::block::Header;
use bitcoin::p2p::Magic;
use bitcoin::{Block, BlockHash, CompactTarget, FeeRate, OutPoint, ScriptBuf, Transaction, Txid};
use leyden_consensus::{Coin, Params};
use leyden_net::KnownAddress;
use tokio::sync::broadcast::error::RecvError;

use crate::backend::{Backend, BlockAccepted, ChainEvent, HeadersAccepted};
use crate::bans::{Ban, BanError, BanList, Subnet};
use crate::block_filter::FilterLink;
use crate::chain_index::tip_of;
use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::core::Core;
use crate::driver::{Driver, DriverConfig};
use crate::error::{BlockRejected, HeadersRejected, MempoolError, NodeError, StoreError};
use crate::filter_catch_up;
use crate::inclusion::InclusionProof;
use crate::light;
use crate::light_state::Light;
use crate::mempool::Entry;
use crate::mempool::file::{self, FileError};
use crate::miner::{Miner, StopOnDrop, mine_one};
use crate::network::{ChainPeers, Network};
use crate::notices::NoticeStream;
use crate::pruner::{Keeper, absence};
use crate::store::{STEP_BYTES, Store, StoreOptions, TxPosition};
use crate::sync::{lock, read};
use crate::time_budget::TimeBudget;
use crate::tip::{self, LastContact, TipDoubt, TipEvidence, TipRules};
use crate::totals::Totals;
use crate::types::{
    BlockRef, MempoolEntryInfo, MempoolInfo, MiningStatus, OutputInfo, PeerInfo, Relatives, Spend, Tested, Tip,
    TransactionInfo, UtxoSet,
};

/// How long transactions wait for company on a regtest chain, on average.
const REGTEST_TRICKLE: Duration = Duration::from_millis(100);
/// On a regtest chain blocks come in bursts and nobody else mines: an announcement that was missed is made up for soon.
const REGTEST_REFRESH: Duration = Duration::from_secs(3);
/// And a peer on the same machine that does not answer is asked again soon.
const REGTEST_HEADERS: Duration = Duration::from_secs(15);

/// Where a peer was stopped for a while nobody should wait for a minute after it is back.
const REGTEST_RECONNECT: Duration = Duration::from_secs(2);

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

    /// Writes the mempool to the disk, and says where. `None` while that of the last run is being read.
    pub async fn save_mempool(&self) -> Result<Option<PathBuf>, NodeError> {
        let file = &self.inner.mempool_file;
        if !file.is_restored.load(Ordering::Acquire) {
            return Ok(None);
        }
        let path = file.path.clone();
        let failed = |error: std::io::Error| StoreError::Io { path: path.clone(), detail: error.to_string() };
        let saved = path.clone();
        self.blocking(move |core| Ok(core.save_mempool(&saved))).await?.map_err(failed)?;
        Ok(Some(path))
    }

    /// A transaction's relatives in the mempool, nearest or not, without itself; `None` if it is not there.
    pub fn mempool_relatives(&self, txid: &Txid, which: Relatives) -> Option<Vec<MempoolEntryInfo>> {
        let pool = read(&self.inner.core.mempool);
        pool.get(txid)?;
        let start = BTreeSet::from([*txid]);
        let related = match which {
            Relatives::Ancestors => pool.with_ancestors(&start),
            Relatives::Descendants => pool.with_descendants(&start),
        };
        let related = related.iter().filter(|other| *other != txid).filter_map(|other| pool.get(other));
        Some(related.map(entry_info).collect())
    }

    /// The transaction of the mempool that spends this output.
    pub fn mempool_spender(&self, outpoint: &OutPoint) -> Option<Arc<Transaction>> {
        let pool = read(&self.inner.core.mempool);
        let (txid, _) = pool.spender(outpoint)?;
        pool.get(&txid).map(|entry| Arc::clone(&entry.transaction))
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

    /// Any stored block; [`NodeError::Pruned`] for one of the active chain that was given up.
    pub async fn block(&self, hash: BlockHash) -> Result<Option<Arc<Block>>, NodeError> {
        self.inner.core.full("whole blocks")?;
        self.blocking(move |core| {
            let found = core.block_from_anywhere(&hash)?;
            if found.is_some() {
                return Ok(found);
            }
            match absence(&read(&core.index), &core.store, &hash) {
                pruned @ NodeError::Pruned { .. } => Err(pruned),
                _ => Ok(None),
            }
        })
        .await
    }

    /// The lowest height from which on all blocks are stored: 0 unless older ones were pruned.
    pub fn pruned_below(&self) -> u32 {
        self.inner.core.store.pruned_below()
    }

    /// Removes all blocks up to this height that nobody needs. Returns the lowest height from which on all are stored; `None`
    /// if blocks are not pruned here.
    pub async fn prune_up_to(&self, height: u32) -> Result<Option<u32>, NodeError> {
        self.blocking(move |core| Ok(core.prune_up_to(height)?.map(|_| core.store.pruned_below()))).await
    }

    /// What bodies and undo data may take on the disk, if old ones are pruned.
    pub fn prune_target(&self) -> Option<u64> {
        self.inner.core.pruner.target_bytes()
    }

    /// Has no block pruned from now on that `keeper` says a consumer needs. See [`crate::prune`].
    pub async fn keep_blocks_for(&self, consumer: &'static str, keeper: Keeper) -> Result<(), NodeError> {
        self.blocking(move |core| {
            core.pruner.add_keeper(consumer, keeper);
            // Whatever is being pruned without its word is done before this returns.
            drop(core.hold_chain());
            Ok(())
        })
        .await
    }

    /// The folder of the chain database.
    pub fn database_path(&self) -> PathBuf {
        self.inner.core.store.path().to_owned()
    }

    /// The height of the block of the active chain that holds the transaction. *Blocking*, for a read.
    pub fn height_of(&self, txid: &Txid) -> Result<Option<u32>, NodeError> {
        Ok(self.inner.core.store.position(txid)?.map(|position| position.height))
    }

    /// A transaction of the active chain or the mempool.
    pub async fn transaction(&self, txid: Txid) -> Result<Option<TransactionInfo>, NodeError> {
        self.blocking(move |core| find_transaction(core, &txid)).await
    }

    /// The output that a short channel id names (BOLT 7): block height, index of the transaction, index of the output.
    pub async fn output_at(&self, height: u32, index: u32, vout: u32) -> Result<Option<OutputInfo>, NodeError> {
        self.inner.core.full("the outputs of others")?;
        self.blocking(move |core| find_output(core, TxPosition { height, index }, vout)).await
    }

    /// The coin at an outpoint, if the active chain has it unspent.
    pub async fn coin(&self, outpoint: OutPoint) -> Result<Option<Coin>, NodeError> {
        self.inner.core.full("unspent outputs")?;
        self.blocking(move |core| Ok(core.store.coin(&outpoint)?)).await
    }

    /// The proof that the active chain holds a transaction, and where; `None` if it does not.
    pub async fn inclusion_proof(&self, txid: Txid) -> Result<Option<(BlockRef, InclusionProof)>, NodeError> {
        self.blocking(move |core| {
            let Some(position) = core.store.position(&txid)? else { return Ok(None) };
            let Some(hash) = core.store.active_hash(position.height)? else { return Ok(None) };
            let at = BlockRef { hash, height: position.height };
            if core.light.is_some() {
                return Ok(kept_proof(core, &hash, position.index)?.map(|proof| (at, proof)));
            }
            let block =
                core.block_from_anywhere(&hash)?.ok_or_else(|| absence(&read(&core.index), &core.store, &hash))?;
            Ok(InclusionProof::new(&block, position.index).map(|proof| (at, proof)))
        })
        .await
    }

    /// The filter of any block that was ever part of the active chain, with its header; `None` if it was not made.
    pub async fn filter(&self, hash: BlockHash) -> Result<Option<(BlockFilter, FilterLink)>, NodeError> {
        self.blocking(move |core| {
            let (filter, link) = (core.store.filter(&hash)?, core.store.filter_link(&hash)?);
            Ok(filter.zip(link))
        })
        .await
    }

    /// Whether blocks get filters, and whether all have theirs by now.
    pub fn has_filters(&self) -> Option<bool> {
        let core = &self.inner.core;
        core.store.keeps_filters().then(|| core.has_filters.load(Ordering::Acquire))
    }

    /// Who spends the output: a transaction of the active chain, else one of the mempool. A light node watches the output
    /// from now on, and looks for its spend in the blocks that it passed over before it answers.
    pub async fn spender(&self, outpoint: OutPoint) -> Result<Option<Spend>, NodeError> {
        light::watch_output(&self.inner.core, outpoint).await?;
        self.blocking(move |core| find_spender(core, &outpoint)).await
    }

    /// A hash over all unspent outputs: equal on all nodes with the same tip.
    pub async fn utxo_set_hash(&self) -> Result<UtxoSet, NodeError> {
        self.inner.core.full("unspent outputs")?;
        self.blocking(|core| {
            let (hash, stats) = core.store.utxo_set()?;
            let block = read(&core.index).block_ref(&hash).ok_or(NodeError::UnknownBlock(hash))?;
            Ok(UtxoSet { block, hash: stats.hash, coins: stats.coins, amount: stats.amount })
        })
        .await
    }

    /// A light node looks for these scripts in all blocks from now on, and in those from `since` on that it has passed over,
    /// before this resolves. A full node has everything anyway.
    pub async fn watch_scripts(&self, scripts: Vec<ScriptBuf>, since: u32) -> Result<(), NodeError> {
        light::watch(&self.inner.core, scripts, since).await
    }

    /// Bytes of the files in which this node keeps the chain.
    pub async fn disk_bytes(&self) -> Result<u64, NodeError> {
        self.blocking(|core| Ok(core.store.disk_bytes()?)).await
    }

    /// The height of an old block that a light node needs for a search and that no connected peer keeps.
    fn lacks_blocks_from(&self) -> Option<u32> {
        self.inner.core.light.as_ref().and_then(|light| *lock(&light.lacks))
    }

    /// How many scripts a light node watches; `None` for a full node.
    pub fn watched_scripts(&self) -> Option<usize> {
        self.inner.core.light.as_ref().map(Light::scripts)
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

    // ---- the mempool ----

    /// Offers a transaction to the mempool, which relays it.
    pub async fn submit_transaction(&self, transaction: Transaction) -> Result<Txid, MempoolError> {
        self.watch_awaited([&transaction]).await?;
        self.blocking(move |core| Ok(core.submit_transaction(transaction))).await?
    }

    /// Offers a child with its unconfirmed parents, parents first: the child may pay for all of them. Tells what had to go for
    /// them; a light node does not know.
    pub async fn submit_package(&self, transactions: Vec<Transaction>) -> Result<Vec<Txid>, MempoolError> {
        self.watch_awaited(&transactions).await?;
        self.blocking(move |core| Ok(core.submit_package(transactions))).await?
    }

    /// Would the transactions be accepted now, each with those before it? The answers end with the first refusal.
    pub async fn test_transactions(&self, transactions: Vec<Transaction>) -> Result<Vec<Tested>, MempoolError> {
        self.blocking(move |core| Ok(core.test_transactions(transactions))).await?
    }

    /// A light node watches the outputs of its own transactions whose spends were asked for.
    async fn watch_awaited(&self, own: impl IntoIterator<Item = &Transaction>) -> Result<(), NodeError> {
        let core = &self.inner.core;
        let Some(light) = &core.light else { return Ok(()) };
        let scripts: Vec<ScriptBuf> = own.into_iter().flat_map(|transaction| light.awaited_of(transaction)).collect();
        light::watch(core, scripts, core.tip().height.saturating_add(1)).await
    }

    /// The mempool's size, memory and lowest feerate.
    pub fn mempool_info(&self) -> MempoolInfo {
        let core = &self.inner.core;
        let pool = read(&core.mempool);
        MempoolInfo {
            transactions: pool.len(),
            virtual_bytes: pool.totals().virtual_bytes,
            memory_bytes: pool.memory(),
            memory_cap_bytes: core.policy.max_memory_bytes,
            total_fee: pool.totals().fee,
            minimum_fee_rate: pool.minimum_fee_rate(&core.policy, core.clock.now()),
        }
    }

    /// All transactions of the mempool, parents before children.
    pub fn mempool_entries(&self) -> Vec<MempoolEntryInfo> {
        read(&self.inner.core.mempool).iter().map(entry_info).collect()
    }

    /// A transaction of the mempool with its relatives; `None` if it is not there.
    pub fn mempool_entry(&self, txid: &Txid) -> Option<MempoolEntryInfo> {
        read(&self.inner.core.mempool).get(txid).map(entry_info)
    }

    /// Adds so many satoshi to what a transaction counts as paying when this node makes blocks, now or when it comes.
    pub async fn prioritise(&self, txid: Txid, delta: i64) -> Result<(), NodeError> {
        self.blocking(move |core| {
            core.full("a mempool")?;
            core.prioritise(txid, delta);
            Ok(())
        })
        .await
    }

    /// What was added to the fees of which transactions, in satoshi, whether or not they are in the mempool.
    pub fn priorities(&self) -> Vec<(Txid, i64)> {
        read(&self.inner.core.mempool).priorities().map(|(txid, delta)| (*txid, delta)).collect()
    }

    /// The fee rate that should confirm a transaction within so many blocks.
    pub fn estimate_fee(&self, blocks: u32) -> FeeRate {
        self.inner.core.estimate_fee(blocks)
    }

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

    // ---- peers ----

    /// Connects to a peer; resolves when the handshake is done.
    pub async fn connect_peer(&self, address: SocketAddr) -> Result<(), NodeError> {
        self.network()?.connect(address).await
    }

    /// Stays connected to a peer, however often that fails. An error without networking.
    pub fn keep_peer(&self, address: SocketAddr) -> Result<(), NodeError> {
        self.network()?.keep(address);
        Ok(())
    }

    /// The addresses with which no connection is wanted now.
    pub fn bans(&self) -> Vec<Ban> {
        self.inner.bans.list(self.clock().now())
    }

    /// Bans addresses, and closes the connections with them.
    pub async fn ban(&self, ban: Ban) -> Result<(), BanError> {
        self.change_bans(move |bans| bans.add(ban)).await?;
        if let Some(network) = self.inner.network.get() {
            network.let_banned_go();
        }
        Ok(())
    }

    /// Takes the ban of exactly this subnet back.
    pub async fn unban(&self, subnet: Subnet) -> Result<(), BanError> {
        self.change_bans(move |bans| bans.remove(subnet)).await
    }

    /// Takes all bans back.
    pub async fn clear_bans(&self) -> Result<(), BanError> {
        self.change_bans(BanList::clear).await
    }

    async fn change_bans(
        &self,
        change: impl FnOnce(&BanList) -> Result<(), BanError> + Send + 'static,
    ) -> Result<(), BanError> {
        let bans = Arc::clone(&self.inner.bans);
        let changed = tokio::task::spawn_blocking(move || change(&bans)).await;
        changed.map_err(|error| BanError::File(std::io::Error::other(error)))?
    }

    /// Closes the connection to a peer, if there is one. An error without networking.
    pub fn disconnect_peer(&self, address: SocketAddr) -> Result<(), NodeError> {
        self.network()?.disconnect(address);
        Ok(())
    }

    /// The peers whose handshake is finished; none without networking.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.inner.network.get().map(|network| network.peers()).unwrap_or_default()
    }

    /// Asks all peers how long they take to answer; [`Node::peers`] tells it then. An error without networking.
    pub fn ping_peers(&self) -> Result<(), NodeError> {
        self.network()?.ping();
        Ok(())
    }

    /// Has connections, or closes all and makes none, until the node stops. An error without networking.
    pub fn set_network_active(&self, active: bool) -> Result<(), NodeError> {
        self.network()?.set_active(active);
        Ok(())
    }

    /// Whether connections are wanted.
    pub fn is_network_active(&self) -> bool {
        self.inner.network.get().is_some_and(|network| network.is_active())
    }

    /// So many at most of the addresses that peers have told, drawn by lot; none without networking.
    pub async fn known_addresses(&self, limit: usize) -> Vec<KnownAddress> {
        match self.inner.network.get() {
            Some(network) => network.addresses(limit).await,
            None => Vec::new(),
        }
    }

    /// Asks a peer ([`PeerInfo::id`]) for a block whose header is known, and submits it; `false` if it does not come.
    pub async fn fetch_block(&self, peer: u64, hash: BlockHash) -> Result<bool, BlockRejected> {
        match self.network()?.fetch_block(peer, hash).await {
            Some(block) => self.submit_block(block).await.map(|_| true),
            None => Ok(false),
        }
    }

    /// Transactions that wait for parents that this node does not know, each with the number of the peer that brought it
    /// ([`PeerInfo::id`]).
    pub async fn orphans(&self) -> Vec<(u64, Arc<Transaction>)> {
        match self.inner.network.get() {
            Some(network) => network.orphans().await,
            None => Vec::new(),
        }
    }

    /// Where peers can connect to.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.inner.network.get().and_then(|network| network.local_address())
    }

    /// Processor time that peers share that came to us; `None` if there is no network.
    pub fn inbound_time(&self) -> Option<Arc<TimeBudget>> {
        self.inner.network.get().map(|network| network.inbound_time())
    }

    fn network(&self) -> Result<&Arc<dyn Network>, NodeError> {
        self.inner.network.get().ok_or_else(|| NodeError::Network("it is switched off".into()))
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

/// What the mempool holds between two runs.
struct MempoolFile {
    path: PathBuf,
    /// Its transactions are back, as far as they are valid: the mempool may take the file's place.
    is_restored: Arc<AtomicBool>,
}

impl MempoolFile {
    fn of(folder: &Path) -> Self {
        Self { path: file::path(folder), is_restored: Arc::default() }
    }

    /// Reads it on a thread of its own, which nobody waits for.
    fn restore(&self, core: &Arc<Core>) {
        let (core, path, is_restored) = (Arc::downgrade(core), self.path.clone(), Arc::clone(&self.is_restored));
        tokio::task::spawn_blocking(move || {
            let restored = file::open(&path).and_then(|file| match core.upgrade() {
                Some(core) => core.restore_mempool(file),
                None => Ok(None),
            });
            match restored {
                Ok(Some((all, back))) => tracing::info!(back, of = all, "the mempool is back from its file"),
                Ok(None) => return,
                Err(FileError::Absent) => tracing::info!("the mempool starts empty: it has no file"),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "the mempool starts empty: its file is of no use");
                }
            }
            is_restored.store(true, Ordering::Release);
        });
    }

    /// Not before it was read: half a mempool would take the place of the whole one.
    async fn save(&self, core: &Arc<Core>) {
        if !self.is_restored.load(Ordering::Acquire) {
            return;
        }
        let (core, path) = (Arc::clone(core), self.path.clone());
        let saved = tokio::task::spawn_blocking(move || core.save_mempool(&path)).await;
        match saved {
            Ok(Ok(transactions)) => tracing::info!(transactions, "the mempool is saved"),
            Ok(Err(error)) => tracing::warn!(%error, "the mempool cannot be saved; the next start begins without it"),
            Err(error) => tracing::error!(%error, "the mempool is not saved"),
        }
    }
}

/// Opens the database, or makes it, and loads the chain.
pub(crate) fn open(config: NodeConfig) -> Result<Core, NodeError> {
    let options = StoreOptions {
        path: config.data_dir.join(if config.light { "light" } else { "chain" }),
        cache_bytes: config.database_cache_bytes,
        open_files: config.database_files,
        step_bytes: STEP_BYTES,
        unflushed: config.unflushed,
        filters: config.filters && !config.light,
        prunes: config.prune.is_some(),
        sync: config.sync_writes,
        hook: config.write_hook,
    };
    let store = Arc::new(Store::open(options, &config.params.genesis)?);
    if config.light {
        return Core::open_light(Arc::new(config.params), config.policy, config.clock, store);
    }
    let core =
        Core::open(Arc::new(config.params), config.policy, config.clock, store, config.coins_in_memory, config.prune)?;
    if let Some(hash) = config.assume_valid {
        core.assume_valid(hash);
    }
    Ok(core)
}

fn driver_config(config: &NodeConfig, bans: Arc<BanList>) -> DriverConfig {
    let params = &config.params;
    let agent = concat!("/leyden:", env!("CARGO_PKG_VERSION"), "/");
    let mut protocol = if config.light {
        leyden_net::Config::light_node(agent, params.minimum_chain_work)
    } else {
        leyden_net::Config::full_node(agent, params.minimum_chain_work)
    };
    if TipRules::of(params).for_tests {
        // A chain for tests and demos: nobody's privacy is at stake, and people wait for transactions to arrive.
        protocol.timing.trickle_inbound = REGTEST_TRICKLE;
        protocol.timing.trickle_outbound = REGTEST_TRICKLE;
        protocol.timing.headers_refresh = REGTEST_REFRESH;
        protocol.timing.headers = REGTEST_HEADERS;
        if config.light {
            protocol.timing.block = REGTEST_HEADERS;
        }
        protocol.timing.transaction_delay = REGTEST_TRICKLE;
    }
    let magic = Magic::from_bytes(params.magic);
    let defaults = DriverConfig::new(magic, protocol);
    let reconnect_at_most = if TipRules::of(params).for_tests { REGTEST_RECONNECT } else { defaults.reconnect_at_most };
    DriverConfig {
        listen: config.listen,
        connect: config.connect.clone(),
        max_outbound: config.max_outbound,
        address_file: Some(config.data_dir.join("addresses")),
        bans: Some(bans),
        max_inbound: config.max_inbound,
        reconnect_at_most,
        ..defaults
    }
}

/// How long after a fault of its own the following of the chain begins again.
const AFTER_FAULT: Duration = Duration::from_secs(5);

/// Has a light node follow the chain. A fault of ours must not end that for good, with nobody to see it.
async fn follow_lightly(core: Arc<Core>, driver: Driver) {
    while let Err(error) = tokio::spawn(light::run(Arc::clone(&core), driver.clone())).await {
        if error.is_cancelled() {
            return;
        }
        tracing::error!(%error, "following the chain has failed, which is a fault of this program: it begins again");
        tokio::time::sleep(AFTER_FAULT).await;
    }
}

/// Makes the filters of blocks that have none, on a thread of its own, which nobody waits for.
fn make_filters(core: &Arc<Core>) {
    let core = Arc::downgrade(core);
    tokio::task::spawn_blocking(move || {
        let Some(core) = core.upgrade() else { return };
        match filter_catch_up::catch_up(&core) {
            Ok(0) => {}
            Ok(made) => tracing::info!(made, "block filters were made for blocks that had none"),
            Err(NodeError::MissingData(hash)) => tracing::warn!(
                %hash,
                "no block filters are served: those of old blocks cannot be made, since their blocks were pruned"
            ),
            Err(error) => tracing::error!(%error, "block filters cannot be made; none are served"),
        }
    });
}

/// A node that does not have all blocks says so to its peers.
fn announcing_limits(mut config: DriverConfig, core: &Core) -> DriverConfig {
    if core.pruner.target_bytes().is_some() || core.store.pruned_below() > 0 {
        config.protocol = config.protocol.pruned();
    }
    config
}

/// Looks with every block whether there is too much, until the node stops.
async fn prune_as_it_grows(core: Arc<Core>) {
    if core.pruner.target_bytes().is_none() {
        return;
    }
    let (mut events, _) = core.subscribe();
    let stop = core.shutdown.clone();
    let core = Arc::downgrade(&core);
    loop {
        // Once for all blocks that came meanwhile.
        let woken = tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => event,
        };
        match woken {
            Ok(ChainEvent::Tip(_)) | Err(RecvError::Lagged(_)) => {}
            Ok(ChainEvent::Transaction { .. } | ChainEvent::TransactionRemoved { .. }) => continue,
            Err(RecvError::Closed) => return,
        }
        let Some(core) = core.upgrade() else { return };
        events = core.subscribe().0;
        let pruned = tokio::task::spawn_blocking(move || core.prune()).await;
        match pruned {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "old blocks cannot be pruned"),
            Err(error) => tracing::error!(%error, "pruning has ended"),
        }
    }
}

/// So long after the last block its coins are written, so that a node at the tip leaves nothing to a restart.
const REST_BEFORE_FLUSH: Duration = Duration::from_secs(10);

/// Writes coins once no block has come for a while, until the node stops.
async fn flush_when_it_rests(core: Arc<Core>) {
    let (mut events, _) = core.subscribe();
    let stop = core.shutdown.clone();
    let core = Arc::downgrade(&core);
    let mut due: Option<tokio::time::Instant> = None;
    loop {
        let woken = tokio::select! {
            () = stop.cancelled() => return,
            event = events.recv() => Some(event),
            () = tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)), if due.is_some() => None,
        };
        match woken {
            Some(Ok(ChainEvent::Tip(_)) | Err(RecvError::Lagged(_))) => {
                due = Some(tokio::time::Instant::now() + REST_BEFORE_FLUSH);
            }
            Some(Ok(ChainEvent::Transaction { .. } | ChainEvent::TransactionRemoved { .. })) => {}
            Some(Err(RecvError::Closed)) => return,
            None => {
                due = None;
                let Some(core) = core.upgrade() else { return };
                // Whoever waits for a failed write hears of it.
                let _ = tokio::task::spawn_blocking(move || core.store.flush_coins()).await;
            }
        }
    }
}

fn panicked(error: tokio::task::JoinError) -> NodeError {
    NodeError::Invariant(error.to_string())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn find_transaction(core: &Core, txid: &Txid) -> Result<Option<TransactionInfo>, NodeError> {
    let pooled = match &core.light {
        Some(light) => read(&light.pool).get(txid).cloned(),
        None => read(&core.mempool).get(txid).map(|entry| Arc::clone(&entry.transaction)),
    };
    if let Some(transaction) = pooled {
        return Ok(Some(TransactionInfo { transaction, confirmed: None }));
    }
    let Some(position) = core.store.position(txid)? else { return Ok(None) };
    let Some(hash) = core.store.active_hash(position.height)? else { return Ok(None) };
    let transaction = if core.light.is_some() {
        let kept = core.store.proofs(&hash)?.into_iter().find(|proof| proof.index == position.index);
        kept.map(|proof| proof.transaction)
    } else {
        let block = core.block_from_anywhere(&hash)?.ok_or_else(|| absence(&read(&core.index), &core.store, &hash))?;
        let index = usize::try_from(position.index).unwrap_or(usize::MAX);
        block.txdata.get(index).cloned()
    };
    // A reorganisation between the two reads may have moved it; then it is as if the question came a moment later.
    let transaction = transaction.filter(|transaction| transaction.compute_txid() == *txid);
    Ok(transaction.map(|transaction| TransactionInfo {
        transaction: Arc::new(transaction),
        confirmed: Some((BlockRef { hash, height: position.height }, position.index)),
    }))
}

/// A light node's proof for the transaction at this place of a block.
fn kept_proof(core: &Core, hash: &BlockHash, index: u32) -> Result<Option<InclusionProof>, NodeError> {
    let Some((header, _)) = read(&core.index).tree.get(hash).map(|known| (known.header, known.height)) else {
        return Ok(None);
    };
    let kept = core.store.proofs(hash)?;
    let at = |index: u32| kept.iter().find(|proof| proof.index == index).cloned();
    let both = at(index).zip(at(0));
    Ok(both.map(|(transaction, coinbase)| InclusionProof::of(header, transaction, coinbase)))
}

fn find_output(core: &Core, position: TxPosition, vout: u32) -> Result<Option<OutputInfo>, NodeError> {
    let Some(hash) = core.store.active_hash(position.height)? else { return Ok(None) };
    let Some(txid) = core.store.txid_at(position)? else { return Ok(None) };
    let block = BlockRef { hash, height: position.height };
    let outpoint = OutPoint { txid, vout };
    if let Some(coin) = core.store.coin(&outpoint)? {
        return Ok(Some(OutputInfo { outpoint, output: coin.output, block, unspent: true }));
    }
    let Some(found) = find_transaction(core, &txid)? else { return Ok(None) };
    let output = usize::try_from(vout).ok().and_then(|vout| found.transaction.output.get(vout));
    Ok(output.map(|output| OutputInfo { outpoint, output: output.clone(), block, unspent: false }))
}

fn find_spender(core: &Core, outpoint: &OutPoint) -> Result<Option<Spend>, NodeError> {
    if let Some(spend) = core.store.spend(outpoint)?
        && let Some(hash) = core.store.active_hash(spend.height)?
    {
        let confirmed = Some(BlockRef { hash, height: spend.height });
        return Ok(Some(Spend { txid: spend.txid, input: spend.input, confirmed }));
    }
    let spender = match &core.light {
        Some(light) => read(&light.pool).spender(outpoint),
        None => read(&core.mempool).spender(outpoint),
    };
    Ok(spender.map(|(txid, input)| Spend { txid, input, confirmed: None }))
}

fn entry_info(entry: &Entry) -> MempoolEntryInfo {
    MempoolEntryInfo {
        txid: entry.txid,
        wtxid: entry.wtxid,
        fee: entry.fee,
        modified_fee: entry.modified_fee,
        virtual_bytes: entry.virtual_bytes,
        weight: entry.weight,
        time: entry.time,
        ancestors: entry.ancestors.count,
        descendants: entry.descendants.count,
        ancestor_fee: entry.ancestors.fee,
        ancestor_virtual_bytes: entry.ancestors.virtual_bytes,
        descendant_fee: entry.descendants.fee,
        descendant_virtual_bytes: entry.descendants.virtual_bytes,
        parents: entry.parents.iter().copied().collect(),
        children: entry.children.iter().copied().collect(),
    }
}
