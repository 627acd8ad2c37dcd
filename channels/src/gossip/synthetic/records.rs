//! What a node keeps on its disk of a made-up network: the messages, as long as real ones. Their signatures are no good,
//! since nobody checks again what is stored.

use bitcoin::constants::ChainHash;
use secp256k1::Message as Digest;
use secp256k1::ecdsa::Signature;

use super::{SplitMix, SyntheticChannel, SyntheticNetwork, secret_key};
use crate::gossip::graph::{Direction, RoutingPolicy};
use crate::gossip::store::{GossipKey, channel_record};
use crate::keys::secp;
use crate::types::NodeId;
use crate::wire::gossip::Excess;
use crate::wire::{ChannelAnnouncement, ChannelUpdate, EncodeError, Features, Message, NodeAnnouncement};

/// An IPv4 address and a port, as a descriptor.
const ADDRESS: [u8; 7] = [1, 10, 0, 0, 1, 0x26, 0x07];

/// Key and value.
pub(super) type Record = (Vec<u8>, Vec<u8>);

impl SyntheticNetwork {
    /// Every record, in no order.
    pub fn records(&self) -> Result<Vec<Record>, EncodeError> {
        let signature = secp().sign_ecdsa(&Digest::from_digest([2; 32]), &secret_key(&mut SplitMix::new(1)));
        let mut records = Vec::with_capacity(3 * self.channels.len() + self.nodes.len());
        for made in &self.channels {
            let id = made.channel.short_channel_id;
            let announcement = Message::from(announcement(made, signature)).encode()?;
            let value = channel_record(made.channel.capacity, None, &announcement);
            records.push((GossipKey::Channel(id).encode(), value));
            for direction in [Direction::FromNode1, Direction::FromNode2] {
                if let Some(policy) = made.policies.get(direction) {
                    let update = Message::from(update(made, direction, policy, signature)).encode()?;
                    records.push((GossipKey::Update(id, direction).encode(), update));
                }
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            let announcement = Message::from(node_announcement(number, *node, signature)).encode()?;
            records.push((GossipKey::Node(*node).encode(), announcement));
        }
        Ok(records)
    }
}

fn announcement(made: &SyntheticChannel, signature: Signature) -> ChannelAnnouncement {
    let channel = &made.channel;
    ChannelAnnouncement {
        node_signature_1: signature,
        node_signature_2: signature,
        bitcoin_signature_1: signature,
        bitcoin_signature_2: signature,
        features: Features::default(),
        chain_hash: ChainHash::REGTEST,
        short_channel_id: channel.short_channel_id,
        node_id_1: channel.node_id_1,
        node_id_2: channel.node_id_2,
        bitcoin_key_1: channel.node_id_1,
        bitcoin_key_2: channel.node_id_2,
        excess: Excess::default(),
    }
}

fn update(
    made: &SyntheticChannel,
    direction: Direction,
    policy: &RoutingPolicy,
    signature: Signature,
) -> ChannelUpdate {
    let from_2 = if direction == Direction::FromNode2 { ChannelUpdate::DIRECTION } else { 0 };
    let disabled = if policy.disabled { ChannelUpdate::DISABLE } else { 0 };
    ChannelUpdate {
        signature,
        chain_hash: ChainHash::REGTEST,
        short_channel_id: made.channel.short_channel_id,
        timestamp: policy.timestamp,
        message_flags: ChannelUpdate::MUST_BE_ONE,
        channel_flags: from_2 | disabled,
        cltv_expiry_delta: policy.cltv_expiry_delta,
        htlc_minimum_msat: policy.htlc_minimum_msat,
        fee_base_msat: policy.fee_base_msat,
        fee_proportional_millionths: policy.fee_proportional_millionths,
        htlc_maximum_msat: policy.htlc_maximum_msat,
        excess: Excess::default(),
    }
}

fn node_announcement(number: usize, node_id: NodeId, signature: Signature) -> NodeAnnouncement {
    let mut alias = [0; 32];
    alias.iter_mut().zip(format!("synthetic {number}").bytes()).for_each(|(to, from)| *to = from);
    NodeAnnouncement {
        signature,
        features: Features::default(),
        timestamp: 1_700_000_000,
        node_id,
        rgb_color: [0x33, 0x66, 0x99],
        alias,
        addresses: ADDRESS.to_vec(),
        excess: Excess::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Size;
    use super::*;
    use crate::gossip::Graph;

    #[test]
    fn the_graph_comes_back_from_its_records() {
        let network = SyntheticNetwork::generate(Size { seed: 5, nodes: 50, channels: 120 });
        let mut records = network.records().unwrap();
        records.sort();
        let graph = Graph::load(records.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))).unwrap();
        assert_eq!((graph.node_count(), graph.channel_count()), (50, 120));
        for made in &network.channels {
            let channel = graph.channel_by_id(made.channel.short_channel_id).unwrap();
            assert_eq!(channel.capacity, made.channel.capacity);
            for direction in [Direction::FromNode1, Direction::FromNode2] {
                let terms = |policy: &RoutingPolicy| RoutingPolicy { checksum: 0, ..*policy };
                assert_eq!(channel.policies.get(direction).as_ref().map(terms), *made.policies.get(direction));
            }
        }
    }
}
