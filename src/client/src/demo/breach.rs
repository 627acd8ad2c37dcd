//! The breach story: Bob's data directory is copied, payments go on, the copy is put back while he is cut off, and he
//! closes alone with a state that he has revoked. Alice takes all of the channel.

use std::{path::Path, time::Duration};

use leyden_proto::leyden::GetMempoolRequest;
use tokio::time::sleep;

use super::{
    DemoError, DemoOptions, Narrator,
    calls::succeeded,
    force_close::end,
    ledger::Ledger,
    narrator::coins,
    stage::{CAPACITY, DEEP, FINAL, PUSHED, Share, Stage, Whose, in_flight},
};
use crate::cluster::{DaemonProcess, wait_for, wait_until};

/// Blocks in which every HTLC of this story expires.
const HTLC_BLOCKS: usize = 40;
/// What Bob would like to have back.
const SPENT_SINCE: i64 = 20_000_000;

/// Plays the story. Fails if a figure is not as it must be.
pub async fn play(options: DemoOptions) -> Result<(), DemoError> {
    Stage::play(options, async |narrator: &mut Narrator, stage: &mut Stage, folder: &Path| {
        tell(narrator, stage, folder).await
    })
    .await
}

async fn tell(narrator: &mut Narrator, stage: &mut Stage, folder: &Path) -> Result<(), DemoError> {
    let channel_point = stage.open(narrator).await?;
    let alice = Share::of(&stage.alice, CAPACITY - PUSHED).await?;
    let bob = Share::of(&stage.bob, PUSHED).await?;
    stage.burst(narrator, Whose::Bob).await?;

    narrator.step("Bob's data directory is copied; then he comes back, and the payments end");
    let copy = folder.join("bob-before");
    stage.bob.copy_disk(&copy)?;
    stage.bob_comes_back().await?;
    stage.wait_for_payments().await?;
    narrator.step(&format!("Bob pays Alice {} more: each new state revokes the one before", coins(SPENT_SINCE)));
    let payment = stage.bob.pay(stage.alice.invoice(SPENT_SINCE, "a house").await?).await?;
    narrator.require("the payment succeeded", succeeded(&payment));
    let honest = alice.in_channel(stage.alice.paid().await?);
    narrator.check("both sides agree on Bob's part", CAPACITY - honest, bob.in_channel(stage.bob.paid().await?));

    narrator.step("The copy is put back while Alice is away and Bob cut off: he closes alone, with the old state");
    stage.bob.kill();
    stage.alice.kill();
    stage.bob.put_back(&copy)?;
    stage.bob.forget_addresses();
    stage.bob.start().await?;
    let old = in_flight(&stage.bob).await?;
    narrator.say(&format!("that state has {} HTLCs of Bob's and {} of Alice's", old.offered, old.received));
    let before = stage.bob.height().await?;
    stage.bob.close_channel(&channel_point, true).await?;
    stage.bob.mine_alone(1).await?;
    let moved = second_stages(&stage.bob).await?;
    stage.bob.mine_alone(1).await?;
    narrator.say(&format!("his node sends {moved} HTLC transactions (HT1a, HE1b), and a block takes them"));

    narrator.step("Alice comes back, finds the breach, and takes to_local (BR), HTLCs (HBR) and second stages (HTBR)");
    stage.alice.start().await?;
    stage.alice.wait_for_height(stage.bob.height().await?).await?;
    let (alice_node, bob_node) = (&stage.alice, &stage.bob);
    wait_until("Alice to find the breach", || async { Ok(alice_node.force_closing().await?.is_some()) }).await?;
    for _ in 0..DEEP {
        stage.mine(1).await?;
        stage.pause().await;
    }
    wait_until("all of it to be Alice's", || async {
        Ok(alice_node.force_closing().await?.is_some_and(|closing| closing.limbo_balance == 0))
    })
    .await?;

    narrator.step(&format!("{FINAL} more blocks: it is final"));
    stage.mine(FINAL).await?;
    end(&[(&stage.alice, "BREACH_CLOSE"), (&stage.bob, "LOCAL_FORCE_CLOSE")], narrator).await?;
    let ledger = Ledger::since(alice_node, before).await?;
    let commitment = ledger.spender(&channel_point).unwrap_or_default().to_owned();
    let cost = ledger.commitment_cost(&commitment, CAPACITY);
    narrator.say(&format!("the old commitment paid {} to miners and for anchors", coins(cost)));
    narrator.say(&format!("Alice's part by the last state was {}; she gets all {}:", coins(honest), coins(CAPACITY)));
    alice.check(narrator, alice_node, &ledger, CAPACITY, cost).await?;
    bob.check(narrator, bob_node, &ledger, 0, 0).await?;
    Ok(())
}

/// Mines until the cheater's own HTLC transactions are on their way, as some of the HTLCs expire; gives their number.
async fn second_stages(node: &DaemonProcess) -> Result<u64, DemoError> {
    for _ in 0..HTLC_BLOCKS {
        sleep(Duration::from_millis(150)).await;
        let found = node.client()?.chain().get_mempool(GetMempoolRequest::default()).await;
        let found = found.map_err(|status| node.call_error(status))?.into_inner();
        if found.transaction_count > 0 {
            return Ok(found.transaction_count);
        }
        node.mine_alone(1).await?;
    }
    // All have expired, and the node has not come to it yet.
    let found = wait_for("an HTLC transaction of Bob's node", || async {
        let count = node.waiting_txids().await?.len();
        Ok((count > 0).then_some(count as u64))
    });
    Ok(found.await?)
}
