//! What this node says of itself in its `node_announcement` (BOLT 7).

use std::net::{IpAddr, SocketAddr};

use leyden_channels::wire::NodeAddress;
use secp256k1::PublicKey;

use crate::store::ChangedAnnouncement;

/// The settings, and what a call has changed in what is not set. The gossip task tells the network within a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub alias: String,
    /// Red, green, blue.
    pub color: [u8; 3],
    pub addresses: Vec<NodeAddress>,
}

pub(crate) fn node_address(address: &SocketAddr) -> NodeAddress {
    match address.ip() {
        IpAddr::V4(ip) => NodeAddress::Ipv4 { address: ip.octets(), port: address.port() },
        IpAddr::V6(ip) => NodeAddress::Ipv6 { address: ip.octets(), port: address.port() },
    }
}

/// How maps of the network paint this node: red, green and blue from its key.
fn color(node_id: &PublicKey) -> [u8; 3] {
    let [_, red, green, blue, ..] = node_id.serialize();
    [red, green, blue]
}

/// What is set holds; what is not is as its owner has changed it by a call last. As with LND.
pub(super) fn announced(
    alias: String,
    announce: &[SocketAddr],
    usual: Vec<NodeAddress>,
    node_id: &PublicKey,
    changed: ChangedAnnouncement,
) -> Announced {
    Announced {
        alias: if alias.is_empty() { changed.alias.unwrap_or_default() } else { alias },
        color: changed.color.unwrap_or_else(|| color(node_id)),
        addresses: changed.addresses.filter(|_| announce.is_empty()).unwrap_or(usual),
    }
}

/// Where the network is told to reach us. An address that we only listen on counts if others can reach it: one of this
/// machine or its own network does so on regtest alone.
pub(super) fn announced_addresses(announce: &[SocketAddr], listen: SocketAddr, is_regtest: bool) -> Vec<NodeAddress> {
    let is_near = match listen.ip() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    if announce.is_empty() && !listen.ip().is_unspecified() && (is_regtest || !is_near) {
        return vec![node_address(&listen)];
    }
    announce.iter().map(node_address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_has_changed_holds_after_a_restart_unless_a_setting_says_otherwise() {
        let node_id = secp256k1::SecretKey::from_slice(&[3; 32]).unwrap().public_key(secp256k1::SECP256K1);
        let at = |text: &str| node_address(&text.parse().unwrap());
        let changed = || ChangedAnnouncement {
            alias: Some("carol".to_owned()),
            color: Some([1, 2, 3]),
            addresses: Some(vec![at("192.0.2.1:9735")]),
        };
        let usual = || vec![at("192.0.2.9:9735")];
        let told = announced(String::new(), &[], usual(), &node_id, changed());
        assert_eq!((told.alias.as_str(), told.color, told.addresses), ("carol", [1, 2, 3], vec![at("192.0.2.1:9735")]));
        let set = ["192.0.2.9:9735".parse().unwrap()];
        let told = announced("alice".to_owned(), &set, usual(), &node_id, changed());
        assert_eq!((told.alias.as_str(), told.color, told.addresses), ("alice", [1, 2, 3], usual()));
        let told = announced(String::new(), &[], usual(), &node_id, ChangedAnnouncement::default());
        assert_eq!((told.alias.as_str(), told.color, told.addresses), ("", color(&node_id), usual()));
    }

    #[test]
    fn only_addresses_that_others_can_reach_are_announced() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let count = |announce: &[SocketAddr], listen, regtest| announced_addresses(announce, listen, regtest).len();
        assert_eq!(count(&[], at("0.0.0.0:9735"), true), 0);
        assert_eq!(count(&[], at("127.0.0.1:9735"), true), 1);
        assert_eq!(count(&[], at("127.0.0.1:9735"), false), 0);
        assert_eq!(count(&[], at("[fd00::1]:9735"), false), 0);
        let ours = NodeAddress::Ipv4 { address: [203, 0, 113, 7], port: 9735 };
        assert_eq!(announced_addresses(&[], at("203.0.113.7:9735"), false), vec![ours.clone()]);
        assert_eq!(announced_addresses(&[at("203.0.113.7:9735")], at("0.0.0.0:9735"), false), [ours]);
    }
}
