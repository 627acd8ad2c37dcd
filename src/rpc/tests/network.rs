//! The network, forwarding terms, history and events.

use leyden_proto::routerrpc::htlc_event::{Event, EventType};

use super::*;
use crate::rpc::fake::network::channel_id;

#[tokio::test]
async fn the_network_is_described_with_what_each_end_asks() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut lightning = server.lightning();
    let request = lnrpc::ChannelGraphRequest { include_unannounced: true };
    let graph = lightning.describe_graph(request).await.unwrap().into_inner();
    assert_eq!(server.asked(), "true");
    let [alice, bob] = &graph.nodes[..] else { panic!("{graph:?}") };
    assert_eq!((alice.pub_key.as_str(), alice.last_update, alice.color.as_str()), (NODE, 0, "#000000"));
    assert_eq!((bob.alias.as_str(), bob.color.as_str()), ("bob", "#0102ff"));
    assert_eq!((bob.addresses[0].network.as_str(), bob.addresses[0].addr.as_str()), ("tcp", "127.0.0.1:9736"));
    let [edge] = &graph.edges[..] else { panic!("{graph:?}") };
    assert_eq!((edge.channel_id, edge.capacity), (channel_id().0, 1_000_000));
    assert_eq!(edge.chan_point, funding().to_string());
    let policy = edge.node1_policy.unwrap();
    assert_eq!((policy.fee_base_msat, policy.fee_rate_milli_msat, policy.time_lock_delta), (1_000, 250, 80));
    assert_eq!(edge.node2_policy, None);

    let node = |include_channels| lnrpc::NodeInfoRequest { pub_key: NODE.to_owned(), include_channels };
    let info = lightning.get_node_info(node(false)).await.unwrap().into_inner();
    assert_eq!((info.num_channels, info.total_capacity, info.channels.len()), (1, 1_000_000, 0));
    assert_eq!(lightning.get_node_info(node(true)).await.unwrap().into_inner().channels.len(), 1);
    let wrong = lnrpc::NodeInfoRequest { pub_key: "02ab".to_owned(), ..Default::default() };
    refused(lightning.get_node_info(wrong).await, Code::InvalidArgument, "66 hex digits");

    let summary = lightning.get_network_info(lnrpc::NetworkInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((summary.num_nodes, summary.num_channels, summary.avg_out_degree), (2, 1, 1.0));
}

#[tokio::test]
async fn a_channel_of_the_network_has_two_names_and_one_must_be_given() {
    let server = Server::start(WalletState::ServerActive).await;
    let ask = |chan_id, chan_point: &str| {
        let mut lightning = server.lightning();
        let request = lnrpc::ChanInfoRequest { chan_id, chan_point: chan_point.to_owned() };
        async move { lightning.get_chan_info(request).await }
    };
    assert_eq!(ask(channel_id().0, "").await.unwrap().into_inner().channel_id, channel_id().0);
    assert!(server.asked().starts_with("Id("), "{}", server.asked());
    ask(0, &funding().to_string()).await.unwrap();
    assert!(server.asked().starts_with("Funding("), "{}", server.asked());
    refused(ask(0, "").await, Code::InvalidArgument, "chan_id");
    refused(ask(1, "ab:0").await, Code::InvalidArgument, "not both");
    refused(ask(0, "ab:0").await, Code::InvalidArgument, "txid:index");
}

