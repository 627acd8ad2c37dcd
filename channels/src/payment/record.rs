//! How invoices and payments are stored.
//!
//! A record is a format byte, then the fields in the order of the struct, each as in BOLT 1; options are a byte and
//! the value, lists a count and the values. A record of a newer format is refused, never guessed at.

use secp256k1::{PublicKey, SecretKey};

use crate::channel::AttemptId;
use crate::types::{Height, UnixTime};
use crate::wire::codec::{DecodeError, Field, Reader};
use crate::wire::tlv::RawRecord;

use super::HintHop;
use super::incoming::{Accepted, Holder, Invoice, InvoiceState, PaidBy, Settled};
use super::outgoing::{
    Attempt, AttemptFailure, AttemptState, Payment, PaymentFailure, PaymentLimits, PaymentRequest, PaymentState,
    Refused,
};
use super::route::{Hop, Route};

/// Format 1 had neither hints, limits and custom records of payments nor held and spontaneous invoices.
/// Format 2 did not know what was taken back on the chain, and kept neither what a recipient says of an HTLC that it refuses nor the preference of time over fees.
/// Format 3 did not know for how long an invoice is held.
/// Format 4 did not know who holds it.
const FORMAT: u8 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum RecordError {
    #[error("the record has format {found}, this program knows {FORMAT}: it was written by a newer one")]
    Newer { found: u8 },
    #[error("the record is damaged: {0}")]
    Damaged(#[from] DecodeError),
    #[error("the record is damaged: {0} has no meaning")]
    Meaningless(&'static str),
}

/// The bytes that are stored of an invoice.
pub fn encode_invoice(invoice: &Invoice) -> Vec<u8> {
    encode(|out| put_invoice(out, invoice))
}

/// Reads exactly one invoice, of this version or an earlier one.
pub fn decode_invoice(bytes: &[u8]) -> Result<Invoice, RecordError> {
    decode(bytes, take_invoice)
}

/// The bytes that are stored of a payment.
pub fn encode_payment(payment: &Payment) -> Vec<u8> {
    encode(|out| put_payment(out, payment))
}

/// Reads exactly one payment, of this version or an earlier one.
pub fn decode_payment(bytes: &[u8]) -> Result<Payment, RecordError> {
    decode(bytes, take_payment)
}

fn encode(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![FORMAT];
    fill(&mut out);
    out
}

fn decode<T>(bytes: &[u8], take: impl FnOnce(&mut Reader<'_>, u8) -> Result<T, RecordError>) -> Result<T, RecordError> {
    let mut reader = Reader::new(bytes);
    let found = reader.field::<u8>()?;
    if !(1..=FORMAT).contains(&found) {
        return Err(RecordError::Newer { found });
    }
    let value = take(&mut reader, found)?;
    reader.finish()?;
    Ok(value)
}

fn put_invoice(out: &mut Vec<u8>, invoice: &Invoice) {
    let Invoice {
        index,
        payment_hash,
        preimage,
        payment_secret,
        amount,
        memo,
        bolt11,
        created,
        expiry_seconds,
        min_final_cltv_expiry_delta,
        keysend,
        holder,
        state,
    } = invoice;
    index.write(out);
    payment_hash.write(out);
    put_option(out, preimage.as_ref());
    payment_secret.write(out);
    put_option(out, amount.as_ref());
    put_text(out, memo);
    put_text(out, bolt11);
    created.0.write(out);
    expiry_seconds.write(out);
    min_final_cltv_expiry_delta.write(out);
    u8::from(*keysend).write(out);
    put_holder(out, *holder);
    match state {
        InvoiceState::Open => 0_u8.write(out),
        InvoiceState::Settled(Settled { index, at, amount, htlcs }) => {
            1_u8.write(out);
            index.write(out);
            at.0.write(out);
            amount.write(out);
            put_list(out, htlcs, put_paid);
        }
        InvoiceState::Canceled => 2_u8.write(out),
        InvoiceState::Accepted(Accepted { at, amount, htlcs }) => {
            3_u8.write(out);
            at.0.write(out);
            amount.write(out);
            put_list(out, htlcs, put_paid);
        }
    }
}

fn take_invoice(reader: &mut Reader<'_>, format: u8) -> Result<Invoice, RecordError> {
    let old = format < 2;
    let paid = |reader: &mut Reader<'_>| take_paid(reader, format);
    let index = reader.field()?;
    let payment_hash = reader.field()?;
    let preimage = if old { Some(reader.field()?) } else { take_option(reader)? };
    let payment_secret = reader.field()?;
    let amount = take_option(reader)?;
    let memo = take_text(reader)?;
    Ok(Invoice {
        index,
        payment_hash,
        preimage,
        payment_secret,
        amount,
        bolt11: take_text(reader)?,
        created: UnixTime(reader.field()?),
        expiry_seconds: reader.field()?,
        min_final_cltv_expiry_delta: reader.field()?,
        keysend: if old { false } else { reader.field::<u8>()? != 0 },
        holder: match format {
            5.. => take_holder(reader)?,
            4 if reader.field::<u8>()? != 0 => old_holder(&memo),
            _ => Holder::Person,
        },
        memo,
        state: match reader.field::<u8>()? {
            0 => InvoiceState::Open,
            1 => InvoiceState::Settled(Settled {
                index: reader.field()?,
                at: UnixTime(reader.field()?),
                amount: reader.field()?,
                htlcs: take_list(reader, paid)?,
            }),
            2 => InvoiceState::Canceled,
            3 => InvoiceState::Accepted(Accepted {
                at: UnixTime(reader.field()?),
                amount: reader.field()?,
                htlcs: take_list(reader, paid)?,
            }),
            _ => return Err(RecordError::Meaningless("the state of an invoice")),
        },
    })
}

const PERSON: u8 = 0;
const SWAP_IN: u8 = 1;
const SWAP_OUT: u8 = 2;
const CROSSING: u8 = 3;

fn put_holder(out: &mut Vec<u8>, holder: Holder) {
    match holder {
        Holder::Person => out.push(PERSON),
        Holder::SwapIn => out.push(SWAP_IN),
        Holder::SwapOut => out.push(SWAP_OUT),
        Holder::Crossing(book) => {
            out.push(CROSSING);
            put_option(out, book.as_ref());
        }
    }
}

fn take_holder(reader: &mut Reader<'_>) -> Result<Holder, RecordError> {
    Ok(match reader.field::<u8>()? {
        PERSON => Holder::Person,
        SWAP_IN => Holder::SwapIn,
        SWAP_OUT => Holder::SwapOut,
        CROSSING => Holder::Crossing(take_option(reader)?),
        _ => return Err(RecordError::Meaningless("who holds an invoice")),
    })
}

/// Whose invoice it is that a program of format 4 held until its expiry. Only swaps and crossings had such, and their texts
/// were these programs' own.
fn old_holder(memo: &str) -> Holder {
    if memo == "submarine swap" { Holder::SwapOut } else { Holder::Crossing(None) }
}

fn put_paid(out: &mut Vec<u8>, paid: &PaidBy) {
    let PaidBy { channel, htlc, amount, cltv_expiry, at, height, custom_records, taken_back } = paid;
    channel.write(out);
    htlc.write(out);
    amount.write(out);
    cltv_expiry.write(out);
    at.0.write(out);
    height.0.write(out);
    put_list(out, custom_records, put_custom);
    u8::from(*taken_back).write(out);
}

fn take_paid(reader: &mut Reader<'_>, format: u8) -> Result<PaidBy, RecordError> {
    let old = format < 2;
    Ok(PaidBy {
        channel: reader.field()?,
        htlc: reader.field()?,
        amount: reader.field()?,
        cltv_expiry: reader.field()?,
        at: UnixTime(if old { 0 } else { reader.field()? }),
        height: Height(if old { 0 } else { reader.field()? }),
        custom_records: if old { Vec::new() } else { take_list(reader, take_custom)? },
        taken_back: if format < 3 { false } else { reader.field::<u8>()? != 0 },
    })
}

fn put_payment(out: &mut Vec<u8>, payment: &Payment) {
    let Payment { index, request, created, attempts, state } = payment;
    index.write(out);
    let PaymentRequest {
        payment_hash,
        destination,
        amount,
        payment_secret,
        payment_metadata,
        final_cltv_delta,
        max_fee,
        deadline,
        bolt11,
        hints,
        limits,
        keysend,
        custom_records,
    } = request;
    payment_hash.write(out);
    destination.write(out);
    amount.write(out);
    put_option(out, payment_secret.as_ref());
    put_option(out, payment_metadata.as_ref());
    final_cltv_delta.write(out);
    max_fee.write(out);
    deadline.0.write(out);
    put_text(out, bolt11);
    put_list(out, hints, |out, hops| put_list(out, hops, put_hint));
    put_limits(out, limits);
    put_option(out, keysend.as_ref());
    put_list(out, custom_records, put_custom);
    created.0.write(out);
    put_list(out, attempts, put_attempt);
    match state {
        PaymentState::Pending => 0_u8.write(out),
        PaymentState::Succeeded { preimage, at } => {
            1_u8.write(out);
            preimage.write(out);
            at.0.write(out);
        }
        PaymentState::Failed { reason, at } => {
            2_u8.write(out);
            let reason: u8 = match reason {
                PaymentFailure::Timeout => 0,
                PaymentFailure::NoRoute => 1,
                PaymentFailure::IncorrectPaymentDetails => 2,
                PaymentFailure::InsufficientBalance => 3,
                PaymentFailure::Error => 4,
                PaymentFailure::TipInDoubt => 5,
                PaymentFailure::RecipientBusy => 6,
            };
            reason.write(out);
            at.0.write(out);
        }
    }
}

fn take_payment(reader: &mut Reader<'_>, format: u8) -> Result<Payment, RecordError> {
    let index = reader.field()?;
    let old = format < 2;
    let request = PaymentRequest {
        payment_hash: reader.field()?,
        destination: reader.field()?,
        amount: reader.field()?,
        payment_secret: take_option(reader)?,
        payment_metadata: take_option(reader)?,
        final_cltv_delta: reader.field()?,
        max_fee: reader.field()?,
        deadline: UnixTime(reader.field()?),
        bolt11: take_text(reader)?,
        hints: if old { Vec::new() } else { take_list(reader, |reader| take_list(reader, take_hint))? },
        limits: if old { PaymentLimits::default() } else { take_limits(reader, format)? },
        keysend: if old { None } else { take_option(reader)? },
        custom_records: if old { Vec::new() } else { take_list(reader, take_custom)? },
    };
    Ok(Payment {
        index,
        request,
        created: UnixTime(reader.field()?),
        attempts: take_list(reader, |reader| take_attempt(reader, format))?,
        state: match reader.field::<u8>()? {
            0 => PaymentState::Pending,
            1 => PaymentState::Succeeded { preimage: reader.field()?, at: UnixTime(reader.field()?) },
            2 => {
                let reason = match reader.field::<u8>()? {
                    0 => PaymentFailure::Timeout,
                    1 => PaymentFailure::NoRoute,
                    2 => PaymentFailure::IncorrectPaymentDetails,
                    3 => PaymentFailure::InsufficientBalance,
                    4 => PaymentFailure::Error,
                    5 => PaymentFailure::TipInDoubt,
                    6 => PaymentFailure::RecipientBusy,
                    _ => return Err(RecordError::Meaningless("why a payment failed")),
                };
                PaymentState::Failed { reason, at: UnixTime(reader.field()?) }
            }
            _ => return Err(RecordError::Meaningless("the state of a payment")),
        },
    })
}

fn put_attempt(out: &mut Vec<u8>, attempt: &Attempt) {
    let Attempt { id, route, session_key, at, state } = attempt;
    id.0.write(out);
    put_list(out, route.hops(), |out, hop| {
        let Hop { node_id, channel, amount, cltv_expiry } = hop;
        node_id.write(out);
        put_option(out, channel.as_ref());
        amount.write(out);
        cltv_expiry.write(out);
    });
    session_key.secret_bytes().write(out);
    at.0.write(out);
    match state {
        AttemptState::InFlight => 0_u8.write(out),
        AttemptState::Succeeded => 1_u8.write(out),
        AttemptState::Failed(AttemptFailure { source, code, refused }) => {
            2_u8.write(out);
            put_option(out, source.as_ref());
            code.write(out);
            u8::from(refused.is_some()).write(out);
            if let Some(Refused { amount, height }) = refused {
                amount.write(out);
                height.0.write(out);
            }
        }
    }
}

fn take_attempt(reader: &mut Reader<'_>, format: u8) -> Result<Attempt, RecordError> {
    let id = AttemptId(reader.field()?);
    let hops = take_list(reader, |reader| {
        Ok(Hop {
            node_id: reader.field::<PublicKey>()?,
            channel: take_option(reader)?,
            amount: reader.field()?,
            cltv_expiry: reader.field()?,
        })
    })?;
    Ok(Attempt {
        id,
        route: Route::new(hops).ok_or(RecordError::Meaningless("a route"))?,
        session_key: SecretKey::from_slice(&reader.array::<32>()?)
            .map_err(|_| RecordError::Meaningless("a session key"))?,
        at: UnixTime(reader.field()?),
        state: match reader.field::<u8>()? {
            0 => AttemptState::InFlight,
            1 => AttemptState::Succeeded,
            2 => AttemptState::Failed(AttemptFailure {
                source: take_option(reader)?,
                code: reader.field()?,
                refused: if format < 3 { None } else { take_refused(reader)? },
            }),
            _ => return Err(RecordError::Meaningless("the state of an attempt")),
        },
    })
}

fn take_refused(reader: &mut Reader<'_>) -> Result<Option<Refused>, RecordError> {
    match reader.field::<u8>()? {
        0 => Ok(None),
        1 => Ok(Some(Refused { amount: reader.field()?, height: Height(reader.field()?) })),
        _ => Err(RecordError::Meaningless("what a recipient refused")),
    }
}

fn put_hint(out: &mut Vec<u8>, hop: &HintHop) {
    let HintHop { node_id, short_channel_id, fee_base_msat, fee_proportional_millionths, cltv_expiry_delta } = hop;
    node_id.write(out);
    short_channel_id.write(out);
    fee_base_msat.write(out);
    fee_proportional_millionths.write(out);
    cltv_expiry_delta.write(out);
}

fn take_hint(reader: &mut Reader<'_>) -> Result<HintHop, RecordError> {
    Ok(HintHop {
        node_id: reader.field()?,
        short_channel_id: reader.field()?,
        fee_base_msat: reader.field()?,
        fee_proportional_millionths: reader.field()?,
        cltv_expiry_delta: reader.field()?,
    })
}

fn put_limits(out: &mut Vec<u8>, limits: &PaymentLimits) {
    let PaymentLimits { max_parts, max_part, max_cltv, outgoing, last_hop, time_pref } = limits;
    max_parts.write(out);
    put_option(out, max_part.as_ref());
    put_option(out, max_cltv.as_ref());
    put_list(out, outgoing, |out, id| id.write(out));
    put_option(out, last_hop.as_ref());
    time_pref.to_be_bytes().write(out);
}

fn take_limits(reader: &mut Reader<'_>, format: u8) -> Result<PaymentLimits, RecordError> {
    Ok(PaymentLimits {
        max_parts: reader.field()?,
        max_part: take_option(reader)?,
        max_cltv: take_option(reader)?,
        outgoing: take_list(reader, |reader| Ok(reader.field()?))?,
        last_hop: take_option(reader)?,
        time_pref: if format < 3 { 0 } else { i8::from_be_bytes(reader.array()?) },
    })
}

fn put_custom(out: &mut Vec<u8>, record: &RawRecord) {
    record.kind.write(out);
    (record.value.len() as u32).write(out);
    out.extend_from_slice(&record.value);
}

fn take_custom(reader: &mut Reader<'_>) -> Result<RawRecord, RecordError> {
    let kind = reader.field()?;
    let length = reader.field::<u32>()? as usize;
    Ok(RawRecord { kind, value: reader.bytes(length)?.to_vec() })
}

fn put_option<T: Field>(out: &mut Vec<u8>, value: Option<&T>) {
    u8::from(value.is_some()).write(out);
    if let Some(value) = value {
        value.write(out);
    }
}

fn take_option<T: Field>(reader: &mut Reader<'_>) -> Result<Option<T>, RecordError> {
    match reader.field::<u8>()? {
        0 => Ok(None),
        1 => Ok(Some(reader.field()?)),
        _ => Err(RecordError::Meaningless("an option")),
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    (text.len() as u32).write(out);
    out.extend_from_slice(text.as_bytes());
}

fn take_text(reader: &mut Reader<'_>) -> Result<String, RecordError> {
    let length = reader.field::<u32>()? as usize;
    let bytes = reader.bytes(length)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| RecordError::Damaged(DecodeError::NotUtf8))
}

fn put_list<T>(out: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    (items.len() as u32).write(out);
    for item in items {
        put(out, item);
    }
}

fn take_list<T>(
    reader: &mut Reader<'_>,
    take: impl Fn(&mut Reader<'_>) -> Result<T, RecordError>,
) -> Result<Vec<T>, RecordError> {
    let count = reader.field::<u32>()?;
    (0..count).map(|_| take(reader)).collect()
}

#[cfg(test)]
mod tests {
    use secp256k1::SECP256K1;

    use super::*;
    use crate::types::{
        ChannelId, CltvExpiry, DirectoryId, HtlcId, Msat, PaymentPreimage, PaymentSecret, ShortChannelId,
    };

    fn payment(state: PaymentState) -> Payment {
        let session_key = SecretKey::from_slice(&[3; 32]).unwrap();
        let hop = Hop {
            node_id: session_key.public_key(SECP256K1),
            channel: Some(ShortChannelId(77)),
            amount: Msat(1000),
            cltv_expiry: CltvExpiry(144),
        };
        let attempt = |id, state| Attempt {
            id: AttemptId(id),
            route: Route::new(vec![Hop { channel: None, ..hop.clone() }, hop.clone()]).unwrap(),
            session_key,
            at: UnixTime(9),
            state,
        };
        let preimage = PaymentPreimage([8; 32]);
        Payment {
            index: 4,
            request: PaymentRequest {
                payment_hash: preimage.hash(),
                destination: hop.node_id,
                amount: Msat(1000),
                payment_secret: Some(PaymentSecret([1; 32])),
                payment_metadata: None,
                final_cltv_delta: 18,
                max_fee: Msat(5),
                deadline: UnixTime(60),
                bolt11: "lnbcrt1".into(),
                hints: vec![vec![HintHop {
                    node_id: hop.node_id,
                    short_channel_id: ShortChannelId(5),
                    fee_base_msat: 1,
                    fee_proportional_millionths: 2,
                    cltv_expiry_delta: 3,
                }]],
                limits: PaymentLimits {
                    max_parts: 16,
                    max_part: Some(Msat(400)),
                    max_cltv: Some(2_016),
                    outgoing: vec![ShortChannelId(77)],
                    last_hop: Some(hop.node_id),
                    time_pref: -5,
                },
                keysend: Some(preimage),
                custom_records: vec![RawRecord { kind: 65_536, value: b"hello".to_vec() }],
            },
            created: UnixTime(5),
            attempts: vec![
                attempt(1, AttemptState::InFlight),
                attempt(2, AttemptState::Succeeded),
                attempt(
                    3,
                    AttemptState::Failed(AttemptFailure {
                        source: Some(2),
                        code: 0x400f,
                        refused: Some(Refused { amount: Msat(999), height: Height(140) }),
                    }),
                ),
            ],
            state,
        }
    }

    #[test]
    fn payments_round_trip_in_every_state() {
        let at = UnixTime(10);
        for state in [
            PaymentState::Pending,
            PaymentState::Succeeded { preimage: PaymentPreimage([8; 32]), at },
            PaymentState::Failed { reason: PaymentFailure::NoRoute, at },
        ] {
            let payment = payment(state);
            assert_eq!(decode_payment(&encode_payment(&payment)).unwrap(), payment);
        }
    }

    #[test]
    fn invoices_round_trip_and_nothing_shorter_is_taken() {
        let preimage = PaymentPreimage([8; 32]);
        let paid = PaidBy {
            channel: ChannelId([4; 32]),
            htlc: HtlcId(6),
            amount: Msat(21),
            cltv_expiry: CltvExpiry(500),
            at: UnixTime(98),
            height: Height(400),
            custom_records: vec![RawRecord { kind: 70_000, value: vec![1, 2] }],
            taken_back: true,
        };
        let settled = Settled { index: 2, at: UnixTime(99), amount: Msat(21), htlcs: vec![paid.clone()] };
        let accepted = Accepted { at: UnixTime(99), amount: Msat(21), htlcs: vec![paid] };
        for state in [
            InvoiceState::Open,
            InvoiceState::Accepted(accepted),
            InvoiceState::Settled(settled.clone()),
            InvoiceState::Canceled,
        ] {
            let invoice = Invoice {
                index: 7,
                payment_hash: preimage.hash(),
                preimage: Some(preimage).filter(|_| !matches!(state, InvoiceState::Accepted(_))),
                payment_secret: PaymentSecret([2; 32]),
                amount: Some(Msat(20)),
                memo: "tea".into(),
                bolt11: "lnbcrt…".into(),
                created: UnixTime(1),
                expiry_seconds: 3600,
                min_final_cltv_expiry_delta: 18,
                keysend: true,
                holder: Holder::Crossing(Some(DirectoryId([3; 32]))),
                state,
            };
            for holder in [Holder::Person, Holder::SwapIn, Holder::SwapOut, Holder::Crossing(None)] {
                let invoice = Invoice { holder, ..invoice.clone() };
                assert_eq!(decode_invoice(&encode_invoice(&invoice)).unwrap(), invoice);
            }
            let bytes = encode_invoice(&invoice);
            assert_eq!(decode_invoice(&bytes).unwrap(), invoice);
            for length in 0..bytes.len() {
                assert!(decode_invoice(&bytes[..length]).is_err());
            }
            assert_eq!(decode_invoice(&[&[9], &bytes[1..]].concat()), Err(RecordError::Newer { found: 9 }));
        }
    }
}
