//! Payments over a node between, and what happens when one of the three fails or dies in the middle.
//!
//! ```text
//!   right (LDK) ── alice (Leyden) ── left (LDK) ── bob (Leyden)      all in public
//! ```

use ldk_node::lightning_types::payment::{PaymentHash, PaymentPreimage};
use leyden_client::cluster::{DaemonProcess, wait_until};
use leyden_proto::{
    lnrpc::{
        ChannelGraphRequest, Hop, Payment, PaymentFailureReason as Reason, PolicyUpdateRequest, Route,
        failure::FailureCode, invoice::InvoiceState, policy_update_request::Scope,
    },
    routerrpc::{BuildRouteRequest, SendPaymentRequest, SendToRouteRequest},
};

use crate::{
    cases::{Report, World},
    support::{
        Kind, Ldk, chain,
        ldk::{End, id_of, reach},
        ours::{self, KEYSEND, Opening},
    },
};

/// What each node between keeps of a payment.
const FEE_MSAT: i64 = 1_000;
const FEE: i64 = FEE_MSAT / 1_000;

pub async fn live(report: &'static Report) -> World {
    let folder = report.folder();
    let terms = ["--base-fee-msat", "1000", "--fee-rate-ppm", "0"];
    let alice = chain::start(folder.path(), "alice", &terms).await;
    let bob = chain::join(&alice, folder.path(), "bob", &terms).await;
    let left = Ldk::start(folder.path(), "left", Kind::Anchors, chain::rpc(&alice));
    let right = Ldk::start(folder.path(), "right", Kind::StaticRemoteKey, chain::rpc(&alice));
    let mut row = Row { alice, bob, left, right };
    chain::fund(&row.alice, &[&row.alice, &row.bob], &[&row.left, &row.right]).await;

    report.case("channels are told to everybody", "both", row.open()).await?;
    report.case("forward Leyden–LDK–Leyden", "alice pays bob", row.alice_pays_bob()).await?;
    report.case("forward Leyden–LDK–Leyden", "bob pays alice", row.bob_pays_alice()).await?;
    report.case("forward LDK–Leyden–LDK", "left pays right", row.left_pays_right()).await?;
    report.case("forward LDK–Leyden–LDK", "right pays left", row.right_pays_left()).await?;
    report.case("forward Leyden–LDK–Leyden–LDK", "bob pays right", row.bob_pays_right()).await?;
    report.case("forward LDK–Leyden–LDK–Leyden", "right pays bob", row.right_pays_bob()).await?;
    report.case("raised fee is heard and paid", "right pays left", row.raised_fee_is_paid()).await?;
    report.case("too small a fee is refused", "LDK forwards", row.too_small_a_fee()).await?;
    report.case("too early an expiry is refused", "LDK forwards", row.too_early_an_expiry()).await?;
    report.case("too small a fee is refused", "Leyden forwards", row.leyden_is_paid_too_little()).await?;
    report.case("too early an expiry is refused", "Leyden forwards", row.leyden_has_too_little_time()).await?;
    report.case("too little behind the hop fails", "LDK forwards", row.too_little_behind_ldk()).await?;
    report.case("too little behind the hop fails", "Leyden forwards", row.too_little_behind_leyden()).await?;
    report.case("unasked payment is refused over a hop", "LDK forwards", row.keysend_is_refused()).await?;
    report.case("unasked payment is refused", "LDK pays", row.keysend_of_ldk_is_refused()).await?;
    report.case("held payment is given back over a hop", "LDK forwards", row.given_back_over_ldk()).await?;
    report.case("held payment is given back over a hop", "Leyden forwards", row.given_back_over_leyden()).await?;
    report.case("recipient is away", "LDK forwards", row.bob_is_away()).await?;
    report.case("recipient is away", "Leyden forwards", row.right_is_away()).await?;
    report.case("sender is killed, payment held", "Leyden dies", row.sender_is_killed()).await?;
    report.case("recipient is killed, payment held", "Leyden dies", row.recipient_is_killed()).await?;
    report.case("hop is killed, payment held", "Leyden dies", row.hop_is_killed()).await?;
    report.case("sender starts again, payment held", "LDK starts again", row.sender_starts_again()).await?;
    report.case("recipient starts again, payment held", "LDK starts again", row.recipient_starts_again()).await?;
    report.case("hop starts again, payment held", "LDK starts again", row.hop_starts_again()).await?;
    report.case("hop is killed among many payments", "Leyden dies", row.many_payments()).await?;
    report.case("no satoshi is lost on the way", "both", row.add_up()).await
}

