//! Whole nodes, on disk, that find each other over sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bitcoin::p2p::address::{AddrV2, AddrV2Message};
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::p2p::{Address, Magic, ServiceFlags};
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{Amount, CompressedPublicKey, PrivateKey, ScriptBuf, Transaction, TxOut, Witness, ecdsa};
use common::*;
use leyden_consensus::Params;
use leyden_net::{FrameDecoder, TxName, encode_frame};
use leyden_node::{Clock, Node, NodeConfig};

async fn start(path: &std::path::Path) -> Node {
    let mut config = NodeConfig::new(Params::regtest(), path);
    config.clock = Clock::manual(NOW);
    config.sync_writes = false;
    config.listen = Some("127.0.0.1:0".parse().unwrap());
    // No test looks for the world outside.
    config.max_outbound = 0;
    Node::start(config).await.expect("the node starts")
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came to this: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_downloads_the_chain_and_both_relay_what_comes_after() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two) = (start(folders[0].path()).await, start(folders[1].path()).await);
    one.generate(300, open_script()).await.unwrap();
    two.connect_peer(one.local_address().unwrap()).await.unwrap();
    until("300 blocks arrive", || two.tip() == one.tip()).await;

    let hash = one.block_hash(1).unwrap();
    let block = one.block(hash).await.unwrap().unwrap();
    let outpoint = coinbase_of(&block);
    let value = block.txdata[0].output[0].value - Amount::from_sat(10_000);
    let transaction = spend(&[outpoint], vec![open_output(value.to_sat())]);
    let txid = one.submit_transaction(transaction).await.unwrap();
    until("the transaction arrives", || two.mempool_entry(&txid).is_some()).await;

    two.generate(1, open_script()).await.unwrap();
    until("its block arrives", || one.tip() == two.tip()).await;
    assert!(one.mempool_entry(&txid).is_none());
    assert_eq!(one.utxo_set_hash().await.unwrap(), two.utxo_set_hash().await.unwrap());
    assert!(one.peers()[0].inbound && !two.peers()[0].inbound);
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_mined_apart_end_with_the_same_coins() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two) = (start(folders[0].path()).await, start(folders[1].path()).await);
    let address = one.local_address().unwrap();
    two.connect_peer(address).await.unwrap();
    one.generate(20, open_script()).await.unwrap();
    until("the common blocks arrive", || two.tip() == one.tip()).await;
    two.disconnect_peer(address).unwrap();
    until("they are apart", || one.peers().is_empty() && two.peers().is_empty()).await;
    one.generate(150, open_script()).await.unwrap();
    two.generate(160, true_script()).await.unwrap();
    two.connect_peer(address).await.unwrap();
    until("they agree", || one.tip() == two.tip()).await;
    assert_eq!(one.tip().height, 180);
    assert_eq!(one.utxo_set_hash().await.unwrap(), two.utxo_set_hash().await.unwrap());
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_2_parent_without_a_fee_travels_with_its_child_and_replaces_a_pinned_rival_everywhere() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two) = (start(folders[0].path()).await, start(folders[1].path()).await);
    one.generate(110, open_script()).await.unwrap();
    two.connect_peer(one.local_address().unwrap()).await.unwrap();
    until("the blocks arrive", || two.tip() == one.tip()).await;
    let block = one.block(one.block_hash(1).unwrap()).await.unwrap().unwrap();
    let value = block.txdata[0].output[0].value.to_sat();
    // Two commitments of one channel. On the peer's hang all the descendants that are allowed.
    let commitment = |first: u64| spend(&[coinbase_of(&block)], vec![open_output(first), open_output(value - first)]);
    let (theirs, ours) = (commitment(value / 2), commitment(value / 3));
    let child = |parent: &Transaction, vout: u32, fee: u64| {
        let value = parent.output[vout as usize].value.to_sat();
        spend(&[output_of(parent, vout)], vec![open_output(value - fee)])
    };
    let mut last = child(&theirs, 0, 500);
    two.submit_package(vec![theirs.clone(), last.clone()]).await.unwrap();
    for _ in 0..62 {
        last = child(&last, 0, 20);
        two.submit_transaction(last.clone()).await.unwrap();
    }
    // The parent is too cheap to be announced: whoever hears of the child asks for it.
    let is_there = |node: &Node, transaction: &Transaction| node.mempool_entry(&transaction.compute_txid()).is_some();
    until("the peer's commitment arrives with all that hangs on it", || {
        is_there(&one, &theirs) && is_there(&one, &last)
    })
    .await;
    let our_child = child(&ours, 1, 50_000);
    one.submit_package(vec![ours.clone(), our_child.clone()]).await.unwrap();
    until("ours takes its place", || is_there(&two, &ours) && is_there(&two, &our_child)).await;
    assert!(!is_there(&two, &theirs) && !is_there(&two, &last));
    one.shutdown().await;
    two.shutdown().await;
}

