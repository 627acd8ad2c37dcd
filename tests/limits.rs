//! What a payer may ask of the routes of its payments is kept to: Alice, Bob and Carol, a channel between each two.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use harness::{
    Folder,
    network::{Opening, network},
};
use leyden_client::cluster::{ClusterError, DaemonProcess, wait_until};
use leyden_proto::{
    lnrpc::{
        Channel, GetInfoRequest, Invoice, Payment, PaymentFailureReason, htlc_attempt::HtlcStatus,
        payment::PaymentStatus,
    },
    routerrpc::SendPaymentRequest,
};
use tonic::{Code, Status};

const CAPACITY: i64 = 10_000_000;
const SAT: i64 = 1_000_000;
/// What a node asks by default, in msat: 1,000 and a millionth.
const FEE: i64 = 1_000 + SAT / 1_000;
/// Blocks that a recipient wants and that a node on the way adds.
const FINAL: u64 = 50;
const DELTA: i32 = 80;

async fn invoice(node: &DaemonProcess, value: i64) -> String {
    let request = Invoice { value, cltv_expiry: FINAL, ..Invoice::default() };
    node.client().unwrap().lightning().add_invoice(request).await.unwrap().into_inner().payment_request
}

async fn pay(node: &DaemonProcess, request: SendPaymentRequest) -> Result<Payment, Status> {
    let request = SendPaymentRequest { timeout_seconds: 60, no_inflight_updates: true, ..request };
    let mut updates = node.client().unwrap().router().send_payment_v2(request).await?.into_inner();
    Ok(updates.message().await?.expect("the end of a payment"))
}

fn has_failed(payment: &Payment) {
    assert_eq!(payment.status(), PaymentStatus::Failed, "{payment:?}");
    assert_eq!(payment.failure_reason(), PaymentFailureReason::FailureReasonNoRoute, "{payment:?}");
}

/// The parts that arrived: the channel that each left by, the nodes that it reached, and what it brought.
fn arrived(payment: &Payment) -> Vec<(u64, Vec<String>, i64)> {
    assert_eq!(payment.status(), PaymentStatus::Succeeded, "{payment:?}");
    let paid = payment.htlcs.iter().filter(|attempt| attempt.status() == HtlcStatus::Succeeded);
    let part = |hops: &[leyden_proto::lnrpc::Hop]| {
        let nodes = hops.iter().map(|hop| hop.pub_key.clone()).collect();
        (hops[0].chan_id, nodes, hops.last().unwrap().amt_to_forward_msat / 1_000)
    };
    paid.map(|attempt| part(&attempt.route.as_ref().unwrap().hops)).collect()
}

/// The channel with a peer, once nothing is under way in it.
async fn channel(node: &DaemonProcess, peer: &str) -> Channel {
    let find = || async {
        let channels = node.channels().await?;
        Ok::<_, ClusterError>(
            channels.into_iter().find(|channel| channel.remote_pubkey == peer && channel.pending_htlcs.is_empty()),
        )
    };
    wait_until("the channel to be quiet", || async { Ok(find().await?.is_some()) }).await.unwrap();
    find().await.unwrap().unwrap()
}

