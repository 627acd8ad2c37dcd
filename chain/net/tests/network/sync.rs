use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::{GetBlocksMessage, Inventory};
use bitcoin::{BlockHash, Network, Txid};
use leyden_net::{BlockState, ChainView as _, Direction, DisconnectReason, Event, Misbehavior, PeerId};
use proptest::prelude::*;

use crate::chain::{START, spend};
use crate::stage::Stage;
use crate::world::{Nature, World};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_new_node_downloads_a_long_chain_from_several_peers() {
    let mut world = World::new(&[Nature::Honest; 4], 1);
    world.link(0, 1);
    world.link(0, 2);
    world.mine(0, 3_000);
    world.run_for(2 * MINUTE);
    assert_eq!(world.tips(&[0, 1, 2]).len(), 1);
    assert_eq!(world.nodes[1].chain.height(), 3_000);
    let before = world.traffic.clone();
    world.link(3, 0);
    world.link(3, 1);
    world.link(3, 2);
    world.run_for(2 * MINUTE);
    world.assert_agreement();
    let blocks = world.traffic["block"] - before["block"];
    assert!(blocks < 3_300, "{blocks} blocks were sent for 3000 wanted");
    assert!(world.nodes.iter().all(|node| node.disconnects.is_empty()));
}

#[test]
fn an_old_chain_is_fetched_one_peer_at_a_time_but_the_best_is_found() {
    let mut world = World::new(&[Nature::Honest; 4], 2);
    // Nothing was mined for a week, and the peers have chains of different length.
    for node in 1..4 {
        world.mine(node, node * 10);
    }
    world.now = Duration::from_secs(START + 7 * 24 * 60 * 60);
    for node in 1..4 {
        world.link(0, node);
    }
    world.run_for(2 * MINUTE);
    assert_eq!(world.nodes[0].chain.height(), 30);
    world.run_for(5 * MINUTE);
    world.assert_agreement();
}

#[test]
fn both_sides_agree_after_a_partition_heals() {
    let mut world = World::new(&[Nature::Honest; 6], 3);
    for node in 0..5 {
        world.link(node, node + 1);
    }
    world.mine(0, 20);
    world.run_for(MINUTE);
    world.assert_agreement();
    world.partition(&[0, 0, 0, 1, 1, 1]);
    // Longer branches than a node expects of a usual reorganisation, each side mining at both ends.
    for round in 0..20 {
        world.mine(round % 3, 10);
        world.mine(3 + round % 3, 9);
        world.run_for(MINUTE / 4);
    }
    assert_eq!(world.tips(&[0, 1, 2, 3, 4, 5]).len(), 2);
    let winner = world.nodes[0].chain.tip().hash;
    world.heal();
    world.run_for(3 * MINUTE);
    world.assert_agreement();
    assert_eq!(world.nodes[5].chain.tip().hash, winner);
}

#[test]
fn new_blocks_travel_by_their_headers_and_then_by_compact_blocks() {
    let mut world = World::new(&[Nature::Honest; 3], 4);
    world.link(0, 1);
    world.link(1, 2);
    world.mine(0, 5);
    world.run_for(MINUTE);
    world.mine(0, 1);
    world.run_for(MINUTE);
    let before = world.traffic.clone();
    for _ in 0..10 {
        world.mine(0, 1);
        world.run_for(MINUTE / 6);
    }
    world.assert_agreement();
    let sent = |name| world.traffic.get(name).copied().unwrap_or(0) - before.get(name).copied().unwrap_or(0);
    // Apart from the answers to the questions that are asked now and then. The peer that brought a block is asked to tell of
    // the next ones by compact blocks.
    let announcements = sent("headers") - sent("getheaders");
    assert_eq!((announcements, sent("cmpctblock"), sent("inv")), (0, 20, 0));
    // One of those answers may name a block a moment before its compact one comes.
    assert!(sent("block") <= 2, "{} whole blocks", sent("block"));
}

#[test]
fn many_blocks_at_once_are_followed_to_the_last() {
    for seed in 0..100 {
        let mut world = World::new(&[Nature::Honest; 2], 100 + seed);
        world.link(0, 1);
        world.mine(0, 5);
        world.run_for(MINUTE);
        // Each is announced by itself, faster than headers are checked.
        world.max_delay = Duration::from_millis(50);
        for _ in 0..4 + seed % 8 {
            world.mine(0, 1);
            world.run_for(Duration::from_millis(3));
        }
        world.run_for(Duration::from_secs(10));
        world.assert_agreement();
    }
}

