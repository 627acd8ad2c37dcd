//! A payment keeps to its limits and comes to an end: Alice and Bob, with one channel or two between them.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use harness::{DEEP, MATURE, Pair, chain, network::mine, open_request, refused};
use leyden_channels::types::PaymentPreimage;
use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::NOBODY,
};
use leyden_proto::{
    invoicesrpc::AddHoldInvoiceRequest,
    lnrpc::{
        Channel, GetInfoRequest, Invoice, InvoiceSubscription, LookupHtlcResolutionRequest, OpenChannelRequest,
        PayReqString, Payment, payment::PaymentStatus,
    },
    routerrpc::{SendPaymentRequest, SubscribeHtlcEventsRequest, TrackPaymentRequest, htlc_event::Event},
};
use tonic::{Code, Status};

async fn invoice(node: &DaemonProcess, request: Invoice) -> String {
    node.client().unwrap().lightning().add_invoice(request).await.unwrap().into_inner().payment_request
}

async fn pay(node: &DaemonProcess, request: SendPaymentRequest) -> Result<Payment, Status> {
    let request = SendPaymentRequest { timeout_seconds: 60, no_inflight_updates: true, ..request };
    let mut updates = node.client().unwrap().router().send_payment_v2(request).await?.into_inner();
    Ok(updates.message().await?.expect("the end of a payment"))
}

fn to(payment_request: String) -> SendPaymentRequest {
    SendPaymentRequest { payment_request, ..SendPaymentRequest::default() }
}

