//! How a channel is stored, and restored.
//!
//! ```text
//!   terms        once            parameters, keys, funding output
//!   state        most commits    phase, balances, commitment numbers and points, updates on their way; of a closing
//!                                channel what the chain has done, and its claims;
//!                                three bits an HTLC: which commitments have it
//!   signatures   our commitment  the peer's signatures on it
//!   secrets      revocations     the shachain's buckets
//!   inputs       once, mostly  what the funding transaction needs
//!   HTLC         once each       amount, hash, expiry, origin, onion
//! ```
//!
//! Promises: each part begins with its format's number, and a newer one is named as such; what is restored is exactly
//! what was committed, without what BOLT 2 wants forgotten when a connection ends; restoring never panics on damaged
//! bytes. No history: the size depends on what is pending, not on what has been.

mod closing;
mod htlc;
mod inputs;
mod revoked;
mod state;
mod terms;

use std::collections::BTreeMap;

pub use htlc::{RetiredHtlc, decode_retired};
pub(crate) use htlc::{encode_htlc, encode_retired};
pub(crate) use inputs::{decode_inputs, encode_inputs};
pub use revoked::decode_revoked;
pub(crate) use revoked::encode_revoked;
pub(crate) use state::{StoredPhase, decode_state, encode_state};
pub(crate) use terms::{decode_terms, encode_terms};

use super::commitment::HtlcDetails;
use super::commitment::spec::HtlcKey;
use super::error::RestoreError;
use super::key::Key;
use crate::keys::{CommitmentSignatures, PerCommitmentSecrets};
use crate::types::CommitmentNumber;
use crate::wire::bigsize;
use crate::wire::codec::{DecodeError, Field, Reader};

/// The rows of one channel as the store has them.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub terms: Option<Vec<u8>>,
    pub state: Option<Vec<u8>>,
    pub signatures: Option<Vec<u8>>,
    pub secrets: Option<Vec<u8>>,
    pub funding_inputs: Option<Vec<u8>>,
    /// As an earlier version kept the enforcement of a closing channel.
    pub closing: Option<Vec<u8>>,
    pub resolution: Option<Vec<u8>>,
    pub htlcs: BTreeMap<HtlcKey, HtlcDetails>,
}

impl Rows {
    pub(super) fn collect(rows: impl IntoIterator<Item = (Key, Vec<u8>)>) -> Result<Self, RestoreError> {
        let mut all = Self::default();
        for (key, value) in rows {
            match key {
                Key::Terms(_) => all.terms = Some(value),
                Key::State(_) => all.state = Some(value),
                Key::Signatures(_) => all.signatures = Some(value),
                Key::Secrets(_) => all.secrets = Some(value),
                Key::FundingInputs(_) => all.funding_inputs = Some(value),
                Key::Closing(_) => all.closing = Some(value),
                Key::Resolution(_) => all.resolution = Some(value),
                Key::Htlc { offered_by, id, .. } => {
                    let key = HtlcKey { offered_by, id };
                    all.htlcs.insert(key, htlc::decode_htlc(key, &value)?);
                }
                Key::RetiredHtlc { .. }
                | Key::Settlement { .. }
                | Key::Outcome(_)
                | Key::Invoice(_)
                | Key::InvoiceIndex(_)
                | Key::Payment(_)
                | Key::PaymentIndex(_)
                | Key::ForwardPolicy(_)
                | Key::SeenOnion { .. }
                | Key::Forward(_)
                | Key::FinalHtlc { .. }
                | Key::TowerBackup { .. }
                | Key::OpenInvoice(_)
                | Key::LastSettled
                | Key::OpenPayment(_)
                | Key::LastAttempt => {}
            }
        }
        Ok(all)
    }
}

pub(crate) fn encode_signatures(signatures: &CommitmentSignatures) -> Vec<u8> {
    let mut out = Vec::with_capacity(67 + 64 * signatures.htlcs.len());
    out.push(FORMAT);
    signatures.commitment.write(&mut out);
    signatures.htlcs.write(&mut out);
    out
}

pub(crate) fn decode_signatures(bytes: &[u8]) -> Result<CommitmentSignatures, RestoreError> {
    let what = "signatures";
    let mut reader = open(what, bytes)?;
    let signatures = CommitmentSignatures {
        commitment: reader.field().map_err(damaged(what))?,
        htlcs: reader.field().map_err(damaged(what))?,
    };
    reader.finish().map_err(damaged(what))?;
    Ok(signatures)
}

pub(crate) fn decode_secrets(bytes: &[u8]) -> Result<PerCommitmentSecrets, RestoreError> {
    PerCommitmentSecrets::decode(bytes)
        .map_err(|error| RestoreError::Damaged { what: "secrets", why: error.to_string() })
}

/// The format that this code writes; it reads this and all older ones.
const FORMAT: u8 = 1;

fn open<'a>(what: &'static str, bytes: &'a [u8]) -> Result<Reader<'a>, RestoreError> {
    open_up_to(FORMAT, what, bytes).map(|(_, reader)| reader)
}

/// The format that a record has, if it is one of those up to `known`, and the rest of it.
fn open_up_to<'a>(known: u8, what: &'static str, bytes: &'a [u8]) -> Result<(u8, Reader<'a>), RestoreError> {
    let mut reader = Reader::new(bytes);
    match reader.field::<u8>().map_err(damaged(what))? {
        0 => Err(RestoreError::Damaged { what, why: "a format number of 0".to_owned() }),
        found if found > known => Err(RestoreError::Newer { found, known }),
        found => Ok((found, reader)),
    }
}

fn damaged(what: &'static str) -> impl Fn(DecodeError) -> RestoreError {
    move |error| RestoreError::Damaged { what, why: error.to_string() }
}

fn put_option<T: Field>(value: Option<&T>, out: &mut Vec<u8>) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            value.write(out);
        }
    }
}

fn get_option<T: Field>(reader: &mut Reader<'_>) -> Result<Option<T>, DecodeError> {
    Ok(match reader.field::<u8>()? {
        0 => None,
        _ => Some(reader.field()?),
    })
}

fn put_number(value: u64, out: &mut Vec<u8>) {
    bigsize::write(value, out);
}

fn read_commitment_number(reader: &mut Reader<'_>) -> Result<CommitmentNumber, DecodeError> {
    let number = CommitmentNumber(reader.bigsize()?);
    if number > CommitmentNumber::MAX { Err(DecodeError::CommitmentNumberTooLarge(number.0)) } else { Ok(number) }
}

/// A count of things that take at least a byte each: more than the rest of the bytes is damage.
fn get_count(reader: &mut Reader<'_>) -> Result<usize, DecodeError> {
    let count = reader.bigsize()?;
    let left = reader.remaining();
    match usize::try_from(count) {
        Ok(count) if count <= left => Ok(count),
        Ok(_) | Err(_) => Err(DecodeError::CountMismatch { expected: left, got: count as usize }),
    }
}
