//! Whatever a peer sends, in whatever order: nothing panics, and the node goes on working.

use std::time::Duration;

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::{GetHeadersMessage, Inventory};
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::{Block, BlockHash, CompactTarget, TxMerkleNode, Txid, Wtxid};
use leyden_net::{
    BlockOutcome, ChainView as _, Direction, DisconnectReason, Event, HeaderEntry, HeadersOutcome, Misbehavior, PeerId,
};
use proptest::prelude::*;

use crate::chain::{Chain, INVALID, INVALID_PARENT, START, make_block, spend, zero_work};
use crate::world::{Nature, World};

const MALLORY: PeerId = PeerId(1_000_000);

fn version() -> NetworkMessage {
    let address = Address { services: ServiceFlags::NONE, address: [0; 8], port: 0 };
    NetworkMessage::Version(VersionMessage {
        version: 70_016,
        services: ServiceFlags::NETWORK | ServiceFlags::WITNESS,
        timestamp: i64::MIN,
        receiver: address.clone(),
        sender: address,
        nonce: 5,
        user_agent: "\u{7}mallory\n".into(),
        start_height: i32::MIN,
        relay: true,
    })
}

fn with_mallory(direction: Direction) -> World {
    let mut world = World::new(&[Nature::Honest; 2], 11);
    world.link(0, 1);
    world.mine(0, 10);
    world.run_for(Duration::from_secs(60));
    let address = "203.0.113.7:8333".parse().unwrap();
    world.handle(0, Event::Connected { peer: MALLORY, address, direction });
    send(&mut world, version());
    send(&mut world, NetworkMessage::WtxidRelay);
    send(&mut world, NetworkMessage::Verack);
    world
}

fn send(world: &mut World, message: NetworkMessage) {
    world.handle(0, Event::Message { peer: MALLORY, message });
}

fn is_connected(world: &World) -> bool {
    world.nodes[0].peers.peers().iter().any(|peer| peer.peer == MALLORY)
}

fn assert_let_go_for(world: &World, fault: Misbehavior) {
    assert!(!is_connected(world));
    assert_eq!(world.nodes[0].disconnects.last(), Some(&DisconnectReason::Misbehaving(fault)));
}

#[test]
fn headers_without_work_or_order_end_the_connection() {
    let mut world = with_mallory(Direction::Inbound);
    let tip = world.nodes[0].chain.tip();
    let mut header = make_block(&tip, START, 1, false).header;
    while header.target().is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
    send(&mut world, NetworkMessage::Headers(vec![header]));
    assert_let_go_for(&world, Misbehavior::MissingProofOfWork);

    let mut world = with_mallory(Direction::Outbound);
    let header = make_block(&tip, START, 1, false).header;
    send(&mut world, NetworkMessage::Headers(vec![header, header]));
    assert_let_go_for(&world, Misbehavior::NonContinuousHeaders);
}

#[test]
fn announcements_that_connect_to_nothing_cost_nothing_while_what_is_before_them_is_on_its_way() {
    let mut world = with_mallory(Direction::Inbound);
    let mut chain = Chain::new(false);
    let mut mine = |number| {
        let hash = chain.mine(START + number, 7, false);
        chain.block(&hash).unwrap().header
    };
    let headers: Vec<Header> = (0..200).map(&mut mine).collect();
    let mut announce = |headers: &[Header]| {
        for header in headers {
            send(&mut world, NetworkMessage::Headers(vec![*header]));
        }
    };
    announce(&headers[1..100]);
    // The answer, which takes a while to check.
    announce(&headers[..1]);
    announce(&headers[100..]);
    assert!(is_connected(&world));
    send(&mut world, NetworkMessage::Headers(headers.clone()));
    world.run_for(Duration::from_secs(5));
    assert!(world.nodes[0].chain.entry(&headers[199].block_hash()).is_some());
}

#[test]
fn who_sends_only_headers_that_connect_to_nothing_is_let_go() {
    let mut stranger = World::new(&[Nature::Honest], 1).nodes[0].chain.tip();
    stranger.hash = BlockHash::from_byte_array([9; 32]);
    let header = make_block(&stranger, START, 1, false).header;
    let mut world = with_mallory(Direction::Inbound);
    for _ in 0..20 {
        send(&mut world, NetworkMessage::Headers(vec![header]));
        world.run_for(Duration::from_secs(60));
    }
    assert!(!is_connected(&world));
    assert_eq!(world.nodes[0].disconnects.last(), Some(&DisconnectReason::HeadersTimeout));
}

/// Headers on the genesis block.
fn low_work_headers(count: u64) -> Vec<Header> {
    let mut tip = Chain::new(false).tip();
    let mut extend = |number| {
        let header = make_block(&tip, START + number, 7, false).header;
        tip = HeaderEntry { hash: header.block_hash(), header, height: tip.height + 1, ..tip };
        header
    };
    (0..count).map(&mut extend).collect()
}

