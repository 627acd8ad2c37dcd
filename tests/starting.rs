//! What a daemon needs and leaves on the disk: files that are its user's alone, a certificate, file descriptors, names.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]
#![cfg(unix)]

mod harness;

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use harness::{Folder, Program, leyden, refused_start};
use leyden_client::{
    client::{Access, Client},
    cluster::wait_until,
};
use leyden_common::layout::Layout;
use leyden_proto::lnrpc::{
    GenSeedRequest, GetInfoRequest, GetStateRequest, InitWalletRequest, UnlockWalletRequest, WalletState,
};

const PASSWORD: &[u8] = b"correct horse";
const NO_PASSWORD: &[&str] = &["--no-wallet-password"];

fn layout(data_dir: &Path) -> Layout {
    Layout::new(data_dir.to_owned(), "regtest")
}

/// Everything below a folder, and the folder.
fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        at += 1;
        if path.is_dir() {
            found.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

/// What others may read or enter, but for the log, which is the test's own.
fn open_to_others(folder: &Path) -> Vec<PathBuf> {
    let is_open = |path: &PathBuf| {
        // What the database removes meanwhile is nobody's.
        let mode = fs::symlink_metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        mode & 0o077 != 0 && !path.ends_with("leydend.log")
    };
    all_below(folder).into_iter().filter(is_open).collect()
}

async fn wait_for_state(client: &Client, wanted: WalletState) {
    let state = || async {
        let state = client.state().get_state(GetStateRequest {}).await;
        Ok(state.is_ok_and(|state| state.into_inner().state() == wanted))
    };
    wait_until(&format!("{wanted:?}"), state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_can_read_what_the_daemon_writes_or_has_written() {
    let folder = Folder::new();
    let data_dir = folder.path().join("alice");
    let mut daemon = Program::start(&data_dir, NO_PASSWORD);
    let client = daemon.client().await;
    wait_for_state(&client, WalletState::ServerActive).await;
    assert_eq!(open_to_others(&data_dir), Vec::<PathBuf>::new());
    daemon.stop().await;
    // As earlier versions have left it.
    for path in all_below(&data_dir) {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut daemon = Program::start(&data_dir, NO_PASSWORD);
    let client = daemon.client().await;
    wait_for_state(&client, WalletState::ServerActive).await;
    assert_eq!(open_to_others(&data_dir), Vec::<PathBuf>::new());
    assert!(daemon.log().contains("their permissions are corrected"), "{}", daemon.log());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_is_made_stateless_leaves_no_macaroon_ever() {
    let folder = Folder::new();
    let data_dir = folder.path().join("alice");
    let macaroons = || -> Vec<PathBuf> {
        all_below(&data_dir)
            .into_iter()
            .filter(|path| path.extension().is_some_and(|kind| kind == "macaroon"))
            .collect()
    };
    let mut daemon = Program::start(&data_dir, &[]);
    let client = daemon.client().await;
    let words = client.unlocker().gen_seed(GenSeedRequest::default()).await.unwrap().into_inner().cipher_seed_mnemonic;
    let request = InitWalletRequest {
        wallet_password: PASSWORD.to_vec(),
        cipher_seed_mnemonic: words,
        stateless_init: true,
        ..InitWalletRequest::default()
    };
    let admin = client.unlocker().init_wallet(request).await.unwrap().into_inner().admin_macaroon;
    assert_eq!(macaroons(), Vec::<PathBuf>::new());
    daemon.stop().await;

    let mut daemon = Program::start(&data_dir, &[]);
    let client = daemon.client().await;
    let unlock = UnlockWalletRequest { wallet_password: PASSWORD.to_vec(), ..UnlockWalletRequest::default() };
    client.unlocker().unlock_wallet(unlock).await.unwrap();
    assert_eq!(macaroons(), Vec::<PathBuf>::new());
    // The one copy is good for everything.
    let kept = folder.path().join("kept.macaroon");
    fs::write(&kept, admin).unwrap();
    let access = Access { macaroon: kept, ..daemon.access() };
    let info = Client::connect(&access).await.unwrap().lightning().get_info(GetInfoRequest {}).await;
    assert_eq!(info.unwrap().into_inner().num_peers, 0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_used_is_replaced_if_it_is_empty_and_named_if_not() {
    let folder = Folder::new();
    let data_dir = folder.path().join("alice");
    fs::create_dir_all(&data_dir).unwrap();
    let (certificate, key) = (layout(&data_dir).tls_certificate(), layout(&data_dir).tls_key());
    for empty in [&certificate, &key] {
        fs::write(empty, "").unwrap();
        let mut daemon = Program::start(&data_dir, NO_PASSWORD);
        let client = daemon.client().await;
        wait_for_state(&client, WalletState::ServerActive).await;
        daemon.stop().await;
    }
    for broken in [&certificate, &key] {
        let right = fs::read(broken).unwrap();
        fs::write(broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let (status, said) = refused_start(&data_dir, NO_PASSWORD);
        assert!(!status.success() && said.contains("tls.cert"), "{said}");
        fs::write(broken, right).unwrap();
    }
}

/// The daemon below this limit of its shell.
fn limited(data_dir: &Path, limit: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{limit}; exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_leydend"), "--data-dir"]).arg(data_dir);
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--rpc-listen",
        "127.0.0.1:0",
        "--no-rest",
        "--chain-listen",
        "127.0.0.1:0",
    ]);
    command.args(NO_PASSWORD).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_file_descriptors_are_told_as_that() {
    let folder = Folder::new();
    let data_dir = folder.path().join("alice");
    let output = limited(&data_dir, "ulimit -n 60").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("may have 60 files") && said.contains("ulimit"), "{said}");
    assert!(!said.contains("damaged"), "{said}");
    // What may be raised is raised, and 256 are enough.
    for enough in ["ulimit -S -n 60", "ulimit -n 96"] {
        let mut child = limited(&data_dir, enough).spawn().unwrap();
        let running = layout(&data_dir).running();
        let is_up = || async { Ok(Access::from_data_dir(&data_dir).is_ok() && running.exists()) };
        wait_until(enough, is_up).await.unwrap();
        let client = Client::connect(&Access::from_data_dir(&data_dir).unwrap()).await.unwrap();
        wait_for_state(&client, WalletState::ServerActive).await;
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        let ended = tokio::task::spawn_blocking(move || child.wait());
        assert!(tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap().unwrap().unwrap().success());
    }
}

#[test]
fn settings_that_others_would_see_otherwise_are_refused() {
    let folder = Folder::new();
    let (status, said) = refused_start(&folder.path().join("alice"), &["--alias", &"é".repeat(20)]);
    assert!(!status.success() && said.contains("40 bytes"), "{said}");
    let (status, said) = refused_start(&folder.path().join("alice"), &["--chain-connect", "no-such-host.invalid:1"]);
    assert!(!status.success() && said.contains("cannot be resolved"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_right_after_the_start_waits_for_the_daemon() {
    let folder = Folder::new();
    let data_dir = folder.path().join("alice");
    let mut daemon = Program::start(&data_dir, NO_PASSWORD);
    let is_taken = || async {
        let lock = File::open(layout(&data_dir).lock());
        Ok(lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))))
    };
    wait_until("leydend to take its data directory", is_taken).await.unwrap();
    // Most often it has not said yet where it listens.
    assert!(!leyden(&data_dir, &["state"]).is_empty());
    wait_for_state(&daemon.client().await, WalletState::ServerActive).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tower_that_sees_no_blocks_says_so_in_the_log_and_to_its_owner() {
    let folder = Folder::new();
    let data_dir = folder.path().join("tower");
    let mut tower = Program::start(&data_dir, &["--tower-only", "--tower-listen", "127.0.0.1:0"]);
    let client = tower.client().await;
    wait_for_state(&client, WalletState::ServerActive).await;
    for command in [["tower", "info"], ["tower", "stats"]] {
        let shown = leyden(&data_dir, &command);
        assert!(shown.contains("chain peers") && shown.contains("--chain-connect"), "{shown}");
    }
    let log = tower.log();
    assert!(log.contains("this tower sees no blocks: it answers no breach"), "{log}");
    assert!(!log.contains('\u{1b}'), "a file has no colours: {log:?}");
    tower.stop().await;
}

#[tokio::test]
async fn the_log_goes_into_a_file_of_its_owner_and_begins_a_new_one_when_it_is_full() {
    const FULL: usize = 10 << 20;
    let folder = Folder::new();
    let data_dir = folder.path().join("node");
    let log = folder.path().join("node.log");
    // What an earlier run has left: the next line is too much.
    fs::write(&log, vec![b'x'; FULL + 1]).unwrap();
    let flags = [NO_PASSWORD, &["--log-file", log.to_str().unwrap()]].concat();
    let mut program = Program::start(&data_dir, &flags);
    wait_for_state(&program.client().await, WalletState::ServerActive).await;
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("leydend is running") && !text.contains('\u{1b}'), "{text}");
    let old = folder.path().join("node.log.1");
    assert_eq!(fs::metadata(&old).unwrap().len() as usize, FULL + 1);
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(data_dir.join("leydend.log")).unwrap(), "", "the terminal stays empty");
    drop(program);

    let (status, said) = refused_start(&data_dir, &["--log-file", "/nowhere/node.log"]);
    assert!(!status.success() && said.contains("--log-file"), "{said}");
}
