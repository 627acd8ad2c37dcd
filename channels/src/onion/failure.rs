//! Failure messages, and the onions that carry them back to the origin (BOLT 4, Returning Errors).
//!
//! ```text
//!   failure onion = hmac (32) ‖ length ‖ message ‖ pad length ‖ padding,  at least 292 bytes
//! ```
//!
//! The hop that fails an HTLC builds the onion and obfuscates it; each hop towards the origin obfuscates it once
//! more. The origin takes the layers off in the order of the route: the one under which the HMAC is right names the
//! hop that failed. Attribution data (`option_attribution_data`) is not built or read yet, and not advertised.

use bitcoin_hashes::cmp::fixed_time_eq;

use super::payload::PayloadError;
use super::sphinx::{BadOnion, MAX_HOPS, SharedSecret};
use super::stream::{KeyType, derive_key, hmac, xor_stream};
use crate::types::{CltvExpiry, Height, Msat};
use crate::wire::{DecodeError, Field as _, OnionRoutingPacket, Reader, bigsize};

/// The onion could not be read by the hop after the one that reports it.
pub const BADONION: u16 = 0x8000;
/// Trying again is of no use.
pub const PERM: u16 = 0x4000;
/// The whole node is meant, not one channel.
pub const NODE: u16 = 0x2000;
/// The channel's terms were not met.
pub const UPDATE: u16 = 0x1000;

const HMAC_LEN: usize = 32;
/// Message and padding together; a fixed sum keeps the kind of failure from showing in the length.
const PADDED_LEN: usize = 256;

/// Why a payment failed at a hop. `channel_update` is an encoded update, or nothing: nodes move away from sending
/// one, and what is received must not reach the public graph.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names and fields are those of BOLT 4, Failure Messages")]
pub enum FailureMessage {
    TemporaryNodeFailure,
    PermanentNodeFailure,
    RequiredNodeFeatureMissing,
    InvalidOnionVersion {
        sha256_of_onion: [u8; 32],
    },
    InvalidOnionHmac {
        sha256_of_onion: [u8; 32],
    },
    InvalidOnionKey {
        sha256_of_onion: [u8; 32],
    },
    TemporaryChannelFailure {
        channel_update: Vec<u8>,
    },
    PermanentChannelFailure,
    RequiredChannelFeatureMissing,
    UnknownNextPeer,
    AmountBelowMinimum {
        htlc_msat: Msat,
        channel_update: Vec<u8>,
    },
    FeeInsufficient {
        htlc_msat: Msat,
        channel_update: Vec<u8>,
    },
    IncorrectCltvExpiry {
        cltv_expiry: CltvExpiry,
        channel_update: Vec<u8>,
    },
    ExpiryTooSoon {
        channel_update: Vec<u8>,
    },
    IncorrectOrUnknownPaymentDetails {
        htlc_msat: Msat,
        height: Height,
    },
    FinalIncorrectCltvExpiry {
        cltv_expiry: CltvExpiry,
    },
    FinalIncorrectHtlcAmount {
        incoming_htlc_amt: Msat,
    },
    ChannelDisabled {
        disabled_flags: u16,
        channel_update: Vec<u8>,
    },
    ExpiryTooFar,
    InvalidOnionPayload {
        kind: u64,
        offset: u16,
    },
    MppTimeout,
    InvalidOnionBlinding {
        sha256_of_onion: [u8; 32],
    },
    /// A code that this code has no name for.
    Unknown {
        code: u16,
        data: Vec<u8>,
    },
}

impl From<PayloadError> for FailureMessage {
    fn from(error: PayloadError) -> Self {
        Self::InvalidOnionPayload { kind: error.kind, offset: error.offset }
    }
}

