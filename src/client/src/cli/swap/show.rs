//! `leyden swap show`: all that a swap is made of, as hex.

use clap::Args;
use leyden_proto::leyden::{ListSwapsRequest, SwapLegInfo};

use super::super::{CliError, Context};

/// All that a swap is made of, as hex: contracts, locks, the refund that was signed before the lock, the secret.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden swap show 9f3c     keep the refund elsewhere, too: any node takes it after the expiry")]
pub(super) struct Show {
    /// The swap's id, or the beginning of it
    id: String,
}

impl Show {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let id = super::find(&client, &self.id).await?;
        let swaps = client.swap().list(ListSwapsRequest {}).await?.into_inner().swaps;
        let found = swaps.into_iter().find(|swap| swap.id == id);
        let swap = found.ok_or_else(|| CliError::Usage("the swap is gone: see `leyden swap list`".to_owned()))?;
        context.show(&swap, || {
            let mut text = super::for_people(context, &swap);
            let mut add = |what: &str, found: String| {
                if !found.is_empty() {
                    text.push_str(&format!("\n\n{what}:\n{found}"));
                }
            };
            add("offer", hex::encode(&swap.offer));
            add("acceptance", hex::encode(&swap.acceptance));
            add("secret", hex::encode(&swap.secret));
            let legs: [(&str, Option<&SwapLegInfo>); 2] =
                [("yours", swap.give.as_ref()), ("the other's", swap.get.as_ref())];
            for (whose, leg) in legs.into_iter().filter_map(|(whose, leg)| Some((whose, leg?))) {
                add(&format!("contract of {whose}"), hex::encode(&leg.contract));
                add("transaction that locks", hex::encode(&leg.lock_transaction));
                add("refund, signed before the lock", hex::encode(&leg.refund_transaction));
                let is_taken = !leg.spent_by.is_empty();
                add(if is_taken { "claim" } else { "claim on its way" }, hex::encode(&leg.claim_transaction));
                add("invoice", leg.invoice.clone());
            }
            text
        })
    }
}
