//! What happens on the chain, told to the wallet and to every channel that waits for it.
//!
//! ```text
//!   node's notices ──► wallet: every block, every transaction of the mempool
//!                  └─► after each change of the tip, for each watched channel: where is its funding transaction, who
//!                      spends its output? What differs from what the channel was told last is an event.
//!                  └─► for each output of a closed channel that a block or a transaction spends: `WatchedOutputs`
//! ```
//!
//! Watches look at the state of the chain, not at its changes, so a notice that was missed, a restart or a
//! reorganisation needs no care of its own.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use leyden_channels::{
    channel::{Event, FundingDepth},
    onchain::{self, Found, News},
    types::{ChannelId, Height},
};
use leyden_node::{MempoolError, Node, NodeError, Notice, RemovalReason};
use tokio::sync::{mpsc, watch};
use tracing::error;

use super::{peer::Command, rebroadcast::rebroadcast};
use crate::wallet::onchain::{OnchainWallet, WalletError};

#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
}

/// Confirmations after which a mutual close is final for us: until then a reorganisation could let a revoked commitment
/// take its place, and somebody must be there to see it.
pub const FINAL_DEPTH: u32 = 100;

/// The outputs of closed channels, each with the task that owns its channel.
type Outputs = onchain::WatchedOutputs<mpsc::UnboundedSender<Command>>;

/// The watches of all channels; clones share them.
#[derive(Clone)]
pub struct ChainWatch {
    node: Node,
    watches: Arc<Mutex<HashMap<ChannelId, Watch>>>,
    outputs: Arc<Mutex<Outputs>>,
    /// Held while the chain is looked at, so that nobody compares with an older view of the chain.
    looking: Arc<tokio::sync::Mutex<()>>,
}

struct Watch {
    owner: mpsc::UnboundedSender<Command>,
    funding: OutPoint,
    /// Tell how deep the funding transaction is.
    depth: bool,
    /// `None` until the chain has been looked at.
    told: Option<Told>,
}

/// Where closed channels have to look after the latest blocks.
#[derive(Default)]
struct Changed {
    /// Blocks were taken back, or we have just begun.
    everything: bool,
    spent: HashMap<ChannelId, HashSet<OutPoint>>,
}

/// What the channel knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    depth: Option<FundingDepth>,
    spend: Option<(Txid, Option<Height>)>,
    /// The closing is final.
    buried: bool,
}

impl ChainWatch {
    pub fn new(node: Node) -> Self {
        Self { node, watches: Arc::default(), outputs: Arc::default(), looking: Arc::default() }
    }

    /// Watches a channel's funding output for its owner, and tells at once what is there already.
    pub async fn watch(
        &self,
        channel: ChannelId,
        owner: mpsc::UnboundedSender<Command>,
        funding: OutPoint,
        depth: bool,
    ) -> Result<(), NodeError> {
        {
            let mut watches = self.lock();
            let watch = watches.entry(channel).or_insert(Watch { owner, funding, depth, told: None });
            watch.depth |= depth;
        }
        self.look(channel).await
    }

    pub fn forget(&self, channel: &ChannelId) {
        self.lock().remove(channel);
        self.outputs().forget(channel);
    }

    /// Watches an output of a closed channel, of which its owner knows `known`. What the chain says already is told by
    /// [`Self::look_at_outputs`].
    pub fn watch_output(
        &self,
        channel: ChannelId,
        owner: &mpsc::UnboundedSender<Command>,
        outpoint: OutPoint,
        known: Option<onchain::Told>,
    ) {
        self.outputs().watch(channel, owner, outpoint, known);
    }

    /// Looks at all watched outputs of a closed channel, and tells what is new.
    pub async fn look_at_outputs(&self, channel: ChannelId) -> Result<(), NodeError> {
        // What is found is that of this tip, or of a later one.
        let tip = Height(self.node.tip().height);
        self.look_at_some(channel, None, true, tip).await
    }

    /// Whether the chain has been looked at for each of these outputs of a closed channel since they are watched.
    pub fn has_looked_at(&self, channel: &ChannelId, outpoints: impl IntoIterator<Item = OutPoint>) -> bool {
        self.outputs().have_looked_at(channel, outpoints)
    }

