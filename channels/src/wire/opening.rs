//! Opening a channel, version 1 (BOLT 2, Channel Establishment v1).

use bitcoin::constants::ChainHash;
use bitcoin::{Amount, ScriptBuf, Txid};
use secp256k1::PublicKey;
use secp256k1::ecdsa::Signature;

use super::features::Features;
use crate::types::{ChannelId, FeeratePerKw, Msat, ShortChannelId};

message! {
    /// The funder proposes a channel.
    OpenChannel = 32 {
        chain_hash: ChainHash,
        temporary_channel_id: ChannelId,
        funding_satoshis: Amount,
        push_msat: Msat,
        dust_limit_satoshis: Amount,
        max_htlc_value_in_flight_msat: Msat,
        channel_reserve_satoshis: Amount,
        htlc_minimum_msat: Msat,
        feerate_per_kw: FeeratePerKw,
        /// Blocks.
        to_self_delay: u16,
        max_accepted_htlcs: u16,
        funding_pubkey: PublicKey,
        revocation_basepoint: PublicKey,
        payment_basepoint: PublicKey,
        delayed_payment_basepoint: PublicKey,
        htlc_basepoint: PublicKey,
        first_per_commitment_point: PublicKey,
        /// Bit 0 is [`OpenChannel::ANNOUNCE_CHANNEL`], the others are not defined.
        channel_flags: u8,
    }
    extension {
        /// Empty: the sender commits to no script.
        0 => upfront_shutdown_script: ScriptBuf,
        1 => channel_type: Features,
    }
}

impl OpenChannel {
    /// The flag of a channel that is to be announced to the network.
    pub const ANNOUNCE_CHANNEL: u8 = 1;

    /// Whether the channel is to be made known to the network (`channel_flags`, bit 0).
    pub fn announces(&self) -> bool {
        self.channel_flags & Self::ANNOUNCE_CHANNEL != 0
    }
}

message! {
    /// The fundee agrees.
    AcceptChannel = 33 {
        temporary_channel_id: ChannelId,
        dust_limit_satoshis: Amount,
        max_htlc_value_in_flight_msat: Msat,
        channel_reserve_satoshis: Amount,
        htlc_minimum_msat: Msat,
        /// Blocks; 0 for a channel that is used before its funding transaction confirms.
        minimum_depth: u32,
        /// Blocks.
        to_self_delay: u16,
        max_accepted_htlcs: u16,
        funding_pubkey: PublicKey,
        revocation_basepoint: PublicKey,
        payment_basepoint: PublicKey,
        delayed_payment_basepoint: PublicKey,
        htlc_basepoint: PublicKey,
        first_per_commitment_point: PublicKey,
    }
    extension {
        /// Empty: the sender commits to no script.
        0 => upfront_shutdown_script: ScriptBuf,
        1 => channel_type: Features,
    }
}

message! {
    /// The funder names the funding output and signs the fundee's first commitment transaction.
    FundingCreated = 34 {
        temporary_channel_id: ChannelId,
        funding_txid: Txid,
        funding_output_index: u16,
        signature: Signature,
    }
}

message! {
    /// The fundee signs the funder's first commitment transaction.
    FundingSigned = 35 {
        channel_id: ChannelId,
        signature: Signature,
    }
}

message! {
    /// The funding transaction is as deep as the sender wants it.
    ChannelReady = 36 {
        channel_id: ChannelId,
        second_per_commitment_point: PublicKey,
    }
    extension {
        /// The id under which the sender will also accept HTLCs for this channel.
        1 => short_channel_id: ShortChannelId,
    }
}
