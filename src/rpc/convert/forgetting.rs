//! What is to be deleted.

use leyden_channels::types::PaymentHash;
use leyden_proto::{
    lnrpc,
    routerrpc::{self, delete_forwarding_history_request::TimeSpec},
};

use super::{edge, msat};
use crate::api::{ApiError, ForgetUntil, ForgottenForwards};

pub(crate) fn invoice(request: &lnrpc::DelCanceledInvoiceReq) -> Result<PaymentHash, ApiError> {
    if request.invoice_hash.is_empty() {
        return Err(ApiError::invalid("invoice hash must be provided"));
    }
    let bytes = hex::decode(&request.invoice_hash)
        .map_err(|_| edge::wrong("invoice_hash", "it is no hash; it has 64 hex digits"))?;
    edge::payment_hash("invoice_hash", &bytes)
}

pub(crate) fn forwards(request: routerrpc::DeleteForwardingHistoryRequest) -> Result<ForgetUntil, ApiError> {
    match request.time_spec {
        Some(TimeSpec::DeleteBeforeTime(at)) => Ok(ForgetUntil::Time(at)),
        Some(TimeSpec::DeleteBeforeDuration(text)) => seconds_ago(&text).map(ForgetUntil::Ago).ok_or_else(|| {
            let text =
                format!("invalid duration format: \"{text}\" is no time ago; write -30d, -1w, -1M, -1y or -1h30m");
            ApiError::invalid(text)
        }),
        None => Err(ApiError::invalid(
            "time specification required: either delete_before_time or delete_before_duration must be provided",
        )),
    }
}

/// As Go writes a time, and with LND's days, weeks, months and years; it has to be negative.
fn seconds_ago(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 11] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3_600.0),
        ("d", 86_400.0),
        ("w", 7.0 * 86_400.0),
        ("M", 30.44 * 86_400.0),
        ("y", 365.25 * 86_400.0),
    ];
    let mut rest = text.strip_prefix('-')?;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number_end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, more) = rest.split_at(number_end);
        let unit_end = more.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(more.len());
        let (unit, more) = more.split_at(unit_end);
        let (_, worth) = UNITS.iter().find(|(name, _)| *name == unit)?;
        seconds += number.parse::<f64>().ok()? * worth;
        rest = more;
    }
    // A number too large stays the largest one, which lies before any time there is.
    (text.len() > 1 && seconds.is_finite()).then_some(seconds as u64)
}

pub(crate) fn forgotten(forgotten: &ForgottenForwards) -> routerrpc::DeleteForwardingHistoryResponse {
    routerrpc::DeleteForwardingHistoryResponse {
        events_deleted: forgotten.count,
        total_fee_msat: msat(forgotten.fees),
        status: format!("Successfully deleted {} forwarding events", forgotten.count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_ago_are_read_as_lnd_reads_them() {
        for (text, seconds) in [
            ("-1h", 3_600),
            ("-1h30m", 5_400),
            ("-1.5h", 5_400),
            ("-30d", 2_592_000),
            ("-1w", 604_800),
            ("-1M", 2_630_016),
        ] {
            assert_eq!(seconds_ago(text), Some(seconds), "{text}");
        }
        for wrong in ["", "-", "30d", "-d", "-5", "-5x", "-1.2.3h", "+1h", "-1h-"] {
            assert_eq!(seconds_ago(wrong), None, "{wrong}");
        }
    }
}
