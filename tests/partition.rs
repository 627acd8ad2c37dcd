//! Two daemons on one chain, and on two: blocks and transactions travel, and a partition that heals leaves both with the
//! same chain, the same unspent outputs and wallets that tell the truth.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::{NOBODY, calls::settled_balance},
};
use leyden_proto::{
    leyden::{ConnectChainPeerRequest, ListChainPeersRequest},
    lnrpc::{
        ChannelCloseSummary, ClosedChannelsRequest, PendingChannelsRequest, Transaction, WalletBalanceRequest,
        WalletBalanceResponse,
    },
};

use harness::{Folder, MATURE, chain, height, mempool, send, tip, utxo_set_hash};

async fn connect(from: &DaemonProcess, to: &DaemonProcess) {
    let request = ConnectChainPeerRequest { address: chain(to) };
    from.client().unwrap().chain().connect_peer(request).await.unwrap();
}

async fn peers(node: &DaemonProcess) -> usize {
    node.client().unwrap().chain().list_peers(ListChainPeersRequest {}).await.unwrap().into_inner().peers.len()
}

async fn balance(node: &DaemonProcess) -> WalletBalanceResponse {
    node.client().unwrap().lightning().wallet_balance(WalletBalanceRequest::default()).await.unwrap().into_inner()
}

async fn transaction(node: &DaemonProcess, txid: &str) -> Transaction {
    let list = node.transactions().await.unwrap();
    let found = list.into_iter().find(|transaction| transaction.tx_hash == txid);
    found.unwrap_or_else(|| panic!("{} does not list {txid}", node.name()))
}

async fn agree(a: &DaemonProcess, b: &DaemonProcess) {
    wait_until("both to have the same tip", || async { Ok(tip(a).await == tip(b).await) }).await.unwrap();
    let (hash_a, hash_b) = (utxo_set_hash(a).await, utxo_set_hash(b).await);
    assert_eq!(hash_a, hash_b, "the same unspent outputs");
    assert!(!hash_a.hash.is_empty() && hash_a.output_count > 0);
    for node in [a, b] {
        node.wait_for_height(height(node).await).await.unwrap();
    }
}

/// Two daemons that know of each other only by calls, both with spendable coins.
async fn two_miners() -> (DaemonProcess, DaemonProcess, Folder) {
    let folder = Folder::new();
    let mut alice = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
    let mut bob = DaemonProcess::new(folder.path(), "bob", &[]).unwrap();
    alice.start().await.unwrap();
    bob.start().await.unwrap();
    connect(&bob, &alice).await;
    alice.mine(2, None).await.unwrap();
    bob.wait_for_height(2).await.unwrap();
    bob.mine(2, None).await.unwrap();
    alice.wait_for_height(4).await.unwrap();
    alice.mine(MATURE, Some(NOBODY)).await.unwrap();
    agree(&alice, &bob).await;
    (alice, bob, folder)
}

const REWARD: i64 = 5_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn daemons_that_mine_apart_agree_once_they_meet() {
    let (mut alice, mut bob, _folder) = two_miners().await;
    assert_eq!((balance(&alice).await.total_balance, balance(&bob).await.total_balance), (2 * REWARD, 2 * REWARD));

    // Apart: a daemon that is started anew knows nobody.
    assert!(bob.terminate().unwrap().success());
    bob.start().await.unwrap();
    wait_until("the connection to end", || async { Ok(peers(&alice).await == 0 && peers(&bob).await == 0) })
        .await
        .unwrap();
    let fork = height(&alice).await;

    // Alice: a payment to Bob and one to nobody, confirmed; her rewards; 10 blocks. One payment after them.
    let bobs_address = bob.new_address().await.unwrap();
    let alice_to_bob = send(&alice, &bobs_address, 100_000_000).await;
    alice.mine(4, None).await.unwrap();
    let alice_to_nobody = send(&alice, NOBODY, 7_000_000).await;
    alice.mine(6, None).await.unwrap();
    alice.wait_for_height(fork + 10).await.unwrap();
    // Bob: the same, in 12 blocks.
    let alices_address = alice.new_address().await.unwrap();
    let bob_to_alice = send(&bob, &alices_address, 30_000_000).await;
    bob.mine(5, None).await.unwrap();
    let bob_to_nobody = send(&bob, NOBODY, 11_000_000).await;
    bob.mine(7, None).await.unwrap();
    bob.wait_for_height(fork + 12).await.unwrap();
    assert_eq!(balance(&alice).await.unconfirmed_balance, 0);
    assert_ne!(utxo_set_hash(&alice).await.hash, utxo_set_hash(&bob).await.hash);
    assert_eq!(transaction(&alice, &alice_to_bob).await.num_confirmations, 10);

    // Together: Bob's branch has more work.
    let bobs_tip = tip(&bob).await;
    connect(&alice, &bob).await;
    agree(&alice, &bob).await;
    assert_eq!(tip(&alice).await, bobs_tip);

    // Alice's rewards of the lost branch are gone, her payments wait again, what Bob sent her is confirmed.
    wait_until("Alice's payments to wait again", || async {
        let waiting = mempool(&alice).await;
        Ok(waiting.contains(&alice_to_bob) && waiting.contains(&alice_to_nobody))
    })
    .await
    .unwrap();
    let mut fees = 0;
    for txid in [&alice_to_bob, &alice_to_nobody] {
        let waiting = transaction(&alice, txid).await;
        assert_eq!((waiting.num_confirmations, waiting.block_height), (0, 0), "{waiting:?}");
        fees += waiting.total_fees;
    }
    let expected = 2 * REWARD - 107_000_000 - fees + 30_000_000;
    assert_eq!(settled_balance(&alice, expected).await.unwrap(), expected);
    assert_eq!(transaction(&alice, &bob_to_alice).await.num_confirmations, 12);
    let immature: Vec<Transaction> = alice.transactions().await.unwrap();
    let rewards =
        immature.iter().filter(|transaction| transaction.amount == REWARD && transaction.num_confirmations > 0);
    assert_eq!(rewards.count(), 2, "only the rewards before the fork count");

    // One more block by Alice confirms them; everybody agrees on everything.
    alice.mine(1, Some(NOBODY)).await.unwrap();
    agree(&alice, &bob).await;
    assert_eq!(mempool(&alice).await, Vec::<String>::new());
    assert_eq!(balance(&alice).await.confirmed_balance, expected);
    let bob_fees =
        transaction(&bob, &bob_to_alice).await.total_fees + transaction(&bob, &bob_to_nobody).await.total_fees;
    let expected = 2 * REWARD - 41_000_000 - bob_fees + 100_000_000;
    assert_eq!(settled_balance(&bob, expected).await.unwrap(), expected);
    assert_eq!(transaction(&bob, &alice_to_bob).await.num_confirmations, 1);

    // What both know survives a restart.
    let before = utxo_set_hash(&alice).await;
    alice.kill();
    alice.start().await.unwrap();
    assert_eq!(utxo_set_hash(&alice).await, before);
}

