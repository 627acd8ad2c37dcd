//! Payments over routes that the caller has chosen, part by part.
//!
//! ```text
//!   part ──► no payment yet, or a failed one ──► Pending, this part under way
//!        └─► parts of it are under way ────────► one more
//! ```
//!
//! No route is looked for beside those that are given: what fails, fails. The payment ends as any other does, with its
//! first preimage, or when no part of it is under way any more.

use super::{
    AttemptId, Outbox, Payment, PaymentEffect, PaymentRequest, Payments, Route, RouteError, SecretKey, StartError,
    UnixTime, offer,
};

/// Why no part was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum OnRouteError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error("other parts of this payment are under way with another total or another secret")]
    Differs,
}

/// Never: so that no route is looked for.
pub(super) const NO_SEARCH: UnixTime = UnixTime(0);

impl Payments {
    /// Sends one part over `route`. `request` says the same for every part of a payment; its deadline has no meaning.
    /// `stored` is as for [`Payments::start`].
    pub fn send_on_route(
        &mut self,
        request: PaymentRequest,
        route: Route,
        stored: Option<&Payment>,
        session_key: SecretKey,
        now: UnixTime,
    ) -> Result<(AttemptId, Outbox<PaymentEffect>), OnRouteError> {
        let hash = request.payment_hash;
        let request = PaymentRequest { deadline: NO_SEARCH, ..request };
        let mut outbox = Outbox::default();
        let mut payment = match self.pending.get(&hash) {
            // A payment that looks for its own routes would count a stranger's part among its own.
            Some(payment) if payment.request.deadline != NO_SEARCH => return Err(StartError::InFlight.into()),
            Some(payment) if payment.request != request => return Err(OnRouteError::Differs),
            Some(payment) => payment.clone(),
            None => self.new_payment(request, stored, now, &mut outbox)?,
        };
        // Nothing is kept of a part that cannot be.
        let last = offer(&mut payment, vec![route], &mut || session_key, self.last_attempt, now, &mut outbox)?;
        self.last_attempt = last;
        self.last_index = self.last_index.max(payment.index);
        self.by_attempt.insert(AttemptId(last), hash);
        self.pending.insert(hash, payment);
        Ok((AttemptId(last), outbox))
    }
}
