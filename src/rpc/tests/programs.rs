//! What other programs ask: rates, blocks, names, leases, macaroons.

use bitcoin::{Network, constants::genesis_block, hashes::Hash as _};
use leyden_proto::{
    chainrpc::{self, chain_kit_client::ChainKitClient, chain_notifier_client::ChainNotifierClient},
    walletrpc::{self, wallet_kit_client::WalletKitClient},
};

use super::*;

#[tokio::test]
async fn blocks_are_told_in_internal_byte_order() {
    let server = Server::start(WalletState::Locked).await;
    let genesis = genesis_block(Network::Regtest);
    let hash = genesis.block_hash().to_byte_array().to_vec();
    let mut kit = ChainKitClient::new(server.channel.clone());
    let best = kit.get_best_block(chainrpc::GetBestBlockRequest {}).await.unwrap().into_inner();
    assert_eq!((best.block_hash.len(), best.block_height), (32, 0));
    let at = kit.get_block_hash(chainrpc::GetBlockHashRequest { block_height: 0 }).await.unwrap().into_inner();
    assert_eq!(at.block_hash, hash);
    let negative = kit.get_block_hash(chainrpc::GetBlockHashRequest { block_height: -1 }).await;
    refused(negative, Code::InvalidArgument, "block_height");
    let header = kit.get_block_header(chainrpc::GetBlockHeaderRequest { block_hash: hash.clone() }).await;
    assert_eq!(header.unwrap().into_inner().raw_block_header, bitcoin::consensus::serialize(&genesis.header));
    let block = kit.get_block(chainrpc::GetBlockRequest { block_hash: hash.clone() }).await.unwrap().into_inner();
    assert_eq!(block.raw_block, bitcoin::consensus::serialize(&genesis));
    let short = kit.get_block(chainrpc::GetBlockRequest { block_hash: vec![1] }).await;
    refused(short, Code::InvalidArgument, "block_hash: 1 bytes where 32");

    let mut notifier = ChainNotifierClient::new(server.channel.clone());
    let epochs = notifier.register_block_epoch_ntfn(chainrpc::BlockEpoch::default()).await.unwrap().into_inner();
    let epochs: Vec<_> = epochs.map(|epoch| epoch.unwrap()).collect().await;
    assert_eq!(epochs.iter().map(|epoch| epoch.height).collect::<Vec<_>>(), [7, 8]);
    assert_eq!(epochs[0].hash, hash);
    let after = chainrpc::BlockEpoch { hash, height: 0 };
    notifier.register_block_epoch_ntfn(after.clone()).await.unwrap();
    assert!(server.asked().starts_with("Some("), "{}", server.asked());
    let elsewhere = chainrpc::BlockEpoch { height: 5, ..after };
    refused(notifier.register_block_epoch_ntfn(elsewhere).await, Code::InvalidArgument, "height 0");
    let nowhere = chainrpc::BlockEpoch { height: 5, hash: Vec::new() };
    refused(notifier.register_block_epoch_ntfn(nowhere).await, Code::InvalidArgument, "hash");
}

#[tokio::test]
async fn the_wallet_answers_other_programs_in_lnds_words() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut kit = WalletKitClient::new(server.channel.clone());
    let target = |conf_target| walletrpc::EstimateFeeRequest { conf_target };
    for wrong in [-1, 0, 1] {
        let words = "confirmation target must be greater than 1";
        refused(kit.estimate_fee(target(wrong)).await, Code::InvalidArgument, words);
    }
    let rates = kit.estimate_fee(target(6)).await.unwrap().into_inner();
    assert_eq!((rates.sat_per_kw, rates.min_relay_fee_sat_per_kw), (500, 250));

    let label = |label: &str| walletrpc::LabelTransactionRequest {
        txid: vec![7; 32],
        label: label.to_owned(),
        overwrite: false,
    };
    let named = kit.label_transaction(label("tea")).await.unwrap().into_inner();
    assert_eq!(named.status, "transaction label 'tea' added");
    let empty = kit.label_transaction(label("")).await;
    refused(empty, Code::InvalidArgument, "cannot label transaction with empty label");
    refused(kit.label_transaction(label(&"x".repeat(501))).await, Code::InvalidArgument, "label: 501 bytes");

    let next = |r#type: walletrpc::AddressType, change| walletrpc::AddrRequest {
        r#type: r#type.into(),
        change,
        ..Default::default()
    };
    use walletrpc::AddressType as Type;
    assert_eq!(kit.next_addr(next(Type::Unknown, false)).await.unwrap().into_inner().addr, ADDRESS);
    kit.next_addr(next(Type::WitnessPubkeyHash, true)).await.unwrap();
    assert!(server.asked().contains("change"));
    refused(kit.next_addr(next(Type::NestedWitnessPubkeyHash, false)).await, Code::InvalidArgument, "nested");

    let kinds = |kind: Type| walletrpc::ListAccountsRequest { address_type: kind.into(), ..Default::default() };
    let both = kit.list_accounts(kinds(Type::Unknown)).await.unwrap().into_inner().accounts;
    assert_eq!(both.iter().map(|one| one.derivation_path.as_str()).collect::<Vec<_>>(), ["m/84'/1'/0'", "m/86'/1'/0'"]);
    let taproot = kit.list_accounts(kinds(Type::TaprootPubkey)).await.unwrap().into_inner().accounts;
    assert_eq!((taproot.len(), taproot[0].address_type), (1, Type::TaprootPubkey as i32));
    let nested = kit.list_accounts(kinds(Type::NestedWitnessPubkeyHash)).await.unwrap().into_inner();
    assert!(nested.accounts.is_empty());
    let leases = kit.list_leases(walletrpc::ListLeasesRequest {}).await.unwrap().into_inner().locked_utxos;
    assert_eq!((leases[0].id.len(), leases[0].value, leases[0].expiration), (32, 1_000, 1_700_000_600));
    // The coin comes back as it was told, with both forms of its transaction's id, unless they are two.
    let again = walletrpc::ReleaseOutputRequest { id: vec![1; 32], outpoint: leases[0].outpoint.clone() };
    let mut two = again.clone();
    kit.release_output(again).await.unwrap();
    two.outpoint.as_mut().unwrap().txid_str = "07".repeat(32);
    refused(kit.release_output(two).await, Code::InvalidArgument, "two transactions");
    let year = walletrpc::LeaseOutputRequest {
        id: vec![1; 32],
        outpoint: leases[0].outpoint.clone(),
        expiration_seconds: u64::MAX,
    };
    refused(kit.lease_output(year).await, Code::InvalidArgument, "expiration_seconds");
}

