//! Until when a claim must be in the chain, and when a live channel must be closed for an HTLC's sake.
//!
//! ```text
//!  incoming HTLC, preimage known   ...──margin──► expiry        the offerer may take it back from then on
//!  outgoing HTLC                            expiry ──grace──►   we take it back, before upstream's own expiry
//!  revoked output      confirmed ──────── peer's delay ──►      the cheater may take it from then on
//! ```

use bitcoin::{Amount, Weight};

use super::{ClosingChannel, Role};
use crate::{
    margins::{OFFERED_GRACE, RECEIVED_MARGIN, SMALL_GRACE},
    tx::fee,
    types::{CltvExpiry, CommitmentType, FeeratePerKw, Height, HtlcDirection, HtlcId, Msat, Side},
};

/// The height by which our claim of an output should be confirmed; `None` where nobody else can ever spend it.
pub(super) fn of_output(channel: &ClosingChannel, role: &Role, confirmed: Height) -> Option<Height> {
    let outgoing = |id: HtlcId, expiry: CltvExpiry| {
        // Upstream's expiry is what hurts; for a payment of our own, the fulfilment window of a day does.
        let upstream = channel.upstream_expiries.get(&id).map_or(expiry.0.saturating_add(144), |expiry| expiry.0);
        Some(Height(upstream))
    };
    match role {
        // After 16 blocks anybody may take an anchor: it is worth no hurry.
        Role::ToLocal | Role::ToRemote | Role::LocalSecondStage(_) | Role::Anchor => None,
        Role::LocalHtlc(htlc) => match htlc.direction {
            HtlcDirection::Offered => outgoing(htlc.id, htlc.cltv_expiry),
            HtlcDirection::Received => Some(Height(htlc.cltv_expiry.0)),
        },
        Role::RemoteHtlc(htlc) => match htlc.direction {
            HtlcDirection::Received => outgoing(htlc.id, htlc.cltv_expiry),
            HtlcDirection::Offered => Some(Height(htlc.cltv_expiry.0)),
        },
        // An HTLC of a revoked state can be moved on by the cheater, but its second stage then waits the same delay.
        Role::RevokedToLocal | Role::RevokedHtlc(_) | Role::RevokedSecondStage => {
            Some(Height(confirmed.0.saturating_add(u32::from(channel.remote_delay))))
        }
    }
}

/// An HTLC of a live channel, as far as its deadline is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Who pays.
    pub offered_by: Side,
    /// The number that its offerer gave it.
    pub id: HtlcId,
    /// What it moves.
    pub amount: Msat,
    /// The height from which its offerer may take it back.
    pub cltv_expiry: CltvExpiry,
    /// Of an HTLC offered to us: we know the preimage.
    pub preimage_known: bool,
    /// Of an HTLC that we offered: an incoming one waits for it, and the peer has not told the preimage.
    pub upstream_waits: bool,
}

/// Why a channel must be closed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum CloseReason {
    #[error("HTLC {} that we offered expired at block {} and the peer has not removed it", id.0, expiry.0)]
    OutgoingExpired { id: HtlcId, expiry: CltvExpiry },
    #[error("we know the preimage of HTLC {}, which expires at block {}, and the peer has not removed it", id.0, expiry.0)]
    IncomingExpires { id: HtlcId, expiry: CltvExpiry },
    #[error("HTLCs of {total} are overdue, each too small to close for, but together above {limit}")]
    SmallHtlcsExpired { total: Msat, limit: Msat },
}

