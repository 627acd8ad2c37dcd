//! What happens on the chain, told to the wallet and to every channel that waits for it.
//!
//! ```text
//!   node's notices ──► wallet: every block, every transaction of the mempool
//!                  └─► after each change of the tip, for each watched channel: where is its funding transaction, or who
//!                      spends what it needs itself? What differs from what the channel was told last is an event.
//!                  └─► for each output of a channel that a block or a transaction spends, its funding output first of all:
//!                      `WatchedOutputs`
//! ```
//!
//! Watches look at the state of the chain, not at its changes, so a notice that was missed, a restart or a
//! reorganisation needs no care of its own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use leyden_channels::{
    channel::{FundingDepth, FundingInput, FundingView, FundingWatch},
    onchain::{self, FoundSpend, SpendUpdate},
    types::{ChannelId, Height},
};
use leyden_node::{MempoolError, Needed, Node, NodeError, Notice, RemovalReason, TransactionInfo};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::error;

use super::{funding, peer::Command, rebroadcast::rebroadcast};
use crate::wallet::onchain::{OnchainWallet, Tip, WalletError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum ChainError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

/// After so many blocks that only the wallet is told of, channels are looked at: seconds of a rescan.
const LOOK_AT_CHANNELS_EVERY: u32 = 1_000;

/// How often it is looked whether a header has come.
const HEADER_PAUSE: Duration = Duration::from_millis(200);
/// A new channel's funding transaction is not in a block lower than so many below the tip: whoever hands it out before the
/// other end has signed may lose its coins.
const FUNDED_BEFORE: u32 = 144;

/// How far a light node looks back for what it does not know of yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LookBack {
    /// No block below concerns the wallet.
    pub wallet: u32,
    /// The channels are older than what the node knows of the chain.
    pub channels: bool,
}

/// The outputs of channels, each with the task that owns its channel.
type Outputs = onchain::WatchedOutputs<mpsc::UnboundedSender<Command>>;

/// The watches of all channels; clones share them.
#[derive(Clone)]
pub(crate) struct ChainWatch {
    node: Node,
    look_back: LookBack,
    watches: Arc<Mutex<HashMap<ChannelId, Watch>>>,
    outputs: Arc<Mutex<Outputs>>,
    rescans: mpsc::UnboundedSender<Rescan>,
    asked_for: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Rescan>>>,
    /// The funding outputs of all channels that there are.
    fundings: Arc<Mutex<HashMap<ChannelId, OutPoint>>>,
    /// The last block with which channels have been looked at.
    looked_at: Arc<AtomicU32>,
    /// Held while the chain is looked at, so that nobody compares with an older view of the chain.
    looking: Arc<tokio::sync::Mutex<()>>,
    /// The last block that the wallet has seen and all channels have been told of.
    seen: Arc<watch::Sender<Tip>>,
}

/// The wish that the wallet looks at the whole chain again.
struct Rescan {
    look_ahead: u32,
    /// Whether it has begun.
    answer: oneshot::Sender<Result<(), ChainError>>,
}

struct Watch {
    owner: mpsc::UnboundedSender<Command>,
    funding: OutPoint,
    news: FundingWatch,
    /// What the funding transaction needs has been found out.
    traced: bool,
}

/// Where channels have to look after the latest blocks.
#[derive(Default)]
struct Changed {
    /// Blocks were taken back, or we have just begun.
    everything: bool,
    spent: BTreeMap<ChannelId, BTreeSet<OutPoint>>,
}

impl ChainWatch {
    pub(crate) fn new(node: Node, look_back: LookBack) -> Self {
        let (rescans, asked_for) = mpsc::unbounded_channel();
        let asked_for = Arc::new(tokio::sync::Mutex::new(asked_for));
        let tip = node.tip();
        Self {
            node,
            look_back,
            watches: Arc::default(),
            outputs: Arc::default(),
            rescans,
            asked_for,
            fundings: Arc::default(),
            looked_at: Arc::default(),
            looking: Arc::default(),
            seen: Arc::new(watch::Sender::new((tip.height, tip.hash))),
        }
    }

