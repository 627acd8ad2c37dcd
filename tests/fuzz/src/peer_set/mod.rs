//! The peer logic of the chain among liars: whatever strangers send, in whatever order checks end, what is asked of the
//! driver stays within its bounds; and one honest peer afterwards is enough to end on the best valid chain.

/// The chain and the mempool of the simulated network.
#[allow(dead_code, reason = "the simulation uses more of it")]
#[path = "../../../../chain/net/tests/network/chain.rs"]
mod chain;
mod station;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use bitcoin::bip152::{BlockTransactions, BlockTransactionsRequest, HeaderAndShortIds, ShortId};
use bitcoin::block::Header;
use bitcoin::hashes::Hash as _;
use bitcoin::p2p::address::Address;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::{GetHeadersMessage, Inventory};
use bitcoin::p2p::message_compact_blocks::{BlockTxn, CmpctBlock, GetBlockTxn, SendCmpct};
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::p2p::{Magic, ServiceFlags};
use bitcoin::{Amount, Block, BlockHash, Transaction, Txid};
use leyden_net::{Direction, Event, FrameDecoder, PeerId};

use crate::input::Input;
use crate::p2p_frames::frame;
use chain::{Chain, START, make_block, spend};
use station::Station;

const MOST_STEPS: usize = 200;
/// Connections at one time.
const MOST_PEERS: usize = 6;

pub fn peer_set(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut station = Station::new(input.byte());
    let mut peers: Vec<PeerId> = Vec::new();
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut station, &mut peers, &mut input);
    }
    station.ends_on_the_best_chain(honest_chain());
}

/// What strangers may have: a branch, a longer one that leaves it, and an invalid block on top of each.
fn stock() -> &'static [Block] {
    static STOCK: OnceLock<Vec<Block>> = OnceLock::new();
    STOCK.get_or_init(|| {
        let mut blocks = Vec::new();
        let mut short = Chain::new(true);
        let mut long = Chain::new(true);
        for number in 0..8 {
            let hash = short.mine(START + number, 1, number == 7);
            blocks.push(short.block(&hash).cloned().expect("just mined"));
        }
        for block in &blocks[..3] {
            long.accept_headers(&[block.header]);
            long.process_block(block.clone());
        }
        for number in 0..9 {
            let hash = long.mine(START + 100 + number, 2, number == 8);
            blocks.push(long.block(&hash).cloned().expect("just mined"));
        }
        // Nobody knows its parent.
        let orphan = make_block(&long.tip(), START + 500, 3, false);
        blocks.push(make_block(&entry_of(&orphan), START + 501, 4, false));
        blocks
    })
}

fn entry_of(block: &Block) -> leyden_net::HeaderEntry {
    let (hash, header) = (block.block_hash(), block.header);
    let state = leyden_net::BlockState::HeaderOnly;
    leyden_net::HeaderEntry { hash, header, height: 99, work: header.work(), state }
}

/// More work than anything that a stranger has.
fn honest_chain() -> Chain {
    static CHAIN: OnceLock<Chain> = OnceLock::new();
    let mine = || {
        let mut chain = Chain::new(false);
        for number in 0..30 {
            chain.mine(START + 1_000 + number, 5, false);
        }
        chain
    };
    CHAIN.get_or_init(mine).clone()
}

/// Transactions with and without parents, one that is refused and one that pays too little.
fn transactions() -> &'static [Arc<Transaction>] {
    static STOCK: OnceLock<Vec<Arc<Transaction>>> = OnceLock::new();
    STOCK.get_or_init(|| {
        let mut all: Vec<Arc<Transaction>> =
            (1..6).map(|byte| spend(Txid::from_byte_array([byte; 32]), u64::from(byte))).collect();
        for value in 10..16 {
            let parent = all[all.len() - 5].compute_txid();
            all.push(spend(parent, value));
        }
        all
    })
}

fn step(station: &mut Station, peers: &mut Vec<PeerId>, input: &mut Input<'_>) {
    let choice = input.byte();
    peers.retain(|peer| station.is_connected(*peer));
    match choice {
        0..=19 => {
            if peers.len() < MOST_PEERS {
                let direction = if input.flag() { Direction::Outbound } else { Direction::Inbound };
                peers.push(station.connect(address(input.byte()), direction));
            }
        }
        20..=59 => station.pass(u64::from(input.byte()).pow(2) * 10),
        60..=89 => station.do_job(usize::from(input.byte()), true),
        90..=99 => station.do_job(usize::from(input.byte()), false),
        100..=103 => station.mine(u64::from(input.byte())),
        104..=107 => station.accept(&transactions()[input.index(transactions().len())]),
        _ => {
            let Some(peer) = peers.get(input.index(peers.len())).copied() else { return };
            match choice {
                108..=112 => station.event(Event::Disconnected { peer }),
                113..=139 => shake_hands(station, peer, input.byte()),
                _ => messages(station, peer, choice, input),
            }
        }
    }
}

fn address(byte: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::from([1 + byte % 3, 2, 3, 4]), 8333 + u16::from(byte / 3))
}

