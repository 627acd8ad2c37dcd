//! Dave is silent: his lock runs out, Carol takes the HTLC back on the chain, and then Bob and Alice have theirs back
//! between themselves, each before the lock that they gave ends.

use leyden_channels::types::PaymentPreimage;
use leyden_proto::lnrpc::payment::PaymentStatus;

use super::{
    AMOUNT, DAY_BLOCKS, FEE,
    cast::{self, Cast},
};
use crate::{
    cluster::wait_until,
    demo::{DemoError, Narrator, narrator::coins},
};

const PREIMAGE: PaymentPreimage = PaymentPreimage([0x51; 32]);
/// Blocks within which all must be over after Dave's lock has ended.
const SOON: u32 = 30;

/// Gives the channel that Carol had to close.
pub(super) async fn tell(narrator: &mut Narrator, cast: &mut Cast) -> Result<String, DemoError> {
    narrator
        .step("Alice pays 0.05 again. The HTLCs reach Dave, who could take the money with his preimage, and is silent");
    let [alices, bobs, ..] = [cast::in_channels(&cast.alice).await?, cast::in_channels(&cast.bob).await?];
    let closed = cast::channel_point(&cast.carol, &cast.dave).await?;
    let begun = cast.alice.height().await?;
    let hash = PREIMAGE.hash().0;
    cast.pay_held(narrator, PREIMAGE).await?;
    cast.dave.kill();

    narrator.step("A day passes; until Dave's lock has ended nobody gets anything back");
    let ends = |days: u32| begun + days * DAY_BLOCKS;
    cast.mine_to(ends(1)).await?;
    cast.pause().await;
    let still = cast.carol.channels().await?.len();
    narrator.require("Carol's channels are open", still == 2);
    narrator.require("Alice's payment is in flight", cast.payment(&hash).await? == PaymentStatus::InFlight);

    narrator
        .step("Carol closes her channel with Dave and takes the HTLC back (HT1a); then the others do off the chain");
    let mut refunds: [Option<u32>; 3] = [None; 3];
    for _ in 0..SOON {
        cast.mine_slowly(1).await?;
        let height = cast.alice.height().await?;
        // Upstream first: what is found done later in this round may have come later, but never earlier.
        let alices = cast.payment(&hash).await? == PaymentStatus::Failed;
        let bobs = !cast::has_htlcs(&cast.carol).await?;
        let carols = cast::has_htlc_transaction(&cast.carol, &closed).await?;
        for (refund, done) in refunds.iter_mut().zip([carols, bobs, alices]) {
            *refund = refund.or(done.then_some(height));
        }
        if alices {
            break;
        }
    }
    wait_until("Alice's payment to fail", || async { Ok(cast.payment(&hash).await? == PaymentStatus::Failed) }).await?;
    let height = cast.alice.height().await?;
    let order = [("Carol", AMOUNT), ("Bob", AMOUNT + FEE), ("Alice", AMOUNT + 2 * FEE)];
    for ((who, amount), refund) in order.into_iter().zip(refunds) {
        narrator.say(&format!("{who} has {} back at block {}", coins(amount), refund.unwrap_or(height)));
    }
    let heights: Vec<u32> = refunds.iter().map(|refund| refund.unwrap_or(height)).collect();
    let is_first = heights.first() < heights.last();
    narrator.require("Carol first, then Bob, then Alice", heights.is_sorted() && is_first);
    narrator.require("all of them before Bob's lock to Carol has ended", height < ends(2));
    narrator.check("Alice has in her channel, as before", alices, cast::in_channels(&cast.alice).await?);
    narrator.check("Bob has in his channels, as before", bobs, cast::in_channels(&cast.bob).await?);

    cast.dave.start().await?;
    cast.dave.wait_for_height(height).await?;
    Ok(closed)
}