struct Row {
    alice: DaemonProcess,
    bob: DaemonProcess,
    left: Ldk,
    right: Ldk,
}

/// What is Leyden's in each of the three channels.
#[derive(Debug, PartialEq, Eq)]
struct Balances {
    alice_right: i64,
    alice_left: i64,
    bob_left: i64,
}

fn secret(byte: u8) -> (PaymentPreimage, PaymentHash) {
    let preimage = PaymentPreimage([byte; 32]);
    (preimage, preimage.into())
}

/// They would contradict what a test changes by a millisatoshi.
#[allow(deprecated)] // LND's own answers have them.
fn without_totals_in_satoshis(route: &mut Route) {
    (route.total_amt, route.total_fees) = (0, 0);
}

impl Row {
    async fn open(&self) {
        ours::connect(&self.alice, &self.left).await;
        let opening =
            Opening { kind: Kind::Anchors, capacity: 4_000_000, push: 2_000_000, private: false, zero_conf: false };
        ours::open(&self.alice, &self.left, &opening).await;
        self.left.open(reach(&self.bob).await, 1_000_000, 900_000, true);
        self.right.open(reach(&self.alice).await, 2_000_000, 100_000, true);
        chain::wait_for_mempool(&self.alice, 3).await;
        chain::mine(&self.alice, &[&self.alice, &self.bob], &[&self.left, &self.right], chain::DEEP).await;
        self.wait_for_channels().await;
        for node in [&self.alice, &self.bob] {
            wait_until(&format!("{} to know the network", node.name()), || async {
                let graph = node.client()?.lightning().describe_graph(ChannelGraphRequest::default()).await;
                let edges = graph.map_err(|status| node.call_error(status))?.into_inner().edges;
                let known = edges.iter().filter(|edge| edge.node1_policy.is_some() && edge.node2_policy.is_some());
                Ok(known.count() == 3)
            })
            .await
            .unwrap();
        }
        for peer in [&self.left, &self.right] {
            wait_until(&format!("{} to know the network", peer.name()), || async {
                let graph = peer.node().network_graph();
                let channels = graph.list_channels().into_iter().filter_map(|id| graph.channel(id));
                Ok(channels.filter(|channel| channel.one_to_two.is_some() && channel.two_to_one.is_some()).count() == 3)
            })
            .await
            .unwrap();
        }
    }

    async fn wait_for_channels(&self) {
        self.alice.wait_for_active_channels(2).await.unwrap();
        self.bob.wait_for_active_channels(1).await.unwrap();
        self.left.wait_for_usable_channels(2).await;
        self.right.wait_for_usable_channels(1).await;
    }

    /// Once nothing is under way.
    async fn balances(&self) -> Balances {
        Balances {
            alice_right: ours::agree(&self.alice, &self.right).await,
            alice_left: ours::agree(&self.alice, &self.left).await,
            bob_left: ours::agree(&self.bob, &self.left).await,
        }
    }

    async fn moved(&self, had: Balances, alice_right: i64, alice_left: i64, bob_left: i64) {
        let expected = Balances {
            alice_right: had.alice_right + alice_right,
            alice_left: had.alice_left + alice_left,
            bob_left: had.bob_left + bob_left,
        };
        assert_eq!(self.balances().await, expected);
    }

    async fn paid(&self, payment: Payment, fee_msat: i64) {
        assert!(ours::succeeded(&payment), "{payment:?}");
        assert_eq!(payment.fee_msat, fee_msat);
    }

    async fn alice_pays_bob(&self) {
        let had = self.balances().await;
        let invoice = ours::invoice(&self.bob, 40_000).await;
        self.paid(ours::pay(&self.alice, ours::for_invoice(invoice)).await, FEE_MSAT).await;
        self.moved(had, 0, -40_000 - FEE, 40_000).await;
    }

    async fn bob_pays_alice(&self) {
        let had = self.balances().await;
        let invoice = ours::invoice(&self.alice, 60_000).await;
        self.paid(ours::pay(&self.bob, ours::for_invoice(invoice)).await, FEE_MSAT).await;
        self.moved(had, 0, 60_000, -60_000 - FEE).await;
    }

