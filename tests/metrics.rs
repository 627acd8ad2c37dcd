//! `leydend --metrics`: what a collector reads on a real page, who may ask, and what a crowd may cost.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use harness::{
    Folder, Program, assert_calm, descriptors, leyden,
    network::{Opening, mine, network_with},
    refused_start, running,
    scrape::{Scraped, request, scrape},
};
use leyden_client::{
    cluster::{ClusterError, DaemonProcess, wait_for, wait_until},
    demo::{NOBODY, calls::succeeded},
};
use leyden_proto::{
    leyden::{Limit, ListLimitsRequest},
    lnrpc::ChannelBalanceRequest,
    watchtowerrpc,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

const CAPACITY: i64 = 5_000_000;
const SAT: f64 = 1_000.0;
/// Longer than anything here takes on any machine.
const LONG: Duration = Duration::from_secs(120);

async fn page(node: &DaemonProcess) -> Scraped {
    scrape(running(node).metrics.expect("metrics are served")).await
}

/// Waits for a page of which this holds.
async fn page_with(node: &DaemonProcess, what: &str, holds: impl Fn(&Scraped) -> bool) -> Scraped {
    let look = || async {
        let page = page(node).await;
        Ok::<_, ClusterError>(holds(&page).then_some(page))
    };
    wait_for(&format!("{}'s page to tell of {what}", node.name()), look).await.unwrap()
}

async fn limits(node: &DaemonProcess) -> Vec<Limit> {
    node.client().unwrap().limits().list_limits(ListLimitsRequest {}).await.unwrap().into_inner().limits
}

/// Alice pays Carol through Bob, who forwards it. Carol's watchtower guards Alice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_tells_what_happens_to_blocks_channels_payments_and_backups() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let folder = Folder::new();
    let flags = ["--metrics", "127.0.0.1:0", "--tower", "--tower-listen", "127.0.0.1:0"];
    let openings = [Opening { from: 0, to: 1, push: 0 }, Opening { from: 1, to: 2, push: 0 }];
    let nodes = network_with(&folder, &["alice", "bob", "carol"], &flags, CAPACITY, &openings).await;
    let [alice, bob, carol] = nodes.as_slice() else { panic!("three nodes") };

    // Everything stands there before it happens.
    let before = page(alice).await;
    assert_eq!(before.sum("leyden_payments_total"), 0.0);
    assert_eq!(before.get("leyden_payments_total{outcome=\"succeeded\"}"), 0.0);
    assert_eq!(before.get("leyden_payment_seconds_count{outcome=\"succeeded\"}"), 0.0);
    assert_eq!(before.get("leyden_channels{state=\"normal\"}"), 1.0);
    assert_eq!(before.get("leyden_channels{state=\"closing\"}"), 0.0);
    assert_eq!(before.get("leyden_channels_opened_total"), 1.0);
    assert_eq!(before.get("leyden_channels_usable"), 1.0);
    assert_eq!(before.get("leyden_peers{kind=\"known\"}"), 1.0);
    assert_eq!((before.get("leyden_gossip_channels"), before.get("leyden_gossip_nodes")), (2.0, 3.0));
    assert_eq!(before.get("leyden_wallet_open"), 1.0);
    assert!(before.get("leyden_wallet_confirmed_sat") > 0.0 && before.get("leyden_wallet_coins") >= 1.0);
    assert!(before.get("leyden_commit_seconds_count{database=\"node\"}") > 0.0);
    assert!(before.get("leyden_commit_bytes_sum{database=\"node\"}") > 0.0);
    assert_eq!(before.get("leyden_tower_client_channels{covered=\"no\"}"), 1.0);
    assert!(before.get("process_resident_memory_bytes") > 1e6 && before.get("process_open_fds") > 10.0);
    assert!(before.get("process_start_time_seconds") > 1.7e9);
    assert_eq!(before.get("leyden_build_info{version=\"0.1.0\"}"), 1.0);

    // Every limit, as `leyden peers --limits` tells it.
    let limits = limits(alice).await;
    assert_eq!(before.of("leyden_limit_maximum").count(), limits.len());
    for limit in &limits {
        let series = format!("leyden_limit_maximum{{limit=\"{}\"}}", limit.name);
        assert_eq!(before.get(&series), limit.limit as f64, "{series}");
    }
    assert!(before.get("leyden_limit_used{limit=\"metrics.callers\"}") >= 1.0);

    // Carol guards Alice.
    let info = carol.client().unwrap().watchtower().get_info(watchtowerrpc::GetInfoRequest {}).await.unwrap();
    leyden(alice.data_dir(), &["tower", "add", info.into_inner().uris[0].as_str()]);
    page_with(alice, "the tower", |page| page.get("leyden_tower_client_towers{state=\"connected\"}") == 1.0).await;

    // A payment, its forward, its invoice.
    let payment = alice.pay(carol.invoice(10_000, "a cup of tea").await.unwrap()).await.unwrap();
    assert!(succeeded(&payment), "{payment:?}");
    let fee = payment.fee_msat as f64;
    let after = page_with(alice, "the payment", |page| page.sum("leyden_payments_total") > 0.0).await;
    assert_eq!(after.get("leyden_payments_total{outcome=\"succeeded\"}"), 1.0);
    assert_eq!(after.sum("leyden_payments_total"), 1.0);
    assert_eq!(after.get("leyden_payments_sent_msat_total"), 10_000.0 * SAT);
    assert_eq!(after.get("leyden_payments_fees_msat_total"), fee);
    assert_eq!(after.get("leyden_payment_seconds_count{outcome=\"succeeded\"}"), 1.0);
    assert!(after.get("leyden_payment_seconds_sum{outcome=\"succeeded\"}") > 0.0);
    assert_eq!(after.sum("leyden_forwards_total"), 0.0);
    let forwarded = page_with(bob, "the forward", |page| page.sum("leyden_forwards_total") > 0.0).await;
    assert_eq!(forwarded.get("leyden_forwards_total{outcome=\"settled\"}"), 1.0);
    assert_eq!(forwarded.get("leyden_forwards_offered_total"), 1.0);
    assert_eq!(forwarded.get("leyden_forwards_fees_msat_total"), fee);
    let paid = page_with(carol, "the invoice", |page| page.sum("leyden_invoices_total") > 0.0).await;
    assert_eq!(paid.get("leyden_invoices_total{outcome=\"settled\"}"), 1.0);
    assert_eq!(paid.get("leyden_invoices_added_total"), 1.0);
    assert_eq!(paid.get("leyden_invoices_received_msat_total"), 10_000.0 * SAT);

    // What is not there fails, and is counted by its reason.
    let payment = alice.pay(carol.invoice(2 * CAPACITY, "too much").await.unwrap()).await.unwrap();
    assert!(!succeeded(&payment));
    let failed = page_with(alice, "the failure", |page| page.sum("leyden_payments_total") > 1.0).await;
    assert_eq!(failed.get("leyden_payments_total{outcome=\"succeeded\"}"), 1.0);
    assert_eq!(failed.get("leyden_payment_seconds_count{outcome=\"failed\"}"), 1.0);

    // The balances are those of the RPC, once nothing is under way.
    wait_until("the HTLC to be gone", || async { Ok(alice.channels().await?[0].pending_htlcs.is_empty()) })
        .await
        .unwrap();
    let balance = alice.client().unwrap().lightning().channel_balance(ChannelBalanceRequest {}).await.unwrap();
    let balance = balance.into_inner().local_balance.unwrap().msat as f64;
    page_with(alice, "her balance", |page| {
        page.get("leyden_channels_local_msat") == balance && page.sum("leyden_channels_htlcs") == 0.0
    })
    .await;

    // The backup of the state that the payment has revoked, on both sides.
    let covered = page_with(alice, "the backups", |page| {
        page.get("leyden_tower_client_backups_acknowledged") > 0.0
            && page.get("leyden_tower_client_channels{covered=\"yes\"}") == 1.0
            && page.get("leyden_tower_client_backups_queued") == 0.0
    })
    .await;
    assert_eq!(covered.get("leyden_tower_client_channels{covered=\"no\"}"), 0.0);
    let held = covered.get("leyden_tower_client_backups_acknowledged");
    let tower = page_with(carol, "what her tower holds", |page| page.get("leyden_tower_states") == held).await;
    assert_eq!((tower.get("leyden_tower_clients"), tower.get("leyden_tower_channels")), (1.0, 1.0));
    assert_eq!(tower.get("leyden_tower_connected_clients"), 1.0);
    assert!(tower.get("leyden_tower_stored_bytes") > 0.0 && tower.get("leyden_tower_receipts_total") >= 1.0);
    assert!(tower.get("leyden_commit_seconds_count{database=\"tower\"}") > 0.0);
    assert_eq!((tower.get("leyden_tower_open_breaches"), tower.sum("leyden_tower_breaches_total")), (0.0, 0.0));

    // A block.
    let height = failed.get("leyden_chain_height");
    let (found, connected) =
        (failed.get("leyden_mining_blocks_found_total"), failed.get("leyden_chain_blocks_connected_total"));
    mine(&nodes, 1).await;
    let mined = page_with(alice, "the block", |page| page.get("leyden_chain_height") == height + 1.0).await;
    assert_eq!(mined.get("leyden_mining_blocks_found_total"), found + 1.0);
    assert_eq!(mined.get("leyden_chain_blocks_connected_total"), connected + 1.0);
    assert!(mined.get("leyden_mining_hashes_total") > 0.0);
    assert!(mined.get("leyden_chain_sent_bytes_total") > 1_000.0);
    assert_eq!(mined.get("leyden_chain_peers{direction=\"inbound\"}"), 2.0);
    assert_eq!(mined.get("leyden_chain_reorganisations_total"), 0.0);
    page_with(bob, "the block", |page| {
        page.get("leyden_chain_height") == height + 1.0 && page.get("leyden_mining_blocks_found_total") == 0.0
    })
    .await;

    // The channel ends together, then the next one by force.
    let channel = alice.only_channel().await.unwrap().channel_point;
    leyden(alice.data_dir(), &["closechannel", &channel]);
    wait_until("the closing transaction", || async { Ok(!harness::mempool(alice).await.is_empty()) }).await.unwrap();
    mine(&nodes, 1).await;
    page_with(bob, "the close", |page| page.get("leyden_channels_closed_total{by=\"both\"}") == 1.0).await;
    let channel = carol.only_channel().await.unwrap().channel_point;
    leyden(carol.data_dir(), &["closechannel", &channel, "--force"]);
    wait_until("the commitment transaction", || async { Ok(!harness::mempool(alice).await.is_empty()) }).await.unwrap();
    mine(&nodes, 1).await;
    let carols = page_with(carol, "her close", |page| page.get("leyden_channels_closed_total{by=\"local\"}") == 1.0);
    assert_eq!(carols.await.get("leyden_channels{state=\"closing\"}"), 1.0);
    page_with(bob, "Carol's close", |page| page.get("leyden_channels_closed_total{by=\"remote\"}") == 1.0).await;

    // Nobody is named.
    let pages = [page(alice).await, page(bob).await, page(carol).await];
    for node in &nodes {
        let id = node.node_id().await.unwrap();
        assert!(pages.iter().all(|page| !page.text.contains(&id) && !page.text.contains(&channel[..64])));
        assert_calm(node.name(), &node.log());
    }
}

