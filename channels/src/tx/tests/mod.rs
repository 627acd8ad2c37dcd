//! Two nodes' keys, and a channel between them, for the tests of this folder.

#![allow(unreachable_pub, reason = "helpers are shared between tests")]

mod conservation;
mod spends;
mod vectors;

use bitcoin::{Amount, OutPoint, Txid, hashes::Hash as _};
use secp256k1::{PublicKey, SecretKey};

use super::*;
use crate::{
    keys::{BasepointSecrets, CommitmentKeys, KeysSigner, Signer as _},
    types::{CommitmentType, Side},
};

/// Both nodes' secrets. "Local" owns the commitments of the vectors.
pub(crate) struct TwoNodes {
    pub local: KeysSigner,
    pub remote: KeysSigner,
}

impl TwoNodes {
    pub fn from_seeds(local: u8, remote: u8) -> Self {
        let signer = |seed| KeysSigner::from_channel_seed(&[seed; 32]).unwrap();
        Self { local: signer(local), remote: signer(remote) }
    }

    pub fn signer(&self, side: Side) -> &KeysSigner {
        match side {
            Side::Local => &self.local,
            Side::Remote => &self.remote,
        }
    }

    /// The keys of `owner`'s commitment under this point, as both nodes' signers derive them.
    pub fn keys(&self, owner: Side, point: PublicKey) -> CommitmentKeys {
        let keys = self.local.commitment_keys(owner, point, self.remote.basepoints()).unwrap();
        let (owner_points, other_points) = (self.signer(owner).basepoints(), self.signer(owner.other()).basepoints());
        assert_eq!(CommitmentKeys::derive(point, owner_points, other_points).unwrap(), keys);
        assert_eq!(self.remote.commitment_keys(owner.other(), point, self.local.basepoints()).unwrap(), keys);
        keys
    }

    pub fn funding(&self, amount: Amount) -> Funding {
        let outpoint = OutPoint { txid: Txid::from_byte_array([0xab; 32]), vout: 1 };
        Funding::new(outpoint, amount, self.local.basepoints().funding, self.remote.basepoints().funding)
    }

    pub fn params(&self, kind: CommitmentType, funding: Funding, owner: Side, opener: Side) -> CommitmentParams {
        CommitmentParams::new(CommitmentSetup {
            kind,
            funding,
            owner,
            opener,
            local: self.local.basepoints(),
            remote: self.remote.basepoints(),
            owner_dust_limit: Amount::from_sat(546),
            owner_to_self_delay: 144,
        })
    }
}

fn secret(bytes: [u8; 32]) -> SecretKey {
    SecretKey::from_slice(&bytes).unwrap()
}
