//! Routes against brute force, against the policies they claim to obey, and against hidden balances.

use std::collections::HashMap;

use bitcoin::Amount;
use proptest::prelude::*;

use super::cost::{EdgeCosts, SearchTerms, Usage};
use super::route::{DEFAULT_CLTV_LIMIT, DEFAULT_MAX_HOPS, along};
use super::scorer::Attempted;
use super::search::{SearchRequest, Seed};
use super::{
    CostParams, LocalChannel, Plan, Route, RouteError, RouteRequest, Router, Scorer, Search, Source, UpdateFromFailure,
};
use crate::gossip::synthetic::{Size, SplitMix, SyntheticNetwork};
use crate::gossip::{Direction, Graph, NewChannel, NodeIndex, RoutingPolicy};
use crate::keys::secp;
use crate::onion::{HopPayload, ReceivePayload};
use crate::payment::HintHop;
use crate::types::{CltvExpiry, Height, Msat, NodeId, ShortChannelId, UnixTime};

const NOW: UnixTime = UnixTime(1_700_000_000);

fn key(byte: u8) -> secp256k1::PublicKey {
    secp256k1::SecretKey::from_slice(&[byte; 32]).unwrap().public_key(secp())
}

fn node(byte: u8) -> NodeId {
    key(byte).into()
}

fn policy(base: u32, rate: u32) -> RoutingPolicy {
    RoutingPolicy {
        timestamp: 1,
        checksum: 0,
        disabled: false,
        cltv_expiry_delta: 40,
        htlc_minimum_msat: Msat(1),
        htlc_maximum_msat: Msat(u64::MAX / 4),
        fee_base_msat: base,
        fee_proportional_millionths: rate,
    }
}

/// A graph from (channel, a, b, capacity in sat, base fee of both directions).
fn graph(channels: &[(u64, u8, u8, u64, u32)]) -> Graph {
    let mut graph = Graph::new();
    for (id, a, b, capacity, base) in channels {
        let (low, high) = (node(*a).min(node(*b)), node(*a).max(node(*b)));
        let channel = NewChannel {
            short_channel_id: ShortChannelId(*id),
            node_id_1: low,
            node_id_2: high,
            capacity: Amount::from_sat(*capacity),
            routable: true,
        };
        graph.add_channel(channel).unwrap();
        for direction in [Direction::FromNode1, Direction::FromNode2] {
            graph.set_policy(ShortChannelId(*id), direction, Some(policy(*base, 0))).unwrap();
        }
    }
    graph
}

fn request(from: u8, to: u8, amount: u64) -> RouteRequest<'static> {
    RouteRequest {
        source: Source::Graph(node(from)),
        target: node(to),
        hints: &[],
        last_hop: None,
        amount: Msat(amount),
        final_cltv_delta: 18,
        height: Height(100),
        now: NOW,
        fee_limit: Msat(u64::MAX),
        cltv_limit: DEFAULT_CLTV_LIMIT,
        max_parts: 16,
        max_hops: DEFAULT_MAX_HOPS,
        excluded_nodes: &[],
        excluded_edges: &[],
        failed: &[],
        failure_updates: &[],
        params: CostParams::default(),
    }
}

fn find(graph: &Graph, request: &RouteRequest<'_>) -> Result<Plan, RouteError> {
    Router::new().find(graph, &Scorer::new(), request)
}

fn ids(route: &Route) -> Vec<u64> {
    route.hops.iter().map(|hop| hop.short_channel_id.0).collect()
}

