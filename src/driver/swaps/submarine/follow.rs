//! What a submarine swap is told: how its payment stands, a lock that the wallet knows, the blocks of the contract's chain, and who
//! spends the contract in the mempool.

use leyden_channels::{
    payment::{incoming::InvoiceState, outgoing::PaymentState},
    swap::{
        BlockSeen, Tip,
        submarine::{Event, Lightning, Payment, Receipt, Submarine},
    },
    types::{CltvExpiry, Height, Msat, PaymentHash},
};

use super::SubmarineDesk;
use crate::{
    driver::swaps::{
        LegBlock, LegError, LegStatus, SwapLeg,
        leg::{back_to, own_lock},
    },
    store::StoreError,
};

impl SubmarineDesk {
    /// How the payment stands, if that is another than before.
    pub(super) async fn hear_of_payment(&mut self, id: PaymentHash) -> Result<(), StoreError> {
        let Some(before) = self.book.swaps.get(&id).map(Submarine::lightning) else { return Ok(()) };
        let (now, event) = match before {
            Lightning::Pays(_) => {
                let payment = self.payment(&id)?;
                (Lightning::Pays(payment), Event::Payment(payment))
            }
            Lightning::Receives(_) => {
                let receipt = self.receipt(&id)?;
                (Lightning::Receives(receipt), Event::Receipt(receipt))
            }
        };
        if now != before {
            self.handle_or_log(id, event).await?;
        }
        Ok(())
    }

    pub(super) fn payment(&self, hash: &PaymentHash) -> Result<Payment, StoreError> {
        if self.book.services.payments().pending(hash).is_some() {
            return Ok(Payment::InFlight);
        }
        let record = self.book.services.payment_record(hash)?;
        Ok(match record.map(|payment| payment.state) {
            None => Payment::Unpaid,
            // It has just ended and is being written.
            Some(PaymentState::Pending) => Payment::InFlight,
            Some(PaymentState::Succeeded { preimage, .. }) => Payment::Paid(preimage),
            Some(PaymentState::Failed { .. }) => Payment::Failed,
        })
    }

    pub(super) fn receipt(&self, hash: &PaymentHash) -> Result<Receipt, StoreError> {
        let record = self.book.services.invoice_record(hash)?;
        Ok(match record.map(|invoice| invoice.state) {
            Some(InvoiceState::Open) => Receipt::Open,
            Some(InvoiceState::Accepted(accepted)) => {
                let first = accepted.htlcs.iter().map(|paid| paid.cltv_expiry.0).min();
                Receipt::Held(CltvExpiry(first.unwrap_or_default()))
            }
            Some(InvoiceState::Settled(settled)) if settled.kept() == Msat::default() => Receipt::TakenBack,
            Some(InvoiceState::Settled(_)) => Receipt::Settled,
            Some(InvoiceState::Canceled) | None => Receipt::Canceled,
        })
    }

    /// A lock that the wallet knows: at times, and with each block.
    pub(super) async fn look_for_own_lock(
        &mut self,
        id: PaymentHash,
        repeats: bool,
    ) -> Result<Result<(), LegError>, StoreError> {
        let waits = |swap: &&Submarine| swap.gives_coins() && swap.leg().funding.is_none();
        let Some(swap) = self.book.swaps.get(&id).filter(waits) else { return Ok(Ok(())) };
        let hash = swap.offer().chain.hash;
        let tip = self.chains.status(hash).map(|status| status.tip.hash);
        let is_due = repeats || tip.is_some_and(|tip| tip != swap.leg().tip.hash);
        let Some((contract, chain)) = swap.contract().filter(|_| is_due).zip(self.chains.at(hash)) else {
            return Ok(Ok(()));
        };
        match own_lock(chain.as_ref(), &contract).await {
            Ok(Some(transaction)) => {
                self.handle_or_log(id, Event::OwnLock(&transaction)).await?;
                Ok(Ok(()))
            }
            Ok(None) => Ok(Ok(())),
            Err(error) => Ok(Err(error)),
        }
    }

    /// The chain up to its tip, then the mempool. Whether any block was new.
    pub(super) async fn follow(&mut self, id: PaymentHash) -> Result<Result<bool, LegError>, StoreError> {
        let Some(hash) = self.book.swaps.get(&id).map(|swap| swap.offer().chain.hash) else { return Ok(Ok(false)) };
        let Some((status, chain)) = self.chains.status(hash).cloned().zip(self.chains.at(hash)) else {
            return Ok(Err(self.chains.not_followed(hash)));
        };
        let moved = self.follow_blocks(id, &status, chain.as_ref()).await?;
        // Look for a redeem before refunding, in the mempool too; also if a block is missing.
        let watched = self.book.swaps.get(&id).map(Submarine::leg).filter(|state| state.taken.is_none());
        if let Some(lock) = watched.and_then(|state| state.lock) {
            match chain.spender(lock.outpoint).await {
                Ok(Some(transaction)) => {
                    self.handle_or_log(id, Event::Mempool(&transaction)).await?;
                }
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(moved)
    }

    /// The blocks up to the tip. Whether any was new.
    async fn follow_blocks(
        &mut self,
        id: PaymentHash,
        status: &LegStatus,
        chain: &dyn SwapLeg,
    ) -> Result<Result<bool, LegError>, StoreError> {
        let end = status.tip;
        let Some(known) = self.book.swaps.get(&id).map(Submarine::leg) else { return Ok(Ok(false)) };
        match back_to(chain, known, status).await {
            Ok(Some(to)) => {
                self.handle_or_log(id, Event::Reorganized(to)).await?;
            }
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
        let mut has_moved = false;
        while let Some(next) = self.next_height(&id, end.height) {
            let block = match chain.block(next).await {
                Ok(Some(block)) => block,
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            };
            let LegBlock { tip: Tip { height, hash, median_time }, previous, transactions } = block;
            let seen = BlockSeen { height, hash, previous, median_time, transactions: &transactions };
            // After a reorganisation in between the next look begins further back.
            if !self.handle_or_log(id, Event::Block(seen)).await? {
                break;
            }
            has_moved = true;
        }
        Ok(Ok(has_moved))
    }

    fn next_height(&self, id: &PaymentHash, end: Height) -> Option<Height> {
        let height = self.book.swaps.get(id)?.leg().tip.height.0;
        (height < end.0).then(|| Height(height.saturating_add(1)))
    }
}
