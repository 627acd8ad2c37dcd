//! A channel from its opening to its end, of both kinds, closed by either side; and everything that can be asked wrongly
//! on the way.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use leyden_client::{
    cluster::{DaemonProcess, PATIENCE, wait_until},
    demo::{
        NOBODY,
        calls::{settled_balance, succeeded},
    },
};
use leyden_proto::lnrpc::{
    Channel, ChannelBalanceRequest, ChannelCloseSummary, ChannelEventSubscription, ChannelPoint, CloseChannelRequest,
    ClosedChannelsRequest, CommitmentType, ConnectPeerRequest, DisconnectPeerRequest, Invoice, LightningAddress,
    OpenChannelRequest, PayReqString, PaymentFailureReason, PaymentHash, PendingChannelsRequest,
    PendingChannelsResponse, SendCoinsRequest, channel_close_summary::ClosureType, channel_event_update::UpdateType,
    channel_point::FundingTxid, close_status_update::Update as CloseUpdate, open_status_update::Update as OpenUpdate,
    payment::PaymentStatus,
};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::Code;

use harness::{DEEP, Pair, held, open_request, refused};

const CAPACITY: i64 = 2_000_000;
const PUSHED: i64 = 300_000;

fn point(text: &str) -> Option<ChannelPoint> {
    let (txid, index) = text.split_once(':').unwrap();
    let funding_txid = Some(FundingTxid::FundingTxidStr(txid.to_owned()));
    Some(ChannelPoint { funding_txid, output_index: index.parse().unwrap() })
}

fn close_request(channel_point: &str) -> CloseChannelRequest {
    CloseChannelRequest { channel_point: point(channel_point), sat_per_vbyte: 3, ..CloseChannelRequest::default() }
}

async fn closed(node: &DaemonProcess) -> Vec<ChannelCloseSummary> {
    let request = ClosedChannelsRequest::default();
    node.client().unwrap().lightning().closed_channels(request).await.unwrap().into_inner().channels
}

/// A node hears of a block on its own time.
async fn wait_until_nothing_is_pending(node: &DaemonProcess) {
    let what = format!("nothing to be pending at {}", node.name());
    wait_until(&what, || async { Ok(pending(node).await == PendingChannelsResponse::default()) }).await.unwrap();
}

async fn pending(node: &DaemonProcess) -> PendingChannelsResponse {
    let request = PendingChannelsRequest::default();
    node.client().unwrap().lightning().pending_channels(request).await.unwrap().into_inner()
}

fn display_txid(bytes: &[u8]) -> String {
    hex::encode(bytes.iter().rev().copied().collect::<Vec<u8>>())
}

