//! Submarine swaps.

use bitcoin::Amount;
use leyden_channels::{
    swap::{
        Outcome, Role, margins,
        submarine::{Acceptance, Direction, Lightning, Offer, Payment, Phase, Receipt, Submarine},
    },
    types::{Height, Msat},
};
use leyden_proto::leyden;

use super::{
    edge::{self, wrong},
    signed,
    swaps::{DEPTH, MAX_LOCK_FEE, contract_leg, ended, seconds},
};
use crate::api::{AcceptSubmarine, ApiError, QuoteSubmarine, SubmarineFacts, SubmarineTerms};

type Checked<T> = Result<T, ApiError>;

/// The share of a payment that its route may cost if nothing else is said: half a percent, as of crossings. The invoice is the
/// other's, and so may be the only route to it: what is allowed is what it takes.
const ROUTE_FEE_SHARE: u64 = 200;

pub(crate) fn quote(request: &leyden::SubmarineQuoteRequest) -> Checked<QuoteSubmarine> {
    let payment = payment("payment", request.payment)?;
    Ok(QuoteSubmarine {
        direction: if request.out { Direction::Out } else { Direction::In },
        coins: edge::positive_amount("coins", request.coins)?,
        payment,
        terms: terms(request.depth, request.max_lock_fee, request.max_route_fee, payment)?,
        refund_blocks: Some(request.refund_blocks).filter(|blocks| *blocks > 0),
    })
}

pub(crate) fn accept(request: &leyden::SubmarineAcceptRequest) -> Checked<AcceptSubmarine> {
    let payment = payment("payment", request.payment)?;
    Ok(AcceptSubmarine {
        offer: Offer::decode(&request.offer).map_err(|error| wrong("offer", error))?,
        direction: if request.pays { Direction::In } else { Direction::Out },
        coins: edge::positive_amount("coins", request.coins)?,
        payment,
        terms: terms(request.depth, request.max_lock_fee, request.max_route_fee, payment)?,
        locked_for: seconds(request.locked_hours, margins::INNER_SECONDS),
    })
}

pub(crate) fn acceptance(bytes: &[u8]) -> Checked<Acceptance> {
    Acceptance::decode(bytes).map_err(|error| wrong("acceptance", error))
}

fn payment(field: &str, sat: i64) -> Checked<Msat> {
    let amount = edge::positive_amount(field, sat)?;
    Msat::from_sat(amount).ok_or_else(|| wrong(field, "too large an amount"))
}

fn terms(depth: u32, max_lock_fee: i64, max_route_fee: i64, payment: Msat) -> Checked<SubmarineTerms> {
    let max_lock_fee = match edge::amount("max_lock_fee", max_lock_fee)? {
        Amount::ZERO => MAX_LOCK_FEE,
        amount => amount,
    };
    let max_route_fee = match edge::amount("max_route_fee", max_route_fee)? {
        Amount::ZERO => Msat(payment.0 / ROUTE_FEE_SHARE),
        amount => Msat::from_sat(amount).ok_or_else(|| wrong("max_route_fee", "too large an amount"))?,
    };
    Ok(SubmarineTerms { depth: if depth == 0 { DEPTH } else { depth }, max_lock_fee, max_route_fee })
}

pub(super) fn info(swap: &Submarine, network: &str, facts: &SubmarineFacts, warnings: &[String]) -> leyden::SwapInfo {
    let offer = swap.offer();
    let about = |height: u32| {
        let clock = facts.clock.filter(|_| height > 0);
        clock.and_then(|clock| clock.about(Height(height))).map_or(0, |time| time.0)
    };
    let coins = leyden::SwapLegInfo {
        network: network.to_owned(),
        amount: signed(offer.coins),
        expiry_height: offer.refund_height.0,
        expiry_about: about(offer.refund_height.0),
        ..contract_leg(swap.leg(), swap.contract())
    };
    let (payment_state, expiry) = payment_state(swap.lightning());
    let invoice = swap.acceptance().map_or(offer.invoice.as_str(), |acceptance| offer.invoice(acceptance));
    let payment = leyden::SwapLegInfo {
        network: network.to_owned(),
        amount: signed(offer.payment.floor_sat()),
        payment_state: payment_state.to_owned(),
        expiry_height: expiry,
        expiry_about: about(expiry),
        route_fee_msat: facts.route_fee.map(|fee| fee.0),
        invoice: invoice.to_owned(),
        max_route_fee: if swap.gives_coins() { 0 } else { signed(swap.max_route_fee().floor_sat()) },
        ..leyden::SwapLegInfo::default()
    };
    let (give, get) = if swap.gives_coins() { (coins, payment) } else { (payment, coins) };
    leyden::SwapInfo {
        warnings: warnings.to_vec(),
        id: swap.id().0.to_vec(),
        initiator: swap.role() == Role::Initiator,
        phase: phase(swap.phase()).to_owned(),
        give: Some(give),
        get: Some(get),
        by_hand: false,
        depth: swap.depth(),
        offer: offer.encode(),
        acceptance: swap.acceptance().map(Acceptance::encode).unwrap_or_default(),
        secret: swap.shown_secret().map(|secret| secret.0.to_vec()).unwrap_or_default(),
        created: swap.created().0,
        kind: match offer.direction {
            Direction::In => "in",
            Direction::Out => "out",
        }
        .to_owned(),
    }
}

fn payment_state(lightning: Lightning) -> (&'static str, u32) {
    match lightning {
        Lightning::Pays(Payment::Unpaid) => ("unpaid", 0),
        Lightning::Pays(Payment::InFlight) => ("in_flight", 0),
        Lightning::Pays(Payment::Paid(_)) => ("paid", 0),
        Lightning::Pays(Payment::Failed) => ("failed", 0),
        Lightning::Receives(Receipt::Open) => ("open", 0),
        Lightning::Receives(Receipt::Held(expiry)) => ("held", expiry.0),
        Lightning::Receives(Receipt::Settled) => ("settled", 0),
        Lightning::Receives(Receipt::TakenBack) => ("taken_back", 0),
        Lightning::Receives(Receipt::Canceled) => ("canceled", 0),
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Quoted => "quoted",
        Phase::Accepted => "accepted",
        Phase::Paying => "paying",
        Phase::Locking => "locking",
        Phase::Locked => "locked",
        Phase::Redeeming => "redeeming",
        Phase::Redeemed => "redeemed",
        Phase::Settled => "settled",
        Phase::Refunding => "refunding",
        Phase::Refunded => "refunded",
        Phase::Lost => ended(Outcome::Lost),
        Phase::Ended(outcome) => ended(outcome),
    }
}
