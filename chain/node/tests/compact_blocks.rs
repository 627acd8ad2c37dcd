//! Compact blocks (BIP 152) over sockets: between two nodes, and with a peer that writes and reads each byte as the BIP has it.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bitcoin::consensus::serialize;
use bitcoin::hashes::{Hash, sha256, sha256d};
use bitcoin::{Block, Transaction};
use common::*;
use leyden_consensus::Params;
use leyden_node::{Clock, Node, NodeConfig};

async fn start(path: &std::path::Path) -> Node {
    let mut config = NodeConfig::new(Params::regtest(), path);
    config.clock = Clock::manual(NOW);
    config.sync_writes = false;
    config.listen = Some("127.0.0.1:0".parse().unwrap());
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

/// Confirmed outputs that anybody can spend, `count` in one transaction for each of the first `transactions` coinbases.
async fn fan_out(node: &Node, transactions: u32, count: u64) -> Vec<Transaction> {
    let mut fans = Vec::new();
    for height in 1..=transactions {
        let block = node.block(node.block_hash(height).unwrap()).await.unwrap().unwrap();
        let value = (block.txdata[0].output[0].value.to_sat() - 1_000_000) / count;
        let fan = spend(&[coinbase_of(&block)], (0..count).map(|_| open_output(value)).collect());
        node.submit_transaction(fan.clone()).await.unwrap();
        fans.push(fan);
    }
    node.generate(1, open_script()).await.unwrap();
    fans
}

/// Spends one of those, into so many outputs.
fn spend_of(fan: &Transaction, vout: u32, outputs: u64) -> Transaction {
    let value = fan.output[vout as usize].value.to_sat();
    spend(&[output_of(fan, vout)], vec![open_output((value - 20_000) / outputs); outputs as usize])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_block_travels_between_equal_mempools_in_few_bytes() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two) = (start(folders[0].path()).await, start(folders[1].path()).await);
    one.generate(110, open_script()).await.unwrap();
    two.connect_peer(one.local_address().unwrap()).await.unwrap();
    until("the blocks arrive", || two.tip() == one.tip()).await;
    let fans = fan_out(&one, 5, 180).await;
    until("the outputs arrive", || two.tip() == one.tip()).await;
    // A list of peers may be a moment old, and empty then.
    let first = |node: &Node| node.peers().into_iter().next();
    let is_wanted = || {
        first(&two).is_some_and(|peer| peer.high_bandwidth_to)
            && first(&one).is_some_and(|peer| peer.high_bandwidth_from)
    };
    until("compact blocks are wanted", is_wanted).await;
    assert!(!one.peers()[0].high_bandwidth_to, "nothing came from there");

    for fan in &fans {
        for vout in 0..180 {
            let transaction = spend_of(fan, vout, 22);
            one.submit_transaction(transaction.clone()).await.unwrap();
            two.submit_transaction(transaction).await.unwrap();
        }
    }
    assert_eq!((one.mempool_info().transactions, two.mempool_info().transactions), (900, 900));
    let before = two.peers()[0].bytes_received;
    one.generate(1, open_script()).await.unwrap();
    until("the block arrives", || two.tip() == one.tip()).await;
    let block = two.block(two.tip().hash).await.unwrap().unwrap();
    // Announcements of transactions, which had not left before, are among them.
    let received = two.peers()[0].bytes_received - before;
    let size = serialize(block.as_ref()).len();
    println!("a block of {size} bytes and {} transactions came in {received} bytes", block.txdata.len());
    assert_eq!(block.txdata.len(), 901);
    assert!(size > 900_000 && received < 60_000);
    assert_eq!(one.utxo_set_hash().await.unwrap(), two.utxo_set_hash().await.unwrap());
    one.shutdown().await;
    two.shutdown().await;
}

