//! Compact blocks (BIP 152): nodes that save bytes by them, and one node against peers that say what a test wants.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::bip152::{BlockTransactions, BlockTransactionsRequest, HeaderAndShortIds, ShortId};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message::NetworkMessage;
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_compact_blocks::{BlockTxn, CmpctBlock, GetBlockTxn};
use bitcoin::{Block, Transaction, Txid};
use leyden_net::{
    BlockForm, BlockState, ChainView as _, Config, Direction, DisconnectReason, Event, Misbehavior, PeerId,
    TransactionOutcome,
};

use crate::chain::{REFUSED, START, make_block, spend, with_transactions, zero_work};
use crate::stage::{Stage, send_compact};
use crate::world::{Nature, World};

const MINUTE: Duration = Duration::from_secs(60);
const NOBODY: PeerId = PeerId(u64::MAX);

/// Independent transactions, of 150 bytes and more.
fn transactions(count: u8) -> Vec<Arc<Transaction>> {
    let make = |number: u8| {
        let mut transaction = Arc::unwrap_or_clone(spend(Txid::from_byte_array([number; 32]), 1_000));
        transaction.output[0].script_pubkey = bitcoin::ScriptBuf::from_bytes(vec![number; 100]);
        Arc::new(transaction)
    };
    (1..=count).map(make).collect()
}

/// Nodes in a line that have told each other of the blocks before, so that they use high bandwidth.
fn line(natures: &[Nature], seed: u64) -> World {
    let mut world = World::new(natures, seed);
    for node in 1..natures.len() {
        world.link(node - 1, node);
    }
    for _ in 0..3 {
        world.mine(0, 1);
        world.run_for(MINUTE);
    }
    world
}

#[test]
fn nodes_with_equal_mempools_relay_a_block_by_few_bytes() {
    let mut world = line(&[Nature::Honest; 3], 1);
    let all = transactions(200);
    for node in 0..3 {
        for transaction in &all {
            world.submit(node, NOBODY, transaction.clone(), false);
        }
    }
    world.run_for(MINUTE);
    let (traffic, bytes) = (world.traffic.clone(), world.bytes);
    world.mine_with(0, &all);
    world.run_for(Duration::from_secs(5));
    world.assert_agreement();
    let sent = |name| world.traffic.get(name).copied().unwrap_or(0) - traffic.get(name).copied().unwrap_or(0);
    // Headers are asked for now and then.
    let announced = sent("headers") - sent("getheaders");
    assert_eq!((sent("cmpctblock"), sent("getblocktxn"), sent("block"), announced), (2, 0, 0, 0));
    let tip = world.nodes[2].chain.tip().hash;
    let block = serialize(world.nodes[2].chain.block(&tip).unwrap()).len();
    let relayed = world.bytes - bytes;
    println!("a block of {block} bytes took {relayed} bytes over two connections");
    assert!(relayed < block / 4, "{relayed} bytes for twice {block}");
}

#[test]
fn what_a_mempool_lacks_is_asked_for_and_nothing_else() {
    let mut world = line(&[Nature::Honest; 2], 2);
    let all = transactions(50);
    for (number, transaction) in all.iter().enumerate() {
        world.nodes[0].mempool.submit(transaction, false);
        if number % 10 != 3 {
            world.nodes[1].mempool.submit(transaction, false);
        }
    }
    let traffic = world.traffic.clone();
    world.mine_with(0, &all);
    world.run_for(Duration::from_secs(5));
    world.assert_agreement();
    let sent = |name| world.traffic.get(name).copied().unwrap_or(0) - traffic.get(name).copied().unwrap_or(0);
    assert_eq!((sent("cmpctblock"), sent("getblocktxn"), sent("blocktxn"), sent("block")), (1, 1, 1, 0));
}

