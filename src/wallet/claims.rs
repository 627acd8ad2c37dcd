//! Coins that pay for claims of closed channels: second stages and anchors of anchor channels carry no fee of their own.
//!
//! ```text
//!   set_aside ──► the claim is built with the coins as inputs ──► sign_coins ──► broadcast
//!       └──────── put_back, when the claim has ended without them
//! ```
//!
//! The claims themselves are durable and name their coins, so after a restart they are set aside again.

use bdk_wallet::{KeychainKind, chain::ChainPosition};
use bitcoin::{
    Amount, EcdsaSighashType, NetworkKind, OutPoint, Transaction, TxOut, Weight, Witness,
    bip32::ChildNumber,
    secp256k1::{Message, SECP256K1},
    sighash::SighashCache,
};
use leyden_channels::{onchain::ClaimId, tx::FeeCoin, types::ChannelId};

use super::onchain::{MATURITY, OnchainWallet, State, WalletError, confirmations};

/// What coins are set aside for.
pub type Purpose = (ChannelId, ClaimId);

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
    pub fn set_aside(&self, purpose: Purpose, amount: Amount) -> Vec<FeeCoin> {
        let mut state = self.lock();
        let mut coins = state.for_claims.get(&purpose).cloned().unwrap_or_default();
        // Change of our own that is not confirmed comes last, and not to a claim that has coins: a replacement must not
        // spend new unconfirmed outputs (BIP 125).
        let sources = if coins.is_empty() { vec![Depth::Confirmed, Depth::OwnChange] } else { vec![Depth::Confirmed] };
        for source in sources {
            let mut free = state.free_coins(source);
            free.sort_by_key(|(outpoint, output)| (output.value, *outpoint));
            loop {
                let have: Amount = coins.iter().map(|coin| coin.output.value).sum();
                let Some(missing) = amount.checked_sub(have).filter(|missing| *missing > Amount::ZERO) else { break };
                // The smallest coin that is enough, else the largest one and then another.
                let enough = free.iter().position(|(_, output)| output.value >= missing);
                let Some(index) = enough.or(free.len().checked_sub(1)) else { break };
                let (outpoint, output) = free.remove(index);
                coins.push(FeeCoin { outpoint, output, witness_weight: WITNESS_WEIGHT });
            }
        }
        if !coins.is_empty() {
            state.for_claims.insert(purpose, coins.clone());
        }
        coins
    }

    /// Keeps the coins that a claim has from before a restart.
    pub fn set_aside_again(&self, purpose: Purpose, coins: &[FeeCoin]) {
        if !coins.is_empty() {
            self.lock().for_claims.insert(purpose, coins.to_vec());
        }
    }

    /// These coins may be spent again.
    pub fn put_back(&self, coins: &[FeeCoin]) {
        let mut state = self.lock();
        for kept in state.for_claims.values_mut() {
            kept.retain(|coin| coins.iter().all(|free| free.outpoint != coin.outpoint));
        }
        state.for_claims.retain(|_, kept| !kept.is_empty());
    }

    /// All coins that are still set aside for a channel may be spent again.
    pub fn put_back_all(&self, channel: &ChannelId) {
        self.lock().for_claims.retain(|(owner, _), _| owner != channel);
    }

    /// Signs the inputs that spend `coins`; the others are left as they are.
    pub fn sign_coins(&self, mut transaction: Transaction, coins: &[FeeCoin]) -> Result<Transaction, WalletError> {
        let state = self.lock();
        let mut witnesses = Vec::with_capacity(coins.len());
        let mut cache = SighashCache::new(&transaction);
        for coin in coins {
            let index = transaction.input.iter().position(|input| input.previous_output == coin.outpoint);
            let index = index.ok_or(WalletError::UnknownCoin { outpoint: coin.outpoint })?;
            let key = state.key_of(coin)?;
            let sighash = cache
                .p2wpkh_signature_hash(index, &coin.output.script_pubkey, coin.output.value, EcdsaSighashType::All)
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

    /// What an output of the wallet is, or was, worth.
    pub fn amount_of(&self, outpoint: &OutPoint) -> Option<Amount> {
        self.lock().wallet.spk_index().txout(*outpoint).map(|(_, output)| output.value)
    }

    /// What a transaction has brought the wallet, or cost it.
    pub fn gain(&self, transaction: &Transaction) -> bitcoin::SignedAmount {
        let (sent, received) = self.lock().wallet.sent_and_received(transaction);
        super::onchain::signed_difference(received, sent)
    }
}

impl State {
    /// Coins that are mature and promised to nobody.
    fn free_coins(&self, wanted: Depth) -> Vec<(OutPoint, TxOut)> {
        let tip = self.wallet.latest_checkpoint().height();
        let reserved = self.reserved_coins();
        let usable = self.wallet.list_unspent().filter(|coin| {
            let fits = match (&coin.chain_position, wanted) {
                (ChainPosition::Confirmed { anchor, .. }, Depth::Confirmed) => {
                    let mined = self.wallet.get_tx(coin.outpoint.txid).is_some_and(|tx| tx.tx_node.tx.is_coinbase());
                    !mined || confirmations(Some(anchor.block_id.height), tip) >= MATURITY
                }
                (ChainPosition::Unconfirmed { .. }, Depth::OwnChange) => self.is_from_us(&coin.outpoint),
                (ChainPosition::Confirmed { .. }, Depth::OwnChange)
                | (ChainPosition::Unconfirmed { .. }, Depth::Confirmed) => false,
            };
            fits && !reserved.contains(&coin.outpoint)
        });
        usable.map(|coin| (coin.outpoint, coin.txout)).collect()
    }

    /// BIP 84: `m/84'/coin'/0'/chain/index`.
    fn key_of(&self, coin: &FeeCoin) -> Result<bitcoin::secp256k1::SecretKey, WalletError> {
        let unknown = WalletError::UnknownCoin { outpoint: coin.outpoint };
        let (keychain, index) = self.wallet.derivation_of_spk(coin.output.script_pubkey.clone()).ok_or(unknown)?;
        let coin_type = match self.root.network {
            NetworkKind::Main => 0,
            NetworkKind::Test => 1,
        };
        let chain = match keychain {
            KeychainKind::External => 0,
            KeychainKind::Internal => 1,
        };
        let path = [
            ChildNumber::from_hardened_idx(84),
            ChildNumber::from_hardened_idx(coin_type),
            ChildNumber::from_hardened_idx(0),
            ChildNumber::from_normal_idx(chain),
            ChildNumber::from_normal_idx(index),
        ];
        let path: Result<Vec<ChildNumber>, _> = path.into_iter().collect();
        let key = path.and_then(|path| self.root.derive_priv(SECP256K1, &path));
        key.map(|key| key.private_key).map_err(|error| WalletError::Sign(error.to_string()))
    }
}
