//! A light node beside full ones: it finds what concerns it, whatever its peers withhold, and keeps little.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, unreachable_pub, reason = "tests")]

mod common;

use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, TxOut};
use common::light::*;
use common::*;
use leyden_consensus::Params;
use leyden_node::{NodeError, Notice, NoticeStream};

async fn next_block(stream: &mut NoticeStream) -> Notice {
    loop {
        match tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap() {
            Notice::TransactionAccepted { .. } | Notice::TransactionRemoved { .. } => {}
            notice => return notice,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_light_node_finds_what_pays_it_and_what_spends_that() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (full, light) = (start(folders[0].path(), false).await, start(folders[1].path(), true).await);
    full.generate(150, open_script()).await.unwrap();
    let early = pay(&full, 1, script(1)).await;
    full.generate(150, open_script()).await.unwrap();
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until_at_tip(&light, &full).await;
    // Nothing was watched so far: it is found when it is.
    assert!(light.transaction(early).await.unwrap().is_none());
    light.watch_scripts(vec![script(1), open_script()], 0).await.unwrap();
    let found = light.transaction(early).await.unwrap().unwrap();
    assert_eq!(found.confirmed, full.transaction(early).await.unwrap().unwrap().confirmed);

    let mut notices = light.subscribe(None).unwrap();
    let paid = pay(&full, 2, open_script()).await;
    full.generate(1, open_script()).await.unwrap();
    let Notice::BlockConnected { height: 301, block, .. } = next_block(&mut notices).await else { panic!() };
    assert_eq!(block.txdata.iter().map(|tx| tx.compute_txid()).filter(|txid| *txid == paid).count(), 1);

    // Its own transaction reaches the full node, and is found in a block by what it spends.
    let coin = OutPoint { txid: paid, vout: 0 };
    assert!(light.spender(coin).await.unwrap().is_none());
    let mut output = open_output(COIN - 20_000);
    output.script_pubkey = script(9);
    let own = light.submit_transaction(spend(&[coin], vec![output])).await.unwrap();
    assert_eq!(light.spender(coin).await.unwrap().unwrap().confirmed, None);
    until("its transaction arrives", async || full.mempool_entry(&own).is_some()).await;
    full.generate(1, open_script()).await.unwrap();
    until_at_tip(&light, &full).await;
    let spend = light.spender(coin).await.unwrap().unwrap();
    assert_eq!((spend.txid, spend.confirmed), (own, Some(full.tip().block_ref())));

    let (at, proof) = light.inclusion_proof(own).await.unwrap().unwrap();
    assert_eq!((at, proof.verify().unwrap()), (full.tip().block_ref(), own));
    assert_eq!(proof, full.inclusion_proof(own).await.unwrap().unwrap().1);
    assert!(matches!(light.coin(coin).await, Err(NodeError::LightNode(_))));
    assert!(matches!(light.spent_by(at.hash).await, Err(NodeError::LightNode(_))));
    assert!(matches!(light.transaction_count(1..=2).await, Err(NodeError::LightNode(_))));
    let search = light.search_coins([script(1)].into(), Arc::default()).await;
    assert!(matches!(search, Err(NodeError::LightNode(_))));
    assert!(matches!(light.generate_one(open_script()).await, Err(NodeError::LightNode(_))));
    light.shutdown().await;
    drop((notices, light));

    // After a restart it knows what it knew, and goes on.
    let light = start(folders[1].path(), true).await;
    assert_eq!(light.tip(), full.tip());
    assert_eq!(light.spender(coin).await.unwrap().unwrap().txid, own);
    let late = pay(&full, 3, script(1)).await;
    full.generate(1, open_script()).await.unwrap();
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until("what pays it is found", async || light.transaction(late).await.unwrap().is_some()).await;
    light.shutdown().await;
    full.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reorganisation_reaches_a_light_node() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two) = (start(folders[0].path(), false).await, start(folders[1].path(), false).await);
    one.generate(120, open_script()).await.unwrap();
    two.connect_peer(one.local_address().unwrap()).await.unwrap();
    until_at_tip(&two, &one).await;
    two.disconnect_peer(one.local_address().unwrap()).unwrap();
    let light = start(folders[2].path(), true).await;
    light.watch_scripts(vec![script(1)], 121).await.unwrap();
    light.connect_peer(one.local_address().unwrap()).await.unwrap();
    until_at_tip(&light, &one).await;
    let mut notices = light.subscribe(None).unwrap();
    let paid = pay(&one, 1, script(1)).await;
    one.generate(3, open_script()).await.unwrap();
    until_at_tip(&light, &one).await;
    assert_eq!(light.transaction(paid).await.unwrap().unwrap().confirmed.unwrap().0.height, 121);

    two.generate(2, true_script()).await.unwrap();
    let again = pay(&two, 1, script(1)).await;
    assert_eq!(again, paid);
    two.generate(3, true_script()).await.unwrap();
    light.connect_peer(two.local_address().unwrap()).await.unwrap();
    until_at_tip(&light, &two).await;
    assert_eq!(light.transaction(paid).await.unwrap().unwrap().confirmed.unwrap().0.height, 123);
    for height in 121..=123 {
        assert!(matches!(next_block(&mut notices).await, Notice::BlockConnected { height: at, .. } if at == height));
    }
    for height in (121..=123).rev() {
        assert!(matches!(next_block(&mut notices).await, Notice::BlockDisconnected { height: at, .. } if at == height));
    }
    for height in 121..=125 {
        assert!(matches!(next_block(&mut notices).await, Notice::BlockConnected { height: at, .. } if at == height));
    }
    light.shutdown().await;
}

/// Blocks of nearly 1 MB, and as many outputs in each as a busy block has.
const FULL_BLOCKS: u32 = 200;
const OUTPUTS: u32 = 4_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_light_node_takes_less_than_a_hundredth_of_the_disk() {
    let params = Params::regtest();
    let mut chain = Spender::new(&params);
    chain.extend(100);
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (full, light) = (start(folders[0].path(), false).await, start(folders[1].path(), true).await);
    for block in &chain.blocks {
        full.submit_block(block.clone()).await.unwrap();
    }
    let (mut place, mut coin, mut filters) = (chain.place, coinbase_of(&chain.blocks[0]), 0);
    for number in 0..FULL_BLOCKS {
        let mut outputs = vec![open_output(1_000_000)];
        for output in 0..OUTPUTS {
            let mut program = [0; 20];
            program[..4].copy_from_slice(&number.to_le_bytes());
            program[4..8].copy_from_slice(&output.to_le_bytes());
            let script = ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array(program));
            outputs.push(TxOut { value: Amount::ZERO, script_pubkey: script });
        }
        let data = ScriptBuf::from_bytes([&[0x6a][..], &vec![7; 850_000]].concat());
        outputs.push(TxOut { value: Amount::ZERO, script_pubkey: data });
        let transaction = spend(&[coin], outputs);
        let mut transactions = vec![transaction];
        // One block in forty pays the light node.
        if number % 40 == 0 {
            let to_light = TxOut { value: Amount::ZERO, script_pubkey: script(1) };
            transactions.push(spend(&[output_of(&transactions[0], 0)], vec![open_output(1_000_000), to_light]));
        }
        coin = output_of(transactions.last().unwrap(), 0);
        let fee = if number == 0 { 5_000_000_000 - 1_000_000 } else { 0 };
        let block = forge_paying(&params, place, transactions, fee);
        place = Place::of(&block, place.height + 1);
        full.submit_block(block).await.unwrap();
        filters += full.filter(place.hash).await.unwrap().unwrap().0.content.len();
    }
    light.watch_scripts(vec![script(1)], 0).await.unwrap();
    light.connect_peer(full.local_address().unwrap()).await.unwrap();
    until_at_tip(&light, &full).await;
    let mut notices = light.subscribe(Some(params.genesis_hash)).unwrap();
    let mut paid = 0;
    for _ in 0..100 + FULL_BLOCKS {
        let Notice::BlockConnected { block, .. } = next_block(&mut notices).await else { panic!() };
        paid +=
            block.txdata.iter().filter(|tx| tx.output.iter().any(|output| output.script_pubkey == script(1))).count();
    }
    assert_eq!(paid, 5);
    let (all, little) = (full.disk_bytes().await.unwrap(), light.disk_bytes().await.unwrap());
    println!(
        "{FULL_BLOCKS} blocks of 1 MB: full node {all} bytes, of which filters {filters}; light node {little} bytes"
    );
    assert!(little * 100 < all, "{little} of {all}");
    light.shutdown().await;
    full.shutdown().await;
}
