//! How a daemon begins and ends: wallets with passwords, two processes on one folder, signals, damaged and newer
//! databases, a disk that refuses to be written, and who may call what.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use leyden_client::{
    client::{Access, Client},
    cluster::{DaemonProcess, PATIENCE, copy_folder, wait_until},
    demo::NOBODY,
};
use leyden_common::layout::Layout;
use leyden_proto::{
    leyden::{GenerateRequest, LoginRequest, LogoutRequest, session_client::SessionClient},
    lnrpc::{
        BakeMacaroonRequest, ChangePasswordRequest, CloseChannelRequest, GenSeedRequest, GetInfoRequest,
        GetStateRequest, InitWalletRequest, Invoice, InvoiceSubscription, ListChannelsRequest, ListInvoiceRequest,
        ListPaymentsRequest, MacaroonPermission, NewAddressRequest, OpenChannelRequest, SendCoinsRequest, StopRequest,
        SubscribeStateRequest, UnlockWalletRequest, WalletBalanceRequest, WalletState,
        lightning_client::LightningClient, payment::PaymentStatus,
    },
    routerrpc::SendPaymentRequest,
};
use rocksdb::{DB, Options};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::StreamExt as _;
use tonic::{Code, transport::Channel};

use harness::{Folder, Pair, Program, assert_calm, raw, refused, refused_start};

const PASSWORD: &[u8] = b"correct horse";

fn layout(data_dir: &Path) -> Layout {
    Layout::new(data_dir.to_owned(), "regtest")
}

async fn state(client: &Client) -> WalletState {
    client.state().get_state(GetStateRequest {}).await.unwrap().into_inner().state()
}

async fn wait_for_state(client: &Client, wanted: WalletState) {
    wait_until(&format!("{wanted:?}"), || async { Ok(state(client).await == wanted) }).await.unwrap();
}

fn init(words: &[String]) -> InitWalletRequest {
    InitWalletRequest {
        wallet_password: PASSWORD.to_vec(),
        cipher_seed_mnemonic: words.to_vec(),
        ..InitWalletRequest::default()
    }
}

fn unlock(password: &[u8]) -> UnlockWalletRequest {
    UnlockWalletRequest { wallet_password: password.to_vec(), ..UnlockWalletRequest::default() }
}

/// Waits as long as wrong passwords before this one make it wait.
async fn unlock_in_time(client: &Client, password: &[u8]) -> Result<(), tonic::Status> {
    loop {
        match client.unlocker().unlock_wallet(unlock(password)).await {
            Err(status) if status.code() == Code::Unavailable => tokio::time::sleep(Duration::from_millis(200)).await,
            answer => return answer.map(drop),
        }
    }
}

