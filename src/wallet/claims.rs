//! Coins that pay for claims of closed channels: second stages and anchors of anchor channels carry no fee of their own.
//!
//! ```text
//!   set_aside ──► the claim is built with the coins as inputs ──► sign_coins ──► broadcast
//!       └──────── put_back, when the claim has ended without them
//! ```
//!
//! The claims themselves are durable and name their coins, so after a restart they are set aside again.

use std::collections::HashMap;

use bitcoin::{
    Amount, EcdsaSighashType, NetworkKind, OutPoint, TapSighash, TapSighashType, Transaction, TxOut, Weight, Witness,
    bip32::{self, ChildNumber, DerivationPath, Xpriv},
    key::{Keypair, TapTweak as _},
    secp256k1::{Message, SECP256K1, SecretKey},
    sighash::{Prevouts, SighashCache},
};
use leyden_channels::{onchain::ClaimId, tx::FeeCoin, types::ChannelId};

use super::{
    accounts::{AddressKind, Derivation},
    keys::coin_type,
    ledger::Coin,
    onchain::{OnchainWallet, State, WalletError},
};

/// What coins are set aside for.
pub(crate) type Purpose = (ChannelId, ClaimId);

/// Where coins for a claim are looked for.
#[derive(Clone, Copy)]
enum Depth {
    Confirmed,
    /// What unconfirmed transactions of our own pay back to us.
    OwnChange,
}

/// The whole witness of an input, each item with its length.
fn witness_weight(kind: AddressKind) -> Weight {
    match kind {
        // Number of items, signature and key.
        AddressKind::SegwitV0 => Weight::from_wu(1 + 1 + 72 + 1 + 33),
        // Number of items, and a signature that says what it signs.
        AddressKind::Taproot => Weight::from_wu(1 + 1 + 65),
    }
}

impl OnchainWallet {
    /// Sets coins aside until they are worth `amount` together, or until there are no more, and gives all that are set
    /// aside for this purpose.
    pub(crate) fn set_aside(&self, purpose: Purpose, amount: Amount) -> Vec<FeeCoin> {
        let mut state = self.lock();
        let mut coins = state.for_claims.get(&purpose).cloned().unwrap_or_default();
        // Change of our own that is not confirmed comes last, and not to a claim that has coins: a replacement must not
        // spend new unconfirmed outputs (BIP 125).
        let sources = if coins.is_empty() { vec![Depth::Confirmed, Depth::OwnChange] } else { vec![Depth::Confirmed] };
        for source in sources {
            let have: Amount = coins.iter().map(|coin| coin.output.value).sum();
            let Some(missing) = amount.checked_sub(have).filter(|missing| *missing > Amount::ZERO) else { break };
            coins.extend(state.choose(source, missing));
        }
        if !coins.is_empty() {
            state.for_claims.insert(purpose, coins.clone());
        }
        coins
    }

    /// Keeps the coins that a claim has from before a restart.
    pub(crate) fn set_aside_again(&self, purpose: Purpose, coins: &[FeeCoin]) {
        if !coins.is_empty() {
            self.lock().for_claims.insert(purpose, coins.to_vec());
        }
    }

    /// These coins may be spent again.
    pub(crate) fn put_back(&self, coins: &[FeeCoin]) {
        let mut state = self.lock();
        for kept in state.for_claims.values_mut() {
            kept.retain(|coin| coins.iter().all(|free| free.outpoint != coin.outpoint));
        }
        state.for_claims.retain(|_, kept| !kept.is_empty());
    }

    /// All coins that are still set aside for a channel may be spent again.
    pub(crate) fn put_back_all(&self, channel: &ChannelId) {
        self.lock().for_claims.retain(|(owner, _), _| owner != channel);
    }

    /// Signs the inputs that spend `coins`; the others are left as they are.
    pub(crate) fn sign_coins(&self, transaction: Transaction, coins: &[FeeCoin]) -> Result<Transaction, WalletError> {
        self.lock().sign_inputs(transaction, coins.iter().map(|coin| (&coin.outpoint, &coin.output)))
    }
}

impl State {
    /// Coins that are promised to nobody and worth so much together, or all there are.
    fn choose(&self, source: Depth, amount: Amount) -> Vec<FeeCoin> {
        let reserved = self.reserved_coins();
        let fits = |coin: &Coin| match source {
            Depth::Confirmed => coin.height.is_some(),
            Depth::OwnChange => coin.height.is_none(),
        };
        let is_free = |outpoint: &OutPoint, coin: &Coin| {
            self.is_free_for_claims(coin) && fits(coin) && !reserved.contains(outpoint)
        };
        let chosen = |(outpoint, coin): (&OutPoint, &Coin)| FeeCoin {
            outpoint: *outpoint,
            output: coin.output.clone(),
            witness_weight: witness_weight(coin.place.kind),
        };
        // The smallest coin that is enough, else the largest one and then another.
        if let Some(enough) = self.ledger.worth_at_least(amount).find(|(outpoint, coin)| is_free(outpoint, coin)) {
            return vec![chosen(enough)];
        }
        let smaller = self.ledger.worth_at_least(Amount::ZERO).take_while(|(_, coin)| coin.output.value < amount);
        let mut free: Vec<_> = smaller.filter(|(outpoint, coin)| is_free(outpoint, coin)).collect();
        let mut missing = amount;
        let mut coins = Vec::new();
        loop {
            let enough = free.partition_point(|(_, coin)| coin.output.value < missing);
            let is_last = enough < free.len();
            free.truncate(enough.saturating_add(1));
            let Some(coin) = free.pop() else { return coins };
            coins.push(chosen(coin));
            match missing.checked_sub(coin.1.output.value) {
                Some(left) if !is_last => missing = left,
                Some(_) | None => return coins,
            }
        }
    }

