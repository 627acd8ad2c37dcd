//! The whole network, as DescribeGraph tells it, piece by piece.

use std::sync::LazyLock;

use leyden_channels::{types::NodeId, wire::features::Features};

use super::{feature, graph::TCP, graph::UNTOLD_COLOR, msat, signed};
use crate::{
    api::{GraphChannel, GraphNode, GraphNodeInfo, GraphPolicy, NetworkGraph},
    parallel,
    rpc::long::{
        Pieces,
        wire::{Length, Message, Sink},
    },
};

/// `lnrpc.ChannelGraph`.
pub(crate) struct GraphPieces {
    graph: NetworkGraph,
    nodes_given: usize,
    channels_given: usize,
}

impl GraphPieces {
    pub(crate) fn new(graph: NetworkGraph) -> Self {
        Self { graph, nodes_given: 0, channels_given: 0 }
    }
}

impl Pieces for GraphPieces {
    fn length(&self) -> usize {
        let NetworkGraph { nodes, channels } = &self.graph;
        let nodes = parallel::sum(nodes, |node| Length::of(NODES, &Node(node)));
        nodes + parallel::sum(channels, |channel| Length::of(EDGES, &Edge(channel)))
    }

    fn append(&mut self, bytes: &mut Vec<u8>, enough: usize) -> bool {
        while bytes.len() < enough {
            if let Some(node) = self.graph.nodes.get(self.nodes_given) {
                bytes.message(NODES, &Node(node));
                self.nodes_given += 1;
            } else if let Some(channel) = self.graph.channels.get(self.channels_given) {
                bytes.message(EDGES, &Edge(channel));
                self.channels_given += 1;
            } else {
                return false;
            }
        }
        true
    }
}

/// Fields of `lnrpc.ChannelGraph`.
const NODES: u32 = 1;
const EDGES: u32 = 2;

/// `lnrpc.LightningNode`.
struct Node<'a>(&'a GraphNode);

impl Message for Node<'_> {
    fn put<T: Sink>(&self, to: &mut T) {
        let Node(GraphNode { id, info }) = self;
        if let Some(info) = info {
            to.uint(1, info.timestamp.into());
        }
        put_node_id(to, 2, id);
        let Some(info) = info else { return to.text(5, UNTOLD_COLOR) };
        let GraphNodeInfo { alias, color, addresses, features, .. } = info;
        to.text(3, alias);
        addresses.iter().for_each(|address| to.message(4, &Address(address)));
        to.head(5, 1 + 2 * color.len());
        to.raw(b"#");
        to.raw_hex(color);
        put_features(to, 6, features);
    }
}

/// `lnrpc.NodeAddress`.
struct Address<'a>(&'a str);

impl Message for Address<'_> {
    fn put<T: Sink>(&self, to: &mut T) {
        to.text(1, TCP);
        to.text(2, self.0);
    }
}

/// An entry of a map of features.
struct FeatureEntry(u32);

impl Message for FeatureEntry {
    fn put<T: Sink>(&self, to: &mut T) {
        to.uint(1, self.0.into());
        to.message(2, &Feature(self.0));
    }
}

/// `lnrpc.Feature`, of a bit.
struct Feature(u32);

impl Message for Feature {
    fn put<T: Sink>(&self, to: &mut T) {
        let told = feature(self.0);
        to.text(2, &told.name);
        to.flag(3, told.is_required);
        to.flag(4, told.is_known);
    }
}

/// Feature bits whose entries are kept: all that have a name, and those that are seen without one.
const KEPT_BITS: u32 = 512;

/// What is known of a bit never changes.
static ENTRIES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let entry = |bit| {
        let mut bytes = Vec::new();
        FeatureEntry(bit).put(&mut bytes);
        bytes
    };
    (0..KEPT_BITS).map(entry).collect()
});

fn put_features<T: Sink>(to: &mut T, field: u32, features: &Features) {
    for bit in features.bits() {
        let Ok(number) = u32::try_from(bit) else { continue };
        match ENTRIES.get(bit) {
            Some(entry) => {
                to.head(field, entry.len());
                to.raw(entry);
            }
            None => to.message(field, &FeatureEntry(number)),
        }
    }
}

/// `lnrpc.ChannelEdge`.
struct Edge<'a>(&'a GraphChannel);