#[test]
fn headers_with_little_work_are_not_kept_whatever_comes_between_them() {
    let headers = low_work_headers(8_000);
    let minimum = headers.iter().fold(zero_work(), |work, header| work + header.work());
    // One more than the genesis block and these have.
    let mut world = World::with_minimum_work(&[Nature::Honest; 2], 11, minimum + headers[0].work() + headers[0].work());
    let address = "203.0.113.7:8333".parse().unwrap();
    world.handle(0, Event::Connected { peer: MALLORY, address, direction: Direction::Inbound });
    send(&mut world, version());
    send(&mut world, NetworkMessage::Verack);
    for _ in 0..3 {
        assert!(is_connected(&world));
        for list in headers.chunks(2_000) {
            send(&mut world, NetworkMessage::Headers(list.to_vec()));
            world.run_for(Duration::from_secs(1));
        }
        send(&mut world, NetworkMessage::Headers(Vec::new()));
        world.run_for(Duration::from_secs(1));
    }
    assert_let_go_for(&world, Misbehavior::LowWorkHeaders);
    assert_eq!(world.nodes[0].chain.header_count(), 1);
}

#[test]
fn an_invalid_transaction_ends_the_connection() {
    let mut world = with_mallory(Direction::Inbound);
    let transaction = spend(Txid::from_byte_array([5; 32]), INVALID);
    send(&mut world, NetworkMessage::Tx(transaction.as_ref().clone()));
    world.run_for(Duration::from_secs(1));
    assert_let_go_for(&world, Misbehavior::InvalidTransaction);
}

#[test]
fn who_brings_an_invalid_parent_answers_for_it_and_not_who_brings_its_child() {
    let mut world = with_mallory(Direction::Inbound);
    let parent = spend(Txid::from_byte_array([5; 32]), INVALID_PARENT);
    send(&mut world, NetworkMessage::Tx(parent.as_ref().clone()));
    world.run_for(Duration::from_secs(1));
    assert!(is_connected(&world), "its fee is too low to be looked at");
    let child = spend(parent.compute_txid(), 1_000);
    let honest = world.nodes[0].peers.peers().iter().map(|peer| peer.peer).find(|peer| *peer != MALLORY).unwrap();
    world.handle(0, Event::Message { peer: honest, message: NetworkMessage::Tx(child.as_ref().clone()) });
    world.run_for(Duration::from_secs(1));
    assert_let_go_for(&world, Misbehavior::InvalidTransaction);
    assert_eq!(world.nodes[0].peers.peers().len(), 1);
}

#[test]
fn a_block_that_nobody_asked_for_is_taken_with_its_header() {
    let mut world = with_mallory(Direction::Inbound);
    let block = make_block(&world.nodes[0].chain.tip(), START + 1, 1, false);
    send(&mut world, NetworkMessage::Block(block.clone()));
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[0].chain.tip().hash, block.block_hash());
}

#[test]
fn oversized_lists_cost_points() {
    let lists = [
        NetworkMessage::Inv(vec![Inventory::Block(BlockHash::all_zeros()); 50_001]),
        NetworkMessage::NotFound(vec![Inventory::Block(BlockHash::all_zeros()); 50_001]),
        NetworkMessage::Headers(vec![
            make_block(&World::new(&[Nature::Honest], 1).nodes[0].chain.tip(), 1, 1, false)
                .header;
            2_001
        ]),
        NetworkMessage::Addr(vec![(0, Address { services: ServiceFlags::NONE, address: [0; 8], port: 1 }); 1_001]),
        NetworkMessage::GetHeaders(GetHeadersMessage {
            version: 0,
            locator_hashes: vec![BlockHash::all_zeros(); 102],
            stop_hash: BlockHash::all_zeros(),
        }),
    ];
    let mut world = with_mallory(Direction::Inbound);
    for list in lists {
        assert!(is_connected(&world));
        send(&mut world, list);
    }
    assert!(!is_connected(&world));
}

#[test]
fn a_getdata_flood_ends_the_connection_and_a_large_request_is_served_a_few_at_a_time() {
    let mut world = with_mallory(Direction::Inbound);
    let tip = world.nodes[0].chain.tip().hash;
    send(&mut world, NetworkMessage::GetData(vec![Inventory::WitnessBlock(tip); 50_000]));
    assert!(is_connected(&world));
    send(&mut world, NetworkMessage::GetData(vec![Inventory::WitnessBlock(tip); 50_000]));
    send(&mut world, NetworkMessage::GetData(vec![Inventory::WitnessBlock(tip); 50_000]));
    assert_let_go_for(&world, Misbehavior::TooManyRequests);
}

