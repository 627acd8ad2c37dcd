//! The account that addresses come from, as others may know it.

use bdk_wallet::KeychainKind;
use bitcoin::bip32::{ChildNumber, DerivationPath, Xpub};

use super::onchain::{OnchainWallet, WalletError};

/// The BIP 84 account of this wallet: there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccountKeys {
    pub public: Xpub,
    pub master_fingerprint: [u8; 4],
    pub path: DerivationPath,
    /// How many addresses have been given out, and how many scripts for change taken.
    pub external: u32,
    pub internal: u32,
}

/// BIP 84: the purpose's number.
const PURPOSE: u32 = 84;

impl OnchainWallet {
    pub(crate) fn account(&self) -> Result<AccountKeys, WalletError> {
        let state = self.lock();
        let secp = leyden_channels::keys::secp();
        let failed = |error: bitcoin::bip32::Error| WalletError::Sign(error.to_string());
        let hard = |index| ChildNumber::from_hardened_idx(index).map_err(failed);
        let coin = if state.root.network.is_mainnet() { 0 } else { 1 };
        let path = DerivationPath::from(vec![hard(PURPOSE)?, hard(coin)?, hard(0)?]);
        let private = state.root.derive_priv(secp, &path).map_err(failed)?;
        let count = |branch| state.wallet.derivation_index(branch).map_or(0, |last| last.saturating_add(1));
        Ok(AccountKeys {
            public: Xpub::from_priv(secp, &private),
            master_fingerprint: state.root.fingerprint(secp).to_bytes(),
            path,
            external: count(KeychainKind::External),
            internal: count(KeychainKind::Internal),
        })
    }
}