/// Whether these HTLCs force us onto the chain at this tip (BOLT 2, `cltv_expiry_delta` Selection): an incoming
/// one whose preimage we know before its expiry, or an outgoing one after it. Those whose claim would not pay for itself
/// at `feerate` close it together, once they are above `small_limit`; and one that we offered alone, long after its
/// expiry: until the chain has taken our commitment it may be fulfilled, so that whatever waits for its end would wait
/// for ever.
///
/// Of small forwards less is borne: their incoming HTLCs are failed in time, so a peer that fulfils them later takes them
/// from us (BOLT 2 has every such channel failed). Once they are above what it costs to open another channel and
/// close it ([`price_of_a_channel`]) they close this one: then that is no trade.
pub fn must_close(
    kind: CommitmentType,
    htlcs: impl IntoIterator<Item = InFlight>,
    tip: Height,
    feerate: FeeratePerKw,
    local_dust_limit: Amount,
    small_limit: Msat,
) -> Option<CloseReason> {
    let (mut small, mut small_forwards) = (Msat::ZERO, Msat::ZERO);
    let worth_closing = htlcs.into_iter().find_map(|htlc| {
        let direction = match htlc.offered_by {
            Side::Local => HtlcDirection::Offered,
            Side::Remote => HtlcDirection::Received,
        };
        let fee = fee::fee_for_weight(feerate, fee::htlc_tx_weight(kind, direction));
        let worth_it = htlc.amount.floor_sat() >= local_dust_limit.checked_add(fee).unwrap_or(Amount::MAX);
        let (id, expiry) = (htlc.id, htlc.cltv_expiry);
        let reason = match htlc.offered_by {
            Side::Local => {
                let due = tip.0 >= expiry.0.saturating_add(OFFERED_GRACE);
                due.then_some(CloseReason::OutgoingExpired { id, expiry })
            }
            Side::Remote => {
                let due = htlc.preimage_known && tip.0.saturating_add(RECEIVED_MARGIN) >= expiry.0;
                due.then_some(CloseReason::IncomingExpires { id, expiry })
            }
        };
        if reason.is_some() && !worth_it {
            small = Msat(small.0.saturating_add(htlc.amount.0));
            if htlc.upstream_waits {
                small_forwards = Msat(small_forwards.0.saturating_add(htlc.amount.0));
            }
        }
        let long_overdue = htlc.offered_by == Side::Local && tip.0 >= expiry.0.saturating_add(SMALL_GRACE);
        reason.filter(|_| worth_it || long_overdue)
    });
    let together =
        |(total, limit): (Msat, Msat)| (total > limit).then_some(CloseReason::SmallHtlcsExpired { total, limit });
    let forwards_limit = small_limit.min(price_of_a_channel(feerate));
    worth_closing.or_else(|| together((small, small_limit))).or_else(|| together((small_forwards, forwards_limit)))
}

/// The weight of what a channel costs whoever opens it and closes it at once: a funding transaction of one P2WPKH coin with
/// change (42 of frame, 164 of input, 107 of witness, 172 and 124 of outputs), and a closing transaction of two P2WPKH
/// outputs (672).
const CHANNEL_WEIGHT: u64 = 609 + 672;

/// What a channel costs its opener at this rate.
fn price_of_a_channel(feerate: FeeratePerKw) -> Msat {
    Msat(fee::fee_for_weight(feerate, Weight::from_wu(CHANNEL_WEIGHT)).to_sat().saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIP: Height = Height(603);
    const RATE: FeeratePerKw = FeeratePerKw(1_000);
    const LIMIT: Msat = Msat(50_000_000);

    /// At 1,000 sat/kw an HTLC of 900 sat is not worth a close, and a channel costs 1,281 sat.
    fn overdue(htlcs: impl IntoIterator<Item = InFlight>) -> Option<CloseReason> {
        let dust_limit = Amount::from_sat(354);
        must_close(CommitmentType::Anchors, htlcs, TIP, RATE, dust_limit, LIMIT)
    }

    fn small(count: u64, upstream_waits: bool) -> Vec<InFlight> {
        let one = |id| InFlight {
            offered_by: Side::Local,
            id: HtlcId(id),
            amount: Msat(900_000),
            cltv_expiry: CltvExpiry(600),
            preimage_known: false,
            upstream_waits,
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn small_forwards_that_are_overdue_close_the_channel_once_another_one_would_cost_less() {
        let limit = Msat(1_281_000);
        assert_eq!(overdue(small(1, true)), None);
        let total = Msat(1_800_000);
        assert_eq!(overdue(small(2, true)), Some(CloseReason::SmallHtlcsExpired { total, limit }));
        // What nobody waits for upstream costs nothing when it is fulfilled late: it is paid for.
        assert_eq!(overdue(small(50, false)), None);
        assert_eq!(overdue([small(50, false), small(1, true)].concat()), None);
        let in_time = InFlight { cltv_expiry: CltvExpiry(601), ..small(1, true)[0] };
        assert_eq!(overdue([small(1, true), vec![in_time; 9]].concat()), None);
    }

    #[test]
    fn all_small_ones_together_stay_within_the_limit() {
        let total = Msat(50_400_000);
        assert_eq!(overdue(small(56, false)), Some(CloseReason::SmallHtlcsExpired { total, limit: LIMIT }));
    }
}
