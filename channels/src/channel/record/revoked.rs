//! A state that the peer has revoked, until the towers have it.

use super::{FORMAT, damaged, get_count, open, put_number, read_commitment_number};
use crate::channel::error::RestoreError;
use crate::channel::towers::{RevokedHtlc, RevokedState};
use crate::tx::CommitmentHtlc;
use crate::types::{FeeratePerKw, HtlcDirection, HtlcId, Msat};
use crate::wire::codec::{DecodeError, Field, Reader};

const RECEIVED: u8 = 1;
const NEW: u8 = 2;

pub(crate) fn encode_revoked(state: &RevokedState) -> Vec<u8> {
    let mut out = Vec::with_capacity(40 + 60 * state.htlcs.len());
    out.push(FORMAT);
    put_number(state.number.0, &mut out);
    state.feerate.write(&mut out);
    put_number(state.to_local.0, &mut out);
    put_number(state.to_remote.0, &mut out);
    put_number(state.htlcs.len() as u64, &mut out);
    for RevokedHtlc { htlc, is_new } in &state.htlcs {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        out.push(flag(htlc.direction == HtlcDirection::Received, RECEIVED) | flag(*is_new, NEW));
        put_number(htlc.id.0, &mut out);
        put_number(htlc.amount.0, &mut out);
        htlc.payment_hash.write(&mut out);
        htlc.cltv_expiry.write(&mut out);
    }
    out
}

/// Reads what is stored under [`Key::TowerBackup`](crate::channel::Key::TowerBackup).
pub fn decode_revoked(bytes: &[u8]) -> Result<RevokedState, RestoreError> {
    let what = "revoked states";
    let mut reader = open(what, bytes)?;
    let state = read_revoked(&mut reader).map_err(damaged(what))?;
    reader.finish().map_err(damaged(what))?;
    Ok(state)
}

fn read_revoked(reader: &mut Reader<'_>) -> Result<RevokedState, DecodeError> {
    let number = read_commitment_number(reader)?;
    let feerate: FeeratePerKw = reader.field()?;
    let (to_local, to_remote) = (Msat(reader.bigsize()?), Msat(reader.bigsize()?));
    let htlcs = (0..get_count(reader)?).map(|_| read_htlc(reader)).collect::<Result<_, _>>()?;
    Ok(RevokedState { number, feerate, to_local, to_remote, htlcs })
}

fn read_htlc(reader: &mut Reader<'_>) -> Result<RevokedHtlc, DecodeError> {
    let flags: u8 = reader.field()?;
    let direction = if flags & RECEIVED != 0 { HtlcDirection::Received } else { HtlcDirection::Offered };
    let htlc = CommitmentHtlc {
        direction,
        id: HtlcId(reader.bigsize()?),
        amount: Msat(reader.bigsize()?),
        payment_hash: reader.field()?,
        cltv_expiry: reader.field()?,
    };
    Ok(RevokedHtlc { htlc, is_new: flags & NEW != 0 })
}
