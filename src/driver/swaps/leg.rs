//! One of the two chains of a swap, with the wallet that pays on it: this daemon's own, or a second one's.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bitcoin::{
    Amount, FeeRate, OutPoint, ScriptBuf, Transaction, TxOut, Txid, Weight, constants::ChainHash, hashes::Hash as _,
};
use leyden_channels::{
    onchain::{FeeEstimates, fee_at},
    swap::{
        Chain, ChainCtx, Contract, Expiry, LegState, Tip,
        contract::{Path, Spend},
        margins, way_out,
    },
    tx::FeeCoin,
    types::{Height, PaymentPreimage, UnixTime},
};
use leyden_consensus::Retarget;
use leyden_node::Node;
use tokio::time::Instant;

use crate::{
    driver::{
        chain::broadcast,
        services::{Services, per_kw},
    },
    wallet::{keys::NodeKeys, onchain::Coins, reserve::Reserve},
};

/// Blocks within which a lock should be confirmed.
const LOCK_TARGET: u32 = 6;

/// A tip may be in doubt for so long before a person is told: blocks come after their headers.
const DOUBT_TOLD_AFTER: Duration = Duration::from_secs(60);

/// What went wrong on a chain, in words for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LegError(pub String);

impl LegError {
    pub(crate) fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// A chain as it is now.
#[derive(Clone, Debug)]
pub(crate) struct LegStatus {
    /// What people call its network.
    pub network: String,
    pub chain: Chain,
    pub tip: Tip,
    /// Seconds between its last blocks, as measured.
    pub spacing: u32,
    /// Whether the tip may be relied on.
    pub is_current: bool,
    /// Old blocks are given up, also such as a swap would need.
    pub is_pruned: bool,
    /// What the wallet has in blocks.
    pub confirmed: Amount,
    pub estimates: FeeEstimates,
}

/// A block and its place.
#[derive(Clone, Debug)]
pub(crate) struct LegBlock {
    pub tip: Tip,
    /// The hash of the block below.
    pub previous: [u8; 32],
    pub transactions: Vec<Transaction>,
}

impl LegStatus {
    /// What a swap is told of the chain, which has seen it up to `tip`.
    pub(super) fn seen_up_to(&self, tip: Tip) -> ChainCtx<'_> {
        let is_fed = tip.hash == self.tip.hash;
        let is_current = is_fed && self.is_current;
        ChainCtx { estimates: &self.estimates, spacing: self.spacing, is_fed, is_current }
    }

    /// What a person should know who has yet to lock so much.
    pub(super) fn lacks(&self, wanted: Amount) -> Option<String> {
        (self.confirmed < wanted).then(|| {
            format!(
                "the wallet on {network} has {} sat in blocks, and {} sat and a fee are to be locked: send coins to an address of {network} \
                 (`leyden --network {network} newaddress`, or without --network that of its own daemon)",
                self.confirmed.to_sat(),
                wanted.to_sat(),
                network = self.network
            )
        })
    }
}

/// Since when a tip has been in doubt.
#[derive(Default)]
pub(super) struct Doubt(Option<Instant>);

impl Doubt {
    /// What a person should know of it, once it has lasted.
    pub(super) fn of<'a>(&mut self, chains: impl IntoIterator<Item = &'a LegStatus>) -> Option<String> {
        let Some(status) = chains.into_iter().find(|status| !status.is_current) else {
            self.0 = None;
            return None;
        };
        let is_long = self.0.get_or_insert_with(Instant::now).elapsed() >= DOUBT_TOLD_AFTER;
        is_long.then(|| {
            format!(
                "the tip of {} is in doubt, see `getinfo` of its daemon: nothing is locked and no secret shown meanwhile",
                status.network
            )
        })
    }
}

/// A chain that cannot be asked.
pub(super) fn away(estimates: &FeeEstimates) -> ChainCtx<'_> {
    ChainCtx { estimates, spacing: 0, is_fed: false, is_current: false }
}

