//! The chain's peers.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bitcoin::{BlockHash, p2p::ServiceFlags};
use leyden_jsonrpc::Call;
use leyden_node::{Ban, BanError, BlockState, KnownAddress, Node, NodeError, PeerInfo, Subnet, TransportKind};
use serde_json::{Map, Value, json};
use tokio::net::lookup_host;

use super::{
    describe::per_kvb,
    error::{
        ALREADY_ADDED, INVALID_PARAMS, INVALID_SUBNET, MISC, NOT_ADDED, P2P_DISABLED, PEER_NOT_CONNECTED, RpcError,
    },
};

/// Where nodes wait for peers unless they say otherwise.
const DEFAULT_PORT: u16 = 18_444;
/// Nodes that callers may add: as many connections of its own has a node of Bitcoin Core for them.
const MAX_ADDED: usize = 8;
/// Seconds for which an address is banned unless the caller says otherwise: a day.
const BAN_TIME: u64 = 24 * 60 * 60;

/// Clients take from it which calls they may use: those that we serve behave as they do there. An Electrum server (e-x 2.0)
/// does not begin below this: here `gettxspendingprevout` finds spends in blocks, too.
const VERSION: u32 = 310_000;
const PROTOCOL: u32 = 70_016;

pub(super) fn info(node: &Node) -> Value {
    let peers = node.peers();
    let inbound = peers.iter().filter(|peer| peer.inbound).count();
    let relay = per_kvb(leyden_node::MempoolPolicy::default().minimum_relay);
    let services = local_services(node);
    json!({
        "version": VERSION,
        "subversion": concat!("/Leyden:", env!("CARGO_PKG_VERSION"), "/"),
        "protocolversion": PROTOCOL,
        "localservices": hex_of(services),
        "localservicesnames": service_names(services),
        "localrelay": true,
        "timeoffset": 0,
        "networkactive": node.is_network_active(),
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
        let mut value = json!({
            "id": peer.id,
            "addr": peer.address.to_string(),
            // Core Lightning chooses by them whom `getblockfrompeer` is to ask for a block that was pruned (its `bcli.c`).
            "services": hex_of(peer.services),
            "servicesnames": service_names(peer.services),
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
        });
        let pings = [("pingtime", peer.pings.last), ("minping", peer.pings.shortest), ("pingwait", peer.pings.waiting)];
        for (name, time) in pings {
            if let Some(time) = time {
                value[name] = json!(time.as_secs_f64());
            }
        }
        value
    });
    peers.collect()
}

/// What this node tells its peers that it serves.
fn local_services(node: &Node) -> ServiceFlags {
    if node.watched_scripts().is_some() {
        return ServiceFlags::P2P_V2;
    }
    let keeps_all = node.prune_target().is_none() && node.pruned_below() == 0;
    let blocks = if keeps_all { ServiceFlags::NETWORK } else { ServiceFlags::NETWORK_LIMITED };
    let filters = if node.has_filters() == Some(true) { ServiceFlags::COMPACT_FILTERS } else { ServiceFlags::NONE };
    blocks | filters | ServiceFlags::WITNESS | ServiceFlags::P2P_V2
}

fn hex_of(services: ServiceFlags) -> String {
    format!("{:016x}", services.to_u64())
}

/// By Bitcoin Core's names.
fn service_names(services: ServiceFlags) -> Vec<&'static str> {
    let names = [
        (ServiceFlags::NETWORK, "NETWORK"),
        (ServiceFlags::BLOOM, "BLOOM"),
        (ServiceFlags::WITNESS, "WITNESS"),
        (ServiceFlags::COMPACT_FILTERS, "COMPACT_FILTERS"),
        (ServiceFlags::NETWORK_LIMITED, "NETWORK_LIMITED"),
        (ServiceFlags::P2P_V2, "P2P_V2"),
    ];
    names.into_iter().filter(|(flag, _)| services.has(*flag)).map(|(_, name)| name).collect()
}

/// The answers are seen in `getpeerinfo`.
pub(super) fn ping(node: &Node) -> Result<Value, RpcError> {
    node.ping_peers().map_err(no_network)?;
    Ok(Value::Null)
}