/// Checks a plan against the graph, from the payer's side: whatever found it, this is what the hops will check.
fn obeys(graph: &Graph, request: &RouteRequest<'_>, plan: &Plan) {
    let mut flows: HashMap<(ShortChannelId, Direction), u64> = HashMap::new();
    assert_eq!(plan.routes.iter().map(|route| route.amount().0).sum::<u64>(), request.amount.0);
    assert!(plan.total_fee() <= request.fee_limit && plan.routes.len() <= request.max_parts);
    for route in &plan.routes {
        assert!(route.total_cltv_expiry().0 <= request.height.0 + request.cltv_limit);
        assert!(route.hops.len() <= request.max_hops);
        assert_eq!(route.hops.last().unwrap().node, request.target);
        assert_eq!(route.hops.last().unwrap().cltv_expiry, CltvExpiry(request.height.0 + request.final_cltv_delta));
        let mut from = request.source.node();
        for (index, hop) in route.hops.iter().enumerate() {
            let channel = graph.channel_by_id(hop.short_channel_id).unwrap();
            let ends = channel.ends(hop.direction);
            assert_eq!(graph.node(ends.0).unwrap().id, from);
            assert_eq!(graph.node(ends.1).unwrap().id, hop.node);
            let policy = channel.policies.get(hop.direction).unwrap();
            assert!(!policy.disabled);
            assert!((policy.htlc_minimum_msat..=policy.htlc_maximum_msat).contains(&hop.amount), "{hop:?} {policy:?}");
            *flows.entry((hop.short_channel_id, hop.direction)).or_default() += hop.amount.0;
            if index > 0 {
                let before = route.hops[index - 1];
                assert_eq!(before.amount.0 - hop.amount.0, policy.fee(hop.amount).unwrap().0);
                assert_eq!(before.cltv_expiry.0 - hop.cltv_expiry.0, u32::from(policy.cltv_expiry_delta));
            }
            from = hop.node;
        }
    }
    for ((id, _), flow) in flows {
        assert!(flow <= graph.channel_by_id(id).unwrap().capacity_msat().0, "{id} is overfilled");
    }
}

#[test]
fn the_papers_payment_has_its_amounts_and_expiries() {
    // Alice 1, Bob 2, Carol 3, Dave 4; Bob and Carol charge 0.001 each, and want a day's blocks.
    let mut graph = graph(&[(1, 1, 2, 100_000_000, 0), (2, 2, 3, 100_000_000, 0), (3, 3, 4, 100_000_000, 0)]);
    let day = RoutingPolicy { cltv_expiry_delta: 144, ..policy(100_000_000, 0) };
    for id in 1..=3 {
        for direction in [Direction::FromNode1, Direction::FromNode2] {
            graph.set_policy(ShortChannelId(id), direction, Some(day));
        }
    }
    let request = RouteRequest { final_cltv_delta: 144, ..request(1, 4, 5_000_000_000) };
    let plan = find(&graph, &request).unwrap();
    obeys(&graph, &request, &plan);
    let hops = &plan.routes[0].hops;
    assert_eq!(hops.iter().map(|hop| hop.amount.0).collect::<Vec<_>>(), [5_200_000_000, 5_100_000_000, 5_000_000_000]);
    assert_eq!(hops.iter().map(|hop| hop.cltv_expiry.0 - 100).collect::<Vec<_>>(), [432, 288, 144]);
    assert_eq!((plan.routes[0].fee_of(0), plan.routes[0].fee_of(2)), (Msat(100_000_000), Msat::ZERO));
    let last = ReceivePayload {
        amt_to_forward: Msat::ZERO,
        outgoing_cltv_value: CltvExpiry(0),
        payment_data: None,
        payment_metadata: None,
        keysend_preimage: None,
        custom_records: Vec::new(),
    };
    let payloads = plan.routes[0].payloads(last);
    let HopPayload::Forward(bob) = HopPayload::decode(&payloads[0], false).unwrap() else { panic!("Bob forwards") };
    assert_eq!(bob.short_channel_id, ShortChannelId(2));
    assert_eq!((bob.amt_to_forward, bob.outgoing_cltv_value), (Msat(5_100_000_000), CltvExpiry(388)));
    let HopPayload::Receive(dave) = HopPayload::decode(&payloads[2], true).unwrap() else { panic!("Dave receives") };
    assert_eq!((dave.amt_to_forward, dave.outgoing_cltv_value), (Msat(5_000_000_000), CltvExpiry(244)));
}

#[test]
fn a_cheaper_way_is_taken_until_it_has_failed() {
    let graph = graph(&[(1, 1, 2, 10_000_000, 0), (2, 2, 4, 10_000_000, 1_000), (3, 2, 4, 10_000_000, 50_000)]);
    let request = request(1, 4, 100_000_000);
    let mut scorer = Scorer::new();
    let mut router = Router::new();
    let first = router.find(&graph, &scorer, &request).unwrap();
    assert_eq!(ids(&first.routes[0]), [1, 2]);
    let attempted = first.routes[0].attempted();
    scorer.passed(&attempted[..1], NOW);
    scorer.lacked_liquidity(attempted[1], NOW);
    let second = router.find(&graph, &scorer, &request).unwrap();
    assert_eq!(ids(&second.routes[0]), [1, 3]);
    // Channel 1 has proved that it can.
    assert!(second.success_probability > first.success_probability);
}