#[async_trait]
pub(crate) trait SwapLeg: Send + Sync {
    async fn status(&self) -> Result<LegStatus, LegError>;
    /// Whether it knows which blocks the swaps made here still need, and keeps them.
    fn keeps_blocks(&self) -> bool;
    /// `None` above the tip.
    async fn block(&self, height: Height) -> Result<Option<LegBlock>, LegError>;
    /// Who spends an output, be it in a block or in the mempool.
    async fn spender(&self, outpoint: OutPoint) -> Result<Option<Transaction>, LegError>;
    /// A transaction of a block or of the mempool.
    async fn transaction(&self, txid: Txid) -> Result<Option<Transaction>, LegError>;
    /// The wallet's transaction with an output to this script that is in no block.
    async fn waiting(&self, script: &ScriptBuf) -> Result<Option<Transaction>, LegError>;
    /// A script of the wallet to which nothing was paid.
    async fn new_script(&self) -> Result<ScriptBuf, LegError>;
    /// A signed transaction with this output, and its fee. Its coins are reserved; it is not broadcast.
    async fn fund(&self, script: ScriptBuf, amount: Amount, max_fee: Amount)
    -> Result<(Transaction, Amount), LegError>;
    async fn release(&self, transaction: &Transaction) -> Result<(), LegError>;
    /// Spends the coins of a lock that is in no block to this script, with this fee, and broadcasts that.
    async fn recall(&self, lock: &Transaction, to: ScriptBuf, fee: Amount) -> Result<(), LegError>;
    /// What is known already is no error.
    async fn broadcast(&self, transaction: &Transaction) -> Result<(), LegError>;
}

/// Blocks that are looked at again after a reorganisation: more than one has.
const RESCAN: u32 = 100;

/// Where to begin again if the block that a swap knows last is not in the chain as it is now; `None` if it is. Below all that the
/// swap has found: however deep a reorganisation goes, nothing of the old branch stays.
pub(super) async fn back_to(
    chain: &dyn SwapLeg,
    known: &LegState,
    status: &LegStatus,
) -> Result<Option<Tip>, LegError> {
    let (tip, end) = (known.tip, status.tip);
    // A chain that is read anew, after a disk was lost, was not reorganised: it will be where the swap has seen it.
    if end.height < tip.height && !status.is_current {
        return Ok(None);
    }
    if tip.hash == end.hash || chain.block(tip.height).await?.is_some_and(|block| block.tip.hash == tip.hash) {
        return Ok(None);
    }
    let found = known.earliest().map_or(u32::MAX, |found| found.0.saturating_sub(1));
    let back = Height(tip.height.0.min(end.height.0).saturating_sub(RESCAN).min(found));
    let block = chain.block(back).await?;
    block.map(|block| Some(block.tip)).ok_or_else(|| LegError(format!("there is no block at height {}", back.0)))
}

/// The lowest block that a swap may still ask for: below all that it has found, and what it goes back by after a reorganisation.
pub(super) fn lowest_needed(known: &LegState) -> u32 {
    let found = known.earliest().map_or(u32::MAX, |found| found.0.saturating_sub(1));
    known.tip.height.0.min(found).saturating_sub(RESCAN)
}

/// The lock of this person that waits for a block, as far as the wallet knows one.
pub(super) async fn own_lock(chain: &dyn SwapLeg, contract: &Contract) -> Result<Option<Transaction>, LegError> {
    let script = contract.script_pubkey().map_err(LegError::of)?;
    chain.waiting(&script).await
}

/// This daemon's chain and wallet.
pub(crate) struct OwnLeg(pub Arc<Services>);

#[async_trait]
impl SwapLeg for OwnLeg {
    async fn status(&self) -> Result<LegStatus, LegError> {
        let node = &self.0.node;
        if node.watched_scripts().is_some() {
            // It would not see the other's lock, nor its claim, in blocks that it does not have.
            return Err(LegError(format!(
                "a swap needs the whole blocks of the chain that its coins are on, and your node on {} is a light one: run it without \
                 --light",
                node.params().name
            )));
        }
        let (tip, params) = (node.tip(), node.params());
        Ok(LegStatus {
            network: params.name.clone(),
            chain: Chain {
                hash: ChainHash::from_genesis_block_hash(params.genesis_hash),
                spacing: params.spacing.get(),
            },
            spacing: measured_spacing(node, tip.height),
            is_pruned: node.prune_target().is_some() || node.pruned_below() > 0,
            confirmed: self.0.wallet.balance_at_depth(1).confirmed,
            is_current: node.best_header().hash == tip.hash && node.check_tip().is_ok(),
            tip: place(&tip),
            estimates: self.0.fee_estimates(),
        })
    }

    fn keeps_blocks(&self) -> bool {
        true
    }

    async fn block(&self, height: Height) -> Result<Option<LegBlock>, LegError> {
        let node = &self.0.node;
        let Some(hash) = node.block_hash(height.0) else { return Ok(None) };
        let block = node.block(hash).await.map_err(LegError::of)?;
        let (Some(block), Some(found)) = (block, node.header_place(&hash)) else {
            return Err(LegError(format!("block {hash} is not on the disk any more")));
        };
        let previous = block.header.prev_blockhash.to_byte_array();
        Ok(Some(LegBlock { tip: place(&found), previous, transactions: block.txdata.clone() }))
    }

    async fn spender(&self, outpoint: OutPoint) -> Result<Option<Transaction>, LegError> {
        let node = &self.0.node;
        let Some(spend) = node.spender(outpoint).await.map_err(LegError::of)? else { return Ok(None) };
        self.transaction(spend.txid).await
    }