/// SipHash-2-4 (Aumasson and Bernstein), written for this test.
fn siphash(k0: u64, k1: u64, input: &[u8]) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    fn round(v: &mut [u64; 4]) {
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[1]);
        v[0] = v[0].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].rotate_left(32);
    }
    let mut words: Vec<u64> = Vec::new();
    let mut padded = input.to_vec();
    padded.resize(input.len() / 8 * 8 + 7, 0);
    padded.push(input.len() as u8);
    words.extend(padded.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())));
    for word in words {
        v[3] ^= word;
        round(&mut v);
        round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

/// BIP 152, Short transaction IDs; version 2: of the wtxid.
fn short_id(header: &[u8], nonce: u64, transaction: &[u8]) -> [u8; 6] {
    let key = sha256::Hash::hash(&[header, &nonce.to_le_bytes()].concat()).to_byte_array();
    let half = |from: usize| u64::from_le_bytes(key[from..from + 8].try_into().unwrap());
    let wtxid = sha256d::Hash::hash(transaction).to_byte_array();
    siphash(half(0), half(8), &wtxid).to_le_bytes()[..6].try_into().unwrap()
}

fn compact_size(number: usize) -> Vec<u8> {
    match number {
        0..=0xfc => vec![number as u8],
        _ => [&[0xfd][..], &(number as u16).to_le_bytes()].concat(),
    }
}

/// A peer that knows nothing of our code.
struct RawPeer {
    stream: TcpStream,
}

impl RawPeer {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Self { stream };
        let mut version = Vec::new();
        version.extend(70_016u32.to_le_bytes());
        // NODE_NETWORK and NODE_WITNESS.
        version.extend(9u64.to_le_bytes());
        version.extend(NOW.to_le_bytes());
        version.extend([0; 26 * 2]);
        version.extend(rand::random::<u64>().to_le_bytes());
        version.extend([0]);
        version.extend(0u32.to_le_bytes());
        version.extend([1]);
        peer.send("version", &version);
        peer.send("wtxidrelay", &[]);
        peer.read("verack");
        peer.send("verack", &[]);
        peer
    }

    fn send(&mut self, command: &str, payload: &[u8]) {
        let mut frame = vec![0xfa, 0xbf, 0xb5, 0xda];
        let mut name = command.as_bytes().to_vec();
        name.resize(12, 0);
        frame.extend(name);
        frame.extend((payload.len() as u32).to_le_bytes());
        frame.extend(&sha256d::Hash::hash(payload).to_byte_array()[..4]);
        frame.extend(payload);
        // What is sent to a closed connection is lost.
        let _ = self.stream.write_all(&frame);
    }

    /// The payload of the next such message; `None` if the connection ends before.
    fn try_read(&mut self, command: &str) -> Option<Vec<u8>> {
        loop {
            let mut header = [0; 24];
            self.stream.read_exact(&mut header).ok()?;
            let mut payload = vec![0; u32::from_le_bytes(header[16..20].try_into().unwrap()) as usize];
            self.stream.read_exact(&mut payload).ok()?;
            let name: Vec<u8> = header[4..16].iter().copied().take_while(|byte| *byte != 0).collect();
            match std::str::from_utf8(&name).unwrap() {
                name if name == command => return Some(payload),
                "ping" => self.send("pong", &payload),
                _ => {}
            }
        }
    }

    fn read(&mut self, command: &str) -> Vec<u8> {
        self.try_read(command).unwrap_or_else(|| panic!("no {command} before the end of the connection"))
    }
}

/// The layout of `cmpctblock` for a block of which only the coinbase is sent whole.
fn cmpctblock(block: &Block, nonce: u64) -> Vec<u8> {
    let header = serialize(&block.header);
    let mut bytes = header.clone();
    bytes.extend(nonce.to_le_bytes());
    bytes.extend(compact_size(block.txdata.len() - 1));
    for transaction in &block.txdata[1..] {
        bytes.extend(short_id(&header, nonce, &serialize(transaction)));
    }
    bytes.extend([1, 0]);
    bytes.extend(serialize(&block.txdata[0]));
    bytes
}