#[test]
fn liars_and_reorganisations_among_compact_blocks_end_in_agreement() {
    let natures = [Nature::Honest, Nature::Mutates, Nature::Honest, Nature::Withholds, Nature::Honest, Nature::Lawless];
    for seed in 0..40 {
        let mut world = World::new(&natures, 500 + seed);
        for node in 0..natures.len() {
            world.link(node, (node + 1) % natures.len());
            world.link(node, (node + 2) % natures.len());
        }
        let all = transactions(40);
        for (number, transaction) in all.iter().enumerate() {
            for node in 0..natures.len() {
                if (number + node) % 7 != 0 {
                    world.nodes[node].mempool.submit(transaction, false);
                }
            }
        }
        for round in 0..30 {
            let (node, chosen) = (world.random(natures.len() as u64) as usize, world.random(all.len() as u64) as usize);
            if natures[node] == Nature::Lawless && round % 3 == 0 {
                world.mine(node, 1);
            } else {
                world.mine_with(node, &all[..chosen]);
            }
            let pause = world.random(4_000);
            world.run_for(Duration::from_millis(pause));
        }
        world.run_for(3 * MINUTE);
        world.assert_agreement();
    }
}

fn compact(block: &Block) -> HeaderAndShortIds {
    HeaderAndShortIds::from_block(block, 99, 2, &[]).unwrap()
}

fn compact_message(compact_block: HeaderAndShortIds) -> NetworkMessage {
    NetworkMessage::CmpctBlock(CmpctBlock { compact_block })
}

fn block_transactions(block: &Block, indexes: &[usize]) -> NetworkMessage {
    let transactions = indexes.iter().map(|index| block.txdata[*index].clone()).collect();
    let transactions = BlockTransactions { block_hash: block.block_hash(), transactions };
    NetworkMessage::BlockTxn(BlockTxn { transactions })
}

fn asks_for(block: &Block, indexes: &[u64]) -> NetworkMessage {
    let txs_request = BlockTransactionsRequest { block_hash: block.block_hash(), indexes: indexes.to_vec() };
    NetworkMessage::GetBlockTxn(GetBlockTxn { txs_request })
}

fn asks_whole(block: &Block) -> NetworkMessage {
    NetworkMessage::GetData(vec![Inventory::WitnessBlock(block.block_hash())])
}

#[test]
fn a_peer_is_told_that_version_2_is_spoken_and_the_first_with_a_block_is_asked_for_more() {
    let mut stage = Stage::new();
    let peer = PeerId(0);
    assert_eq!(stage.peer(Direction::Outbound), peer);
    stage.brings_a_block(peer);
    assert_eq!(stage.sent_to(peer, "sendcmpct"), [send_compact(true, 2)]);
    let summary = stage.peers.peers().remove(0);
    assert!(summary.high_bandwidth_to && !summary.high_bandwidth_from);
    stage.says(peer, send_compact(true, 1));
    assert!(!stage.peers.peers()[0].high_bandwidth_from, "another version counts as nothing");
    stage.says(peer, send_compact(true, 2));
    assert!(stage.peers.peers()[0].high_bandwidth_from);
}

#[test]
fn a_light_node_neither_offers_compact_blocks_nor_takes_any() {
    let mut stage = Stage::with(Config::light_node("/light/", zero_work()));
    let peer = stage.peer(Direction::Inbound);
    stage.says(peer, send_compact(true, 2));
    let block = stage.next_block(&[]);
    stage.says(peer, compact_message(compact(&block)));
    assert!(stage.chain.entry(&block.block_hash()).is_none());
    stage.chain.mine(START, 777, false);
    stage.event(Event::TipChanged);
    assert!(stage.sent.values().flatten().all(|message| !message.cmd().contains("cmpct")));
    assert!(stage.served.is_empty() && !stage.peers.peers()[0].high_bandwidth_from);
}