#[tokio::test]
async fn terms_are_changed_for_one_channel_or_for_all() {
    use lnrpc::policy_update_request::Scope;
    let server = Server::start(WalletState::ServerActive).await;
    let mut lightning = server.lightning();
    let all = lnrpc::PolicyUpdateRequest {
        scope: Some(Scope::Global(true)),
        base_fee_msat: 7,
        fee_rate: 0.00025,
        time_lock_delta: 40,
        ..Default::default()
    };
    let answer = lightning.update_channel_policy(all.clone()).await.unwrap().into_inner();
    assert!(answer.failed_updates.is_empty());
    let asked = server.asked();
    for part in ["channel: None", "base_fee: Msat(7)", "fee_ppm: 250", "htlc_minimum: None", "htlc_maximum: None"] {
        assert!(asked.contains(part), "{asked} has no {part}");
    }
    let point = lnrpc::ChannelPoint {
        funding_txid: Some(lnrpc::channel_point::FundingTxid::FundingTxidStr(funding().txid.to_string())),
        output_index: 1,
    };
    let one = lnrpc::PolicyUpdateRequest {
        scope: Some(Scope::ChanPoint(point)),
        time_lock_delta: 1,
        min_htlc_msat_specified: true,
        max_htlc_msat: 5,
        ..Default::default()
    };
    let answer = lightning.update_channel_policy(one).await.unwrap().into_inner();
    assert_eq!(answer.failed_updates[0].reason(), lnrpc::UpdateFailure::InvalidParameter);
    let asked = server.asked();
    for part in ["htlc_minimum: Some(Msat(0))", "htlc_maximum: Some(Msat(5))", "fee_ppm: 0"] {
        assert!(asked.contains(part), "{asked} has no {part}");
    }

    let inbound_fee = Some(lnrpc::InboundFee { base_fee_msat: -1, fee_rate_ppm: 0 });
    for (request, words) in [
        (lnrpc::PolicyUpdateRequest { scope: None, ..all.clone() }, "scope"),
        (lnrpc::PolicyUpdateRequest { fee_rate_ppm: 1, ..all.clone() }, "not both"),
        (lnrpc::PolicyUpdateRequest { fee_rate: 1e-9, ..all.clone() }, "fee_rate"),
        (lnrpc::PolicyUpdateRequest { fee_rate: f64::NAN, ..all.clone() }, "fee_rate"),
        (lnrpc::PolicyUpdateRequest { base_fee_msat: -1, ..all.clone() }, "base_fee_msat"),
        (lnrpc::PolicyUpdateRequest { time_lock_delta: 70_000, ..all.clone() }, "time_lock_delta"),
        (lnrpc::PolicyUpdateRequest { inbound_fee, ..all.clone() }, "inbound_fee"),
    ] {
        refused(lightning.update_channel_policy(request).await, Code::InvalidArgument, words);
    }

    let report = lightning.fee_report(lnrpc::FeeReportRequest {}).await.unwrap().into_inner();
    assert_eq!((report.day_fee_sum, report.week_fee_sum, report.month_fee_sum), (1, 2, 3));
    assert_eq!((report.channel_fees[0].fee_per_mil, report.channel_fees[0].fee_rate), (250, 0.00025));
}

#[tokio::test]
async fn the_history_of_forwards_comes_in_pages() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut lightning = server.lightning();
    let request = lnrpc::ForwardingHistoryRequest { index_offset: 7, incoming_chan_ids: vec![5], ..Default::default() };
    let page = lightning.forwarding_history(request).await.unwrap().into_inner();
    assert_eq!(page.last_offset_index, 8);
    let event = &page.forwarding_events[0];
    assert_eq!((event.amt_in_msat, event.amt_out_msat, event.fee_msat, event.fee), (11_500, 10_000, 1_500, 1));
    assert_eq!((event.incoming_htlc_id, event.chan_id_in), (Some(4), channel_id().0));
    let asked = server.asked();
    for part in ["skip: 7", "limit: 100", "until: None", "incoming: [ShortChannelId(5)]"] {
        assert!(asked.contains(part), "{asked} has no {part}");
    }
    let many = lnrpc::ForwardingHistoryRequest { num_max_events: 1_000_001, ..Default::default() };
    lightning.forwarding_history(many).await.unwrap();
    assert!(server.asked().contains("limit: 1000000,"), "more than a page: a page");
}

#[tokio::test]
async fn htlc_events_begin_with_a_word_that_nothing_is_missed() {
    let server = Server::start(WalletState::ServerActive).await;
    let request = routerrpc::SubscribeHtlcEventsRequest {};
    let events = server.router().subscribe_htlc_events(request).await.unwrap().into_inner();
    let events: Vec<_> = events.map(Result::unwrap).collect().await;
    let kinds: Vec<_> = events.iter().map(|event| (event.event_type(), event.event.as_ref().unwrap())).collect();
    let [
        (EventType::Unknown, Event::SubscribedEvent(_)),
        (EventType::Forward, Event::ForwardEvent(forward)),
        (EventType::Forward, Event::SettleEvent(settle)),
        (EventType::Forward, Event::LinkFailEvent(failed)),
        (EventType::Unknown, Event::FinalHtlcEvent(ended)),
    ] = &kinds[..]
    else {
        panic!("{events:?}")
    };
    let info = forward.info.unwrap();
    assert_eq!((info.incoming_amt_msat, info.outgoing_timelock), (11_500, 220));
    assert_eq!(settle.preimage, [9; 32]);
    assert!(ended.settled && ended.offchain);
    assert_eq!(failed.wire_failure(), lnrpc::failure::FailureCode::FeeInsufficient);
    assert_eq!(failed.failure_detail(), routerrpc::FailureDetail::InsufficientBalance);
    assert_eq!((events[1].incoming_channel_id, events[1].outgoing_htlc_id), (channel_id().0, 4));
}
