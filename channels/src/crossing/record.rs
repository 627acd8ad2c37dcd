//! How rates and crossings are stored, and restored: a row each.

use super::{
    book::Crossings,
    rate::Rate,
    state::{Crossing, Held, Outcome, Pair, Reason, State},
};
use crate::{
    types::{CltvExpiry, UnixTime},
    wire::codec::{DecodeError, Field, Reader},
};

/// The format that is written, and the highest that is read.
const FORMAT: u8 = 1;

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
        let mut reader = begin(row)?;
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
        let reader = &mut begin(row)?;
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
            state: take_state(reader)?,
        };
        reader.finish()?;
        Ok(crossing)
    }
}

fn begin(row: &[u8]) -> Result<Reader<'_>, RestoreError> {
    let mut reader = Reader::new(row);
    match reader.field::<u8>()? {
        found if found > FORMAT => Err(RestoreError::Newer { found, known: FORMAT }),
        _ => Ok(reader),
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

fn put_state(state: &State, out: &mut Vec<u8>) {
    match state {
        State::Opening => out.push(OPENING),
        State::Waiting => out.push(WAITING),
        State::Paying { last_expiry, deadline } => {
            out.push(PAYING);
            last_expiry.write(out);
            deadline.0.write(out);
        }
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
    }
}

fn take_state(reader: &mut Reader<'_>) -> Result<State, RestoreError> {
    Ok(match reader.field::<u8>()? {
        OPENING => State::Opening,
        WAITING => State::Waiting,
        PAYING => State::Paying { last_expiry: CltvExpiry(reader.field()?), deadline: UnixTime(reader.field()?) },
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
