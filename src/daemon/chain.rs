//! The chain's calls, over the full node.

use std::{
    net::ToSocketAddrs as _,
    num::NonZeroU32,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bitcoin::{
    Address, BlockHash, CompactTarget, ScriptBuf, Target, Transaction, Txid, block::Header, hashes::Hash as _,
};
use leyden_channels::types::Height;
use leyden_node::{
    BlockRef, InclusionProof, MempoolError, MerkleProof, Node, NodeError, Notice, PeerInfo, Totals, TransactionInfo,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::chain_watch::Search;
use crate::{
    api::{
        ApiError, BlockSelector, Chain, ChainStatus, DiskUse, FoundBlock, LocatedBlock, MempoolView, MiningInfo,
        Updates, UtxoSetHash,
    },
    lightning::LightningNode,
};

/// How long a new connection to the chain's network may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Blocks over which the network's hash rate is estimated.
const RATE_WINDOW: u32 = 120;

pub(super) struct ChainFacade {
    node: Node,
    /// Whose wallet gets the rewards when no address is named.
    rewards: Arc<Mutex<Option<Arc<LightningNode>>>>,
    mining: Mutex<Option<Mining>>,
    /// For those who wait for something in the chain, from the first of them on.
    search: OnceLock<Search>,
}

#[derive(Clone)]
struct Mining {
    script: ScriptBuf,
    threads: u32,
}

impl ChainFacade {
    pub(super) fn new(node: Node, rewards: Arc<Mutex<Option<Arc<LightningNode>>>>) -> Self {
        Self { node, rewards, mining: Mutex::new(None), search: OnceLock::new() }
    }

    pub(super) async fn start_mining_for(&self, script: ScriptBuf, threads: Option<usize>) -> Result<(), ApiError> {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        self.node.start_mining(script.clone(), threads).await.map_err(node_error)?;
        let threads = u32::try_from(threads.unwrap_or(all)).unwrap_or(u32::MAX);
        *self.mining.lock().unwrap_or_else(PoisonError::into_inner) = Some(Mining { script, threads });
        Ok(())
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// Only within the runtime.
    pub(super) fn search(&self) -> &Search {
        self.search.get_or_init(|| Search::start(self.node.clone()))
    }

    fn lightning(&self) -> Option<Arc<LightningNode>> {
        self.rewards.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reward_script(&self, to: Option<Address>) -> Result<ScriptBuf, ApiError> {
        if let Some(address) = to {
            return Ok(address.script_pubkey());
        }
        match self.lightning() {
            Some(wallet) => wallet.reward_script(),
            None => Err(ApiError::precondition(
                "the wallet is not open, so nobody would get the reward: `leyden unlock` it or name an address",
            )),
        }
    }

    fn difficulty(&self, bits: CompactTarget) -> f64 {
        let genesis = Target::from_compact(self.node.params().genesis.header.bits);
        Target::from_compact(bits).difficulty_float() / genesis.difficulty_float()
    }

    fn tip_bits(&self) -> CompactTarget {
        let tip = self.node.tip().hash;
        self.node.header(&tip).map_or(self.node.params().genesis.header.bits, |(header, _)| header.bits)
    }

    /// Work done over the last blocks by the time between them.
    fn network_rate(&self) -> f64 {
        let tip = self.node.tip();
        let from = tip.height.saturating_sub(RATE_WINDOW);
        let Some((first, _)) = self.node.block_hash(from).and_then(|hash| self.node.header(&hash)) else { return 0.0 };
        let seconds = tip.time.saturating_sub(first.time);
        if seconds == 0 {
            return 0.0;
        }
        let hashes: f64 = (from + 1..=tip.height)
            .filter_map(|height| self.node.block_hash(height).and_then(|hash| self.node.header(&hash)))
            .map(|(header, _)| header.work().log2().exp2())
            .sum();
        hashes / f64::from(seconds)
    }
}

fn no_block() -> ApiError {
    ApiError::not_found("there is no such block; `leyden chain tip` shows the height")
}

pub(super) fn node_error(error: NodeError) -> ApiError {
    match error {
        NodeError::UnknownBlock(_) => ApiError::not_found(error.to_string()),
        NodeError::LightNode(_) | NodeError::ClockBehindChain { .. } => ApiError::precondition(error.to_string()),
        NodeError::Pruned { .. } | NodeError::OutOfReach { .. } => ApiError::precondition(error.to_string()),
        NodeError::ShuttingDown | NodeError::SearchStopped => ApiError::unavailable(error.to_string()),
        NodeError::Network(_) | NodeError::Unreachable { .. } => ApiError::unavailable(error.to_string()),
        NodeError::Store(_)
        | NodeError::Halted(_)
        | NodeError::MissingData(_)
        | NodeError::InvalidTemplate(_)
        | NodeError::Invariant(_) => ApiError::internal(error.to_string()),
    }
}

#[async_trait]
impl Chain for ChainFacade {
    async fn status(&self) -> Result<ChainStatus, ApiError> {
        let (tip, best) = (self.node.tip(), self.node.best_header());
        Ok(ChainStatus {
            tip,
            difficulty: self.difficulty(self.tip_bits()),
            header_height: Height(best.height),
            syncing: best.hash != tip.hash,
            doubt: self.node.check_tip().err(),
        })
    }

    async fn disk_use(&self) -> Result<DiskUse, ApiError> {
        let bytes = self.node.disk_bytes().await.map_err(node_error)?;
        Ok(DiskUse { bytes, light: self.node.watched_scripts().is_some() })
    }

    async fn block(&self, which: BlockSelector) -> Result<LocatedBlock, ApiError> {
        let hash = match which {
            BlockSelector::Hash(hash) => hash,
            BlockSelector::Height(height) => self.node.block_hash(height.0).ok_or_else(no_block)?,
        };
        let (header, height) = self.node.header(&hash).ok_or_else(no_block)?;
        let block = self.node.block(hash).await.map_err(node_error)?.ok_or_else(no_block)?;
        let depth = self.node.tip().height.saturating_sub(height).saturating_add(1);
        let confirmations = if self.node.is_active(&hash) { depth } else { 0 };
        let difficulty = self.difficulty(header.bits);
        Ok(LocatedBlock { block, hash, height: Height(height), confirmations, difficulty })
    }

    async fn header(&self, hash: BlockHash) -> Result<Header, ApiError> {
        self.node.header(&hash).map(|(header, _)| header).ok_or_else(no_block)
    }

    async fn height_of(&self, hash: BlockHash) -> Result<Height, ApiError> {
        self.node.header(&hash).map(|(_, height)| Height(height)).ok_or_else(no_block)
    }

    async fn block_hash(&self, height: Height) -> Result<BlockHash, ApiError> {
        self.node.block_hash(height.0).ok_or_else(no_block)
    }

    async fn block_epochs(&self, from: Option<BlockHash>) -> Result<Updates<BlockRef>, ApiError> {
        let tip = self.node.tip();
        let mut notices = self.node.subscribe(Some(from.unwrap_or(tip.hash))).map_err(node_error)?;
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            let first = from.is_none().then_some(BlockRef { hash: tip.hash, height: tip.height });
            let mut next = first.map(Ok);
            loop {
                let item = match next.take() {
                    Some(item) => item,
                    None => tokio::select! {
                        notice = notices.next() => match notice {
                            Ok(Notice::BlockConnected { hash, height, .. }) => Ok(BlockRef { hash, height }),
                            Ok(_) => continue,
                            Err(error) => Err(node_error(error)),
                        },
                        () = sender.closed() => return,
                    },
                };
                let ended = item.is_err();
                if sender.send(item).await.is_err() || ended {
                    return;
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    async fn transaction(&self, txid: Txid) -> Result<TransactionInfo, ApiError> {
        let found = self.node.transaction(txid).await.map_err(node_error)?;
        found.ok_or_else(|| {
            ApiError::not_found(format!("transaction {txid} is neither in the best chain nor in the mempool"))
        })
    }

    async fn prove_inclusion(&self, txid: Txid) -> Result<(BlockRef, InclusionProof), ApiError> {
        let found = self.node.inclusion_proof(txid).await.map_err(node_error)?;
        found.ok_or_else(|| {
            ApiError::not_found(format!(
                "transaction {txid} is in no block that this node has: what waits for a block cannot be proven yet"
            ))
        })
    }

    async fn verify_inclusion(&self, proof: InclusionProof) -> Result<TransactionInfo, ApiError> {
        proof.verify().map_err(|error| ApiError::invalid(error.to_string()))?;
        let hash = proof.header.block_hash();
        let Some((_, height)) = self.node.header(&hash) else {
            return Err(ApiError::precondition(format!(
                "block {hash} of the proof is in no chain that this node knows: it is of another network, or this node has \
                 not caught up (`leyden chain tip`)"
            )));
        };
        if !self.node.is_active(&hash) {
            return Err(ApiError::precondition(format!(
                "block {hash} of the proof is not in the chain with most work: what it holds does not count"
            )));
        }
        let MerkleProof { transaction, index, .. } = proof.transaction;
        let confirmed = Some((BlockRef { hash, height }, index));
        // The witnesses, which no proof tells of, are those that this node has itself, if it has them.
        let own = self.node.transaction(transaction.compute_txid()).await.ok().flatten();
        let transaction = own.map_or_else(|| Arc::new(transaction), |own| own.transaction);
        Ok(TransactionInfo { transaction, confirmed })
    }

    async fn mempool(&self, with_entries: bool) -> Result<MempoolView, ApiError> {
        let entries = if with_entries { self.node.mempool_entries() } else { Vec::new() };
        Ok(MempoolView { info: self.node.mempool_info(), entries })
    }

    async fn submit_transaction(&self, transaction: Transaction) -> Result<Txid, ApiError> {
        let submitted = self.node.submit_transaction(transaction.clone()).await;
        let txid = submitted.map_err(|error| match error {
            MempoolError::AlreadyInMempool(_) | MempoolError::AlreadyConfirmed(_) => {
                ApiError::exists(error.to_string())
            }
            error => ApiError::invalid(format!("the transaction was not accepted: {error}")),
        })?;
        if let Some(lightning) = self.lightning() {
            lightning.note_transaction(&transaction)?;
        }
        Ok(txid)
    }

    async fn generate(&self, blocks: NonZeroU32, to: Option<Address>) -> Result<Updates<FoundBlock>, ApiError> {
        let script = self.reward_script(to)?;
        let (node, lightning) = (self.node.clone(), self.lightning());
        let (sender, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            for left in (0..blocks.get()).rev() {
                let search = node.generate_one(script.clone());
                let result = tokio::select! {
                    result = search => result,
                    () = sender.closed() => return,
                };
                let item = match result {
                    Ok(hash) => {
                        let height = node.header(&hash).map_or(0, |(_, height)| height);
                        // What comes after the last block finds the wallet and the channels where the chain is.
                        if left == 0
                            && let Some(lightning) = &lightning
                        {
                            lightning.wait_for_block((height, hash)).await;
                        }
                        Ok(FoundBlock { hash, height: Height(height) })
                    }
                    Err(error) => Err(node_error(error)),
                };
                let ended = item.is_err();
                if sender.send(item).await.is_err() || ended {
                    return;
                }
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    async fn start_mining(&self, to: Option<Address>, threads: Option<NonZeroU32>) -> Result<(), ApiError> {
        let script = self.reward_script(to)?;
        self.start_mining_for(script, threads.map(|threads| threads.get() as usize)).await
    }

    async fn stop_mining(&self) -> Result<(), ApiError> {
        *self.mining.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if self.node.stop_mining().await {
            Ok(())
        } else {
            Err(ApiError::precondition("nothing is being mined; start with `leyden chain mine start`"))
        }
    }

    async fn mining_info(&self) -> Result<MiningInfo, ApiError> {
        let mining = self.mining.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let network = self.node.params().address_network;
        Ok(MiningInfo {
            reward_to: mining.as_ref().and_then(|mining| Address::from_script(&mining.script, network).ok()),
            threads: mining.map_or(0, |mining| mining.threads),
            hashes_per_second: self.node.hash_rate().unwrap_or_default(),
            blocks_found: self.node.totals().blocks_found,
            kernel: leyden_mining::kernel::best().name().to_owned(),
            difficulty: self.difficulty(self.tip_bits()),
            network_hashes_per_second: self.network_rate(),
            height: Height(self.node.tip().height),
        })
    }

    fn totals(&self) -> Totals {
        self.node.totals()
    }

    async fn utxo_set_hash(&self) -> Result<UtxoSetHash, ApiError> {
        let set = self.node.utxo_set_hash().await.map_err(node_error)?;
        Ok(UtxoSetHash {
            hash: set.hash.to_byte_array(),
            block: set.block.hash,
            height: Height(set.block.height),
            outputs: set.coins,
            total: set.amount,
        })
    }

    async fn connect_peer(&self, address: &str) -> Result<(), ApiError> {
        let owned = address.to_owned();
        let resolved = tokio::task::spawn_blocking(move || owned.to_socket_addrs().map(|mut list| list.next()))
            .await
            .map_err(|error| ApiError::internal(error.to_string()))?;
        let Ok(Some(resolved)) = resolved else {
            return Err(ApiError::invalid(format!("{address} is not a host:port that can be resolved")));
        };
        match timeout(CONNECT_LIMIT, self.node.connect_peer(resolved)).await {
            Ok(result) => result.map_err(node_error),
            Err(_) => Err(ApiError::unavailable(format!("{address} does not answer: is a node running there?"))),
        }
    }

    async fn peers(&self) -> Result<Vec<PeerInfo>, ApiError> {
        Ok(self.node.peers())
    }
}
