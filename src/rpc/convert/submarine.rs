//! Submarine swaps.

use bitcoin::Amount;
use leyden_channels::{
    swap::{
        Outcome, Role, margins,
        submarine::{Acceptance, Clock, Direction, Lightning, Offer, Payment, Phase, Receipt, Submarine},
    },
    types::{Height, Msat},
};
use leyden_proto::leyden;

use super::{
    edge::{self, wrong},
    signed,
    swaps::{DEPTH, MAX_LOCK_FEE, contract_leg, ended, seconds},
};
use crate::api::{AcceptSubmarine, Amounts, ApiError, CoinsPlace, QuoteSubmarine, SubmarineFacts, SubmarineTerms};

type Checked<T> = Result<T, ApiError>;

pub(crate) fn quote(request: &leyden::SubmarineQuoteRequest) -> Checked<QuoteSubmarine> {
    let direction = if request.out { Direction::Out } else { Direction::In };
    let place = match request.coins_on.as_str() {
        "" if request.refund_hours > 0 => {
            return Err(wrong(
                "refund_hours",
                "with coins on this network they go back at a height: say refund_blocks",
            ));
        }
        "" => CoinsPlace::Here { refund_blocks: Some(request.refund_blocks).filter(|blocks| *blocks > 0) },
        _ if request.refund_blocks > 0 => {
            return Err(wrong(
                "refund_blocks",
                "with coins on another network they go back at a time: say refund_hours",
            ));
        }
        network => CoinsPlace::There {
            network: network.to_owned(),
            refund_seconds: Some(u64::from(request.refund_hours) * 3_600).filter(|seconds| *seconds > 0),
        },
    };
    let gives_coins = direction == Direction::In;
    Ok(QuoteSubmarine {
        direction,
        amounts: amounts(request.coins, request.payment, gives_coins, !request.coins_on.is_empty())?,
        terms: terms(request.depth, request.max_lock_fee, request.max_route_fee)?,
        place,
    })
}

/// What is got may be left to the rate between two networks.
fn amounts(coins: i64, payment: i64, gives_coins: bool, is_across: bool) -> Checked<Amounts> {
    let by_rate = |field: &str, amount: i64| match amount {
        0 if is_across => Ok(None),
        amount => edge::positive_amount(field, amount).map(Some),
    };
    let msat = |amount| Msat::from_sat(amount).ok_or_else(|| wrong("payment", "too large an amount"));
    if gives_coins {
        let payment = by_rate("payment", payment)?.map(msat).transpose()?;
        Ok(Amounts::GivesCoins { coins: edge::positive_amount("coins", coins)?, payment })
    } else {
        let payment = msat(edge::positive_amount("payment", payment)?)?;
        Ok(Amounts::Pays { payment, coins: by_rate("coins", coins)? })
    }
}

pub(crate) fn accept(request: &leyden::SubmarineAcceptRequest) -> Checked<AcceptSubmarine> {
    Ok(AcceptSubmarine {
        offer: Offer::decode(&request.offer).map_err(|error| wrong("offer", error))?,
        direction: if request.pays { Direction::In } else { Direction::Out },
        amounts: amounts(request.coins, request.payment, !request.pays, !request.coins_on.is_empty())?,
        coins_on: Some(request.coins_on.clone()).filter(|network| !network.is_empty()),
        terms: terms(request.depth, request.max_lock_fee, request.max_route_fee)?,
        locked_for: seconds(request.locked_hours, margins::INNER_SECONDS),
    })
}

pub(crate) fn acceptance(bytes: &[u8]) -> Checked<Acceptance> {
    Acceptance::decode(bytes).map_err(|error| wrong("acceptance", error))
}

fn terms(depth: u32, max_lock_fee: i64, max_route_fee: i64) -> Checked<SubmarineTerms> {
    let max_lock_fee = match edge::amount("max_lock_fee", max_lock_fee)? {
        Amount::ZERO => MAX_LOCK_FEE,
        amount => amount,
    };
    let max_route_fee = match edge::amount("max_route_fee", max_route_fee)? {
        Amount::ZERO => None,
        amount => Some(Msat::from_sat(amount).ok_or_else(|| wrong("max_route_fee", "too large an amount"))?),
    };
    Ok(SubmarineTerms { depth: if depth == 0 { DEPTH } else { depth }, max_lock_fee, max_route_fee })
}

pub(super) fn info(
    swap: &Submarine,
    (coins_on, payment_on): (&str, &str),
    facts: &SubmarineFacts,
    warnings: &[String],
) -> leyden::SwapInfo {
    let offer = swap.offer();
    let about = |height: u32| {
        let clock = facts.clock.filter(|_| height > 0);
        clock.and_then(|clock| clock.about(Height(height))).map_or(0, |time| time.0)
    };
    let (refund, refund_height) = match offer.clock {
        Clock::Height(height) => (0, height.0),
        Clock::Time { refund, .. } => (refund.0, 0),
    };
    let coins = leyden::SwapLegInfo {
        network: coins_on.to_owned(),
        amount: signed(offer.coins),
        expiry: refund,
        expiry_height: refund_height,
        expiry_about: about(refund_height),
        ..contract_leg(swap.leg(), swap.contract())
    };
    let (payment_state, expiry) = payment_state(swap.lightning());
    let invoice = swap.acceptance().map_or(offer.invoice.as_str(), |acceptance| offer.invoice(acceptance));
    let payment = leyden::SwapLegInfo {
        network: payment_on.to_owned(),
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
