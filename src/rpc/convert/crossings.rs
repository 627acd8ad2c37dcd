//! Payments that cross between two networks.

use leyden_channels::{
    crossing::{HoldOrder, Incoming, Outcome, Outgoing, PayOrder, PaymentRecords, Rate, State},
    types::{CltvExpiry, DirectoryId, Msat, UnixTime},
};
use leyden_proto::leyden;

use super::edge::{self, wrong};
use crate::api::{ApiError, Cross, CrossingInfo, CrossingRate, CrossingStatus, Networks};

type Checked<T> = Result<T, ApiError>;

/// Letters of a network's name.
const NAME: usize = 100;

pub(crate) fn set_rate(request: leyden::SetCrossingRateRequest) -> Checked<(Networks, Option<Rate>)> {
    let rate = request.rate.ok_or_else(|| wrong("rate", "it is missing"))?;
    let networks = Networks {
        incoming: edge::text("rate.incoming", rate.incoming, NAME)?,
        outgoing: edge::text("rate.outgoing", rate.outgoing, NAME)?,
    };
    edge::refuse("rate.held_msat", rate.held_msat != 0, "this stands in answers")?;
    let set = Rate {
        take: rate.take,
        give: rate.give,
        base_fee: Msat(rate.base_fee_msat),
        fee_ppm: rate.fee_ppm,
        most: Msat(rate.most_msat),
        most_held: Msat(rate.most_held_msat),
        route_fee_ppm: rate.route_fee_ppm,
    };
    Ok((networks, (!request.off).then_some(set)))
}

pub(crate) fn rates(rates: &[CrossingRate]) -> leyden::CrossingRates {
    let rate = |CrossingRate { networks, rate, held }: &CrossingRate| leyden::CrossingRate {
        incoming: networks.incoming.clone(),
        outgoing: networks.outgoing.clone(),
        take: rate.take,
        give: rate.give,
        base_fee_msat: rate.base_fee.0,
        fee_ppm: rate.fee_ppm,
        most_msat: rate.most.0,
        most_held_msat: rate.most_held.0,
        route_fee_ppm: rate.route_fee_ppm,
        held_msat: held.0,
    };
    leyden::CrossingRates { rates: rates.iter().map(rate).collect() }
}

pub(crate) fn cross(request: leyden::CrossRequest) -> Checked<Cross> {
    let amount = Some(Msat(request.amount_msat)).filter(|amount| *amount > Msat::ZERO);
    Ok(Cross { invoice: invoice(request.payment_request)?, amount, to_own: request.to_own })
}

fn invoice(text: String) -> Checked<String> {
    edge::text("payment_request", text, leyden_channels::crossing::MAX_INVOICE_BYTES)
}

pub(crate) fn info(info: &CrossingInfo) -> leyden::CrossingInfo {
    let CrossingInfo { crossing, networks } = info;
    let (state, reason) = state(&crossing.state);
    let (preimage, fee) = match &crossing.state {
        State::Settling { preimage, fee }
        | State::Ended(Outcome::Crossed { preimage, fee } | Outcome::Lost { preimage, fee }) => {
            (preimage.0.to_vec(), *fee)
        }
        State::Opening
        | State::Waiting
        | State::Paying { .. }
        | State::InDoubt
        | State::GivingUp { .. }
        | State::Ended(Outcome::GivenBack(_) | Outcome::TakenElsewhere | Outcome::Unknown) => (Vec::new(), Msat::ZERO),
    };
    leyden::CrossingInfo {
        payment_hash: crossing.hash.0.to_vec(),
        incoming: networks.incoming.clone(),
        outgoing: networks.outgoing.clone(),
        price_msat: crossing.price.0,
        amount_msat: crossing.amount.0,
        payment_request: crossing.request.clone().unwrap_or_default(),
        outgoing_payment_request: crossing.invoice.clone(),
        state: state.to_owned(),
        reason,
        created: crossing.created.0,
        expires: crossing.expires.0,
        hold_blocks: crossing.hold_blocks,
        preimage,
        fee_msat: fee.0,
        incoming_expiry: crossing.held.map_or(0, |held| held.expiry.0),
        outgoing_expiry: match crossing.state {
            State::Paying { last_expiry, .. } => last_expiry.0,
            State::Opening
            | State::Waiting
            | State::InDoubt
            | State::Settling { .. }
            | State::GivingUp { .. }
            | State::Ended(_) => 0,
        },
    }
}

