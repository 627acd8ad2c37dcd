//! Outgoing payments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use leyden_channels::{
    onion::payload::KEYSEND_PREIMAGE,
    types::{Msat, PaymentPreimage, PaymentSecret},
};
use leyden_proto::{
    lnrpc::{self, failure::FailureCode, payment::PaymentStatus},
    routerrpc,
};

use super::{
    edge,
    invoices::{given, request_text, route_hints},
    msat, routes, sat,
};
use crate::api::{
    ApiError, Attempt, AttemptFailure, AttemptState, FailureReason, ForgetPayments, PageRequest, Payment, PaymentState,
    PaymentTarget, PlannedRoute, SendPayment,
};

/// Payments that a page has if the request does not say.
const DEFAULT_PAGE: u64 = 100;

/// How long a payment is tried if the request does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn send_payment(request: routerrpc::SendPaymentRequest) -> Result<SendPayment, ApiError> {
    edge::refuse("amp", request.amp, "AMP payments are not served")?;
    let mut custom_records = routes::custom_records("dest_custom_records", &request.dest_custom_records)?;
    let keysend = custom_records.iter().position(|record| record.kind == KEYSEND_PREIMAGE);
    let keysend = keysend.map(|at| custom_records.remove(at));
    let keysend = match &keysend {
        None => None,
        Some(record) => Some(PaymentPreimage(edge::bytes32("dest_custom_records[5482373484]", &record.value)?)),
    };
    let timeout = match u64::try_from(request.timeout_seconds).map(Duration::from_secs) {
        Ok(Duration::ZERO) => DEFAULT_TIMEOUT,
        Ok(timeout) => timeout,
        Err(_) => return Err(edge::wrong("timeout_seconds", format!("{} is negative", request.timeout_seconds))),
    };
    let max_cltv = u32::try_from(request.cltv_limit)
        .map_err(|_| edge::wrong("cltv_limit", format!("{} is negative", request.cltv_limit)))?;
    let max_parts = match edge::dest_features("dest_features", &request.dest_features)? {
        Some(false) => Some(1),
        Some(true) | None => (request.max_parts != 0).then_some(request.max_parts),
    };
    let last_hop = match request.last_hop_pubkey.as_slice() {
        [] => None,
        bytes => Some(edge::node_id("last_hop_pubkey", bytes)?),
    };
    Ok(SendPayment {
        timeout,
        max_fee: edge::fee_limit("fee_limit", request.fee_limit_sat, request.fee_limit_msat)?.unwrap_or(Msat::ZERO),
        max_cltv: (max_cltv != 0).then_some(max_cltv),
        max_parts,
        max_part: Some(Msat(request.max_shard_size_msat)).filter(|part| *part > Msat::ZERO),
        outgoing: edge::outgoing(request.outgoing_chan_id, &request.outgoing_chan_ids)?,
        time_pref: edge::time_pref(request.time_pref)?,
        last_hop,
        allow_self_payment: request.allow_self_payment,
        cancel_on_hangup: request.cancelable,
        custom_records,
        target: target(request, keysend)?,
    })
}

fn target(request: routerrpc::SendPaymentRequest, keysend: Option<PaymentPreimage>) -> Result<PaymentTarget, ApiError> {
    let amount = edge::either_amount("amt", request.amt, request.amt_msat)?;
    if !request.payment_request.is_empty() {
        let given = [
            ("dest", !request.dest.is_empty()),
            ("payment_hash", !request.payment_hash.is_empty()),
            ("payment_addr", !request.payment_addr.is_empty()),
            ("final_cltv_delta", request.final_cltv_delta != 0),
            ("route_hints", !request.route_hints.is_empty()),
            ("dest_features", !request.dest_features.is_empty()),
            ("dest_custom_records[5482373484]", keysend.is_some()),
        ];
        for (field, given) in given {
            edge::refuse(field, given, "the payment_request says it already")?;
        }
        let text = request_text("payment_request", &request.payment_request)?.to_owned();
        return Ok(PaymentTarget::Invoice { request: text, amount: Some(amount).filter(|a| *a > Msat::ZERO) });
    }
    if request.dest.is_empty() {
        return Err(edge::wrong("payment_request", "give an invoice, or dest, payment_hash and amt"));
    }
    if amount == Msat::ZERO {
        return Err(edge::wrong("amt", "an amount above zero is needed"));
    }
    let secret = match request.payment_addr.as_slice() {
        [] => None,
        bytes => Some(PaymentSecret(edge::bytes32("payment_addr", bytes)?)),
    };
    let payment_hash = edge::payment_hash("payment_hash", &request.payment_hash)?;
    if keysend.is_some_and(|preimage| preimage.hash() != payment_hash) {
        let text = "it is not the preimage of payment_hash: the recipient could not take the payment";
        return Err(edge::wrong("dest_custom_records[5482373484]", text));
    }
    Ok(PaymentTarget::Details {
        node_id: edge::node_id("dest", &request.dest)?,
        payment_hash,
        keysend,
        secret,
        amount,
        final_cltv: edge::optional_u16("final_cltv_delta", request.final_cltv_delta)?,
        route_hints: route_hints(&request.route_hints)?,
    })
}