/// All that a program says of where it serves metrics.
async fn metrics_of(program: &mut Program) -> SocketAddr {
    let _ = program.client().await;
    program.running().metrics.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_wallet_is_locked_the_page_tells_what_is_known() {
    let folder = Folder::new();
    let mut program = Program::start(folder.path(), &["--metrics", "127.0.0.1:0"]);
    let address = metrics_of(&mut program).await;
    let page = scrape(address).await;
    assert_eq!((page.get("leyden_wallet_open"), page.get("leyden_chain_height")), (0.0, 0.0));
    assert_eq!(page.get("leyden_payments_total{outcome=\"succeeded\"}"), 0.0);
    assert!(page.find("leyden_wallet_confirmed_sat").is_none() && page.find("leyden_channels_usable").is_none());
    assert!(page.find("leyden_tower_states").is_none(), "no tower runs");

    for path in ["/", "/metrics/", "/metric", "/metrics/x"] {
        let (head, _) = request(address, "GET", path).await;
        assert!(head.starts_with("HTTP/1.1 404 "), "{path}: {head}");
    }
    let (head, _) = request(address, "POST", "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    assert!(!program.log().contains("without a password"));
    program.stop().await;
    assert_calm("the daemon", &program.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tower_alone_has_metrics_and_other_machines_are_warned_of() {
    let folder = Folder::new();
    let flags = ["--tower-only", "--tower-listen", "127.0.0.1:0", "--metrics", "0.0.0.0:0"];
    let mut program = Program::start(folder.path(), &flags);
    let address = metrics_of(&mut program).await;
    let page = scrape((Ipv4Addr::LOCALHOST, address.port()).into()).await;
    assert_eq!((page.get("leyden_tower_clients"), page.get("leyden_tower_receipts_total")), (0.0, 0.0));
    assert!(page.find("leyden_wallet_open").is_none() && page.sum("leyden_payments_total") == 0.0);
    assert!(!page.text.contains("leyden_payments"));
    assert!(program.log().contains("without a password and not encrypted"), "{}", program.log());

    // What others have taken is named with the flag.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    let (status, said) = refused_start(&folder.path().join("other"), &["--metrics", &at]);
    assert!(!status.success() && said.contains("--metrics") && said.contains(&at), "{said}");
    program.stop().await;
}

/// Connections from an address of this machine that nobody else has.
async fn connections(address: SocketAddr, count: u64) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        // Little is on its way to one that does not read.
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.bind((IpAddr::from(Ipv4Addr::new(127, 9, 7, 1)), 0).into()).unwrap();
        streams.push(timeout(LONG, socket.connect(address)).await.expect("a place in the backlog").unwrap());
    }
    streams
}

/// Waits until the other end has hung up.
async fn ended(stream: &mut TcpStream) {
    let mut bytes = vec![0; 1 << 16];
    let end = async { while matches!(stream.read(&mut bytes).await, Ok(1..)) {} };
    timeout(LONG, end).await.expect("a connection that is hung up on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_slow_and_unread_connections_end_and_do_not_grow() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let folder = Folder::new();
    let mut node = DaemonProcess::new(folder.path(), "alice", &["--metrics", "127.0.0.1:0"]).unwrap();
    node.start().await.unwrap();
    node.mine(1, Some(NOBODY)).await.unwrap();
    let (pid, address) = (running(&node).pid, running(&node).metrics.unwrap());
    let of_callers = || async {
        let limits = limits(&node).await;
        limits.into_iter().find(|limit| limit.name == "metrics.callers").expect("the limit of callers")
    };
    wait_until("nobody to ask", || async { Ok(of_callers().await.used == 0) }).await.unwrap();
    let (room, files) = (of_callers().await.limit, descriptors(pid));

    // Those who say nothing, and those who say little, give way to one another and never to who asks.
    let mut silent = connections(address, room + 20).await;
    let mut slow = connections(address, 3).await;
    for stream in &mut slow {
        // They may have given way already.
        let _ = stream.write_all(b"GET /metr").await;
    }
    scrape(address).await;
    let used = of_callers().await;
    assert!(used.used <= used.limit && used.refused >= 20, "{used:?}");
    assert!(descriptors(pid) <= files + usize::try_from(room).unwrap() + 8);
    for stream in silent.iter_mut().chain(&mut slow) {
        ended(stream).await;
    }

    // Who asks and does not read what comes is hung up on, whatever it has asked for.
    let mut unread = connections(address, 1).await.remove(0);
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // Until nothing more is taken, and so nothing more is read: for longer than an answer takes.
    while timeout(Duration::from_secs(2), unread.write_all(&request.repeat(100))).await.is_ok_and(|sent| sent.is_ok()) {
    }
    wait_until("the caller who does not read to be hung up on", || async { Ok(of_callers().await.used == 0) })
        .await
        .unwrap();
    wait_until("its descriptor to be free", || async { Ok(descriptors(pid) <= files + 2) }).await.unwrap();
    scrape(address).await;
    assert_calm("alice", &node.log());
}
