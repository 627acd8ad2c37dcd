//! PSBTs (BIP 174) that the wallet pays for: which coins, what comes back, whose the coins are meanwhile.
//!
//! ```text
//!   outputs, perhaps inputs ──► coins are chosen ──► change ──► UTXO information, paths ──► PSBT without signatures
//!                                     └──► leased in the same step: nothing else takes them until the lease ends
//! ```

use std::{collections::HashSet, time::Duration};

use bdk_wallet::coin_selection::{CoinSelectionAlgorithm as _, DefaultCoinSelectionAlgorithm, Excess};
use bitcoin::{
    Amount, FeeRate, OutPoint, Psbt, Script, Sequence, Transaction, TxIn, TxOut,
    bip32::{ChildNumber, KeySource},
    psbt,
    secp256k1::{SECP256K1, rand::thread_rng},
};
use rand::RngExt as _;

use super::{
    accounts::{AddressKind, Derivation},
    claims::account_path,
    compose::weighted,
    leases::Lease,
    onchain::{OnchainWallet, State, WalletError},
    psbt_signing::{PsbtError, check_weight, utxo},
    reserve::Reserve,
};

/// What shall be paid for, and how.
#[derive(Clone, Debug)]
pub(crate) struct PsbtFunding {
    pub template: Psbt,
    pub selection: Selection,
    pub rate: FeeRate,
    pub min_confirmations: u32,
    pub reserve: Reserve,
    /// Of a change output that is added.
    pub change: AddressKind,
    /// The most to pay, as a part of all outputs; `None`: no limit.
    pub max_fee_ratio: Option<f64>,
    pub lease: Lease,
    pub time: Duration,
}