#[test]
fn nothing_counts_before_the_handshake_is_done() {
    let mut world = World::new(&[Nature::Honest], 12);
    let address = "203.0.113.7:8333".parse().unwrap();
    world.handle(0, Event::Connected { peer: MALLORY, address, direction: Direction::Inbound });
    let header = make_block(&world.nodes[0].chain.tip(), START, 1, false).header;
    send(&mut world, NetworkMessage::Headers(vec![header]));
    world.run_for(Duration::from_secs(59));
    assert!(is_connected(&world));
    world.run_for(Duration::from_secs(2));
    assert!(!is_connected(&world));
    assert_eq!(world.nodes[0].disconnects, [DisconnectReason::HandshakeTimeout]);
}

fn told(address: [u8; 4], count: usize) -> NetworkMessage {
    let one = |number: usize| AddrV2Message {
        time: START as u32,
        services: ServiceFlags::NETWORK,
        addr: AddrV2::Ipv4([address[0], address[1], address[2], number as u8].into()),
        port: 8333,
    };
    NetworkMessage::AddrV2((0..count).map(one).collect())
}

#[test]
fn a_fresh_address_travels_from_peer_to_peer_and_a_collection_does_not() {
    let mut world = World::new(&[Nature::Honest; 3], 11);
    world.link(0, 1);
    world.link(1, 2);
    world.run_for(Duration::from_secs(1));
    let tell = |world: &mut World, addresses: NetworkMessage| {
        let address = "203.0.113.7:8333".parse().unwrap();
        world.handle(0, Event::Connected { peer: MALLORY, address, direction: Direction::Inbound });
        for message in [version(), NetworkMessage::WtxidRelay, NetworkMessage::SendAddrV2, NetworkMessage::Verack] {
            send(world, message);
        }
        send(world, addresses);
        // Long enough for it to be let go: it answers nothing.
        world.run_for(Duration::from_secs(300));
    };
    let known = |world: &World| [0, 1, 2].map(|node| world.nodes[node].peers.address_book().len());
    tell(&mut world, told([8, 8, 8, 0], 1));
    assert_eq!(known(&world), [1, 1, 1]);
    // One of these is within the allowance, and none is passed on.
    tell(&mut world, told([9, 9, 9, 0], 250));
    assert_eq!(known(&world), [2, 1, 1]);
}

fn hash() -> impl Strategy<Value = [u8; 32]> {
    prop_oneof![Just([0; 32]), any::<[u8; 32]>()]
}

fn inventory() -> impl Strategy<Value = Vec<Inventory>> {
    let item = (0u32..8, hash()).prop_map(|(kind, hash)| match kind {
        0 => Inventory::Block(BlockHash::from_byte_array(hash)),
        1 => Inventory::WitnessBlock(BlockHash::from_byte_array(hash)),
        2 => Inventory::WTx(Wtxid::from_byte_array(hash)),
        3 => Inventory::Transaction(Txid::from_byte_array(hash)),
        4 => Inventory::WitnessTransaction(Txid::from_byte_array(hash)),
        5 => Inventory::CompactBlock(BlockHash::from_byte_array(hash)),
        6 => Inventory::Error,
        _ => Inventory::Unknown { inv_type: u32::MAX, hash },
    });
    proptest::collection::vec(item, 0..20)
}

