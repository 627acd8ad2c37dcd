//! The two accounts of the wallet as one: what is paid to either is the wallet's.
//!
//! ```text
//!   m/84'/coin'/0'  P2WPKH (BIP 84) ── bdk's wallet: its scripts, and chain and transactions of both
//!   m/86'/coin'/0'  P2TR (BIP 86) ──── its scripts
//! ```
//!
//! `bdk_wallet` knows one account. Its graph takes any transaction, and its change sets any account's count of addresses, so
//! the second account is an index of scripts beside it; what concerns that one alone is handed to the graph here.

use std::{collections::BTreeMap, sync::Arc};

use bdk_wallet::{
    KeychainKind, Update, Wallet,
    chain::{
        BlockId, CheckPoint, ConfirmationBlockTime, Indexer as _, Merge as _, TxGraph, TxUpdate,
        indexer::keychain_txout::{ChangeSet as IndexChanges, KeychainTxOutIndex},
        local_chain::{CannotConnectError, LocalChain},
        tx_graph::CalculateFeeError,
    },
    template::{Bip86, DescriptorTemplate as _},
};
use bitcoin::{Address, Amount, Block, OutPoint, Script, ScriptBuf, Transaction, TxOut, Txid, bip32::Xpriv};

use super::onchain::WalletError;

/// What an address of the wallet looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AddressKind {
    /// P2WPKH.
    SegwitV0,
    /// P2TR.
    Taproot,
}

impl AddressKind {
    pub(crate) const ALL: [Self; 2] = [Self::SegwitV0, Self::Taproot];

    /// The first number of the account's path.
    pub(crate) fn purpose(self) -> u32 {
        match self {
            Self::SegwitV0 => 84,
            Self::Taproot => 86,
        }
    }
}

/// Where a script of the wallet comes from: `m/purpose'/coin'/0'/branch/index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Derivation {
    pub kind: AddressKind,
    pub branch: KeychainKind,
    pub index: u32,
}

impl Derivation {
    /// BIP 44: 0 for addresses that are given out, 1 for change.
    pub(crate) fn branch_number(&self) -> u32 {
        match self.branch {
            KeychainKind::External => 0,
            KeychainKind::Internal => 1,
        }
    }
}

/// Both accounts.
pub(super) struct Accounts {
    /// The BIP 84 account; its graph and its chain are those of both.
    segwit: Wallet,
    taproot: KeychainTxOutIndex<KeychainKind>,
    /// Counts of the BIP 86 account that are not saved yet.
    staged: IndexChanges,
}

impl Accounts {
    /// With what was saved of both accounts.
    pub(super) fn of(segwit: Wallet, root: Xpriv, look_ahead: u32, saved: &IndexChanges) -> Result<Self, WalletError> {
        let damaged = |error: &dyn std::fmt::Display| WalletError::Damaged(error.to_string());
        // Scripts are kept once they are derived: to derive a thousand at each start takes a tenth of a second.
        let mut taproot = KeychainTxOutIndex::from_changeset(look_ahead, true, saved.clone());
        for branch in [KeychainKind::External, KeychainKind::Internal] {
            let (descriptor, ..) = Bip86(root, branch).build(root.network).map_err(|error| damaged(&error))?;
            taproot.insert_descriptor(branch, descriptor).map_err(|error| damaged(&error))?;
        }
        // What was derived now.
        let mut staged = taproot.reveal_to_target_multi(&BTreeMap::new());
        staged.spk_cache.retain(|_, scripts| !scripts.is_empty());
        for node in segwit.tx_graph().full_txs() {
            staged.merge(taproot.index_tx(&node.tx));
        }
        Ok(Self { segwit, taproot, staged })
    }

    /// The scripts of one account.
    pub(super) fn index(&self, kind: AddressKind) -> &KeychainTxOutIndex<KeychainKind> {
        match kind {
            AddressKind::SegwitV0 => self.segwit.spk_index(),
            AddressKind::Taproot => &self.taproot,
        }
    }