    /// Signs the inputs that spend these coins of the wallet.
    pub(super) fn sign_inputs<'a>(
        &self,
        mut transaction: Transaction,
        coins: impl IntoIterator<Item = (&'a OutPoint, &'a TxOut)>,
    ) -> Result<Transaction, WalletError> {
        let inputs: HashMap<OutPoint, usize> =
            transaction.input.iter().enumerate().map(|(at, input)| (input.previous_output, at)).collect();
        let coins: HashMap<OutPoint, &TxOut> =
            coins.into_iter().map(|(outpoint, output)| (*outpoint, output)).collect();
        // What all inputs spend, if all are ours.
        let spent: Option<Vec<&TxOut>> =
            transaction.input.iter().map(|input| coins.get(&input.previous_output).copied()).collect();
        let (segwit, taproot) = (self.account_key(AddressKind::SegwitV0)?, self.account_key(AddressKind::Taproot)?);
        let mut witnesses = Vec::new();
        let mut cache = SighashCache::new(&transaction);
        for (outpoint, output) in &coins {
            let unknown = || WalletError::UnknownCoin { outpoint: *outpoint };
            let index = *inputs.get(outpoint).ok_or_else(unknown)?;
            let place = self.wallet.derivation_of_spk(&output.script_pubkey).ok_or_else(unknown)?;
            let key = match place.kind {
                AddressKind::SegwitV0 => secret_below(&segwit, place)?,
                AddressKind::Taproot => secret_below(&taproot, place)?,
            };
            let failed = |error: &dyn std::fmt::Display| WalletError::Sign(error.to_string());
            let witness = match place.kind {
                AddressKind::SegwitV0 => {
                    let sighash = cache
                        .p2wpkh_signature_hash(index, &output.script_pubkey, output.value, EcdsaSighashType::All)
                        .map_err(|error| failed(&error))?;
                    let signature = SECP256K1.sign_ecdsa_low_r(&Message::from(sighash), &key);
                    let signature = bitcoin::ecdsa::Signature::sighash_all(signature);
                    Witness::p2wpkh(&signature, &key.public_key(SECP256K1))
                }
                AddressKind::Taproot => {
                    // BIP 341 signs what every input spends. Of a claim's inputs the wallet knows its own alone, so it signs
                    // that one and all outputs: whoever puts it into another transaction pays to the same outputs.
                    let (prevouts, sighash_type) = match &spent {
                        Some(spent) => (Prevouts::All(spent), TapSighashType::Default),
                        None => (Prevouts::One(index, *output), TapSighashType::AllPlusAnyoneCanPay),
                    };
                    let sighash = cache
                        .taproot_key_spend_signature_hash(index, &prevouts, sighash_type)
                        .map_err(|error| failed(&error))?;
                    Witness::p2tr_key_spend(&key_spend(&key, sighash, sighash_type))
                }
            };
            witnesses.push((index, witness));
        }
        for (index, witness) in witnesses {
            if let Some(input) = transaction.input.get_mut(index) {
                input.witness = witness;
            }
        }
        Ok(transaction)
    }

    /// The key of a script of the wallet; for P2TR the internal one.
    pub(super) fn secret_at(&self, place: Derivation) -> Result<SecretKey, WalletError> {
        secret_below(&self.account_key(place.kind)?, place)
    }

    /// `m/purpose'/coin'/0'`.
    pub(super) fn account_key(&self, kind: AddressKind) -> Result<Xpriv, WalletError> {
        let account = account_path(kind, self.root.network).and_then(|path| self.root.derive_priv(SECP256K1, &path));
        account.map_err(|error| WalletError::Sign(error.to_string()))
    }
}

pub(super) fn account_path(kind: AddressKind, network: NetworkKind) -> Result<DerivationPath, bip32::Error> {
    [kind.purpose(), coin_type(network), 0].into_iter().map(ChildNumber::from_hardened_idx).collect()
}

/// `branch/index` below the account.
fn secret_below(account: &Xpriv, place: Derivation) -> Result<SecretKey, WalletError> {
    let path: Result<DerivationPath, _> =
        [place.branch_number(), place.index].into_iter().map(ChildNumber::from_normal_idx).collect();
    let key = path.and_then(|path| account.derive_priv(SECP256K1, &path));
    key.map(|key| key.private_key).map_err(|error| WalletError::Sign(error.to_string()))
}

/// The signature of a P2TR output without scripts (BIP 86).
pub(super) fn key_spend(
    key: &SecretKey,
    sighash: TapSighash,
    sighash_type: TapSighashType,
) -> bitcoin::taproot::Signature {
    let pair = Keypair::from_secret_key(SECP256K1, key).tap_tweak(SECP256K1, None);
    let signature = SECP256K1.sign_schnorr(&Message::from(sighash), &pair.to_keypair());
    bitcoin::taproot::Signature { signature, sighash_type }
}
