//! Closing together with a peer that is away at the wrong moment, and closes that pay too little.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use harness::{Pair, assert_calm, mempool, open_request, wait_for_transaction};
use leyden_client::cluster::{DaemonProcess, PATIENCE, wait_until};
use leyden_proto::lnrpc::{
    ChannelPoint, CloseChannelRequest, ConnectPeerRequest, LightningAddress, PendingChannelsRequest,
    channel_point::FundingTxid, close_status_update::Update,
};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

const CAPACITY: i64 = 2_000_000;
const PUSHED: i64 = 900_000;

/// Asks for a close and gives the transaction that is told first.
async fn close(node: &DaemonProcess, channel_point: &str, rate: u64, force: bool) -> String {
    let (txid, index) = channel_point.split_once(':').unwrap();
    let request = CloseChannelRequest {
        channel_point: Some(ChannelPoint {
            funding_txid: Some(FundingTxid::FundingTxidStr(txid.to_owned())),
            output_index: index.parse().unwrap(),
        }),
        sat_per_vbyte: rate,
        force,
        ..CloseChannelRequest::default()
    };
    let mut news = node.client().unwrap().lightning().close_channel(request).await.unwrap().into_inner();
    let first = timeout(PATIENCE, news.next()).await.expect("the close is told").unwrap().unwrap();
    match first.update.unwrap() {
        Update::ClosePending(pending) => hex::encode(pending.txid.iter().rev().copied().collect::<Vec<u8>>()),
        other => panic!("{other:?}"),
    }
}

async fn waiting(node: &DaemonProcess, count: usize) {
    let what = format!("{} to wait for {count} closes", node.name());
    wait_until(&what, || async {
        let pending = node.client()?.lightning().pending_channels(PendingChannelsRequest::default()).await;
        let pending = pending.map_err(|status| node.call_error(status))?.into_inner();
        Ok(pending.waiting_close_channels.len() == count)
    })
    .await
    .unwrap();
}

/// The line between both is lost, and comes back.
async fn reconnect(pair: &mut Pair) {
    let Pair { alice, bob, .. } = pair;
    let pub_key = bob.node_id().await.unwrap();
    alice.kill();
    alice.start().await.unwrap();
    let addr = Some(LightningAddress { pubkey: pub_key, host: bob.lightning_address().unwrap() });
    let request = ConnectPeerRequest { addr, ..ConnectPeerRequest::default() };
    let _ = alice.client().unwrap().lightning().connect_peer(request).await;
}

/// Both hold it for closed, and nobody has anything in limbo.
async fn ends_well(pair: &Pair) {
    pair.mine(1).await;
    for node in [&pair.alice, &pair.bob] {
        wait_until("nothing to wait for", || async {
            let pending = node.client()?.lightning().pending_channels(PendingChannelsRequest::default()).await;
            let pending = pending.map_err(|status| node.call_error(status))?.into_inner();
            Ok(pending.waiting_close_channels.is_empty())
        })
        .await
        .unwrap();
        assert_calm(node.name(), &node.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_channel_disturbs_no_other_channel_of_that_peer() {
    let mut pair = Pair::with_channel(CAPACITY, PUSHED).await;
    let first = pair.alice.only_channel().await.unwrap().channel_point;
    pair.alice.open_channel(&pair.bob, CAPACITY, PUSHED).await.unwrap();
    pair.mine(harness::DEEP).await;
    pair.wait_for_channels(2).await;
    for mined in [false, true] {
        if mined {
            pair.mine(1).await;
        } else {
            close(&pair.bob, &first, 2, false).await;
            for node in [&pair.alice, &pair.bob] {
                waiting(node, 1).await;
            }
        }
        for _ in 0..3 {
            reconnect(&mut pair).await;
            pair.wait_for_channels(1).await;
        }
    }
    for node in [&pair.alice, &pair.bob] {
        let log = node.log();
        assert!(!log.contains("the peer says"), "nobody is greeted with an error: {log}");
        assert!(!log.contains("the peer is wrong"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_is_raised_by_asking_again() {
    let pair = Pair::with_channel(CAPACITY, PUSHED).await;
    let point = pair.alice.only_channel().await.unwrap().channel_point;
    let first = close(&pair.alice, &point, 1, false).await;
    for node in [&pair.alice, &pair.bob] {
        wait_for_transaction(node, &first).await;
        waiting(node, 1).await;
    }
    // Who pays for it: both sign another one.
    let second = close(&pair.alice, &point, 10, false).await;
    assert_ne!(second, first);
    for node in [&pair.alice, &pair.bob] {
        wait_for_transaction(node, &second).await;
        assert_eq!(mempool(node).await, std::slice::from_ref(&second));
    }
    // The other side pays out of its own output.
    assert_eq!(close(&pair.bob, &point, 30, false).await, second);
    for node in [&pair.alice, &pair.bob] {
        wait_until("the child", || async { Ok(mempool(node).await.len() == 2) }).await.unwrap();
    }
    ends_well(&pair).await;
    assert!(mempool(&pair.alice).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn force_does_not_wait_for_a_mutual_close() {
    let mut pair = Pair::with_channel(CAPACITY, PUSHED).await;
    let point = pair.alice.only_channel().await.unwrap().channel_point;
    let mutual = close(&pair.alice, &point, 1, false).await;
    for node in [&pair.alice, &pair.bob] {
        wait_for_transaction(node, &mutual).await;
        waiting(node, 1).await;
    }
    let forced = close(&pair.bob, &point, 0, true).await;
    assert_ne!(forced, mutual, "our commitment");
    pair.bob.kill();
    pair.bob.start().await.unwrap();
    // Whichever the miners take ends it.
    pair.alice.mine(1, Some(leyden_client::demo::NOBODY)).await.unwrap();
    ends_well(&pair).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_learns_that_an_opening_failed_for_want_of_coins() {
    let pair = Pair::funded().await;
    let Pair { alice, bob, .. } = &pair;
    alice.connect(bob).await.unwrap();
    let request = open_request(alice, 500_000, 0).await;
    let opening = bob.client().unwrap().lightning().open_channel(request).await;
    let failed = match opening {
        Ok(stream) => stream.into_inner().next().await.unwrap().is_err(),
        Err(_) => true,
    };
    assert!(failed, "Bob has no coins");
    wait_until("Alice to hear of it", || async { Ok(alice.log().contains("this channel is not funded")) })
        .await
        .unwrap();
    // Other openings begin at once.
    bob.client().unwrap();
    alice.open_channel(bob, 500_000, 0).await.unwrap();
}