fn header() -> impl Strategy<Value = Header> {
    (any::<i32>(), hash(), hash(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
        |(version, previous, root, time, bits, nonce)| Header {
            version: Version::from_consensus(version),
            prev_blockhash: BlockHash::from_byte_array(previous),
            merkle_root: TxMerkleNode::from_byte_array(root),
            time,
            bits: CompactTarget::from_consensus(bits),
            nonce,
        },
    )
}

fn message() -> impl Strategy<Value = NetworkMessage> {
    prop_oneof![
        Just(version()),
        Just(NetworkMessage::Verack),
        Just(NetworkMessage::SendHeaders),
        Just(NetworkMessage::GetAddr),
        Just(NetworkMessage::MemPool),
        any::<u64>().prop_map(NetworkMessage::Ping),
        any::<u64>().prop_map(NetworkMessage::Pong),
        any::<i64>().prop_map(NetworkMessage::FeeFilter),
        inventory().prop_map(NetworkMessage::Inv),
        inventory().prop_map(NetworkMessage::GetData),
        inventory().prop_map(NetworkMessage::NotFound),
        proptest::collection::vec(header(), 0..4).prop_map(NetworkMessage::Headers),
        header().prop_map(|header| NetworkMessage::Block(Block { header, txdata: vec![] })),
        hash().prop_map(|parent| NetworkMessage::Tx(spend(Txid::from_byte_array(parent), 5).as_ref().clone())),
        (proptest::collection::vec(hash(), 0..5), hash()).prop_map(|(locator, stop)| {
            NetworkMessage::GetHeaders(GetHeadersMessage {
                version: 0,
                locator_hashes: locator.into_iter().map(BlockHash::from_byte_array).collect(),
                stop_hash: BlockHash::from_byte_array(stop),
            })
        }),
        (any::<u32>(), any::<[u16; 8]>(), any::<u16>()).prop_map(|(time, address, port)| {
            NetworkMessage::Addr(vec![(time, Address { services: ServiceFlags::NONE, address, port })])
        }),
        (any::<u32>(), any::<[u8; 4]>(), any::<u16>()).prop_map(|(time, ip, port)| {
            let addr = AddrV2::Ipv4(ip.into());
            NetworkMessage::AddrV2(vec![AddrV2Message { time, services: ServiceFlags::NONE, addr, port }])
        }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let peer = || prop_oneof![3 => Just(MALLORY), 1 => (0u64..6).prop_map(PeerId)];
    let headers_outcome = prop_oneof![
        hash().prop_map(|hash| HeadersOutcome::Accepted { last: BlockHash::from_byte_array(hash) }),
        Just(HeadersOutcome::Undecided),
    ];
    let block_outcome =
        prop_oneof![Just(BlockOutcome::Accepted), Just(BlockOutcome::Undecided), Just(BlockOutcome::Mutated)];
    prop_oneof![
        8 => message().prop_map(|message| Event::Message { peer: MALLORY, message }),
        1 => Just(Event::Tick),
        1 => Just(Event::TipChanged),
        1 => (peer(), 0usize..2_001, headers_outcome)
            .prop_map(|(peer, count, outcome)| Event::HeadersProcessed { peer, count, outcome }),
        1 => (Just(MALLORY), hash(), block_outcome).prop_map(|(peer, hash, outcome)| Event::BlockProcessed {
            peer,
            hash: BlockHash::from_byte_array(hash),
            outcome,
        }),
        1 => peer().prop_map(|peer| Event::BlockServed { peer }),
    ]
}

proptest! {
    #[test]
    fn any_sequence_of_messages_leaves_the_node_working(
        inbound: bool,
        events in proptest::collection::vec((event(), 0u64..3_000), 1..60),
    ) {
        let mut world = with_mallory(if inbound { Direction::Inbound } else { Direction::Outbound });
        for (event, pause) in events {
            world.handle(0, event);
            world.run_for(Duration::from_millis(pause));
        }
        world.mine(0, 3);
        world.mine(1, 1);
        world.run_for(Duration::from_secs(300));
        world.assert_agreement();
    }
}

#[test]
fn a_pruned_node_says_so_and_lets_go_of_whoever_asks_for_what_is_too_old() {
    use leyden_net::config::{NETWORK_LIMITED_BLOCKS, NETWORK_LIMITED_GRACE};
    use leyden_net::{Action, Config, Ctx, PeerSet};

    let mut chain = Chain::new(false);
    for number in 0..400 {
        chain.mine(START + number, 3, false);
    }
    let mempool = crate::chain::Mempool::default();
    let ctx = Ctx { now: Duration::ZERO, unix_time: START + 500, chain: &chain, mempool: &mempool };
    let oldest = 400 - NETWORK_LIMITED_BLOCKS - NETWORK_LIMITED_GRACE;
    for (height, is_served) in [(400, true), (oldest, true), (oldest - 1, false), (0, false)] {
        let mut peers = PeerSet::new(Config::full_node("/pruned/", zero_work()).pruned(), [3; 32]);
        let address = "203.0.113.7:8333".parse().unwrap();
        peers.handle(Event::Connected { peer: MALLORY, address, direction: Direction::Inbound }, &ctx);
        let replies = peers.handle(Event::Message { peer: MALLORY, message: version() }, &ctx);
        let services = replies.iter().find_map(|action| match action {
            Action::Send { message: NetworkMessage::Version(version), .. } => Some(version.services),
            _ => None,
        });
        let services = services.unwrap();
        assert!(services.has(ServiceFlags::NETWORK_LIMITED) && !services.has(ServiceFlags::NETWORK));
        peers.handle(Event::Message { peer: MALLORY, message: NetworkMessage::Verack }, &ctx);
        let hash = chain.active_at(height).unwrap();
        let message = NetworkMessage::GetData(vec![Inventory::WitnessBlock(hash)]);
        let actions = peers.handle(Event::Message { peer: MALLORY, message }, &ctx);
        let served = actions.iter().any(|action| matches!(action, Action::ServeBlock { .. }));
        let let_go = actions
            .iter()
            .any(|action| matches!(action, Action::Disconnect { reason: DisconnectReason::BlockPruned, .. }));
        assert_eq!((served, let_go), (is_served, !is_served), "height {height}");
    }
}
