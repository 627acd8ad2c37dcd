//! What other programs ask of a node beside paying and being paid: two daemons with a channel between them.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::{Pair, mempool};
use leyden_client::{cluster::wait_until, demo::NOBODY};
use leyden_proto::{
    lnrpc::{
        ChanInfoRequest, DeleteAllPaymentsRequest, DeletePaymentRequest, EstimateFeeRequest, GetTransactionsRequest,
        GraphTopologySubscription, ListPaymentsRequest, OutPoint, PeerEventSubscription, SendCoinsRequest,
        SendManyRequest, SignMessageRequest, VerifyMessageRequest, peer_event::EventType,
    },
    routerrpc::{ChanStatusAction, UpdateChanStatusRequest},
    walletrpc::{
        AddrRequest, GetTransactionRequest, LabelTransactionRequest, LeaseOutputRequest, ListAccountsRequest,
        ListLeasesRequest, ListUnspentRequest, ReleaseOutputRequest,
    },
};
use tokio::time::timeout;
use tonic::{Code, Status};

/// How long a machine under load may take for a message that comes by itself.
const PATIENCE: Duration = Duration::from_secs(120);

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &str) {
    let status = answer.unwrap_err();
    assert!(status.code() == code && status.message().contains(words), "{status} does not say {words:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coin_that_is_leased_is_nobody_elses_until_the_lease_ends_and_over_a_restart() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let mut pair = Pair::funded().await;
    let coins = pair.alice.client().unwrap().wallet_kit().list_unspent(ListUnspentRequest::default()).await.unwrap();
    let [coin] = &coins.into_inner().utxos[..] else { panic!("one coin") };
    let outpoint = coin.outpoint.clone();
    let ask = |id: u8, seconds| LeaseOutputRequest {
        id: vec![id; 32],
        outpoint: outpoint.clone(),
        expiration_seconds: seconds,
    };
    let release = |id: u8| ReleaseOutputRequest { id: vec![id; 32], outpoint: outpoint.clone() };
    let mut kit = pair.alice.client().unwrap().wallet_kit();
    refused(kit.lease_output(ask(0, 0)).await, Code::InvalidArgument, "id must be 32 random bytes");
    let elsewhere = OutPoint { txid_bytes: vec![9; 32], ..OutPoint::default() };
    let unknown = LeaseOutputRequest { outpoint: Some(elsewhere), ..ask(1, 0) };
    refused(kit.lease_output(unknown).await, Code::NotFound, "unknown output");

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let until = kit.lease_output(ask(1, 3_600)).await.unwrap().into_inner().expiration;
    assert!((now + 3_000..now + 4_200).contains(&until), "{until} at {now}");
    refused(kit.lease_output(ask(2, 0)).await, Code::FailedPrecondition, "output already locked");
    refused(kit.release_output(release(2)).await, Code::FailedPrecondition, "output unlock not allowed");
    assert!(kit.lease_output(ask(1, 7_200)).await.unwrap().into_inner().expiration > until, "its holder may extend it");

    let send = || SendCoinsRequest {
        addr: NOBODY.to_owned(),
        amount: 100_000,
        sat_per_vbyte: 2,
        ..SendCoinsRequest::default()
    };
    let lightning = || pair.alice.client().unwrap().lightning();
    refused(lightning().send_coins(send()).await, Code::FailedPrecondition, "insufficient funds available");
    drop(kit);
    pair.alice.kill();
    pair.alice.start().await.unwrap();
    let mut kit = pair.alice.client().unwrap().wallet_kit();
    let leases = kit.list_leases(ListLeasesRequest {}).await.unwrap().into_inner().locked_utxos;
    assert_eq!((leases.len(), leases[0].id.as_slice(), leases[0].value), (1, &[1; 32][..], coin.amount_sat as u64));
    let lightning = || pair.alice.client().unwrap().lightning();
    refused(lightning().send_coins(send()).await, Code::FailedPrecondition, "insufficient funds available");
    kit.release_output(release(1)).await.unwrap();
    lightning().send_coins(send()).await.unwrap();
    assert!(kit.list_leases(ListLeasesRequest {}).await.unwrap().into_inner().locked_utxos.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_nobody_releases_ends() {
    let pair = Pair::funded().await;
    let mut kit = pair.alice.client().unwrap().wallet_kit();
    let coins = kit.list_unspent(ListUnspentRequest::default()).await.unwrap().into_inner().utxos;
    let outpoint = coins[0].outpoint.clone();
    kit.lease_output(LeaseOutputRequest { id: vec![1; 32], outpoint, expiration_seconds: 1 }).await.unwrap();
    wait_until("the lease to end", || async {
        let mut kit = pair.alice.client()?.wallet_kit();
        let leases = kit.list_leases(ListLeasesRequest {}).await.map_err(|status| pair.alice.call_error(status))?;
        Ok(leases.into_inner().locked_utxos.is_empty())
    })
    .await
    .unwrap();
}

/// How many the wallet has taken.
async fn scripts_for_change(pair: &Pair) -> u32 {
    let mut kit = pair.alice.client().unwrap().wallet_kit();
    let accounts = kit.list_accounts(ListAccountsRequest::default()).await.unwrap().into_inner().accounts;
    let [account, taproot] = &accounts[..] else { panic!("{accounts:?}") };
    assert_eq!((account.name.as_str(), account.derivation_path.as_str()), ("default", "m/84'/1'/0'"));
    assert_eq!((taproot.name.as_str(), taproot.derivation_path.as_str()), ("default", "m/86'/1'/0'"));
    assert!(account.extended_public_key.starts_with("tpub"), "{account:?}");
    account.internal_key_count
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_estimated_sent_told_and_named() {
    let pair = Pair::funded().await;
    let client = pair.alice.client().unwrap();
    let mut lightning = client.lightning();
    let request = GetTransactionsRequest::default();
    let mut told = lightning.subscribe_transactions(request).await.unwrap().into_inner();

    let request = AddrRequest { change: true, ..AddrRequest::default() };
    let change = client.wallet_kit().next_addr(request).await.unwrap().into_inner().addr;
    let before = scripts_for_change(&pair).await;
    let amounts = std::collections::HashMap::from([(NOBODY.to_owned(), 50_000), (change.clone(), 60_000)]);
    let estimate = EstimateFeeRequest { addr_to_amount: amounts.clone(), target_conf: 6, ..Default::default() };
    let first = lightning.estimate_fee(estimate.clone()).await.unwrap().into_inner();
    let again = lightning.estimate_fee(estimate).await.unwrap().into_inner();
    assert!(first.fee_sat > 0 && first.sat_per_vbyte > 0 && first.inputs.len() == 1, "{first:?}");
    assert_eq!(first.fee_sat, again.fee_sat);
    assert_eq!(scripts_for_change(&pair).await, before, "estimates use up no scripts");

    let send =
        SendManyRequest { addr_to_amount: amounts, target_conf: 6, label: "rent".to_owned(), ..Default::default() };
    let txid = lightning.send_many(send).await.unwrap().into_inner().txid;
    let seen = timeout(PATIENCE, told.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((seen.tx_hash.as_str(), seen.num_confirmations), (txid.as_str(), 0));
    assert_eq!(seen.total_fees, first.fee_sat);
    pair.mine(1).await;
    let found = timeout(PATIENCE, told.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((found.tx_hash.as_str(), found.num_confirmations, found.label.as_str()), (txid.as_str(), 1, "rent"));

    let mut kit = client.wallet_kit();
    let by_id = kit.get_transaction(GetTransactionRequest { txid: txid.clone() }).await.unwrap().into_inner();
    assert_eq!((by_id.label.as_str(), by_id.output_details.len()), ("rent", 3));
    refused(kit.get_transaction(GetTransactionRequest { txid: "07".repeat(32) }).await, Code::NotFound, "none of");
    let mut bytes = hex::decode(&txid).unwrap();
    bytes.reverse();
    let label =
        |label: &str, overwrite| LabelTransactionRequest { txid: bytes.clone(), label: label.to_owned(), overwrite };
    refused(kit.label_transaction(label("loan", false)).await, Code::AlreadyExists, "transaction already labelled");
    kit.label_transaction(label("loan", true)).await.unwrap();
    let by_id = kit.get_transaction(GetTransactionRequest { txid }).await.unwrap().into_inner();
    assert_eq!(by_id.label, "loan");
    assert!(mempool(&pair.alice).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_signed_and_nodes_are_told_of() {
    let mut pair = Pair::with_channel(1_000_000, 400_000).await;
    let (alice, bob) = (pair.alice.client().unwrap(), pair.bob.client().unwrap());
    let msg = b"I hold this key".to_vec();
    let sign = SignMessageRequest { msg: msg.clone(), single_hash: false };
    let signature = alice.lightning().sign_message(sign).await.unwrap().into_inner().signature;
    let verify = |msg: Vec<u8>| VerifyMessageRequest { msg, signature: signature.clone() };
    // The channel's announcement may still be under way.
    let id = pair.alice.node_id().await.unwrap();
    wait_until("Bob to know Alice", || async {
        let answer = bob.lightning().verify_message(verify(msg.clone())).await;
        let answer = answer.map_err(|status| pair.bob.call_error(status))?.into_inner();
        assert_eq!(answer.pubkey, id);
        Ok(answer.valid)
    })
    .await
    .unwrap();
    let other = bob.lightning().verify_message(verify(b"another".to_vec())).await.unwrap().into_inner();
    assert!(!other.valid && other.pubkey != id);
    refused(bob.lightning().verify_message(verify(Vec::new())).await, Code::InvalidArgument, "need a message");

    let mut events = alice.lightning().subscribe_peer_events(PeerEventSubscription {}).await.unwrap().into_inner();
    let bobs_id = pair.bob.node_id().await.unwrap();
    pair.bob.kill();
    let gone = timeout(PATIENCE, events.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((gone.pub_key.as_str(), gone.r#type()), (bobs_id.as_str(), EventType::PeerOffline));
    pair.bob.start().await.unwrap();
    let back = timeout(PATIENCE, events.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((back.pub_key.as_str(), back.r#type()), (bobs_id.as_str(), EventType::PeerOnline));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_turned_off_for_others_and_its_terms_are_told() {
    let pair = Pair::with_channel(1_000_000, 400_000).await;
    let (alice, bob) = (pair.alice.client().unwrap(), pair.bob.client().unwrap());
    let channel = pair.alice.only_channel().await.unwrap();
    let info = || ChanInfoRequest { chan_id: channel.chan_id, ..ChanInfoRequest::default() };
    wait_until("both to know all terms", || async {
        let seen = bob.lightning().get_chan_info(info()).await.map_err(|status| pair.bob.call_error(status))?;
        let seen = seen.into_inner();
        Ok(seen.node1_policy.is_some() && seen.node2_policy.is_some())
    })
    .await
    .unwrap();
    let mut told = bob.lightning().subscribe_channel_graph(GraphTopologySubscription {}).await.unwrap().into_inner();
    let point = || {
        let (txid, index) = channel.channel_point.split_once(':').unwrap();
        leyden_proto::lnrpc::ChannelPoint {
            funding_txid: Some(leyden_proto::lnrpc::channel_point::FundingTxid::FundingTxidStr(txid.to_owned())),
            output_index: index.parse().unwrap(),
        }
    };
    let ask = |action: ChanStatusAction| UpdateChanStatusRequest { chan_point: Some(point()), action: action.into() };
    let alices_id = pair.alice.node_id().await.unwrap();
    for (action, is_off) in [(ChanStatusAction::Disable, true), (ChanStatusAction::Enable, false)] {
        alice.router().update_chan_status(ask(action)).await.unwrap();
        let terms = loop {
            let update = timeout(PATIENCE, told.message()).await.unwrap().unwrap().unwrap();
            let by_alice = update.channel_updates.into_iter().find(|update| update.advertising_node == alices_id);
            if let Some(update) = by_alice {
                break update;
            }
        };
        assert_eq!((terms.chan_id, terms.routing_policy.unwrap().disabled), (channel.chan_id, is_off));
        assert_eq!(terms.chan_point.unwrap(), point_bytes(&point()));
    }
    let mut other = ask(ChanStatusAction::Disable);
    other.chan_point.as_mut().unwrap().output_index += 1;
    refused(alice.router().update_chan_status(other).await, Code::NotFound, "channel not found");
}

/// The same with the id in bytes, as updates have it.
fn point_bytes(point: &leyden_proto::lnrpc::ChannelPoint) -> leyden_proto::lnrpc::ChannelPoint {
    use leyden_proto::lnrpc::channel_point::FundingTxid;
    let Some(FundingTxid::FundingTxidStr(text)) = &point.funding_txid else { panic!("{point:?}") };
    let mut bytes = hex::decode(text).unwrap();
    bytes.reverse();
    leyden_proto::lnrpc::ChannelPoint { funding_txid: Some(FundingTxid::FundingTxidBytes(bytes)), ..point.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_are_forgotten_and_their_numbers_are_not_given_again() {
    let mut pair = Pair::with_channel(1_000_000, 400_000).await;
    let mut hashes = Vec::new();
    for _ in 0..3 {
        let request = pair.bob.invoice(1_000, "tea").await.unwrap();
        hashes.push(pair.alice.pay(request).await.unwrap().payment_hash);
    }
    let list = || async {
        let request = ListPaymentsRequest { include_incomplete: true, ..ListPaymentsRequest::default() };
        pair.alice.client().unwrap().lightning().list_payments(request).await.unwrap().into_inner().payments
    };
    let delete =
        |hash: &str| DeletePaymentRequest { payment_hash: hex::decode(hash).unwrap(), failed_htlcs_only: false };
    let lightning = || pair.alice.client().unwrap().lightning();
    let status = lightning().delete_payment(delete(&hashes[2])).await.unwrap().into_inner().status;
    assert_eq!(status, "1 payment deleted, failed_htlcs_only=false");
    refused(lightning().delete_payment(delete(&hashes[2])).await, Code::NotFound, "payment isn't initiated");
    assert_eq!(list().await.len(), 2);
    let all = |all_payments, failed_payments_only| DeleteAllPaymentsRequest {
        all_payments,
        failed_payments_only,
        ..DeleteAllPaymentsRequest::default()
    };
    refused(lightning().delete_all_payments(all(false, false)).await, Code::InvalidArgument, "all_payments");
    lightning().delete_all_payments(all(false, true)).await.unwrap();
    assert_eq!(list().await.len(), 2, "none of them failed");
    let status = lightning().delete_all_payments(all(true, false)).await.unwrap().into_inner().status;
    assert_eq!(status, "2 payments deleted, failed_htlcs_only=false");
    assert!(list().await.is_empty());

    pair.alice.kill();
    pair.alice.start().await.unwrap();
    pair.wait_for_channels(1).await;
    let request = pair.bob.invoice(1_000, "tea").await.unwrap();
    let paid = pair.alice.pay(request).await.unwrap();
    assert_eq!(paid.payment_index, 4, "three were forgotten");
}
