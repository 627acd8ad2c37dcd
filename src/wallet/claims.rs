//! Coins that pay for claims of closed channels: second stages and anchors of anchor channels carry no fee of their own.
//!
//! ```text
//!   set_aside ──► the claim is built with the coins as inputs ──► sign_coins ──► broadcast
//!       └──────── put_back, when the claim has ended without them
//! ```
//!
//! The claims themselves are durable and name their coins, so after a restart they are set aside again.

use std::collections::HashMap;

use bdk_wallet::KeychainKind;
use bitcoin::{
    Amount, EcdsaSighashType, NetworkKind, OutPoint, Transaction, TxOut, Weight, Witness,
    bip32::{ChildNumber, Xpriv},
    secp256k1::{Message, SECP256K1},
    sighash::SighashCache,
};
use leyden_channels::{onchain::ClaimId, tx::FeeCoin, types::ChannelId};

use super::{
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

/// Number of items, signature and key of a P2WPKH input, each with its length.
const WITNESS_WEIGHT: Weight = Weight::from_wu(1 + 1 + 72 + 1 + 33);

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
            witness_weight: WITNESS_WEIGHT,
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
        let account = self.account()?;
        let inputs: HashMap<OutPoint, usize> =
            transaction.input.iter().enumerate().map(|(at, input)| (input.previous_output, at)).collect();
        let mut witnesses = Vec::new();
        let mut cache = SighashCache::new(&transaction);
        for (outpoint, output) in coins {
            let unknown = || WalletError::UnknownCoin { outpoint: *outpoint };
            let index = *inputs.get(outpoint).ok_or_else(unknown)?;
            let place = self.wallet.derivation_of_spk(output.script_pubkey.clone()).ok_or_else(unknown)?;
            let key = key_at(&account, place)?;
            let sighash = cache
                .p2wpkh_signature_hash(index, &output.script_pubkey, output.value, EcdsaSighashType::All)
                .map_err(|error| WalletError::Sign(error.to_string()))?;
            let signature = SECP256K1.sign_ecdsa_low_r(&Message::from(sighash), &key);
            let signature = bitcoin::ecdsa::Signature::sighash_all(signature);
            witnesses.push((index, Witness::p2wpkh(&signature, &key.public_key(SECP256K1))));
        }
        for (index, witness) in witnesses {
            if let Some(input) = transaction.input.get_mut(index) {
                input.witness = witness;
            }
        }
        Ok(transaction)
    }

    /// BIP 84: `m/84'/coin'/0'`.
    fn account(&self) -> Result<Xpriv, WalletError> {
        let coin_type = match self.root.network {
            NetworkKind::Main => 0,
            NetworkKind::Test => 1,
        };
        let path: Result<Vec<ChildNumber>, _> =
            [84, coin_type, 0].map(ChildNumber::from_hardened_idx).into_iter().collect();
        let account = path.and_then(|path| self.root.derive_priv(SECP256K1, &path));
        account.map_err(|error| WalletError::Sign(error.to_string()))
    }
}

/// `branch/index` below the account.
fn key_at(account: &Xpriv, (branch, index): (KeychainKind, u32)) -> Result<bitcoin::secp256k1::SecretKey, WalletError> {
    let branch = match branch {
        KeychainKind::External => 0,
        KeychainKind::Internal => 1,
    };
    let path: Result<Vec<ChildNumber>, _> = [branch, index].map(ChildNumber::from_normal_idx).into_iter().collect();
    let key = path.and_then(|path| account.derive_priv(SECP256K1, &path));
    key.map(|key| key.private_key).map_err(|error| WalletError::Sign(error.to_string()))
}
