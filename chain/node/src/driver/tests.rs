#![allow(unreachable_pub, reason = "helpers are shared between tests")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bitcoin::block::Header;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::pow::Work;
use bitcoin::{Block, BlockHash, FeeRate, Transaction, Txid};
use leyden_consensus::Params;
use leyden_net::{
    BlockOutcome, ChainView, FilterRequest, HeaderEntry, HeadersOutcome, MempoolView, RelayedTx, Timing,
    TransactionOutcome, TransportKind, TxName, encode_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::broadcast;

use super::*;
use crate::backend::{BlockAccepted, ChainEvent, HeadersAccepted};
use crate::error::{BlockRejected, HeadersRejected, MempoolError, NodeError};
use crate::prepared::PreparedBlock;
use crate::types::Tip;
use model::{Chain, Mempool, START, relayed, spend};

/// The chain model of leyden-net's simulator: a chain without rules worth the name.
#[allow(dead_code)]
#[path = "../../../net/tests/network/chain.rs"]
mod model;

/// A node's chain and mempool in memory.
struct Memory {
    chain: Mutex<Chain>,
    mempool: Mutex<Mempool>,
    events: broadcast::Sender<ChainEvent>,
    is_broken: AtomicBool,
}

impl Memory {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            chain: Mutex::new(Chain::new(false)),
            mempool: Mutex::new(Mempool::default()),
            events: broadcast::channel(1_000).0,
            is_broken: AtomicBool::new(false),
        })
    }

    fn height(&self) -> u32 {
        self.chain.lock().unwrap().height()
    }

    fn tip_hash(&self) -> BlockHash {
        self.chain.lock().unwrap().tip().hash
    }

    fn mine(&self, count: usize) {
        for _ in 0..count {
            self.chain.lock().unwrap().mine(START, rand::random(), false);
            self.tell_tip();
        }
    }

    fn tell_tip(&self) {
        let entry = self.chain.lock().unwrap().tip();
        let _ = self.events.send(ChainEvent::Tip(Tip {
            hash: entry.hash,
            height: entry.height,
            time: entry.header.time,
            median_time_past: entry.header.time,
            work: entry.work,
        }));
    }

    fn has_transaction(&self, txid: &Txid) -> bool {
        self.mempool.lock().unwrap().contains(txid)
    }
}

impl ChainView for Memory {
    fn entry(&self, hash: &BlockHash) -> Option<HeaderEntry> {
        self.chain.lock().unwrap().entry(hash)
    }
    fn active_tip(&self) -> HeaderEntry {
        self.chain.lock().unwrap().active_tip()
    }
    fn most_work_header(&self) -> HeaderEntry {
        self.chain.lock().unwrap().most_work_header()
    }
    fn ancestor(&self, of: &BlockHash, height: u32) -> Option<BlockHash> {
        self.chain.lock().unwrap().ancestor(of, height)
    }
    fn active_at(&self, height: u32) -> Option<BlockHash> {
        self.chain.lock().unwrap().active_at(height)
    }
    fn serves_filters(&self) -> bool {
        false
    }
}

impl MempoolView for Memory {
    fn knows(&self, name: &TxName) -> bool {
        self.mempool.lock().unwrap().knows(name)
    }
    fn transaction(&self, name: &TxName) -> Option<Arc<Transaction>> {
        self.mempool.lock().unwrap().transaction(name)
    }
    fn visit(&self, visit: &mut dyn FnMut(&bitcoin::Wtxid, &Arc<Transaction>)) {
        self.mempool.lock().unwrap().visit(visit);
    }
    fn relayable(&self, limit: usize) -> Vec<RelayedTx> {
        self.mempool.lock().unwrap().relayable(limit)
    }
    fn minimum_fee_rate(&self) -> FeeRate {
        self.mempool.lock().unwrap().minimum_fee_rate()
    }
}

impl Backend for Memory {
    fn now(&self) -> u64 {
        assert!(!self.is_broken.load(Ordering::Relaxed), "a fault on purpose");
        START
    }

    fn block(&self, hash: &BlockHash) -> Result<Option<Arc<Block>>, NodeError> {
        Ok(self.chain.lock().unwrap().block(hash).cloned().map(Arc::new))
    }

