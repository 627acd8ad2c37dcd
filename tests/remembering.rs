//! What a node knows of the network and has learnt from its payments comes back after a SIGKILL: Alice – Bob – Carol.

mod harness;

use harness::{Folder, chain};
use leyden::{
    cluster::{DaemonProcess, wait_until},
    demo::NOBODY,
};
use leyden_proto::{
    lnrpc::{
        ChannelGraph, ChannelGraphRequest, Payment, PaymentFailureReason, QueryRoutesRequest, payment::PaymentStatus,
    },
    routerrpc::ResetMissionControlRequest,
};
use tokio::time::{Duration, sleep};
use tonic::Code;

const CAPACITY: i64 = 10_000_000;
/// More than Bob can hand on to Carol.
const TOO_MUCH: i64 = 6_000_000;

async fn graph(node: &DaemonProcess) -> ChannelGraph {
    let request = ChannelGraphRequest::default();
    let mut graph = node.client().unwrap().lightning().describe_graph(request).await.unwrap().into_inner();
    graph.nodes.sort_by(|a, b| a.pub_key.cmp(&b.pub_key));
    graph.edges.sort_by_key(|edge| edge.channel_id);
    graph
}

/// The chance that Bob can pay Carol, as Alice sees it; 0 if she knows that he cannot.
async fn chance(alice: &DaemonProcess, [bob, carol]: &[String; 2], use_mission_control: bool) -> f64 {
    let request = QueryRoutesRequest {
        source_pub_key: bob.clone(),
        pub_key: carol.clone(),
        amt: TOO_MUCH,
        use_mission_control,
        ..QueryRoutesRequest::default()
    };
    match alice.client().unwrap().lightning().query_routes(request).await {
        Ok(found) => found.into_inner().success_prob,
        Err(status) if status.code() == Code::NotFound => 0.0,
        Err(status) => panic!("{status}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_graph_and_what_was_learnt_come_back_after_a_kill() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let folder = Folder::new();
    let mut alice = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
    alice.start().await.unwrap();
    let chain = chain(&alice);
    let mut others = Vec::new();
    for name in ["bob", "carol"] {
        let mut node = DaemonProcess::new(folder.path(), name, &["--chain-connect", &chain]).unwrap();
        node.start().await.unwrap();
        others.push(node);
    }
    let [bob, carol] = &others[..] else { panic!() };
    alice.mine(1, None).await.unwrap();
    alice.mine(1, Some(&bob.new_address().await.unwrap())).await.unwrap();
    let mine = async |blocks: u32| {
        alice.mine(blocks, Some(NOBODY)).await.unwrap();
        let height = alice.height().await.unwrap();
        for node in [&alice, bob, carol] {
            node.wait_for_height(height).await.unwrap();
        }
    };
    mine(100).await;
    for (from, to, push) in [(&alice, bob, 0), (bob, carol, CAPACITY / 2)] {
        from.connect(to).await.unwrap();
        from.open_channel(to, CAPACITY, push).await.unwrap();
    }
    wait_until("both fundings to reach Alice", || async { Ok(alice.waiting_txids().await?.len() == 2) }).await.unwrap();
    mine(6).await;
    bob.wait_for_active_channels(2).await.unwrap();
    wait_until("Alice to hear of everything", || async {
        let graph = graph(&alice).await;
        let policies = graph.edges.iter().flat_map(|edge| [edge.node1_policy, edge.node2_policy]);
        let named = graph.nodes.iter().filter(|node| !node.alias.is_empty()).count();
        Ok(graph.edges.len() == 2 && policies.flatten().count() == 4 && named == 3)
    })
    .await
    .unwrap();

    let ends = [bob.node_id().await.unwrap(), carol.node_id().await.unwrap()];
    let before = chance(&alice, &ends, true).await;
    assert!(before > 0.1, "{before}");
    let payment: Payment = alice.pay(carol.invoice(TOO_MUCH, "too much").await.unwrap()).await.unwrap();
    assert_eq!(payment.status(), PaymentStatus::Failed, "{payment:?}");
    assert_eq!(payment.failure_reason(), PaymentFailureReason::FailureReasonNoRoute);
    let learnt = chance(&alice, &ends, true).await;
    assert!(learnt < 0.01, "{learnt}");
    assert_eq!(chance(&alice, &ends, false).await, before);
    let known = graph(&alice).await;
    // What was learnt is written once a second.
    sleep(Duration::from_millis(2_500)).await;
    alice.kill();
    drop(others);

    alice.start().await.unwrap();
    assert_eq!(graph(&alice).await.nodes, known.nodes);
    let edges = graph(&alice).await.edges;
    assert_eq!(edges.len(), known.edges.len());
    for (now, then) in edges.iter().zip(&known.edges) {
        assert_eq!((now.channel_id, now.capacity), (then.channel_id, then.capacity));
    }
    let remembered = chance(&alice, &ends, true).await;
    assert!(remembered < 0.01, "{remembered}");

    let mut router = alice.client().unwrap().router();
    router.reset_mission_control(ResetMissionControlRequest {}).await.unwrap();
    assert_eq!(chance(&alice, &ends, true).await, before);
    alice.kill();
    alice.start().await.unwrap();
    assert_eq!(chance(&alice, &ends, true).await, before, "it is not remembered again");
}
