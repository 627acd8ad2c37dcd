//! How the keys of one chain follow from the words of a wallet.
//!
//! ```text
//!   24 words ──(BIP 39)──► 64 bytes ─┬─ coin ──────────────────────────────────────────────► BIP 32 root
//!                                    └─ chain ── HMAC-SHA512 with the hash of its genesis ──► BIP 32 root
//! ```
//!
//! With `coin` a path says by its coin type whether the coins are Bitcoin's own or a test network's: so all test networks share
//! every key. It is the scheme of regtest and `leyden`, as other wallets know it, and of every wallet that was made before there
//! was another. With `chain` two chains have no key in common.

use std::str::FromStr;

use bitcoin::{
    BlockHash,
    hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, sha512},
};
use leyden_consensus::Params;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// See above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyScheme {
    /// By coin types alone.
    #[default]
    Coin,
    /// By the chain's genesis block.
    Chain,
}

/// A word that names no scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("keys follow by `coin` or by `chain`")]
pub struct UnknownScheme;

impl KeyScheme {
    /// That of a new wallet on a network, unless somebody wants another.
    pub fn usual(params: &Params) -> Self {
        let known = [Params::mainnet(), Params::testnet3(), Params::signet(), Params::regtest(), Params::leyden()];
        if known.iter().any(|known| known.genesis_hash == params.genesis_hash) { Self::Coin } else { Self::Chain }
    }

    /// The other one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Coin => Self::Chain,
            Self::Chain => Self::Coin,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Coin => "coin",
            Self::Chain => "chain",
        }
    }

    /// What BIP 32 makes the root of, from what BIP 39 makes of the words.
    pub(super) fn root(self, seed: Zeroizing<[u8; 64]>, genesis: &BlockHash) -> Zeroizing<[u8; 64]> {
        match self {
            Self::Coin => seed,
            Self::Chain => {
                let mut engine = HmacEngine::<sha512::Hash>::new(seed.as_slice());
                engine.input(b"leyden chain\0");
                engine.input(genesis.as_byte_array());
                Zeroizing::new(Hmac::from_engine(engine).to_byte_array())
            }
        }
    }
}

impl FromStr for KeyScheme {
    type Err = UnknownScheme;

    fn from_str(text: &str) -> Result<Self, UnknownScheme> {
        [Self::Coin, Self::Chain].into_iter().find(|scheme| scheme.name() == text).ok_or(UnknownScheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_networks_of_ones_own_take_their_genesis_block_by_themselves() {
        assert_eq!(KeyScheme::usual(&Params::regtest()), KeyScheme::Coin);
        assert_eq!(KeyScheme::usual(&Params::leyden()), KeyScheme::Coin);
        let own = Params { genesis_hash: BlockHash::from_byte_array([7; 32]), ..Params::regtest() };
        assert_eq!(KeyScheme::usual(&own), KeyScheme::Chain);
    }

    #[test]
    fn a_scheme_is_called_by_its_name() {
        for scheme in [KeyScheme::Coin, KeyScheme::Chain] {
            assert_eq!(scheme.name().parse(), Ok(scheme));
            assert_eq!(serde_json::to_string(&scheme).unwrap(), format!("\"{}\"", scheme.name()));
            assert_eq!(scheme.other().other(), scheme);
        }
        assert_eq!("new".parse::<KeyScheme>(), Err(UnknownScheme));
    }
}
