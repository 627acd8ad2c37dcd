//! Keys that are lent to programs: they sign what they like with them, so nothing of the node's own hangs on these.
//!
//! ```text
//!   m/1017'/coin'/family'/0/index     LND's path, so that its clients find their keys again
//!       family 6, index 0             the node's identity: it holds no coins; LND lends it too
//!       families 7, 9, 11, 12         roots of the secrets of channels, backups, towers and swaps: never lent
//!       every other family            nothing of the node's own
//! ```
//!
//! The keys of coins and of channels are elsewhere (`m/84'`, `m/86'`, and hashes of the root of family 7): no locator leads
//! there. With the identity a program can speak, and make invoices and announcements, in the node's name; that is what a
//! macaroon with `signer:generate` allows, as with LND.

use std::collections::HashMap;

use bitcoin::{
    bip32::{Xpriv, Xpub},
    secp256k1::{PublicKey, SECP256K1, SecretKey},
};

use super::keys::{
    BACKUP_FAMILY, CHANNEL_FAMILY, LIGHTNING_PURPOSE, NODE_FAMILY, NodeKeys, SWAP_FAMILY, TOWER_CLIENT_FAMILY,
    coin_type, derive, hard, soft,
};

/// How many keys of a family are looked through for those of which only the public key is known: a tenth of LND's, some hundred
/// milliseconds on a slow machine.
pub(crate) const LOOKED_THROUGH: u32 = 10_000;
/// Families that are looked through for one request: a program's keys are of one or two.
const FAMILIES_LOOKED_THROUGH: usize = 4;

/// A key of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyLocator {
    pub family: u32,
    pub index: u32,
}

impl KeyLocator {
    pub(crate) const NODE: Self = Self { family: NODE_FAMILY, index: 0 };
}

/// Which key is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyChoice {
    At(KeyLocator),
    /// It is looked for in this family.
    Public {
        family: u32,
        key: PublicKey,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LentError {
    #[error("key family {0} is not lent: the node's own secrets come from it")]
    Own(u32),
    #[error("there is no key {index} of family {family}: both are below 2^31")]
    Beyond { family: u32, index: u32 },
    #[error(
        "unable to find private key for public key {key}: it is none of the first {LOOKED_THROUGH} of family {family}"
    )]
    Unknown { family: u32, key: PublicKey },
    #[error(
        "keys of {0} families are named without their places; at most {FAMILIES_LOOKED_THROUGH} are looked through at a time"
    )]
    TooManyFamilies(usize),
}

/// The first number that is none of a derivation without hardening.
const END: u32 = 1 << 31;

impl NodeKeys {
    /// A key that a program may sign with.
    #[cfg(test)]
    pub(crate) fn lent(&self, choice: KeyChoice) -> Result<SecretKey, LentError> {
        self.lent_all(&[choice]).map(|keys| keys[0])
    }

    /// Keys that a program may sign with, in the order of the choices. However many they are, each family is looked through once.
    pub(crate) fn lent_all(&self, choices: &[KeyChoice]) -> Result<Vec<SecretKey>, LentError> {
        let mut wanted: HashMap<u32, HashMap<PublicKey, Option<u32>>> = HashMap::new();
        for choice in choices {
            if let KeyChoice::Public { family, key } = choice {
                wanted.entry(*family).or_default().insert(*key, None);
            }
        }
        if wanted.len() > FAMILIES_LOOKED_THROUGH {
            return Err(LentError::TooManyFamilies(wanted.len()));
        }
        for (family, keys) in &mut wanted {
            self.look_for(*family, keys)?;
        }
        let mut families: HashMap<u32, Xpriv> = HashMap::new();
        let lend = |choice: &KeyChoice| {
            let KeyLocator { family, index } = match *choice {
                KeyChoice::At(at) => at,
                KeyChoice::Public { family, key } => {
                    let found = wanted.get(&family).and_then(|keys| keys.get(&key).copied().flatten());
                    KeyLocator { family, index: found.ok_or(LentError::Unknown { family, key })? }
                }
            };
            if index >= END {
                return Err(LentError::Beyond { family, index });
            }
            let root = match families.get(&family) {
                Some(root) => *root,
                None => *families.entry(family).or_insert(self.lent_family(family)?),
            };
            Ok(derive(&root, &[soft(index)]).private_key)
        };
        choices.iter().map(lend).collect()
    }