#[test]
fn a_pruned_node_sends_its_new_blocks_in_compact_form() {
    let mut stage = Stage::with(Config::full_node("/pruned/", zero_work()).pruned());
    let peer = stage.peer(Direction::Inbound);
    stage.says(peer, send_compact(true, 2));
    let hash = stage.chain.mine(START, 777, false);
    stage.event(Event::TipChanged);
    assert!(matches!(&stage.served[..], [(to, of, BlockForm::Compact { .. })] if *to == peer && *of == hash));
}

#[test]
fn three_peers_tell_of_blocks_by_themselves_and_the_last_chosen_one_is_kept_among_them() {
    let mut stage = Stage::new();
    let chosen = |stage: &Stage| -> Vec<PeerId> {
        stage.peers.peers().iter().filter(|peer| peer.high_bandwidth_to).map(|peer| peer.peer).collect()
    };
    let out = stage.fast_peer(Direction::Outbound);
    let others: Vec<PeerId> = (0..4).map(|_| stage.fast_peer(Direction::Inbound)).collect();
    assert_eq!(chosen(&stage), [out, others[2], others[3]]);
    assert_eq!(stage.sent_to(others[0], "sendcmpct"), [send_compact(false, 2)]);
    // The last with a block is the last to go.
    stage.brings_a_block(others[2]);
    stage.fast_peer(Direction::Inbound);
    assert!(chosen(&stage).contains(&others[2]) && chosen(&stage).contains(&out));
    stage.event(Event::Disconnected { peer: out });
    stage.fast_peer(Direction::Inbound);
    assert_eq!(chosen(&stage).len(), 3);
}

#[test]
fn a_block_whose_transactions_are_known_needs_no_question() {
    let mut stage = Stage::new();
    let peer = stage.fast_peer(Direction::Inbound);
    let all = transactions(10);
    all.iter()
        .for_each(|transaction| assert_eq!(stage.mempool.submit(transaction, false), TransactionOutcome::Accepted));
    let block = stage.next_block(&all);
    stage.says(peer, compact_message(compact(&block)));
    assert!(stage.is_here(&block) && !stage.sent.contains_key(&peer));
}

#[test]
fn transactions_that_were_refused_or_replaced_serve_for_a_block_too() {
    let mut stage = Stage::new();
    let peer = stage.fast_peer(Direction::Inbound);
    let refused = spend(Txid::from_byte_array([1; 32]), REFUSED);
    stage.says(peer, NetworkMessage::Tx(refused.as_ref().clone()));
    let replaced = spend(Txid::from_byte_array([2; 32]), 500);
    let (txid, wtxid) = (replaced.compute_txid(), replaced.compute_wtxid());
    stage.event(Event::TransactionRemoved { transaction: replaced.clone(), txid, wtxid });
    let orphan = spend(refused.compute_txid(), 400);
    stage.says(peer, NetworkMessage::Tx(orphan.as_ref().clone()));
    stage.sent.remove(&peer);
    let block = stage.next_block(&[refused, replaced, orphan]);
    stage.says(peer, compact_message(compact(&block)));
    assert!(stage.is_here(&block));
    assert_eq!(stage.sent_to(peer, "getblocktxn"), []);
}

#[test]
fn missing_transactions_are_asked_for_by_their_places() {
    let mut stage = Stage::new();
    let peer = stage.fast_peer(Direction::Inbound);
    let all = transactions(10);
    [0, 2, 3, 5, 8].iter().for_each(|number| drop(stage.mempool.submit(&all[*number], false)));
    let block = stage.next_block(&all);
    stage.says(peer, compact_message(compact(&block)));
    assert_eq!(stage.sent_to(peer, "getblocktxn"), [asks_for(&block, &[2, 5, 7, 8, 10])]);
    // Said again, it changes nothing.
    stage.says(peer, compact_message(compact(&block)));
    assert_eq!(stage.sent_to(peer, "getblocktxn").len(), 1);
    stage.says(peer, block_transactions(&block, &[2, 5, 7, 8, 10]));
    assert!(stage.is_here(&block) && stage.gone.is_empty());
}