impl Message for Edge<'_> {
    fn put<T: Sink>(&self, to: &mut T) {
        let Edge(GraphChannel { short_channel_id, funding, nodes: [node_1, node_2], capacity, policies }) = self;
        let [policy_1, policy_2] = policies;
        let at = |policy: &Option<GraphPolicy>| policy.map_or(0, |policy| policy.timestamp);
        to.uint(1, short_channel_id.0);
        if let Some(funding) = funding {
            super::put_outpoint(to, 2, funding);
        }
        to.uint(3, at(policy_1).max(at(policy_2)).into());
        put_node_id(to, 4, node_1);
        put_node_id(to, 5, node_2);
        to.int(6, signed(*capacity));
        for (field, policy) in [(7, policy_1), (8, policy_2)] {
            if let Some(policy) = policy {
                to.message(field, &Policy(policy));
            }
        }
    }
}

/// `lnrpc.RoutingPolicy`.
struct Policy<'a>(&'a GraphPolicy);

impl Message for Policy<'_> {
    fn put<T: Sink>(&self, to: &mut T) {
        let Policy(policy) = self;
        to.uint(1, policy.cltv_expiry_delta.into());
        to.int(2, msat(policy.htlc_minimum));
        to.int(3, msat(policy.base_fee));
        to.int(4, policy.fee_ppm.into());
        to.flag(5, policy.disabled);
        to.uint(6, policy.htlc_maximum.0);
        to.uint(7, policy.timestamp.into());
    }
}

fn put_node_id<T: Sink>(to: &mut T, field: u32, id: &NodeId) {
    to.hex(field, &id.0);
}

#[cfg(test)]
mod tests {
    use leyden_proto::lnrpc;
    use prost::Message as _;

    use super::{super::graph, *};
    use crate::rpc::fake::network::network;

    fn whole(graph: NetworkGraph, enough: usize) -> (usize, Vec<u8>) {
        let mut pieces = GraphPieces::new(graph);
        let (length, mut all) = (pieces.length(), Vec::new());
        loop {
            let mut piece = Vec::new();
            let more = pieces.append(&mut piece, enough);
            all.extend(piece);
            if !more {
                return (length, all);
            }
        }
    }

    fn graphs() -> Vec<NetworkGraph> {
        let mut unusual = network();
        for node in &mut unusual.nodes {
            if let Some(info) = &mut node.info {
                info.timestamp = 0;
                info.alias.clear();
                info.addresses = vec!["[::1]:1".to_owned(), "a".repeat(200)];
                info.features = Features::default();
                [0, 9, 511, 512, 5_000].into_iter().for_each(|bit| info.features.set_bit(bit));
            }
        }
        let [first, second] = &mut unusual.channels[0].policies;
        *second = *first;
        let policy = first.as_mut().unwrap();
        (policy.disabled, policy.base_fee, policy.timestamp) = (true, leyden_channels::types::Msat(0), 0);
        unusual.channels[0].funding = None;
        let mut coin = network().channels.remove(0);
        coin.funding = Some(bitcoin::OutPoint { vout: u32::MAX, ..crate::rpc::fake::funding() });
        coin.policies = [None, None];
        unusual.channels.push(coin);
        vec![network(), unusual, NetworkGraph::default()]
    }

    #[test]
    fn a_graph_in_pieces_is_the_graph_in_one() {
        for graph in graphs() {
            let expected = lnrpc::ChannelGraph {
                nodes: graph.nodes.iter().map(graph::node).collect(),
                edges: graph.channels.iter().map(graph::channel).collect(),
            };
            for enough in [1, 300, usize::MAX] {
                let (length, bytes) = whole(graph.clone(), enough);
                assert_eq!(length, expected.encoded_len());
                assert_eq!(bytes.len(), length);
                // The order in a map is nobody's.
                assert_eq!(lnrpc::ChannelGraph::decode(bytes.as_slice()).unwrap(), expected);
            }
        }
    }

    #[test]
    fn an_edge_is_encoded_as_protobuf_has_it() {
        for channel in graphs().iter().flat_map(|graph| &graph.channels) {
            let mut bytes = Vec::new();
            Edge(channel).put(&mut bytes);
            assert_eq!(bytes, graph::channel(channel).encode_to_vec());
        }
    }
}
