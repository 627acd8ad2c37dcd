//! Held invoices and payments that nobody asked for, between two daemons.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use harness::Pair;
use leyden_channels::types::PaymentPreimage;
use leyden_client::cluster::{DaemonProcess, wait_until};
use leyden_proto::{
    invoicesrpc::{AddHoldInvoiceRequest, CancelInvoiceMsg, SettleInvoiceMsg, SubscribeSingleInvoiceRequest},
    lnrpc::{ListInvoiceRequest, PaymentFailureReason, PaymentHash, invoice::InvoiceState, payment::PaymentStatus},
    routerrpc::{SendPaymentRequest, TrackPaymentRequest},
};

const SAT: i64 = 10_000;

fn preimage(byte: u8) -> PaymentPreimage {
    PaymentPreimage([byte; 32])
}

/// Bob's invoice, on its way to be paid by Alice.
async fn pay_held(pair: &Pair, byte: u8) {
    let hash = preimage(byte).hash().0.to_vec();
    let request = AddHoldInvoiceRequest { hash: hash.clone(), value: SAT, ..Default::default() };
    let added = pair.bob.client().unwrap().invoices().add_hold_invoice(request).await.unwrap().into_inner();
    let request =
        SendPaymentRequest { payment_request: added.payment_request, timeout_seconds: 60, ..Default::default() };
    let mut updates = pair.alice.client().unwrap().router().send_payment_v2(request).await.unwrap().into_inner();
    assert!(updates.message().await.unwrap().is_some());
    wait_until("the payment to be held", || async { Ok(state(&pair.bob, &hash).await == InvoiceState::Accepted) })
        .await
        .unwrap();
}

async fn state(node: &DaemonProcess, hash: &[u8]) -> InvoiceState {
    let request = PaymentHash { r_hash: hash.to_vec(), ..Default::default() };
    node.client().unwrap().lightning().lookup_invoice(request).await.unwrap().into_inner().state()
}

