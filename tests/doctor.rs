//! `leyden doctor` on real nodes that are broken in real ways: sixteen of them, each made here and found by its words.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use leyden_channels::types::PaymentPreimage;
use leyden_client::cluster::{DaemonProcess, wait_until};
use leyden_common::layout::Layout;
use leyden_proto::{
    invoicesrpc::AddHoldInvoiceRequest,
    lnrpc::{GenSeedRequest, InitWalletRequest},
    routerrpc::SendPaymentRequest,
};
use serde_json::Value;

use harness::{DEEP, Folder, MATURE, Pair, Program, chain, leyden, mempool, run_leyden};

/// A private chain whose only block is years old, as after years without a node.
const OLD_CHAIN: &str = r#"
name = "harbour"
magic = "68617262"
spacing = 60
[genesis]
message = "Two ships met at the quay"
time = 1600000000
"#;
/// More addresses in a row that nobody has paid than a restore likes to look at.
const UNPAID_ADDRESSES: usize = 220;
/// Blocks that a payment has left, so few that its channel will be closed for it.
const NEARLY_OVER: u32 = 10;

/// What was found to be wrong or worth advice, as `about: level`, and all that was said.
fn doctor(data_dir: &Path) -> (Vec<String>, String, bool) {
    let output = run_leyden(data_dir, &["--json", "doctor"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let findings = value["findings"].as_array().unwrap();
    let wrong = findings.iter().filter(|one| one["level"] != "fine");
    let named = wrong.map(|one| format!("{}: {}", one["about"].as_str().unwrap(), one["level"].as_str().unwrap()));
    (named.collect(), text, output.status.success())
}

#[track_caller]
fn finds(data_dir: &Path, about: &str, words: &str) {
    let (found, text, _) = doctor(data_dir);
    assert!(found.iter().any(|one| one == about), "{about} is not among {found:?}");
    assert!(text.contains(words), "{text} does not say {words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_broken_is_found_and_what_to_do_is_said() {
    let folder = Folder::new();
    let mut alice = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
    finds(&folder.path().join("alice"), "node: trouble", "leydend");
    alice.start().await.unwrap();
    // An address that nobody answers at.
    let flags = ["--chain-connect", &chain(&alice), "--announce", "127.0.0.1:1"];
    let mut bob = DaemonProcess::new(folder.path(), "bob", &flags).unwrap();
    bob.start().await.unwrap();
    finds(bob.data_dir(), "port: advice", "127.0.0.1:1 does not answer");

    alice.mine(1, None).await.unwrap();
    alice.mine(MATURE, Some(leyden_client::demo::NOBODY)).await.unwrap();
    alice.connect(&bob).await.unwrap();
    alice.open_channel(&bob, 1_000_000, 400_000).await.unwrap();
    wait_until("the funding transaction", || async { Ok(mempool(&alice).await.len() == 1) }).await.unwrap();
    alice.mine(DEEP, Some(leyden_client::demo::NOBODY)).await.unwrap();
    alice.wait_for_active_channels(1).await.unwrap();
    bob.wait_for_active_channels(1).await.unwrap();
    let (found, text, is_well) = doctor(alice.data_dir());
    assert!(is_well, "{found:?} {text}");
    finds(alice.data_dir(), "watchtowers: advice", "tower add");
    // Bob has no coins for the fees of a claim.
    finds(bob.data_dir(), "coins: trouble", "newaddress");

    // Others can read the folder; the daemon's next start would mend it.
    fs::set_permissions(bob.data_dir(), fs::Permissions::from_mode(0o755)).unwrap();
    finds(bob.data_dir(), "files: trouble", "chmod");
    fs::set_permissions(bob.data_dir(), fs::Permissions::from_mode(0o700)).unwrap();

    let backup = Layout::new(bob.data_dir().to_owned(), "regtest").channel_backup();
    fs::remove_file(&backup).unwrap();
    finds(bob.data_dir(), "backup: trouble", "exportchanbackup");

    alice.kill();
    wait_until("Bob to miss her", || async { Ok(!bob.only_channel().await?.active) }).await.unwrap();
    finds(bob.data_dir(), "channels: advice", "listpeers");
    finds(bob.data_dir(), "chain peers: advice", "--chain-connect");

    let table = run_leyden(bob.data_dir(), &["doctor"]);
    let words = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(!table.status.success() && words.contains('✗') && words.contains("backup"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_that_is_not_there_or_locked_is_told_apart() {
    let folder = Folder::new();
    let data_dir = folder.path().join("alice");
    let mut daemon = Program::start(&data_dir, &[]);
    let client = daemon.client().await;
    finds(&data_dir, "wallet: advice", "leyden create");
    let words = client.unlocker().gen_seed(GenSeedRequest::default()).await.unwrap().into_inner().cipher_seed_mnemonic;
    let request = InitWalletRequest {
        wallet_password: b"correct horse".to_vec(),
        cipher_seed_mnemonic: words,
        ..InitWalletRequest::default()
    };
    client.unlocker().init_wallet(request).await.unwrap();
    daemon.stop().await;
    let mut daemon = Program::start(&data_dir, &[]);
    daemon.client().await;
    finds(&data_dir, "wallet: trouble", "leyden unlock");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_that_stands_still_for_years_is_found() {
    let folder = Folder::new();
    let network = folder.path().join("harbour.toml");
    fs::write(&network, OLD_CHAIN).unwrap();
    let data_dir = folder.path().join("alice");
    // The one node that it knows is gone.
    let flags = ["--network", network.to_str().unwrap(), "--no-wallet-password", "--chain-connect", "127.0.0.1:1"];
    let mut daemon = Program::start(&data_dir, &flags);
    wait_until("the node to answer", || async { Ok(run_leyden(&data_dir, &["getinfo"]).status.success()) })
        .await
        .unwrap();
    finds(&data_dir, "chain: trouble", "not synced");
    finds(&data_dir, "chain peers: trouble", "--chain-connect");
    finds(&data_dir, "clock: advice", "the last block is");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_cost_money_later_is_found() {
    let mut pair = Pair::with_channel(1_000_000, 400_000).await;
    // Nobody answers there.
    let nobody = format!("{}@127.0.0.1:1", pair.bob.node_id().await.unwrap());
    leyden(pair.alice.data_dir(), &["tower", "add", &nobody]);
    let paid = pair.alice.pay(pair.bob.invoice(10_000, "tea").await.unwrap()).await.unwrap();
    assert!(paid.fee_msat == 0, "{paid:?}");
    wait_until("a state that nobody watches", || async {
        Ok(doctor(pair.alice.data_dir()).0.iter().any(|one| one == "watchtowers: trouble"))
    })
    .await
    .unwrap();
    finds(pair.alice.data_dir(), "watchtowers: trouble", "is not covered");

    // Many addresses were given out before somebody paid to one.
    for _ in 0..UNPAID_ADDRESSES {
        pair.bob.new_address().await.unwrap();
    }
    let paid = pair.bob.new_address().await.unwrap();
    let height = pair.alice.height().await.unwrap();
    pair.alice.mine(1, Some(&paid)).await.unwrap();
    pair.bob.wait_for_height(height + 1).await.unwrap();
    finds(pair.bob.data_dir(), "recovery: advice", "rescan");

    // Bob pays Alice, who neither takes it nor sends it back, and is gone.
    let hash = PaymentPreimage([7; 32]).hash().0.to_vec();
    let request = AddHoldInvoiceRequest { hash, value: 10_000, ..Default::default() };
    let added = pair.alice.client().unwrap().invoices().add_hold_invoice(request).await.unwrap().into_inner();
    let request =
        SendPaymentRequest { payment_request: added.payment_request, timeout_seconds: 60, ..Default::default() };
    let mut updates = pair.bob.client().unwrap().router().send_payment_v2(request).await.unwrap().into_inner();
    wait_until("the payment to be under way", || async {
        Ok(pair.bob.only_channel().await?.pending_htlcs.len() == 1
            && pair.alice.only_channel().await?.pending_htlcs.len() == 1)
    })
    .await
    .unwrap();
    assert!(updates.message().await.unwrap().is_some());
    let expiry = pair.bob.only_channel().await.unwrap().pending_htlcs[0].expiration_height;
    pair.alice.kill();
    let height = pair.bob.height().await.unwrap();
    pair.bob.mine_alone(expiry - NEARLY_OVER - height).await.unwrap();
    finds(pair.bob.data_dir(), "payments: trouble", "ends in 10 blocks");
}
