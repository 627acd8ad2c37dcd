//! How rates and crossings are stored, and restored: a row each.

use super::{
    book::Crossings,
    node::PaymentRecords,
    rate::Rate,
    state::{Begun, Crossing, Held, Outcome, Pair, Reason, State},
};
use crate::{
    types::{CltvExpiry, UnixTime},
    wire::codec::{DecodeError, Field, Reader},
};

/// The format that is written, and the highest that is read. Format 1 did not know by which records a payment is known.
const FORMAT: u8 = 2;

/// Why a row cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum RestoreError {
    #[error("a crossing was written by a newer Leyden (format {found}, this one reads up to {known}); use that one")]
    Newer { found: u8, known: u8 },
    #[error("a crossing's row is damaged: {0}")]
    Damaged(#[from] DecodeError),
    #[error("a crossing's row is damaged: it has {0}")]
    Unknown(&'static str),
}

impl Crossings {
    /// What was stored, in any order. The next tick of each crossing does again what was under way.
    pub fn restore<'a>(
        rates: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        crossings: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, RestoreError> {
        let mut book = Self::default();
        for (name, row) in rates {
            book.rates.insert(Pair::decode(name)?, Rate::decode(row)?);
        }
        for row in crossings {
            let crossing = Crossing::decode(row)?;
            book.all.insert(crossing.hash, crossing);
        }
        Ok(book)
    }
}

impl Pair {
    /// The name of a rate.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, RestoreError> {
        let mut reader = Reader::new(bytes);
        let pair = reader.field()?;
        reader.finish()?;
        Ok(pair)
    }
}

impl Field for Pair {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { incoming: reader.field()?, outgoing: reader.field()? })
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.incoming.write(out);
        self.outgoing.write(out);
    }
}

impl Rate {
    /// All of it.
    pub fn encode(&self) -> Vec<u8> {
        let Self { take, give, base_fee, fee_ppm, most, most_held, route_fee_ppm } = self;
        let mut out = vec![FORMAT];
        take.write(&mut out);
        give.write(&mut out);
        base_fee.write(&mut out);
        fee_ppm.write(&mut out);
        most.write(&mut out);
        most_held.write(&mut out);
        route_fee_ppm.write(&mut out);
        out
    }

    fn decode(row: &[u8]) -> Result<Self, RestoreError> {
        let (mut reader, _) = begin(row)?;
        let rate = Self {
            take: reader.field()?,
            give: reader.field()?,
            base_fee: reader.field()?,
            fee_ppm: reader.field()?,
            most: reader.field()?,
            most_held: reader.field()?,
            route_fee_ppm: reader.field()?,
        };
        reader.finish()?;
        Ok(rate)
    }
}

impl Crossing {
    /// All that has to survive.
    pub fn encode(&self) -> Vec<u8> {
        let Self {
            hash,
            pair,
            invoice,
            invoice_expires,
            final_blocks,
            amount,
            price,
            most_fee,
            most_parts,
            hold_blocks,
            created,
            expires,
            request,
            held,
            state,
        } = self;
        let out = &mut vec![FORMAT];
        hash.write(out);
        pair.write(out);
        put_text(invoice, out);
        invoice_expires.0.write(out);
        final_blocks.write(out);
        for amount in [amount, price, most_fee] {
            amount.write(out);
        }
        most_parts.write(out);
        hold_blocks.write(out);
        created.0.write(out);
        expires.0.write(out);
        out.push(u8::from(request.is_some()));
        if let Some(request) = request {
            put_text(request, out);
        }
        out.push(u8::from(held.is_some()));
        if let Some(Held { amount, expiry }) = held {
            amount.write(out);
            expiry.write(out);
        }
        put_state(state, out);
        std::mem::take(out)
    }

    /// What [`Crossing::encode`] has written, and nothing else.
    pub fn decode(row: &[u8]) -> Result<Self, RestoreError> {
        let (mut reader, format) = begin(row)?;
        let reader = &mut reader;
        let crossing = Self {
            hash: reader.field()?,
            pair: reader.field()?,
            invoice: take_text(reader)?,
            invoice_expires: UnixTime(reader.field()?),
            final_blocks: reader.field()?,
            amount: reader.field()?,
            price: reader.field()?,
            most_fee: reader.field()?,
            most_parts: reader.field()?,
            hold_blocks: reader.field()?,
            created: UnixTime(reader.field()?),
            expires: UnixTime(reader.field()?),
            request: if take_flag(reader)? { Some(take_text(reader)?) } else { None },
            held: if take_flag(reader)? {
                Some(Held { amount: reader.field()?, expiry: reader.field()? })
            } else {
                None
            },
            state: take_state(reader, format)?,
        };
        reader.finish()?;
        Ok(crossing)
    }
}

/// The row's fields, and its format.
fn begin(row: &[u8]) -> Result<(Reader<'_>, u8), RestoreError> {
    let mut reader = Reader::new(row);
    match reader.field::<u8>()? {
        found if found > FORMAT => Err(RestoreError::Newer { found, known: FORMAT }),
        found => Ok((reader, found)),
    }
}

const OPENING: u8 = 0;
const WAITING: u8 = 1;
const PAYING: u8 = 2;
const SETTLING: u8 = 3;
const GIVING_UP: u8 = 4;
const CROSSED: u8 = 5;
const GIVEN_BACK: u8 = 6;
const TAKEN_ELSEWHERE: u8 = 7;
const LOST: u8 = 8;
const IN_DOUBT: u8 = 9;
const UNKNOWN: u8 = 10;

