//! What may be offered and what must be accepted (BOLT 2, Adding an HTLC and Updating Fees).
//!
//! Promises: sender and receiver look at the same commitment, the receiver's next one, so that an HTLC which
//! [`check_offer`] lets out is never refused by the peer's [`check_receive`]; our own side keeps more distance (fee
//! spike buffer) than it demands of the peer. What may be lost is bounded elsewhere ([`crate::channel::exposure`]).

use bitcoin::Amount;
use thiserror::Error;

use super::spec::{CommitmentSpec, Htlc};
use crate::channel::error::ProtocolViolation;
use crate::channel::funding::FundingState;
use crate::channel::state::StateName;
use crate::channel::terms::Terms;
use crate::margins::MAX_HTLC_CLTV;
use crate::tx::{CommitmentHtlc, fee};
use crate::types::{CltvExpiry, FeeratePerKw, HtlcDirection, Msat, Side};

/// From here on `cltv_expiry` would be a time.
const EXPIRY_LIMIT: CltvExpiry = CltvExpiry(500_000_000);

/// Why an HTLC cannot be offered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum CannotAdd {
    #[error("the channel is {0}: it takes no payments")]
    State(StateName),
    #[error("the channel takes no payments: {0}")]
    NotFunded(FundingState),
    #[error("the peer is not connected")]
    Offline,
    #[error("it is not known how far the chain is: nothing is offered until it is")]
    TipInDoubt,
    #[error("the connection ended before the HTLC was signed")]
    Disconnected,
    #[error("the peer accepts no HTLC below {minimum}, this one has {got}")]
    BelowMinimum { minimum: Msat, got: Msat },
    #[error("block {} is too far ahead: an HTLC expires within {MAX_HTLC_CLTV} blocks", .0.0)]
    Expiry(CltvExpiry),
    #[error("{maximum} HTLCs are in flight already, the most that the peer accepts")]
    TooManyHtlcs { maximum: u16 },
    #[error("with this HTLC {total} would be in flight; the peer accepts {maximum}")]
    TooMuchInFlight { maximum: Msat, total: Msat },
    #[error("a balance of {balance} is left, but reserve, fees and anchors need {needed}")]
    Balance { balance: Msat, needed: Msat },
    #[error("the peer pays the commitment's fee and cannot afford another HTLC: {balance} is left, it needs {needed}")]
    RemoteFee { balance: Msat, needed: Msat },
    #[error("{exposure} would be in HTLCs that are not worth a claim on the chain; the limit is {maximum}")]
    DustExposure { maximum: Msat, exposure: Msat },
}

/// Whether a channel has a place for one more HTLC of this node, of as many as the peer accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HtlcRoom {
    /// It has one.
    Free,
    /// It has none until the peer signs a removal that it has announced.
    Soon,
    /// It has none, and the peer has announced no removal.
    Full,
}

/// The HTLCs of `spec` seen from the owner of a commitment.
const fn direction(htlc: &Htlc, owner: Side) -> HtlcDirection {
    match (htlc.offered_by, owner) {
        (Side::Local, Side::Local) | (Side::Remote, Side::Remote) => HtlcDirection::Offered,
        (Side::Local, Side::Remote) | (Side::Remote, Side::Local) => HtlcDirection::Received,
    }
}

/// An HTLC of `spec` as the owner of a commitment sees it.
pub(crate) fn in_commitment_of(htlc: &Htlc, owner: Side) -> CommitmentHtlc {
    CommitmentHtlc {
        direction: direction(htlc, owner),
        id: htlc.id,
        amount: htlc.amount,
        payment_hash: htlc.payment_hash,
        cltv_expiry: htlc.cltv_expiry,
    }
}

/// From which amount on an HTLC of either direction has an output in `owner`'s commitment.
#[derive(Clone, Copy)]
struct Thresholds {
    owner: Side,
    offered: Amount,
    received: Amount,
}