    async fn left_pays_right(&self) {
        let had = self.balances().await;
        let end = self.left.pay_to_end(&self.right.invoice(40_000).to_string()).await;
        assert!(matches!(end, End::Paid { fee_msat: 1_000, .. }), "{end:?}");
        self.moved(had, -40_000, 40_000 + FEE, 0).await;
    }

    async fn right_pays_left(&self) {
        let had = self.balances().await;
        let end = self.right.pay_to_end(&self.left.invoice(70_000).to_string()).await;
        assert!(matches!(end, End::Paid { fee_msat: 1_000, .. }), "{end:?}");
        self.moved(had, 70_000 + FEE, -70_000, 0).await;
    }

    async fn bob_pays_right(&self) {
        let had = self.balances().await;
        let invoice = self.right.invoice(20_000);
        self.paid(ours::pay(&self.bob, ours::for_invoice(invoice)).await, 2 * FEE_MSAT).await;
        self.moved(had, -20_000, 20_000 + FEE, -20_000 - 2 * FEE).await;
    }

    async fn right_pays_bob(&self) {
        let had = self.balances().await;
        let end = self.right.pay_to_end(&ours::invoice(&self.bob, 20_000).await).await;
        assert!(matches!(end, End::Paid { fee_msat: 2_000, .. }), "{end:?}");
        self.moved(had, 20_000 + 2 * FEE, -20_000 - FEE, 20_000).await;
    }

    async fn set_fee(&self, base_fee_msat: i64) {
        let request = PolicyUpdateRequest {
            scope: Some(Scope::Global(true)),
            base_fee_msat,
            time_lock_delta: 80,
            ..PolicyUpdateRequest::default()
        };
        let answer = self.alice.client().unwrap().lightning().update_channel_policy(request).await.unwrap();
        assert!(answer.into_inner().failed_updates.is_empty());
        let alice = ldk_node::lightning::routing::gossip::NodeId::from_pubkey(&id_of(&self.alice).await);
        for peer in [&self.left, &self.right] {
            wait_until(&format!("{} to hear of the fee", peer.name()), || async {
                let graph = peer.node().network_graph();
                let channels = graph.list_channels().into_iter().filter_map(|id| graph.channel(id));
                let own = channels.filter_map(|channel| {
                    let first = (channel.node_one == alice).then_some(channel.one_to_two.clone());
                    first.or_else(|| (channel.node_two == alice).then_some(channel.two_to_one)).flatten()
                });
                Ok(own.filter(|terms| i64::from(terms.fees.base_msat) == base_fee_msat).count() == 2)
            })
            .await
            .unwrap();
        }
    }

    async fn raised_fee_is_paid(&self) {
        let had = self.balances().await;
        self.set_fee(5_000).await;
        let end = self.right.pay_to_end(&self.left.invoice(30_000).to_string()).await;
        assert!(matches!(end, End::Paid { fee_msat: 5_000, .. }), "{end:?}");
        self.moved(had, 30_005, -30_000, 0).await;
        self.set_fee(FEE_MSAT).await;
    }

    /// Alice's way to Bob for an invoice of his, and the invoice's hash.
    async fn way_to_bob(&self, sat: i64) -> (Vec<u8>, Route) {
        let invoice = leyden_proto::lnrpc::Invoice { value: sat, ..Default::default() };
        let added = self.bob.client().unwrap().lightning().add_invoice(invoice).await.unwrap().into_inner();
        let hops = [self.left.id(), id_of(&self.bob).await].map(|id| id.serialize().to_vec());
        let request = BuildRouteRequest {
            amt_msat: sat * 1_000,
            final_cltv_delta: 80,
            hop_pubkeys: hops.to_vec(),
            payment_addr: added.payment_addr,
            ..BuildRouteRequest::default()
        };
        let built = self.alice.client().unwrap().router().build_route(request).await.unwrap();
        (added.r_hash, built.into_inner().route.unwrap())
    }

    /// Bob's way to Right, over Left and Alice, for an invoice of Right's, and the invoice's hash.
    async fn way_to_right(&self, sat: i64) -> (Vec<u8>, Route) {
        let invoice = self.right.invoice(u64::try_from(sat).unwrap());
        let hops = [self.left.id(), id_of(&self.alice).await, self.right.id()].map(|id| id.serialize().to_vec());
        let request = BuildRouteRequest {
            amt_msat: sat * 1_000,
            final_cltv_delta: 80,
            hop_pubkeys: hops.to_vec(),
            payment_addr: invoice.payment_secret().0.to_vec(),
            ..BuildRouteRequest::default()
        };
        let built = self.bob.client().unwrap().router().build_route(request).await.unwrap();
        let hash: &[u8; 32] = invoice.payment_hash().as_ref();
        (hash.to_vec(), built.into_inner().route.unwrap())
    }

