//! Invoices.

use std::time::Duration;

use leyden_channels::types::{Msat, PaymentHash, PaymentPreimage, ShortChannelId};
use leyden_proto::{invoicesrpc, lnrpc};

use super::{edge, features, msat, routes::records, sat, seconds};
use crate::api::{
    AddInvoice, ApiError, DecodedInvoice, Description, Invoice, InvoiceHtlc, InvoiceHtlcState, InvoiceState,
    NetworkInfo, PageRequest, RouteHintHop,
};

/// The most that BOLT 11's `d` field holds: 1023 groups of five bits.
const MAX_DESCRIPTION: usize = 639;

/// A year; longer expiries are taken for mistakes.
const MAX_EXPIRY: Duration = Duration::from_secs(365 * 24 * 3600);

/// Far more than any invoice; keeps a giant string from being parsed.
const MAX_REQUEST: usize = 7089;

/// How many invoices a page has if the request does not say.
const DEFAULT_PAGE: u64 = 100;

pub(crate) fn add_invoice(request: lnrpc::Invoice, network: &NetworkInfo) -> Result<AddInvoice, ApiError> {
    edge::refuse("is_amp", request.is_amp, "AMP invoices are not served")?;
    edge::refuse("is_blinded", request.is_blinded, "invoices with blinded paths are not served")?;
    edge::refuse("is_keysend", request.is_keysend, "a keysend payment needs no invoice")?;
    let preimage = match request.r_preimage.as_slice() {
        [] => None,
        bytes => Some(PaymentPreimage(edge::bytes32("r_preimage", bytes)?)),
    };
    if !request.r_hash.is_empty() && preimage.is_none_or(|preimage| preimage.hash().0[..] != request.r_hash[..]) {
        return Err(edge::wrong("r_hash", "it is not the hash of r_preimage; leave it empty"));
    }
    Ok(AddInvoice {
        preimage,
        amount: Some(edge::either_amount("value", request.value, request.value_msat)?).filter(|a| *a > Msat::ZERO),
        description: description(request.memo, &request.description_hash)?,
        expiry: expiry(request.expiry)?,
        min_final_cltv: edge::optional_u16("cltv_expiry", request.cltv_expiry)?,
        fallback: edge::optional_address("fallback_addr", &request.fallback_addr, network)?,
        route_hints: route_hints(&request.route_hints)?,
        hint_private_channels: request.private,
    })
}

pub(crate) fn add_hold_invoice(
    request: invoicesrpc::AddHoldInvoiceRequest,
    network: &NetworkInfo,
) -> Result<(PaymentHash, AddInvoice), ApiError> {
    let hash = edge::payment_hash("hash", &request.hash)?;
    let invoice = lnrpc::Invoice {
        memo: request.memo,
        value: request.value,
        value_msat: request.value_msat,
        description_hash: request.description_hash,
        expiry: request.expiry,
        fallback_addr: request.fallback_addr,
        cltv_expiry: request.cltv_expiry,
        route_hints: request.route_hints,
        private: request.private,
        ..Default::default()
    };
    Ok((hash, add_invoice(invoice, network)?))
}

pub(crate) fn lookup_v2(request: &invoicesrpc::LookupInvoiceMsg) -> Result<PaymentHash, ApiError> {
    use invoicesrpc::lookup_invoice_msg::InvoiceRef;
    match &request.invoice_ref {
        Some(InvoiceRef::PaymentHash(hash)) => edge::payment_hash("payment_hash", hash),
        Some(InvoiceRef::PaymentAddr(_) | InvoiceRef::SetId(_)) | None => {
            Err(edge::wrong("payment_hash", "invoices are found by their payment hashes; give that"))
        }
    }
}

fn description(memo: String, hash: &[u8]) -> Result<Description, ApiError> {
    let memo = edge::text("memo", memo, MAX_DESCRIPTION)?;
    match hash {
        [] => Ok(Description::Text(memo)),
        hash => Ok(Description::Hash { hash: edge::bytes32("description_hash", hash)?, memo }),
    }
}

