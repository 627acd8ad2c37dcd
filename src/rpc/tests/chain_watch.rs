//! What other programs wait for in the chain.

use bitcoin::{Network, consensus, constants::genesis_block, hashes::Hash as _};
use leyden_proto::chainrpc::{
    ConfRequest, Outpoint, SpendRequest, chain_notifier_client::ChainNotifierClient, conf_event, spend_event,
};

use super::*;

#[tokio::test]
async fn a_confirmation_is_told_with_its_block_and_what_is_gone_as_gone() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut notifier = ChainNotifierClient::new(server.channel.clone());
    let request =
        ConfRequest { txid: vec![0; 32], script: vec![0x51], num_confs: 3, height_hint: 5, include_block: true };
    let events = notifier.register_confirmations_ntfn(request.clone()).await.unwrap().into_inner();
    let events: Vec<_> = events.map(|event| event.unwrap().event.unwrap()).collect().await;
    let [conf_event::Event::Conf(found), conf_event::Event::Reorg(_)] = &events[..] else { panic!("{events:?}") };
    let genesis = genesis_block(Network::Regtest);
    assert_eq!(found.raw_tx, consensus::serialize(&genesis.txdata[0]));
    assert_eq!(found.raw_block, consensus::serialize(&genesis));
    assert_eq!(found.block_hash, genesis.block_hash().to_byte_array());
    assert_eq!((found.block_height, found.tx_index), (9, 0));
    assert!(server.asked().contains("txid: None") && server.asked().contains("confirmations: 3"), "{}", server.asked());

    let bare = ConfRequest { include_block: false, txid: vec![7; 32], ..request.clone() };
    let mut events = notifier.register_confirmations_ntfn(bare).await.unwrap().into_inner();
    let Some(conf_event::Event::Conf(found)) = events.message().await.unwrap().unwrap().event else { panic!() };
    assert!(found.raw_block.is_empty() && server.asked().contains("txid: Some("), "{}", server.asked());

    for (wrong, words) in [
        (ConfRequest { script: Vec::new(), ..request.clone() }, "an output script must be provided"),
        (ConfRequest { script: vec![0; 10_001], ..request.clone() }, "script"),
        (ConfRequest { height_hint: 0, ..request.clone() }, "a height hint greater than 0 must be provided"),
        (ConfRequest { num_confs: 0, ..request.clone() }, "number of confirmations must be between 1 and 144"),
        (ConfRequest { num_confs: 145, ..request.clone() }, "number of confirmations must be between 1 and 144"),
        (ConfRequest { txid: vec![1], ..request }, "txid"),
    ] {
        refused(notifier.register_confirmations_ntfn(wrong).await, Code::InvalidArgument, words);
    }
}

#[tokio::test]
async fn a_spend_is_told_with_its_spender() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut notifier = ChainNotifierClient::new(server.channel.clone());
    let outpoint = Some(Outpoint { hash: vec![7; 32], index: 2 });
    let request = SpendRequest { outpoint, script: vec![0x51], height_hint: 5 };
    let events = notifier.register_spend_ntfn(request.clone()).await.unwrap().into_inner();
    let events: Vec<_> = events.map(|event| event.unwrap().event.unwrap()).collect().await;
    let [spend_event::Event::Spend(found), spend_event::Event::Reorg(_)] = &events[..] else { panic!("{events:?}") };
    let spender = &genesis_block(Network::Regtest).txdata[0];
    assert_eq!(found.raw_spending_tx, consensus::serialize(spender));
    assert_eq!(found.spending_tx_hash, spender.compute_txid().to_byte_array());
    assert_eq!(found.spending_outpoint.as_ref().unwrap().index, u32::MAX);
    assert_eq!((found.spending_height, found.spending_input_index), (9, 0));
    assert!(server.asked().contains("vout: 2"), "{}", server.asked());

    let by_script = SpendRequest { outpoint: None, ..request.clone() };
    notifier.register_spend_ntfn(by_script.clone()).await.unwrap();
    assert!(server.asked().contains("outpoint: None"), "{}", server.asked());
    let taproot = [&[0x51, 0x20][..], &[7; 32]].concat();
    for (wrong, words) in [
        (SpendRequest { script: Vec::new(), ..request.clone() }, "an output script must be provided"),
        (SpendRequest { height_hint: 0, ..request.clone() }, "a height hint greater than 0 must be provided"),
        (SpendRequest { script: taproot, ..by_script }, "cannot register witness v1 spend request without outpoint"),
        (SpendRequest { outpoint: Some(Outpoint { hash: Vec::new(), index: 1 }), ..request }, "outpoint.hash"),
    ] {
        refused(notifier.register_spend_ntfn(wrong).await, Code::InvalidArgument, words);
    }
}