#[test]
fn a_payment_that_no_channel_holds_is_split() {
    let channels: Vec<_> = (0..5)
        .flat_map(|way: u8| {
            let id = u64::from(way) * 2;
            [(id + 1, 1, 10 + way, 1_000_000, 0), (id + 2, 10 + way, 2, 1_000_000, 10)]
        })
        .collect();
    let graph = graph(&channels);
    let big = request(1, 2, 3_000_000_000);
    let plan = find(&graph, &big).unwrap();
    obeys(&graph, &big, &plan);
    assert!(plan.routes.len() >= 4, "{plan:?}");
    assert_eq!(
        find(&graph, &RouteRequest { max_parts: 1, ..big.clone() }),
        Err(RouteError::NoRoute { amount: big.amount })
    );
    let too_big = request(1, 2, 5_000_000_001);
    assert_eq!(find(&graph, &too_big), Err(RouteError::NoRoute { amount: too_big.amount }));
}

/// Fee, time and chance of a plan in one number, as `cost.rs` documents them.
fn objective(plan: &Plan, whole: u64) -> f64 {
    let nat = 100_000.0 + 0.001 * whole as f64;
    let parts = plan.routes.iter().map(|route| {
        let locked: f64 = route.hops.iter().skip(1).map(|hop| hop.amount.0 as f64 * 40.0 * 15e-9).sum();
        route.total_fee().0 as f64 + locked + nat * 0.01 * (route.hops.len() - 1) as f64
    });
    parts.sum::<f64>() - nat * plan.success_probability.ln()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_split_is_near_the_best_of_all_splits(
        ways in proptest::collection::vec((800_000u64..6_000_000, 0u32..200_000, 0u32..2_000), 4),
        amount in 1_500_000_000u64..3_000_000_000,
    ) {
        // Four ways that share nothing; the first channels are ours, so the second ones decide.
        let mut channels = Vec::new();
        let mut local = Vec::new();
        for (way, (capacity, _, _)) in (0u8..).zip(&ways) {
            channels.push((u64::from(way) + 1, 10 + way, 2, *capacity, 0));
            local.push(LocalChannel {
                short_channel_id: ShortChannelId(100 + u64::from(way)),
                peer: node(10 + way),
                available: Msat(10_000_000_000),
                htlc_minimum_msat: Msat(1),
                htlc_maximum_msat: Msat(10_000_000_000),
            });
        }
        let mut graph = graph(&channels);
        for (id, (_, base, rate)) in (1u64..).zip(&ways) {
            for direction in [Direction::FromNode1, Direction::FromNode2] {
                graph.set_policy(ShortChannelId(id), direction, Some(policy(*base, *rate)));
            }
        }
        let source = Source::Local { node: node(1), channels: &local };
        let Ok(plan) = find(&graph, &RouteRequest { source, ..request(1, 2, amount) }) else { return Ok(()) };
        // All splits in sixteenths.
        let unit = amount / 16;
        let mut best = f64::INFINITY;
        for a in 0..=16u64 {
            for b in 0..=16 - a {
                for c in 0..=16 - a - b {
                    let shares = [a, b, c, 16 - a - b - c];
                    let mut cost = 0.0;
                    for ((capacity, base, rate), share) in ways.iter().zip(shares).filter(|(_, share)| *share > 0) {
                        let part = (share * unit) as f64;
                        let chance = super::scorer::Bounds::unknown((capacity * 1000) as f64).success_probability(0.0, part);
                        let nat = 100_000.0 + 0.001 * amount as f64;
                        let fee = f64::from(*base) + part * f64::from(*rate) * 1e-6;
                        cost += fee + part * 40.0 * 15e-9 + nat * (0.01 - chance.ln());
                    }
                    best = best.min(cost);
                }
            }
        }
        let got = objective(&plan, amount);
        // Seen over 1,500 cases: equal in 9 of 10, at most 5 % above in 99 of 100, 21 % at worst.
        prop_assert!(got <= best * 1.5, "{got} against {best} for {plan:?}");
    }
}