/// Opens, pays both ways, closes; every figure is checked at each step.
async fn live_a_life(pair: &Pair, kind: CommitmentType, closer: &DaemonProcess) {
    let Pair { alice, bob, .. } = pair;
    let (alice_had, bob_had) = (alice.wallet_balance().await.unwrap(), bob.wallet_balance().await.unwrap());
    let closed_before = closed(alice).await.len();

    // The stream of the opening: broadcast, then usable.
    let close_address = alice.new_address().await.unwrap();
    let request = OpenChannelRequest {
        commitment_type: kind.into(),
        close_address: close_address.clone(),
        ..open_request(bob, CAPACITY, PUSHED).await
    };
    let mut opening = alice.client().unwrap().lightning().open_channel(request).await.unwrap().into_inner();
    let first = opening.next().await.unwrap().unwrap().update.unwrap();
    let OpenUpdate::ChanPending(funding) = first else { panic!("{first:?}") };
    for node in [alice, bob] {
        wait_until("the channel to be pending", || async { Ok(pending(node).await.pending_open_channels.len() == 1) })
            .await
            .unwrap();
        assert!(node.channels().await.unwrap().is_empty());
    }
    pair.mine(DEEP).await;
    let second = opening.next().await.unwrap().unwrap().update.unwrap();
    assert!(matches!(second, OpenUpdate::ChanOpen(_)), "{second:?}");
    assert!(opening.next().await.is_none(), "the stream ends once the channel is open");
    pair.wait_for_channels(1).await;

    let (a, b) = pair.settled_channel().await;
    let channel_point = a.channel_point.clone();
    assert_eq!(channel_point, format!("{}:{}", display_txid(&funding.txid), funding.output_index));
    assert_eq!(b.channel_point, channel_point);
    assert_eq!((a.initiator, b.initiator), (true, false));
    for channel in [&a, &b] {
        assert_eq!(channel.commitment_type(), kind);
        assert_eq!(channel.capacity, CAPACITY);
        assert_eq!(channel.push_amount_sat, u64::try_from(PUSHED).unwrap());
        assert_eq!(delays(channel), (1000, 1000), "the paper's delay on both sides");
    }
    check(&a, &b, PUSHED);
    assert_eq!((&a.close_address, &b.close_address), (&close_address, &String::new()));

    // Payments both ways.
    let payment = alice.pay(bob.invoice(50_000, "one").await.unwrap()).await.unwrap();
    assert!(succeeded(&payment), "{payment:?}");
    assert_eq!((payment.value_sat, payment.fee_sat), (50_000, 0));
    let payment = bob.pay(alice.invoice(20_000, "two").await.unwrap()).await.unwrap();
    assert!(succeeded(&payment), "{payment:?}");
    let (a, b) = pair.settled_channel().await;
    let bobs = PUSHED + 50_000 - 20_000;
    check(&a, &b, bobs);
    for (node, local) in [(alice, a.local_balance), (bob, bobs)] {
        let balance = node.client().unwrap().lightning().channel_balance(ChannelBalanceRequest {}).await.unwrap();
        assert_eq!(balance.into_inner().local_balance.unwrap().sat, u64::try_from(local).unwrap());
    }

    // The close's stream: broadcast, then confirmed.
    let request = close_request(&channel_point);
    let mut closing = closer.client().unwrap().lightning().close_channel(request).await.unwrap().into_inner();
    let first = closing.next().await.unwrap().unwrap().update.unwrap();
    let CloseUpdate::ClosePending(pending_close) = first else { panic!("{first:?}") };
    let closing_txid = display_txid(&pending_close.txid);
    for node in [alice, bob] {
        wait_until("the channel to wait for its close", || async {
            let pending = pending(node).await;
            Ok(pending.waiting_close_channels.len() == 1 && node.channels().await?.is_empty())
        })
        .await
        .unwrap();
        assert_eq!(closed(node).await.len(), closed_before, "a close counts once it is confirmed");
    }
    harness::wait_for_transaction(alice, &closing_txid).await;
    pair.mine(1).await;
    let second = timeout(PATIENCE, closing.next()).await.expect("the close is told");
    let second = second.unwrap().unwrap().update.unwrap();
    let CloseUpdate::ChanClose(update) = second else { panic!("{second:?}") };
    assert_eq!(display_txid(&update.closing_txid), closing_txid);
    assert!(update.success);
    assert!(closing.next().await.is_none(), "the stream ends once the channel is closed");
    for node in [alice, bob] {
        wait_until_nothing_is_pending(node).await;
    }

    // Everybody has what is theirs. Alice opened, so she paid both fees.
    let list = alice.transactions().await.unwrap();
    let fee = |txid: &str| list.iter().find(|transaction| transaction.tx_hash == txid).unwrap().total_fees;
    let fees = fee(&display_txid(&funding.txid)) + fee(&closing_txid);
    assert!(fees > 0);
    let alices = alice_had - bobs - fees;
    assert_eq!(settled_balance(alice, alices).await.unwrap(), alices);
    assert_eq!(settled_balance(bob, bob_had + bobs).await.unwrap(), bob_had + bobs);

    // And a record of it for good.
    for (node, settled, short_channel_id) in
        [(alice, CAPACITY - bobs - fee(&closing_txid), a.chan_id), (bob, bobs, b.chan_id)]
    {
        wait_until("the record of the close", || async { Ok(closed(node).await.len() == closed_before + 1) })
            .await
            .unwrap();
        let records = closed(node).await;
        let record = records.iter().find(|record| record.channel_point == channel_point).unwrap();
        assert_eq!(record.close_type(), ClosureType::CooperativeClose);
        assert_eq!(record.closing_tx_hash, closing_txid);
        assert_eq!(record.settled_balance, settled, "{}", node.name());
        assert_eq!((record.capacity, record.time_locked_balance), (CAPACITY, 0));
        assert_eq!(record.chan_id, short_channel_id);
        assert_eq!(record.close_height, harness::height(node).await);
    }
    pair.mine(DEEP).await;
    for node in [alice, bob] {
        assert_eq!(closed(node).await.len(), closed_before + 1);
        wait_until_nothing_is_pending(node).await;
    }
}

