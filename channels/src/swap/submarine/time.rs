//! How much time a submarine swap has at a moment: in blocks if contract and payment lie on one chain, in seconds if on two.

use super::{
    across::Paces,
    terms::{Clock, Direction, Offer},
};
use crate::{
    margins::{CLAIM_MARGIN, FINAL_DEPTH},
    swap::{Tip, margins, terms::TermsError},
    types::{CltvExpiry, Height, UnixTime},
};

/// The chain of the payment at a moment. Only a swap across two chains looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentChain {
    /// How far it is.
    pub tip: Height,
    /// Seconds between its blocks as they were found lately ([`margins::measured_pace`]); 0 if that is not known, or tells nothing.
    pub measured: u32,
    /// Whether the tip may be relied on.
    pub is_current: bool,
}

/// A moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'a> {
    /// The time of day.
    pub now: UnixTime,
    /// How far the contract's chain was looked at.
    pub coins: &'a Tip,
    /// Seconds between its last blocks, as measured; 0 if not known.
    pub coins_measured: u32,
    /// The payment's chain.
    pub payment: PaymentChain,
}

/// How much time an offer leaves at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeLeft<'a> {
    pub offer: &'a Offer,
    pub at: Moment<'a>,
}

/// What is left until the refund, by the clock of the swap.
enum Left {
    Blocks(u32),
    Seconds { left: u64, paces: Paces },
}