/// Where the inputs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// Free coins of the wallet, which the template names; if it names none, they are chosen.
    Whole,
    /// They are added to those of the template, of which those of the wallet are leased already.
    Added {
        /// The output of the template that takes what is left; `None`: one is added.
        change: Option<usize>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct FundedPsbt {
    pub psbt: Psbt,
    /// The index of the output that takes what is left, if something is.
    pub change: Option<usize>,
    /// What this has leased.
    pub leased: Vec<(OutPoint, TxOut)>,
}

/// An input of the template.
struct Given {
    outpoint: OutPoint,
    output: TxOut,
    kind: AddressKind,
}

impl OnchainWallet {
    /// Chooses coins for a PSBT and leases them.
    pub(crate) fn fund_psbt(&self, funding: PsbtFunding) -> Result<FundedPsbt, PsbtError> {
        let mut state = self.lock();
        let funded = state.fund_psbt(&funding)?;
        // The change address is used from here on, whatever happens to the transaction.
        self.save(&mut state)?;
        for (coin, _) in &funded.leased {
            state.lease_now(*coin, funding.lease.clone(), funding.time);
        }
        Ok(funded)
    }
}

impl State {
    fn fund_psbt(&mut self, funding: &PsbtFunding) -> Result<FundedPsbt, PsbtError> {
        check_weight(&funding.template.unsigned_tx)?;
        let mut psbt = funding.template.clone();
        let outputs = sum(psbt.unsigned_tx.output.iter().map(|output| output.value))?;
        if psbt.unsigned_tx.output.is_empty() {
            return Err(PsbtError::NoOutputs);
        }
        let is_dust = |output: &TxOut| output.value < output.script_pubkey.minimal_non_dust();
        let may_be_small = |at: usize| funding.selection == Selection::Added { change: Some(at) };
        if psbt.unsigned_tx.output.iter().enumerate().any(|(at, output)| is_dust(output) && !may_be_small(at)) {
            return Err(WalletError::Dust.into());
        }
        let given = self.given(funding)?;
        sum(given.iter().map(|coin| coin.output.value))?;
        let may_add = given.is_empty() || funding.selection != Selection::Whole;
        let optional = if may_add { self.free_coins(funding.min_confirmations) } else { Vec::new() };

        // Everything but the inputs, which coin selection pays for.
        let bare = Transaction { input: Vec::new(), ..psbt.unsigned_tx.clone() };
        let wanted = outputs + funding.rate * bare.weight();
        let existing = match funding.selection {
            Selection::Added { change: Some(at) } => {
                let output = bare.output.get(at).ok_or(PsbtError::NoSuchOutput { at })?;
                Some((at, output.script_pubkey.clone()))
            }
            Selection::Added { change: None } | Selection::Whole => None,
        };
        let (place, added) = self.next_change(funding.change)?;
        let left_to = existing.as_ref().map_or(&added, |(_, script)| script);
        let required = given.iter().map(|coin| weighted(coin.outpoint, coin.output.clone(), coin.kind)).collect();
        let optional: Result<Vec<_>, _> = optional.into_iter().map(|outpoint| self.weighted(outpoint)).collect();
        let chosen = DefaultCoinSelectionAlgorithm::default()
            .coin_select(required, optional?, funding.rate, wanted, left_to, &mut thread_rng())
            .map_err(|short| WalletError::InsufficientFunds { needed: short.needed, available: short.available })?;

        let known: HashSet<OutPoint> = given.iter().map(|coin| coin.outpoint).collect();
        let mut leased = Vec::new();
        for coin in &chosen.selected {
            let (outpoint, output) = (coin.outpoint(), coin.txout().clone());
            if !known.contains(&outpoint) {
                let sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;
                psbt.unsigned_tx.input.push(TxIn { previous_output: outpoint, sequence, ..TxIn::default() });
                psbt.inputs.push(psbt::Input::default());
                leased.push((outpoint, output));
            } else if funding.selection == Selection::Whole {
                leased.push((outpoint, output));
            }
        }
        let change = match (chosen.excess, existing) {
            // Its output is there and paid for.
            (Excess::Change { amount, fee }, Some((at, _))) => Some((at, amount + fee)),
            (Excess::NoChange { remaining_amount, .. }, Some((at, _))) => Some((at, remaining_amount)),
            (Excess::Change { amount, .. }, None) => {
                let at = match funding.selection {
                    // Which of them is change tells nobody by its place.
                    Selection::Whole => rand::rng().random_range(0..=psbt.unsigned_tx.output.len()),
                    Selection::Added { .. } => psbt.unsigned_tx.output.len(),
                };
                let output = TxOut { value: Amount::ZERO, script_pubkey: added };
                psbt.unsigned_tx.output.insert(at, output);
                psbt.outputs.insert(at, self.own_output(place)?);
                Some((at, amount))
            }
            (Excess::NoChange { .. }, None) => None,
        };
        if let Some((at, more)) = change
            && let Some(output) = psbt.unsigned_tx.output.get_mut(at)
        {
            output.value = sum([output.value, more])?;
            if is_dust(output) {
                return Err(WalletError::Dust.into());
            }
        }
        for at in 0..psbt.inputs.len() {
            self.tell_utxo(&mut psbt, at)?;
        }
        check_weight(&psbt.unsigned_tx)?;
        check_fee(&psbt, funding.max_fee_ratio)?;
        self.check_reserve(&psbt.unsigned_tx, funding.reserve)?;
        if let Some((at, _)) = change {
            // Nothing was taken before it was certain that it is needed.
            let is_added = psbt.unsigned_tx.output.get(at).is_some_and(|output| {
                self.wallet.derivation_of_spk(&output.script_pubkey).is_some_and(|found| found == place)
            });
            if is_added {
                self.wallet.take(place);
            }
        }
        Ok(FundedPsbt { psbt, change: change.map(|(at, _)| at), leased })
    }

    /// The inputs of the template, which have to be what they are said to be.
    fn given(&self, funding: &PsbtFunding) -> Result<Vec<Given>, PsbtError> {
        let reserved = self.reserved_coins();
        let tip = self.height();
        let mut seen = HashSet::new();
        let mut given = Vec::new();
        let inputs = funding.template.unsigned_tx.input.iter().zip(&funding.template.inputs);
        for (at, (input, known)) in inputs.enumerate() {
            let outpoint = input.previous_output;
            if !seen.insert(outpoint) {
                return Err(PsbtError::NotFree { at });
            }
            let coin = self.ledger.coin(&outpoint);
            let is_free = coin.is_some_and(|coin| {
                let ripe = !coin.is_immature(tip) && coin.confirmations(tip) >= funding.min_confirmations;
                ripe && !reserved.contains(&outpoint)
            });
            let output = match (funding.selection, coin) {
                (Selection::Whole, Some(coin)) if is_free => coin.output.clone(),
                (Selection::Whole, _) => return Err(PsbtError::NotFree { at }),
                // Whoever adds to it has leased it before.
                (Selection::Added { .. }, Some(coin)) if self.leases.coins().any(|leased| *leased == outpoint) => {
                    coin.output.clone()
                }
                (Selection::Added { .. }, Some(_)) => return Err(PsbtError::NotLeased { outpoint }),
                (Selection::Added { .. }, None) => utxo(at, input, known)?.output.clone(),
            };
            let kind = kind_of(&output.script_pubkey).ok_or(PsbtError::UnknownWeight { at })?;
            given.push(Given { outpoint, output, kind });
        }
        Ok(given)
    }

    /// Coins that are promised to nobody.
    fn free_coins(&self, min_confirmations: u32) -> Vec<OutPoint> {
        let (reserved, tip) = (self.reserved_coins(), self.height());
        let free = self.ledger.coins().filter(|(outpoint, coin)| {
            let ripe = !coin.is_immature(tip) && coin.confirmations(tip) >= min_confirmations;
            ripe && !reserved.contains(*outpoint)
        });
        free.map(|(outpoint, _)| *outpoint).collect()
    }

    /// Says of an input of the wallet what it spends, and by which key.
    fn tell_utxo(&self, psbt: &mut Psbt, at: usize) -> Result<(), PsbtError> {
        let Some((input, told)) = psbt.unsigned_tx.input.get(at).zip(psbt.inputs.get_mut(at)) else { return Ok(()) };
        let Some((place, output)) = self.wallet.txout(input.previous_output) else { return Ok(()) };
        told.witness_utxo = Some(output.clone());
        let (key, source) = self.key_source(place)?;
        match place.kind {
            AddressKind::SegwitV0 => {
                // Signers that do not know the coin need it: the amount that a SegWit v0 input signs is one of many.
                let parent = self.wallet.tx_graph().get_tx(input.previous_output.txid);
                told.non_witness_utxo = parent.map(|parent| parent.as_ref().clone());
                told.bip32_derivation.insert(key, source);
            }
            AddressKind::Taproot => {
                let key = key.x_only_public_key().0;
                told.tap_internal_key = Some(key);
                told.tap_key_origins.insert(key, (Vec::new(), source));
            }
        }
        Ok(())
    }

    fn own_output(&self, place: Derivation) -> Result<psbt::Output, WalletError> {
        let mut output = psbt::Output::default();
        let (key, source) = self.key_source(place)?;
        match place.kind {
            AddressKind::SegwitV0 => {
                output.bip32_derivation.insert(key, source);
            }
            AddressKind::Taproot => {
                let key = key.x_only_public_key().0;
                output.tap_internal_key = Some(key);
                output.tap_key_origins.insert(key, (Vec::new(), source));
            }
        }
        Ok(output)
    }

    /// The key of a script, and its path from the root.
    fn key_source(&self, place: Derivation) -> Result<(bitcoin::secp256k1::PublicKey, KeySource), WalletError> {
        let failed = |error: bitcoin::bip32::Error| WalletError::Sign(error.to_string());
        let account = account_path(place.kind, self.root.network).map_err(failed)?;
        let below: Result<Vec<ChildNumber>, _> =
            [place.branch_number(), place.index].into_iter().map(ChildNumber::from_normal_idx).collect();
        let key = self.secret_at(place)?.public_key(SECP256K1);
        Ok((key, (self.root.fingerprint(SECP256K1), account.extend(below.map_err(failed)?))))
    }
}

/// How an output of another wallet is probably spent: by one key.
fn kind_of(script: &Script) -> Option<AddressKind> {
    match script {
        script if script.is_p2wpkh() => Some(AddressKind::SegwitV0),
        script if script.is_p2tr() => Some(AddressKind::Taproot),
        _ => None,
    }
}

/// Amounts come from whoever asks.
fn sum(amounts: impl IntoIterator<Item = Amount>) -> Result<Amount, PsbtError> {
    let add = |sum: Amount, amount: Amount| sum.checked_add(amount).filter(|sum| *sum <= Amount::MAX_MONEY);
    amounts.into_iter().try_fold(Amount::ZERO, add).ok_or(PsbtError::TooMuch)
}

fn check_fee(psbt: &Psbt, max_ratio: Option<f64>) -> Result<(), PsbtError> {
    let paid = sum(psbt.unsigned_tx.output.iter().map(|output| output.value))?;
    let inputs = psbt.unsigned_tx.input.iter().zip(&psbt.inputs).enumerate();
    let spent: Result<Vec<Amount>, PsbtError> =
        inputs.map(|(at, (input, known))| Ok(utxo(at, input, known)?.output.value)).collect();
    let fee = sum(spent?)?.checked_sub(paid).ok_or(PsbtError::TooMuch)?;
    match max_ratio {
        Some(ratio) if fee.to_sat() as f64 > paid.to_sat() as f64 * ratio => {
            Err(PsbtError::FeeTooHigh { fee, paid, ratio })
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod tests;
