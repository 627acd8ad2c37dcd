//! A node with watchtowers, all real processes: what is covered, a cheater who meets the tower alone, a tower that is away, and
//! one that has lost what it signed for.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::fs;

use harness::{Folder, assert_calm, leyden, run_leyden, running, scrape::scrape};
use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::{
        calls::succeeded,
        guarded::{Guarded, HeldPayment, Opening},
    },
};
use leyden_common::layout::Layout;
use leyden_proto::{
    leyden::ChannelCoverage,
    lnrpc::{CommitmentType, payment::PaymentStatus},
};
use tokio::task::JoinSet;

const OPENING: Opening =
    Opening { capacity: 5_000_000, pushed: 2_000_000, commitment_type: CommitmentType::UnknownCommitmentType };
/// More than any number of claims costs at the lowest rates, and less than any output that they take.
const FEES: i64 = 60_000;

/// With the channel, and the tower added (`own`: as Alice's).
async fn guarded(folder: &Folder, alice_flags: &[&str], own: bool) -> Guarded {
    let mut all = Guarded::start(folder.path(), alice_flags).await.unwrap();
    all.open(OPENING).await.unwrap();
    all.add_tower(own).await.unwrap();
    all
}

async fn pay(from: &DaemonProcess, to: &DaemonProcess, amount: i64) {
    let invoice = to.invoice(amount, "").await.unwrap();
    assert!(succeeded(&from.pay(invoice).await.unwrap()));
}

async fn coverage(node: &DaemonProcess) -> ChannelCoverage {
    let [channel] = node.coverage().await.unwrap().try_into().unwrap();
    channel
}

