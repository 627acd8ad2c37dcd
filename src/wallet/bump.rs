//! Unconfirmed transactions of the wallet that shall pay more: replaced by a dearer version, or pulled along by a child.

use bdk_wallet::KeychainKind;
use bitcoin::{Amount, FeeRate, OutPoint, Transaction, Txid};

use super::{
    accounts::AddressKind,
    compose::{Draft, Fee},
    ledger::Place,
    onchain::{OnchainWallet, State, WalletError},
    reserve::Reserve,
};

/// A transaction of one P2WPKH input and one such output, in virtual bytes; with a P2TR input it is a little smaller.
pub(crate) const CHILD_VIRTUAL_BYTES: u64 = 110;

impl OnchainWallet {
    /// An unconfirmed transaction that concerns the wallet.
    pub(crate) fn unconfirmed(&self, txid: &Txid) -> Option<Transaction> {
        self.lock().waiting(txid).ok()
    }

    /// Whether a transaction spends coins of the wallet.
    pub(crate) fn has_paid(&self, txid: &Txid) -> bool {
        let state = self.lock();
        let spends_ours = |input: &bitcoin::TxIn| state.wallet.txout(input.previous_output).is_some();
        let known = state.ledger.place(txid).and_then(|_| state.wallet.tx_graph().get_tx(*txid));
        known.is_some_and(|tx| tx.input.iter().any(spends_ours))
    }

    /// Whether every input is the wallet's own.
    pub(crate) fn is_all_ours(&self, transaction: &Transaction) -> bool {
        let state = self.lock();
        transaction.input.iter().all(|input| state.wallet.txout(input.previous_output).is_some())
    }

    /// Whether an output is the wallet's, and nobody has spent it.
    pub(crate) fn has_coin(&self, outpoint: &OutPoint) -> bool {
        self.lock().ledger.coin(outpoint).is_some()
    }

    /// The first output of the wallet's that nobody has spent.
    pub(crate) fn unspent_output(&self, transaction: &Transaction) -> Option<OutPoint> {
        let txid = transaction.compute_txid();
        let state = self.lock();
        let mut outpoints = (0..).map(|vout| OutPoint { txid, vout }).take(transaction.output.len());
        outpoints.find(|one| state.ledger.coin(one).is_some())
    }

    /// A version of an unconfirmed transaction of ours that pays this rate.
    pub(crate) fn replacement(&self, txid: Txid, rate: FeeRate, reserve: Reserve) -> Result<Transaction, WalletError> {
        let mut state = self.lock();
        let old = state.waiting(&txid)?;
        let draft = state.replace(&old, rate)?;
        let unsigned = state.finish(draft)?;
        // The old one's inputs are the new one's, and its change is gone.
        state.check_reserve(&unsigned.transaction, reserve)?;
        let transaction = state.sign(unsigned)?;
        self.save(&mut state)?;
        Ok(transaction)
    }

    /// A transaction that spends one coin of the wallet back to it, for this fee.
    pub(crate) fn child(&self, coin: OutPoint, fee: Amount, reserve: Reserve) -> Result<Transaction, WalletError> {
        let mut state = self.lock();
        if state.reserved_coins().contains(&coin) || state.ledger.coin(&coin).is_none() {
            return Err(WalletError::UnknownCoin { outpoint: coin });
        }
        // The mempool may refuse it, at each block anew: then the next one takes the same address.
        let script = state.wallet.next_unused(AddressKind::SegwitV0, KeychainKind::Internal)?;
        let unsigned = state.finish(Draft {
            outputs: Vec::new(),
            fee: Fee::Exactly(fee),
            required: vec![coin],
            optional: Vec::new(),
            drain_to: Some(script),
        })?;
        state.check_reserve(&unsigned.transaction, reserve)?;
        let transaction = state.sign(unsigned)?;
        self.save(&mut state)?;
        Ok(transaction)
    }
}

impl State {
    fn waiting(&self, txid: &Txid) -> Result<Transaction, WalletError> {
        let refused = |why: &str| WalletError::Bump(why.to_owned());
        match self.ledger.place(txid) {
            Some(Place::Waiting { .. }) => {
                let known = self.wallet.tx_graph().get_tx(*txid);
                known.map(|tx| tx.as_ref().clone()).ok_or_else(|| refused("it is not the wallet's"))
            }
            Some(Place::Block { .. }) => Err(refused("it is confirmed")),
            None => Err(refused("it is not the wallet's")),
        }
    }

    /// A transaction with the payments of `old` and its coins, and with more coins if need be.
    fn replace(&self, old: &Transaction, rate: FeeRate) -> Result<Draft, WalletError> {
        let refused = |why: String| Err(WalletError::Bump(why));
        if !old.input.iter().any(|input| input.sequence.is_rbf()) {
            return refused("it does not allow a replacement".to_owned());
        }
        let Ok(paid) = self.wallet.calculate_fee(old) else {
            return refused("it is not known what it pays".to_owned());
        };
        let least = (paid / old.weight()).to_sat_per_kwu().saturating_add(FeeRate::BROADCAST_MIN.to_sat_per_kwu());
        if rate.to_sat_per_kwu() < least {
            let least = FeeRate::from_sat_per_kwu(least).to_sat_per_vb_ceil();
            return refused(format!("a replacement has to pay at least {least} sat/vB"));
        }
        let required: Vec<OutPoint> = old.input.iter().map(|input| input.previous_output).collect();
        let mut outputs = old.output.clone();
        match outputs.as_slice() {
            // What goes back to us as a whole pays for itself.
            [one] if self.wallet.is_mine(&one.script_pubkey) => {
                let drain_to = Some(one.script_pubkey.clone());
                Ok(Draft { outputs: Vec::new(), fee: Fee::Rate(rate), required, optional: Vec::new(), drain_to })
            }
            several => {
                let branch = |output: &bitcoin::TxOut| self.wallet.derivation_of_spk(&output.script_pubkey);
                let is_change = |output| branch(output).is_some_and(|place| place.branch == KeychainKind::Internal);
                if several.len() > 1
                    && let Some(change) = several.iter().rposition(is_change)
                {
                    outputs.remove(change);
                }
                // A replacement must not spend new unconfirmed outputs (BIP 125).
                let (tip, reserved) = (self.height(), self.reserved_coins());
                let more = self.ledger.coins().filter(|(outpoint, coin)| {
                    coin.height.is_some() && !coin.is_immature(tip) && !reserved.contains(*outpoint)
                });
                let optional = more.map(|(outpoint, _)| *outpoint).collect();
                Ok(Draft { outputs, fee: Fee::Rate(rate), required, optional, drain_to: None })
            }
        }
    }
}