    /// Sends over a route that a hop must refuse, the first one or the second.
    async fn is_refused(&self, from: &DaemonProcess, (payment_hash, route): (Vec<u8>, Route), why: (FailureCode, u32)) {
        let request = SendToRouteRequest { payment_hash, route: Some(route), skip_temp_err: false };
        let attempt = from.client().unwrap().router().send_to_route_v2(request).await.unwrap().into_inner();
        let failure = attempt.failure.expect("a failure");
        assert_eq!((failure.code(), failure.failure_source_index), why);
    }

    async fn too_small_a_fee(&self) {
        let had = self.balances().await;
        let (hash, mut route) = self.way_to_bob(10_000).await;
        // One millisatoshi less for the node between.
        let less = |hop: &mut Hop| hop.fee_msat -= 1;
        less(&mut route.hops[0]);
        route.total_amt_msat -= 1;
        without_totals_in_satoshis(&mut route);
        route.total_fees_msat -= 1;
        self.is_refused(&self.alice, (hash, route), (FailureCode::FeeInsufficient, 1)).await;
        self.moved(had, 0, 0, 0).await;
    }

    async fn too_early_an_expiry(&self) {
        let had = self.balances().await;
        let (hash, mut route) = self.way_to_bob(10_000).await;
        // One block less than the node between asks for.
        route.total_time_lock -= 1;
        self.is_refused(&self.alice, (hash, route), (FailureCode::IncorrectCltvExpiry, 1)).await;
        self.moved(had, 0, 0, 0).await;
    }

    /// LDK hands Alice's refusal back to Bob, who reads it.
    async fn leyden_is_paid_too_little(&self) {
        let had = self.balances().await;
        let (hash, mut route) = self.way_to_right(10_000).await;
        route.hops[0].amt_to_forward_msat -= 1;
        route.hops[1].fee_msat -= 1;
        route.total_amt_msat -= 1;
        without_totals_in_satoshis(&mut route);
        route.total_fees_msat -= 1;
        self.is_refused(&self.bob, (hash, route), (FailureCode::FeeInsufficient, 2)).await;
        self.moved(had, 0, 0, 0).await;
    }

    async fn leyden_has_too_little_time(&self) {
        let had = self.balances().await;
        let (hash, mut route) = self.way_to_right(10_000).await;
        route.hops[0].expiry -= 1;
        self.is_refused(&self.bob, (hash, route), (FailureCode::IncorrectCltvExpiry, 2)).await;
        self.moved(had, 0, 0, 0).await;
    }

    async fn too_little_behind_ldk(&self) {
        let had = self.balances().await;
        let invoice = ours::invoice(&self.bob, 300_000).await;
        let payment = ours::pay(&self.alice, ours::for_invoice(invoice)).await;
        assert_eq!(payment.failure_reason(), Reason::FailureReasonNoRoute, "{payment:?}");
        let refusals = payment.htlcs.iter().filter_map(|attempt| attempt.failure.as_ref());
        let codes: Vec<_> = refusals.map(|failure| (failure.code(), failure.failure_source_index)).collect();
        assert!(!codes.is_empty(), "it was tried");
        assert!(codes.iter().all(|code| *code == (FailureCode::TemporaryChannelFailure, 1)), "{codes:?}");
        self.moved(had, 0, 0, 0).await;
    }

    async fn too_little_behind_leyden(&self) {
        let had = self.balances().await;
        let end = self.left.pay_to_end(&self.right.invoice(350_000).to_string()).await;
        assert!(matches!(end, End::Failed(_)), "{end:?}");
        self.moved(had, 0, 0, 0).await;
    }

    async fn keysend_is_refused(&self) {
        let had = self.balances().await;
        let (preimage, hash) = secret(1);
        let request = SendPaymentRequest {
            dest: id_of(&self.bob).await.serialize().to_vec(),
            amt: 1_000,
            payment_hash: hash.0.to_vec(),
            final_cltv_delta: 80,
            dest_custom_records: [(KEYSEND, preimage.0.to_vec())].into(),
            ..SendPaymentRequest::default()
        };
        let payment = ours::pay(&self.alice, request).await;
        assert_eq!(payment.failure_reason(), Reason::FailureReasonIncorrectPaymentDetails, "{payment:?}");
        self.moved(had, 0, 0, 0).await;
    }