#[tokio::test]
async fn many_are_paid_at_once_and_what_is_wrong_is_named() {
    let server = Server::start(WalletState::ServerActive).await;
    let amounts = |amount| std::collections::HashMap::from([(ADDRESS.to_owned(), amount)]);
    let many = |amount| lnrpc::SendManyRequest { addr_to_amount: amounts(amount), ..Default::default() };
    server.lightning().send_many(many(5_000)).await.unwrap();
    assert!(server.asked().contains("5000 SAT") || server.asked().contains("0.00005"), "{}", server.asked());
    refused(server.lightning().send_many(many(0)).await, Code::InvalidArgument, "above zero");
    refused(
        server.lightning().send_many(lnrpc::SendManyRequest::default()).await,
        Code::InvalidArgument,
        "AddrToAmount: 0 addresses",
    );
    let estimate = lnrpc::EstimateFeeRequest { addr_to_amount: amounts(5_000), ..Default::default() };
    let estimate = server.lightning().estimate_fee(estimate).await.unwrap().into_inner();
    assert_eq!((estimate.fee_sat, estimate.sat_per_vbyte, estimate.inputs.len()), (423, 3, 1));
}

#[tokio::test]
async fn a_macaroon_is_checked_for_what_a_call_needs() {
    let server = Server::start(WalletState::ServerActive).await;
    let check = |path: &str, check_default_perms_from_full_method| lnrpc::CheckMacPermRequest {
        macaroon: vec![2],
        full_method: path.to_owned(),
        check_default_perms_from_full_method,
        ..Default::default()
    };
    let answer = server.lightning().check_macaroon_permissions(check("/lnrpc.Lightning/SendCoins", true)).await;
    assert!(answer.unwrap().into_inner().valid);
    assert!(server.asked().contains("\"onchain\", \"write\""), "{}", server.asked());
    let unknown = server.lightning().check_macaroon_permissions(check("/lnrpc.Lightning/Steal", true)).await;
    refused(unknown, Code::InvalidArgument, "fullMethod");
}

#[tokio::test]
async fn streams_of_the_node_tell_what_happens() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut lightning = server.lightning();
    let peers = lightning.subscribe_peer_events(lnrpc::PeerEventSubscription {}).await.unwrap().into_inner();
    let peers: Vec<_> = peers.map(|event| event.unwrap()).collect().await;
    assert_eq!((peers[0].pub_key.as_str(), peers[0].r#type()), (NODE, lnrpc::peer_event::EventType::PeerOnline));
    let all = lnrpc::GetTransactionsRequest::default();
    let told = lightning.subscribe_transactions(all.clone()).await.unwrap().into_inner();
    let told: Vec<_> = told.map(|told| told.unwrap()).collect().await;
    assert_eq!((told.len(), told[0].label.as_str(), told[0].amount), (1, "tea", 5));
    let confirmed = lnrpc::GetTransactionsRequest { end_height: 100, ..all };
    let told = lightning.subscribe_transactions(confirmed).await.unwrap().into_inner();
    assert_eq!(told.collect::<Vec<_>>().await.len(), 0, "an unconfirmed one was not asked for");
    server.fake.script().payments = vec![payment(PaymentState::InFlight), payment(PaymentState::Initiated)];
    let every = server.router().track_payments(routerrpc::TrackPaymentsRequest::default()).await.unwrap();
    assert_eq!(every.into_inner().collect::<Vec<_>>().await.len(), 2);
    let only_ends = routerrpc::TrackPaymentsRequest { no_inflight_updates: true };
    assert_eq!(
        server.router().track_payments(only_ends).await.unwrap().into_inner().collect::<Vec<_>>().await.len(),
        0
    );
}
