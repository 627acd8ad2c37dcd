//! What a submarine swap asks for, done: on the contract's chain, and with this daemon's payments and invoices.

use bitcoin::{Amount, Transaction};
use leyden_channels::{
    payment,
    payment::outgoing::{PaymentLimits, PaymentRequest},
    swap::{
        margins,
        submarine::{Direction, Effect, Event, Lightning, Submarine},
    },
    types::{Msat, PaymentHash, UnixTime},
    wire::Feature,
};
use tracing::{info, warn};

use super::SubmarineDesk;
use crate::{
    driver::swaps::{SwapLeg, SwapRefused, refused},
    store::StoreError,
};

/// Parts of a payment at most, if the recipient takes several.
const MAX_PARTS: u64 = 16;
/// A part is on average at least so many times what is worth a claim on the chain: of smaller ones it is known only days after
/// their expiry what has become of them, and the coins may have gone back by then.
const WORTH_A_PART: u64 = 8;

impl SubmarineDesk {
    pub(super) async fn carry_out(&mut self, id: PaymentHash, effect: Effect) -> Result<Vec<Effect>, StoreError> {
        match effect {
            Effect::Fund { .. } | Effect::Release { .. } | Effect::Recall { .. } | Effect::Broadcast { .. } => {
                let hash = self.book.swaps.get(&id).map(|swap| swap.offer().chain.hash);
                let Some(chain) = hash.and_then(|hash| self.chains.at(hash)) else { return Ok(Vec::new()) };
                if let Some(followed) = self.on_chain(id, chain.as_ref(), effect).await? {
                    return Ok(followed);
                }
            }
            Effect::Pay { invoice, max_fee, max_cltv } => {
                if let Err(error) = self.pay(id, &invoice, max_fee, max_cltv).await {
                    warn!(swap = %id, %error, "the payment of a swap does not begin; it is tried again at the next block");
                }
            }
            Effect::Settle { preimage } => {
                let services = &self.book.services;
                let ctx = services.invoice_ctx();
                let settled = services.try_change(&services.invoices, |invoices| invoices.settle_held(preimage, &ctx));
                match settled {
                    // An error says that the daemon is stopping.
                    Ok(underway) => {
                        let _ = services.run(underway).await;
                    }
                    Err(error) => info!(swap = %id, %error, "the payment of a swap cannot be taken now"),
                }
            }
            Effect::CancelInvoice => {
                let services = &self.book.services;
                let canceled = services.try_change(&services.invoices, |invoices| invoices.cancel(&id, services.tip()));
                match canceled {
                    Ok(underway) => {
                        let _ = services.run(underway).await;
                    }
                    Err(error) => info!(swap = %id, %error, "the invoice of a swap cannot be given up now"),
                }
            }
        }
        self.hear(id).await
    }

    /// What is done on the contract's chain. `None`: what follows depends on how the payment stands.
    async fn on_chain(
        &mut self,
        id: PaymentHash,
        chain: &dyn SwapLeg,
        effect: Effect,
    ) -> Result<Option<Vec<Effect>>, StoreError> {
        match effect {
            Effect::Fund { script, amount, max_fee } => match chain.fund(script, amount, max_fee).await {
                Ok((transaction, fee)) => return self.funded(id, chain, transaction, fee).await.map(Some),
                Err(error) => {
                    warn!(swap = %id, %error, "the wallet cannot make the lock of a swap; it is tried again at the next block");
                    let effects = self.effects_of(id, Event::NotFunded).await?;
                    return Ok(Some(effects.unwrap_or_default()));
                }
            },
            Effect::Release { transaction } => release(id, chain, &transaction).await,
            Effect::Recall { lock, to, fee } => {
                if let Err(error) = chain.recall(&lock, to, fee).await {
                    warn!(swap = %id, %error, "a lock that came too late is not called back yet; it is tried again at the next block");
                }
            }
            Effect::Broadcast { transaction } => {
                if let Err(error) = chain.broadcast(&transaction).await {
                    let txid = transaction.compute_txid();
                    info!(swap = %id, %txid, %error, "a transaction of a swap was not taken; it is broadcast again at the next block");
                }
            }
            // Not of this chain.
            Effect::Pay { .. } | Effect::Settle { .. } | Effect::CancelInvoice => {}
        }
        Ok(None)
    }

    /// What follows from how the payment stands after an effect.
    async fn hear(&mut self, id: PaymentHash) -> Result<Vec<Effect>, StoreError> {
        let event = match self.book.swaps.get(&id).map(Submarine::lightning) {
            Some(Lightning::Pays(_)) => Event::Payment(self.payment(&id)?),
            Some(Lightning::Receives(_)) => Event::Receipt(self.receipt(&id)?),
            None => return Ok(Vec::new()),
        };
        self.effects_of(id, event).await.map(Result::unwrap_or_default)
    }

    async fn pay(&self, id: PaymentHash, text: &str, max_fee: Msat, max_cltv: u32) -> Result<(), SwapRefused> {
        let services = &self.book.services;
        let invoice = payment::Invoice::parse(text, services.invoice_network).map_err(refused)?;
        let takes_parts = invoice.features.supports(Feature::BasicMpp);
        let amount = invoice.amount.ok_or_else(|| refused("the invoice names no amount"))?;
        // Fees may have risen since it was accepted. In a swap out the payer's coins are the other's, and wait for nobody.
        if self.book.swaps.get(&id).is_some_and(|swap| swap.offer().direction == Direction::In) {
            self.check_worth(amount)?;
        }
        let parts = amount.0 / self.book.services.least_claim().0.saturating_mul(WORTH_A_PART).max(1);
        let max_parts = if takes_parts { u16::try_from(parts.clamp(1, MAX_PARTS)).unwrap_or(1) } else { 1 };
        let request = PaymentRequest {
            payment_hash: invoice.payment_hash,
            destination: invoice.payee,
            amount,
            payment_secret: Some(invoice.payment_secret),
            payment_metadata: invoice.payment_metadata,
            final_cltv_delta: invoice.min_final_cltv_expiry_delta,
            max_fee,
            deadline: UnixTime(services.now().0.saturating_add(margins::PAY_SECONDS)),
            bolt11: text.to_owned(),
            hints: invoice.route_hints,
            limits: PaymentLimits { max_parts, max_cltv: Some(max_cltv), ..PaymentLimits::default() },
            keysend: None,
            custom_records: Vec::new(),
        };
        let underway = services.start_payment(request).map_err(refused)?;
        services.run(underway).await.map_err(|_| SwapRefused::Stopping)
    }

    async fn funded(
        &mut self,
        id: PaymentHash,
        chain: &dyn SwapLeg,
        transaction: Transaction,
        fee: Amount,
    ) -> Result<Vec<Effect>, StoreError> {
        match self.effects_of(id, Event::Funded { transaction: transaction.clone(), fee }).await? {
            Ok(effects) => Ok(effects),
            Err(refusal) => {
                warn!(swap = %id, %refusal, "the lock of a swap is not what was agreed: it is not broadcast");
                release(id, chain, &transaction).await;
                self.effects_of(id, Event::NotFunded).await.map(Result::unwrap_or_default)
            }
        }
    }
}

async fn release(id: PaymentHash, chain: &dyn SwapLeg, transaction: &Transaction) {
    if let Err(error) = chain.release(transaction).await {
        warn!(swap = %id, %error, "coins of a lock that is not broadcast stay reserved until that daemon's next start");
    }
}