fn delays(channel: &Channel) -> (u32, u32) {
    let delay = |constraints: &Option<leyden_proto::lnrpc::ChannelConstraints>| constraints.as_ref().unwrap().csv_delay;
    (delay(&channel.local_constraints), delay(&channel.remote_constraints))
}

fn check(a: &Channel, b: &Channel, bobs: i64) {
    assert_eq!(b.local_balance, bobs);
    assert_eq!(a.local_balance + held(a), CAPACITY - bobs);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_kinds_of_channels_are_opened_paid_and_closed_by_either_side() {
    let pair = Pair::funded().await;
    pair.alice.connect(&pair.bob).await.unwrap();
    live_a_life(&pair, CommitmentType::Anchors, &pair.alice).await;
    live_a_life(&pair, CommitmentType::StaticRemoteKey, &pair.bob).await;
    live_a_life(&pair, CommitmentType::StaticRemoteKey, &pair.alice).await;
    live_a_life(&pair, CommitmentType::Anchors, &pair.bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_hears_of_a_channels_whole_life() {
    let pair = Pair::funded().await;
    let Pair { alice, bob, .. } = &pair;
    let subscription = ChannelEventSubscription::default();
    let events = bob.client().unwrap().lightning().subscribe_channel_events(subscription).await.unwrap();
    let mut events = events.into_inner();
    alice.connect(bob).await.unwrap();
    alice.open_channel(bob, CAPACITY, PUSHED).await.unwrap();
    pair.mine(DEEP).await;
    pair.wait_for_channels(1).await;
    let channel_point = alice.only_channel().await.unwrap().channel_point;
    alice.close_channel(&channel_point, false).await.unwrap();
    wait_until("the close to reach Bob", || async { Ok(bob.channels().await?.is_empty()) }).await.unwrap();
    pair.mine(DEEP).await;
    let mut heard = Vec::new();
    while !heard.contains(&UpdateType::FullyResolvedChannel) {
        let event = timeout(PATIENCE, events.next()).await;
        let event = event.unwrap_or_else(|_| panic!("nothing more after {heard:?}")).unwrap().unwrap();
        heard.push(event.r#type());
    }
    let expected = [
        UpdateType::PendingOpenChannel,
        UpdateType::OpenChannel,
        UpdateType::ActiveChannel,
        UpdateType::InactiveChannel,
        UpdateType::ClosedChannel,
        UpdateType::FullyResolvedChannel,
    ];
    heard.dedup();
    assert_eq!(heard, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn openings_that_cannot_be_are_refused_and_cost_nothing() {
    let pair = Pair::funded().await;
    let Pair { alice, bob, .. } = &pair;
    let had = alice.wallet_balance().await.unwrap();
    let good = open_request(bob, CAPACITY, PUSHED).await;
    let mut lightning = alice.client().unwrap().lightning();
    refused(lightning.open_channel_sync(good.clone()).await, Code::FailedPrecondition, "leyden connect");
    let nobody = OpenChannelRequest { node_pubkey: hex::decode(NODE).unwrap(), ..good.clone() };
    refused(lightning.open_channel_sync(nobody).await, Code::FailedPrecondition, "is not online");

    alice.connect(bob).await.unwrap();
    let wrong = [
        (OpenChannelRequest { node_pubkey: vec![2; 32], ..good.clone() }, "node_pubkey"),
        (OpenChannelRequest { node_pubkey: Vec::new(), ..good.clone() }, "node_pubkey"),
        (OpenChannelRequest { local_funding_amount: 0, push_sat: 0, ..good.clone() }, "local_funding_amount"),
        (OpenChannelRequest { local_funding_amount: -5, ..good.clone() }, "local_funding_amount"),
        (OpenChannelRequest { local_funding_amount: i64::MAX, ..good.clone() }, "local_funding_amount"),
        (OpenChannelRequest { push_sat: CAPACITY, ..good.clone() }, "push_sat"),
        (OpenChannelRequest { push_sat: -1, ..good.clone() }, "push_sat"),
        (OpenChannelRequest { remote_csv_delay: 70_000, ..good.clone() }, "remote_csv_delay"),
        (OpenChannelRequest { commitment_type: CommitmentType::Legacy.into(), ..good.clone() }, "commitment_type"),
        (OpenChannelRequest { commitment_type: 77, ..good.clone() }, "commitment_type"),
        (OpenChannelRequest { close_address: "nonsense".into(), ..good.clone() }, "close_address"),
        (OpenChannelRequest { sat_per_vbyte: 2, target_conf: 3, ..good.clone() }, "target_conf"),
    ];
    for (request, words) in wrong {
        refused(lightning.open_channel_sync(request).await, Code::InvalidArgument, words);
    }
    let refusals = [
        // Smaller than the fees and reserves that it needs.
        (OpenChannelRequest { local_funding_amount: 700, push_sat: 0, ..good.clone() }, ""),
        // Nothing left for the opener to pay the commitment with.
        (OpenChannelRequest { push_sat: CAPACITY - 100, ..good.clone() }, ""),
        // A delay that the peer does not accept.
        (OpenChannelRequest { remote_csv_delay: 65_535, ..good.clone() }, "delay"),
    ];
    for (request, words) in refusals {
        let answer = lightning.open_channel_sync(request.clone()).await;
        println!("{:?}", answer.as_ref().map_err(tonic::Status::message));
        refused(answer, Code::FailedPrecondition, words);
    }
    // More than there is.
    let poor = bob.client().unwrap().lightning().open_channel_sync(open_request(alice, CAPACITY, 0).await).await;
    refused(poor, Code::FailedPrecondition, "not enough");
    for node in [alice, bob] {
        wait_until_nothing_is_pending(node).await;
    }
    assert_eq!(alice.wallet_balance().await.unwrap(), had);

    // Nothing of all that holds the coins.
    lightning.open_channel_sync(good).await.unwrap();
    pair.mine(DEEP).await;
    pair.wait_for_channels(1).await;
}

/// A valid key that nobody holds here.
const NODE: &str = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619";

#[tokio::test(flavor = "multi_thread")]
async fn wrong_questions_get_a_kind_and_a_sentence() {
    let mut pair = Pair::with_channel(CAPACITY, PUSHED).await;
    let Pair { alice, bob, .. } = &pair;
    let channel_point = alice.only_channel().await.unwrap().channel_point;
    let mut lightning = alice.client().unwrap().lightning();
    let mut router = alice.client().unwrap().router();

    // Peers.
    let address = |pubkey: &str, host: &str| ConnectPeerRequest {
        addr: Some(LightningAddress { pubkey: pubkey.to_owned(), host: host.to_owned() }),
        ..ConnectPeerRequest::default()
    };
    let bobs_id = bob.node_id().await.unwrap();
    refused(lightning.connect_peer(address("zz", "127.0.0.1:1")).await, Code::InvalidArgument, "pubkey");
    refused(lightning.connect_peer(address(NODE, "127.0.0.1:1")).await, Code::Unavailable, "nobody answers");
    let other_key = address(NODE, &bob.lightning_address().unwrap());
    refused(lightning.connect_peer(other_key).await, Code::Unavailable, "");
    let again = address(&bobs_id, &bob.lightning_address().unwrap());
    refused(lightning.connect_peer(again).await, Code::AlreadyExists, "already connected");
    let own_id = alice.node_id().await.unwrap();
    refused(lightning.connect_peer(address(&own_id, "127.0.0.1:1")).await, Code::InvalidArgument, "connection to self");
    let hang_up = |pub_key: &str| DisconnectPeerRequest { pub_key: pub_key.to_owned() };
    refused(lightning.disconnect_peer(hang_up(&bobs_id)).await, Code::FailedPrecondition, "close them first");
    refused(lightning.disconnect_peer(hang_up(NODE)).await, Code::NotFound, "not connected");
    refused(lightning.disconnect_peer(hang_up("12")).await, Code::InvalidArgument, "pub_key");

    // Coins.
    let coins = |addr: &str, amount: i64| SendCoinsRequest {
        addr: addr.to_owned(),
        amount,
        sat_per_vbyte: 2,
        ..SendCoinsRequest::default()
    };
    refused(lightning.send_coins(coins("nonsense", 1_000)).await, Code::InvalidArgument, "addr");
    let mainnet = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq";
    refused(lightning.send_coins(coins(mainnet, 1_000)).await, Code::InvalidArgument, "another network");
    refused(lightning.send_coins(coins(NOBODY, 0)).await, Code::InvalidArgument, "amount");
    refused(lightning.send_coins(coins(NOBODY, -1)).await, Code::InvalidArgument, "amount");
    refused(lightning.send_coins(coins(NOBODY, 10)).await, Code::InvalidArgument, "dust");
    refused(lightning.send_coins(coins(NOBODY, 20_000_000_000)).await, Code::FailedPrecondition, "not enough");

    // Invoices and payments.
    let look = |r_hash: Vec<u8>| PaymentHash { r_hash, ..PaymentHash::default() };
    refused(lightning.lookup_invoice(look(vec![1; 32])).await, Code::NotFound, "invoice");
    refused(lightning.lookup_invoice(look(vec![1; 31])).await, Code::InvalidArgument, "32");
    let bad = Invoice { value: -1, ..Invoice::default() };
    refused(lightning.add_invoice(bad).await, Code::InvalidArgument, "value");
    let decode = |pay_req: &str| PayReqString { pay_req: pay_req.to_owned() };
    refused(lightning.decode_pay_req(decode("lnbcrt1nonsense")).await, Code::InvalidArgument, "");
    refused(lightning.decode_pay_req(decode("")).await, Code::InvalidArgument, "");
    let track = leyden_proto::routerrpc::TrackPaymentRequest { payment_hash: vec![1; 32], ..Default::default() };
    refused(router.track_payment_v2(track).await, Code::NotFound, "payment");
    let send = |payment_request: &str| leyden_proto::routerrpc::SendPaymentRequest {
        payment_request: payment_request.to_owned(),
        timeout_seconds: 10,
        fee_limit_sat: 10,
        no_inflight_updates: true,
        ..Default::default()
    };
    refused(router.send_payment_v2(send("lnbcrt1nonsense")).await, Code::InvalidArgument, "");
    let own = alice.invoice(1_000, "to myself").await.unwrap();
    refused(router.send_payment_v2(send(&own)).await, Code::InvalidArgument, "own");
    let open_amount = bob.invoice(0, "any").await.unwrap();
    refused(router.send_payment_v2(send(&open_amount)).await, Code::InvalidArgument, "amount");
    let once = bob.invoice(1_000, "once").await.unwrap();
    let other_amount = leyden_proto::routerrpc::SendPaymentRequest { amt: 999, ..send(&once) };
    refused(router.send_payment_v2(other_amount).await, Code::InvalidArgument, "asks for");
    assert!(succeeded(&alice.pay(once.clone()).await.unwrap()));
    refused(router.send_payment_v2(send(&once)).await, Code::AlreadyExists, "paid");
    let too_much = alice.pay(bob.invoice(CAPACITY, "too much").await.unwrap()).await.unwrap();
    assert_eq!(too_much.status(), PaymentStatus::Failed);
    assert_eq!(too_much.failure_reason(), PaymentFailureReason::FailureReasonInsufficientBalance);

    // Closing what is not there.
    let missing = format!("{}:0", "11".repeat(32));
    refused(lightning.close_channel(close_request(&missing)).await, Code::NotFound, "listchannels");
    let nothing = CloseChannelRequest::default();
    refused(lightning.close_channel(nothing).await, Code::InvalidArgument, "channel_point");

    // A peer that is away: nothing waits for it.
    pair.bob.kill();
    let Pair { alice, .. } = &pair;
    wait_until("Alice to see that Bob is away", || async { Ok(!alice.only_channel().await?.active) }).await.unwrap();
    refused(lightning.close_channel(close_request(&channel_point)).await, Code::FailedPrecondition, "connect it");
    pair.bob.start().await.unwrap();
    pair.wait_for_channels(1).await;
    let later = pair.bob.invoice(2_000, "later").await.unwrap();
    pair.bob.kill();
    let Pair { alice, .. } = &pair;
    wait_until("Alice to see that Bob is away", || async { Ok(!alice.only_channel().await?.active) }).await.unwrap();
    let payment = alice.pay(later.clone()).await.unwrap();
    assert_eq!(payment.status(), PaymentStatus::Failed);
    pair.bob.start().await.unwrap();
    pair.wait_for_channels(1).await;
    let Pair { alice, bob, .. } = &pair;
    assert!(succeeded(&alice.pay(later).await.unwrap()), "a failed payment can be tried again");

    // And after all that the channel closes well.
    let bobs = PUSHED + 3_000;
    let had = bob.wallet_balance().await.unwrap();
    alice.close_channel(&channel_point, false).await.unwrap();
    pair.mine(DEEP).await;
    assert_eq!(settled_balance(bob, had + bobs).await.unwrap(), had + bobs);
}