impl FailureMessage {
    /// The `failure_code`; its flags are [`BADONION`], [`PERM`], [`NODE`], [`UPDATE`].
    pub const fn code(&self) -> u16 {
        match self {
            Self::TemporaryNodeFailure => NODE | 2,
            Self::PermanentNodeFailure => PERM | NODE | 2,
            Self::RequiredNodeFeatureMissing => PERM | NODE | 3,
            Self::InvalidOnionVersion { .. } => BADONION | PERM | 4,
            Self::InvalidOnionHmac { .. } => BADONION | PERM | 5,
            Self::InvalidOnionKey { .. } => BADONION | PERM | 6,
            Self::TemporaryChannelFailure { .. } => UPDATE | 7,
            Self::PermanentChannelFailure => PERM | 8,
            Self::RequiredChannelFeatureMissing => PERM | 9,
            Self::UnknownNextPeer => PERM | 10,
            Self::AmountBelowMinimum { .. } => UPDATE | 11,
            Self::FeeInsufficient { .. } => UPDATE | 12,
            Self::IncorrectCltvExpiry { .. } => UPDATE | 13,
            Self::ExpiryTooSoon { .. } => UPDATE | 14,
            Self::IncorrectOrUnknownPaymentDetails { .. } => PERM | 15,
            Self::FinalIncorrectCltvExpiry { .. } => 18,
            Self::FinalIncorrectHtlcAmount { .. } => 19,
            Self::ChannelDisabled { .. } => UPDATE | 20,
            Self::ExpiryTooFar => 21,
            Self::InvalidOnionPayload { .. } => PERM | 22,
            Self::MppTimeout => 23,
            Self::InvalidOnionBlinding { .. } => BADONION | PERM | 24,
            Self::Unknown { code, .. } => *code,
        }
    }

    /// The encoded `channel_update` that came along, if one did.
    pub fn channel_update(&self) -> Option<&[u8]> {
        match self {
            Self::TemporaryChannelFailure { channel_update }
            | Self::AmountBelowMinimum { channel_update, .. }
            | Self::FeeInsufficient { channel_update, .. }
            | Self::IncorrectCltvExpiry { channel_update, .. }
            | Self::ExpiryTooSoon { channel_update }
            | Self::ChannelDisabled { channel_update, .. } => {
                Some(channel_update.as_slice()).filter(|update| !update.is_empty())
            }
            Self::TemporaryNodeFailure
            | Self::PermanentNodeFailure
            | Self::RequiredNodeFeatureMissing
            | Self::InvalidOnionVersion { .. }
            | Self::InvalidOnionHmac { .. }
            | Self::InvalidOnionKey { .. }
            | Self::PermanentChannelFailure
            | Self::RequiredChannelFeatureMissing
            | Self::UnknownNextPeer
            | Self::IncorrectOrUnknownPaymentDetails { .. }
            | Self::FinalIncorrectCltvExpiry { .. }
            | Self::FinalIncorrectHtlcAmount { .. }
            | Self::ExpiryTooFar
            | Self::InvalidOnionPayload { .. }
            | Self::MppTimeout
            | Self::InvalidOnionBlinding { .. }
            | Self::Unknown { .. } => None,
        }
    }

    /// What an `update_fail_malformed_htlc` from downstream becomes on its way upstream. `None` if its code does not
    /// carry BADONION, which no honest peer sends (BOLT 2: close the connection).
    pub fn from_malformed(failure_code: u16, sha256_of_onion: [u8; 32]) -> Option<Self> {
        if failure_code & BADONION == 0 {
            return None;
        }
        let mut bytes = failure_code.to_be_bytes().to_vec();
        bytes.extend_from_slice(&sha256_of_onion);
        Self::decode(&bytes).ok()
    }

    /// What this node says about a packet that it could not open.
    pub fn bad_onion(reason: BadOnion, packet: &OnionRoutingPacket) -> Self {
        let sha256_of_onion = packet.sha256();
        match reason {
            BadOnion::Version(_) => Self::InvalidOnionVersion { sha256_of_onion },
            BadOnion::Key => Self::InvalidOnionKey { sha256_of_onion },
            BadOnion::Hmac => Self::InvalidOnionHmac { sha256_of_onion },
        }
    }

