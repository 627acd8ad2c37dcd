//! A daemon that gives up old blocks: its channels go on, its wallet says what it cannot do, and peers are told.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use leyden_client::cluster::{DaemonProcess, wait_until};

use harness::{DEEP, Folder, MATURE, PRUNE, assert_calm, chain, has_pruned, mempool, run_leyden};

const CAPACITY: i64 = 1_000_000;
/// More than the blocks that are kept in any case.
const MANY: u32 = 330;
/// Blocks that whoever closes alone waits for its balance.
const DELAY: u32 = 20;

async fn mine(miner: &DaemonProcess, others: &[&DaemonProcess], blocks: u32) {
    miner.mine(blocks, Some(leyden_client::demo::NOBODY)).await.unwrap();
    let height = harness::height(miner).await;
    for one in others {
        one.wait_for_height(height).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_outlive_the_blocks_of_their_time() {
    let folder = Folder::new();
    let mut alice = DaemonProcess::new(folder.path(), "alice", &["--to-self-delay", &DELAY.to_string()]).unwrap();
    alice.start().await.unwrap();
    let source = chain(&alice);
    let flags = [&PRUNE[..], &["--chain-connect", &source]].concat();
    let mut bob = DaemonProcess::new(folder.path(), "bob", &flags).unwrap();
    bob.start().await.unwrap();
    alice.mine(1, None).await.unwrap();
    mine(&alice, &[&bob], MATURE).await;
    alice.connect(&bob).await.unwrap();
    alice.open_channel(&bob, CAPACITY, 400_000).await.unwrap();
    wait_until("the funding transaction", || async { Ok(mempool(&alice).await.len() == 1) }).await.unwrap();
    mine(&alice, &[&bob], DEEP).await;
    alice.wait_for_active_channels(1).await.unwrap();
    bob.wait_for_active_channels(1).await.unwrap();
    let funded_at = MATURE + 2;

    mine(&alice, &[&bob], MANY).await;
    wait_until("old blocks to be pruned", || async { Ok(has_pruned(&bob, 60)) }).await.unwrap();
    assert!(!has_pruned(&bob, funded_at), "the block of the funding transaction stays");
    let invoice = bob.invoice(10_000, "over an old channel").await.unwrap();
    alice.pay(invoice).await.unwrap();

    // A restart finds the channel as it was; the wallet does not look at what is gone.
    bob.terminate();
    bob.start().await.unwrap();
    bob.wait_for_active_channels(1).await.unwrap();
    let rescan = run_leyden(bob.data_dir(), &["rescan"]);
    let words = String::from_utf8_lossy(&rescan.stderr).into_owned();
    assert!(!rescan.status.success() && words.contains("this node is pruned"), "{words}");

    // Alone against an old channel: the close is seen, claimed and settled.
    alice.kill();
    let channels = bob.channels().await.unwrap();
    bob.close_channel(&channels[0].channel_point, true).await.unwrap();
    mine(&bob, &[], DELAY).await;
    // Only then: a chain that grows faster than the claim is made would hold it hundreds of blocks later.
    wait_until("the claim of the balance", || async { Ok(mempool(&bob).await.len() == 1) }).await.unwrap();
    mine(&bob, &[], MANY).await;
    let closed = || async { Ok(bob.closed_channels().await?.len() == 1) };
    wait_until("the channel to be settled", closed).await.unwrap();
    // A node looks for what it may give up with each block, and the last one may have come before the channel was settled.
    let gives_up = || async {
        mine(&bob, &[], 1).await;
        Ok(has_pruned(&bob, funded_at))
    };
    wait_until("its blocks to be pruned", gives_up).await.unwrap();

    // With no other peer than a pruned one a new node cannot begin, and says so.
    let mut carol = DaemonProcess::new(folder.path(), "carol", &["--chain-connect", &chain(&bob)]).unwrap();
    carol.start().await.unwrap();
    wait_until("carol to say why she cannot synchronise", || async {
        Ok(carol.log().contains("cannot synchronise: the peer is pruned"))
    })
    .await
    .unwrap();
    assert_eq!(harness::height(&carol).await, 0);
    assert_calm("bob", &bob.log());
}