#[test]
fn a_stalling_peer_does_not_hold_up_the_download() {
    let mut world = World::new(&[Nature::Honest, Nature::Withholds, Nature::Honest], 5);
    world.mine(0, 500);
    world.link(1, 0);
    world.run_for(MINUTE);
    assert_eq!(world.nodes[1].chain.height(), 500);
    world.link(2, 1);
    world.run_for(Duration::from_secs(5));
    world.link(2, 0);
    world.run_for(MINUTE);
    world.assert_agreement();
    assert!(world.nodes[2].disconnects.contains(&DisconnectReason::BlockTimeout));
}

#[test]
fn withheld_blocks_of_a_heavier_branch_do_not_stop_the_honest_chain() {
    let mut world = World::new(&[Nature::Honest, Nature::Withholds, Nature::Honest], 6);
    world.mine(1, 300);
    world.mine(0, 100);
    world.link(2, 1);
    world.run_for(MINUTE);
    assert_eq!(world.nodes[2].chain.height(), 0);
    world.link(2, 0);
    world.run_for(MINUTE);
    assert_eq!(world.nodes[2].chain.height(), 100);
    world.mine(0, 10);
    world.run_for(MINUTE);
    assert_eq!(world.nodes[2].chain.height(), 110);
}

#[test]
fn withheld_blocks_keep_nobody_from_hearing_of_new_blocks_and_transactions() {
    let mut world = World::new(&[Nature::Honest, Nature::Withholds, Nature::Honest, Nature::Honest], 16);
    world.link(0, 2);
    world.link(2, 3);
    world.mine(0, 5);
    world.run_for(MINUTE);
    // More headers than are asked for at a time, of blocks that never come.
    world.mine(1, 30);
    world.link(2, 1);
    world.run_for(Duration::from_secs(3));
    world.mine(0, 1);
    let paid = spend(Txid::from_byte_array([7; 32]), 1_000);
    world.submit(0, PeerId(0), Arc::clone(&paid), false);
    world.run_for(Duration::from_secs(15));
    assert_eq!(world.nodes[3].chain.tip().hash, world.nodes[0].chain.tip().hash);
    assert!(world.nodes[3].mempool.contains(&paid.compute_txid()));
}

#[test]
fn a_block_of_equal_work_is_fetched_so_that_its_child_needs_one_only() {
    let mut world = World::new(&[Nature::Honest; 2], 17);
    world.mine(0, 3);
    world.mine(1, 3);
    world.link(0, 1);
    world.run_for(MINUTE);
    let tips = [world.nodes[0].chain.tip(), world.nodes[1].chain.tip()];
    assert_ne!(tips[0].hash, tips[1].hash);
    for (node, other) in [(0, 1), (1, 0)] {
        let stored = world.nodes[node].chain.entry(&tips[other].hash).map(|entry| entry.state);
        assert_eq!(stored, Some(BlockState::Stored));
    }
}

#[test]
fn a_reorganisation_longer_than_the_download_window_completes() {
    let mut world = World::new(&[Nature::Honest; 2], 18);
    world.mine(0, 2_500);
    world.mine(1, 2_501);
    world.link(0, 1);
    world.run_for(5 * MINUTE);
    world.assert_agreement();
    assert_eq!(world.nodes[0].chain.height(), 2_501);
    assert!(world.nodes.iter().all(|node| node.disconnects.is_empty()));
}

#[test]
fn a_pruned_peer_is_asked_for_what_it_keeps_only_and_it_is_known_why_that_is_not_enough() {
    let mut world = World::new(&[Nature::Pruned, Nature::Honest, Nature::Honest], 20);
    world.mine(0, 600);
    world.link(1, 0);
    world.run_for(3 * MINUTE);
    assert_eq!(world.nodes[1].chain.height(), 0);
    assert_eq!(world.traffic["version"], 2, "the connection was never lost");
    let out_of_reach = |world: &World| world.nodes[1].peers.peers().iter().find_map(|peer| peer.out_of_reach);
    assert_eq!(out_of_reach(&world), Some(1));
    // With the older blocks of somebody else it goes on.
    world.link(2, 0);
    world.nodes[2].chain = world.nodes[0].chain.clone();
    world.link(1, 2);
    world.run_for(3 * MINUTE);
    assert_eq!(world.nodes[1].chain.height(), 600);
    assert_eq!(out_of_reach(&world), None);
    // Who is behind by no more than that needs nobody else.
    world.partition(&[0, 1, 2]);
    world.mine(0, 280);
    world.partition(&[0, 0, 2]);
    world.run_for(3 * MINUTE);
    assert_eq!(world.nodes[1].chain.height(), 880);
}

