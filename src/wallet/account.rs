//! The accounts that addresses come from, as others may know them.

use std::collections::{HashMap, HashSet};

use bdk_wallet::KeychainKind;
use bitcoin::{
    Address, Amount,
    bip32::{self, ChildNumber, DerivationPath, Xpub},
    secp256k1::{PublicKey, SECP256K1},
};

use super::{
    accounts::{AddressKind, Derivation},
    claims::account_path,
    onchain::{OnchainWallet, WalletError},
    scripts,
};

/// One of the two accounts of this wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccountKeys {
    pub kind: AddressKind,
    pub public: Xpub,
    pub master_fingerprint: [u8; 4],
    pub path: DerivationPath,
    /// How many addresses have been given out, and how many scripts for change taken.
    pub external: u32,
    pub internal: u32,
}

/// A script that was given out or taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnAddress {
    pub address: Address,
    pub place: Derivation,
    /// In coins that are unspent.
    pub balance: Amount,
    pub path: DerivationPath,
    /// For P2TR the internal key.
    pub public_key: PublicKey,
}

impl OnchainWallet {
    pub(crate) fn account(&self, kind: AddressKind) -> Result<AccountKeys, WalletError> {
        let state = self.lock();
        let secp = leyden_channels::keys::secp();
        let path = account_path(kind, state.root.network).map_err(|error| WalletError::Sign(error.to_string()))?;
        let private = state.account_key(kind)?;
        let count =
            |branch| state.wallet.index(kind).last_revealed_index(branch).map_or(0, |last| last.saturating_add(1));
        Ok(AccountKeys {
            kind,
            public: Xpub::from_priv(secp, &private),
            master_fingerprint: state.root.fingerprint(secp).to_bytes(),
            path,
            external: count(KeychainKind::External),
            internal: count(KeychainKind::Internal),
        })
    }

    /// The scripts that were given out or taken for change, the oldest first. Of those for what channels pay back, the ones that
    /// were paid.
    pub(crate) fn addresses(&self, kind: AddressKind) -> Result<Vec<OwnAddress>, WalletError> {
        let failed = |error: bip32::Error| WalletError::Sign(error.to_string());
        let (root, account, found) = {
            let state = self.lock();
            let root = account_path(kind, state.root.network).map_err(failed)?;
            let account = Xpub::from_priv(SECP256K1, &state.account_key(kind)?);
            let mut balances: HashMap<(KeychainKind, u32), Amount> = HashMap::new();
            for (_, coin) in state.ledger.coins().filter(|(_, coin)| coin.place.kind == kind) {
                let balance = balances.entry((coin.place.branch, coin.place.index)).or_default();
                *balance = balance.checked_add(coin.output.value).unwrap_or(*balance);
            }
            let index = state.wallet.index(kind);
            let paid: HashSet<(KeychainKind, u32)> = index.outpoints().iter().map(|(place, _)| *place).collect();
            let mut found = Vec::new();
            for branch in [KeychainKind::External, KeychainKind::Internal] {
                for (number, script) in index.revealed_keychain_spks(branch) {
                    let place = Derivation { kind, branch, index: number };
                    if !scripts::is_for_channels(place) || paid.contains(&(branch, number)) {
                        let balance = balances.get(&(branch, number)).copied().unwrap_or_default();
                        found.push((place, state.wallet.address(&script)?, balance));
                    }
                }
            }
            (root, account, found)
        };
        // The keys take their time, and nobody waits for the wallet meanwhile.
        let mut list = Vec::with_capacity(found.len());
        for (place, address, balance) in found {
            let steps = [place.branch_number(), place.index].map(ChildNumber::from_normal_idx);
            let below: Vec<ChildNumber> = steps.into_iter().collect::<Result<_, _>>().map_err(failed)?;
            let public_key = account.derive_pub(SECP256K1, &below).map_err(failed)?.public_key;
            list.push(OwnAddress { address, place, balance, public_key, path: root.extend(&below) });
        }
        Ok(list)
    }
}