fn put_state(state: &State, out: &mut Vec<u8>) {
    match state {
        State::Opening => out.push(OPENING),
        State::Waiting => out.push(WAITING),
        State::Paying { last_expiry, deadline, begun } => {
            out.push(PAYING);
            last_expiry.write(out);
            deadline.0.write(out);
            put_begun(begun, out);
        }
        State::InDoubt => out.push(IN_DOUBT),
        State::Settling { preimage, fee } => {
            out.push(SETTLING);
            preimage.write(out);
            fee.write(out);
        }
        State::GivingUp { reason } => {
            out.push(GIVING_UP);
            put_reason(reason, out);
        }
        State::Ended(Outcome::Crossed { preimage, fee }) => {
            out.push(CROSSED);
            preimage.write(out);
            fee.write(out);
        }
        State::Ended(Outcome::GivenBack(reason)) => {
            out.push(GIVEN_BACK);
            put_reason(reason, out);
        }
        State::Ended(Outcome::TakenElsewhere) => out.push(TAKEN_ELSEWHERE),
        State::Ended(Outcome::Lost { preimage, fee }) => {
            out.push(LOST);
            preimage.write(out);
            fee.write(out);
        }
        State::Ended(Outcome::Unknown) => out.push(UNKNOWN),
    }
}

fn put_begun(begun: &Begun, out: &mut Vec<u8>) {
    match begun {
        Begun::Seen => out.push(0),
        Begun::Unknown(PaymentRecords { directory, count }) => {
            out.push(1);
            directory.write(out);
            count.write(out);
        }
    }
}

/// A payment of which an older row does not say by which records it is known counts as seen: then nothing is given back for
/// what other records say.
fn take_begun(reader: &mut Reader<'_>, format: u8) -> Result<Begun, RestoreError> {
    if format < 2 {
        return Ok(Begun::Seen);
    }
    match reader.field::<u8>()? {
        0 => Ok(Begun::Seen),
        1 => Ok(Begun::Unknown(PaymentRecords { directory: reader.field()?, count: reader.field()? })),
        _ => Err(RestoreError::Unknown("no known begin of its payment")),
    }
}

fn take_state(reader: &mut Reader<'_>, format: u8) -> Result<State, RestoreError> {
    Ok(match reader.field::<u8>()? {
        OPENING => State::Opening,
        WAITING => State::Waiting,
        PAYING => State::Paying {
            last_expiry: CltvExpiry(reader.field()?),
            deadline: UnixTime(reader.field()?),
            begun: take_begun(reader, format)?,
        },
        IN_DOUBT => State::InDoubt,
        UNKNOWN => State::Ended(Outcome::Unknown),
        SETTLING => State::Settling { preimage: reader.field()?, fee: reader.field()? },
        GIVING_UP => State::GivingUp { reason: take_reason(reader)? },
        CROSSED => State::Ended(Outcome::Crossed { preimage: reader.field()?, fee: reader.field()? }),
        GIVEN_BACK => State::Ended(Outcome::GivenBack(take_reason(reader)?)),
        TAKEN_ELSEWHERE => State::Ended(Outcome::TakenElsewhere),
        LOST => State::Ended(Outcome::Lost { preimage: reader.field()?, fee: reader.field()? }),
        _ => return Err(RestoreError::Unknown("no known state")),
    })
}

fn put_reason(reason: &Reason, out: &mut Vec<u8>) {
    match reason {
        Reason::NotPaid => out.push(0),
        Reason::RateOff => out.push(1),
        Reason::Away => out.push(2),
        Reason::Full => out.push(3),
        Reason::InvoiceExpired => out.push(4),
        Reason::TooLate => out.push(5),
        Reason::NotBegun => out.push(6),
        Reason::PaymentFailed { reason } => {
            out.push(7);
            put_text(reason, out);
        }
    }
}

fn take_reason(reader: &mut Reader<'_>) -> Result<Reason, RestoreError> {
    Ok(match reader.field::<u8>()? {
        0 => Reason::NotPaid,
        1 => Reason::RateOff,
        2 => Reason::Away,
        3 => Reason::Full,
        4 => Reason::InvoiceExpired,
        5 => Reason::TooLate,
        6 => Reason::NotBegun,
        7 => Reason::PaymentFailed { reason: take_text(reader)? },
        _ => return Err(RestoreError::Unknown("no known reason")),
    })
}

/// An invoice may have more than 65,535 bytes of hints and descriptions.
fn put_text(text: &str, out: &mut Vec<u8>) {
    (text.len() as u64).write(out);
    out.extend_from_slice(text.as_bytes());
}

fn take_text(reader: &mut Reader<'_>) -> Result<String, RestoreError> {
    let length = usize::try_from(reader.field::<u64>()?).unwrap_or(usize::MAX);
    String::from_utf8(reader.bytes(length)?.to_vec()).map_err(|_| RestoreError::Damaged(DecodeError::NotUtf8))
}

fn take_flag(reader: &mut Reader<'_>) -> Result<bool, RestoreError> {
    match reader.field::<u8>()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(RestoreError::Unknown("neither yes nor no")),
    }
}
