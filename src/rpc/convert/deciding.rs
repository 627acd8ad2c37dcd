//! Programs that decide about channels of others and about forwards.

use bitcoin::Amount;
use leyden_channels::{
    channel::{AcceptOverrides, MAX_ACCEPTED_HTLCS},
    switch::{InterceptedHtlc, Interception, InterceptionFailure},
    types::{ChannelId, HtlcId, Msat, PaymentPreimage, ShortChannelId},
};
use leyden_proto::{lnrpc, routerrpc};
use tracing::warn;

use super::{channels, edge};
use crate::api::{
    ApiError, ChannelAnswer, ChannelQuestion, ChannelTerms, ChannelVerdict, InterceptionAnswer, NetworkInfo,
};

/// The most that another node is told: LND's number.
const MAX_ERROR: usize = 500;
/// What it is told if the answer makes no sense, or says nothing more.
const REJECTED: &str = "channel rejected";
/// The length of a failure as nodes pass it on: two lengths, 256 bytes, and what authenticates them (BOLT 4).
const FAILURE_LENGTH: usize = 256 + 32 + 2 + 2;

pub(crate) fn question(question: &ChannelQuestion) -> lnrpc::ChannelAcceptRequest {
    lnrpc::ChannelAcceptRequest {
        node_pubkey: question.node_id.serialize().to_vec(),
        chain_hash: question.chain.to_bytes().to_vec(),
        pending_chan_id: question.id.0.to_vec(),
        funding_amt: question.capacity.to_sat(),
        push_amt: question.push.0,
        dust_limit: question.dust_limit.to_sat(),
        max_value_in_flight: question.max_in_flight.0,
        channel_reserve: question.reserve.to_sat(),
        min_htlc: question.htlc_minimum.0,
        fee_per_kw: u64::from(question.feerate.0),
        csv_delay: u32::from(question.delay),
        max_accepted_htlcs: u32::from(question.max_htlcs),
        channel_flags: u32::from(question.flags),
        commitment_type: channels::commitment(question.channel_type.commitment).into(),
        wants_zero_conf: question.channel_type.zero_conf,
        wants_scid_alias: question.channel_type.scid_alias,
    }
}

/// An answer that makes no sense refuses the channel, as LND does it: the program goes on being asked. `None` if it names no
/// channel.
pub(crate) fn answer(answer: lnrpc::ChannelAcceptResponse, network: &NetworkInfo) -> Option<ChannelAnswer> {
    let id = ChannelId(answer.pending_chan_id.as_slice().try_into().ok()?);
    let verdict = match terms(answer, network) {
        Ok(verdict) => verdict,
        Err(error) => {
            warn!(channel = %id, %error, "a program's answer about a channel makes no sense: the channel is refused");
            ChannelVerdict::Refuse(REJECTED.to_owned())
        }
    };
    Some(ChannelAnswer { id, verdict })
}

fn terms(answer: lnrpc::ChannelAcceptResponse, network: &NetworkInfo) -> Result<ChannelVerdict, ApiError> {
    if answer.error.len() > MAX_ERROR {
        return Err(ApiError::invalid(format!("custom error message exceeds length limit: {MAX_ERROR}")));
    }
    if answer.accept && !answer.error.is_empty() {
        return Err(ApiError::invalid("channel acceptor response accepts channel, but also includes custom error"));
    }
    if !answer.accept {
        let words = if answer.error.is_empty() { REJECTED.to_owned() } else { answer.error };
        return Ok(ChannelVerdict::Refuse(words));
    }
    let max_htlcs = edge::optional_u16("max_htlc_count", answer.max_htlc_count)?;
    if max_htlcs.is_some_and(|count| count > MAX_ACCEPTED_HTLCS) {
        return Err(ApiError::invalid(format!("htlc limit exceeds spec limit of: {MAX_ACCEPTED_HTLCS}")));
    }
    if answer.zero_conf && answer.min_accept_depth != 0 {
        return Err(edge::wrong("zero_conf", "it waits for no confirmation, and min_accept_depth names some"));
    }
    let some = |amount: u64| Some(amount).filter(|amount| *amount > 0);
    let shutdown = edge::optional_address("upfront_shutdown", &answer.upfront_shutdown, network)?;
    Ok(ChannelVerdict::Accept(Box::new(ChannelTerms {
        overrides: AcceptOverrides {
            to_self_delay: edge::optional_u16("csv_delay", answer.csv_delay)?,
            reserve: some(answer.reserve_sat).map(Amount::from_sat),
            max_in_flight: some(answer.in_flight_max_msat).map(Msat),
            max_accepted_htlcs: max_htlcs,
            htlc_minimum: some(answer.min_htlc_in).map(Msat),
            minimum_depth: edge::optional_u16("min_accept_depth", answer.min_accept_depth)?.map(u32::from),
        },
        shutdown_script: shutdown.map(|address| address.script_pubkey()),
        zero_conf: answer.zero_conf,
    })))
}