#[test]
fn the_peer_that_was_never_first_with_a_block_gives_its_place_to_another() {
    let mut world = World::new(&[Nature::Honest; 4], 21);
    (1..4).for_each(|other| world.link(0, other));
    world.run_for(MINUTE);
    for miner in [1, 3] {
        world.mine(miner, 3);
        world.run_for(MINUTE);
    }
    let peers = &world.nodes[0].peers;
    let of = |node: u16| peers.peers().iter().find(|peer| peer.address.port() == 1_000 + node).unwrap().peer;
    let all = BTreeSet::from([of(1), of(2), of(3)]);
    assert_eq!(peers.choose_to_rotate(&all, MINUTE / 2, world.now), Some(of(2)));
    // Who is named by the operator is not among them; of those who were first, the one for whom it is longest ago goes.
    assert_eq!(peers.choose_to_rotate(&BTreeSet::from([of(1), of(3)]), MINUTE / 2, world.now), Some(of(1)));
    assert_eq!(peers.choose_to_rotate(&all, 60 * MINUTE, world.now), None, "all are still on trial");
}

#[test]
fn a_long_chain_that_starts_with_little_work_is_followed_once_it_has_shown_its_work() {
    let minimum = genesis_block(Network::Regtest).header.work();
    let minimum = (0..2_300).fold(minimum, |work, _| work + minimum);
    let mut world = World::with_minimum_work(&[Nature::Honest; 2], 19, minimum);
    world.mine(0, 2_600);
    world.link(1, 0);
    world.run_for(2 * MINUTE);
    world.assert_agreement();
    // Each list is asked for twice: once to add up its work, once to keep it.
    assert!(world.traffic["headers"] >= 4, "{}", world.traffic["headers"]);
    assert!(world.nodes.iter().all(|node| node.disconnects.is_empty()));
}

#[test]
fn a_damaged_copy_costs_its_sender_and_the_honest_copy_is_taken() {
    let mut world = World::new(&[Nature::Honest, Nature::Mutates, Nature::Honest], 7);
    world.link(1, 0);
    world.mine(0, 20);
    world.run_for(MINUTE);
    world.link(2, 1);
    world.run_for(Duration::from_secs(3));
    assert!(world.nodes[2].disconnects.contains(&DisconnectReason::Misbehaving(Misbehavior::MutatedBlock)));
    world.link(2, 0);
    world.run_for(MINUTE);
    world.assert_agreement();
    assert_eq!(world.nodes[2].chain.height(), 20);
}

#[test]
fn an_invalid_branch_is_left_and_its_sender_let_go() {
    let mut world = World::new(&[Nature::Honest, Nature::Lawless, Nature::Honest], 8);
    world.mine(0, 50);
    world.mine(1, 80);
    world.link(2, 1);
    world.link(2, 0);
    world.run_for(2 * MINUTE);
    assert_eq!(world.nodes[2].chain.height(), 50);
    assert!(world.nodes[2].disconnects.contains(&DisconnectReason::Misbehaving(Misbehavior::InvalidBlock)));
}

#[test]
fn a_silent_sync_peer_is_replaced() {
    let mut world = World::new(&[Nature::Honest, Nature::Silent, Nature::Honest], 9);
    world.mine(0, 50);
    world.now += Duration::from_secs(3 * 24 * 60 * 60);
    world.link(2, 1);
    world.run_for(Duration::from_secs(2));
    world.link(2, 0);
    world.run_for(MINUTE);
    assert_eq!(world.nodes[2].chain.height(), 50);
    assert!(world.nodes[2].disconnects.contains(&DisconnectReason::HeadersTimeout));
}

fn nature() -> impl Strategy<Value = Nature> {
    prop_oneof![Just(Nature::Withholds), Just(Nature::Mutates), Just(Nature::Lawless), Just(Nature::Silent),]
}