#[test]
fn a_peer_that_is_not_to_tell_by_compact_blocks_is_taken_at_its_header() {
    let mut stage = Stage::new();
    let peer = stage.peer(Direction::Inbound);
    let all = transactions(3);
    all.iter().for_each(|transaction| drop(stage.mempool.submit(transaction, false)));
    let block = stage.next_block(&all);
    stage.says(peer, compact_message(compact(&block)));
    assert!(!stage.is_here(&block));
    let asked = stage.sent_to(peer, "getdata");
    assert_eq!(asked, [NetworkMessage::GetData(vec![Inventory::CompactBlock(block.block_hash())])]);
    stage.says(peer, compact_message(compact(&block)));
    assert!(stage.is_here(&block));
}

#[test]
fn a_node_without_transactions_asks_for_whole_blocks() {
    let mut stage = Stage::new();
    let peer = stage.peer(Direction::Inbound);
    let block = stage.next_block(&transactions(3));
    stage.says(peer, NetworkMessage::Headers(vec![block.header]));
    assert_eq!(stage.sent_to(peer, "getdata"), [asks_whole(&block)]);
}

#[test]
fn nothing_is_held_of_a_block_without_its_proof_of_work_or_its_place() {
    let mut stage = Stage::new();
    let peer = stage.fast_peer(Direction::Inbound);
    // A block on a parent that nobody knows: what is between is asked for.
    let far = make_block(&stage.chain.tip(), START, 1, false);
    let mut place = stage.chain.tip();
    place.hash = far.block_hash();
    let beyond = make_block(&place, START, 2, false);
    stage.says(peer, compact_message(compact(&beyond)));
    assert_eq!(stage.sent_to(peer, "getheaders").len(), 1);
    assert!(stage.gone.is_empty());
    let mut forged = compact(&stage.next_block(&[]));
    while forged.header.target().is_met_by(forged.header.block_hash()) {
        forged.header.nonce += 1;
    }
    stage.says(peer, compact_message(forged));
    assert_eq!(stage.gone, [(peer, DisconnectReason::Misbehaving(Misbehavior::MissingProofOfWork))]);
}

#[test]
fn a_short_id_that_stands_for_another_transaction_costs_a_whole_block_and_no_peer() {
    let mut stage = Stage::new();
    let (peer, all) = (stage.fast_peer(Direction::Inbound), transactions(5));
    all.iter().for_each(|transaction| drop(stage.mempool.submit(transaction, false)));
    let block = stage.next_block(&all[..4]);
    let mut message = compact(&block);
    // As if the fifth transaction had by chance the short id of the second.
    let keys = ShortId::calculate_siphash_keys(&message.header, message.nonce);
    message.short_ids[1] = ShortId::with_siphash_keys(&all[4].compute_wtxid().to_raw_hash(), keys);
    stage.says(peer, compact_message(message.clone()));
    assert!(!stage.is_here(&block));
    assert_eq!(stage.sent_to(peer, "getdata"), [asks_whole(&block)]);
    // Nothing less will do now, not even the right one, so that it cannot go on like this.
    stage.says(peer, compact_message(message));
    stage.says(peer, compact_message(compact(&block)));
    assert!(!stage.is_here(&block));
    assert_eq!(stage.sent_to(peer, "getdata").len(), 1);
    stage.says(peer, NetworkMessage::Block(block.clone()));
    assert!(stage.is_here(&block) && stage.gone.is_empty());
}

#[test]
fn two_equal_short_ids_cost_a_whole_block_and_no_peer() {
    let mut stage = Stage::new();
    let (peer, all) = (stage.fast_peer(Direction::Inbound), transactions(5));
    all.iter().for_each(|transaction| drop(stage.mempool.submit(transaction, false)));
    let block = stage.next_block(&all);
    let mut message = compact(&block);
    message.short_ids[3] = message.short_ids[1];
    stage.says(peer, compact_message(message));
    assert_eq!(stage.sent_to(peer, "getdata"), [asks_whole(&block)]);
    stage.says(peer, NetworkMessage::Block(block.clone()));
    assert!(stage.is_here(&block) && stage.gone.is_empty());
}

