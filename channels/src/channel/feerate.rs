//! When the opener moves the feerate, and when a feerate endangers the channel.
//!
//! ```text
//!   static_remotekey   what gets a commitment into one of the next blocks: nobody can add to it later
//!   anchors            what mempools take, with some room: a child pays the rest when it is needed
//!
//!            ┌── target ── differs enough? ── a step towards it ── affordable? exposure? ──► update_fee
//!   opener ──┘                                (at most the raise)   (else as much as is)
//!   both: a commitment that would not confirm within a day while HTLCs are pending ── for some blocks ──► close
//! ```
//!
//! **The opener** looks at each block and each time that the driver says ([`super::Event::Feerates`]). It follows a rise
//! of a tenth at once, and a fall by a third after [`FALL_PATIENCE`] blocks, so that an estimate that trembles costs no
//! message, and that a peer who asks for estimates less often than we look does not find the lower rate too low and close.
//! A rise goes no further at a time than HTLCs are counted ([`raised`]): so it trims no more of them than both sides bear, an
//! estimate that is wrong for a moment moves a channel by one step, and a real rise of a hundred is followed within eight. It never proposes what would eat its reserve or what would leave more in HTLCs without an
//! output than the limit ([`super::exposure`]). While our chain is not known to be current nobody acts: its
//! mempool and its blocks are old.
//!
//! **A rate that is too high** costs the opener alone, but for HTLCs that get trimmed and second stages that
//! pay too much, which [`super::exposure`] bounds. So whatever the opener wants is accepted up to the bound of
//! [`Feerates::maximum`]: beyond it, or if it cannot pay, or below what relays at all, the channel is
//! closed. A peer whose estimate differs from ours would send the same `update_fee` after every reconnection.
//!
//! **A rate that is too low** leaves our own commitment out of the blocks. With `static_remotekey` nobody can
//! lift it: half of what slow transactions pay (144 blocks) is the least, since estimates differ that much. With anchors it
//! must get into mempools. If more than the limit is pending after [`LOW_PATIENCE`] blocks without a better rate, the
//! channel is closed: later it could only be worse. Without HTLCs nothing is in a hurry, and nothing is closed.
//!
//! Long before that our commitment is no use for HTLCs: they have to be resolved within the twelve blocks before their
//! expiry, and an opener that keeps its rate just above what closes the channel could have ours wait until then, and take
//! back an HTLC whose preimage we have told. So below what even slow transactions pay ([`confirms_late`]) all HTLCs count as
//! exposure, and no more than the limit is added.

use crate::types::{CommitmentType, FeeratePerKw};

use super::exposure::raised;
use super::params::Feerates;

/// For how many blocks the target must be lower before the opener follows.
pub const FALL_PATIENCE: u32 = 6;
/// For how many blocks a rate that is too low is borne while more than the limit is in HTLCs: an opener follows its estimate
/// within minutes, and the margins of HTLCs (12 blocks before an expiry) leave that time.
pub const LOW_PATIENCE: u32 = 6;

/// The rate that a commitment should have.
pub fn target(kind: CommitmentType, feerates: &Feerates) -> FeeratePerKw {
    let wanted = match kind {
        CommitmentType::StaticRemoteKey => feerates.closing.max(feerates.slow),
        CommitmentType::Anchors => anchors_target(feerates.mempool_minimum),
    };
    wanted.max(feerates.minimum).min(feerates.maximum)
}

/// Half above what full mempools take: their minimum rises by steps while nobody looks. One that is not full takes what
/// relays.
fn anchors_target(mempool_minimum: FeeratePerKw) -> FeeratePerKw {
    if mempool_minimum <= FeeratePerKw::FLOOR {
        return FeeratePerKw::FLOOR;
    }
    FeeratePerKw(mempool_minimum.0.saturating_add(mempool_minimum.0 / 2))
}

/// Whether a commitment at this rate would not confirm within a day, or not get into mempools.
pub fn is_too_low(kind: CommitmentType, rate: FeeratePerKw, feerates: &Feerates) -> bool {
    match kind {
        CommitmentType::StaticRemoteKey => rate < least(feerates),
        CommitmentType::Anchors => rate < feerates.mempool_minimum,
    }
}

