//! What is deleted because its owner says so.

use std::{ops::RangeInclusive, sync::Arc};

use async_trait::async_trait;
use leyden_channels::{
    payment::incoming::{Holder, InvoiceState},
    types::{Msat, PaymentHash},
};

use super::{
    LightningNode,
    forwarding::{forward_at, numbers_until},
    internal,
    invoices::no_invoice,
};
use crate::{
    api::{ApiError, ForgetUntil, Forgetting, ForgottenForwards},
    driver::services::Services,
};

/// LND's: what is younger was hardly meant.
const LEAST_AGE: u64 = 3_600;
/// Forwards that are forgotten in one commit.
const AT_ONCE: u64 = 1_000;

#[async_trait]
impl Forgetting for LightningNode {
    async fn forget_forwards(&self, until: ForgetUntil) -> Result<ForgottenForwards, ApiError> {
        let until = cutoff(until, self.services().now().0)?;
        let numbers = self.read(move |services| numbers_until(services, until)).await?;
        let (mut forgotten, mut first) = (ForgottenForwards { count: 0, fees: Msat::ZERO }, *numbers.start());
        // Who hangs up in the middle has the older ones forgotten.
        while first <= *numbers.end() {
            let last = first.saturating_add(AT_ONCE - 1).min(*numbers.end());
            let part = self.read(move |services| sum(services, first..=last)).await?;
            let services = Arc::clone(self.services());
            self.carry_out(services.change(&services.switch, |switch| switch.forget_forwards(first..=last))).await?;
            forgotten.count = forgotten.count.saturating_add(part.count);
            forgotten.fees = Msat(forgotten.fees.0.saturating_add(part.fees.0));
            first = last.saturating_add(1);
        }
        Ok(forgotten)
    }

    async fn forget_invoice(&self, hash: PaymentHash) -> Result<(), ApiError> {
        let services = self.services();
        let invoice = services.invoice_record(&hash)?.ok_or_else(|| no_invoice(&hash))?;
        if invoice.state != InvoiceState::Canceled {
            return Err(ApiError::precondition("invoice not canceled: only one that was is deleted"));
        }
        match invoice.holder {
            Holder::Person => {}
            Holder::SwapIn | Holder::SwapOut | Holder::Crossing(_) => {
                let text = "this invoice belongs to a swap or a crossing, which may still ask how it ended";
                return Err(ApiError::precondition(text));
            }
        }
        services.store.put_invoice_number(services.invoices().next_index().saturating_sub(1)).map_err(internal)?;
        self.carry_out(services.change(&services.invoices, |invoices| invoices.forget(&invoice))).await
    }
}

/// In seconds since 1970.
fn cutoff(until: ForgetUntil, now: u64) -> Result<u64, ApiError> {
    let at = match until {
        ForgetUntil::Time(at) => at,
        ForgetUntil::Ago(seconds) => now
            .checked_sub(seconds)
            .ok_or_else(|| ApiError::invalid("delete_before_time must not be before the Unix epoch"))?,
    };
    if now.saturating_sub(at) < LEAST_AGE {
        let text =
            "delete_before_time must be at least 1h0m0s in the past to prevent accidental deletion of recent data";
        return Err(ApiError::invalid(text));
    }
    Ok(at)
}

fn sum(services: &Services, numbers: RangeInclusive<u64>) -> Result<ForgottenForwards, ApiError> {
    let mut sum = ForgottenForwards { count: 0, fees: Msat::ZERO };
    for number in numbers {
        let Some(record) = forward_at(services, number)? else { continue };
        sum.count = sum.count.saturating_add(1);
        sum.fees = Msat(sum.fees.0.saturating_add(record.fee().0));
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_young_is_not_forgotten() {
        const NOW: u64 = 1_700_000_000;
        assert_eq!(cutoff(ForgetUntil::Time(NOW - 3_600), NOW).unwrap(), NOW - 3_600);
        assert_eq!(cutoff(ForgetUntil::Ago(86_400), NOW).unwrap(), NOW - 86_400);
        for (until, words) in [
            (ForgetUntil::Time(NOW - 3_599), "1h0m0s"),
            (ForgetUntil::Time(NOW + 1), "1h0m0s"),
            (ForgetUntil::Ago(0), "1h0m0s"),
            (ForgetUntil::Ago(NOW + 1), "Unix epoch"),
        ] {
            assert!(cutoff(until, NOW).unwrap_err().to_string().contains(words), "{until:?}");
        }
    }
}