    /// The failure code and its data, as BOLT 4 (Failure Messages) lays them out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.code().write(&mut out);
        match self {
            Self::InvalidOnionVersion { sha256_of_onion }
            | Self::InvalidOnionHmac { sha256_of_onion }
            | Self::InvalidOnionKey { sha256_of_onion }
            | Self::InvalidOnionBlinding { sha256_of_onion } => sha256_of_onion.write(&mut out),
            Self::TemporaryChannelFailure { channel_update } | Self::ExpiryTooSoon { channel_update } => {
                channel_update.write(&mut out);
            }
            Self::AmountBelowMinimum { htlc_msat, channel_update }
            | Self::FeeInsufficient { htlc_msat, channel_update } => {
                htlc_msat.write(&mut out);
                channel_update.write(&mut out);
            }
            Self::IncorrectCltvExpiry { cltv_expiry, channel_update } => {
                cltv_expiry.write(&mut out);
                channel_update.write(&mut out);
            }
            Self::IncorrectOrUnknownPaymentDetails { htlc_msat, height } => {
                htlc_msat.write(&mut out);
                height.0.write(&mut out);
            }
            Self::FinalIncorrectCltvExpiry { cltv_expiry } => cltv_expiry.write(&mut out),
            Self::FinalIncorrectHtlcAmount { incoming_htlc_amt } => incoming_htlc_amt.write(&mut out),
            Self::ChannelDisabled { disabled_flags, channel_update } => {
                disabled_flags.write(&mut out);
                channel_update.write(&mut out);
            }
            Self::InvalidOnionPayload { kind, offset } => {
                bigsize::write(*kind, &mut out);
                offset.write(&mut out);
            }
            Self::Unknown { data, .. } => out.extend_from_slice(data),
            Self::TemporaryNodeFailure
            | Self::PermanentNodeFailure
            | Self::RequiredNodeFeatureMissing
            | Self::PermanentChannelFailure
            | Self::RequiredChannelFeatureMissing
            | Self::UnknownNextPeer
            | Self::ExpiryTooFar
            | Self::MppTimeout => {}
        }
        out
    }

    /// Reads a failure. Bytes after what a code defines are ignored (BOLT 4, Receiving Failure Codes); a known code
    /// without its data comes back as [`FailureMessage::Unknown`], since the code alone still tells something.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let code = reader.field::<u16>()?;
        let data = reader.peek_rest();
        Ok(Self::read_data(code, &mut reader).unwrap_or_else(|_| Self::Unknown { code, data: data.to_vec() }))
    }

    fn read_data(code: u16, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const TEMPORARY_NODE: u16 = NODE | 2;
        const PERMANENT_NODE: u16 = PERM | NODE | 2;
        const NODE_FEATURE: u16 = PERM | NODE | 3;
        const ONION_VERSION: u16 = BADONION | PERM | 4;
        const ONION_HMAC: u16 = BADONION | PERM | 5;
        const ONION_KEY: u16 = BADONION | PERM | 6;
        const TEMPORARY_CHANNEL: u16 = UPDATE | 7;
        const PERMANENT_CHANNEL: u16 = PERM | 8;
        const CHANNEL_FEATURE: u16 = PERM | 9;
        const NEXT_PEER: u16 = PERM | 10;
        const BELOW_MINIMUM: u16 = UPDATE | 11;
        const FEE: u16 = UPDATE | 12;
        const CLTV_EXPIRY: u16 = UPDATE | 13;
        const TOO_SOON: u16 = UPDATE | 14;
        const DETAILS: u16 = PERM | 15;
        const DISABLED: u16 = UPDATE | 20;
        const PAYLOAD: u16 = PERM | 22;
        const BLINDING: u16 = BADONION | PERM | 24;
        Ok(match code {
            TEMPORARY_NODE => Self::TemporaryNodeFailure,
            PERMANENT_NODE => Self::PermanentNodeFailure,
            NODE_FEATURE => Self::RequiredNodeFeatureMissing,
            ONION_VERSION => Self::InvalidOnionVersion { sha256_of_onion: reader.array()? },
            ONION_HMAC => Self::InvalidOnionHmac { sha256_of_onion: reader.array()? },
            ONION_KEY => Self::InvalidOnionKey { sha256_of_onion: reader.array()? },
            TEMPORARY_CHANNEL => Self::TemporaryChannelFailure { channel_update: reader.field()? },
            PERMANENT_CHANNEL => Self::PermanentChannelFailure,
            CHANNEL_FEATURE => Self::RequiredChannelFeatureMissing,
            NEXT_PEER => Self::UnknownNextPeer,
            BELOW_MINIMUM => Self::AmountBelowMinimum { htlc_msat: reader.field()?, channel_update: reader.field()? },
            FEE => Self::FeeInsufficient { htlc_msat: reader.field()?, channel_update: reader.field()? },
            CLTV_EXPIRY => Self::IncorrectCltvExpiry { cltv_expiry: reader.field()?, channel_update: reader.field()? },
            TOO_SOON => Self::ExpiryTooSoon { channel_update: reader.field()? },
            DETAILS => {
                Self::IncorrectOrUnknownPaymentDetails { htlc_msat: reader.field()?, height: Height(reader.field()?) }
            }
            18 => Self::FinalIncorrectCltvExpiry { cltv_expiry: reader.field()? },
            19 => Self::FinalIncorrectHtlcAmount { incoming_htlc_amt: reader.field()? },
            DISABLED => Self::ChannelDisabled { disabled_flags: reader.field()?, channel_update: reader.field()? },
            21 => Self::ExpiryTooFar,
            PAYLOAD => Self::InvalidOnionPayload { kind: reader.bigsize()?, offset: reader.field()? },
            23 => Self::MppTimeout,
            BLINDING => Self::InvalidOnionBlinding { sha256_of_onion: reader.array()? },
            _ => Self::Unknown { code, data: reader.take_rest().to_vec() },
        })
    }
}

