//! The force-close story: Bob is gone in the middle of payments, Alice closes alone. Each HTLC ends with its rightful
//! owner, and Alice waits the paper's 1000 blocks for her own part.

use std::path::Path;

use super::{
    DemoError, DemoOptions, Narrator,
    ledger::Ledger,
    narrator::coins,
    stage::{CAPACITY, FINAL, PUSHED, Share, Stage, Whose},
};
use crate::cluster::{ClusterError, DaemonProcess, wait_until};

/// Blocks after which all HTLCs of this story have expired and been taken back: a payment that found no way at once may
/// have got a later expiry, by chance.
const EXPIRED: u32 = 200;

/// Plays the story. Fails if a figure is not as it must be.
pub async fn play(options: DemoOptions) -> Result<(), DemoError> {
    Stage::play(options, async |narrator: &mut Narrator, stage: &mut Stage, _: &Path| tell(narrator, stage).await).await
}

async fn tell(narrator: &mut Narrator, stage: &mut Stage) -> Result<(), DemoError> {
    let channel_point = stage.open(narrator).await?;
    let alice = Share::of(&stage.alice, CAPACITY - PUSHED).await?;
    let bob = Share::of(&stage.bob, PUSHED).await?;
    stage.burst(narrator, Whose::Alice).await?;
    let before = stage.alice.height().await?;
    let limits = stage.alice.only_channel().await?.local_constraints.unwrap_or_default();
    let delay = limits.csv_delay;

    narrator.step("Bob does not answer: Alice closes alone, with her latest commitment transaction (C1a)");
    stage.alice.close_channel(&channel_point, true).await?;
    stage.alice.mine(1, Some(super::NOBODY)).await?;
    let matures = matures(stage).await?;
    let waits = matures - before - 1;
    narrator.require(&format!("her own output (RD1a) waits {waits} blocks"), waits == delay);

    narrator.step("Bob comes back and finds the commitment in the chain; HTLCs are taken with preimages, or expire");
    stage.bob.start().await?;
    let mut waited = 0;
    while waited < EXPIRED && stage.has_payments_in_flight().await? {
        stage.mine(1).await?;
        stage.pause().await;
        waited += 1;
    }
    stage.wait_for_payments().await?;
    let (alices, bobs) = (stage.alice.paid().await?, stage.bob.paid().await?);
    narrator.check("Alice has proof of payments worth", alices.sent, bobs.received);
    narrator.check("Bob has proof of payments worth", bobs.sent, alices.received);

    narrator.step(&format!("{delay} blocks after the close, and not one earlier, Alice's part is hers"));
    let height = stage.alice.height().await?;
    stage.mine(matures - height - 2).await?;
    stage.pause().await;
    let own = stage.alice.force_closing().await?.unwrap_or_default();
    let poor = stage.alice.wallet_balance().await?;
    narrator.require("one block before, it is still in limbo", own.blocks_til_maturity == 1 && own.limbo_balance > 0);
    // Second stages were confirmed later than the commitment, and wait as long.
    for _ in 0..waited + 2 {
        stage.mine(1).await?;
        stage.pause().await;
    }
    let rich = stage.alice.wallet_balance().await?;
    narrator.say(&format!("Alice's wallet: {} before, {} after", coins(poor), coins(rich)));

    narrator.step(&format!("{FINAL} more blocks: nothing of it can be taken back, and both forget the channel"));
    stage.mine(FINAL).await?;
    end(&[(&stage.alice, "LOCAL_FORCE_CLOSE"), (&stage.bob, "REMOTE_FORCE_CLOSE")], narrator).await?;
    let ledger = Ledger::since(&stage.alice, before).await?;
    let commitment = ledger.spender(&channel_point).unwrap_or_default();
    let cost = ledger.commitment_cost(commitment, CAPACITY);
    narrator
        .say(&format!("the commitment paid {} to miners and for anchors; that is the opener's to bear", coins(cost)));
    alice.check(narrator, &stage.alice, &ledger, alice.in_channel(alices), cost).await?;
    bob.check(narrator, &stage.bob, &ledger, bob.in_channel(bobs), 0).await?;
    let gained = stage.alice.wallet_balance().await? - alice.wallet;
    let closed = stage.alice.closed_channels().await?;
    narrator.check(
        "Alice's gain by `leyden closedchannels`",
        gained,
        closed.first().map_or(0, |one| one.settled_balance),
    );
    Ok(())
}

/// The height from which on Alice's delayed output can be spent, once the commitment is in the chain.
async fn matures(stage: &Stage) -> Result<u32, DemoError> {
    let alice = &stage.alice;
    wait_until("Alice to see her commitment confirmed", || async { Ok(alice.force_closing().await?.is_some()) })
        .await?;
    let closing = alice.force_closing().await?;
    Ok(closing.map_or(0, |closing| closing.maturity_height))
}

/// All have forgotten the channel, and remember how it was closed.
pub(super) async fn end(closes: &[(&DaemonProcess, &str)], narrator: &mut Narrator) -> Result<(), ClusterError> {
    for (node, kind) in closes {
        wait_until(&format!("{} to resolve the channel", node.name()), || async {
            Ok(node.pending_channels().await?.pending_force_closing_channels.is_empty())
        })
        .await?;
        let closed = node.closed_channels().await?;
        let got: Vec<&str> = closed.iter().map(|closed| closed.close_type().as_str_name()).collect();
        narrator.require(&format!("{} remembers the channel as {kind} ({got:?})", node.name()), got == [*kind]);
    }
    Ok(())
}