pub(crate) fn page_request(request: &lnrpc::ListPaymentsRequest) -> PageRequest {
    PageRequest {
        offset: request.index_offset,
        limit: Some(if request.max_payments == 0 { DEFAULT_PAGE } else { request.max_payments }),
        reversed: request.reversed,
        only_open: false,
        created_from: given(request.creation_date_start),
        created_until: given(request.creation_date_end),
    }
}

#[allow(deprecated)] // `value`, `fee` and `creation_date` are still read by clients.
pub(crate) fn payment(payment: &Payment) -> lnrpc::Payment {
    let (status, preimage, reason) = match payment.state {
        PaymentState::Initiated => (PaymentStatus::Initiated, None, None),
        PaymentState::InFlight => (PaymentStatus::InFlight, None, None),
        PaymentState::Succeeded { preimage } => (PaymentStatus::Succeeded, Some(preimage), None),
        PaymentState::Failed { reason } => (PaymentStatus::Failed, None, Some(reason)),
    };
    let created = nanos(payment.created);
    lnrpc::Payment {
        payment_hash: payment.payment_hash.to_string(),
        value: sat(payment.amount),
        value_sat: sat(payment.amount),
        value_msat: msat(payment.amount),
        creation_date: created / 1_000_000_000,
        creation_time_ns: created,
        fee: sat(payment.fee),
        fee_sat: sat(payment.fee),
        fee_msat: msat(payment.fee),
        payment_preimage: hex::encode(preimage.map_or([0; 32], |preimage| preimage.0)),
        payment_request: payment.request.clone().unwrap_or_default(),
        status: status.into(),
        htlcs: payment.attempts.iter().map(attempt).collect(),
        payment_index: payment.index,
        failure_reason: failure_reason(reason).into(),
    }
}

pub(super) fn failure_reason(reason: Option<FailureReason>) -> lnrpc::PaymentFailureReason {
    use lnrpc::PaymentFailureReason as Reason;
    match reason {
        None => Reason::FailureReasonNone,
        Some(FailureReason::Timeout) => Reason::FailureReasonTimeout,
        Some(FailureReason::NoRoute) => Reason::FailureReasonNoRoute,
        Some(FailureReason::Error) => Reason::FailureReasonError,
        Some(FailureReason::IncorrectDetails) => Reason::FailureReasonIncorrectPaymentDetails,
        Some(FailureReason::InsufficientBalance) => Reason::FailureReasonInsufficientBalance,
    }
}

pub(crate) fn attempt(attempt: &Attempt) -> lnrpc::HtlcAttempt {
    use lnrpc::htlc_attempt::HtlcStatus as Status;
    let (status, resolved, failure, preimage) = match &attempt.state {
        AttemptState::InFlight => (Status::InFlight, None, None, Vec::new()),
        AttemptState::Succeeded { at, preimage } => (Status::Succeeded, Some(*at), None, preimage.0.to_vec()),
        AttemptState::Failed { at, failure } => (Status::Failed, Some(*at), Some(self::failure(failure)), Vec::new()),
    };
    lnrpc::HtlcAttempt {
        attempt_id: attempt.id,
        status: status.into(),
        route: Some(route(attempt)),
        attempt_time_ns: nanos(attempt.started),
        resolve_time_ns: resolved.map_or(0, nanos),
        failure,
        preimage,
    }
}