#[test]
fn our_own_channels_are_used_up_to_what_they_hold() {
    let graph = graph(&[(2, 2, 4, 10_000_000, 0), (3, 3, 4, 10_000_000, 0)]);
    let channel = |id, peer, available| LocalChannel {
        short_channel_id: ShortChannelId(id),
        peer: node(peer),
        available: Msat(available),
        htlc_minimum_msat: Msat(1),
        htlc_maximum_msat: Msat(available),
    };
    let channels = [channel(10, 2, 300_000_000), channel(11, 3, 500_000_000)];
    let local = Source::Local { node: node(1), channels: &channels };
    let of = |amount| RouteRequest { source: local, ..request(1, 4, amount) };
    assert_eq!(ids(&find(&graph, &of(400_000_000)).unwrap().routes[0]), [11, 3]);
    let both = find(&graph, &of(700_000_000)).unwrap();
    assert_eq!(both.routes.iter().map(|route| route.amount().0).sum::<u64>(), 700_000_000);
    assert_eq!(both.routes.len(), 2);
    // Two parts suffice, if they are not of one size.
    let uneven = [channel(10, 2, 60_000_000), channel(11, 3, 500_000_000)];
    let source = Source::Local { node: node(1), channels: &uneven };
    let plan = find(&graph, &RouteRequest { source, max_parts: 2, ..request(1, 4, 550_000_000) }).unwrap();
    assert_eq!(plan.routes.len(), 2);
    assert_eq!(plan.routes.iter().map(|route| route.amount().0).sum::<u64>(), 550_000_000);
    let too_much = Err(RouteError::InsufficientBalance { amount: Msat(900_000_000), available: Msat(800_000_000) });
    assert_eq!(find(&graph, &of(900_000_000)), too_much);
    // A direct peer that the graph does not know.
    let direct = [channel(12, 9, 50_000)];
    let source = Source::Local { node: node(1), channels: &direct };
    let plan = find(&graph, &RouteRequest { source, ..request(1, 9, 50_000) }).unwrap();
    assert_eq!((ids(&plan.routes[0]), plan.total_fee(), plan.success_probability), (vec![12], Msat::ZERO, 1.0));
}

#[test]
fn hints_lead_to_payees_that_the_graph_does_not_know() {
    let graph = graph(&[(1, 1, 2, 10_000_000, 0), (2, 2, 3, 10_000_000, 0)]);
    let hop = |from, id, base| HintHop {
        node_id: key(from),
        short_channel_id: ShortChannelId(id),
        fee_base_msat: base,
        fee_proportional_millionths: 0,
        cltv_expiry_delta: 10,
    };
    let hints = [vec![hop(3, 50, 7), hop(8, 51, 9)], vec![hop(77, 52, 0)]];
    let request = RouteRequest { hints: &hints, ..request(1, 9, 1_000_000) };
    let mut scorer = Scorer::new();
    let plan = Router::new().find(&graph, &scorer, &request).unwrap();
    assert_eq!(ids(&plan.routes[0]), [1, 2, 50, 51]);
    assert_eq!(plan.total_fee(), Msat(16));
    // What failed over a hint is remembered.
    let failed = Attempted { capacity: None, ..plan.routes[0].attempted()[3] };
    scorer.lacked_liquidity(failed, NOW);
    assert!(Router::new().find(&graph, &scorer, &request).unwrap().success_probability < 0.01);
}

#[test]
fn a_way_against_what_was_learnt_is_taken_only_if_no_parts_find_another() {
    // One large channel that lacked the amount, and five small ones beside it.
    let channels: Vec<_> = (2..=6).map(|id| (id, 2, 3, 1_900_000, 0)).collect();
    let graph = graph(&[&[(1, 1, 2, 20_000_000, 0), (10, 2, 3, 10_000_000, 0)], &channels[..]].concat());
    let mut scorer = Scorer::new();
    let lacked = Attempted {
        short_channel_id: ShortChannelId(10),
        direction: Direction::FromNode1,
        amount: Msat(1_000_000_000),
        capacity: Some(Msat(10_000_000_000)),
    };
    scorer.lacked_liquidity(lacked, NOW);
    let request = RouteRequest { max_parts: 16, ..request(1, 3, 4_000_000_000) };
    let plan = Router::new().find(&graph, &scorer, &request).unwrap();
    assert!(plan.routes.len() > 2 && plan.success_probability > 0.01, "{plan:?}");
    let alone = RouteRequest { max_parts: 1, ..request };
    let plan = Router::new().find(&graph, &scorer, &alone).unwrap();
    assert_eq!(ids(&plan.routes[0]), [1, 10]);
}

