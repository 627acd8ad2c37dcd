//! Bob is away while Dave takes the money: Carol has paid and knows the preimage, so she takes Bob's HTLC on the chain
//! before his lock ends. Her transaction shows the preimage to Bob, who comes back in time to be paid by Alice.

use leyden_channels::types::PaymentPreimage;
use leyden_proto::{
    invoicesrpc::SettleInvoiceMsg,
    lnrpc::{invoice::InvoiceState, payment::PaymentStatus},
};

use super::{
    AMOUNT, CAPACITY, DAY_BLOCKS, FEE,
    cast::{self, Cast},
};
use crate::{
    cluster::wait_until,
    demo::{DemoError, Narrator},
};

const PREIMAGE: PaymentPreimage = PaymentPreimage([0x52; 32]);
/// Blocks before the end of Bob's lock at which he is still waited for.
const EARLY: u32 = 20;

/// Gives the channel of Bob's that Carol had to close.
pub(super) async fn tell(narrator: &mut Narrator, cast: &mut Cast) -> Result<String, DemoError> {
    narrator.step("Carol opens another channel to Dave, and Alice pays 0.05 for the third time; the HTLCs reach Dave");
    cast.carol.connect(&cast.dave).await?;
    cast.carol.open_channel(&cast.dave, CAPACITY, 0).await?;
    cast.mine_fundings().await?;
    cast.carol.wait_for_active_channels(2).await?;
    cast.dave.wait_for_active_channels(1).await?;
    let alices = cast::in_channels(&cast.alice).await?;
    let closed = cast::channel_point(&cast.bob, &cast.carol).await?;
    let hash = PREIMAGE.hash().0;
    cast.pay_held(narrator, PREIMAGE).await?;
    let begun = cast.alice.height().await?;

    narrator.step("Bob's process is killed. Dave takes the money: Carol learns the preimage, and cannot tell Bob");
    cast.bob.kill();
    let dave = &cast.dave;
    let settle = SettleInvoiceMsg { preimage: PREIMAGE.0.to_vec() };
    dave.client()?.invoices().settle_invoice(settle).await.map_err(|status| dave.call_error(status))?;
    wait_until("Dave to be paid", || async {
        Ok(cast.invoice(&hash).await? == InvoiceState::Settled && !cast::has_htlcs(dave).await?)
    })
    .await?;
    narrator.check("Dave has in his new channel", AMOUNT, cast::in_channels(dave).await?);
    narrator.require("Alice's payment is in flight", cast.payment(&hash).await? == PaymentStatus::InFlight);

    let bobs_lock = begun + 2 * DAY_BLOCKS;
    narrator.step("Carol waits for Bob nearly to the end of his lock; then she closes and takes the HTLC (HE1b)");
    cast.mine_to(bobs_lock - EARLY).await?;
    cast.pause().await;
    narrator.require("20 blocks before it her channels are open", cast.carol.channels().await?.len() == 2);
    while cast.alice.height().await? < bobs_lock && !cast::has_htlc_transaction(&cast.carol, &closed).await? {
        cast.mine_slowly(1).await?;
    }
    let taken = cast.alice.height().await?;
    narrator.say(&format!(
        "her transaction is in block {taken}; Bob could have taken the HTLC back after block {bobs_lock}"
    ));
    narrator.require("Carol was in time", cast::has_htlc_transaction(&cast.carol, &closed).await? && taken < bobs_lock);

    narrator.step("Bob comes back, finds the preimage in Carol's transaction, and Alice pays him between themselves");
    cast.bob.start().await?;
    cast.bob.wait_for_height(taken).await?;
    cast.alice.connect(&cast.bob).await?;
    cast.alice.wait_for_active_channels(1).await?;
    cast.mine_slowly(2).await?;
    wait_until("Alice to be told the preimage", || async {
        Ok(cast.payment(&hash).await? == PaymentStatus::Succeeded && !cast::has_htlcs(&cast.alice).await?)
    })
    .await?;
    let height = cast.alice.height().await?;
    narrator.require("it is before Alice's lock to Bob has ended", height < begun + 3 * DAY_BLOCKS);
    narrator.check("Alice has in her channel", alices - AMOUNT - 2 * FEE, cast::in_channels(&cast.alice).await?);
    Ok(closed)
}
