//! The network's calls: what gossip has told, and our own channels that it does not tell of.

use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint};
use leyden_channels::{
    channel::StateName,
    gossip::{
        Direction, Graph as Network,
        graph::{Channel as NetworkChannel, Node, NodeIndex, NodeInfo, RoutingPolicy},
    },
    types::{ChannelId, Msat, NodeId, ShortChannelId},
    wire::{NodeAddress, alias_text},
};

use tokio_stream::StreamExt as _;

use super::{LightningNode, invoices::futures_unfold, network_map::network_map};
use crate::{
    api::{
        ApiError, ChannelName, Graph, GraphChannel, GraphNode, GraphNodeInfo, GraphNodeView, GraphPolicy, GraphUpdate,
        NetworkGraph, NetworkMap, NetworkSummary, Updates,
    },
    driver::{
        gossip::{Gossip, GraphNews},
        services::Services,
    },
    parallel,
};

#[async_trait]
impl Graph for LightningNode {
    async fn graph(&self, unannounced: bool) -> Result<NetworkGraph, ApiError> {
        let mut graph = self.read(|services| Ok(whole(&services.gossip))).await?;
        look_up_outputs(self.services(), &mut graph.channels).await;
        if unannounced {
            graph.channels.extend(self.unannounced().await);
        }
        Ok(graph)
    }

    async fn graph_channel(&self, name: ChannelName) -> Result<GraphChannel, ApiError> {
        let services = self.services();
        let id = match name {
            ChannelName::Id(id) => Some(id),
            ChannelName::Funding(funding) => services.gossip.id_of_output(&funding),
        };
        let found = id.and_then(|id| {
            let intake = services.gossip.intake();
            to_channel(intake.graph(), intake.graph().channel_by_id(id)?)
        });
        if let Some(channel) = found {
            let mut channels = [channel];
            name_outputs(services, &mut channels).await;
            let [channel] = channels;
            return Ok(channel);
        }
        let is_named = |channel: &GraphChannel| match name {
            ChannelName::Id(id) => channel.short_channel_id == id,
            ChannelName::Funding(funding) => channel.funding == Some(funding),
        };
        self.unannounced().await.into_iter().find(is_named).ok_or_else(|| {
            ApiError::not_found(
                "edge not found: no such channel is known, `leyden graph describe` lists those that are",
            )
        })
    }

    async fn graph_node(&self, node: NodeId) -> Result<GraphNodeView, ApiError> {
        let services = self.services();
        let local = NodeId::from(services.node_id());
        let known = {
            let intake = services.gossip.intake();
            let network = intake.graph();
            network.find_node(&node).map(|index| {
                let channels = network.channels_of(index).filter_map(|(channel, _)| to_channel(network, channel));
                let mut channels: Vec<GraphChannel> = channels.collect();
                channels.sort_by_key(|channel| channel.short_channel_id);
                GraphNodeView {
                    node: network.node(index).map_or(GraphNode { id: node, info: None }, to_node),
                    channels,
                }
            })
        };
        // Each of them has this node at one end.
        let ours = self.unannounced().await;
        let mut view = match known {
            Some(view) => view,
            // We know ourselves, whatever the network knows.
            None if node == local => GraphNodeView { node: self.own_node(), channels: Vec::new() },
            // A peer of ours is a node that we know, if nobody else does.
            None if ours.iter().any(|channel| channel.nodes.contains(&node)) => {
                GraphNodeView { node: GraphNode { id: node, info: None }, channels: Vec::new() }
            }
            None => {
                let text = format!(
                    "unable to find node: {node} is not known, it has no channel that was announced to this node"
                );
                return Err(ApiError::not_found(text));
            }
        };
        name_outputs(services, &mut view.channels).await;
        view.channels.extend(ours.into_iter().filter(|channel| channel.nodes.contains(&node)));
        Ok(view)
    }

    async fn graph_updates(&self) -> Result<Updates<GraphUpdate>, ApiError> {
        let services = Arc::clone(self.services());
        let news = futures_unfold(services.gossip.changes(), |news| news);
        let updates = news.then(move |news| {
            let services = Arc::clone(&services);
            async move {
                match news {
                    Ok(news) => update(&services, news).await.map(Ok),
                    Err(error) => Some(Err(error)),
                }
            }
        });
        Ok(Box::pin(updates.filter_map(|update| update)))
    }