fn state(state: &State) -> (&'static str, String) {
    let name = match state {
        State::Opening => "opening",
        State::Waiting => "waiting",
        State::Paying { .. } => "paying",
        State::InDoubt => "in_doubt",
        State::Settling { .. } => "settling",
        State::GivingUp { reason } => return ("giving_up", reason.to_string()),
        State::Ended(Outcome::Crossed { .. }) => "crossed",
        State::Ended(Outcome::GivenBack(reason)) => return ("given_back", reason.to_string()),
        State::Ended(outcome @ Outcome::TakenElsewhere) => return ("taken_elsewhere", outcome.to_string()),
        State::Ended(outcome @ Outcome::Lost { .. }) => return ("lost", outcome.to_string()),
        State::Ended(outcome @ Outcome::Unknown) => return ("unknown", outcome.to_string()),
    };
    (name, String::new())
}

pub(crate) fn status(status: &CrossingStatus) -> leyden::CrossingStatus {
    let CrossingStatus { network, invoices, now } = status;
    leyden::CrossingStatus {
        network: network.clone(),
        genesis_hash: now.chain.hash.to_bytes().to_vec(),
        spacing: now.chain.spacing,
        measured_spacing: now.measured,
        height: now.tip.0,
        current: now.is_current,
        node_id: now.node_id.serialize().to_vec(),
        invoice_prefix: invoices.prefix().to_owned(),
        least_claim_msat: now.least_claim.0,
        directory: now.records.directory.0.to_vec(),
        payments: now.records.count,
    }
}

/// Whose crossing it is.
pub(crate) fn book(bytes: &[u8]) -> Checked<DirectoryId> {
    edge::bytes32("book", bytes).map(DirectoryId)
}

pub(crate) fn hold(request: &leyden::HoldCrossingRequest) -> Checked<HoldOrder> {
    Ok(HoldOrder {
        hash: edge::payment_hash("payment_hash", &request.payment_hash)?,
        amount: some_amount(request.amount_msat)?,
        expires: UnixTime(request.expires),
        blocks: request.blocks,
    })
}

fn some_amount(msat: u64) -> Checked<Msat> {
    match msat {
        0 => Err(wrong("amount_msat", "0, where an amount is needed")),
        msat => Ok(Msat(msat)),
    }
}

pub(crate) fn held(held: Incoming) -> leyden::HeldCrossing {
    let plain = |state: &str| leyden::HeldCrossing { state: state.to_owned(), ..leyden::HeldCrossing::default() };
    match held {
        Incoming::Missing => plain("missing"),
        Incoming::Open => plain("open"),
        Incoming::Held { amount, expiry, since } => {
            leyden::HeldCrossing { state: "held".to_owned(), amount_msat: amount.0, expiry: expiry.0, since: since.0 }
        }
        Incoming::Settled => plain("settled"),
        Incoming::Canceled => plain("canceled"),
    }
}

pub(crate) fn pay(request: leyden::PayCrossingRequest) -> Checked<PayOrder> {
    let parts = u16::try_from(request.most_parts).ok().filter(|parts| *parts > 0);
    Ok(PayOrder {
        invoice: invoice(request.payment_request)?,
        amount: some_amount(request.amount_msat)?,
        most_fee: Msat(request.most_fee_msat),
        most_parts: parts.ok_or_else(|| wrong("most_parts", "a payment has 1 to 65,535 parts"))?,
        last_expiry: CltvExpiry(request.last_expiry),
        deadline: UnixTime(request.deadline),
    })
}

pub(crate) fn payment(payment: Outgoing) -> leyden::CrossingPayment {
    let plain = |state: &str| leyden::CrossingPayment { state: state.to_owned(), ..leyden::CrossingPayment::default() };
    match payment {
        Outgoing::NeverBegun(PaymentRecords { directory, count }) => {
            leyden::CrossingPayment { directory: directory.0.to_vec(), payments: count, ..plain("never_begun") }
        }
        Outgoing::UnderWay => plain("under_way"),
        Outgoing::Paid { preimage, fee } => {
            leyden::CrossingPayment { preimage: preimage.0.to_vec(), fee_msat: fee.0, ..plain("paid") }
        }
        Outgoing::Failed { reason } => leyden::CrossingPayment { reason, ..plain("failed") },
    }
}
