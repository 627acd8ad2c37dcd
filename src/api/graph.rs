//! The network as this node knows it.

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint};
use leyden_channels::{
    types::{Height, Msat, NodeId, ShortChannelId},
    wire::features::Features,
};

use super::{ApiError, Updates};

/// What gossip has told.
#[async_trait]
pub(crate) trait Graph: Send + Sync {
    /// Everything; `unannounced`: our own channels that nobody else is told of, too.
    async fn graph(&self, unannounced: bool) -> Result<NetworkGraph, ApiError>;
    async fn graph_channel(&self, name: ChannelName) -> Result<GraphChannel, ApiError>;
    /// A node and its channels; our own channels that are not announced count among ours.
    async fn graph_node(&self, node: NodeId) -> Result<GraphNodeView, ApiError>;
    /// What changes from now on.
    async fn graph_updates(&self) -> Result<Updates<GraphUpdate>, ApiError>;
    async fn network_summary(&self) -> Result<NetworkSummary, ApiError>;
    /// What can be drawn of it: so many nodes at most.
    async fn network_map(&self, most: usize) -> Result<NetworkMap, ApiError>;
    /// What nodes call themselves, in the order of the question; empty where nobody has told.
    async fn aliases(&self, nodes: &[NodeId]) -> Result<Vec<String>, ApiError>;
}

/// What the network has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GraphUpdate {
    Node(GraphNode),
    /// `by` has said what it asks.
    Terms {
        channel: GraphChannel,
        by: NodeId,
    },
    /// A channel is no more.
    Gone {
        short_channel_id: ShortChannelId,
        funding: Option<OutPoint>,
        capacity: Amount,
        /// The tip now.
        height: Height,
    },
}

/// Either name of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelName {
    Id(ShortChannelId),
    Funding(OutPoint),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NetworkGraph {
    pub nodes: Vec<GraphNode>,
    /// In the order of their ids; those not announced come last.
    pub channels: Vec<GraphChannel>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GraphNode {
    pub id: NodeId,
    /// `None` if it has not announced itself.
    pub info: Option<GraphNodeInfo>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GraphNodeInfo {
    /// Of the announcement, seconds since 1970.
    pub timestamp: u32,
    pub alias: String,
    /// Red, green, blue.
    pub color: [u8; 3],
    /// As host:port.
    pub addresses: Vec<String>,
    pub features: Features,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GraphChannel {
    /// Of a channel that is not announced perhaps an alias.
    pub short_channel_id: ShortChannelId,
    /// `None` if the chain does not have it at the moment.
    pub funding: Option<OutPoint>,
    /// The ends, the one that sorts first being the first.
    pub nodes: [NodeId; 2],
    pub capacity: Amount,
    /// What each end asks; `None` if it has not said.
    pub policies: [Option<GraphPolicy>; 2],
}

/// What a node asks for HTLCs that it sends out through a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GraphPolicy {
    /// Seconds since 1970.
    pub timestamp: u32,
    pub disabled: bool,
    pub cltv_expiry_delta: u16,
    pub htlc_minimum: Msat,
    pub htlc_maximum: Msat,
    pub base_fee: Msat,
    pub fee_ppm: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GraphNodeView {
    pub node: GraphNode,
    pub channels: Vec<GraphChannel>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct NetworkSummary {
    /// A lower bound.
    pub diameter: u32,
    pub nodes: u32,
    pub channels: u32,
    pub max_degree: u32,
    pub capacity: Amount,
    pub smallest: Amount,
    pub largest: Amount,
    pub median: Amount,
    /// Known, but not usable in either direction.
    pub unusable: u32,
}

/// The best connected nodes, and the channels between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NetworkMap {
    /// This node is the first of them, if it is known to the network.
    pub nodes: Vec<MapNode>,
    /// The places of both ends in `nodes`.
    pub edges: Vec<(usize, usize)>,
    /// Of the whole network.
    pub total_nodes: usize,
    pub total_channels: usize,
    pub total_capacity: Amount,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MapNode {
    pub id: NodeId,
    pub alias: String,
    /// How many channels it has, with nodes that are not drawn too.
    pub channels: usize,
}