    async fn network_summary(&self) -> Result<NetworkSummary, ApiError> {
        self.read(|services| Ok(summary(&Outline::of(&services.gossip)))).await
    }

    async fn network_map(&self, most: usize) -> Result<NetworkMap, ApiError> {
        self.read(move |services| Ok(network_map(&services.gossip, &services.node_id().into(), most))).await
    }

    async fn aliases(&self, nodes: &[NodeId]) -> Result<Vec<String>, ApiError> {
        let services = self.services();
        let intake = services.gossip.intake();
        let alias = |node: &NodeId| intake.graph().info_of(node).map(|info| alias_text(&info.alias));
        Ok(nodes.iter().map(|node| alias(node).unwrap_or_default()).collect())
    }
}

impl LightningNode {
    fn own_node(&self) -> GraphNode {
        let services = self.services();
        let announced = services.announced();
        let info = GraphNodeInfo {
            timestamp: 0,
            alias: announced.alias,
            color: announced.color,
            addresses: announced.addresses.iter().map(address).collect(),
            features: services.local.features.clone(),
        };
        GraphNode { id: NodeId::from(services.node_id()), info: Some(info) }
    }

    /// Our channels that the graph does not have.
    async fn unannounced(&self) -> Vec<GraphChannel> {
        let services = self.services();
        let mut channels = Vec::new();
        for state in self.peer_states().await {
            for channel in &state.channels {
                let Some(known) = &channel.established else { continue };
                let Some(name) = known.short_channel_id.or(known.local_alias) else { continue };
                let is_public = services.gossip.intake().graph().channel_by_id(name).is_some();
                if !is_public && channel.state == StateName::Normal {
                    let (funding, capacity) = (known.funding, channel.capacity);
                    channels.push(own_channel(
                        services,
                        &channel.channel_id,
                        state.node_id.into(),
                        name,
                        funding,
                        capacity,
                    ));
                }
            }
        }
        channels.sort_by_key(|channel| channel.short_channel_id);
        channels
    }
}

/// Funding outputs that one call looks up: each means to read a block.
const LOOKS_AT_ONCE: usize = 200;

/// Names the funding outputs of some channels.
async fn name_outputs(services: &Services, channels: &mut [GraphChannel]) {
    for some in channels.chunks_mut(PIECE) {
        take_outputs(&services.gossip, some);
    }
    look_up_outputs(services, channels).await;
}

/// Those that the gossip task has looked up.
fn take_outputs(gossip: &Gossip, channels: &mut [GraphChannel]) {
    let known = gossip.outputs_of(channels.iter().map(|channel| channel.short_channel_id));
    for (channel, funding) in channels.iter_mut().zip(known) {
        channel.funding = funding;
    }
}

/// Looks up the funding outputs that the gossip task has not come to yet, if they are few. Of a whole graph whose outputs were never
/// looked up, as of an earlier version's, most have no name until the gossip task has done that.
async fn look_up_outputs(services: &Services, channels: &mut [GraphChannel]) {
    for channel in channels.iter_mut().filter(|channel| channel.funding.is_none()).take(LOOKS_AT_ONCE) {
        let id = channel.short_channel_id;
        if let Ok(Some(found)) = services.node.output_at(id.block().0, id.index(), u32::from(id.output())).await {
            channel.funding = Some(found.outpoint);
        }
    }
}

/// What there is to tell of a change; nothing if it is over already.
async fn update(services: &Services, news: GraphNews) -> Option<GraphUpdate> {
    match news {
        GraphNews::Node(id) => {
            let intake = services.gossip.intake();
            let network = intake.graph();
            network.node(network.find_node(&id)?).map(|node| GraphUpdate::Node(to_node(node)))
        }
        GraphNews::Terms(id, direction) => {
            let channel = {
                let intake = services.gossip.intake();
                to_channel(intake.graph(), intake.graph().channel_by_id(id)?)?
            };
            let mut channels = [channel];
            name_outputs(services, &mut channels).await;
            let [channel] = channels;
            let [first, second] = channel.nodes;
            let by = match direction {
                Direction::FromNode1 => first,
                Direction::FromNode2 => second,
            };
            Some(GraphUpdate::Terms { channel, by })
        }
        GraphNews::Gone(id) => {
            let found = services.node.output_at(id.block().0, id.index(), u32::from(id.output())).await.ok().flatten();
            Some(GraphUpdate::Gone {
                short_channel_id: id,
                funding: found.as_ref().map(|found| found.outpoint),
                capacity: found.map_or(Amount::ZERO, |found| found.output.value),
                height: services.tip(),
            })
        }
    }
}

