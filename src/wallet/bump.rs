//! Unconfirmed transactions of the wallet that shall pay more: replaced by a dearer version, or pulled along by a child.

use std::collections::HashSet;

use bdk_wallet::{KeychainKind, error::BuildFeeBumpError};
use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid};

use super::{
    onchain::{OnchainWallet, WalletError, create_error, sign},
    reserve::Reserve,
};

/// A transaction of one P2WPKH input and one such output, in virtual bytes.
pub const CHILD_VIRTUAL_BYTES: u64 = 110;

impl OnchainWallet {
    /// An unconfirmed transaction that concerns the wallet.
    pub fn unconfirmed(&self, txid: &Txid) -> Option<Transaction> {
        self.pending().into_iter().find(|transaction| transaction.compute_txid() == *txid)
    }

    /// Whether a transaction spends coins of the wallet.
    pub fn has_paid(&self, txid: &Txid) -> bool {
        let state = self.lock();
        let spends_ours = |input: &bitcoin::TxIn| state.wallet.spk_index().txout(input.previous_output).is_some();
        state.wallet.get_tx(*txid).is_some_and(|tx| tx.tx_node.tx.input.iter().any(spends_ours))
    }

    /// Whether every input is the wallet's own.
    pub fn is_all_ours(&self, transaction: &Transaction) -> bool {
        let state = self.lock();
        transaction.input.iter().all(|input| state.wallet.spk_index().txout(input.previous_output).is_some())
    }

    /// The first output of the wallet's that nobody has spent.
    pub fn unspent_output(&self, transaction: &Transaction) -> Option<OutPoint> {
        let txid = transaction.compute_txid();
        let unspent: HashSet<OutPoint> = self.unspent().iter().map(|coin| coin.outpoint).collect();
        (0..).map(|vout| OutPoint { txid, vout }).take(transaction.output.len()).find(|one| unspent.contains(one))
    }

    /// A version of an unconfirmed transaction of ours that pays this rate.
    pub fn replacement(&self, txid: Txid, rate: FeeRate, reserve: Reserve) -> Result<Transaction, WalletError> {
        let mut state = self.lock();
        let reserved: Vec<OutPoint> = state.reserved_coins().into_iter().collect();
        let old = state.wallet.get_tx(txid).map(|entry| entry.tx_node.tx.output.clone()).unwrap_or_default();
        let only_output = match old.as_slice() {
            [one] if state.wallet.is_mine(one.script_pubkey.clone()) => Some(one.script_pubkey.clone()),
            _ => None,
        };
        let mut builder = state.wallet.build_fee_bump(txid).map_err(|error| WalletError::Bump(why(&error)))?;
        builder.fee_rate(rate).unspendable(reserved);
        // What goes back to us as a whole pays for itself.
        if let Some(script) = only_output {
            builder.set_recipients(Vec::new()).manually_selected_only().drain_to(script);
        }
        let psbt = builder.finish().map_err(create_error)?;
        // The old one's inputs are the new one's, and its change is gone.
        state.check_reserve(&psbt.unsigned_tx, reserve)?;
        let transaction = sign(&state, psbt)?;
        self.save(&mut state)?;
        Ok(transaction)
    }

    /// A transaction that spends one coin of the wallet back to it, for this fee.
    pub fn child(&self, coin: OutPoint, fee: Amount, reserve: Reserve) -> Result<Transaction, WalletError> {
        let mut state = self.lock();
        if state.reserved_coins().contains(&coin) {
            return Err(WalletError::UnknownCoin { outpoint: coin });
        }
        // The mempool may refuse it, at each block anew: then the next one takes the same address.
        let script = state.wallet.next_unused_address(KeychainKind::Internal).address.script_pubkey();
        let mut builder = state.wallet.build_tx();
        builder.add_utxo(coin).map_err(|_| WalletError::UnknownCoin { outpoint: coin })?;
        builder.manually_selected_only().fee_absolute(fee).drain_to(script);
        let psbt = builder.finish().map_err(create_error)?;
        state.check_reserve(&psbt.unsigned_tx, reserve)?;
        let transaction = sign(&state, psbt)?;
        self.save(&mut state)?;
        Ok(transaction)
    }
}

fn why(error: &BuildFeeBumpError) -> String {
    match error {
        BuildFeeBumpError::TransactionConfirmed(_) => "it is confirmed".to_owned(),
        BuildFeeBumpError::IrreplaceableTransaction(_) => "it does not allow a replacement".to_owned(),
        other => other.to_string(),
    }
}
