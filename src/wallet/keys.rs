//! Every key of the node from the one seed. Whether the root is the chain's own, says [`super::key_scheme`].
//!
//! ```text
//!   root ─┬─ m/84'/coin'/0'        on-chain account (BIP 84), addresses below it
//!         └─ m/1017'/coin'/ ─┬─ 6'/0/0   node identity (BOLT 7's node_id, BOLT 8's static key)
//!                            ├─ 7'/0/0   root of the channels' secrets
//!                            ├─ 9'/0/0   root of the key that seals channel backups
//!                            ├─ 11'/0/0  root of the keys under which watchtowers know this node
//!                            ├─ 12'/0/0  root of the keys and secrets of atomic swaps
//!                            └─ others  lent to programs ([`super::lent`])
//! ```

use bitcoin::{
    BlockHash, NetworkKind,
    bip32::{ChildNumber, Xpriv},
    hashes::{Hash as _, HashEngine as _, Hmac, HmacEngine, sha256},
    secp256k1::{PublicKey, SECP256K1, SecretKey},
};

use leyden_channels::{
    swap::{Leg, SwapKeys},
    types::{PaymentHash, PaymentPreimage},
};
use leyden_watchtower::{appointment::ClientId, client::keys::TowerKeys};

use super::seed::Seed;

pub(super) const LIGHTNING_PURPOSE: u32 = 1017;
pub(super) const NODE_FAMILY: u32 = 6;
pub(super) const CHANNEL_FAMILY: u32 = 7;
pub(super) const BACKUP_FAMILY: u32 = 9;
pub(super) const TOWER_CLIENT_FAMILY: u32 = 11;
pub(super) const SWAP_FAMILY: u32 = 12;

/// The node's keys; they live in memory while the wallet is unlocked.
#[derive(Clone)]
pub(crate) struct NodeKeys {
    root: Xpriv,
    node: SecretKey,
    node_id: PublicKey,
    channels: SecretKey,
    backups: SecretKey,
    towers: SecretKey,
    swaps: SecretKey,
}

impl NodeKeys {
    /// On the chain with this genesis block.
    pub(crate) fn new(seed: &Seed, network: NetworkKind, genesis: &BlockHash) -> Self {
        let root = seed.root_key(network, genesis);
        let coin = coin_type(network);
        let family =
            |family| derive(&root, &[hard(LIGHTNING_PURPOSE), hard(coin), hard(family), soft(0), soft(0)]).private_key;
        let node = family(NODE_FAMILY);
        Self {
            root,
            node,
            node_id: node.public_key(SECP256K1),
            channels: family(CHANNEL_FAMILY),
            backups: family(BACKUP_FAMILY),
            towers: family(TOWER_CLIENT_FAMILY),
            swaps: family(SWAP_FAMILY),
        }
    }

    /// The node's identity key.
    pub(crate) fn node_secret(&self) -> SecretKey {
        self.node
    }

    pub(crate) fn node_id(&self) -> PublicKey {
        self.node_id
    }

    /// The BIP 32 root, from which the on-chain wallet derives its BIP 84 account.
    pub(crate) fn root(&self) -> Xpriv {
        self.root
    }

    /// The secret from which all keys of a channel follow. `keys_id` is random and kept with the channel, so that no two
    /// channels ever share a per-commitment secret.
    pub(crate) fn channel_seed(&self, keys_id: &[u8; 32]) -> [u8; 32] {
        keyed(&self.channels, b"channel", keys_id)
    }

    /// The key that seals backups of our channels.
    pub(crate) fn backup_key(&self) -> [u8; 32] {
        keyed(&self.backups, b"channel backup", &[])
    }

    /// The key with which this node speaks to one tower, and to no other: two towers cannot tell that they serve the same
    /// node.
    pub(crate) fn tower_client_secret(&self, tower: &PublicKey) -> SecretKey {
        key_of(&self.towers, b"tower client", &tower.serialize())
    }
}

impl SwapKeys for NodeKeys {
    fn secret(&self, nonce: &[u8; 32]) -> PaymentPreimage {
        PaymentPreimage(keyed(&self.swaps, b"secret", nonce))
    }

    fn key(&self, hash: &PaymentHash, leg: Leg) -> SecretKey {
        match leg {
            Leg::Outer => key_of(&self.swaps, b"outer", &hash.0),
            Leg::Inner => key_of(&self.swaps, b"inner", &hash.0),
        }
    }
}

impl TowerKeys for NodeKeys {
    fn client(&self, tower: &PublicKey) -> ClientId {
        self.tower_client_secret(tower).public_key(SECP256K1).into()
    }

    fn secret(&self, tower: &PublicKey) -> [u8; 32] {
        keyed(&self.towers, b"tower secret", &tower.serialize())
    }
}

/// Whether a path is for Bitcoin's own coins or for those of a test network (SLIP 44).
pub(super) fn coin_type(network: NetworkKind) -> u32 {
    match network {
        NetworkKind::Main => 0,
        NetworkKind::Test => 1,
    }
}

pub(super) fn hard(index: u32) -> ChildNumber {
    ChildNumber::Hardened { index }
}

pub(super) fn soft(index: u32) -> ChildNumber {
    ChildNumber::Normal { index }
}