fn assert_all_calm(all: &Guarded) {
    for node in [&all.alice, &all.bob, &all.tower] {
        assert_calm(node.name(), &node.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tower_covers_is_shown_and_outlives_both() {
    let folder = Folder::new();
    let mut all = guarded(&folder, &[], false).await;
    for amount in [100_000, 50_000] {
        pay(&all.alice, &all.bob, amount).await;
        pay(&all.bob, &all.alice, 30_000).await;
    }
    let channel = all.wait_until_covered().await.unwrap();
    let [at] = channel.towers.as_slice() else { panic!("{channel:?}") };
    assert_eq!((at.first, at.up_to, at.waiting), (Some(0), channel.revoked, 0));
    assert_eq!((at.receipts.len(), at.receipts[0].signature.len()), (1, 128));

    // A revocation may still follow the last payment's end.
    let said = leyden(all.alice.data_dir(), &["tower", "audit", &all.alice.the_tower().await.unwrap().pubkey]);
    let (_, to) = said.split_once("it has every state from 0 to ").unwrap_or_else(|| panic!("{said}"));
    let to: u64 = to.split_whitespace().next().unwrap().parse().unwrap();
    assert!(Some(to) >= channel.revoked, "{said}");
    all.wait_until_covered().await.unwrap();
    let table = leyden(all.alice.data_dir(), &["tower", "coverage"]);
    assert!(table.contains("yes"), "{table}");
    assert!(leyden(all.alice.data_dir(), &["listchannels"]).contains("watchtowers: covered"));

    // Both are killed, and go on where they were.
    all.alice.kill();
    all.tower.kill();
    all.alice.start().await.unwrap();
    let kept = coverage(&all.alice).await;
    assert!(kept.towers[0].up_to >= at.up_to && kept.towers[0].receipts.len() == 1, "{kept:?}");
    let warnings = leyden(all.alice.data_dir(), &["getinfo"]);
    assert_eq!(warnings.contains("is not covered by any watchtower"), !kept.covered, "{warnings}");
    all.alice.wait_for_active_channels(1).await.unwrap();
    pay(&all.bob, &all.alice, 20_000).await;
    wait_until("a state to wait for the tower", || async { Ok(all.alice.the_tower().await?.states_waiting > 0) })
        .await
        .unwrap();
    let warnings = leyden(all.alice.data_dir(), &["getinfo"]);
    assert!(warnings.contains("is not covered by any watchtower"), "{warnings}");
    all.tower.start().await.unwrap();
    let channel = all.wait_until_covered().await.unwrap();
    assert_eq!((channel.towers[0].first, channel.towers[0].receipts.len()), (Some(0), 1), "one chain of receipts");

    // A tower that is removed is not waited for, and leaves nothing.
    leyden(all.alice.data_dir(), &["tower", "remove", &all.alice.the_tower().await.unwrap().pubkey]);
    assert!(leyden(all.alice.data_dir(), &["tower", "list"]).contains("No watchtower"));
    assert!(!leyden(all.alice.data_dir(), &["listchannels"]).contains("watchtowers"));
    pay(&all.bob, &all.alice, 20_000).await;
    assert_all_calm(&all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_tower_that_is_away_holds_payments_up_and_not_for_longer() {
    let folder = Folder::new();
    let mut all = guarded(&folder, &["--tower-require", "1"], false).await;
    pay(&all.alice, &all.bob, 100_000).await;
    all.wait_until_covered().await.unwrap();
    all.tower.kill();
    let mut paying = JoinSet::new();
    for _ in 0..4 {
        let invoice = all.bob.invoice(50_000, "").await.unwrap();
        let mut router = all.alice.client().unwrap().router();
        paying.spawn(async move {
            let request = leyden_proto::routerrpc::SendPaymentRequest {
                payment_request: invoice,
                timeout_seconds: 600,
                fee_limit_sat: 10,
                no_inflight_updates: true,
                ..Default::default()
            };
            let mut updates = router.send_payment_v2(request).await.unwrap().into_inner();
            let mut status = PaymentStatus::InFlight;
            while let Some(update) = updates.message().await.unwrap() {
                status = update.status();
            }
            status
        });
        // Not all in one commitment.
        wait_until("an HTLC to be under way, or through", || async {
            let channel = all.alice.only_channel().await?;
            let waits = coverage(&all.alice).await.towers[0].waiting > 0;
            Ok(waits || !channel.pending_htlcs.is_empty())
        })
        .await
        .unwrap();
    }
    wait_until("a state to wait for the tower", || async { Ok(coverage(&all.alice).await.towers[0].waiting > 0) })
        .await
        .unwrap();
    // At most one revoked state is ever without its tower, whatever is asked for.
    for _ in 0..20 {
        assert!(coverage(&all.alice).await.towers[0].waiting <= 1);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let channel = all.alice.only_channel().await.unwrap();
    assert!(
        channel.remote_balance < OPENING.pushed + 100_000 + 4 * 50_000,
        "four payments need more than one: {channel:?}"
    );
    all.tower.start().await.unwrap();
    while let Some(status) = paying.join_next().await {
        assert_eq!(status.unwrap(), PaymentStatus::Succeeded);
    }
    all.wait_until_covered().await.unwrap();
}

async fn cheated(own: bool) {
    let folder = Folder::new();
    let mut all = guarded(&folder, &[], own).await;
    let client = all.alice.the_tower().await.unwrap().client_pubkey;
    let mut add = vec!["tower", "add", all.tower_at.as_str()];
    if own {
        add.insert(2, "--own");
    }
    // Adding it again changes nothing.
    let said = leyden(all.alice.data_dir(), &add);
    assert_eq!(said.contains(&format!("--tower-allow {client}")), own, "{said}");
    pay(&all.alice, &all.bob, 100_000).await;
    // An HTLC in the state that Bob will publish: Alice's to him.
    let payment = HeldPayment::new(7, 400_000);
    let paying = all.hold(&[payment], &[]).await.unwrap();

    // Bob's disk is copied; then he lives on, and what the copy has is revoked.
    all.keep_bobs_past().unwrap();
    all.bob.start().await.unwrap();
    all.bob.wait_for_active_channels(1).await.unwrap();
    all.bob.settle(&[payment]).await.unwrap();
    paying.join_all().await;
    pay(&all.bob, &all.alice, 1_500_000).await;
    pay(&all.bob, &all.alice, 10_000).await;
    all.wait_until_covered().await.unwrap();
    let channel = all.alice.only_channel().await.unwrap();
    let balance = all.alice.wallet_balance().await.unwrap();

    // Alice is gone. Bob puts the copy back, and closes with the old state before everybody's eyes.
    all.alice_dies_and_bob_goes_back().await.unwrap();
    all.bob_shows_his_blocks().await.unwrap();
    all.bob.close_channel(&channel.channel_point, true).await.unwrap();
    wait_until("the old commitment to reach the tower's node", || async {
        Ok(!all.tower.waiting_txids().await?.is_empty())
    })
    .await
    .unwrap();
    all.mine(1).await.unwrap();

    // The tower acts alone, until nothing is left to claim.
    all.let_the_tower_act().await.unwrap();

    all.alice.start().await.unwrap();
    all.alice.wait_for_height(harness::height(&all.tower).await).await.unwrap();
    wait_until("all of the channel to be Alice's", || async {
        Ok(all.alice.wallet_balance().await? >= balance + OPENING.capacity - FEES)
    })
    .await
    .unwrap();
    let page = scrape(running(&all.tower).metrics.unwrap()).await;
    let mode = if own { "own" } else { "blind" };
    assert_eq!(page.get(&format!("leyden_tower_breaches_total{{mode=\"{mode}\"}}")), 1.0);
    assert_eq!((page.sum("leyden_tower_breaches_total"), page.get("leyden_tower_open_breaches")), (1.0, 1.0));
    assert!(page.get("leyden_tower_broadcasts_total") >= 1.0);
    assert!(page.get("leyden_tower_penalty_outputs{status=\"confirmed\"}") >= 1.0);
    assert_eq!(page.get("leyden_tower_penalty_outputs{status=\"lost\"}"), 0.0);
    assert_all_calm(&all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_tower_takes_everything_from_a_cheater() {
    cheated(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tower_of_ones_own_takes_everything_from_a_cheater() {
    cheated(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tower_that_has_lost_what_it_signed_for_is_shown_by_its_own_words() {
    let folder = Folder::new();
    let mut all = guarded(&folder, &[], false).await;
    pay(&all.alice, &all.bob, 100_000).await;
    all.wait_until_covered().await.unwrap();
    // Its disk is set back to before it had anything, but it keeps its key.
    all.tower.terminate();
    let store = Layout::new(all.tower.data_dir().to_owned(), "regtest").tower_database();
    assert!(store.is_dir(), "the tower's database");
    fs::remove_dir_all(&store).unwrap();
    all.tower.start().await.unwrap();
    let pubkey = all.alice.the_tower().await.unwrap().pubkey;
    wait_until("the tower to be convicted", || async { Ok(all.alice.the_tower().await?.proof.is_some()) })
        .await
        .unwrap();
    let info = leyden(all.alice.data_dir(), &["getinfo"]);
    assert!(info.contains(&format!("watchtower {pubkey} broke its word")), "{info}");
    let refused = run_leyden(all.alice.data_dir(), &["tower", "coverage"]);
    assert!(String::from_utf8_lossy(&refused.stdout).contains("it broke its word"), "{refused:?}");
}
