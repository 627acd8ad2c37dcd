//! What a node knows of the network and has learnt from its payments comes back after a SIGKILL: Alice – Bob – Carol.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use harness::{
    Folder,
    network::{Opening, graph, network},
};
use leyden_client::cluster::{DaemonProcess, PATIENCE};
use leyden_proto::{
    lnrpc::{Payment, PaymentFailureReason, QueryRoutesRequest, payment::PaymentStatus},
    routerrpc::ResetMissionControlRequest,
};
use tokio::time::{Duration, sleep};
use tonic::Code;

const CAPACITY: i64 = 10_000_000;
/// More than Bob can hand on to Carol.
const TOO_MUCH: i64 = 6_000_000;

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
        Err(status) if status.code() == Code::Unknown => 0.0,
        Err(status) => panic!("{status}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_graph_and_what_was_learnt_come_back_after_a_kill() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let folder = Folder::new();
    let openings = [Opening { from: 0, to: 1, push: 0 }, Opening { from: 1, to: 2, push: CAPACITY / 2 }];
    let mut others = network(&folder, &["alice", "bob", "carol"], CAPACITY, &openings).await;
    let mut alice = others.remove(0);
    let [bob, carol] = &others[..] else { panic!() };

    let ends = [bob.node_id().await.unwrap(), carol.node_id().await.unwrap()];
    let before = chance(&alice, &ends, true).await;
    assert!(before > 0.1, "{before}");
    let known = graph(&alice).await;
    // What was learnt is written once a second. On a busy machine it takes longer: then it is lost with the kill, and learnt
    // once more.
    let mut pause = Duration::from_millis(2_500);
    loop {
        let payment: Payment = alice.pay(carol.invoice(TOO_MUCH, "too much").await.unwrap()).await.unwrap();
        assert_eq!(payment.status(), PaymentStatus::Failed, "{payment:?}");
        assert_eq!(payment.failure_reason(), PaymentFailureReason::FailureReasonNoRoute);
        let learnt = chance(&alice, &ends, true).await;
        assert!(learnt < 0.01, "{learnt}");
        assert_eq!(chance(&alice, &ends, false).await, before);
        sleep(pause).await;
        alice.kill();
        alice.start().await.unwrap();
        pause *= 2;
        if chance(&alice, &ends, true).await < 0.01 || pause > PATIENCE {
            break;
        }
        alice.wait_for_active_channels(1).await.unwrap();
    }
    drop(others);
    // Nobody is left to tell it.
    alice.kill();
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