    /// Follows the chain until the node stops. `tips` announces each new tip after the wallet has seen it
    /// and the channels have been told of their closes.
    pub async fn run(self, wallet: Arc<OnchainWallet>, tips: watch::Sender<Height>) -> Result<(), ChainError> {
        let (_, from) = wallet.tip();
        let mut notices = self.node.subscribe(Some(from))?;
        let mut changed = Changed { everything: true, spent: HashMap::new() };
        let mut all_handed_over = false;
        let mut tip = Height(self.node.tip().height);
        if wallet.tip().0 >= self.node.tip().height {
            all_handed_over = rebroadcast(&self.node, &wallet).await?;
        }
        loop {
            let notice = match notices.next().await {
                Ok(notice) => notice,
                Err(NodeError::ShuttingDown) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            match notice {
                Notice::BlockConnected { height, block, .. } => {
                    wallet.block_connected(&block, height)?;
                    self.look_at_all().await?;
                    let _ = tips.send(Height(height));
                    self.outputs().spent_by(&block.txdata, &mut changed.spent);
                    // While we are behind, the state of the chain is that of a later block already.
                    if height >= self.node.tip().height {
                        tip = Height(height);
                        if !all_handed_over {
                            all_handed_over = rebroadcast(&self.node, &wallet).await?;
                        }
                        self.tell_open(tip);
                        self.tell_tip(std::mem::take(&mut changed), tip).await?;
                    }
                }
                // The block that replaces it follows, and takes its place in the wallet.
                Notice::BlockDisconnected { .. } => {
                    changed.everything = true;
                    all_handed_over = false;
                }
                Notice::TransactionAccepted { transaction } => {
                    let now = self.node.clock().now();
                    wallet.transaction_seen(transaction.as_ref().clone(), now)?;
                    for channel in self.spent_by(&transaction) {
                        self.look(channel).await?;
                    }
                    let mut spent = HashMap::new();
                    self.outputs().spent_by([transaction.as_ref()], &mut spent);
                    for (channel, outpoints) in spent {
                        self.look_at_some(channel, Some(outpoints), false, tip).await?;
                    }
                }
                // The coins of a channel stay with it: its peer may hold it for open already.
                Notice::TransactionRemoved { txid, reason: RemovalReason::Evicted | RemovalReason::Expired }
                    if self.funds_channel(&txid) =>
                {
                    all_handed_over = false;
                }
                Notice::TransactionRemoved { txid, .. } => {
                    wallet.transaction_dropped(txid, self.node.clock().now())?;
                }
            }
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

    /// Tells the owners of closed channels what the latest blocks did to their outputs, and that they are the tip now.
    async fn tell_tip(&self, mut changed: Changed, tip: Height) -> Result<(), NodeError> {
        let channels = self.outputs().channels();
        for channel in channels {
            let spent = changed.spent.remove(&channel).unwrap_or_default();
            self.look_at_some(channel, (!changed.everything).then_some(spent), true, tip).await?;
        }
        Ok(())
    }

    /// Looks at these outputs of a closed channel (`None`: at all), and tells what is new: with it, all up to `tip` is told.
    async fn look_at_some(
        &self,
        channel: ChannelId,
        some: Option<HashSet<OutPoint>>,
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
            let news = self.outputs().news(&channel, found);
            match news {
                News::Events(events) => break events,
                News::LookAtAll => outpoints = self.outputs().of(&channel),
            }
        };
        if is_new_tip && !events.contains(&onchain::Event::Tip) {
            events.push(onchain::Event::Tip);
        }
        if !events.is_empty()
            && let Some(owner) = self.outputs().owner(&channel)
        {
            // The owner may have ended with the daemon.
            let _ = owner.send(Command::Enforce { channel, events, tip });
        }
        Ok(())
    }

    async fn find(&self, outpoint: OutPoint) -> Result<Option<Found>, NodeError> {
        let Some(spend) = self.node.spender(outpoint).await? else { return Ok(None) };
        let found = self.node.transaction(spend.txid).await?;
        Ok(found.map(|found| Found {
            transaction: found.transaction.as_ref().clone(),
            place: found.confirmed.map(|(block, index)| (Height(block.height), index)),
        }))
    }

    fn spent_by(&self, transaction: &Transaction) -> Vec<ChannelId> {
        let watches = self.lock();
        watches
            .iter()
            .filter(|(_, watch)| transaction.input.iter().any(|input| input.previous_output == watch.funding))
            .map(|(channel, _)| *channel)
            .collect()
    }

    /// Tells that channels are not closed by any block up to this tip. Only now that a close would have been told: right
    /// after the start, news of the tip may come to a channel's owner before the watch begins.
    fn tell_open(&self, tip: Height) {
        for (channel, watch) in self.lock().iter() {
            if watch.told.as_ref().is_some_and(|told| told.spend.is_none()) {
                let _ = watch.owner.send(Command::StillOpen { channel: *channel, tip });
            }
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
        let Some((funding, wants_depth)) = self.lock().get(&channel).map(|watch| (watch.funding, watch.depth)) else {
            return Ok(());
        };
        let tip = Height(self.node.tip().height);
        let depth = if wants_depth { self.depth(funding, tip).await? } else { None };
        let spend = self.spend(funding).await?;

        let mut watches = self.lock();
        let Some(watch) = watches.get_mut(&channel) else { return Ok(()) };
        let mut events = Vec::new();
        let old = watch.told.clone().unwrap_or_default();
        let lost_funding =
            old.depth.as_ref().is_some_and(|old| depth.as_ref().is_none_or(|new| new.height != old.height));
        let was_confirmed = old.spend.as_ref().and_then(|(_, height)| *height);
        let spend_height = spend.as_ref().and_then(|(_, height)| *height);
        let lost_spend = was_confirmed.is_some() && was_confirmed != spend_height;
        if lost_funding || lost_spend {
            // Both are above the fork.
            let lost = [
                old.depth.as_ref().filter(|_| lost_funding).map(|old| old.height),
                was_confirmed.filter(|_| lost_spend),
            ];
            let lowest = lost.into_iter().flatten().min().unwrap_or(tip);
            events.push(Event::Reorganized { to: Height(lowest.0.saturating_sub(1)) });
        }
        if let Some(depth) = &depth
            && old.depth.as_ref() != Some(depth)
        {
            events.push(Event::FundingDepth(depth.clone()));
        }
        let told_spend = spend.as_ref().map(|(transaction, height)| (transaction.compute_txid(), *height));
        if let Some((transaction, height)) = spend
            && old.spend != told_spend
        {
            events.push(Event::FundingSpent { transaction, height });
        }
        let buried = spend_height.is_some_and(|height| tip.0 >= height.0.saturating_add(FINAL_DEPTH - 1));
        if buried && !old.buried {
            events.push(Event::CloseConfirmed);
        }
        watch.told = Some(Told { depth, spend: told_spend, buried });
        for event in events {
            // The owner may have ended with the daemon.
            let _ = watch.owner.send(Command::Event { channel, event: Box::new(event) });
        }
        Ok(())
    }

    async fn depth(&self, funding: OutPoint, tip: Height) -> Result<Option<FundingDepth>, NodeError> {
        let Some(found) = self.node.transaction(funding.txid).await? else { return Ok(None) };
        let Some((block, index)) = found.confirmed else { return Ok(None) };
        let output = found.transaction.output.get(funding.vout as usize).cloned();
        Ok(Some(FundingDepth {
            height: Height(block.height),
            index,
            confirmations: tip.0.saturating_sub(block.height).saturating_add(1),
            output: output.unwrap_or(TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::new() }),
        }))
    }

    async fn spend(&self, funding: OutPoint) -> Result<Option<(Transaction, Option<Height>)>, NodeError> {
        let Some(spend) = self.node.spender(funding).await? else { return Ok(None) };
        let Some(found) = self.node.transaction(spend.txid).await? else { return Ok(None) };
        let height = spend.confirmed.map(|block| Height(block.height));
        Ok(Some((found.transaction.as_ref().clone(), height)))
    }
}

/// Hands a transaction to the mempool and to the wallet, with unconfirmed parents that it pays for. What is there
/// already is no error.
pub async fn broadcast(
    node: &Node,
    wallet: &OnchainWallet,
    parents: &[Transaction],
    transaction: &Transaction,
) -> Result<(), MempoolError> {
    let txid = transaction.compute_txid();
    let result = if parents.is_empty() {
        node.submit_transaction(transaction.clone()).await.map(|_| ())
    } else {
        let package = parents.iter().chain([transaction]).cloned().collect();
        node.submit_package(package).await.map(|_| ())
    };
    match result {
        Ok(()) | Err(MempoolError::AlreadyInMempool(_) | MempoolError::AlreadyConfirmed(_)) => {}
        // A transaction that confirmed meanwhile spends its inputs itself.
        Err(error) => {
            if !node.transaction(txid).await.is_ok_and(|found| found.is_some()) {
                return Err(error);
            }
        }
    }
    if let Err(error) = wallet.transaction_seen(transaction.clone(), node.clock().now()) {
        error!(%txid, %error, "the wallet did not take a transaction");
    }
    Ok(())
}