    /// Watches a channel's funding transaction, of whose needs `inputs` are known, for its owner, and tells at once what is
    /// there already. If it is recovered from a backup, its funding may be in any block.
    pub(crate) async fn watch(
        &self,
        channel: ChannelId,
        owner: mpsc::UnboundedSender<Command>,
        funding: OutPoint,
        script: ScriptBuf,
        inputs: Vec<FundingInput>,
        is_recovered: bool,
    ) -> Result<(), NodeError> {
        // A light node has to know what to look for; one that knows already has not missed it.
        let is_old = self.look_back.channels || is_recovered;
        let since = if is_old { 0 } else { self.node.tip().height.saturating_sub(FUNDED_BEFORE) };
        self.node.watch_scripts(vec![script], since).await?;
        let news = FundingWatch::new(inputs);
        self.knows(channel, funding);
        self.lock().entry(channel).or_insert(Watch { owner, funding, news, traced: false });
        self.look(channel).await
    }

    /// There is such a channel: blocks that it needs are not pruned until it is forgotten.
    pub(crate) fn knows(&self, channel: ChannelId, funding: OutPoint) {
        self.fundings().insert(channel, funding);
    }

    fn fundings(&self) -> MutexGuard<'_, HashMap<ChannelId, OutPoint>> {
        self.fundings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The blocks that the wallet and the channels need: all after the last one that they have seen; of a channel in use that
    /// of its funding transaction; of any other all from there on, since everything that becomes of it lies above.
    pub(crate) fn needed(&self, wallet: &OnchainWallet) -> Result<Needed, NodeError> {
        let mut needed =
            Needed { from: wallet.tip().0.min(self.looked_at.load(Ordering::Acquire)), blocks: BTreeSet::new() };
        let in_use: BTreeSet<ChannelId> = self.outputs().in_use().into_iter().collect();
        let fundings = self.fundings().clone();
        for (channel, funding) in &fundings {
            match self.node.height_of(&funding.txid)? {
                Some(height) if in_use.contains(channel) => {
                    needed.blocks.insert(height);
                }
                Some(height) => needed.from = needed.from.min(height),
                // No block has it yet.
                None => {}
            }
        }
        let others: Vec<OutPoint> = {
            let outputs = self.outputs();
            let others = outputs.channels().into_iter().filter(|channel| !fundings.contains_key(channel));
            others.flat_map(|channel| outputs.of(&channel)).collect()
        };
        for outpoint in others {
            needed.from = needed.from.min(self.node.height_of(&outpoint.txid)?.unwrap_or(u32::MAX));
        }
        Ok(needed)
    }

    /// Waits until the wallet has seen a block, or others above it, and the channels have been told of it.
    pub(crate) async fn wait_for(&self, block: Tip) {
        let (height, hash) = block;
        let mut seen = self.seen.subscribe();
        // It cannot fail: we hold the sender.
        let _ = seen.wait_for(|(seen_height, seen_hash)| *seen_hash == hash || *seen_height > height).await;
    }

    /// Has the wallet look at the whole chain again, which has begun when this returns; `None`: the daemon stops. A caller
    /// that gives up before its turn has asked for nothing.
    pub(crate) async fn rescan(&self, look_ahead: u32) -> Option<Result<(), ChainError>> {
        let (answer, begun) = oneshot::channel();
        self.rescans.send(Rescan { look_ahead, answer }).ok()?;
        begun.await.ok()
    }

    pub(crate) fn forget(&self, channel: &ChannelId) {
        self.lock().remove(channel);
        self.fundings().remove(channel);
        self.outputs().forget(channel);
    }

    /// A channel's outputs are to be watched anew.
    pub(crate) fn forget_outputs(&self, channel: &ChannelId) {
        self.outputs().forget(channel);
    }

    /// Watches an output of a channel that is in use or closing, of which its owner knows `known`. What the chain says
    /// already is told by [`Self::look_at_outputs`].
    pub(crate) fn watch_output(
        &self,
        channel: ChannelId,
        owner: &mpsc::UnboundedSender<Command>,
        outpoint: OutPoint,
        known: Option<onchain::KnownSpend>,
        closing: bool,
    ) {
        self.outputs().watch(channel, owner, outpoint, known, closing);
    }

    /// Looks at all watched outputs of a channel, and tells what is new.
    pub(crate) async fn look_at_outputs(&self, channel: ChannelId) -> Result<(), NodeError> {
        // What is found is that of this tip, or of a later one.
        let tip = Height(self.node.tip().height);
        self.look_at_some(channel, None, true, tip).await
    }

