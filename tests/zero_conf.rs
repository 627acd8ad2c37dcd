//! A channel that pays before its funding transaction is confirmed, because its other end trusts the funder:
//! Carol – Alice – Bob, where Bob trusts Alice.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use harness::{DEEP, Folder, MATURE, assert_calm, chain, leyden, network::mine, open_request, refused};
use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::calls::settled_balance,
};
use leyden_proto::lnrpc::{Channel, Invoice, OpenChannelRequest, Payment, payment::PaymentStatus};
use tonic::Code;

const CAPACITY: i64 = 1_000_000;
const PUSHED: i64 = 300_000;
/// Somebody who is never met: who names anybody offers `option_zeroconf`.
const STRANGER: &str = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5";

async fn unconfirmed(to: &DaemonProcess) -> OpenChannelRequest {
    OpenChannelRequest { zero_conf: true, private: true, ..open_request(to, CAPACITY, PUSHED).await }
}

/// Pays an invoice that tells of the payee's private channels.
async fn pay(payer: &DaemonProcess, payee: &DaemonProcess, value: i64) {
    let invoice = Invoice { value, private: true, ..Invoice::default() };
    let invoice = payee.client().unwrap().lightning().add_invoice(invoice).await.unwrap().into_inner();
    let paid: Payment = payer.pay(invoice.payment_request).await.unwrap();
    assert_eq!(paid.status(), PaymentStatus::Succeeded, "{} to {}: {paid:?}", payer.name(), payee.name());
}

/// The channel between two nodes, as the first sees it.
async fn between(node: &DaemonProcess, peer: &DaemonProcess) -> Option<Channel> {
    let peer = peer.node_id().await.unwrap();
    node.channels().await.unwrap().into_iter().find(|channel| channel.remote_pubkey == peer)
}

async fn wait_until_active(node: &DaemonProcess, peer: &DaemonProcess) {
    let is_active = async || Ok(between(node, peer).await.is_some_and(|channel| channel.active));
    wait_until("the channel to be active", is_active).await.unwrap();
}

/// What a node has in its channels.
async fn owned(node: &DaemonProcess) -> i64 {
    node.channels().await.unwrap().iter().map(|channel| channel.local_balance).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_of_a_trusted_funder_carries_payments_before_and_after_its_first_block() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let folder = Folder::new();
    // Alice and Bob both know option_zeroconf, so the channel's type says it.
    let mut alice = DaemonProcess::new(folder.path(), "alice", &["--zero-conf-peer", STRANGER]).unwrap();
    alice.start().await.unwrap();
    let follow = chain(&alice);
    let trusted = alice.node_id().await.unwrap();
    let mut bob =
        DaemonProcess::new(folder.path(), "bob", &["--chain-connect", &follow, "--zero-conf-peer", &trusted]).unwrap();
    let mut carol = DaemonProcess::new(folder.path(), "carol", &["--chain-connect", &follow]).unwrap();
    bob.start().await.unwrap();
    carol.start().await.unwrap();
    alice.mine(2, None).await.unwrap();
    alice.mine(MATURE, Some(leyden_client::demo::NOBODY)).await.unwrap();

    alice.connect(&carol).await.unwrap();
    let lightning = || alice.client().unwrap().lightning();
    let refusal = lightning().open_channel(unconfirmed(&carol).await).await;
    refused(refusal.map(drop), Code::FailedPrecondition, "waits for 3 confirmations");
    alice.open_channel(&carol, CAPACITY, CAPACITY / 2).await.unwrap();
    let mut nodes = vec![alice, bob, carol];
    mine(&nodes, DEEP).await;
    let [alice, bob, carol] = &mut nodes[..] else { panic!() };
    wait_until_active(alice, carol).await;
    wait_until_active(carol, alice).await;

    let opened = leyden(
        alice.data_dir(),
        &[
            "openchannel",
            &format!("{}@{}", bob.node_id().await.unwrap(), bob.lightning_address().unwrap()),
            &CAPACITY.to_string(),
            &PUSHED.to_string(),
            "--private",
            "--zero-conf",
            "--wait",
        ],
    );
    assert!(opened.contains("the channel is open"), "{opened}");
    wait_until_active(bob, alice).await;
    let before = owned(alice).await;
    for _ in 0..2 {
        let channel = between(bob, alice).await.unwrap();
        assert!(channel.zero_conf && channel.private && channel.zero_conf_confirmed_scid == 0, "{channel:?}");
        pay(alice, bob, 10_000).await;
        pay(bob, alice, 5_000).await;
        // Over a channel that has no place in the chain yet: the invoice calls it by its alias.
        pay(carol, bob, 20_000).await;
        pay(bob, carol, 7_000).await;
        // What was not confirmed is as good after a crash.
        bob.kill();
        alice.kill();
        alice.start().await.unwrap();
        bob.start().await.unwrap();
        alice.connect(bob).await.unwrap();
        alice.connect(carol).await.unwrap();
        wait_until_active(alice, bob).await;
        wait_until_active(alice, carol).await;
        wait_until_active(bob, alice).await;
        wait_until_active(carol, alice).await;
    }

    mine(&nodes, DEEP).await;
    let [alice, bob, carol] = &mut nodes[..] else { panic!() };
    for (node, peer) in [(&*alice, &*bob), (&*bob, &*alice)] {
        let channel = between(node, peer).await.unwrap();
        assert!(channel.zero_conf && channel.zero_conf_confirmed_scid == channel.chan_id, "{channel:?}");
        assert_eq!(channel.chan_id >> 40, u64::from(node.height().await.unwrap()) - u64::from(DEEP) + 1);
    }
    pay(carol, bob, 20_000).await;
    pay(bob, carol, 7_000).await;
    let after = owned(alice).await;
    // Alice paid 10,000 and got 5,000 twice, and earned a fee for each of six payments that she handed on.
    let earned = after - before + 2 * (10_000 - 5_000);
    assert!((6..=8).contains(&earned), "{earned}");

    let wallet = bob.wallet_balance().await.unwrap();
    let channel = between(bob, alice).await.unwrap();
    bob.close_channel(&channel.channel_point, false).await.unwrap();
    mine(&nodes, DEEP).await;
    let bob = &nodes[1];
    let expected = wallet + channel.local_balance;
    assert_eq!(settled_balance(bob, expected).await.unwrap(), expected);
    for node in &nodes {
        assert_calm(node.name(), &node.log());
    }
}