    fn filters(&self, _: &FilterRequest) -> Result<Vec<NetworkMessage>, NodeError> {
        Ok(Vec::new())
    }

    fn accept_headers(&self, headers: &[Header]) -> Result<HeadersAccepted, HeadersRejected> {
        match self.chain.lock().unwrap().accept_headers(headers) {
            HeadersOutcome::Accepted { last } => Ok(HeadersAccepted { new: headers.len(), last: Some(last) }),
            HeadersOutcome::Invalid | HeadersOutcome::Undecided => {
                Err(HeadersRejected::Node(NodeError::Network("the model refuses the headers".into())))
            }
        }
    }

    fn prepare_block(&self, block: Block) -> PreparedBlock {
        PreparedBlock::new(block, &Params::regtest())
    }

    fn submit_prepared(&self, prepared: PreparedBlock) -> Result<BlockAccepted, BlockRejected> {
        let block = prepared.block.as_ref().clone();
        let (before, outcome) = {
            let mut chain = self.chain.lock().unwrap();
            (chain.tip().hash, chain.process_block(block))
        };
        assert_eq!(outcome, BlockOutcome::Accepted);
        if before != self.tip_hash() {
            self.tell_tip();
        }
        Ok(BlockAccepted::Known)
    }

    fn submit_transaction(&self, transaction: Transaction) -> Result<Txid, MempoolError> {
        let transaction = Arc::new(transaction);
        let RelayedTx { txid, wtxid, fee_rate } = relayed(&transaction);
        let outcome = self.mempool.lock().unwrap().submit(&transaction, false);
        if let TransactionOutcome::MissingInputs { .. } = outcome {
            return Err(MempoolError::MissingInputs(transaction.input[0].previous_output));
        }
        assert_eq!(outcome, TransactionOutcome::Accepted);
        let _ = self.events.send(ChainEvent::Transaction { transaction, txid, wtxid, fee_rate, sequence: 1 });
        Ok(txid)
    }

    fn submit_package(&self, transactions: Vec<Transaction>) -> Result<Vec<Txid>, MempoolError> {
        transactions.into_iter().map(|transaction| self.submit_transaction(transaction)).collect()
    }

    fn events(&self) -> broadcast::Receiver<ChainEvent> {
        self.events.subscribe()
    }
}

fn config() -> DriverConfig {
    let mut protocol = leyden_net::Config::full_node("/driver-test/", Work::from_be_bytes([0; 32]));
    protocol.timing = Timing {
        trickle_inbound: Duration::from_millis(50),
        trickle_outbound: Duration::from_millis(50),
        transaction_delay: Duration::from_millis(50),
        ..Timing::default()
    };
    let mut config = DriverConfig::new(Magic::REGTEST, protocol);
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    config.reconnect_after = Duration::from_millis(50);
    config.reconnect_at_most = Duration::from_millis(400);
    config
}

async fn start(backend: &Arc<Memory>) -> Driver {
    Driver::start(config(), Arc::clone(backend) as Arc<dyn Backend>).await.unwrap()
}

/// For how long anything is waited for: many times longer than it takes on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until something is so.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came to this: {what}");
}

#[tokio::test]
async fn two_nodes_synchronise_a_chain_and_relay_a_transaction() {
    let (one, two) = (Memory::new(), Memory::new());
    one.mine(300);
    let (first, second) = (start(&one).await, start(&two).await);
    second.connect(first.local_address().unwrap()).await.unwrap();
    until("300 blocks arrive", async || two.height() == 300).await;
    assert_eq!(one.tip_hash(), two.tip_hash());

    // A new block goes the other way.
    two.mine(1);
    until("the new block arrives", async || one.height() == 301).await;

    let transaction = spend(bitcoin::hashes::Hash::from_byte_array([1; 32]), 1_000);
    let txid = one.submit_transaction(transaction.as_ref().clone()).unwrap();
    until("the transaction arrives", async || two.has_transaction(&txid)).await;

    until("the bytes are counted", async || first.peers().iter().any(|peer| peer.bytes_sent > 300 * 150)).await;
    let peers = first.peers();
    assert_eq!(peers.len(), 1);
    assert!(peers[0].inbound && peers[0].user_agent == "/driver-test/");
    first.shutdown().await;
    until("the loss of the connection is noticed", async || second.peers().is_empty()).await;
    second.shutdown().await;
}

