//! One HTLC: while it is live, and the little that is kept of it afterwards.

use super::{FORMAT, damaged, get_option, open, put_number, put_option, read_commitment_number};
use crate::channel::commitment::spec::{Htlc, HtlcKey};
use crate::channel::commitment::{HtlcDetails, RemovedHtlc};
use crate::channel::error::RestoreError;
use crate::channel::event::{AttemptId, Origin};
use crate::types::{ChannelId, CltvExpiry, CommitmentNumber, HtlcId, Msat, PaymentHash};
use crate::wire::codec::{DecodeError, Field, Reader};

const NO_ORIGIN: u8 = 0;
const PAYMENT: u8 = 1;
const FORWARD: u8 = 2;

pub(crate) fn encode_htlc(details: &HtlcDetails) -> Vec<u8> {
    let mut out = Vec::with_capacity(1500);
    out.push(FORMAT);
    put_number(details.htlc.amount.0, &mut out);
    details.htlc.payment_hash.write(&mut out);
    details.htlc.cltv_expiry.write(&mut out);
    match &details.origin {
        None => out.push(NO_ORIGIN),
        Some(Origin::Payment(attempt)) => {
            out.push(PAYMENT);
            put_number(attempt.0, &mut out);
        }
        Some(Origin::Forward { channel, htlc }) => {
            out.push(FORWARD);
            channel.write(&mut out);
            put_number(htlc.0, &mut out);
        }
    }
    put_option(details.path_key.as_ref(), &mut out);
    put_option(details.onion.as_ref(), &mut out);
    out
}

/// `first_remote` is not here but in the state: it comes later than the HTLC.
pub(crate) fn decode_htlc(key: HtlcKey, bytes: &[u8]) -> Result<HtlcDetails, RestoreError> {
    let what = "HTLCs";
    let mut reader = open(what, bytes)?;
    read_htlc(key, &mut reader).and_then(|htlc| reader.finish().map(|()| htlc)).map_err(damaged(what))
}

fn read_htlc(key: HtlcKey, reader: &mut Reader<'_>) -> Result<HtlcDetails, DecodeError> {
    let htlc = Htlc {
        offered_by: key.offered_by,
        id: key.id,
        amount: Msat(reader.bigsize()?),
        payment_hash: reader.field()?,
        cltv_expiry: reader.field()?,
    };
    let origin = match reader.field::<u8>()? {
        PAYMENT => Some(Origin::Payment(AttemptId(reader.bigsize()?))),
        FORWARD => {
            let channel: ChannelId = reader.field()?;
            Some(Origin::Forward { channel, htlc: HtlcId(reader.bigsize()?) })
        }
        _ => None,
    };
    let path_key = get_option(reader)?;
    Ok(HtlcDetails {
        htlc,
        origin,
        path_key,
        onion: get_option(reader)?,
        first_remote: None,
        preimage_told: false,
        must_fail: false,
    })
}

/// What is kept of an HTLC that only revoked commitments have: enough to rebuild its output there. Which commitments
/// have it is a range of numbers, so that a revoked state itself needs no record at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetiredHtlc {
    /// The HTLC as it was offered.
    pub htlc: Htlc,
    /// The peer's first commitment that has it.
    pub first_remote: CommitmentNumber,
    /// The last one that may have it; one too many does no harm, its output is not found then.
    pub last_remote: CommitmentNumber,
}

/// `None` if no commitment of the peer ever had it.
pub(crate) fn encode_retired(removed: &RemovedHtlc) -> Option<Vec<u8>> {
    let (first, last) = removed.in_remote?;
    let mut out = Vec::with_capacity(56);
    out.push(FORMAT);
    put_number(removed.htlc.amount.0, &mut out);
    removed.htlc.payment_hash.write(&mut out);
    removed.htlc.cltv_expiry.write(&mut out);
    put_number(first.0, &mut out);
    put_number(last.0.saturating_sub(first.0), &mut out);
    Some(out)
}

/// Reads what is stored under [`Key::RetiredHtlc`](crate::channel::Key::RetiredHtlc).
pub fn decode_retired(key: HtlcKey, bytes: &[u8]) -> Result<RetiredHtlc, RestoreError> {
    let what = "retired HTLCs";
    let mut reader = open(what, bytes)?;
    let mut read = || -> Result<RetiredHtlc, DecodeError> {
        let amount = Msat(reader.bigsize()?);
        let payment_hash: PaymentHash = reader.field()?;
        let cltv_expiry: CltvExpiry = reader.field()?;
        let first_remote = read_commitment_number(&mut reader)?;
        let more = read_commitment_number(&mut reader)?;
        // Both have 48 bits.
        let last_remote = CommitmentNumber(first_remote.0 + more.0);
        if last_remote > CommitmentNumber::MAX {
            return Err(DecodeError::CommitmentNumberTooLarge(last_remote.0));
        }
        let htlc = Htlc { offered_by: key.offered_by, id: key.id, amount, payment_hash, cltv_expiry };
        Ok(RetiredHtlc { htlc, first_remote, last_remote })
    };
    let retired = read().map_err(damaged(what))?;
    reader.finish().map_err(damaged(what))?;
    Ok(retired)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Side;

    #[test]
    fn a_retired_htlc_of_commitments_that_cannot_be_is_damage() {
        let key = HtlcKey { offered_by: Side::Remote, id: HtlcId(3) };
        let row = |first: u64, more: u64| {
            let mut out = vec![FORMAT];
            put_number(1_000, &mut out);
            PaymentHash([1; 32]).write(&mut out);
            CltvExpiry(500).write(&mut out);
            put_number(first, &mut out);
            put_number(more, &mut out);
            out
        };
        let last = CommitmentNumber::MAX.0;
        let read = |first, more| decode_retired(key, &row(first, more));
        assert_eq!(read(last - 1, 1).map(|retired| retired.last_remote), Ok(CommitmentNumber::MAX));
        for (first, more) in [(last, 1), (last + 1, 0), (0, last + 1), (u64::MAX, 1), (1, u64::MAX)] {
            assert!(matches!(read(first, more), Err(RestoreError::Damaged { .. })), "{first} and {more} more");
        }
    }
}
