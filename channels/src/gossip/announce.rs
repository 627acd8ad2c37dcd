//! What this node tells about itself and its channels (BOLT 7).
//!
//! ```text
//!   channel deep enough ─► our two signatures ─► announcement_signatures ──► peer
//!   announcement_signatures ◄── peer ─► checked ─► channel_announcement, all four signatures in it
//! ```
//!
//! Keys stay with the caller, who signs the digests that come from here.

use bitcoin::constants::ChainHash;
use secp256k1::ecdsa::Signature;
use secp256k1::{Message as Digest, PublicKey};

use super::graph::Direction;
use super::time::Clocks;
use crate::keys::curve;
use crate::types::{ChannelId, Msat, NodeId, ShortChannelId, UnixTime};
use crate::wire::codec::Field as _;
use crate::wire::gossip::Excess;
use crate::wire::{
    AnnouncementSignatures, ChannelAnnouncement, ChannelUpdate, Features, NodeAddress, NodeAnnouncement,
};

/// An update is sent anew when it is this old, so that nobody takes us to be gone.
const REFRESH_SECONDS: u64 = 13 * 24 * 3600;

/// A channel of ours that is to be announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnChannel {
    /// The chain that it is on.
    pub chain_hash: ChainHash,
    /// The channel, as its two nodes name it.
    pub channel_id: ChannelId,
    /// The channel, as the network names it.
    pub short_channel_id: ShortChannelId,
    /// Our node key.
    pub local_node: PublicKey,
    /// The peer's node key.
    pub remote_node: PublicKey,
    /// Our key in the funding output.
    pub local_funding: PublicKey,
    /// The peer's key in the funding output.
    pub remote_funding: PublicKey,
    /// What the channel's announcement offers.
    pub features: Features,
}

/// The peer's half of an announcement does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum AnnounceError {
    #[error("announcement_signatures are for channel {got}, and this channel is {expected}")]
    OtherChannel { expected: ShortChannelId, got: ShortChannelId },
    #[error("the peer's node signature of the announcement is not valid")]
    NodeSignature,
    #[error("the peer's funding key signature of the announcement is not valid")]
    BitcoinSignature,
}

impl OwnChannel {
    /// Which of the two nodes we are: the one with the lesser id is node 1.
    pub fn direction(&self) -> Direction {
        if NodeId::from(self.local_node) < NodeId::from(self.remote_node) {
            Direction::FromNode1
        } else {
            Direction::FromNode2
        }
    }

    /// What both nodes sign, with their node keys and their funding keys.
    pub fn digest(&self) -> Digest {
        let mut signed = Vec::with_capacity(256);
        let [node_1, node_2] = self.in_order(self.local_node, self.remote_node);
        let [key_1, key_2] = self.in_order(self.local_funding, self.remote_funding);
        self.features.write(&mut signed);
        self.chain_hash.write(&mut signed);
        self.short_channel_id.write(&mut signed);
        [node_1, node_2, key_1, key_2].iter().for_each(|key| key.write(&mut signed));
        digest(&signed)
    }

    fn in_order<T>(&self, local: T, remote: T) -> [T; 2] {
        match self.direction() {
            Direction::FromNode1 => [local, remote],
            Direction::FromNode2 => [remote, local],
        }
    }

    /// Our half, for the peer.
    pub fn signatures(&self, node_signature: Signature, bitcoin_signature: Signature) -> AnnouncementSignatures {
        AnnouncementSignatures {
            channel_id: self.channel_id,
            short_channel_id: self.short_channel_id,
            node_signature,
            bitcoin_signature,
        }
    }

    /// Both halves together, the peer's checked.
    pub fn announcement(
        &self,
        local: &AnnouncementSignatures,
        remote: &AnnouncementSignatures,
    ) -> Result<ChannelAnnouncement, AnnounceError> {
        if remote.short_channel_id != self.short_channel_id {
            return Err(AnnounceError::OtherChannel { expected: self.short_channel_id, got: remote.short_channel_id });
        }
        let digest = self.digest();
        let valid = |signature, key| curve::verify(&digest, signature, key);
        if !valid(&remote.node_signature, &self.remote_node) {
            return Err(AnnounceError::NodeSignature);
        }
        if !valid(&remote.bitcoin_signature, &self.remote_funding) {
            return Err(AnnounceError::BitcoinSignature);
        }
        let [node_signature_1, node_signature_2] = self.in_order(local.node_signature, remote.node_signature);
        let [bitcoin_signature_1, bitcoin_signature_2] =
            self.in_order(local.bitcoin_signature, remote.bitcoin_signature);
        let [node_id_1, node_id_2] = self.in_order(self.local_node.into(), self.remote_node.into());
        let [bitcoin_key_1, bitcoin_key_2] = self.in_order(self.local_funding.into(), self.remote_funding.into());
        Ok(ChannelAnnouncement {
            node_signature_1,
            node_signature_2,
            bitcoin_signature_1,
            bitcoin_signature_2,
            features: self.features.clone(),
            chain_hash: self.chain_hash,
            short_channel_id: self.short_channel_id,
            node_id_1,
            node_id_2,
            bitcoin_key_1,
            bitcoin_key_2,
            excess: Excess::default(),
        })
    }
}

fn digest(signed: &[u8]) -> Digest {
    use bitcoin::hashes::{Hash as _, sha256d};
    Digest::from_digest(sha256d::Hash::hash(signed).to_byte_array())
}

