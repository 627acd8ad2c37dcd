//! Routes: asked for, built, sent over, and what they cost.

use super::*;
use crate::rpc::fake::{network::channel_id, node_id};

#[tokio::test]
async fn a_way_is_found_within_the_limits_that_are_given() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut lightning = server.lightning();
    let node = node_id().serialize().to_vec();
    let percent = Some(lnrpc::fee_limit::Limit::Percent(5));
    let request = lnrpc::QueryRoutesRequest {
        pub_key: NODE.to_owned(),
        amt_msat: 10_000,
        fee_limit: Some(lnrpc::FeeLimit { limit: percent }),
        ignored_pairs: vec![lnrpc::NodePair { from: node.clone(), to: node }],
        outgoing_chan_ids: vec![channel_id().0],
        cltv_limit: 500,
        dest_custom_records: [(65_537, b"hello".to_vec())].into(),
        ..Default::default()
    };
    let answer = lightning.query_routes(request.clone()).await.unwrap().into_inner();
    let [route] = &answer.routes[..] else { panic!("{answer:?}") };
    assert_eq!((route.total_amt_msat, route.total_fees_msat, route.total_time_lock), (11_500, 1_500, 300));
    assert_eq!((route.hops.len(), route.hops[0].fee_msat, route.hops[1].expiry), (2, 1_500, 220));
    assert_eq!(answer.success_prob, 0.5);
    assert_eq!(route.hops[1].custom_records, request.dest_custom_records, "they are sent as they were asked for");
    let asked = server.asked();
    for part in ["source: None", "max_fee: Some(Msat(500))", "max_cltv: Some(500)", "use_experience: false"] {
        assert!(asked.contains(part), "{asked} has no {part}");
    }
    for (request, words) in [
        (lnrpc::QueryRoutesRequest { amt_msat: 0, ..request.clone() }, "amt"),
        (lnrpc::QueryRoutesRequest { pub_key: String::new(), ..request.clone() }, "pub_key"),
        (lnrpc::QueryRoutesRequest { ignored_nodes: vec![vec![1]], ..request.clone() }, "ignored_nodes"),
        (
            lnrpc::QueryRoutesRequest { dest_custom_records: [(7, vec![])].into(), ..request.clone() },
            "dest_custom_records",
        ),
    ] {
        refused(lightning.query_routes(request).await, Code::InvalidArgument, words);
    }
}

#[tokio::test]
async fn a_route_that_was_built_can_be_sent_over_as_it_came() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut router = server.router();
    let build = routerrpc::BuildRouteRequest {
        hop_pubkeys: vec![node_id().serialize().to_vec(); 2],
        payment_addr: vec![5; 32],
        ..Default::default()
    };
    let route = router.build_route(build.clone()).await.unwrap().into_inner().route.unwrap();
    assert!(server.asked().contains("amount: None"), "{}", server.asked());
    let record = route.hops[1].mpp_record.clone().unwrap();
    assert_eq!((record.payment_addr, record.total_amt_msat), (vec![5; 32], 10_000));

    let request =
        routerrpc::SendToRouteRequest { payment_hash: vec![7; 32], route: Some(route.clone()), skip_temp_err: false };
    let attempt = router.send_to_route_v2(request.clone()).await.unwrap().into_inner();
    assert_eq!((attempt.attempt_id, attempt.status()), (3, lnrpc::htlc_attempt::HtlcStatus::Succeeded));
    assert_eq!(attempt.route.unwrap(), route);

    let none = routerrpc::BuildRouteRequest { hop_pubkeys: Vec::new(), ..build };
    refused(router.build_route(none).await, Code::InvalidArgument, "hop_pubkeys");
    let send = |route| routerrpc::SendToRouteRequest { route, ..request.clone() };
    refused(router.send_to_route_v2(send(None)).await, Code::InvalidArgument, "route");
    let mut early = route.clone();
    early.hops[0].metadata = vec![1];
    refused(router.send_to_route_v2(send(Some(early))).await, Code::InvalidArgument, "last hop");
    let mut low = route;
    low.hops[1].custom_records = [(5, vec![1])].into();
    refused(router.send_to_route_v2(send(Some(low))).await, Code::InvalidArgument, "65536");
}

#[tokio::test]
async fn a_fee_is_asked_for_a_node_or_for_an_invoice() {
    let server = Server::start(WalletState::ServerActive).await;
    let ask = |dest: Vec<u8>, amt_sat, payment_request: &str| {
        let mut router = server.router();
        let payment_request = payment_request.to_owned();
        let request = routerrpc::RouteFeeRequest { dest, amt_sat, payment_request, ..Default::default() };
        async move { router.estimate_route_fee(request).await }
    };
    let node = node_id().serialize().to_vec();
    let answer = ask(node.clone(), 10, "").await.unwrap().into_inner();
    assert_eq!((answer.routing_fee_msat, answer.time_lock_delay), (1_500, 300));
    assert!(server.asked().starts_with("Known"), "{}", server.asked());
    ask(Vec::new(), 0, "lnbcrt1").await.unwrap();
    assert!(server.asked().contains("Probe") && server.asked().contains("timeout: 60s"), "{}", server.asked());
    refused(ask(node.clone(), 0, "").await, Code::InvalidArgument, "amt_sat");
    refused(ask(node, 10, "lnbcrt1").await, Code::InvalidArgument, "dest");
    refused(ask(Vec::new(), 0, "").await, Code::InvalidArgument, "dest");
}

#[tokio::test]
async fn a_payment_without_an_invoice_brings_its_own_preimage() {
    let server = Server::start(WalletState::ServerActive).await;
    let preimage = PaymentPreimage([9; 32]);
    server.fake.script().payments = vec![payment(PaymentState::Succeeded { preimage })];
    let request = routerrpc::SendPaymentRequest {
        dest: node_id().serialize().to_vec(),
        amt: 10,
        payment_hash: preimage.hash().0.to_vec(),
        dest_custom_records: [(5_482_373_484, preimage.0.to_vec()), (65_537, b"hello".to_vec())].into(),
        ..Default::default()
    };
    server.router().send_payment_v2(request.clone()).await.unwrap();
    let asked = server.asked();
    for part in ["keysend: Some(", "RawRecord { kind: 65537"] {
        assert!(asked.contains(part), "{asked} has no {part}");
    }
    let other = routerrpc::SendPaymentRequest { payment_hash: vec![1; 32], ..request.clone() };
    refused(server.router().send_payment_v2(other).await, Code::InvalidArgument, "preimage of payment_hash");
    let low = routerrpc::SendPaymentRequest { dest_custom_records: [(7, vec![])].into(), ..request };
    refused(server.router().send_payment_v2(low).await, Code::InvalidArgument, "65536");
}

#[tokio::test]
async fn what_was_learnt_is_forgotten_on_request() {
    let server = Server::start(WalletState::ServerActive).await;
    server.router().reset_mission_control(routerrpc::ResetMissionControlRequest {}).await.unwrap();
    assert!(server.asked().contains("forget_experience"));
}