fn expiry(seconds: i64) -> Result<Option<Duration>, ApiError> {
    match u64::try_from(seconds).map(Duration::from_secs) {
        Ok(Duration::ZERO) => Ok(None),
        Ok(expiry) if expiry <= MAX_EXPIRY => Ok(Some(expiry)),
        Ok(_) | Err(_) => Err(edge::wrong("expiry", format!("{seconds} seconds; it lies between 1 second and a year"))),
    }
}

pub(crate) fn route_hints(hints: &[lnrpc::RouteHint]) -> Result<Vec<Vec<RouteHintHop>>, ApiError> {
    let hop = |hop: &lnrpc::HopHint| {
        Ok(RouteHintHop {
            node_id: edge::node_id_hex("route_hints.node_id", &hop.node_id)?,
            short_channel_id: ShortChannelId(hop.chan_id),
            base_fee: Msat(u64::from(hop.fee_base_msat)),
            fee_ppm: hop.fee_proportional_millionths,
            cltv_delta: edge::optional_u16("route_hints.cltv_expiry_delta", hop.cltv_expiry_delta)?.unwrap_or(0),
        })
    };
    hints.iter().map(|hint| hint.hop_hints.iter().map(hop).collect()).collect()
}

#[allow(deprecated)] // `r_hash_str` is still sent by clients.
pub(crate) fn lookup_hash(request: &lnrpc::PaymentHash) -> Result<PaymentHash, ApiError> {
    if request.r_hash_str.is_empty() {
        return edge::payment_hash("r_hash", &request.r_hash);
    }
    let bytes = hex::decode(&request.r_hash_str).map_err(|_| {
        edge::wrong("r_hash_str", format!("\"{}\" is no payment hash; it has 64 hex digits", request.r_hash_str))
    })?;
    edge::payment_hash("r_hash_str", &bytes)
}

pub(crate) fn page_request(request: &lnrpc::ListInvoiceRequest) -> PageRequest {
    PageRequest {
        offset: request.index_offset,
        limit: Some(if request.num_max_invoices == 0 { DEFAULT_PAGE } else { request.num_max_invoices }),
        reversed: request.reversed,
        only_open: request.pending_only,
        created_from: given(request.creation_date_start),
        created_until: given(request.creation_date_end),
    }
}

pub(super) fn given(time: u64) -> Option<u64> {
    (time != 0).then_some(time)
}

/// A BOLT 11 text as people paste it: with white space around it, or the `lightning:` of a link before it.
pub(crate) fn request_text<'a>(field: &str, text: &'a str) -> Result<&'a str, ApiError> {
    let text = text.trim();
    let text = match text.split_at_checked("lightning:".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("lightning:") => rest,
        _ => text,
    };
    match text.len() {
        0 => Err(edge::wrong(field, "an invoice is needed; it begins with \"ln\"")),
        1..=MAX_REQUEST => Ok(text),
        length => Err(edge::wrong(field, format!("{length} characters; no invoice is longer than {MAX_REQUEST}"))),
    }
}

