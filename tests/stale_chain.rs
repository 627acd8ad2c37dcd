//! A node that does not know how far the chain is: it promises nothing, says why, and loses nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::path::Path;

use harness::{DEEP, Folder, MATURE, chain, height, leyden, line::Line, mempool, open_request, refused};
use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::NOBODY,
};
use leyden_proto::{
    leyden::{GenerateRequest, GetTipRequest},
    lnrpc::{
        GetInfoRequest, Invoice, Payment, PaymentHash, htlc_attempt::HtlcStatus, invoice::InvoiceState,
        payment::PaymentStatus,
    },
    routerrpc::SendPaymentRequest,
};
use tokio::task::JoinHandle;
use tonic::Code;

const CAPACITY: i64 = 1_000_000;
const SAT: i64 = 100_000;
/// More than an HTLC to Carol lives, less than that of Alice for it.
const CUT_BLOCKS: u32 = 100;

async fn start(folder: &Path, name: &str, flags: &[&str]) -> DaemonProcess {
    let mut node = DaemonProcess::new(folder, name, flags).unwrap();
    node.start().await.unwrap();
    node
}

async fn invoice(node: &DaemonProcess, cltv_expiry: u64) -> (Vec<u8>, String) {
    let request = Invoice { value: SAT, cltv_expiry, private: true, ..Invoice::default() };
    let added = node.client().unwrap().lightning().add_invoice(request).await.unwrap().into_inner();
    (added.r_hash, added.payment_request)
}

async fn invoice_state(node: &DaemonProcess, hash: &[u8]) -> InvoiceState {
    let request = PaymentHash { r_hash: hash.to_vec(), ..PaymentHash::default() };
    node.client().unwrap().lightning().lookup_invoice(request).await.unwrap().into_inner().state()
}

/// Pays; gives the payment's end.
fn pay(from: &DaemonProcess, payment_request: String) -> JoinHandle<Payment> {
    let router = from.client().unwrap().router();
    tokio::spawn(async move {
        let mut router = router;
        let request = SendPaymentRequest {
            payment_request,
            timeout_seconds: 60,
            fee_limit_sat: 10_000,
            no_inflight_updates: true,
            ..SendPaymentRequest::default()
        };
        let mut updates = router.send_payment_v2(request).await.unwrap().into_inner();
        updates.message().await.unwrap().expect("the end of a payment")
    })
}

async fn is_synced(node: &DaemonProcess) -> bool {
    node.client().unwrap().lightning().get_info(GetInfoRequest {}).await.unwrap().into_inner().synced_to_chain
}

async fn doubt(node: &DaemonProcess) -> String {
    node.client().unwrap().chain().get_tip(GetTipRequest {}).await.unwrap().into_inner().doubt
}

async fn pending_htlcs(node: &DaemonProcess) -> usize {
    node.channels().await.unwrap().iter().map(|channel| channel.pending_htlcs.len()).sum()
}

/// Alice – Bob – Carol. Bob and Carol have the chain from Alice, Bob over a line that can be cut.
struct World {
    alice: DaemonProcess,
    line: Line,
    bob: DaemonProcess,
    carol: DaemonProcess,
    folder: Folder,
}

impl World {
    async fn new() -> Self {
        let folder = Folder::new();
        let alice = start(folder.path(), "alice", &[]).await;
        let line = Line::to(chain(&alice)).await.unwrap();
        let bob = start(folder.path(), "bob", &["--chain-connect", &line.address()]).await;
        let carol = start(folder.path(), "carol", &["--chain-connect", &chain(&alice)]).await;
        let world = Self { alice, line, bob, carol, folder };
        for node in [&world.alice, &world.bob] {
            world.alice.mine(1, Some(&node.new_address().await.unwrap())).await.unwrap();
        }
        world.mine(MATURE).await;
        for (from, to) in [(&world.alice, &world.bob), (&world.bob, &world.carol)] {
            from.connect(to).await.unwrap();
            from.open_channel(to, CAPACITY, 0).await.unwrap();
        }
        world.mine(DEEP).await;
        for (node, channels) in [(&world.alice, 1), (&world.bob, 2), (&world.carol, 1)] {
            node.wait_for_active_channels(channels).await.unwrap();
        }
        world
    }

