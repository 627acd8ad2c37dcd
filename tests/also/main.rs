//! Two networks in one daemon (`leydend --also`): one process, one password and one set of words, and nothing else in common.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

#[path = "../harness/mod.rs"]
mod harness;
mod loops;
mod swapping;

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::{DEEP, Folder, MATURE, Program, leyden, refused, refused_start, run_leyden, scrape::scrape};
use leyden::inside::seed::{self, KeyScheme, Seed};
use leyden_client::{
    client::Client,
    cluster::{DaemonProcess, wait_until},
    demo::{NOBODY, guarded::HeldPayment},
};
use leyden_common::{layout::Layout, names::KEYS};
use leyden_proto::{
    leyden::{CrossRequest, CrossingInfo, CrossingRate, ListCrossingsRequest, SetCrossingRateRequest},
    lnrpc::{
        ChangePasswordRequest, GenSeedRequest, GetInfoRequest, GetInfoResponse, GetStateRequest, InitWalletRequest,
        NewAddressRequest, StopRequest, UnlockWalletRequest, WalletBalanceRequest, WalletState,
    },
    routerrpc::SendPaymentRequest,
};
use tonic::Code;

const PASSWORD: &[u8] = b"correct horse";

/// The files of two networks.
struct Networks {
    folder: Folder,
    north: String,
    south: String,
}

