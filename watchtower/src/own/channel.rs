//! What an own tower knows of a channel that is the same in all its states.

use bitcoin::{Amount, OutPoint, ScriptBuf};
use leyden_channels::{
    keys::{Basepoints, PerCommitmentSecrets},
    onchain::{ClosingChannel, MutualScripts},
    types::{ChannelId, CommitmentType, Side},
};
use secp256k1::SecretKey;

use crate::codec::{Part, ReadError, by_field, decode_format, encode_format};
use leyden_channels::wire::codec::{DecodeError, Reader};

const FORMAT: u8 = 1;

/// "Local" is the client.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnChannel {
    /// Which commitments it has.
    pub kind: CommitmentType,
    /// Who pays the commitment's fee.
    pub opener: Side,
    /// The output that all commitments spend.
    pub funding: OutPoint,
    /// Its amount.
    pub capacity: Amount,
    /// The client's.
    pub local: Basepoints,
    /// The peer's.
    pub remote: Basepoints,
    /// How long the peer waits for its own money.
    pub remote_delay: u16,
    /// Where everything goes.
    pub destination: ScriptBuf,
    /// Behind `local.revocation`.
    pub revocation: RevocationSecret,
}

impl std::fmt::Debug for OwnChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OwnChannel({})", self.funding)
    }
}

/// The secret of the revocation basepoint, overwritten when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct RevocationSecret(pub SecretKey);

impl Drop for RevocationSecret {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

by_field! {
    OwnChannel { kind, opener, funding, capacity, local, remote, remote_delay, destination, revocation }
    Basepoints { funding, revocation, payment, delayed_payment, htlc }
}

impl Part for RevocationSecret {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.secret_bytes());
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, ReadError> {
        // 32 bytes that are no key are as wrong as ones that are no point.
        SecretKey::from_slice(&reader.array::<32>()?).map(Self).map_err(|_| DecodeError::InvalidPoint.into())
    }
}

impl OwnChannel {
    /// For `open_channel`.
    pub fn encode(&self) -> Vec<u8> {
        encode_format(FORMAT, self)
    }

    /// An error also if the secret is not the one behind the revocation basepoint.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReadError> {
        let channel: Self = decode_format("a channel of an own tower", FORMAT, bytes)?;
        let point = leyden_channels::keys::curve::public_key(&channel.revocation.0);
        if point != channel.local.revocation {
            return Err(ReadError::Unknown { what: "secret of the revocation basepoint", value: 0 });
        }
        Ok(channel)
    }

    /// As the channel's own resolution has it, without any state that is still valid.
    pub(super) fn closing(&self, secrets: PerCommitmentSecrets) -> ClosingChannel {
        ClosingChannel {
            channel_id: ChannelId::from_funding(self.funding),
            kind: self.kind,
            opener: self.opener,
            funding: self.funding,
            capacity: self.capacity,
            local: self.local.clone(),
            remote: self.remote.clone(),
            // Revoked states are recognised by their scripts; no commitment is ever built again.
            local_dust_limit: Amount::ZERO,
            remote_dust_limit: Amount::ZERO,
            local_delay: 0,
            remote_delay: self.remote_delay,
            local_state: None,
            local_may_be_revoked: false,
            remote_state: None,
            remote_next: None,
            secrets,
            mutual_scripts: MutualScripts::Forgotten,
            preimages: Default::default(),
            upstream_expiries: Default::default(),
            destination: self.destination.clone(),
        }
    }
}