/// Whether a commitment at this rate cannot be relied on to confirm before an HTLC expires. A tenth less than what slow
/// transactions pay is borne: an opener follows a rise from there on ([`step`]).
pub fn confirms_late(kind: CommitmentType, rate: FeeratePerKw, feerates: &Feerates) -> bool {
    let behind = u64::from(rate.0) * 10 < u64::from(feerates.slow.0) * 9;
    // A child of the wallet's lifts one with anchors.
    is_too_low(kind, rate, feerates) || (!kind.has_anchors() && behind)
}

/// The least rate of a commitment that nobody can lift.
pub fn least(feerates: &Feerates) -> FeeratePerKw {
    FeeratePerKw(feerates.slow.0 / 2).max(feerates.mempool_minimum)
}

/// Whether a rate is so low, by half again, that an `update_fee` to it is not even waited for.
pub fn is_hopeless(kind: CommitmentType, rate: FeeratePerKw, feerates: &Feerates) -> bool {
    is_too_low(kind, rate, &Feerates { slow: FeeratePerKw(feerates.slow.0 / 2), ..*feerates })
}

/// The next rate on the way to `target`; `None` if the present one is near enough.
pub fn step(now: FeeratePerKw, target: FeeratePerKw) -> Option<FeeratePerKw> {
    let rises = u64::from(target.0) * 10 >= u64::from(now.0) * 11;
    let falls = u64::from(target.0) * 3 <= u64::from(now.0) * 2;
    (target != now && (rises || falls)).then(|| target.min(raised(now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_moves_are_ignored_and_large_ones_are_followed_by_steps() {
        let step = |now, target| step(FeeratePerKw(now), FeeratePerKw(target)).map(|rate| rate.0);
        assert_eq!((step(1_000, 1_099), step(1_000, 1_100)), (None, Some(1_100)));
        assert_eq!((step(1_000, 667), step(1_000, 666)), (None, Some(666)));
        let mut rate = 253;
        let mut steps = 0;
        while let Some(next) = step(rate, 25_300) {
            assert!(FeeratePerKw(next) <= raised(FeeratePerKw(rate)));
            (rate, steps) = (next, steps + 1);
        }
        assert_eq!((rate, steps), (25_300, 8));
        assert_eq!(step(25_300, 253), Some(253), "a fall endangers nothing");
        assert_eq!(step(253, 253), None);
    }

    #[test]
    fn anchors_aim_for_the_mempool_and_static_remotekey_for_a_block() {
        let quiet = Feerates { closing: FeeratePerKw(5_000), slow: FeeratePerKw(2_000), ..Feerates::default() };
        assert_eq!(target(CommitmentType::Anchors, &quiet), FeeratePerKw::FLOOR);
        assert_eq!(target(CommitmentType::StaticRemoteKey, &quiet), FeeratePerKw(5_000));
        let full = Feerates { mempool_minimum: FeeratePerKw(1_000), ..quiet };
        assert_eq!(target(CommitmentType::Anchors, &full), FeeratePerKw(1_500));
        assert!(is_too_low(CommitmentType::StaticRemoteKey, FeeratePerKw(999), &quiet));
        assert!(!is_too_low(CommitmentType::StaticRemoteKey, FeeratePerKw(1_000), &quiet));
        assert!(!is_hopeless(CommitmentType::StaticRemoteKey, FeeratePerKw(500), &quiet));
        assert!(is_hopeless(CommitmentType::StaticRemoteKey, FeeratePerKw(499), &quiet));
        assert!(confirms_late(CommitmentType::StaticRemoteKey, FeeratePerKw(1_799), &quiet));
        assert!(!confirms_late(CommitmentType::StaticRemoteKey, FeeratePerKw(1_800), &quiet));
        assert!(!confirms_late(CommitmentType::Anchors, FeeratePerKw::FLOOR, &quiet));
        assert!(confirms_late(CommitmentType::Anchors, FeeratePerKw(999), &full));
        assert!(!is_too_low(CommitmentType::Anchors, FeeratePerKw::FLOOR, &quiet));
        assert!(is_too_low(CommitmentType::Anchors, FeeratePerKw(999), &full));
    }
}
