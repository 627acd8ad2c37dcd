//! Unconfirmed transactions that pay too little: pulled along by a child, or replaced.
//!
//! ```text
//!   parent with an output of ours ── no child yet ──► a child pays for both
//!                                 └─ our child ─────► replaced by one that pays more
//!   a transaction of the wallet alone ──────────────► replaced
//! ```

use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid};
use tracing::warn;

use super::{chain::broadcast, services::Services};
use crate::{
    store::StoreError,
    wallet::{bump::CHILD_VIRTUAL_BYTES, onchain::WalletError, reserve::Reserve},
};

/// Why a transaction cannot be made to pay more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeeBumpError {
    #[error(transparent)]
    Wallet(#[from] WalletError),
    #[error("the wallet's record cannot be kept: {0}")]
    Store(#[from] StoreError),
    #[error("{0} is not in the mempool now, and what it pays is not known: it is rebroadcast at the next block")]
    NotWaiting(Txid),
    #[error("{0} has no unspent output of this wallet that could pay for it")]
    NoOutput(Txid),
    #[error("the child that pays for it has just left the mempool: try again")]
    ChildGone,
    #[error("the fee rate is too high")]
    RateTooHigh,
    #[error("it would cost {} sat, more than the {} sat that you allow", cost.to_sat(), budget.to_sat())]
    BeyondBudget { cost: Amount, budget: Amount },
    #[error("it pays that much already, together with what hangs on it")]
    PaysEnough,
    #[error("the mempool does not take it: {0}; ask for a higher rate")]
    Refused(#[from] leyden_node::MempoolError),
}

/// What makes a transaction pay more now.
#[derive(Debug)]
pub(crate) struct FeeBump {
    pub txid: Txid,
    pub fee: Amount,
}

/// How a child is to pay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Child {
    pub rate: FeeRate,
    /// What it may cost at most.
    pub budget: Option<Amount>,
    /// The output that it spends, if it is one of ours.
    pub spends: Option<OutPoint>,
    pub reserve: Reserve,
}

impl Services {
    /// Replaces an unconfirmed transaction of the wallet's.
    pub(crate) async fn replace(
        &self,
        old: &Transaction,
        rate: FeeRate,
        budget: Option<Amount>,
        reserve: Reserve,
    ) -> Result<FeeBump, FeeBumpError> {
        let txid = old.compute_txid();
        let new = self.wallet.replacement(txid, rate, reserve)?;
        let fee = self.wallet.fee_of(&new).unwrap_or(Amount::ZERO);
        within(fee, budget)?;
        let bump = FeeBump { txid: new.compute_txid(), fee };
        // Before anybody has it: what replaces a plain payment is one, and may be replaced again after a crash.
        if self.store.is_plain(&txid)? {
            self.store.put_plain(&bump.txid)?;
        }
        broadcast(&self.node, &self.wallet, &[], &new).await?;
        if let Ok(Some(label)) = self.store.label(&txid)
            && let Err(error) = self.store.put_label(&bump.txid, &label)
        {
            warn!(txid = %bump.txid, %error, "a label could not be stored");
        }
        Ok(bump)
    }

    /// Pays for an unconfirmed transaction together with a child of one of our outputs.
    pub(crate) async fn pull_along(&self, parent: &Transaction, child: Child) -> Result<FeeBump, FeeBumpError> {
        let Child { rate, budget, spends, reserve } = child;
        let txid = parent.compute_txid();
        // What is not in the mempool may get in together with a child that pays for it.
        let entry = self.node.mempool_entry(&txid);
        let (bytes, paid) = match &entry {
            Some(entry) => (entry.ancestor_virtual_bytes, entry.ancestor_fee),
            None => {
                let bytes = u64::try_from(parent.vsize()).map_err(|_| FeeBumpError::NotWaiting(txid))?;
                (bytes, self.wallet.fee_of(parent).ok_or(FeeBumpError::NotWaiting(txid))?)
            }
        };
        if let Some(child) = self.wallet.pending().into_iter().find(|child| self.pulls(child, parent)) {
            return self.pull_harder(&child, rate, budget, reserve).await;
        }
        let named = spends.filter(|outpoint| self.wallet.has_coin(outpoint));
        let coin = named.or_else(|| self.wallet.unspent_output(parent)).ok_or(FeeBumpError::NoOutput(txid))?;
        let whole = rate.fee_vb(bytes.saturating_add(CHILD_VIRTUAL_BYTES));
        let (Some(whole), Some(alone)) = (whole, rate.fee_vb(CHILD_VIRTUAL_BYTES)) else {
            return Err(FeeBumpError::RateTooHigh);
        };
        let fee = whole.checked_sub(paid).unwrap_or(Amount::ZERO).max(alone);
        within(fee, budget)?;
        let child = self.wallet.child(coin, fee, reserve)?;
        let waits_outside = if entry.is_none() { std::slice::from_ref(parent) } else { &[] };
        broadcast(&self.node, &self.wallet, waits_outside, &child).await?;
        Ok(FeeBump { txid: child.compute_txid(), fee })
    }

    /// Whether a transaction is a child of ours that nothing else hangs on.
    fn pulls(&self, child: &Transaction, parent: &Transaction) -> bool {
        let txid = parent.compute_txid();
        let entry = self.node.mempool_entry(&child.compute_txid());
        child.input.len() == 1
            && child.output.len() == 1
            && child.input.iter().any(|input| input.previous_output.txid == txid)
            && self.wallet.is_all_ours(child)
            && entry.is_some_and(|entry| entry.descendants == 1)
    }

    /// Replaces the child of an earlier call.
    async fn pull_harder(
        &self,
        child: &Transaction,
        rate: FeeRate,
        budget: Option<Amount>,
        reserve: Reserve,
    ) -> Result<FeeBump, FeeBumpError> {
        let entry = self.node.mempool_entry(&child.compute_txid()).ok_or(FeeBumpError::ChildGone)?;
        let whole = rate.fee_vb(entry.ancestor_virtual_bytes).ok_or(FeeBumpError::RateTooHigh)?;
        if whole <= entry.ancestor_fee {
            return Err(FeeBumpError::PaysEnough);
        }
        let parents = entry.ancestor_fee.checked_sub(entry.fee).unwrap_or(Amount::ZERO);
        let fee = whole.checked_sub(parents).unwrap_or(Amount::ZERO);
        let rate = fee.to_sat().div_ceil(entry.virtual_bytes.max(1));
        let rate = FeeRate::from_sat_per_vb(rate).ok_or(FeeBumpError::RateTooHigh)?;
        self.replace(child, rate, budget, reserve).await
    }
}

fn within(fee: Amount, budget: Option<Amount>) -> Result<(), FeeBumpError> {
    match budget {
        Some(budget) if fee > budget => Err(FeeBumpError::BeyondBudget { cost: fee, budget }),
        Some(_) | None => Ok(()),
    }
}
