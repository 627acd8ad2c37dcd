//! The chain's peers.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use leyden_jsonrpc::Call;
use leyden_node::{Ban, BanError, Node, PeerInfo, Subnet, TransportKind};
use serde_json::{Value, json};
use tokio::net::lookup_host;

use super::{
    describe::per_kvb,
    error::{ALREADY_ADDED, INVALID_PARAMS, INVALID_SUBNET, MISC, NOT_ADDED, PEER_NOT_CONNECTED, RpcError},
};

/// Where nodes wait for peers unless they say otherwise.
const DEFAULT_PORT: u16 = 18_444;
/// Nodes that callers may add: as many connections of its own has a node of Bitcoin Core for them.
const MAX_ADDED: usize = 8;
/// Seconds for which an address is banned unless the caller says otherwise: a day.
const BAN_TIME: u64 = 24 * 60 * 60;

/// Clients take from it which calls they may use: those that we serve behave as they do there.
const VERSION: u32 = 290_000;
/// NODE_NETWORK, NODE_WITNESS and NODE_P2P_V2.
const SERVICES: u64 = 0x809;
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
        "localservicesnames": ["NETWORK", "WITNESS", "P2P_V2"],
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
    let peers = node.peers().into_iter().map(|peer| {
        let (protocol, session) = match peer.transport {
            TransportKind::Detecting => ("detecting", String::new()),
            TransportKind::V1 => ("v1", String::new()),
            TransportKind::V2 { session_id } => ("v2", hex::encode(session_id)),
        };
        json!({
            "id": peer.id,
            "addr": peer.address.to_string(),
            "version": peer.protocol_version,
            "subver": peer.user_agent,
            "inbound": peer.inbound,
            "startingheight": peer.start_height,
            "bytessent": peer.bytes_sent,
            "bytesrecv": peer.bytes_received,
            "bip152_hb_to": peer.high_bandwidth_to,
            "bip152_hb_from": peer.high_bandwidth_from,
            "transport_protocol_type": protocol,
            "session_id": session,
        })
    });
    peers.collect()
}

/// Nodes that callers have added, by the names that they gave.
#[derive(Default)]
pub(super) struct Added(Mutex<Vec<(String, SocketAddr)>>);

impl Added {
    fn list(&self) -> MutexGuard<'_, Vec<(String, SocketAddr)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of a node that is named by it or by its host, with or without a port.
async fn resolve(name: &str) -> Result<SocketAddr, RpcError> {
    if let Ok(address) = name.parse::<SocketAddr>() {
        return Ok(address);
    }
    let with_port = name.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let found = lookup_host(with_port.unwrap_or((name, DEFAULT_PORT))).await;
    let found = found.ok().and_then(|mut found| found.next());
    found.ok_or_else(|| RpcError::parameter(format!("{name} is no host:port that can be resolved")))
}

pub(super) async fn add(node: &Node, call: &Call, added: &Added) -> Result<Value, RpcError> {
    let (name, command) = (call.text(0)?.to_owned(), call.text(1)?);
    if !call.flag(2, true)? {
        let text = "Error: every connection is encrypted if the other node can: v2transport cannot be false";
        return Err(RpcError::parameter(text));
    }
    match command {
        "onetry" => {
            let (address, node) = (resolve(&name).await?, node.clone());
            // Nobody waits for how it goes.
            tokio::spawn(async move {
                if let Err(error) = node.connect_peer(address).await {
                    tracing::debug!(%error, "a node that a caller named cannot be reached");
                }
            });
        }
        "add" => {
            let address = resolve(&name).await?;
            let mut list = added.list();
            if list.iter().any(|(known, at)| *known == name || *at == address) {
                return Err(RpcError::new(ALREADY_ADDED, "Error: Node already added"));
            }
            if list.len() >= MAX_ADDED {
                let text = format!("at most {MAX_ADDED} nodes can be added: remove one first");
                return Err(RpcError::parameter(text));
            }
            node.keep_peer(address)?;
            list.push((name, address));
        }
        "remove" => {
            let mut list = added.list();
            let place = list.iter().position(|(known, _)| *known == name);
            let unknown =
                || RpcError::new(NOT_ADDED, "Error: Node could not be removed. It has not been added previously.");
            let (_, address) = list.remove(place.ok_or_else(unknown)?);
            node.disconnect_peer(address)?;
        }
        other => return Err(RpcError::new(MISC, format!("{other} is none of add, remove and onetry"))),
    }
    Ok(Value::Null)
}

pub(super) fn added(node: &Node, call: &Call, added: &Added) -> Result<Value, RpcError> {
    let wanted = if call.optional(0).is_some() { Some(call.text(0)?) } else { None };
    let peers = node.peers();
    let list = added.list();
    let chosen: Vec<_> = list.iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == name)).collect();
    if wanted.is_some() && chosen.is_empty() {
        return Err(RpcError::new(NOT_ADDED, "Error: Node has not been added."));
    }
    let told = chosen.iter().map(|(name, address)| {
        let is_connected = peers.iter().any(|peer| peer.address == *address);
        let at = json!({ "address": address.to_string(), "connected": "outbound" });
        json!({
            "addednode": name,
            "connected": is_connected,
            "addresses": if is_connected { vec![at] } else { Vec::new() },
        })
    });
    Ok(told.collect())
}