async fn end(pair: &Pair, byte: u8) -> (PaymentStatus, PaymentFailureReason) {
    let payment_hash = preimage(byte).hash().0.to_vec();
    let request = TrackPaymentRequest { payment_hash, no_inflight_updates: true };
    let mut updates = pair.alice.client().unwrap().router().track_payment_v2(request).await.unwrap().into_inner();
    let payment = updates.message().await.unwrap().unwrap();
    (payment.status(), payment.failure_reason())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_payment_is_taken_after_both_nodes_have_been_killed() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let mut pair = Pair::with_channel(1_000_000, 0).await;
    pay_held(&pair, 1).await;
    let hash = preimage(1).hash().0.to_vec();
    let invoices = |pair: &Pair| pair.bob.client().unwrap().invoices();
    let request = SubscribeSingleInvoiceRequest { r_hash: hash.clone() };
    let mut updates = invoices(&pair).subscribe_single_invoice(request.clone()).await.unwrap().into_inner();
    assert_eq!(updates.message().await.unwrap().unwrap().state(), InvoiceState::Accepted);

    pair.bob.kill();
    pair.alice.kill();
    pair.alice.start().await.unwrap();
    pair.bob.start().await.unwrap();
    pair.wait_for_channels(1).await;
    assert_eq!(state(&pair.bob, &hash).await, InvoiceState::Accepted);
    let mut updates = invoices(&pair).subscribe_single_invoice(request).await.unwrap().into_inner();
    assert_eq!(updates.message().await.unwrap().unwrap().state(), InvoiceState::Accepted);
    let settle = SettleInvoiceMsg { preimage: preimage(1).0.to_vec() };
    invoices(&pair).settle_invoice(settle.clone()).await.unwrap();
    assert_eq!(end(&pair, 1).await.0, PaymentStatus::Succeeded);
    let settled = updates.message().await.unwrap().unwrap();
    assert_eq!((settled.state(), settled.amt_paid_sat, settled.htlcs.len()), (InvoiceState::Settled, SAT, 1));
    assert!(updates.message().await.unwrap().is_none(), "the stream ends with the invoice");
    let (_, bob) = pair.settled_channel().await;
    assert_eq!(bob.local_balance, SAT);
    invoices(&pair).settle_invoice(settle).await.unwrap();
    let cancel = invoices(&pair).cancel_invoice(CancelInvoiceMsg { payment_hash: hash }).await.unwrap_err();
    assert_eq!(cancel.code(), tonic::Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_payment_goes_back_when_it_is_refused_or_time_runs_out() {
    let pair = Pair::with_channel(1_000_000, 0).await;
    pay_held(&pair, 2).await;
    let hash = preimage(2).hash().0.to_vec();
    let mut invoices = pair.bob.client().unwrap().invoices();
    invoices.cancel_invoice(CancelInvoiceMsg { payment_hash: hash.clone() }).await.unwrap();
    let refused = (PaymentStatus::Failed, PaymentFailureReason::FailureReasonIncorrectPaymentDetails);
    assert_eq!(end(&pair, 2).await, refused);
    let late = invoices.settle_invoice(SettleInvoiceMsg { preimage: preimage(2).0.to_vec() }).await.unwrap_err();
    assert_eq!(late.code(), tonic::Code::FailedPrecondition);

    pay_held(&pair, 3).await;
    let expiry = pair.alice.only_channel().await.unwrap().pending_htlcs[0].expiration_height;
    let height = harness::height(&pair.bob).await;
    pair.mine(expiry - height - 16).await;
    assert_eq!(end(&pair, 3).await, refused);
    assert_eq!(state(&pair.bob, &preimage(3).hash().0).await, InvoiceState::Canceled);
    let (alice, bob) = pair.settled_channel().await;
    assert!(alice.active && bob.local_balance == 0, "nobody had to close the channel");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_without_an_invoice_is_taken_only_by_a_node_that_says_so() {
    let folder = harness::Folder::new();
    let mut alice = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
    alice.start().await.unwrap();
    let chain = harness::chain(&alice);
    let mut bob = DaemonProcess::new(folder.path(), "bob", &["--accept-keysend", "--chain-connect", &chain]).unwrap();
    bob.start().await.unwrap();
    let pair = Pair { alice, bob, folder };
    pair.alice.mine(1, None).await.unwrap();
    pair.mine(harness::MATURE).await;
    pair.alice.connect(&pair.bob).await.unwrap();
    pair.alice.open_channel(&pair.bob, 1_000_000, 500_000).await.unwrap();
    pair.mine(harness::DEEP).await;
    pair.wait_for_channels(1).await;

    for (from, to, taken) in [(&pair.alice, &pair.bob, true), (&pair.bob, &pair.alice, false)] {
        let request = SendPaymentRequest {
            dest: hex::decode(to.node_id().await.unwrap()).unwrap(),
            amt: SAT,
            payment_hash: preimage(4).hash().0.to_vec(),
            final_cltv_delta: 80,
            dest_custom_records: [(5_482_373_484, preimage(4).0.to_vec()), (70_001, b"hello".to_vec())].into(),
            timeout_seconds: 30,
            no_inflight_updates: true,
            ..Default::default()
        };
        let mut updates = from.client().unwrap().router().send_payment_v2(request).await.unwrap().into_inner();
        let payment = updates.message().await.unwrap().unwrap();
        let expected = if taken { PaymentStatus::Succeeded } else { PaymentStatus::Failed };
        assert_eq!(payment.status(), expected, "{payment:?}");
    }
    let list = pair.bob.client().unwrap().lightning().list_invoices(ListInvoiceRequest::default()).await.unwrap();
    let [invoice] = &list.into_inner().invoices[..] else { panic!("one invoice") };
    assert!(invoice.is_keysend && invoice.state() == InvoiceState::Settled);
    assert_eq!((invoice.amt_paid_sat, invoice.htlcs[0].custom_records[&70_001].as_slice()), (SAT, &b"hello"[..]));
}
