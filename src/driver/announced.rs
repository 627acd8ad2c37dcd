//! What this node says of itself in its `node_announcement` (BOLT 7).

use std::net::{IpAddr, SocketAddr};

use leyden_channels::wire::NodeAddress;

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