    async fn mine(&self, blocks: u32) {
        wait_until("all mempools to be the same", || async {
            Ok(mempool(&self.alice).await == mempool(&self.bob).await)
        })
        .await
        .unwrap();
        self.alice.mine(blocks, Some(NOBODY)).await.unwrap();
        let height = height(&self.alice).await;
        for node in [&self.alice, &self.bob, &self.carol] {
            node.wait_for_height(height).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_cut_from_the_chain_forwards_nothing_and_gives_no_preimage() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let world = World::new().await;
    // Carol tells of her channel once she knows Bob's terms.
    wait_until("a first payment to arrive", || async {
        let (_, request) = invoice(&world.carol, 0).await;
        Ok(pay(&world.alice, request).await.unwrap().status() == PaymentStatus::Succeeded)
    })
    .await
    .unwrap();

    world.line.cut();
    wait_until("Bob to have doubts", || async { Ok(!is_synced(&world.bob).await) }).await.unwrap();
    let info = leyden(world.bob.data_dir(), &["getinfo"]);
    assert!(info.contains("the last chain peer was lost"), "{info}");
    let call =
        world.bob.client().unwrap().lightning().open_channel(open_request(&world.carol, CAPACITY, 0).await).await;
    refused(call, Code::Unavailable, "The last chain peer was lost");

    let (_, to_carol) = invoice(&world.carol, 18).await;
    let (hash, to_bob) = invoice(&world.bob, 120).await;
    let (over, here) = (pay(&world.alice, to_carol), pay(&world.alice, to_bob));
    wait_until("both HTLCs to be with Bob", || async { Ok(pending_htlcs(&world.bob).await == 2) }).await.unwrap();
    world.alice.mine(CUT_BLOCKS, Some(NOBODY)).await.unwrap();
    world.carol.wait_for_height(height(&world.alice).await).await.unwrap();
    assert_eq!(pending_htlcs(&world.bob).await, 2, "neither forwarded nor answered");
    assert_eq!(pending_htlcs(&world.carol).await, 0);
    assert_eq!(invoice_state(&world.bob, &hash).await, InvoiceState::Open);

    world.line.mend();
    world.bob.wait_for_height(height(&world.alice).await).await.unwrap();
    // Bob says his height, and Alice tries again.
    let here = here.await.unwrap();
    assert_eq!(here.htlcs[0].status(), HtlcStatus::Failed);
    assert_eq!(here.status(), PaymentStatus::Succeeded);
    assert_eq!(invoice_state(&world.bob, &hash).await, InvoiceState::Settled);
    assert_eq!(over.await.unwrap().htlcs[0].status(), HtlcStatus::Failed);
    let (_, request) = invoice(&world.carol, 0).await;
    assert_eq!(pay(&world.alice, request).await.unwrap().status(), PaymentStatus::Succeeded);
    let (_, request) = invoice(&world.bob, 0).await;
    assert_eq!(pay(&world.alice, request).await.unwrap().status(), PaymentStatus::Succeeded);
    for node in [&world.alice, &world.bob, &world.carol] {
        assert!(node.channels().await.unwrap().iter().all(|channel| channel.active), "nobody closed");
    }
    drop(world.folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_days_slow_is_named_with_its_hours() {
    let folder = Folder::new();
    let mut alice = start(folder.path(), "alice", &[]).await;
    alice.mine(20, None).await.unwrap();
    let shift = "--regtest-clock-shift=-259200";
    let bob = start(folder.path(), "bob", &["--chain-connect", &chain(&alice), shift]).await;
    wait_until("Bob to see that his clock is wrong", || async {
        Ok(doubt(&bob).await.contains("72 hours behind those of its chain peers"))
    })
    .await
    .unwrap();
    assert!(!is_synced(&bob).await);
    assert_eq!(height(&bob).await, 0, "he refuses every block");
    wait_until("the log to say it", || async { Ok(bob.log().contains("72 hours behind")) }).await.unwrap();

    // The clock of a node alone is set back: it says so, instead of looking for a block that it would refuse.
    alice.terminate();
    let alice = start(folder.path(), "alice", &[shift]).await;
    assert!(doubt(&alice).await.contains("behind the chain's latest block"), "{}", doubt(&alice).await);
    assert!(!is_synced(&alice).await);
    let request = GenerateRequest { blocks: 1, address: NOBODY.to_owned() };
    let mut blocks = alice.client().unwrap().chain().generate(request).await.unwrap().into_inner();
    refused(blocks.message().await, Code::FailedPrecondition, "hours behind the chain");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_mines_alone_on_regtest_has_no_doubts() {
    let folder = Folder::new();
    let mut alice = start(folder.path(), "alice", &[]).await;
    let bob = start(folder.path(), "bob", &["--chain-connect", &chain(&alice)]).await;
    alice.mine(3, None).await.unwrap();
    bob.wait_for_height(3).await.unwrap();
    alice.kill();
    wait_until("Bob to have doubts", || async { Ok(!is_synced(&bob).await) }).await.unwrap();
    bob.mine(1, None).await.unwrap();
    bob.wait_for_height(4).await.unwrap();
    assert!(doubt(&bob).await.is_empty());
}
