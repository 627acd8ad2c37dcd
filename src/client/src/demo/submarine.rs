//! The submarine story: a channel is filled with coins of the chain and emptied again, without being closed.
//!
//! 1. In: Alice locks coins, Bob pays her invoice and takes them. Her daemon is killed right after the lock.
//! 2. Out: Alice pays an invoice that Bob holds, he locks coins, she takes them, which pays him. His daemon is killed while
//!    the payment is held.
//! 3. Out, and Bob is gone for good before he locks: Alice's payment comes back.

use leyden_proto::leyden::{
    ListSwapsRequest, SubmarineAcceptRequest, SubmarineQuoteRequest, SwapInfo, SwapInitiateRequest, SwapRequest,
};

use super::{DemoError, DemoOptions, Narrator, narrator::coins, stage::Stage};
use crate::cluster::{ClusterError, DaemonProcess, wait_for, wait_until};

/// Satoshi on the chain.
const COINS: i64 = 10_000_000;
/// Satoshi over Lightning, in a swap in: what is less is Bob's for his trouble.
const IN_PAYMENT: i64 = 9_950_000;
/// Satoshi over Lightning, in a swap out.
const OUT_PAYMENT: i64 = 10_050_000;
/// Confirmations that a lock needs.
const DEPTH: u32 = 3;
/// Nothing that is locked or taken costs more, in satoshi.
const FEE: i64 = 10_000;

/// Plays it. Fails if a figure is not as it must be.
pub async fn play(options: DemoOptions) -> Result<(), DemoError> {
    Stage::play(options, async |narrator, stage, _| {
        stage.open(narrator).await?;
        let swapped_in = swap_in(narrator, stage).await?;
        swap_out(narrator, stage, swapped_in).await?;
        walk_away(narrator, stage).await
    })
    .await
}

/// Gives what Alice's side of the channel holds then.
async fn swap_in(narrator: &mut Narrator, stage: &mut Stage) -> Result<i64, DemoError> {
    narrator.step("In: Alice offers 0.1 of the chain for 0.0995 over Lightning; Bob accepts; nothing is locked yet");
    let before = (stage.alice.wallet_balance().await?, stage.bob.wallet_balance().await?);
    let (alices, bobs) = (local(&stage.alice).await?, local(&stage.bob).await?);
    let quote = SubmarineQuoteRequest { coins: COINS, payment: IN_PAYMENT, depth: DEPTH, ..Default::default() };
    let offer = quoted(&stage.alice, quote).await?;
    let believed =
        SubmarineAcceptRequest { pays: true, coins: COINS, payment: IN_PAYMENT, depth: DEPTH, ..Default::default() };
    let greedy = SubmarineAcceptRequest { coins: COINS + 1, ..believed.clone() };
    narrator.require(
        "Bob refuses an offer of less than he means to get",
        accepted(&stage.bob, &offer, greedy).await.is_err(),
    );
    let other_way = SubmarineAcceptRequest { pays: false, ..believed.clone() };
    narrator.require(
        "Bob refuses an offer that goes the other way",
        accepted(&stage.bob, &offer, other_way).await.is_err(),
    );
    let acceptance = accepted(&stage.bob, &offer, believed).await?;

    narrator
        .step("Alice locks 0.1 under the hash of her invoice, and her daemon is killed (SIGKILL) and started again");
    initiate(&stage.alice, acceptance).await?;
    phase(&stage.alice, "locking").await?;
    stage.alice.kill();
    stage.alice.start().await?;
    stage.wait_for_channel().await?;
    seen_by_both(stage).await?;
    narrator.require("Bob has paid nothing for a lock that no block has", last(&stage.bob).await?.phase == "accepted");
    stage.mine(DEPTH).await?;

    narrator.step("The lock is deep: Bob pays the invoice, and takes the coins with what it was paid for");
    phase(&stage.bob, "redeeming").await?;
    phase(&stage.alice, "settled").await?;
    seen_by_both(stage).await?;
    stage.mine(1).await?;
    phase(&stage.bob, "redeemed").await?;
    let (alice, bob) = (local(&stage.alice).await?, local(&stage.bob).await?);
    narrator.check("Alice's side of the channel", alices + IN_PAYMENT, alice);
    narrator.check("Bob's side of the channel", bobs - IN_PAYMENT, bob);
    let (hers, his) = (stage.alice.wallet_balance().await?, stage.bob.wallet_balance().await?);
    paid(narrator, "Alice's wallet: 0.1 less, and a fee", before.0 - COINS, hers);
    paid(narrator, "Bob's wallet: 0.1 more, less a fee", before.1 + COINS, his);
    Ok(alice)
}

async fn swap_out(narrator: &mut Narrator, stage: &mut Stage, alices: i64) -> Result<(), DemoError> {
    narrator.step(
        "Out: Alice offers 0.1005 over Lightning for 0.1 of the chain; Bob accepts with an invoice that he holds",
    );
    let before = (stage.alice.wallet_balance().await?, stage.bob.wallet_balance().await?);
    let bobs = local(&stage.bob).await?;
    let acceptance = agree_out(stage).await?;
    initiate(&stage.alice, acceptance).await?;
    phase(&stage.bob, "locking").await?;
    let held = last(&stage.bob).await?.get.unwrap_or_default();
    narrator.require("Alice's payment is held when Bob locks", held.payment_state == "held");
    narrator.require("Bob does not know the secret", last(&stage.bob).await?.secret.is_empty());

    narrator.step("Bob's daemon is killed (SIGKILL) and started again; his lock gets deep");
    stage.bob.kill();
    stage.bob.start().await?;
    stage.wait_for_channel().await?;
    seen_by_both(stage).await?;
    stage.mine(DEPTH).await?;
    phase(&stage.alice, "redeeming").await?;

    narrator.step("Alice takes the coins, and thereby shows the secret; Bob takes the payment with it");
    phase(&stage.bob, "settled").await?;
    seen_by_both(stage).await?;
    stage.mine(1).await?;
    phase(&stage.alice, "redeemed").await?;
    wait_until("Alice's payment to be over", || async {
        Ok(last(&stage.alice).await?.give.unwrap_or_default().payment_state == "paid")
    })
    .await?;
    narrator.check("Alice's side of the channel", alices - OUT_PAYMENT, local(&stage.alice).await?);
    narrator.check("Bob's side of the channel", bobs + OUT_PAYMENT, local(&stage.bob).await?);
    let (hers, his) = (stage.alice.wallet_balance().await?, stage.bob.wallet_balance().await?);
    paid(narrator, "Alice's wallet: 0.1 more, less a fee", before.0 + COINS, hers);
    paid(narrator, "Bob's wallet: 0.1 less, and a fee", before.1 - COINS, his);
    narrator.require("the channel is open", stage.alice.channels().await?.len() == 1);
    Ok(())
}

