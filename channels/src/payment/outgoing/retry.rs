//! Whether another attempt can help, and what the attempts so far have ruled out.
//!
//! ```text
//!   failed by a channel of ours ──► that channel takes less, or nothing more of this payment
//!   failed on the way ────────────► the driver's search leaves out what failed
//!   failed by the recipient ──┬── it waited too long for other parts ─────────► again
//!                             ├── less arrived than was sent on, or too little
//!                             │   time was left: the node before it did that ─► again, without that node
//!                             ├── a passing trouble, or blocks went by ───────► again, some times (a trouble that stays is
//!                             │                                                 told as one: it may pass later)
//!                             └── else ───────────────────────────────────────► the payment is over
//! ```
//!
//! What the recipient says is authentic, but the node before it decides what reaches it: it may hand on less than it was
//! given, shorten the expiry, or wait until little time is left, and the recipient then refuses what it would have taken
//! (BOLT 4, Receiving Failure Codes: only a failure with the PERM bit ends a payment). So that neither a cheating node nor a
//! recipient that invents such failures makes us try for ever, the nodes that are left out and the further tries are
//! counted.

use secp256k1::PublicKey;

use super::{Attempt, AttemptFailure, AttemptState, INSUFFICIENT_BALANCE, MPP_TIMEOUT, Payment, PaymentFailure};
use crate::onion::failure::PERM;
use crate::routing::LocalChannel;
use crate::types::{Height, Msat};

/// `incorrect_or_unknown_payment_details` (BOLT 4).
const UNKNOWN_DETAILS: u16 = PERM | 15;
/// `final_incorrect_cltv_expiry` and `final_incorrect_htlc_amount` (BOLT 4).
const FINAL_EXPIRY: u16 = 18;
const FINAL_AMOUNT: u16 = 19;

/// The most nodes before the recipient that are left out because what they handed on was refused. A recipient has more
/// honest neighbours than that, or none.
const MOST_SUSPECTS: usize = 4;
/// The most tries after passing troubles of the recipient.
const MOST_PASSING: usize = 3;
/// The most refusals of one channel of ours for want of balance; each halves what is asked of it next.
const MOST_REFUSALS: usize = 3;

/// What a recipient says that it was offered, when it refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What the HTLC brought to it.
    pub amount: Msat,
    /// The recipient's tip.
    pub height: Height,
}

/// What the recipient's refusal of an attempt comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The parts did not find one another.
    Waited,
    /// The node before the recipient handed on something else than it was given.
    LastHop(PublicKey),
    /// Blocks came faster than was allowed for, or somebody on the way held it: who, nobody can tell.
    Late,
    /// The recipient says that it will pass.
    Busy,
    /// The payment itself.
    Payment,
}

impl Payment {
    /// Whether the recipient has refused for good.
    pub(super) fn is_refused_for_good(&self) -> bool {
        let count = |wanted: Cause| self.causes().filter(|cause| *cause == wanted).count();
        let passing = count(Cause::Late) + count(Cause::Busy);
        count(Cause::Payment) > 0 || passing > MOST_PASSING || self.suspects().len() > MOST_SUSPECTS
    }

    /// Why the recipient has refused any attempt, for whatever reason but that it waited.
    pub(super) fn refusal(&self) -> Option<PaymentFailure> {
        let refusals = self.causes().filter(|cause| *cause != Cause::Waited);
        refusals.fold(None, |refusal, cause| match cause {
            Cause::Busy => refusal.or(Some(PaymentFailure::RecipientBusy)),
            Cause::Waited => refusal,
            Cause::LastHop(_) | Cause::Late | Cause::Payment => Some(PaymentFailure::IncorrectPaymentDetails),
        })
    }

    /// Nodes that have handed on to the recipient something else than they were given.
    pub fn suspects(&self) -> Vec<PublicKey> {
        let mut suspects = Vec::new();
        for cause in self.causes() {
            if let Cause::LastHop(node) = cause
                && !suspects.contains(&node)
            {
                suspects.push(node);
            }
        }
        suspects
    }

    fn causes(&self) -> impl Iterator<Item = Cause> + '_ {
        self.attempts.iter().filter_map(|attempt| match &attempt.state {
            AttemptState::Failed(failure) => self.cause(attempt, failure),
            AttemptState::InFlight | AttemptState::Succeeded => None,
        })
    }

    /// `None` if the recipient did not fail it.
    fn cause(&self, attempt: &Attempt, failure: &AttemptFailure) -> Option<Cause> {
        let hops = attempt.route.hops();
        if failure.source.map(usize::from) != Some(hops.len()) {
            return None;
        }
        let last = attempt.route.last();
        // What a direct peer is offered nobody else has touched.
        let before = hops.len().checked_sub(2).and_then(|at| hops.get(at)).map(|hop| Cause::LastHop(hop.node_id));
        let less = |refused: &Refused| refused.amount < last.amount;
        let late = |refused: &Refused| {
            let needed = refused.height.0.saturating_add(self.request.final_cltv_delta);
            needed > last.cltv_expiry.0
        };
        Some(match failure.code {
            MPP_TIMEOUT => Cause::Waited,
            FINAL_EXPIRY | FINAL_AMOUNT => before.unwrap_or(Cause::Payment),
            UNKNOWN_DETAILS if failure.refused.as_ref().is_some_and(less) => before.unwrap_or(Cause::Payment),
            UNKNOWN_DETAILS if failure.refused.as_ref().is_some_and(late) => Cause::Late,
            code if code & PERM == 0 => Cause::Busy,
            _ => Cause::Payment,
        })
    }

    /// How many parts may still be added to those that are under way.
    pub fn parts_left(&self) -> usize {
        let live = self.attempts.iter().filter(|attempt| !matches!(attempt.state, AttemptState::Failed(_))).count();
        usize::from(self.request.limits.max_parts).saturating_sub(live)
    }

    /// A channel of ours as far as this payment may leave by it, after what the channel has refused of it; `None` if it may
    /// not.
    pub fn first_channel(&self, channel: &LocalChannel) -> Option<LocalChannel> {
        let limits = &self.request.limits;
        if !limits.outgoing.is_empty() && !limits.outgoing.contains(&channel.short_channel_id) {
            return None;
        }
        let mut most = channel.htlc_maximum_msat.min(limits.max_part.unwrap_or(Msat(u64::MAX)));
        let mut refusals = 0;
        for attempt in &self.attempts {
            let AttemptState::Failed(failure) = &attempt.state else { continue };
            let first = attempt.route.first();
            if failure.source != Some(0) || first.channel != Some(channel.short_channel_id) {
                continue;
            }
            refusals += 1;
            // A balance may do for less. What it lacks else (slots, room for small HTLCs, the peer) it will lack at once
            // again.
            if failure.code != INSUFFICIENT_BALANCE || refusals >= MOST_REFUSALS {
                return None;
            }
            most = most.min(Msat(first.amount.0 / 2));
        }
        Some(LocalChannel { htlc_maximum_msat: most, ..*channel })
    }
}