#[test]
fn the_test_s_own_siphash_gives_what_its_authors_print() {
    let input: Vec<u8> = (0..15).collect();
    assert_eq!(siphash(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908, &input), 0xa129_ca61_49be_45e5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_of_the_four_messages_is_where_the_bip_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    node.generate(110, open_script()).await.unwrap();
    let fans = fan_out(&node, 1, 300).await;
    let address = node.local_address().unwrap();

    // It says at once that it speaks version 2, and wants none unasked.
    let mut peer = RawPeer::connect(address);
    assert_eq!(peer.read("sendcmpct"), [0, 2, 0, 0, 0, 0, 0, 0, 0]);
    peer.send("sendcmpct", &[1, 2, 0, 0, 0, 0, 0, 0, 0]);
    // The node takes us for a peer that has its tip.
    let tip = node.block(node.tip().hash).await.unwrap().unwrap();
    peer.send("headers", &[&[1][..], &serialize(&tip.header), &[0]].concat());
    peer.send("ping", &[7; 8]);
    assert_eq!(peer.read("pong"), [7; 8]);

    // More than 252 transactions, so that the numbers of three bytes are seen.
    for vout in 0..260 {
        node.submit_transaction(spend_of(&fans[0], vout, 1)).await.unwrap();
    }
    node.generate(1, open_script()).await.unwrap();
    let block = node.block(node.tip().hash).await.unwrap().unwrap();
    let message = peer.read("cmpctblock");
    let nonce = u64::from_le_bytes(message[80..88].try_into().unwrap());
    assert_eq!(message[88..91], [0xfd, 4, 1]);
    assert_eq!(message, cmpctblock(&block, nonce));

    // Indexes 0, 2, 3 and 258 are told as 0, 1, 0 and 254.
    let hash = serialize(&block.block_hash());
    peer.send("getblocktxn", &[&hash[..], &[4, 0, 1, 0, 0xfd, 254, 0]].concat());
    let chosen: Vec<u8> = [0, 2, 3, 258].iter().flat_map(|index| serialize(&block.txdata[*index])).collect();
    assert_eq!(peer.read("blocktxn"), [&hash[..], &[4], &chosen].concat());

    // A request for the compact form (inventory type 4) of the last six blocks is answered so, of one before by all of it.
    peer.send("getdata", &[&[1, 4, 0, 0, 0][..], &hash].concat());
    assert_eq!(peer.read("cmpctblock"), message);
    let old = node.block(node.block_hash(node.tip().height - 6).unwrap()).await.unwrap().unwrap();
    peer.send("getdata", &[&[1, 4, 0, 0, 0][..], &serialize(&old.block_hash())].concat());
    assert_eq!(peer.read("block"), serialize(old.as_ref()));

    // Now the other way. The node has all but two of the transactions, and asks for the block in its compact form.
    for vout in 260..270 {
        node.submit_transaction(spend_of(&fans[0], vout, 1)).await.unwrap();
    }
    let transactions: Vec<Transaction> = (260..272).map(|vout| spend_of(&fans[0], vout, 1)).collect();
    let next = forge_paying(&Params::regtest(), Place::of(&block, node.tip().height), transactions, 0);
    let hash = serialize(&next.block_hash());
    peer.send("headers", &[&[1][..], &serialize(&next.header), &[0]].concat());
    assert_eq!(peer.read("getdata"), [&[1, 4, 0, 0, 0][..], &hash].concat());
    peer.send("cmpctblock", &cmpctblock(&next, 0x0102_0304_0506_0708));
    // Indexes 11 and 12.
    assert_eq!(peer.read("getblocktxn"), [&hash[..], &[2, 11, 0]].concat());
    let missing: Vec<u8> = next.txdata[11..].iter().flat_map(serialize).collect();
    peer.send("blocktxn", &[&hash[..], &[2], &missing].concat());
    until("the block is connected", || node.tip().hash == next.block_hash()).await;
    // Who was first with a block is asked to tell of the next ones so.
    assert_eq!(peer.read("sendcmpct"), [1, 2, 0, 0, 0, 0, 0, 0, 0]);
    until("it is seen from outside", || node.peers()[0].high_bandwidth_to && node.peers()[0].high_bandwidth_from).await;
    let transactions = vec![spend_of(&fans[0], 280, 1)];
    node.submit_transaction(transactions[0].clone()).await.unwrap();
    let third = forge_paying(&Params::regtest(), Place::of(&next, node.tip().height), transactions, 0);
    peer.send("cmpctblock", &cmpctblock(&third, 5));
    until("a block that came unasked is connected", || node.tip().hash == third.block_hash()).await;

    // Index 13 of thirteen transactions.
    peer.send("getblocktxn", &[&hash[..], &[1, 13]].concat());
    assert_eq!(peer.try_read("blocktxn"), None, "nobody answers that");
    node.shutdown().await;
}