fn route(attempt: &Attempt) -> lnrpc::Route {
    routes::route(&PlannedRoute {
        hops: attempt.route.clone(),
        expiry: attempt.expiry,
        payment: attempt.secret.map(|secret| (secret, attempt.total)),
        metadata: None,
        custom_records: Vec::new(),
    })
}

fn failure(failure: &AttemptFailure) -> lnrpc::Failure {
    lnrpc::Failure {
        code: failure_code(failure).into(),
        htlc_msat: failure.amount.map_or(0, |amount| amount.0),
        cltv_expiry: 0,
        failure_source_index: failure.source.unwrap_or(0),
        height: failure.height.unwrap_or(0),
    }
}

/// LND's number for a failure of BOLT 4 (Failure Messages), where it is the low bits under the four flags.
fn failure_code(failure: &AttemptFailure) -> FailureCode {
    let Some(code) = failure.code else {
        return match failure.source {
            Some(0) => FailureCode::InternalFailure,
            Some(_) | None => FailureCode::UnreadableFailure,
        };
    };
    failure_code_of(Some(code))
}

/// Without a code: something of this node's own.
pub(super) fn failure_code_of(code: Option<u16>) -> FailureCode {
    let Some(code) = code else { return FailureCode::InternalFailure };
    match code {
        0x4001 => FailureCode::InvalidRealm,
        0x2002 => FailureCode::TemporaryNodeFailure,
        0x6002 => FailureCode::PermanentNodeFailure,
        0x6003 => FailureCode::RequiredNodeFeatureMissing,
        0xc004 => FailureCode::InvalidOnionVersion,
        0xc005 => FailureCode::InvalidOnionHmac,
        0xc006 => FailureCode::InvalidOnionKey,
        0x1007 => FailureCode::TemporaryChannelFailure,
        0x4008 => FailureCode::PermanentChannelFailure,
        0x4009 => FailureCode::RequiredChannelFeatureMissing,
        0x400a => FailureCode::UnknownNextPeer,
        0x100b => FailureCode::AmountBelowMinimum,
        0x100c => FailureCode::FeeInsufficient,
        0x100d => FailureCode::IncorrectCltvExpiry,
        0x100e => FailureCode::ExpiryTooSoon,
        0x400f => FailureCode::IncorrectOrUnknownPaymentDetails,
        0x4010 => FailureCode::IncorrectPaymentAmount,
        0x0011 => FailureCode::FinalExpiryTooSoon,
        0x0012 => FailureCode::FinalIncorrectCltvExpiry,
        0x0013 => FailureCode::FinalIncorrectHtlcAmount,
        0x1014 => FailureCode::ChannelDisabled,
        0x0015 => FailureCode::ExpiryTooFar,
        0x4016 => FailureCode::InvalidOnionPayload,
        0x0017 => FailureCode::MppTimeout,
        0xc018 => FailureCode::InvalidOnionBlinding,
        _ => FailureCode::UnknownFailure,
    }
}

fn nanos(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

pub(crate) fn to_forget(request: &lnrpc::DeletePaymentRequest) -> Result<ForgetPayments, ApiError> {
    Ok(ForgetPayments {
        hash: Some(edge::payment_hash("payment_hash", &request.payment_hash)?),
        only_failed: false,
        only_failed_attempts: request.failed_htlcs_only,
    })
}

/// Whoever wants all payments forgotten has to say so.
pub(crate) fn all_to_forget(request: &lnrpc::DeleteAllPaymentsRequest) -> Result<ForgetPayments, ApiError> {
    let lnrpc::DeleteAllPaymentsRequest { failed_payments_only, failed_htlcs_only, all_payments } = *request;
    if all_payments == (failed_payments_only || failed_htlcs_only) {
        let text = "set it to forget every payment that is over, or else failed_payments_only or failed_htlcs_only";
        return Err(edge::wrong("all_payments", text));
    }
    Ok(ForgetPayments { hash: None, only_failed: failed_payments_only, only_failed_attempts: failed_htlcs_only })
}

/// In LND's words.
pub(crate) fn forgotten(count: u64, which: ForgetPayments) -> String {
    let payments = if count == 1 { "payment" } else { "payments" };
    format!("{count} {payments} deleted, failed_htlcs_only={}", which.only_failed_attempts)
}