async fn identity(client: &Client) -> String {
    client.lightning().get_info(GetInfoRequest {}).await.unwrap().into_inner().identity_pubkey
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_is_made_locked_and_opened_over_grpc() {
    let folder = Folder::new();
    let mut program = Program::start(&folder.path().join("node"), &[]);
    let client = program.client().await;
    assert_eq!(state(&client).await, WalletState::NonExisting);
    let mut states = client.state().subscribe_state(SubscribeStateRequest {}).await.unwrap().into_inner();
    refused(client.unlocker().unlock_wallet(unlock(PASSWORD)).await, Code::FailedPrecondition, "leyden create");

    let words = client.unlocker().gen_seed(GenSeedRequest::default()).await.unwrap().into_inner().cipher_seed_mnemonic;
    assert_eq!(words.len(), 24);
    let again = client.unlocker().gen_seed(GenSeedRequest::default()).await.unwrap().into_inner();
    assert_ne!(again.cipher_seed_mnemonic, words);
    let short = InitWalletRequest { wallet_password: b"short".to_vec(), ..init(&words) };
    refused(client.unlocker().init_wallet(short).await, Code::InvalidArgument, "8 characters");
    refused(client.unlocker().init_wallet(init(&words[..23])).await, Code::InvalidArgument, "24");
    let mut misspelt = words.clone();
    misspelt[7] = "leyden".to_owned();
    refused(client.unlocker().init_wallet(init(&misspelt)).await, Code::InvalidArgument, "BIP 39");
    assert_eq!(state(&client).await, WalletState::NonExisting);

    let made = client.unlocker().init_wallet(init(&words)).await.unwrap().into_inner();
    let admin = fs::read(layout(&program.data_dir).macaroon("admin")).unwrap();
    assert!(!made.admin_macaroon.is_empty());
    wait_for_state(&client, WalletState::ServerActive).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&WalletState::ServerActive) {
        seen.push(states.next().await.unwrap().unwrap().state());
    }
    assert_eq!(seen.first(), Some(&WalletState::NonExisting));
    assert!(seen.is_sorted_by_key(|state| order(*state)), "{seen:?}");
    refused(client.unlocker().init_wallet(init(&words)).await, Code::AlreadyExists, "exists");
    refused(client.unlocker().unlock_wallet(unlock(PASSWORD)).await, Code::Unknown, "wallet already unlocked");

    let client = program.client().await;
    let node_id = identity(&client).await;
    let address = client.lightning().new_address(NewAddressRequest::default()).await.unwrap().into_inner().address;
    program.stop().await;

    // Locked after a restart; wrong passwords change nothing.
    let seed = fs::read(layout(&program.data_dir).wallet_seed()).unwrap();
    let mut program = Program::start(&program.data_dir, &[]);
    let client = program.client().await;
    assert_eq!(state(&client).await, WalletState::Locked);
    refused(client.lightning().get_info(GetInfoRequest {}).await, Code::Unknown, "wallet locked");
    for wrong in [b"battery staple".as_slice(), b"correct hors", b"correct horse "] {
        refused(unlock_in_time(&client, wrong).await, Code::InvalidArgument, "wrong password");
        assert_eq!(state(&client).await, WalletState::Locked);
    }
    refused(client.unlocker().unlock_wallet(unlock(PASSWORD)).await, Code::Unavailable, "try again in");
    refused(client.unlocker().unlock_wallet(unlock(b"")).await, Code::InvalidArgument, "password");
    refused(client.unlocker().unlock_wallet(unlock(&[0xff; 9])).await, Code::InvalidArgument, "password");
    refused(client.unlocker().init_wallet(init(&words)).await, Code::AlreadyExists, "never overwritten");
    assert_eq!(fs::read(layout(&program.data_dir).wallet_seed()).unwrap(), seed);
    unlock_in_time(&client, PASSWORD).await.unwrap();
    wait_for_state(&client, WalletState::ServerActive).await;
    assert_eq!(identity(&client).await, node_id);
    assert_eq!(fs::read(layout(&program.data_dir).macaroon("admin")).unwrap(), admin, "macaroons stay good");
    let next = client.lightning().new_address(NewAddressRequest::default()).await.unwrap().into_inner().address;
    assert_ne!(next, address, "a fresh address a payment");
    program.stop().await;

    // Passwords in a file: the wrong one ends the start with a reason, the right one opens.
    let file = folder.path().join("password");
    fs::write(&file, "not this one\n").unwrap();
    let flags = ["--wallet-password-file", file.to_str().unwrap()];
    let (status, said) = refused_start(&program.data_dir, &flags);
    assert!(!status.success());
    assert!(said.contains("wrong password"), "{said}");
    fs::write(&file, [PASSWORD, b"\n"].concat()).unwrap();
    let mut program = Program::start(&program.data_dir, &flags);
    let client = program.client().await;
    wait_for_state(&client, WalletState::ServerActive).await;
    assert_eq!(identity(&program.client().await).await, node_id);
    assert_calm("node", &program.log());

    // The same words on another machine are the same node.
    let mut other = Program::start(&folder.path().join("other"), &[]);
    other.client().await.unlocker().init_wallet(init(&words)).await.unwrap();
    let client = other.client().await;
    wait_for_state(&client, WalletState::ServerActive).await;
    assert_eq!(identity(&client).await, node_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_password_opens_the_wallet_and_macaroons_are_taken_back_if_that_is_wanted() {
    let folder = Folder::new();
    let mut program = Program::start(&folder.path().join("node"), &[]);
    let client = program.client().await;
    let words = client.unlocker().gen_seed(GenSeedRequest::default()).await.unwrap().into_inner().cipher_seed_mnemonic;
    client.unlocker().init_wallet(init(&words)).await.unwrap();
    wait_for_state(&client, WalletState::ServerActive).await;
    let client = program.client().await;
    let node_id = identity(&client).await;
    let change = |current: &[u8], new: &[u8]| ChangePasswordRequest {
        current_password: current.to_vec(),
        new_password: new.to_vec(),
        ..ChangePasswordRequest::default()
    };
    const NEW: &[u8] = b"battery staple";
    let open = client.unlocker().change_password(change(PASSWORD, NEW)).await;
    refused(open, Code::Unknown, "wallet already unlocked");
    program.stop().await;

    let mut program = Program::start(&program.data_dir, &[]);
    let admin = layout(&program.data_dir).macaroon("admin");
    let (before, seed) = (fs::read(&admin).unwrap(), fs::read(layout(&program.data_dir).wallet_seed()).unwrap());
    let client = program.client().await;
    refused(
        client.unlocker().change_password(change(PASSWORD, b"short")).await,
        Code::InvalidArgument,
        "password must have at least 8 characters",
    );
    let wrong = client.unlocker().change_password(change(NEW, NEW)).await;
    refused(wrong, Code::InvalidArgument, "invalid passphrase for master public key");
    assert_eq!(fs::read(layout(&program.data_dir).wallet_seed()).unwrap(), seed, "nothing has changed");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    client.unlocker().change_password(change(PASSWORD, NEW)).await.unwrap();
    wait_for_state(&client, WalletState::ServerActive).await;
    let client = program.client().await;
    assert_eq!(identity(&client).await, node_id);
    assert_eq!(fs::read(&admin).unwrap(), before, "macaroons stay good");
    program.stop().await;

    let mut program = Program::start(&program.data_dir, &[]);
    let client = program.client().await;
    refused(client.unlocker().unlock_wallet(unlock(PASSWORD)).await, Code::InvalidArgument, "wrong password");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let rotate = ChangePasswordRequest { new_macaroon_root_key: true, ..change(NEW, PASSWORD) };
    let made = client.unlocker().change_password(rotate).await.unwrap().into_inner().admin_macaroon;
    wait_for_state(&client, WalletState::ServerActive).await;
    refused(client.lightning().get_info(GetInfoRequest {}).await, Code::Unauthenticated, "");
    assert_ne!(fs::read(&admin).unwrap(), before);
    let client = program.client().await;
    assert_eq!(identity(&client).await, node_id, "the new file is good");
    let access = program.access();
    let path = folder.path().join("made");
    fs::write(&path, made).unwrap();
    let with_answer = Client::connect(&Access { macaroon: path, ..access }).await.unwrap();
    assert_eq!(identity(&with_answer).await, node_id, "so is that of the answer");
}

fn order(state: WalletState) -> u8 {
    match state {
        WalletState::NonExisting => 0,
        WalletState::Locked => 1,
        WalletState::Unlocked => 2,
        WalletState::RpcActive => 3,
        WalletState::ServerActive => 4,
        WalletState::WaitingToStart => 5,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_ends_with_its_log_out() {
    let folder = Folder::new();
    let mut program = Program::start(&folder.path().join("node"), &[]);
    let client = program.client().await;
    let words = client.unlocker().gen_seed(GenSeedRequest::default()).await.unwrap().into_inner().cipher_seed_mnemonic;
    client.unlocker().init_wallet(init(&words)).await.unwrap();
    wait_for_state(&client, WalletState::ServerActive).await;
    let channel = raw::channel(&program.access()).await;
    let log_in = || async {
        let request = LoginRequest { wallet_password: PASSWORD.to_vec() };
        SessionClient::new(channel.clone()).login(request).await.unwrap().into_inner().macaroon
    };
    let (first, second) = (log_in().await, log_in().await);
    let with = |macaroon: &[u8]| {
        let token: tonic::metadata::AsciiMetadataValue = hex::encode(macaroon).parse().unwrap();
        move |mut request: tonic::Request<()>| {
            request.metadata_mut().insert("macaroon", token.clone());
            Ok(request)
        }
    };
    let lightning = |macaroon: &[u8]| LightningClient::with_interceptor(channel.clone(), with(macaroon));
    lightning(&first).get_info(GetInfoRequest {}).await.unwrap();
    // What it makes does not outlive it unseen.
    let permissions = vec![MacaroonPermission { entity: "info".to_owned(), action: "read".to_owned() }];
    let bake =
        |root_key_id| BakeMacaroonRequest { permissions: permissions.clone(), root_key_id, ..Default::default() };
    refused(lightning(&first).bake_macaroon(bake(0)).await, Code::FailedPrecondition, "root_key_id");
    lightning(&first).bake_macaroon(bake(7)).await.unwrap();
    let mut updates = lightning(&first).subscribe_invoices(InvoiceSubscription::default()).await.unwrap().into_inner();

    let session = SessionClient::with_interceptor(channel.clone(), with(&first)).logout(LogoutRequest {}).await;
    session.unwrap();
    refused(lightning(&first).get_info(GetInfoRequest {}).await, Code::Unauthenticated, "key");
    let end = timeout(PATIENCE, updates.message()).await.expect("its streams end");
    refused(end, Code::Unauthenticated, "key");
    // Another one goes on, and a macaroon of the data directory has no session to end.
    lightning(&second).get_info(GetInfoRequest {}).await.unwrap();
    let admin = fs::read(layout(&program.data_dir).macaroon("admin")).unwrap();
    let session = SessionClient::with_interceptor(channel.clone(), with(&admin)).logout(LogoutRequest {}).await;
    refused(session, Code::FailedPrecondition, "not one of a log-in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_folder_refuses_to_start() {
    let folder = Folder::new();
    let mut first = Program::start(folder.path(), &["--no-wallet-password"]);
    let client = first.client().await;
    wait_for_state(&client, WalletState::ServerActive).await;
    let client = first.client().await;
    for _ in 0..2 {
        let (status, said) = refused_start(folder.path(), &["--no-wallet-password"]);
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("another leydend runs on"), "{said}");
    }
    identity(&client).await;
    // And leaves what clients find the first one by.
    identity(&first.client().await).await;
    first.stop().await;

    // Ports in use are named, with the setting that chooses another.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--rpc-listen", "--listen", "--chain-listen"] {
        let (status, said) = start_on(folder.path(), flag, &address);
        assert!(!status.success(), "{flag}");
        assert!(said.contains(&address) && said.contains(flag), "{flag}: {said}");
    }
}

/// A start with one listener on a given address.
fn start_on(data_dir: &Path, flag: &str, address: &str) -> (std::process::ExitStatus, String) {
    let free = "127.0.0.1:0";
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_leydend"));
    command.arg("--data-dir").arg(data_dir).arg("--no-wallet-password");
    for other in ["--rpc-listen", "--listen", "--chain-listen"] {
        command.args([other, if other == flag { address } else { free }]);
    }
    let output = command.output().unwrap();
    (output.status, String::from_utf8(output.stderr).unwrap())
}

/// Well above the few seconds that a daemon gives to what is under way, and well below what payments may take.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_ends_well_and_soon() {
    let mut pair = Pair::with_channel(10_000_000, 5_000_000).await;
    // Streams that would never end by themselves.
    let subscription = InvoiceSubscription::default();
    let _invoices = pair.bob.client().unwrap().lightning().subscribe_invoices(subscription).await.unwrap();
    let _states = pair.alice.client().unwrap().state().subscribe_state(SubscribeStateRequest {}).await.unwrap();
    let mut load = JoinSet::new();
    for _ in 0..20 {
        let (alice, bob) = (pair.alice.client().unwrap().clone(), pair.bob.client().unwrap().clone());
        load.spawn(async move {
            while let Ok(invoice) = bob.lightning().add_invoice(Invoice { value: 100, ..Invoice::default() }).await {
                let request = SendPaymentRequest {
                    payment_request: invoice.into_inner().payment_request,
                    timeout_seconds: 30,
                    fee_limit_sat: 10,
                    ..SendPaymentRequest::default()
                };
                let Ok(updates) = alice.router().send_payment_v2(request).await else { return };
                let mut updates = updates.into_inner();
                while let Some(Ok(_)) = updates.next().await {}
            }
        });
    }
    wait_until("payments to be under way", || async { Ok(pair.alice.paid().await?.in_flight > 0) }).await.unwrap();
    for node in [&mut pair.bob, &mut pair.alice] {
        let begun = Instant::now();
        let status = node.terminate().unwrap();
        assert!(status.success(), "{}: {status}: {}", node.name(), node.log());
        assert!(begun.elapsed() < SOON, "{} took {:?}", node.name(), begun.elapsed());
        println!("{} ended in {:?}", node.name(), begun.elapsed());
    }
    timeout(PATIENCE, async { while load.join_next().await.is_some() {} }).await.expect("calls end");

    // What was told to the caller holds, what was under way is settled.
    pair.alice.start().await.unwrap();
    pair.bob.start().await.unwrap();
    pair.wait_for_channels(1).await;
    let (a, b) = pair.settled_channel().await;
    let count = |status| {
        let alice = &pair.alice;
        async move {
            let request =
                ListPaymentsRequest { include_incomplete: true, max_payments: 1_000_000, ..Default::default() };
            let list = alice.client().unwrap().lightning().list_payments(request).await.unwrap().into_inner();
            list.payments.iter().filter(|payment| payment.status() == status).count()
        }
    };
    wait_until("payments to end", || async { Ok(count(PaymentStatus::InFlight).await == 0) }).await.unwrap();
    let paid = i64::try_from(count(PaymentStatus::Succeeded).await).unwrap() * 100;
    assert!(paid > 0);
    assert_eq!(b.local_balance, 5_000_000 + paid);
    assert_eq!(a.remote_balance, b.local_balance);
    for node in [&pair.alice, &pair.bob] {
        assert_calm(node.name(), &node.log());
    }
}

/// A data directory of a daemon that made a wallet, mined and ended.
async fn used(folder: &Path) {
    let mut program = Program::start(folder, &["--no-wallet-password"]);
    let client = program.client().await;
    wait_for_state(&client, WalletState::ServerActive).await;
    let client = program.client().await;
    client.lightning().add_invoice(Invoice { value: 1, ..Invoice::default() }).await.unwrap();
    program.stop().await;
}

/// Writes one value with RocksDB itself.
fn put(path: &Path, family: &str, key: &[u8], value: &[u8], new_family: Option<&str>) {
    let families = DB::list_cf(&Options::default(), path).unwrap();
    let mut db = DB::open_cf(&Options::default(), path, families).unwrap();
    if let Some(name) = new_family {
        db.create_cf(name, &Options::default()).unwrap();
    }
    db.put_cf(db.cf_handle(family).unwrap(), key, value).unwrap();
    db.flush_wal(true).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_newer_databases_are_named() {
    let folder = Folder::new();
    let good = folder.path().join("good");
    used(&good).await;
    let case = |name: &str, spoil: &dyn Fn(&Layout), words: &[&str]| {
        let data_dir = folder.path().join(name);
        copy_folder(&good, &data_dir).unwrap();
        spoil(&layout(&data_dir));
        let (status, said) = refused_start(&data_dir, &["--no-wallet-password"]);
        assert_eq!(status.code(), Some(1), "{name}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
        assert!(!said.contains("panicked"), "{name}: {said}");
        println!("{name}: {}", said.trim_end().lines().last().unwrap_or_default());
    };
    case("newer node", &|at| put(&at.node_database(), "meta", b"format", &9_u32.to_be_bytes(), None), &["newer", "9"]);
    let more = |at: &Layout| put(&at.node_database(), "meta", b"format", &9_u32.to_be_bytes(), Some("more"));
    case("newer node with more tables", &more, &["newer", "9"]);
    let chain = |at: &Layout| put(&chain_path(at), "meta", b"format", &9_u32.to_le_bytes(), Some("more"));
    case("newer chain", &chain, &["newer", "9"]);
    for (name, file) in [("node", "CURRENT"), ("chain", "CURRENT"), ("node", "MANIFEST"), ("chain", "MANIFEST")] {
        let spoil = |at: &Layout| {
            let path = if name == "node" { at.node_database() } else { chain_path(at) };
            let manifest = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            let manifest = manifest.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(file));
            for path in manifest {
                let length = fs::metadata(&path).unwrap().len() as usize;
                fs::write(path, vec![0x5a; length]).unwrap();
            }
        };
        let word = if name == "node" { "is damaged" } else { "is corrupt" };
        case(&format!("{name} {file}"), &spoil, &[word]);
    }
    case("wallet", &|at| fs::write(at.wallet_seed(), "{}").unwrap(), &["wallet.seed", "damaged"]);
    let newer_seed = r#"{"version":9,"lock":null,"secret":""}"#;
    case("newer wallet", &|at| fs::write(at.wallet_seed(), newer_seed).unwrap(), &["wallet.seed", "newer"]);
    case("macaroons", &|at| fs::write(at.macaroon_root_key(), "short").unwrap(), &["macaroons.key"]);
    // Another node's wallet beside this database.
    let stranger = folder.path().join("stranger");
    used(&stranger).await;
    let swap = |at: &Layout| fs::copy(layout(&stranger).wallet_seed(), at.wallet_seed()).map(|_| ()).unwrap();
    case("other wallet", &swap, &["belongs to node"]);
    case("settings", &|at| fs::write(at.root().join("leyden.toml"), "min-dept = 1").unwrap(), &["min-dept"]);
}

fn chain_path(at: &Layout) -> std::path::PathBuf {
    let path = at.chain_database();
    if path.join("CURRENT").exists() { path } else { path.join("chain") }
}

/// State that was acknowledged as durable must never be dropped silently: an old channel state costs the channel.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_rotted_in_the_middle_is_no_older_state() {
    let folder = Folder::new();
    let mut program = Program::start(folder.path(), &["--no-wallet-password"]);
    let client = program.client().await;
    wait_for_state(&client, WalletState::ServerActive).await;
    let client = program.client().await;
    for value in 1..=50 {
        client.lightning().add_invoice(Invoice { value, ..Invoice::default() }).await.unwrap();
    }
    drop(program);
    let log = fs::read_dir(layout(folder.path()).node_database()).unwrap().map(|entry| entry.unwrap().path());
    let log = log.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap();
    let mut bytes = fs::read(&log).unwrap();
    // What was preallocated behind the last record is empty.
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end / 2] ^= 0x10;
    fs::write(&log, bytes).unwrap();
    let (status, said) = refused_start(folder.path(), &["--no-wallet-password"]);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("is damaged"), "{said}");
}

