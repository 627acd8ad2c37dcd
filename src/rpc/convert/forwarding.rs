//! Forwarding: terms, history, events.

use bitcoin::OutPoint;
use leyden_channels::{
    switch::FailureDetail,
    types::{HtlcId, Msat, ShortChannelId},
};
use leyden_proto::{
    lnrpc,
    routerrpc::{self, htlc_event::Event, htlc_event::EventType},
};

use super::{edge, msat, payments::failure_code_of, scid};
use crate::api::{
    ApiError, ChannelFee, ChannelStatus, FeeReport, Forward, ForwardsPage, ForwardsRequest, HtlcAmounts, HtlcEvent,
    HtlcNews, HtlcRole, PolicyChange, PolicyRefusal, PolicyRefused,
};

/// Events that a page has if the request does not say, and at most. Clients ask for 99,999 and take fewer for the end; LND has
/// no bound, and a million fit into the largest answer.
const DEFAULT_PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1_000_000;

pub(crate) fn fee_report(report: &FeeReport) -> lnrpc::FeeReportResponse {
    lnrpc::FeeReportResponse {
        channel_fees: report.channels.iter().map(channel_fee).collect(),
        day_fee_sum: report.day.0 / 1000,
        week_fee_sum: report.week.0 / 1000,
        month_fee_sum: report.month.0 / 1000,
    }
}

fn channel_fee(fee: &ChannelFee) -> lnrpc::ChannelFeeReport {
    lnrpc::ChannelFeeReport {
        chan_id: fee.short_channel_id.0,
        channel_point: fee.funding.to_string(),
        base_fee_msat: msat(fee.base_fee),
        fee_per_mil: i64::from(fee.fee_ppm),
        fee_rate: f64::from(fee.fee_ppm) / 1e6,
    }
}

pub(crate) fn policy_change(request: &lnrpc::PolicyUpdateRequest) -> Result<PolicyChange, ApiError> {
    use lnrpc::policy_update_request::Scope;
    let channel = match &request.scope {
        Some(Scope::Global(true)) => None,
        Some(Scope::ChanPoint(point)) => Some(edge::channel_point("chan_point", Some(point))?),
        Some(Scope::Global(false)) | None => {
            return Err(edge::wrong("scope", "give chan_point for one channel, or global for all of them"));
        }
    };
    let inbound = request.inbound_fee.is_some_and(|fee| fee.base_fee_msat != 0 || fee.fee_rate_ppm != 0);
    edge::refuse("inbound_fee", inbound, "fees for what comes in are not served")?;
    Ok(PolicyChange {
        channel,
        base_fee: edge::amount_msat("base_fee_msat", request.base_fee_msat)?,
        fee_ppm: fee_ppm(request)?,
        cltv_expiry_delta: u16::try_from(request.time_lock_delta).map_err(|_| {
            edge::wrong("time_lock_delta", format_args!("{} blocks; at most 65535", request.time_lock_delta))
        })?,
        htlc_minimum: request.min_htlc_msat_specified.then_some(Msat(request.min_htlc_msat)),
        htlc_maximum: Some(Msat(request.max_htlc_msat)).filter(|most| *most > Msat::ZERO),
    })
}

fn fee_ppm(request: &lnrpc::PolicyUpdateRequest) -> Result<u32, ApiError> {
    if request.fee_rate == 0.0 {
        return Ok(request.fee_rate_ppm);
    }
    if request.fee_rate_ppm != 0 {
        return Err(edge::wrong("fee_rate", "give fee_rate or fee_rate_ppm, not both"));
    }
    let ppm = (request.fee_rate * 1e6).round();
    if !(1.0..=f64::from(u32::MAX)).contains(&ppm) {
        let text = format!("{} is no share; the smallest is 0.000001, one millionth", request.fee_rate);
        return Err(edge::wrong("fee_rate", text));
    }
    // Within the range of the type, as was just seen.
    Ok(ppm as u32)
}

pub(crate) fn policy_refused(refused: &PolicyRefused) -> lnrpc::FailedUpdate {
    let reason = match refused.reason {
        PolicyRefusal::Pending => lnrpc::UpdateFailure::Pending,
        PolicyRefusal::Invalid => lnrpc::UpdateFailure::InvalidParameter,
    };
    let outpoint = Some(super::wallet::outpoint(refused.funding));
    lnrpc::FailedUpdate { outpoint, reason: reason.into(), update_error: refused.text.clone() }
}

/// Clients that want all of it ask for more than there can be: whatever they ask for, a page ends somewhere, and tells where.
pub(crate) fn forwards_request(request: &lnrpc::ForwardingHistoryRequest) -> ForwardsRequest {
    let limit = if request.num_max_events == 0 { DEFAULT_PAGE } else { request.num_max_events.min(LARGEST_PAGE) };
    let ids = |ids: &[u64]| ids.iter().copied().map(ShortChannelId).collect();
    ForwardsRequest {
        from: request.start_time,
        until: (request.end_time != 0).then_some(request.end_time),
        skip: u64::from(request.index_offset),
        limit: u64::from(limit),
        incoming: ids(&request.incoming_chan_ids),
        outgoing: ids(&request.outgoing_chan_ids),
        aliases: request.peer_alias_lookup,
    }
}

pub(crate) fn forwards(page: &ForwardsPage) -> lnrpc::ForwardingHistoryResponse {
    lnrpc::ForwardingHistoryResponse {
        forwarding_events: page.forwards.iter().map(forward).collect(),
        last_offset_index: u32::try_from(page.next).unwrap_or(u32::MAX),
    }
}

