//! Strangers who talk nonsense on each of the three ports: the daemon goes on, answers and pays.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::time::Duration;

use bitcoin::{
    consensus::encode::serialize,
    constants::ChainHash,
    p2p::{
        Magic, ServiceFlags,
        address::Address,
        message::{CommandString, NetworkMessage, RawNetworkMessage},
        message_network::VersionMessage,
    },
};
use leyden::inside::{seed, seed::Seed};
use leyden_channels::{
    transport::{ACT_TWO_LEN, AwaitingActTwo},
    types::{Height, NodeId, ShortChannelId},
    wire::{ChannelAnnouncement, Features, Message, gossip::Excess},
};
use leyden_client::{
    client::Access,
    cluster::{DaemonProcess, PATIENCE},
    demo::calls::succeeded,
};
use leyden_common::layout::Layout;
use leyden_proto::{
    DESCRIPTORS,
    lnrpc::{GetInfoRequest, ListPeersRequest, NewAddressRequest},
};
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, Value};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use secp256k1::{PublicKey, SecretKey};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::Code;

use harness::{
    Folder, Pair, assert_calm, raw, running,
    stranger::{Stranger, key},
};

fn seed() -> u64 {
    let seed = std::env::var("LEYDEN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("LEYDEN_SEED={seed}");
    seed
}

fn bytes(rng: &mut StdRng, up_to: usize) -> Vec<u8> {
    let length = rng.random_range(0..=up_to);
    let mut bytes = vec![0; length];
    rng.fill(bytes.as_mut_slice());
    bytes
}

/// Writes, hangs about for a moment, hangs up. That the other side hangs up first is fine.
async fn throw(address: std::net::SocketAddr, bytes: &[u8]) {
    let Ok(mut stream) = TcpStream::connect(address).await else { panic!("nobody listens on {address}") };
    let _ = stream.write_all(bytes).await;
    let mut answer = [0; 4096];
    let _ = timeout(Duration::from_millis(5), stream.read(&mut answer)).await;
}

async fn still_works(pair: &Pair) {
    for (payer, payee) in [(&pair.alice, &pair.bob), (&pair.bob, &pair.alice)] {
        let payment = payer.pay(payee.invoice(1_000, "still there").await.unwrap()).await.unwrap();
        assert!(succeeded(&payment), "{payment:?}");
    }
    pair.mine(1).await;
    for node in [&pair.alice, &pair.bob] {
        node.client().unwrap().lightning().get_info(GetInfoRequest {}).await.unwrap();
        assert_calm(node.name(), &node.log());
    }
}

/// A `channel_announcement` for a place in the chain whose signatures sign something else.
fn forged_announcement(index: u32, rng: &mut StdRng) -> Vec<u8> {
    let mut keys: Vec<SecretKey> = (0..4).map(|_| key(rng)).collect();
    let public = |key: &SecretKey| NodeId::from(key.public_key(secp256k1::SECP256K1));
    keys[..2].sort_by_key(public);
    let other = secp256k1::Message::from_digest([7; 32]);
    let signatures: Vec<_> = keys.iter().map(|key| secp256k1::SECP256K1.sign_ecdsa(&other, key)).collect();
    let announcement = ChannelAnnouncement {
        node_signature_1: signatures[0],
        node_signature_2: signatures[1],
        bitcoin_signature_1: signatures[2],
        bitcoin_signature_2: signatures[3],
        features: Features::empty(),
        chain_hash: ChainHash::REGTEST,
        short_channel_id: ShortChannelId::new(Height(1), index, 0),
        node_id_1: public(&keys[0]),
        node_id_2: public(&keys[1]),
        bitcoin_key_1: public(&keys[2]),
        bitcoin_key_2: public(&keys[3]),
        excess: Excess::default(),
    };
    Message::ChannelAnnouncement(Box::new(announcement)).encode().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_forges_gossip_is_hung_up_on_and_not_let_in_again() {
    let pair = Pair::with_channel(2_000_000, 1_000_000).await;
    let mut rng = StdRng::seed_from_u64(seed());
    let secret = key(&mut rng);
    let mut forger = Stranger::greeted_as(&pair.alice, secret, None).await.expect("a greeting");
    for index in 0..3 {
        forger.send(&forged_announcement(index, &mut rng)).await;
    }
    timeout(PATIENCE, forger.hung_up()).await.expect("hung up on");
    // The same key again: the handshake succeeds, and no more.
    let mut again = Stranger::connect_as(&pair.alice, secret, None).await.expect("a handshake");
    let init = again.receive().await.expect("the daemon's init");
    let _ = again.send(&init).await;
    timeout(PATIENCE, again.hung_up()).await.expect("not let in");
    // Another one is.
    let mut other = Stranger::greeted(&pair.alice, &mut rng).await;
    let ping = [0, 18, 0, 3, 0, 0];
    assert!(other.send(&ping).await);
    let mut answered = false;
    while let Some(message) = other.receive().await {
        answered |= message == [0, 19, 0, 3, 0, 0, 0];
    }
    assert!(answered, "a pong");
    still_works(&pair).await;
}

/// Message types of BOLT 1, 2 and 7, and some that nobody knows.
const TYPES: [u16; 34] = [
    1, 2, 7, 9, 16, 17, 18, 19, 32, 33, 34, 35, 36, 38, 39, 40, 41, 64, 65, 66, 67, 68, 69, 70, 71, 72, 128, 130, 131,
    132, 133, 134, 135, 136,
];

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_the_lightning_port_stops_nobody() {
    let pair = Pair::with_channel(2_000_000, 1_000_000).await;
    let mut rng = StdRng::seed_from_u64(seed());
    let address = running(&pair.alice).listen.unwrap();

    // Before any handshake: random bytes, nothing at all, an act that is cut off, a version of the future.
    let idle: Vec<TcpStream> = {
        let mut idle = Vec::new();
        for _ in 0..50 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        idle
    };
    for _ in 0..60 {
        throw(address, &bytes(&mut rng, 3_000)).await;
    }
    let remote: PublicKey = pair.alice.node_id().await.unwrap().parse().unwrap();
    for length in [0, 1, 33, 49] {
        let (_, act_one) = AwaitingActTwo::start(key(&mut rng), remote, key(&mut rng));
        throw(address, &act_one[..length]).await;
    }
    let (_, mut act_one) = AwaitingActTwo::start(key(&mut rng), remote, key(&mut rng));
    act_one[0] = 1;
    throw(address, &act_one).await;
    // A good first act, then anything.
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (_, act_one) = AwaitingActTwo::start(key(&mut rng), remote, key(&mut rng));
        stream.write_all(&act_one).await.unwrap();
        let mut act_two = [0; ACT_TWO_LEN];
        stream.read_exact(&mut act_two).await.unwrap();
        let _ = stream.write_all(&bytes(&mut rng, 200)).await;
    }
    still_works(&pair).await;

    // After the handshake: frames that do not decrypt, no init, empty and oversized frames.
    for _ in 0..10 {
        let mut stranger = Stranger::connect(&pair.alice, &mut rng).await;
        let _ = stranger.stream.write_all(&bytes(&mut rng, 70_000)).await;
    }
    for message in [vec![], vec![0], vec![0, 16], vec![0, 16, 255, 255], vec![0, 18, 0, 0, 0, 0], vec![255; 65_535]] {
        let mut stranger = Stranger::connect(&pair.alice, &mut rng).await;
        stranger.send(&message).await;
        stranger.receive().await;
        while stranger.receive().await.is_some() {}
    }
    still_works(&pair).await;

    // After init: every type of message with random content, with the id of a channel that is another's.
    let channel_point = pair.alice.only_channel().await.unwrap().channel_point;
    let (txid, index) = channel_point.split_once(':').unwrap();
    let mut channel_id = hex::decode(txid).unwrap();
    channel_id.reverse();
    channel_id[31] ^= u8::try_from(index.parse::<u16>().unwrap()).unwrap();
    let mut sent = 0;
    for round in 0..40 {
        let mut stranger = Stranger::greeted(&pair.alice, &mut rng).await;
        for _ in 0..25 {
            let kind = match round % 4 {
                0 => rng.random(),
                _ => TYPES[rng.random_range(0..TYPES.len())],
            };
            let mut message = kind.to_be_bytes().to_vec();
            if rng.random() {
                message.extend_from_slice(&channel_id);
            }
            // Mostly of about the right size; long numbers of zeros and ones reach further than noise.
            message.extend(match rng.random_range(0..3) {
                0 => vec![0; rng.random_range(0..400)],
                1 => vec![1; rng.random_range(0..1_500)],
                _ => bytes(&mut rng, 1_500),
            });
            if !stranger.send(&message).await {
                break;
            }
            sent += 1;
        }
    }
    println!("{sent} random messages were sent by strangers");
    still_works(&pair).await;

    // A real opening, spoilt at every byte's place by one bit.
    let open = open_channel(&mut rng);
    for _ in 0..60 {
        let mut stranger = Stranger::greeted(&pair.alice, &mut rng).await;
        let mut spoilt = open.clone();
        let position = rng.random_range(2..spoilt.len());
        spoilt[position] ^= 1 << rng.random_range(0..8);
        stranger.send(&spoilt).await;
        stranger.receive().await;
    }
    // Many openings that never go on, by one stranger who then leaves.
    let mut stranger = Stranger::greeted(&pair.alice, &mut rng).await;
    for number in 0..300_u16 {
        let mut open = open.clone();
        open[34..36].copy_from_slice(&number.to_be_bytes());
        if !stranger.send(&open).await {
            break;
        }
    }
    stranger.receive().await;
    drop(stranger);
    still_works(&pair).await;
    drop(idle);
    let peers =
        pair.alice.client().unwrap().lightning().list_peers(ListPeersRequest::default()).await.unwrap().into_inner();
    println!("{} peers are left", peers.peers.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openings_of_strangers_do_not_move_the_wallet() {
    let mut rng = StdRng::seed_from_u64(seed());
    let folder = Folder::new();
    let mut node = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
    let words = Seed::from_entropy([77; 32], "");
    seed::save(&Layout::new(node.data_dir().to_owned(), "regtest").wallet_seed(), &words, None).unwrap();
    node.start().await.unwrap();

    let good = open_channel(&mut rng);
    let mut stranger = Stranger::greeted(&node, &mut rng).await;
    for number in 0..40_u16 {
        let mut open = good.clone();
        open[34..36].copy_from_slice(&number.to_be_bytes());
        if number % 2 == 0 {
            // A capacity that nobody accepts.
            open[66..74].copy_from_slice(&1_000_u64.to_be_bytes());
        }
        assert!(stranger.send(&open).await);
    }
    for answers in 0..30 {
        assert!(stranger.receive_within(PATIENCE).await.is_some(), "{answers} answers");
    }
    while stranger.receive().await.is_some() {}

    let first: bitcoin::bip32::DerivationPath = "m/84'/1'/0'/0/0".parse().unwrap();
    let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).block_hash();
    let first = words.root_key(bitcoin::NetworkKind::Test, &genesis).derive_priv(secp256k1::SECP256K1, &first).unwrap();
    let public = bitcoin::CompressedPublicKey(first.private_key.public_key(secp256k1::SECP256K1));
    let first = bitcoin::Address::p2wpkh(&public, bitcoin::Network::Regtest).to_string();
    let request = NewAddressRequest::default();
    let address = node.client().unwrap().lightning().new_address(request).await.unwrap().into_inner().address;
    assert_eq!(address, first, "the wallet is where it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_that_complains_without_end_fills_no_log() {
    let mut rng = StdRng::seed_from_u64(seed());
    let folder = Folder::new();
    let mut node = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
    node.start().await.unwrap();
    let mut stranger = Stranger::greeted(&node, &mut rng).await;
    let good = open_channel(&mut rng);
    let before = node.log().len();
    for round in 0..10_u16 {
        for number in 0..4_u16 {
            let mut open = good.clone();
            open[34..36].copy_from_slice(&(4 * round + number).to_be_bytes());
            assert!(stranger.send(&open).await);
        }
        while stranger.receive().await.is_some() {}
        // An error about all channels, different each time.
        let text = format!("{round} {}", "\u{1b}]0;evil\u{7}\n".repeat(5_000));
        let mut error = 17_u16.to_be_bytes().to_vec();
        error.extend([0; 32]);
        error.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        error.extend(text.as_bytes());
        assert!(stranger.send(&error).await);
    }
    // Ping: all before it has been read.
    assert!(stranger.send(&[0, 18, 0, 2, 0, 0]).await);
    let pong = |message: &Vec<u8>| message.starts_with(&[0, 19]);
    while !stranger.receive().await.as_ref().is_none_or(pong) {}
    let log = node.log();
    let written = &log[before..];
    let lines = written.lines().filter(|line| line.contains("the peer says")).count();
    assert!((1..=20).contains(&lines), "{lines} lines for 10 complaints about 4 channels each: {written}");
    assert!(written.len() < 60_000 && !written.contains("evil\u{7}"), "{} bytes", written.len());
}

/// A good `open_channel` for Bitcoin's regtest.
fn open_channel(rng: &mut StdRng) -> Vec<u8> {
    let genesis = "06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f";
    let mut message = 32_u16.to_be_bytes().to_vec();
    message.extend(hex::decode(genesis).unwrap());
    message.extend([7; 32]);
    for number in [1_000_000_u64, 0, 546, 1_000_000_000, 10_000, 1_000] {
        message.extend(number.to_be_bytes());
    }
    message.extend(1_000_u32.to_be_bytes());
    message.extend(144_u16.to_be_bytes());
    message.extend(30_u16.to_be_bytes());
    for _ in 0..6 {
        message.extend(key(rng).public_key(secp256k1::SECP256K1).serialize());
    }
    message.push(0);
    // An empty upfront_shutdown_script, and channel_type static_remotekey.
    message.extend([0, 0, 1, 2, 0x10, 0x00]);
    message
}

fn version(rng: &mut StdRng) -> NetworkMessage {
    let nobody = Address::new(&"127.0.0.1:0".parse().unwrap(), ServiceFlags::NETWORK | ServiceFlags::WITNESS);
    let services = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
    NetworkMessage::Version(VersionMessage {
        version: 70016,
        ..VersionMessage::new(services, 1_700_000_000, nobody.clone(), nobody, rng.random(), "/stranger/".into(), 0)
    })
}

/// A message of Bitcoin's protocol with a good header around any payload.
fn framed(command: &str, payload: &[u8]) -> Vec<u8> {
    use bitcoin::hashes::{Hash as _, sha256d};
    let mut message = Magic::REGTEST.to_bytes().to_vec();
    message.extend(serialize(&CommandString::try_from(command.to_owned()).unwrap()));
    message.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
    message.extend(&sha256d::Hash::hash(payload).to_byte_array()[..4]);
    message.extend(payload);
    message
}

const COMMANDS: [&str; 28] = [
    "version",
    "verack",
    "addr",
    "addrv2",
    "inv",
    "getdata",
    "notfound",
    "getblocks",
    "getheaders",
    "headers",
    "tx",
    "block",
    "mempool",
    "ping",
    "pong",
    "reject",
    "feefilter",
    "sendheaders",
    "sendcmpct",
    "cmpctblock",
    "getblocktxn",
    "blocktxn",
    "merkleblock",
    "filterload",
    "getcfilters",
    "getcfheaders",
    "wtxidrelay",
    "madeup",
];

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_the_chains_port_stops_nobody() {
    let pair = Pair::with_channel(2_000_000, 1_000_000).await;
    let mut rng = StdRng::seed_from_u64(seed());
    let address = running(&pair.bob).chain_listen.unwrap();
    for _ in 0..60 {
        throw(address, &bytes(&mut rng, 3_000)).await;
    }
    // Another network, a wrong checksum, a length of 4 GB, a header cut off.
    let ping = RawNetworkMessage::new(Magic::BITCOIN, NetworkMessage::Ping(1));
    throw(address, &serialize(&ping)).await;
    let mut wrong = framed("ping", &[0; 8]);
    wrong[20] ^= 1;
    throw(address, &wrong).await;
    let mut huge = framed("block", &[0; 100]);
    huge[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
    throw(address, &huge).await;
    throw(address, &framed("ping", &[0; 8])[..17]).await;
    still_works(&pair).await;

    let mut sent = 0;
    for _ in 0..40 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut greeting = serialize(&RawNetworkMessage::new(Magic::REGTEST, version(&mut rng)));
        greeting.extend(framed("wtxidrelay", &[]));
        greeting.extend(framed("verack", &[]));
        stream.write_all(&greeting).await.unwrap();
        for _ in 0..20 {
            let command = COMMANDS[rng.random_range(0..COMMANDS.len())];
            let payload = match rng.random_range(0..4) {
                // A count that promises far more than follows.
                0 => [vec![0xff; 9], bytes(&mut rng, 50)].concat(),
                1 => vec![0; rng.random_range(0..300)],
                2 => [vec![rng.random_range(0..20)], bytes(&mut rng, 1_000)].concat(),
                _ => bytes(&mut rng, 1_000),
            };
            if stream.write_all(&framed(command, &payload)).await.is_err() {
                break;
            }
            sent += 1;
        }
        let mut answer = [0; 4096];
        let _ = timeout(Duration::from_millis(5), stream.read(&mut answer)).await;
    }
    println!("{sent} random messages were sent by strangers");
    still_works(&pair).await;
}

/// Methods that do what they are asked with an empty request, and are not to.
const NOT_CALLED: [&str; 4] = ["StopDaemon", "StartMining", "Generate", "InitWallet"];

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_on_the_grpc_port_stops_nobody() {
    let pair = Pair::with_channel(2_000_000, 1_000_000).await;
    let mut rng = StdRng::seed_from_u64(seed());
    let address = running(&pair.alice).rpc;
    for _ in 0..60 {
        throw(address, &bytes(&mut rng, 3_000)).await;
    }
    throw(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    throw(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    // The beginning of a TLS hello.
    throw(address, &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await;

    // Each method: an empty request, bytes that are no message, and fields full of extremes.
    let access = Access::from_data_dir(pair.alice.data_dir()).unwrap();
    let channel = raw::channel(&access).await;
    let macaroon = std::fs::read(&access.macaroon).unwrap();
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let (mut calls, mut kinds) = (0, std::collections::BTreeMap::<String, usize>::new());
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        if NOT_CALLED.contains(&method.name()) || method.is_client_streaming() {
            continue;
        }
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let mut messages = vec![Vec::new(), vec![0xff; 40], vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]];
        messages.extend((0..3).map(|_| bytes(&mut rng, 300)));
        messages.extend((0..25).map(|_| extreme(&method.input(), &mut rng, 0)));
        for message in messages {
            // A subscription that waits has been accepted.
            let call = raw::call(&channel, &path, Some(&macaroon), message.clone());
            let answer = timeout(Duration::from_millis(300), call).await;
            calls += 1;
            let code = match &answer {
                Ok(Ok(_)) => Code::Ok,
                Ok(Err(status)) => status.code(),
                Err(_) => continue,
            };
            *kinds.entry(format!("{code:?}")).or_default() += 1;
            let sentence = answer.unwrap().err().map(|status| status.message().to_owned()).unwrap_or_default();
            let undecodable = sentence.contains("failed to decode");
            // LND has no better number for these.
            let without_number = [
                "unable to find a path",
                "watchtower not active",
                "wallet locked",
                "wallet not created",
                "wallet already unlocked",
            ];
            let is_lnds = code == Code::Unknown && without_number.iter().any(|words| sentence.starts_with(words));
            let expected = matches!(
                code,
                Code::Ok
                    | Code::InvalidArgument
                    | Code::FailedPrecondition
                    | Code::NotFound
                    | Code::AlreadyExists
                    | Code::Unavailable
            );
            assert!(
                expected || undecodable || is_lnds,
                "{path} answers {code:?} \"{sentence}\" to {}",
                hex::encode(message)
            );
        }
    }
    println!("{calls} calls: {kinds:?}");
    still_works(&pair).await;
}

/// A message whose fields hold what nobody expects.
fn extreme(kind: &prost_reflect::MessageDescriptor, rng: &mut StdRng, depth: usize) -> Vec<u8> {
    use prost::Message as _;
    message(kind, rng, depth).encode_to_vec()
}

fn message(kind: &prost_reflect::MessageDescriptor, rng: &mut StdRng, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(kind.clone());
    for field in kind.fields() {
        if rng.random_range(0..3) > 0 || depth > 2 {
            continue;
        }
        let mut one = || value(&field.kind(), rng, depth);
        let value = if field.is_map() {
            continue;
        } else if field.is_list() {
            Value::List((0..3).map(|_| one()).collect())
        } else {
            one()
        };
        message.set_field(&field, value);
    }
    message
}

fn value(kind: &Kind, rng: &mut StdRng, depth: usize) -> Value {
    let texts = ["", "x", "\u{0}", "lnbcrt1", "127.0.0.1:1", "ffffffff:4294967296", &"9".repeat(2_000), "💥"];
    match kind {
        Kind::Double => Value::F64([0.0, -1.0, f64::NAN, f64::INFINITY, 1e300][rng.random_range(0..5)]),
        Kind::Float => Value::F32([0.0, -1.0, f32::NAN, f32::INFINITY][rng.random_range(0..4)]),
        // Counts and amounts: mining takes any number of blocks, so no great one.
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            Value::I32([0, 1, -1, i32::MIN, i32::MAX][rng.random_range(0..5)])
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            Value::I64([0, 1, -1, i64::MIN, i64::MAX][rng.random_range(0..5)])
        }
        Kind::Uint32 | Kind::Fixed32 => Value::U32([0, 1, 2, 70_000, u32::MAX][rng.random_range(0..5)]),
        Kind::Uint64 | Kind::Fixed64 => Value::U64([0, 1, u64::MAX, 1 << 63][rng.random_range(0..4)]),
        Kind::Bool => Value::Bool(rng.random()),
        Kind::String => Value::String(texts[rng.random_range(0..texts.len())].to_owned()),
        Kind::Bytes => {
            let length = [0, 1, 31, 32, 33, 2_000][rng.random_range(0..6)];
            Value::Bytes(vec![rng.random(); length].into())
        }
        Kind::Message(kind) => Value::Message(message(kind, rng, depth + 1)),
        Kind::Enum(_) => Value::EnumNumber([0, 1, 2, 77, -1, i32::MAX][rng.random_range(0..6)]),
    }
}
