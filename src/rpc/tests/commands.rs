//! The command line of `leyden` over a stand-in for the daemon: what is typed reaches it, and what it answers is printed.

use std::{
    fs,
    io::{self, Write},
    sync::Mutex,
};

use clap::Parser as _;
use leyden_client::cli::{Cli, CliError, Context};
use tempfile::TempDir;

use super::{
    super::fake::{ADDRESS, Fake, NODE, invoice, payment},
    Arc, Authorizer, CancellationToken, FailureReason, InvoiceState, PaymentPreimage, PaymentState, RootKey,
    ServeOptions, Services, TcpListener, WalletState, serve, slots, tls,
};
use crate::{
    config::{Layout, Running},
    macaroon::{ADMIN, Permission},
};

/// A node whose services answer from a stand-in, with certificate and macaroon where a client looks for them.
struct Node {
    folder: TempDir,
    fake: Fake,
}

impl Node {
    async fn start(state: WalletState) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().into(), "regtest");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rpc = listener.local_addr().unwrap();
        let identity = tls::open(&layout, rpc, &[]).unwrap();
        let key = RootKey::new([1; 32]);
        fs::create_dir_all(layout.macaroon("admin").parent().unwrap()).unwrap();
        fs::write(layout.macaroon("admin"), key.bake(ADMIN, [0; 16]).to_bytes()).unwrap();
        let running = Running {
            pid: 1,
            network: "regtest".to_owned(),
            rpc,
            listen: None,
            chain_listen: None,
            bitcoin_rpc: None,
            rest: None,
            tower: None,
            metrics: None,
            also: None,
        };
        fs::write(layout.running(), serde_json::to_vec(&running).unwrap()).unwrap();
        let fake = Fake::new(state);
        let (authorizer, stopping) = (Authorizer::Macaroons(Arc::new(key)), CancellationToken::new());
        let services = Services::new(vec![Arc::new(fake.clone())], authorizer, stopping.clone()).await.unwrap();
        tokio::spawn(serve(ServeOptions { services, tls: Some(identity), listener, slots: slots(), stopping }));
        Self { folder, fake }
    }

    /// What the command prints.
    async fn run(&self, line: &str) -> Result<String, CliError> {
        let Cli { mut global, command } = Cli::try_parse_from(format!("leyden {line}").split_whitespace()).unwrap();
        global.data_dir = Some(self.folder.path().into());
        let printed = Printed::default();
        let context = Context::with_output(global, Box::new(printed.clone()));
        command.run(&context).await?;
        let bytes = printed.0.lock().unwrap().clone();
        Ok(String::from_utf8(bytes).unwrap())
    }

    fn asked(&self) -> String {
        self.fake.script().asked.clone()
    }
}

