//! Making what is unconfirmed pay more.
//!
//! ```text
//!   an output that a closed channel claims, or its commitment ──► the enforcement raises the claim or the anchor's child
//!   a transaction that the wallet made alone ───────────────────► replaced
//!   a channel's funding transaction, or somebody else's ────────► a child of one of our outputs pays for both
//! ```
//!
//! A funding transaction is never replaced: its channel would be left without one.

use async_trait::async_trait;
use bitcoin::{Amount, FeeRate, OutPoint, Transaction};
use leyden_channels::types::ChannelId;
use tokio::sync::oneshot;

use super::{
    LightningNode,
    wallet::{fee_rate, wallet_error},
};
use crate::{
    api::{ApiError, BumpFee, Bumping},
    driver::{
        chain::broadcast,
        peer::{Command, PeerState},
        services::per_kw,
    },
    wallet::bump::CHILD_VIRTUAL_BYTES,
};

#[async_trait]
impl Bumping for LightningNode {
    async fn bump_fee(&self, request: BumpFee) -> Result<String, ApiError> {
        let services = self.services();
        let rate = fee_rate(services, request.fee);
        let states = self.peer_states().await;
        if let Some(channel) = closing_with(&states, &request.outpoint) {
            let (answer, done) = oneshot::channel();
            let command = Command::Bump { channel, outpoint: request.outpoint, feerate: per_kw(rate), answer };
            services.peers.to_channel(&channel, command);
            return match done.await {
                Ok(Ok(())) => Ok(format!("the claim pays at least {} sat/vB from now on", rate.to_sat_per_vb_ceil())),
                Ok(Err(reason)) => Err(ApiError::precondition(reason)),
                Err(_) => Err(ApiError::unavailable("the daemon is stopping")),
            };
        }
        let txid = request.outpoint.txid;
        let parent = services.wallet.unconfirmed(&txid).ok_or_else(|| {
            ApiError::not_found(format!(
                "nothing unconfirmed of this wallet and no claim of a closed channel has to do with {}",
                request.outpoint
            ))
        })?;
        let funds_channel = states
            .iter()
            .flat_map(|state| &state.channels)
            .any(|channel| channel.established.as_ref().is_some_and(|known| known.funding.txid == txid));
        let entry = services.node.mempool_entry(&txid);
        let alone = entry.as_ref().is_some_and(|entry| entry.descendants == 1);
        if services.wallet.is_all_ours(&parent) && !funds_channel && alone {
            self.replace(&parent, rate, &request).await
        } else {
            self.pull_along(&parent, rate, &request).await
        }
    }
}

impl LightningNode {
    async fn replace(&self, old: &Transaction, rate: FeeRate, request: &BumpFee) -> Result<String, ApiError> {
        let services = self.services();
        let txid = old.compute_txid();
        let new = services.wallet.replacement(txid, rate).map_err(wallet_error)?;
        let fee = services.wallet.fee_of(&new).unwrap_or(Amount::ZERO);
        within(fee, request.budget)?;
        self.send_bump(&new).await?;
        let new_txid = new.compute_txid();
        if let Ok(Some(label)) = services.store.label(&txid) {
            services.store.put_label(&new_txid, &label)?;
        }
        Ok(format!("replaced by {new_txid}, which pays {} sat", fee.to_sat()))
    }

    async fn pull_along(&self, parent: &Transaction, rate: FeeRate, request: &BumpFee) -> Result<String, ApiError> {
        let services = self.services();
        let txid = parent.compute_txid();
        let entry = services.node.mempool_entry(&txid).ok_or_else(|| {
            ApiError::precondition(format!(
                "{txid} is not in the mempool now: it is handed over again at the next block"
            ))
        })?;
        if let Some(child) = services.wallet.pending().into_iter().find(|child| self.pulls(child, parent)) {
            return self.pull_harder(&child, rate, request).await;
        }
        let own = |outpoint: &OutPoint| services.wallet.unspent().iter().any(|coin| coin.outpoint == *outpoint);
        let named = Some(request.outpoint).filter(|outpoint| own(outpoint));
        let coin = named.or_else(|| services.wallet.unspent_output(parent)).ok_or_else(|| {
            ApiError::precondition(format!("{txid} has no unspent output of this wallet that could pay for it"))
        })?;
        let whole = rate.fee_vb(entry.ancestor_virtual_bytes.saturating_add(CHILD_VIRTUAL_BYTES));
        let alone = rate.fee_vb(CHILD_VIRTUAL_BYTES);
        let (Some(whole), Some(alone)) = (whole, alone) else {
            return Err(ApiError::invalid("the fee rate is too high"));
        };
        let fee = whole.checked_sub(entry.ancestor_fee).unwrap_or(Amount::ZERO).max(alone);
        within(fee, request.budget)?;
        let child = services.wallet.child(coin, fee).map_err(wallet_error)?;
        self.send_bump(&child).await?;
        Ok(format!("pulled along by its child {}, which pays {} sat for both", child.compute_txid(), fee.to_sat()))
    }

    /// Whether a transaction is a child of ours that nothing else hangs on.
    fn pulls(&self, child: &Transaction, parent: &Transaction) -> bool {
        let (services, txid) = (self.services(), parent.compute_txid());
        let entry = services.node.mempool_entry(&child.compute_txid());
        child.input.len() == 1
            && child.output.len() == 1
            && child.input.iter().any(|input| input.previous_output.txid == txid)
            && services.wallet.is_all_ours(child)
            && entry.is_some_and(|entry| entry.descendants == 1)
    }

    /// Replaces the child of an earlier call.
    async fn pull_harder(&self, child: &Transaction, rate: FeeRate, request: &BumpFee) -> Result<String, ApiError> {
        let services = self.services();
        let gone = || ApiError::precondition("the child that pays for it has just left the mempool: try again");
        let entry = services.node.mempool_entry(&child.compute_txid()).ok_or_else(gone)?;
        let parents = entry.ancestor_fee.checked_sub(entry.fee).unwrap_or(Amount::ZERO);
        let whole = rate.fee_vb(entry.ancestor_virtual_bytes);
        let whole = whole.ok_or_else(|| ApiError::invalid("the fee rate is too high"))?;
        let fee = whole.checked_sub(parents).unwrap_or(Amount::ZERO);
        let rate = fee.to_sat().div_ceil(entry.virtual_bytes.max(1));
        let rate = FeeRate::from_sat_per_vb(rate).ok_or_else(|| ApiError::invalid("the fee rate is too high"))?;
        self.replace(child, rate, request).await
    }

    async fn send_bump(&self, transaction: &Transaction) -> Result<(), ApiError> {
        let services = self.services();
        broadcast(&services.node, &services.wallet, &[], transaction).await.map_err(|error| {
            ApiError::precondition(format!("the mempool does not take it: {error}; ask for a higher rate"))
        })
    }
}

/// The closing channel that claims this output, or whose claim, commitment or funding it belongs to.
fn closing_with(states: &[PeerState], outpoint: &OutPoint) -> Option<ChannelId> {
    let enforcements = states.iter().flat_map(|state| &state.enforcements);
    enforcements.into_iter().find(|one| one.concerns(outpoint)).map(|one| one.channel)
}

fn within(fee: Amount, budget: Option<Amount>) -> Result<(), ApiError> {
    match budget {
        Some(budget) if fee > budget => Err(ApiError::precondition(format!(
            "it would cost {} sat, more than the {} sat that you allow",
            fee.to_sat(),
            budget.to_sat()
        ))),
        Some(_) | None => Ok(()),
    }
}
