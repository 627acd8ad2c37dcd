//! Looking at the whole chain once more, and how far a look has reached.
//!
//! Everything that is known stays: transactions, labels, addresses that were given out. Only the wallet's view of the chain
//! goes back to the first block, durably, so a crash on the way does no harm. Until it has caught up, coins are missing
//! that have been found before.

use std::collections::BTreeSet;

use bdk_wallet::{KeychainKind, LoadParams, template::Bip84};

use super::{
    accounts::{Accounts, AddressKind},
    ledger::Ledger,
    onchain::{OnchainWallet, WalletError, encode, merged},
    scripts::{self, CHANNEL_SCRIPTS},
};

/// How far the addresses reach that are known to be the wallet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Addresses up to the last one that was paid or given out, of either kind.
    pub known: u32,
    /// The most addresses in a row that nobody has paid, before one that somebody has.
    pub widest_gap: u32,
    /// Addresses that were given out after the last one that was paid: of the kind that has more of them.
    pub unpaid: u32,
}

impl OnchainWallet {
    /// Begins again at the first block, and looks for so many unpaid addresses in a row. The blocks have to be connected
    /// anew.
    pub(crate) fn rescan(&self, look_ahead: u32) -> Result<(), WalletError> {
        let mut state = self.lock();
        self.save(&mut state)?;
        let mut whole = merged(&self.log().load()?)?;
        whole.local_chain.blocks.retain(|height, _| *height == 0);
        let wallet = LoadParams::new()
            .descriptor(KeychainKind::External, Some(Bip84(state.root, KeychainKind::External)))
            .descriptor(KeychainKind::Internal, Some(Bip84(state.root, KeychainKind::Internal)))
            .lookahead(look_ahead)
            .load_wallet_no_persist(whole.clone())
            .map_err(|error| WalletError::Mismatch(error.to_string()))?
            .ok_or_else(|| WalletError::Damaged("it is empty".into()))?;
        self.log().replace(&encode(&whole)?)?;
        let mut wallet = wallet;
        scripts::set_apart(&mut wallet);
        state.wallet = Accounts::of(wallet, state.root, look_ahead, &whole.indexer)?;
        state.ledger = Ledger::of(&state.wallet);
        self.tell_tip(&state);
        self.save(&mut state)
    }

    pub(crate) fn reach(&self) -> Reach {
        let state = self.lock();
        let of = |kind| {
            let index = state.wallet.index(kind);
            let paid = |branch| -> BTreeSet<u32> { index.keychain_outpoints(branch).map(|(index, _)| index).collect() };
            let gap = |branch, first: u32| {
                let mut next = first;
                let mut widest = 0;
                for paid in paid(branch).range(first..) {
                    widest = widest.max(paid - next);
                    next = paid + 1;
                }
                widest
            };
            let first_change = match kind {
                AddressKind::SegwitV0 => CHANNEL_SCRIPTS,
                AddressKind::Taproot => 0,
            };
            let widest_gap = gap(KeychainKind::External, 0).max(gap(KeychainKind::Internal, first_change));
            let known = index.last_revealed_index(KeychainKind::External).map_or(0, |last| last + 1);
            let after_paid = paid(KeychainKind::External).last().map_or(0, |last| last + 1);
            Reach { known, widest_gap, unpaid: known.saturating_sub(after_paid) }
        };
        let [segwit, taproot] = AddressKind::ALL.map(of);
        Reach {
            known: segwit.known.saturating_add(taproot.known),
            widest_gap: segwit.widest_gap.max(taproot.widest_gap),
            unpaid: segwit.unpaid.max(taproot.unpaid),
        }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::Amount;

    use super::*;
    use crate::wallet::onchain::tests::{MemoryLog, next_block, open_with, payment};

    #[test]
    fn a_rescan_with_a_larger_window_finds_what_lay_beyond_and_keeps_what_is_pending() {
        let owner = open_with(&MemoryLog::default(), 10);
        let scripts: Vec<_> = (0..60).map(|_| owner.new_script().unwrap()).collect();
        let near = payment(scripts[3].clone(), 40_000, 0);
        let far = payment(scripts[59].clone(), 60_000, 1);
        let pending = payment(scripts[1].clone(), 5_000, 2);
        let first = next_block(owner.tip().1, 1, vec![near, far]);
        let second = next_block(first.block_hash(), 2, vec![]);

        let log = MemoryLog::default();
        let wallet = open_with(&log, 10);
        wallet.block_connected(&first, 1).unwrap();
        wallet.block_connected(&second, 2).unwrap();
        wallet.transaction_seen(pending, 7).unwrap();
        assert_eq!(wallet.balance().confirmed, Amount::from_sat(40_000));
        assert_eq!(owner.reach(), Reach { known: 60, widest_gap: 0, unpaid: 60 });
        assert_eq!(wallet.reach(), Reach { known: 4, widest_gap: 1, unpaid: 0 });
        wallet.rescan(100).unwrap();
        assert_eq!(wallet.tip().0, 0);
        // As after a crash on the way.
        drop(wallet);
        let wallet = open_with(&log, 100);
        assert_eq!(wallet.tip().0, 0);
        wallet.block_connected(&first, 1).unwrap();
        wallet.block_connected(&second, 2).unwrap();
        let balance = wallet.balance();
        assert_eq!((balance.confirmed, balance.unconfirmed), (Amount::from_sat(100_000), Amount::from_sat(5_000)));
        assert_eq!(wallet.reach(), Reach { known: 60, widest_gap: 55, unpaid: 0 });
    }
}
