//! Block filters: as Bitcoin Core makes them, for every block, and as light clients ask for them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, unreachable_pub, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bitcoin::bip158::{BlockFilter, FilterHash, FilterHeader};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_filter::{GetCFCheckpt, GetCFHeaders, GetCFilters};
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::p2p::{Address, Magic, ServiceFlags};
use bitcoin::{Block, BlockHash, ScriptBuf};
use common::*;
use leyden_consensus::Params;
use leyden_net::{FrameDecoder, encode_frame};
use leyden_node::backend::Backend;
use leyden_node::block_filter::{FilterLink, build_from};
use leyden_node::store::{Store, StoreOptions};
use leyden_node::{Clock, Node, NodeConfig};

#[test]
fn filters_and_headers_are_those_of_bitcoin_core() {
    let Some(vectors) = vectors() else { return };
    let text = std::fs::read_to_string(vectors.join("bitcoin-core/blockfilters.json")).unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let mut checked = 0;
    for row in rows.iter().filter(|row| row.as_array().unwrap().len() > 1) {
        let text = |place: usize| row[place].as_str().unwrap();
        let block: Block = deserialize_hex(text(2)).unwrap();
        assert_eq!(block.block_hash().to_string(), text(1));
        let spent: Vec<ScriptBuf> =
            row[3].as_array().unwrap().iter().map(|hex| ScriptBuf::from_hex(hex.as_str().unwrap()).unwrap()).collect();
        let filter = build_from(&block, spent.iter().map(|script| script.as_script())).unwrap();
        assert_eq!(hex(&filter.content), text(5), "block {}", row[0]);
        let previous: FilterHeader = text(4).parse().unwrap();
        assert_eq!(FilterLink::of(&previous, &filter).header.to_string(), text(6), "block {}", row[0]);
        checked += 1;
    }
    println!("block filters: {checked} of Bitcoin Core's vectors, 0 mismatches");
    assert_eq!(checked, 10);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All blocks of the active chain have a filter that matches what they pay, and the headers follow each other.
fn assert_complete(store: &Store, blocks: &[Block]) {
    let mut previous = store.filter_link(&Params::regtest().genesis_hash).unwrap().unwrap().header;
    for block in blocks {
        let hash = block.block_hash();
        let filter = store.filter(&hash).unwrap().unwrap();
        let link = store.filter_link(&hash).unwrap().unwrap();
        assert_eq!(link, FilterLink::of(&previous, &filter));
        let paid = block.txdata[0].output[0].script_pubkey.as_bytes();
        assert!(filter.match_any(&hash, std::iter::once(paid)).unwrap());
        let mut spent = block.txdata.iter().skip(1).map(|_| open_script());
        assert!(spent.all(|script| filter.match_any(&hash, std::iter::once(script.as_bytes())).unwrap()));
        previous = link.header;
    }
}

#[test]
fn a_reorganisation_brings_its_own_filters_and_keeps_the_old_ones() {
    for memory in BOTH_WAYS {
        let folder = tempfile::tempdir().unwrap();
        let store = open_store_with(folder.path(), None, memory);
        let core = open_core_of(store.clone(), leyden_node::MempoolPolicy::default());
        let mut one = Spender::new(&core.params);
        one.extend(130);
        let mut other = one.branch(1);
        one.extend(5);
        other.extend(9);
        for block in one.blocks.iter().chain(&other.blocks) {
            core.submit_block(block.clone()).unwrap();
        }
        assert_eq!(core.tip().hash, other.place.hash);
        let branch: Vec<Block> = one.blocks[..130].iter().chain(&other.blocks).cloned().collect();
        assert_complete(&store, &branch);
        assert_complete(&store, &one.blocks);
    }
}

async fn start(path: &std::path::Path, filters: bool) -> Node {
    let mut config = NodeConfig::new(Params::regtest(), path);
    config.clock = Clock::manual(NOW);
    config.sync_writes = false;
    config.filters = filters;
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    config.max_outbound = 0;
    Node::start(config).await.expect("the node starts")
}

async fn until_filters_are_made(node: &Node) {
    let begun = Instant::now();
    while node.has_filters() != Some(true) {
        assert!(begun.elapsed() < PATIENCE, "the filters are never made");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_from_before_the_filters_gets_them_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Spender::new(&Params::regtest());
    chain.extend(150);
    let node = start(folder.path(), false).await;
    for block in &chain.blocks {
        node.submit_block(block.clone()).await.unwrap();
    }
    assert_eq!(node.has_filters(), None);
    assert_eq!(node.filter(chain.place.hash).await.unwrap(), None);
    node.shutdown().await;
    drop(node);

    let node = start(folder.path(), true).await;
    let mut more = chain.branch(0);
    more.extend(3);
    for block in &more.blocks {
        node.submit_block(block.clone()).await.unwrap();
    }
    until_filters_are_made(&node).await;
    node.shutdown().await;
    drop(node);
    let options = StoreOptions::new(folder.path().join("chain"));
    let store = Store::open(options, &Params::regtest().genesis).unwrap();
    let all: Vec<Block> = chain.blocks.iter().chain(&more.blocks).cloned().collect();
    assert_complete(&store, &all);
}

/// A light client that speaks by hand.
struct Client {
    stream: TcpStream,
    decoder: FrameDecoder,
    services: ServiceFlags,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let magic = Magic::from_bytes(Params::regtest().magic);
        let mut client = Self { stream, decoder: FrameDecoder::new(magic), services: ServiceFlags::NONE };
        let none = Address { services: ServiceFlags::NONE, address: [0; 8], port: 0 };
        client.send(NetworkMessage::Version(VersionMessage {
            version: 70_016,
            services: ServiceFlags::NONE,
            timestamp: i64::try_from(NOW).unwrap(),
            receiver: none.clone(),
            sender: none,
            nonce: 77,
            user_agent: "/light/".into(),
            start_height: 0,
            relay: false,
        }));
        client.send(NetworkMessage::Verack);
        loop {
            match client.next() {
                Some(NetworkMessage::Version(version)) => client.services = version.services,
                Some(NetworkMessage::Verack) => return client,
                Some(_) => {}
                None => panic!("the node closed the connection"),
            }
        }
    }

    fn send(&mut self, message: NetworkMessage) {
        self.stream.write_all(&encode_frame(Magic::from_bytes(Params::regtest().magic), message)).unwrap();
    }

    /// `None` when the node has closed the connection.
    fn next(&mut self) -> Option<NetworkMessage> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return Some(message);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.decoder.feed(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn until<R>(&mut self, wanted: impl Fn(NetworkMessage) -> Option<R>) -> Option<R> {
        loop {
            if let Some(found) = wanted(self.next()?) {
                return Some(found);
            }
        }
    }

    fn filters(&mut self, start_height: u32, stop_hash: BlockHash, count: usize) -> Vec<(BlockHash, BlockFilter)> {
        self.send(NetworkMessage::GetCFilters(GetCFilters { filter_type: 0, start_height, stop_hash }));
        let next = |message| match message {
            NetworkMessage::CFilter(filter) => Some((filter.block_hash, BlockFilter::new(&filter.filter))),
            _ => None,
        };
        (0..count).map(|_| self.until(next).unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn light_clients_get_filters_their_headers_and_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path(), true).await;
    until_filters_are_made(&node).await;
    let hashes = node.generate(1_050, open_script()).await.unwrap();
    let address = node.local_address().unwrap();
    let tip = *hashes.last().unwrap();
    let own = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(address);
        assert!(client.services.has(ServiceFlags::COMPACT_FILTERS));
        let mut header = FilterLink::before_genesis();
        let filters = [client.filters(0, hashes[98], 100), client.filters(100, hashes[1_049], 951)].concat();
        let mut links = Vec::new();
        for ((hash, filter), wanted) in
            filters.iter().zip(std::iter::once(&Params::regtest().genesis_hash).chain(&hashes))
        {
            assert_eq!(hash, wanted);
            header = filter.filter_header(&header);
            links.push((FilterHash::hash(&filter.content), header));
        }
        assert_eq!(links.len(), 1_051);

        let stop_hash = hashes[1_019];
        client.send(NetworkMessage::GetCFHeaders(GetCFHeaders { filter_type: 0, start_height: 20, stop_hash }));
        let answer = client.until(|message| match message {
            NetworkMessage::CFHeaders(headers) => Some(headers),
            _ => None,
        });
        let answer = answer.unwrap();
        assert_eq!((answer.stop_hash, answer.previous_filter_header), (stop_hash, links[19].1));
        assert_eq!(answer.filter_hashes, links[20..=1_020].iter().map(|link| link.0).collect::<Vec<_>>());

        client.send(NetworkMessage::GetCFCheckpt(GetCFCheckpt { filter_type: 0, stop_hash: tip }));
        let answer = client.until(|message| match message {
            NetworkMessage::CFCheckpt(checkpoints) => Some(checkpoints.filter_headers),
            _ => None,
        });
        assert_eq!(answer.unwrap(), [links[1_000].1]);
        links[1_050].1
    });
    assert_eq!(own.await.unwrap(), node.filter(tip).await.unwrap().unwrap().1.header);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_more_filters_than_allowed_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path(), true).await;
    until_filters_are_made(&node).await;
    let hashes = node.generate(1_001, open_script()).await.unwrap();
    let address = node.local_address().unwrap();
    let (first, thousandth) = (hashes[0], hashes[1_000]);
    let asked = [
        // A thousand and one; above the last; another type.
        GetCFilters { filter_type: 0, start_height: 1, stop_hash: thousandth },
        GetCFilters { filter_type: 0, start_height: 2, stop_hash: first },
        GetCFilters { filter_type: 1, start_height: 1, stop_hash: first },
    ];
    tokio::task::spawn_blocking(move || {
        for request in asked {
            let mut client = Client::connect(address);
            // Of an unknown block nothing is told, and the node goes on.
            let unknown = GetCFilters { stop_hash: BlockHash::all_zeros(), ..request.clone() };
            client.send(NetworkMessage::GetCFilters(unknown));
            assert_eq!(client.filters(1, first, 1)[0].0, first);
            client.send(NetworkMessage::GetCFilters(request.clone()));
            let filter = client.until(|message| matches!(message, NetworkMessage::CFilter(_)).then_some(()));
            assert_eq!(filter, None, "{request:?}");
        }
    })
    .await
    .unwrap();
    node.shutdown().await;
}
