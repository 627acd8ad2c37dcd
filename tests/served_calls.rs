//! Calls of LND's that other programs make on a running node: what is waited for in the chain, messages that the node only carries,
//! what it says of itself, what is deleted, what payments have taught.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use std::{process::Command, time::Duration};

use bitcoin::{Address, Network};
use harness::{Folder, Pair, refused};
use leyden_client::{
    client::Client,
    cluster::{DaemonProcess, wait_until},
    demo::NOBODY,
};
use leyden_proto::{
    chainrpc::{ConfEvent, ConfRequest, Outpoint, SpendEvent, SpendRequest, conf_event, spend_event},
    invoicesrpc::CancelInvoiceMsg,
    leyden::ConnectChainPeerRequest,
    lnrpc::{
        CustomMessage, DelCanceledInvoiceReq, ForwardingHistoryRequest, GetInfoRequest, Invoice, ListAliasesRequest,
        ListChannelsRequest, ListInvoiceRequest, ListPeersRequest, NodeInfoRequest, PaymentHash,
        SendCustomMessageRequest, SubscribeCustomMessagesRequest,
    },
    peersrpc::{NodeAnnouncementUpdateRequest, NodeAnnouncementUpdateResponse, UpdateAddressAction},
    routerrpc::{
        DeleteForwardingHistoryRequest, GetMissionControlConfigRequest, QueryProbabilityRequest,
        SetMissionControlConfigRequest, delete_forwarding_history_request::TimeSpec,
        mission_control_config::EstimatorConfig,
    },
    walletrpc::ListUnspentRequest,
};
use prost::Message;
use tokio::time::timeout;
use tonic::{Code, Streaming};

/// Somebody who has no channel.
const STRANGER: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
/// How long a machine under load may take for a message that comes by itself.
const PATIENCE: Duration = Duration::from_secs(120);

async fn call<A: Message + Default>(client: &Client, path: &str, request: &impl Message) -> Result<A, tonic::Status> {
    let answer = client.call(path, request.encode_to_vec()).await?.message().await?.unwrap();
    Ok(A::decode(answer.as_slice()).unwrap())
}