impl Thresholds {
    fn new(terms: &Terms, owner: Side, feerate: FeeratePerKw) -> Self {
        let of = |direction| {
            fee::trim_threshold(terms.commitment_type(), direction, feerate, terms.sides.of(owner).dust_limit)
        };
        Self { owner, offered: of(HtlcDirection::Offered), received: of(HtlcDirection::Received) }
    }

    fn is_untrimmed(&self, htlc: &Htlc) -> bool {
        htlc.amount.floor_sat()
            >= match direction(htlc, self.owner) {
                HtlcDirection::Offered => self.offered,
                HtlcDirection::Received => self.received,
            }
    }
}

/// How many HTLCs of `spec` have an output in `owner`'s commitment.
pub(crate) fn untrimmed(spec: &CommitmentSpec, terms: &Terms, owner: Side) -> usize {
    let thresholds = Thresholds::new(terms, owner, spec.feerate);
    spec.htlcs().iter().filter(|htlc| thresholds.is_untrimmed(htlc)).count()
}

/// What the opener pays for a commitment with `spec`'s HTLCs, whoever owns it: fee and anchors.
pub(crate) fn opener_cost(spec: &CommitmentSpec, terms: &Terms) -> Msat {
    cost(terms, spec.feerate, untrimmed(spec, terms, Side::Local).max(untrimmed(spec, terms, Side::Remote)))
}

fn cost(terms: &Terms, feerate: FeeratePerKw, htlcs: usize) -> Msat {
    let kind = terms.commitment_type();
    let fee = fee::commitment_fee(kind, feerate, htlcs).to_sat();
    Msat(fee.saturating_add(fee::anchors_cost(kind).to_sat()).saturating_mul(1000))
}

/// What the opener keeps beside its reserve before it offers more: twice the fee rate, and one more HTLC.
fn opener_buffer(spec: &CommitmentSpec, terms: &Terms) -> Msat {
    let doubled = FeeratePerKw(spec.feerate.0.saturating_mul(2));
    let htlcs = untrimmed(spec, terms, Side::Local).max(untrimmed(spec, terms, Side::Remote));
    cost(terms, doubled, htlcs.saturating_add(1))
}

fn reserve(terms: &Terms, side: Side) -> Msat {
    Msat(terms.reserve_of(side).to_sat().saturating_mul(1000))
}

fn plus(a: Msat, b: Msat) -> Msat {
    Msat(a.0.saturating_add(b.0))
}

fn in_flight(spec: &CommitmentSpec, side: Side) -> (usize, Msat) {
    spec.offered_by(side).fold((0, Msat::ZERO), |(count, sum), htlc| (count + 1, plus(sum, htlc.amount)))
}

/// What is wrong with an HTLC by itself.
pub(crate) fn check_htlc_alone(amount: Msat, expiry: CltvExpiry, terms: &Terms) -> Result<(), CannotAdd> {
    let minimum = terms.htlc_minimum_of(Side::Local).max(Msat(1));
    if amount < minimum {
        return Err(CannotAdd::BelowMinimum { minimum, got: amount });
    }
    if expiry >= EXPIRY_LIMIT {
        return Err(CannotAdd::Expiry(expiry));
    }
    Ok(())
}

/// Whether we may offer an HTLC that would lead to `view`, the peer's commitment with it, as far as the commitment goes.
pub(crate) fn check_offer(view: &CommitmentSpec, terms: &Terms) -> Result<(), CannotAdd> {
    let (count, total) = in_flight(view, Side::Local);
    let maximum = terms.max_htlcs_of(Side::Local);
    if count > usize::from(maximum) {
        return Err(CannotAdd::TooManyHtlcs { maximum });
    }
    let maximum = terms.max_in_flight_of(Side::Local);
    if total > maximum {
        return Err(CannotAdd::TooMuchInFlight { maximum, total });
    }
    let (balance, kept) = (view.balance.local, reserve(terms, Side::Local));
    match terms.opener {
        Side::Local => {
            let needed = plus(kept, opener_cost(view, terms).max(opener_buffer(view, terms)));
            if balance < needed {
                return Err(CannotAdd::Balance { balance, needed });
            }
        }
        Side::Remote => {
            if balance < kept {
                return Err(CannotAdd::Balance { balance, needed: kept });
            }
            let (balance, needed) = (view.balance.remote, remote_opener_needs(view, terms));
            if balance < needed {
                return Err(CannotAdd::RemoteFee { balance, needed });
            }
        }
    }
    Ok(())
}

