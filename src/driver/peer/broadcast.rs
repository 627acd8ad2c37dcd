//! Transactions of channels on their way to the mempool: funding, commitments and cooperative closes.
//!
//! ```text
//!   Broadcast ──► mempool ──taken──► whoever asked hears that it is pending
//!                    └─────refused─► whoever asked hears why; again at every block, until it is taken or another
//!                                    transaction has its place for good
//! ```
//!
//! Promises: a refusal is never silent, and never the end. The coins of a funding transaction stay with it: its channel is
//! durable, so it must be able to become what the peer expects. They are free when the channel is forgotten.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, Transaction, Txid};
use leyden_channels::{channel::FundingSpend, types::ChannelId};
use tracing::{error, info, warn};

use super::{CloseProgress, OpenProgress, Peer, log::point};
use crate::driver::chain;

/// A transaction that the mempool has refused.
pub(super) struct Unsent {
    channel: ChannelId,
    transaction: Transaction,
    what: BroadcastKind,
    reason: String,
    /// Whoever asked for it knows.
    reported: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BroadcastKind {
    Funding,
    /// A commitment, with or without a child: the channel's enforcement tries it again.
    Commitment,
    /// Closed together.
    Close,
}

/// A refusal, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedTransaction {
    pub channel: ChannelId,
    pub txid: Txid,
    /// Which transaction it is, in words.
    pub what: &'static str,
    pub reason: String,
}

impl BroadcastKind {
    fn words(self) -> &'static str {
        match self {
            Self::Funding => "the funding transaction",
            Self::Commitment => "the commitment",
            Self::Close => "the closing transaction",
        }
    }
}

impl Peer {
    /// Hands a channel's transaction to the mempool.
    pub(super) async fn hand_over(&mut self, id: ChannelId, transaction: Transaction) {
        let txid = transaction.compute_txid();
        let funding = self.slots.get(&id).and_then(|slot| slot.channel.terms()).map(|terms| terms.funding);
        let what = match funding {
            Some(funding) if funding.txid == txid => BroadcastKind::Funding,
            _ if self.is_enforced(&id) => BroadcastKind::Commitment,
            _ => BroadcastKind::Close,
        };
        let (node, wallet) = (&self.services.node, &self.services.wallet);
        match chain::broadcast(node, wallet, &[], &transaction).await {
            Ok(_) => self.taken(id, txid, funding.filter(|_| what == BroadcastKind::Funding)),
            Err(error) => {
                if what == BroadcastKind::Funding
                    && let Err(error) = wallet.transaction_seen(transaction.clone(), node.clock().now())
                {
                    error!(channel = %self.point(&id), %txid, %error, "the wallet did not take note of a funding transaction");
                }
                self.note_refusal(id, transaction, what, error.to_string());
            }
        }
    }

    /// The mempool has it.
    fn taken(&mut self, id: ChannelId, txid: Txid, funding: Option<OutPoint>) {
        if self.unsent.remove(&txid).is_some_and(|unsent| unsent.reported) {
            info!(channel = %self.point(&id), %txid, "a transaction that was refused before is in the mempool now");
        }
        if let (Some(funding), Some(slot)) = (funding, self.slots.get(&id)) {
            slot.tell_opening(OpenProgress::Pending { funding });
        }
    }

    fn note_refusal(&mut self, channel: ChannelId, transaction: Transaction, what: BroadcastKind, reason: String) {
        let txid = transaction.compute_txid();
        let reported = self.unsent.get(&txid).is_some_and(|before| before.reported && before.reason == reason);
        self.unsent.insert(txid, Unsent { channel, transaction, what, reason, reported });
    }

    /// What became of a commitment, alone or with its child.
    pub(in crate::driver) fn commitment_handed_over(
        &mut self,
        id: ChannelId,
        commitment: &Transaction,
        refusal: Option<String>,
    ) {
        match refusal {
            None => {
                // Of the two commitments only one can be in the mempool.
                self.unsent.retain(|_, unsent| unsent.channel != id || unsent.what != BroadcastKind::Commitment);
            }
            Some(reason) => self.note_refusal(id, commitment.clone(), BroadcastKind::Commitment, reason),
        }
    }

    /// At the end of a turn: with a child it may have been taken after all.
    pub(super) fn tell_refusals(&mut self) {
        for (txid, unsent) in self.unsent.iter_mut().filter(|(_, unsent)| !unsent.reported) {
            unsent.reported = true;
            let (what, reason) = (unsent.what.words(), &unsent.reason);
            warn!(channel = %point(&self.slots, &unsent.channel), %txid, %reason, "{what} was refused; it is rebroadcast at every block");
            let Some(slot) = self.slots.get(&unsent.channel) else { continue };
            let reason = format!(
                "{what} {txid} was not accepted by the mempool: {reason}. It is rebroadcast at every block; \
                 `leyden pendingchannels` shows how it goes"
            );
            match unsent.what {
                BroadcastKind::Funding => slot.tell_opening(OpenProgress::Failed { reason }),
                BroadcastKind::Commitment | BroadcastKind::Close => {
                    slot.tell_closing(&CloseProgress::Refused { reason })
                }
            }
        }
    }

    /// At a new tip.
    pub(super) async fn hand_over_again(&mut self) {
        let over: Vec<Txid> =
            self.unsent.iter().filter(|(_, unsent)| self.is_over(unsent)).map(|(txid, _)| *txid).collect();
        for txid in over {
            self.unsent.remove(&txid);
        }
        // Commitments are their enforcement's business.
        let again = self.unsent.values().filter(|unsent| unsent.what != BroadcastKind::Commitment);
        let again: Vec<_> = again.map(|unsent| (unsent.channel, unsent.transaction.clone())).collect();
        for (channel, transaction) in again {
            self.hand_over(channel, transaction).await;
        }
    }

    /// A channel is forgotten. What the mempool has refused is tried no more; the coins of a funding transaction among it
    /// are free again: nobody else has it.
    pub(super) fn forget_unsent(&mut self, id: &ChannelId) {
        let (gone, kept) = std::mem::take(&mut self.unsent).into_iter().partition(|(_, unsent)| unsent.channel == *id);
        self.unsent = kept;
        let gone: BTreeMap<Txid, Unsent> = gone;
        let now = self.services.node.clock().now();
        for (txid, _) in gone.into_iter().filter(|(_, unsent)| unsent.what == BroadcastKind::Funding) {
            if let Err(error) = self.services.wallet.transaction_dropped(txid, now) {
                error!(channel = %self.point(id), %txid, %error, "the coins of a failed funding transaction could not be released");
            }
        }
    }

    /// Whether the channel is gone, or closed by another transaction in a block.
    fn is_over(&self, unsent: &Unsent) -> bool {
        let Some(slot) = self.slots.get(&unsent.channel) else { return true };
        let spend = slot.channel.summary().and_then(|summary| summary.spend);
        let closed = matches!(spend, Some(FundingSpend { height: Some(_), .. }));
        closed || slot.channel.resolution().is_some_and(|one| one.close().is_some())
    }

    pub(super) fn refused_transactions(&self) -> Vec<RefusedTransaction> {
        let describe = |(txid, unsent): (&Txid, &Unsent)| RefusedTransaction {
            channel: unsent.channel,
            txid: *txid,
            what: unsent.what.words(),
            reason: unsent.reason.clone(),
        };
        self.unsent.iter().map(describe).collect()
    }
}