#[tokio::test]
async fn nodes_that_mined_apart_agree_after_they_meet() {
    let (one, two) = (Memory::new(), Memory::new());
    let (first, second) = (start(&one).await, start(&two).await);
    let address = first.local_address().unwrap();
    second.connect(address).await.unwrap();
    one.mine(10);
    until("the common blocks arrive", async || two.height() == 10).await;
    second.disconnect(address);
    until("they are apart", async || first.peers().is_empty()).await;
    one.mine(160);
    two.mine(170);
    assert_ne!(one.tip_hash(), two.tip_hash());
    second.connect(address).await.unwrap();
    until("they agree", async || one.tip_hash() == two.tip_hash()).await;
    assert_eq!(one.height(), 180);
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn a_configured_peer_is_connected_again_when_it_comes_back() {
    let (one, two) = (Memory::new(), Memory::new());
    let first = start(&one).await;
    let address = first.local_address().unwrap();
    let second = start(&two).await;
    second.connect(address).await.unwrap();
    until("they are connected", async || second.peers().len() == 1).await;
    first.shutdown().await;
    until("they are apart", async || second.peers().is_empty()).await;
    one.mine(5);
    let mut again = config();
    again.listen = Some(address);
    let first = Driver::start(again, Arc::clone(&one) as Arc<dyn Backend>).await.unwrap();
    until("the new blocks arrive", async || two.height() == 5).await;
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn a_fault_of_the_driver_is_no_secret() {
    let memory = Memory::new();
    let driver = start(&memory).await;
    let mut failed = Network::failed(&driver);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut failed).await.is_err());
    memory.is_broken.store(true, Ordering::Relaxed);
    tokio::time::timeout(Duration::from_secs(60), failed).await.unwrap();
    driver.shutdown().await;
}

#[tokio::test]
async fn garbage_and_other_networks_are_cut_off_and_nobody_else_notices() {
    let one = Memory::new();
    let mut impatient = config();
    impatient.protocol.timing.handshake = Duration::from_secs(1);
    let first = Driver::start(impatient, Arc::clone(&one) as Arc<dyn Backend>).await.unwrap();
    let address = first.local_address().unwrap();
    let other_network = encode_frame(
        Magic::BITCOIN,
        NetworkMessage::Unknown {
            command: bitcoin::p2p::message::CommandString::try_from_static("version").unwrap(),
            payload: vec![1; 100],
        },
    );
    let mut oversized = b"\xfa\xbf\xb5\xdaversion\0\0\0\0\0".to_vec();
    oversized.extend([0xff; 8]);
    let request = b"GET / HTTP/1.1\r\nHost: leyden\r\n\r\n".to_vec();
    // What could be the beginning of encrypted packets is answered by our key, and by nothing after it.
    for (garbage, is_answered) in [(vec![0; 20_000], true), (request, true), (other_network, false), (oversized, false)]
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&garbage).await.unwrap();
        let mut rest = Vec::new();
        // Closed or reset; either way there is an end.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.len() < 64 + 4_096 + 16 + 20 && (is_answered || rest.is_empty()), "{} bytes", rest.len());
    }
    let two = Memory::new();
    one.mine(3);
    let second = start(&two).await;
    second.connect(address).await.unwrap();
    until("blocks arrive all the same", async || two.height() == 3).await;
    first.shutdown().await;
    second.shutdown().await;
}

fn spoken(driver: &Driver) -> Vec<TransportKind> {
    driver.peers().iter().map(|peer| peer.transport).collect()
}

