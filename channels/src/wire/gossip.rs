//! Announcements of channels and nodes (BOLT 7).
//!
//! The three public announcements are signed over everything that follows their signatures, known or not. Their
//! structs therefore keep the unknown tail (`excess`), and are relayed byte for byte.

use std::net::SocketAddr;

use bitcoin::constants::ChainHash;
use bitcoin::hashes::{Hash as _, sha256d};
use secp256k1::Message as Digest;
use secp256k1::ecdsa::Signature;

use super::codec::{DecodeError, Field, Reader};
use super::features::Features;
use super::message::Payload;
use crate::types::{ChannelId, Msat, NodeId, ShortChannelId};

/// The bytes at the end of an announcement that this code does not know, but that its signature covers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Excess(pub Vec<u8>);

impl Field for Excess {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(reader.take_rest().to_vec()))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

message! {
    /// The sender's halves of the signatures of a channel's announcement, for the peer of that channel alone.
    AnnouncementSignatures = 259 {
        channel_id: ChannelId,
        short_channel_id: ShortChannelId,
        node_signature: Signature,
        bitcoin_signature: Signature,
    }
}

message! {
    /// Two nodes have a channel, and its funding output is theirs: four signatures over the rest.
    ChannelAnnouncement = 256 {
        node_signature_1: Signature,
        node_signature_2: Signature,
        bitcoin_signature_1: Signature,
        bitcoin_signature_2: Signature,
        features: Features,
        chain_hash: ChainHash,
        short_channel_id: ShortChannelId,
        /// The lesser of the two, as bytes.
        node_id_1: NodeId,
        node_id_2: NodeId,
        bitcoin_key_1: NodeId,
        bitcoin_key_2: NodeId,
        excess: Excess,
    }
}

message! {
    /// What a node calls itself and where it listens.
    NodeAnnouncement = 257 {
        signature: Signature,
        features: Features,
        timestamp: u32,
        node_id: NodeId,
        rgb_color: [u8; 3],
        alias: [u8; 32],
        /// Address descriptors, see [`NodeAddress::parse_all`].
        addresses: Vec<u8>,
        excess: Excess,
    }
}

message! {
    /// Fees and limits of one direction of a channel.
    ChannelUpdate = 258 {
        signature: Signature,
        chain_hash: ChainHash,
        short_channel_id: ShortChannelId,
        timestamp: u32,
        /// Bit 0 is always set; bit 1 is [`ChannelUpdate::DONT_FORWARD`].
        message_flags: u8,
        /// Bit 0 is the direction (0: from `node_id_1`); bit 1 is [`ChannelUpdate::DISABLE`].
        channel_flags: u8,
        cltv_expiry_delta: u16,
        htlc_minimum_msat: Msat,
        fee_base_msat: u32,
        fee_proportional_millionths: u32,
        htlc_maximum_msat: Msat,
        excess: Excess,
    }
}

const TYPE_LEN: usize = 2;
const SIGNATURE_LEN: usize = 64;

/// The double SHA-256 of an encoded announcement after its type and `signatures` signatures.
fn signed_digest(message: &impl Payload, signatures: usize) -> Digest {
    let mut bytes = Vec::with_capacity(512);
    message.write_payload(&mut bytes);
    digest(bytes.get(signatures * SIGNATURE_LEN..).unwrap_or_default())
}

fn digest(signed: &[u8]) -> Digest {
    Digest::from_digest(sha256d::Hash::hash(signed).to_byte_array())
}

/// The digest that the signatures of an encoded announcement (its type included) sign, without decoding it.
/// `None` if the message is no announcement or ends too soon.
pub fn raw_signed_digest(encoded: &[u8]) -> Option<Digest> {
    let (kind, _) = encoded.split_first_chunk::<TYPE_LEN>()?;
    let signatures = match u16::from_be_bytes(*kind) {
        ChannelAnnouncement::TYPE => 4,
        NodeAnnouncement::TYPE | ChannelUpdate::TYPE => 1,
        _ => return None,
    };
    encoded.get(TYPE_LEN + signatures * SIGNATURE_LEN..).map(digest)
}

impl ChannelAnnouncement {
    /// What all four signatures sign.
    pub fn signed_digest(&self) -> Digest {
        signed_digest(self, 4)
    }
}

impl NodeAnnouncement {
    /// What the node signs.
    pub fn signed_digest(&self) -> Digest {
        signed_digest(self, 1)
    }
}