fn shake_hands(station: &mut Station, peer: PeerId, choice: u8) {
    let here = Address::new(&address(0), ServiceFlags::NONE);
    let services = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
    let version = VersionMessage {
        version: 70_016,
        services,
        timestamp: START as i64,
        receiver: here.clone(),
        sender: here,
        nonce: 77,
        user_agent: "/liar/".to_owned(),
        start_height: i32::from(choice),
        relay: choice & 4 == 0,
    };
    station.message(peer, NetworkMessage::Version(version));
    if choice & 1 == 0 {
        station.message(peer, NetworkMessage::WtxidRelay);
    }
    if choice & 2 == 0 {
        station.message(peer, NetworkMessage::SendAddrV2);
    }
    station.message(peer, NetworkMessage::Verack);
    if choice & 8 == 0 {
        station.message(peer, NetworkMessage::SendHeaders);
    }
}

fn messages(station: &mut Station, peer: PeerId, choice: u8, input: &mut Input<'_>) {
    let stock = stock();
    let message = match choice {
        140..=164 => {
            let (from, count) = (input.index(stock.len()), input.index(stock.len()));
            let headers: Vec<Header> = stock.iter().skip(from).take(count).map(|block| block.header).collect();
            NetworkMessage::Headers(headers)
        }
        165..=184 => {
            let mut block = stock[input.index(stock.len())].clone();
            if input.byte() > 200 {
                block.txdata[0].output[0].value += Amount::ONE_SAT;
            }
            NetworkMessage::Block(block)
        }
        185..=194 => {
            let transactions = transactions();
            NetworkMessage::Tx(Transaction::clone(&transactions[input.index(transactions.len())]))
        }
        195..=204 => NetworkMessage::Inv(inventory(input)),
        205..=212 => NetworkMessage::GetData(inventory(input)),
        213..=217 => NetworkMessage::NotFound(inventory(input)),
        218..=224 => {
            let locator_hashes = (0..input.index(6)).map(|_| block_hash(input)).collect();
            let (version, stop_hash) = (70_016, block_hash(input));
            NetworkMessage::GetHeaders(GetHeadersMessage { version, locator_hashes, stop_hash })
        }
        225..=231 => compact_message(&stock[input.index(stock.len())], input),
        232..=235 => NetworkMessage::Pong(station.last_ping(peer).wrapping_add(u64::from(input.byte() / 200))),
        // Any payload of any message.
        _ => {
            const COMMANDS: [&str; 16] = [
                "version",
                "headers",
                "inv",
                "getdata",
                "addr",
                "addrv2",
                "ping",
                "feefilter",
                "tx",
                "block",
                "getaddr",
                "getheaders",
                "sendcmpct",
                "cmpctblock",
                "getblocktxn",
                "blocktxn",
            ];
            let command = COMMANDS[input.index(COMMANDS.len())];
            let mut decoder = FrameDecoder::new(Magic::REGTEST);
            decoder.feed(&frame(command, if input.flag() { input.long() } else { input.short() }));
            let Ok(Some(message)) = decoder.next_message() else { return };
            message
        }
    };
    station.message(peer, message);
}

/// Something about compact blocks, right or wrong.
fn compact_message(block: &Block, input: &mut Input<'_>) -> NetworkMessage {
    let choice = input.byte();
    let block_hash = block.block_hash();
    match choice % 8 {
        0..=1 => NetworkMessage::SendCmpct(SendCmpct { send_compact: choice & 8 == 0, version: 2 }),
        2..=4 => {
            let mut compact_block =
                HeaderAndShortIds::from_block(block, u64::from(choice), 2, &[]).expect("version 2 is known");
            if choice & 8 == 0 {
                // It lacks something, or is wrong.
                compact_block.short_ids.extend((0..input.byte() % 4).map(|byte| ShortId::from([byte; 6])));
            }
            if choice & 16 == 0 {
                compact_block.prefilled_txs[0].idx = u16::from(input.byte() % 3);
            }
            NetworkMessage::CmpctBlock(CmpctBlock { compact_block })
        }
        5..=6 => {
            let indexes = (0..u64::from(input.byte() % 4)).collect();
            let txs_request = BlockTransactionsRequest { block_hash, indexes };
            NetworkMessage::GetBlockTxn(GetBlockTxn { txs_request })
        }
        _ => {
            let transactions = block.txdata.iter().cycle().take(usize::from(input.byte() % 4)).cloned().collect();
            NetworkMessage::BlockTxn(BlockTxn { transactions: BlockTransactions { block_hash, transactions } })
        }
    }
}

fn block_hash(input: &mut Input<'_>) -> BlockHash {
    let stock = stock();
    let choice = input.index(stock.len() + 2);
    stock.get(choice).map_or(BlockHash::from_byte_array([choice as u8; 32]), Block::block_hash)
}

fn inventory(input: &mut Input<'_>) -> Vec<Inventory> {
    let transactions = transactions();
    let one = |input: &mut Input<'_>| {
        let kind = input.byte() % 7;
        let transaction = &transactions[input.index(transactions.len())];
        match kind {
            0 => Inventory::Transaction(transaction.compute_txid()),
            1 => Inventory::WTx(transaction.compute_wtxid()),
            2 => Inventory::WitnessTransaction(transaction.compute_txid()),
            3 => Inventory::Block(block_hash(input)),
            4 => Inventory::WitnessBlock(block_hash(input)),
            5 => Inventory::CompactBlock(block_hash(input)),
            _ => Inventory::WTx(bitcoin::Wtxid::from_byte_array([input.byte(); 32])),
        }
    };
    let count = input.index(12);
    let mut items: Vec<Inventory> = (0..count).map(|_| one(input)).collect();
    if input.byte() > 240 {
        // As many as a message may have, and more.
        items = items.iter().cycle().take(50_001.min(items.len() * 50_001)).copied().collect();
    }
    items
}