/// The failure onion of the hop that fails the HTLC: the `reason` of its `update_fail_htlc`.
pub fn build(shared_secret: &SharedSecret, failure: &FailureMessage) -> Vec<u8> {
    let message = failure.encode();
    let pad_len = PADDED_LEN.saturating_sub(message.len());
    let mut onion = Vec::with_capacity(HMAC_LEN + 4 + message.len() + pad_len);
    onion.extend_from_slice(&[0; HMAC_LEN]);
    message.write(&mut onion);
    (pad_len as u16).write(&mut onion);
    onion.resize(onion.len() + pad_len, 0);
    if let Some((tag, body)) = onion.split_first_chunk_mut::<HMAC_LEN>() {
        *tag = hmac(&derive_key(KeyType::Um, &shared_secret.0), &[body]);
    }
    wrap(shared_secret, &mut onion);
    onion
}

/// Adds a hop's layer to a failure onion from downstream.
pub fn wrap(shared_secret: &SharedSecret, onion: &mut [u8]) {
    xor_stream(&derive_key(KeyType::Ammag, &shared_secret.0), 0, onion);
}

/// A failure and the hop that reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributedFailure {
    /// The hop's index in the route; 0 is our direct peer.
    pub hop: usize,
    /// What it reported.
    pub failure: FailureMessage,
}

