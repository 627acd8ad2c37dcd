//! Payments that the user wants forgotten.
//!
//! Their numbers are never given again: an HTLC of a forgotten payment may still be under way (the other parts of one whose
//! recipient has shown the preimage), and must not be taken for another one's.

use super::{AttemptState, Payment, PaymentEffect, PaymentState, Payments};
use crate::channel::{Key, Outbox};
use crate::payment::record;

/// The last numbers that were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Of a payment.
    pub index: u64,
    /// Of an attempt.
    pub attempt: u64,
}

impl Payments {
    /// To be kept before anything is forgotten.
    pub fn numbers(&self) -> Numbers {
        Numbers { index: self.last_index, attempt: self.last_attempt }
    }

    /// No number up to these is given again.
    pub fn begin_after(&mut self, numbers: Numbers) {
        self.last_index = self.last_index.max(numbers.index);
        self.last_attempt = self.last_attempt.max(numbers.attempt);
    }

    /// Forgets a payment that is over; nothing happens to one that is not. `is_latest`: of those with its hash it is the last.
    pub fn delete(&self, payment: &Payment, is_latest: bool) -> Outbox<PaymentEffect> {
        let mut outbox = Outbox::default();
        if !self.is_under_way(payment) {
            outbox.delete(Key::Payment(payment.index));
            if is_latest {
                outbox.delete(Key::PaymentIndex(payment.request.payment_hash));
            }
        }
        outbox
    }

    /// Forgets those attempts of a payment that is over that failed; whether there are any.
    pub fn forget_failed_attempts(&self, mut payment: Payment) -> Option<Outbox<PaymentEffect>> {
        let before = payment.attempts.len();
        payment.attempts.retain(|attempt| !matches!(attempt.state, AttemptState::Failed(_)));
        if self.is_under_way(&payment) || payment.attempts.len() == before {
            return None;
        }
        let mut outbox = Outbox::default();
        outbox.put(Key::Payment(payment.index), record::encode_payment(&payment));
        Some(outbox)
    }

    /// Whether a payment is not over, or its end is not written yet.
    pub fn is_under_way(&self, payment: &Payment) -> bool {
        let is_pending = self.pending.get(&payment.request.payment_hash).is_some_and(|one| one.index == payment.index);
        is_pending || payment.state == PaymentState::Pending
    }

    /// All that are not over.
    pub fn under_way(&self) -> impl Iterator<Item = &Payment> {
        self.pending.values()
    }
}
