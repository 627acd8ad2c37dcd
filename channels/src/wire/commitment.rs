//! Updates of a channel and the commitments to them (BOLT 2, Normal Operation and Message Retransmission).

use std::fmt;

use bitcoin::hashes::{Hash as _, sha256};
use secp256k1::PublicKey;
use secp256k1::ecdsa::Signature;

use super::codec::{DecodeError, Field, Reader};
use crate::types::{ChannelId, CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcId, Msat, PaymentHash, PaymentPreimage};

/// The 1366 bytes of an onion, unopened: version, ephemeral key, 1300 bytes of payloads, HMAC (BOLT 4). Nothing in
/// it is checked before it is peeled, because a bad onion fails an HTLC and not a connection.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct OnionRoutingPacket(pub Box<[u8; Self::LEN]>);

impl OnionRoutingPacket {
    /// Bytes of every packet (BOLT 4, Packet Structure).
    pub const LEN: usize = 1366;

    /// What `update_fail_malformed_htlc` and the BADONION failures name.
    pub fn sha256(&self) -> [u8; 32] {
        sha256::Hash::hash(self.0.as_slice()).to_byte_array()
    }
}

impl fmt::Debug for OnionRoutingPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnionRoutingPacket(sha256 {})", hex::encode(self.sha256()))
    }
}

impl Field for OnionRoutingPacket {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Box::new(reader.array()?)))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_slice());
    }
}

message! {
    /// Offers an HTLC.
    UpdateAddHtlc = 128 {
        channel_id: ChannelId,
        id: HtlcId,
        amount_msat: Msat,
        payment_hash: PaymentHash,
        cltv_expiry: CltvExpiry,
        onion_routing_packet: OnionRoutingPacket,
    }
    extension {
        /// Set inside a blinded route (`blinded_path`).
        0 => path_key: PublicKey,
    }
}

message! {
    /// Redeems an HTLC with its preimage.
    UpdateFulfillHtlc = 130 {
        channel_id: ChannelId,
        id: HtlcId,
        payment_preimage: PaymentPreimage,
    }
}

message! {
    /// Gives an HTLC back, for a reason that only the payment's origin can read.
    UpdateFailHtlc = 131 {
        channel_id: ChannelId,
        id: HtlcId,
        reason: Vec<u8>,
    }
}

message! {
    /// Gives an HTLC back whose onion could not be opened.
    UpdateFailMalformedHtlc = 135 {
        channel_id: ChannelId,
        id: HtlcId,
        sha256_of_onion: [u8; 32],
        failure_code: u16,
    }
}

message! {
    /// Signs the receiver's next commitment transaction and its HTLC transactions.
    CommitmentSigned = 132 {
        channel_id: ChannelId,
        signature: Signature,
        /// In the order of the HTLC outputs of the commitment transaction.
        htlc_signature: Vec<Signature>,
    }
}

message! {
    /// Revokes the sender's previous commitment transaction.
    RevokeAndAck = 133 {
        channel_id: ChannelId,
        per_commitment_secret: [u8; 32],
        next_per_commitment_point: PublicKey,
    }
}

message! {
    /// The funder changes the fee rate of the commitment transactions.
    UpdateFee = 134 {
        channel_id: ChannelId,
        feerate_per_kw: FeeratePerKw,
    }
}

message! {
    /// After a new connection: what the sender expects next.
    ChannelReestablish = 136 {
        channel_id: ChannelId,
        /// The number of the next `commitment_signed` that the sender expects.
        next_commitment_number: CommitmentNumber,
        /// The number of the next `revoke_and_ack` that the sender expects.
        next_revocation_number: CommitmentNumber,
        /// All zero when none has been received.
        your_last_per_commitment_secret: [u8; 32],
        my_current_per_commitment_point: PublicKey,
    }
}
