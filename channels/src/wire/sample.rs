//! Random messages for tests: every field type knows how to make a value from a seeded source.

use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, ScriptBuf, Txid};
use secp256k1::ecdsa::Signature;
use secp256k1::{Message as Digest, PublicKey, SecretKey};

use super::closing::FeeRange;
use super::commitment::OnionRoutingPacket;
use super::features::Features;
use super::gossip::Excess;
use super::queries::{Checksums, QueryFlags, QueryOption, ShortIds, Timestamps, UpdateChecksums, UpdateTimestamps};
use crate::types::{
    ChannelId, CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcId, Msat, NodeId, PaymentHash, PaymentPreimage,
    ShortChannelId,
};

/// A small seeded generator (splitmix64), so that a failing case can be run again.
pub(crate) struct Source(u64);

impl Source {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn secret_key(&mut self) -> SecretKey {
        SecretKey::from_slice(&self.array::<32>()).unwrap()
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }

    /// Short for the most part, longer than one byte can count now and then.
    pub(crate) fn bytes(&mut self) -> Vec<u8> {
        let len = if self.below(8) == 0 { self.below(700) } else { self.below(40) };
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn list<T: Sample>(&mut self) -> Vec<T> {
        let len = self.below(6);
        (0..len).map(|_| T::sample(self)).collect()
    }
}

pub(crate) trait Sample {
    fn sample(source: &mut Source) -> Self;
}

macro_rules! samples {
    ($($ty:ty: |$source:ident| $make:expr,)*) => {$(
        impl Sample for $ty {
            fn sample($source: &mut Source) -> Self {
                $make
            }
        }
    )*};
}

samples! {
    u8: |source| source.next() as u8,
    u16: |source| source.next() as u16,
    u32: |source| source.next() as u32,
    u64: |source| source.next(),
    Msat: |source| Msat(source.next()),
    HtlcId: |source| HtlcId(source.next()),
    ShortChannelId: |source| ShortChannelId(source.next()),
    CltvExpiry: |source| CltvExpiry(source.next() as u32),
    FeeratePerKw: |source| FeeratePerKw(source.next() as u32),
    CommitmentNumber: |source| CommitmentNumber(source.next() >> 16),
    Amount: |source| Amount::from_sat(source.next()),
    ChannelId: |source| ChannelId(source.array()),
    PaymentHash: |source| PaymentHash(source.array()),
    PaymentPreimage: |source| PaymentPreimage(source.array()),
    NodeId: |source| NodeId(source.array()),
    ChainHash: |source| ChainHash::from(source.array::<32>()),
    Txid: |source| Txid::from_byte_array(source.array()),
    PublicKey: |source| source.secret_key().public_key(crate::keys::secp()),
    Signature: |source| crate::keys::secp().sign_ecdsa(&Digest::from_digest(source.array()), &source.secret_key()),
    Vec<u8>: |source| source.bytes(),
    ScriptBuf: |source| ScriptBuf::from_bytes(source.bytes()),
    Vec<Signature>: |source| source.list(),
    Vec<ChainHash>: |source| source.list(),
    Features: |source| Features::from_be_bytes(&source.bytes()),
    Excess: |source| Excess(source.bytes()),
    OnionRoutingPacket: |source| OnionRoutingPacket(Box::new(source.array())),
    FeeRange: |source| FeeRange {
        min_fee_satoshis: Sample::sample(source),
        max_fee_satoshis: Sample::sample(source),
    },
    ShortIds: |source| match source.below(4) {
        0 => ShortIds::Zlib(source.bytes()),
        _ => ShortIds::Plain(source.list()),
    },
    QueryFlags: |source| match source.below(4) {
        0 => QueryFlags::Unsupported { encoding: 1, bytes: source.bytes() },
        _ => QueryFlags::Plain(source.list()),
    },
    QueryOption: |source| QueryOption(source.next() >> source.below(64)),
    UpdateTimestamps: |source| UpdateTimestamps {
        timestamp_node_id_1: Sample::sample(source),
        timestamp_node_id_2: Sample::sample(source),
    },
    Timestamps: |source| match source.below(4) {
        0 => Timestamps::Unsupported { encoding: 1, bytes: source.bytes() },
        _ => Timestamps::Plain(source.list()),
    },
    UpdateChecksums: |source| UpdateChecksums {
        checksum_node_id_1: Sample::sample(source),
        checksum_node_id_2: Sample::sample(source),
    },
    Checksums: |source| Checksums(source.list()),
}

impl<const N: usize> Sample for [u8; N] {
    fn sample(source: &mut Source) -> Self {
        source.array()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(source: &mut Source) -> Self {
        if source.below(2) == 0 { None } else { Some(T::sample(source)) }
    }
}

impl<T: Sample> Sample for Box<T> {
    fn sample(source: &mut Source) -> Self {
        Self::new(T::sample(source))
    }
}
