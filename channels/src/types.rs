//! The quantities and names that every part of the core shares, one newtype each, so that a millisatoshi is
//! never added to a satoshi and a payment hash is never taken for a channel id.

use std::fmt;

use bitcoin::{Amount, OutPoint, hashes::Hash as _};
use secp256k1::PublicKey;

/// An amount in millisatoshi, the unit of BOLT 2's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Msat(pub u64);

impl Msat {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// `None` if the amount is beyond 2^64 - 1 millisatoshi.
    pub fn from_sat(amount: Amount) -> Option<Self> {
        amount.to_sat().checked_mul(1000).map(Self)
    }

    /// The whole satoshis in this amount; the remainder is dropped (BOLT 3 rounds every output down).
    pub fn floor_sat(self) -> Amount {
        Amount::from_sat(self.0 / 1000)
    }

    /// `None` above 2^64 - 1 msat.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Zero in place of less than zero.
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Msat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} msat", self.0)
    }
}

/// A fee rate in satoshi per 1000 weight units, the unit of `open_channel` and `update_fee`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeeratePerKw(pub u32);

impl FeeratePerKw {
    /// The lowest rate that relays: 1 sat/vB rounded so that no transaction falls below it.
    pub const FLOOR: Self = Self(253);
}

/// A block height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Height(pub u32);

/// Whether the chain's tip may be relied on.
///
/// A height that is known is only a lower bound of the world's: while it is in doubt how far the world is ahead, what has
/// expired by the known height has expired, but what has not may have. So for every place that compares a height with
/// an expiry or a depth:
///
/// | what | while the tip is in doubt |
/// |---|---|
/// | forward an HTLC (`switch`), take one or tell its preimage (`payment::incoming`) | waits, then is failed |
/// | a user's preimage for what is held, an HTLC of ours, a channel to open or accept | is refused, with the reason |
/// | close for an HTLC whose deadline has come (`channel`), claims and penalties (`onchain`) | is done at once |
/// | a preimage or a failure from behind | passes upstream at once |
/// | fail a forward before its incoming HTLC expires | is done late at worst, by the blocks that are missing |
/// | count confirmations, forget what is old (unfunded channels, onions, peer storage) | too few, too late: the safe way |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TipTrust {
    /// What follows from the height may be done.
    Current,
    /// The chain may be further than we know.
    InDoubt,
}

/// An absolute block height at which an HTLC expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CltvExpiry(pub u32);

/// Seconds since 1970. The core never reads a clock: this arrives in `Ctx` or as an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(pub u64);

/// Milliseconds since the program was started, by a clock that only goes forward: it measures how long something lasts,
/// whatever is done to the time of day. It arrives from outside, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uptime(pub u64);

impl Uptime {
    /// 0 if `earlier` is later.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1_000.0
    }

    /// Whether at least so many seconds have passed since `earlier`.
    pub fn is_after(self, earlier: Self, seconds: u64) -> bool {
        self.0 >= earlier.0.saturating_add(seconds.saturating_mul(1_000))
    }
}

/// The number of a commitment transaction, from 0 upward; at most 2^48 - 1 (BOLT 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitmentNumber(pub u64);

impl CommitmentNumber {
    /// The last one: commitment numbers have 48 bits (BOLT 3).
    pub const MAX: Self = Self((1 << 48) - 1);

    /// The one after this.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The id of an HTLC within the direction in which it was offered (BOLT 2, `update_add_htlc`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HtlcId(pub u64);

/// Which of the two nodes of a channel, seen from this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// This node.
    Local,
    /// The peer.
    Remote,
}

impl Side {
    /// The opposite side.
    pub fn other(self) -> Self {
        match self {
            Self::Local => Self::Remote,
            Self::Remote => Self::Local,
        }
    }
}

/// The shape of a channel's commitment transactions, fixed by `channel_type` at opening (BOLT 2, 3, 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommitmentType {
    /// `option_static_remotekey`: `to_remote` is a plain P2WPKH, HTLC transactions carry their own fee.
    StaticRemoteKey,
    /// `option_anchors`: two anchor outputs, HTLC transactions without a fee of their own.
    Anchors,
}

impl CommitmentType {
    /// Whether a commitment has an anchor for each side, so that a child can pay for it.
    pub const fn has_anchors(self) -> bool {
        match self {
            Self::StaticRemoteKey => false,
            Self::Anchors => true,
        }
    }
}