pub(crate) fn intercepted(htlc: InterceptedHtlc) -> routerrpc::ForwardHtlcInterceptRequest {
    routerrpc::ForwardHtlcInterceptRequest {
        incoming_circuit_key: Some(routerrpc::CircuitKey {
            chan_id: htlc.incoming_channel.0,
            htlc_id: htlc.incoming.id.0,
        }),
        payment_hash: htlc.payment_hash.0.to_vec(),
        outgoing_amount_msat: htlc.outgoing_amount.0,
        outgoing_expiry: htlc.outgoing_expiry.0,
        incoming_amount_msat: htlc.incoming_amount.0,
        incoming_expiry: htlc.incoming_expiry.0,
        outgoing_requested_chan_id: htlc.outgoing_channel.0,
        custom_records: htlc.custom_records.into_iter().map(|record| (record.kind, record.value)).collect(),
        onion_blob: htlc.next.0.to_vec(),
        auto_fail_height: i32::try_from(htlc.auto_fail.0).unwrap_or(i32::MAX),
    }
}

pub(crate) fn interception(answer: routerrpc::ForwardHtlcInterceptResponse) -> Result<InterceptionAnswer, ApiError> {
    use lnrpc::failure::FailureCode;
    use routerrpc::ResolveHoldForwardAction as Action;
    let missing = || ApiError::invalid("CircuitKey missing from ForwardHtlcInterceptResponse");
    let key = answer.incoming_circuit_key.as_ref().ok_or_else(missing)?;
    let action = Action::try_from(answer.action)
        .map_err(|_| ApiError::invalid(format!("unrecognized resolve action {}", answer.action)))?;
    let settles = action == Action::Settle;
    edge::refuse("preimage", !settles && !answer.preimage.is_empty(), "only SETTLE takes one")?;
    let fails = action == Action::Fail;
    let says = !answer.failure_message.is_empty() || answer.failure_code != 0;
    edge::refuse("failure_code", !fails && says, "only FAIL says why")?;
    let decided = match action {
        Action::Resume => Interception::Resume,
        Action::ResumeModified => {
            return Err(edge::wrong(
                "action",
                "RESUME_MODIFIED is not served: an HTLC is forwarded as its sender wants it",
            ));
        }
        Action::Settle if answer.preimage.is_empty() => return Err(ApiError::invalid("missing preimage")),
        Action::Settle => Interception::Settle(PaymentPreimage(edge::bytes32("preimage", &answer.preimage)?)),
        Action::Fail if !answer.failure_message.is_empty() => {
            if answer.failure_code != 0 {
                return Err(ApiError::invalid("failure message and failure code are mutually exclusive"));
            }
            if answer.failure_message.len() != FAILURE_LENGTH {
                return Err(ApiError::invalid("failure message length invalid"));
            }
            Interception::FailEncrypted(answer.failure_message)
        }
        Action::Fail => {
            let unsupported = || ApiError::invalid(format!("unsupported failure code: {}", answer.failure_code));
            Interception::Fail(match FailureCode::try_from(answer.failure_code).map_err(|_| unsupported())? {
                FailureCode::Reserved | FailureCode::TemporaryChannelFailure => {
                    InterceptionFailure::TemporaryChannelFailure
                }
                FailureCode::InvalidOnionVersion => InterceptionFailure::InvalidOnionVersion,
                FailureCode::InvalidOnionHmac => InterceptionFailure::InvalidOnionHmac,
                FailureCode::InvalidOnionKey => InterceptionFailure::InvalidOnionKey,
                _ => return Err(unsupported()),
            })
        }
    };
    Ok(InterceptionAnswer { channel: ShortChannelId(key.chan_id), htlc: HtlcId(key.htlc_id), answer: decided })
}
