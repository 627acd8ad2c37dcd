//! How a submarine swap is stored, and restored: one row, all of it.

use super::{
    state::{Lightning, Payment, Receipt, Submarine},
    terms::{Acceptance, Clock, Offer},
};
use crate::{
    swap::{
        Outcome, RestoreError, Role,
        record::{
            FORMAT, get_flag, get_option, put_option, read_leg, read_outcome, read_role, write_leg, write_outcome,
            write_role,
        },
    },
    types::{CltvExpiry, UnixTime},
    wire::codec::{Field, Reader},
};

/// The format of a swap across two chains, and the highest that is read.
const ACROSS_FORMAT: u8 = 3;

impl Submarine {
    /// All that has to survive. An older program reads what it knows, and refuses the rest by its format.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![match self.offer.clock {
            Clock::Height(_) => FORMAT,
            Clock::Time { .. } => ACROSS_FORMAT,
        }];
        write_role(self.role, &mut out);
        self.offer.write(&mut out);
        put_option(self.acceptance.as_ref(), &mut out);
        self.nonce.write(&mut out);
        self.depth.write(&mut out);
        self.max_lock_fee.write(&mut out);
        self.max_route_fee.0.write(&mut out);
        self.created.0.write(&mut out);
        for flag in [self.is_begun, self.is_given_up, self.revealed] {
            out.push(u8::from(flag));
        }
        put_option(self.secret.as_ref(), &mut out);
        write_lightning(self.lightning, &mut out);
        write_outcome(self.outcome, &mut out);
        write_leg(&self.leg, &mut out);
        out
    }

    /// What [`Submarine::encode`] has written. The next [`super::Event::Tick`] does again what was under way.
    pub fn restore(row: &[u8]) -> Result<Self, RestoreError> {
        let mut reader = Reader::new(row);
        let found = reader.field::<u8>()?;
        if found > ACROSS_FORMAT {
            return Err(RestoreError::Newer { found, known: ACROSS_FORMAT });
        }
        let role: Role = read_role(&mut reader)?;
        let offer: Offer = reader.field()?;
        let acceptance: Option<Acceptance> = get_option(&mut reader)?;
        let nonce = reader.array()?;
        let (depth, max_lock_fee) = (reader.field()?, reader.field()?);
        let max_route_fee = crate::types::Msat(reader.field()?);
        let created = UnixTime(reader.field()?);
        let (is_begun, is_given_up) = (get_flag(&mut reader)?, get_flag(&mut reader)?);
        let revealed = get_flag(&mut reader)?;
        let secret = get_option(&mut reader)?;
        let lightning = read_lightning(&mut reader)?;
        let outcome: Option<Outcome> = read_outcome(&mut reader)?;
        let leg = read_leg(&mut reader, found)?;
        reader.finish()?;
        Ok(Self {
            role,
            offer,
            acceptance,
            nonce,
            depth,
            max_lock_fee,
            max_route_fee,
            created,
            is_begun,
            is_given_up,
            secret,
            revealed,
            lightning,
            outcome,
            leg,
            asked: false,
        })
    }
}

fn write_lightning(lightning: Lightning, out: &mut Vec<u8>) {
    match lightning {
        Lightning::Pays(Payment::Unpaid) => out.push(0),
        Lightning::Pays(Payment::InFlight) => out.push(1),
        Lightning::Pays(Payment::Paid(preimage)) => {
            out.push(2);
            preimage.write(out);
        }
        Lightning::Pays(Payment::Failed) => out.push(3),
        Lightning::Receives(Receipt::Open) => out.push(4),
        Lightning::Receives(Receipt::Held(expiry)) => {
            out.push(5);
            expiry.0.write(out);
        }
        Lightning::Receives(Receipt::Settled) => out.push(6),
        Lightning::Receives(Receipt::TakenBack) => out.push(7),
        Lightning::Receives(Receipt::Canceled) => out.push(8),
    }
}

fn read_lightning(reader: &mut Reader<'_>) -> Result<Lightning, RestoreError> {
    Ok(match reader.field::<u8>()? {
        0 => Lightning::Pays(Payment::Unpaid),
        1 => Lightning::Pays(Payment::InFlight),
        2 => Lightning::Pays(Payment::Paid(reader.field()?)),
        3 => Lightning::Pays(Payment::Failed),
        4 => Lightning::Receives(Receipt::Open),
        5 => Lightning::Receives(Receipt::Held(CltvExpiry(reader.field()?))),
        6 => Lightning::Receives(Receipt::Settled),
        7 => Lightning::Receives(Receipt::TakenBack),
        8 => Lightning::Receives(Receipt::Canceled),
        _ => return Err(RestoreError::Unknown("no known state of its payment")),
    })
}
