//! What the tests of light nodes share: nodes of either kind, payments, and peers that stand between and change what they pass on.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bitcoin::bip158::{BlockFilter, FilterHash};
use bitcoin::hashes::Hash as _;
use bitcoin::p2p::Magic;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::{ScriptBuf, Txid, WScriptHash};
use leyden_consensus::Params;
use leyden_net::{FrameDecoder, encode_frame};
use leyden_node::block_filter::build_from;
use leyden_node::{Clock, Node, NodeConfig};

use super::{NOW, PATIENCE, coinbase_of, open_output, spend};

pub async fn start(path: &std::path::Path, light: bool) -> Node {
    let mut config = NodeConfig::new(Params::regtest(), path);
    config.clock = Clock::manual(NOW);
    config.sync_writes = false;
    config.light = light;
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    config.max_outbound = 0;
    // Tests run beside one another, each with several nodes, in a process that may open 256 files.
    config.database_files = 16;
    Node::start(config).await.expect("the node starts")
}

pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came to this: {what}");
}

pub async fn until_at_tip(light: &Node, full: &Node) {
    until("the light node is at the tip", async || light.tip() == full.tip()).await;
}

/// What the first blocks pay.
pub const COIN: u64 = 50 * 100_000_000;

/// A script that nobody else has.
pub fn script(number: u8) -> ScriptBuf {
    ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([number; 32]))
}

/// Pays to the script out of the coinbase of the block at this height.
pub async fn pay(full: &Node, height: u32, to: ScriptBuf) -> Txid {
    let block = full.block(full.block_hash(height).unwrap()).await.unwrap().unwrap();
    let mut output = open_output(COIN - 10_000);
    output.script_pubkey = to;
    full.submit_transaction(spend(&[coinbase_of(&block)], vec![output])).await.unwrap()
}

/// What becomes of a message.
pub enum Way {
    Send,
    Drop,
    /// It comes so much later than the last one that was held back; others pass it.
    Drip(Duration),
}

/// What a peer does to what it sends.
type Hand = dyn Fn(&mut NetworkMessage) -> Way + Send + Sync;

/// Stands between light nodes and a full one.
pub struct Between {
    pub address: SocketAddr,
    /// Connections that came to a handshake.
    pub connections: Arc<AtomicU32>,
    /// How often hashes of filters were asked for.
    pub asked: Arc<AtomicU32>,
    ended: Arc<AtomicBool>,
}

/// The listener's thread may hold the full node, whose files would stay open until the process ends.
impl Drop for Between {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the listener. If it is gone, nothing is left to end.
        let _ = TcpStream::connect(self.address);
    }
}

impl Between {
    pub fn before(full: &Node, hand: impl Fn(&mut NetworkMessage) -> Way + Send + Sync + 'static) -> Self {
        let (full, hand): (_, Arc<Hand>) = (full.local_address().unwrap(), Arc::new(hand));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, asked): (Arc<AtomicU32>, Arc<AtomicU32>) = Default::default();
        let (made, questions) = (Arc::clone(&connections), Arc::clone(&asked));
        let ended = Arc::new(AtomicBool::new(false));
        let no_more = Arc::clone(&ended);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if no_more.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(to) = TcpStream::connect(full) else { return };
                let (from_light, to_full) = (stream.try_clone().unwrap(), to.try_clone().unwrap());
                let (hand, made, questions) = (Arc::clone(&hand), Arc::clone(&made), Arc::clone(&questions));
                std::thread::spawn(move || {
                    relay(from_light, to_full, |message| {
                        let counted = match message {
                            NetworkMessage::Verack => &made,
                            NetworkMessage::GetCFHeaders(_) => &questions,
                            _ => return Way::Send,
                        };
                        counted.fetch_add(1, Ordering::Relaxed);
                        Way::Send
                    });
                });
                std::thread::spawn(move || relay(to, stream, |message| hand(message)));
            }
        });
        Self { address, connections, asked, ended }
    }

    /// Passes everything on.
    pub fn honest(full: &Node) -> Self {
        Self::before(full, |_| Way::Send)
    }

    /// Says that these blocks, by their heights, have these filters.
    pub fn with_filters(full: &Node, filters: BTreeMap<u32, Vec<u8>>) -> Self {
        let node = full.clone();
        Self::before(full, move |message| {
            match message {
                NetworkMessage::CFilter(filter) => {
                    let height = node.header(&filter.block_hash).map(|(_, height)| height);
                    if let Some(content) = height.and_then(|height| filters.get(&height)) {
                        filter.filter.clone_from(content);
                    }
                }
                message => rename(&node, message, |height, hash| {
                    filters.get(&height).map_or(hash, |content| FilterHash::hash(content))
                }),
            }
            Way::Send
        })
    }
}

/// Changes the hashes of filters that a message names, by the heights of their blocks.
pub fn rename(full: &Node, message: &mut NetworkMessage, change: impl Fn(u32, FilterHash) -> FilterHash) {
    let NetworkMessage::CFHeaders(headers) = message else { return };
    let (_, last) = full.header(&headers.stop_hash).unwrap();
    let first = last + 1 - u32::try_from(headers.filter_hashes.len()).unwrap();
    for (height, hash) in (first..).zip(&mut headers.filter_hashes) {
        *hash = change(height, *hash);
    }
}

/// The filter of a block that pays nobody.
pub fn false_filter() -> BlockFilter {
    let mut genesis = Params::regtest().genesis;
    genesis.txdata[0].output[0].script_pubkey = ScriptBuf::from_bytes(vec![1]);
    build_from(&genesis, []).unwrap()
}

fn relay(mut from: TcpStream, to: TcpStream, mut hand: impl FnMut(&mut NetworkMessage) -> Way) {
    let magic = Magic::from_bytes(Params::regtest().magic);
    let (mut decoder, mut chunk) = (FrameDecoder::new(magic), vec![0; 1 << 16]);
    let to = Arc::new(Mutex::new(to));
    let (drops, held) = mpsc::channel::<(Duration, Vec<u8>)>();
    let dripping = Arc::clone(&to);
    std::thread::spawn(move || {
        for (pause, frame) in held {
            std::thread::sleep(pause);
            if dripping.lock().unwrap().write_all(&frame).is_err() {
                return;
            }
        }
    });
    while let Ok(count) = from.read(&mut chunk) {
        if count == 0 {
            break;
        }
        decoder.feed(&chunk[..count]);
        loop {
            let mut message = match decoder.next_message() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                // It speaks plain frames only: whoever begins with encrypted ones has to come back without.
                Err(_) => {
                    let _ = from.shutdown(std::net::Shutdown::Both);
                    break;
                }
            };
            match hand(&mut message) {
                Way::Send => {}
                Way::Drop => continue,
                Way::Drip(pause) => {
                    if drops.send((pause, encode_frame(magic, message))).is_err() {
                        return;
                    }
                    continue;
                }
            }
            if to.lock().unwrap().write_all(&encode_frame(magic, message)).is_err() {
                return;
            }
        }
    }
    let _ = to.lock().unwrap().shutdown(std::net::Shutdown::Both);
}
