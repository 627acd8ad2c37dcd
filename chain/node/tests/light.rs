//! A light node beside full ones: it finds what concerns it, whatever its peers withhold, and keeps little.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, unreachable_pub, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bitcoin::bip158::{BlockFilter, FilterHash};
use bitcoin::hashes::Hash;
use bitcoin::p2p::Magic;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, TxOut, Txid, WScriptHash};
use common::*;
use leyden_consensus::Params;
use leyden_net::{FrameDecoder, encode_frame};
use leyden_node::block_filter::build_from;
use leyden_node::{Clock, Node, NodeConfig, NodeError, Notice, NoticeStream};

async fn start(path: &std::path::Path, light: bool) -> Node {
    let mut config = NodeConfig::new(Params::regtest(), path);
    config.clock = Clock::manual(NOW);
    config.sync_writes = false;
    config.light = light;
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    config.max_outbound = 0;
    Node::start(config).await.expect("the node starts")
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came to this: {what}");
}

async fn until_at_tip(light: &Node, full: &Node) {
    until("the light node is at the tip", async || light.tip() == full.tip()).await;
}

/// What the first blocks pay.
const COIN: u64 = 50 * 100_000_000;

/// A script that nobody else has.
fn script(number: u8) -> ScriptBuf {
    ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([number; 32]))
}

/// Pays to the script out of the coinbase of the block at this height.
async fn pay(full: &Node, height: u32, to: ScriptBuf) -> Txid {
    let block = full.block(full.block_hash(height).unwrap()).await.unwrap().unwrap();
    let mut output = open_output(COIN - 10_000);
    output.script_pubkey = to;
    full.submit_transaction(spend(&[coinbase_of(&block)], vec![output])).await.unwrap()
}

async fn next_block(stream: &mut NoticeStream) -> Notice {
    loop {
        match tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap() {
            Notice::TransactionAccepted { .. } | Notice::TransactionRemoved { .. } => {}
            notice => return notice,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_light_node_finds_what_pays_it_and_what_spends_that() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (full, light) = (start(folders[0].path(), false).await, start(folders[1].path(), true).await);
    full.generate(150, open_script()).await.unwrap();
    let early = pay(&full, 1, script(1)).await;
    full.generate(150, open_script()).await.unwrap();
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until_at_tip(&light, &full).await;
    // Nothing was watched so far: it is found when it is.
    assert!(light.transaction(early).await.unwrap().is_none());
    light.watch_scripts(vec![script(1), open_script()], 0).await.unwrap();
    let found = light.transaction(early).await.unwrap().unwrap();
    assert_eq!(found.confirmed, full.transaction(early).await.unwrap().unwrap().confirmed);

    let mut notices = light.subscribe(None).unwrap();
    let paid = pay(&full, 2, open_script()).await;
    full.generate(1, open_script()).await.unwrap();
    let Notice::BlockConnected { height: 301, block, .. } = next_block(&mut notices).await else { panic!() };
    assert_eq!(block.txdata.iter().map(|tx| tx.compute_txid()).filter(|txid| *txid == paid).count(), 1);

    // Its own transaction reaches the full node, and is found in a block by what it spends.
    let coin = OutPoint { txid: paid, vout: 0 };
    assert!(light.spender(coin).await.unwrap().is_none());
    let mut output = open_output(COIN - 20_000);
    output.script_pubkey = script(9);
    let own = light.submit_transaction(spend(&[coin], vec![output])).await.unwrap();
    assert_eq!(light.spender(coin).await.unwrap().unwrap().confirmed, None);
    until("its transaction arrives", async || full.mempool_entry(&own).is_some()).await;
    full.generate(1, open_script()).await.unwrap();
    until_at_tip(&light, &full).await;
    let spend = light.spender(coin).await.unwrap().unwrap();
    assert_eq!((spend.txid, spend.confirmed), (own, Some(full.tip().block_ref())));

    let (at, proof) = light.inclusion_proof(own).await.unwrap().unwrap();
    assert_eq!((at, proof.verify().unwrap()), (full.tip().block_ref(), own));
    assert_eq!(proof, full.inclusion_proof(own).await.unwrap().unwrap().1);
    assert!(matches!(light.coin(coin).await, Err(NodeError::LightNode(_))));
    assert!(matches!(light.spent_by(at.hash).await, Err(NodeError::LightNode(_))));
    assert!(matches!(light.transaction_count(1..=2).await, Err(NodeError::LightNode(_))));
    let search = light.search_coins([script(1)].into(), Arc::default()).await;
    assert!(matches!(search, Err(NodeError::LightNode(_))));
    assert!(matches!(light.generate_one(open_script()).await, Err(NodeError::LightNode(_))));
    light.shutdown().await;
    drop((notices, light));

    // After a restart it knows what it knew, and goes on.
    let light = start(folders[1].path(), true).await;
    assert_eq!(light.tip(), full.tip());
    assert_eq!(light.spender(coin).await.unwrap().unwrap().txid, own);
    let late = pay(&full, 3, script(1)).await;
    full.generate(1, open_script()).await.unwrap();
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until("what pays it is found", async || light.transaction(late).await.unwrap().is_some()).await;
    light.shutdown().await;
    full.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorganisation_reaches_a_light_node() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two) = (start(folders[0].path(), false).await, start(folders[1].path(), false).await);
    one.generate(120, open_script()).await.unwrap();
    two.connect_peer(one.local_address().unwrap()).await.unwrap();
    until_at_tip(&two, &one).await;
    two.disconnect_peer(one.local_address().unwrap()).unwrap();
    let light = start(folders[2].path(), true).await;
    light.watch_scripts(vec![script(1)], 121).await.unwrap();
    light.connect_peer(one.local_address().unwrap()).await.unwrap();
    until_at_tip(&light, &one).await;
    let mut notices = light.subscribe(None).unwrap();
    let paid = pay(&one, 1, script(1)).await;
    one.generate(3, open_script()).await.unwrap();
    until_at_tip(&light, &one).await;
    assert_eq!(light.transaction(paid).await.unwrap().unwrap().confirmed.unwrap().0.height, 121);

    two.generate(2, true_script()).await.unwrap();
    let again = pay(&two, 1, script(1)).await;
    assert_eq!(again, paid);
    two.generate(3, true_script()).await.unwrap();
    light.connect_peer(two.local_address().unwrap()).await.unwrap();
    until_at_tip(&light, &two).await;
    assert_eq!(light.transaction(paid).await.unwrap().unwrap().confirmed.unwrap().0.height, 123);
    for height in 121..=123 {
        assert!(matches!(next_block(&mut notices).await, Notice::BlockConnected { height: at, .. } if at == height));
    }
    for height in (121..=123).rev() {
        assert!(matches!(next_block(&mut notices).await, Notice::BlockDisconnected { height: at, .. } if at == height));
    }
    for height in 121..=125 {
        assert!(matches!(next_block(&mut notices).await, Notice::BlockConnected { height: at, .. } if at == height));
    }
    light.shutdown().await;
}

/// Stands between a light node and a full one, and leaves out of one block's filter what it pays to all but the miner.
struct Liar {
    address: SocketAddr,
}

impl Liar {
    fn before(full: SocketAddr, block: BlockHash, height: u32, withhold: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Ok(to) = TcpStream::connect(full) else { return };
                let (from_light, to_full) = (stream.try_clone().unwrap(), to.try_clone().unwrap());
                let asked = Arc::new(AtomicU32::new(0));
                let start = Arc::clone(&asked);
                std::thread::spawn(move || {
                    relay(from_light, to_full, |message| {
                        if let NetworkMessage::GetCFHeaders(request) = message {
                            start.store(request.start_height, Ordering::Relaxed);
                        }
                    });
                });
                std::thread::spawn(move || {
                    relay(to, stream, |message| lie(message, block, height, withhold, &asked));
                });
            }
        });
        Self { address }
    }
}