pub(super) fn disconnect(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let name = call.optional(0).map(|_| call.text(0)).transpose()?.filter(|name| !name.is_empty());
    let id = call.optional(1).map(|_| call.number(1)).transpose()?;
    if name.is_some() == id.is_some() {
        return Err(RpcError::new(INVALID_PARAMS, "Only one of address and nodeid should be provided."));
    }
    let is_meant = |peer: &PeerInfo| {
        name.is_some_and(|name| peer.address.to_string() == name)
            || id.is_some_and(|id| u64::try_from(id) == Ok(peer.id))
    };
    let missing = || RpcError::new(PEER_NOT_CONNECTED, "Node not found in connected nodes");
    let peer = node.peers().into_iter().find(is_meant).ok_or_else(missing)?;
    node.disconnect_peer(peer.address)?;
    Ok(Value::Null)
}

pub(super) async fn set_ban(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let (text, command) = (call.text(0)?, call.text(1)?);
    let subnet: Result<Subnet, _> = text.parse();
    let invalid = || RpcError::new(INVALID_SUBNET, "Error: Invalid IP/Subnet");
    match command {
        "add" => {
            let subnet = subnet.map_err(|_| invalid())?;
            let time = if call.optional(2).is_some() { call.number(2)? } else { 0 };
            let (now, time) = (node.clock().now(), u64::try_from(time).unwrap_or(0));
            let until = match call.flag(3, false)? {
                true if time < now => return Err(RpcError::parameter("Error: Absolute timestamp is in the past")),
                true => time,
                false if time == 0 => now.saturating_add(BAN_TIME),
                false => now.saturating_add(time),
            };
            match node.ban(Ban { subnet, since: now, until }).await {
                Ok(()) => Ok(Value::Null),
                Err(BanError::Known(_)) => Err(RpcError::new(ALREADY_ADDED, "Error: IP/Subnet already banned")),
                Err(error) => Err(RpcError::new(MISC, error.to_string())),
            }
        }
        "remove" => {
            let missing = "Error: Unban failed. Requested address/subnet was not previously manually banned.";
            match node.unban(subnet.map_err(|_| invalid())?).await {
                Ok(()) => Ok(Value::Null),
                Err(BanError::Unknown(_)) => Err(RpcError::new(INVALID_SUBNET, missing)),
                Err(error) => Err(RpcError::new(MISC, error.to_string())),
            }
        }
        other => Err(RpcError::new(MISC, format!("{other} is none of add and remove"))),
    }
}

pub(super) fn bans(node: &Node) -> Value {
    let now = node.clock().now();
    let told = node.bans().into_iter().map(|Ban { subnet, since, until }| {
        json!({
            "address": subnet.to_string(),
            "ban_created": since,
            "banned_until": until,
            "ban_duration": until.saturating_sub(since),
            "time_remaining": until.saturating_sub(now),
        })
    });
    told.collect()
}

pub(super) async fn clear_bans(node: &Node) -> Result<Value, RpcError> {
    match node.clear_bans().await {
        Ok(()) => Ok(Value::Null),
        Err(error) => Err(RpcError::new(MISC, error.to_string())),
    }
}