/// Starts a daemon on a disk that is nearly full.
#[cfg(unix)]
async fn on_a_small_disk(folder: &Folder, data_dir: &Path) -> (tokio::process::Child, Client) {
    // Files may grow to 600 KiB and not beyond, as if the disk were full.
    let script = format!(
        "trap '' XFSZ; ulimit -f 1200; exec {} --data-dir {} --no-wallet-password --listen 127.0.0.1:0 \
         --rpc-listen 127.0.0.1:0 --no-rest --chain-listen 127.0.0.1:0 2>{}",
        env!("CARGO_BIN_EXE_leydend"),
        data_dir.display(),
        folder.path().join("log").display()
    );
    let mut child = tokio::process::Command::new("sh").args(["-c", &script]).kill_on_drop(true).spawn().unwrap();
    let client = loop {
        if let Ok(access) = Access::from_data_dir(data_dir)
            && let Ok(client) = Client::connect(&access).await
            && state(&client).await == WalletState::ServerActive
        {
            break client;
        }
        let log = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        assert!(child.try_wait().unwrap().is_none(), "{log}");
        sleep(Duration::from_millis(20)).await;
    };
    (child, client)
}

/// What it said, once it has ended because of its disk.
#[cfg(unix)]
async fn last_words(folder: &Folder, mut child: tokio::process::Child) -> String {
    let status = timeout(PATIENCE, child.wait()).await.expect("the daemon ends").unwrap();
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    log
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_for_blocks_stops_the_daemon() {
    let folder = Folder::new();
    let data_dir = folder.path().join("node");
    used(&data_dir).await;
    let (child, client) = on_a_small_disk(&folder, &data_dir).await;
    let mut told = 0;
    let failure = loop {
        let request = GenerateRequest { blocks: 50, address: NOBODY.to_owned() };
        let mined = async {
            let mut news = client.chain().generate(request).await?.into_inner();
            while let Some(block) = news.message().await? {
                told = block.height;
            }
            Ok::<(), tonic::Status>(())
        };
        if let Err(status) = mined.await {
            break status;
        }
        assert!(told < 20_000, "the limit has no effect");
    };
    println!("{told} blocks were told before: {failure:?}");
    let log = last_words(&folder, child).await;
    assert!(log.contains("no room for the chain database") && log.contains("make room"), "{log}");

    let mut program = Program::start(&data_dir, &["--no-wallet-password"]);
    wait_for_state(&program.client().await, WalletState::ServerActive).await;
    let height =
        program.client().await.lightning().get_info(GetInfoRequest {}).await.unwrap().into_inner().block_height;
    assert!(height >= told, "{height}, but {told} was told");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_refuses_writes_stops_the_daemon_and_loses_nothing_told() {
    let folder = Folder::new();
    let data_dir = folder.path().join("node");
    used(&data_dir).await;
    let (child, client) = on_a_small_disk(&folder, &data_dir).await;
    let mut told = Vec::new();
    let memo = "x".repeat(500);
    let failure = loop {
        let invoice = Invoice { value: 1, memo: memo.clone(), ..Invoice::default() };
        match client.lightning().add_invoice(invoice).await {
            Ok(added) => told.push(added.into_inner().r_hash),
            Err(status) => break status,
        }
        assert!(told.len() < 10_000, "the limit has no effect");
    };
    println!("{} invoices were told before: {failure:?}", told.len());
    let log = last_words(&folder, child).await;
    assert!(log.contains("the disk refuses a write"), "{log}");

    let mut program = Program::start(&data_dir, &["--no-wallet-password"]);
    wait_for_state(&program.client().await, WalletState::ServerActive).await;
    let request = ListInvoiceRequest { num_max_invoices: 100_000, ..ListInvoiceRequest::default() };
    let kept = program.client().await.lightning().list_invoices(request).await.unwrap().into_inner().invoices;
    let kept: Vec<Vec<u8>> = kept.into_iter().map(|invoice| invoice.r_hash).collect();
    assert!(told.iter().all(|hash| kept.contains(hash)), "every invoice that was told is kept");
}

async fn with_macaroon(node: &DaemonProcess, macaroon: std::path::PathBuf) -> Client {
    let access = Access::from_data_dir(node.data_dir()).unwrap();
    Client::connect(&Access { macaroon, ..access }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn macaroons_decide_who_may_do_what() {
    let pair = Pair::with_channel(2_000_000, 500_000).await;
    let Pair { alice, bob, .. } = &pair;
    let files = layout(alice.data_dir());
    let pay = |payment_request: String| SendPaymentRequest {
        payment_request,
        timeout_seconds: 10,
        ..SendPaymentRequest::default()
    };
    let invoice = bob.invoice(1_000, "a").await.unwrap();

    let readonly = with_macaroon(alice, files.macaroon("readonly")).await;
    readonly.lightning().wallet_balance(WalletBalanceRequest::default()).await.unwrap();
    readonly.lightning().list_channels(ListChannelsRequest::default()).await.unwrap();
    let code = Code::PermissionDenied;
    refused(readonly.router().send_payment_v2(pay(invoice.clone())).await, code, "");
    refused(readonly.lightning().new_address(NewAddressRequest::default()).await, code, "");
    refused(readonly.lightning().send_coins(SendCoinsRequest::default()).await, code, "");
    refused(readonly.lightning().open_channel(OpenChannelRequest::default()).await, code, "");
    refused(readonly.lightning().close_channel(CloseChannelRequest::default()).await, code, "");
    refused(readonly.lightning().add_invoice(Invoice::default()).await, code, "");
    refused(readonly.lightning().stop_daemon(StopRequest::default()).await, code, "");
    refused(readonly.chain().generate(GenerateRequest::default()).await, code, "");

    let receiver = with_macaroon(alice, files.macaroon("invoice")).await;
    receiver.lightning().add_invoice(Invoice { value: 5, ..Invoice::default() }).await.unwrap();
    refused(receiver.router().send_payment_v2(pay(invoice.clone())).await, code, "");
    refused(receiver.lightning().send_coins(SendCoinsRequest::default()).await, code, "");

    let unknown = Code::Unauthenticated;
    let nobody = with_macaroon(alice, files.root().join("no-such-file")).await;
    refused(nobody.lightning().get_info(GetInfoRequest {}).await, unknown, "macaroon");
    refused(nobody.router().send_payment_v2(pay(invoice.clone())).await, unknown, "macaroon");
    let stranger = with_macaroon(alice, layout(bob.data_dir()).macaroon("admin")).await;
    refused(stranger.lightning().get_info(GetInfoRequest {}).await, unknown, "");
    let spoilt = files.root().join("spoilt.macaroon");
    let admin = fs::read(files.macaroon("admin")).unwrap();
    for position in (0..admin.len()).step_by(7) {
        let mut bytes = admin.clone();
        bytes[position] ^= 1;
        fs::write(&spoilt, bytes).unwrap();
        let client = with_macaroon(alice, spoilt.clone()).await;
        let answer = client.lightning().get_info(GetInfoRequest {}).await;
        assert_eq!(answer.unwrap_err().code(), unknown, "byte {position}");
    }

    // What a client finds out without any token.
    let access = Access::from_data_dir(alice.data_dir()).unwrap();
    let channel = raw::channel(&access).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
    let services = reflected(channel.clone()).await;
    let expected = [
        "lnrpc.Lightning",
        "lnrpc.State",
        "lnrpc.WalletUnlocker",
        "routerrpc.Router",
        "verrpc.Versioner",
        "leyden.Chain",
    ];
    for service in expected {
        assert!(services.iter().any(|name| name == service), "{service} is not in {services:?}");
    }
    let answer = raw::call(&channel, "/lnrpc.Lightning/NoSuchCall", None, Vec::new()).await;
    refused(answer, Code::Unimplemented, "reflection");
    let payment = alice.pay(invoice).await.unwrap();
    assert_eq!(payment.status(), PaymentStatus::Succeeded, "the invoice is still unpaid after all refusals");
}

async fn reflected(channel: Channel) -> Vec<String> {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    match answers.next().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|service| service.name).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_no_block_holds_is_handed_over_again_after_a_kill() {
    let folder = Folder::new();
    let mut alice = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
    alice.start().await.unwrap();
    alice.mine(1, None).await.unwrap();
    alice.mine(harness::MATURE, Some(NOBODY)).await.unwrap();
    alice.wait_for_height(1 + harness::MATURE).await.unwrap();
    // The second spends the change of the first.
    let first = harness::send(&alice, NOBODY, 1_000_000).await;
    let request = SendCoinsRequest {
        addr: NOBODY.to_owned(),
        amount: 2_000_000,
        sat_per_vbyte: 2,
        spend_unconfirmed: true,
        ..SendCoinsRequest::default()
    };
    let second = alice.client().unwrap().lightning().send_coins(request).await.unwrap().into_inner().txid;
    alice.kill();
    alice.start().await.unwrap();
    for txid in [&first, &second] {
        harness::wait_for_transaction(&alice, txid).await;
    }
    alice.mine(1, Some(NOBODY)).await.unwrap();
    alice.wait_for_height(2 + harness::MATURE).await.unwrap();
    assert!(harness::mempool(&alice).await.is_empty());
    let left = alice.wallet_balance().await.unwrap();
    assert!((4_996_990_000..4_997_000_000).contains(&left), "{left}");
}

/// A mempool that a restart has emptied knows nothing of other people's transactions, on which ours may rest: what rests
/// on them waits for them, or its coins would be spent twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_rests_on_a_transaction_not_seen_yet_is_kept() {
    let pair = harness::Pair::funded().await;
    let [mut alice, mut bob] = [pair.alice, pair.bob];
    let request = |addr: &str, amount: i64| SendCoinsRequest {
        addr: addr.to_owned(),
        amount,
        sat_per_vbyte: 2,
        spend_unconfirmed: true,
        ..SendCoinsRequest::default()
    };
    // Alice's second transaction, which pays Bob, spends the change of her first; Bob spends what it pays him.
    harness::send(&alice, NOBODY, 1_000_000).await;
    let to_bob = request(&bob.new_address().await.unwrap(), 2_000_000);
    let second = alice.client().unwrap().lightning().send_coins(to_bob).await.unwrap().into_inner().txid;
    harness::wait_for_transaction(&bob, &second).await;
    wait_until("Bob's wallet to see it", || async { Ok(bob.wallet_balance().await? == 2_000_000) }).await.unwrap();
    let last = bob.client().unwrap().lightning().send_coins(request(NOBODY, 500_000)).await.unwrap().into_inner().txid;
    alice.kill();
    bob.kill();

    bob.start().await.unwrap();
    bob.mine(1, Some(NOBODY)).await.unwrap();
    let reached = harness::height(&bob).await;
    bob.wait_for_height(reached).await.unwrap();
    assert!(harness::mempool(&bob).await.is_empty(), "the first is Alice's alone");
    alice.start().await.unwrap();
    harness::wait_for_transaction(&alice, &second).await;
    alice.wait_for_height(reached).await.unwrap();
    // Bob hands his own over again with each block, once what they rest on is there.
    for _ in 0..2 {
        alice.mine(1, Some(NOBODY)).await.unwrap();
        let height = harness::height(&alice).await;
        bob.wait_for_height(height).await.unwrap();
    }
    harness::wait_for_transaction(&bob, &last).await;
    bob.mine(1, Some(NOBODY)).await.unwrap();
    let left = bob.wallet_balance().await.unwrap();
    assert!((1_499_000..1_500_000).contains(&left), "{left}");
}
