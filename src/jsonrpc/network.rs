//! The chain's peers.

use leyden_node::Node;
use serde_json::{Value, json};

use super::describe::per_kvb;

/// Clients take from it which calls they may use: those that we serve behave as they do there.
const VERSION: u32 = 290_000;
/// NODE_NETWORK and NODE_WITNESS.
const SERVICES: u64 = 9;
const PROTOCOL: u32 = 70_016;

pub(super) fn info(node: &Node) -> Value {
    let peers = node.peers();
    let inbound = peers.iter().filter(|peer| peer.inbound).count();
    let relay = per_kvb(leyden_node::MempoolPolicy::default().minimum_relay);
    json!({
        "version": VERSION,
        "subversion": concat!("/Leyden:", env!("CARGO_PKG_VERSION"), "/"),
        "protocolversion": PROTOCOL,
        "localservices": format!("{SERVICES:016x}"),
        "localservicesnames": ["NETWORK", "WITNESS"],
        "localrelay": true,
        "timeoffset": 0,
        "networkactive": true,
        "connections": peers.len(),
        "connections_in": inbound,
        "connections_out": peers.len() - inbound,
        "networks": [],
        "relayfee": relay,
        "incrementalfee": relay,
        "localaddresses": [],
        "warnings": [],
    })
}

pub(super) fn totals(node: &Node) -> Value {
    let traffic = node.totals().traffic;
    json!({
        "totalbytesrecv": traffic.received,
        "totalbytessent": traffic.sent,
        "timemillis": node.clock().now().saturating_mul(1000),
        // What is sent has no limit here.
        "uploadtarget": {
            "timeframe": 86_400,
            "target": 0,
            "target_reached": false,
            "serve_historical_blocks": true,
            "bytes_left_in_cycle": 0,
            "time_left_in_cycle": 0,
        },
    })
}

pub(super) fn peers(node: &Node) -> Value {
    let peers = (0..).zip(node.peers()).map(|(id, peer): (u32, _)| {
        json!({
            "id": id,
            "addr": peer.address.to_string(),
            "version": peer.protocol_version,
            "subver": peer.user_agent,
            "inbound": peer.inbound,
            "startingheight": peer.start_height,
            "bytessent": peer.bytes_sent,
            "bytesrecv": peer.bytes_received,
        })
    });
    peers.collect()
}
