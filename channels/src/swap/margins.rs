//! How much time a swap must leave itself, each number once. Blocks are counted in the spacing of the chain that they are of.
//!
//! ```text
//!   second chain:  lock ──LOCK_TIME──► last reveal ────REVEAL_TIME────► inner expiry
//!   first chain:                                                            └─────GAP_TIME─────► outer expiry
//! ```

use super::terms::Chain;

/// The initiator's coins come back after this, in seconds, unless somebody says otherwise.
pub const OUTER_SECONDS: u64 = 48 * 3600;

/// The participant's coins come back after this, in seconds, unless somebody says otherwise.
pub const INNER_SECONDS: u64 = 24 * 3600;

/// The deepest reorganisation that a swap withstands, in blocks: six are what exchanges wait for.
pub const REORG_DEPTH: u32 = 6;

/// Blocks within which a claim is confirmed whose fee rises with each of them.
pub const CONFIRMATION_BUDGET: u32 = 24;

/// For how long, in seconds, a node may be away at the worst moment: a night is too long to be quick and short enough to be
/// left in every swap.
pub const RESTART_ALLOWANCE: u64 = 6 * 3600;

/// A block's time may lie so far ahead of the world's, in seconds; so may a median time, which opens a refund.
pub const CLOCK_SLACK: u64 = 2 * 3600;

/// The offer's expiries may lie so far ahead, in seconds: nobody's coins are locked for longer than two weeks.
pub const MAX_SECONDS: u64 = 14 * 24 * 3600;

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

/// Seconds between the inner and the outer expiry: for whoever learns the secret in the last block before the inner one.
pub fn gap_seconds(outer: &Chain) -> u64 {
    reveal_seconds(outer)
}

fn blocks(chain: &Chain, count: u32) -> u64 {
    u64::from(chain.spacing).saturating_mul(u64::from(count))
}