#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn every_command_prints_for_people_and_for_programs() {
    let node = Node::start(WalletState::ServerActive).await;
    node.fake.script().payments = vec![payment(PaymentState::Succeeded { preimage: PaymentPreimage([9; 32]) })];
    node.fake.script().invoices = vec![invoice(1, InvoiceState::Open)];
    let hash = "ab".repeat(32);
    for (line, part) in [
        ("state".to_owned(), "SERVER_ACTIVE"),
        ("getinfo".to_owned(), "alice"),
        ("getinfo".to_owned(), "WARNING: careful"),
        ("newaddress".to_owned(), ADDRESS),
        ("walletbalance".to_owned(), "spendable after 100 blocks  3 sat"),
        ("channelbalance".to_owned(), "local"),
        (format!("sendcoins {ADDRESS} 1,000"), "201f1e"),
        ("listchaintxns".to_owned(), "transactions"),
        ("listunspent".to_owned(), ADDRESS),
        (format!("connect {NODE}@localhost"), "connected"),
        ("listpeers".to_owned(), "peers"),
        ("peers --limits".to_owned(), "lightning.strangers"),
        (format!("disconnect {NODE}"), "disconnected"),
        (format!("openchannel {NODE} 100000"), "201f1e"),
        (format!("openchannel {NODE}@localhost 0.001btc 5 --wait"), "201f1e"),
        (format!("closechannel {hash}:0"), "201f1e"),
        (format!("closechannel {hash}:0 --force --wait"), "201f1e"),
        ("listchannels".to_owned(), "channel"),
        ("pendingchannels".to_owned(), "channel"),
        ("closedchannels".to_owned(), "channel"),
        ("addinvoice 5 --memo tea".to_owned(), "lnbcrt1"),
        (format!("addholdinvoice {hash} 5"), "lnbcrt1"),
        (format!("settleinvoice {hash}"), "taken"),
        (format!("cancelinvoice {hash}"), "given up"),
        (format!("keysend {NODE} 5"), "090909"),
        (format!("lookupinvoice {hash}"), "coffee"),
        ("listinvoices".to_owned(), "coffee"),
        ("subscribeinvoices".to_owned(), "coffee"),
        ("decodepayreq lnbcrt1".to_owned(), "coffee"),
        ("payinvoice lnbcrt1".to_owned(), "090909"),
        (format!("trackpayment {hash}"), "090909"),
        ("listpayments".to_owned(), "1"),
        ("graph describe".to_owned(), "bob"),
        (format!("graph node {NODE}"), NODE),
        ("graph channel 103x1x0".to_owned(), "103x1x0"),
        ("graph info".to_owned(), "nodes"),
        (format!("route {NODE} 5000"), "103x1x0"),
        (format!("route {NODE} 5000 --via {NODE}"), "103x1x0"),
        ("route lnbcrt1".to_owned(), "yes"),
        ("resetmc".to_owned(), "forgotten"),
        ("bakemacaroon info:read".to_owned(), "6d616361"),
        ("listmacaroonids".to_owned(), "7"),
        ("deletemacaroonid 7".to_owned(), "nothing"),
        ("listpermissions".to_owned(), "/lnrpc.Lightning/GetInfo"),
        ("feereport".to_owned(), "103x1x0"),
        ("updatechanpolicy 1000 250 80".to_owned(), "new terms"),
        ("fwdinghistory".to_owned(), "bob"),
        ("chain tip".to_owned(), "0f9188f1"),
        ("chain block 0".to_owned(), "0f9188f1"),
        (format!("chain tx {hash}"), "4a5e1e4b"),
        ("chain mine start".to_owned(), ""),
        ("chain hashrate".to_owned(), "mining"),
        ("chain utxohash".to_owned(), "070707"),
        ("chain peers".to_owned(), "peers"),
        ("chain connect 127.0.0.1:18445".to_owned(), ""),
        ("stop".to_owned(), "stopping"),
    ] {
        let text = node.run(&line).await.unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(!text.trim().is_empty(), "{line} says nothing to people");
        let json = node.run(&format!("{line} --json")).await.unwrap();
        serde_json::from_str::<serde_json::Value>(&json).unwrap_or_else(|error| panic!("{line}: {error} in {json}"));
        assert!(text.contains(part) || json.contains(part), "{line}: {text}");
    }
    let blocks = node.run("chain generate 2 --json").await.unwrap();
    let blocks = serde_json::Deserializer::from_str(&blocks).into_iter::<serde_json::Value>();
    assert_eq!(blocks.map(|block| block.unwrap()["found"].clone()).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn what_is_typed_reaches_the_node() {
    let node = Node::start(WalletState::ServerActive).await;
    node.run(&format!("openchannel {NODE} 0.01btc 5,000 --private --channel-type tweakless")).await.unwrap();
    for part in ["Exactly(1000000 SAT)", "push: Msat(5000000)", "announce: false", "Some(StaticRemoteKey)"] {
        assert!(node.asked().contains(part), "{} has no {part}", node.asked());
    }
    node.run(&format!("sendcoins {ADDRESS} --sweepall --spend-unconfirmed")).await.unwrap();
    assert!(node.asked().contains("All") && node.asked().contains("min_confirmations: 0"), "{}", node.asked());
    assert!(node.asked().contains("reserve: Keep"), "{}", node.asked());
    node.run(&format!("sendcoins {ADDRESS} --sweepall --spend-reserve")).await.unwrap();
    assert!(node.asked().contains("reserve: Spend"), "{}", node.asked());
    assert!(node.asked().contains("refuses_high_fee: true"), "{}", node.asked());
    node.run(&format!("sendcoins {ADDRESS} 1000 --yes")).await.unwrap();
    assert!(node.asked().contains("refuses_high_fee: false"), "{}", node.asked());
    node.fake.script().payments = vec![payment(PaymentState::Succeeded { preimage: PaymentPreimage([9; 32]) })];
    node.run("payinvoice lnbcrt1 --timeout 5").await.unwrap();
    assert!(node.asked().contains("max_fee: Msat(1500)") && node.asked().contains("timeout: 5s"), "{}", node.asked());
}

#[tokio::test]
async fn a_failed_payment_is_a_failed_command() {
    let node = Node::start(WalletState::ServerActive).await;
    let failed = PaymentState::Failed { reason: FailureReason::InsufficientBalance };
    node.fake.script().payments = vec![payment(PaymentState::InFlight), payment(failed)];
    let error = node.run("payinvoice lnbcrt1").await.unwrap_err();
    assert!(error.to_string().contains("do not hold enough"), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test]
async fn a_wallet_is_made_and_opened_without_a_terminal() {
    let node = Node::start(WalletState::NonExisting).await;
    let error = node.run("getinfo").await.unwrap_err();
    assert!(error.to_string().contains("leyden create"), "{error}");
    let password = node.folder.path().join("password");
    fs::write(&password, "correct horse\nbattery").unwrap();
    let password = password.display();
    let words = node.run(&format!("create --password-file {password}")).await.unwrap();
    assert!(words.contains(" 1. abandon") && words.contains("24. abandon"), "{words}");
    let answer = node.run(&format!("unlock --password-file {password}")).await.unwrap();
    assert!(answer.contains("open"), "{answer}");
    assert!(node.run("state").await.unwrap().contains("SERVER_ACTIVE"));

    let few = node.folder.path().join("words");
    fs::write(&few, "abandon ability").unwrap();
    let line = format!("create --password-file {password} --words-file {}", few.display());
    let error = node.run(&line).await.unwrap_err();
    assert!(error.to_string().contains("2 words"), "{error}");
}

#[tokio::test]
async fn a_watchtower_shows_where_it_is_and_what_it_guards() {
    let node = Node::start(WalletState::ServerActive).await;
    let text = node.run("tower info").await.unwrap_err().to_string();
    assert!(text.contains("leydend with --tower"), "{text}");
    node.fake.script().runs_tower = true;
    let text = node.run("tower info").await.unwrap();
    assert!(text.contains(&format!("{NODE}@127.0.0.1:9911")), "{text}");
    let text = node.run("tower stats").await.unwrap();
    for part in
        ["1,000,000", "232,000,000", "revoked state 42", "in block 200", "344", "900", "broadcast", "in block 202"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = node.run("--json tower stats").await.unwrap();
    assert!(json.contains("\"commitment_number\"") && json.contains("\"num_peers\""), "{json}");
    // The stand-in has no chain peer.
    assert!(text.contains("chain peers") && text.contains("--chain-connect"), "{text}");
}

#[tokio::test]
async fn programs_get_warnings_and_coverage_too() {
    let node = Node::start(WalletState::ServerActive).await;
    for (command, field) in [
        ("--json getinfo", "\"careful\""),
        ("--json listchannels", "\"coverage\""),
        ("--json tower deactivate 0279be", "\"active\": false"),
        ("--json tower remove 0279be", "\"warnings\""),
    ] {
        let json = node.run(command).await.unwrap();
        serde_json::from_str::<serde_json::Value>(&json).unwrap();
        assert!(json.contains(field), "{command}: {json}");
    }
}

#[tokio::test]
async fn what_a_macaroon_does_not_allow_is_left_out_and_said() {
    let node = Node::start(WalletState::ServerActive).await;
    let info = Permission { entity: "info", action: "read" };
    let macaroon = RootKey::new([1; 32]).bake(&[info], [0; 16]).to_bytes();
    fs::write(Layout::new(node.folder.path().into(), "regtest").macaroon("admin"), macaroon).unwrap();
    let text = node.run("getinfo").await.unwrap();
    assert!(text.contains("alice") && text.contains("does not allow offchain:read"), "{text}");
    assert!(!text.contains("WARNING"), "{text}");
    assert!(node.run("--json getinfo").await.unwrap().contains("\"warnings\": null"));
}

#[tokio::test]
async fn a_watchtower_alone_says_that_it_has_no_wallet() {
    let node = Node::start(WalletState::ServerActive).await;
    node.fake.script().is_tower_only = true;
    let text = node.run("walletbalance").await.unwrap_err().to_string();
    assert!(text.contains("--tower-only"), "{text}");
}
