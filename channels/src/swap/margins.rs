//! How much time a swap must leave itself, each number once. Blocks are counted in the spacing of the chain that they are of.
//!
//! ```text
//!   second chain:  lock ──LOCK_TIME──► last reveal ────REVEAL_TIME────► inner expiry
//!   first chain:                                                            └─────GAP_TIME─────► outer expiry
//! ```
//!
//! A chain may find its blocks more slowly than its rules intend. So what is measured of it counts, if that is slower: see
//! [`Chain::no_faster_than`].
//!
//! A submarine swap on one chain has both its locks there, so it counts blocks: a refund height and an HTLC's `cltv_expiry` are
//! then the same clock, and no slack for clocks is needed.
//!
//! One whose contract and payment lie on two chains counts seconds: see [`across`](super::submarine::across).
//!
//! ```text
//!   in:   lock ─2·depth─► pays ─ROUTE─► HTLC's expiry ─RESOLVE─► its fate is known ─redeem_blocks─► refund height
//!   out:  HTLC held, lock ─2·depth─► last reveal ─redeem_blocks─► refund height ─hold_gap─► HTLC's expiry
//! ```

use super::terms::Chain;
use crate::{
    margins::{CLAIM_MARGIN, OFFERED_GRACE},
    types::UnixTime,
};

/// The initiator's coins come back after this, in seconds, unless somebody says otherwise.
pub const OUTER_SECONDS: u64 = 48 * 3600;

/// The participant's coins come back after this, in seconds, unless somebody says otherwise.
pub const INNER_SECONDS: u64 = 24 * 3600;

/// The deepest reorganisation that a swap withstands, in blocks: six are what exchanges wait for.
pub const REORG_DEPTH: u32 = 6;

/// Confirmations that the other's lock needs unless somebody says otherwise: with one less, the deepest reorganisation that a
/// swap withstands would take the lock along.
pub const DEPTH: u32 = REORG_DEPTH + 1;

/// Blocks until the median time past is later than a time that has come: six of the last eleven (BIP 113).
pub const MEDIAN_BLOCKS: u32 = 6;

pub use crate::margins::CONFIRMATION_BUDGET;

/// For how long, in seconds, a node may be away at the worst moment: a night is too long to be quick and short enough to be
/// left in every swap.
pub const RESTART_ALLOWANCE: u64 = 6 * 3600;

/// A block's time may lie so far ahead of the world's, in seconds; so may a median time, which opens a refund.
pub const CLOCK_SLACK: u64 = 2 * 3600;

/// The offer's expiries may lie so far ahead, in seconds: nobody's coins are locked for longer than two weeks.
pub const MAX_SECONDS: u64 = 14 * 24 * 3600;

/// Mempools keep a transaction for so long, in seconds: Bitcoin Core's 336 hours. A lock that an older data directory does not
/// know is looked for until so long after its expiry.
pub const MEMPOOL_SECONDS: u64 = 14 * 24 * 3600;

/// Seconds that must be left until the expiry of a contract when its secret is shown for the first time.
pub fn reveal_seconds(chain: &Chain) -> u64 {
    blocks(chain, REORG_DEPTH.saturating_add(CONFIRMATION_BUDGET))
        .saturating_add(RESTART_ALLOWANCE)
        .saturating_add(CLOCK_SLACK)
}

/// Seconds that must be left until the inner expiry when the participant locks: the lock gets deep, then the secret is shown.
pub fn lock_seconds(inner: &Chain, depth: u32) -> u64 {
    reveal_seconds(inner).saturating_add(blocks(inner, depth.saturating_mul(2)))
}

/// Seconds that must be left until the inner expiry when the initiator locks: before the participant locks, that lock must
/// get deep.
pub fn initiate_seconds(outer: &Chain, inner: &Chain, depth: u32) -> u64 {
    lock_seconds(inner, depth).saturating_add(blocks(outer, depth.saturating_mul(2)))
}

/// Seconds between the inner and the outer expiry. The initiator may redeem until a block has the participant's refund, which
/// waits for the inner chain's median time first; whoever learns the secret then must still redeem on the outer chain.
pub fn gap_seconds(outer: &Chain, inner: &Chain) -> u64 {
    reveal_seconds(outer).saturating_add(blocks(inner, MEDIAN_BLOCKS.saturating_add(CONFIRMATION_BUDGET)))
}

/// By how much a chain may be faster or slower than its spacing says, where an HTLC on it has to outlast something elsewhere, or
/// to be over before that: why is said in [`crate::crossing::margins`].
pub const PACE: u64 = 2;

/// Blocks that a route may take, beside what the payee wants, on a chain whose clock is doubted by [`PACE`]: some hops of 40, or
/// one of 144.
pub const ACROSS_ROUTE_BLOCKS: u32 = 144;

/// Median times of so many blocks are asked for to measure a chain's spacing.
pub const MEASURED_BLOCKS: u32 = 100;