/// A peer that says what the test wants.
struct Stranger {
    stream: TcpStream,
    decoder: FrameDecoder,
}

impl Stranger {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stranger = Self { stream, decoder: FrameDecoder::new(Magic::REGTEST) };
        let nowhere = Address::new(&SocketAddr::from(([0; 4], 0)), ServiceFlags::NONE);
        stranger.send(NetworkMessage::Version(VersionMessage {
            version: 70_016,
            services: ServiceFlags::NETWORK | ServiceFlags::WITNESS,
            timestamp: 0,
            receiver: nowhere.clone(),
            sender: nowhere,
            nonce: rand::random(),
            user_agent: "/stranger/".into(),
            start_height: 0,
            relay: true,
        }));
        stranger.send(NetworkMessage::WtxidRelay);
        stranger.read_until(|message| matches!(message, NetworkMessage::Verack));
        stranger.send(NetworkMessage::Verack);
        stranger
    }

    /// What is sent to a closed connection is lost.
    fn send(&mut self, message: NetworkMessage) {
        let _ = self.stream.write_all(&encode_frame(Magic::REGTEST, message));
    }

    /// Reads until such a message comes; false if the connection ends before.
    fn read_until(&mut self, wanted: impl Fn(&NetworkMessage) -> bool) -> bool {
        let mut chunk = [0; 4096];
        loop {
            while let Some(message) = self.decoder.next_message().unwrap() {
                if wanted(&message) {
                    return true;
                }
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(count) => self.decoder.feed(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("neither a message nor the end of the connection: {error}"),
            }
        }
    }
}

const SIGNATURES: u64 = 660;

/// Outputs that a signature each spends.
fn signed_outputs(from: bitcoin::OutPoint, value: u64) -> (Transaction, SecretKey) {
    let secret = SecretKey::from_slice(&[7; 32]).unwrap();
    let public =
        CompressedPublicKey::from_private_key(&Secp256k1::new(), &PrivateKey::new(secret, bitcoin::NetworkKind::Test));
    let script = ScriptBuf::new_p2wpkh(&public.unwrap().wpubkey_hash());
    let output = TxOut { value: Amount::from_sat(value / (SIGNATURES + 1)), script_pubkey: script };
    (spend(&[from], vec![output; SIGNATURES as usize]), secret)
}

