//! The wallet for programs: taproot addresses, PSBTs that it pays for and signs, over kill -9.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::collections::HashMap;

use harness::{Folder, MATURE, assert_calm, mempool, refused, send};
use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::NOBODY,
};
use leyden_proto::{
    lnrpc::{AddressType, ListUnspentRequest, NewAddressRequest, SendCoinsRequest, Utxo},
    walletrpc::{
        self, FinalizePsbtRequest, FundPsbtRequest, ListLeasesRequest, TxTemplate,
        fund_psbt_request::{Fees, Template},
    },
};
use tonic::Code;

async fn taproot(node: &DaemonProcess) -> String {
    let request = NewAddressRequest { r#type: AddressType::TaprootPubkey.into(), ..Default::default() };
    node.client().unwrap().lightning().new_address(request).await.unwrap().into_inner().address
}

async fn coins(node: &DaemonProcess) -> Vec<Utxo> {
    let request = ListUnspentRequest { min_confs: 1, ..Default::default() };
    node.client().unwrap().lightning().list_unspent(request).await.unwrap().into_inner().utxos
}

#[tokio::test(flavor = "multi_thread")]
async fn taproot_coins_and_leases_of_psbts_outlive_kill_9_and_what_was_funded_is_signed_and_mined() {
    let folder = Folder::new();
    let mut node = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
    node.start().await.unwrap();
    node.mine(1, None).await.unwrap();
    node.mine(MATURE, Some(NOBODY)).await.unwrap();
    let address = taproot(&node).await;
    assert!(address.starts_with("bcrt1p"), "{address}");
    send(&node, &address, 3_000_000).await;
    node.mine(1, Some(NOBODY)).await.unwrap();
    let height = node.height().await.unwrap();
    node.wait_for_height(height).await.unwrap();
    let is_there = |coins: &[Utxo]| {
        coins.iter().any(|coin| coin.address == address && coin.address_type == AddressType::TaprootPubkey as i32)
    };
    wait_until("the wallet to see the taproot coin", || async { Ok(is_there(&coins(&node).await)) }).await.unwrap();
    node.kill();
    node.start().await.unwrap();
    assert!(is_there(&coins(&node).await));
    assert_ne!(taproot(&node).await, address, "no address is given twice");

    // The taproot coin and no other pays for the PSBT.
    let coin = coins(&node).await.into_iter().find(|coin| coin.address == address).unwrap().outpoint.unwrap();
    let outputs = HashMap::from([(NOBODY.to_owned(), 1_000_000)]);
    let request = || FundPsbtRequest {
        template: Some(Template::Raw(TxTemplate { inputs: vec![coin.clone()], outputs: outputs.clone() })),
        fees: Some(Fees::SatPerVbyte(2)),
        change_type: walletrpc::ChangeAddressType::P2tr.into(),
        ..Default::default()
    };
    let funded = node.client().unwrap().wallet_kit().fund_psbt(request()).await.unwrap().into_inner();
    assert_eq!(funded.locked_utxos.len(), 1);
    // Its caller has hung up, and the node dies: the coin stays leased.
    node.kill();
    node.start().await.unwrap();
    let leases =
        node.client().unwrap().wallet_kit().list_leases(ListLeasesRequest {}).await.unwrap().into_inner().locked_utxos;
    assert_eq!(leases.len(), 1);
    let again = node.client().unwrap().wallet_kit().fund_psbt(request()).await;
    refused(again, Code::FailedPrecondition, "input 0 not found in list of non-locked UTXO");
    let mut lightning = node.client().unwrap().lightning();
    let spend = SendCoinsRequest {
        addr: NOBODY.to_owned(),
        amount: 1_000,
        outpoints: vec![coin.clone()],
        ..Default::default()
    };
    refused(lightning.send_coins(spend).await, Code::FailedPrecondition, "has no coin");

    let finalize = FinalizePsbtRequest { funded_psbt: funded.funded_psbt, account: String::new() };
    let done = node.client().unwrap().wallet_kit().finalize_psbt(finalize).await.unwrap().into_inner();
    assert!(mempool(&node).await.is_empty(), "nothing is published by itself");
    let publish = walletrpc::Transaction { tx_hex: done.raw_final_tx, label: "tea".to_owned() };
    node.client().unwrap().wallet_kit().publish_transaction(publish).await.unwrap();
    assert_eq!(mempool(&node).await.len(), 1);
    node.mine(1, Some(NOBODY)).await.unwrap();
    wait_until("the change to come back", || async {
        let coins = coins(&node).await;
        Ok(coins.iter().any(|coin| coin.address != address && coin.address_type == AddressType::TaprootPubkey as i32))
    })
    .await
    .unwrap();
    assert!(coins(&node).await.iter().all(|coin| coin.address != address));
    assert_calm("alice", &node.log());
}
