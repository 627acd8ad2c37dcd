//! LDK's `find_route` with its `ProbabilisticScorer`, both as they come, on a made-up network.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bitcoin::{Network, constants::ChainHash};
use leyden_channels::{
    gossip::{RoutingPolicy, synthetic::SyntheticNetwork},
    routing::trial::{Answer, Leg, Trial},
    types::{Msat, NodeId, ShortChannelId},
};
use lightning::{
    ln::msgs::UnsignedChannelUpdate,
    routing::{
        gossip::{NetworkGraph, NodeId as PeerNodeId},
        router::{Path, PaymentParameters, Route, RouteParameters, find_route},
        scoring::{ProbabilisticScorer, ProbabilisticScoringDecayParameters, ProbabilisticScoringFeeParameters},
    },
    types::features::{Bolt11InvoiceFeatures, ChannelFeatures},
    util::logger::{Logger, Record},
};

/// A router's log would be part of its time.
pub struct Silent;

impl Logger for Silent {
    fn log(&self, _: Record) {}
}

type Graph = Arc<NetworkGraph<Arc<Silent>>>;

pub struct Ldk {
    graph: Graph,
    scorer: ProbabilisticScorer<Graph, Arc<Silent>>,
    parameters: ProbabilisticScoringFeeParameters,
}

impl Ldk {
    /// Knows the network's channels and their policies, and nothing of the balances.
    pub fn new(network: &SyntheticNetwork) -> Self {
        let graph = Arc::new(NetworkGraph::new(Network::Regtest, Arc::new(Silent)));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for made in &network.channels {
            let channel = &made.channel;
            let id = |node: NodeId| PeerNodeId::from_pubkey(&node.public_key().unwrap());
            let (one, two) = (id(channel.node_id_1), id(channel.node_id_2));
            let capacity = Some(channel.capacity.to_sat());
            let known = ChannelFeatures::empty();
            let short = channel.short_channel_id.0;
            graph.add_channel_from_partial_announcement(short, capacity, now, known, one, two).unwrap();
            for (policy, from_2) in [(made.policies.from_node_1, 0), (made.policies.from_node_2, 1)] {
                let Some(policy) = policy else { continue };
                graph.update_channel_unsigned(&update(short, now as u32, from_2, &policy)).unwrap();
            }
        }
        let decay = ProbabilisticScoringDecayParameters::default();
        let scorer = ProbabilisticScorer::new(decay, Arc::clone(&graph), Arc::new(Silent));
        Self { graph, scorer, parameters: ProbabilisticScoringFeeParameters::default() }
    }

    pub fn find(&self, from: NodeId, question: &RouteParameters) -> Option<Route> {
        let (from, log, seed) = (from.public_key().unwrap(), Arc::new(Silent), [7; 32]);
        find_route(&from, question, &self.graph, None, log, &self.scorer, &self.parameters, &seed).ok()
    }
}

/// As an invoice would ask it.
pub fn question(trial: &Trial, to: NodeId) -> RouteParameters {
    let mut features = Bolt11InvoiceFeatures::empty();
    features.set_variable_length_onion_required();
    features.set_payment_secret_required();
    features.set_basic_mpp_optional();
    let payee = PaymentParameters::from_node_id(to.public_key().unwrap(), 40).with_bolt11_features(features).unwrap();
    let mut question = RouteParameters::from_payment_params_and_value(payee, trial.amount.0);
    question.max_total_routing_fee_msat = Some(trial.fee_limit().0);
    question
}

pub fn answer(route: &Route) -> Answer {
    Answer { parts: route.paths.iter().map(legs).collect() }
}

/// A hop's `fee_msat` is what it keeps; the last one's is what the payee gets.
fn legs(path: &Path) -> Vec<Leg> {
    let mut amount = 0;
    let mut legs: Vec<Leg> = path
        .hops
        .iter()
        .rev()
        .map(|hop| {
            amount += hop.fee_msat;
            Leg { short_channel_id: ShortChannelId(hop.short_channel_id), to: hop.pubkey.into(), amount: Msat(amount) }
        })
        .collect();
    legs.reverse();
    legs
}

fn update(short_channel_id: u64, timestamp: u32, from_2: u8, policy: &RoutingPolicy) -> UnsignedChannelUpdate {
    UnsignedChannelUpdate {
        chain_hash: ChainHash::REGTEST,
        short_channel_id,
        timestamp,
        message_flags: 1,
        channel_flags: from_2 | if policy.disabled { 2 } else { 0 },
        cltv_expiry_delta: policy.cltv_expiry_delta,
        htlc_minimum_msat: policy.htlc_minimum_msat.0,
        htlc_maximum_msat: policy.htlc_maximum_msat.0,
        fee_base_msat: policy.fee_base_msat,
        fee_proportional_millionths: policy.fee_proportional_millionths,
        excess_data: Vec::new(),
    }
}