pub(super) fn set_active(node: &Node, call: &Call) -> Result<Value, RpcError> {
    if call.optional(0).is_none() {
        return Err(RpcError::new(MISC, "state is missing"));
    }
    let active = call.flag(0, true)?;
    node.set_network_active(active).map_err(no_network)?;
    Ok(json!(active))
}

fn no_network(error: NodeError) -> RpcError {
    match error {
        NodeError::Network(_) => RpcError::new(P2P_DISABLED, "Error: Peer-to-peer functionality missing or disabled"),
        error => error.into(),
    }
}

/// What Bitcoin Core calls the networks that addresses are of; here there are the first two.
const NETWORKS: [&str; 5] = ["ipv4", "ipv6", "onion", "i2p", "cjdns"];

fn network_of(known: &KnownAddress) -> &'static str {
    if known.address.is_ipv4() { "ipv4" } else { "ipv6" }
}

/// How many addresses are known. One counts as tried if this node was connected to it and no attempt has failed since.
pub(super) async fn address_counts(node: &Node) -> Value {
    let known = node.known_addresses(usize::MAX).await;
    let count = |chosen: &dyn Fn(&KnownAddress) -> bool| {
        let total = known.iter().filter(|one| chosen(one)).count();
        let tried = known.iter().filter(|one| chosen(one) && one.was_reached()).count();
        json!({ "new": total.saturating_sub(tried), "tried": tried, "total": total })
    };
    let mut counts: Map<String, Value> =
        NETWORKS.iter().map(|name| ((*name).to_owned(), count(&|one| network_of(one) == *name))).collect();
    counts.insert("all_networks".to_owned(), count(&|_| true));
    Value::Object(counts)
}

pub(super) async fn addresses(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let count = if call.optional(0).is_some() { call.number(0)? } else { 1 };
    let count = usize::try_from(count).map_err(|_| RpcError::parameter("Address count out of range"))?;
    let wanted = if call.optional(1).is_some() { Some(call.text(1)?) } else { None };
    if let Some(name) = wanted.filter(|name| !NETWORKS.contains(name)) {
        return Err(RpcError::parameter(format!("Network not recognized: {name}")));
    }
    let known = node.known_addresses(usize::MAX).await;
    let chosen = known.iter().filter(|one| wanted.is_none_or(|name| network_of(one) == name));
    let told = chosen.take(if count == 0 { usize::MAX } else { count }).map(|one| {
        json!({
            "time": one.last_seen.as_secs(),
            "services": one.services.to_u64(),
            "address": one.address.ip().to_string(),
            "port": one.address.port(),
            "network": network_of(one),
        })
    });
    Ok(told.collect())
}

/// Asks a peer for a block whose header is known. Whether it comes is seen by asking for the block.
pub(super) fn block_from_peer(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let hash: BlockHash = call.hash(0)?;
    let peer = call.number(1)?;
    let refuse = |text: &str| Err(RpcError::new(MISC, text));
    match node.block_state(&hash) {
        None => return refuse("Block header missing"),
        Some(BlockState::Active) if node.header(&hash).is_some_and(|(_, height)| height < node.pruned_below()) => {
            return refuse("the block is pruned, and a pruned block is not stored again");
        }
        Some(BlockState::Active | BlockState::Stored) => return refuse("Block already downloaded"),
        Some(BlockState::Invalid) => return refuse("the block is marked as invalid"),
        Some(BlockState::HeaderOnly) => {}
    }
    if node.watched_scripts().is_some() {
        return Err(NodeError::LightNode("blocks").into());
    }
    let known = node.peers().into_iter().find(|known| u64::try_from(peer) == Ok(known.id));
    let Some(peer) = known else { return refuse("Peer does not exist") };
    let node = node.clone();
    tokio::spawn(async move {
        if let Err(error) = node.fetch_block(peer.id, hash).await {
            tracing::warn!(%hash, address = %peer.address, %error, "a block that was asked of a peer is not taken");
        }
    });
    Ok(json!({}))
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