#[tokio::test]
async fn two_nodes_encrypt_what_they_say_and_have_the_same_session_id() {
    let (one, two) = (Memory::new(), Memory::new());
    one.mine(20);
    let (first, second) = (start(&one).await, start(&two).await);
    second.connect(first.local_address().unwrap()).await.unwrap();
    until("the blocks arrive", async || two.height() == 20).await;
    until("both know", async || first.peers().len() == 1 && second.peers().len() == 1).await;
    let (here, there) = (spoken(&first), spoken(&second));
    assert!(matches!(here[..], [TransportKind::V2 { .. }]), "{here:?}");
    assert_eq!(here, there);
    let third = start(&Memory::new()).await;
    third.connect(first.local_address().unwrap()).await.unwrap();
    assert_ne!(spoken(&third), here, "each connection has its own");
    for driver in [first, second, third] {
        driver.shutdown().await;
    }
}

#[tokio::test]
async fn a_node_that_speaks_plain_frames_only_is_understood_whoever_connects() {
    let (one, two) = (Memory::new(), Memory::new());
    one.mine(20);
    let mut plain = config();
    plain.protocol.services.remove(ServiceFlags::P2P_V2);
    let first = Driver::start(plain, Arc::clone(&one) as Arc<dyn Backend>).await.unwrap();
    let second = start(&two).await;
    second.connect(first.local_address().unwrap()).await.unwrap();
    until("the blocks arrive", async || two.height() == 20).await;
    assert_eq!(spoken(&second), [TransportKind::V1]);
    let third = start(&Memory::new()).await;
    first.connect(third.local_address().unwrap()).await.unwrap();
    until("the other way too", async || spoken(&third) == [TransportKind::V1]).await;
    for driver in [first, second, third] {
        driver.shutdown().await;
    }
}

#[tokio::test]
async fn who_waits_in_the_middle_of_an_opening_is_let_go() {
    let mut impatient = config();
    impatient.protocol.timing.handshake = Duration::from_secs(1);
    let first = Driver::start(impatient, Memory::new() as Arc<dyn Backend>).await.unwrap();
    let address = first.local_address().unwrap();
    // Nothing, a part of a plain beginning, a part of a key, a key and some garbage.
    for sent in [vec![], b"\xfa\xbf\xb5\xdaver".to_vec(), vec![7; 40], vec![7; 300]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&sent).await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    }
    assert!(first.peers().is_empty());
    first.shutdown().await;
}

#[tokio::test]
async fn silent_connections_take_no_honest_node_s_place() {
    let (one, two) = (Memory::new(), Memory::new());
    one.mine(5);
    let crowded = DriverConfig { max_inbound: 4, ..config() };
    let first = Driver::start(crowded, Arc::clone(&one) as Arc<dyn Backend>).await.unwrap();
    let address = first.local_address().unwrap();
    let mut silent = Vec::new();
    for _ in 0..12 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let second = start(&two).await;
    second.connect(address).await.unwrap();
    until("the blocks arrive", async || two.height() == 5).await;
    // It is not put out by those who come later.
    for _ in 0..12 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    one.mine(1);
    until("the new block arrives", async || two.height() == 6).await;
    assert_eq!(second.peers().len(), 1);
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let one = Memory::new();
    let first = start(&one).await;
    let mut taken = config();
    taken.listen = first.local_address();
    let error = Driver::start(taken, one as Arc<dyn Backend>).await.unwrap_err();
    assert!(error.to_string().contains(&first.local_address().unwrap().to_string()), "{error}");
    first.shutdown().await;
}

#[tokio::test]
async fn a_node_does_not_stay_connected_to_itself() {
    let one = Memory::new();
    let first = start(&one).await;
    let error = first.connect(first.local_address().unwrap()).await.unwrap_err();
    assert!(matches!(error, NodeError::Unreachable { .. }), "{error}");
    assert!(first.peers().is_empty());
    first.shutdown().await;
}

#[tokio::test]
async fn a_failed_attempt_says_why() {
    let one = Memory::new();
    let first = start(&one).await;
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = first.connect(address).await.unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    first.shutdown().await;
    assert!(matches!(first.connect(address).await, Err(NodeError::ShuttingDown)));
}

#[tokio::test]
async fn dropping_the_last_handle_stops_everything() {
    let one = Memory::new();
    let weak = Arc::downgrade(&one);
    let (first, second) = (start(&one).await, start(&Memory::new()).await);
    second.connect(first.local_address().unwrap()).await.unwrap();
    drop((one, first));
    until("the chain is let go of", async || weak.upgrade().is_none()).await;
    second.shutdown().await;
}
