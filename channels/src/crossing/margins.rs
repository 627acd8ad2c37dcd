//! How much time a crossing must leave itself, each number once.
//!
//! ```text
//!  outgoing:  decided ─PAY_SECONDS─► offered ── limit, in its blocks ──► expiry ── RESOLVE_BLOCKS ──► its fate is known
//!  incoming:  decided ─────────────────────────────────────────────────────────────────── RESTART_ALLOWANCE ──┘
//!             └────────────────── held, in its blocks ──────────────────────────► CLAIM_MARGIN ──► expiry
//! ```
//!
//! # Why both clocks are doubted
//!
//! Expiries of HTLCs are heights, and each network finds blocks at a pace of its own. The spacing is what its rules aim at;
//! with more miners than before blocks come faster until the difficulty has followed, with fewer more slowly, and chance adds to it.
//! So the incoming network is taken to be [`PACE`] times as fast as it should be, and the outgoing one as many times as slow, at
//! the same time and for as long as it takes. Where the last hundred blocks of the incoming network came faster already, it is
//! taken to be [`PACE`] times as fast as that, and an outgoing one whose blocks came more slowly that many times as slow: what is
//! measured makes a crossing safer, and never less safe ([`NodeNow::as_incoming`], [`NodeNow::as_outgoing`]). Chance alone makes
//! hundred blocks come in half of their time less than once in 10^8 times; for the few blocks where chance does more,
//! [`super::super::swap::margins::RESTART_ALLOWANCE`] covers it, for it is six hours beside minutes.
//!
//! A chain whose blocks cost nothing has no pace: on one whose difficulty never rises, anybody may find as many blocks as they
//! like. There nothing is measured; this protects from nothing, and neither does any other time lock.
//!
//! [`NodeNow::as_incoming`]: super::NodeNow::as_incoming
//! [`NodeNow::as_outgoing`]: super::NodeNow::as_outgoing

use crate::{
    margins::{CLAIM_MARGIN, FAIL_DEPTH, OFFERED_GRACE},
    swap::{
        Chain,
        margins::{CONFIRMATION_BUDGET, RESTART_ALLOWANCE},
    },
};

pub use crate::swap::margins::{ACROSS_ROUTE_BLOCKS as ROUTE_BLOCKS, PACE};

/// Attempts to pay begin within so many seconds after the decision: what payers grant (LND, Core Lightning).
pub const PAY_SECONDS: u64 = 60;

/// Seconds after which an order to pay that is not known to have been carried out never will be: a call that is on its way for
/// longer than this has been given up by both ends.
pub const FENCE_SECONDS: u64 = 60;

/// For how many seconds a held payment waits for a network that cannot be asked, before it is given back: for a restart.
pub const HELD_PATIENCE_SECONDS: u64 = 60;

/// A quote binds for so many seconds at most: the owner bears what the price moves meanwhile.
pub const QUOTE_SECONDS: u64 = 600;

/// A quote that would bind for less is not worth making: a person has to look at it, and a payment has to arrive.
pub const LEAST_QUOTE_SECONDS: u64 = 60;

/// With fewer than these no route has room for one hop.
pub const LEAST_ROUTE_BLOCKS: u32 = 40;

/// The most blocks that a payer is asked to leave: of the 2,016 that nodes lock money for (BOLT 4's `max_htlc_cltv`) more than
/// 400 are left for the payer's own route.
pub const MOST_HOLD_BLOCKS: u32 = 1_600;

/// Blocks of the outgoing network from an HTLC's expiry until it is known what has become of it: the grace before its channel is
/// closed, the commitment, the claim on it, and the depth at which its loss counts.
pub const RESOLVE_BLOCKS: u32 = OFFERED_GRACE + 2 * CONFIRMATION_BUDGET + FAIL_DEPTH;

/// Seconds that do not depend on blocks.
const FIXED_SECONDS: u64 = PAY_SECONDS + FENCE_SECONDS + RESTART_ALLOWANCE;

/// For how many blocks of the outgoing network its HTLCs may be locked if the incoming ones expire in `left` blocks of theirs;
/// 0 if there is no time at all.
pub fn outgoing_limit(left: u32, incoming: &Chain, outgoing: &Chain) -> u32 {
    let seconds = u64::from(left.saturating_sub(CLAIM_MARGIN)) * u64::from(incoming.spacing) / PACE;
    let blocks = seconds.saturating_sub(FIXED_SECONDS) / (PACE * u64::from(outgoing.spacing.max(1)));
    u32::try_from(blocks).unwrap_or(u32::MAX).saturating_sub(RESOLVE_BLOCKS)
}

/// For how many blocks the incoming HTLCs must be locked so that the outgoing ones may be for `limit`; `None` if for more than
/// can be said.
pub fn incoming_blocks(limit: u32, incoming: &Chain, outgoing: &Chain) -> Option<u32> {
    let blocks = u64::from(limit) + u64::from(RESOLVE_BLOCKS);
    let seconds = blocks.checked_mul(PACE * u64::from(outgoing.spacing))?.checked_add(FIXED_SECONDS)?;
    let left = seconds.checked_mul(PACE)?.div_ceil(u64::from(incoming.spacing.max(1)));
    u32::try_from(left).ok()?.checked_add(CLAIM_MARGIN)
}

/// The blocks that a payer is asked to leave, for a payee that wants `wanted` on the outgoing network. An error says how many
/// it would have to be.
pub fn hold_blocks(wanted: u32, incoming: &Chain, outgoing: &Chain) -> Result<u32, Option<u32>> {
    let with_route = |route: u32| incoming_blocks(wanted.saturating_add(route), incoming, outgoing);
    match with_route(ROUTE_BLOCKS) {
        Some(blocks) if blocks <= MOST_HOLD_BLOCKS => Ok(blocks),
        _ => match with_route(LEAST_ROUTE_BLOCKS) {
            Some(blocks) if blocks <= MOST_HOLD_BLOCKS => Ok(MOST_HOLD_BLOCKS),
            too_many => Err(too_many),
        },
    }
}