/// The channels that the parts which arrived left by.
fn left_by(payment: &Payment) -> Vec<u64> {
    assert_eq!(payment.status(), PaymentStatus::Succeeded, "{payment:?}");
    let arrived = payment.htlcs.iter().filter(|attempt| attempt.failure.is_none());
    arrived.map(|attempt| attempt.route.as_ref().unwrap().hops[0].chan_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_peer_gets_no_more_blocks_than_are_allowed_and_a_limit_above_all_money_is_none() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let pair = Pair::with_channel(1_000_000, 0).await;
    let wants = |cltv_expiry| invoice(&pair.bob, Invoice { value: 1_000, cltv_expiry, ..Invoice::default() });
    let refused = pay(&pair.alice, to(wants(65_535).await)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("65535 blocks") && refused.message().contains("2016"), "{refused}");

    let request = wants(300).await;
    let within = |cltv_limit| pay(&pair.alice, SendPaymentRequest { cltv_limit, ..to(request.clone()) });
    assert_eq!(within(299).await.unwrap_err().code(), Code::InvalidArgument);
    let paid = within(300).await.unwrap();
    assert_eq!(paid.status(), PaymentStatus::Succeeded, "{paid:?}");
    let height = pair.alice.height().await.unwrap();
    assert_eq!(paid.htlcs[0].route.as_ref().unwrap().total_time_lock, height + 300);

    // What common clients send for "none".
    let unlimited = [
        SendPaymentRequest { fee_limit_sat: (1 << 53) - 1, ..to(wants(40).await) },
        SendPaymentRequest { fee_limit_msat: 9_007_199_254_740_991_000, ..to(wants(40).await) },
        SendPaymentRequest { fee_limit_sat: i64::MAX, ..to(wants(40).await) },
    ];
    for request in unlimited {
        let paid = pay(&pair.alice, request).await.unwrap();
        assert_eq!(paid.status(), PaymentStatus::Succeeded, "{paid:?}");
    }
}

/// Bob, who can pay over two channels: the larger takes five HTLCs of his at once.
async fn with_two_channels() -> (Pair, Channel, Channel) {
    let pair = Pair::funded().await;
    pair.alice.connect(&pair.bob).await.unwrap();
    for (capacity, push, remote_max_htlcs) in [(2_000_000, 1_500_000, 5), (1_000_000, 500_000, 0)] {
        let request = OpenChannelRequest { remote_max_htlcs, ..open_request(&pair.bob, capacity, push).await };
        let mut updates = pair.alice.client().unwrap().lightning().open_channel(request).await.unwrap().into_inner();
        updates.message().await.unwrap().expect("the funding transaction");
        pair.mine(1).await;
    }
    pair.mine(DEEP).await;
    pair.wait_for_channels(2).await;
    let mut channels = pair.bob.channels().await.unwrap();
    channels.sort_by_key(|channel| -channel.capacity);
    let [large, small] = &channels[..] else { panic!("{channels:?}") };
    (pair, large.clone(), small.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_goes_over_another_channel_when_one_refuses_and_by_the_one_that_was_asked_for() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let (pair, large, small) = with_two_channels().await;
    let request = async |value| to(invoice(&pair.alice, Invoice { value, ..Invoice::default() }).await);

    let by = |request| SendPaymentRequest { outgoing_chan_id: small.chan_id, ..request };
    assert_eq!(left_by(&pay(&pair.bob, by(request(1_000).await)).await.unwrap()), [small.chan_id]);
    // The other one has the money.
    let failed = pay(&pair.bob, by(request(600_000).await)).await.unwrap();
    assert_eq!(failed.status(), PaymentStatus::Failed, "{failed:?}");
    let both = SendPaymentRequest { outgoing_chan_ids: vec![large.chan_id], ..by(request(1_000).await) };
    assert_eq!(pay(&pair.bob, both).await.unwrap_err().code(), Code::InvalidArgument);

    let mut held = Vec::new();
    for byte in 1..=5 {
        let hash = PaymentPreimage([byte; 32]).hash().0.to_vec();
        let request = AddHoldInvoiceRequest { hash, value: 10_000, ..Default::default() };
        let added = pair.alice.client().unwrap().invoices().add_hold_invoice(request).await.unwrap().into_inner();
        let request = SendPaymentRequest {
            timeout_seconds: 60,
            outgoing_chan_ids: vec![large.chan_id],
            ..to(added.payment_request)
        };
        let updates = pair.bob.client().unwrap().router().send_payment_v2(request).await.unwrap().into_inner();
        held.push(updates);
        wait_until("the HTLC to be there", || async {
            let channels = pair.bob.channels().await?;
            Ok(channels.iter().any(|channel| channel.pending_htlcs.len() == usize::from(byte)))
        })
        .await
        .unwrap();
    }
    let paid = pay(&pair.bob, request(20_000).await).await.unwrap();
    assert_eq!(left_by(&paid), [small.chan_id]);
    assert!(paid.htlcs.len() <= 3, "{} attempts", paid.htlcs.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_names_open_private_channels_and_no_closed_ones() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let Pair { alice, bob, folder } = Pair::with_channel(1_000_000, 500_000).await;
    let mut carol = DaemonProcess::new(folder.path(), "carol", &["--chain-connect", &chain(&alice)]).unwrap();
    carol.start().await.unwrap();
    alice.mine(1, Some(&bob.new_address().await.unwrap())).await.unwrap();
    let nodes = vec![alice, bob, carol];
    mine(&nodes, MATURE).await;
    let [alice, bob, carol] = &nodes[..] else { panic!() };
    bob.connect(carol).await.unwrap();
    let private = OpenChannelRequest { private: true, ..open_request(carol, 1_000_000, 200_000).await };
    let mut updates = bob.client().unwrap().lightning().open_channel(private).await.unwrap().into_inner();
    updates.message().await.unwrap().expect("the funding transaction");
    mine(&nodes, DEEP).await;
    carol.wait_for_active_channels(1).await.unwrap();
    let hints = async |node: &DaemonProcess, value| {
        let pay_req = invoice(node, Invoice { value, private: true, ..Invoice::default() }).await;
        let request = PayReqString { pay_req: pay_req.clone() };
        let decoded = alice.client().unwrap().lightning().decode_pay_req(request).await.unwrap().into_inner();
        (pay_req, decoded.route_hints.len())
    };
    wait_until("Carol to know Bob's terms", || async { Ok(hints(carol, 1_000).await.1 == 1) }).await.unwrap();
    let paid =
        pay(alice, SendPaymentRequest { fee_limit_sat: 1_000, ..to(hints(carol, 1_000).await.0) }).await.unwrap();
    assert_eq!(paid.status(), PaymentStatus::Succeeded, "{paid:?}");
    // Hers is public, and of his channels one is not.
    let told = async || (hints(alice, 1_000).await.1, hints(bob, 1_000).await.1);
    wait_until("the public channel to need no hint", || async { Ok(told().await == (0, 1)) }).await.unwrap();

    for channel in bob.channels().await.unwrap() {
        bob.close_channel(&channel.channel_point, false).await.unwrap();
    }
    mine(&nodes, DEEP).await;
    for node in &nodes {
        wait_until("the channels to be closed", || async { Ok(node.channels().await?.is_empty()) }).await.unwrap();
        assert_eq!(hints(node, 1_000).await.1, 0, "{} has no open channel", node.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_payment_to_a_peer_that_has_vanished_ends() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let mut pair = Pair::with_channel(1_000_000, 0).await;
    let hash = PaymentPreimage([1; 32]).hash().0.to_vec();
    // Far below what has an output of its own.
    let held = AddHoldInvoiceRequest { hash: hash.clone(), value: 100, ..Default::default() };
    let added = pair.bob.client().unwrap().invoices().add_hold_invoice(held).await.unwrap().into_inner();
    let request = SendPaymentRequest { timeout_seconds: 60, ..to(added.payment_request.clone()) };
    let mut updates = pair.alice.client().unwrap().router().send_payment_v2(request).await.unwrap().into_inner();
    wait_until("the payment to be under way", || async { Ok(pair.bob.only_channel().await?.pending_htlcs.len() == 1) })
        .await
        .unwrap();
    let expiry = pair.alice.only_channel().await.unwrap().pending_htlcs[0].expiration_height;
    pair.bob.kill();
    let state = async || {
        let request = TrackPaymentRequest { payment_hash: hash.clone(), no_inflight_updates: false };
        let mut updates = pair.alice.client().unwrap().router().track_payment_v2(request).await.unwrap().into_inner();
        updates.message().await.unwrap().unwrap().status()
    };
    let mine_to = async |height: u32| {
        let blocks = height - pair.alice.height().await.unwrap();
        pair.alice.mine(blocks, Some(NOBODY)).await.unwrap();
        pair.alice.wait_for_height(height).await.unwrap();
    };
    mine_to(expiry + 287).await;
    assert_eq!(state().await, PaymentStatus::InFlight);
    assert_eq!(pair.alice.channels().await.unwrap().len(), 1, "for two days its channel is kept");
    mine_to(expiry + 288).await;
    wait_until("the channel to be closing", || async { Ok(pair.alice.channels().await?.is_empty()) }).await.unwrap();
    wait_until("the commitment to wait for its block", || async {
        Ok(!harness::mempool(&pair.alice).await.is_empty())
    })
    .await
    .unwrap();
    mine_to(expiry + 288 + DEEP + 1).await;
    wait_until("the payment to end", || async { Ok(state().await == PaymentStatus::Failed) }).await.unwrap();
    while let Some(update) = updates.message().await.unwrap() {
        assert_ne!(update.status(), PaymentStatus::Succeeded);
    }
    // It may be tried again; there is no channel now.
    let again = pay(&pair.alice, to(added.payment_request)).await.unwrap();
    assert_eq!(again.status(), PaymentStatus::Failed, "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_htlcs_ended_is_kept_where_that_is_set_and_missed_invoices_come_in_the_order_of_their_settlement() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let mut pair = Pair::with_channel(1_000_000, 0).await;
    let lookup = |node: &DaemonProcess, chan_id, htlc_index| {
        let mut lightning = node.client().unwrap().lightning();
        async move {
            let request = LookupHtlcResolutionRequest { chan_id, htlc_index };
            lightning.lookup_htlc_resolution(request).await.map(tonic::Response::into_inner)
        }
    };
    let id = pair.bob.only_channel().await.unwrap().chan_id;
    refused(
        lookup(&pair.bob, id, 0).await,
        Code::Unavailable,
        "cannot lookup with flag --store-final-htlc-resolutions=false",
    );
    pair.bob.terminate();
    std::fs::write(pair.bob.data_dir().join("leyden.toml"), "store-final-htlc-resolutions = true\n").unwrap();
    pair.bob.start().await.unwrap();
    pair.wait_for_channels(1).await;
    let bob = pair.bob.client().unwrap();
    let info = bob.lightning().get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert!(info.store_final_htlc_resolutions);
    refused(lookup(&pair.bob, id, 0).await, Code::NotFound, "htlc unknown");

    let mut events = bob.router().subscribe_htlc_events(SubscribeHtlcEventsRequest {}).await.unwrap().into_inner();
    let mut requests = Vec::new();
    for _ in 0..3 {
        requests.push(invoice(&pair.bob, Invoice { value: 1_000, ..Invoice::default() }).await);
    }
    for at in [0, 2, 1] {
        let paid = pay(&pair.alice, to(requests[at].clone())).await.unwrap();
        assert_eq!(paid.status(), PaymentStatus::Succeeded, "{paid:?}");
    }
    // One that Bob does not know any more.
    let unknown = PayReqString { pay_req: requests[0].clone() };
    let known = bob.lightning().decode_pay_req(unknown).await.unwrap().into_inner();
    let wrong = SendPaymentRequest {
        dest: hex::decode(&known.destination).unwrap(),
        payment_hash: vec![9; 32],
        payment_addr: known.payment_addr,
        amt: 1_000,
        ..SendPaymentRequest::default()
    };
    assert_eq!(pay(&pair.alice, wrong).await.unwrap().status(), PaymentStatus::Failed);
    wait_until("the last HTLC to be gone for good", || async { Ok(lookup(&pair.bob, id, 3).await.is_ok()) })
        .await
        .unwrap();
    for (index, settled) in [(0, true), (1, true), (2, true), (3, false)] {
        let end = lookup(&pair.bob, id, index).await.unwrap();
        assert_eq!((end.settled, end.offchain), (settled, true), "{index}");
    }
    let mut told = Vec::new();
    while told.len() < 4 {
        let event = events.message().await.unwrap().expect("events go on");
        if let Some(Event::FinalHtlcEvent(end)) = &event.event {
            assert_eq!((event.incoming_channel_id, event.event_type), (id, 0));
            told.push((event.incoming_htlc_id, end.settled, end.offchain));
        }
    }
    assert_eq!(told, [(0, true, true), (1, true, true), (2, true, true), (3, false, true)]);

    // Whoever has heard of the first that was settled.
    let missed = InvoiceSubscription { settle_index: 1, ..InvoiceSubscription::default() };
    let mut missed = bob.lightning().subscribe_invoices(missed).await.unwrap().into_inner();
    for (add_index, settle_index) in [(3, 2), (2, 3)] {
        let invoice = missed.message().await.unwrap().expect("an invoice");
        assert_eq!((invoice.add_index, invoice.settle_index), (add_index, settle_index));
    }
    // What was added comes first, as it is now.
    let missed = InvoiceSubscription { add_index: 1, settle_index: 1 };
    let mut missed = bob.lightning().subscribe_invoices(missed).await.unwrap().into_inner();
    for add_index in [2, 3, 3, 2] {
        assert_eq!(missed.message().await.unwrap().expect("an invoice").add_index, add_index);
    }
    // It is there after the channel and a restart, under the name that the channel had.
    pair.mine(1).await;
    let point = pair.bob.only_channel().await.unwrap().channel_point;
    pair.bob.close_channel(&point, false).await.unwrap();
    pair.mine(DEEP).await;
    wait_until("the channel to be closed", || async { Ok(pair.bob.closed_channels().await?.len() == 1) })
        .await
        .unwrap();
    assert!(lookup(&pair.bob, id, 2).await.unwrap().settled);
}