#[allow(deprecated)] // `timestamp` is still read by clients.
fn forward(forward: &Forward) -> lnrpc::ForwardingEvent {
    let (incoming, outgoing) = (&forward.incoming, &forward.outgoing);
    let fee = incoming.amount.saturating_sub(outgoing.amount);
    lnrpc::ForwardingEvent {
        timestamp: forward.at.0,
        timestamp_ns: nanos(forward.at.0),
        chan_id_in: scid(incoming.short_channel_id),
        chan_id_out: scid(outgoing.short_channel_id),
        amt_in: incoming.amount.0 / 1000,
        amt_out: outgoing.amount.0 / 1000,
        fee: fee.0 / 1000,
        fee_msat: fee.0,
        amt_in_msat: incoming.amount.0,
        amt_out_msat: outgoing.amount.0,
        peer_alias_in: incoming.alias.clone(),
        peer_alias_out: outgoing.alias.clone(),
        incoming_htlc_id: incoming.htlc.map(|id| id.0),
        outgoing_htlc_id: outgoing.htlc.map(|id| id.0),
    }
}

/// The first message of a stream of events.
pub(crate) fn subscribed() -> routerrpc::HtlcEvent {
    let event = Some(Event::SubscribedEvent(routerrpc::SubscribedEvent {}));
    routerrpc::HtlcEvent { event, ..Default::default() }
}

pub(crate) fn htlc_event(event: &HtlcEvent) -> routerrpc::HtlcEvent {
    // LND does not say of an end whose HTLC it was.
    let is_end = matches!(event.what, HtlcNews::Ended(_));
    let event_type = match event.role {
        HtlcRole::Send | HtlcRole::Receive | HtlcRole::Forward if is_end => EventType::Unknown,
        HtlcRole::Send => EventType::Send,
        HtlcRole::Receive => EventType::Receive,
        HtlcRole::Forward => EventType::Forward,
    };
    let what = match &event.what {
        HtlcNews::Forwarded(amounts) => Event::ForwardEvent(routerrpc::ForwardEvent { info: Some(htlc_info(amounts)) }),
        HtlcNews::FailedFurtherOn => Event::ForwardFailEvent(routerrpc::ForwardFailEvent {}),
        HtlcNews::Settled { preimage } => Event::SettleEvent(routerrpc::SettleEvent { preimage: preimage.0.to_vec() }),
        HtlcNews::Ended(end) => {
            Event::FinalHtlcEvent(routerrpc::FinalHtlcEvent { settled: end.settled, offchain: !end.on_chain })
        }
        HtlcNews::FailedHere { amounts, code, detail } => {
            let wire_failure = failure_code_of(*code);
            Event::LinkFailEvent(routerrpc::LinkFailEvent {
                info: Some(htlc_info(amounts)),
                wire_failure: wire_failure.into(),
                failure_detail: failure_detail(*detail).into(),
                failure_string: wire_failure.as_str_name().to_owned(),
            })
        }
    };
    routerrpc::HtlcEvent {
        incoming_channel_id: event.incoming.map_or(0, |name| name.short_channel_id.0),
        outgoing_channel_id: event.outgoing.map_or(0, |name| name.short_channel_id.0),
        incoming_htlc_id: event.incoming.map_or(0, |name| name.id.0),
        outgoing_htlc_id: event.outgoing.map_or(0, |name| name.id.0),
        timestamp_ns: nanos(event.at.0),
        event_type: event_type.into(),
        event: Some(what),
    }
}

fn failure_detail(detail: FailureDetail) -> routerrpc::FailureDetail {
    match detail {
        FailureDetail::None => routerrpc::FailureDetail::NoDetail,
        FailureDetail::OnionDecode => routerrpc::FailureDetail::OnionDecode,
        FailureDetail::LinkNotEligible => routerrpc::FailureDetail::LinkNotEligible,
        FailureDetail::ExceedsMaximum => routerrpc::FailureDetail::HtlcExceedsMax,
        FailureDetail::InsufficientBalance => routerrpc::FailureDetail::InsufficientBalance,
        FailureDetail::CircularRoute => routerrpc::FailureDetail::CircularRoute,
        FailureDetail::AddFailed => routerrpc::FailureDetail::HtlcAddFailed,
    }
}

pub(crate) fn htlc_name(request: &lnrpc::LookupHtlcResolutionRequest) -> (ShortChannelId, HtlcId) {
    (ShortChannelId(request.chan_id), HtlcId(request.htlc_index))
}

fn htlc_info(amounts: &HtlcAmounts) -> routerrpc::HtlcInfo {
    routerrpc::HtlcInfo {
        incoming_timelock: amounts.incoming_expiry.0,
        outgoing_timelock: amounts.outgoing_expiry.0,
        incoming_amt_msat: amounts.incoming.0,
        outgoing_amt_msat: amounts.outgoing.0,
    }
}

fn nanos(seconds: u64) -> u64 {
    seconds.saturating_mul(1_000_000_000)
}

/// A channel, and whether others are told to use it.
pub(crate) fn channel_status(
    request: &routerrpc::UpdateChanStatusRequest,
) -> Result<(OutPoint, ChannelStatus), ApiError> {
    use routerrpc::ChanStatusAction;
    let funding = edge::channel_point("chan_point", request.chan_point.as_ref())?;
    let status = match ChanStatusAction::try_from(request.action) {
        Ok(ChanStatusAction::Enable) => ChannelStatus::Enabled,
        Ok(ChanStatusAction::Disable) => ChannelStatus::Disabled,
        Ok(ChanStatusAction::Auto) => ChannelStatus::Automatic,
        Err(_) => return Err(edge::wrong("action", format!("there is no action {}", request.action))),
    };
    Ok((funding, status))
}