    pub(super) fn tx_graph(&self) -> &TxGraph<ConfirmationBlockTime> {
        self.segwit.tx_graph()
    }

    pub(super) fn local_chain(&self) -> &LocalChain {
        self.segwit.local_chain()
    }

    pub(super) fn latest_checkpoint(&self) -> CheckPoint {
        self.segwit.latest_checkpoint()
    }

    pub(super) fn calculate_fee(&self, transaction: &Transaction) -> Result<Amount, CalculateFeeError> {
        self.segwit.calculate_fee(transaction)
    }

    pub(super) fn derivation_of_spk(&self, script: &Script) -> Option<Derivation> {
        AddressKind::ALL.into_iter().find_map(|kind| {
            let (branch, index) = *self.index(kind).index_of_spk(script.to_owned())?;
            Some(Derivation { kind, branch, index })
        })
    }

    pub(super) fn is_mine(&self, script: &Script) -> bool {
        self.derivation_of_spk(script).is_some()
    }

    /// An output that is, or was, the wallet's.
    pub(super) fn txout(&self, outpoint: OutPoint) -> Option<(Derivation, &TxOut)> {
        AddressKind::ALL.into_iter().find_map(|kind| {
            let ((branch, index), output) = self.index(kind).txout(outpoint)?;
            Some((Derivation { kind, branch, index }, output))
        })
    }

    /// The outputs of a transaction of the wallet that are, or were, the wallet's.
    pub(super) fn outputs_of(&self, txid: Txid) -> impl Iterator<Item = (OutPoint, &TxOut)> {
        let outputs = move |kind| self.index(kind).txouts_in_tx(txid).map(|(_, output)| output);
        AddressKind::ALL.into_iter().flat_map(outputs)
    }

    /// Whether a transaction pays the wallet, or spends from it.
    pub(super) fn is_tx_relevant(&self, transaction: &Transaction) -> bool {
        AddressKind::ALL.into_iter().any(|kind| self.index(kind).is_tx_relevant(transaction))
    }

    pub(super) fn sent_and_received(&self, transaction: &Transaction) -> (Amount, Amount) {
        let [segwit, taproot] = AddressKind::ALL.map(|kind| self.index(kind).sent_and_received(transaction, ..));
        (segwit.0 + taproot.0, segwit.1 + taproot.1)
    }

    /// The script at a place, given out or not.
    pub(super) fn script_at(&self, place: Derivation) -> Option<ScriptBuf> {
        let Derivation { kind, branch, index } = place;
        match kind {
            AddressKind::SegwitV0 => Some(self.segwit.peek_address(branch, index).script_pubkey()),
            AddressKind::Taproot => {
                let descriptor = self.taproot.get_descriptor(branch)?;
                Some(descriptor.at_derivation_index(index).ok()?.script_pubkey())
            }
        }
    }

    pub(super) fn address(&self, script: &Script) -> Result<Address, WalletError> {
        Address::from_script(script, self.segwit.network()).map_err(|error| WalletError::Damaged(error.to_string()))
    }

    /// The script after the last one that was given out.
    pub(super) fn reveal_next(&mut self, kind: AddressKind, branch: KeychainKind) -> Result<ScriptBuf, WalletError> {
        match kind {
            AddressKind::SegwitV0 => Ok(self.segwit.reveal_next_address(branch).script_pubkey()),
            AddressKind::Taproot => self.taken(|taproot| taproot.reveal_next_spk(branch)),
        }
    }

    /// The first script that was given out and not paid, or else the next one.
    pub(super) fn next_unused(&mut self, kind: AddressKind, branch: KeychainKind) -> Result<ScriptBuf, WalletError> {
        match kind {
            AddressKind::SegwitV0 => Ok(self.segwit.next_unused_address(branch).script_pubkey()),
            AddressKind::Taproot => self.taken(|taproot| taproot.next_unused_spk(branch)),
        }
    }