#[test]
fn what_no_software_makes_ends_the_connection() {
    let malformed = |change: &dyn Fn(&mut HeaderAndShortIds)| {
        let mut stage = Stage::new();
        let peer = stage.fast_peer(Direction::Inbound);
        let mut message = compact(&stage.next_block(&transactions(3)));
        change(&mut message);
        stage.says(peer, compact_message(message));
        stage.gone
    };
    let fault = DisconnectReason::Misbehaving(Misbehavior::CompactBlock);
    assert_eq!(malformed(&|message| message.prefilled_txs[0].idx = 9).first().map(|gone| gone.1), Some(fault));
    let empty = malformed(&|message| {
        message.prefilled_txs.clear();
        message.short_ids.clear();
    });
    assert_eq!(empty.first().map(|gone| gone.1), Some(fault));
    for indexes in [&[1usize, 2][..], &[1, 2, 3, 3][..]] {
        let mut stage = Stage::new();
        let peer = stage.fast_peer(Direction::Inbound);
        let block = stage.next_block(&transactions(3));
        stage.says(peer, compact_message(compact(&block)));
        stage.says(peer, block_transactions(&block, indexes));
        assert_eq!(stage.gone, [(peer, fault)], "{indexes:?}");
    }
}

#[test]
fn who_completes_a_block_wrongly_owes_the_whole_and_who_sends_that_wrongly_goes() {
    let mut stage = Stage::new();
    let peer = stage.fast_peer(Direction::Inbound);
    let block = stage.next_block(&transactions(3));
    stage.says(peer, compact_message(compact(&block)));
    stage.says(peer, block_transactions(&block, &[3, 2, 1]));
    assert_eq!(stage.sent_to(peer, "getdata"), [asks_whole(&block)]);
    assert!(stage.gone.is_empty());
    let mut wrong = block.clone();
    wrong.txdata.swap(1, 2);
    stage.says(peer, NetworkMessage::Block(wrong));
    assert_eq!(stage.gone, [(peer, DisconnectReason::Misbehaving(Misbehavior::MutatedBlock))]);
    let other = stage.peer(Direction::Outbound);
    stage.says(other, NetworkMessage::Headers(vec![block.header]));
    assert_eq!(stage.sent_to(other, "getdata"), [asks_whole(&block)]);
}

#[test]
fn who_does_not_complete_a_block_is_passed_over_after_seconds_and_let_go_after_a_minute() {
    let mut stage = Stage::new();
    let (peer, other) = (stage.fast_peer(Direction::Inbound), stage.peer(Direction::Inbound));
    let block = stage.next_block(&transactions(3));
    stage.says(peer, compact_message(compact(&block)));
    stage.says(other, NetworkMessage::Headers(vec![block.header]));
    assert_eq!(stage.sent_to(peer, "getblocktxn").len(), 1);
    assert_eq!(stage.sent_to(other, "getdata"), []);
    stage.passes(3);
    assert_eq!(stage.sent_to(other, "getdata"), [asks_whole(&block)]);
    stage.says(other, NetworkMessage::Block(block.clone()));
    assert!(stage.is_here(&block));
    stage.passes(60);
    assert_eq!(stage.gone, [(peer, DisconnectReason::BlockTimeout)]);
}

#[test]
fn a_late_answer_about_a_block_that_came_from_another_is_an_answer() {
    let mut stage = Stage::new();
    let (peer, other) = (stage.fast_peer(Direction::Inbound), stage.peer(Direction::Inbound));
    let block = stage.next_block(&transactions(3));
    stage.says(peer, compact_message(compact(&block)));
    stage.says(other, NetworkMessage::Headers(vec![block.header]));
    stage.passes(3);
    stage.says(other, NetworkMessage::Block(block.clone()));
    stage.says(peer, block_transactions(&block, &[1, 2, 3]));
    stage.passes(70);
    assert!(stage.is_here(&block) && stage.gone.is_empty());
}