#[test]
fn what_was_too_much_in_this_payment_is_not_tried_again_and_what_was_too_much_in_another_is_if_nothing_else_is_left() {
    let graph = graph(&[(1, 1, 2, 10_000_000, 0), (2, 2, 3, 10_000_000, 0)]);
    let request = request(1, 3, 1_000_000_000);
    let mut scorer = Scorer::new();
    let find = |scorer: &Scorer, request: &RouteRequest<'_>| Router::new().find(&graph, scorer, request);
    let failed = [find(&scorer, &request).unwrap().routes[0].attempted()[1]];
    scorer.lacked_liquidity(failed[0], NOW);
    let again = find(&scorer, &request).unwrap();
    assert!(again.success_probability < 0.01, "{again:?}");
    let now = RouteRequest { failed: &failed, ..request };
    assert!(find(&scorer, &now).is_err());
    let less = RouteRequest { amount: Msat(500_000_000), ..now.clone() };
    assert!(find(&scorer, &less).is_ok());
    let parts = RouteRequest { max_parts: 4, ..now };
    assert!(find(&scorer, &parts).is_err(), "parts of one channel are together too much");
}

#[test]
fn a_node_pays_itself_in_a_circle() {
    let graph = graph(&[(1, 1, 2, 10_000_000, 0), (2, 2, 3, 10_000_000, 5), (3, 3, 1, 10_000_000, 5)]);
    let channels = [LocalChannel {
        short_channel_id: ShortChannelId(1),
        peer: node(2),
        available: Msat(5_000_000_000),
        htlc_minimum_msat: Msat(1),
        htlc_maximum_msat: Msat(5_000_000_000),
    }];
    let source = Source::Local { node: node(1), channels: &channels };
    let circle = RouteRequest { source, last_hop: Some(node(3)), ..request(1, 1, 1_000_000) };
    assert_eq!(ids(&find(&graph, &circle).unwrap().routes[0]), [1, 2, 3]);
    let other = RouteRequest { last_hop: Some(node(9)), ..circle };
    assert!(find(&graph, &other).is_err());
}

#[test]
fn the_last_hop_that_is_asked_for_counts_for_direct_channels_too() {
    let graph = graph(&[(1, 1, 2, 10_000_000, 0), (2, 2, 3, 10_000_000, 5), (3, 1, 3, 10_000_000, 0)]);
    let over = |last_hop| RouteRequest { last_hop, ..request(1, 3, 1_000_000) };
    let found = |last_hop| find(&graph, &over(last_hop)).map(|plan| ids(&plan.routes[0]));
    assert_eq!(found(None), Ok(vec![3]));
    assert_eq!(found(Some(node(2))), Ok(vec![1, 2]));
    assert_eq!(found(Some(node(1))), Ok(vec![3]), "from the payer itself");
}

#[test]
fn limits_are_kept_or_named() {
    // Way 1: no fee, slow. Way 2: dear, fast.
    let mut graph = graph(&[
        (1, 1, 2, 50_000_000, 0),
        (2, 2, 4, 50_000_000, 0),
        (3, 1, 3, 50_000_000, 0),
        (4, 3, 4, 50_000_000, 900_000),
    ]);
    for direction in [Direction::FromNode1, Direction::FromNode2] {
        graph.set_policy(ShortChannelId(2), direction, Some(RoutingPolicy { cltv_expiry_delta: 1000, ..policy(0, 0) }));
    }
    let slow = request(1, 4, 1_000_000);
    assert_eq!(ids(&find(&graph, &slow).unwrap().routes[0]), [1, 2]);
    let fast = RouteRequest { cltv_limit: 500, ..slow.clone() };
    assert_eq!(ids(&find(&graph, &fast).unwrap().routes[0]), [3, 4]);
    let neither = RouteRequest { cltv_limit: 500, fee_limit: Msat(100), ..slow.clone() };
    assert_eq!(find(&graph, &neither), Err(RouteError::CltvLimit { least: 58, limit: 500 }));
    let excluded = RouteRequest { excluded_nodes: &[node(2)], fee_limit: Msat(100), ..slow.clone() };
    assert_eq!(find(&graph, &excluded), Err(RouteError::FeeLimit { least: Msat(900_000), limit: Msat(100) }));
    let edges = [(ShortChannelId(2), Direction::FromNode1), (ShortChannelId(2), Direction::FromNode2)];
    let without = RouteRequest { excluded_edges: &edges, ..slow.clone() };
    assert_eq!(ids(&find(&graph, &without).unwrap().routes[0]), [3, 4]);
    assert_eq!(find(&graph, &request(1, 4, 0)), Err(RouteError::ZeroAmount));
}