impl TimeLeft<'_> {
    fn left(&self) -> Left {
        let Moment { now, coins, coins_measured, payment } = self.at;
        match &self.offer.clock {
            Clock::Height(refund) => Left::Blocks(refund.0.saturating_sub(coins.height.0)),
            Clock::Time { refund, payment_chain } => {
                // The later of two clocks: what may be refunded soon counts as if it were refunded.
                let left = refund.0.saturating_sub(now.max(coins.median_time).0);
                let paces = Paces::new(&self.offer.chain, coins_measured, payment_chain, payment.measured);
                Left::Seconds { left, paces }
            }
        }
    }

    /// Blocks of the payment's chain until this height.
    fn payment_blocks(&self, expiry: CltvExpiry) -> u32 {
        let tip = match self.offer.clock {
            Clock::Height(_) => self.at.coins.height,
            Clock::Time { .. } => self.at.payment.tip,
        };
        expiry.0.saturating_sub(tip.0)
    }

    /// Whether the tip of the payment's chain may be relied on, if that is another one.
    pub(super) fn payment_is_current(&self) -> bool {
        match self.offer.clock {
            Clock::Height(_) => true,
            Clock::Time { .. } => self.at.payment.is_current,
        }
    }

    /// Whether as much is left as a swap needs that begins now, and not too much.
    pub(super) fn check_begin(&self, depth: u32) -> Result<(), TermsError> {
        match self.left() {
            Left::Blocks(left) => self.offer.check_blocks(left, depth),
            Left::Seconds { left, paces } => {
                let needed = match self.offer.direction {
                    Direction::In => paces.begin_in_seconds(depth),
                    Direction::Out => paces.begin_out_seconds(depth),
                };
                if left < needed {
                    return Err(TermsError::TooFewSeconds { left, needed });
                }
                if left > margins::MAX_SECONDS { Err(TermsError::TooFar) } else { Ok(()) }
            }
        }
    }

    /// Whether there is too little time for whoever locks first, or pays first.
    pub(super) fn is_too_late_to_begin(&self, depth: u32) -> bool {
        match self.left() {
            Left::Blocks(left) => left < self.offer.blocks_to_begin(depth),
            Left::Seconds { .. } => matches!(self.check_begin(depth), Err(TermsError::TooFewSeconds { .. })),
        }
    }

    /// Swap out: whether a payment with the expiry of the offer outlasts the lock if it is held now.
    pub(super) fn check_hold(&self) -> Result<(), TermsError> {
        let needed = match self.left() {
            Left::Blocks(left) => left.saturating_add(margins::hold_gap(&self.offer.chain)),
            Left::Seconds { left, paces } => paces.hold_blocks(left),
        };
        let blocks = self.offer.final_cltv;
        if blocks < needed { Err(TermsError::HeldTooShort { blocks, needed }) } else { Ok(()) }
    }

    /// Swap in: for how many blocks the HTLCs of the payment may be offered now; `None` if there is no time for them.
    pub(super) fn pay_limit(&self) -> Option<u32> {
        match self.left() {
            Left::Blocks(left) => {
                let chain = &self.offer.chain;
                let limit = left.saturating_sub(margins::resolve_margin(chain)).saturating_sub(margins::PAY_BLOCKS);
                (limit >= margins::IN_FINAL_CLTV).then_some(limit)
            }
            Left::Seconds { left, paces } => paces.pay_limit(left),
        }
    }

    /// Whether a redeem that begins now is over before the refund is possible.
    pub(super) fn may_redeem(&self) -> bool {
        match self.left() {
            Left::Blocks(left) => left >= margins::redeem_blocks(&self.offer.chain),
            Left::Seconds { left, paces } => left >= paces.reveal_seconds(),
        }
    }

    /// Blocks of the contract's chain within which a redeem should have paid its whole budget.
    pub(super) fn blocks_to_redeem(&self) -> u32 {
        match self.left() {
            Left::Blocks(left) => left,
            Left::Seconds { left, paces } => paces.coins_blocks(left),
        }
    }

    /// Swap out: whether what is held is held for longer than the lock needs to come back.
    pub(super) fn outlasts(&self, expiry: CltvExpiry) -> bool {
        match self.left() {
            Left::Blocks(_) => {
                let refund = self.offer.clock.refund_height().map_or(u32::MAX, |height| height.0);
                expiry.0 >= refund.saturating_add(margins::hold_gap(&self.offer.chain))
            }
            Left::Seconds { left, paces } => self.payment_blocks(expiry) >= paces.hold_blocks(left),
        }
    }

    /// Whether an HTLC has the blocks left that a claim of it on its chain needs.
    pub(super) fn is_claimable(&self, expiry: CltvExpiry) -> bool {
        self.payment_blocks(expiry) > CLAIM_MARGIN
    }

    /// Swap out: whether there is no time to wait for what the chain says of a redeem and a refund that race.
    pub(super) fn is_short(&self, expiry: CltvExpiry) -> bool {
        let reserve = match self.left() {
            Left::Blocks(_) => CLAIM_MARGIN
                .saturating_add(margins::REORG_DEPTH)
                .saturating_add(margins::restart_blocks(&self.offer.chain)),
            Left::Seconds { paces, .. } => paces.short_blocks(),
        };
        self.payment_blocks(expiry) < reserve
    }

    /// Swap out: blocks of the contract's chain within which the refund should have paid its whole budget, since the payment goes
    /// back then; `None` while there is time.
    pub(super) fn blocks_to_refund(&self, expiry: CltvExpiry) -> Option<u32> {
        match self.left() {
            Left::Blocks(_) => {
                let left = self.payment_blocks(expiry).saturating_sub(CLAIM_MARGIN);
                (left < margins::redeem_blocks(&self.offer.chain)).then_some(left)
            }
            Left::Seconds { paces, .. } => {
                let held = paces.held_seconds(self.payment_blocks(expiry));
                (held < paces.reveal_seconds()).then(|| paces.coins_blocks(held))
            }
        }
    }

    /// Long after the refund was possible.
    pub(super) fn is_long_over(&self) -> bool {
        let tip = self.at.coins;
        match &self.offer.clock {
            Clock::Height(refund) => tip.height.0 >= refund.0.saturating_add(FINAL_DEPTH),
            Clock::Time { refund, .. } => {
                let pace = self.offer.chain.no_faster_than(self.at.coins_measured).spacing;
                let long = u64::from(FINAL_DEPTH).saturating_mul(u64::from(pace));
                tip.median_time.0 >= refund.0.saturating_add(long)
            }
        }
    }
}