#[test]
fn an_invalid_block_is_no_fault_of_who_told_of_it_by_a_compact_one() {
    let mut stage = Stage::new();
    let peer = stage.fast_peer(Direction::Inbound);
    let before = stage.chain.tip();
    let invalid = make_block(&before, START, 5, true);
    stage.says(peer, compact_message(compact(&invalid)));
    assert_eq!(stage.chain.entry(&invalid.block_hash()).map(|entry| entry.state), Some(BlockState::Invalid));
    stage.says(peer, compact_message(compact(&invalid)));
    assert!(stage.gone.is_empty() && stage.chain.tip() == before);
    // A block on it is: its sender had to know.
    let mut place = before;
    (place.hash, place.height) = (invalid.block_hash(), before.height + 1);
    stage.says(peer, compact_message(compact(&make_block(&place, START, 6, false))));
    assert_eq!(stage.gone, [(peer, DisconnectReason::Misbehaving(Misbehavior::InvalidHeader))]);
}

#[test]
fn a_compact_block_that_is_wrong_by_itself_is_put_together_once() {
    let mut stage = Stage::new();
    let peer = stage.fast_peer(Direction::Inbound);
    let second_coinbase = Arc::new(make_block(&stage.chain.tip(), START, 7, false).txdata[0].clone());
    let wrong = stage.next_block(&[second_coinbase]);
    let state = |stage: &Stage| stage.chain.entry(&wrong.block_hash()).map(|entry| entry.state);
    stage.says(peer, compact_message(compact(&wrong)));
    stage.says(peer, block_transactions(&wrong, &[1]));
    assert_eq!(state(&stage), Some(BlockState::HeaderOnly), "nothing is remembered of its header");
    assert!(stage.gone.is_empty(), "who tells of a block so need not have checked it");
    for _ in 0..3 {
        stage.says(peer, compact_message(compact(&wrong)));
    }
    assert_eq!(stage.sent_to(peer, "getblocktxn").len(), 1);
    assert_eq!(stage.sent_to(peer, "getdata"), [asks_whole(&wrong)]);
    stage.says(peer, NetworkMessage::Block(wrong));
    assert_eq!(stage.gone, [(peer, DisconnectReason::Misbehaving(Misbehavior::InvalidBlock))]);
}

#[test]
fn four_blocks_at_most_are_put_together_and_one_of_each_peer() {
    let mut stage = Stage::new();
    let peers: Vec<PeerId> = (0..3).map(|_| stage.fast_peer(Direction::Inbound)).collect();
    let all = transactions(3);
    let rivals: Vec<Block> =
        (0..6).map(|salt| with_transactions(make_block(&stage.chain.tip(), START, 50 + salt, false), &all)).collect();
    for (number, block) in rivals.iter().enumerate() {
        stage.says(peers[number % 3], compact_message(compact(block)));
    }
    for peer in &peers {
        assert_eq!(stage.sent_to(*peer, "getblocktxn").len(), 1);
    }
    // The first of them to come is the tip.
    stage.says(peers[1], block_transactions(&rivals[1], &[1, 2, 3]));
    assert!(stage.is_here(&rivals[1]));
    stage.says(peers[0], block_transactions(&rivals[0], &[1, 2, 3]));
    assert!(!stage.is_here(&rivals[0]) && stage.gone.is_empty());
}