    fn taken(
        &mut self,
        take: impl FnOnce(&mut KeychainTxOutIndex<KeychainKind>) -> Option<((u32, ScriptBuf), IndexChanges)>,
    ) -> Result<ScriptBuf, WalletError> {
        let lacking = || WalletError::Damaged("it lacks its taproot account".to_owned());
        let ((_, script), changes) = take(&mut self.taproot).ok_or_else(lacking)?;
        self.staged.merge(changes);
        Ok(script)
    }

    /// Has all scripts up to this one watched as given out, and this one as taken.
    pub(super) fn take(&mut self, place: Derivation) {
        let Derivation { kind, branch, index } = place;
        match kind {
            AddressKind::SegwitV0 => {
                self.segwit.reveal_addresses_to(branch, index).for_each(drop);
                self.segwit.mark_used(branch, index);
            }
            AddressKind::Taproot => {
                if let Some((_, changes)) = self.taproot.reveal_to_target(branch, index) {
                    self.staged.merge(changes);
                }
                self.taproot.mark_used(branch, index);
            }
        }
    }

    /// The script may be taken again, if nobody has paid it.
    pub(super) fn give_back(&mut self, place: Derivation) {
        let Derivation { kind, branch, index } = place;
        match kind {
            AddressKind::SegwitV0 => self.segwit.unmark_used(branch, index),
            AddressKind::Taproot => self.taproot.unmark_used(branch, index),
        };
    }

    pub(super) fn apply_block(&mut self, block: &Block, height: u32) -> Result<(), CannotConnectError> {
        self.segwit.apply_block(block, height)?;
        let block_id = BlockId { height, hash: block.block_hash() };
        let anchor = ConfirmationBlockTime { block_id, confirmation_time: u64::from(block.header.time) };
        let mut tx_update = TxUpdate::default();
        for transaction in &block.txdata {
            self.staged.merge(self.taproot.index_tx(transaction));
            if self.taproot.is_tx_relevant(transaction) {
                tx_update.anchors.insert((anchor, transaction.compute_txid()));
                tx_update.txs.push(Arc::new(transaction.clone()));
            }
        }
        self.add(tx_update)
    }

    /// A transaction in no block, if it concerns the wallet.
    pub(super) fn apply_unconfirmed(
        &mut self,
        transaction: &Transaction,
        seen_at: u64,
    ) -> Result<(), CannotConnectError> {
        self.segwit.apply_unconfirmed_txs([(transaction.clone(), seen_at)]);
        let mut tx_update = TxUpdate::default();
        self.staged.merge(self.taproot.index_tx(transaction));
        if self.taproot.is_tx_relevant(transaction) {
            tx_update.seen_ats.insert((transaction.compute_txid(), seen_at));
            tx_update.txs.push(Arc::new(transaction.clone()));
        }
        self.add(tx_update)
    }

    fn add(&mut self, tx_update: TxUpdate<ConfirmationBlockTime>) -> Result<(), CannotConnectError> {
        if tx_update.is_empty() { Ok(()) } else { self.apply_update(Update { tx_update, ..Update::default() }) }
    }

    pub(super) fn apply_update(&mut self, update: Update) -> Result<(), CannotConnectError> {
        self.segwit.apply_update(update)
    }

    /// What has to be saved.
    pub(super) fn staged(&self) -> Option<bdk_wallet::ChangeSet> {
        let mut changes = self.segwit.staged().cloned().unwrap_or_default();
        changes.indexer.merge(self.staged.clone());
        (!changes.is_empty()).then_some(changes)
    }

    /// It is saved.
    pub(super) fn forget_staged(&mut self) {
        self.segwit.take_staged();
        self.staged = IndexChanges::default();
    }
}

#[cfg(test)]
mod tests;
