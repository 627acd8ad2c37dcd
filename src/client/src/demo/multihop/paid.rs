//! The payment, and everybody on the way has what is theirs.

use std::time::Duration;

use leyden_proto::lnrpc::{Invoice, Payment};

use super::{AMOUNT, DAY_BLOCKS, FEE, cast::Cast};
use crate::{
    cluster::{ClusterError, DaemonProcess, wait_for},
    demo::{DemoError, Narrator, calls::succeeded, narrator::coins},
};

pub(super) async fn tell(narrator: &mut Narrator, cast: &Cast) -> Result<(), DemoError> {
    let before = cast.fortunes().await?;
    narrator.step("Dave asks for 0.05; Alice knows only her channel to Bob and what gossip tells her");
    let payment = pay(&cast.alice, &cast.dave).await?;
    narrator.require("the payment succeeded", succeeded(&payment));
    let tip = i64::from(cast.alice.height().await?);
    let route = payment.htlcs.iter().rev().find_map(|attempt| attempt.route.clone()).unwrap_or_default();
    let mut amounts = vec![(route.total_amt_msat, i64::from(route.total_time_lock))];
    amounts.extend(route.hops.iter().map(|hop| (hop.amt_to_forward_msat, i64::from(hop.expiry))));
    let expected = [
        ("Alice to Bob", AMOUNT + 2 * FEE, 3 * DAY_BLOCKS),
        ("Bob to Carol", AMOUNT + FEE, 2 * DAY_BLOCKS),
        ("Carol to Dave", AMOUNT, DAY_BLOCKS),
    ];
    for ((who, amount, blocks), (offered, expiry)) in expected.into_iter().zip(amounts) {
        narrator.say(&format!(
            "{who}: {} until block {expiry}, {} blocks from now",
            coins(offered / 1000),
            expiry - tip
        ));
        narrator.check(&format!("{who} offers"), amount, offered / 1000);
        narrator.require(&format!("{who}: the lock ends after {blocks} blocks"), expiry - tip == i64::from(blocks));
    }

    narrator.step("Afterwards Dave has 0.05 more, Bob and Carol 0.001 each, and Alice 0.052 less");
    let after = cast.fortunes().await?;
    let gains = [-(AMOUNT + 2 * FEE), FEE, FEE, AMOUNT];
    for (((node, gain), before), after) in cast.all().into_iter().zip(gains).zip(before).zip(after) {
        narrator.check(&format!("{} has in channels and wallet", node.name()), before + gain, after);
    }
    Ok(())
}

/// Until gossip has told Alice of the channels.
async fn pay(alice: &DaemonProcess, dave: &DaemonProcess) -> Result<Payment, ClusterError> {
    let request = Invoice { value: AMOUNT, cltv_expiry: u64::from(DAY_BLOCKS), ..Invoice::default() };
    let added = dave.client()?.lightning().add_invoice(request).await.map_err(|status| dave.call_error(status))?;
    let payment_request = added.into_inner().payment_request;
    wait_for("a route from Alice to Dave", || async {
        let payment = alice.pay_within(payment_request.clone(), 3 * DAY_BLOCKS as i32).await?;
        if succeeded(&payment) {
            return Ok(Some(payment));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
        Ok(None)
    })
    .await
}