/// So many of the intervals between them, the longest, do not count: a chain that was asleep for a night is not slow.
const ASLEEP: usize = 5;

/// The mean of the intervals between blocks, in seconds, from their median times in the order of the chain; 0 if there are too
/// few to tell.
pub fn measured_spacing(median_times: &[UnixTime]) -> u32 {
    let pairs = median_times.iter().zip(median_times.iter().skip(1));
    let mut intervals: Vec<u64> = pairs.map(|(before, after)| after.0.saturating_sub(before.0)).collect();
    intervals.sort_unstable();
    intervals.truncate(intervals.len().saturating_sub(ASLEEP));
    let mean = intervals.iter().sum::<u64>() / (intervals.len() as u64).max(1);
    u32::try_from(mean).unwrap_or(u32::MAX)
}

/// With fewer intervals than these a chain's pace is not told.
const LEAST_MEASURED: usize = 48;

/// The spacing of a chain whose blocks are found by chance, as its last blocks tell it; 0 if there are too few. The five longest of
/// a hundred intervals, which do not count, hold a fifth of all the time if chance made them: the mean of the others is 16/19 of it.
pub fn measured_pace(median_times: &[UnixTime]) -> u32 {
    if median_times.len() <= LEAST_MEASURED {
        return 0;
    }
    let spacing = measured_spacing(median_times);
    // A second is the shortest that is told: 0 says that nothing is known.
    u32::try_from(u64::from(spacing) * 19 / 16).unwrap_or(u32::MAX).max(1)
}

fn blocks(chain: &Chain, count: u32) -> u64 {
    u64::from(chain.spacing).saturating_mul(u64::from(count))
}

/// Blocks that the route of a payment may take: three hops at the 80 blocks that LND's nodes ask for, and some.
pub const ROUTE_BLOCKS: u32 = 288;

/// Blocks after the expiry of an HTLC that we offered in which its fate is known, be it by force: the peer's grace, then our
/// commitment, then the HTLC's transaction. (Of parts that are not worth the fee of their claim the fate may come later;
/// whoever takes one of those late shows the secret for less than it costs.)
pub const RESOLVE_BLOCKS: u32 = OFFERED_GRACE + 2 * CONFIRMATION_BUDGET;

/// Seconds in which a payment is tried before it has failed, to be tried again at the next block.
pub const PAY_SECONDS: u64 = 60;

/// Blocks that may be found in [`PAY_SECONDS`]: the last attempt begins that much later.
pub const PAY_BLOCKS: u32 = 6;

/// Blocks between the quote of a submarine swap and the moment when its first coins are locked or its payment is held:
/// two people send each other a text.
pub const AGREE_BLOCKS: u32 = 36;

/// `min_final_cltv_expiry_delta` of the invoice of a swap in: its payment is taken as soon as it is here, but a lock may
/// have to be seen first.
pub const IN_FINAL_CLTV: u32 = CLAIM_MARGIN + 24;

/// Blocks in which [`RESTART_ALLOWANCE`] passes.
pub fn restart_blocks(chain: &Chain) -> u32 {
    let blocks = RESTART_ALLOWANCE.div_ceil(u64::from(chain.spacing.max(1)));
    u32::try_from(blocks).unwrap_or(u32::MAX)
}

/// Blocks in which [`MEMPOOL_SECONDS`] pass.
pub fn mempool_blocks(chain: &Chain) -> u32 {
    let blocks = MEMPOOL_SECONDS.div_ceil(u64::from(chain.spacing.max(1)));
    u32::try_from(blocks).unwrap_or(u32::MAX)
}

/// Blocks that must be left until the refund height when the redeem of a submarine swap begins.
pub fn redeem_blocks(chain: &Chain) -> u32 {
    REORG_DEPTH.saturating_add(CONFIRMATION_BUDGET).saturating_add(restart_blocks(chain))
}

/// Swap in: blocks before the refund height at which no HTLC of the payment may be left.
pub fn resolve_margin(chain: &Chain) -> u32 {
    redeem_blocks(chain).saturating_add(RESOLVE_BLOCKS)
}

/// Swap in: blocks that must be left until the refund height when the payment begins.
pub fn pay_blocks(chain: &Chain) -> u32 {
    resolve_margin(chain).saturating_add(PAY_BLOCKS).saturating_add(IN_FINAL_CLTV)
}

/// Swap out: blocks that must be left until the refund height when the coins are locked: the lock gets deep, then the
/// secret is shown.
pub fn lock_blocks(chain: &Chain, depth: u32) -> u32 {
    redeem_blocks(chain).saturating_add(depth.saturating_mul(2))
}

/// Swap out: blocks between the refund height and the expiry of the held HTLC. Redeem and refund may race for as long as
/// a claim takes; the secret may be seen in the last of these blocks, after a night; and what is held must not be near its
/// end then.
pub fn hold_gap(chain: &Chain) -> u32 {
    redeem_blocks(chain).saturating_add(CLAIM_MARGIN)
}
