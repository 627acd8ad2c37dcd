//! Transactions that the wallet pays with: which coins, what comes back, the signatures.
//!
//! ```text
//!   outputs, fee, coins that may be spent ──► coin selection (bdk's) ──► transaction without signatures ──► sign
//! ```
//!
//! Everything that the wallet has is P2WPKH or P2TR, so a transaction needs no more than this; and it asks the [`Ledger`] for
//! its coins, where bdk's own builder goes through the wallet's whole history.
//!
//! [`Ledger`]: super::ledger::Ledger

use bdk_wallet::{
    KeychainKind, LocalOutput, Utxo, WeightedUtxo,
    chain::ChainPosition,
    coin_selection::{CoinSelectionAlgorithm as _, DefaultCoinSelectionAlgorithm, Excess},
};
use bitcoin::{
    Amount, FeeRate, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, WScriptHash, Weight, Witness,
    absolute::LockTime, hashes::Hash as _, secp256k1::rand::thread_rng, transaction::Version,
};
use rand::seq::SliceRandom as _;

use super::{
    accounts::{AddressKind, Derivation},
    ledger::Coin,
    onchain::{Coins, OnchainWallet, State, WalletError},
    reserve::Reserve,
};

/// What signs an input, each item with its length; their number is part of an input without a witness.
pub(super) fn satisfaction_weight(kind: AddressKind) -> Weight {
    match kind {
        // Signature and key.
        AddressKind::SegwitV0 => Weight::from_wu(1 + 72 + 1 + 33),
        // A signature of everything, which does not say so.
        AddressKind::Taproot => Weight::from_wu(1 + 64),
    }
}

/// The smallest output that comes back to the wallet: what spends it at a few satoshi per virtual byte is worth it.
const LEAST_OUTPUT: Amount = Amount::from_sat(1_000);