/// A node's alias up to its padding, fit to be shown.
pub fn alias_text(alias: &[u8; 32]) -> String {
    let end = alias.iter().position(|byte| *byte == 0).unwrap_or(alias.len());
    let text = String::from_utf8_lossy(alias.get(..end).unwrap_or_default());
    text.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

impl ChannelUpdate {
    /// `message_flags`: the bit that every update sets.
    pub const MUST_BE_ONE: u8 = 1;
    /// `message_flags`: for the receiver alone, not to be relayed (a channel that is not announced).
    pub const DONT_FORWARD: u8 = 2;
    /// `channel_flags`: the update comes from `node_id_2`.
    pub const DIRECTION: u8 = 1;
    /// `channel_flags`: the channel is not to be used in this direction.
    pub const DISABLE: u8 = 2;

    /// What the node signs.
    pub fn signed_digest(&self) -> Digest {
        signed_digest(self, 1)
    }

    /// Whether the update comes from `node_id_2`.
    pub fn is_from_node_2(&self) -> bool {
        self.channel_flags & Self::DIRECTION != 0
    }

    /// Whether nothing can be sent this way now (`channel_flags`, bit 1).
    pub fn is_disabled(&self) -> bool {
        self.channel_flags & Self::DISABLE != 0
    }
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of BOLT 7, node_announcement")]
pub enum NodeAddress {
    Ipv4 {
        address: [u8; 4],
        port: u16,
    },
    Ipv6 {
        address: [u8; 16],
        port: u16,
    },
    /// Tor version 3: key, checksum and version as they are in the host name's base32.
    OnionV3 {
        address: [u8; 35],
        port: u16,
    },
    /// An ASCII host name.
    Dns {
        hostname: String,
        port: u16,
    },
}

impl NodeAddress {
    /// The descriptors that are known, up to the first that is not (BOLT 7: what follows it is ignored).
    pub fn parse_all(descriptors: &[u8]) -> Vec<Self> {
        let mut reader = Reader::new(descriptors);
        let mut parsed = Vec::new();
        while let Ok(Some(address)) = Self::read(&mut reader) {
            parsed.push(address);
        }
        parsed
    }

    /// As people write it; `None` for what cannot be dialled plainly.
    pub fn host_and_port(&self) -> Option<String> {
        match self {
            Self::Ipv4 { address, port } => Some(SocketAddr::from((*address, *port)).to_string()),
            Self::Ipv6 { address, port } => Some(SocketAddr::from((*address, *port)).to_string()),
            Self::Dns { hostname, port } => Some(format!("{hostname}:{port}")),
            Self::OnionV3 { .. } => None,
        }
    }

    /// The next descriptor; `None` at the end, or where an unknown one makes the rest unreadable.
    fn read(reader: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        loop {
            if reader.is_empty() {
                return Ok(None);
            }
            return Ok(Some(match reader.field::<u8>()? {
                1 => Self::Ipv4 { address: reader.array()?, port: reader.field()? },
                2 => Self::Ipv6 { address: reader.array()?, port: reader.field()? },
                // Tor version 2 is gone; its descriptor is passed over.
                3 => {
                    reader.bytes(12)?;
                    continue;
                }
                4 => Self::OnionV3 { address: reader.array()?, port: reader.field()? },
                5 => {
                    let len = reader.field::<u8>()?;
                    let name = reader.bytes(usize::from(len))?;
                    let port = reader.field()?;
                    match std::str::from_utf8(name) {
                        Ok(hostname) if hostname.is_ascii() => Self::Dns { hostname: hostname.to_owned(), port },
                        _ => continue,
                    }
                }
                _ => return Ok(None),
            }));
        }
    }

    /// Appends the descriptor to the `addresses` of a [`NodeAnnouncement`], which lists them in the order of
    /// their types.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ipv4 { address, port } => {
                out.push(1);
                address.write(out);
                port.write(out);
            }
            Self::Ipv6 { address, port } => {
                out.push(2);
                address.write(out);
                port.write(out);
            }
            Self::OnionV3 { address, port } => {
                out.push(4);
                address.write(out);
                port.write(out);
            }
            Self::Dns { hostname, port } => {
                let name: Vec<u8> = hostname.bytes().take(255).collect();
                out.push(5);
                out.push(name.len() as u8);
                out.extend_from_slice(&name);
                port.write(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sample::{Sample, Source};

    #[test]
    fn addresses_are_read_up_to_the_first_unknown_one() {
        let known = [
            NodeAddress::Ipv4 { address: [127, 0, 0, 1], port: 9735 },
            NodeAddress::Ipv6 { address: [1; 16], port: 9735 },
            NodeAddress::OnionV3 { address: [2; 35], port: 9735 },
            NodeAddress::Dns { hostname: "node.example".to_owned(), port: 9735 },
        ];
        let mut addresses = vec![3; 13];
        known.iter().for_each(|address| address.write(&mut addresses));
        addresses.extend([77, 1, 2]);
        let mut node = NodeAnnouncement::sample(&mut Source::new(1));
        node.addresses = addresses;
        assert_eq!(NodeAddress::parse_all(&node.addresses), known);
    }

    #[test]
    fn the_digest_of_the_bytes_is_the_digest_of_the_message() {
        let mut source = Source::new(7);
        let channel = ChannelAnnouncement::sample(&mut source);
        let node = NodeAnnouncement::sample(&mut source);
        let update = ChannelUpdate::sample(&mut source);
        let raw = |message: crate::wire::Message| raw_signed_digest(&message.encode().unwrap()).unwrap();
        assert_eq!(raw(channel.clone().into()), channel.signed_digest());
        assert_eq!(raw(node.clone().into()), node.signed_digest());
        assert_eq!(raw(update.clone().into()), update.signed_digest());
    }
}