impl Networks {
    fn new() -> Self {
        let folder = Folder::new();
        let file = |name: &str, magic: &str| {
            let path = folder.path().join(format!("{name}.toml"));
            let text = format!(
                "name = \"{name}\"\nmagic = \"{magic}\"\n\n[genesis]\nmessage = \"the {name} chain\"\ntime = 1700000000\n"
            );
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (north, south) = (file("north", "6e6f7274"), file("south", "736f7574"));
        Self { folder, north, south }
    }

    fn both(&self) -> [&str; 4] {
        ["--network", &self.north, "--also", &self.south]
    }

    fn data_dir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn save(data_dir: &Path, network: &str, words: &Seed) {
    let path = Layout::new(data_dir.to_owned(), network).wallet_seed();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    seed::save(&path, words, None).unwrap();
}

async fn info(client: &Client) -> GetInfoResponse {
    client.lightning().get_info(GetInfoRequest {}).await.unwrap().into_inner()
}

fn network_of(info: &GetInfoResponse) -> &str {
    &info.chains[0].network
}

async fn address(client: &Client) -> String {
    client.lightning().new_address(NewAddressRequest::default()).await.unwrap().into_inner().address
}

async fn wait_until_active(client: &Client) {
    wait_until("the wallet to be open", || async {
        let state = client.state().get_state(GetStateRequest {}).await;
        Ok(state.is_ok_and(|state| state.into_inner().state() == WalletState::ServerActive))
    })
    .await
    .unwrap();
}

/// A connection that shows the macaroon of the wallet, which is open.
async fn reconnected(program: &mut Program) -> Client {
    let client = program.client().await;
    wait_until_active(&client).await;
    program.client().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_password_opens_two_networks_that_have_no_key_in_common() {
    let networks = Networks::new();
    let data_dir = networks.data_dir("carol");
    let mut carol = Program::start(&data_dir, &networks.both());
    let client = carol.client().await;
    let words = client.unlocker().gen_seed(GenSeedRequest::default()).await.unwrap().into_inner().cipher_seed_mnemonic;
    let init = InitWalletRequest {
        wallet_password: PASSWORD.to_vec(),
        cipher_seed_mnemonic: words,
        ..InitWalletRequest::default()
    };
    let south = client.clone().on_network("south").unwrap();
    refused(south.unlocker().init_wallet(init.clone()).await, Code::FailedPrecondition, "first network");
    client.unlocker().init_wallet(init).await.unwrap();

    let north = reconnected(&mut carol).await;
    let south = north.clone().on_network("south").unwrap();
    wait_until_active(&south).await;
    let (on_north, on_south) = (info(&north).await, info(&south).await);
    assert_eq!((network_of(&on_north), network_of(&on_south)), ("north", "south"));
    assert_ne!(on_north.identity_pubkey, on_south.identity_pubkey);
    assert_ne!(address(&north).await, address(&south).await);
    let by_name = info(&north.clone().on_network("north").unwrap()).await;
    assert_eq!(by_name.identity_pubkey, on_north.identity_pubkey);

    // Of a name that is not held the answer says which are.
    let east = north.clone().on_network("east").unwrap();
    refused(east.lightning().get_info(GetInfoRequest {}).await, Code::InvalidArgument, "north and south");
    let wrong = run_leyden(&data_dir, &["--network", "east", "walletbalance"]);
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("north and south"));
    let shown = leyden(&data_dir, &["--network", "south", "--json", "getinfo"]);
    assert!(shown.contains(&on_south.identity_pubkey), "{shown}");
    assert!(leyden(&data_dir, &["--json", "getinfo"]).contains(&on_north.identity_pubkey));

    // What is mined on the one is on the one.
    leyden(&data_dir, &["--network", "south", "chain", "generate", "3"]);
    assert_eq!((info(&north).await.block_height, info(&south).await.block_height), (0, 3));

    // Killed and started again, both are locked, and open together.
    north.lightning().stop_daemon(StopRequest {}).await.unwrap();
    assert!(carol.end(leyden_client::cluster::PATIENCE).await.success());
    let mut carol = Program::start(&data_dir, &networks.both());
    let client = carol.client().await;
    let south = client.clone().on_network("south").unwrap();
    let state = |client: Client| async move {
        client.state().get_state(GetStateRequest {}).await.unwrap().into_inner().state()
    };
    assert_eq!((state(client.clone()).await, state(south.clone()).await), (WalletState::Locked, WalletState::Locked));
    let unlock = |password: &[u8]| UnlockWalletRequest { wallet_password: password.to_vec(), ..Default::default() };
    refused(client.unlocker().unlock_wallet(unlock(b"battery staple")).await, Code::InvalidArgument, "wrong password");
    refused(south.unlocker().unlock_wallet(unlock(PASSWORD)).await, Code::FailedPrecondition, "first network");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    client.unlocker().unlock_wallet(unlock(PASSWORD)).await.unwrap();
    wait_until_active(&south).await;
    assert_eq!(info(&client).await.identity_pubkey, on_north.identity_pubkey);
    assert_eq!(info(&south).await.identity_pubkey, on_south.identity_pubkey);
    refused(client.unlocker().unlock_wallet(unlock(PASSWORD)).await, Code::Unknown, "already unlocked");
    carol.stop().await;

    // Each of them can be opened alone.
    let mut alone = Program::start(&data_dir, &["--network", &networks.south]);
    alone.client().await.unlocker().unlock_wallet(unlock(PASSWORD)).await.unwrap();
    let client = reconnected(&mut alone).await;
    let again = info(&client).await;
    assert_eq!((&again.identity_pubkey, again.block_height), (&on_south.identity_pubkey, 3));
    alone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wallets_that_would_share_their_keys_or_have_other_words_are_refused_by_name() {
    let networks = Networks::new();
    let words = Seed::from_entropy([81; 32], "");
    let ends = |name: &str, north: &Seed, south: &Seed| {
        let data_dir = networks.data_dir(name);
        save(&data_dir, "north", north);
        save(&data_dir, "south", south);
        let (status, said) = refused_start(&data_dir, &networks.both());
        assert!(!status.success() && said.contains("network south"), "{said}");
        said
    };
    // As they were made before each chain had keys of its own.
    let said = ends("old", &words, &words);
    assert!(said.contains("same words") && said.contains("node id"), "{said}");
    let others = Seed::from_entropy([82; 32], "").with_scheme(KeyScheme::Chain);
    let said = ends("other", &words, &others);
    assert!(said.contains("other words"), "{said}");

    // An old wallet beside a new one shares nothing with it, and keeps what it had.
    let data_dir = networks.data_dir("one-old");
    save(&data_dir, "north", &words);
    let mut alone = Program::start(&data_dir, &["--network", &networks.north]);
    let old = info(&reconnected(&mut alone).await).await.identity_pubkey;
    alone.stop().await;
    let mut both = Program::start(&data_dir, &networks.both());
    let north = reconnected(&mut both).await;
    let south = north.clone().on_network("south").unwrap();
    wait_until_active(&south).await;
    assert_eq!(info(&north).await.identity_pubkey, old);
    assert_ne!(info(&south).await.identity_pubkey, old);
    both.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_password_that_was_cut_off_between_the_networks_is_told_and_goes_on() {
    const NEW: &[u8] = b"battery staple";
    let networks = Networks::new();
    let data_dir = networks.data_dir("cut");
    let words = Seed::from_entropy([84; 32], "").with_scheme(KeyScheme::Chain);
    for (network, password) in [("north", PASSWORD), ("south", NEW)] {
        let path = Layout::new(data_dir.clone(), network).wallet_seed();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        seed::save(&path, &words, Some(std::str::from_utf8(password).unwrap())).unwrap();
    }
    let mut carol = Program::start(&data_dir, &networks.both());
    let client = carol.client().await;
    let unlock = UnlockWalletRequest { wallet_password: PASSWORD.to_vec(), ..Default::default() };
    let told = client.unlocker().unlock_wallet(unlock).await;
    refused(told, Code::FailedPrecondition, "network south: its wallet has another password");
    // North is open, and says that south is not.
    wait_until_active(&client).await;
    let shown = leyden(&data_dir, &["getinfo"]);
    assert!(shown.contains("the wallet of south is not open"), "{shown}");
    let change =
        ChangePasswordRequest { current_password: PASSWORD.to_vec(), new_password: NEW.to_vec(), ..Default::default() };
    client.unlocker().change_password(change).await.unwrap();
    wait_until_active(&client.clone().on_network("south").unwrap()).await;
    assert!(!leyden(&data_dir, &["getinfo"]).contains("not open"));
    for network in ["north", "south"] {
        let path = Layout::new(data_dir.clone(), network).wallet_seed();
        assert!(seed::load(&path, Some("battery staple")).unwrap() == words);
    }
    carol.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn words_bring_the_coins_back_of_new_wallets_and_of_old_ones() {
    let networks = Networks::new();
    let words = Seed::from_entropy([83; 32], "");
    let mut miner = DaemonProcess::new(networks.folder.path(), "miner", &["--network", &networks.north]).unwrap();
    miner.start().await.unwrap();
    let chain = miner.chain_address().unwrap();
    let flags = ["--network", networks.north.as_str(), "--chain-connect", &chain];
    let mut rewards = Vec::new();
    for (name, scheme) in [("old", KeyScheme::Coin), ("new", KeyScheme::Chain)] {
        let data_dir = networks.data_dir(name);
        save(&data_dir, "north", &words.clone().with_scheme(scheme));
        let mut node = Program::start(&data_dir, &flags);
        rewards.push(address(&reconnected(&mut node).await).await);
        node.stop().await;
    }
    miner.mine(1, Some(&rewards[0])).await.unwrap();
    miner.mine(2, Some(&rewards[1])).await.unwrap();
    miner.mine(MATURE, Some(NOBODY)).await.unwrap();

    let words_file = networks.folder.path().join("words");
    fs::write(&words_file, words.words().join(" ")).unwrap();
    let password = networks.folder.path().join("password");
    fs::write(&password, "correct horse").unwrap();
    const REWARD: i64 = 5_000_000_000;
    // Without a word, keys are those of a new wallet here.
    for (name, keys, coins) in [("a", Some("coin"), REWARD), ("b", Some("chain"), 2 * REWARD), ("c", None, 2 * REWARD)]
    {
        let data_dir = networks.data_dir(name);
        let mut node = Program::start(&data_dir, &flags);
        node.client().await;
        let mut create = vec!["create", "--words-file", words_file.to_str().unwrap()];
        create.extend(["--password-file", password.to_str().unwrap()]);
        create.extend(keys.iter().flat_map(|keys| ["--keys", keys]));
        leyden(&data_dir, &create);
        let client = reconnected(&mut node).await;
        wait_until("the wallet to find its coins", || async {
            let balance = client.lightning().wallet_balance(WalletBalanceRequest::default()).await.unwrap();
            Ok(balance.into_inner().confirmed_balance == coins)
        })
        .await
        .unwrap();
        node.stop().await;
    }

    // A word that is none is no reason to guess.
    let mut node = Program::start(&networks.data_dir("d"), &flags);
    let mut request = tonic::Request::new(InitWalletRequest {
        wallet_password: PASSWORD.to_vec(),
        cipher_seed_mnemonic: words.words(),
        ..InitWalletRequest::default()
    });
    request.metadata_mut().insert(KEYS, "moon".parse().unwrap());
    let client = node.client().await;
    refused(client.unlocker().init_wallet(request).await, Code::InvalidArgument, "`coin` or by `chain`");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_the_networks_apart() {
    let networks = Networks::new();
    let mut flags = networks.both().to_vec();
    flags.extend(["--metrics", "127.0.0.1:0"]);
    let mut carol = DaemonProcess::new(networks.folder.path(), "carol", &flags).unwrap();
    carol.start().await.unwrap();
    let south = carol.on_second("carol on south").unwrap();
    south.mine(2, None).await.unwrap();
    carol.mine(1, None).await.unwrap();
    south.invoice(1_000, "tea").await.unwrap();
    let metrics = carol.metrics_address().unwrap().unwrap();
    let heights = || async {
        let page = scrape(metrics).await.text;
        let has = |line: &str| page.lines().any(|one| one == line);
        Ok(has("leyden_chain_height 1") && has("leyden_chain_height{network=\"south\"} 2"))
    };
    wait_until("both heights to be told", heights).await.unwrap();
    let page = scrape(metrics).await.text;
    for line in [
        "leyden_wallet_open 1",
        "leyden_wallet_open{network=\"south\"} 1",
        "leyden_payments_total{outcome=\"succeeded\"} 0",
        "leyden_payments_total{outcome=\"succeeded\",network=\"south\"} 0",
        "leyden_channels_usable{network=\"south\"} 0",
        "leyden_invoices_added_total 0",
        "leyden_invoices_added_total{network=\"south\"} 1",
    ] {
        assert!(page.lines().any(|one| one == line), "{line}:\n{page}");
    }
    let commits = |labels: &str| {
        let start = format!("leyden_commit_seconds_count{{{labels}}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{start}: {page}")).parse::<u64>().unwrap()
    };
    assert!(commits("database=\"node\",network=\"south\"") > commits("database=\"node\""));
    let once = page.lines().filter(|line| line.starts_with("process_start_time_seconds")).count();
    assert_eq!(once, 1, "there is one process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_on_the_second_network_names_it() {
    let networks = Networks::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (name, flag) in [("peers", "--also-listen"), ("blocks", "--also-chain-listen")] {
        let mut flags = networks.both().to_vec();
        flags.extend(["--no-wallet-password", flag, &address]);
        let (status, said) = refused_start(&networks.data_dir(name), &flags);
        assert!(!status.success() && said.contains(flag) && said.contains(&address), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_on_both_networks_come_back_after_a_kill() {
    let networks = Networks::new();
    let folder = networks.folder.path();
    let mut carol = DaemonProcess::new(folder, "carol", &networks.both()).unwrap();
    carol.start().await.unwrap();
    let on_south = carol.on_second("carol on south").unwrap();
    let mut others = Vec::new();
    for (name, file, ours) in [("alice", &networks.north, &carol), ("bob", &networks.south, &on_south)] {
        let chain = ours.chain_address().unwrap();
        let mut other = DaemonProcess::new(folder, name, &["--network", file, "--chain-connect", &chain]).unwrap();
        other.start().await.unwrap();
        ours.mine(1, None).await.unwrap();
        ours.mine(MATURE, Some(NOBODY)).await.unwrap();
        other.wait_for_height(MATURE + 1).await.unwrap();
        ours.connect(&other).await.unwrap();
        ours.open_channel(&other, 1_000_000, 0).await.unwrap();
        ours.mine(DEEP, Some(NOBODY)).await.unwrap();
        other.wait_for_active_channels(1).await.unwrap();
        ours.wait_for_active_channels(1).await.unwrap();
        others.push(other);
    }
    carol.kill();
    carol.start().await.unwrap();
    let on_south = carol.on_second("carol on south").unwrap();
    for (ours, other) in [(&carol, &others[0]), (&on_south, &others[1])] {
        ours.wait_for_active_channels(1).await.unwrap();
        let invoice = other.invoice(1_000, "tea").await.unwrap();
        let payment = ours.pay(invoice).await.unwrap();
        assert_eq!(payment.failure_reason, 0, "{payment:?}");
    }
    let status = carol.terminate().unwrap();
    assert!(status.success());
}

async fn crossings(node: &DaemonProcess) -> Vec<CrossingInfo> {
    let list = node.client().unwrap().crossing().list(ListCrossingsRequest {}).await;
    list.unwrap().into_inner().crossings
}

async fn reaches(node: &DaemonProcess, state: &str) {
    wait_until(&format!("the crossing to be {state}"), || async {
        Ok(crossings(node).await.iter().all(|crossing| crossing.state == state))
    })
    .await
    .unwrap();
}

/// The owner's money hangs on what the node remembers, whichever network is named first.
#[tokio::test(flavor = "multi_thread")]
async fn a_crossing_goes_on_when_the_networks_are_named_the_other_way_round() {
    let networks = Networks::new();
    let folder = networks.folder.path();
    let mut alice = DaemonProcess::new(folder, "alice", &["--network", &networks.north]).unwrap();
    alice.start().await.unwrap();
    let mut bob = DaemonProcess::new(folder, "bob", &["--network", &networks.south]).unwrap();
    bob.start().await.unwrap();
    let (to_alice, to_bob) = (alice.chain_address().unwrap(), bob.chain_address().unwrap());
    let named = |first: &str, second: &str, to_first: &str, to_second: &str| {
        ["--network", first, "--also", second, "--chain-connect", to_first, "--also-chain-connect", to_second]
            .map(str::to_owned)
    };
    let flags = named(&networks.north, &networks.south, &to_alice, &to_bob);
    let mut carol = DaemonProcess::new(folder, "carol", &flags.each_ref().map(String::as_str)).unwrap();
    carol.start().await.unwrap();
    let on_south = carol.on_second("carol on south").unwrap();
    for (miner, other) in [(&alice, &carol), (&bob, &on_south)] {
        miner.mine(1, None).await.unwrap();
        miner.mine(MATURE, Some(NOBODY)).await.unwrap();
        other.wait_for_height(MATURE + 1).await.unwrap();
    }
    // Carol connects to both, so that her ports may change; what Bob gets comes from his own coin.
    for (ours, other, push) in [(&carol, &alice, 0), (&on_south, &bob, 5_000_000)] {
        ours.connect(other).await.unwrap();
        other.open_channel(ours, 10_000_000, push).await.unwrap();
        other.mine(DEEP, Some(NOBODY)).await.unwrap();
        ours.wait_for_active_channels(1).await.unwrap();
        other.wait_for_active_channels(1).await.unwrap();
    }
    let client = carol.client().unwrap();
    let rate = CrossingRate {
        incoming: "north".to_owned(),
        outgoing: "south".to_owned(),
        take: 1,
        give: 10,
        most_msat: 2_000_000_000,
        most_held_msat: 2_000_000_000,
        route_fee_ppm: 5_000,
        ..CrossingRate::default()
    };
    client.crossing().set_rate(SetCrossingRateRequest { rate: Some(rate), off: false }).await.unwrap();
    let held = HeldPayment::new(7, 100_000);
    let invoice = bob.hold_invoice(&held).await.unwrap();
    let crossing = client.crossing().cross(CrossRequest { payment_request: invoice, ..CrossRequest::default() }).await;
    let request = SendPaymentRequest {
        payment_request: crossing.unwrap().into_inner().payment_request,
        timeout_seconds: 60,
        fee_limit_sat: 1_000,
        no_inflight_updates: true,
        ..SendPaymentRequest::default()
    };
    let mut paying = alice.client().unwrap().router().send_payment_v2(request).await.unwrap().into_inner();
    wait_until("the payment to hang on south", || async {
        let channels = bob.channels().await?;
        Ok(channels.iter().any(|channel| !channel.pending_htlcs.is_empty()))
    })
    .await
    .unwrap();

    carol.kill();
    carol.forget_addresses();
    let flags = named(&networks.south, &networks.north, &to_bob, &to_alice);
    carol.set_flags(&flags.each_ref().map(String::as_str));
    carol.start().await.unwrap();
    let on_north = carol.on_second("carol on north").unwrap();
    carol.wait_for_active_channels(1).await.unwrap();
    on_north.wait_for_active_channels(1).await.unwrap();
    assert!(crossings(&carol).await.is_empty(), "it was north that was told of it");
    assert_eq!(crossings(&on_north).await.len(), 1);
    reaches(&on_north, "paying").await;
    bob.settle(&[held]).await.unwrap();
    reaches(&on_north, "crossed").await;
    let payment = paying.message().await.unwrap().unwrap();
    assert_eq!((payment.failure_reason, payment.value_sat), (0, 10_000), "{payment:?}");
}