async fn next<A: Message + Default>(stream: &mut Streaming<Vec<u8>>) -> Option<A> {
    let message = timeout(PATIENCE, stream.message()).await.expect("nothing is told").unwrap()?;
    Some(A::decode(message.as_slice()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_chain_is_told_and_that_a_reorganisation_has_taken_it_away() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let folder = Folder::new();
    let mut alice = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
    let mut bob = DaemonProcess::new(folder.path(), "bob", &[]).unwrap();
    alice.start().await.unwrap();
    bob.start().await.unwrap();
    alice.mine(1, Some(NOBODY)).await.unwrap();
    let script = NOBODY.parse::<Address<_>>().unwrap().require_network(Network::Regtest).unwrap().script_pubkey();
    let wanted = ConfRequest {
        script: script.to_bytes(),
        num_confs: 2,
        height_hint: 1,
        include_block: true,
        ..ConfRequest::default()
    };
    let path = "/chainrpc.ChainNotifier/RegisterConfirmationsNtfn";
    let mut told = alice.client().unwrap().call(path, wanted.encode_to_vec()).await.unwrap();
    // It is there already, and has to be deeper.
    alice.mine(1, None).await.unwrap();
    let Some(conf_event::Event::Conf(found)) = next::<ConfEvent>(&mut told).await.unwrap().event else { panic!() };
    assert_eq!((found.block_height, found.tx_index), (1, 0));
    assert!(found.raw_block.ends_with(&found.raw_tx), "the only transaction of its block");

    bob.mine(3, None).await.unwrap();
    let address = bob.chain_address().unwrap();
    alice.client().unwrap().chain().connect_peer(ConnectChainPeerRequest { address }).await.unwrap();
    let gone = next::<ConfEvent>(&mut told).await.unwrap().event;
    assert!(matches!(gone, Some(conf_event::Event::Reorg(_))), "{gone:?}");
    alice.wait_for_height(3).await.unwrap();
    alice.mine(2, Some(NOBODY)).await.unwrap();
    let Some(conf_event::Event::Conf(found)) = next::<ConfEvent>(&mut told).await.unwrap().event else { panic!() };
    assert_eq!(found.block_height, 4, "it is there again, at another place");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_spends_an_output_is_told_to_who_asks_before_and_after() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let pair = Pair::funded().await;
    let client = pair.alice.client().unwrap();
    let coins = client.wallet_kit().list_unspent(ListUnspentRequest::default()).await.unwrap().into_inner().utxos;
    let coin = coins[0].outpoint.clone().unwrap();
    let script = hex::decode(&coins[0].pk_script).unwrap();
    let outpoint = Some(Outpoint { hash: coin.txid_bytes.clone(), index: coin.output_index });
    let wanted = SpendRequest { outpoint, script, height_hint: 1 };
    let path = "/chainrpc.ChainNotifier/RegisterSpendNtfn";
    let mut before = client.call(path, wanted.encode_to_vec()).await.unwrap();
    let txid = harness::send(&pair.alice, NOBODY, 50_000).await;
    pair.mine(1).await;
    let mut after = client.call(path, wanted.encode_to_vec()).await.unwrap();
    for told in [&mut before, &mut after] {
        let Some(spend_event::Event::Spend(found)) = next::<SpendEvent>(told).await.unwrap().event else { panic!() };
        let spender: bitcoin::Transaction = bitcoin::consensus::deserialize(&found.raw_spending_tx).unwrap();
        assert_eq!(spender.compute_txid().to_string(), txid);
        let spent = found.spending_outpoint.unwrap();
        assert_eq!((spent.hash, spent.index), (coin.txid_bytes.clone(), coin.output_index));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_programs_are_carried_and_an_even_one_ends_no_connection_that_somebody_listens_on() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let pair = Pair::funded().await;
    pair.alice.connect(&pair.bob).await.unwrap();
    let (alice, bob) = (pair.alice.node_id().await.unwrap(), pair.bob.node_id().await.unwrap());
    let key = |text: &str| hex::decode(text).unwrap();
    let path = "/lnrpc.Lightning/SubscribeCustomMessages";
    let listen = || pair.bob.client().unwrap().call(path, SubscribeCustomMessagesRequest {}.encode_to_vec());
    let mut heard = listen().await.unwrap();
    let send = |kind, data: Vec<u8>| {
        let request = SendCustomMessageRequest { peer: key(&bob), r#type: kind, data };
        let mut lightning = pair.alice.client().unwrap().lightning();
        async move { lightning.send_custom_message(request).await }
    };
    // The subscription is there once something comes through it.
    let hello = async {
        loop {
            send(32_769, b"hello".to_vec()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let first = tokio::select! {
        first = next::<CustomMessage>(&mut heard) => first.unwrap(),
        () = hello => unreachable!(),
    };
    assert_eq!(first, CustomMessage { peer: key(&alice), r#type: 32_769, data: b"hello".to_vec() });
    let large = vec![7; 65_533];
    send(32_768, large.clone()).await.unwrap();
    let even = loop {
        let message = next::<CustomMessage>(&mut heard).await.unwrap();
        if message.r#type == 32_768 {
            break message;
        }
    };
    assert_eq!(even.data, large);
    // Nobody listens: an odd one is passed over, an even one ends the connection (BOLT 1).
    drop(heard);
    let is_connected = || async {
        let peers = pair.alice.client().unwrap().lightning().list_peers(ListPeersRequest::default()).await.unwrap();
        !peers.into_inner().peers.is_empty()
    };
    send(32_771, b"nobody hears this".to_vec()).await.unwrap();
    assert!(is_connected().await);
    wait_until("an even message to end the connection", || async {
        // It may take a moment until nobody is seen to listen.
        let _ = send(32_770, Vec::new()).await;
        Ok(!is_connected().await)
    })
    .await
    .unwrap();
    refused(send(32_769, Vec::new()).await, Code::NotFound, "peer is not connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn alias_color_and_addresses_change_and_what_no_setting_says_holds_after_a_restart() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let mut pair = Pair::with_channel(1_000_000, 500_000).await;
    let path = "/peersrpc.Peers/UpdateNodeAnnouncement";
    let request = NodeAnnouncementUpdateRequest {
        alias: "carol".to_owned(),
        color: "#c42a81".to_owned(),
        address_updates: vec![UpdateAddressAction { action: 0, address: "192.0.2.1:9735".to_owned() }],
        ..Default::default()
    };
    let alice = pair.alice.node_id().await.unwrap();
    let client = pair.alice.client().unwrap();
    let told: NodeAnnouncementUpdateResponse = call(client, path, &request).await.unwrap();
    assert_eq!(told.ops.len(), 3, "{told:?}");
    let info = client.lightning().get_info(GetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.alias.as_str(), info.color.as_str()), ("carol", "#c42a81"));
    assert!(info.uris.contains(&format!("{alice}@192.0.2.1:9735")), "{:?}", info.uris);
    // The network hears of it once there is a channel that it knows.
    pair.mine(6).await;
    let bob = pair.bob.client().unwrap();
    let request = || NodeInfoRequest { pub_key: alice.clone(), ..NodeInfoRequest::default() };
    wait_until("bob to hear of carol", || async {
        let node = bob.lightning().get_node_info(request()).await;
        Ok(node.is_ok_and(|node| node.into_inner().node.is_some_and(|node| node.alias == "carol")))
    })
    .await
    .unwrap();
    let request = ListChannelsRequest { peer_alias_lookup: true, ..Default::default() };
    let listed = bob.lightning().list_channels(request).await.unwrap().into_inner();
    assert_eq!(listed.channels[0].peer_alias, "carol");
    let aliases = client.lightning().list_aliases(ListAliasesRequest {}).await.unwrap().into_inner().alias_maps;
    assert_eq!((aliases.len(), aliases[0].aliases.len()), (1, 1));
    pair.alice.terminate();
    pair.alice.start().await.unwrap();
    let info = pair.alice.client().unwrap().lightning().get_info(GetInfoRequest {}).await.unwrap().into_inner();
    // The alias is a setting of this node's.
    assert_eq!((info.alias.as_str(), info.color.as_str()), ("alice", "#c42a81"));
    assert!(info.uris.contains(&format!("{alice}@192.0.2.1:9735")), "{:?}", info.uris);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_forwards_and_canceled_invoices_are_forgotten_and_numbers_not_given_again() {
    let folder = Folder::new();
    let mut alice = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
    alice.start().await.unwrap();
    alice.terminate();
    let mut leydend = Command::new(env!("CARGO_BIN_EXE_leydend"));
    // One a minute until now.
    let past = ["bench", "past", "--count", "1", "--forwards", "100", "--data-dir"];
    assert!(leydend.args(past).arg(alice.data_dir()).status().unwrap().success());
    alice.start().await.unwrap();
    let client = alice.client().unwrap().clone();
    let delete = |ago: &str| {
        let time_spec = Some(TimeSpec::DeleteBeforeDuration(ago.to_owned()));
        let mut router = client.router();
        async move { router.delete_forwarding_history(DeleteForwardingHistoryRequest { time_spec }).await }
    };
    refused(delete("-30m").await, Code::InvalidArgument, "at least 1h0m0s in the past");
    let deleted = delete("-1h").await.unwrap().into_inner();
    assert!((35..=41).contains(&deleted.events_deleted), "{deleted:?}");
    assert_eq!(deleted.total_fee_msat, deleted.events_deleted as i64);
    assert_eq!(delete("-1h").await.unwrap().into_inner().events_deleted, 0);
    let history = || ForwardingHistoryRequest { num_max_events: 1_000, start_time: 1, ..Default::default() };
    let left = client.lightning().forwarding_history(history()).await.unwrap().into_inner().forwarding_events.len();
    assert_eq!(left as u64, 100 - deleted.events_deleted);

    let mut hashes = Vec::new();
    for value in [1_000, 2_000] {
        let invoice = Invoice { value, ..Invoice::default() };
        hashes.push(client.lightning().add_invoice(invoice).await.unwrap().into_inner().r_hash);
    }
    let named = |hash: &[u8]| DelCanceledInvoiceReq { invoice_hash: hex::encode(hash) };
    let open = client.lightning().delete_canceled_invoice(named(&hashes[1])).await;
    refused(open, Code::FailedPrecondition, "invoice not canceled");
    let unknown = client.lightning().delete_canceled_invoice(named(&[9; 32])).await;
    refused(unknown, Code::NotFound, "unable to locate invoice");
    client.invoices().cancel_invoice(CancelInvoiceMsg { payment_hash: hashes[1].clone() }).await.unwrap();
    client.lightning().delete_canceled_invoice(named(&hashes[1])).await.unwrap();
    let look = PaymentHash { r_hash: hashes[1].clone(), ..PaymentHash::default() };
    refused(client.lightning().lookup_invoice(look).await, Code::NotFound, "unable to locate invoice");
    alice.kill();
    alice.start().await.unwrap();
    let client = alice.client().unwrap();
    let list = client.lightning().list_invoices(ListInvoiceRequest::default()).await.unwrap().into_inner().invoices;
    assert_eq!(list.iter().map(|invoice| invoice.add_index).collect::<Vec<_>>(), [1]);
    let third = client.lightning().add_invoice(Invoice { value: 3_000, ..Invoice::default() }).await.unwrap();
    assert_eq!(third.into_inner().add_index, 3, "the number of the forgotten one is not given again");
    let left = client.lightning().forwarding_history(history()).await.unwrap().into_inner().forwarding_events.len();
    assert_eq!(left as u64, 100 - deleted.events_deleted, "after a restart too");
}

#[tokio::test(flavor = "multi_thread")]
async fn chances_of_pairs_are_told_and_how_fast_lessons_fade_is_set() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let pair = Pair::with_channel(1_000_000, 500_000).await;
    let key = |text: String| hex::decode(text).unwrap();
    let (alice, bob) = (key(pair.alice.node_id().await.unwrap()), key(pair.bob.node_id().await.unwrap()));
    let mut router = pair.alice.client().unwrap().router();
    let mut chance = async |from: &[u8], to: &[u8], sat: i64| {
        let question =
            QueryProbabilityRequest { from_node: from.to_vec(), to_node: to.to_vec(), amt_msat: sat * 1_000 };
        router.query_probability(question).await.unwrap().into_inner().probability
    };
    assert_eq!((chance(&alice, &bob, 100_000).await, chance(&alice, &bob, 900_000).await), (1.0, 0.0));
    assert_eq!(chance(&bob, &key(STRANGER.to_owned()), 1).await, 0.0);
    let mut router = pair.alice.client().unwrap().router();
    let mut config = router
        .get_mission_control_config(GetMissionControlConfigRequest {})
        .await
        .unwrap()
        .into_inner()
        .config
        .unwrap();
    let Some(EstimatorConfig::Bimodal(bimodal)) = &mut config.estimator_config else { panic!("{config:?}") };
    bimodal.decay_time = 100_000;
    router.set_mission_control_config(SetMissionControlConfigRequest { config: Some(config) }).await.unwrap();
    let now = router.get_mission_control_config(GetMissionControlConfigRequest {}).await.unwrap().into_inner().config;
    let Some(EstimatorConfig::Bimodal(bimodal)) = now.unwrap().estimator_config else { panic!() };
    assert_eq!(bimodal.decay_time, 100_000);
}