    /// Whether the chain has been looked at for each of these outputs of a channel since they are watched.
    pub(crate) fn has_looked_at(&self, channel: &ChannelId, outpoints: impl IntoIterator<Item = OutPoint>) -> bool {
        self.outputs().have_looked_at(channel, outpoints)
    }

    /// Follows the chain until the node stops. `tips` announces each new tip after the wallet has seen it
    /// and the channels have been told of their closes.
    pub(crate) async fn run(self, wallet: Arc<OnchainWallet>, tips: watch::Sender<Height>) -> Result<(), ChainError> {
        let mut watched = 0;
        self.watch_wallet(&wallet, &mut watched, self.look_back.wallet).await?;
        let (_, from) = wallet.tip();
        self.wait_for_header(from).await;
        let mut notices = self.node.subscribe(Some(from))?;
        self.looked_at.store(wallet.tip().0, Ordering::Release);
        let mut changed = Changed { everything: true, spent: BTreeMap::new() };
        let mut all_handed_over = false;
        let mut tip = Height(self.node.tip().height);
        if wallet.tip().0 >= self.node.tip().height {
            all_handed_over = rebroadcast(&self.node, &wallet).await?;
        }
        // Blocks below were there when the wallet began at the first one: only the wallet is told of them.
        let mut only_wallet_below = if wallet.tip().0 == 0 { self.node.tip().height } else { 0 };
        let asked_for = Arc::clone(&self.asked_for);
        let mut asked_for = asked_for.lock().await;
        loop {
            let notice = tokio::select! {
                notice = notices.next() => notice,
                Some(Rescan { look_ahead, answer }) = asked_for.recv() => {
                    // Each costs seconds in which no block is looked at: who has hung up does not wait for it any more.
                    if answer.is_closed() {
                        continue;
                    }
                    let begun = wallet.rescan(look_ahead).map_err(ChainError::from);
                    self.watch_wallet(&wallet, &mut watched, 0).await?;
                    notices = self.node.subscribe(Some(wallet.tip().1))?;
                    only_wallet_below = self.node.tip().height;
                    changed.everything = true;
                    all_handed_over = false;
                    // Who asked may have gone.
                    let _ = answer.send(begun);
                    continue;
                }
            };
            let notice = match notice {
                Ok(notice) => notice,
                Err(NodeError::ShuttingDown) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            match notice {
                Notice::BlockConnected { height, block, .. } => {
                    wallet.block_connected(&block, height)?;
                    self.watch_wallet(&wallet, &mut watched, height).await?;
                    let now_seen = (height, block.block_hash());
                    if height < only_wallet_below && height < self.node.tip().height {
                        // What the chain says now of the channels must not wait for the end of a long look.
                        if height % LOOK_AT_CHANNELS_EVERY == 0 {
                            self.look_at_all().await?;
                            self.look_at_open(&changed).await?;
                            self.looked_at.store(height, Ordering::Release);
                        }
                        self.seen.send_replace(now_seen);
                        continue;
                    }
                    self.look_at_all().await?;
                    self.outputs().spent_by(&block.txdata, &mut changed.spent);
                    self.look_at_open(&changed).await?;
                    self.looked_at.store(height, Ordering::Release);
                    let _ = tips.send(Height(height));
                    // While we are behind, the state of the chain is that of a later block already.
                    if height >= self.node.tip().height {
                        tip = Height(height);
                        if !all_handed_over {
                            all_handed_over = rebroadcast(&self.node, &wallet).await?;
                        }
                        self.tell_open(tip);
                        self.tell_tip(std::mem::take(&mut changed), tip).await?;
                    }
                    self.seen.send_replace(now_seen);
                }
                // The block that replaces it follows, and takes its place in the wallet.
                Notice::BlockDisconnected { .. } => {
                    changed.everything = true;
                    all_handed_over = false;
                }
                Notice::TransactionAccepted { transaction } => {
                    let now = self.node.clock().now();
                    wallet.transaction_seen(transaction.as_ref().clone(), now)?;
                    for channel in self.funded_by(&transaction) {
                        self.look(channel).await?;
                    }
                    let mut spent = BTreeMap::new();
                    self.outputs().spent_by([transaction.as_ref()], &mut spent);
                    for (channel, outpoints) in spent {
                        self.look_at_some(channel, Some(outpoints), false, tip).await?;
                    }
                }
                // The coins of a channel stay with it: its peer may hold it for open already. So do those of a payment of
                // ours: other nodes may have it still, and whoever made it has been told that it is on its way.
                Notice::TransactionRemoved { txid, reason: RemovalReason::Evicted | RemovalReason::Expired }
                    if self.funds_channel(&txid) || wallet.has_paid(&txid) =>
                {
                    all_handed_over = false;
                }
                Notice::TransactionRemoved { txid, .. } => {
                    wallet.transaction_dropped(txid, self.node.clock().now())?;
                }
            }
        }
    }

    /// Has a light node look for the wallet's scripts, if there are more than before. Those concern no block below `since`.
    async fn watch_wallet(&self, wallet: &OnchainWallet, watched: &mut usize, since: u32) -> Result<(), NodeError> {
        if self.node.watched_scripts().is_none() {
            return Ok(());
        }
        let scripts = wallet.scripts();
        if scripts.len() != std::mem::replace(watched, scripts.len()) {
            self.node.watch_scripts(scripts, since).await?;
        }
        Ok(())
    }

    /// A node that has just become a light one does not have the headers yet that the wallet has seen.
    async fn wait_for_header(&self, hash: bitcoin::BlockHash) {
        while self.node.watched_scripts().is_some() && self.node.header(&hash).is_none() {
            tokio::time::sleep(HEADER_PAUSE).await;
        }
    }

    fn funds_channel(&self, txid: &Txid) -> bool {
        self.lock().values().any(|watch| watch.funding.txid == *txid)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelId, Watch>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outputs(&self) -> MutexGuard<'_, Outputs> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the owners of channels in use of spends of their funding outputs, before they hear of the tip: who is closed needs
    /// not close. While we are behind, the state of the chain is that of a later block already.
    async fn look_at_open(&self, changed: &Changed) -> Result<(), NodeError> {
        let tip = Height(self.node.tip().height);
        let mut open = self.outputs().in_use();
        open.retain(|channel| changed.everything || changed.spent.contains_key(channel));
        for channel in open {
            self.look_at_some(channel, None, false, tip).await?;
        }
        Ok(())
    }

    /// Tells the owners of closed channels what the latest blocks did to their outputs, and that they are the tip now.
    async fn tell_tip(&self, mut changed: Changed, tip: Height) -> Result<(), NodeError> {
        let in_use: BTreeSet<ChannelId> = self.outputs().in_use().into_iter().collect();
        let mut channels = self.outputs().channels();
        channels.retain(|channel| !in_use.contains(channel));
        for channel in channels {
            let spent = changed.spent.remove(&channel).unwrap_or_default();
            self.look_at_some(channel, (!changed.everything).then_some(spent), true, tip).await?;
        }
        Ok(())
    }

    /// Looks at these outputs of a channel (`None`: at all), and tells what is new: with it, all up to `tip` is told.
    async fn look_at_some(
        &self,
        channel: ChannelId,
        some: Option<BTreeSet<OutPoint>>,
        is_new_tip: bool,
        tip: Height,
    ) -> Result<(), NodeError> {
        let _turn = self.looking.lock().await;
        let all = || self.outputs().of(&channel);
        let mut outpoints: Vec<OutPoint> = match some {
            Some(some) => self.outputs().and_new(&channel, some),
            None => all(),
        };
        let mut events = loop {
            let mut found = Vec::with_capacity(outpoints.len());
            for outpoint in outpoints {
                found.push((outpoint, self.find(outpoint).await?));
            }
            let news = self.outputs().update(&channel, found);
            match news {
                SpendUpdate::Events(events) => break events,
                SpendUpdate::LookAtAll => outpoints = self.outputs().of(&channel),
            }
        };
        if is_new_tip && !events.contains(&onchain::Event::Tip) {
            events.push(onchain::Event::Tip);
        }
        if !events.is_empty()
            && let Some(owner) = self.outputs().owner(&channel)
        {
            // The owner may have ended with the daemon.
            let _ = owner.send(Command::Chain { channel, events, tip });
        }
        Ok(())
    }

    async fn find(&self, outpoint: OutPoint) -> Result<Option<FoundSpend>, NodeError> {
        let Some(spend) = self.node.spender(outpoint).await? else { return Ok(None) };
        let found = self.node.transaction(spend.txid).await?;
        Ok(found.map(|found| FoundSpend {
            transaction: found.transaction.as_ref().clone(),
            place: found.confirmed.map(|(block, index)| (Height(block.height), index)),
        }))
    }

    /// The channels that a transaction funds.
    fn funded_by(&self, transaction: &Transaction) -> Vec<ChannelId> {
        let txid = transaction.compute_txid();
        let watches = self.lock();
        watches.iter().filter(|(_, watch)| watch.funding.txid == txid).map(|(channel, _)| *channel).collect()
    }

    /// Tells that channels are not closed by any block up to this tip. Only now that a close would have been told: right
    /// after the start, news of the tip may come to a channel's owner before the watch begins.
    fn tell_open(&self, tip: Height) {
        for (channel, owner) in self.outputs().open() {
            let _ = owner.send(Command::StillOpen { channel, tip });
        }
    }

    async fn look_at_all(&self) -> Result<(), NodeError> {
        let channels: Vec<ChannelId> = self.lock().keys().copied().collect();
        for channel in channels {
            self.look(channel).await?;
        }
        Ok(())
    }

    /// Compares what the chain says of a channel's funding with what the channel was told, and tells the difference.
    async fn look(&self, channel: ChannelId) -> Result<(), NodeError> {
        // Nobody else may tell a later view of the chain meanwhile.
        let _turn = self.looking.lock().await;
        let known = self.lock().get(&channel).map(|watch| (watch.funding, watch.news.inputs().to_vec(), watch.traced));
        let Some((funding, known, traced)) = known else { return Ok(()) };
        let tip = Height(self.node.tip().height);
        let found = self.node.transaction(funding.txid).await?;
        let inputs = match &found {
            Some(found) if !traced => funding::needs_of(&self.node, &found.transaction, tip).await?,
            Some(_) | None => Vec::new(),
        };
        let depth = found.as_ref().and_then(|found| depth_of(found, funding, tip));
        let conflict = match depth {
            Some(_) => None,
            None => funding::conflict_with(&self.node, &[known, inputs.clone()].concat()).await?,
        };

        let mut watches = self.lock();
        let Some(watch) = watches.get_mut(&channel) else { return Ok(()) };
        watch.traced |= found.is_some();
        for event in watch.news.news(FundingView { tip, depth, inputs, conflict }) {
            // The owner may have ended with the daemon.
            let _ = watch.owner.send(Command::Event { channel, event: Box::new(event) });
        }
        Ok(())
    }
}

fn depth_of(found: &TransactionInfo, funding: OutPoint, tip: Height) -> Option<FundingDepth> {
    let (block, index) = found.confirmed?;
    let output = usize::try_from(funding.vout).ok().and_then(|vout| found.transaction.output.get(vout)).cloned();
    Some(FundingDepth {
        height: Height(block.height),
        index,
        confirmations: tip.0.saturating_sub(block.height).saturating_add(1),
        output: output.unwrap_or(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() }),
    })
}

/// Hands a transaction to the mempool and to the wallet, with unconfirmed parents that it pays for. What is there
/// already is no error. What had to leave the mempool for it, as far as it is known.
pub(crate) async fn broadcast(
    node: &Node,
    wallet: &OnchainWallet,
    parents: &[Transaction],
    transaction: &Transaction,
) -> Result<Vec<Txid>, MempoolError> {
    let txid = transaction.compute_txid();
    let result = if parents.is_empty() {
        node.submit_transaction(transaction.clone()).await.map(|_| Vec::new())
    } else {
        let package = parents.iter().chain([transaction]).cloned().collect();
        node.submit_package(package).await
    };
    let replaced = match result {
        Ok(replaced) => replaced,
        Err(MempoolError::AlreadyInMempool(_) | MempoolError::AlreadyConfirmed(_)) => Vec::new(),
        // A transaction that confirmed meanwhile spends its inputs itself.
        Err(error) => {
            if !node.transaction(txid).await.is_ok_and(|found| found.is_some()) {
                return Err(error);
            }
            Vec::new()
        }
    };
    if let Err(error) = wallet.transaction_seen(transaction.clone(), node.clock().now()) {
        error!(%txid, %error, "the wallet did not take a transaction");
    }
    Ok(replaced)
}