    async fn keysend_of_ldk_is_refused(&self) {
        let had = self.balances().await;
        let bob = id_of(&self.bob).await;
        let id = self.left.node().spontaneous_payment().send(1_000_000, bob, None).unwrap();
        let reason = self.left.wait_for_event("the end of an unasked payment", |event| match event {
            ldk_node::Event::PaymentFailed { payment_id, reason, .. } if *payment_id == Some(id) => Some(*reason),
            _ => None,
        });
        assert_eq!(reason.await, Some(ldk_node::lightning::events::PaymentFailureReason::RecipientRejected));
        self.moved(had, 0, 0, 0).await;
    }

    /// Alice begins to pay Bob, who holds it.
    async fn bob_holds(&self, hash: PaymentHash) {
        let invoice = ours::hold_invoice(&self.bob, 20_000, &hash.0).await;
        ours::begin_to_pay(&self.alice, ours::for_invoice(invoice)).await;
        ours::wait_until_held(&self.bob, &hash.0).await;
    }

    /// Bob takes it.
    async fn bob_takes(&self, preimage: PaymentPreimage, hash: PaymentHash) {
        ours::settle(&self.bob, &preimage.0).await;
        self.paid(ours::end(&self.alice, &hash.0).await, FEE_MSAT).await;
    }

    /// Left begins to pay Right, who holds it.
    async fn right_holds(&self, hash: PaymentHash) {
        self.left.pay(&self.right.hold_invoice(20_000, hash).to_string());
        assert_eq!(self.right.claimable(hash).await, 20_000_000);
    }

    /// Right takes it.
    async fn right_takes(&self, preimage: PaymentPreimage, hash: PaymentHash) {
        self.right.claim(preimage, 20_000);
        let end = self.left.end(hash).await;
        assert!(matches!(end, End::Paid { fee_msat: 1_000, .. }), "{end:?}");
    }

    async fn given_back_over_ldk(&self) {
        let had = self.balances().await;
        let (_, hash) = secret(2);
        self.bob_holds(hash).await;
        ours::cancel(&self.bob, &hash.0).await;
        let payment = ours::end(&self.alice, &hash.0).await;
        assert_eq!(payment.failure_reason(), Reason::FailureReasonIncorrectPaymentDetails, "{payment:?}");
        self.moved(had, 0, 0, 0).await;
    }

    async fn given_back_over_leyden(&self) {
        let had = self.balances().await;
        let (_, hash) = secret(3);
        self.right_holds(hash).await;
        self.right.node().bolt11_payment().fail_for_hash(hash).unwrap();
        let rejected = ldk_node::lightning::events::PaymentFailureReason::RecipientRejected;
        assert_eq!(self.left.end(hash).await, End::Failed(Some(rejected)));
        self.moved(had, 0, 0, 0).await;
    }

    async fn bob_is_away(&mut self) {
        let had = self.balances().await;
        let invoice = ours::invoice(&self.bob, 80_000).await;
        self.bob.kill();
        wait_until("LDK to miss Bob", || async {
            Ok(self.left.channels().iter().filter(|channel| channel.is_usable).count() == 1)
        })
        .await
        .unwrap();
        let payment = ours::pay(&self.alice, ours::for_invoice(invoice)).await;
        assert_eq!(payment.failure_reason(), Reason::FailureReasonNoRoute, "{payment:?}");
        let refusal = payment.htlcs.iter().find_map(|attempt| attempt.failure.as_ref()).expect("a refusal");
        assert_eq!((refusal.code(), refusal.failure_source_index), (FailureCode::TemporaryChannelFailure, 1));
        self.bob.start().await.unwrap();
        self.reconnect().await;
        self.moved(had, 0, 0, 0).await;
    }

    async fn right_is_away(&mut self) {
        let had = self.balances().await;
        let invoice = self.right.invoice(10_000);
        self.right.stop();
        wait_until("Leyden to miss Right", || async {
            Ok(self.alice.channels().await?.iter().filter(|channel| channel.active).count() == 1)
        })
        .await
        .unwrap();
        let end = self.left.pay_to_end(&invoice.to_string()).await;
        assert!(matches!(end, End::Failed(_)), "{end:?}");
        self.right.start_again();
        self.reconnect().await;
        self.moved(had, 0, 0, 0).await;
    }