#[test]
fn terms_that_a_failure_has_told_count_in_place_of_the_graphs() {
    let graph = graph(&[
        (1, 1, 2, 50_000_000, 0),
        (2, 2, 4, 50_000_000, 10),
        (3, 1, 3, 50_000_000, 0),
        (4, 3, 4, 50_000_000, 900_000),
    ]);
    let told = |policy| {
        [Direction::FromNode1, Direction::FromNode2].map(|direction| UpdateFromFailure {
            short_channel_id: ShortChannelId(2),
            direction,
            policy,
        })
    };
    let question = request(1, 4, 1_000_000);
    let dearer = told(RoutingPolicy { cltv_expiry_delta: 50, ..policy(700, 0) });
    let plan = find(&graph, &RouteRequest { failure_updates: &dearer, ..question.clone() }).unwrap();
    assert_eq!((ids(&plan.routes[0]), plan.total_fee()), (vec![1, 2], Msat(700)));
    assert_eq!(plan.routes[0].total_cltv_expiry(), CltvExpiry(100 + 18 + 50));
    let disabled = told(RoutingPolicy { disabled: true, ..policy(10, 0) });
    let plan = find(&graph, &RouteRequest { failure_updates: &disabled, ..question }).unwrap();
    assert_eq!(ids(&plan.routes[0]), [3, 4]);
}

#[test]
fn a_route_over_given_nodes_takes_their_cheapest_channels() {
    let graph = graph(&[(1, 1, 2, 10_000_000, 0), (2, 2, 3, 10_000_000, 9), (3, 2, 3, 10_000_000, 4), (4, 2, 3, 1, 0)]);
    let request = request(1, 3, 1_000_000);
    let route = along(&graph, &request, &[node(2), node(3)]).unwrap();
    assert_eq!((ids(&route), route.total_fee()), (vec![1, 3], Msat(4)));
    assert_eq!(along(&graph, &request, &[node(3)]), Err(RouteError::BadHops));
}

/// Bellman and Ford's answer to the same question.
fn brute_force(question: &SearchRequest<'_>) -> f32 {
    let mut costs = vec![f32::INFINITY; question.nodes];
    for seed in question.forward.iter().filter(|seed| !question.blocked.contains(&seed.node)) {
        costs[seed.node.0 as usize] = costs[seed.node.0 as usize].min(seed.cost);
    }
    for _ in 0..question.nodes {
        for at in 0..question.nodes as u32 {
            for slot in question.graph.outgoing(NodeIndex(at)) {
                if question.costs.admits(slot) && !question.blocked.contains(&slot.peer) {
                    let cost = costs[at as usize] + question.costs.fixed(slot) + question.costs.liquidity(slot);
                    let known = &mut costs[slot.peer.0 as usize];
                    *known = known.min(cost);
                }
            }
        }
    }
    question.backward.iter().map(|seed| costs[seed.node.0 as usize] + seed.cost).fold(f32::INFINITY, f32::min)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_search_finds_what_brute_force_finds(seed: u64, nodes in 5u32..60, amount in 1_000u64..3_000_000_000) {
        let network = SyntheticNetwork::generate(Size { seed, nodes, channels: nodes * 3 });
        let graph = network.graph();
        let mut random = SplitMix::new(seed);
        let mut scorer = Scorer::new();
        for made in network.channels.iter().step_by(2) {
            let hop = Attempted {
                short_channel_id: made.channel.short_channel_id,
                direction: Direction::FromNode1,
                amount: Msat(random.draw() % made.channel.capacity.to_sat() * 1000),
                capacity: Some(Msat(made.channel.capacity.to_sat() * 1000)),
            };
            if random.below(2) == 0 { scorer.passed(&[hop], NOW) } else { scorer.lacked_liquidity(hop, NOW) }
        }
        let usage = Usage::default();
        let params = CostParams::default();
        let terms = SearchTerms { params: &params, amount: Msat(amount), whole: Msat(amount), now: NOW, failed: &[], least_chance: 0.0 };
        let costs = EdgeCosts::new(&graph, &scorer, &usage, &[], terms);
        let mut search = Search::new();
        for _ in 0..5 {
            let mut node = || NodeIndex(random.below(nodes as usize) as u32);
            let (a, b, blocked) = (node(), node(), node());
            let question = SearchRequest {
                graph: &graph,
                costs: &costs,
                forward: &[Seed { node: a, cost: 5.0, tag: 1 }],
                backward: &[Seed { node: b, cost: 7.0, tag: 2 }],
                blocked: &[blocked],
                nodes: nodes as usize,
                limit: f32::INFINITY,
            };
            let expected = if blocked == b { f32::INFINITY } else { brute_force(&question) };
            match search.find(&question) {
                None => prop_assert!(expected.is_infinite()),
                Some(path) => {
                    prop_assert_eq!((path.forward_tag, path.backward_tag), (1, 2));
                    prop_assert!((path.cost - expected).abs() <= expected * 1e-4, "{} {}", path.cost, expected);
                    let mut at = a;
                    for edge in &path.edges {
                        let ends = graph.channel(edge.channel()).unwrap().ends(edge.direction());
                        prop_assert_eq!(ends.0, at);
                        at = ends.1;
                    }
                    prop_assert_eq!(at, b);
                }
            }
        }
    }

    #[test]
    fn plans_obey_every_policy_and_capacity(seed: u64, amount in 1_000u64..8_000_000_000) {
        plans_obey(seed, amount);
    }
}

