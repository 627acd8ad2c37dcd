//! One of the two chains of a swap, with the wallet that pays on it: this daemon's own, or a second one's.

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{
    Amount, FeeRate, OutPoint, ScriptBuf, Transaction, TxOut, Weight, constants::ChainHash, hashes::Hash as _,
};
use leyden_channels::{
    onchain::FeeEstimates,
    swap::{Chain, Tip},
    tx::FeeCoin,
    types::{Height, UnixTime},
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

fn place(tip: &leyden_node::Tip) -> Tip {
    let median_time = UnixTime(u64::from(tip.median_time_past));
    Tip { height: Height(tip.height), hash: tip.hash.to_byte_array(), median_time }
}