/// What our end of a channel charges and takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnUpdate {
    /// The chain that it is on.
    pub chain_hash: ChainHash,
    /// The channel's id, or the peer's alias for it while the channel is not announced.
    pub short_channel_id: ShortChannelId,
    /// The direction that leaves this node.
    pub direction: Direction,
    /// Whether the network knows the channel; an update of another goes to the peer alone.
    pub announced: bool,
    /// Whether nothing can be sent through it now.
    pub disabled: bool,
    /// Blocks.
    pub cltv_expiry_delta: u16,
    /// The smallest HTLC that we forward.
    pub htlc_minimum_msat: Msat,
    /// The largest HTLC that we forward.
    pub htlc_maximum_msat: Msat,
    /// What each HTLC pays, in millisatoshi.
    pub fee_base_msat: u32,
    /// What each HTLC pays beside that, in millionths of its amount.
    pub fee_proportional_millionths: u32,
}

impl OwnUpdate {
    /// The update, signed by `sign` with the node's key. `now` is the present that the chain vouches for
    /// ([`Clocks::present`]); the update's time is after that of the `previous` one, whatever
    /// the clock says.
    pub fn sign(&self, now: UnixTime, previous: Option<u32>, sign: impl FnOnce(&Digest) -> Signature) -> ChannelUpdate {
        let timestamp = next_timestamp(now, previous);
        let dont_forward = if self.announced { 0 } else { ChannelUpdate::DONT_FORWARD };
        let direction = u8::from(self.direction == Direction::FromNode2) * ChannelUpdate::DIRECTION;
        let disable = u8::from(self.disabled) * ChannelUpdate::DISABLE;
        let (message_flags, channel_flags) = (ChannelUpdate::MUST_BE_ONE | dont_forward, direction | disable);
        let mut signed = Vec::with_capacity(80);
        self.chain_hash.write(&mut signed);
        self.short_channel_id.write(&mut signed);
        timestamp.write(&mut signed);
        message_flags.write(&mut signed);
        channel_flags.write(&mut signed);
        self.cltv_expiry_delta.write(&mut signed);
        self.htlc_minimum_msat.write(&mut signed);
        self.fee_base_msat.write(&mut signed);
        self.fee_proportional_millionths.write(&mut signed);
        self.htlc_maximum_msat.write(&mut signed);
        ChannelUpdate {
            signature: sign(&digest(&signed)),
            chain_hash: self.chain_hash,
            short_channel_id: self.short_channel_id,
            timestamp,
            message_flags,
            channel_flags,
            cltv_expiry_delta: self.cltv_expiry_delta,
            htlc_minimum_msat: self.htlc_minimum_msat,
            fee_base_msat: self.fee_base_msat,
            fee_proportional_millionths: self.fee_proportional_millionths,
            htlc_maximum_msat: self.htlc_maximum_msat,
            excess: Excess::default(),
        }
    }
}

fn next_timestamp(now: UnixTime, previous: Option<u32>) -> u32 {
    let clock = u32::try_from(now.0).unwrap_or(u32::MAX).max(1);
    previous.map_or(clock, |previous| clock.max(previous.saturating_add(1)))
}

/// The time of our last announcement that the next one has to be later than. (differs) BOLT 7 wants that of each; but one
/// that lies further ahead than others tolerate was signed under a wrong clock, and nobody took it: to go on from there
/// would keep this node unheard until that time has come, so times start anew from the present.
pub fn previous_time(timestamp: u32, clocks: &Clocks) -> Option<u32> {
    clocks.tolerates(timestamp).then_some(timestamp)
}

/// Whether an announcement of ours with this time has to be sent anew: others are about to forget it, or have never taken
/// it.
pub fn is_refresh_due(timestamp: u32, clocks: &Clocks) -> bool {
    u64::from(timestamp).saturating_add(REFRESH_SECONDS) <= clocks.present().0 || !clocks.tolerates(timestamp)
}

/// What this node says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnNode {
    /// Our node key.
    pub node_id: NodeId,
    /// What this node offers.
    pub features: Features,
    /// At most 32 bytes count; a character that they would cut in two is left out.
    pub alias: String,
    /// How maps of the network may paint it.
    pub rgb_color: [u8; 3],
    /// Where others can reach it; may be empty.
    pub addresses: Vec<NodeAddress>,
}

impl OwnNode {
    /// The announcement, signed by `sign` with the node's key.
    pub fn sign(
        &self,
        now: UnixTime,
        previous: Option<u32>,
        sign: impl FnOnce(&Digest) -> Signature,
    ) -> NodeAnnouncement {
        let timestamp = next_timestamp(now, previous);
        let mut alias = [0; 32];
        let cut = self.alias.char_indices().map(|(at, char)| at + char.len_utf8()).take_while(|end| *end <= 32).last();
        alias.iter_mut().zip(self.alias.bytes().take(cut.unwrap_or(0))).for_each(|(to, from)| *to = from);
        // BOLT 7: in the order of their types, which is that of the variants' descriptors.
        let mut descriptors: Vec<Vec<u8>> = self
            .addresses
            .iter()
            .map(|address| {
                let mut descriptor = Vec::new();
                address.write(&mut descriptor);
                descriptor
            })
            .collect();
        descriptors.sort_by_key(|descriptor| descriptor.first().copied());
        let addresses = descriptors.concat();
        let mut signed = Vec::with_capacity(128);
        self.features.write(&mut signed);
        timestamp.write(&mut signed);
        self.node_id.write(&mut signed);
        self.rgb_color.write(&mut signed);
        alias.write(&mut signed);
        addresses.write(&mut signed);
        NodeAnnouncement {
            signature: sign(&digest(&signed)),
            features: self.features.clone(),
            timestamp,
            node_id: self.node_id,
            rgb_color: self.rgb_color,
            alias,
            addresses,
            excess: Excess::default(),
        }
    }
}