pub(super) fn derive(root: &Xpriv, path: &[ChildNumber]) -> Xpriv {
    root.derive_priv(SECP256K1, &path).unwrap_or_else(|_| unreachable!("private derivation does not fail"))
}

fn keyed(key: &SecretKey, purpose: &[u8], data: &[u8]) -> [u8; 32] {
    let mut engine = HmacEngine::<sha256::Hash>::new(&key.secret_bytes());
    engine.input(purpose);
    engine.input(&[0]);
    engine.input(data);
    Hmac::from_engine(engine).to_byte_array()
}

fn key_of(key: &SecretKey, purpose: &[u8], data: &[u8]) -> SecretKey {
    let mut secret = keyed(key, purpose, data);
    loop {
        // All but 2^-127 of all 32 bytes are a key.
        match SecretKey::from_slice(&secret) {
            Ok(key) => return key,
            Err(_) => secret = keyed(key, &[purpose, b" again"].concat(), &secret),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bdk_wallet::{KeychainKind, Wallet, template::Bip84};
    use bitcoin::Network;

    use super::*;
    use crate::wallet::seed::KeyScheme;

    fn keys_on(chain: u8, scheme: KeyScheme) -> NodeKeys {
        let seed = Seed::from_entropy([1; 32], "").with_scheme(scheme);
        NodeKeys::new(&seed, NetworkKind::Test, &BlockHash::from_byte_array([chain; 32]))
    }

    fn tower(byte: u8) -> PublicKey {
        SecretKey::from_slice(&[byte; 32]).unwrap().public_key(SECP256K1)
    }

    fn secrets(keys: &NodeKeys) -> Vec<[u8; 32]> {
        vec![
            keys.channel_seed(&[0; 32]),
            keys.channel_seed(&[1; 32]),
            keys.backup_key(),
            keys.node_secret().secret_bytes(),
            keys.tower_client_secret(&tower(1)).secret_bytes(),
            keys.tower_client_secret(&tower(2)).secret_bytes(),
            TowerKeys::secret(keys, &tower(1)),
            TowerKeys::secret(keys, &tower(2)),
            SwapKeys::secret(keys, &[0; 32]).0,
            keys.key(&PaymentHash([0; 32]), Leg::Outer).secret_bytes(),
            keys.key(&PaymentHash([0; 32]), Leg::Inner).secret_bytes(),
        ]
    }

    fn scripts(keys: &NodeKeys) -> Vec<bitcoin::ScriptBuf> {
        let branches = [KeychainKind::External, KeychainKind::Internal];
        let [external, internal] = branches.map(|branch| Bip84(keys.root(), branch));
        let wallet = Wallet::create(external, internal).network(Network::Regtest).create_wallet_no_persist().unwrap();
        let of = |branch| (0..20).map(move |index| (branch, index));
        let all = branches.into_iter().flat_map(of);
        all.map(|(branch, index)| wallet.peek_address(branch, index).address.script_pubkey()).collect()
    }

    #[test]
    fn every_purpose_and_index_has_its_own_secret() {
        let secrets = secrets(&keys_on(1, KeyScheme::Coin));
        let different: BTreeSet<_> = secrets.iter().collect();
        assert_eq!(different.len(), secrets.len());
    }

    #[test]
    fn the_same_words_on_two_chains_have_no_key_address_or_node_id_in_common() {
        let [north, south] = [1, 2].map(|chain| keys_on(chain, KeyScheme::Chain));
        // Nor with what the same words were before, on any network.
        let old = keys_on(1, KeyScheme::Coin);
        for (one, two) in [(&north, &south), (&north, &old), (&south, &old)] {
            assert_ne!(one.node_id(), two.node_id());
            let (ones, twos) = (secrets(one), secrets(two));
            assert!(ones.iter().all(|secret| !twos.contains(secret)));
            let (ones, twos) = (scripts(one), scripts(two));
            assert!(ones.iter().all(|script| !twos.contains(script)));
        }
        let again = keys_on(1, KeyScheme::Chain);
        assert_eq!((secrets(&again), scripts(&again)), (secrets(&north), scripts(&north)), "the words bring them back");
    }

    /// What every version must go on to derive, or money of wallets that exist is lost. Reckoned apart from this program.
    #[test]
    fn an_old_wallet_opens_with_its_old_keys_on_every_chain() {
        for chain in [1, 2] {
            let keys = keys_on(chain, KeyScheme::Coin);
            assert_eq!(
                keys.node_id().to_string(),
                "039aec79b6995ff9583a8d66fb22c622c51c7f92626546d93eec6c9f1be187b93f"
            );
            assert_eq!(scripts(&keys)[0].to_hex_string(), "00141ce736ae31fb8e5e2ef4ad81be4bb74049f41db8");
        }
        let keys = keys_on(1, KeyScheme::Chain);
        assert_eq!(keys.node_id().to_string(), "033f2cfc4776d5c326c514f6d3794ad9459cbdc1dfb7bfd95534b54caccd5c942a");
        assert_eq!(scripts(&keys)[0].to_hex_string(), "00146decf84ba1414d333ec25e0c35f596254557b76a");
    }
}