async fn walk_away(narrator: &mut Narrator, stage: &mut Stage) -> Result<(), DemoError> {
    narrator.step("Out once more, and Bob thinks better of it: what Alice has paid comes back");
    let alices = local(&stage.alice).await?;
    let acceptance = agree_out(stage).await?;
    let id = last(&stage.bob).await?.id;
    let canceled = stage.bob.client()?.swap().cancel(SwapRequest { id }).await;
    canceled.map_err(|status| stage.bob.call_error(status))?;
    phase(&stage.bob, "given_up").await?;
    initiate(&stage.alice, acceptance).await?;
    wait_until("Alice's payment to fail", || async {
        Ok(last(&stage.alice).await?.give.unwrap_or_default().payment_state == "failed")
    })
    .await?;
    narrator.check("Alice's side of the channel", alices, local(&stage.alice).await?);
    let id = last(&stage.alice).await?.id;
    let canceled = stage.alice.client()?.swap().cancel(SwapRequest { id }).await;
    canceled.map_err(|status| stage.alice.call_error(status))?;
    phase(&stage.alice, "refunded").await?;
    narrator.require("the secret was never shown", last(&stage.alice).await?.secret.is_empty());
    Ok(())
}

/// Gives Bob's acceptance.
async fn agree_out(stage: &Stage) -> Result<Vec<u8>, DemoError> {
    let quote =
        SubmarineQuoteRequest { out: true, coins: COINS, payment: OUT_PAYMENT, depth: DEPTH, ..Default::default() };
    let offer = quoted(&stage.alice, quote).await?;
    let believed = SubmarineAcceptRequest { coins: COINS, payment: OUT_PAYMENT, depth: DEPTH, ..Default::default() };
    Ok(accepted(&stage.bob, &offer, believed).await?)
}

pub(super) async fn quoted(node: &DaemonProcess, request: SubmarineQuoteRequest) -> Result<Vec<u8>, ClusterError> {
    let quoted = node.client()?.swap().quote_submarine(request).await;
    Ok(quoted.map_err(|status| node.call_error(status))?.into_inner().offer)
}

pub(super) async fn accepted(
    node: &DaemonProcess,
    offer: &[u8],
    believed: SubmarineAcceptRequest,
) -> Result<Vec<u8>, ClusterError> {
    let request = SubmarineAcceptRequest { offer: offer.to_vec(), ..believed };
    let accepted = node.client()?.swap().accept_submarine(request).await;
    Ok(accepted.map_err(|status| node.call_error(status))?.into_inner().acceptance)
}

pub(super) async fn initiate(node: &DaemonProcess, acceptance: Vec<u8>) -> Result<(), ClusterError> {
    let initiated = node.client()?.swap().initiate_submarine(SwapInitiateRequest { acceptance }).await;
    initiated.map(|_| ()).map_err(|status| node.call_error(status))
}

/// The swap that began last.
pub(super) async fn last(node: &DaemonProcess) -> Result<SwapInfo, ClusterError> {
    let list = node.client()?.swap().list(ListSwapsRequest::default()).await;
    let swaps = list.map_err(|status| node.call_error(status))?.into_inner().swaps;

    swaps.into_iter().max_by_key(|one| one.created).ok_or_else(|| ClusterError::Waited { what: "a swap".to_owned() })
}

/// Waits until the swap is there.
pub(super) async fn phase(node: &DaemonProcess, phase: &str) -> Result<(), ClusterError> {
    let what = format!("the swap of {} to be {phase}", node.name());
    wait_for(&what, || async { Ok((last(node).await?.phase == phase).then_some(())) }).await
}

/// What a node has in its one channel, once nothing is on its way in it.
pub(super) async fn local(node: &DaemonProcess) -> Result<i64, ClusterError> {
    wait_until("the channel to rest", || async { Ok(node.only_channel().await?.pending_htlcs.is_empty()) }).await?;
    Ok(node.only_channel().await?.local_balance)
}

/// Whatever waits for a block is in both mempools.
async fn seen_by_both(stage: &Stage) -> Result<(), ClusterError> {
    wait_until("a transaction of the swap to be in both mempools", || async {
        let (alices, bobs) = (stage.alice.waiting_txids().await?, stage.bob.waiting_txids().await?);
        Ok(!alices.is_empty() && alices == bobs)
    })
    .await
}

/// A wallet has what it should, but for a fee.
pub(super) fn paid(narrator: &mut Narrator, what: &str, without_fee: i64, found: i64) {
    let fee = without_fee - found;
    narrator.say(&format!("{what}: {}, the fee is {}", coins(found), coins(fee)));
    narrator.require("nobody paid more than a fee for it", (1..FEE).contains(&fee));
}