#[derive(Clone, Debug)]
enum Step {
    Mine { node: usize, count: usize },
    DropALink,
    Partition(Vec<u8>),
    Heal,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..16, 1usize..12).prop_map(|(node, count)| Step::Mine { node, count }),
        1 => Just(Step::DropALink),
        1 => proptest::collection::vec(0u8..2, 16).prop_map(Step::Partition),
        1 => Just(Step::Heal),
        4 => (1u64..20_000).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn honest_nodes_end_on_the_best_valid_chain_that_any_of_them_has(
        honest in 2usize..6,
        liars in proptest::collection::vec(nature(), 0..4),
        links in proptest::collection::vec((0usize..16, 0usize..16), 0..8),
        steps in proptest::collection::vec(step(), 1..30),
        delay in 1u64..3_000,
        seed: u64,
    ) {
        let mut natures = vec![Nature::Honest; honest];
        natures.extend(liars);
        let count = natures.len();
        let mut world = World::new(&natures, seed);
        world.max_delay = Duration::from_millis(delay);
        // The honest nodes are connected among themselves, whatever else there is.
        for node in 1..honest {
            let other = world.random(node as u64) as usize;
            world.link(node, other);
        }
        for liar in honest..count {
            let other = world.random(honest as u64) as usize;
            world.link(liar, other);
            world.link(other, liar);
        }
        for (from, to) in links {
            if from % count != to % count {
                world.link(from % count, to % count);
            }
        }
        for step in steps {
            match step {
                Step::Mine { node, count: blocks } => world.mine(node % count, blocks),
                Step::DropALink => world.drop_a_link(),
                Step::Partition(sides) => world.partition(&sides[..count]),
                Step::Heal => world.heal(),
                Step::Wait(milliseconds) => world.run_for(Duration::from_millis(milliseconds)),
            }
        }
        world.heal();
        world.run_for(5 * MINUTE);
        // A tie between branches of equal work is settled by the next block.
        world.mine(0, 1);
        world.run_for(10 * MINUTE);
        world.assert_agreement();
    }
}

#[test]
fn blocks_are_listed_for_who_begins_without_headers() {
    let mut stage = Stage::new();
    for salt in 0..600 {
        stage.chain.mine(START, 1_000 + salt, false);
    }
    let at: Vec<BlockHash> = (0..=620).map(|height| stage.chain.active_at(height).unwrap()).collect();
    let tip = stage.chain.tip().hash;
    let peer = stage.peer(Direction::Inbound);
    let ask = |stage: &mut Stage, locator: Vec<BlockHash>, stop_hash: BlockHash| {
        stage.sent.clear();
        let message = GetBlocksMessage { version: 70_016, locator_hashes: locator, stop_hash };
        stage.says(peer, NetworkMessage::GetBlocks(message));
        let told = stage.sent_to(peer, "inv");
        told.into_iter().find_map(|message| if let NetworkMessage::Inv(list) = message { Some(list) } else { None })
    };
    let nothing = BlockHash::all_zeros();
    let list = ask(&mut stage, vec![nothing], nothing).unwrap();
    assert_eq!((list.len(), list[0]), (500, Inventory::Block(at[1])));

    // It asks on once it has the last of them, for which the tip is named.
    stage.sent.clear();
    stage.says(peer, NetworkMessage::GetData(vec![Inventory::WitnessBlock(at[500])]));
    stage.event(Event::BlockServed { peer });
    assert_eq!(stage.sent_to(peer, "inv"), [NetworkMessage::Inv(vec![Inventory::Block(tip)])]);
    let rest = ask(&mut stage, vec![at[500]], nothing).unwrap();
    assert_eq!((rest.len(), rest[119]), (120, Inventory::Block(tip)));
    let some = ask(&mut stage, vec![at[10]], at[14]).unwrap();
    assert_eq!(some, [11, 12, 13].map(|height| Inventory::Block(at[height])));
    assert_eq!(ask(&mut stage, vec![tip], nothing), None);
    assert!(stage.gone.is_empty());
    for _ in 0..5 {
        assert_eq!(ask(&mut stage, vec![nothing; 102], nothing), None);
    }
    assert_eq!(stage.gone, [(peer, DisconnectReason::Misbehaving(Misbehavior::Oversized))]);
}
