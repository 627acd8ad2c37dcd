//! Strangers who take what they can get: places, memory, promises. The user and peers with channels do not notice.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use harness::{
    Folder, Pair, Program, assert_calm, descriptors, memory, running,
    stranger::{Stranger, key},
};
use leyden_channels::{
    types::{ChannelId, Msat, NodeId},
    wire::{ErrorMessage, Message, Warning, control::Ping},
};
use leyden_client::{
    client::{Access, Client},
    cluster::{DaemonProcess, wait_until},
    demo::{NOBODY, calls::succeeded},
};
use leyden_common::layout::Layout;
use leyden_proto::{
    leyden::{ConnectChainPeerRequest, GenerateRequest, Limit, ListLimitsRequest},
    lnrpc::{ConnectPeerRequest, GetInfoRequest, LightningAddress, ListPeersRequest, PendingChannelsRequest},
};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// A stranger's address on this machine, of its own.
fn nowhere(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 9, 9, number).into()
}

/// More connections than a server holds.
const MORE: u64 = 90;
/// Tests that open many connections take turns: this process may have few of them.
static MANY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Connections that say nothing.
async fn silent(address: SocketAddr, from: IpAddr, count: u64) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        // Where the backlog is full the system lets it wait.
        let stream = tokio::time::timeout(Duration::from_secs(20), socket.connect(address)).await;
        streams.push(stream.expect("a place in the backlog").unwrap());
    }
    streams
}

async fn limit(node: &DaemonProcess, name: &str) -> Limit {
    let answer = node.client().unwrap().limits().list_limits(ListLimitsRequest {}).await.unwrap().into_inner();
    answer.limits.into_iter().find(|limit| limit.name == name).unwrap_or_else(|| panic!("no limit {name}"))
}

async fn node_id(node: &DaemonProcess) -> NodeId {
    node.node_id().await.unwrap().parse::<secp256k1::PublicKey>().unwrap().into()
}

async fn pending(node: &DaemonProcess) -> usize {
    let answer = node.client().unwrap().lightning().pending_channels(PendingChannelsRequest::default()).await.unwrap();
    let answer = answer.into_inner();
    answer.pending_open_channels.len()
        + answer.waiting_close_channels.len()
        + answer.pending_force_closing_channels.len()
}

