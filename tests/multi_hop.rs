//! Payments over nodes between: Alice – Bob – Carol – Dave in public, Erin behind Dave over a channel that nobody knows.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use leyden_channels::types::PaymentPreimage;
use leyden_client::{
    cluster::{ClusterError, DaemonProcess, PATIENCE, wait_until},
    demo::NOBODY,
};
use leyden_proto::{
    invoicesrpc::{AddHoldInvoiceRequest, CancelInvoiceMsg},
    lnrpc::{
        ChanInfoRequest, ChannelEdge, ChannelGraphRequest, FeeLimit, FeeReportRequest, ForwardingHistoryRequest,
        Invoice, ListInvoiceRequest, ListPaymentsRequest, NetworkInfoRequest, NodeInfoRequest, NodePair,
        OpenChannelRequest, Payment, PaymentFailureReason, PolicyUpdateRequest, QueryRoutesRequest,
        failure::FailureCode, fee_limit::Limit, htlc_attempt::HtlcStatus, invoice::InvoiceState,
        payment::PaymentStatus, policy_update_request::Scope,
    },
    routerrpc::{
        BuildRouteRequest, RouteFeeRequest, SendPaymentRequest, SendToRouteRequest, SubscribeHtlcEventsRequest,
        htlc_event::{Event, EventType},
    },
};
use tokio::{task::JoinSet, time::sleep};

const CAPACITY: i64 = 10_000_000;

/// What forwarding costs: a base, and a share of what is handed on.
const BOB_BASE: i64 = 1_000;
const BOB_PPM: i64 = 1_000;
const CAROL_BASE: i64 = 2_000;

fn bobs_fee(forwarded_msat: i64) -> i64 {
    BOB_BASE + forwarded_msat * BOB_PPM / 1_000_000
}

async fn start(folder: &Path, name: &str, chain: Option<&str>, flags: &[&str]) -> DaemonProcess {
    let mut all = flags.to_vec();
    all.extend(chain.iter().flat_map(|chain| ["--chain-connect", chain]));
    let mut node = DaemonProcess::new(folder, name, &all).expect("the program is there");
    node.start().await.expect("it starts");
    node
}

async fn mine(nodes: &[&DaemonProcess], blocks: u32) {
    nodes[0].mine(blocks, Some(NOBODY)).await.unwrap();
    let height = nodes[0].height().await.unwrap();
    for node in nodes {
        node.wait_for_height(height).await.unwrap();
    }
}

async fn open(from: &DaemonProcess, to: &DaemonProcess, private: bool) {
    from.connect(to).await.unwrap();
    let request = OpenChannelRequest {
        node_pubkey: hex::decode(to.node_id().await.unwrap()).unwrap(),
        local_funding_amount: CAPACITY,
        push_sat: CAPACITY / 2,
        sat_per_vbyte: 2,
        private,
        ..OpenChannelRequest::default()
    };
    let mut updates = from.client().unwrap().lightning().open_channel(request).await.unwrap().into_inner();
    updates.message().await.unwrap().expect("the funding transaction");
}

async fn invoice(node: &DaemonProcess, value: i64, private: bool) -> String {
    let request = Invoice { value, private, ..Invoice::default() };
    node.client().unwrap().lightning().add_invoice(request).await.unwrap().into_inner().payment_request
}

async fn try_pay(node: &DaemonProcess, request: SendPaymentRequest) -> Payment {
    let request = SendPaymentRequest { timeout_seconds: 60, no_inflight_updates: true, ..request };
    let mut updates = node.client().unwrap().router().send_payment_v2(request).await.unwrap().into_inner();
    let mut last = None;
    while let Ok(Some(payment)) = updates.message().await {
        last = Some(payment);
    }
    last.expect("the end of a payment")
}

/// Pays, again and again while the network is not known yet.
async fn pay(from: &DaemonProcess, to: &DaemonProcess, sat: i64, private: bool) -> Payment {
    let mut reasons = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let payment_request = invoice(to, sat, private).await;
        let request = SendPaymentRequest { payment_request, fee_limit_sat: 100_000, ..SendPaymentRequest::default() };
        let payment = try_pay(from, request).await;
        if payment.status() == PaymentStatus::Succeeded {
            return payment;
        }
        reasons.push(payment.failure_reason());
        sleep(Duration::from_millis(500)).await;
    }
    panic!("{} never paid {}: {reasons:?}. Its log:\n{}", from.name(), to.name(), from.log());
}

