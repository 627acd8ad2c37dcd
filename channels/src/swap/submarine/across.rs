//! How much time a submarine swap leaves itself whose contract lies on one chain and whose payment on another, each number once.
//!
//! ```text
//!   in:   lock ─2·depth─► pays ─PAY_SECONDS─► offered ── limit ──► HTLC's expiry ─RESOLVE─► its fate is known ─reveal─► refund time
//!   out:  HTLC held, lock ─2·depth─► last reveal ─reveal─► refund time ─hold_gap─► CLAIM_MARGIN ─► HTLC's expiry
//! ```
//!
//! The contract expires at a time, as those of an atomic swap do: see [`crate::swap`]. The HTLCs expire at heights of their own
//! chain, so that one's pace is doubted, as a crossing doubts it ([`crate::crossing::margins`]): whoever waits for its blocks
//! takes it to be [`PACE`] times as slow as its rules intend, or as its last blocks were found if that is slower; whoever holds an
//! HTLC on it takes it to be as many times as fast, or as fast as it was found. Blocks of the contract's chain are counted
//! in its spacing, no faster than measured.

use crate::{
    margins::{CLAIM_MARGIN, MAX_HTLC_CLTV},
    swap::{
        Chain,
        margins::{
            self, ACROSS_ROUTE_BLOCKS, CONFIRMATION_BUDGET, IN_FINAL_CLTV, MEDIAN_BLOCKS, PACE, PAY_SECONDS,
            REORG_DEPTH, RESOLVE_BLOCKS, RESTART_ALLOWANCE,
        },
    },
};

/// Seconds between the quote and the moment when the first coins are locked or the payment is held: two people send each other a
/// text.
pub const AGREE_SECONDS: u64 = 6 * 3600;

/// What is quoted to be held is held for longer by this share of it: until the coins are locked, some blocks are found, and the
/// pace that is measured of the payment's chain has changed with them.
const HOLD_RESERVE: u32 = 8;

/// The two chains as they are taken to find their blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paces {
    /// The contract's, no faster than measured.
    coins: Chain,
    /// Seconds between blocks of the payment's chain, for whoever waits for them.
    slow: u64,
    /// Likewise, for whoever has to be done before them; not doubted yet.
    fast: u64,
}

impl Paces {
    /// From what their rules aim at and what was measured of them; 0: nothing was.
    pub fn new(coins: &Chain, coins_measured: u32, payment: &Chain, payment_measured: u32) -> Self {
        let slowest = payment.no_faster_than(payment_measured).spacing.max(1);
        Self {
            coins: coins.no_faster_than(coins_measured),
            slow: u64::from(slowest).saturating_mul(PACE),
            fast: u64::from(payment.no_slower_than(payment_measured).spacing),
        }
    }

    fn of_coins(&self, blocks: u32) -> u64 {
        u64::from(self.coins.spacing).saturating_mul(u64::from(blocks))
    }

    /// Blocks of the contract's chain in so many seconds.
    pub fn coins_blocks(&self, seconds: u64) -> u32 {
        count(seconds / u64::from(self.coins.spacing.max(1)))
    }

    /// Seconds that must be left until the refund time when the redeem begins.
    pub fn reveal_seconds(&self) -> u64 {
        margins::reveal_seconds(&self.coins)
    }

    /// Swap in: seconds until it is known what has become of an HTLC that we offer for so many blocks.
    fn resolved_after(&self, blocks: u32) -> u64 {
        self.slow.saturating_mul(u64::from(blocks.saturating_add(RESOLVE_BLOCKS))).saturating_add(PAY_SECONDS)
    }

    /// Swap in: seconds that must be left until the refund time when the payment begins whose HTLC is offered for so many blocks.
    fn pay_seconds(&self, blocks: u32) -> u64 {
        self.resolved_after(blocks).saturating_add(self.reveal_seconds())
    }

