//! One of the two chains of a swap, with the wallet that pays on it: this daemon's own, or a second one's.

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{
    Amount, FeeRate, OutPoint, ScriptBuf, Transaction, TxOut, Weight, constants::ChainHash, hashes::Hash as _,
};
use leyden_channels::{
    onchain::{FeeEstimates, fee_at},
    swap::{
        Chain, Contract, Expiry, Tip,
        contract::{Path, Spend},
        way_out,
    },
    tx::FeeCoin,
    types::{Height, PaymentPreimage, UnixTime},
};

use crate::{
    driver::{
        chain::broadcast,
        services::{Services, per_kw},
    },
    wallet::{onchain::Coins, reserve::Reserve},
};

/// Blocks within which a lock should be confirmed.
const LOCK_TARGET: u32 = 6;

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
    /// Whether the tip may be relied on.
    pub is_current: bool,
    pub estimates: FeeEstimates,
}

/// A block and its place.
#[derive(Clone, Debug)]
pub(crate) struct LegBlock {
    pub tip: Tip,
    pub transactions: Vec<Transaction>,
}

#[async_trait]
pub(crate) trait SwapLeg: Send + Sync {
    async fn status(&self) -> Result<LegStatus, LegError>;
    /// `None` above the tip.
    async fn block(&self, height: Height) -> Result<Option<LegBlock>, LegError>;
    /// Who spends an output, be it in a block or in the mempool.
    async fn spender(&self, outpoint: OutPoint) -> Result<Option<Transaction>, LegError>;
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

/// Where to begin again if the block `known` is not in the chain that ends with `end`; `None` if it is.
pub(super) async fn back_to(chain: &dyn SwapLeg, known: Tip, end: Tip) -> Result<Option<Tip>, LegError> {
    if known.hash == end.hash || chain.block(known.height).await?.is_some_and(|block| block.tip.hash == known.hash) {
        return Ok(None);
    }
    let back = Height(known.height.0.min(end.height.0).saturating_sub(RESCAN));
    let block = chain.block(back).await?;
    block.map(|block| Some(block.tip)).ok_or_else(|| LegError(format!("there is no block at height {}", back.0)))
}

/// This daemon's chain and wallet.
pub(crate) struct OwnLeg(pub Arc<Services>);

#[async_trait]
impl SwapLeg for OwnLeg {
    async fn status(&self) -> Result<LegStatus, LegError> {
        let node = &self.0.node;
        if node.watched_scripts().is_some() {
            // It would not see the other's lock, nor its claim, in blocks that it does not have.
            return Err(LegError(
                "a swap needs whole blocks, and a light node has none: run leydend without --light".into(),
            ));
        }
        let (tip, params) = (node.tip(), node.params());
        Ok(LegStatus {
            network: params.name.clone(),
            chain: Chain {
                hash: ChainHash::from_genesis_block_hash(params.genesis_hash),
                spacing: params.spacing.get(),
            },
            is_current: node.best_header().hash == tip.hash && node.check_tip().is_ok(),
            tip: place(&tip),
            estimates: self.0.fee_estimates(),
        })
    }

    async fn block(&self, height: Height) -> Result<Option<LegBlock>, LegError> {
        let node = &self.0.node;
        let Some(hash) = node.block_hash(height.0) else { return Ok(None) };
        let block = node.block(hash).await.map_err(LegError::of)?;
        let (Some(block), Some(found)) = (block, node.header_place(&hash)) else {
            return Err(LegError(format!("block {hash} is not on the disk any more")));
        };
        Ok(Some(LegBlock { tip: place(&found), transactions: block.txdata.clone() }))
    }

    async fn spender(&self, outpoint: OutPoint) -> Result<Option<Transaction>, LegError> {
        let node = &self.0.node;
        let Some(spend) = node.spender(outpoint).await.map_err(LegError::of)? else { return Ok(None) };
        let found = node.transaction(spend.txid).await.map_err(LegError::of)?;
        Ok(found.map(|found| found.transaction.as_ref().clone()))
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
        let pay = move || {
            let coins = Coins { min_confirmations: 1, only: Vec::new(), reserve: Reserve::Keep };
            // Not below what relays everywhere: a lock that waits is time lost.
            let rate = per_kw(services.node.estimate_fee(LOCK_TARGET));
            let rate = FeeRate::from_sat_per_kwu(u64::from(rate.0));
            let transaction = services.wallet.pay(&[(script, amount)], rate, &coins).map_err(LegError::of)?;
            let spent = transaction.input.iter().map(|input| services.wallet.amount_of(&input.previous_output));
            let spent: Option<Amount> = spent.sum();
            let paid: Amount = transaction.output.iter().map(|output| output.value).sum();
            match spent.and_then(|spent| spent.checked_sub(paid)) {
                Some(fee) if fee <= max_fee => Ok((transaction, fee)),
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
        tokio::task::spawn_blocking(pay).await.map_err(LegError::of)?
    }

    async fn release(&self, transaction: &Transaction) -> Result<(), LegError> {
        self.0.wallet.release(&transaction.compute_txid());
        Ok(())
    }

    async fn recall(&self, lock: &Transaction, to: ScriptBuf, fee: Amount) -> Result<(), LegError> {
        let mut coins = Vec::new();
        for input in &lock.input {
            let outpoint = input.previous_output;
            let found = self.0.node.transaction(outpoint.txid).await.map_err(LegError::of)?;
            let output = found.and_then(|found| found.transaction.output.get(outpoint.vout as usize).cloned());
            let output = output.ok_or_else(|| LegError(format!("the coin {outpoint} of the lock is not known")))?;
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
        broadcast(&self.0.node, &self.0.wallet, &[], transaction).await.map_err(LegError::of)
    }
}

impl OwnLeg {
    /// Takes the coins of a contract of which nothing is left but its script: back, or with the secret. Broadcasts it.
    pub(crate) async fn reclaim(
        &self,
        contract: &Contract,
        outpoint: OutPoint,
        secret: Option<PaymentPreimage>,
    ) -> Result<Transaction, LegError> {
        let node = &self.0.node;
        let (path, key) = way_out(contract, &self.0.keys, secret).map_err(LegError::of)?;
        let script = contract.script_pubkey().map_err(LegError::of)?;
        let found = node.transaction(outpoint.txid).await.map_err(LegError::of)?;
        let output = found.and_then(|found| found.transaction.output.get(outpoint.vout as usize).cloned());
        let output = output.filter(|output| output.script_pubkey == script);
        let output =
            output.ok_or_else(|| LegError(format!("the output {outpoint} is not known, or not of this contract")))?;
        let status = self.status().await?;
        if path == Path::Refund && !contract.is_expired(&status.tip) {
            let when = match contract.expiry {
                Expiry::Time(time) => format!("the median time {}", time.0),
                Expiry::Height(height) => format!("block {}", height.0),
            };
            return Err(LegError(format!("the coins cannot be taken back before {when}: try again then")));
        }
        let to = self.new_script().await?;
        let weight = contract.spend_weight(path, &to).map_err(LegError::of)?;
        let fee = fee_at(status.estimates.within(LOCK_TARGET), weight);
        let spend = Spend { outpoint, amount: output.value, path, to: &to, fee };
        let transaction = contract.spend(&spend, &key).map_err(LegError::of)?;
        self.broadcast(&transaction).await?;
        Ok(transaction)
    }
}

fn place(tip: &leyden_node::Tip) -> Tip {
    let median_time = UnixTime(u64::from(tip.median_time_past));
    Tip { height: Height(tip.height), hash: tip.hash.to_byte_array(), median_time }
}