#[test]
fn new_blocks_are_sent_in_compact_form_to_who_wants_it_and_not_before_the_last_has_left() {
    let mut stage = Stage::new();
    let (fast, slow) = (stage.peer(Direction::Inbound), stage.peer(Direction::Inbound));
    stage.says(fast, send_compact(true, 2));
    stage.says(slow, NetworkMessage::SendHeaders);
    let first = stage.chain.mine(START, 600, false);
    stage.event(Event::TipChanged);
    let [(to, of, BlockForm::Compact { .. })] = &stage.served[..] else { panic!("{:?}", stage.served) };
    assert_eq!((*to, *of), (fast, first));
    assert_eq!(stage.sent_to(slow, "headers").len(), 1);
    let second = stage.chain.mine(START, 601, false);
    stage.event(Event::TipChanged);
    assert_eq!(stage.served.len(), 1);
    stage.event(Event::BlockServed { peer: fast });
    assert!(matches!(&stage.served[1], (to, of, BlockForm::Compact { .. }) if *to == fast && *of == second));
    // Who is behind by several is told their headers.
    stage.chain.mine(START, 602, false);
    stage.chain.mine(START, 603, false);
    stage.event(Event::BlockServed { peer: fast });
    stage.says(fast, NetworkMessage::SendHeaders);
    stage.event(Event::TipChanged);
    assert_eq!(stage.served.len(), 2);
    let told = stage.sent_to(fast, "headers");
    assert!(matches!(&told[..], [NetworkMessage::Headers(headers)] if headers.len() == 2), "{told:?}");
}

#[test]
fn compact_blocks_and_single_transactions_are_served_of_the_last_blocks_only() {
    let mut stage = Stage::new();
    let peer = stage.peer(Direction::Inbound);
    let at = |stage: &Stage, depth: u32| {
        let hash = stage.chain.active_at(stage.chain.height() - depth).unwrap();
        stage.chain.block(&hash).unwrap().clone()
    };
    let form = |stage: &mut Stage, message: NetworkMessage| {
        stage.says(peer, message);
        stage.event(Event::BlockServed { peer });
        stage.served.pop().map(|(_, _, form)| form)
    };
    for depth in [0, 5] {
        let hash = at(&stage, depth).block_hash();
        let form = form(&mut stage, NetworkMessage::GetData(vec![Inventory::CompactBlock(hash)]));
        assert!(matches!(form, Some(BlockForm::Compact { .. })), "{depth}: {form:?}");
    }
    let hash = at(&stage, 6).block_hash();
    let whole = form(&mut stage, NetworkMessage::GetData(vec![Inventory::CompactBlock(hash)]));
    assert_eq!(whole, Some(BlockForm::Whole));
    let block = at(&stage, 10);
    assert_eq!(form(&mut stage, asks_for(&block, &[0])), Some(BlockForm::Transactions(vec![0])));
    assert!(BlockForm::Transactions(vec![0]).message(&block).is_some());
    assert!(BlockForm::Transactions(vec![0, 1]).message(&block).is_none());
    let block = at(&stage, 11);
    assert_eq!(form(&mut stage, asks_for(&block, &[0])), Some(BlockForm::Whole));
    // Of a block that is not here there is no answer.
    let unknown = stage.next_block(&[]);
    assert_eq!(form(&mut stage, asks_for(&unknown, &[0])), None);
    assert!(stage.gone.is_empty());
}

#[test]
fn who_asks_for_what_no_block_has_or_too_often_is_let_go() {
    let mut stage = Stage::new();
    let tip = stage.chain.block(&stage.chain.tip().hash).unwrap().clone();
    let peer = stage.peer(Direction::Inbound);
    stage.says(peer, asks_for(&tip, &[1 << 16]));
    let other = stage.peer(Direction::Inbound);
    stage.event(Event::AskedBeyondBlock { peer: other });
    let beyond = DisconnectReason::Misbehaving(Misbehavior::BeyondBlock);
    assert_eq!(stage.gone, [(peer, beyond), (other, beyond)]);
    let peer = stage.peer(Direction::Inbound);
    // Some are handed to the driver, some wait.
    (0..8).for_each(|_| stage.says(peer, asks_for(&tip, &[0])));
    assert_eq!(stage.gone.len(), 2);
    stage.says(peer, asks_for(&tip, &[0]));
    assert_eq!(stage.gone[2], (peer, DisconnectReason::Misbehaving(Misbehavior::TooManyRequests)));
}