/// Spends them all, 45,000 virtual bytes; the last signature is wrong. The signatures bind no output, so that those of one
/// transaction serve for many.
fn badly_signed(funding: &Transaction, secret: &SecretKey) -> Transaction {
    let outpoints: Vec<_> = (0..SIGNATURES as u32).map(|vout| output_of(funding, vout)).collect();
    let mut transaction = spend(&outpoints, vec![open_output(1_000)]);
    let (secp, kind) = (Secp256k1::new(), EcdsaSighashType::NonePlusAnyoneCanPay);
    let mut witnesses = Vec::new();
    let mut cache = SighashCache::new(&transaction);
    for (index, output) in funding.output.iter().enumerate() {
        let hash = cache.p2wpkh_signature_hash(index, &output.script_pubkey, output.value, kind).unwrap();
        let mut digest = *AsRef::<[u8; 32]>::as_ref(&hash);
        if index + 1 == funding.output.len() {
            digest[0] ^= 1;
        }
        let signature = secp.sign_ecdsa(&Message::from_digest(digest), secret);
        let signature = ecdsa::Signature { signature, sighash_type: kind };
        witnesses.push(Witness::p2wpkh(&signature, &secret.public_key(&secp)));
    }
    for (input, witness) in transaction.input.iter_mut().zip(witnesses) {
        input.witness = witness;
    }
    transaction
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_invalid_transactions_ends_with_the_first_and_delays_nobody_else_s() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    node.generate(110, open_script()).await.unwrap();
    let coinbase = async |height| {
        let block = node.block(node.block_hash(height).unwrap()).await.unwrap().unwrap();
        (coinbase_of(&block), block.txdata[0].output[0].value.to_sat())
    };
    let (from, value) = coinbase(1).await;
    let (funding, secret) = signed_outputs(from, value);
    node.submit_transaction(funding.clone()).await.unwrap();
    node.generate(1, open_script()).await.unwrap();
    let first = badly_signed(&funding, &secret);
    let invalid: Vec<Transaction> = (0..300)
        .map(|number| {
            let mut transaction = first.clone();
            transaction.output[0].value = Amount::from_sat(1_000 + number);
            transaction
        })
        .collect();
    let (from, value) = coinbase(2).await;
    let honest = spend(&[from], vec![open_output(value - 10_000)]);

    let address = node.local_address().unwrap();
    let (mut stranger, mut other) = (Stranger::connect(address), Stranger::connect(address));
    let names: Vec<_> = invalid.iter().map(|transaction| TxName::Wtxid(transaction.compute_wtxid())).collect();
    let backend = node.backend();
    let flood = std::thread::spawn(move || {
        for transaction in invalid {
            stranger.send(NetworkMessage::Tx(transaction));
        }
        stranger.read_until(|_| false);
    });
    let checked = || names.iter().filter(|name| backend.knows(name)).count();
    until("the flood arrives", || checked() > 0).await;
    let begun = Instant::now();
    let txid = honest.compute_txid();
    other.send(NetworkMessage::Tx(honest));
    until("the honest transaction arrives", || node.mempool_entry(&txid).is_some()).await;
    println!("the honest transaction took {:?}; {} invalid ones were checked", begun.elapsed(), checked());
    flood.join().unwrap();
    println!("the sender of the others was let go after {:?} and {}", begun.elapsed(), checked());
    // Others may be on their way to the check while the sender is let go.
    assert!(checked() <= 3, "{} invalid transactions were checked", checked());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorganisation_longer_than_the_plan_of_a_download_completes_at_once() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two) = (start(folders[0].path()).await, start(folders[1].path()).await);
    let params = Params::regtest();
    for (node, length) in [(&one, 700), (&two, 701)] {
        for block in forge_chain(&params, Place::genesis(&params), length) {
            node.submit_block(block).await.unwrap();
        }
    }
    let begun = Instant::now();
    two.connect_peer(one.local_address().unwrap()).await.unwrap();
    until("they agree", || one.tip() == two.tip()).await;
    println!("a reorganisation of 700 blocks took {:?}", begun.elapsed());
    assert_eq!(one.tip().height, 701);
    assert_eq!(one.utxo_set_hash().await.unwrap(), two.utxo_set_hash().await.unwrap());
    one.shutdown().await;
    two.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_peers_told_of_are_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let mut stranger = Stranger::connect(node.local_address().unwrap());
    let told = AddrV2Message {
        time: NOW as u32,
        services: ServiceFlags::NETWORK,
        addr: AddrV2::Ipv4([8, 8, 8, 8].into()),
        port: 8333,
    };
    stranger.send(NetworkMessage::AddrV2(vec![told]));
    // Its answer shows that what came before was handled.
    stranger.send(NetworkMessage::Ping(7));
    assert!(stranger.read_until(|message| matches!(message, NetworkMessage::Pong(7))));
    node.shutdown().await;
    drop(node);
    let kept = std::fs::read_to_string(folder.path().join("addresses")).unwrap();
    assert!(kept.contains("8.8.8.8:8333"), "{kept}");

    let node = start(folder.path()).await;
    let mut stranger = Stranger::connect(node.local_address().unwrap());
    stranger.send(NetworkMessage::GetAddr);
    let is_told = |message: &NetworkMessage| match message {
        NetworkMessage::Addr(told) => {
            told.iter().any(|(_, one)| one.socket_addr().is_ok_and(|told| told == ([8, 8, 8, 8], 8333).into()))
        }
        _ => false,
    };
    assert!(stranger.read_until(is_told));
    node.shutdown().await;
}