/// What a node has in its channels, once nothing is under way.
async fn balance(node: &DaemonProcess) -> i64 {
    wait_until(&format!("the updates of {} to end", node.name()), || async {
        Ok(node.channels().await?.iter().all(|channel| channel.pending_htlcs.is_empty() && channel.active))
    })
    .await
    .unwrap();
    node.channels().await.unwrap().iter().map(|channel| channel.local_balance).sum()
}

async fn count(node: &DaemonProcess, status: PaymentStatus) -> Result<usize, ClusterError> {
    let request = ListPaymentsRequest { include_incomplete: true, max_payments: 1_000_000, ..Default::default() };
    let list = node.client()?.lightning().list_payments(request).await.map_err(|error| node.call_error(error))?;
    Ok(list.into_inner().payments.iter().filter(|payment| payment.status() == status).count())
}

async fn settled(node: &DaemonProcess) -> usize {
    let request = ListInvoiceRequest { num_max_invoices: 10_000, ..ListInvoiceRequest::default() };
    let list = node.client().unwrap().lightning().list_invoices(request).await.unwrap().into_inner().invoices;
    list.iter().filter(|invoice| invoice.state() == InvoiceState::Settled).count()
}

/// What gossip has brought to Alice, and what Erin alone knows.
async fn the_network_is_told(alice: &DaemonProcess, bob: &DaemonProcess, carol: &DaemonProcess, erin: &DaemonProcess) {
    let (bobs, carols) = (bob.node_id().await.unwrap(), carol.node_id().await.unwrap());
    let mut lightning = alice.client().unwrap().lightning();
    let graph = lightning.describe_graph(ChannelGraphRequest::default()).await.unwrap().into_inner();
    assert_eq!((graph.nodes.len(), graph.edges.len()), (4, 3), "{graph:?}");
    let between =
        |edge: &&ChannelEdge| [&edge.node1_pub, &edge.node2_pub].iter().all(|node| **node == bobs || **node == carols);
    let edge = graph.edges.iter().find(between).unwrap();
    assert_eq!(edge.capacity, CAPACITY);
    let (policy, other) = match edge.node1_pub == bobs {
        true => (edge.node1_policy.unwrap(), edge.node2_policy.unwrap()),
        false => (edge.node2_policy.unwrap(), edge.node1_policy.unwrap()),
    };
    assert_eq!((policy.fee_base_msat, policy.fee_rate_milli_msat, policy.time_lock_delta), (BOB_BASE, BOB_PPM, 40));
    assert_eq!((other.fee_base_msat, other.fee_rate_milli_msat), (CAROL_BASE, 0));

    let by_id = ChanInfoRequest { chan_id: edge.channel_id, ..ChanInfoRequest::default() };
    let by_output = ChanInfoRequest { chan_point: edge.chan_point.clone(), ..ChanInfoRequest::default() };
    for request in [by_id, by_output] {
        assert_eq!(lightning.get_chan_info(request).await.unwrap().into_inner(), *edge);
    }
    let request = NodeInfoRequest { pub_key: bobs, include_channels: true };
    let node = lightning.get_node_info(request).await.unwrap().into_inner();
    assert_eq!((node.num_channels, node.total_capacity, node.channels.len()), (2, 2 * CAPACITY, 2));
    assert_eq!(node.node.unwrap().alias, "bob");
    let network = lightning.get_network_info(NetworkInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((network.num_nodes, network.num_channels, network.graph_diameter), (4, 3, 3));

    for (include_unannounced, channels) in [(false, 3), (true, 4)] {
        wait_until(&format!("Erin to know {channels} channels"), || async {
            let request = ChannelGraphRequest { include_unannounced };
            let graph = erin.client()?.lightning().describe_graph(request).await;
            Ok(graph.map_err(|error| erin.call_error(error))?.into_inner().edges.len() == channels)
        })
        .await
        .unwrap();
    }
}

/// Bob has forwarded two payments; he doubles his price, and Alice pays it.
async fn forwards_are_told_and_terms_changed(alice: &DaemonProcess, bob: &DaemonProcess, dave: &DaemonProcess) {
    let mut lightning = bob.client().unwrap().lightning();
    let events = bob.client().unwrap().router().subscribe_htlc_events(SubscribeHtlcEventsRequest {}).await;
    let mut events = events.unwrap().into_inner();
    let first = events.message().await.unwrap().unwrap();
    assert!(matches!(first.event, Some(Event::SubscribedEvent(_))), "{first:?}");

    let ask = |index_offset, num_max_events| ForwardingHistoryRequest {
        index_offset,
        num_max_events,
        peer_alias_lookup: true,
        ..ForwardingHistoryRequest::default()
    };
    let all = lightning.forwarding_history(ask(0, 0)).await.unwrap().into_inner();
    assert_eq!((all.forwarding_events.len(), all.last_offset_index), (3, 3), "{all:?}");
    let event = &all.forwarding_events[0];
    assert_eq!((event.peer_alias_in.as_str(), event.peer_alias_out.as_str()), ("alice", "carol"));
    assert_eq!(event.amt_out_msat, 1_000_000_000 + CAROL_BASE as u64);
    assert_eq!(event.fee_msat, bobs_fee(1_000_000_000 + CAROL_BASE) as u64);
    let page = lightning.forwarding_history(ask(1, 1)).await.unwrap().into_inner();
    assert_eq!((&page.forwarding_events[..], page.last_offset_index), (&all.forwarding_events[1..2], 2));
    let report = lightning.fee_report(FeeReportRequest {}).await.unwrap().into_inner();
    let earned: u64 = all.forwarding_events.iter().map(|event| event.fee_msat).sum();
    assert_eq!(
        (report.day_fee_sum, report.month_fee_sum, report.channel_fees.len()),
        (earned / 1000, earned / 1000, 2)
    );

    let dearer = |scale: i64| PolicyUpdateRequest {
        scope: Some(Scope::Global(true)),
        base_fee_msat: BOB_BASE * scale,
        fee_rate_ppm: (BOB_PPM * scale) as u32,
        time_lock_delta: 40,
        ..PolicyUpdateRequest::default()
    };
    let hasty = PolicyUpdateRequest { time_lock_delta: 10, ..dearer(1) };
    let failed = lightning.update_channel_policy(hasty).await.unwrap().into_inner().failed_updates;
    assert_eq!(failed.len(), 2, "{failed:?}");
    let answer = lightning.update_channel_policy(dearer(2)).await.unwrap().into_inner();
    assert!(answer.failed_updates.is_empty(), "{answer:?}");
    // Until Alice hears of his new terms Bob takes the old ones (BOLT 7: for ten minutes).
    wait_until("Alice to hear of Bob's new terms", || async {
        let graph = alice.client()?.lightning().describe_graph(ChannelGraphRequest::default()).await;
        let edges = graph.map_err(|error| alice.call_error(error))?.into_inner().edges;
        let policies = edges.iter().flat_map(|edge| [edge.node1_policy, edge.node2_policy]).flatten();
        Ok(policies.into_iter().filter(|policy| policy.fee_rate_milli_msat == 2 * BOB_PPM).count() == 2)
    })
    .await
    .unwrap();
    let payment_request = invoice(dave, 1_000, false).await;
    let request = SendPaymentRequest { payment_request, fee_limit_sat: 1_000, ..SendPaymentRequest::default() };
    let payment = try_pay(alice, request).await;
    assert_eq!(payment.status(), PaymentStatus::Succeeded, "{payment:?}");
    assert_eq!(payment.fee_msat, CAROL_BASE + 2 * bobs_fee(1_000_000 + CAROL_BASE));
    lightning.update_channel_policy(dearer(1)).await.unwrap();
    wait_until("Alice to hear of Bob's old terms", || async {
        let graph = alice.client()?.lightning().describe_graph(ChannelGraphRequest::default()).await;
        let edges = graph.map_err(|error| alice.call_error(error))?.into_inner().edges;
        let policies = edges.iter().flat_map(|edge| [edge.node1_policy, edge.node2_policy]).flatten();
        Ok(policies.into_iter().all(|policy| policy.fee_rate_milli_msat != 2 * BOB_PPM))
    })
    .await
    .unwrap();

    // Attempts at the old price may have come before.
    loop {
        let event = events.message().await.unwrap().unwrap();
        assert_eq!(event.event_type(), EventType::Forward);
        if let Some(Event::ForwardEvent(forward)) = &event.event {
            assert_eq!(forward.info.unwrap().outgoing_amt_msat, 1_000_000 + CAROL_BASE as u64);
        }
        if let Some(Event::SettleEvent(settle)) = &event.event {
            assert_eq!(hex::encode(&settle.preimage), payment.payment_preimage);
            break;
        }
    }
}

/// A route is asked for, one is built, one is probed; then a payment goes in two parts over the built one.
async fn ways_are_found_and_sent_over(
    alice: &DaemonProcess,
    bob: &DaemonProcess,
    carol: &DaemonProcess,
    dave: &DaemonProcess,
) {
    let (client, node) = (alice.client().unwrap(), dave.node_id().await.unwrap());
    let sat = 20_000;
    let fee = CAROL_BASE + bobs_fee(sat * 1_000 + CAROL_BASE);
    let query = QueryRoutesRequest { pub_key: node, amt: sat, use_mission_control: true, ..Default::default() };
    let found = client.lightning().query_routes(query.clone()).await.unwrap().into_inner();
    assert_eq!((found.routes[0].hops.len(), found.routes[0].total_fees_msat), (3, fee));
    let limit = Some(FeeLimit { limit: Some(Limit::FixedMsat(fee - 1)) });
    let cheap = client.lightning().query_routes(QueryRoutesRequest { fee_limit: limit, ..query.clone() }).await;
    assert_eq!(cheap.unwrap_err().code(), tonic::Code::Unknown);
    let from = hex::decode(bob.node_id().await.unwrap()).unwrap();
    let to = hex::decode(carol.node_id().await.unwrap()).unwrap();
    let around = QueryRoutesRequest { ignored_pairs: vec![NodePair { from, to }], ..query };
    assert_eq!(client.lightning().query_routes(around).await.unwrap_err().code(), tonic::Code::Unknown);

    let payment_request = invoice(dave, sat, false).await;
    let estimate = RouteFeeRequest { payment_request, ..Default::default() };
    let estimate = client.router().estimate_route_fee(estimate).await.unwrap().into_inner();
    assert_eq!((estimate.failure_reason(), estimate.routing_fee_msat), (PaymentFailureReason::FailureReasonNone, fee));
    assert!(estimate.time_lock_delay > i64::from(alice.height().await.unwrap()));

    let request = Invoice { value: 2 * sat, ..Invoice::default() };
    let added = dave.client().unwrap().lightning().add_invoice(request).await.unwrap().into_inner();
    let mut hop_pubkeys = Vec::new();
    for node in [bob, carol, dave] {
        hop_pubkeys.push(hex::decode(node.node_id().await.unwrap()).unwrap());
    }
    let build = BuildRouteRequest {
        amt_msat: sat * 1_000,
        hop_pubkeys,
        payment_addr: added.payment_addr,
        ..BuildRouteRequest::default()
    };
    let mut route = client.router().build_route(build).await.unwrap().into_inner().route.unwrap();
    assert_eq!(route.total_fees_msat, fee);
    if let Some(record) = route.hops.last_mut().and_then(|hop| hop.mpp_record.as_mut()) {
        record.total_amt_msat = 2 * sat * 1_000;
    }
    let dave_had = balance(dave).await;
    let mut parts = JoinSet::new();
    for _ in 0..2 {
        let mut router = client.router();
        let request =
            SendToRouteRequest { payment_hash: added.r_hash.clone(), route: Some(route.clone()), skip_temp_err: false };
        parts.spawn(async move { router.send_to_route_v2(request).await.unwrap().into_inner() });
    }
    while let Some(part) = parts.join_next().await {
        assert_eq!(part.unwrap().status(), HtlcStatus::Succeeded);
    }
    assert_eq!(balance(dave).await, dave_had + 2 * sat);
    // It is paid: one part more would be given away.
    let again = SendToRouteRequest { payment_hash: added.r_hash, route: Some(route.clone()), skip_temp_err: false };
    assert_eq!(client.router().send_to_route_v2(again).await.unwrap_err().code(), tonic::Code::AlreadyExists);
    let unknown = SendToRouteRequest { payment_hash: vec![3; 32], route: Some(route), skip_temp_err: false };
    let attempt = client.router().send_to_route_v2(unknown).await.unwrap().into_inner();
    let failure = attempt.failure.unwrap();
    assert_eq!((failure.code(), failure.failure_source_index), (FailureCode::IncorrectOrUnknownPaymentDetails, 3));
}

/// A payment that waits at Dave, as Bob lists it.
async fn halves_of_a_forward_name_each_other(alice: &DaemonProcess, bob: &DaemonProcess, dave: &DaemonProcess) {
    let hash = PaymentPreimage([77; 32]).hash().0.to_vec();
    let held = AddHoldInvoiceRequest { hash: hash.clone(), value: 2_000, ..AddHoldInvoiceRequest::default() };
    let added = dave.client().unwrap().invoices().add_hold_invoice(held).await.unwrap().into_inner();
    let request = SendPaymentRequest {
        payment_request: added.payment_request,
        timeout_seconds: 60,
        fee_limit_sat: 1_000,
        no_inflight_updates: true,
        ..SendPaymentRequest::default()
    };
    let mut router = alice.client().unwrap().router();
    let paying = tokio::spawn(async move {
        let mut updates = router.send_payment_v2(request).await.unwrap().into_inner();
        updates.message().await.unwrap().unwrap().status()
    });
    let halves = || async {
        let channels = bob.channels().await?;
        let mut halves = Vec::new();
        for channel in channels {
            halves.extend(channel.pending_htlcs.into_iter().map(|htlc| (htlc.incoming, channel.chan_id, htlc)));
        }
        halves.sort_by_key(|(incoming, ..)| !incoming);
        Ok(halves)
    };
    wait_until("both halves to be committed", || async {
        let halves = halves().await?;
        Ok(halves.len() == 2 && halves.iter().all(|(.., htlc)| htlc.locked_in))
    })
    .await
    .unwrap();
    let both: Result<Vec<_>, ClusterError> = halves().await;
    let [(true, from, incoming), (false, to, outgoing)] = &both.unwrap()[..] else { panic!("one comes, one goes") };
    assert_eq!((incoming.forwarding_channel, incoming.forwarding_htlc_index), (*to, outgoing.htlc_index));
    assert_eq!((outgoing.forwarding_channel, outgoing.forwarding_htlc_index), (*from, incoming.htlc_index));
    dave.client().unwrap().invoices().cancel_invoice(CancelInvoiceMsg { payment_hash: hash }).await.unwrap();
    assert_eq!(paying.await.unwrap(), PaymentStatus::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_find_their_way_and_survive_a_hop_that_is_killed() {
    // The daemon's program is built beside this test.
    let _ = env!("CARGO_BIN_EXE_leydend");
    let folder = tempfile::tempdir().unwrap();
    let alice = start(folder.path(), "alice", None, &[]).await;
    let chain = alice.chain_address().unwrap();
    let bob_terms = ["--base-fee-msat", "1000", "--fee-rate-ppm", "1000", "--time-lock-delta", "40"];
    let mut bob = start(folder.path(), "bob", Some(&chain), &bob_terms).await;
    let carol_terms = ["--base-fee-msat", "2000", "--fee-rate-ppm", "0", "--time-lock-delta", "40"];
    let carol = start(folder.path(), "carol", Some(&chain), &carol_terms).await;
    let dave = start(folder.path(), "dave", Some(&chain), &["--base-fee-msat", "0", "--fee-rate-ppm", "0"]).await;
    let erin = start(folder.path(), "erin", Some(&chain), &[]).await;

    for node in [&alice, &bob, &carol, &dave] {
        let address = node.new_address().await.unwrap();
        alice.mine(1, Some(&address)).await.unwrap();
    }
    mine(&[&alice, &bob, &carol, &dave, &erin], 100).await;
    open(&alice, &bob, false).await;
    open(&bob, &carol, false).await;
    open(&carol, &dave, false).await;
    open(&dave, &erin, true).await;
    wait_until("the fundings to reach the node that mines", || async { Ok(alice.waiting_txids().await?.len() == 4) })
        .await
        .unwrap();
    mine(&[&alice, &bob, &carol, &dave, &erin], 6).await;
    for (node, channels) in [(&alice, 1), (&bob, 2), (&carol, 2), (&dave, 2), (&erin, 1)] {
        node.wait_for_active_channels(channels).await.unwrap();
    }

    // Three hops, with fees as configured.
    let (alice_had, dave_had) = (balance(&alice).await, balance(&dave).await);
    let payment = pay(&alice, &dave, 1_000_000, false).await;
    let fee = CAROL_BASE + bobs_fee(1_000_000_000 + CAROL_BASE);
    assert_eq!(payment.fee_msat, fee);
    assert_eq!(balance(&dave).await, dave_had + 1_000_000);
    // Shares of a satoshi are rounded down.
    let spent = alice_had - balance(&alice).await;
    assert_eq!(spent, (1_000_000_000 + fee + 999) / 1000);

    // And back: Carol forwards first, then Bob.
    let alice_had = balance(&alice).await;
    let payment = pay(&dave, &alice, 500_000, false).await;
    assert_eq!(payment.fee_msat, bobs_fee(500_000_000) + CAROL_BASE);
    assert_eq!(balance(&alice).await, alice_had + 500_000);

    // A channel that only the invoice knows.
    let erin_had = balance(&erin).await;
    let payment = pay(&alice, &erin, 10_000, true).await;
    assert_eq!(payment.fee_msat, CAROL_BASE + bobs_fee(10_000_000 + CAROL_BASE));
    assert_eq!(balance(&erin).await, erin_had + 10_000);

    the_network_is_told(&alice, &bob, &carol, &erin).await;
    forwards_are_told_and_terms_changed(&alice, &bob, &dave).await;

    ways_are_found_and_sent_over(&alice, &bob, &carol, &dave).await;

    halves_of_a_forward_name_each_other(&alice, &bob, &dave).await;

    // A recipient that knows nothing of the payment.
    let request = SendPaymentRequest {
        dest: hex::decode(dave.node_id().await.unwrap()).unwrap(),
        amt: 1_000,
        payment_hash: vec![7; 32],
        payment_addr: vec![8; 32],
        final_cltv_delta: 40,
        fee_limit_sat: 1_000,
        ..SendPaymentRequest::default()
    };
    let failed = try_pay(&alice, request).await;
    assert_eq!(failed.status(), PaymentStatus::Failed);
    assert_eq!(failed.failure_reason(), PaymentFailureReason::FailureReasonIncorrectPaymentDetails);

    // Bob dies while payments are passing through him.
    let (alice_had, dave_had) = (balance(&alice).await, balance(&dave).await);
    let (succeeded, paid) = (count(&alice, PaymentStatus::Succeeded).await.unwrap(), settled(&dave).await);
    let mut calls = JoinSet::new();
    for _ in 0..60 {
        let payment_request = invoice(&dave, 1_000, false).await;
        let mut router = alice.client().unwrap().router();
        calls.spawn(async move {
            let request = SendPaymentRequest {
                payment_request,
                timeout_seconds: 60,
                fee_limit_sat: 1_000,
                ..SendPaymentRequest::default()
            };
            let Ok(updates) = router.send_payment_v2(request).await else { return };
            let mut updates = updates.into_inner();
            while let Ok(Some(_)) = updates.message().await {}
        });
    }
    wait_until("the first payments of the burst", || async {
        Ok(count(&alice, PaymentStatus::Succeeded).await? >= succeeded + 3)
    })
    .await
    .unwrap();
    bob.kill();
    bob.start().await.unwrap();
    bob.wait_for_active_channels(2).await.unwrap();
    wait_until("all payments to end", || async { Ok(count(&alice, PaymentStatus::InFlight).await? == 0) })
        .await
        .unwrap();
    while calls.join_next().await.is_some() {}

    let (dave_has, alice_has) = (balance(&dave).await, balance(&alice).await);
    let succeeded = i64::try_from(count(&alice, PaymentStatus::Succeeded).await.unwrap() - succeeded).unwrap();
    let failed = count(&alice, PaymentStatus::Failed).await.unwrap();
    println!("{succeeded} payments of the burst succeeded; {failed} payments failed in all");
    assert_eq!(settled(&dave).await - paid, usize::try_from(succeeded).unwrap(), "a proof is a payment");
    assert_eq!(dave_has, dave_had + succeeded * 1_000);
    let each = 1_000_000 + CAROL_BASE + bobs_fee(1_000_000 + CAROL_BASE);
    let spent = alice_had - alice_has;
    assert!((spent - succeeded * each / 1000).abs() <= 1, "spent {spent} for {succeeded} payments of {each} msat");
    // The route is open again.
    pay(&alice, &dave, 1_000, false).await;
}
