//! `leyden doctor` on real nodes that are broken in real ways.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use leyden_client::cluster::{DaemonProcess, wait_until};
use leyden_common::layout::Layout;
use serde_json::Value;

use harness::{DEEP, Folder, MATURE, chain, mempool, run_leyden};

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