/// The record of a cooperative close follows the chain: it is there once the close is confirmed, and gone again if a
/// reorganisation takes the block away.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_a_reorganisation_takes_back_is_no_closed_channel() {
    let (alice, mut bob, _folder) = two_miners().await;
    alice.connect(&bob).await.unwrap();
    alice.open_channel(&bob, 1_000_000, 400_000).await.unwrap();
    wait_until("Bob to see the funding", || async { Ok(mempool(&bob).await.len() == 1) }).await.unwrap();
    alice.mine(6, Some(NOBODY)).await.unwrap();
    agree(&alice, &bob).await;
    alice.wait_for_active_channels(1).await.unwrap();
    let channel_point = alice.only_channel().await.unwrap().channel_point;

    // Apart as nodes of the chain, together as Lightning peers. Bob's branch has no close in it.
    assert!(bob.terminate().unwrap().success());
    bob.start().await.unwrap();
    wait_until("the connection to end", || async { Ok(peers(&alice).await == 0) }).await.unwrap();
    bob.mine(4, Some(NOBODY)).await.unwrap();
    alice.wait_for_active_channels(1).await.unwrap();
    bob.wait_for_active_channels(1).await.unwrap();
    alice.close_channel(&channel_point, false).await.unwrap();
    wait_until("Alice to have the close", || async { Ok(mempool(&alice).await.len() == 1) }).await.unwrap();
    let closing = mempool(&alice).await;
    alice.mine(2, Some(NOBODY)).await.unwrap();
    wait_until("Alice to have the record", || async { Ok(closed(&alice).await.len() == 1) }).await.unwrap();
    assert_eq!(closed(&bob).await, []);
    let first = closed(&alice).await;
    assert_eq!(first[0].closing_tx_hash, closing[0]);

    connect(&alice, &bob).await;
    agree(&alice, &bob).await;
    wait_until("the record to be gone", || async { Ok(closed(&alice).await.is_empty()) }).await.unwrap();
    let request = PendingChannelsRequest::default();
    let pending = alice.client().unwrap().lightning().pending_channels(request).await.unwrap().into_inner();
    assert_eq!(pending.waiting_close_channels.len(), 1, "it waits for its close again");

    wait_until("the close to wait again", || async { Ok(mempool(&alice).await == closing) }).await.unwrap();
    alice.mine(1, Some(NOBODY)).await.unwrap();
    agree(&alice, &bob).await;
    for node in [&alice, &bob] {
        wait_until("the record", || async { Ok(closed(node).await.len() == 1) }).await.unwrap();
        assert_eq!(closed(node).await[0].close_height, height(node).await);
    }
    assert!(closed(&alice).await[0].close_height > first[0].close_height);
}

async fn closed(node: &DaemonProcess) -> Vec<ChannelCloseSummary> {
    let request = ClosedChannelsRequest::default();
    node.client().unwrap().lightning().closed_channels(request).await.unwrap().into_inner().channels
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_and_blocks_reach_the_other_daemon() {
    let (alice, bob, _folder) = two_miners().await;
    let address = bob.new_address().await.unwrap();
    let first = send(&alice, &address, 50_000_000).await;
    wait_until("Bob to see the payment", || async {
        Ok(mempool(&bob).await == [first.clone()] && balance(&bob).await.unconfirmed_balance == 50_000_000)
    })
    .await
    .unwrap();
    // A child of what is unconfirmed goes the other way.
    let request = leyden_proto::lnrpc::SendCoinsRequest {
        addr: alice.new_address().await.unwrap(),
        send_all: true,
        sat_per_vbyte: 3,
        spend_unconfirmed: true,
        ..Default::default()
    };
    let second = bob.client().unwrap().lightning().send_coins(request).await.unwrap().into_inner().txid;
    wait_until("Alice to see the answer", || async { Ok(mempool(&alice).await.contains(&second)) }).await.unwrap();

    bob.mine(1, Some(NOBODY)).await.unwrap();
    agree(&alice, &bob).await;
    for node in [&alice, &bob] {
        assert_eq!(mempool(node).await, Vec::<String>::new());
        assert_eq!(transaction(node, &second).await.num_confirmations, 1);
        assert_eq!(balance(node).await.unconfirmed_balance, 0);
    }
    assert_eq!(balance(&bob).await.total_balance, 0, "Bob sent everything");
}