    /// Whoever has been away is connected again.
    async fn reconnect(&self) {
        ours::reconnect(&self.alice, &self.left).await;
        ours::reconnect(&self.alice, &self.right).await;
        ours::reconnect(&self.bob, &self.left).await;
        self.wait_for_channels().await;
    }

    async fn sender_is_killed(&mut self) {
        let had = self.balances().await;
        let (preimage, hash) = secret(4);
        self.bob_holds(hash).await;
        self.alice.kill();
        self.alice.start().await.unwrap();
        self.reconnect().await;
        self.bob_takes(preimage, hash).await;
        self.moved(had, 0, -20_000 - FEE, 20_000).await;
    }

    async fn recipient_is_killed(&mut self) {
        let had = self.balances().await;
        let (preimage, hash) = secret(5);
        self.bob_holds(hash).await;
        self.bob.kill();
        self.bob.start().await.unwrap();
        assert_eq!(ours::look_up(&self.bob, &hash.0).await.state(), InvoiceState::Accepted);
        self.reconnect().await;
        self.bob_takes(preimage, hash).await;
        self.moved(had, 0, -20_000 - FEE, 20_000).await;
    }

    async fn hop_is_killed(&mut self) {
        let had = self.balances().await;
        let (preimage, hash) = secret(6);
        self.right_holds(hash).await;
        self.alice.kill();
        // It is taken while the hop is away.
        self.right.claim(preimage, 20_000);
        self.alice.start().await.unwrap();
        self.reconnect().await;
        let end = self.left.end(hash).await;
        assert!(matches!(end, End::Paid { fee_msat: 1_000, .. }), "{end:?}");
        self.moved(had, -20_000, 20_000 + FEE, 0).await;
    }

    async fn sender_starts_again(&mut self) {
        let had = self.balances().await;
        let (preimage, hash) = secret(7);
        self.right_holds(hash).await;
        self.left.stop();
        self.left.start_again();
        self.reconnect().await;
        self.right_takes(preimage, hash).await;
        self.moved(had, -20_000, 20_000 + FEE, 0).await;
    }

    async fn recipient_starts_again(&mut self) {
        let had = self.balances().await;
        let (preimage, hash) = secret(8);
        self.right_holds(hash).await;
        self.right.stop();
        self.right.start_again();
        self.reconnect().await;
        self.right_takes(preimage, hash).await;
        self.moved(had, -20_000, 20_000 + FEE, 0).await;
    }

    async fn hop_starts_again(&mut self) {
        let had = self.balances().await;
        let (preimage, hash) = secret(9);
        self.bob_holds(hash).await;
        self.left.stop();
        // It is taken while the hop is away.
        ours::settle(&self.bob, &preimage.0).await;
        self.left.start_again();
        self.reconnect().await;
        self.paid(ours::end(&self.alice, &hash.0).await, FEE_MSAT).await;
        self.moved(had, 0, -20_000 - FEE, 20_000).await;
    }

    /// Alice dies while payments of LDK pass through her: each ends, and who has a proof has paid.
    async fn many_payments(&mut self) {
        let had = self.balances().await;
        let mut hashes = Vec::new();
        for _ in 0..20 {
            hashes.push(self.right.pay(&self.left.invoice(1_000).to_string()));
        }
        self.left.received(hashes[0]).await;
        self.alice.kill();
        self.alice.start().await.unwrap();
        self.reconnect().await;
        let mut paid = 0;
        for hash in hashes {
            match self.right.end(hash).await {
                End::Paid { .. } => {
                    assert_eq!(self.left.received(hash).await, 1_000_000);
                    paid += 1;
                }
                End::Failed(_) => {}
            }
        }
        assert!(paid > 0);
        self.moved(had, paid * (1_000 + FEE), paid * -1_000, 0).await;
    }

    /// What is in the channels is what was put in.
    async fn add_up(&self) {
        self.balances().await;
        for (node, channels) in [(&self.alice, 2), (&self.bob, 1)] {
            let all = node.channels().await.unwrap();
            assert_eq!(all.len(), channels);
            for channel in all {
                let held = channel.capacity - channel.local_balance - channel.remote_balance;
                assert!(channel.unsettled_balance == 0 && held >= channel.commit_fee, "{channel:?}");
            }
        }
    }
}