    /// Swap in: for how many blocks the HTLCs of a payment may be offered that begins with so many seconds left; `None` if there
    /// are too few for any.
    pub fn pay_limit(&self, left: u64) -> Option<u32> {
        let seconds = left.saturating_sub(self.reveal_seconds()).saturating_sub(PAY_SECONDS);
        let limit = count(seconds / self.slow).saturating_sub(RESOLVE_BLOCKS).min(MAX_HTLC_CLTV);
        (limit >= IN_FINAL_CLTV).then_some(limit)
    }

    /// Swap in: seconds that must be left until the refund time when the initiator locks.
    pub fn begin_in_seconds(&self, depth: u32) -> u64 {
        self.pay_seconds(IN_FINAL_CLTV).saturating_add(self.of_coins(depth.saturating_mul(2)))
    }

    /// Swap in: likewise, with time for a route and for agreeing.
    pub fn usual_in_seconds(&self, depth: u32) -> u64 {
        self.pay_seconds(IN_FINAL_CLTV.saturating_add(ACROSS_ROUTE_BLOCKS))
            .saturating_add(self.of_coins(depth.saturating_mul(2)))
            .saturating_add(AGREE_SECONDS)
    }

    /// Swap out: seconds that must be left until the refund time when coins are locked, or the payment for them begins.
    pub fn begin_out_seconds(&self, depth: u32) -> u64 {
        margins::lock_seconds(&self.coins, depth)
    }

    /// Swap out: likewise, with time for agreeing.
    pub fn usual_out_seconds(&self, depth: u32) -> u64 {
        self.begin_out_seconds(depth).saturating_add(AGREE_SECONDS)
    }

    /// Swap out: seconds after the refund time for which the payment must still be held. The refund waits for the median
    /// time; redeem and refund may race for as long as a claim takes, and be reorganised; the secret may be seen after a night.
    fn hold_gap(&self) -> u64 {
        self.of_coins(MEDIAN_BLOCKS.saturating_add(CONFIRMATION_BUDGET).saturating_add(REORG_DEPTH))
            .saturating_add(RESTART_ALLOWANCE)
            .saturating_add(margins::CLOCK_SLACK)
    }

    /// Swap out: for how many blocks an HTLC must be held so that it outlasts a lock that goes back in so many seconds.
    pub fn hold_blocks(&self, left: u64) -> u32 {
        self.blocks_that_last(left.saturating_add(self.hold_gap()))
    }

    /// Swap out: likewise, with a reserve for a pace that has changed before the coins are locked, as far as a payment may be held
    /// at all.
    pub fn usual_hold_blocks(&self, left: u64) -> u32 {
        let blocks = self.hold_blocks(left);
        let most = MAX_HTLC_CLTV.saturating_sub(ACROSS_ROUTE_BLOCKS);
        blocks.saturating_add(blocks / HOLD_RESERVE).min(most).max(blocks)
    }

    /// Swap out: blocks before the HTLC's expiry at which there is no time to wait for what the chain says of two spends that
    /// race.
    pub fn short_blocks(&self) -> u32 {
        self.blocks_that_last(RESTART_ALLOWANCE.saturating_add(self.of_coins(REORG_DEPTH)))
    }

    /// Blocks of the payment's chain that take so many seconds at the fastest, and those in which what is held is claimed.
    fn blocks_that_last(&self, seconds: u64) -> u32 {
        count(seconds.saturating_mul(PACE).div_ceil(self.fast.max(1))).saturating_add(CLAIM_MARGIN)
    }

    /// For how many seconds an HTLC can be held at least that has so many blocks left.
    pub fn held_seconds(&self, blocks: u32) -> u64 {
        u64::from(blocks.saturating_sub(CLAIM_MARGIN)).saturating_mul(self.fast) / PACE
    }
}

/// More than can be counted are more than anybody waits for.
fn count(blocks: u64) -> u32 {
    u32::try_from(blocks).unwrap_or(u32::MAX)
}
