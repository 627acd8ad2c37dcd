//! How a swap is stored, and restored: one row, all of it.

use bitcoin::{Amount, OutPoint, Transaction, consensus};

use super::{
    leg::{Claim, LegState, Lock, Ramp, Recall, Taken, Tip},
    state::{Orders, Outcome, Swap},
    terms::Role,
};
use crate::{
    types::{Height, UnixTime},
    wire::codec::{DecodeError, Field, Reader},
};

/// The format that is written, and the highest that is read. Format 1 knew no fee of a lock, no recall, and gave each claim a
/// ramp from the beginning. Swaps and submarine swaps count their formats together: they share the leg.
pub(super) const FORMAT: u8 = 2;

/// Why a row is no swap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum RestoreError {
    #[error("the swap was written by a newer Leyden (format {found}, this one reads up to {known}); use that one")]
    Newer { found: u8, known: u8 },
    #[error("the swap's row is damaged: {0}")]
    Damaged(#[from] DecodeError),
    #[error("the swap's row is damaged: it has {0}")]
    Unknown(&'static str),
}

impl Swap {
    /// All that has to survive.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        write_role(self.role, &mut out);
        self.offer.write(&mut out);
        put_option(self.acceptance.as_ref(), &mut out);
        self.nonce.write(&mut out);
        let Orders { lock, redeem, refund } = self.orders;
        for flag in [self.by_hand, lock, redeem, refund, self.revealed] {
            out.push(u8::from(flag));
        }
        self.depth.write(&mut out);
        self.max_lock_fee.write(&mut out);
        self.created.0.write(&mut out);
        put_option(self.secret.as_ref(), &mut out);
        write_outcome(self.outcome, &mut out);
        for leg in [&self.outer, &self.inner] {
            write_leg(leg, &mut out);
        }
        out
    }

    /// What [`Swap::encode`] has written. The next [`super::Event::Tick`] does again what was under way.
    pub fn restore(row: &[u8]) -> Result<Self, RestoreError> {
        let mut reader = Reader::new(row);
        let found = reader.field::<u8>()?;
        if found > FORMAT {
            return Err(RestoreError::Newer { found, known: FORMAT });
        }
        let role = read_role(&mut reader)?;
        let offer = reader.field()?;
        let acceptance = get_option(&mut reader)?;
        let nonce = reader.array()?;
        let by_hand = get_flag(&mut reader)?;
        let orders =
            Orders { lock: get_flag(&mut reader)?, redeem: get_flag(&mut reader)?, refund: get_flag(&mut reader)? };
        let revealed = get_flag(&mut reader)?;
        let (depth, max_lock_fee, created) = (reader.field()?, reader.field()?, UnixTime(reader.field()?));
        let secret = get_option(&mut reader)?;
        let outcome = read_outcome(&mut reader)?;
        let (outer, inner) = (read_leg(&mut reader, found)?, read_leg(&mut reader, found)?);
        reader.finish()?;
        Ok(Self {
            role,
            offer,
            acceptance,
            nonce,
            by_hand,
            depth,
            max_lock_fee,
            created,
            orders,
            secret,
            revealed,
            outcome,
            outer,
            inner,
            asked: false,
            now: created,
        })
    }
}

pub(super) fn write_role(role: Role, out: &mut Vec<u8>) {
    out.push(match role {
        Role::Initiator => 0,
        Role::Participant => 1,
    });
}

pub(super) fn read_role(reader: &mut Reader<'_>) -> Result<Role, RestoreError> {
    match reader.field::<u8>()? {
        0 => Ok(Role::Initiator),
        1 => Ok(Role::Participant),
        _ => Err(RestoreError::Unknown("no known role")),
    }
}

pub(super) fn write_outcome(outcome: Option<Outcome>, out: &mut Vec<u8>) {
    out.push(match outcome {
        None => 0,
        Some(Outcome::Swapped) => 1,
        Some(Outcome::Refunded) => 2,
        Some(Outcome::NothingLocked) => 3,
        Some(Outcome::Lost) => 4,
    });
}

pub(super) fn read_outcome(reader: &mut Reader<'_>) -> Result<Option<Outcome>, RestoreError> {
    Ok(match reader.field::<u8>()? {
        0 => None,
        1 => Some(Outcome::Swapped),
        2 => Some(Outcome::Refunded),
        3 => Some(Outcome::NothingLocked),
        4 => Some(Outcome::Lost),
        _ => return Err(RestoreError::Unknown("no known outcome")),
    })
}