/// What a transaction is made for.
#[derive(Clone, Copy)]
enum Target<'a> {
    /// These outputs; the rest comes back.
    Outputs(&'a [(ScriptBuf, Amount)]),
    /// Everything to this script, but for what is kept back.
    All { to: &'a Script, keep: Amount },
}

#[derive(Clone, Copy)]
pub(super) enum Fee {
    Rate(FeeRate),
    Exactly(Amount),
}

/// What coin selection and change start from.
pub(super) struct Draft {
    pub outputs: Vec<TxOut>,
    pub fee: Fee,
    /// Coins that are spent in any case.
    pub required: Vec<OutPoint>,
    /// Coins that may be spent too.
    pub optional: Vec<OutPoint>,
    /// Where everything goes that is left; `None`: what is left is change.
    pub drain_to: Option<ScriptBuf>,
}

/// A transaction without signatures, and what it spends in the order of its inputs.
pub(super) struct Unsigned {
    pub transaction: Transaction,
    pub spent: Vec<TxOut>,
}

impl OnchainWallet {
    /// A signed transaction with these outputs. Its coins are reserved: pass it to [`Self::transaction_seen`] once it is
    /// broadcast, or to [`Self::release`].
    pub(crate) fn pay(
        &self,
        outputs: &[(ScriptBuf, Amount)],
        fee_rate: FeeRate,
        coins: &Coins,
    ) -> Result<Transaction, WalletError> {
        let mut state = self.lock();
        let unsigned = state.compose(Target::Outputs(outputs), fee_rate, coins, false)?;
        let unsigned = match state.check_reserve(&unsigned.transaction, coins.reserve) {
            Ok(()) => unsigned,
            Err(short) if coins.only.is_empty() => {
                // The choice may have been wasteful: with all coins as inputs the change is as large as it can be.
                let unsigned = state.compose(Target::Outputs(outputs), fee_rate, coins, true)?;
                state.check_reserve(&unsigned.transaction, coins.reserve).map_err(|_| short)?;
                unsigned
            }
            Err(short) => return Err(short),
        };
        self.reserve_coins(&mut state, unsigned)
    }

    /// A signed transaction that sends everything to `script`, but for what is kept back for claims.
    pub(crate) fn pay_all(
        &self,
        script: &Script,
        fee_rate: FeeRate,
        coins: &Coins,
    ) -> Result<Transaction, WalletError> {
        let mut state = self.lock();
        let unsigned = state.compose_all(script, fee_rate, coins, 0)?;
        self.reserve_coins(&mut state, unsigned)
    }

    /// What a transaction with one P2WSH output could pay, after its fee and what is kept back for claims, with so many
    /// channels more.
    pub(crate) fn spendable(&self, fee_rate: FeeRate, coins: &Coins, more: usize) -> Result<Amount, WalletError> {
        let script = ScriptBuf::new_p2wsh(&WScriptHash::all_zeros());
        let transaction = self.lock().compose_all(&script, fee_rate, coins, more)?.transaction;
        Ok(transaction.output.iter().filter(|output| output.script_pubkey == script).map(|output| output.value).sum())
    }

    /// A transaction with these outputs as [`Self::pay`] would make it, without signatures. Nothing is reserved.
    pub(crate) fn draft(
        &self,
        outputs: &[(ScriptBuf, Amount)],
        fee_rate: FeeRate,
        coins: &Coins,
    ) -> Result<Transaction, WalletError> {
        let mut state = self.lock();
        let transaction = state.compose(Target::Outputs(outputs), fee_rate, coins, false)?.transaction;
        // Asking again and again must not use up scripts for change.
        for output in &transaction.output {
            if let Some(place) = state.wallet.derivation_of_spk(&output.script_pubkey)
                && place.branch == KeychainKind::Internal
            {
                state.wallet.give_back(place);
            }
        }
        state.check_reserve(&transaction, coins.reserve)?;
        Ok(transaction)
    }

    fn reserve_coins(&self, state: &mut State, unsigned: Unsigned) -> Result<Transaction, WalletError> {
        let transaction = state.sign(unsigned)?;
        // The change address is used from here on, whatever happens to the transaction.
        self.save(state)?;
        let coins = transaction.input.iter().map(|input| input.previous_output).collect();
        state.reserved.insert(transaction.compute_txid(), coins);
        Ok(transaction)
    }
}

impl State {
    /// Everything to `script`, but for what is kept back with so many more channels.
    fn compose_all(
        &mut self,
        to: &Script,
        fee_rate: FeeRate,
        coins: &Coins,
        more: usize,
    ) -> Result<Unsigned, WalletError> {
        let unsigned = self.compose(Target::All { to, keep: Amount::ZERO }, fee_rate, coins, true)?;
        let (kept, left) = (self.reserve(more), self.left_after(Some(&unsigned.transaction)));
        let missing = kept.checked_sub(left).filter(|missing| *missing > Amount::ZERO);
        match (missing, coins.reserve) {
            (None, _) | (Some(_), Reserve::Spend) => Ok(unsigned),
            (Some(missing), Reserve::Keep) => {
                let keep = missing.max(LEAST_OUTPUT);
                let channels = self.reserved_for.len().saturating_add(more);
                self.compose(Target::All { to, keep }, fee_rate, coins, true).map_err(|error| match error {
                    WalletError::InsufficientFunds { .. } | WalletError::Dust => {
                        WalletError::Reserve { kept, left, channels }
                    }
                    other => other,
                })
            }
        }
    }

    fn compose(
        &mut self,
        target: Target<'_>,
        fee_rate: FeeRate,
        coins: &Coins,
        all_coins: bool,
    ) -> Result<Unsigned, WalletError> {
        let reserved = self.reserved_coins();
        let unknown = |outpoint: &OutPoint| reserved.contains(outpoint) || self.ledger.coin(outpoint).is_none();
        if let Some(outpoint) = coins.only.iter().find(|outpoint| unknown(outpoint)) {
            return Err(WalletError::UnknownCoin { outpoint: *outpoint });
        }
        let tip = self.height();
        let is_free = |(outpoint, coin): &(&OutPoint, &Coin)| {
            let ripe = !coin.is_immature(tip) && coin.confirmations(tip) >= coins.min_confirmations;
            ripe && !reserved.contains(*outpoint)
        };
        let free = || self.ledger.coins().filter(is_free).map(|(outpoint, _)| *outpoint).collect();
        let (required, optional) = match (coins.only.is_empty(), all_coins) {
            (false, _) => (coins.only.clone(), Vec::new()),
            (true, true) => (free(), Vec::new()),
            (true, false) => (Vec::new(), free()),
        };
        let output = |script: &Script, value| TxOut { value, script_pubkey: script.to_owned() };
        let (outputs, drain_to) = match target {
            Target::Outputs(outputs) => {
                (outputs.iter().map(|(script, amount)| output(script, *amount)).collect(), None)
            }
            Target::All { to, keep } if keep > Amount::ZERO => {
                let change = self.wallet.next_unused(AddressKind::SegwitV0, KeychainKind::Internal)?;
                (vec![output(&change, keep)], Some(to.to_owned()))
            }
            Target::All { to, .. } => (Vec::new(), Some(to.to_owned())),
        };
        self.finish(Draft { outputs, fee: Fee::Rate(fee_rate), required, optional, drain_to })
    }

    /// Chooses coins, and adds what is left.
    pub(super) fn finish(&mut self, draft: Draft) -> Result<Unsigned, WalletError> {
        let Draft { outputs, fee, required, optional, drain_to } = draft;
        if outputs.iter().any(|output| output.value < output.script_pubkey.minimal_non_dust()) {
            return Err(WalletError::Dust);
        }
        let mut transaction = Transaction {
            version: Version::TWO,
            // A miner gains nothing by mining the last block again for this one's fee.
            lock_time: LockTime::from_height(self.height()).unwrap_or(LockTime::ZERO),
            input: Vec::new(),
            output: outputs,
        };
        let (rate, exact) = match fee {
            Fee::Rate(rate) => (rate, Amount::ZERO),
            Fee::Exactly(amount) => (FeeRate::ZERO, amount),
        };
        let paid: Amount = transaction.output.iter().map(|output| output.value).sum();
        let wanted = paid + exact + rate * transaction.weight();
        let change = match &drain_to {
            Some(_) => None,
            None => Some(self.next_change(AddressKind::SegwitV0)?),
        };
        let left_to = drain_to.as_ref().or(change.as_ref().map(|(_, script)| script)).cloned().unwrap_or_default();
        let weighted = |outpoints: Vec<OutPoint>| -> Result<Vec<WeightedUtxo>, WalletError> {
            outpoints.into_iter().map(|outpoint| self.weighted(outpoint)).collect()
        };
        let chosen = DefaultCoinSelectionAlgorithm::default()
            .coin_select(weighted(required)?, weighted(optional)?, rate, wanted, &left_to, &mut thread_rng())
            .map_err(|short| WalletError::InsufficientFunds { needed: short.needed, available: short.available })?;
        match (chosen.excess, change) {
            (Excess::Change { amount, .. }, change) => {
                transaction.output.push(TxOut { value: amount, script_pubkey: left_to });
                if let Some((place, _)) = change {
                    self.wallet.take(place);
                }
            }
            // Whoever wants everything wants something.
            (Excess::NoChange { dust_threshold, remaining_amount, change_fee }, None) => {
                let available = remaining_amount.checked_sub(change_fee).unwrap_or_default();
                return Err(WalletError::InsufficientFunds { needed: dust_threshold, available });
            }
            (Excess::NoChange { .. }, Some(_)) => {}
        }
        let mut selected = chosen.selected;
        selected.shuffle(&mut rand::rng());
        transaction.output.shuffle(&mut rand::rng());
        transaction.input = selected.iter().map(|coin| input(coin.outpoint())).collect();
        Ok(Unsigned { transaction, spent: selected.iter().map(|coin| coin.txout().clone()).collect() })
    }

    /// The first script for change that nothing was paid to, and where it comes from.
    pub(super) fn next_change(&self, kind: AddressKind) -> Result<(Derivation, ScriptBuf), WalletError> {
        let branch = KeychainKind::Internal;
        let index = self.wallet.index(kind);
        if let Some((index, script)) = index.unused_keychain_spks(branch).next() {
            return Ok((Derivation { kind, branch, index }, script));
        }
        let place = Derivation { kind, branch, index: index.next_index(branch).map_or(0, |(next, _)| next) };
        let script = self.wallet.script_at(place);
        Ok((place, script.ok_or_else(|| WalletError::Damaged("it has no script for change".to_owned()))?))
    }

    pub(super) fn weighted(&self, outpoint: OutPoint) -> Result<WeightedUtxo, WalletError> {
        let (place, output) = self.wallet.txout(outpoint).ok_or(WalletError::UnknownCoin { outpoint })?;
        Ok(weighted(outpoint, output.clone(), place.kind))
    }

    pub(super) fn sign(&self, unsigned: Unsigned) -> Result<Transaction, WalletError> {
        let Unsigned { transaction, spent } = unsigned;
        let spent = transaction.input.iter().map(|input| input.previous_output).zip(spent).collect::<Vec<_>>();
        self.sign_inputs(transaction, spent.iter().map(|(outpoint, output)| (outpoint, output)))
    }

    /// Coins of claims that have none yet to spend: what is confirmed and ripe, or what our own transactions pay back.
    pub(super) fn is_free_for_claims(&self, coin: &Coin) -> bool {
        match coin.height {
            Some(_) => !coin.is_immature(self.height()),
            None => coin.from_us,
        }
    }
}

/// A coin as coin selection takes it: by its value and what it costs to spend.
pub(super) fn weighted(outpoint: OutPoint, txout: TxOut, kind: AddressKind) -> WeightedUtxo {
    let utxo = LocalOutput {
        outpoint,
        txout,
        is_spent: false,
        // The choice does not look at these.
        keychain: KeychainKind::External,
        derivation_index: 0,
        chain_position: ChainPosition::Unconfirmed { first_seen: None, last_seen: None },
    };
    WeightedUtxo { satisfaction_weight: satisfaction_weight(kind), utxo: Utxo::Local(utxo) }
}

/// It may be replaced (BIP 125).
fn input(previous_output: OutPoint) -> TxIn {
    TxIn {
        previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    }
}