    async fn transaction(&self, txid: Txid) -> Result<Option<Transaction>, LegError> {
        let found = self.0.node.transaction(txid).await.map_err(LegError::of)?;
        Ok(found.map(|found| found.transaction.as_ref().clone()))
    }

    async fn waiting(&self, script: &ScriptBuf) -> Result<Option<Transaction>, LegError> {
        Ok(waiting(&self.0, script))
    }

    async fn new_script(&self) -> Result<ScriptBuf, LegError> {
        self.0.wallet.new_script().map_err(LegError::of)
    }

    async fn fund(
        &self,
        script: ScriptBuf,
        amount: Amount,
        max_fee: Amount,
    ) -> Result<(Transaction, Amount), LegError> {
        let services = Arc::clone(&self.0);
        let pay = move || -> Result<Unclaimed<_, _>, LegError> {
            // It was made and broadcast already, and the swap does not know: its data directory is older than that.
            if let Some(waiting) = waiting(&services, &script) {
                let fee = services.wallet.fee_of(&waiting).unwrap_or(max_fee);
                return Ok(Unclaimed::kept((waiting, fee)));
            }
            let coins = Coins { min_confirmations: 1, only: Vec::new(), reserve: Reserve::Keep };
            // Not below what relays everywhere: a lock that waits is time lost.
            let rate = per_kw(services.node.estimate_fee(LOCK_TARGET));
            let rate = FeeRate::from_sat_per_kwu(u64::from(rate.0));
            let transaction = services.wallet.pay(&[(script, amount)], rate, &coins).map_err(LegError::of)?;
            let spent = transaction.input.iter().map(|input| services.wallet.amount_of(&input.previous_output));
            let spent: Option<Amount> = spent.sum();
            let paid: Amount = transaction.output.iter().map(|output| output.value).sum();
            match spent.and_then(|spent| spent.checked_sub(paid)) {
                Some(fee) if fee <= max_fee => {
                    let undo = move |(made, _): &(Transaction, Amount)| services.wallet.release(&made.compute_txid());
                    Ok(Unclaimed::new((transaction, fee), undo))
                }
                fee => {
                    services.wallet.release(&transaction.compute_txid());
                    let fee = fee.map_or("more".to_owned(), |fee| format!("{} sat", fee.to_sat()));
                    Err(LegError(format!(
                        "the lock would pay {fee} in fees, and at most {} sat were agreed: it waits for lower ones",
                        max_fee.to_sat()
                    )))
                }
            }
        };
        // Whoever asked waits for so long and no longer: coins of a lock that nobody takes must not stay reserved.
        let made = tokio::task::spawn_blocking(pay).await.map_err(LegError::of)??;
        made.claim().ok_or_else(|| LegError("the lock was given up".to_owned()))
    }

    async fn release(&self, transaction: &Transaction) -> Result<(), LegError> {
        self.0.wallet.release(&transaction.compute_txid());
        Ok(())
    }

    async fn recall(&self, lock: &Transaction, to: ScriptBuf, fee: Amount) -> Result<(), LegError> {
        let mut coins = Vec::new();
        for input in &lock.input {
            let outpoint = input.previous_output;
            // No block has the lock, so they are unspent; the blocks that made them may be given up by now.
            let found = self.0.node.coin(outpoint).await.map_err(LegError::of)?;
            let output = found.map(|coin| coin.output);
            let output = output.ok_or_else(|| LegError(format!("the coin {outpoint} of the lock is spent")))?;
            // The weight is for choosing coins, and these are chosen.
            coins.push(FeeCoin { outpoint, output, witness_weight: Weight::ZERO });
        }
        let held: Amount = coins.iter().map(|coin| coin.output.value).sum();
        let value = held.checked_sub(fee).filter(|value| *value >= to.minimal_non_dust());
        let value = value.ok_or_else(|| LegError("the lock's coins do not pay for calling it back".to_owned()))?;
        let output = vec![TxOut { value, script_pubkey: to }];
        let unsigned = Transaction { output, ..lock.clone() };
        let recall = self.0.wallet.sign_coins(unsigned, &coins).map_err(LegError::of)?;
        self.broadcast(&recall).await
    }

    async fn broadcast(&self, transaction: &Transaction) -> Result<(), LegError> {
        broadcast(&self.0.node, &self.0.wallet, &[], transaction).await.map(drop).map_err(LegError::of)
    }
}

/// What is undone unless somebody takes it.
struct Unclaimed<T, U: FnOnce(&T)> {
    made: Option<T>,
    undo: Option<U>,
}

