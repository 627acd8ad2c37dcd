//! Light nodes among peers that lie, withhold and delay: as long as one peer tells the truth, none of it lasts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, unreachable_pub, reason = "tests")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bitcoin::Txid;
use bitcoin::bip158::FilterHash;
use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::message::NetworkMessage;
use common::light::*;
use common::*;
use leyden_node::{Node, TipDoubt};

/// A full node with some blocks, and a light one that watches `script(1)` from then on.
async fn pair(folders: &[tempfile::TempDir; 2], blocks: u32) -> (Node, Node) {
    let (full, light) = (start(folders[0].path(), false).await, start(folders[1].path(), true).await);
    full.generate(blocks, open_script()).await.unwrap();
    light.watch_scripts(vec![script(1)], blocks + 1).await.unwrap();
    (full, light)
}

fn two_folders() -> [tempfile::TempDir; 2] {
    [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]
}

async fn until_found(light: &Node, paid: Txid) {
    until("what was hidden is found", async || light.transaction(paid).await.unwrap().is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_something_out_of_a_filter_is_found_by_the_block() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (full, light) = (start(folders[0].path(), false).await, start(folders[1].path(), true).await);
    full.generate(110, open_script()).await.unwrap();
    let paid = pay(&full, 1, script(1)).await;
    full.generate(1, open_script()).await.unwrap();
    full.generate(5, open_script()).await.unwrap();
    let liar = Between::with_filters(&full, [(111, false_filter().content)].into());
    light.watch_scripts(vec![script(1)], 200).await.unwrap();
    light.connect_peer(liar.address).await.unwrap();
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until_at_tip(&light, &full).await;
    until("what was hidden is found", async || light.transaction(paid).await.unwrap().is_some()).await;
    until("the liar is let go", async || light.peers().iter().all(|peer| peer.address != liar.address)).await;
    assert_eq!(light.tip(), full.tip());
    light.shutdown().await;
    full.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_only_peer_has_hidden_is_found_once_another_comes() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (full, light) = (start(folders[0].path(), false).await, start(folders[1].path(), true).await);
    full.generate(110, open_script()).await.unwrap();
    let paid = pay(&full, 1, script(1)).await;
    full.generate(1, open_script()).await.unwrap();
    full.generate(5, open_script()).await.unwrap();
    let liar = Between::with_filters(&full, [(111, false_filter().content)].into());
    light.watch_scripts(vec![script(1)], 200).await.unwrap();
    light.connect_peer(liar.address).await.unwrap();
    until_at_tip(&light, &full).await;
    assert!(light.transaction(paid).await.unwrap().is_none(), "one peer alone can hide it");
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until("what was hidden is found", async || light.transaction(paid).await.unwrap().is_some()).await;
    until_at_tip(&light, &full).await;
    light.shutdown().await;
    full.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_a_peer_withholds_is_taken_from_another() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (full, light) = (start(folders[0].path(), false).await, start(folders[1].path(), true).await);
    full.generate(110, open_script()).await.unwrap();
    let paid = pay(&full, 1, script(1)).await;
    let withheld = full.generate(1, open_script()).await.unwrap()[0];
    full.generate(2, open_script()).await.unwrap();
    // It tells the truth of the filters.
    let liar = Between::before(&full, move |message| match message {
        NetworkMessage::Block(block) if block.block_hash() == withheld => Way::Drop,
        _ => Way::Send,
    });
    light.watch_scripts(vec![script(1)], 200).await.unwrap();
    light.connect_peer(liar.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(light.tip().height < 111, "it does not pass a block over that concerns it");
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until("what pays it is found", async || light.transaction(paid).await.unwrap().is_some()).await;
    until_at_tip(&light, &full).await;
    light.shutdown().await;
    full.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_tells_of_a_block_first_does_not_decide_alone() {
    let folders = two_folders();
    let (honest, light) = pair(&folders, 110).await;
    // Somebody who finds a block, and tells the light node before all others.
    let third = tempfile::tempdir().unwrap();
    let miner = start(third.path(), false).await;
    miner.connect_peer(honest.local_address().unwrap()).await.unwrap();
    until_at_tip(&miner, &honest).await;
    miner.disconnect_peer(honest.local_address().unwrap()).unwrap();
    let liar = Between::with_filters(&miner, [(111, false_filter().content)].into());
    light.connect_peer(honest.local_address().unwrap()).await.unwrap();
    light.connect_peer(liar.address).await.unwrap();
    until_at_tip(&light, &honest).await;
    let paid = pay(&miner, 1, script(1)).await;
    let hidden = miner.generate(1, open_script()).await.unwrap()[0];
    until_at_tip(&light, &miner).await;
    assert!(light.transaction(paid).await.unwrap().is_none(), "nobody else has told of the block");
    honest.submit_block(miner.block(hidden).await.unwrap().unwrap().as_ref().clone()).await.unwrap();
    until_found(&light, paid).await;
    until_at_tip(&light, &honest).await;
    light.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_answer_that_comes_late_is_heard_too() {
    let folders = two_folders();
    let (full, light) = pair(&folders, 110).await;
    let slow = Between::before(&full, |message| match message {
        NetworkMessage::CFHeaders(_) => Way::Drip(Duration::from_secs(6)),
        _ => Way::Send,
    });
    let liar = Between::with_filters(&full, [(111, false_filter().content)].into());
    light.connect_peer(slow.address).await.unwrap();
    light.connect_peer(liar.address).await.unwrap();
    until_at_tip(&light, &full).await;
    let paid = pay(&full, 1, script(1)).await;
    full.generate(1, open_script()).await.unwrap();
    until_found(&light, paid).await;
    until_at_tip(&light, &full).await;
    light.shutdown().await;
    full.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_of_many_blocks_makes_no_liars_of_those_who_come_later() {
    let folders = two_folders();
    let (full, light) = pair(&folders, 110).await;
    full.generate(130, open_script()).await.unwrap();
    let paid = pay(&full, 1, script(1)).await;
    full.generate(20, open_script()).await.unwrap();
    let filters: BTreeMap<u32, Vec<u8>> = (111..=260).map(|height| (height, false_filter().content)).collect();
    let liar = Between::with_filters(&full, filters);
    light.connect_peer(liar.address).await.unwrap();
    until_at_tip(&light, &full).await;
    light.disconnect_peer(liar.address).unwrap();
    let honest = Between::honest(&full);
    light.connect_peer(honest.address).await.unwrap();
    until_found(&light, paid).await;
    until_at_tip(&light, &full).await;
    full.generate(3, open_script()).await.unwrap();
    until_at_tip(&light, &full).await;
    assert_eq!(honest.connections.load(Ordering::Relaxed), 1, "it was never let go");
    light.shutdown().await;
    full.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_disputes_without_a_filter_is_let_go_and_leaves_nothing_behind() {
    let folders = two_folders();
    let (full, light) = pair(&folders, 110).await;
    let node = full.clone();
    // The smallest of hashes, of which there are no filters: it shows the true ones.
    let liar = Between::before(&full, move |message| {
        rename(&node, message, |height, hash| if height > 111 { FilterHash::from_byte_array([0; 32]) } else { hash });
        Way::Send
    });
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    light.connect_peer(liar.address).await.unwrap();
    until_at_tip(&light, &full).await;
    full.generate(5, open_script()).await.unwrap();
    until("the liar is let go", async || liar.connections.load(Ordering::Relaxed) > 1).await;
    light.disconnect_peer(liar.address).unwrap();
    let honest = Between::honest(&full);
    light.connect_peer(honest.address).await.unwrap();
    until("who comes later is heard", async || honest.asked.load(Ordering::Relaxed) > 0).await;
    full.generate(3, open_script()).await.unwrap();
    until_at_tip(&light, &full).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(honest.connections.load(Ordering::Relaxed), 1, "it was never let go");
    light.shutdown().await;
    full.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_liars_who_came_first_do_not_silence_a_fifth_peer() {
    let folders = two_folders();
    let (full, light) = pair(&folders, 110).await;
    for _ in 0..4 {
        let liar = Between::with_filters(&full, [(111, false_filter().content)].into());
        light.connect_peer(liar.address).await.unwrap();
    }
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until_at_tip(&light, &full).await;
    let paid = pay(&full, 1, script(1)).await;
    full.generate(1, open_script()).await.unwrap();
    until_found(&light, paid).await;
    until_at_tip(&light, &full).await;
    light.shutdown().await;
    full.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_search_of_the_past_did_not_see_is_found_once_another_peer_comes() {
    let folders = two_folders();
    let (full, light) = (start(folders[0].path(), false).await, start(folders[1].path(), true).await);
    full.generate(110, open_script()).await.unwrap();
    let paid = pay(&full, 1, script(1)).await;
    full.generate(10, open_script()).await.unwrap();
    let liar = Between::with_filters(&full, [(111, false_filter().content)].into());
    light.connect_peer(liar.address).await.unwrap();
    until_at_tip(&light, &full).await;
    light.watch_scripts(vec![script(1)], 0).await.unwrap();
    assert!(light.transaction(paid).await.unwrap().is_none(), "one peer alone can hide it");
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until_found(&light, paid).await;
    until_at_tip(&light, &full).await;
    light.shutdown().await;
    full.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_drips_its_filters_holds_up_nobody() {
    let folders = two_folders();
    let (full, light) = pair(&folders, 10).await;
    full.generate(150, open_script()).await.unwrap();
    let dripping = Between::before(&full, |message| match message {
        NetworkMessage::CFilter(_) => Way::Drip(Duration::from_secs(4)),
        _ => Way::Send,
    });
    light.connect_peer(dripping.address).await.unwrap();
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    // All its filters would take ten minutes.
    until_at_tip(&light, &full).await;
    light.shutdown().await;
    full.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_counts_more_than_it_holds_stops_nothing() {
    let folders = two_folders();
    let (full, light) = pair(&folders, 110).await;
    let absurd = [[0xff; 9].as_slice(), &[7; 200]].concat();
    let liar = Between::with_filters(&full, [(112, absurd)].into());
    light.connect_peer(liar.address).await.unwrap();
    let paid = pay(&full, 1, script(1)).await;
    full.generate(5, open_script()).await.unwrap();
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until_at_tip(&light, &full).await;
    until_found(&light, paid).await;
    full.generate(1, open_script()).await.unwrap();
    until_at_tip(&light, &full).await;
    light.shutdown().await;
    full.shutdown().await;
}

/// How many blocks a node keeps at least that does not keep all (BIP 159), and some.
const LONG: u32 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_that_needs_a_node_with_all_blocks_says_so_and_goes_on_with_one() {
    let folders = two_folders();
    let (full, light) = (start(folders[0].path(), false).await, start(folders[1].path(), true).await);
    full.generate(110, open_script()).await.unwrap();
    let paid = pay(&full, 1, script(1)).await;
    full.generate(LONG, open_script()).await.unwrap();
    let pruned = Between::before(&full, |message| {
        if let NetworkMessage::Version(version) = message {
            version.services.remove(ServiceFlags::NETWORK);
            version.services.add(ServiceFlags::NETWORK_LIMITED);
        }
        Way::Send
    });
    light.connect_peer(pruned.address).await.unwrap();
    until_at_tip(&light, &full).await;
    let search = tokio::spawn({
        let light = light.clone();
        async move { light.watch_scripts(vec![script(1)], 0).await }
    });
    until("it says what it lacks", async || light.check_tip() == Err(TipDoubt::Lacks { height: 111 })).await;
    // Meanwhile the chain is followed.
    full.generate(2, open_script()).await.unwrap();
    until_at_tip(&light, &full).await;
    assert!(!search.is_finished());
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    search.await.unwrap().unwrap();
    assert!(light.transaction(paid).await.unwrap().is_some());
    assert_eq!(light.check_tip(), Ok(()));
    light.shutdown().await;
    full.shutdown().await;
}