/// The filter of a block that pays nobody.
fn false_filter() -> BlockFilter {
    let mut genesis = Params::regtest().genesis;
    genesis.txdata[0].output[0].script_pubkey = ScriptBuf::from_bytes(vec![1]);
    build_from(&genesis, []).unwrap()
}

fn lie(message: &mut NetworkMessage, block: BlockHash, height: u32, withhold: bool, start: &AtomicU32) {
    match message {
        NetworkMessage::CFilter(filter) if !withhold && filter.block_hash == block => {
            filter.filter = false_filter().content;
        }
        NetworkMessage::CFHeaders(headers) => {
            let first = start.load(Ordering::Relaxed);
            if let Some(hash) = height.checked_sub(first).and_then(|at| headers.filter_hashes.get_mut(at as usize)) {
                *hash = FilterHash::hash(&false_filter().content);
            }
        }
        NetworkMessage::Block(got) if withhold && got.block_hash() == block => {
            *message = NetworkMessage::Pong(0);
        }
        _ => {}
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, mut change: impl FnMut(&mut NetworkMessage)) {
    let magic = Magic::from_bytes(Params::regtest().magic);
    let (mut decoder, mut chunk) = (FrameDecoder::new(magic), vec![0; 1 << 16]);
    while let Ok(count) = from.read(&mut chunk) {
        if count == 0 {
            break;
        }
        decoder.feed(&chunk[..count]);
        loop {
            match decoder.next_message() {
                Ok(Some(mut message)) => {
                    change(&mut message);
                    if to.write_all(&encode_frame(magic, message)).is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                // It speaks plain frames only.
                Err(_) => {
                    let _ = from.shutdown(std::net::Shutdown::Both);
                    break;
                }
            }
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_something_out_of_a_filter_is_found_by_the_block() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (full, light) = (start(folders[0].path(), false).await, start(folders[1].path(), true).await);
    full.generate(110, open_script()).await.unwrap();
    let paid = pay(&full, 1, script(1)).await;
    let hidden = full.generate(1, open_script()).await.unwrap()[0];
    full.generate(5, open_script()).await.unwrap();
    let liar = Liar::before(full.local_address().unwrap(), hidden, 111, false);
    light.watch_scripts(vec![script(1)], 200).await.unwrap();
    light.connect_peer(liar.address).await.unwrap();
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until_at_tip(&light, &full).await;
    until("what was hidden is found", async || light.transaction(paid).await.unwrap().is_some()).await;
    until("the liar is let go", async || light.peers().iter().all(|peer| peer.address != liar.address)).await;
    assert_eq!(light.tip(), full.tip());
    light.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_only_peer_has_hidden_is_found_once_another_comes() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (full, light) = (start(folders[0].path(), false).await, start(folders[1].path(), true).await);
    full.generate(110, open_script()).await.unwrap();
    let paid = pay(&full, 1, script(1)).await;
    let hidden = full.generate(1, open_script()).await.unwrap()[0];
    full.generate(5, open_script()).await.unwrap();
    let liar = Liar::before(full.local_address().unwrap(), hidden, 111, false);
    light.watch_scripts(vec![script(1)], 200).await.unwrap();
    light.connect_peer(liar.address).await.unwrap();
    until_at_tip(&light, &full).await;
    assert!(light.transaction(paid).await.unwrap().is_none(), "one peer alone can hide it");
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until("what was hidden is found", async || light.transaction(paid).await.unwrap().is_some()).await;
    until_at_tip(&light, &full).await;
    light.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_a_peer_withholds_is_taken_from_another() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (full, light) = (start(folders[0].path(), false).await, start(folders[1].path(), true).await);
    full.generate(110, open_script()).await.unwrap();
    let paid = pay(&full, 1, script(1)).await;
    let withheld = full.generate(1, open_script()).await.unwrap()[0];
    full.generate(2, open_script()).await.unwrap();
    // It tells the truth of the filters: at this height there is nothing to lie about.
    let liar = Liar::before(full.local_address().unwrap(), withheld, u32::MAX, true);
    light.watch_scripts(vec![script(1)], 200).await.unwrap();
    light.connect_peer(liar.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(light.tip().height < 111, "it does not pass a block over that concerns it");
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until("what pays it is found", async || light.transaction(paid).await.unwrap().is_some()).await;
    until_at_tip(&light, &full).await;
    light.shutdown().await;
}

/// Blocks of nearly 1 MB, and as many outputs in each as a busy block has.
const FULL_BLOCKS: u32 = 200;
const OUTPUTS: u32 = 4_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_light_node_takes_less_than_a_hundredth_of_the_disk() {
    let params = Params::regtest();
    let mut chain = Spender::new(&params);
    chain.extend(100);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (full, light) = (start(folders[0].path(), false).await, start(folders[1].path(), true).await);
    for block in &chain.blocks {
        full.submit_block(block.clone()).await.unwrap();
    }
    let (mut place, mut coin, mut filters) = (chain.place, coinbase_of(&chain.blocks[0]), 0);
    for number in 0..FULL_BLOCKS {
        let mut outputs = vec![open_output(1_000_000)];
        for output in 0..OUTPUTS {
            let mut program = [0; 20];
            program[..4].copy_from_slice(&number.to_le_bytes());
            program[4..8].copy_from_slice(&output.to_le_bytes());
            let script = ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array(program));
            outputs.push(TxOut { value: Amount::ZERO, script_pubkey: script });
        }
        let data = ScriptBuf::from_bytes([&[0x6a][..], &vec![7; 850_000]].concat());
        outputs.push(TxOut { value: Amount::ZERO, script_pubkey: data });
        let transaction = spend(&[coin], outputs);
        let mut transactions = vec![transaction];
        // One block in forty pays the light node.
        if number % 40 == 0 {
            let to_light = TxOut { value: Amount::ZERO, script_pubkey: script(1) };
            transactions.push(spend(&[output_of(&transactions[0], 0)], vec![open_output(1_000_000), to_light]));
        }
        coin = output_of(transactions.last().unwrap(), 0);
        let fee = if number == 0 { 5_000_000_000 - 1_000_000 } else { 0 };
        let block = forge_paying(&params, place, transactions, fee);
        place = Place::of(&block, place.height + 1);
        full.submit_block(block).await.unwrap();
        filters += full.filter(place.hash).await.unwrap().unwrap().0.content.len();
    }
    light.watch_scripts(vec![script(1)], 0).await.unwrap();
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until_at_tip(&light, &full).await;
    let mut notices = light.subscribe(Some(params.genesis_hash)).unwrap();
    let mut paid = 0;
    for _ in 0..100 + FULL_BLOCKS {
        let Notice::BlockConnected { block, .. } = next_block(&mut notices).await else { panic!() };
        paid +=
            block.txdata.iter().filter(|tx| tx.output.iter().any(|output| output.script_pubkey == script(1))).count();
    }
    assert_eq!(paid, 5);
    let (all, little) = (full.disk_bytes().await.unwrap(), light.disk_bytes().await.unwrap());
    println!(
        "{FULL_BLOCKS} blocks of 1 MB: full node {all} bytes, of which filters {filters}; light node {little} bytes"
    );
    assert!(little * 100 < all, "{little} of {all}");
    light.shutdown().await;
    full.shutdown().await;
}
