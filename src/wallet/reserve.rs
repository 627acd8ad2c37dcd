//! Coins that no payment takes: second stages and the children of commitments of anchor channels carry no fee of their
//! own, so whoever has spent his last coin cannot claim on the chain what is his.
//!
//! ```text
//!   each channel with anchors ──► 10,000 sat, 100,000 at most ──► what a payment must leave, unless its sender insists
//!                                                                 what claims of closed channels may spend
//! ```
//!
//! LND keeps the same amounts. 10,000 sat pay for one HTLC's second stage (about 250 virtual bytes with its coin) at 40
//! sat/vB, and a claim's change pays for the next one, so the reserve is a floor, not a promise: what claims really need
//! is told when they lack it.

use std::collections::HashSet;

use bitcoin::{Amount, OutPoint, Transaction};
use leyden_channels::types::ChannelId;

use super::onchain::{OnchainWallet, State, WalletError};

/// Kept back for each channel with anchors.
pub(crate) const PER_CHANNEL: Amount = Amount::from_sat(10_000);
/// Kept back at most: not all channels close at once, and those that do can share coins.
pub(crate) const AT_MOST: Amount = Amount::from_sat(100_000);

/// Whether a payment may take what is kept back for claims.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Reserve {
    #[default]
    Keep,
    /// Whoever pays has been told what it means, and insists.
    Spend,
}

/// The channels with anchors that may still have to be closed on the chain, or are about to be opened.
pub(super) type Reserved = HashSet<ChannelId>;

impl OnchainWallet {
    /// A channel with anchors is opened, or there.
    pub(crate) fn keep_reserve_for(&self, channel: ChannelId) {
        self.lock().reserved_for.insert(channel);
    }

    /// A channel needs no coins any more.
    pub(crate) fn keep_no_reserve_for(&self, channel: &ChannelId) {
        self.lock().reserved_for.remove(channel);
    }

    /// What payments have to leave.
    pub(crate) fn reserve(&self) -> Amount {
        self.lock().reserve(0)
    }

    /// What payments would have to leave with so many channels more.
    pub(crate) fn reserve_with(&self, more: usize) -> Amount {
        self.lock().reserve(more)
    }

    /// What is missing of the reserve.
    pub(crate) fn reserve_missing(&self) -> Option<Amount> {
        let state = self.lock();
        state.reserve(0).checked_sub(state.left_after(None)).filter(|missing| *missing > Amount::ZERO)
    }
}

impl State {
    /// What payments have to leave with so many more channels.
    pub(super) fn reserve(&self, more: usize) -> Amount {
        let channels = u64::try_from(self.reserved_for.len().saturating_add(more)).unwrap_or(u64::MAX);
        PER_CHANNEL.checked_mul(channels).unwrap_or(AT_MOST).min(AT_MOST)
    }

    /// Refuses a transaction that takes from the reserve.
    pub(super) fn check_reserve(&self, transaction: &Transaction, reserve: Reserve) -> Result<(), WalletError> {
        let (kept, left) = (self.reserve(0), self.left_after(Some(transaction)));
        match reserve {
            Reserve::Keep if left < kept => Err(WalletError::Reserve { kept, left, channels: self.reserved_for.len() }),
            Reserve::Keep | Reserve::Spend => Ok(()),
        }
    }

    /// What claims could spend if this transaction were made: coins that are confirmed or change of our own, those set
    /// aside for claims among them, and none that is leased: somebody is about to spend it.
    pub(super) fn left_after(&self, transaction: Option<&Transaction>) -> Amount {
        let inputs = transaction.map(|tx| tx.input.as_slice()).unwrap_or_default();
        let spent: HashSet<OutPoint> = inputs.iter().map(|input| input.previous_output).collect();
        let promised: HashSet<OutPoint> =
            self.reserved.values().flatten().chain(self.leases.coins()).copied().collect();
        // What paid an unconfirmed coin cannot be any more once a rival of it is.
        let is_replaced = |outpoint: &OutPoint| {
            let old = self.wallet.tx_graph().get_tx(outpoint.txid);
            old.is_some_and(|old| old.input.iter().any(|input| spent.contains(&input.previous_output)))
        };
        let left = self.ledger.coins().filter(|(outpoint, coin)| {
            let stays = coin.height.is_some() || !is_replaced(outpoint);
            self.is_free_for_claims(coin) && stays && !spent.contains(*outpoint) && !promised.contains(*outpoint)
        });
        let outputs = transaction.map(|tx| tx.output.as_slice()).unwrap_or_default();
        let change = outputs.iter().filter(|output| self.wallet.is_mine(&output.script_pubkey));
        left.map(|(_, coin)| coin.output.value).chain(change.map(|output| output.value)).sum()
    }
}
