//! Making what is unconfirmed pay more.
//!
//! ```text
//!   an output that a closed channel claims, or its commitment ──► the enforcement raises the claim or the anchor's child
//!   a payment of this wallet that this database knows for one ──► replaced
//!   a channel's funding transaction, what may be one, or
//!   somebody else's ────────────────────────────────────────────► a child of one of our outputs pays for both
//! ```
//!
//! A funding transaction is never replaced: its channel would be left without one. A node that was restored from its words
//! does not know which of its transactions fund channels, so it replaces only what it has made since.

use async_trait::async_trait;
use bitcoin::{OutPoint, Transaction};
use leyden_channels::types::ChannelId;
use tokio::sync::oneshot;

use super::{
    LightningNode,
    wallet::{fee_rate, wallet_error},
};
use crate::{
    api::{ApiError, BumpFee, Bumping},
    driver::{
        fee_bump::{Child, FeeBump, FeeBumpError},
        peer::Command,
        services::per_kw,
    },
};

#[async_trait]
impl Bumping for LightningNode {
    async fn bump_fee(&self, request: BumpFee) -> Result<String, ApiError> {
        let services = self.services();
        let rate = fee_rate(services, request.fee);
        if let Some(channel) = self.claimant(request.outpoint).await {
            if request.budget.is_some() {
                let text =
                    "budget: a claim of a closed channel pays what it needs in time, and never more than it brings";
                return Err(ApiError::invalid(text));
            }
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
        let outputs = (0..parent.output.len()).filter_map(|index| u32::try_from(index).ok());
        let mut fundings = outputs.map(|vout| ChannelId::from_funding(OutPoint { txid, vout }));
        let funds_channel = fundings.any(|channel| services.peers.knows_channel(&channel));
        let entry = services.node.mempool_entry(&txid);
        // One that the mempool has refused or thrown out has no descendants there either.
        let alone = entry.as_ref().is_none_or(|entry| entry.descendants == 1);
        let replaceable = services.wallet.is_all_ours(&parent) && self.is_no_funding(&parent)?;
        if replaceable && !funds_channel && alone {
            let FeeBump { txid, fee } =
                services.replace(&parent, rate, request.budget, request.reserve).await.map_err(fee_bump_error)?;
            Ok(format!("replaced by {txid}, which pays {} sat", fee.to_sat()))
        } else {
            let BumpFee { budget, reserve, outpoint, .. } = request;
            let child = Child { rate, budget, spends: Some(outpoint), reserve };
            let FeeBump { txid, fee } = services.pull_along(&parent, child).await.map_err(fee_bump_error)?;
            Ok(format!("pulled along by its child {txid}, which pays {} sat for both", fee.to_sat()))
        }
    }
}

impl LightningNode {
    /// The closing channel that claims this output, or whose claim, commitment or funding it belongs to.
    async fn claimant(&self, outpoint: OutPoint) -> Option<ChannelId> {
        // Strangers, who show their state, have no channel that claims anything.
        let (_, with_channels) = self.services().peers.described();
        let asked = with_channels.into_iter().filter_map(|mailbox| {
            let (answer, claimant) = oneshot::channel();
            mailbox.send(Command::Claimant { outpoint, answer }).is_ok().then_some(claimant)
        });
        for claimant in asked.collect::<Vec<_>>() {
            if let Some(channel) = claimant.await.ok().flatten() {
                return Some(channel);
            }
        }
        None
    }

    /// Whether no channel can stand on this transaction: this database has made it for a plain payment, or all of it comes
    /// back to the wallet. Of what a wallet was restored with nobody knows that.
    fn is_no_funding(&self, transaction: &Transaction) -> Result<bool, ApiError> {
        let services = self.services();
        let comes_back = transaction.output.iter().all(|output| services.wallet.is_mine(&output.script_pubkey));
        Ok(comes_back || services.store.is_plain(&transaction.compute_txid())?)
    }
}

fn fee_bump_error(error: FeeBumpError) -> ApiError {
    match error {
        FeeBumpError::Wallet(error) => wallet_error(error),
        FeeBumpError::Store(error) => error.into(),
        FeeBumpError::RateTooHigh => ApiError::invalid(error.to_string()),
        FeeBumpError::NotWaiting(_)
        | FeeBumpError::NoOutput(_)
        | FeeBumpError::ChildGone
        | FeeBumpError::PaysEnough
        | FeeBumpError::BeyondBudget { .. }
        | FeeBumpError::Refused(_) => ApiError::precondition(error.to_string()),
    }
}