/// Channels or nodes that are copied before the graph is let go again, so that gossip, and the routes that wait behind it,
/// are held up for about a millisecond.
const PIECE: usize = 1_000;

/// As it was piece by piece: what comes or goes meanwhile may be in it or not.
fn whole(gossip: &Gossip) -> NetworkGraph {
    let nodes = in_pieces(NodeIndex(0), |first| nodes_piece(gossip.intake().graph(), first));
    let ids = in_pieces(ShortChannelId(0), |first| {
        channels_piece(gossip.intake().graph(), first, |channel| {
            // What is spent, or was reorganised out, waits to be forgotten.
            channel.spent_at.is_none().then_some(channel.short_channel_id)
        })
    });
    let channels = parallel::map_some(&ids, PIECE, |ids, channels| {
        let known = channels.len();
        copy_channels(gossip.intake().graph(), ids, channels);
        take_outputs(gossip, channels.get_mut(known..).unwrap_or_default());
    });
    // Texts are made after the graph was let go.
    NetworkGraph { nodes: parallel::map(&nodes, to_node), channels }
}

fn copy_channels(network: &Network, ids: &[ShortChannelId], to: &mut Vec<GraphChannel>) {
    to.extend(ids.iter().filter_map(|id| to_channel(network, network.channel_by_id(*id)?)));
}

/// Each piece, and where the next one begins.
fn in_pieces<K, T>(first: K, mut piece: impl FnMut(K) -> (Vec<T>, Option<K>)) -> Vec<T> {
    let (mut all, mut next) = (Vec::new(), Some(first));
    while let Some(from) = next {
        let (copied, rest) = piece(from);
        all.extend(copied);
        next = rest;
    }
    all
}

fn nodes_piece(network: &Network, first: NodeIndex) -> (Vec<Node>, Option<NodeIndex>) {
    let mut nodes = network.nodes_from(first);
    let copied = nodes.by_ref().take(PIECE).map(|(_, node)| node.clone()).collect();
    (copied, nodes.next().map(|(index, _)| index))
}

fn channels_piece<T>(
    network: &Network,
    first: ShortChannelId,
    copy: impl Fn(&NetworkChannel) -> Option<T>,
) -> (Vec<T>, Option<ShortChannelId>) {
    let mut channels = network.channels_from(first);
    let copied = channels.by_ref().take(PIECE).filter_map(copy).collect();
    (copied, channels.next().map(|channel| channel.short_channel_id))
}

fn own_channel(
    services: &Services,
    channel: &ChannelId,
    peer: NodeId,
    short_channel_id: ShortChannelId,
    funding: OutPoint,
    capacity: Amount,
) -> GraphChannel {
    // Terms that are told to the peer alone bear no time that anybody has seen. Clients take 0 for a channel without any.
    let timestamp = u32::try_from(services.begun.0).unwrap_or(u32::MAX);
    let most = Msat::from_sat(capacity).unwrap_or(Msat(u64::MAX));
    let ours = services.forward_policy(channel).map(|policy| GraphPolicy {
        timestamp,
        disabled: !policy.enabled,
        cltv_expiry_delta: policy.cltv_expiry_delta,
        htlc_minimum: policy.htlc_minimum,
        htlc_maximum: policy.htlc_maximum.unwrap_or(most),
        base_fee: policy.base_fee,
        fee_ppm: policy.fee_ppm,
    });
    let theirs = services.gossip.hint(channel).map(|hint| GraphPolicy {
        timestamp,
        disabled: false,
        cltv_expiry_delta: hint.cltv_expiry_delta,
        htlc_minimum: Msat(1),
        htlc_maximum: most,
        base_fee: Msat(u64::from(hint.fee_base_msat)),
        fee_ppm: hint.fee_proportional_millionths,
    });
    let local = NodeId::from(services.node_id());
    let (nodes, policies) =
        if local < peer { ([local, peer], [ours, theirs]) } else { ([peer, local], [theirs, ours]) };
    GraphChannel { short_channel_id, funding: Some(funding), nodes, capacity, policies }
}

fn to_node(node: &Node) -> GraphNode {
    GraphNode { id: node.id, info: node.info.as_deref().map(to_info) }
}