/// What the origin reads in a failure onion. `None`: no hop of the route made it so, and nothing says who garbled it.
///
/// The layers are taken off [`MAX_HOPS`] times in any case, so that a hop cannot tell from the time of a retry how
/// far away it is.
pub fn decrypt(shared_secrets: &[SharedSecret], mut onion: Vec<u8>) -> Option<AttributedFailure> {
    let dummy = SharedSecret([0; 32]);
    let mut found = None;
    for hop in 0..MAX_HOPS.max(shared_secrets.len()) {
        let secret = shared_secrets.get(hop);
        wrap(secret.unwrap_or(&dummy), &mut onion);
        let um = derive_key(KeyType::Um, &secret.unwrap_or(&dummy).0);
        let (tag, body) = onion.split_first_chunk::<HMAC_LEN>()?;
        let matches = fixed_time_eq(&hmac(&um, &[body]), tag);
        if matches && secret.is_some() && found.is_none() {
            // What authenticates but does not parse is still this hop's doing.
            let failure = Reader::new(body)
                .field::<Vec<u8>>()
                .and_then(|message| FailureMessage::decode(&message))
                .unwrap_or_else(|_| FailureMessage::Unknown { code: 0, data: Vec::new() });
            found = Some(AttributedFailure { hop, failure });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vectors;

    #[test]
    fn failure_vectors_are_built_wrapped_and_attributed() {
        let Some(vectors) = vectors::json("lightning/bolt04/onion-error-test.json") else { return };
        let bytes = |value: &serde_json::Value| hex::decode(value.as_str().unwrap()).unwrap();
        let secrets: Vec<_> = vectors["generate"]["hops"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hop| {
                let secret = SharedSecret(bytes(&hop["hop_shared_secret"]).try_into().unwrap());
                assert_eq!(derive_key(KeyType::Ammag, &secret.0).as_slice(), bytes(&hop["ammag_key"]));
                if hop["um_key"].is_string() {
                    assert_eq!(derive_key(KeyType::Um, &secret.0).as_slice(), bytes(&hop["um_key"]));
                }
                secret
            })
            .collect();
        let failure = FailureMessage::decode(&bytes(&vectors["generate"]["failure_message"])).unwrap();
        assert_eq!(failure, FailureMessage::TemporaryNodeFailure);
        let (last, before) = secrets.split_last().unwrap();
        let mut onion = build(last, &failure);
        before.iter().rev().for_each(|secret| wrap(secret, &mut onion));
        assert_eq!(onion, bytes(&vectors["errorpacket"]));
        assert_eq!(decrypt(&secrets, onion), Some(AttributedFailure { hop: 4, failure }));
        vectors::ran("bolt04/onion-error-test.json", secrets.len(), 5);
    }

    fn all() -> Vec<FailureMessage> {
        let sha256_of_onion = [7; 32];
        let channel_update = vec![1, 2, 3];
        let update = || channel_update.clone();
        vec![
            FailureMessage::TemporaryNodeFailure,
            FailureMessage::PermanentNodeFailure,
            FailureMessage::RequiredNodeFeatureMissing,
            FailureMessage::InvalidOnionVersion { sha256_of_onion },
            FailureMessage::InvalidOnionHmac { sha256_of_onion },
            FailureMessage::InvalidOnionKey { sha256_of_onion },
            FailureMessage::TemporaryChannelFailure { channel_update: Vec::new() },
            FailureMessage::PermanentChannelFailure,
            FailureMessage::RequiredChannelFeatureMissing,
            FailureMessage::UnknownNextPeer,
            FailureMessage::AmountBelowMinimum { htlc_msat: Msat(5), channel_update: update() },
            FailureMessage::FeeInsufficient { htlc_msat: Msat(5), channel_update: update() },
            FailureMessage::IncorrectCltvExpiry { cltv_expiry: CltvExpiry(9), channel_update: update() },
            FailureMessage::ExpiryTooSoon { channel_update: vec![9; 300] },
            FailureMessage::IncorrectOrUnknownPaymentDetails { htlc_msat: Msat(5), height: Height(3) },
            FailureMessage::FinalIncorrectCltvExpiry { cltv_expiry: CltvExpiry(9) },
            FailureMessage::FinalIncorrectHtlcAmount { incoming_htlc_amt: Msat(5) },
            FailureMessage::ChannelDisabled { disabled_flags: 0, channel_update: update() },
            FailureMessage::ExpiryTooFar,
            FailureMessage::InvalidOnionPayload { kind: 70_000, offset: 12 },
            FailureMessage::MppTimeout,
            FailureMessage::InvalidOnionBlinding { sha256_of_onion },
            FailureMessage::Unknown { code: 999, data: vec![1] },
        ]
    }

    #[test]
    fn every_failure_comes_back_from_every_hop() {
        let secrets: Vec<_> = (0..5).map(|byte| SharedSecret([byte; 32])).collect();
        for failure in all() {
            let mut more = failure.encode();
            assert_eq!(FailureMessage::decode(&more), Ok(failure.clone()));
            if !matches!(failure, FailureMessage::Unknown { .. }) {
                more.extend([1, 2, 3]);
                assert_eq!(FailureMessage::decode(&more), Ok(failure.clone()), "extra bytes are ignored");
            }
            for hop in 0..secrets.len() {
                let mut onion = build(&secrets[hop], &failure);
                secrets[..hop].iter().rev().for_each(|secret| wrap(secret, &mut onion));
                assert_eq!(decrypt(&secrets, onion), Some(AttributedFailure { hop, failure: failure.clone() }));
            }
        }
    }

    #[test]
    fn short_failures_all_have_the_same_length() {
        for failure in all().iter().filter(|failure| failure.encode().len() <= PADDED_LEN) {
            assert_eq!(build(&SharedSecret([1; 32]), failure).len(), 292);
        }
    }

    #[test]
    fn a_malformed_report_needs_the_badonion_flag() {
        let sha256_of_onion = [4; 32];
        let hmac = FailureMessage::from_malformed(BADONION | PERM | 5, sha256_of_onion);
        assert_eq!(hmac, Some(FailureMessage::InvalidOnionHmac { sha256_of_onion }));
        assert_eq!(FailureMessage::from_malformed(PERM | 5, sha256_of_onion), None);
    }

    proptest! {
        #[test]
        fn a_garbled_onion_is_nobodys(bytes: Vec<u8>) {
            let secrets: Vec<_> = (0..5).map(|byte| SharedSecret([byte; 32])).collect();
            prop_assert_eq!(decrypt(&secrets, bytes), None);
        }

        #[test]
        fn random_failures_never_panic(bytes: Vec<u8>) {
            if let Ok(failure) = FailureMessage::decode(&bytes) {
                let again = FailureMessage::decode(&failure.encode());
                prop_assert_eq!(again, Ok(failure));
            }
        }
    }
}
