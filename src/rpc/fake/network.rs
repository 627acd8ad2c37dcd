//! A network of two nodes, and what they forward.

use async_trait::async_trait;
use bitcoin::{Amount, OutPoint};
use leyden_channels::{
    channel::FinalHtlc,
    switch::FailureDetail,
    types::{CltvExpiry, Height, HtlcId, Msat, NodeId, PaymentPreimage, ShortChannelId, UnixTime},
    wire::features::Features,
};

use super::{Fake, funding, node_id};
use crate::api::*;

/// The one channel.
pub(crate) fn channel_id() -> ShortChannelId {
    ShortChannelId::new(Height(103), 1, 0)
}

fn bob() -> NodeId {
    NodeId([3; 33])
}

pub(crate) fn network() -> NetworkGraph {
    let policy = |base_fee| GraphPolicy {
        timestamp: 1_700_000_000,
        disabled: false,
        cltv_expiry_delta: 80,
        htlc_minimum: Msat(1),
        htlc_maximum: Msat(990_000_000),
        base_fee: Msat(base_fee),
        fee_ppm: 250,
    };
    let info = GraphNodeInfo {
        timestamp: 1_700_000_001,
        alias: "bob".to_owned(),
        color: [1, 2, 255],
        addresses: vec!["127.0.0.1:9736".to_owned()],
        features: Features::init(),
    };
    NetworkGraph {
        nodes: vec![GraphNode { id: node_id().into(), info: None }, GraphNode { id: bob(), info: Some(info) }],
        channels: vec![GraphChannel {
            short_channel_id: channel_id(),
            funding: Some(funding()),
            nodes: [node_id().into(), bob()],
            capacity: Amount::from_sat(1_000_000),
            policies: [Some(policy(1_000)), None],
        }],
    }
}

#[async_trait]
impl Graph for Fake {
    async fn graph(&self, unannounced: bool) -> Result<NetworkGraph, ApiError> {
        self.asked(unannounced, network())
    }

    async fn graph_channel(&self, name: ChannelName) -> Result<GraphChannel, ApiError> {
        self.asked(name, network().channels.remove(0))
    }

    async fn graph_node(&self, node: NodeId) -> Result<GraphNodeView, ApiError> {
        let NetworkGraph { mut nodes, channels } = network();
        self.asked(node, GraphNodeView { node: nodes.remove(0), channels })
    }

    async fn graph_updates(&self) -> Result<Updates<GraphUpdate>, ApiError> {
        let NetworkGraph { mut nodes, mut channels } = network();
        let channel = channels.remove(0);
        let by = channel.nodes[0];
        let gone = GraphUpdate::Gone {
            short_channel_id: channel_id(),
            funding: Some(funding()),
            capacity: Amount::from_sat(1_000_000),
            height: Height(200),
        };
        self.answer(self.updates(vec![GraphUpdate::Node(nodes.remove(0)), GraphUpdate::Terms { channel, by }, gone]))
    }

    async fn network_map(&self, most: usize) -> Result<NetworkMap, ApiError> {
        let node = |id, alias: &str| MapNode { id, alias: alias.to_owned(), channels: 1 };
        let map = NetworkMap {
            nodes: vec![node(node_id().into(), "alice"), node(bob(), "bob")],
            edges: vec![(0, 1)],
            total_nodes: 2,
            total_channels: 1,
            total_capacity: Amount::from_sat(1_000_000),
        };
        self.asked(most, map)
    }

    async fn aliases(&self, nodes: &[NodeId]) -> Result<Vec<String>, ApiError> {
        self.answer(nodes.iter().map(|node| if *node == bob() { "bob".to_owned() } else { String::new() }).collect())
    }

    async fn network_summary(&self) -> Result<NetworkSummary, ApiError> {
        self.answer(NetworkSummary { nodes: 2, channels: 1, ..Default::default() })
    }
}

#[async_trait]
impl Forwarding for Fake {
    async fn fee_report(&self) -> Result<FeeReport, ApiError> {
        let fee =
            ChannelFee { short_channel_id: channel_id(), funding: funding(), base_fee: Msat(1_000), fee_ppm: 250 };
        self.answer(FeeReport { channels: vec![fee], day: Msat(1_999), week: Msat(2_000), month: Msat(3_000) })
    }

    async fn update_policy(&self, change: PolicyChange) -> Result<Vec<PolicyRefused>, ApiError> {
        let text = "a cltv_expiry_delta of 1 leaves too little time".to_owned();
        let refused = PolicyRefused { funding: funding(), reason: PolicyRefusal::Invalid, text };
        let short = change.cltv_expiry_delta < 18;
        self.asked(change, if short { vec![refused] } else { Vec::new() })
    }

    async fn forwards(&self, request: ForwardsRequest) -> Result<ForwardsPage, ApiError> {
        let side = |amount| ForwardSide {
            short_channel_id: Some(channel_id()),
            htlc: Some(HtlcId(4)),
            amount: Msat(amount),
            alias: "bob".to_owned(),
        };
        let forward = Forward { at: UnixTime(1_700_000_000), incoming: side(11_500), outgoing: side(10_000) };
        let next = request.skip + 1;
        self.asked(request, ForwardsPage { forwards: vec![forward], next })
    }

    async fn set_channel_status(&self, funding: OutPoint, status: ChannelStatus) -> Result<(), ApiError> {
        self.asked((funding, status), ())
    }

    async fn final_htlc(&self, channel: ShortChannelId, id: HtlcId) -> Result<FinalHtlc, ApiError> {
        self.asked((channel, id), FinalHtlc { settled: true, on_chain: false })
    }

    async fn htlc_events(&self) -> Result<Updates<HtlcEvent>, ApiError> {
        let name = Some(HtlcName { short_channel_id: channel_id(), id: HtlcId(4) });
        let event = |what| HtlcEvent {
            at: UnixTime(1_700_000_000),
            role: HtlcRole::Forward,
            incoming: name,
            outgoing: name,
            what,
        };
        let amounts = HtlcAmounts {
            incoming: Msat(11_500),
            incoming_expiry: CltvExpiry(300),
            outgoing: Msat(10_000),
            outgoing_expiry: CltvExpiry(220),
        };
        let events = self.updates(vec![
            event(HtlcNews::Forwarded(amounts)),
            event(HtlcNews::Settled { preimage: PaymentPreimage([9; 32]) }),
            event(HtlcNews::FailedHere { amounts, code: Some(0x100c), detail: FailureDetail::InsufficientBalance }),
            event(HtlcNews::Ended(FinalHtlc { settled: true, on_chain: false })),
        ]);
        self.answer(events)
    }
}