/// What an opener must have for one more HTLC of ours: fee, anchors and its reserve. One that has never met its reserve,
/// because it gave nearly everything away at opening, only gets closer to it: then the fee is enough.
fn remote_opener_needs(view: &CommitmentSpec, terms: &Terms) -> Msat {
    let htlcs = untrimmed(view, terms, Side::Local).max(untrimmed(view, terms, Side::Remote));
    let kept = reserve(terms, Side::Remote);
    let before = plus(kept, cost(terms, view.feerate, htlcs.saturating_sub(1)));
    let now = cost(terms, view.feerate, htlcs);
    if view.balance.remote < before { now } else { plus(kept, now) }
}

/// What is wrong with an HTLC that the peer offers, by itself.
pub(crate) fn check_received_alone(amount: Msat, expiry: CltvExpiry, terms: &Terms) -> Result<(), ProtocolViolation> {
    let minimum = terms.htlc_minimum_of(Side::Remote).max(Msat(1));
    if amount < minimum {
        return Err(ProtocolViolation::HtlcBelowMinimum { minimum, got: amount });
    }
    if expiry >= EXPIRY_LIMIT {
        return Err(ProtocolViolation::ExpiryIsATime(expiry));
    }
    Ok(())
}

/// Whether the peer may offer an HTLC that leads to `view`, our commitment with it. That we could not pay the fee is
/// no fault of a fundee: it could not know which HTLCs of ours were on their way; BOLT 3 lets the fee shrink then.
pub(crate) fn check_receive(view: &CommitmentSpec, terms: &Terms) -> Result<(), ProtocolViolation> {
    let (count, total) = in_flight(view, Side::Remote);
    let maximum = terms.max_htlcs_of(Side::Remote);
    if count > usize::from(maximum) {
        return Err(ProtocolViolation::TooManyHtlcs { maximum });
    }
    let maximum = terms.max_in_flight_of(Side::Remote);
    if total > maximum {
        return Err(ProtocolViolation::TooMuchInFlight { maximum, total });
    }
    let cost = match terms.opener {
        Side::Remote => opener_cost(view, terms),
        Side::Local => Msat::ZERO,
    };
    let (balance, needed) = (view.balance.remote, plus(reserve(terms, Side::Remote), cost));
    if balance < needed {
        return Err(ProtocolViolation::CannotAfford { balance, needed });
    }
    Ok(())
}

/// Whether we, as the opener, may propose the fee rate of `view`: our reserve stays whole.
pub(crate) fn can_offer_fee(view: &CommitmentSpec, terms: &Terms) -> bool {
    view.balance.local >= plus(reserve(terms, Side::Local), opener_cost(view, terms))
}

/// Whether the opener can pay the fee rate that it proposes. Its reserve is not asked for: it may never have met it.
pub(crate) fn check_receive_fee(view: &CommitmentSpec, terms: &Terms) -> Result<(), ProtocolViolation> {
    let (balance, needed) = (view.balance.remote, opener_cost(view, terms));
    if balance < needed {
        Err(ProtocolViolation::FeeNotAffordable { feerate: view.feerate, balance, needed })
    } else {
        Ok(())
    }
}

/// What `side` could send at most in one HTLC if `view` is the commitment that it would go into: for display and for
/// choosing a route; [`check_offer`] decides.
pub(crate) fn sendable(view: &CommitmentSpec, terms: &Terms, side: Side) -> Msat {
    let balance = *view.balance.of(side);
    let mut kept = reserve(terms, side);
    if terms.opener == side {
        kept = plus(kept, opener_buffer(view, terms));
    }
    let (_, total) = in_flight(view, side);
    balance.saturating_sub(kept).min(terms.max_in_flight_of(side).saturating_sub(total))
}
