//! The network.

use std::str::FromStr as _;

use leyden_channels::types::{NodeId, ShortChannelId};
use leyden_proto::lnrpc;

use super::{channels, edge, features, msat, signed};
use crate::api::{
    ApiError, ChannelName, GraphChannel, GraphNode, GraphNodeView, GraphPolicy, GraphUpdate, NetworkSummary,
};

/// LND's color of a node that has not said one; clients take none for a broken answer.
pub(super) const UNTOLD_COLOR: &str = "#000000";
/// The network that all addresses are of, as LND says it.
pub(super) const TCP: &str = "tcp";

pub(crate) fn channel_name(request: &lnrpc::ChanInfoRequest) -> Result<ChannelName, ApiError> {
    match (request.chan_id, request.chan_point.as_str()) {
        (0, "") => Err(edge::wrong("chan_id", "give the channel's id, or its funding output as chan_point")),
        (id, "") => Ok(ChannelName::Id(ShortChannelId(id))),
        (0, point) => bitcoin::OutPoint::from_str(point).map(ChannelName::Funding).map_err(|_| {
            edge::wrong("chan_point", format_args!("\"{point}\" is no funding output; it is written txid:index"))
        }),
        (_, _) => Err(edge::wrong("chan_point", "give chan_id or chan_point, not both")),
    }
}

pub(crate) fn node_name(request: &lnrpc::NodeInfoRequest) -> Result<NodeId, ApiError> {
    edge::node_id_hex("pub_key", &request.pub_key).map(NodeId::from)
}

pub(crate) fn node_view(view: &GraphNodeView, with_channels: bool) -> lnrpc::NodeInfo {
    let capacity = view.channels.iter().fold(0, |sum: i64, channel| sum.saturating_add(signed(channel.capacity)));
    lnrpc::NodeInfo {
        node: Some(node(&view.node)),
        num_channels: u32::try_from(view.channels.len()).unwrap_or(u32::MAX),
        total_capacity: capacity,
        channels: if with_channels { view.channels.iter().map(channel).collect() } else { Vec::new() },
    }
}

pub(super) fn node(node: &GraphNode) -> lnrpc::LightningNode {
    let pub_key = node.id.to_string();
    let Some(info) = &node.info else {
        return lnrpc::LightningNode { pub_key, color: UNTOLD_COLOR.to_owned(), ..Default::default() };
    };
    let [red, green, blue] = info.color;
    let address = |addr: &String| lnrpc::NodeAddress { network: TCP.to_owned(), addr: addr.clone() };
    lnrpc::LightningNode {
        last_update: info.timestamp,
        pub_key,
        alias: info.alias.clone(),
        addresses: info.addresses.iter().map(address).collect(),
        color: format!("#{red:02x}{green:02x}{blue:02x}"),
        features: features(&info.features),
    }
}

#[allow(deprecated)] // `last_update` is still read by clients.
pub(crate) fn channel(channel: &GraphChannel) -> lnrpc::ChannelEdge {
    let [node_1, node_2] = channel.nodes;
    let [policy_1, policy_2] = &channel.policies;
    let at = |policy: &Option<GraphPolicy>| policy.map_or(0, |policy| policy.timestamp);
    lnrpc::ChannelEdge {
        channel_id: channel.short_channel_id.0,
        chan_point: channel.funding.map(|funding| funding.to_string()).unwrap_or_default(),
        last_update: at(policy_1).max(at(policy_2)),
        node1_pub: node_1.to_string(),
        node2_pub: node_2.to_string(),
        capacity: signed(channel.capacity),
        node1_policy: policy_1.as_ref().map(policy),
        node2_policy: policy_2.as_ref().map(policy),
    }
}

pub(crate) fn update(update: &GraphUpdate) -> lnrpc::GraphTopologyUpdate {
    let mut told = lnrpc::GraphTopologyUpdate::default();
    match update {
        GraphUpdate::Node(node) => told.node_updates.push(node_update(node)),
        GraphUpdate::Terms { channel, by } => told.channel_updates.push(edge_update(channel, *by)),
        GraphUpdate::Gone { short_channel_id, funding, capacity, height } => {
            told.closed_chans.push(lnrpc::ClosedChannelUpdate {
                chan_id: short_channel_id.0,
                capacity: signed(*capacity),
                closed_height: height.0,
                chan_point: funding.map(channels::channel_point),
            });
        }
    }
    told
}

#[allow(deprecated)] // `addresses` is still read by clients.
fn node_update(told: &GraphNode) -> lnrpc::NodeUpdate {
    let lnrpc::LightningNode { pub_key, alias, addresses, color, features, .. } = node(told);
    lnrpc::NodeUpdate {
        addresses: addresses.iter().map(|address| address.addr.clone()).collect(),
        identity_key: pub_key,
        alias,
        color,
        node_addresses: addresses,
        features,
    }
}

fn edge_update(channel: &GraphChannel, by: NodeId) -> lnrpc::ChannelEdgeUpdate {
    let [node_1, node_2] = channel.nodes;
    let [policy_1, policy_2] = &channel.policies;
    let (said, other) = if by == node_1 { (policy_1, node_2) } else { (policy_2, node_1) };
    lnrpc::ChannelEdgeUpdate {
        chan_id: channel.short_channel_id.0,
        chan_point: channel.funding.map(channels::channel_point),
        capacity: signed(channel.capacity),
        routing_policy: said.as_ref().map(policy),
        advertising_node: by.to_string(),
        connecting_node: other.to_string(),
    }
}

fn policy(policy: &GraphPolicy) -> lnrpc::RoutingPolicy {
    lnrpc::RoutingPolicy {
        time_lock_delta: u32::from(policy.cltv_expiry_delta),
        min_htlc: msat(policy.htlc_minimum),
        fee_base_msat: msat(policy.base_fee),
        fee_rate_milli_msat: i64::from(policy.fee_ppm),
        disabled: policy.disabled,
        max_htlc_msat: policy.htlc_maximum.0,
        last_update: policy.timestamp,
    }
}

pub(crate) fn summary(summary: &NetworkSummary) -> lnrpc::NetworkInfo {
    let share = |part: f64, of: u32| if of == 0 { 0.0 } else { part / f64::from(of) };
    lnrpc::NetworkInfo {
        graph_diameter: summary.diameter,
        avg_out_degree: share(2.0 * f64::from(summary.channels), summary.nodes),
        max_out_degree: summary.max_degree,
        num_nodes: summary.nodes,
        num_channels: summary.channels,
        total_network_capacity: signed(summary.capacity),
        avg_channel_size: share(summary.capacity.to_sat() as f64, summary.channels),
        min_channel_size: signed(summary.smallest),
        max_channel_size: signed(summary.largest),
        median_channel_size_sat: signed(summary.median),
        num_zombie_chans: u64::from(summary.unusable),
    }
}