impl<T, U: FnOnce(&T)> Unclaimed<T, U> {
    fn new(made: T, undo: U) -> Self {
        Self { made: Some(made), undo: Some(undo) }
    }

    /// It was there before, and stays.
    fn kept(made: T) -> Self {
        Self { made: Some(made), undo: None }
    }

    fn claim(mut self) -> Option<T> {
        self.made.take()
    }
}

impl<T, U: FnOnce(&T)> Drop for Unclaimed<T, U> {
    fn drop(&mut self) {
        if let (Some(made), Some(undo)) = (self.made.take(), self.undo.take()) {
            undo(&made);
        }
    }
}

/// Takes the coins of a contract of which nothing is left but its script: back, or with the secret. Broadcasts it. `None` if this
/// chain does not know the output.
pub(crate) async fn reclaim(
    chain: &dyn SwapLeg,
    keys: &NodeKeys,
    contract: &Contract,
    outpoint: OutPoint,
    secret: Option<PaymentPreimage>,
) -> Result<Option<Transaction>, LegError> {
    let (path, key) = way_out(contract, keys, secret).map_err(LegError::of)?;
    let script = contract.script_pubkey().map_err(LegError::of)?;
    let Some(lock) = chain.transaction(outpoint.txid).await? else { return Ok(None) };
    let output = lock.output.get(outpoint.vout as usize).filter(|output| output.script_pubkey == script);
    let output = output.ok_or_else(|| LegError(format!("the output {outpoint} is not of this contract")))?;
    let status = chain.status().await?;
    if path == Path::Refund && !contract.is_expired(&status.tip) {
        let when = match contract.expiry {
            Expiry::Time(time) => format!("the median time {}", time.0),
            Expiry::Height(height) => format!("block {}", height.0),
        };
        return Err(LegError(format!("the coins cannot be taken back before {when}: try again then")));
    }
    let to = chain.new_script().await?;
    let weight = contract.spend_weight(path, &to).map_err(LegError::of)?;
    let fee = fee_at(status.estimates.within(LOCK_TARGET), weight);
    let spend = Spend { outpoint, amount: output.value, path, to: &to, fee };
    let transaction = contract.spend(&spend, &key).map_err(LegError::of)?;
    chain.broadcast(&transaction).await?;
    Ok(Some(transaction))
}

fn waiting(services: &Services, script: &ScriptBuf) -> Option<Transaction> {
    let pays_it = |waiting: &Transaction| waiting.output.iter().any(|output| output.script_pubkey == *script);
    services.wallet.pending().into_iter().find(pays_it)
}

fn measured_spacing(node: &Node, tip: u32) -> u32 {
    margins::measured_spacing(&median_times(node, tip))
}

/// The pace at which a chain's blocks were found lately, in seconds between them; 0 if that tells nothing: on a chain whose
/// difficulty follows nothing, blocks are found when somebody likes.
pub(crate) fn measured_pace(node: &Node) -> u32 {
    match node.params().retarget {
        Retarget::Never => 0,
        Retarget::Periodic { .. } | Retarget::MovingAverage { .. } => {
            margins::measured_pace(&median_times(node, node.tip().height))
        }
    }
}

/// Of the last blocks, in the order of the chain.
fn median_times(node: &Node, tip: u32) -> Vec<UnixTime> {
    let heights = tip.saturating_sub(margins::MEASURED_BLOCKS)..=tip;
    let places = heights.filter_map(|height| node.header_place(&node.block_hash(height)?));
    places.map(|found| place(&found).median_time).collect()
}

fn place(tip: &leyden_node::Tip) -> Tip {
    let median_time = UnixTime(u64::from(tip.median_time_past));
    Tip { height: Height(tip.height), hash: tip.hash.to_byte_array(), median_time }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_is_made_for_somebody_who_has_gone_is_undone() {
        let (undone, seen) = mpsc::channel();
        let make = |begin: mpsc::Receiver<()>| {
            let undone = undone.clone();
            async move {
                let made = tokio::task::spawn_blocking(move || {
                    let _ = begin.recv();
                    Unclaimed::new(7, move |made: &i32| undone.send(*made).unwrap())
                });
                made.await.unwrap().claim()
            }
        };
        let (go, begin) = mpsc::channel();
        assert!(timeout(Duration::from_millis(10), make(begin)).await.is_err());
        go.send(()).unwrap();
        assert_eq!(seen.recv_timeout(Duration::from_secs(60)), Ok(7));
        // Whoever waits has it, and what was there before stays in any case.
        let (go, begin) = mpsc::channel();
        go.send(()).unwrap();
        assert_eq!(make(begin).await, Some(7));
        drop(Unclaimed::<i32, fn(&i32)>::kept(8));
        assert!(seen.try_recv().is_err());
    }
}