pub(super) fn write_leg(leg: &LegState, out: &mut Vec<u8>) {
    leg.tip.height.0.write(out);
    leg.tip.hash.write(out);
    leg.tip.median_time.0.write(out);
    leg.destination.write(out);
    for transaction in [&leg.funding, &leg.refund] {
        out.push(u8::from(transaction.is_some()));
        if let Some(transaction) = transaction {
            write_transaction(transaction, out);
        }
    }
    out.push(u8::from(leg.lock.is_some()));
    if let Some(lock) = &leg.lock {
        lock.outpoint.txid.write(out);
        lock.outpoint.vout.write(out);
        lock.amount.write(out);
        put_option(lock.at.map(|at| at.0).as_ref(), out);
    }
    put_option(leg.replaced.map(|at| at.0).as_ref(), out);
    out.push(u8::from(leg.taken.is_some()));
    if let Some(taken) = &leg.taken {
        taken.txid.write(out);
        taken.at.0.write(out);
        out.push(u8::from(taken.with_secret));
    }
    out.push(u8::from(leg.claim.is_some()));
    if let Some(claim) = &leg.claim {
        write_transaction(&claim.transaction, out);
        out.push(u8::from(claim.with_secret));
        claim.fee.write(out);
        out.push(u8::from(claim.ramp.is_some()));
        if let Some(Ramp { since, start, deadline }) = &claim.ramp {
            since.0.write(out);
            start.write(out);
            deadline.0.write(out);
        }
    }
    put_option(leg.lock_fee.as_ref(), out);
    out.push(u8::from(leg.recall.is_some()));
    if let Some(recall) = &leg.recall {
        recall.since.0.write(out);
        recall.fee.write(out);
    }
}

pub(super) fn read_leg(reader: &mut Reader<'_>, format: u8) -> Result<LegState, RestoreError> {
    let tip = Tip { height: Height(reader.field()?), hash: reader.array()?, median_time: UnixTime(reader.field()?) };
    let destination = reader.field()?;
    let mut transaction = || if get_flag(reader)? { read_transaction(reader).map(Some) } else { Ok(None) };
    let (funding, refund) = (transaction()?, transaction()?);
    let lock = if get_flag(reader)? {
        let outpoint = OutPoint { txid: reader.field()?, vout: reader.field()? };
        let amount: Amount = reader.field()?;
        Some(Lock { outpoint, amount, at: get_option(reader)?.map(Height) })
    } else {
        None
    };
    let replaced = get_option(reader)?.map(Height);
    let taken = if get_flag(reader)? {
        Some(Taken { txid: reader.field()?, at: Height(reader.field()?), with_secret: get_flag(reader)? })
    } else {
        None
    };
    let claim = if get_flag(reader)? {
        Some(Claim {
            transaction: read_transaction(reader)?,
            with_secret: get_flag(reader)?,
            fee: reader.field()?,
            ramp: if format == 1 || get_flag(reader)? {
                let (since, start) = (Height(reader.field()?), reader.field()?);
                Some(Ramp { since, start, deadline: Height(reader.field()?) })
            } else {
                None
            },
        })
    } else {
        None
    };
    let lock_fee = if format == 1 { None } else { get_option(reader)? };
    let recall = if format > 1 && get_flag(reader)? {
        Some(Recall { since: Height(reader.field()?), fee: reader.field()? })
    } else {
        None
    };
    Ok(LegState { tip, destination, funding, refund, lock, replaced, taken, claim, lock_fee, recall })
}

/// Longer than 65,535 bytes if the wallet has to gather hundreds of coins.
fn write_transaction(transaction: &Transaction, out: &mut Vec<u8>) {
    let bytes = consensus::serialize(transaction);
    (bytes.len() as u64).write(out);
    out.extend_from_slice(&bytes);
}

fn read_transaction(reader: &mut Reader<'_>) -> Result<Transaction, RestoreError> {
    let length = usize::try_from(reader.field::<u64>()?).unwrap_or(usize::MAX);
    consensus::deserialize(reader.bytes(length)?).map_err(|_| RestoreError::Unknown("no transaction where one was"))
}

pub(super) fn get_flag(reader: &mut Reader<'_>) -> Result<bool, RestoreError> {
    match reader.field::<u8>()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(RestoreError::Unknown("neither yes nor no")),
    }
}

pub(super) fn put_option<T: Field>(value: Option<&T>, out: &mut Vec<u8>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        value.write(out);
    }
}

pub(super) fn get_option<T: Field>(reader: &mut Reader<'_>) -> Result<Option<T>, RestoreError> {
    if get_flag(reader)? { Ok(Some(reader.field()?)) } else { Ok(None) }
}
