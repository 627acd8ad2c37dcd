//! Terms that failures of a payment have brought, for its own next attempts.
//!
//! A node that finds an HTLC below its terms may answer with its present `channel_update`. Whoever spread that update, or
//! changed its graph by it, could be found out by it as the sender; so it counts for the same payment alone (BOLT 4,
//! Receiving Failure Codes).

use super::route::direction_between;
use crate::gossip::store::{direction_of, policy_of};
use crate::gossip::validate::signed;
use crate::gossip::{Direction, Graph, RoutingPolicy};
use crate::types::{NodeId, ShortChannelId};
use crate::wire::{ChannelUpdate, Message};

/// Present terms of one direction of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateFromFailure {
    /// The channel that refused an HTLC.
    pub short_channel_id: ShortChannelId,
    /// The direction of that HTLC.
    pub direction: Direction,
    /// What its node asks for now.
    pub policy: RoutingPolicy,
}

/// The type of `channel_update` (BOLT 7), which some nodes leave out in failures.
const CHANNEL_UPDATE: [u8; 2] = [1, 2];

impl UpdateFromFailure {
    /// What `raw`, from a failure of node `from`, says about the channel that the HTLC was to leave it by; `None` unless
    /// it is that node's own word, and newer than what is known.
    pub fn read(
        raw: &[u8],
        short_channel_id: ShortChannelId,
        from: &NodeId,
        to: &NodeId,
        graph: &Graph,
        earlier: &[Self],
    ) -> Option<Self> {
        let (update, raw) = decode(raw)?;
        let direction = direction_between(from, to);
        let names = update.short_channel_id == short_channel_id && direction_of(&update) == direction;
        if !names || !signed(&update.signed_digest(), &update.signature, from) {
            return None;
        }
        let known = graph.channel_by_id(short_channel_id).and_then(|channel| channel.policies.get(direction).as_ref());
        let latest = find(earlier, short_channel_id, direction);
        let newest = known.into_iter().chain(latest).map(|policy| policy.timestamp).max();
        let is_newer = newest.is_none_or(|newest| update.timestamp > newest);
        is_newer.then(|| Self { short_channel_id, direction, policy: policy_of(&update, &raw) })
    }
}

fn decode(raw: &[u8]) -> Option<(ChannelUpdate, Vec<u8>)> {
    let read = |raw: Vec<u8>| match Message::decode(&raw) {
        Ok(Message::ChannelUpdate(update)) => Some((update, raw)),
        Ok(_) | Err(_) => None,
    };
    read(raw.to_vec()).or_else(|| read([&CHANNEL_UPDATE, raw].concat()))
}

/// The latest terms for this direction.
pub(super) fn find(updates: &[UpdateFromFailure], id: ShortChannelId, direction: Direction) -> Option<&RoutingPolicy> {
    let of = |update: &&UpdateFromFailure| update.short_channel_id == id && update.direction == direction;
    updates.iter().rev().find(of).map(|update| &update.policy)
}

#[cfg(test)]
mod tests {
    use bitcoin::{Amount, constants::ChainHash};
    use secp256k1::SecretKey;

    use super::*;
    use crate::gossip::NewChannel;
    use crate::gossip::announce::OwnUpdate;
    use crate::keys::secp;
    use crate::types::{Msat, UnixTime};

    #[test]
    fn only_a_nodes_own_and_newer_word_counts() {
        let key = |byte| SecretKey::from_slice(&[byte; 32]).unwrap();
        let id = |byte| NodeId::from(key(byte).public_key(secp256k1::SECP256K1));
        let (from, to) = (id(1), id(2));
        let channel = ShortChannelId(7);
        let mut graph = Graph::new();
        let (node_id_1, node_id_2) = (from.min(to), from.max(to));
        let capacity = Amount::from_sat(1_000);
        graph.add_channel(NewChannel { short_channel_id: channel, node_id_1, node_id_2, capacity, routable: true });
        let update = OwnUpdate {
            chain_hash: ChainHash::REGTEST,
            short_channel_id: channel,
            direction: if from < to { Direction::FromNode1 } else { Direction::FromNode2 },
            announced: true,
            disabled: false,
            cltv_expiry_delta: 40,
            htlc_minimum_msat: Msat(1),
            htlc_maximum_msat: Msat(1_000),
            fee_base_msat: 5,
            fee_proportional_millionths: 6,
        };
        let signed = |signer: u8, at| {
            let signed = update.sign(UnixTime(at), None, |digest| secp().sign_ecdsa(digest, &key(signer)));
            Message::ChannelUpdate(signed).encode().unwrap()
        };
        let raw = signed(1, 1_000);
        let update = UpdateFromFailure::read(&raw, channel, &from, &to, &graph, &[]).unwrap();
        assert_eq!((update.policy.fee_base_msat, update.policy.cltv_expiry_delta), (5, 40));
        assert_eq!(
            UpdateFromFailure::read(&raw[2..], channel, &from, &to, &graph, &[]),
            Some(update),
            "without its type"
        );
        assert_eq!(UpdateFromFailure::read(&raw, channel, &from, &to, &graph, &[update]), None, "nothing new");
        assert!(UpdateFromFailure::read(&signed(1, 1_001), channel, &from, &to, &graph, &[update]).is_some());
        assert_eq!(
            UpdateFromFailure::read(&signed(2, 1_000), channel, &from, &to, &graph, &[]),
            None,
            "somebody else's word"
        );
        assert_eq!(UpdateFromFailure::read(&raw, ShortChannelId(8), &from, &to, &graph, &[]), None);
        assert_eq!(UpdateFromFailure::read(&raw, channel, &to, &from, &graph, &[]), None);
        assert_eq!(UpdateFromFailure::read(&[], channel, &from, &to, &graph, &[]), None);
        graph.set_policy(channel, update.direction, Some(update.policy)).unwrap();
        assert_eq!(UpdateFromFailure::read(&raw, channel, &from, &to, &graph, &[]), None, "gossip was faster");
    }
}
