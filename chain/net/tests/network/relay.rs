use std::time::Duration;

use bitcoin::Txid;
use bitcoin::hashes::Hash;
use leyden_net::PeerId;

use crate::chain::{REFUSED, spend};
use crate::world::{Nature, World};

const NOBODY: PeerId = PeerId(u64::MAX);
const MINUTE: Duration = Duration::from_secs(60);

fn confirmed(byte: u8) -> Txid {
    Txid::from_byte_array([byte; 32])
}

fn line(nodes: usize, seed: u64) -> World {
    let mut world = World::new(&vec![Nature::Honest; nodes], seed);
    for node in 1..nodes {
        world.link(node, node - 1);
    }
    world.run_for(MINUTE);
    world
}

#[test]
fn a_transaction_reaches_every_node_once() {
    let mut world = line(5, 1);
    let transaction = spend(confirmed(1), 1_000);
    world.submit(0, NOBODY, transaction.clone(), false);
    world.run_for(2 * MINUTE);
    assert!(world.nodes.iter().all(|node| node.mempool.contains(&transaction.compute_txid())));
    assert_eq!(world.traffic["tx"], 4);
    assert_eq!(world.traffic["inv"], 4);
}

#[test]
fn a_transaction_that_all_have_lost_is_announced_again_when_it_comes_back() {
    let mut world = line(3, 7);
    let transaction = spend(confirmed(1), 1_000);
    world.submit(0, NOBODY, transaction.clone(), false);
    world.run_for(2 * MINUTE);
    let (txid, wtxid) = (transaction.compute_txid(), transaction.compute_wtxid());
    for node in 0..3 {
        assert!(world.nodes[node].mempool.contains(&txid));
        world.nodes[node].mempool.remove(&txid);
        let transaction = transaction.clone();
        world.handle(node, leyden_net::Event::TransactionRemoved { transaction, txid, wtxid });
    }
    world.submit(0, NOBODY, transaction, false);
    world.run_for(2 * MINUTE);
    assert!(world.nodes.iter().all(|node| node.mempool.contains(&txid)));
}

#[test]
fn a_node_that_joins_later_is_told_what_it_missed() {
    for seed in 0..30 {
        let mut world = World::new(&[Nature::Honest; 2], 2 + seed);
        let parent = spend(confirmed(1), 1_000);
        let child = spend(parent.compute_txid(), 900);
        world.submit(0, NOBODY, parent, false);
        world.submit(0, NOBODY, child.clone(), false);
        world.link(1, 0);
        // Ten times the mean pause between announcements, and more, is less than that.
        world.run_for(2 * MINUTE);
        assert!(world.nodes[1].mempool.contains(&child.compute_txid()), "seed {seed}");
    }
}

#[test]
fn an_orphan_waits_for_its_parents() {
    let mut world = line(3, 3);
    let parent = spend(confirmed(1), 1_000);
    let child = spend(parent.compute_txid(), 900);
    let grandchild = spend(child.compute_txid(), 800);
    // Node 1 loses all of it but the last.
    world.submit(0, NOBODY, parent.clone(), false);
    world.submit(0, NOBODY, child, false);
    let peer = world.nodes[1].peers.peers()[0].peer;
    let message = bitcoin::p2p::message::NetworkMessage::Tx(grandchild.as_ref().clone());
    world.submit(0, NOBODY, grandchild.clone(), false);
    world.handle(1, leyden_net::Event::Message { peer, message });
    world.run_for(2 * MINUTE);
    assert!(world.nodes.iter().all(|node| node.mempool.contains(&grandchild.compute_txid())));
}

#[test]
fn a_child_pays_for_its_parent() {
    let mut world = line(4, 4);
    let parent = spend(confirmed(1), 1);
    let child = spend(parent.compute_txid(), 900);
    world.submit(0, NOBODY, parent.clone(), true);
    world.submit(0, NOBODY, child.clone(), true);
    world.run_for(3 * MINUTE);
    for node in &world.nodes {
        assert!(node.mempool.contains(&parent.compute_txid()) && node.mempool.contains(&child.compute_txid()));
    }
}

#[test]
fn a_child_that_is_refused_does_not_keep_another_from_paying_for_their_parent() {
    for lock in 0..8 {
        let mut world = line(2, 6);
        let parent = spend(confirmed(1), 1);
        let good = spend(parent.compute_txid(), 900);
        let mut bad = spend(parent.compute_txid(), REFUSED).as_ref().clone();
        bad.lock_time = bitcoin::absolute::LockTime::from_consensus(lock);
        let peer = world.nodes[1].peers.peers()[0].peer;
        for transaction in [&bad, good.as_ref(), parent.as_ref()] {
            let message = bitcoin::p2p::message::NetworkMessage::Tx(transaction.clone());
            world.handle(1, leyden_net::Event::Message { peer, message });
            world.run_for(Duration::from_secs(2));
        }
        world.run_for(MINUTE);
        let pool = &world.nodes[1].mempool;
        assert!(pool.contains(&parent.compute_txid()) && pool.contains(&good.compute_txid()), "lock time {lock}");
    }
}

#[test]
fn a_peer_that_does_not_answer_does_not_keep_a_transaction_from_us() {
    let mut world = World::new(&[Nature::Honest, Nature::Honest, Nature::Honest], 5);
    world.link(0, 1);
    world.link(2, 1);
    world.run_for(MINUTE);
    let transaction = spend(confirmed(1), 1_000);
    // Node 1 hears of it first from node 2, which does not have it.
    let peer = world.nodes[1].peers.peers().iter().map(|peer| peer.peer).max().unwrap();
    let inventory = vec![bitcoin::p2p::message_blockdata::Inventory::WTx(transaction.compute_wtxid())];
    world
        .handle(1, leyden_net::Event::Message { peer, message: bitcoin::p2p::message::NetworkMessage::Inv(inventory) });
    world.submit(0, NOBODY, transaction.clone(), false);
    world.run_for(2 * MINUTE);
    assert!(world.nodes[1].mempool.contains(&transaction.compute_txid()));
}
