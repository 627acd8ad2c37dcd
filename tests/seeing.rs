//! What a user can see of a channel's end: the tree of what it can become, why it closes, and each output on its way.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use leyden_client::cluster::{DaemonProcess, wait_until};
use leyden_proto::{
    leyden::{
        ChannelTree, ClosingChannel, EndedChannel, GetTreeRequest, ListClosedRequest, ListClosingRequest,
        closing_output::State,
    },
    lnrpc::{Initiator, OutPoint, ResolutionOutcome, ResolutionType, channel_point::FundingTxid},
    walletrpc::BumpFeeRequest,
};
use tonic::Code;

use harness::{
    DEEP, Pair, assert_calm, leyden, mempool, open_request, refused, run_leyden, send, wait_for_transaction,
};

const CAPACITY: i64 = 1_000_000;
const PUSHED: i64 = 400_000;

async fn tree(node: &DaemonProcess, channel_point: &str) -> ChannelTree {
    let request = GetTreeRequest { channel_point: channel_point.to_owned() };
    node.client().unwrap().channels().get_tree(request).await.unwrap().into_inner()
}

async fn closing(node: &DaemonProcess) -> Vec<ClosingChannel> {
    let answer = node.client().unwrap().channels().list_closing(ListClosingRequest {}).await;
    answer.unwrap().into_inner().channels
}

async fn closed(node: &DaemonProcess) -> Vec<EndedChannel> {
    node.client().unwrap().channels().list_closed(ListClosedRequest::default()).await.unwrap().into_inner().channels
}