fn plans_obey(seed: u64, amount: u64) {
    let network = SyntheticNetwork::generate(Size { seed, nodes: 60, channels: 240 });
    let graph = network.graph();
    let mut random = SplitMix::new(seed);
    let mut router = Router::new();
    for _ in 0..4 {
        let (from, to) = (network.nodes[random.below(60)], network.nodes[random.below(60)]);
        let request = RouteRequest { source: Source::Graph(from), target: to, ..request(1, 2, amount) };
        if let Ok(plan) = router.find(&graph, &Scorer::new(), &request)
            && from != to
        {
            obeys(&graph, &request, &plan);
        }
    }
}

#[test]
fn parts_that_share_a_channel_leave_room_for_fees() {
    plans_obey(3_437_361_236_064_078_696, 7_598_393_940);
}

/// One try of a route against balances that only the test knows; what a payer would learn from it.
fn attempt(balances: &HashMap<ShortChannelId, u64>, route: &Route, scorer: &mut Scorer, now: UnixTime) -> bool {
    let attempted = route.attempted();
    for (index, hop) in attempted.iter().enumerate() {
        let balance_1 = balances[&hop.short_channel_id];
        let available = match hop.direction {
            Direction::FromNode1 => balance_1,
            Direction::FromNode2 => hop.capacity.unwrap().0 - balance_1,
        };
        if available < hop.amount.0 {
            scorer.passed(&attempted[..index], now);
            scorer.lacked_liquidity(*hop, now);
            return false;
        }
    }
    scorer.passed(&attempted, now);
    true
}

#[test]
fn what_is_learnt_saves_attempts() {
    let network = SyntheticNetwork::generate(Size { seed: 3, nodes: 1_000, channels: 4_000 });
    let graph = network.graph();
    let balances: HashMap<_, _> =
        network.channels.iter().map(|made| (made.channel.short_channel_id, made.balance_1.0)).collect();
    let run = |learn: bool| {
        let (mut scorer, mut router, mut random) = (Scorer::new(), Router::new(), SplitMix::new(9));
        let (mut attempts, mut arrived, mut now) = (0u32, 0u32, NOW);
        let source = network.nodes[0];
        for _ in 0..150 {
            let target = network.nodes[1 + random.below(999)];
            let request =
                RouteRequest { source: Source::Graph(source), target, max_parts: 1, ..request(1, 2, 100_000_000) };
            if !learn {
                scorer.reset();
            }
            for _ in 0..20 {
                let Ok(plan) = router.find(&graph, &scorer, &RouteRequest { now, ..request.clone() }) else { break };
                attempts += 1;
                now.0 += 1;
                if attempt(&balances, &plan.routes[0], &mut scorer, now) {
                    arrived += 1;
                    break;
                }
            }
        }
        (f64::from(attempts) / f64::from(arrived), arrived)
    };
    let ((with, arrived_with), (without, arrived_without)) = (run(true), run(false));
    println!(
        "attempts a payment: {with:.2} with memory ({arrived_with} arrived), {without:.2} without ({arrived_without})"
    );
    assert!(with < without && arrived_with >= arrived_without);
}