    /// Finds the places of keys.
    fn look_for(&self, family: u32, keys: &mut HashMap<PublicKey, Option<u32>>) -> Result<(), LentError> {
        let public = Xpub::from_priv(SECP256K1, &self.lent_family(family)?);
        let mut missing = keys.len();
        for index in 0..LOOKED_THROUGH {
            if missing == 0 {
                break;
            }
            let Ok(found) = public.ckd_pub(SECP256K1, soft(index)) else { continue };
            if let Some(place) = keys.get_mut(&found.public_key) {
                *place = Some(index);
                missing = missing.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// `m/1017'/coin'/family'/0`.
    fn lent_family(&self, family: u32) -> Result<Xpriv, LentError> {
        match family {
            CHANNEL_FAMILY | BACKUP_FAMILY | TOWER_CLIENT_FAMILY | SWAP_FAMILY => Err(LentError::Own(family)),
            family if family >= END => Err(LentError::Beyond { family, index: 0 }),
            family => {
                let coin = coin_type(self.root().network);
                Ok(derive(&self.root(), &[hard(LIGHTNING_PURPOSE), hard(coin), hard(family), soft(0)]))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::{BlockHash, NetworkKind, hashes::Hash as _};

    use crate::wallet::seed::Seed;

    fn keys() -> NodeKeys {
        NodeKeys::new(&Seed::from_entropy([1; 32], ""), NetworkKind::Test, &BlockHash::all_zeros())
    }

    #[test]
    fn keys_that_guard_channels_backups_towers_and_swaps_are_never_lent() {
        for family in [7, 9, 11, 12] {
            for index in [0, 1, 77] {
                let at = KeyChoice::At(KeyLocator { family, index });
                assert_eq!(keys().lent(at), Err(LentError::Own(family)));
            }
            let key = keys().node_id();
            assert_eq!(keys().lent(KeyChoice::Public { family, key }), Err(LentError::Own(family)));
        }
        let beyond = KeyLocator { family: 0, index: END };
        assert!(matches!(keys().lent(KeyChoice::At(beyond)), Err(LentError::Beyond { .. })));
        let beyond = KeyLocator { family: END, index: 0 };
        assert!(matches!(keys().lent(KeyChoice::At(beyond)), Err(LentError::Beyond { .. })));
    }

    #[test]
    fn a_key_is_found_by_its_place_and_by_its_public_key() {
        let keys = keys();
        assert_eq!(keys.lent(KeyChoice::At(KeyLocator::NODE)).unwrap(), keys.node_secret());
        let at = KeyLocator { family: 99, index: 77 };
        let secret = keys.lent(KeyChoice::At(at)).unwrap();
        let key = secret.public_key(SECP256K1);
        assert_eq!(keys.lent(KeyChoice::Public { family: 99, key }), Ok(secret));
        let elsewhere = keys.lent(KeyChoice::Public { family: 99, key: keys.node_id() });
        assert!(matches!(elsewhere, Err(LentError::Unknown { .. })));
    }

    #[test]
    fn a_family_is_looked_through_once_for_all_keys_of_a_request() {
        let keys = keys();
        let last = KeyLocator { family: 99, index: LOOKED_THROUGH - 1 };
        let key = keys.lent(KeyChoice::At(last)).unwrap().public_key(SECP256K1);
        let mut choices = vec![KeyChoice::Public { family: 99, key }; 1_000];
        choices.push(KeyChoice::At(KeyLocator::NODE));
        // A thousand searches would take minutes.
        let secrets = keys.lent_all(&choices).unwrap();
        assert!(secrets[..1_000].iter().all(|secret| secret.public_key(SECP256K1) == key));
        assert_eq!(secrets[1_000], keys.node_secret(), "each stands where it was asked for");
        let of_many: Vec<_> = (20..30).map(|family| KeyChoice::Public { family, key }).collect();
        assert_eq!(keys.lent_all(&of_many), Err(LentError::TooManyFamilies(10)));
    }
}