/// Who offered an HTLC, seen from the owner of the commitment transaction that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HtlcDirection {
    /// The owner pays: resolved by HTLC-timeout, or by the other node with the preimage.
    Offered,
    /// The owner is paid: resolved by HTLC-success, or by the other node after the expiry.
    Received,
}

impl HtlcDirection {
    /// The direction of an HTLC as the other node's commitment has it.
    pub fn reversed(self) -> Self {
        match self {
            Self::Offered => Self::Received,
            Self::Received => Self::Offered,
        }
    }
}

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), hex::encode(self.0))
            }
        }
    };
}

bytes32! {
    /// The 32-byte channel id: temporary at first, then derived from the funding output (BOLT 2).
    ChannelId
}
bytes32! {
    /// SHA-256 of a [`PaymentPreimage`]: what locks an HTLC.
    PaymentHash
}
bytes32! {
    /// The secret that redeems an HTLC and proves a payment.
    PaymentPreimage
}
bytes32! {
    /// A daemon's data directory: random, made once. A directory that is made anew has another one; a copy has the same.
    DirectoryId
}
bytes32! {
    /// The invoice's secret that a sender must repeat to the recipient (BOLT 4, `payment_data`).
    PaymentSecret
}

/// A node's public key as it stands in messages: 33 bytes that need not be a point. Parsing costs a square root, and
/// a graph of many thousands of nodes only compares them; [`NodeId::public_key`] parses where a key is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 33]);

impl NodeId {
    /// The key, for checking signatures. An error for 33 bytes that are no point of the curve.
    pub fn public_key(&self) -> Result<PublicKey, secp256k1::Error> {
        PublicKey::from_slice(&self.0)
    }
}

impl From<PublicKey> for NodeId {
    fn from(key: PublicKey) -> Self {
        Self(key.serialize())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", hex::encode(self.0))
    }
}

impl ChannelId {
    /// The id that names every channel of a peer in `error` and `warning` (BOLT 1).
    pub const ALL: Self = Self([0; 32]);

    /// The final id: the funding txid (internal byte order) with its last two bytes XORed with the output index
    /// (BOLT 2, Definition of `channel_id`).
    pub fn from_funding(funding: OutPoint) -> Self {
        let mut id = funding.txid.to_byte_array();
        let [.., high, low] = funding.vout.to_be_bytes();
        id[30] ^= high;
        id[31] ^= low;
        Self(id)
    }
}

impl PaymentPreimage {
    /// Its SHA-256.
    pub fn hash(&self) -> PaymentHash {
        PaymentHash(bitcoin::hashes::sha256::Hash::hash(&self.0).to_byte_array())
    }
}

/// Block height, transaction index and output index of a confirmed funding output (BOLT 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortChannelId(pub u64);

impl ShortChannelId {
    /// `block` and `index` have 24 bits each; what lies above them is cut off.
    pub fn new(block: Height, index: u32, output: u16) -> Self {
        Self((u64::from(block.0 & 0xff_ffff) << 40) | (u64::from(index & 0xff_ffff) << 16) | u64::from(output))
    }

    /// The height of the block that holds the funding transaction.
    pub fn block(self) -> Height {
        Height((self.0 >> 40) as u32)
    }

    /// The funding transaction's place in that block.
    pub fn index(self) -> u32 {
        ((self.0 >> 16) & 0xff_ffff) as u32
    }

    /// The funding output's place in that transaction.
    pub fn output(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

impl fmt::Display for ShortChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.block().0, self.index(), self.output())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_channel_id_splits_into_its_parts() {
        let id = ShortChannelId::new(Height(539_268), 845, 1);
        assert_eq!(id.to_string(), "539268x845x1");
        assert_eq!((id.block(), id.index(), id.output()), (Height(539_268), 845, 1));
    }

    #[test]
    fn channel_id_mixes_the_output_index_into_the_last_two_bytes() {
        let funding = OutPoint { txid: bitcoin::Txid::from_byte_array([0x11; 32]), vout: 0x0102 };
        let id = ChannelId::from_funding(funding);
        assert_eq!(id.0[..30], [0x11; 30]);
        assert_eq!(id.0[30..], [0x10, 0x13]);
    }
}
