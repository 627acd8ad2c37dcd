//! What is the same in all states of a channel: sealed once, opened by any of its kits.

use bitcoin::{
    ScriptBuf,
    hashes::{Hash as _, HashEngine as _, sha256},
};
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit as _,
    aead::{Aead as _, Payload},
};
use leyden_channels::{
    keys::{Basepoints, CommitmentKeys, KeyError},
    types::{CommitmentType, FeeratePerKw},
};
use secp256k1::PublicKey;

use crate::{
    appointment::ChannelName,
    codec::{ReadError, by_field, decode_format, encode, encode_format},
    seal::SealError,
};

const FORMAT: u8 = 1;

/// What a tower that has opened a kit needs to know of the channel. "Local" is the client, "remote" its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constants {
    /// Which commitments the channel has.
    pub kind: CommitmentType,
    /// How long the peer waits for its own money.
    pub remote_delay: u16,
    /// Basepoint.
    pub local_revocation: PublicKey,
    /// Basepoint; the payment key itself where the commitments have `static_remotekey`.
    pub local_payment: PublicKey,
    /// Basepoint.
    pub local_htlc: PublicKey,
    /// Basepoint.
    pub remote_delayed: PublicKey,
    /// Basepoint.
    pub remote_htlc: PublicKey,
    /// At which rate every claim pays for itself.
    pub sweep_feerate: FeeratePerKw,
    /// Where everything goes. A script of the client's wallet that it uses for nothing else: the tower sees it at a breach.
    pub sweep_script: ScriptBuf,
}

by_field! {
    Constants {
        kind, remote_delay, local_revocation, local_payment, local_htlc, remote_delayed, remote_htlc, sweep_feerate,
        sweep_script,
    }
}

/// Opens the constants of one channel at one tower. It is in each kit, so whoever opens one kit has it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConstantsKey(pub [u8; 16]);

impl std::fmt::Debug for ConstantsKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConstantsKey(..)")
    }
}

impl ConstantsKey {
    /// From a secret of the client's, another one for each tower, tag and funding index.
    pub fn derive(secret: &[u8; 32], channel: &ChannelName) -> Self {
        let hash = hashed(b"leyden/tower/constants key", &[secret, &encode(channel)]);
        let mut key = [0; 16];
        key.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        Self(key)
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&hashed(b"leyden/tower/constants", &[&self.0]).into())
    }
}

impl Constants {
    /// What a channel's two sides and the sweep's terms make of it.
    pub fn new(kind: CommitmentType, local: &Basepoints, remote: &Basepoints, sweep: SweepTerms) -> Self {
        Self {
            kind,
            remote_delay: sweep.remote_delay,
            local_revocation: local.revocation,
            local_payment: local.payment,
            local_htlc: local.htlc,
            remote_delayed: remote.delayed_payment,
            remote_htlc: remote.htlc,
            sweep_feerate: sweep.feerate,
            sweep_script: sweep.script,
        }
    }

    /// For `open_channel`. A key seals once: other constants need another tag.
    pub fn seal(&self, key: &ConstantsKey, channel: &ChannelName) -> Result<Vec<u8>, SealError> {
        let payload = Payload { msg: &encode_format(FORMAT, self), aad: &encode(channel) };
        key.cipher().encrypt(&[0; 12].into(), payload).map_err(|_| SealError::TooLong)
    }

    /// What [`Self::seal`] has sealed for this channel.
    pub fn open(key: &ConstantsKey, channel: &ChannelName, sealed: &[u8]) -> Result<Self, ConstantsError> {
        let payload = Payload { msg: sealed, aad: &encode(channel) };
        let bytes = key.cipher().decrypt(&[0; 12].into(), payload).map_err(|_| SealError::NotAuthentic)?;
        Ok(decode_format("the constants of a channel", FORMAT, &bytes)?)
    }

    /// The keys of one commitment of the peer's.
    pub fn keys(&self, per_commitment_point: PublicKey) -> Result<CommitmentKeys, KeyError> {
        CommitmentKeys::from_basepoints(
            per_commitment_point,
            &self.local_revocation,
            &self.remote_delayed,
            [self.remote_htlc, self.local_htlc],
        )
    }
}

/// The terms of a channel's sweeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepTerms {
    /// `to_self_delay` of the peer, in blocks.
    pub remote_delay: u16,
    /// In satoshi per 1,000 units of weight.
    pub feerate: FeeratePerKw,
    /// Where the money goes.
    pub script: ScriptBuf,
}

/// Why a channel's constants are not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ConstantsError {
    #[error("the constants of the channel do not belong to this kit: {0}")]
    Seal(#[from] SealError),
    #[error("the constants of the channel cannot be read: {0}")]
    Read(#[from] ReadError),
}

fn hashed(tag: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    engine.input(&sha256::Hash::hash(tag).to_byte_array());
    parts.iter().for_each(|part| engine.input(part));
    sha256::Hash::from_engine(engine).to_byte_array()
}