#[allow(deprecated)] // `settled` and `amt_paid` are still read by clients.
pub(crate) fn invoice(invoice: &Invoice) -> lnrpc::Invoice {
    use lnrpc::invoice::InvoiceState as State;
    let (state, settle_date, settle_index, paid) = match invoice.state {
        InvoiceState::Open => (State::Open, 0, 0, Msat::ZERO),
        InvoiceState::Accepted { amount } => (State::Accepted, 0, 0, amount),
        InvoiceState::Settled { at, settle_index, amount } => (State::Settled, at.0, settle_index, amount),
        // LND has no word for it. It does not read as paid, and its HTLCs tell the rest.
        InvoiceState::TakenBack { amount } => (State::Canceled, 0, 0, amount),
        InvoiceState::Canceled => (State::Canceled, 0, 0, Msat::ZERO),
    };
    let amount = invoice.amount.unwrap_or(Msat::ZERO);
    let (memo, description_hash) = described(&invoice.description);
    lnrpc::Invoice {
        memo,
        r_preimage: invoice.preimage.map(|preimage| preimage.0.to_vec()).unwrap_or_default(),
        r_hash: invoice.payment_hash.0.to_vec(),
        value: sat(amount),
        value_msat: msat(amount),
        settled: state == State::Settled,
        creation_date: time(invoice.created.0),
        settle_date: time(settle_date),
        payment_request: invoice.request.clone(),
        description_hash: description_hash.map(|hash| hash.to_vec()).unwrap_or_default(),
        expiry: seconds(invoice.expiry),
        fallback_addr: invoice.fallback.as_ref().map(ToString::to_string).unwrap_or_default(),
        cltv_expiry: u64::from(invoice.min_final_cltv),
        route_hints: hints(&invoice.route_hints),
        private: invoice.hint_private_channels,
        add_index: invoice.add_index,
        settle_index,
        amt_paid: msat(paid),
        amt_paid_sat: sat(paid),
        amt_paid_msat: msat(paid),
        state: state.into(),
        htlcs: invoice.htlcs.iter().map(htlc).collect(),
        features: features(&invoice.features),
        is_keysend: invoice.keysend,
        payment_addr: invoice.secret.0.to_vec(),
        is_amp: false,
        is_blinded: false,
    }
}

fn htlc(htlc: &InvoiceHtlc) -> lnrpc::InvoiceHtlc {
    let state = match htlc.state {
        InvoiceHtlcState::Accepted => lnrpc::InvoiceHtlcState::Accepted,
        InvoiceHtlcState::Settled => lnrpc::InvoiceHtlcState::Settled,
        InvoiceHtlcState::Canceled => lnrpc::InvoiceHtlcState::Canceled,
    };
    lnrpc::InvoiceHtlc {
        chan_id: htlc.short_channel_id.0,
        htlc_index: htlc.id.0,
        amt_msat: htlc.amount.0,
        accept_height: i32::try_from(htlc.accepted_height.0).unwrap_or(i32::MAX),
        accept_time: time(htlc.accepted.0),
        resolve_time: htlc.resolved.map_or(0, |at| time(at.0)),
        expiry_height: i32::try_from(htlc.expiry.0).unwrap_or(i32::MAX),
        state: state.into(),
        mpp_total_amt_msat: htlc.total.0,
        custom_records: records(&htlc.custom_records),
    }
}

pub(crate) fn decoded(invoice: &DecodedInvoice) -> lnrpc::PayReq {
    let amount = invoice.amount.unwrap_or(Msat::ZERO);
    let (description, description_hash) = described(&invoice.description);
    lnrpc::PayReq {
        destination: invoice.payee.to_string(),
        payment_hash: invoice.payment_hash.to_string(),
        num_satoshis: sat(amount),
        timestamp: time(invoice.created.0),
        expiry: seconds(invoice.expiry),
        description,
        description_hash: description_hash.map(hex::encode).unwrap_or_default(),
        fallback_addr: invoice.fallback.as_ref().map(ToString::to_string).unwrap_or_default(),
        cltv_expiry: i64::from(invoice.min_final_cltv),
        route_hints: hints(&invoice.route_hints),
        payment_addr: invoice.secret.0.to_vec(),
        num_msat: msat(amount),
        features: features(&invoice.features),
    }
}

pub(super) fn described(description: &Description) -> (String, Option<[u8; 32]>) {
    match description {
        Description::Text(text) => (text.clone(), None),
        Description::Hash { hash, memo } => (memo.clone(), Some(*hash)),
    }
}

fn hints(hints: &[Vec<RouteHintHop>]) -> Vec<lnrpc::RouteHint> {
    let hop = |hop: &RouteHintHop| lnrpc::HopHint {
        node_id: hop.node_id.to_string(),
        chan_id: hop.short_channel_id.0,
        fee_base_msat: u32::try_from(hop.base_fee.0).unwrap_or(u32::MAX),
        fee_proportional_millionths: hop.fee_ppm,
        cltv_expiry_delta: u32::from(hop.cltv_delta),
    };
    hints.iter().map(|hint| lnrpc::RouteHint { hop_hints: hint.iter().map(hop).collect() }).collect()
}

fn time(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}