async fn alone() -> (Folder, DaemonProcess) {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let folder = Folder::new();
    let mut node = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
    node.start().await.unwrap();
    node.mine(1, Some(NOBODY)).await.unwrap();
    (folder, node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_of_a_peer_that_does_not_read_cost_next_to_nothing() {
    let (_folder, node) = alone().await;
    let pid = running(&node).pid;
    let mut rng = StdRng::seed_from_u64(7);
    let same = key(&mut rng);
    let ping = Message::Ping(Ping { num_pong_bytes: 65_531, ignored: Vec::new() }).encode().unwrap();
    let (before, files) = (memory(pid), descriptors(pid));
    let mut kept = Vec::new();
    for number in 1..=6 {
        let mut stranger = Stranger::greeted_as(&node, same, Some(4_096)).await.expect("room");
        for _ in 0..1_000 {
            if !stranger.send(&ping).await {
                break;
            }
        }
        wait_until("the pings to be counted", || async {
            Ok(limit(&node, "lightning.pongs").await.refused > 900 * number)
        })
        .await
        .unwrap();
        kept.push(stranger);
    }
    let mut last = Stranger::greeted(&node, &mut rng).await;
    let small = Message::Ping(Ping { num_pong_bytes: 3, ignored: Vec::new() }).encode().unwrap();
    assert!(last.send(&small).await);
    assert!(last.receive_until(|message| matches!(message, Message::Pong(_)).then_some(())).await.is_some());
    let grown = memory(pid).saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes more");
    // Of the connections with the same key one is left.
    wait_until("old connections to be gone", || async { Ok(descriptors(pid) <= files + 5) }).await.unwrap();
    let peers = node.client().unwrap().lightning().list_peers(ListPeersRequest::default()).await.unwrap().into_inner();
    assert_eq!(peers.peers.len(), 2);
    assert_calm("alice", &node.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_keep_nobody_waiting() {
    let _turn = MANY.lock().await;
    let pair = Pair::with_channel(2_000_000, 1_000_000).await;
    let mut rng = StdRng::seed_from_u64(8);
    let ports = running(&pair.alice);
    let room = limit(&pair.alice, "lightning.handshakes").await.limit;
    let lightning = silent(ports.listen.unwrap(), nowhere(1), room + MORE).await;
    let begun = Instant::now();
    let stranger = Stranger::greeted(&pair.alice, &mut rng).await;
    println!("a greeting beside {} silent connections took {:?}", lightning.len(), begun.elapsed());
    // Nobody waits for a handshake to end: the silent ones gave way.
    assert!(limit(&pair.alice, "lightning.handshakes").await.refused >= MORE - 10);
    drop(lightning);

    let room = limit(&pair.alice, "grpc.unknown_callers").await.limit;
    let mut callers = silent(ports.rpc, nowhere(2), room + MORE).await;
    let access = Access::from_data_dir(pair.alice.data_dir()).unwrap();
    let client = Client::connect(&access).await.unwrap();
    client.lightning().get_info(GetInfoRequest {}).await.unwrap();
    let unknown = limit(&pair.alice, "grpc.unknown_callers").await;
    assert!(unknown.used <= unknown.limit && unknown.refused >= MORE - 10, "{unknown:?}");
    // The first ones have been hung up on, and the last ones will be.
    let mut byte = [0];
    for caller in [0, callers.len() - 1] {
        assert!(!matches!(callers[caller].read(&mut byte).await, Ok(1..)));
    }
    // Who has shown a token stays.
    client.lightning().get_info(GetInfoRequest {}).await.unwrap();
    let payment = pair.alice.pay(pair.bob.invoice(1_000, "still there").await.unwrap()).await.unwrap();
    assert!(succeeded(&payment), "{payment:?}");
    drop(stranger);
    for node in [&pair.alice, &pair.bob] {
        assert_calm(node.name(), &node.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_always_room_for_another_stranger_and_for_peers_with_channels() {
    let pair = Pair::with_channel(2_000_000, 1_000_000).await;
    let mut rng = StdRng::seed_from_u64(9);
    let most = usize::try_from(limit(&pair.alice, "lightning.strangers").await.limit).unwrap();
    let mut strangers = Vec::new();
    for _ in 0..most + 5 {
        strangers.push(Stranger::greeted(&pair.alice, &mut rng).await);
    }
    let mut last = strangers.pop().unwrap();
    let ping = Message::Ping(Ping { num_pong_bytes: 3, ignored: Vec::new() }).encode().unwrap();
    assert!(last.send(&ping).await);
    assert!(last.receive_until(|message| matches!(message, Message::Pong(_)).then_some(())).await.is_some());
    let used = limit(&pair.alice, "lightning.strangers").await;
    assert!(used.used <= used.limit && used.refused >= 5, "{used:?}");
    pair.wait_for_channels(1).await;
    let payment = pair.bob.pay(pair.alice.invoice(1_000, "still there").await.unwrap()).await.unwrap();
    assert!(succeeded(&payment), "{payment:?}");
    assert_calm("alice", &pair.alice.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_strangers_send_waits_and_the_user_does_not() {
    let pair = Pair::with_channel(2_000_000, 1_000_000).await;
    let mut rng = StdRng::seed_from_u64(12);
    let warning = Warning { channel_id: ChannelId::ALL, data: vec![b'x'; 60_000] };
    let warning = Message::from(warning).encode().unwrap();
    let mut floods = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (mut stranger, warning) = (Stranger::greeted(&pair.alice, &mut rng).await, warning.clone());
        floods.spawn(async move { while stranger.send(&warning).await {} });
    }
    wait_until("what strangers send to be too much", || async {
        Ok(limit(&pair.alice, "lightning.strangers_time").await.refused > 20)
    })
    .await
    .unwrap();
    let mut lightning = pair.alice.client().unwrap().lightning();
    for _ in 0..10 {
        let payment = pair.alice.pay(pair.bob.invoice(1_000, "meanwhile").await.unwrap()).await.unwrap();
        assert!(succeeded(&payment), "{payment:?}");
        // All who are there, though the tasks of four have no time to say so.
        assert_eq!(lightning.get_info(GetInfoRequest {}).await.unwrap().into_inner().num_peers, 5);
    }
    assert_eq!(lightning.list_peers(ListPeersRequest::default()).await.unwrap().into_inner().peers.len(), 5);
    floods.abort_all();
    assert_calm("alice", &pair.alice.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promised_channel_leaves_nothing_behind_and_makes_nobody_a_peer() {
    let (_folder, node) = alone().await;
    let mut rng = StdRng::seed_from_u64(10);
    let remote = node_id(&node).await;
    let backup = Layout::new(node.data_dir().to_owned(), "regtest").channel_backup();
    let kept = || std::fs::metadata(&backup).map(|data| data.modified().unwrap()).ok();
    let before = kept();
    let mut stranger = Stranger::greeted(&node, &mut rng).await;
    // As soon as the peer gives one up in which nothing is ours it is forgotten: 40 are no more than one.
    for _ in 0..40 {
        let channel = stranger.promise_channel(remote, Msat(0)).await.unwrap();
        let error = Message::Error(ErrorMessage::new(channel, "changed my mind")).encode().unwrap();
        assert!(stranger.send(&error).await);
    }
    wait_until("all to be forgotten", || async { Ok(pending(&node).await == 0) }).await.unwrap();
    // Where something is ours it counts until it is forgotten, however it ends.
    for _ in 0..16 {
        let channel = stranger.promise_channel(remote, Msat(1_000_000)).await.unwrap();
        let error = Message::Error(ErrorMessage::new(channel, "changed my mind")).encode().unwrap();
        assert!(stranger.send(&error).await);
    }
    let refusal = stranger.promise_channel(remote, Msat(1_000_000)).await.unwrap_err();
    assert!(refusal.contains("confirm the channels"), "{refusal}");
    assert_eq!(pending(&node).await, 16);
    assert_eq!(kept(), before, "the backup was not written");
    // A stranger it still is: it gets no backup to keep, and what it wants us to keep is not.
    let blob = leyden_channels::wire::control::PeerStorage { blob: vec![7; 65_531] };
    assert!(stranger.send(&Message::PeerStorage(blob).encode().unwrap()).await);
    let ping = Message::Ping(Ping { num_pong_bytes: 9, ignored: Vec::new() }).encode().unwrap();
    assert!(stranger.send(&ping).await);
    let storage = stranger
        .receive_until(|message| match message {
            Message::Pong(_) => Some(false),
            Message::PeerStorage(_) => Some(true),
            _ => None,
        })
        .await;
    assert_eq!(storage, Some(false));
    assert_eq!(limit(&node, "lightning.strangers").await.used, 1);
    assert_calm("alice", &node.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_of_all_strangers_together_have_a_bound() {
    let (_folder, mut node) = alone().await;
    let mut rng = StdRng::seed_from_u64(11);
    let remote = node_id(&node).await;
    let most = usize::try_from(limit(&node, "lightning.unfunded_channels").await.limit).unwrap();
    let mut promised = 0;
    let refusal = loop {
        let mut stranger = Stranger::greeted(&node, &mut rng).await;
        let mut refusal = None;
        for _ in 0..16 {
            match stranger.promise_channel(remote, Msat(0)).await {
                Ok(_) => promised += 1,
                Err(words) => refusal = Some(words),
            }
        }
        if let Some(refusal) = refusal {
            break refusal;
        }
        assert!(promised <= most, "{promised} channels are promised");
    };
    assert!(refusal.contains("too many channels wait"), "{refusal}");
    assert_eq!(promised, most);
    assert_eq!(pending(&node).await, most);
    // After some blocks the oldest of which nothing was seen give way to new ones.
    node.mine(6, Some(NOBODY)).await.unwrap();
    let mut stranger = Stranger::greeted(&node, &mut rng).await;
    for _ in 0..5 {
        stranger.promise_channel(remote, Msat(0)).await.unwrap();
    }
    wait_until("five to be forgotten", || async { Ok(pending(&node).await == most) }).await.unwrap();
    // So it is after a restart.
    assert!(node.terminate().is_some());
    node.start().await.unwrap();
    assert_eq!(pending(&node).await, most);
    assert_eq!(limit(&node, "lightning.unfunded_channels").await.used, most as u64);
    assert_calm("alice", &node.log());
}

/// What a Bitcoin-like client on this machine gets.
async fn post(address: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("POST / HTTP/1.1\r\nHost: localhost\r\n{head}\r\n").as_bytes()).await.unwrap();
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_rpc_reads_nothing_of_whom_it_does_not_know() {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let _turn = MANY.lock().await;
    let _ = env!("CARGO_BIN_EXE_leydend");
    let folder = Folder::new();
    let mut node = DaemonProcess::new(folder.path(), "alice", &[]).unwrap().with_bitcoin_rpc();
    node.start().await.unwrap();
    let address = running(&node).bitcoin_rpc.unwrap();
    // The body is never sent: who is not known is told so all the same.
    let answer = post(address, "Content-Length: 9000000\r\nAuthorization: Basic eDp5\r\n", b"[").await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let cookie = Layout::new(node.data_dir().to_owned(), "regtest").bitcoin_rpc_cookie();
    let cookie = BASE64_STANDARD.encode(std::fs::read(cookie).unwrap());
    let call = |body: String| async move {
        let head = format!("Authorization: Basic {cookie}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        post(address, &head, body.as_bytes()).await
    };
    let room = limit(&node, "jsonrpc.unknown_callers").await.limit;
    let _silent = silent(address, nowhere(3), room + MORE).await;
    let one = r#"{"method":"getblockcount","id":1}"#;
    let answer = call.clone()(one.to_owned()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = call.clone()(format!("[{}]", vec![one; 1_001].join(","))).await;
    assert!(answer.contains("-32600") && answer.contains("1000 calls"), "{answer}");
    let answer = call(format!("[{}]", vec![one; 1_000].join(","))).await;
    assert_eq!(answer.matches("\"result\":0").count(), 1_000);
    assert_calm("alice", &node.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_file_descriptors_are_shared_out_so_that_the_user_and_honest_nodes_get_theirs() {
    let _turn = MANY.lock().await;
    let folder = Folder::new();
    let mut bob = DaemonProcess::new(folder.path(), "bob", &[]).unwrap();
    bob.start().await.unwrap();
    for (name, files) in [("few", 96), ("more", 256)] {
        let flags = ["--no-wallet-password"];
        let mut node = Program::start_with_descriptors(&folder.path().join(name), &flags, files);
        node.client().await;
        wait_until("the Lightning node to run", || async { Ok(node.running().listen.is_some()) }).await.unwrap();
        // With the macaroon, which comes with the wallet.
        let client = node.client().await;
        let ports = node.running();
        let mut kept = Vec::new();
        for (number, address) in [(4, ports.rpc), (5, ports.chain_listen.unwrap()), (6, ports.listen.unwrap())] {
            kept.extend(silent(address, nowhere(number), 50).await);
        }
        // The one who is here already, one who comes anew, and nodes on both networks.
        client.lightning().get_info(GetInfoRequest {}).await.unwrap();
        let info =
            Client::connect(&node.access()).await.unwrap().lightning().get_info(GetInfoRequest {}).await.unwrap();
        let host = ports.listen.unwrap().to_string();
        let address = LightningAddress { pubkey: info.into_inner().identity_pubkey, host };
        let request = ConnectPeerRequest { addr: Some(address), ..ConnectPeerRequest::default() };
        bob.client().unwrap().lightning().connect_peer(request).await.unwrap();
        let request = ConnectChainPeerRequest { address: ports.chain_listen.unwrap().to_string() };
        bob.client().unwrap().chain().connect_peer(request).await.unwrap();
        let generate = GenerateRequest { blocks: 1, address: NOBODY.to_owned() };
        let mut found = client.chain().generate(generate).await.unwrap().into_inner();
        while found.message().await.unwrap().is_some() {}
        assert_calm(name, &node.log());
        assert!(!node.log().contains("could not be accepted"), "{}", node.log());
        drop(kept);
        node.stop().await;
    }
}