fn to_info(info: &NodeInfo) -> GraphNodeInfo {
    GraphNodeInfo {
        timestamp: info.timestamp,
        alias: alias_text(&info.alias),
        color: info.rgb_color,
        addresses: NodeAddress::parse_all(&info.addresses).iter().map(address).collect(),
        features: info.features.clone(),
    }
}

/// As host:port.
pub(super) fn address(address: &NodeAddress) -> String {
    match address {
        NodeAddress::OnionV3 { address, port } => format!("{}.onion:{port}", base32(address)),
        plain => plain.host_and_port().unwrap_or_default(),
    }
}

/// RFC 4648 in lower case; an onion address fills its last letter.
fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let bits = chunk.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)) << (8 * (5 - chunk.len()));
        for at in 0..(chunk.len() * 8).div_ceil(5) {
            let letter = LETTERS.get((bits >> (35 - 5 * at) & 31) as usize);
            text.extend(letter.map(|letter| char::from(*letter)));
        }
    }
    text
}

/// The funding output is named later: the graph does not keep it.
fn to_channel(network: &Network, channel: &NetworkChannel) -> Option<GraphChannel> {
    let policy = |policy: &RoutingPolicy| GraphPolicy {
        timestamp: policy.timestamp,
        disabled: policy.disabled,
        cltv_expiry_delta: policy.cltv_expiry_delta,
        htlc_minimum: policy.htlc_minimum_msat,
        htlc_maximum: policy.htlc_maximum_msat,
        base_fee: Msat(u64::from(policy.fee_base_msat)),
        fee_ppm: policy.fee_proportional_millionths,
    };
    Some(GraphChannel {
        short_channel_id: channel.short_channel_id,
        funding: None,
        nodes: [network.node(channel.node_1)?.id, network.node(channel.node_2)?.id],
        capacity: channel.capacity,
        policies: [
            channel.policies.from_node_1.as_ref().map(policy),
            channel.policies.from_node_2.as_ref().map(policy),
        ],
    })
}

/// What a summary needs of the graph.
pub(super) struct Outline {
    pub(super) channels: Vec<Edge>,
    pub(super) nodes: usize,
    /// By node: those that it has channels with, one for each.
    pub(super) neighbours: Vec<Vec<usize>>,
}

pub(super) struct Edge {
    pub(super) ends: [usize; 2],
    pub(super) capacity: Amount,
    pub(super) is_usable: bool,
}

impl Edge {
    fn of(channel: &NetworkChannel) -> Self {
        let is_open = |policy: &Option<RoutingPolicy>| policy.is_some_and(|policy| !policy.disabled);
        let has_terms = is_open(&channel.policies.from_node_1) || is_open(&channel.policies.from_node_2);
        Self {
            ends: [channel.node_1, channel.node_2].map(|node| node.0 as usize),
            capacity: channel.capacity,
            is_usable: channel.spent_at.is_none() && has_terms,
        }
    }
}

impl Outline {
    pub(super) fn of(gossip: &Gossip) -> Self {
        let channels = in_pieces(ShortChannelId(0), |first| {
            channels_piece(gossip.intake().graph(), first, |channel| Some(Edge::of(channel)))
        });
        Self::new(channels, gossip.intake().graph().node_count())
    }

    pub(super) fn new(channels: Vec<Edge>, nodes: usize) -> Self {
        let bound = channels.iter().flat_map(|edge| edge.ends).max().map_or(0, |last| last + 1);
        let mut neighbours = vec![Vec::new(); bound];
        for [from, to] in channels.iter().flat_map(|Edge { ends: [a, b], .. }| [[*a, *b], [*b, *a]]) {
            if let Some(known) = neighbours.get_mut(from) {
                known.push(to);
            }
        }
        Self { channels, nodes, neighbours }
    }

    /// How many channels a node has.
    pub(super) fn degree(&self, node: usize) -> usize {
        self.neighbours.get(node).map_or(0, Vec::len)
    }
}

fn summary(outline: &Outline) -> NetworkSummary {
    let Outline { channels, nodes, neighbours } = outline;
    let mut capacities: Vec<Amount> = channels.iter().map(|edge| edge.capacity).collect();
    capacities.sort_unstable();
    let degree = |node: usize| outline.degree(node);
    let hub = (0..neighbours.len()).max_by_key(|node| degree(*node));
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    NetworkSummary {
        diameter: hub.map_or(0, |hub| diameter(neighbours, hub)),
        nodes: count(*nodes),
        channels: count(channels.len()),
        max_degree: hub.map_or(0, |hub| count(degree(hub))),
        capacity: Amount::from_sat(capacities.iter().fold(0, |sum, amount| sum.saturating_add(amount.to_sat()))),
        smallest: capacities.first().copied().unwrap_or_default(),
        largest: capacities.last().copied().unwrap_or_default(),
        median: median(&capacities),
        unusable: count(channels.iter().filter(|edge| !edge.is_usable).count()),
    }
}