/// Asks for this rate; gives what was done.
async fn bump(node: &DaemonProcess, outpoint: &str, sat_per_vbyte: u64) -> Result<String, tonic::Status> {
    let (txid, index) = outpoint.split_once(':').unwrap();
    let outpoint = OutPoint { txid_str: txid.to_owned(), output_index: index.parse().unwrap(), ..OutPoint::default() };
    let request = BumpFeeRequest { outpoint: Some(outpoint), sat_per_vbyte, ..BumpFeeRequest::default() };
    Ok(node.client().unwrap().wallet_kit().bump_fee(request).await?.into_inner().status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_block_can_be_made_to_pay_more() {
    let pair = Pair::funded().await;
    let [alice, bob] = [&pair.alice, &pair.bob];

    // A payment of ours is replaced.
    let slow = send(alice, &bob.new_address().await.unwrap(), 2_000_000).await;
    wait_for_transaction(bob, &slow).await;
    let done = bump(alice, &format!("{slow}:0"), 20).await.unwrap();
    assert!(done.contains("replaced by"), "{done}");
    let [fast] = mempool(alice).await.try_into().unwrap();
    assert!(done.contains(&fast) && fast != slow);
    wait_for_transaction(bob, &fast).await;
    let sent = alice.transactions().await.unwrap().into_iter().find(|one| one.tx_hash == fast).unwrap();
    assert!(sent.total_fees >= 20 * 140, "{}", sent.total_fees);
    assert!(alice.transactions().await.unwrap().iter().all(|one| one.tx_hash != slow), "the old one is gone");

    // For who is paid, a child pulls it along.
    let received = bob.transactions().await.unwrap().into_iter().find(|one| one.tx_hash == fast).unwrap();
    let mine = received.output_details.iter().find(|output| output.is_our_address).unwrap();
    let done = bump(bob, &format!("{fast}:{}", mine.output_index), 60).await.unwrap();
    assert!(done.contains("pulled along"), "{done}");
    pair.mine(1).await;
    assert!(mempool(alice).await.is_empty());
    refused(bump(alice, &format!("{fast}:0"), 90).await, Code::NotFound, "nothing unconfirmed");

    // A channel's funding is never replaced: its channel would be left without.
    alice.connect(bob).await.unwrap();
    let request = open_request(bob, CAPACITY, 0).await;
    let point = alice.client().unwrap().lightning().open_channel_sync(request).await.unwrap().into_inner();
    let Some(FundingTxid::FundingTxidBytes(bytes)) = point.funding_txid else { panic!() };
    let funding = hex::encode(bytes.into_iter().rev().collect::<Vec<_>>());
    wait_for_transaction(bob, &funding).await;
    let tight = ["bumpfee", &format!("{funding}:0"), "--sat-per-vbyte", "90", "--budget", "10"];
    let tight = run_leyden(alice.data_dir(), &tight);
    assert!(String::from_utf8_lossy(&tight.stderr).contains("more than the 10 sat"), "{tight:?}");
    let said =
        leyden(alice.data_dir(), &["bumpfee", &format!("{funding}:{}", point.output_index), "--sat-per-vbyte", "25"]);
    assert!(said.contains("pulled along"), "{said}");
    // And once more: the child makes room for a dearer one.
    let done = bump(alice, &format!("{funding}:{}", point.output_index), 50).await.unwrap();
    assert!(done.contains("pulled along") && done != said, "{done}");
    assert!(mempool(alice).await.contains(&funding) && mempool(alice).await.len() == 2);
    pair.mine(DEEP).await;
    pair.wait_for_channels(1).await;
    assert_calm("alice", &alice.log());
    assert_calm("bob", &bob.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_together_remembers_who_wanted_it() {
    let pair = Pair::with_channel(CAPACITY, PUSHED).await;
    let (channel, _) = pair.settled_channel().await;
    let point = channel.channel_point.clone();

    // Both see the same two commitments, named from their own side.
    let (alices, bobs) = (tree(&pair.alice, &point).await, tree(&pair.bob, &point).await);
    let [a, b] = alices.commitments.as_slice() else { panic!("{alices:?}") };
    assert!(a.ours && a.name.starts_with('C') && a.name.ends_with('a') && !b.ours && b.name.ends_with('b'));
    assert_eq!(a.txid, bobs.commitments[1].txid);
    assert_eq!(b.txid, bobs.commitments[0].txid);
    for commitment in [a, b] {
        let paid: i64 = commitment.outputs.iter().map(|output| output.amount).sum();
        assert_eq!(paid + commitment.fee, CAPACITY);
    }
    let own = a.outputs.iter().find(|output| output.kind == "to_local").unwrap();
    assert_eq!(own.amount, channel.local_balance);
    assert_eq!(own.spends[0].confirmations, channel.local_constraints.as_ref().unwrap().csv_delay);
    let drawn = leyden(pair.alice.data_dir(), &["channel", "tree", &point[..8]]);
    for name in ["our commitment", "the peer's commitment", "to_local", "RD", "BR", "D0a", "1000 blocks later"] {
        assert!(drawn.contains(name), "{name} is missing in\n{drawn}");
    }

    pair.bob.close_channel(&point, false).await.unwrap();
    let [alice, bob] = [closing(&pair.alice).await, closing(&pair.bob).await];
    assert!(alice[0].reason.contains("the peer asked"), "{}", alice[0].reason);
    assert!(bob[0].reason.contains("user asked"), "{}", bob[0].reason);
    pair.mine(DEEP).await;
    wait_until("both to remember it", || async {
        Ok(pair.alice.closed_channels().await?.len() == 1 && pair.bob.closed_channels().await?.len() == 1)
    })
    .await
    .unwrap();
    assert_eq!(pair.alice.closed_channels().await.unwrap()[0].close_initiator(), Initiator::Remote);
    assert_eq!(pair.bob.closed_channels().await.unwrap()[0].close_initiator(), Initiator::Local);
    assert!(closed(&pair.alice).await[0].reason.contains("the peer asked to close it together"));
    assert!(leyden(pair.bob.data_dir(), &["channel", "closed"]).contains("asked the peer to close it together"));
    assert!(closing(&pair.alice).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_close_shows_each_output_its_claim_and_its_fee() {
    let pair = Pair::with_channel(CAPACITY, PUSHED).await;
    let (channel, _) = pair.settled_channel().await;
    pair.alice.close_channel(&channel.channel_point, true).await.unwrap();
    let waiting = closing(&pair.alice).await;
    assert!(waiting[0].reason.contains("without the peer"), "{}", waiting[0].reason);
    pair.mine(1).await;
    wait_until("Alice's output to be locked", || async {
        let list = closing(&pair.alice).await;
        Ok(list.iter().any(|one| one.outputs.iter().any(|output| output.state() == State::Locked)))
    })
    .await
    .unwrap();
    let [own] = closing(&pair.alice).await.try_into().unwrap();
    assert_eq!(own.confirmations, 1);
    let [to_local] = own.outputs.as_slice() else { panic!("{own:?}") };
    assert_eq!((to_local.amount, to_local.deadline), (channel.local_balance, 0));
    assert!(to_local.what.contains("(RD)"), "{}", to_local.what);
    let text = leyden(pair.alice.data_dir(), &["pendingchannels"]);
    assert!(text.contains("locked until block") && text.contains("without the peer"), "{text}");

    // Bob's part is claimed at once.
    wait_until("Bob's claim", || async {
        let list = closing(&pair.bob).await;
        Ok(list.iter().any(|one| one.outputs.iter().any(|output| output.state() == State::Claimed)))
    })
    .await
    .unwrap();
    let [bobs] = closing(&pair.bob).await.try_into().unwrap();
    assert!(bobs.reason.contains("the peer closed it alone") || bobs.reason.contains("has failed"), "{}", bobs.reason);
    let claim = &bobs.outputs[0];
    assert!(claim.fee > 0 && claim.sat_per_vbyte >= 1.0 && claim.what.contains("(D)"), "{claim:?}");
    wait_for_transaction(&pair.alice, &claim.spending_txid).await;

    // It is too slow for him.
    bump(&pair.bob, &claim.outpoint, 30).await.unwrap();
    wait_until("the dearer claim", || async {
        let list = closing(&pair.bob).await;
        Ok(list[0].outputs[0].sat_per_vbyte >= 29.0)
    })
    .await
    .unwrap();
    let [bobs] = closing(&pair.bob).await.try_into().unwrap();
    let old = claim.spending_txid.clone();
    let claim = &bobs.outputs[0];
    assert_ne!(claim.spending_txid, old);
    wait_for_transaction(&pair.alice, &claim.spending_txid).await;
    pair.mine(1).await;
    wait_until("Bob's claim to be confirmed", || async {
        let list = closing(&pair.bob).await;
        Ok(list[0].outputs[0].state() == State::Ours && list[0].fees == claim.fee)
    })
    .await
    .unwrap();

    // A hundred blocks later it is one of the past, with what became of it.
    pair.mine(100).await;
    wait_until("Bob to remember it", || async { Ok(pair.bob.closed_channels().await?.len() == 1) }).await.unwrap();
    let [lnds] = pair.bob.closed_channels().await.unwrap().try_into().unwrap();
    let [resolution] = lnds.resolutions.as_slice() else { panic!("{lnds:?}") };
    assert_eq!(resolution.resolution_type(), ResolutionType::Commit);
    assert_eq!(resolution.outcome(), ResolutionOutcome::Claimed);
    assert_eq!(resolution.sweep_txid, claim.spending_txid);
    let [ended] = closed(&pair.bob).await.try_into().unwrap();
    assert_eq!((ended.fees, ended.settled), (claim.fee, Some(PUSHED - claim.fee)));
    assert!(ended.outputs[0].ours);
    assert_calm("alice", &pair.alice.log());
    assert_calm("bob", &pair.bob.log());
}