fn says_what_binds_it(channel: &Channel) {
    for limits in [channel.local_constraints, channel.remote_constraints] {
        let limits = limits.unwrap();
        assert!(limits.csv_delay > 0 && limits.chan_reserve_sat > 0 && limits.min_htlc_msat > 0, "{limits:?}");
        assert!((354..=1_000).contains(&limits.dust_limit_sat), "{limits:?}");
        assert!(limits.max_pending_amt_msat >= 100_000_000 && limits.max_accepted_htlcs >= 5, "{limits:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payer_moves_its_own_balances_and_what_it_asks_of_a_way_is_kept_to() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let folder = Folder::new();
    let opening = |from, to| Opening { from, to, push: CAPACITY / 2 };
    let openings = [opening(0, 1), opening(1, 2), opening(0, 2)];
    let nodes = network(&folder, &["alice", "bob", "carol"], CAPACITY, &openings).await;
    let [alice, bob, carol] = &nodes[..] else { panic!() };
    let (bobs, carols) = (bob.node_id().await.unwrap(), carol.node_id().await.unwrap());
    let (to_bob, to_carol) = (channel(alice, &bobs).await, channel(alice, &carols).await);
    let fees = 10_000;
    says_what_binds_it(&to_bob);
    let info = alice.client().unwrap().lightning().get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert!(info.synced_to_graph, "{info:?}");

    // In a circle: out to Bob, and back from Carol.
    let circle = SendPaymentRequest {
        payment_request: invoice(alice, SAT).await,
        fee_limit_msat: 2 * FEE + 2,
        outgoing_chan_ids: vec![to_bob.chan_id],
        last_hop_pubkey: hex::decode(&carols).unwrap(),
        ..SendPaymentRequest::default()
    };
    let refusal = pay(alice, circle.clone()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
    let payment = pay(alice, SendPaymentRequest { allow_self_payment: true, ..circle }).await.unwrap();
    assert_eq!(arrived(&payment).len(), 1);
    assert!((2 * FEE..=2 * FEE + 2).contains(&payment.fee_msat), "{}", payment.fee_msat);
    let moved = channel(alice, &carols).await.local_balance - to_carol.local_balance;
    let spent = to_bob.local_balance - channel(alice, &bobs).await.local_balance;
    assert_eq!((moved, spent), (SAT, SAT + (payment.fee_msat + 999) / 1_000));

    // Over Bob, although there is a channel to Carol; for what he asks, and not for less.
    let over_bob = |payment_request: String, fee_limit_msat| SendPaymentRequest {
        payment_request,
        fee_limit_msat,
        outgoing_chan_ids: vec![to_bob.chan_id],
        ..SendPaymentRequest::default()
    };
    let request = invoice(carol, SAT).await;
    has_failed(&pay(alice, over_bob(request.clone(), FEE - 1)).await.unwrap());
    let payment = pay(alice, over_bob(request, FEE)).await.unwrap();
    assert_eq!(
        (arrived(&payment), payment.fee_msat),
        (vec![(to_bob.chan_id, vec![bobs.clone(), carols.clone()], SAT)], FEE)
    );

    // The same, asked for by its other end.
    let request = SendPaymentRequest {
        payment_request: invoice(carol, SAT).await,
        fee_limit_sat: fees,
        last_hop_pubkey: hex::decode(&bobs).unwrap(),
        ..SendPaymentRequest::default()
    };
    assert_eq!(arrived(&pay(alice, request).await.unwrap())[0].1[0], bobs);

    // Locked no longer than is said, to the block.
    let least = FINAL as i32 + DELTA;
    let locked = |payment_request, cltv_limit| SendPaymentRequest { cltv_limit, ..over_bob(payment_request, FEE) };
    let request = invoice(carol, SAT).await;
    has_failed(&pay(alice, locked(request.clone(), least - 1)).await.unwrap());
    arrived(&pay(alice, locked(request, least)).await.unwrap());

    // In so many parts, and none larger than this.
    let bring =
        |payment_request: String| SendPaymentRequest { payment_request, fee_limit_sat: fees, ..Default::default() };
    let small = SAT / 4;
    let request = SendPaymentRequest { max_shard_size_msat: small as u64 * 1_000, ..bring(invoice(carol, SAT).await) };
    let parts = arrived(&pay(alice, request).await.unwrap());
    assert!(parts.len() >= 4 && parts.iter().all(|part| part.2 <= small), "{parts:?}");
    let both = channel(alice, &carols).await.local_balance + SAT / 2;
    let request = invoice(carol, both).await;
    has_failed(&pay(alice, SendPaymentRequest { max_parts: 1, ..bring(request.clone()) }).await.unwrap());
    let payment = pay(alice, SendPaymentRequest { max_parts: 2, ..bring(request) }).await.unwrap();
    let parts = arrived(&payment);
    assert_eq!((parts.len(), parts.iter().map(|part| part.2).sum::<i64>()), (2, both));
}