fn median(sorted: &[Amount]) -> Amount {
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    match sorted.len() {
        0 => Amount::ZERO,
        length if length.is_multiple_of(2) => Amount::from_sat((at(middle - 1).to_sat() + at(middle).to_sat()) / 2),
        _ => at(middle),
    }
}

/// How far the node that is farthest from the node farthest from `hub` is away: on networks as they are nearly always
/// the diameter, for two walks over the graph instead of one from every node.
fn diameter(neighbours: &[Vec<usize>], hub: usize) -> u32 {
    let (far, _) = farthest(neighbours, hub);
    farthest(neighbours, far).1
}

fn farthest(neighbours: &[Vec<usize>], from: usize) -> (usize, u32) {
    let mut seen = vec![false; neighbours.len()];
    let mut queue = std::collections::VecDeque::from([(from, 0)]);
    let mut last = (from, 0);
    while let Some((node, distance)) = queue.pop_front() {
        if seen.get_mut(node).is_none_or(|seen| std::mem::replace(seen, true)) {
            continue;
        }
        last = (node, distance);
        queue.extend(neighbours.get(node).into_iter().flatten().map(|next| (*next, distance + 1)));
    }
    last
}

#[cfg(test)]
mod tests {
    use leyden_channels::gossip::graph::NewChannel;

    use super::*;

    fn network(channels: &[(u8, u8, u64)]) -> Network {
        let mut network = Network::new();
        for (id, (a, b, sat)) in (1..).zip(channels) {
            network.add_channel(NewChannel {
                short_channel_id: ShortChannelId(id),
                node_id_1: NodeId([*a; 33]),
                node_id_2: NodeId([*b; 33]),
                capacity: Amount::from_sat(*sat),
                routable: true,
            });
        }
        network
    }

    fn summary(network: &Network) -> NetworkSummary {
        let channels = network.channels().map(Edge::of).collect();
        super::summary(&Outline::new(channels, network.node_count()))
    }

    #[test]
    fn the_network_in_numbers() {
        assert_eq!(summary(&Network::new()), NetworkSummary::default());
        // A line of four with a spur at its second node.
        let summary = summary(&network(&[(1, 2, 10), (2, 3, 30), (3, 4, 50), (2, 5, 20)]));
        let expected = NetworkSummary {
            diameter: 3,
            nodes: 5,
            channels: 4,
            max_degree: 3,
            capacity: Amount::from_sat(110),
            smallest: Amount::from_sat(10),
            largest: Amount::from_sat(50),
            median: Amount::from_sat(25),
            unusable: 4,
        };
        assert_eq!(summary, expected, "nobody has told terms");
    }

    #[test]
    fn the_graph_is_copied_in_pieces_and_nothing_twice() {
        let channels = vec![(1, 2, 1_000); 2 * PIECE + 2];
        let mut network = network(&channels);
        let mut pieces = 0;
        let copied = in_pieces(ShortChannelId(0), |first| {
            pieces += 1;
            let piece = channels_piece(&network, first, |channel| Some(channel.short_channel_id));
            // Where the next piece was to begin is forgotten meanwhile.
            if let Some(next) = piece.1.filter(|_| pieces == 1) {
                network.remove_channel(next);
            }
            piece
        });
        assert_eq!(pieces, 3);
        assert_eq!(copied.len(), 2 * PIECE + 1);
        assert!(copied.is_sorted_by(|a, b| a < b));
        assert_eq!(in_pieces(NodeIndex(0), |first| nodes_piece(&network, first)).len(), 2);
    }

    #[test]
    fn addresses_are_written_as_people_know_them() {
        assert_eq!(address(&NodeAddress::Ipv4 { address: [127, 0, 0, 1], port: 9735 }), "127.0.0.1:9735");
        assert_eq!(address(&NodeAddress::Ipv6 { address: [0; 16], port: 1 }), "[::]:1");
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(base32(&[0xff; 35]), "7".repeat(56));
    }
}
