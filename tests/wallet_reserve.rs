//! What the wallet keeps back for channels, and what becomes of a funding transaction that the mempool refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use harness::{DEEP, Pair, leyden, mempool, open_request, refused, run_leyden};
use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::NOBODY,
};
use leyden_proto::{
    leyden::ListWarningsRequest,
    lnrpc::{
        OpenChannelRequest, PendingChannelsRequest, SendCoinsRequest, WalletBalanceRequest, WalletBalanceResponse,
    },
};
use tonic::Code;

/// Kept back for one channel with anchors.
const RESERVE: i64 = 10_000;

async fn balance(node: &DaemonProcess) -> WalletBalanceResponse {
    let request = WalletBalanceRequest::default();
    node.client().unwrap().lightning().wallet_balance(request).await.unwrap().into_inner()
}

async fn warnings(node: &DaemonProcess) -> String {
    let answer = node.client().unwrap().channels().list_warnings(ListWarningsRequest {}).await.unwrap();
    answer.into_inner().warnings.join("\n")
}

fn sweep() -> SendCoinsRequest {
    SendCoinsRequest { addr: NOBODY.to_owned(), send_all: true, sat_per_vbyte: 2, ..SendCoinsRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_payment_takes_what_channels_with_anchors_may_need_unless_the_user_insists() {
    let pair = Pair::with_channel(1_000_000, 0).await;
    assert_eq!(balance(&pair.alice).await.reserved_balance_anchor_chan, RESERVE);
    assert_eq!(warnings(&pair.alice).await, "");
    // Bob has a channel and no coins: he is told, and may be paid all the same.
    assert!(warnings(&pair.bob).await.contains("lacks 10000 sat"), "{}", warnings(&pair.bob).await);

    let mut alice = pair.alice.client().unwrap().lightning();
    alice.send_coins(sweep()).await.unwrap();
    pair.mine(1).await;
    wait_until("the wallet to see it", || async { Ok(balance(&pair.alice).await.unconfirmed_balance == 0) })
        .await
        .unwrap();
    assert_eq!(balance(&pair.alice).await.confirmed_balance, RESERVE);

    refused(alice.send_coins(sweep()).await, Code::FailedPrecondition, "--spend-reserve");
    let some = SendCoinsRequest { send_all: false, amount: 2_000, ..sweep() };
    refused(alice.send_coins(some).await, Code::FailedPrecondition, "leyden-spend-reserve");
    let open = OpenChannelRequest { fund_max: true, local_funding_amount: 0, ..open_request(&pair.bob, 0, 0).await };
    refused(alice.open_channel_sync(open).await, Code::FailedPrecondition, "reserves for");

    let data_dir = pair.alice.data_dir();
    leyden(data_dir, &["sendcoins", NOBODY, "--sweepall", "--spend-reserve"]);
    pair.mine(1).await;
    let shown = leyden(data_dir, &["getinfo"]);
    assert!(shown.contains("WARNING: the wallet lacks 10000 sat"), "{shown}");
    assert!(leyden(data_dir, &["walletbalance"]).contains("reserved for anchor channels"));
    pair.settled_channel().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_with_everything_leaves_the_reserve_of_the_new_channel() {
    let pair = Pair::funded().await;
    // Bob opens it: his wallet is small, and no channel may be larger than 16,777,215 sat.
    harness::send(&pair.alice, &pair.bob.new_address().await.unwrap(), 500_000).await;
    pair.mine(1).await;
    pair.bob.connect(&pair.alice).await.unwrap();
    let open = OpenChannelRequest { fund_max: true, local_funding_amount: 0, ..open_request(&pair.alice, 0, 0).await };
    pair.bob.client().unwrap().lightning().open_channel_sync(open).await.unwrap();
    pair.mine(DEEP).await;
    pair.wait_for_channels(1).await;
    let left = balance(&pair.bob).await;
    assert_eq!((left.confirmed_balance, left.reserved_balance_anchor_chan), (RESERVE, RESERVE));
    assert_eq!(warnings(&pair.bob).await, "");
}

/// Bitcoin Core's limit of unconfirmed transactions that hang together.
const CLUSTER: usize = 64;

/// Too many unconfirmed transactions hang together: the mempool takes no further one, until a block comes.
async fn with_refused_opening() -> Pair {
    let pair = Pair::funded().await;
    pair.alice.connect(&pair.bob).await.unwrap();
    let mut alice = pair.alice.client().unwrap().lightning();
    for _ in 0..CLUSTER {
        let one = SendCoinsRequest { send_all: false, amount: 10_000, spend_unconfirmed: true, ..sweep() };
        alice.send_coins(one).await.unwrap();
    }
    let open = OpenChannelRequest { spend_unconfirmed: true, ..open_request(&pair.bob, 1_000_000, 0).await };
    refused(alice.open_channel_sync(open).await, Code::FailedPrecondition, "rebroadcast at every block");
    assert_eq!(mempool(&pair.alice).await.len(), CLUSTER);
    pair
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coins_of_a_refused_funding_transaction_are_free_once_its_channel_is_abandoned() {
    let pair = with_refused_opening().await;
    let mut alice = pair.alice.client().unwrap().lightning();
    let pending = alice.pending_channels(PendingChannelsRequest::default()).await.unwrap().into_inner();
    let point = pending.pending_open_channels[0].channel.as_ref().unwrap().channel_point.clone();
    leyden(pair.alice.data_dir(), &["abandonchannel", &point, "--yes"]);
    wait_until("it to be forgotten", || async { Ok(warnings(&pair.alice).await.is_empty()) }).await.unwrap();
    pair.mine(1).await;
    assert_eq!(mempool(&pair.alice).await.len(), 0, "nobody hands it over any more");
    wait_until("the wallet to see it", || async { Ok(balance(&pair.alice).await.unconfirmed_balance == 0) })
        .await
        .unwrap();
    alice.send_coins(sweep()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_funding_transaction_that_the_mempool_refuses_is_told_and_handed_over_again_at_the_next_block() {
    let pair = with_refused_opening().await;
    let shown = leyden(pair.alice.data_dir(), &["pendingchannels"]);
    assert!(shown.contains("is refused by the mempool"), "{shown}");
    // Its coins stay with it.
    let again = run_leyden(pair.alice.data_dir(), &["sendcoins", NOBODY, "--sweepall"]);
    assert!(!again.status.success());

    pair.mine(1).await;
    wait_until("the funding transaction to be in the mempool", || async { Ok(mempool(&pair.alice).await.len() == 1) })
        .await
        .unwrap();
    assert_eq!(warnings(&pair.alice).await, "");
    pair.mine(DEEP).await;
    pair.wait_for_channels(1).await;
}
